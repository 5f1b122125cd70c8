"""Loaders of preference data, in the published schemas, and AutoRule's UltraFeedback filter."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from rlrules.data.preferences import (
    AnyPreferenceConfig,
    Preference,
    PreferenceConfig,
    Preferences,
    last_answer,
    ultrafeedback_filter,
)
from rlrules.data.preferences_mt_bench import EXTRACTION_QUESTIONS, HELDOUT_QUESTIONS
from rlrules.errors import DataError

FIXTURES = Path(__file__).parents[1] / "fixtures/preferences"
ADAPTER: TypeAdapter[PreferenceConfig] = TypeAdapter(AnyPreferenceConfig)


def load(type_: str, **fields: Any) -> Preferences:
    fields = {"path": str(FIXTURES / f"{type_}.jsonl"), "seed": None} | fields
    loaded = ADAPTER.validate_python({"type": type_, **fields}).load()
    assert len(loaded) + sum(loaded.dropped.values()) == loaded.read
    return loaded


def rows_file(path: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    file = path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_any_jsonl(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "Q?", "chosen": "yes", "rejected": "no", "reason": "why"},
        {
            "prompt": [user("Q?")],
            "chosen": [assistant("yes")],
            "rejected": [assistant("no"), user("?"), assistant("!")],
        },
        {"id": "c", "prompt": "Q?", "chosen": "same", "rejected": "same"},
    ]
    loaded = load("jsonl", path=rows_file(tmp_path, rows))
    assert loaded.pairs[0] == Preference(
        "a",
        "rows",
        (user("Q?"),),
        "yes",
        "no",
        meta={"reason": "why"},  # type: ignore[arg-type]
    )
    assert loaded.pairs[1].id == "row-2"
    assert loaded.pairs[1].chosen == "yes"
    assert loaded.pairs[1].rejected == (assistant("no"), user("?"), assistant("!"))
    assert last_answer(loaded.pairs[1].prompt, loaded.pairs[1].rejected) == (
        (user("Q?"), assistant("no"), user("?")),
        "!",
    )
    assert loaded.dropped == {"identical": 1}


def test_parquet_is_the_same(tmp_path: Path) -> None:
    rows = [{"id": f"p{n}", "prompt": f"Q{n}?", "chosen": "yes", "rejected": "no"} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    parquet = load("jsonl", path=str(tmp_path / "rows.parquet"))
    assert parquet.pairs == load("jsonl", path=rows_file(tmp_path, rows)).pairs
    (tmp_path / "folder").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "folder" / "train.parquet")
    assert [pair.id for pair in load("jsonl", path=str(tmp_path / "folder"))] == [f"p{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "a", "rejected": "b"}, ":2: `prompt`: is missing (there: chosen, rejected)"),
        ({"prompt": "Q", "chosen": None, "rejected": "b"}, ":2: `chosen`: is missing"),
        ({"prompt": "Q", "chosen": 5, "rejected": "b"}, ":2: `chosen`: expected text or a list of messages, got int"),
        ({"prompt": "Q", "chosen": "a", "rejected": [user("b")]}, ":2: `rejected`: ends with 'user'"),
        ({"prompt": [assistant("Q")], "chosen": "a", "rejected": "b"}, ":2: `prompt`: ends with 'assistant'"),
        ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, ":2: `prompt`: entry 1 is no {role, content}"),
        ({"id": "x", "prompt": "Q", "chosen": "a", "rejected": "b"}, ":2: `id`: 'x' stands more than once"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = {"id": "x", "prompt": "Q", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError) as error:
        load("jsonl", path=rows_file(tmp_path, [good, row]))
    assert "rows.jsonl" + message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_rows_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no preferences left of 1 rows \\(1 identical\\)"):
        load("jsonl", path=rows_file(tmp_path, [{"prompt": "Q", "chosen": "a", "rejected": "a"}]))
    with pytest.raises(DataError, match=r"nowhere.jsonl does not exist"):
        load("jsonl", path="nowhere.jsonl")


def test_a_higher_limit_keeps_the_pairs_of_a_lower_one(tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": f"Q{n}", "chosen": "a", "rejected": "b"} for n in range(50)]
    path = rows_file(tmp_path, rows)
    few, more = (load("jsonl", path=path, seed=3, limit=limit) for limit in (10, 20))
    assert more.pairs[:10] == few.pairs
    assert few.dropped == {"limit": 40}
    assert load("jsonl", path=path, seed=4, limit=10).pairs != few.pairs
    assert [pair.id for pair in load("jsonl", path=path, limit=3)] == ["0", "1", "2"]


def test_ultrafeedback() -> None:
    loaded = load("ultrafeedback")
    assert loaded.dropped == {"identical": 1}
    first = loaded.pairs[0]
    assert (first.prompt, first.chosen, first.rejected) == ((user("Name a prime."),), "7 is a prime.", "9 is a prime.")
    assert (first.strength, first.meta["score_chosen"], first.meta["prompt_id"]) == (5.5, 8.5, "aa")
    assert [pair.id for pair in loaded] == ["train_prefs-1", "train_prefs-2", "train_prefs-3"]


def test_ultrafeedback_rows_that_do_not_fit(tmp_path: Path) -> None:
    row = json.loads((FIXTURES / "ultrafeedback.jsonl").read_text().splitlines()[0])
    for field, value, message in [
        ("score_chosen", "high", "`score_chosen`: expected a number, got 'high'"),
        ("chosen", "text", "`chosen`: expected a list of messages, got text"),
        ("rejected", [user("Other?"), assistant("No.")], "`rejected`: does not begin with the same user turn"),
    ]:
        with pytest.raises(DataError) as error:
            load("ultrafeedback", path=rows_file(tmp_path, [row | {field: value}]))
        assert f"rows.jsonl:1: {message}" in str(error.value)


def words(text: str) -> int:
    return len(text.split())


def pair(prompt: int = 5, chosen: int = 5, rejected: int = 6, strength: float = 1.0, extra: str = "") -> Preference:
    texts = [" ".join(["word"] * count) for count in (prompt, chosen, rejected)]
    return Preference("x", "uf", (user(texts[0]),), texts[1] + extra, texts[2], strength)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", ["prompt", "chosen", "rejected"])
def test_filter_drops_from_512_tokens(side: str) -> None:
    just, over = pair(**{side: 511}), pair(**{side: 512})  # type: ignore[arg-type]
    kept, dropped = ultrafeedback_filter([just, over], words)
    assert kept == [just]
    assert {reason: count for reason, count in dropped.items() if count} == {f"{side}_tokens": 1}


def test_filter_wants_a_strictly_better_score_and_no_confidence() -> None:
    good = pair(strength=0.25)
    pairs = [
        good,
        pair(strength=0.0),
        pair(strength=-1.0),
        pair(extra=" My CONFIDENCE is 90%."),
        pair(extra=" confident"),
    ]
    kept, dropped = ultrafeedback_filter(pairs, words)
    assert kept == [good, pairs[-1]]
    assert dropped == {"score": 2, "confidence": 1, "prompt_tokens": 0, "chosen_tokens": 0, "rejected_tokens": 0}
    assert len(kept) + sum(dropped.values()) == len(pairs)
    with pytest.raises(DataError, match="has no scores"):
        ultrafeedback_filter([Preference("x", "s", (user("Q"),), "a", "b")], words)  # type: ignore[arg-type]


def test_mt_bench_splits_are_forty_and_forty() -> None:
    expected = {first + offset for first in range(81, 161, 10) for offset in range(5)}
    assert expected == EXTRACTION_QUESTIONS
    assert len(EXTRACTION_QUESTIONS) == len(HELDOUT_QUESTIONS) == 40
    assert not EXTRACTION_QUESTIONS & HELDOUT_QUESTIONS
    loaded = {name: load("mt_bench_human", questions=name) for name in ("extraction", "heldout", "all")}
    asked = {name: {one.meta["question_id"] for one in found} for name, found in loaded.items()}
    # Questions 82 and 87 have only ties in the fixture; all others must be there, not just 8 of them.
    assert asked["extraction"] == EXTRACTION_QUESTIONS - {82}
    assert asked["heldout"] == HELDOUT_QUESTIONS - {87}
    assert asked["all"] == asked["extraction"] | asked["heldout"]


def test_mt_bench_human_rows() -> None:
    loaded = load("mt_bench_human")
    counts = Counter(one.meta["question_id"] for one in loaded)
    assert max(counts.values()) == counts[81] == 8
    assert loaded.dropped == {"tie": 2, "per_question": 2, "other questions": 88}
    first, second = (one for one in loaded.pairs[:2])
    assert first.prompt == (user("Question 81."),)
    assert (first.chosen, first.meta["turn"]) == ("First answer 0 of vicuna-13b-v1.2.", 1)
    assert second.chosen == (
        assistant("First answer 1 of alpaca-13b."),
        user("Follow-up 81."),
        assistant("Second answer 1 of alpaca-13b."),
    )
    assert second.meta["chosen_model"] == "alpaca-13b" and second.meta["rejected_model"] == "gpt-3.5-turbo"
    draws = [{one.id for one in load("mt_bench_human", seed=seed)} for seed in (42, 42, 43)]
    assert draws[0] == draws[1] != draws[2]
    assert len(load("mt_bench_human", per_question=None)) == len(loaded) + 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("question_id", 12, "`question_id`: 12 is none of MT-Bench's 81 to 160"),
        ("winner", "model_1", "`winner`: expected model_a, model_b or a tie, got 'model_1'"),
        ("turn", 3, "`turn`: expected 1 or 2, got 3"),
        ("conversation_a", [], "`conversation_a`: expected text or a list of messages"),
    ],
)
def test_mt_bench_rows_that_do_not_fit(tmp_path: Path, field: str, value: Any, message: str) -> None:
    row = json.loads((FIXTURES / "mt_bench_human.jsonl").read_text().splitlines()[0])
    with pytest.raises(DataError) as error:
        load("mt_bench_human", path=rows_file(tmp_path, [row | {field: value}]))
    assert f"rows.jsonl:1: {message}" in str(error.value)


def mt_bench_pairs(**fields: Any) -> Preferences:
    files = {"answers": "mt_bench_answers", "question_file": "mt_bench_questions", "path": "mt_bench_pair_judgments"}
    return load("mt_bench_pairs", **{name: str(FIXTURES / f"{file}.jsonl") for name, file in files.items()} | fields)


def test_mt_bench_pairs_want_both_orders_to_agree() -> None:
    loaded = mt_bench_pairs()
    assert loaded.dropped == {"orders disagree": 1, "tie": 1, "judge's error": 1, "other questions": 1}
    first, second = loaded.pairs
    assert (first.prompt, first.chosen, first.rejected) == ((user("Question 81."),), "alpha one 81", "beta one 81")
    assert second.chosen == (assistant("beta one 81"), user("Follow-up 81."), assistant("beta two 81"))
    assert [one.meta["question_id"] for one in mt_bench_pairs(questions="heldout")] == [86]


def test_mt_bench_pairs_name_a_missing_answer(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (FIXTURES / "mt_bench_answers.jsonl").read_text().splitlines()]
    with pytest.raises(DataError, match=r"pair_judgments.jsonl:1: .*has no answer of 'beta' to question 81"):
        mt_bench_pairs(answers=rows_file(tmp_path, [row for row in rows if row["model_id"] == "alpha"]))


def test_helpsteer2() -> None:
    loaded = load("helpsteer2")
    assert loaded.dropped == {"tie": 1}
    first, second = loaded.pairs
    assert (first.chosen, first.rejected, first.strength) == ("A language by Microsoft.", "A musical note.", 2.0)
    assert (second.chosen, second.strength) == ("Roses are red.", 3.0)
    assert second.prompt == (user("Hi"), assistant("Hello, what is it?"), user("A poem, please."))
    assert [one.chosen for one in load("helpsteer2", split="validation")] == ["6"]
    with pytest.raises(DataError, match="no rows of split 'test' \\(there: train, validation\\)"):
        load("helpsteer2", split="test")


def test_helpsteer2_strength_must_fit(tmp_path: Path) -> None:
    row = json.loads((FIXTURES / "helpsteer2.jsonl").read_text().splitlines()[0])
    with pytest.raises(DataError, match=r"rows.jsonl:1: `preference_strength`: .* got 4"):
        load("helpsteer2", path=rows_file(tmp_path, [row | {"preference_strength": 4}]))


def test_helpsteer3(tmp_path: Path) -> None:
    said = [user("Hi"), assistant("Hello."), user("A poem, please.")]
    answers = {"response1": "Roses are red.", "response2": "No.", "domain": "general", "language": "english"}
    rows = [{"context": said, "overall_preference": strength, **answers} for strength in (-3, 0, 1)]
    loaded = load("helpsteer3", path=rows_file(tmp_path, rows))
    assert loaded.dropped == {"tie": 1}
    first, second = loaded.pairs
    assert (first.prompt, first.chosen, first.strength) == (tuple(said), "Roses are red.", 3.0)
    assert (second.chosen, second.rejected, second.strength) == ("No.", "Roses are red.", 1.0)
    with pytest.raises(DataError, match=r"rows.jsonl:1: `context`: ends with 'assistant'"):
        load("helpsteer3", path=rows_file(tmp_path, [rows[0] | {"context": said[:2]}]))
    with pytest.raises(DataError, match=r"rows.jsonl:1: `overall_preference`: .* got 4"):
        load("helpsteer3", path=rows_file(tmp_path, [rows[0] | {"overall_preference": 4}]))


def test_strength_of_ones_own_rows(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "chosen": "a", "rejected": "b"}
    path = rows_file(tmp_path, [row, row | {"id": "x", "strength": 2}])
    assert [one.strength for one in load("jsonl", path=path, seed=None).pairs] == [None, 2.0]
    with pytest.raises(DataError, match=r"rows.jsonl:1: `strength`: 0 is not above 0"):
        load("jsonl", path=rows_file(tmp_path, [row | {"strength": 0}]))


def test_hh_rlhf(tmp_path: Path) -> None:
    loaded = load("hh_rlhf")
    assert loaded.dropped == {"unanswered": 1, "different prompts": 1}
    first, second = loaded.pairs
    assert first.prompt == (user("Hi"), assistant("Hello."), user("Tea or coffee?"))
    assert (first.chosen, first.rejected) == ("Tea calms, coffee wakes.", "Dunno")
    assert second.prompt == (user("Where is Rome?"),)
    assert second.chosen == (assistant("In Italy."), user("Thanks"), assistant("You are welcome."))
    assert second.rejected == "In Spain."
    with pytest.raises(DataError, match=r"rows.jsonl:1: `chosen`: expected a transcript that begins"):
        load("hh_rlhf", path=rows_file(tmp_path, [{"chosen": "Hello", "rejected": "\n\nHuman: x\n\nAssistant: y"}]))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="spilt"):
        ADAPTER.validate_python({"type": "hh_rlhf", "spilt": "train"})
