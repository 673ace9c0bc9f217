"""An interval for one share: the sample is decided beforehand, and looked at once, at its end.

Arithmetic only: knows neither requests nor verdicts.
"""

from penstock.components.contracts.reports import Interval

__all__ = ["proportion"]


def proportion(successes: int, trials: int, level: float) -> Interval:
    """Estimate a share with its score interval (Wilson 1927); without any trial it is anything from 0 to 1."""
    if not trials:
        return Interval(estimate=0.0, lower=0.0, upper=1.0, level=level)
    from scipy.stats import binomtest  # takes 1 s to import

    bounds = binomtest(successes, trials).proportion_ci(level, "wilson")
    return Interval(estimate=successes / trials, lower=float(bounds.low), upper=float(bounds.high), level=level)
