"""Rows with and without images to fine-tune on, and what the tiny vision-language model makes of them by hand."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rlrules.images import image_part


@dataclass(frozen=True)
class Shown:
    """A row: its images' sizes as they are and as grids of patches of 14 pixels, its question and its answer."""

    sizes: tuple[tuple[int, int], ...]
    grids: tuple[tuple[int, int], ...]
    question: str
    answer: str


# Sides go to the nearest multiple of 28: 93 to 84, 70 (half-way) to the even one, 56; 150 to 140, 60 to 56; 28 x 28 is
# under 3136 pixels, and enlarged to 56 x 56.
SHOWN = (
    Shown(((93, 70),), ((4, 6),), "How good is it?", "0.3"),
    Shown((), (), "And without a picture?", "0.7"),
    Shown(((150, 60), (28, 28)), ((4, 10), (4, 4)), "Which of both?", "The first, by far."),
    Shown((), (), "Nothing to see?", "No."),
)


def write_rows(folder: Path, *shown: Shown) -> Path:
    """A file of rows of `{type: conversations}` and its images."""
    lines = []
    for number, one in enumerate(shown):
        parts: list[dict[str, Any]] = []
        for place, size in enumerate(one.sizes):
            path = folder / f"{number}_{place}.png"
            pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(number))
            Image.fromarray(pixels.byte().numpy()).save(path)
            parts.append(image_part(str(path)))
        content = [*parts, {"type": "text", "text": one.question}] if parts else one.question
        lines.append({"prompt": [{"role": "user", "content": content}], "completion": one.answer})
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "rows.jsonl"


def token_losses(model: Path, folder: Path, *shown: Shown) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each row alone, from explicit logits: losses and entropies of its answer's tokens, each of shape (T,)."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = Qwen2_5_VLForConditionalGeneration.from_pretrained(model).eval()
    images = Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=448 * 448)
    found = []
    for number, one in enumerate(shown):
        # Four patches are one token.
        places = ["<|vision_start|>" + "<|image_pad|>" * (h * w // 4) + "<|vision_end|>" for h, w in one.grids]
        prompt = f"<|im_start|>user\n{''.join(places)}{one.question}<|im_end|>\n<|im_start|>assistant\n"
        asked, written = (tokenizer(text)["input_ids"] for text in (prompt, f"{one.answer}<|im_end|>"))
        ids = torch.tensor([asked + written])
        given: dict[str, Any] = {}
        if one.grids:
            pictures = [Image.open(folder / f"{number}_{place}.png") for place in range(len(one.grids))]
            given = {
                "pixel_values": torch.as_tensor(images(pictures, return_tensors="pt")["pixel_values"]),
                "image_grid_thw": torch.tensor([[1, *grid] for grid in one.grids]),
                "mm_token_type_ids": (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int(),
            }
        with torch.no_grad():
            logits = network(input_ids=ids, attention_mask=torch.ones_like(ids), **given).logits[0]
        every = logits[len(asked) - 1 : -1].log_softmax(-1)
        losses = -every.gather(1, torch.tensor(written)[:, None])[:, 0]
        found.append((losses, -(every.exp() * every).sum(-1)))
    return found
