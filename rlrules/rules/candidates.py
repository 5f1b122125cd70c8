"""Stage 2: each explanation becomes a few short, checkable statements (AutoRule, section 3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlrules.data.stage_log import Line, StageLog, Tell, each
from rlrules.judges import Judge, Question
from rlrules.judges.templates import fenced, render
from rlrules.rules.pairs import Pair
from rlrules.rules.reasoning import ReasonLine
from rlrules.rules.replies import Reply, Unreadable, ask_json, find_json

Source = Literal["reasoning", "explanation"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A statement before merging; `rule_id` is its own, also where another one has the same text."""

    rule_id: str
    text: str


class CandidateLine(Line):
    """A line of candidates.jsonl: one statement, or that a pair gave none.

    Attributes:
        rule_id: "PAIR_ID/NUMBER"; None where the pair gave no statement.
        pair_id: The pair it comes from.
        source_field: The text it was taken from.
        text: The statement.
        parse_status: "ok"; "repaired": read after a repair; "empty": the model found no rule, which is sound;
            "failed": no readable reply, or no text to read; "unanswered": the judge failed, another run asks again.
        number: Its place among the pair's lines, from 1.
        of: How many lines the pair has.
        raw: The reply that could not be read.
        problem: What was wrong with it.
    """

    rule_id: str | None = None
    pair_id: str
    source_field: Source
    text: str | None = None
    parse_status: Literal["ok", "repaired", "empty", "failed", "unanswered"]
    number: int = 1
    of: int = 1
    raw: str | None = None
    problem: str | None = None


def extract_question(text: str, letter: str, most: int) -> Question:
    """What the model is asked about one explanation."""
    content, version = render("extract", text=fenced(text), winner=letter, most=most)
    schema: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": most}
    return Question(({"role": "user", "content": content},), version, schema=schema)


def read_statements(text: str) -> list[str]:
    """The strings of the JSON array in a reply: bare, in a code block or after prose.

    Raises:
        Unreadable: There is none, or it holds something else than texts.
    """
    array = find_json(text, "[")
    if array is None:
        raise Unreadable("it holds no complete JSON array of strings")
    statements: list[str] = []
    for place, item in enumerate(array, 1):
        if not isinstance(item, str):
            raise Unreadable(f"item {place} of the array is no string but {type(item).__name__}")
        if not item.strip():
            raise Unreadable(f"item {place} of the array is an empty string")
        statements.append(" ".join(item.split()))
    return statements


async def extract(
    pairs: Sequence[Pair],
    reasons: Mapping[str, ReasonLine],
    judge: Judge,
    log: StageLog[CandidateLine],
    source: Source,
    most: int,
    tell: Tell,
) -> dict[str, list[CandidateLine]]:
    """Take statements from every explanation that `log` has none of.

    Args:
        pairs: All pairs.
        reasons: Their explanations, by pair id.
        judge: Whom to ask.
        log: Finished pairs.
        source: Which text to read.
        most: Statements asked for from one text.
        tell: Told of progress.

    Returns:
        Each pair's lines by its id, in the pairs' order; pairs whose stage 1 failed are not among them.
    """
    explained = [pair for pair in pairs if reasons[pair.pair_id].status == "ok"]
    done = {key for key, lines in _by_pair(log.lines).items() if lines[0].parse_status != "unanswered"}

    async def work(pair: Pair) -> None:
        text = reasons[pair.pair_id].text(source)
        if not text:
            problem = f"the model gave no {source}; {_remedy(source)}"
            log.append(_lines(log.config_sha, pair.pair_id, source, Reply("failed", None, problem=problem)))
            return
        reply = await ask_json(judge, extract_question(text, pair.letter, most), read_statements)
        log.append(_lines(log.config_sha, pair.pair_id, source, reply))

    await each("candidates", [pair for pair in explained if pair.pair_id not in done], work, tell)
    found = _by_pair(log.lines)
    return {pair.pair_id: found[pair.pair_id] for pair in explained}


def candidates_of(lines: Mapping[str, Sequence[CandidateLine]]) -> list[Candidate]:
    """All statements, in the order of their lines."""
    return [
        Candidate(line.rule_id, line.text)
        for group in lines.values()
        for line in group
        if line.rule_id is not None and line.text is not None
    ]


def _lines(sha: str, pair_id: str, source: Source, reply: Reply[list[str]]) -> list[CandidateLine]:
    known = {"config_sha": sha, "pair_id": pair_id, "source_field": source}
    if not reply.value:
        status = "empty" if reply.value == [] else reply.status
        raw = None if status == "empty" else reply.raw
        return [CandidateLine(**known, parse_status=status, raw=raw, problem=reply.problem or None)]
    return [
        CandidateLine(
            **known,
            rule_id=f"{pair_id}/{number}",
            text=text,
            parse_status=reply.status,
            number=number,
            of=len(reply.value),
        )
        for number, text in enumerate(reply.value, 1)
    ]


def _by_pair(lines: Sequence[CandidateLine]) -> dict[str, list[CandidateLine]]:
    """Each pair's lines; a later answer replaces an earlier failure, an incomplete group counts as absent."""
    groups: dict[str, dict[int, CandidateLine]] = {}
    for line in lines:
        if line.number == 1:
            groups[line.pair_id] = {}
        groups.setdefault(line.pair_id, {})[line.number] = line
    return {
        key: [group[number] for number in sorted(group)]
        for key, group in groups.items()
        if len(group) == next(iter(group.values())).of
    }


def _remedy(source: Source) -> str:
    if source == "reasoning":
        return "use a reasoning model, or set source: explanation"
    return "raise the judge's max_tokens"
