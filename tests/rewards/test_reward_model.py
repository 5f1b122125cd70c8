"""The learned reward: logits by the model's own tokenizer, normalised by stored moments."""

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from rlrules.errors import ModelError
from rlrules.judges.base import JudgeFailure
from rlrules.judges.loop import on_judge_loop
from rlrules.models import DEFAULT_MODEL, resolve_model
from rlrules.rewards.base import Resources
from rlrules.rewards.reward_model import Conversations, RewardModelConfig, RewardModelScorer
from rlrules.types import Completion, Group, Scored
from tests.fakes.raw_server import RawServer


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random classifier with the embedded model's tokenizer, mean and deviation in its config."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(DEFAULT_MODEL))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_labels=1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"mean": 0.25, "std": 0.5}))
    return folder


TEXTS = ["short", "a much longer answer than the other one is", "", "\n\n?"]
GROUP = Group(({"role": "user", "content": "Why?"},), tuple(Completion(text, 1) for text in TEXTS))


def score(config: RewardModelConfig) -> Scored:
    return asyncio.run(config.build(Resources()).score(GROUP))


def logits_one_by_one(folder: Path) -> list[float]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    made = []
    for text in TEXTS:
        chat = [*GROUP.prompt, {"role": "assistant", "content": text}]
        templated = tokenizer.apply_chat_template(chat, tokenize=False)
        ids = tokenizer(templated, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            made.append(model(input_ids=ids["input_ids"]).logits[0, 0].item())
    return made


def test_batched_logits_equal_single_ones(classifier: Path) -> None:
    scored = score(RewardModelConfig(model=str(classifier), batch_size=3))
    assert [one.value for one in scored.scores] == pytest.approx(logits_one_by_one(classifier), abs=1e-5)


def test_stored_moments_normalise(classifier: Path) -> None:
    expected = [(logit - 0.25) / 0.5 for logit in logits_one_by_one(classifier)]
    scored = score(RewardModelConfig(model=str(classifier), normalize=True))
    assert [one.value for one in scored.scores] == pytest.approx(expected, abs=1e-5)
    given = score(RewardModelConfig(model=str(classifier), normalize=True, mean=1.0, std=2.0))
    expected = [(logit - 1.0) / 2.0 for logit in logits_one_by_one(classifier)]
    assert [one.value for one in given.scores] == pytest.approx(expected, abs=1e-5)


def test_without_moments_normalising_is_refused(classifier: Path, tmp_path: Path) -> None:
    for file in classifier.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in content.items() if k not in ("mean", "std")}))
    with pytest.raises(ModelError, match="stores no mean and std"):
        RewardModelConfig(model=str(tmp_path), normalize=True).build(Resources())


def test_too_long_is_unscored_never_cut(classifier: Path) -> None:
    scored = score(RewardModelConfig(model=str(classifier), max_length=38))
    assert [one.value is None for one in scored.scores] == [False, True, False, False]
    assert "max_length is 38" in scored.scores[1].reason


class Given:
    """A classifier that answers as told."""

    def __init__(self, *logits: float | BaseException) -> None:
        self._logits = logits

    async def logits(self, ids: Sequence[list[int]]) -> Sequence[float | BaseException]:
        """One for each."""
        assert len(ids) == len(self._logits)
        return self._logits


@pytest.mark.parametrize(
    ("bad", "reason"), [(math.nan, "logit is nan"), (-math.inf, "logit is -inf"), (JudgeFailure("http", "500"), "500")]
)
def test_a_bad_logit_costs_its_own_completion_only(classifier: Path, bad: float | Exception, reason: str) -> None:
    scorer = RewardModelScorer(Conversations(str(classifier), 100), Given(1.0, bad, 2.0, 3.0), 0.0, 2.0)
    scored = asyncio.run(scorer.score(GROUP))
    assert [one.value for one in scored.scores] == [0.5, None, 1.0, 1.5]
    assert reason in scored.scores[1].reason


def test_a_server_that_fails_once_costs_one_completion(classifier: Path) -> None:
    lengths = [len(ids) for ids in Conversations(str(classifier), 100).ids(GROUP.prompt, TEXTS)]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(int(part.split(b":")[1]) for part in head.lower().split(b"\r\n") if b"content-length" in part)
        [ids] = json.loads(await reader.readexactly(size))["input"]
        probs = [float(len(ids))] if len(ids) < max(lengths) else []
        body = json.dumps({"data": [{"probs": probs}]}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async def run() -> Scored:
        async with RawServer(handler) as url:
            config = RewardModelConfig(model=str(classifier), urls=[url], retries=0)
            return await on_judge_loop(config.build(Resources()).score(GROUP))

    scored = asyncio.run(run())
    assert [one.value for one in scored.scores] == [None if n == max(lengths) else n for n in lengths]
    assert "/classify gave no single number" in scored.scores[1].reason


def test_a_lone_surrogate_costs_nobody_s_score(classifier: Path) -> None:
    conversations = Conversations(str(classifier), 100)
    odd, plain = (conversations.ids(GROUP.prompt, ["fine", text]) for text in ("half \ud83d", "half ?"))
    assert odd == plain
