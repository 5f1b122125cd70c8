"""Images of a prompt as a judge's server takes them, each encoded once."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rlrules.errors import DataError
from rlrules.images import data_url, png_url
from rlrules.types import ContentPart, Message

KEPT_CHARACTERS = 2**28
_URL = ("data:", "http://", "https://")


def image_parts(messages: Sequence[Message]) -> list[ContentPart]:
    """The content parts that are images, in order."""
    contents = (message["content"] for message in messages)
    return [
        part
        for content in contents
        if not isinstance(content, str)
        for part in content
        if part.get("type") in ("image", "image_url")
    ]


def image_url(part: ContentPart) -> ContentPart:
    """An image part in the form of OpenAI's API.

    Args:
        part: {type: image_url}, which stays as it is, or {type: image} with a `reference` as in `images.py`, or with
            an `image`: a Pillow image, a file's path or a URL.

    Raises:
        DataError: There is no image in it.
    """
    if part.get("type") == "image_url":
        return part
    given: Any = part.get("reference", part.get("image"))
    if isinstance(given, str) and given.startswith(_URL):
        url = given
    elif isinstance(given, str | Mapping):
        url = _kept().url(_named(given), lambda: data_url(given))
    elif hasattr(given, "tobytes"):
        url = _kept().url(_drawn(given), lambda: png_url(given))
    else:
        raise DataError(f"an image part needs a `reference` or an `image` (there: {', '.join(part)})")
    return {"type": "image_url", "image_url": {"url": url}}


class EncodedImages:
    """URLs of the images that were asked for last; safe to use from several threads.

    Args:
        limit: Characters kept in all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._urls: OrderedDict[str, str] = OrderedDict()
        self._size = 0
        # Held while an image is encoded: whoever else wants it waits instead of doing it again.
        self._lock = threading.Lock()

    def url(self, key: str, encode: Callable[[], str]) -> str:
        """The URL kept under `key`, or what `encode` makes."""
        with self._lock:
            if key in self._urls:
                self._urls.move_to_end(key)
                return self._urls[key]
            url = self._urls[key] = encode()
            self._size += len(url)
            while self._size > self._limit and len(self._urls) > 1:
                self._size -= len(self._urls.popitem(last=False)[1])
            return url


@cache
def _kept() -> EncodedImages:
    return EncodedImages(KEPT_CHARACTERS)


def _named(reference: str | Mapping[str, Any]) -> str:
    if isinstance(reference, str):
        try:
            told = Path(reference).stat()
        except OSError as error:
            raise DataError(f"image {reference}: {error.strerror}") from error
        return json.dumps([reference, told.st_mtime_ns, told.st_size])
    return json.dumps(reference, sort_keys=True, default=str)


def _drawn(image: Any) -> str:
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()
