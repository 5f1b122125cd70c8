"""A tiny Qwen3 with the embedded model's tokenizer, and batches made by hand, for tests of losses."""

from pathlib import Path

import torch

from rlrules.models import resolve_model
from tests.e2e.training import EMBEDDED


def tiny_qwen(folder: Path) -> Path:
    """A random two-layer Qwen3."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(EMBEDDED))
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config)
        # Far from uniform, so that tokens differ in entropy and in probability.
        model.model.embed_tokens.weight.data *= 10
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def grpo_inputs(rows: int = 4, length: int = 6, prompt: int = 3) -> dict[str, torch.Tensor]:
    """A micro-batch as TRL's `_compute_loss` gets it, completions of unequal lengths."""
    draw = torch.Generator().manual_seed(1)
    lengths = torch.arange(rows) % (length - 1) + 2
    mask = (torch.arange(length)[None] < lengths[:, None]).long()
    return {
        "prompt_ids": torch.randint(5, 200, (rows, prompt), generator=draw),
        "prompt_mask": torch.ones(rows, prompt, dtype=torch.long),
        "completion_ids": torch.randint(5, 200, (rows, length), generator=draw),
        "completion_mask": mask,
        "advantages": torch.randn(rows, generator=draw),
        "num_items_in_batch": mask.sum(),
    }


def logps_and_entropies(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the completion's tokens from explicit logits, each of shape (B, T)."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    start = inputs["prompt_ids"].size(1) - 1
    every = model(input_ids=ids, attention_mask=attention).logits[:, start:-1].float().log_softmax(-1)
    chosen = every.gather(-1, inputs["completion_ids"][..., None])[..., 0]
    return chosen, -(every.exp() * every).sum(-1)
