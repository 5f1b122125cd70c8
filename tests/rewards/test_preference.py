"""The pairwise judge as a scorer: orders, designs, votes, strengths, what is missing, what is told."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rlrules.errors import RecipeError
from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.rewards.base import Resources
from rlrules.rewards.preference import PreferenceConfig, aggregated, edge
from rlrules.rewards.preference_metrics import AskedPair
from rlrules.types import Completion, Group, Message, Scored
from tests.fakes.judge import Reply, scripted_judge
from tests.rewards.test_pairwise import SCORES

PROMPT: tuple[Message, ...] = ({"role": "user", "content": "A question?"},)
Said = Callable[[int, int, Question], Reply]


def config(**fields: Any) -> PreferenceConfig:
    return PreferenceConfig(**{"judge": "verifier", **fields})


def slots(question: Question) -> tuple[int, int]:
    """Which completions a question shows as A and as B; they are called "reply number N."."""
    shown = str(question.messages[1]["content"]).split("reply number ")
    return int(shown[1].split(".")[0]), int(shown[2].split(".")[0])


def score(
    fields: dict[str, Any], said: Said, count: int = 4, texts: list[str] | None = None, temperature: float = 0.0
) -> tuple[Scored, list[Question]]:
    judge, backend = scripted_judge(lambda question: said(*slots(question), question))
    judge.config = judge.config.model_copy(update={"temperature": temperature})
    texts = texts or [f"reply number {n}." for n in range(count)]
    group = Group(PROMPT, tuple(Completion(text, 5) for text in texts))
    scored = asyncio.run(config(**fields).build(Resources({"verifier": judge})).score(group))
    return scored, backend.questions


def thought(label: object, characters: int = 0) -> str:
    """A whole message of a judge, of this many characters where there are enough."""
    said = f"<think>\n</think>\n\n<answer>{label}</answer>"
    return said.replace("\n</", "x" * max(0, characters - len(said)) + "\n</", 1)


def by_scores(a: int, b: int, question: Question) -> Reply:
    """T1's judge, who is of the same opinion whichever is shown first."""
    return thought(SCORES[a, b] if a < b else -SCORES[b, a])


def values(scored: Scored) -> list[float | None]:
    return [one.value for one in scored.scores]


def strengths(scored: Scored) -> np.ndarray[Any, Any]:
    assert scored.comparisons is not None
    return scored.comparisons.strengths


@pytest.mark.parametrize(("order", "calls"), [("both", 12), ("fixed", 6), ("random", 6)])
def test_t1_in_every_order(order: str, calls: int) -> None:
    scored, questions = score({"verdict": "multiclass", "order": order}, by_scores)
    assert strengths(scored).tolist() == [[0, 2, 3, 1], [-2, 0, 1, -2], [-3, -1, 0, -3], [-1, 2, 3, 0]]
    assert values(scored) == [1.5, -0.75, -1.75, 1.0]
    assert len(questions) == len({slots(question) for question in questions}) == calls
    assert {tuple(sorted(slots(question))) for question in questions} == set(SCORES)
    assert scored.metrics["kappa"] == pytest.approx(0.0179, abs=1e-4)


def test_t7_a_missing_verdict_is_a_missing_edge() -> None:
    for fields, gone in (({"order": "fixed"}, (1, 3)), ({"order": "both"}, (3, 1))):
        scored, _ = score(
            {"verdict": "multiclass", **fields},
            lambda a, b, q, gone=gone: thought("Both") if (a, b) == gone else by_scores(a, b, q),  # type: ignore[misc]
        )
        assert np.isnan(strengths(scored)[1, 3]) and np.isnan(strengths(scored)[3, 1])
        assert values(scored) == pytest.approx([1.5, -0.625, -1.75, 0.875])
        assert all(one.status == "ok" for one in scored.scores)
    assert scored.metrics["invalid"] == pytest.approx(1 / 12)


def test_t9_a_judge_that_always_prefers_the_first() -> None:
    both, _ = score({"verdict": "multiclass"}, lambda a, b, q: thought(-1))
    assert values(both) == [0, 0, 0, 0]
    assert both.metrics["slot_a_wins"] == 1 and both.metrics["order_disagreement"] == 1
    assert both.metrics["slot_bias"] == -1 and both.metrics["all_tied"] == 1 and "kappa" not in both.metrics
    fixed, _ = score({"verdict": "multiclass", "order": "fixed"}, lambda a, b, q: thought(-1))
    assert values(fixed) == [0.75, 0.25, -0.25, -0.75] and "order_disagreement" not in fixed.metrics


