"""Many slices of one split at once: which of them lost more than they may, and what each could have shown at all.

Many slices are decided by small p-values, where the normal approximation of Tango's score is off by up to 3.8 times
(docs/decisions/0013); so they are exact. Arithmetic only: knows neither what a slice is nor whether a finding blocks.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc, gammaln, ndtri, xlog1py, xlogy

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.paired import Comparison, score

__all__ = ["Finding", "SliceFinding", "benjamini_hochberg", "detectable_loss", "judge_slices", "lost_more",
           "not_shown", "points"]

Floats = npt.NDArray[np.float64]
Finding = Literal["worse", "no worse", "undecided"]
POWER = 0.8  # the chance of being found that makes a loss detectable
# Of gains, of which the worst counts; densest at both ends, where it nearly always lies.
RATES = np.unique(np.concatenate([np.linspace(0, 1, 25) ** 3, 1 - np.linspace(0, 1, 13) ** 3]))
PEAKS, NEAR = 3, 17  # so many rates are tried around each of the worst: with one peak a table was found 1.1 % short
SPREADS = 8  # standard deviations of the rows gained that are looked at: 1e-15 lies outside
ROUNDING = 1e-9  # of the score; tables as extreme as the one found must count
LEAST = -12.0  # a score below any that decides


class SliceFinding(NamedTuple):
    """What the rows of one slice say about a loss of more than the tolerance.

    Attributes:
        verdict: worse: a larger loss is there; no worse: the interval rules it out; undecided: the rows cannot tell.
        p_value: exact, one-sided; small where the slice lost more than the tolerance.
        adjusted: the least false discovery rate at which the slice would be called worse.
        detectable: the smallest true loss that rows like these would have found with probability `POWER`, were it in
            this slice only; inf where even a total loss would not do.
    """

    verdict: Finding
    p_value: float
    adjusted: float
    detectable: float


def judge_slices(slices: Sequence[Comparison], tolerance: float, rate: float = 0.05) -> tuple[SliceFinding, ...]:
    """Say of each slice whether it lost more than `tolerance`, all of them together at a false discovery rate.

    Of the slices called worse, a share of `rate` at most is called so wrongly, on average over many splits (Benjamini
    and Hochberg 1995; slices that share rows are positively dependent, under which this holds, Benjamini and Yekutieli
    2001). "No worse" is by each slice's own interval.

    Args:
        slices: on each, the two models compared.
        tolerance: accuracy that a slice may lose, a share from 0 to below 1.
        rate: the false discovery rate.

    Raises:
        ConfigError: tolerance or rate is out of its range.
    """
    _check(tolerance, rate)
    p_values = np.array([lost_more(part.gained, part.lost, part.rows, tolerance) for part in slices])
    adjusted = benjamini_hochberg(p_values)
    findings = []
    for part, p_value, least in zip(slices, p_values, adjusted, strict=True):
        verdict: Finding = "worse" if least <= rate else "undecided"
        if verdict == "undecided" and part.difference.lower >= -tolerance:
            verdict = "no worse"
        threshold = _threshold(part.rows, tolerance, rate / len(slices))
        detectable = detectable_loss(part.rows, part.gained / part.rows, tolerance, threshold)
        findings.append(SliceFinding(verdict, float(p_value), float(least), detectable))
    return tuple(findings)


def benjamini_hochberg(p_values: npt.ArrayLike) -> Floats:
    """Return for each test the least false discovery rate at which it is rejected among all.

    Args:
        p_values: (N,) from 0 to 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ContractError(f"p-values are numbers from 0 to 1 in one row, not {values}")
    order = np.argsort(-values)  # the largest first
    scaled = values[order] * len(values) / np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum.accumulate(np.minimum(scaled, 1.0))
    return adjusted


def lost_more(gained: int, lost: int, rows: int, tolerance: float) -> float:
    """Return the exact one-sided p-value of "no more than `tolerance` was lost": small where more was.

    Of all tables with a score as low as the one found, the probability where exactly `tolerance` is lost, at whatever
    rate of gains makes it largest (unconditional exact test; Sidik 2003 with Tango's statistic).

    Args:
        gained: rows right only with the candidate.
        lost: rows right only with the serving model.
        rows: all rows of the slice, at least 1.
        tolerance: accuracy that may be lost, a share from 0 to below 1.
    """
    _check(tolerance)
    found = float(score(gained, lost, rows, -tolerance)) + ROUNDING
    chances = _chances(rows, tolerance, found, RATES)
    around = np.concatenate([np.linspace(RATES[max(worst - 1, 0)], RATES[min(worst + 1, len(RATES) - 1)], NEAR)
                             for worst in np.argsort(chances)[-PEAKS:]])
    return min(float(max(chances.max(), _chances(rows, tolerance, found, around).max())), 1.0)


