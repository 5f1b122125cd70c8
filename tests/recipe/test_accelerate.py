"""The launch configurations, held to accelerate's own classes and launcher; and what their scripts start."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import ComputeEnvironment, DistributedType
from ruamel.yaml import YAML

FOLDER = Path(__file__).parents[2] / "recipes/accelerate"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
ZERO = {"zero2": 2, "zero3": 3, "zero3_offload": 3, "multi_node": 3}


def config(name: str) -> ClusterConfig:
    loaded = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(loaded, ClusterConfig)
    return loaded


def test_all_are_there() -> None:
    assert {path.stem for path in CONFIGS} == {"cpu", "single", "multi_gpu", *ZERO}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_takes_each_as_it_is_written(path: Path) -> None:
    found = config(path.stem)
    for key, value in YAML(typ="safe", pure=True).load(path.read_text()).items():
        kept: Any = getattr(found, key)
        assert (kept.value if isinstance(kept, DistributedType | ComputeEnvironment) else kept) == value, key
    # Where it is true accelerate starts one process, whatever else is said.
    assert not found.use_cpu
    assert found.num_processes % found.num_machines == 0


@pytest.mark.parametrize(("name", "stage"), ZERO.items())
def test_deepspeed(name: str, stage: int) -> None:
    found = config(name)
    assert found.distributed_type == DistributedType.DEEPSPEED
    offloaded = "cpu" if name == "zero3_offload" else "none"
    assert found.deepspeed_config == {
        "zero_stage": stage,
        "offload_optimizer_device": offloaded,
        "offload_param_device": offloaded,
        "zero3_init_flag": stage == 3,
        # A model of sharded weights could not be saved whole otherwise.
        **({"zero3_save_16bit_model": True} if stage == 3 else {}),
        "deepspeed_multinode_launcher": "standard",
    }


def test_the_launcher_starts_what_each_says() -> None:
    for name, kind, ranks, machines in (
        ("single", "NO", 1, 1),
        ("multi_gpu", "MULTI_GPU", 8, 1),
        ("cpu", "MULTI_GPU", 1, 1),
        ("zero2", "DEEPSPEED", 8, 1),
        ("zero3_offload", "DEEPSPEED", 8, 1),
        ("multi_node", "DEEPSPEED", 16, 2),
    ):
        arguments = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), "train.py"])
        launched, found, _ = _validate_launch_command(arguments)
        assert (found.distributed_type, launched.num_processes, launched.num_machines) == (kind, ranks, machines)
        assert (launched.use_deepspeed, launched.multi_gpu) == (kind == "DEEPSPEED", kind == "MULTI_GPU"), name


def started(folder: Path, *arguments: str, **environment: str) -> list[list[str]]:
    """What slurm.sh starts on each of two nodes of four GPUs, by stand-ins for Slurm's commands and accelerate."""
    tools = folder / "bin"
    tools.mkdir()
    written = {
        "scontrol": "printf 'a1\\na2\\n'",
        "srun": 'while [[ $1 == --* ]]; do shift; done; SLURM_PROCID=0 "$@"; SLURM_PROCID=1 "$@"',
    }
    (folder / ".venv/bin").mkdir(parents=True)
    for path, text in {
        **{tools / name: text for name, text in written.items()},
        folder / ".venv/bin/accelerate": "",
    }.items():
        path.write_text("#!/usr/bin/env bash\n" + (text or 'printf "%s\\t" "$@"; trap -p TERM'))
        path.chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "a[1-2]", "SLURM_JOB_ID": "4077", "SLURM_GPUS_ON_NODE": "4"}
    done = subprocess.run(
        ["bash", str(FOLDER / "slurm.sh"), *arguments],
        cwd=folder,
        env={"PATH": f"{tools}:/usr/bin:/bin", **slurm, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_slurm_starts_one_launcher_a_node(tmp_path: Path) -> None:
    first, second = started(tmp_path, "recipes/x.yaml", "rewards={a: null, b: null}")
    for rank, line in enumerate((first, second)):
        launched = launch_command_parser().parse_args(
            [part for part in line[1:] if part and not part.startswith("trap")]
        )
        assert line[0] == "launch" and launched.config_file == "recipes/accelerate/multi_node.yaml"
        assert (launched.num_machines, launched.num_processes, launched.machine_rank) == (2, 8, rank)
        assert (launched.main_process_ip, launched.main_process_port) == ("a1", 29577)
        assert launched.training_script == "scripts/train.py"
        assert launched.training_script_args == ["recipes/x.yaml", "rewards={a: null, b: null}", "--resume", "auto"]
        # Ignored by the launcher: only its ranks are to hear that time is up.
        assert line[-1] == "trap -- '' SIGTERM"


def test_slurm_with_another_configuration(tmp_path: Path) -> None:
    [first, _] = started(tmp_path, "recipes/x.yaml", CONFIG="zero2")
    assert "recipes/accelerate/zero2.yaml" in first
