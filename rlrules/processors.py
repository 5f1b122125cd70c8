"""Processors of vision-language models, torchvision or not.

transformers prepares images with Pillow where torchvision is absent, but loads a video processor with every processor
that has one, and that needs torchvision. What trains on images alone can do without.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

_VIDEO = "video_processor"


def load_processor(path: str, **options: Any) -> Any:
    """The processor of a hub id or folder; of a model of text alone, its tokenizer.

    Args:
        path: Hub id or folder.
        options: Of `from_pretrained`.

    Raises:
        OSError: There is none.
        ValueError: It cannot be used.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    if find_spec("torchvision") is None:
        # A folder with a tokenizer alone is good enough for text.
        try:
            kind = type(AutoConfig.from_pretrained(path))
        except (OSError, ValueError):
            kind = None
        if kind in PROCESSOR_MAPPING and _VIDEO in PROCESSOR_MAPPING[kind].get_attributes():
            return without_video(PROCESSOR_MAPPING[kind]).from_pretrained(path, **options)
    return AutoProcessor.from_pretrained(path, **options)


def text_tokenizer(processor: Any) -> Any:
    """The tokenizer in a processor; a tokenizer is its own."""
    return getattr(processor, "tokenizer", processor)


def sees(processor: Any) -> bool:
    """Whether its model takes images."""
    return hasattr(processor, "image_processor")


def pixel_bounds(processor: Any) -> tuple[int, int, int] | None:
    """How a processor of Qwen2-VL's kind resizes: factor of sides, fewest and most pixels; None of any other."""
    images = getattr(processor, "image_processor", None)
    if images is None or not hasattr(images, "merge_size"):
        return None
    return images.patch_size * images.merge_size, images.size["shortest_edge"], images.size["longest_edge"]


@cache
def without_video(kind: type[Any]) -> Any:
    """A processor class that neither needs nor makes a video processor, and saves as `kind` does."""

    class Images(kind):  # type: ignore[misc]
        """See `without_video`."""

        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in kind.get_attributes() if name != _VIDEO]

        @classmethod
        def from_pretrained(cls, path: str, **options: Any) -> Any:
            from transformers.video_processing_utils import BaseVideoProcessor

            made = super().from_pretrained(path, **options)
            try:
                # What is saved must load where torchvision is: in servers, for one.
                made.saved_video_config = BaseVideoProcessor.get_video_processor_dict(path)[0]
            except OSError:
                made.saved_video_config = None
            return made

        def to_dict(self) -> dict[str, Any]:
            made: dict[str, Any] = super().to_dict()
            video = getattr(self, "saved_video_config", None)
            return made | ({_VIDEO: video} if video else {})

    Images.__name__ = Images.__qualname__ = kind.__name__
    return Images
