"""Outputs that look made for the judge: its frame imitated, or one output to many instructions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

REPEATED = 5
_SHORTEST = 12


def attacks(outputs: Mapping[str, str], frame: Sequence[str]) -> dict[str, Any]:
    """What to look at by eye.

    Args:
        outputs: By key.
        frame: Lines of the judge's template.

    Returns:
        `framed`, keys of outputs that hold a line of the template, and `repeated`, how many instructions got an
        output that at least five got.
    """
    marks = {line for line in frame if len(line) >= _SHORTEST}
    counts = Counter(output for output in outputs.values() if output.strip())
    return {
        "framed": [key for key, output in outputs.items() if any(mark in output for mark in marks)],
        "repeated": sum(count for count in counts.values() if count >= REPEATED),
    }
