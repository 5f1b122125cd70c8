"""Where images come from: a folder, a list, a data set on the hub, scikit-image's photographs, or a program."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.rows import open_dataset
from rlrules.data.synthetic_images import scene
from rlrules.errors import DataError
from rlrules.images import Reference

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


class ImagesConfig(BaseModel):
    """Fields of every source of images."""

    model_config = ConfigDict(extra="forbid")

    def load(self) -> list[Reference]:
        """References of all images; their pixels are read when they are needed.

        Raises:
            DataError: They cannot be had, or there are none.
        """
        raise NotImplementedError(f"{type(self).__name__}.load")  # pragma: no cover


class FolderImages(ImagesConfig):
    """All images in a folder and the folders in it, by name."""

    type: Literal["folder"] = "folder"
    path: str

    def load(self) -> list[Reference]:
        """List the folder."""
        if not Path(self.path).is_dir():
            raise DataError(f"images: {self.path} is no folder (looked in {Path.cwd()})")
        found = sorted(str(path) for path in Path(self.path).rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise DataError(f"images: {self.path} holds none ({', '.join(sorted(_SUFFIXES))})")
        return list(found)


class ListedImages(ImagesConfig):
    """The images that a file names, in its order: a JSON list, or a path a line."""

    type: Literal["list"] = "list"
    path: str
    root: str = Field("", description="Folder that the paths are relative to.")

    def load(self) -> list[Reference]:
        """Read the list."""
        import json

        try:
            text = Path(self.path).read_text("utf-8")
            named = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
        except (OSError, ValueError) as error:
            raise DataError(f"images: {self.path} cannot be read: {error}") from error
        if not all(isinstance(name, str) for name in named):
            raise DataError(f"images: {self.path}: expected a list of paths")
        found = [str(Path(self.root, name.strip())) for name in named if name.strip()]
        if not found:
            raise DataError(f"images: {self.path} names none")
        return list(found)


class HubImages(ImagesConfig):
    """A column of a data set on the hub, or of a local folder in its form."""

    type: Literal["hub"] = "hub"
    path: str
    split: str = "train"
    column: str = "image"

    def load(self) -> list[Reference]:
        """Load the data set."""
        rows = _hub(self.path, self.split)
        if self.column not in rows.column_names:
            raise DataError(
                f"images: {self.path} has no column {self.column!r} (there: {', '.join(rows.column_names)})"
            )
        named = {"type": "hub_image", "path": self.path, "split": self.split, "column": self.column}
        return [{**named, "index": index} for index in range(len(rows))]


class SampleImages(ImagesConfig):
    """Photographs that come with scikit-image: few, but real, and there without a network."""

    type: Literal["skimage"] = "skimage"
    names: list[str] = Field(
        ["astronaut", "camera", "chelsea", "coffee", "rocket"], min_length=1, description="Functions of skimage.data."
    )

    def load(self) -> list[Reference]:
        """Name the photographs."""
        return [{"type": "sample", "name": name} for name in self.names]


class SyntheticImages(ImagesConfig):
    """Landscapes that a program draws (see `data/synthetic_images.py`)."""

    type: Literal["synthetic"] = "synthetic"
    count: int = Field(10_000, ge=1)
    width: int = Field(320, ge=28)
    height: int = Field(240, ge=28)
    seed: int = 0

    def load(self) -> list[Reference]:
        """Name the landscapes."""
        return [scene(self.seed, index, self.width, self.height) for index in range(self.count)]


AnyImagesConfig = Annotated[
    FolderImages | ListedImages | HubImages | SampleImages | SyntheticImages, Field(discriminator="type")
]


def open_hub_image(reference: dict[str, Any]) -> "Image":
    """An image of a data set."""
    image: Image = _hub(reference["path"], reference["split"])[reference["index"]][reference["column"]]
    return image.convert("RGB")


def open_sample(reference: dict[str, Any]) -> "Image":
    """A photograph of scikit-image's.

    Raises:
        DataError: scikit-image is not installed, or has no such image without a download.
    """
    from PIL import Image

    try:
        import skimage.data

        return Image.fromarray(getattr(skimage.data, reference["name"])()).convert("RGB")
    except Exception as error:  # Its downloader raises what it likes.
        told = str(error).splitlines()[0] if str(error) else ""
        raise DataError(f"skimage.data.{reference['name']}: {type(error).__name__}: {told}") from error


@cache
def _hub(path: str, split: str) -> Any:
    return open_dataset(path, split)
