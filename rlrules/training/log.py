"""The run directory: recipe.yaml, metrics.jsonl, completions.jsonl, checkpoints/, model/, eval/, report.html."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlrules.data.rows import read_jsonl

METRICS, COMPLETIONS, RECIPE, EVALUATIONS = "metrics.jsonl", "completions.jsonl", "recipe.yaml", "eval"


class RunLog:
    """Writes a run's lines; each is flushed as it is written, so that a killed run keeps all but its last.

    Args:
        folder: The run directory.
        resumed_at: Step of the checkpoint that the run continues from. Lines and evaluations of later steps are taken
            out first: these steps will happen again.
    """

    def __init__(self, folder: Path, resumed_at: int = 0) -> None:
        self.folder = folder
        for name in (METRICS, COMPLETIONS):
            _keep_until(folder / name, resumed_at)
        for result in folder.glob(f"{EVALUATIONS}/*/step-*"):
            step = result.name.partition("-")[2]
            if step.isdecimal() and int(step) > resumed_at:
                shutil.rmtree(result)

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line of metrics."""
        self._append(METRICS, [{"step": step, **values}])

    def completions(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append one line per completion."""
        self._append(COMPLETIONS, records)

    def _append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=True, default=str) + "\n" for record in records)


def result_folder(run: Path, name: str, step: int) -> Path:
    """Where the result of an evaluation lies; a run that is resumed and goes further has several."""
    return run / EVALUATIONS / name / f"step-{step}"


def _keep_until(path: Path, step: int) -> None:
    if not path.exists():
        return
    # The last line of a killed run may be half a line.
    text = path.read_text("utf-8")
    if not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], "utf-8")
    kept = [line for _, line in read_jsonl(path) if line.get("step", 0) <= step]
    draft = path.with_suffix(".draft")
    draft.write_text("".join(json.dumps(line, ensure_ascii=True) + "\n" for line in kept), "utf-8")
    draft.replace(path)
