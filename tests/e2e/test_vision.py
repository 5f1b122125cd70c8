"""A step of a vision-language policy: images go through the real processor, rewards are what `rlrules score` gives."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.tokenizers import load_tokenizer
from rlrules.images import image_part, open_image, references
from rlrules.models import TINY_VLM, resolve_model
from rlrules.recipe.arguments import training_arguments
from rlrules.recipe.checks import check_training
from rlrules.recipe.load import load_recipe
from rlrules.training import sft
from rlrules.training.job import Job
from tests.e2e.training import ROOT, lines, run, write_recipe
from tests.fakes.openai_server import FakeServer, prompt_of

pytestmark = pytest.mark.e2e

BOUNDS = {"min_pixels": 3136, "max_pixels": 12_845_056}


def test_a_puzzle_goes_the_whole_way(tmp_path: Path) -> None:
    ranks = 2
    recipe = write_recipe(
        tmp_path,
        Path(TINY_VLM),
        model={"name": TINY_VLM, **BOUNDS},
        data={
            "train": {
                "type": "jigsaw",
                "images": {"type": "synthetic", "count": 8, "width": 93, "height": 70},
                "stages": [{"m": 2, "n": 1, "prompts": 8}],
                "question": "pair",
                "think": False,
            }
        },
        # A random model answers no puzzle: the second reward is what it can learn from.
        rewards={"jigsaw": {"type": "jigsaw", "think": False}, "low": {"type": "regex", "pattern": ".*[a-m].*"}},
        objective={"type": "weighted_sum", "weights": {"jigsaw": 1, "low": 1}},
        training={"max_steps": 2, "save_steps": 2, "shuffle_dataset": False, "learning_rate": 1e-2, "top_k": 50},
    )
    code, output = run(tmp_path, recipe, ranks=ranks)
    assert code == 0, output
    folder = tmp_path / "runs/run"
    logged = lines(folder / "completions.jsonl")
    assert [line["id"] for line in logged[::4]] == [str(number) for number in range(2 * ranks)]
    assert max(len(json.dumps(line)) for line in logged) < 4000, "pixels in the log"
    assert len({line["reward"] for line in logged}) > 1

    scored = tmp_path / "scored.jsonl"
    result = CliRunner().invoke(app, ["score", str(recipe), str(folder / "completions.jsonl"), "-o", str(scored)])
    assert result.exit_code == 0, result.output
    for key in ("scores", "reward", "details"):
        assert [line[key] for line in lines(scored)] == [line[key] for line in logged]
    advantages = [[line["advantage"] for line in part] for part in (lines(scored), logged)]
    assert advantages[0] == pytest.approx(advantages[1], abs=1e-6)

    before = load_file(Path(resolve_model(TINY_VLM)) / "model.safetensors")
    after = load_file(folder / "model/model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    seeing = {name for name in before if "visual" in name}
    assert moved & seeing and moved - seeing
    _images_fit(logged, load_tokenizer(str(folder / "model"), pixels=(BOUNDS["min_pixels"], BOUNDS["max_pixels"])))


def test_rows_of_text_beside_rows_with_images_on_two_ranks(tmp_path: Path) -> None:
    scene = {"type": "scene", "width": 93, "height": 70, "seed": 0}
    with (tmp_path / "rows.jsonl").open("w") as file:
        for number in range(8):
            text = {"type": "text", "text": f"What is in place {number}?"}
            # At each step one rank has images and one has none.
            parts = [text] if number % 2 else [image_part({**scene, "index": number}), text]
            file.write(json.dumps({"prompt": [{"role": "user", "content": parts}]}) + "\n")
    recipe = write_recipe(
        tmp_path,
        Path(TINY_VLM),
        model={"name": TINY_VLM, **BOUNDS},
        data={"train": {"type": "prompts", "path": str(tmp_path / "rows.jsonl")}},
        rewards={"low": {"type": "regex", "pattern": ".*[a-m].*"}},
        objective={"type": "weighted_sum", "weights": {"low": 1}},
        training={"max_steps": 2, "save_steps": 2, "shuffle_dataset": False, "learning_rate": 1e-2, "top_k": 50},
    )
    code, output = run(tmp_path, recipe, ranks=2)
    assert code == 0, output
    logged = lines(tmp_path / "runs/run/completions.jsonl")
    assert [bool(references(line["prompt"])) for line in logged] == [True] * 4 + [False] * 4 + [True] * 4 + [False] * 4
    code, output = run(tmp_path, recipe, "name=sharded", ranks=2, config="zero2", launcher=["--mixed_precision", "no"])
    assert code != 0 and "data.train: 4 of 8 rows hold no image, and DEEPSPEED would wait for ever" in output


def test_a_resumed_curriculum_goes_on_where_it_was(tmp_path: Path) -> None:
    # Two prompts a step, and a stage that ends in the middle of the third: after the checkpoint that is gone on from.
    stages = [{"m": 2, "n": 1, "prompts": 5}, {"m": 3, "n": 1, "prompts": 11}]
    images = {"type": "synthetic", "count": 4, "width": 64, "height": 84}
    recipe = write_recipe(
        tmp_path,
        Path(TINY_VLM),
        model={"name": TINY_VLM, **BOUNDS},
        data={"train": {"type": "jigsaw", "images": images, "stages": stages, "think": False, "swap": False}},
        rewards={"jigsaw": {"type": "jigsaw", "think": False}, "low": {"type": "regex", "pattern": ".*[a-m].*"}},
        objective={"type": "weighted_sum", "weights": {"jigsaw": 1, "low": 1}},
        training={"max_steps": 4, "save_steps": 2, "shuffle_dataset": False, "per_device_train_batch_size": 8},
    )
    code, output = run(tmp_path, recipe)
    assert code == 0, output
    folder = tmp_path / "runs/run"
    whole = lines(folder / "completions.jsonl")
    assert [line["id"] for line in whole[::4]] == [str(number) for number in range(8)]
    assert [line["m"] for line in whole[::4]] == [2] * 5 + [3] * 3

    before = load_file(folder / "model/model.safetensors")
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "checkpoints/checkpoint-4")
    code, output = run(tmp_path, recipe, "--resume", "auto")
    assert code == 0 and "going on from runs/run/checkpoints/checkpoint-2" in output, output
    assert lines(folder / "completions.jsonl") == whole
    after = load_file(folder / "model/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_judge_of_reasoning_learns_from_what_it_sees(tmp_path: Path) -> None:
    scene = {"type": "scene", "width": 93, "height": 70, "seed": 0}
    asked = tmp_path / "completions.jsonl"
    with asked.open("w") as file:
        for number in range(4):
            text = {"type": "text", "text": f"What is in place {number}?"}
            # Every other row is of text alone, so that at each step one rank has an image and one has none.
            parts = [text] if number % 2 else [image_part({**scene, "index": number}), text]
            thought = f"<think>worth 0.{number}</think><answer>so</answer>"
            file.write(json.dumps({"prompt": [{"role": "user", "content": parts}], "completion": thought}) + "\n")
    with FakeServer(lambda request: re.findall(r"worth (0\.\d)", prompt_of(request))[-1]) as server:
        judge = {"type": "openai", "urls": [server.url], "model": "fake", "cache": False}
        config = tmp_path / "config.yaml"
        config.write_text(
            json.dumps({"judge": judge, "data": {"type": "conversations", "path": str(asked)}, "held_out": 0})
        )
        made = CliRunner().invoke(app, ["data", "thinking", str(config), "-o", str(tmp_path / "runs/thinking")])
    assert made.exit_code == 0, made.output
    assert len(lines(tmp_path / "runs/thinking/train.jsonl")) == 4

    overrides = [
        f"model.name={TINY_VLM}", "training.max_steps=2", "training.save_steps=2", "training.learning_rate=1e-2",
        "training.max_length=4096", "training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=1",
        "training.train_sampling_strategy=sequential",
    ]  # fmt: skip
    recipe = ROOT / "recipes/cpu/thinking_reward_model.yaml"
    code, output = run(tmp_path, recipe, *overrides, ranks=2)
    assert code == 0, output
    assert "2 ranks; an optimiser step is 2 examples; 4 examples; a new run" in output
    logged = [line["loss"] for line in lines(tmp_path / "runs/thinking_reward_model/metrics.jsonl") if "loss" in line]
    before, after = (
        load_file(folder / "model.safetensors")
        for folder in (Path(resolve_model(TINY_VLM)), tmp_path / "runs/thinking_reward_model/model")
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    seeing = {name for name in before if "visual" in name}
    assert moved & seeing and moved - seeing

    # One rank that has all of a step's rows in one batch gets the same losses.
    source = {"train": {"type": "conversations", "path": str(tmp_path / "runs/thinking/train.jsonl")}}
    loaded = load_recipe(recipe, [*overrides, f"data={json.dumps(source)}", "training.per_device_train_batch_size=2"])
    arguments = training_arguments(loaded, tmp_path / "alone")
    trainer = sft.make_trainer(Job(loaded.recipe, arguments, check_training(loaded, arguments), None, []))
    trainer.train()
    alone = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert logged == pytest.approx(alone, abs=1e-4) and len(logged) == 2


def _images_fit(logged: list[dict[str, Any]], processor: Any) -> None:
    """What the log refers to is what the model saw: the same image again, and its grid in patches of 14 pixels."""
    for line in logged[::4]:
        [reference] = references(line["prompt"])
        image = open_image(reference)
        assert np.array_equal(np.asarray(image), np.asarray(open_image(json.loads(json.dumps(reference)))))
        # 93 columns cannot be halved: 92, and both are nearest to 84; 70 is nearest to 56 (half-way, to the even one).
        assert image.size == ((93, 70) if line["m"] == 2 else (92, 70))
        chat = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "?"}]}]
        made = processor.apply_chat_template([chat], tokenize=True, return_dict=True)
        assert [int(count) * 14 for count in made["image_grid_thw"][0][1:]] == [56, 84]
