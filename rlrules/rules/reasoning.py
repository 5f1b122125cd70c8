"""Stage 1: a model explains, pair by pair, why the preferred answer won (AutoRule, section 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Literal

from rlrules.data.preferences import as_turns
from rlrules.data.stage_log import Line, StageLog, Tell, content_sha, each
from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.templates import conversation, render
from rlrules.judges.verdict import thought_and_answer
from rlrules.rules.pairs import Pair


class ReasonLine(Line):
    """A line of reasons.jsonl.

    Attributes:
        pair_id: The pair explained.
        order: "chosen_first" or "rejected_first".
        model: The model asked.
        params: Its sampling parameters.
        prompt_sha: Hash of the prompt.
        status: "failed" where the judge gave no answer; another run asks again.
        reasoning: The chain of thought; empty where the model has none.
        explanation: The visible answer.
        finish_reason: "length" where the answer was cut off.
        usage: Tokens read and written.
        problem: Why there is no answer.
    """

    pair_id: str
    order: str
    model: str
    params: Mapping[str, float]
    prompt_sha: str
    status: Literal["ok", "failed"]
    reasoning: str = ""
    explanation: str = ""
    finish_reason: str = ""
    usage: Mapping[str, int] = {}
    problem: str = ""

    def text(self, source: Literal["reasoning", "explanation"]) -> str:
        """The text that stage 2 reads."""
        return self.reasoning if source == "reasoning" else self.explanation


def reason_question(pair: Pair) -> Question:
    """What the model is asked about one pair."""
    content, version = render(
        "reason",
        conversation=conversation(pair.prompt),
        first=conversation(as_turns(pair.first)),
        second=conversation(as_turns(pair.second)),
        winner=pair.letter,
    )
    return Question(({"role": "user", "content": content},), version)


async def explain(pairs: Sequence[Pair], judge: Judge, log: StageLog[ReasonLine], tell: Tell) -> dict[str, ReasonLine]:
    """Have every pair explained that `log` has no explanation of.

    Returns:
        One line for every pair, by its id and in the pairs' order, failed ones included.
    """
    done = {line.pair_id for line in log.lines if line.status == "ok"}
    params = {"temperature": judge.config.temperature, "max_tokens": judge.config.max_tokens}

    async def work(pair: Pair) -> None:
        question = reason_question(pair)
        known = ReasonLine(
            config_sha=log.config_sha,
            pair_id=pair.pair_id,
            order=pair.order,
            model=judge.config.model,
            params=params,
            prompt_sha=content_sha(question.messages),
            status="failed",
        )
        try:
            answer = await judge.ask(question)
        except JudgeFailure as failure:
            log.append([known.model_copy(update={"problem": f"judge {judge.name}: {failure}"})])
            return
        reasoning, explanation = thought_and_answer(answer)
        found = {
            "status": "ok",
            "reasoning": reasoning,
            "explanation": explanation,
            "finish_reason": answer.finish_reason,
            "usage": {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens},
        }
        log.append([known.model_copy(update=found)])

    await each("reasoning", [pair for pair in pairs if pair.pair_id not in done], work, tell)
    latest = {line.pair_id: line for line in log.lines}
    return {pair.pair_id: latest[pair.pair_id] for pair in pairs}
