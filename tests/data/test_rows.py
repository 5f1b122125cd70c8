"""Files of rows, and files written whole."""

import gzip
from pathlib import Path

import pytest

from rlrules.data.rows import read_jsonl
from rlrules.data.stage_log import write_atomically
from rlrules.errors import DataError


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    content = '{"a": 1}\r\n\n  \n{"a": "\u00e9\u2028"}'
    for name, data in (("x.jsonl", content.encode()), ("x.jsonl.gz", gzip.compress(content.encode()))):
        (tmp_path / name).write_bytes(data)
        assert list(read_jsonl(tmp_path / name)) == [(1, {"a": 1}), (4, {"a": "\u00e9\u2028"})]


def test_a_gzipped_file_that_ends_early(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-12])
    with pytest.raises(DataError, match=r"x\.jsonl\.gz cannot be read: "):
        list(read_jsonl(tmp_path / "x.jsonl.gz"))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "made" / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "made" / "a.txt", "new \ud800")
    (tmp_path / "made" / "b").mkdir()
    with pytest.raises(DataError, match="b cannot be written: it is a folder"):
        write_atomically(tmp_path / "made" / "b", "new")
    with pytest.raises(DataError, match=r"a\.txt: Not a directory|a\.txt: File exists"):
        write_atomically(tmp_path / "made" / "a.txt" / "c", "new")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["a.txt", "b"]
    assert (tmp_path / "made" / "a.txt").read_text() == "old"
