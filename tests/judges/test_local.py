import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from rlrules.judges import Answer, JudgeFailure, LocalJudgeConfig, Question
from rlrules.judges.local import LocalBackend
from rlrules.judges.verdict import read_verdict
from rlrules.models import DEFAULT_MODEL, resolve_model
from tests.judges.asking import YES_NO, ready

TEXTS = ["Short?", "A question of some more words, is it not?", "word " * 120, "?"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random models with the embedded default's tokenizer; one with relative, one with absolute positions."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(DEFAULT_MODEL))
    size = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    llama = LlamaConfig(
        **size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.5,
    )
    gpt = GPT2Config(**size, n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.5)
    folders = {}
    for name, model in (("llama", LlamaForCausalLM(llama)), ("gpt", GPT2LMHeadModel(gpt))):
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture
def llama(models: dict[str, Path]) -> Iterator[LocalBackend]:
    yield LocalBackend(LocalJudgeConfig(model=str(models["llama"])))


def answers(backend: LocalBackend, questions: list[Question]) -> list[Answer | JudgeFailure]:
    """What became of each question, all asked at once."""

    async def ask() -> list[Any]:
        return list(await asyncio.gather(*(backend.complete(one) for one in questions), return_exceptions=True))

    return asyncio.run(ask())


@pytest.mark.parametrize("name", ["llama", "gpt"])
def test_batched_labels_equal_unbatched_ones(models: dict[str, Path], name: str) -> None:
    questions = [ready(text) for text in TEXTS]
    together = answers(LocalBackend(LocalJudgeConfig(model=str(models[name]))), questions)
    alone = answers(LocalBackend(LocalJudgeConfig(model=str(models[name]), batch_size=1)), questions)
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Answer) and isinstance(other, Answer)
        assert one.text == other.text
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.prompt_tokens == other.prompt_tokens
    seen = {tuple(one.logprobs.values()) for one in together if isinstance(one, Answer)}
    assert len(seen) == len(TEXTS)


