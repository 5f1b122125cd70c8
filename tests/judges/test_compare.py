"""From a chat to a comparison: thoughts that run out, labels of several tokens, judges that fail."""

import asyncio
import math
from collections.abc import Callable

import pytest

from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.judges.compare import Compared, Comparer
from rlrules.judges.comparison import Kind
from rlrules.types import Message
from tests.fakes.judge import Reply, scripted_judge

PROMPT: tuple[Message, ...] = ({"role": "user", "content": "Name a prime."},)
LONG = "x" * 300


def compare(
    reply: Callable[[Question], Reply],
    kind: Kind = "binary",
    think: bool = True,
    probabilities: bool = False,
    texts: tuple[str, str] = ("seven", "nine"),
) -> tuple[Compared, list[Question]]:
    judge, backend = scripted_judge(reply)
    comparer = Comparer(judge, kind, think, probabilities)
    return asyncio.run(comparer.compare(PROMPT, *texts)), backend.questions


def turn(question: Question) -> str:
    """What is written of the judge's turn already."""
    return str(question.messages[-1]["content"]) if question.continues else ""


def logs(**shares: float) -> dict[str, float]:
    return {token: math.log(share) for token, share in shares.items()}


def test_a_thought_with_a_verdict_is_asked_for_once() -> None:
    said = "<think>\nhm\n</think>\n\n<answer>B</answer>"
    made, [question] = compare(lambda _: Answer(said, completion_tokens=9))
    assert made.verdict.label == "B" and made.own == "value" and not (made.forced or made.cut)
    assert (made.characters, made.tokens) == (len(said), 9)
    assert not question.labels and not question.continues


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("<think>\nA is", "<think>\nA is\n</think>\n\n<answer"),
        ("So A is", "<think>\nSo A is\n</think>\n\n<answer"),  # Seeded, or a model that was never trained to think.
        ("A.</think>\n\nIn short", "<think>\nA.</think>\n\nIn short\n\n<answer"),
        ("A.</think>\n\nIn short <answer>", "<think>\nA.</think>\n\nIn short <answer"),
        ("<think>I lean to <answer>A</answer> but", "<think>I lean to <answer>A</answer> but\n</think>\n\n<answer"),
    ],
)
def test_a_thought_that_runs_out_is_closed_and_its_verdict_decoded(said: str, written: str) -> None:
    made, questions = compare(lambda q: ">B" if q.labels else Answer(said, finish_reason="length"))
    assert made.verdict.label == "B" and made.own == "truncated" and made.forced
    assert turn(questions[1]) == written and questions[1].labels == (">A", ">B")
    # A bound beside which a thought that filled the context still has room.
    assert (questions[1].max_tokens, questions[1].temperature) == (8, 0.0)
    assert questions[1].messages[:-1] == questions[0].messages and made.characters == len(said)


@pytest.mark.parametrize("said", [">B", "B", ">B</answer> or so", " B</answer>"])
def test_a_server_that_is_not_held_to_labels_is_still_read(said: str) -> None:
    thought = Answer("<think>hm", finish_reason="length")
    made, _ = compare(lambda q: said if q.labels else thought)
    assert made.verdict.label == "B" and made.forced


def test_a_thought_kept_apart_by_the_server_goes_back_into_the_turn() -> None:
    first = Answer("", reasoning="A is", finish_reason="length")
    made, _ = compare(lambda q: ">A" if q.labels else first)
    assert made.forced and made.verdict.label == "A" and made.characters == 4
    made, questions = compare(
        lambda q: Answer(">A", logprobs=logs(**{">A": 0.6, ">B": 0.2})) if q.labels else first, probabilities=True
    )
    assert turn(questions[1]) == "<think>\nA is\n</think>\n\n<answer"
    assert made.verdict.probabilities == pytest.approx({"A": 0.75, "B": 0.25})


def test_an_answer_outside_the_labels_is_not_forced() -> None:
    made, questions = compare(lambda _: "<think>x</think><answer>Both</answer>")
    assert made.verdict.outcome == "unparsed" and len(questions) == 1


def test_a_template_that_refuses_the_continued_turn_leaves_it_truncated() -> None:
    def reply(question: Question) -> Reply:
        refusal = JudgeFailure("rejected", "http://x/v1: status 400: no such turn")
        return refusal if question.continues else Answer("<think>hm", finish_reason="length")

    made, _ = compare(reply)
    assert (made.verdict.outcome, made.own, made.forced) == ("truncated", "truncated", False)
    assert "the thought has no end" in made.verdict.reason and "status 400: no such turn" in made.verdict.reason


