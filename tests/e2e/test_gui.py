"""A step of a GUI agent: screens go through the real processor, and what is rewarded is what `rlrules score` gives."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.tokenizers import load_tokenizer
from rlrules.images import open_image, references
from rlrules.models import TINY_VLM, resolve_model
from rlrules.rewards.gui_frames import smart_resize
from tests.e2e.training import ROOT, ended, launch, lines, run

pytestmark = pytest.mark.e2e

PIXELS = (3136, 50_176)
GOLDEN = json.loads((ROOT / "tests/golden/ui_r1.json").read_text())
# Of type, coordinate and format, 3 to 0 points.
ANSWERS = {
    3: "<think>x</think><answer>[{'action': 'click', 'coordinate': [15, 15]}]</answer>",
    2: "<think>x</think><answer>[{'action': 'click', 'coordinate': [25, 25]}]</answer>",
    1: "<think>x</think><answer>[{'action': 'scroll'}]</answer>",
    0: "I would click there.",
}


def test_lengths_are_rewarded_alike_on_one_rank_and_on_two(tmp_path: Path) -> None:
    cases = [case for case in GOLDEN["dast"] if len(case["lengths"]) == 4][:4]
    row = {"action": "click", "bbox": [10, 10, 20, 20], "image_size": [280, 280]}
    groups = [
        {"row": row, "texts": [ANSWERS[points] for points in case["rewards"]], "lengths": case["lengths"]}
        for case in cases
    ]
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps({"reward": {"type": "gui", "think": True, "length": "dast"}, "groups": groups}))
    made = []
    for ranks in (1, 2):
        script = [str(ROOT / "tests/e2e/scored_on_ranks.py"), str(asked), str(tmp_path / f"on_{ranks}")]
        code, output = ended(launch(tmp_path, script, ranks=ranks))
        assert code == 0, output
        logged = lines(tmp_path / f"on_{ranks}/completions.jsonl")
        assert [line["tokens"] for line in logged] == [length for case in cases for length in case["lengths"]]
        values = [line["scores"]["reward"] for line in logged]
        assert values == pytest.approx([total for case in cases for total in case["totals"]], abs=1e-4)
        made.append([{**line, "group": ""} for line in logged])
    assert made[0] == made[1]


def test_a_step_on_screens(tmp_path: Path) -> None:
    # A random model answers nothing: the second reward is what it can learn from.
    recipe = tmp_path / "recipe.yaml"
    added = {
        "base": str(ROOT / "recipes/cpu/ui_r1_efficient_1.yaml"),
        "name": "run",
        "rewards": {"low": {"type": "regex", "pattern": ".*[a-m].*"}},
        "objective": {"weights": {"low": 1}},
        "training": {"max_completion_length": 8, "learning_rate": 1.0e-2},
    }
    recipe.write_text(json.dumps(added))
    code, output = run(tmp_path, recipe)
    assert code == 0, output
    folder = tmp_path / "runs/run"
    logged = lines(folder / "completions.jsonl")
    assert len(logged) == 16 and len({line["reward"] for line in logged}) > 1
    for line in logged:
        parts = line["details"]["gui"]
        assert line["scores"]["gui"] == parts["type"] + parts["coordinate"] + parts["format"] + parts["length"]
        assert line["action"] == "click" and line["bbox"] is not None

    scored = tmp_path / "scored.jsonl"
    result = CliRunner().invoke(app, ["score", str(recipe), str(folder / "completions.jsonl"), "-o", str(scored)])
    assert result.exit_code == 0, result.output
    for key in ("scores", "reasons", "details", "reward"):
        assert [line[key] for line in lines(scored)] == [line[key] for line in logged]

    before = load_file(Path(resolve_model(TINY_VLM)) / "model.safetensors")
    after = load_file(folder / "model/model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    seeing = {name for name in before if "visual" in name}
    assert moved & seeing and moved - seeing, "image encoder and language model are both trained"

    processor = load_tokenizer(str(folder / "model"), pixels=PIXELS)
    read = 0
    for line in logged[:8]:
        [reference] = references(line["prompt"])
        image = open_image(reference)
        assert list(image.size) == line["image_size"] == [168, 336]
        [picture, text] = line["prompt"][0]["content"]
        chat = [{"role": "user", "content": [{"type": picture["type"], "image": image}, text]}]
        made = processor.apply_chat_template([chat], tokenize=True, return_dict=True, add_generation_prompt=True)
        seen = [int(count) * 14 for count in made["image_grid_thw"][0][1:]]
        # 56,448 pixels are over the bound: shrunk by sqrt(56448 / 50176), 158 and 316, to multiples of 28 below.
        assert seen[::-1] == list(smart_resize(*image.size, 28, *PIXELS)) == [140, 308]
        read += len(made["input_ids"][0]) + line["tokens"]
    # What the trainer counts is what it fed: image tokens as many as that grid has.
    assert lines(folder / "metrics.jsonl")[0]["num_tokens"] == read