def test_label_scores_are_the_models_own(models: dict[str, Path], llama: LocalBackend) -> None:
    [answer] = answers(llama, [ready("Is it?")])
    assert isinstance(answer, Answer)
    tokenizer = AutoTokenizer.from_pretrained(models["llama"])
    model = LlamaForCausalLM.from_pretrained(models["llama"])
    chat = [{"role": "user", "content": "Is it?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    with torch.inference_mode():
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        expected = model(input_ids=ids).logits[0, -1].log_softmax(-1)
    for label in YES_NO:
        assert answer.logprobs[label] == pytest.approx(expected[tokenizer.encode(label)[0]].item(), abs=1e-4)
    assert answer.text == max(YES_NO, key=lambda label: answer.logprobs[label])
    assert sum(read_verdict(answer, YES_NO).probabilities.values()) == pytest.approx(1)


def test_a_prompt_too_long_fails_alone_with_its_numbers(llama: LocalBackend) -> None:
    long, *others = answers(llama, [ready("word " * 400), ready("Short?"), ready("A", (), max_tokens=300)])
    assert isinstance(long, JudgeFailure) and long.kind == "overflow" and long.limit == 255 and long.size > 400
    assert isinstance(others[0], Answer)
    assert isinstance(others[1], JudgeFailure) and (others[1].kind, others[1].limit) == ("overflow", 0)


def test_a_question_that_cannot_be_answered_fails_alone(llama: LocalBackend) -> None:
    bad = Question(({"role": "user", "content": [{"type": "image_url"}]},), "t", labels=YES_NO, max_tokens=1)
    found = answers(llama, [ready("Fine?"), ready("Which?", ("Yes", "Yes!")), bad, ready("Fine too?")])
    assert [type(one) for one in found] == [Answer, JudgeFailure, JudgeFailure, Answer]
    assert "labels Yes, Yes! share their first token" in str(found[1])
    assert isinstance(found[2], JudgeFailure) and found[2].kind == "rejected"
    assert all("\n" not in str(one) for one in found if isinstance(one, JudgeFailure))


def free(text: str, **fields: Any) -> Question:
    return ready(text, (), **{"max_tokens": 12, **fields})


def test_free_text_depends_on_its_own_draw_and_temperature_alone(llama: LocalBackend) -> None:
    asked = [
        free("Say.", temperature=0.0),
        free("Say.", temperature=1.0, draw=1),
        free("Say.", temperature=1.0, draw=2),
        free("Say.", temperature=5.0, draw=1),
        ready("Is it?"),
    ]
    found = answers(llama, asked)
    texts = [one.text for one in found if isinstance(one, Answer)]
    assert len(set(texts)) == 5
    again = answers(llama, asked[::-1])[::-1]
    assert [one.text for one in again if isinstance(one, Answer)] == texts
    assert isinstance(found[0], Answer) and found[0].completion_tokens == 12 and found[0].finish_reason == "length"


def test_the_runs_own_randomness_goes_on_as_if_nothing_was_asked(llama: LocalBackend) -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    first = torch.rand(2)
    answers(llama, [free("Say.", temperature=1.0, draw=3), free("Say.", temperature=0.0)])
    assert torch.cat([first, torch.rand(2)]).tolist() == expected.tolist()


def test_a_model_that_is_not_there_is_a_typed_failure(tmp_path: Path) -> None:
    for model in (str(tmp_path / "nowhere"), "package:nowhere/x.gguf"):
        found = answers(LocalBackend(LocalJudgeConfig(model=model)), [ready("a"), ready("b")])
        assert [type(one) for one in found] == [JudgeFailure] * 2
        assert "cannot be loaded" in str(found[0]) and "nowhere" in str(found[0])


def test_the_revision_is_the_one_that_is_loaded() -> None:
    with pytest.MonkeyPatch.context() as patch:
        asked: list[str] = []

        def note(path: str, revision: str, **_: Any) -> None:
            asked.append(revision)
            raise OSError("not here")

        patch.setattr(AutoTokenizer, "from_pretrained", note)
        answers(LocalBackend(LocalJudgeConfig(model="some/model", revision="abc")), [ready("?")])
        answers(LocalBackend(LocalJudgeConfig(model="some/model")), [ready("?")])
    assert asked == ["abc", "main"]


def test_closing_fails_what_waits_and_the_next_question_loads_again(models: dict[str, Path]) -> None:
    backend = LocalBackend(LocalJudgeConfig(model=str(models["llama"]), batch_size=1))

    async def close_in_between() -> list[Any]:
        work = [asyncio.create_task(backend.complete(ready(text))) for text in TEXTS]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await backend.close()
        return list(await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 5.0))

    ends = asyncio.run(close_in_between())
    assert isinstance(ends[-1], JudgeFailure) and "closed" in str(ends[-1])
    assert isinstance(answers(backend, [ready("Again?")])[0], Answer)


def test_whoever_gives_up_does_not_disturb_the_others(llama: LocalBackend) -> None:
    async def ask() -> list[Any]:
        work = [asyncio.create_task(llama.complete(ready(text))) for text in TEXTS]
        await asyncio.sleep(0)
        work[1].cancel()
        return list(await asyncio.gather(*work, return_exceptions=True))

    kinds = [type(one) for one in asyncio.run(ask())]
    assert kinds == [Answer, asyncio.CancelledError, Answer, Answer]


def test_the_embedded_default_judges() -> None:
    backend = LocalBackend(LocalJudgeConfig(model=DEFAULT_MODEL))
    texts = ["Is the sky blue on a clear day? Reply Yes or No.", "Reply with the word No."]
    found = answers(backend, [ready(text) for text in texts])
    for answer in found:
        assert isinstance(answer, Answer)
        verdict = read_verdict(answer, YES_NO)
        assert verdict.outcome == "value"
        # Its first token is a label, rather than anything else, in no small part.
        assert sum(torch.tensor(list(answer.logprobs.values())).exp()) > 0.05
    asyncio.run(backend.close())


def test_numbers_with_a_sign_are_scored_whole_as_the_tokenizer_cuts_them(
    models: dict[str, Path], llama: LocalBackend
) -> None:
    labels = (">-2", ">-1", ">1", ">2")
    turn = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n<answer"}
    chat = [{"role": "user", "content": "Which?"}, turn]
    asked = [Question(tuple(chat), "t", labels, max_tokens=1, temperature=0.0), ready("Is it?")]  # type: ignore[arg-type]
    found, other = answers(llama, asked)
    assert isinstance(found, Answer) and isinstance(other, Answer) and set(other.logprobs) == set(YES_NO)
    tokenizer = AutoTokenizer.from_pretrained(models["llama"])
    model = LlamaForCausalLM.from_pretrained(models["llama"])
    text = tokenizer.apply_chat_template(chat, tokenize=False, continue_final_message=True)
    assert text.endswith("\n<answer")
    for label in labels:
        ids = tokenizer(text + label, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            row = model(input_ids=ids).logits[0].log_softmax(-1)
        # The bracket is common to all; a number's own tokens are what stands behind it.
        own = 2 if "-" in label else 1
        expected = sum(row[-1 - n, ids[0, len(ids[0]) - n]].item() for n in range(own, 0, -1))
        assert found.logprobs[label] == pytest.approx(expected, abs=1e-4)
    assert found.text == max(labels, key=lambda label: found.logprobs[label])


def test_a_template_may_refuse_to_go_on_with_a_turn(models: dict[str, Path], tmp_path: Path) -> None:
    for file in models["llama"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    # As templates do that take thoughts out of earlier turns.
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'].split('</think>')[-1] }}\n{% endfor %}"
    )
    turn = {"role": "assistant", "content": "<think>hm</think><answer>"}
    chat = ({"role": "user", "content": "Which?"}, turn)
    backend = LocalBackend(LocalJudgeConfig(model=str(tmp_path)))
    [found] = answers(backend, [Question(chat, "t", ("A", "B"), max_tokens=1)])  # type: ignore[arg-type]
    assert isinstance(found, JudgeFailure) and found.kind == "rejected"


def test_how_the_prompt_ends(llama: LocalBackend) -> None:
    ending = asyncio.run(llama.prompt_end([{"role": "user", "content": "Hello."}]))
    assert ending is not None and ending.endswith("Hello.<|im_end|>\n<|im_start|>assistant\n")
    nowhere = LocalBackend(LocalJudgeConfig(model="package:nowhere/x.gguf"))
    with pytest.raises(JudgeFailure, match="nowhere"):
        asyncio.run(nowhere.prompt_end([{"role": "user", "content": "Hello."}]))
