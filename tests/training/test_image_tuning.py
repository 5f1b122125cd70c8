"""Fine-tuning on rows with images, on a tiny Qwen2.5-VL: against losses from explicit logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType

from rlrules.errors import RecipeError, TrainingError
from rlrules.recipe.arguments import training_arguments
from rlrules.recipe.checks import check_training
from rlrules.recipe.estimate import estimate
from rlrules.recipe.load import load_recipe
from rlrules.tiny_vlm import TinyVLM, write_tiny_vlm
from rlrules.training import sft
from rlrules.training.images import in_column
from rlrules.training.job import Job
from rlrules.training.mixed_rows import refuse_waiting
from tests.training.image_rows import SHOWN, Shown, token_losses, write_rows
from tests.training.tiny import tiny_qwen

BARE, OTHER = SHOWN[1], SHOWN[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    write_tiny_vlm(folder, TinyVLM(hidden=32))
    return folder


def write(folder: Path, model: Path, *shown: Shown, **changes: Any) -> Any:
    source = {"type": "conversations", "path": str(write_rows(folder, *shown))}
    training = {
        "per_device_train_batch_size": len(shown), "max_steps": 1, "learning_rate": 1e-3, "bf16": False,
        "gradient_checkpointing": False, "save_strategy": "no", **changes.pop("training", {}),
    }  # fmt: skip
    data = {"train": source, **changes.pop("data", {})}
    sections = {"method": "sft", "model": {"name": str(model)}, "data": data, "training": training, **changes}
    (folder / "r.yaml").write_text(json.dumps(sections, indent=1))
    return load_recipe(folder / "r.yaml")


def make(folder: Path, model: Path, *shown: Shown, **changes: Any) -> Any:
    loaded = write(folder, model, *shown, **changes)
    arguments = training_arguments(loaded, folder / "run")
    return sft.make_trainer(Job(loaded.recipe, arguments, check_training(loaded, arguments), None, []))


def problems(folder: Path, model: Path, *shown: Shown, **changes: Any) -> str:
    with pytest.raises(RecipeError) as error:
        make(folder, model, *shown, **changes)
    return str(error.value)


def moved(trainer: Any) -> tuple[bool, bool]:
    """Train; whether any weight of the image encoder, and any of the language model, is another then."""
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    changed = [name for name, value in trainer.model.state_dict().items() if not torch.equal(before[name], value)]
    return any("visual" in name for name in changed), any("visual" not in name for name in changed)


def test_a_step_learns_the_answers_from_what_is_seen(tmp_path: Path, model: Path) -> None:
    trainer = make(tmp_path, model, *SHOWN)
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(len(SHOWN))])
    grids = [[1, *grid] for one in SHOWN for grid in one.grids]
    assert batch["image_grid_thw"].tolist() == grids
    assert len(batch["pixel_values"]) == sum(h * w for _, h, w in grids)
    pads = batch["input_ids"] == trainer.processing_class.image_token_id
    assert pads.sum(1).tolist() == [sum(h * w // 4 for h, w in one.grids) for one in SHOWN]
    # Labels are answers, each with the token that ends it, and nothing behind it.
    said = [trainer.processing_class.tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert said == [f"{one.answer}<|im_end|>" for one in SHOWN]

    assert moved(trainer) == (True, True)
    first = trainer.state.log_history[0]
    known = torch.cat([losses for losses, _ in token_losses(model, tmp_path, *SHOWN)])
    assert first["loss"] == pytest.approx(float(known.mean()), abs=1e-5)
    assert first["num_tokens"] == int(batch["attention_mask"].sum())
    assert first["num_tokens"] == sum(trainer.train_dataset[n]["length"] for n in range(len(SHOWN)))


def test_a_token_weighs_the_same_in_every_micro_batch(tmp_path: Path, model: Path) -> None:
    training = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    trainer = make(tmp_path, model, *SHOWN, training=training)
    trainer.train()
    known = torch.cat([losses for losses, _ in token_losses(model, tmp_path, *SHOWN)])
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(known.mean()), abs=1e-5)


def test_an_image_is_looked_at(tmp_path: Path, model: Path) -> None:
    # The same places, another picture: were pixels lost on the way, the loss would be the same.
    losses = []
    for colour in (0, 255):
        trainer = make(tmp_path, model, SHOWN[0])
        row = trainer.train_dataset[0]
        row["images"] = [row["images"][0].point(lambda _, found=colour: found)]
        losses.append(trainer.compute_loss(trainer.model, trainer.data_collator([row])).item())
    assert abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_selected_tokens_of_rows_with_images(tmp_path: Path, model: Path, keep: float) -> None:
    section = {"coef": 0.8, "keep": keep}
    training = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    strategy = {"train_sampling_strategy": "sequential"}
    trainer = make(tmp_path, model, *SHOWN, entropy_selection=section, training=training | strategy)
    assert moved(trainer) == (True, True)
    found = token_losses(model, tmp_path, *SHOWN)
    kept = []
    for batch in (found[:2], found[2:]):
        losses, entropies = (torch.cat(part) for part in zip(*batch, strict=True))
        order = (losses - 0.8 * entropies).argsort(descending=True)
        kept.append(losses[order[: int(keep * len(losses))]])
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(float(torch.cat(kept).mean()), abs=1e-5)
    assert first["selection/loss"] == pytest.approx(float(torch.cat([one for one, _ in found]).mean()), abs=0.02)


def test_rows_of_text_alone(tmp_path: Path, model: Path) -> None:
    trainer = make(tmp_path, model, BARE, OTHER)
    assert not trainer.sees_images and set(trainer.train_dataset.column_names) == {"input_ids", "labels"}
    assert moved(trainer) == (False, True)
    known = torch.cat([losses for losses, _ in token_losses(model, tmp_path, BARE, OTHER)])
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(known.mean()), abs=1e-5)


def test_held_out_rows_take_the_form_of_the_others(tmp_path: Path, model: Path) -> None:
    (tmp_path / "held_out").mkdir()
    held_out = {"type": "conversations", "path": str(write_rows(tmp_path / "held_out", BARE, OTHER))}
    evaluated = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 2, "learning_rate": 0.0}
    trainer = make(tmp_path, model, SHOWN[0], data={"eval": held_out}, training=evaluated)
    trainer.train()
    [found] = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    known = torch.cat([losses for losses, _ in token_losses(model, tmp_path, BARE, OTHER)])
    assert found == pytest.approx(float(known.mean()), abs=1e-5)


def test_what_is_too_long_is_left_out_whole(tmp_path: Path, model: Path) -> None:
    lengths = [make(tmp_path, model, one).train_dataset[0]["length"] for one in (SHOWN[0], SHOWN[2])]
    assert lengths[0] < lengths[1]
    loaded = write(tmp_path, model, *SHOWN, training={"max_length": lengths[1] - 1})
    rows = check_training(loaded, training_arguments(loaded, tmp_path / "run")).train
    assert len(rows.rows) == 3 and rows.left_out() == "1 by max_length"
    told = dict(estimate(loaded, 1, False, False))
    assert told["tokens"].endswith(f"{max(row['length'] for row in rows.rows)} in the longest")
    at_the_bound = make(tmp_path, model, SHOWN[0], training={"max_length": lengths[0]})
    assert at_the_bound.data_collator([at_the_bound.train_dataset[0]])["input_ids"].shape == (1, lengths[0])


def test_what_does_not_go_with_images_is_told_before_the_run(
    tmp_path: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fields = ("packing", "padding_free", "eval_packing", "shuffle_dataset")
    more = {"pad_to_multiple_of": 8, "train_sampling_strategy": "group_by_length"}
    told = problems(tmp_path, model, *SHOWN, training={**dict.fromkeys(fields, True), **more})
    for field in (*fields, *more):
        assert f"training.{field}: " in told and "with images" in told
    assert len(told.splitlines()) == len(fields) + len(more)
    blind = tiny_qwen(tmp_path_factory.mktemp("qwen"))
    assert "model.name: data.train holds images, and this model sees none" in problems(tmp_path, blind, *SHOWN)

    asked = Shown((), (), "What is <|image_pad|>?", "A token.")
    assert "data.train: data" in (found := problems(tmp_path, model, SHOWN[0], asked))
    assert "row 2: 0 images, and 1 places for them (<|image_pad|>)" in found
    thin = Shown(((4, 900),), ((2, 2),), "How thin?", "Very.")
    assert "row 1: absolute aspect ratio must be smaller than 200" in problems(tmp_path, model, thin)
    write_rows(tmp_path, *SHOWN)
    loaded = write(tmp_path, model, *SHOWN)
    (tmp_path / "2_1.png").unlink()
    with pytest.raises(RecipeError, match=r"row 3: image .*2_1\.png: No such file or directory"):
        check_training(loaded, training_arguments(loaded, tmp_path / "run"))
    line = {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps({**line, "completion": "So."}) + "\n")
    with pytest.raises(RecipeError, match="row 1: an `image_url` in its prompt"):
        check_training(loaded, training_arguments(loaded, tmp_path / "run"))


class Sharing:
    """Ranks that gather gradients part by part."""

    distributed_type = DistributedType.DEEPSPEED
    num_processes = 2


def test_ranks_that_would_wait_for_each_other_are_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = write(tmp_path, model, *SHOWN)
    arguments = training_arguments(loaded, tmp_path / "run")
    job = Job(loaded.recipe, arguments, check_training(loaded, arguments), None, [])
    trainer = sft.make_trainer(job)
    assert trainer.args.ddp_find_unused_parameters is True
    assert make(tmp_path, model, SHOWN[0], SHOWN[2]).args.ddp_find_unused_parameters is False
    said = {"ddp_find_unused_parameters": False}
    assert make(tmp_path, model, *SHOWN, training=said).args.ddp_find_unused_parameters is False
    monkeypatch.setattr(trainer, "accelerator", Sharing())
    with pytest.raises(TrainingError, match=r"data\.train: 2 of 4 rows hold no image, and DEEPSPEED would wait"):
        refuse_waiting(job, trainer, in_column)
    refuse_waiting(job, trainer, lambda row: ["a.png"])
    refuse_waiting(job, trainer, lambda row: None)
