"""Preferences as questions to a judge, with the right verdict."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from rlrules.data.comparisons import comparisons_of
from rlrules.data.preferences import Preference
from rlrules.data.prompts import AnyPromptsConfig, Prompts
from rlrules.errors import DataError
from rlrules.types import Message

USER: Message = {"role": "user", "content": "Why?"}


def preference(number: int, strength: float | None = 2, **fields: Any) -> Preference:
    made = {"id": f"p{number}", "prompt": (USER,), "chosen": f"good {number}", "rejected": f"bad {number}"}
    return Preference(source="made", strength=strength, **made | fields)  # type: ignore[arg-type]


def shown_first(messages: tuple[Message, ...]) -> str:
    text = str(messages[1]["content"])
    return "good" if text.index("good") < text.index("bad") else "bad"


def test_half_show_the_better_reply_first_and_labels_follow() -> None:
    preferences = [preference(n) for n in range(100)]
    made, left_out, dropped = comparisons_of(preferences, "binary", seed=0)
    assert len(made) == 100 and not left_out and not dropped
    assert Counter(one.label for one in made) == {"A": 50, "B": 50}
    for one in made:
        assert one.label == ("A" if shown_first(one.messages) == "good" else "B")
    again, *_ = comparisons_of(preferences[:40], "binary", seed=0)
    assert again == made[:40]
    other, *_ = comparisons_of(preferences, "binary", seed=1)
    assert [one.label for one in other] != [one.label for one in made]


def test_multiclass_labels_have_the_sign_of_the_side() -> None:
    made, *_ = comparisons_of([preference(n, 1 + n % 3) for n in range(60)], "multiclass", seed=0)
    binary, *_ = comparisons_of([preference(n) for n in range(60)], "binary", seed=0)
    assert Counter(one.label for one in made).keys() == {"-3", "-2", "-1", "1", "2", "3"}
    for one, two in zip(made, binary, strict=True):
        assert (int(one.label) < 0) == (two.label == "A")
        assert abs(int(one.label)) == 1 + int(one.id[1:]) % 3


def test_what_has_no_verdict_is_left_out_with_a_reason() -> None:
    turns = (USER, {"role": "assistant", "content": "x"})
    rows = [
        preference(0),
        preference(1, 0),
        preference(2, None),
        preference(3, 1.5),
        preference(4, 4),
        preference(5, chosen=turns),
    ]
    made, left_out, dropped = comparisons_of(rows, "multiclass", seed=0)
    assert [one.id for one in made] == ["p0"]
    assert left_out == {
        "p1": "tie",
        "p2": "no strength",
        "p3": "strength not 1, 2 or 3",
        "p4": "strength not 1, 2 or 3",
        "p5": "several turns",
    }
    assert dropped.total() + len(made) == len(rows)
    binary, left_out, _ = comparisons_of(rows, "binary", seed=0)
    assert [one.id for one in binary] == ["p0", "p2", "p3", "p4"]
    assert left_out == {"p1": "tie", "p5": "several turns"}


def source(folder: Path, *rows: dict[str, Any], **fields: Any) -> Prompts:
    path = folder / "rows.jsonl"
    if rows:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = {"type": "comparisons", "preferences": {"type": "jsonl", "path": str(path), "seed": None}, **fields}
    config: Any = TypeAdapter(AnyPromptsConfig).validate_python(section)
    return config.load(lambda text: len(text.split()))


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"p{n}", "prompt": "Why?", "chosen": f"good {n} " + "word " * n, "rejected": f"bad {n}", "strength": 1}
        for n in range(count)
    ]


def test_prompts_with_the_column_that_the_scorer_reads(tmp_path: Path) -> None:
    made = source(tmp_path, *rows(8))
    assert [row["label"] for row in made.rows].count("A") == 4
    for row in made.rows:
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    signed = source(tmp_path, verdict="multiclass")
    assert {row["label"] for row in signed.rows} == {"-1", "1"}


def test_long_prompts_and_a_skip_list(tmp_path: Path) -> None:
    (tmp_path / "skipped.jsonl").write_text('{"id": "p0", "reason": "none correct"}\n{"id": "p3", "reason": "x"}\n')
    whole = source(tmp_path, *rows(8))
    made = source(tmp_path, skip=str(tmp_path / "skipped.jsonl"))
    assert [row["id"] for row in made.rows] == ["p1", "p2", "p4", "p5", "p6", "p7"]
    assert made.dropped["skip"] == 2
    # The order of the others does not depend on what is skipped.
    labels = {row["id"]: row["label"] for row in whole.rows}
    assert all(row["label"] == labels[row["id"]] for row in made.rows)
    bound = max(len("\n".join(m["content"] for m in row["prompt"]).split()) for row in whole.rows[:6])
    short = source(tmp_path, max_prompt_tokens=bound)
    assert len(short.rows) == 6 and short.dropped["max_prompt_tokens"] == 2


def test_bad_skip_lists(tmp_path: Path) -> None:
    source(tmp_path, *rows(2))
    with pytest.raises(DataError, match=r"gone.jsonl does not exist"):
        source(tmp_path, skip=str(tmp_path / "gone.jsonl"))
    (tmp_path / "other.jsonl").write_text('{"id": "q7"}\n')
    with pytest.raises(DataError, match=r"other.jsonl: none of its 1 ids is in"):
        source(tmp_path, skip=str(tmp_path / "other.jsonl"))
    (tmp_path / "broken.jsonl").write_text('{"id": 7}\n')
    with pytest.raises(DataError, match=r"broken.jsonl:1: `id`: expected text"):
        source(tmp_path, skip=str(tmp_path / "broken.jsonl"))


def test_preferences_without_strengths_make_no_numbers(tmp_path: Path) -> None:
    bare = [{key: value for key, value in row.items() if key != "strength"} for row in rows(3)]
    assert len(source(tmp_path, *bare).rows) == 3
    with pytest.raises(DataError, match=r"no rows left \(3 by no strength\)"):
        source(tmp_path, verdict="multiclass")
