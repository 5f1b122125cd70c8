"""An extraction in a process of its own, with a slow scripted judge that notes every call; to be killed."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from rlrules.judges import Answer, Judge, Question, Usage
from rlrules.judges.base import JudgeConfig
from rlrules.judges.cache import AnswerCache
from rlrules.rules.pipeline import run_extraction
from tests.rules.scripted import about, config, kind, preferences, well


class NotingBackend:
    """Writes what each question is about to a file before it answers."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._slots = asyncio.Semaphore(4)

    async def complete(self, question: Question) -> Answer:
        async with self._slots:
            digest = hashlib.sha256(str(question.messages).encode()).hexdigest()[:16]
            subject = digest if kind(question) == "merge" else about(question)
            os.write(self._file, f"{kind(question)} {subject}\n".encode())
            await asyncio.sleep(0.002)
        reply = well(question)
        assert not isinstance(reply, Exception)
        return Answer(reply) if isinstance(reply, str) else reply

    async def close(self) -> None:
        pass


def main(folder: Path, calls: Path, cached: bool) -> None:
    cache = AnswerCache(folder.parent / f"{folder.name}.sqlite") if cached else None
    judge = Judge("teacher", JudgeConfig(model="scripted"), NotingBackend(calls), cache, Usage())
    asyncio.run(run_extraction(config(chunk=20), preferences(150), judge, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "cached")
