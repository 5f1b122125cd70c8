"""Images as a judge's server takes them: each encoded once, and no more kept than said."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlrules.errors import DataError
from rlrules.judges.images import EncodedImages, image_parts, image_url


def pixels(url: str) -> bytes:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return image.convert("RGB").tobytes()


def url_of(part: dict[str, Any]) -> str:
    made = image_url(part)
    assert made["type"] == "image_url"
    return str(made["image_url"]["url"])


@pytest.fixture()
def saves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Formats of all images that are encoded."""
    done: list[str] = []
    save = Image.Image.save

    def counted(self: Image.Image, file: Any, format: str, **options: Any) -> None:
        done.append(format)
        save(self, file, format, **options)

    monkeypatch.setattr(Image.Image, "save", counted)
    return done


def test_every_way_to_give_an_image(tmp_path: Path, saves: list[str]) -> None:
    image = Image.new("RGB", (5, 3), (10, 200, 30))
    image.putpixel((1, 1), (1, 2, 3))
    path = tmp_path / "a.png"
    path.write_bytes(base64.b64decode(url_of({"type": "image", "image": image}).partition(",")[2]))
    for part in (
        {"type": "image", "image": image},
        {"type": "image", "image": image.copy()},
        {"type": "image", "image": str(path)},
        {"type": "image", "reference": str(path)},
    ):
        assert pixels(url_of(part)) == image.tobytes()
    # The same pixels once, the same file once.
    assert saves == ["PNG", "PNG"]
    for given in ("data:image/png;base64,AA==", "https://example.org/a.png"):
        assert url_of({"type": "image", "image": given}) == given
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    assert image_url(part) is part


def test_a_file_that_changed_is_another_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 2), "red").save(path, "PNG")
    first = url_of({"type": "image", "image": str(path)})
    Image.new("RGB", (20, 20), "blue").save(path, "PNG")
    assert url_of({"type": "image", "image": str(path)}) != first


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a `reference` or an `image`"):
        image_url({"type": "image"})
    with pytest.raises(DataError, match="nowhere"):
        image_url({"type": "image", "image": str(tmp_path / "nowhere.png")})


def test_the_oldest_goes_when_there_is_no_room() -> None:
    kept, made = EncodedImages(10), []

    def url(key: str, size: int = 4) -> str:
        return kept.url(key, lambda: made.append(key) or key * size)  # type: ignore[func-returns-value]

    assert [url("a"), url("b"), url("a"), url("c"), url("b"), url("a")][0] == "aaaa"
    assert made == ["a", "b", "c", "b", "a"]
    # One that is larger than all the room there is must still be had.
    assert url("d", 100) == "d" * 100


def test_the_parts_of_a_prompt() -> None:
    image, url = {"type": "image", "image": "a.png"}, {"type": "image_url", "image_url": {"url": "x"}}
    messages: Any = [
        {"role": "user", "content": [image, {"type": "text", "text": "?"}, url]},
        {"role": "assistant", "content": "image"},
    ]
    assert image_parts(messages) == [image, url]
