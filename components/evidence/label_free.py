"""What can be said of accuracy before labels come: bounds without assumptions, and estimates that stand on one each.

Each interval covers sampling only; where its assumption breaks it is wrong and does not widen. docs/decisions/0014 has
how wrong. All take rows as independent. Arithmetic only: knows neither models nor limits.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtri, stdtrit

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.reports import Interval
from penstock.components.evidence.sequential import numbers

__all__ = ["average_confidence", "change_by_confidence", "change_by_disagreement", "thresholded_confidence"]

Floats = npt.NDArray[np.float64]


def change_by_disagreement(disagreements: int, rows: int, level: float = 0.95) -> Interval:
    """Bound the change of accuracy by how often two models answer differently.

    A row on which both answer the same cannot make one more accurate than the other, so |change| <= disagreement;
    the bound is the upper end of Clopper and Pearson's interval (1934), one-sided.

    Assumes only that the rows are a sample of the traffic meant, and that both models answered the same ones. A sample
    of other traffic breaks it; calibration, labels and shift do not matter. It is reached where one model is right on
    every row on which they differ, so it is wide.

    Args:
        disagreements: rows on which the two predicted classes differ.
        rows: all rows, at least 1.
        level: confidence, for example 0.95.

    Returns:
        Candidate's accuracy minus stable's; the estimate is 0, as nothing is known of the direction.

    Raises:
        ContractError: no rows, or more disagreements than rows.
        ConfigError: a level outside (0.5, 1).
    """
    _check_level(level)
    if rows < 1 or not 0 <= disagreements <= rows:
        raise ContractError(f"{disagreements} disagreements in {rows} rows cannot be; count both over the same rows")
    most = _share_limits(disagreements, rows, 1 - level)[1]
    return Interval(estimate=0.0, lower=-most, upper=most, level=level)


def change_by_confidence(for_candidate: npt.ArrayLike, for_stable: npt.ArrayLike, rows: int, level: float = 0.95, *,
                         off_by: float = 0.0) -> Interval:
    """Estimate the change of accuracy from who is likely right on the rows where two models differ.

    The interval is Bonett and Price's (2012) for labelled pairs, with expected wins in place of counted ones.

    Assumes that on those rows the probabilities are calibrated: of rows with for_candidate = 0.7, the candidate
    is right on 70 %. A model calibrated on all rows is overconfident on these, as the other's dissent is news to it:
    fit the probabilities on labelled rows where the two differ, from what both say. Shift after that breaks it too;
    `off_by` widens the interval by an error that one is ready to assume.

    Args:
        for_candidate: (d,) probability that the candidate's class is the right one, on each row where they differ.
        for_stable: (d,) the same for stable's class; the two sum to 1 at most.
        rows: all rows, those where they agree too.
        level: confidence, for example 0.95.
        off_by: how far the mean of `for_candidate - for_stable` may be off.

    Returns:
        Candidate's accuracy minus stable's.

    Raises:
        ContractError: no probabilities, of other lengths, or fewer rows than these.
        ConfigError: a level outside (0.5, 1), or `off_by` outside [0, 2].
    """
    _check_level(level)
    if not 0 <= off_by <= 2:
        raise ConfigError(f"off_by={off_by:g} must be in [0, 2], for example 0.1")
    one, other = _probabilities("for_candidate", for_candidate), _probabilities("for_stable", for_stable)
    if one.shape != other.shape or rows < max(len(one), 1):
        raise ContractError(f"{len(one)} and {len(other)} probabilities do not fit {rows} rows; give both for each row "
                            "on which the models differ")
    if (one + other > 1 + 1e-6).any():
        raise ContractError(f"probabilities of two different classes sum to {(one + other).max():g}; at most 1 can be")
    won = one - other
    middle, spread = won.sum() / (rows + 2), ((won**2).sum() + 2) / (rows + 2)
    half = float(ndtri(0.5 + level / 2)) * math.sqrt((spread - middle**2) / (rows + 2)) + off_by * len(won) / rows
    return Interval(estimate=float(won.sum() / rows), lower=max(middle - half, -1.0), upper=min(middle + half, 1.0),
                    level=level)


def average_confidence(confidence: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Estimate accuracy by the mean confidence in the predicted class; Student's interval of the mean.

    Assumes that confidences are calibrated on the traffic they come from: of rows with 0.7, 70 % are right. A change of
    inputs alone (covariate shift) keeps that where it holds for every input; overconfidence, label shift and a changed
    meaning of the classes break it.

    Args:
        confidence: (n,) in [0, 1], n at least 2.
        level: confidence of the interval, for example 0.95.

    Raises:
        ContractError: fewer than 2 rows, or values outside [0, 1].
        ConfigError: a level outside (0.5, 1).
    """
    _check_level(level)
    values = _probabilities("confidence", confidence)
    if len(values) < 2:
        raise ContractError(f"{len(values)} rows show no spread; give at least 2")
    middle = float(values.mean())
    half = float(stdtrit(len(values) - 1, 0.5 + level / 2)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(estimate=middle, lower=max(middle - half, 0.0), upper=min(middle + half, 1.0), level=level)


def thresholded_confidence(validation_confidence: npt.ArrayLike, validation_correct: npt.ArrayLike,
                           confidence: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Estimate accuracy by the share of rows above a threshold of confidence (ATC, Garg et al. 2022).

    The threshold is where, on labelled rows, as many rows lie above as were right. The interval adds in squares what
    both samples leave open (as Newcombe 1998): the share above the threshold, and the threshold, which may move as long
    as rows above and rows right differ by chance only.

    Assumes that the threshold means the same later: confidence need not be calibrated, but must keep its relation to
    being right. A temperature changed in between, label shift and covariate shift all move that relation.

    Args:
        validation_confidence: (v,) on labelled rows; any score that grows with confidence, finite.
        validation_correct: (v,) whether the prediction was right.
        confidence: (n,) the same score on rows without labels.
        level: confidence of the interval, for example 0.95.

    Raises:
        ContractError: no rows, NaN, or labels that do not fit the scores.
        ConfigError: a level outside (0.5, 1).
    """
    _check_level(level)
    scores, correct = np.asarray(validation_confidence, dtype=float), np.asarray(validation_correct)
    later = np.asarray(confidence, dtype=float)
    if scores.ndim != 1 or scores.shape != correct.shape or correct.dtype != bool or later.ndim != 1:
        raise ContractError(f"scores {scores.shape}, labels {correct.shape} of {correct.dtype} and scores "
                            f"{later.shape} do not fit; give (v,), (v,) bool and (n,)")
    if not len(scores) or not len(later) or not np.isfinite(scores).all() or not np.isfinite(later).all():
        raise ContractError(f"{len(scores)} labelled and {len(later)} later scores: give at least one of each, without "
                            "NaN or infinity")
    right, rows = int(correct.sum()), len(scores)
    falling, later = np.sort(scores)[::-1], np.sort(later)
    above = np.zeros(rows, dtype=bool)
    above[np.argsort(-scores, kind="stable")[:right]] = True
    z = float(ndtri(0.5 + level / 2))
    play = math.ceil(z * math.sqrt(np.count_nonzero(above != correct) + 1))  # one row more: a spread of 0 is not known
    share, fewer, more = (_share_above(later, falling, count) for count in (right, right - play, right + play))
    low, high = _share_limits(round(share * len(later)), len(later), (1 - level) / 2)
    return Interval(estimate=share, lower=max(share - math.hypot(share - low, share - fewer), 0.0),
                    upper=min(share + math.hypot(high - share, more - share), 1.0), level=level)


def _share_above(later: Floats, falling: Floats, count: int) -> float:
    """Return the share of `later`, sorted, that is at or above the `count`-th of `falling`."""
    if count <= 0:
        return 0.0
    if count > len(falling):
        return 1.0
    return 1 - float(np.searchsorted(later, falling[count - 1], side="left")) / len(later)


def _share_limits(events: int, rows: int, tail: float) -> tuple[float, float]:
    """Return Clopper and Pearson's limits of a share, each wrong with probability `tail` at most."""
    low = float(betaincinv(events, rows - events + 1, tail)) if events else 0.0
    high = float(betaincinv(events + 1, rows - events, 1 - tail)) if events < rows else 1.0
    return low, high


def _check_level(level: float) -> None:
    if not 0.5 < level < 1:
        raise ConfigError(f"level={level:g} must be between 0.5 and 1, for example 0.95")


def _probabilities(name: str, values: npt.ArrayLike) -> Floats:
    found = numbers(name, values)
    if found.ndim != 1 or not ((found >= 0) & (found <= 1)).all():
        raise ContractError(f"{name} of shape {found.shape} must be (rows,) probabilities in [0, 1], without NaN; "
                            "logits go through a softmax first")
    return found