def detectable_loss(rows: int, gain_rate: float, tolerance: float, threshold: float, power: float = POWER) -> float:
    """Return the smallest true loss of accuracy that is found with probability `power`; inf where there is none.

    Args:
        rows: of the slice or split.
        gain_rate: share of the rows that the candidate gains while it loses others.
        tolerance: accuracy that may be lost; what is to be found is more.
        threshold: the score at or below which a loss counts as found, for example `ndtri(0.025)`.
        power: the probability.
    """
    _check(tolerance)
    if rows < 1 or not 0 <= gain_rate <= 1:
        raise ContractError(f"{rows} rows with a share of {gain_rate:g} gained are no slice; give at least 1 row")
    gain_rate = min(gain_rate, 1 - tolerance)
    region = _region(rows, tolerance, threshold, np.array([gain_rate]))
    low, high = tolerance, 1 - gain_rate
    if _chance(region, high)[0] < power:
        return math.inf
    for _ in range(17):  # leaves less than a thousandth of a point
        middle = (low + high) / 2
        enough = _chance(region, middle)[0] >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def points(loss: float) -> str:
    """Say a loss of accuracy in points, as coarse as it is: 15 points, 0.92 points."""
    return f"{100 * loss:.2g} points" if loss < 0.995 else "100 points"


def not_shown(detectable: float) -> str:
    """Say which losses rows cannot be relied on to show, from the smallest that they can; inf: they show none."""
    return f"a loss of less than {points(detectable)}" if math.isfinite(detectable) else "any loss"


@lru_cache(maxsize=4096)  # slices of one size share it
def _threshold(rows: int, tolerance: float, alpha: float) -> float:
    """Return the highest score at which the exact p-value is `alpha` at most."""
    low, high = LEAST, 0.0
    # Which rate of gains is worst hardly depends on the score: looked for once, at the score of the approximation.
    worst = RATES[np.argsort(_chances(rows, tolerance, float(ndtri(alpha)), RATES))[-3:]]
    for _ in range(13):  # leaves 0.0015
        middle = (low + high) / 2
        kept = _chances(rows, tolerance, middle, worst).max() <= alpha
        low, high = (middle, high) if kept else (low, middle)
    return low


def _chances(rows: int, tolerance: float, found: float, rates: Floats) -> Floats:
    """(R,) the chance of a score of at most `found` where exactly `tolerance` is lost, for each rate of gains.

    Args:
        rates: (R,) of the largest rate that is possible.
    """
    return _chance(_region(rows, tolerance, found, rates * (1 - tolerance) / 2), tolerance)


class _Region(NamedTuple):
    """The tables with a score of at most a given one, by the number of rows gained."""

    gain_rates: Floats  # (R, 1)
    weights: Floats  # (R, W) the chance of so many gained
    others: Floats  # (R, W) rows not gained
    least: Floats  # (R, W) of those the fewest that must be lost


def _region(rows: int, tolerance: float, found: float, gain_rates: Floats) -> _Region:
    gains = gain_rates[:, None]
    width = min(rows + 1, math.ceil(SPREADS * math.sqrt(rows)) + 2 * SPREADS)  # a deviation is sqrt(rows) / 2 at most
    first = np.clip(np.floor(rows * gains - width / 2), 0, rows + 1 - width)
    b = first + np.arange(width, dtype=np.float64)
    log_choose = gammaln(rows + 1) - gammaln(b + 1) - gammaln(rows - b + 1)
    weights = np.exp(log_choose + xlogy(b, gains) + xlog1py(rows - b, -gains))
    return _Region(gains, weights, rows - b, _least_lost(b, rows, tolerance, found))


def _chance(region: _Region, loss: float) -> Floats:
    """(R,) the chance of the region where the true loss is `loss`: sums over upper tails of binomials."""
    gains, weights, others, least = region
    share = np.where(gains < 1, np.minimum((gains + loss) / np.maximum(1 - gains, 1e-300), 1.0), 0.0)
    tails = np.where(least > others, 0.0, bdtrc(np.minimum(least - 1, others), others.astype(np.int64), share))
    chances: Floats = (weights * tails).sum(axis=1)
    return chances


def _least_lost(b: Floats, rows: int, tolerance: float, found: float) -> Floats:
    """Return the fewest lost rows that, with `b` gained, make the score `found` or less; rows - b + 1: none do."""
    low, high = np.zeros_like(b), rows - b + 1
    for _ in range(math.ceil(math.log2(rows + 1)) + 1):
        middle = np.floor((low + high) / 2)
        tried = np.minimum(middle, rows - b)
        reached = (score(b, tried, rows, -tolerance) <= found) | (middle > rows - b)
        low, high = np.where(reached, low, np.minimum(middle + 1, high)), np.where(reached, middle, high)
    return high


def _check(tolerance: float, rate: float = 0.05) -> None:
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance={tolerance:g} must be a share of the rows below 1, for example 0.05")
    if not 0 < rate < 0.5:
        raise ConfigError(f"rate={rate:g} must be between 0 and 0.5, for example 0.05")