def test_t9_both_orders_by_hand() -> None:
    said = {(0, 1): 1, (1, 0): 2}
    scored, _ = score({"verdict": "multiclass"}, lambda a, b, q: thought(said[a, b]), count=2)
    assert strengths(scored)[0, 1] == 0.5 and scored.metrics["slot_bias"] == 1.5
    assert scored.metrics["slot_a_wins"] == 0 and scored.metrics["order_disagreement"] == 1


def test_t10_both_orders_of_three() -> None:
    # Row: the one shown as A.
    table = [[0, -2, -1], [1, 0, -1], [2, 2, 0]]
    scored, _ = score({"verdict": "multiclass"}, lambda a, b, q: thought(table[a][b]), count=3)
    assert [strengths(scored)[pair] for pair in ((0, 1), (0, 2), (1, 2))] == [1.5, 1.5, 1.5]
    assert values(scored) == [1, 0, -1]
    fixed, _ = score({"verdict": "multiclass", "order": "fixed"}, lambda a, b, q: thought(table[a][b]), count=3)
    assert np.array(values(fixed), dtype=float) == pytest.approx([1, -1 / 3, -2 / 3])


def test_t11_one_call_a_pair_and_order() -> None:
    for size, pairs in ((4, 6), (8, 28)):
        assert config(order="fixed").calls_per_group(size) == pairs
        assert config().calls_per_group(size) == 2 * pairs
    assert config(order="fixed").calls_per_group(4) * 512 == 3072
    assert config(strength="probability", votes=3).calls_per_group(4) == 12 * 3 * 3
    assert config(strength="probability", verdict="multiclass").calls_per_group(4) == 12 * 4
    assert config(design="circulant-4", think=False).calls_per_group(16) == 64


@pytest.mark.parametrize("verdict", ["binary", "multiclass"])
@pytest.mark.parametrize("think", [True, False])
def test_the_calls_estimated_are_those_made(verdict: str, think: bool) -> None:
    fields = {"verdict": verdict, "think": think, "strength": "probability"}
    label = {"binary": "A", "multiclass": "2"}[verdict]
    shares = {"A": 0.4, "B": 0.3, ">": 0.6, "-": 0.1, "1": 0.1, "2": 0.3, "3": 0.1}
    logprobs = {token: math.log(share) for token, share in shares.items()}

    def said(a: int, b: int, question: Question) -> Reply:
        opening = ">" if question.labels and question.labels[0].startswith(">") else ""
        return Answer(opening + label, logprobs=logprobs) if question.labels else thought(label)

    scored, questions = score(fields, said)
    assert len(questions) == config(**fields).calls_per_group(4)
    assert all(one.value is not None for one in scored.scores)


def test_votes_are_drawn_apart_and_averaged_over_the_valid_ones() -> None:
    said = ["-2", "-1", "none", "-3"]
    scored, questions = score(
        {"verdict": "multiclass", "order": "fixed", "votes": 4},
        lambda a, b, question: thought(said[question.draw]),
        count=2,
        temperature=0.6,
    )
    assert strengths(scored)[0, 1] == 2.0
    assert sorted(question.draw for question in questions) == [0, 1, 2, 3]
    assert scored.metrics["invalid"] == 0.25


@pytest.mark.parametrize(
    ("votes", "how", "expected"),
    [
        ([-1, -1, 1, None], "majority", (-1, 3)),
        ([-1, 1, None, None], "majority", (0, 2)),
        ([None] * 4, "majority", (None, 0)),
        ([-3, 1, 1], "majority", (1, 3)),
        ([-2, -1, None, -3], "mean", (-2, 3)),
        ([None], "mean", (None, 0)),
    ],
)
def test_t16_aggregates(votes: list[float | None], how: str, expected: tuple[float | None, int]) -> None:
    assert aggregated(votes, how) == expected  # type: ignore[arg-type]


def test_probabilities_and_their_expectation() -> None:
    def said(a: int, b: int, question: Question) -> Reply:
        if not question.labels:
            return thought("A")
        shares = [0.9, 0.1] if a < b else [0.4, 0.6]
        logs = dict(zip(question.labels, map(math.log, shares), strict=True))
        return Answer(question.labels[0], logprobs=logs)

    scored, _ = score({"strength": "probability"}, said, count=2)
    # s_01 = 0.1 - 0.9, s_10 = 0.6 - 0.4, and d_01 is half of s_10 - s_01.
    assert strengths(scored)[0, 1] == pytest.approx((0.2 + 0.8) / 2)
    assert scored.metrics["slot_a_wins"] == 0.5 and scored.metrics["order_disagreement"] == 0

    def number(a: int, b: int, question: Question) -> Reply:
        shares = dict(zip(question.labels, (0.5, 0.2, 0.1, 0.1, 0.06, 0.04), strict=True)) if question.labels else {}
        return Answer("-3", logprobs={label: math.log(share) for label, share in shares.items()})

    scored, _ = score({"strength": "probability", "verdict": "multiclass", "think": False}, number, count=2)
    assert strengths(scored)[0, 1] == pytest.approx(0) and scored.metrics["slot_bias"] == pytest.approx(-1.66)


