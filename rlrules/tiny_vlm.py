"""A vision-language model small enough for two cores, with random weights: Qwen2.5-VL's code from end to end.

It has read nothing and seen nothing. What it is for is the way of the data: processor, image tokens, generation,
log-probabilities and gradients are those of the real model, at a millionth of its cost.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rlrules.processors import without_video

TINY_VERSION = 3
"""Raised with every change to what is written, so that no older folder is taken."""

IMAGE_TOKENS = "<|vision_start|><|image_pad|><|vision_end|>"
_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# A turn's images stand before its text: wherever a part says, the model would see the same tokens.
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}" + IMAGE_TOKENS + "{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TinyVLM(BaseModel):
    """Sizes of a tiny Qwen2.5-VL.

    Images are cut into patches of 14 pixels, four of which become one token, as in the models of full size.
    """

    model_config = ConfigDict(extra="forbid")

    hidden: int = Field(64, ge=16, multiple_of=16, description="Width of both parts.")
    layers: int = Field(2, ge=1, description="Of the language model.")
    vision_layers: int = Field(2, ge=1, description="Of the image encoder.")
    heads: int = Field(4, ge=1, description="Of attention, in both parts.")
    min_pixels: int = Field(56 * 56, ge=28 * 28, description="Smaller images are enlarged.")
    max_pixels: int = Field(448 * 448, ge=28 * 28, description="Larger images are shrunk.")
    seed: int = Field(0, description="Of the weights.")


def write_tiny_vlm(folder: Path, sizes: TinyVLM | None = None, texts: Sequence[str] = (), words: int = 2048) -> None:
    """Write model, tokenizer, processor and chat template, as `from_pretrained` takes them.

    Args:
        folder: Where to.
        sizes: Of the model.
        texts: What the tokenizer learns its phrases from; without any a token is a byte.
        words: Size of its vocabulary at most, special tokens not counted.
    """
    from transformers import Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    sizes = sizes or TinyVLM()
    tokenizer = _tokenizer(texts, words)
    images = Qwen2VLImageProcessorPil(min_pixels=sizes.min_pixels, max_pixels=sizes.max_pixels)
    processor = without_video(Qwen2_5_VLProcessor)(images, tokenizer, chat_template=_TEMPLATE)
    processor.saved_video_config = {"video_processor_type": "Qwen2VLVideoProcessor"}
    _model(tokenizer, sizes).save_pretrained(folder)
    processor.save_pretrained(folder)


def _tokenizer(texts: Sequence[str], words: int) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    # Whole lines may become one token, so that a long prompt costs little, and a short answer is one decision.
    split = pre_tokenizers.Split(Regex(r"\n|[^\n]+"), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=words, initial_alphabet=alphabet))
    # Of no model's own class: that would put its own splitting in the place of this one.
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        additional_special_tokens=list(_SPECIAL),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        bos_token=None,
    )


def _model(tokenizer: Any, sizes: TinyVLM) -> Any:
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in _SPECIAL}
    head = sizes.hidden // sizes.heads
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": sizes.hidden,
            "intermediate_size": 4 * sizes.hidden,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.heads,
            "max_position_embeddings": 4096,
            # Time, height and width each turn a share of a head's pairs, as in the models of full size.
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": _shares(head // 2)},
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": sizes.vision_layers,
            "hidden_size": sizes.hidden,
            "intermediate_size": 4 * sizes.hidden,
            "num_heads": sizes.heads,
            "out_hidden_size": sizes.hidden,
            "fullatt_block_indexes": [sizes.vision_layers - 1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(sizes.seed)
        return Qwen2_5_VLForConditionalGeneration(config)


def _shares(pairs: int) -> list[int]:
    """Qwen2.5-VL's 16:24:24 of a head's pairs, rounded."""
    time = max(1, pairs // 4)
    height = (pairs - time) // 2
    return [time, height, pairs - time - height]