def test_probabilities_are_those_behind_the_thought_as_it_was() -> None:
    def reply(question: Question) -> Reply:
        if question.labels:
            return Answer(">B", logprobs=logs(**{">A": 0.1, ">B": 0.3, "The": 0.6}))
        return "<think>hm</think>So <answer>A</answer>"

    made, questions = compare(reply, probabilities=True)
    assert turn(questions[1]) == "<think>hm</think>So <answer"
    # What is most probable behind this thought, not what was drawn.
    assert made.verdict.label == "B" and made.verdict.probabilities == pytest.approx({"A": 0.25, "B": 0.75})
    assert not made.forced


def test_probabilities_that_cannot_be_had_are_no_verdict() -> None:
    thought = "<think>hm</think><answer>A</answer>"
    for answer in (Answer(">A"), Answer(">A", logprobs=logs(The=0.9)), Answer(">A", logprobs=logs(**{">": 0.9}))):
        made, _ = compare(lambda q, answer=answer: answer if q.labels else thought, probabilities=True)  # type: ignore[misc]
        assert made.verdict.outcome == "unparsed" and "no probabilities of labels" in made.verdict.reason
    failure = JudgeFailure("timeout", "late")
    made, _ = compare(lambda q: failure if q.labels else thought, probabilities=True)
    assert (made.verdict.outcome, made.own) == ("failed", "value") and "late" in made.verdict.reason


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_without_a_thought_the_label_is_all(kind: Kind) -> None:
    label = {"binary": "A", "multiclass": "-2"}[kind]
    made, [question] = compare(lambda _: label, kind, think=False)
    assert made.verdict.label == label and (made.characters, made.tokens) == (0, 0)
    # Numbers with a sign may take two tokens.
    assert question.max_tokens == (1 if kind == "binary" else 8)


@pytest.mark.parametrize(
    ("first", "behind"),
    [
        ({">A": 0.3, ">B": 0.1, "The": 0.6}, None),
        ({">": 0.8, "The": 0.2}, {"A": 0.6, "B": 0.2, "C": 0.2}),
        # One letter is a token with the bracket, the other is not: behind a bracket alone it is never expected.
        ({">A": 0.6, ">": 0.2}, {"A": 0.001, "B": 0.999}),
    ],
    ids=["one token", "two tokens", "one letter each"],
)
def test_letters_as_tokenizers_cut_them(first: dict[str, float], behind: dict[str, float] | None) -> None:
    def reply(question: Question) -> Reply:
        if not question.labels:
            return "<think>hm</think><answer>B</answer>"
        if turn(question).endswith("<answer"):
            return Answer(">A", logprobs=logs(**first))
        assert turn(question).endswith("<answer>") and question.labels == ("A", "B") and behind is not None
        return Answer("A", logprobs=logs(**behind))

    made, questions = compare(reply, probabilities=True)
    assert made.verdict.probabilities == pytest.approx({"A": 0.75, "B": 0.25}, abs=1e-3) and made.verdict.label == "A"
    assert len(questions) == (2 if behind is None else 3)


def test_a_number_behind_a_thought_closes_the_tag_itself() -> None:
    thought = Answer("<think>hm", finish_reason="length")
    made, questions = compare(lambda q: ">-3" if q.labels else thought, "multiclass")
    assert made.verdict.label == "-3" and made.forced
    assert turn(questions[1]).endswith("</think>\n\n<answer")
    assert questions[1].labels == (">-3", ">-2", ">-1", ">1", ">2", ">3")


EXPECTED = {"-3": 0.3, "-2": 0.06, "-1": 0.24, "1": 0.2, "2": 0.16, "3": 0.04}


@pytest.mark.parametrize("first", [{">-": 0.3, ">": 0.2}, {">": 0.5}], ids=["one token for >-", "two tokens"])
def test_numbers_of_several_tokens_by_hand(first: dict[str, float]) -> None:
    merged = ">-" in first

    def reply(question: Question) -> Reply:
        written = turn(question)
        if not question.labels:
            return "<think>hm</think><answer>1</answer>"
        if written.endswith("<answer"):
            return Answer(">-3", logprobs=logs(**first))
        if written.endswith("<answer>"):
            # Where ">-" is one token nobody has seen a minus stand behind a bracket alone.
            shares = {"1": 0.5, "2": 0.4, "3": 0.1} if merged else {"-": 0.6, "1": 0.2, "2": 0.16, "3": 0.04}
            return Answer("1", logprobs=logs(**shares))
        assert written.endswith("<answer>-")
        return Answer("3", logprobs=logs(**{"3": 0.25, "2": 0.05, "1": 0.2, "x": 0.5}))

    made, questions = compare(reply, "multiclass", probabilities=True)
    assert made.verdict.probabilities == pytest.approx(EXPECTED)
    assert made.verdict.label == "-3" and len(questions) == 4
    assert [question.max_tokens for question in questions[2:]] == [1, 1]


