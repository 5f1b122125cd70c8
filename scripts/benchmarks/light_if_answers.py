"""Answers of a policy to held-out prompts with constraints: sampled, measured and scored."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer.

    Attributes:
        text: Decoded, special tokens removed.
        tokens: The end token included.
        truncated: Stopped at the length limit.
        entropy: Mean over its tokens of the policy's entropy, in nats.
    """

    text: str
    tokens: int
    truncated: bool
    entropy: float


def scored_answers(
    recipe: str,
    folder: Path | None,
    unseen: Mapping[str, Mapping[str, Sequence[Any]]],
    variants: tuple[int, int],
    seed: int,
) -> list[dict[str, Any]]:
    """A row for every held-out prompt: one answer, sampled as in training, and its score.

    Args:
        recipe: Whose `data.eval`, reward and answers' length are taken.
        folder: The model; None: the recipe's, untrained.
        unseen: Kinds of constraints for a second set of prompts, from the same seed prompts.
        variants: Prompts made of a seed prompt, in each of the two sets.
        seed: Of the sampling.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlrules.data.constraints import ConstraintPromptsConfig
    from rlrules.models import resolve_model
    from rlrules.recipe.load import load_recipe
    from rlrules.recipe.schema import GrpoRecipe
    from rlrules.rewards.base import Resources
    from rlrules.types import Completion, Group

    loaded = load_recipe(recipe).of(GrpoRecipe).recipe
    assert (
        loaded.model is not None and loaded.data is not None and isinstance(loaded.data.eval, ConstraintPromptsConfig)
    )
    source = str(folder) if folder else resolve_model(loaded.model.name)
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=loaded.model.dtype).eval()
    (reward,) = loaded.rewards.values()
    scorer = reward.build(Resources({}))
    held_out = loaded.data.eval.model_copy(update={"variants": variants[0]})
    sets = {
        "held out": held_out,
        "unseen kinds": held_out.model_copy(update={"kinds": unseen, "variants": variants[1]}),
    }
    rows: list[dict[str, Any]] = []
    for name, config in sets.items():
        prompts = config.load(lambda text: len(tokenizer(text).input_ids)).rows
        chats = [row["prompt"] for row in prompts]
        answers = _sampled(model, tokenizer, chats, loaded.training["max_completion_length"], seed)
        for row, answer in zip(prompts, answers, strict=True):
            columns = {key: value for key, value in row.items() if key != "prompt"}
            completion = Completion(answer.text, answer.tokens, answer.truncated)
            (score,) = asyncio.run(scorer.score(Group(tuple(row["prompt"]), (completion,), columns))).scores
            if score.value is None:
                raise RuntimeError(f"{row['seed_prompt']}: {score.reason}")
            rows.append(
                {
                    "set": name, "unit": row["seed_prompt"], "kinds": row["instruction_id_list"], "text": answer.text,
                    "reward": score.value, "all": score.metrics["all"], "tokens": answer.tokens,
                    "truncated": float(answer.truncated), "entropy": answer.entropy,
                }
            )  # fmt: skip
    return rows


def _sampled(model: Any, tokenizer: Any, chats: Sequence[Any], limit: int, seed: int) -> Iterator[Answer]:
    """One answer to each chat, at temperature 1."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    class Entropies(LogitsProcessor):  # type: ignore[misc]
        """Keeps the entropy of every distribution that is sampled from: logits themselves would be gigabytes."""

        def __init__(self) -> None:
            self.steps: list[torch.Tensor] = []

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            logps = scores.float().log_softmax(-1)
            self.steps.append(-(logps.exp() * logps).sum(-1))
            return scores

    ends = torch.tensor([tokenizer.eos_token_id])
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(chats), BATCH):
            given = tokenizer.apply_chat_template(
                list(chats[start : start + BATCH]), add_generation_prompt=True, tokenize=True, padding=True,
                return_tensors="pt", return_dict=True,
            )  # fmt: skip
            seen = Entropies()
            made = model.generate(
                **given, max_new_tokens=limit, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                logits_processor=LogitsProcessorList([seen]), pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )[:, given["input_ids"].size(1) :]  # fmt: skip
            entropies = torch.stack(seen.steps, 1)
            for ids, entropy in zip(made, entropies, strict=True):
                stops = torch.isin(ids, ends).nonzero()
                count = int(stops[0]) + 1 if len(stops) else len(ids)
                text = tokenizer.decode(ids[:count], skip_special_tokens=True)
                yield Answer(text, count, not len(stops), float(entropy[:count].mean()))
