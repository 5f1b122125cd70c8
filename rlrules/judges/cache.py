"""Every answer a judge ever gave, by the content of the question: asked once, paid once.

SQLite in WAL mode: several processes share one file, and a process killed in mid-write loses at most its last row.
"""

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rlrules.errors import JudgeError
from rlrules.judges.base import Answer, Question

logger = logging.getLogger(__name__)

BUSY_S = 10.0
_FIELDS = tuple(field.name for field in fields(Answer))


def answer_key(judge: Sequence[str], question: Question) -> str:
    """Hash of everything that can change the answer; `temperature` and `max_tokens` must be filled in."""
    fields = [
        judge,
        question.template,
        question.messages,
        question.labels,
        question.schema,
        question.temperature,
        question.max_tokens,
        question.draw,
    ]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """An append-only table of answers in one file.

    Args:
        path: The database; it is made with its folder where it does not exist.

    Raises:
        JudgeError: The file is not a usable database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pid = -1
        self._complained = False
        self._connect()

    def get(self, key: str) -> Answer | None:
        """The answer kept under `key`, marked as cached, or None."""
        try:
            with self._lock:
                row = self._connect().execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._complain(error)
            return None
        try:
            return None if row is None else Answer(**{**json.loads(row[0]), "cached": True})
        except (ValueError, TypeError):
            return None  # Kept by another version of this package: as good as unknown.

    def put(self, key: str, answer: Answer) -> None:
        """Keep `answer`; the first one under a key stays."""
        text = json.dumps({name: getattr(answer, name) for name in _FIELDS}, separators=(",", ":"))
        try:
            with self._lock:
                self._connect().execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, text))
        except sqlite3.Error as error:
            self._complain(error)

    def __len__(self) -> int:
        with self._lock:
            count: int = self._connect().execute("SELECT count(*) FROM answers").fetchone()[0]
        return count

    def _complain(self, error: sqlite3.Error) -> None:
        # A full disk or a damaged file costs repeated questions, not the run: the answer at hand is still good.
        if not self._complained:
            logger.warning("judge cache %s: %s; going on without it", self.path, error)
        self._complained = True

    def _connect(self) -> sqlite3.Connection:
        # A connection must not cross a fork: a child process opens its own.
        if self._pid != os.getpid():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = _open(self.path)
            except (sqlite3.Error, OSError) as error:
                raise JudgeError(
                    f"judge cache {self.path}: {error}; move the file away, or set the judge's `cache` to another"
                ) from error
            self._pid = os.getpid()
        return self._connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # Processes that make the file at the same moment find it locked at once: SQLite waits for all but this.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
    return connection
