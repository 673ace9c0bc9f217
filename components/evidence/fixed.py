"""Fixed-sample tests of "no worse than": the sample is decided beforehand, and looked at once, at its end.

Everything is an interval; the end of a two-sided interval of level 1 - 2a is the one-sided bound at error a. A version
that must pass several such tests is promoted wrongly with probability a at most, however many they are (Berger 1982,
intersection-union test). Arithmetic only: knows neither requests nor verdicts.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, binomtest, norm

from penstock.components.contracts.reports import Interval

__all__ = ["least_sample", "proportion", "proportion_difference", "quantile", "quantile_ratio"]

Floats = npt.NDArray[np.floating]


def proportion(successes: int, trials: int, level: float) -> Interval:
    """Estimate a share with its score interval (Wilson 1927); without any trial it is anything from 0 to 1."""
    if not trials:
        return Interval(estimate=0.0, lower=0.0, upper=1.0, level=level)
    bounds = binomtest(successes, trials).proportion_ci(level, "wilson")
    return Interval(estimate=successes / trials, lower=float(bounds.low), upper=float(bounds.high), level=level)


def proportion_difference(one: Interval, other: Interval) -> Interval:
    """Estimate the share `one` minus the share `other` of independent samples.

    Newcombe's hybrid score interval (1998, method 10): honest for shares near 0, where errors are rare.
    """
    difference = one.estimate - other.estimate
    down = math.hypot(one.estimate - one.lower, other.upper - other.estimate)
    up = math.hypot(one.upper - one.estimate, other.estimate - other.lower)
    return Interval(estimate=difference, lower=difference - down, upper=difference + up, level=one.level)


def least_sample(margin: float, alpha: float) -> int:
    """Return how many trials without one failure bound the failure rate by `margin`, one-sided at `alpha`."""
    z = float(norm.ppf(1 - alpha))
    return math.ceil(z**2 * (1 - margin) / margin)


def quantile(fast: Floats, slow: Floats, q: float, level: float) -> Interval:
    """Estimate a quantile by order statistics, whatever the distribution (David and Nagaraja 2003, 7.1).

    Args:
        fast: (N,) sorted values, each at most the true one; with `slow` it brackets values known only by their bucket.
        slow: (N,) sorted values, each at least the true one; the same array where values are known exactly.
        q: for example 0.95.

    Returns:
        `lower` is 0 and `upper` infinite where N is too small to bound the quantile.
    """
    count = len(fast)
    if not count:
        return Interval(estimate=math.nan, lower=0.0, upper=math.inf, level=level)
    tail = (1 - level) / 2
    low, high = int(binom.ppf(tail, count, q)), int(binom.ppf(1 - tail, count, q)) + 1  # ranks, from 1
    middle = max(math.ceil(count * q), 1)
    ends = float(fast[middle - 1]), float(slow[middle - 1])
    return Interval(estimate=sum(ends) / 2 if math.isfinite(ends[1]) else ends[0],
                    lower=float(fast[low - 1]) if low >= 1 else 0.0,
                    upper=float(slow[high - 1]) if high <= count else math.inf, level=level)


def quantile_ratio(one: Interval, other: Interval) -> Interval:
    """Estimate the quantile `one` over the quantile `other` of independent samples of positive values.

    Each of the two may miss on its own, so the ratio's level is lower (Bonferroni): 0.95 and 0.95 make 0.90.
    """
    return Interval(estimate=one.estimate / other.estimate, lower=_over(one.lower, other.upper),
                    upper=_over(one.upper, other.lower), level=max(one.level + other.level - 1, 0.0))


def _over(value: float, divisor: float) -> float:
    return value / divisor if divisor else math.inf
