"""AlpacaEval's length control (Dubois et al. 2024): a logistic model of the preference, read off at equal lengths.

Features of a row: tanh of the difference in length over its deviation, the instruction's difficulty, and 1. The fit
is regularised by rows of the baseline prompted to be verbose and to be concise, whose last feature is 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import Annotations
from rlrules.evaluation.alpaca_inputs import Gamed, check_agreement, read_difficulty, read_gamed
from rlrules.evaluation.files import listed

Floats = NDArray[np.float64]
Variant = Literal["full", "no regulariser", "no difficulty, no regulariser"]

DEFAULT_C = 21.5
GRID = np.logspace(-4, 4, 10)
FOLDS = 5
# Lambda is 0.2 and is shared by the two gamed baselines.
GAMED_WEIGHT = 0.1
LENGTH, DIFFICULTY, BIAS = range(3)
_TRACE = 1e-9


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the fit takes beside the annotations.

    Attributes:
        difficulty: Difficulty of each instruction of the official set; None leaves the feature out.
        gamed: The regulariser's rows; None leaves them out.
    """

    difficulty: Floats | None = None
    gamed: Gamed | None = None

    @property
    def variant(self) -> Variant:
        """Which of the reference's models this is."""
        if self.difficulty is None:
            return "no difficulty, no regulariser"
        return "no regulariser" if self.gamed is None else "full"


def read_inputs(difficulty: Path | None, gamed: Path | None) -> Inputs:
    """Read the fit's two files; without the first, difficulties are those that the second implies.

    Raises:
        DataError: A file is missing or malformed, or the two contradict each other.
    """
    regulariser, implied = read_gamed(gamed) if gamed else (None, None)
    known = read_difficulty(difficulty) if difficulty else implied
    if difficulty and gamed and known is not None and implied is not None:
        check_agreement(known, implied, (difficulty, gamed))
    return Inputs(known, regulariser)


