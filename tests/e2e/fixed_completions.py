"""scripts/train.py with a policy that says the same on any number of ranks: all else is as it is."""

import hashlib
import random
from typing import Any

import typer

from scripts.train import main


def completion(prompt: list[int], place: int, vocabulary: int, end: int, longest: int) -> list[int]:
    """Token ids that depend on the prompt and on the place in its group: of many lengths, most of them ended."""
    seed = hashlib.sha256(f"{prompt} {place}".encode()).digest()
    draw = random.Random(seed)
    ids = [draw.randrange(3, vocabulary) for _ in range(draw.randint(2, longest))]
    return ids if len(ids) == longest else [*ids, end]


def fixed(trainer: Any, prompt_ids: list[list[int]], images: Any, fields: Any, group: int, *_: Any) -> Any:
    """In place of TRL's `_generate_single_turn`: a rank holds whole groups."""
    tokenizer = trainer.processing_class
    made = [
        completion(prompt, row % group, tokenizer.vocab_size, tokenizer.eos_token_id, trainer.max_completion_length)
        for row, prompt in enumerate(prompt_ids)
    ]
    return made, None


if __name__ == "__main__":
    from rlrules.training.grpo import RulesGRPOTrainer

    RulesGRPOTrainer._generate_single_turn = fixed
    typer.run(main)