def test_t5_inverse_lengths_count_what_the_judge_wrote() -> None:
    lengths = {(0, 1): 4000, (0, 2): 6000, (0, 3): 2500, (1, 2): 8000, (1, 3): 5000, (2, 3): 4000}
    lost = {(1, 3), (2, 3)}

    def said(a: int, b: int, question: Question) -> Reply:
        return thought("B" if (a, b) in lost else "A", lengths[a, b])

    scored, _ = score({"strength": "inverse_length", "order": "fixed"}, said)
    expected = {pair: (-1 if pair in lost else 1) / length for pair, length in lengths.items()}
    assert {pair: strengths(scored)[pair] for pair in lengths} == pytest.approx(expected, abs=1e-12)
    assert not any(name.startswith("strength_to") for name in scored.metrics)


def test_identical_completions_are_equals_that_nobody_is_asked_about() -> None:
    texts = ["reply number 0.", "reply number 1.", "<think>else</think>reply number 0.", "reply number 1."]
    scored, questions = score({"order": "fixed"}, lambda a, b, q: thought("A" if a == 0 else "B"), texts=texts)
    # Of the four pairs left three ask the same, and what is on its way already is not sent again.
    assert scored.metrics["pairs_asked"] == 4 and {slots(question) for question in questions} == {(0, 1), (1, 0)}
    assert strengths(scored)[0, 2] == strengths(scored)[1, 3] == 0
    assert values(scored) == [0.5, -0.5, 0.5, -0.5]
    same, questions = score({}, lambda a, b, q: thought("A"), texts=["reply number 0."] * 4)
    assert values(same) == [0, 0, 0, 0] and not questions
    assert same.metrics == {"pairs_asked": 0.0, "all_tied": 1.0, "var_b": 0.0}


def test_the_lot_depends_on_the_group_alone() -> None:
    def orders(seed: int, count: int = 8) -> list[tuple[int, int]]:
        _, questions = score({"order": "random", "seed": seed}, lambda a, b, q: thought("A"), count=count)
        return [slots(question) for question in questions]

    assert orders(0) == orders(0) and orders(0) != orders(1)
    shown = orders(0)
    for index in range(8):
        assert abs(sum(a == index for a, _ in shown) - sum(b == index for _, b in shown)) <= 1
    assert len({tuple(orders(seed, count=2)) for seed in range(20)}) == 2


def test_what_shares_its_beginning_is_asked_for_together() -> None:
    _, questions = score({}, lambda a, b, q: thought("A"))
    assert [slots(question)[0] for question in questions] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_one_verdict_of_one_token_goes_ahead() -> None:
    for think, first in ((False, 1), (True, 12)):
        judge, backend = scripted_judge(lambda q: q.labels[0] if q.labels else thought("A"))
        seen: list[int] = []
        complete = backend.complete

        async def slow(
            question: Question, seen: list[int] = seen, complete: Any = complete, backend: Any = backend
        ) -> Answer:
            answer: Answer = await complete(question)
            await asyncio.sleep(0.02)
            seen.append(len(backend.questions))
            return answer

        backend.complete = slow  # type: ignore[method-assign]
        group = Group(PROMPT, tuple(Completion(f"reply number {n}.", 5) for n in range(4)))
        asyncio.run(config(think=think).build(Resources({"verifier": judge})).score(group))
        assert seen[0] == first and len(seen) == 12


def test_the_second_order_only_where_the_first_was_weak() -> None:
    fields = {"verdict": "multiclass", "second_order_below": 2.0}
    scored, questions = score(fields, by_scores)
    # Of T1's scores two are of size 1.
    assert len(questions) == 8 and values(scored) == [1.5, -0.75, -1.75, 1.0]
    again = [slots(question) for question in questions]
    assert {pair for pair in again if pair[::-1] in again} == {(0, 3), (3, 0), (1, 2), (2, 1)}


def test_parts_that_no_verdict_connects_are_unscored() -> None:
    down = JudgeFailure("timeout", "http://x/v1: no answer within 1 s")
    scored, _ = score({"order": "fixed"}, lambda a, b, q: down if 3 in (a, b) else thought("A"))
    assert values(scored) == [pytest.approx(2 / 3), 0, pytest.approx(-2 / 3), None]
    assert scored.scores[3].reason == (
        "out of reach: 3 of 6 comparisons missing; judge verifier: http://x/v1: no answer within 1 s"
    )
    nothing, _ = score({}, lambda a, b, q: down)
    assert values(nothing) == [None] * 4 and nothing.metrics["failed"] == 1 and "var_b" not in nothing.metrics


