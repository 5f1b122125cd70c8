"""The rule-reasoning tasks that RuleReasoner was trained on, as its authors published them (arXiv 2506.08672)."""

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rlrules.data.prompts_base import CountTokens, Prompts, PromptsConfig, as_messages, prepared
from rlrules.data.rows import Row, read_rows
from rlrules.errors import DataError

DOMAINS = ("prontoqa", "proofwriter", "clutrr", "folio", "logic_nli", "logical_deduction", "ar_lsat", "logiqa")
DomainName = Literal[
    "prontoqa", "proofwriter", "clutrr", "folio", "logic_nli", "logical_deduction", "ar_lsat", "logiqa"
]
_THREE = ("True", "False", "Unknown")
# Of the other tasks it is not certain how answers are written.
_LABELS: Mapping[str, tuple[str, ...]] = {
    "prontoqa": _THREE,
    "proofwriter": _THREE,
    "logical_deduction": tuple("ABCDEFG"),
    "ar_lsat": tuple("ABCDE"),
    "logiqa": tuple("ABCD"),
}
_RULES = re.compile(r"(Rules:\s*)(.+?)(\s*Facts:)", re.DOTALL)
_TAGS = re.compile(r"</?answer>")


class RuleCollectionConfig(PromptsConfig):
    """RuleCollection-32K, with the columns `domain`, `answer` and, where a task has a fixed set, `labels`."""

    type: Literal["rule_collection"] = "rule_collection"
    path: str = Field(
        "RuleReasoner/RuleCollection-32K", description="Hub id, or a folder with id/DOMAIN/SPLIT.parquet."
    )
    split: Literal["train", "test"] = "train"
    domains: list[DomainName] = Field(list(DOMAINS), min_length=1, description="Which tasks.")  # type: ignore[arg-type]
    shuffle_rules: int | None = Field(
        None, description="Put the sentences of each prompt's list of rules into an order of this seed's."
    )
    unseen: bool = Field(True, description="Of `test`: leave out rows whose context also stands in `train`.")

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read the tasks; a prompt that stands twice in a task is taken once.

        Raises:
            DataError: The data cannot be had, a row is malformed, or nothing is left.
        """
        rows: list[Row] = []
        dropped = {"stands twice": 0, "context in train": 0}
        for domain in dict.fromkeys(self.domains):
            found = self._read(domain, self.split)
            barred = set()
            if self.split == "test" and self.unseen:
                barred = {_context(row["prompt"]) for row in self._read(domain, "train")}
            seen: set[str] = set()
            for row in found:
                if row["prompt"] in seen:
                    dropped["stands twice"] += 1
                elif _context(row["prompt"]) in barred:
                    dropped["context in train"] += 1
                else:
                    rows.append(self._with_rules_shuffled(row))
                seen.add(row["prompt"])
        return prepared(self, self.path, rows, count_tokens, dropped)

    def _read(self, domain: str, split: str) -> list[dict[str, Any]]:
        inside = f"id/{domain}/{split}.parquet"
        local = Path(self.path) / inside
        place = str(local) if Path(self.path).is_dir() else f"hf://datasets/{self.path}/{inside}"
        return [_row(row, domain, f"data {place!r}, row {number}") for number, row in enumerate(read_rows(place), 1)]

    def _with_rules_shuffled(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.shuffle_rules is None:
            return row
        return {**row, "prompt": rules_shuffled(row["prompt"], f"{self.shuffle_rules}/{row['prompt']}")}


def rules_shuffled(prompt: str, seed: str) -> str:
    """A prompt with its rules, the sentences between `Rules:` and `Facts:`, in another order; one without is kept."""
    found = _RULES.search(prompt)
    if found is None:
        return prompt
    rules = re.split(r"(?<=\.)\s+", found[2])
    random.Random(seed).shuffle(rules)
    return prompt[: found.start(2)] + " ".join(rules) + prompt[found.end(2) :]


def _row(row: Row, domain: str, place: str) -> dict[str, Any]:
    try:
        [message] = as_messages(row["prompt"], place)
        answer = _TAGS.sub("", row["reward_model"]["ground_truth"]).strip()
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{place}: needs one message in `prompt` and `reward_model.ground_truth`") from error
    labels = {"labels": list(_LABELS[domain])} if domain in _LABELS else {}
    return {"prompt": str(message["content"]), "domain": domain, "answer": answer, **labels}


def _context(prompt: str) -> str:
    """What stands before the question."""
    return prompt.partition("Question:")[0].strip()
