"""A stage's finished items, a line each: a killed run loses none of them and a rerun asks for none again."""

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rlrules.data.rows import read_jsonl
from rlrules.errors import DataError
from rlrules.judges.base import JudgeConfig

Tell = Callable[[str, int, int], None]
"""Told after every item: the stage's name, items finished, items in all."""


def silent(stage: str, done: int, of: int) -> None:
    """Tells nobody."""


class Line(BaseModel):
    """What every line of every stage holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config_sha: str


L = TypeVar("L", bound=Line)


class StageLog(Generic[L]):
    """An append-only JSONL file.

    Args:
        path: The file; it is made with its first line.
        model: What its lines hold.
        config_sha: Hash of all that its lines depend on.

    Raises:
        DataError: A line is malformed, or was made with another configuration.
    """

    def __init__(self, path: Path, model: type[L], config_sha: str) -> None:
        self.path = path
        self.config_sha = config_sha
        self.lines: list[L] = []
        if not path.exists():
            return
        _cut_torn_line(path)
        for number, row in read_jsonl(path):
            found = row.get("config_sha")
            if found != config_sha:
                raise DataError(
                    f"{path}:{number}: config_sha: made with another configuration ({found}, now {config_sha}); "
                    "choose another output folder, or remove this file to start the stage again"
                )
            try:
                self.lines.append(model.model_validate(row))
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"])
                raise DataError(f"{path}:{number}: {field}: {first['msg']}; remove this line") from error

    def append(self, lines: Sequence[L]) -> None:
        """Write `lines`, all of them or, where the process is killed before, none."""
        content = "".join(f"{line.model_dump_json(exclude_none=True)}\n" for line in lines).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write on an unbuffered file: what it took is the kernel's, whatever becomes of the process.
        with self.path.open("ab", buffering=0) as file:
            file.write(content)
        self.lines += lines


def _cut_torn_line(path: Path) -> None:
    # Only a machine that went down in mid-write leaves a line without its end.
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def write_atomically(path: Path, content: str) -> None:
    """Write a whole file, so that its old content or its new content is there at any time.

    Raises:
        DataError: It cannot be written.
    """
    make_place(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def make_place(path: Path) -> None:
    """Make the folder of a file that is to be written.

    Raises:
        DataError: There is a folder of that name, or no folder to write it to.
    """
    if path.is_dir():
        raise DataError(f"{path} cannot be written: it is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {path.parent}: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"{path} cannot be written: {path.parent} takes no files from this user")


I = TypeVar("I")  # noqa: E741


async def each(stage: str, items: Iterable[I], work: Callable[[I], Awaitable[None]], tell: Tell) -> None:
    """Do `work` on all items at once; whoever is asked bounds how many are under way."""
    todo = list(items)
    done = 0

    async def one(item: I) -> None:
        nonlocal done
        await work(item)
        done += 1
        tell(stage, done, len(todo))

    await asyncio.gather(*(one(item) for item in todo))


def content_sha(*parts: object) -> str:
    """Hash of any JSON-like content, 12 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def judge_sha(config: JudgeConfig) -> str:
    """Hash of what can change a judge's answers; where it is served cannot."""
    return content_sha(config.identity(), config.temperature, config.max_tokens)
