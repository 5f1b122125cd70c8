"""Images by reference: rows, prompts and logs name an image in a few bytes, and whoever needs its pixels makes them.

A reference is a file's path, or a mapping whose `type` says which function draws it from the other entries, the same
pixels each time. In a prompt it stands in a content part: `{"type": "image", "reference": …}`.
"""

import base64
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rlrules.errors import DataError
from rlrules.types import Message

if TYPE_CHECKING:
    from PIL.Image import Image

Reference = str | Mapping[str, Any]

# Import paths of functions from a reference to its image, so that drawing is paid for where it is done.
_DRAWN = {
    "hub_image": "rlrules.data.image_sources:open_hub_image",
    "jigsaw": "rlrules.data.jigsaw_images:draw_puzzle",
    "jigsaw_patches": "rlrules.data.jigsaw_images:draw_patches",
    "sample": "rlrules.data.image_sources:open_sample",
    "scene": "rlrules.data.synthetic_images:draw_scene",
    "screen": "rlrules.data.screens:draw_screen",
}


def image_part(reference: Reference) -> dict[str, Any]:
    """The content part that puts an image into a message."""
    return {"type": "image", "reference": reference}


def references(messages: Iterable[Message]) -> list[Reference]:
    """References of all images in some messages, in order.

    Raises:
        DataError: An image part has none.
    """
    found: list[Reference] = []
    for message in messages:
        content = message["content"]
        for part in () if isinstance(content, str) else content:
            if part.get("type") == "image":
                if not isinstance(part.get("reference"), str | Mapping):
                    raise DataError(
                        f"an image part needs a `reference`, a path or a mapping (there: {', '.join(part)})"
                    )
                found.append(part["reference"])
    return found


def open_image(reference: Reference) -> "Image":
    """The image, in RGB.

    Raises:
        DataError: There is no such file, it holds no image, or nobody draws such references.
    """
    if isinstance(reference, str):
        with _opened(reference) as file:
            return file.convert("RGB")
    kind = reference.get("type")
    if kind not in _DRAWN:
        raise DataError(f"image of type {kind!r}: known are {', '.join(sorted(_DRAWN))}, and files by their path")
    module, _, name = _DRAWN[kind].partition(":")
    drawn: Image = getattr(importlib.import_module(module), name)(reference)
    return drawn


def image_size(reference: Reference) -> tuple[int, int]:
    """Width and height in pixels; of a file, all but its header is left unread.

    Raises:
        DataError: As of `open_image`.
    """
    if isinstance(reference, str):
        with _opened(reference) as file:
            return file.size
    return open_image(reference).size


@contextmanager
def _opened(path: str) -> "Iterator[Image]":
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            yield file
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path}: {getattr(error, 'strerror', None) or error}") from error


def data_url(reference: Reference) -> str:
    """The image as a PNG in a `data:` URL, as OpenAI's API takes it."""
    return png_url(open_image(reference))


def png_url(image: "Image") -> str:
    """The same of pixels."""
    written = io.BytesIO()
    image.save(written, "PNG")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