def test_numbers_at_once_take_one_more_question() -> None:
    def reply(question: Question) -> Reply:
        if question.continues:
            assert turn(question) == "-"
            return Answer("3", logprobs=logs(**{"3": 0.5, "2": 0.1, "1": 0.4}))
        return Answer("-3", logprobs=logs(**{"-": 0.3, "1": 0.1, "2": 0.08, "3": 0.02}))

    made, questions = compare(reply, "multiclass", think=False, probabilities=True)
    assert made.verdict.probabilities == pytest.approx(EXPECTED) and len(questions) == 2


def test_labels_scored_whole_need_no_more_questions() -> None:
    shares = {f">{label}": share for label, share in EXPECTED.items()}
    thought = "<think>hm</think><answer>1</answer>"
    made, questions = compare(
        lambda q: Answer(">-3", logprobs=logs(**shares)) if q.labels else thought, "multiclass", probabilities=True
    )
    assert made.verdict.probabilities == pytest.approx(EXPECTED) and len(questions) == 2


def test_long_replies_are_cut_alike() -> None:
    def reply(question: Question) -> Reply:
        size = len(str(question.messages[1]["content"]))
        if size > 4000:
            return JudgeFailure("overflow", "too long", limit=4000, size=size)
        return "<think>hm</think><answer>A</answer>"

    made, questions = compare(reply, texts=("first " + "x" * 9000, "second " + "y" * 6000))
    assert made.verdict.label == "A" and made.cut
    shown = str(questions[-1].messages[1]["content"])
    assert shown.count("characters left out") == 2 and abs(shown.count("x") - shown.count("y")) < 10
    made, questions = compare(reply, texts=("first " + "x" * 9000, "short"))
    assert made.cut and "short\n" in str(questions[-1].messages[1]["content"])


def test_a_judge_that_fails_is_a_failed_verdict() -> None:
    made, _ = compare(lambda _: JudgeFailure("connection", "http://x/v1: refused"))
    assert made.verdict.outcome == "failed" and made.verdict.reason == "judge verifier: http://x/v1: refused"
    made, _ = compare(lambda _: JudgeFailure("overflow", "too long", limit=10, size=20), texts=(LONG, LONG))
    assert made.verdict.outcome == "failed"


@pytest.mark.parametrize(
    "said",
    ["<answer>A</answer>", "<think>x</think><answer>A</answer>", "A", ">A</answer> and so on", "<answer> A"],
)
def test_a_server_that_begins_its_turn_anew_is_understood(said: str) -> None:
    made, questions = compare(lambda _: said if said != "A" else Answer("A", finish_reason="stop"))
    assert made.verdict.label == "A"
    assert len(questions) == (1 if said.startswith("<think>") else 2)


def test_probabilities_of_labels_without_what_opens_them() -> None:
    thought = "<think>hm</think><answer>A</answer>"
    plain = Answer("A", logprobs=logs(A=0.6, B=0.2))
    made, _ = compare(lambda q: plain if q.labels else thought, probabilities=True)
    assert made.verdict.probabilities == pytest.approx({"A": 0.75, "B": 0.25})

    def graded(question: Question) -> Reply:
        if not question.labels:
            return "<think>hm</think><answer>2</answer>"
        if question.labels == ("1", "2", "3"):
            return Answer("1", logprobs=logs(**{"1": 0.5, "2": 0.25, "3": 0.25}))
        return Answer("2", logprobs=logs(**{"-": 0.4, "2": 0.4, "3": 0.2}))

    made, _ = compare(graded, "multiclass", probabilities=True)
    expected = {"-1": 0.2, "-2": 0.1, "-3": 0.1, "1": 0.0, "2": 0.4, "3": 0.2}
    assert made.verdict.probabilities == pytest.approx(expected)


def test_a_reply_that_is_no_verdict_is_counted_where_one_is_decoded_all_the_same() -> None:
    nonsense = "<think>hm</think><answer>both</answer>"
    made, _ = compare(
        lambda q: Answer(">B", logprobs=logs(**{">B": 0.9})) if q.labels else nonsense, probabilities=True
    )
    assert made.verdict.label == "B" and made.own == "unparsed" and not made.forced
    made, _ = compare(lambda _: nonsense)
    assert made.verdict.outcome == made.own == "unparsed"


def test_a_thought_that_is_begun_again_is_closed() -> None:
    again = "<think>a</think>hm <think>I try <answer>A</answer>"
    made, questions = compare(lambda q: ">B" if q.labels else again)
    assert made.own == "truncated" and made.verdict.label == "B"
    assert turn(questions[1]) == f"{again}\n</think>\n\n<answer"
