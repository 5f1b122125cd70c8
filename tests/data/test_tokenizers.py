"""Chat templates that open a thought."""

import random
from pathlib import Path
from typing import Any

import pytest

from rlrules.data.conversations import Conversation, Conversations
from rlrules.data.tokenizers import load_tokenizer, seeded
from rlrules.data.tokens import conversation_rows, prompt_text
from rlrules.errors import DataError
from rlrules.models import DEFAULT_MODEL, resolve_model
from rlrules.types import Message

MODEL = resolve_model(DEFAULT_MODEL)
CHAT: list[Message] = [{"role": "user", "content": "Why?"}]
TEMPLATES = {
    "file with a line break at its end": "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{%- if add_generation_prompt %}<assistant>\n{% endif %}\n",
    "trimmed": "{%- for m in messages -%}[{{ m.role }}]{{ m.content }}{%- endfor -%}{%- if add_generation_prompt -%}[A]"
    "{%- endif -%}\n",
    "one expression": "{{ messages[-1].content }}{{ '\nA: ' if add_generation_prompt else '' }}",
}


def load(tmp_path: Path, template: str, think_seed: bool) -> Any:
    (tmp_path / "template.jinja").write_text(template)
    return load_tokenizer(MODEL, str(tmp_path / "template.jinja"), think_seed)


@pytest.mark.parametrize("name", TEMPLATES)
def test_any_template_takes_the_seed(tmp_path: Path, name: str) -> None:
    plain, made = (load(tmp_path, TEMPLATES[name], seed) for seed in (False, True))
    assert prompt_text(made, CHAT) == prompt_text(plain, CHAT) + "<think>\n"
    for one in (plain, made):
        assert "<think>" not in one.apply_chat_template(CHAT, tokenize=False)


def test_a_seeded_template_is_saved_and_not_seeded_twice(tmp_path: Path) -> None:
    load_tokenizer(MODEL, think_seed=True).save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path), think_seed=True)
    assert prompt_text(again, CHAT).endswith("assistant\n<think>\n")
    assert prompt_text(load_tokenizer(str(tmp_path)), CHAT).count("<think>") == 1
    own = TEMPLATES["one expression"].replace("A: ", "A: <think>")
    assert prompt_text(load(tmp_path, own, True), CHAT) == "Why?\nA: <think>"


def test_token_boundaries() -> None:
    # Section 1.2: the tokens of prompt and target are the same, whoever writes the seed.
    plain, made = load_tokenizer(MODEL), load_tokenizer(MODEL, think_seed=True)

    def ids(text: str) -> list[int]:
        return list(plain(text, add_special_tokens=False)["input_ids"])

    draw = random.Random(0)
    words = [
        "Reply",
        "A",
        "is",
        "wrong:",
        "7 × 13",
        "\n",
        "\n\n",
        "  ",
        "\t",
        "**bold**",
        "it's",
        "…",
        "héllo",
        "1.",
        "-",
    ]
    for number in range(150):
        chat: list[Message] = [{"role": "user", "content": " ".join(draw.choices(words, k=draw.randrange(1, 12)))}]
        thought = " ".join(draw.choices(words, k=draw.randrange(1, 20))).strip() or "So."
        rest = f"{thought}\n</think>\n\n<answer>{'AB'[number % 2]}</answer>"
        target = "<think>\n" + rest
        trained = ids(prompt_text(plain, chat)) + ids(target)
        assert trained == ids(prompt_text(made, chat)) + ids(rest)
        # And training sees exactly these.
        [row] = conversation_rows(plain, Conversations([Conversation("x", tuple(chat), target)], {}), None).rows
        assert row["input_ids"] == [*trained, plain.eos_token_id]


def test_unusable_templates(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"chat template .*none.jinja"):
        load_tokenizer(MODEL, str(tmp_path / "none.jinja"))
    with pytest.raises(DataError, match="the chat template cannot be used: TemplateSyntaxError"):
        load(tmp_path, "{% for %}", False)
    bare = load_tokenizer(MODEL)
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "bare")
    with pytest.raises(DataError, match=r"has no chat template of its own; set model.chat_template"):
        load_tokenizer(str(tmp_path / "bare"))


def test_the_seed_is_jinja_source() -> None:
    assert seeded("x\n") == "x{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
