"""Numbers as JSON."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def as_jsonable(value: Any) -> Any:
    """The same with plain types; a number that is undefined becomes null."""
    if isinstance(value, Mapping):
        return {str(key): as_jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_jsonable(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
