"""Tokenizers with the chat template that a run is to use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlrules.data.tokens import prompt_text
from rlrules.errors import DataError
from rlrules.judges.templates import encodable
from rlrules.judges.verdict import THINK_OPEN
from rlrules.processors import load_processor, text_tokenizer

THINK_SEED = f"{THINK_OPEN}\n"
"""How a seeded template lets every generated answer begin."""


def load_tokenizer(
    path: str,
    chat_template: str | None = None,
    think_seed: bool = False,
    eos_token: str | None = None,
    pixels: tuple[int | None, int | None] = (None, None),
    **options: Any,
) -> Any:
    """The tokenizer (of a model that sees images: the processor) of a hub id or folder.

    Args:
        path: What `models.resolve_model` gives.
        chat_template: File of a Jinja template to use instead of its own.
        think_seed: Open a thought at the end of the template's generation prompt.
        eos_token: Token that ends a turn, instead of its own.
        pixels: Fewest and most of an image as the model sees it, instead of the processor's own.
        options: Of `from_pretrained`.

    Raises:
        DataError: It cannot be loaded, has no chat template, or its template cannot be used.
    """
    try:
        tokenizer = load_processor(path, **options)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"no tokenizer for {path!r}: {str(error).splitlines()[0]}") from error
    if chat_template is not None:
        try:
            tokenizer.chat_template = Path(chat_template).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"chat template {chat_template}: {error}") from error
    if not isinstance(tokenizer.chat_template, str):
        raise DataError(f"the tokenizer of {path!r} has no chat template of its own; set model.chat_template to a file")
    if eos_token is not None:
        text_tokenizer(tokenizer).eos_token = eos_token
    _bound_pixels(tokenizer, path, pixels)
    try:
        before = prompt_text(tokenizer, [{"role": "user", "content": "?"}])
    except Exception as error:  # Templates raise what they like.
        raise DataError(f"the chat template cannot be used: {type(error).__name__}: {error}") from error
    if think_seed and not before.rstrip().endswith(THINK_OPEN):
        tokenizer.chat_template = seeded(tokenizer.chat_template)
    return tokenizer


def seeded(template: str) -> str:
    """A chat template whose generation prompt ends with an open thought."""
    # Jinja drops one line break at the end of a source; inside it would be printed.
    seed = THINK_SEED.replace("\n", "\\n")
    return template.removesuffix("\n") + "{% if add_generation_prompt %}{{ '" + seed + "' }}{% endif %}"


def counter_of(tokenizer: Any) -> Callable[[str], int]:
    """Counts the tokens of a text, a lone surrogate as the sign that replaces it."""
    of_text = text_tokenizer(tokenizer)
    return lambda text: len(of_text(encodable(text), add_special_tokens=False)["input_ids"])


def _bound_pixels(processor: Any, path: str, pixels: tuple[int | None, int | None]) -> None:
    """Set how many pixels an image has at least and at most once it is resized."""
    wanted = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
    given = {edge: count for edge, count in wanted.items() if count is not None}
    if not given:
        return
    images = getattr(processor, "image_processor", None)
    # Qwen's processors keep counts of pixels under these names; elsewhere they are the lengths of edges.
    if images is None or not hasattr(images, "merge_size"):
        raise DataError(f"the processor of {path!r} takes no bounds on pixels; leave out model.min_pixels, max_pixels")
    images.size = type(images.size)(**{**dict(images.size), **given})
