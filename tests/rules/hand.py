"""Verdicts of three rules on six pairs; every number about them in the tests was counted by hand."""

import numpy as np

_CHOSEN = [[1, 1, 1, 0, 1, np.nan], [1, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]]
_REJECTED = [[0, 0, 1, 1, 0, 0], [1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1]]
VERDICTS = np.stack([np.array(_CHOSEN, float).T, np.array(_REJECTED, float).T], axis=1)
