"""A model without a model for the whole pipeline: explains, extracts and merges by rule, and counts its calls."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable

from rlrules.data.preferences import Preference, Preferences
from rlrules.judges import Answer, Judge, JudgeFailure, Question, Usage
from rlrules.judges.base import JudgeConfig
from rlrules.rules.config import ExtractionConfig

Reply = Answer | JudgeFailure | str
CONFIG = {"judge": {"type": "openai", "urls": ["http://x/v1"], "model": "scripted", "cache": False}}


def config(**fields: object) -> ExtractionConfig:
    return ExtractionConfig.model_validate({**CONFIG, "data": {"type": "jsonl", "path": "x.jsonl"}, **fields})


def preferences(count: int) -> Preferences:
    pairs = [
        Preference(f"p{n}", "made", ({"role": "user", "content": f"Question {n}?"},), f"Good {n}.", f"Bad {n}.")
        for n in range(count)
    ]
    return Preferences(tuple(pairs), count, {})


def kind(question: Question) -> str:
    """The stage that asks: reason, extract or merge; repairs end with "+repair"."""
    name, plus, _ = question.template.partition("+")
    return name.partition("@")[0] + ("+repair" if plus else "")


def prompt(question: Question) -> str:
    return str(question.messages[0]["content"])


def numbered(question: Question) -> dict[int, str]:
    """The list in a merging prompt."""
    return {int(number): text for number, text in re.findall(r"^(\d+)\. (.+)$", prompt(question), re.MULTILINE)}


def merged_by_topic(question: Question) -> str:
    """Rules whose first word is the same become one."""
    topics: dict[str, list[int]] = {}
    for number, text in numbered(question).items():
        topics.setdefault(text.split()[0], []).append(number)
    rules = [{"text": f"{topic} is right.", "members": members} for topic, members in topics.items()]
    return json.dumps({"rules": rules, "dropped": []})


def about(question: Question) -> int:
    """The number of the pair that a question is about."""
    found = re.search(r"(?:Question|about|Explained) (\d+)", prompt(question))
    assert found is not None
    return int(found[1])


def well(question: Question) -> Reply:
    """A model that always does as asked; two rules a pair, one of them the same for all."""
    match kind(question):
        case "reason":
            number = about(question)
            return Answer(f"Explained {number}.", reasoning=f"Thought about {number}.", finish_reason="stop")
        case "extract":
            number = about(question)
            return json.dumps([f"Topic{number % 7} is right, says {number}", "Form fits the request."])
        case "merge":
            return merged_by_topic(question)
    raise AssertionError(kind(question))


class CountingBackend:
    """Answers by a function and counts what was asked, by its content."""

    def __init__(self, reply: Callable[[Question], Reply]) -> None:
        self.reply = reply
        self.questions: list[Question] = []

    async def complete(self, question: Question) -> Answer:
        self.questions.append(question)
        await asyncio.sleep(0)
        reply = self.reply(question)
        if isinstance(reply, JudgeFailure):
            raise reply
        return Answer(reply) if isinstance(reply, str) else reply

    async def close(self) -> None:
        pass

    @property
    def asked(self) -> Counter[str]:
        return Counter(kind(question) for question in self.questions)


def scripted(reply: Callable[[Question], Reply] = well) -> tuple[Judge, CountingBackend]:
    """A judge without a cache, so that every repeated call counts."""
    backend = CountingBackend(reply)
    return Judge("teacher", JudgeConfig(model="scripted", temperature=0.6), backend, None, Usage()), backend
