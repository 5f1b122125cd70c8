"""Sizes after the processor: the published table, and the real processor of transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlrules.rewards.gui_frames import seen_size, size_of, smart_resize

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ui_r1.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["smart_resize"], ids=lambda case: f"{case['size']} {case['max_pixels']}")
def test_sizes_by_table(case: dict[str, Any]) -> None:
    assert list(smart_resize(*case["size"], max_pixels=case["max_pixels"])) == case["resized"]


def test_a_phone_s_scale() -> None:
    width, height = smart_resize(1080, 2400)
    assert (1080 / width, 2400 / height) == (pytest.approx(0.989011, abs=1e-6), pytest.approx(0.996678, abs=1e-6))


def test_shapes_that_are_refused() -> None:
    # Enlarged by sqrt(3136 / 20000) = 0.396: 4 and 792 pixels.
    assert smart_resize(10, 2000) == (28, 812)
    with pytest.raises(ValueError, match="10 x 2001: one side is over 200 times the other"):
        smart_resize(10, 2001)


# Sides on both sides of .5 of a factor, of one factor, and of both bounds.
SIZES = [
    (1080, 2400),
    (42, 70),
    (14, 14),
    (20, 100),
    (27, 29),
    (98, 126),
    (640, 480),
    (333, 777),
    (1400, 31),
    (10, 2000),
]
BOUNDS = [(3136, 12_845_056), (3136, 50_176), (100_352, 301_056), (784, 784)]


@pytest.mark.parametrize("bounds", BOUNDS)
def test_sizes_by_the_real_processor(bounds: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(min_pixels=bounds[0], max_pixels=bounds[1])
    for size in SIZES:
        [grid] = processor(Image.new("RGB", size), return_tensors="pt")["image_grid_thw"].tolist()
        seen = (grid[2] * processor.patch_size, grid[1] * processor.patch_size)
        factor = processor.patch_size * processor.merge_size
        assert smart_resize(*size, factor, *bounds) == seen, size


def test_frames() -> None:
    bounds = (28, 3136, 12_845_056)
    assert seen_size("original", (1080, 2400), None, bounds) is None
    assert seen_size("normalized_1000", (1080, 2400), None, bounds) == (1000, 1000)
    assert seen_size("resized", (1080, 2400), None, bounds) == (1092, 2408)
    assert seen_size("resized", (1080, 2400), (672, 1484), bounds) == (672, 1484)
    assert size_of({"image_size": [0, 5]}, "image_size") is None
    assert size_of({"image_size": (4, 5.5)}, "image_size") == (4, 5.5)
