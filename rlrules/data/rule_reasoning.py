"""Prompts that ask for a deduction, made from a seed: nothing is downloaded, and every answer is certain."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlrules.data.prompts_base import CountTokens, Prompts, PromptsConfig, prepared
from rlrules.data.reasoning.deduction import DEDUCTION, ONTOLOGY
from rlrules.data.reasoning.kinship import KINSHIP
from rlrules.data.reasoning.ordering import ORDERING
from rlrules.data.reasoning.problem import Problem, World
from rlrules.errors import DataError

FAMILIES = {"deduction": DEDUCTION, "ontology": ONTOLOGY, "kinship": KINSHIP, "ordering": ORDERING}
FamilyName = Literal["deduction", "ontology", "kinship", "ordering"]
_TEST_SHARE = 0.2
# Questions of which there are few are asked for again and again before it is said that there are no more.
_TRIES = 50


class RuleReasoningConfig(PromptsConfig):
    """Questions of several families, in turn, with the columns `domain`, `answer`, `labels` and `depth`."""

    type: Literal["rule_reasoning"] = "rule_reasoning"
    families: list[FamilyName] = Field(
        ["deduction", "ontology", "kinship", "ordering"], min_length=1, description="The domains, all by default."
    )
    size: int = Field(500, ge=1, description="Questions of each family.")
    depths: list[Annotated[int, Field(ge=0)]] = Field([1, 2, 3], min_length=1, description="Steps to the answer.")
    distractors: int = Field(3, ge=0, le=8, description="Statements that do not bear on the answer.")
    world: World = Field("open", description="closed: of `deduction`, what does not follow is false, not unknown.")
    seed: int = Field(0, description="Of all questions.")
    split: Literal["train", "test"] = Field("train", description="No question is in both, whatever the seed.")

    @model_validator(mode="after")
    def _families_have_the_depths(self) -> "RuleReasoningConfig":
        for family in self.families:
            least, most = FAMILIES[family].depths
            if wrong := [depth for depth in self.depths if not least <= depth <= most]:
                raise ValueError(f"depths: {family} has none of {wrong[0]}, only {least} to {most}")
        return self

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Make the questions.

        Raises:
            DataError: There are not so many of a family, or the bounds leave nothing.
        """
        made = [self._of_family(family) for family in dict.fromkeys(self.families)]
        rows = [row for turn in zip(*made, strict=True) for row in turn]
        return prepared(self, f"rule_reasoning, seed {self.seed}", rows, count_tokens, {})

    def _of_family(self, family: str) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        for number in range(_TRIES * self.size):
            if len(seen) == self.size:
                return
            depth = self.depths[len(seen) % len(self.depths)]
            problem = FAMILIES[family].make(f"{self.seed}/{family}/{number}", depth, self.distractors, self.world)
            if problem.text in seen or _split(problem.text) != self.split:
                continue
            seen.add(problem.text)
            yield _row(problem, family, f"{family}-{self.seed}-{number}")
        if len(seen) < self.size:
            raise DataError(f"{family}: only {len(seen)} different questions of {self.size}; ask for fewer, or deeper")


def in_form(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row to imitate: with a `completion` in the form that is asked for, whose answer is drawn by lot.

    It teaches the form and nothing else, so that what a model then learns to answer is the reward's doing.
    """
    answer = random.Random(row["id"]).choice(row["labels"])
    return {**row, "completion": f"<think>\nI follow the rules.\n</think>\n\n<answer>{answer}</answer>"}


def _split(text: str) -> str:
    # By the question itself, so that two seeds cannot put one into both.
    lot = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return "test" if lot < _TEST_SHARE else "train"


def _row(problem: Problem, family: str, name: str) -> dict[str, Any]:
    asks_for = FAMILIES[family].asks_for or f"{', '.join(problem.labels[:-1])} or {problem.labels[-1]}"
    how = "Think about it between <think> and </think>. Behind that, put your answer between <answer> and </answer>"
    return {
        "id": name,
        "prompt": f"{problem.text}\n\n{how}: {asks_for}, and nothing else.",
        "domain": family,
        "answer": problem.answer,
        "labels": list(problem.labels),
        "depth": problem.depth,
    }