def test_every_comparison_is_told_once_with_the_one_shown_first() -> None:
    def said(a: int, b: int, question: Question) -> Reply:
        if question.labels:
            return Answer(">B")
        cut = (a, b) == (0, 1)
        return Answer("<think>Hm." if cut else thought("A"), finish_reason="length" if cut else "stop")

    scored, _ = score({}, lambda a, b, q: thought("no") if (a, b) == (1, 0) else said(a, b, q), count=2)
    [told] = scored.scores[0].details["comparisons"]
    assert told == {
        "a": 0,
        "b": 1,
        "strength": 1.0,
        "votes": [{"label": "B", "p": 1.0, "tokens": 0, "forced": True}],
    }
    [told] = scored.scores[1].details["comparisons"]
    assert (told["a"], told["b"], told["strength"]) == (1, 0, None)
    assert told["votes"][0]["outcome"] == "unparsed" and "'no' is none of A, B" in told["votes"][0]["reason"]
    assert scored.metrics["forced"] == scored.metrics["truncated"] == scored.metrics["invalid"] == 0.5


def test_how_strong_verdicts_are() -> None:
    scored, _ = score({"verdict": "multiclass", "order": "fixed"}, by_scores)
    shares = {name: share for name, share in scored.metrics.items() if name.startswith("strength")}
    # Of six verdicts two of size 1, two of 2, two of 3, of at most 3.
    assert shares == pytest.approx(
        {"strength_to_0.25": 0, "strength_to_0.5": 1 / 3, "strength_to_0.75": 1 / 3, "strength_to_1": 1 / 3}
    )
    assert scored.metrics["slot_a_wins"] == pytest.approx(4 / 6)
    assert scored.metrics["var_b"] == pytest.approx(np.var([1.5, -0.75, -1.75, 1.0]))


def test_edges() -> None:
    def one(value: float | None) -> AskedPair:
        return AskedPair((), value)

    assert edge(one(-2), one(1)) == 1.5 and edge(one(-2), None) == 2 and edge(None, one(-2)) == -2
    assert all(math.isnan(edge(*pair)) for pair in ((one(None), one(1)), (one(1), one(None)), (None, None)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strength": "inverse_length", "verdict": "multiclass"}, "inverse_length needs verdict: binary"),
        ({"strength": "inverse_length", "think": False}, "inverse_length needs verdict: binary and think: true"),
        ({"seeded": True, "think": False}, "seeded: true needs think: true"),
        ({"aggregate": "majority", "strength": "probability"}, "it needs strength: hard"),
        ({"second_order_below": 2, "order": "random", "verdict": "multiclass"}, "second_order_below needs order: both"),
        ({"second_order_below": 2}, "which have weak preferences"),
        ({"design": "ring"}, "design"),
        ({"design": "circulant-0"}, "design"),
        ({"votes": 0}, "votes"),
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**fields)


def test_votes_of_a_judge_that_always_says_the_same() -> None:
    judge, _ = scripted_judge(lambda q: thought("A"))
    with pytest.raises(RecipeError, match=r"votes: 3 at temperature 0 .* raise judges\.verifier's"):
        config(votes=3).build(Resources({"verifier": judge}))


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({}, 1, "groups of 2 or more"),
        ({"design": "circulant-3"}, 5, "take circulant-2 or circulant-4"),
        ({"design": "circulant-3"}, 4, ""),
    ],
)
def test_groups_that_cannot_be_compared(fields: dict[str, Any], size: int, message: str) -> None:
    problem = config(**fields).group_problem(size)
    assert message in problem and bool(problem) == bool(message)


def test_a_judge_that_leans_nowhere_comes_to_zero_exactly() -> None:
    generator = np.random.default_rng(0)

    def evenly(a: int, b: int, question: Question) -> Reply:
        shares = generator.dirichlet((1, 1, 1)) / 2
        logprobs = {label: math.log(share) for label, share in zip("123", shares, strict=True)}
        logprobs |= {f"-{label}": value for label, value in logprobs.items()}
        return Answer("1", logprobs=logprobs)

    fields = {"verdict": "multiclass", "strength": "probability", "think": False}
    for order in ("both", "fixed"):
        scored, _ = score({**fields, "order": order}, evenly)
        assert scored.comparisons is not None and not scored.comparisons.strengths.any()
        assert values(scored) == [0.0] * 4 and scored.metrics["all_tied"] == 1
