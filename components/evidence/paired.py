"""Two models on the same rows: how far apart they are, and what the rows can show about it.

Arithmetic only, for the gate and the canary alike: knows neither limits nor verdicts, and reads no file.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from penstock.components.contracts.reports import Interval

__all__ = ["Comparison", "compare"]


class Comparison(NamedTuple):
    """The accuracy of the candidate minus that of the serving model, on the same rows."""

    rows: int
    gained: int  # right only with the candidate
    lost: int  # right only with the serving model
    difference: Interval
    p_value: float  # exact McNemar test of "no difference", two-sided


def compare(candidate: npt.NDArray[np.bool_], serving: npt.NDArray[np.bool_], level: float = 0.95) -> Comparison:
    """Compare two models by the rows on which just one of them is right.

    The interval is Bonett and Price's adjusted Wald interval for paired proportions (2012), which Fagerland, Lydersen
    and Laake (2014) recommend for its coverage in small samples. The test is McNemar's, exact.

    Args:
        candidate: (N,) whether the candidate was right, N at least 1.
        serving: (N,) the same for the serving model, row by row.
        level: two-sided confidence of the interval.
    """
    rows = len(candidate)
    gained, lost = int((candidate & ~serving).sum()), int((serving & ~candidate).sum())
    more, less = (gained + 1) / (rows + 2), (lost + 1) / (rows + 2)
    half = float(norm.ppf(0.5 + level / 2)) * ((more + less - (more - less) ** 2) / (rows + 2)) ** 0.5
    difference = Interval(estimate=(gained - lost) / rows, lower=max(more - less - half, -1.0),
                          upper=min(more - less + half, 1.0), level=level)
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Comparison(rows, gained, lost, difference, p_value)
