"""Checkpoints of models that are saved under other names than their modules have."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Qwen2_5_VLForConditionalGeneration
from trl import SFTConfig

from rlrules.data.tokenizers import load_tokenizer
from rlrules.tiny_vlm import TinyVLM, write_tiny_vlm
from rlrules.training.sft import RulesSFTTrainer
from rlrules.training.weights import saved_names
from tests.training.tiny import tiny_qwen


def make(model: Path, folder: Path, **changes: Any) -> RulesSFTTrainer:
    arguments = SFTConfig(
        output_dir=str(folder), max_steps=2, save_steps=1, learning_rate=1e-2, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", disable_tqdm=True, per_device_train_batch_size=1, **changes,
    )  # fmt: skip
    rows = Dataset.from_list([{"input_ids": [5, 6, 7, n], "labels": [-100, 6, 7, n]} for n in range(8, 12)])
    tokenizer = load_tokenizer(str(model))
    return RulesSFTTrainer(
        model=str(model), args=arguments, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    write_tiny_vlm(folder, TinyVLM(hidden=32))
    return folder


@pytest.mark.parametrize("shard", [None, "100KB"])
def test_a_resumed_run_goes_on_from_the_checkpoints_weights(tmp_path: Path, model: Path, shard: str | None) -> None:
    whole = make(model, tmp_path / "out")
    whole.train()
    first = tmp_path / "out/checkpoint-1"
    if shard:
        # Larger models are saved in parts.
        saved = Qwen2_5_VLForConditionalGeneration.from_pretrained(first)
        (first / "model.safetensors").unlink()
        saved.save_pretrained(first, max_shard_size=shard)
        assert len(list(first.glob("model-*.safetensors"))) > 1
    names = saved_names(first)
    assert names and not names & set(whole.model.state_dict()), "transformers saves and loads it by the same names now"
    broken = make(model, tmp_path / "again")
    begun = weights(broken.model)
    broken._load_from_checkpoint(str(first))
    loaded = weights(broken.model)
    assert not same(begun, loaded)
    assert same(loaded, weights(Qwen2_5_VLForConditionalGeneration.from_pretrained(first)))
    broken = make(model, tmp_path / "again")
    broken.train(resume_from_checkpoint=str(first))
    assert same(weights(broken.model), weights(whole.model))


def test_the_best_model_is_the_best_checkpoints(tmp_path: Path, model: Path) -> None:
    # The loss falls: called the better the greater it is, it makes the first checkpoint the best one.
    found = make(
        model, tmp_path, load_best_model_at_end=True, eval_strategy="steps", eval_steps=1, metric_for_best_model="loss",
        greater_is_better=True,
    )  # fmt: skip
    found.train()
    losses = [line["eval_loss"] for line in found.state.log_history if "eval_loss" in line]
    assert losses[0] > losses[1] and found.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    best = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "checkpoint-1")
    assert same(weights(found.model), weights(best))


def test_other_models_are_left_to_transformers(tmp_path: Path) -> None:
    policy = tiny_qwen(tmp_path / "qwen")
    found = make(policy, tmp_path / "out")
    assert saved_names(policy) <= set(found.model.state_dict()) and not found._loaded(policy)
    assert saved_names(tmp_path / "out") == set()
