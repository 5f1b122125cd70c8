"""Answers to imitate: what is read, what is left out, and which tokens the loss is on."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from rlrules.data.conversations import AnyConversationsConfig, Conversation, Conversations
from rlrules.data.preferences import Preference, Preferences
from rlrules.data.tokenizers import load_tokenizer
from rlrules.data.tokens import IGNORED, conversation_rows, preference_rows
from rlrules.errors import DataError
from rlrules.models import DEFAULT_MODEL, resolve_model
from rlrules.types import Message

QUESTION: Message = {"role": "user", "content": "Why?"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(resolve_model(DEFAULT_MODEL))


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(**fields: object) -> Conversations:
    config: Any = TypeAdapter(AnyConversationsConfig).validate_python(fields)
    return config.load(lambda text: len(text.split()))


def test_messages_and_prompt_with_completion(tmp_path: Path) -> None:
    earlier = [QUESTION, {"role": "assistant", "content": "So."}, {"role": "user", "content": "And?"}]
    path = write(
        tmp_path / "rows.jsonl",
        {"messages": [*earlier, {"role": "assistant", "content": "Also."}]},
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": [QUESTION], "completion": [{"role": "assistant", "content": "Just so."}]},
    )
    found = load(type="conversations", path=path).items
    assert [(len(one.prompt), one.answer) for one in found] == [(3, "Also."), (1, "Because."), (1, "Just so.")]
    assert found[1].prompt == (QUESTION,)


def test_columns_conditions_and_a_limit(tmp_path: Path) -> None:
    rows = [{"question": f"Q{n}?", "good": f"A{n}", "kind": n % 2} for n in range(10)]
    columns = {"prompt": "question", "completion": "good"}
    path = write(tmp_path / "rows.jsonl", *rows)
    found = load(type="conversations", path=path, columns=columns, where={"kind": 1}, limit=3)
    assert [one.answer for one in found.items] == ["A1", "A3", "A5"]
    assert found.dropped == {"where": 5, "limit": 2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [QUESTION]}, "a prompt must come before the answer"),
        ({"messages": [QUESTION, QUESTION]}, "ends with 'user'"),
        ({"prompt": "a"}, "`completion`: is missing"),
        ({"completion": "a"}, "`prompt`: is missing"),
        ({"prompt": "a", "completion": [QUESTION]}, "ends with 'user'"),
        ({"prompt": "a", "completion": 3}, "`completion`: expected text or a list of messages"),
        ({"prompt": "a", "completion": [{"role": "assistant", "content": [{"text": "x"}]}]}, "the answer is not text"),
    ],
)
def test_malformed_rows_name_their_place(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "a", "completion": "b"}, row)
    with pytest.raises(DataError, match="row 2") as error:
        load(type="conversations", path=path)
    assert message in str(error.value)


def test_nothing_left_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "a", "completion": "b", "kind": 1})
    with pytest.raises(DataError, match=r"no rows left \(1 by where\)"):
        load(type="conversations", path=path, where={"kind": 2})


def test_ultrafeedback_takes_the_messages_of_the_rows_that_pass_its_filter(tmp_path: Path) -> None:
    def row(prompt: str, good: str, bad: str, scores: tuple[float, float]) -> dict[str, Any]:
        user = {"role": "user", "content": prompt}
        chosen, rejected = ([user, {"role": "assistant", "content": text}] for text in (good, bad))
        named = {"score_chosen": scores[0], "score_rejected": scores[1]}
        return {"messages": chosen, "chosen": chosen, "rejected": rejected, **named}

    rows = [
        row("one?", "good", "bad", (8, 3)),
        row("two?", "good", "bad", (5, 5)),
        row("three?", "My Confidence is high", "bad", (8, 3)),
        row("four " * 512, "good", "bad", (8, 3)),
        row("five?", "word " * 512, "bad", (8, 3)),
        row("six?", "word " * 511, "bad", (8, 3)),
    ]
    found = load(type="ultrafeedback_sft", path=write(tmp_path / "rows.jsonl", *rows))
    assert [one.prompt[0]["content"] for one in found.items] == ["one?", "six?"]
    assert {name: count for name, count in found.dropped.items() if count} == {
        "score": 1,
        "confidence": 1,
        "prompt_tokens": 1,
        "chosen_tokens": 1,
    }


def conversations(*answers: str) -> Conversations:
    return Conversations([Conversation(f"row {n}", (QUESTION,), text) for n, text in enumerate(answers)], {"where": 1})


def test_the_loss_is_on_the_answer_up_to_its_end_token(tokenizer: Any) -> None:
    [row] = conversation_rows(tokenizer, conversations("Because it is."), None).rows
    trained = [token for token in row["labels"] if token != IGNORED]
    assert tokenizer.decode(trained) == "Because it is.<|im_end|>"
    assert row["labels"].index(trained[0]) == len(row["labels"]) - len(trained)
    before = tokenizer.apply_chat_template([QUESTION], tokenize=False, add_generation_prompt=True)
    prompt = row["input_ids"][: -len(trained)]
    # What a server tokenises before it generates is what the answer was trained after.
    assert prompt == tokenizer(before, add_special_tokens=False)["input_ids"]


def test_a_template_without_an_end_gets_one(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "plain.jinja").write_text(
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    plain = load_tokenizer(resolve_model(DEFAULT_MODEL), str(tmp_path / "plain.jinja"))
    [row] = conversation_rows(plain, conversations("Because."), None).rows
    assert plain.decode(row["input_ids"]) == "<user>Why?<assistant>Because.<|im_end|>"


def test_longer_rows_are_left_out_whole(tokenizer: Any) -> None:
    made = conversation_rows(tokenizer, conversations("Short.", "word " * 50), 40)
    assert len(made.rows) == 1
    assert made.dropped == {"where": 1, "max_length": 1}
    exact = len(made.rows[0]["input_ids"])
    assert len(conversation_rows(tokenizer, conversations("Short."), exact).rows) == 1
    with pytest.raises(DataError, match=r"no rows left \(1 by where, 2 by max_length\); raise training.max_length"):
        conversation_rows(tokenizer, conversations("Short.", "word " * 50), exact - 1)


def test_a_template_that_drops_thoughts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "strips.jinja").write_text(
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'].split('</think>')[-1] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    strips = load_tokenizer(resolve_model(DEFAULT_MODEL), str(tmp_path / "strips.jinja"))
    with pytest.raises(DataError, match="row 0: the chat template leaves out part of the answer"):
        conversation_rows(strips, conversations("<think>\nWhy?\n</think>\n\nSo."), None)


def test_a_seeded_template_and_an_answer_without_a_thought(tmp_path: Path) -> None:
    seeded = load_tokenizer(resolve_model(DEFAULT_MODEL), think_seed=True)
    with pytest.raises(DataError, match=r"row 0: .*set model.think_seed: false"):
        conversation_rows(seeded, conversations("No thought."), None)


def pairs(strength: float | None = None) -> Preferences:
    made = [
        Preference(f"p{n}", "made", (QUESTION,), "Good.", "word " * (1 + 40 * n), strength=strength) for n in range(2)
    ]
    return Preferences(tuple(made), 3, {"tie": 1})


def test_pairs_are_the_whole_conversations_and_carry_margins(tokenizer: Any) -> None:
    made = preference_rows(tokenizer, pairs(2.0), None, margin=True)
    chat = [QUESTION, {"role": "assistant", "content": "Good."}]
    whole = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
    assert [row["chosen_ids"] for row in made.rows] == [whole, whole]
    assert [row["margin"] for row in made.rows] == [2.0, 2.0]
    assert "margin" not in preference_rows(tokenizer, pairs(2.0), None, margin=False).rows[0]


def test_a_pair_goes_where_either_side_is_too_long(tokenizer: Any) -> None:
    made = preference_rows(tokenizer, pairs(), 50, margin=False)
    assert len(made.rows) == 1
    assert made.dropped == {"tie": 1, "max_length": 1}
    assert made.left_out() == "1 by tie, 1 by max_length"


def test_a_margin_needs_strengths(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="'made', p0: has no strength to take a margin from; set margin: false"):
        preference_rows(tokenizer, pairs(), None, margin=True)
