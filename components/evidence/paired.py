"""Two models on the same rows: how far apart they are, and what the rows can show about it.

Arithmetic only, for the gate and the canary alike: knows neither limits nor verdicts, and reads no file. The sample is
fixed beforehand and looked at once. With b rows gained and c rows lost of n, everything rests on Tango's score
statistic for the difference (b - c) / n (Statistics in Medicine 17, 1998).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtr, ndtri

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.reports import Interval

__all__ = ["Comparison", "compare", "mcnemar", "no_worse", "score", "score_interval"]

Floats = npt.NDArray[np.float64]
HALVINGS = 50  # of the interval from 0 to 1: leaves 1e-15


class Comparison(NamedTuple):
    """The accuracy of the candidate minus that of the serving model, on the same rows."""

    rows: int
    gained: int  # right only with the candidate
    lost: int  # right only with the serving model
    difference: Interval
    p_value: float  # exact McNemar test of "no difference", two-sided
    both: int  # right with both


def compare(candidate: npt.NDArray[np.bool_], serving: npt.NDArray[np.bool_], level: float = 0.95) -> Comparison:
    """Compare two models by the rows on which just one of them is right.

    The interval is Tango's score interval for paired proportions, the test McNemar's exact one.

    Args:
        candidate: (N,) whether the candidate was right, N at least 1.
        serving: (N,) the same for the serving model, row by row.
        level: two-sided confidence of the interval.

    Raises:
        ContractError: the answers are none, or not in pairs.
        ConfigError: the level is not between 0 and 1.
    """
    candidate, serving = np.asarray(candidate, dtype=bool), np.asarray(serving, dtype=bool)
    if candidate.ndim != 1 or candidate.shape != serving.shape or not candidate.size:
        raise ContractError(f"answers of shapes {candidate.shape} and {serving.shape} are no pairs; give one answer of "
                            f"each model to every row, and at least one row")
    rows = len(candidate)
    gained, lost = int((candidate & ~serving).sum()), int((serving & ~candidate).sum())
    lower, upper = score_interval(gained, lost, rows, level)
    difference = Interval(estimate=(gained - lost) / rows, lower=float(lower), upper=float(upper), level=level)
    return Comparison(rows, gained, lost, difference, float(mcnemar(gained, lost)), int((candidate & serving).sum()))


def mcnemar(gained: npt.ArrayLike, lost: npt.ArrayLike) -> Floats:
    """Return the exact two-sided p-value of "each changed row is as likely gained as lost" (McNemar 1947).

    Args:
        gained: (...) rows right only with the candidate.
        lost: (...) rows right only with the serving model.
    """
    one, other = _counts(gained), _counts(lost)
    p_value: Floats = np.minimum(2 * bdtr(np.minimum(one, other), (one + other).astype(np.int64), 0.5), 1.0)
    return p_value


def score(gained: npt.ArrayLike, lost: npt.ArrayLike, rows: npt.ArrayLike, difference: npt.ArrayLike) -> Floats:
    """Return Tango's score statistic: about standard normal where `difference` is the true one, and falling in it.

    Args:
        gained: (...) rows right only with the candidate.
        lost: (...) rows right only with the serving model; both together at most `rows`.
        rows: (...) all rows, at least 1.
        difference: (...) from -1 to 1, the accuracy of the candidate minus that of the serving model.
    """
    b, c, n = _table(gained, lost, rows)
    delta = np.asarray(difference, dtype=np.float64)
    if not (np.abs(delta) <= 1).all():
        raise ConfigError(f"a difference of accuracies lies between -1 and 1, not {delta}")
    return _score(b, c, n, delta)


def score_interval(gained: npt.ArrayLike, lost: npt.ArrayLike, rows: npt.ArrayLike,
                   level: float = 0.95) -> tuple[Floats, Floats]:
    """Return both ends of Tango's interval: the differences that his score test does not reject.

    Args:
        gained: (...) rows right only with the candidate.
        lost: (...) rows right only with the serving model.
        rows: (...) all rows, at least 1.
        level: two-sided confidence.

    Raises:
        ConfigError: the level is not between 0 and 1.
        ContractError: the counts are no table.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level={level:g} must be between 0 and 1, for example 0.95")
    b, c, n = _table(gained, lost, rows)
    # By symmetry the lower end is minus the upper end of the mirrored table: both are found at once.
    b, c, n = np.stack([c, b]), np.stack([b, c]), np.stack([n, n])
    low = (b - c) / n
    high = np.ones_like(low)
    z = float(ndtri(0.5 + level / 2))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = _score(b, c, n, middle) > -z
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return -high[0], high[1]


def no_worse(gained: npt.ArrayLike, lost: npt.ArrayLike, rows: npt.ArrayLike, tolerance: float) -> Floats:
    """Return the one-sided p-value of Tango's non-inferiority test: small speaks for a loss below `tolerance`.

    Args:
        gained: (...) rows right only with the candidate.
        lost: (...) rows right only with the serving model.
        rows: (...) all rows, at least 1.
        tolerance: accuracy that may be lost, a share from 0 to 1.
    """
    if not 0 <= tolerance <= 1:
        raise ConfigError(f"tolerance={tolerance:g} must be a share of the rows, for example 0.005")
    p_value: Floats = ndtr(-score(gained, lost, rows, -tolerance))
    return p_value


def _score(b: Floats, c: Floats, n: Floats, delta: Floats) -> Floats:
    """Work out `score` of checked input; a negative difference is the positive one of the mirrored table."""
    mirrored = delta < 0
    delta = np.abs(delta)
    b, c = np.where(mirrored, c, b), np.where(mirrored, b, c)
    # The likeliest share of lost rows, if the difference is delta: the larger root of 2n q^2 + linear q - product.
    linear = (2 * n - b + c) * delta - b - c
    product = c * delta * (1 - delta)
    root = np.sqrt(linear**2 + 8 * n * product)
    with np.errstate(divide="ignore", invalid="ignore"):  # no change at all, or a difference of 1
        lost = np.where(linear > 0, 2 * product / (linear + root), (root - linear) / (4 * n))
        spread = np.sqrt(n * np.maximum(2 * lost + delta * (1 - delta), 0.0))
        missing = b - c - n * delta
        statistic = np.where(missing == 0, 0.0, missing / spread)
    return np.where(mirrored, -statistic, statistic)


def _counts(values: npt.ArrayLike) -> Floats:
    counts = np.asarray(values, dtype=np.float64)
    if not ((counts >= 0) & (counts == np.floor(counts)) & (counts < math.inf)).all():
        raise ContractError(f"rows are counted in whole numbers from 0, not {counts}")
    return counts


def _table(gained: npt.ArrayLike, lost: npt.ArrayLike, rows: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    b, c, n = np.broadcast_arrays(_counts(gained), _counts(lost), _counts(rows))
    if not ((n >= 1) & (b + c <= n)).all():
        raise ContractError(f"{b} rows gained and {c} lost are no part of {n} rows; give counts of one split")
    return b, c, n