@dataclass(frozen=True, slots=True)
class Design:
    """One model's rows as the fit takes them; n rows of the model, m of the regulariser.

    Attributes:
        difference: Shape (n,): the baseline's length minus the model's, in characters.
        difficulty: Shape (n,): zeros where the feature is left out.
        y: Shape (n,): preference on 0 to 1; NaN rows are left out of the fit, not of the prediction.
        fixed: Shape (m, 2): length feature and difficulty of the regulariser's rows.
        fixed_y: Shape (m,).
    """

    difference: Floats
    difficulty: Floats
    y: Floats
    fixed: Floats
    fixed_y: Floats


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model.

    Attributes:
        coefficients: Length, difficulty, bias.
        C: Inverse strength of the regularisation.
    """

    coefficients: Floats
    C: float


def design(annotations: Annotations, inputs: Inputs, legacy_positions: bool = False) -> Design:
    """Put annotations and the GLM's inputs together.

    Args:
        annotations: One model's rows.
        inputs: Difficulties and regulariser.
        legacy_positions: Take a row's difficulty by its place in the file, as the reference does, which shifts all
            difficulties after a missing row.

    Raises:
        DataError: A row's instruction is unknown, or has no difficulty.
    """
    difference = annotations.length_1 - annotations.length_2
    gamed = inputs.gamed
    fixed = np.zeros((0, 2)) if gamed is None else np.column_stack([np.tanh(gamed.length), gamed.difficulty])
    fixed_y = np.zeros(0) if gamed is None else gamed.preference
    if inputs.difficulty is None:
        return Design(difference, np.zeros(len(annotations)), annotations.y, fixed, fixed_y)
    places = annotations.place if legacy_positions else annotations.prompt
    if places is None:
        if len(annotations) != len(inputs.difficulty):
            raise DataError(
                f"{annotations.model}: {len(annotations)} annotations for {len(inputs.difficulty)} difficulties, and "
                "nothing says which is whose; give the instructions with --eval-set, or --legacy-positions"
            )
        places = annotations.place
    outside = [place for place in places.tolist() if not 0 <= place < len(inputs.difficulty)]
    if outside:
        raise DataError(f"{annotations.model}: no difficulty for instruction {listed(outside)}")
    return Design(difference, inputs.difficulty[places], annotations.y, fixed, fixed_y)


def length_feature(difference: Floats) -> Floats:
    """Difference, squashed by tanh, in units of its own deviation (ddof 1), not centred; shape (n,)."""
    deviation = np.std(difference, ddof=1) if len(difference) > 1 else 0.0
    return np.tanh(difference / deviation) if deviation > 0 else np.zeros(len(difference))


def fit(rows: Design, C: float = DEFAULT_C) -> Fit:
    """Fit by liblinear, whose stopping point the published numbers contain.

    Raises:
        DataError: No row has a preference.
    """
    features, labels, weights = _stacked(rows)
    return Fit(_liblinear(features, labels, weights, C), C)


def fit_cross_validated(rows: Design) -> Fit:
    """The same with C chosen from the grid by 5-fold cross-validation, folds being stable.

    Raises:
        DataError: Too few rows have a preference.
    """
    from sklearn.model_selection import GroupKFold

    features, y, weights = _stacked(rows)
    if len(y) < FOLDS:
        raise DataError(f"{len(y)} rows with a preference cannot be cross-validated in {FOLDS} folds; fix C instead")
    # Both copies of a row in one fold, which the grouping keeps; on undoubled rows a group is a row.
    folds = list(GroupKFold(FOLDS).split(features, groups=np.arange(len(y))))
    losses = np.zeros((len(GRID), FOLDS))
    for place, C in enumerate(GRID):
        for number, (train, test) in enumerate(folds):
            found = _liblinear(features[train], y[train], weights[train], float(C))
            p = np.clip(_sigmoid(features[test] @ found), 1e-15, 1 - 1e-15)
            losses[place, number] = -np.mean(weights[test] * (y[test] * np.log(p) + (1 - y[test]) * np.log(1 - p)))
    return fit(rows, float(GRID[losses.mean(axis=1).argmin()]))


def predict(coefficients: Floats, difficulty: Floats) -> Floats:
    """Probability that the model is preferred at equal lengths; between two models, of coefficients' difference.

    Args:
        coefficients: Shape (..., 3).
        difficulty: Shape (n,).

    Returns:
        Shape (..., n).
    """
    return _sigmoid(coefficients[..., BIAS, None] + coefficients[..., DIFFICULTY, None] * difficulty)


def _stacked(rows: Design) -> tuple[Floats, Floats, Floats]:
    """Features, soft labels and weights of all rows with a label, the regulariser's first."""
    known = ~np.isnan(rows.y)
    if not known.any():
        raise DataError("no annotation has a preference: nothing can be fitted")
    own = np.column_stack([length_feature(rows.difference), rows.difficulty, np.ones(len(rows.y))])[known]
    fixed = np.column_stack([rows.fixed, np.zeros(len(rows.fixed))])
    weights = np.concatenate([np.full(len(fixed), GAMED_WEIGHT), np.ones(len(own))])
    return np.concatenate([fixed, own]), np.concatenate([rows.fixed_y, rows.y[known]]), weights


def _liblinear(features: Floats, y: Floats, weights: Floats, C: float) -> Floats:
    from sklearn.linear_model import LogisticRegression

    # A soft label is two rows: label 1 with the weight y, label 0 with the weight 1 - y.
    model = LogisticRegression(C=C, l1_ratio=1, solver="liblinear", fit_intercept=False, random_state=123)
    labels = np.repeat([1, 0], len(y))
    halves = [weights * y, weights * (1 - y)]
    # liblinear drops rows without weight, and of a label that loses all of them it takes the other for this one.
    halves = [half if half.any() else np.full(len(y), _TRACE) for half in halves]
    model.fit(np.concatenate([features, features]), labels, np.concatenate(halves))
    found: Floats = model.coef_[0]
    return found


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -value)))
