"""Counts in bins, log-spaced or Prometheus', and how many values are surely beyond a multiple of another value.

Bins are half-open: [lower, upper) where this module counts seconds, (lower, upper] in Prometheus; every rule here holds
for both. Values are seconds, never negative. Counts only: knows no distribution and no verdict.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ContractError
from penstock.components.evidence.sequential import numeric

__all__ = ["Bins", "filled", "holder", "log_bins", "prometheus_bins"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FASTEST, SLOWEST = 1e-5, 1e3  # seconds; what lies beyond is counted in one bin at each end
WIDEST = 0.01  # width of a bin at most, as a logarithm, however large the tolerance
LEAST = 10  # bins that the tolerance spans at least


class Bins(NamedTuple):
    """Bins from 0 to infinity without gaps, and what T(x) = max(ratio x, x + floor) does to their edges.

    Attributes:
        edges: (K + 1,) ascending, the first 0, the last infinite.
        surely: (R, K) with x in bin k, values of this bin and of all above are more than T_r(x), whatever x is.
        maybe: (R, K) with x in bin k, values of this bin and of all above may be T_r(x) or more; values below are not.
        coarse: (K,) whether the bin is wider than the tolerance: a value in it cannot be told from one just worse.
    """

    edges: Floats
    surely: Ints
    maybe: Ints
    coarse: npt.NDArray[np.bool_]

    def tally(self, values: npt.ArrayLike, what: str) -> Ints:
        """Return how many values lie in each bin, (K,).

        Args:
            values: (N,) seconds; N may be 0.
            what: whose they are, for the error.

        Raises:
            ContractError: not one-dimensional, or with a value that no latency has.
        """
        seconds = numeric(values)
        if seconds is None or seconds.ndim != 1:
            shape = "are no numbers" if seconds is None else f"have shape {seconds.shape}"
            raise ContractError(f"the latencies of {what} {shape}; give one list of seconds, such as [0.021, 0.034]")
        wrong = ~(np.isfinite(seconds) & (seconds >= 0))
        if wrong.any():
            raise ContractError(f"{wrong.sum()} latencies of {what} are no number of seconds, the first is "
                                f"{seconds[wrong][0]}; leave out requests without an answer, or give their time-out")
        found = np.searchsorted(self.edges, seconds, side="right") - 1
        return np.bincount(found, minlength=len(self.edges) - 1)

    def beyond(self, counts: npt.ArrayLike, holder: int) -> tuple[Floats, Floats]:
        """Return how many values are surely more than T_r(x), and how many may be at least that, x in bin `holder`.

        Args:
            counts: (K,) of the other version.

        Returns:
            Two arrays (R,), the first nowhere above the second.
        """
        tail = np.append(np.cumsum(np.asarray(counts, float)[::-1])[::-1], 0.0)
        return tail[self.surely[:, holder]], tail[self.maybe[:, holder]]


def holder(counts: npt.ArrayLike, rank: int) -> int:
    """Return the bin of the `rank`-th largest of all values, from 1."""
    from_above = np.cumsum(np.asarray(counts)[::-1])
    return len(from_above) - 1 - int(np.searchsorted(from_above, rank))


def filled(counts: Ints) -> list[list[int]]:
    """Return [bin, count of each row …] of the bins that are not empty, JSON-ready; counts (R, K)."""
    return [[int(at), *map(int, counts[:, at])] for at in np.flatnonzero(counts.any(axis=0))]


def log_bins(tolerance: float, ratios: npt.ArrayLike, floor: float = 0.0) -> tuple[Bins, Floats]:
    """Return log-spaced bins whose width is at most a tenth of the tolerance.

    1 + tolerance spans a whole number of bins, so edges fall on edges, and the error is that of one bin.

    Args:
        tolerance: relative; more than -1.
        ratios: (R - 1,) multiples of x; each is rounded to whole bins.
        floor: seconds; T of the first row is max((1 + tolerance) x, x + floor).

    Returns:
        The bins, with a row for the tolerance and its floor, then one for each ratio; and the ratios as rounded.
    """
    span = math.log1p(tolerance)
    steps = max(LEAST, math.ceil(abs(span) / WIDEST)) * (1 if span >= 0 else -1)
    width = span / steps if span else WIDEST / 5
    inner = FASTEST * np.exp(width * np.arange(math.ceil(math.log(SLOWEST / FASTEST) / width) + 1))
    edges = np.concatenate([[0.0], inner, [math.inf]])
    bins = len(edges) - 1
    shifts = np.concatenate([[steps if span else 0], np.rint(np.log(np.asarray(ratios, float)) / width).astype(int)])
    at = np.arange(bins)
    surely = np.clip(at + 1 + shifts[:, None], 1, bins)
    surely[:, -1] = bins  # nothing is surely above what may be infinite
    maybe = np.where(at > 0, np.clip(at + shifts[:, None], 0, bins - 1), 0)
    if floor:
        above, below = _thresholds(edges, edges + floor)
        surely[0], maybe[0] = np.maximum(surely[0], above), np.maximum(maybe[0], below)
    coarse = np.zeros(bins, np.bool_)
    coarse[0], coarse[-1] = floor < FASTEST, True
    return Bins(edges, surely, maybe, coarse), np.exp(width * shifts[1:])


def prometheus_bins(bounds: npt.ArrayLike, tolerance: float, ratios: npt.ArrayLike, floor: float = 0.0) -> Bins:
    """Return the bins between given bounds.

    Args:
        bounds: (K,) upper ends in seconds, ascending; the last may be infinite.
        tolerance: as for `log_bins`.
        ratios: as for `log_bins`, but exact here.
        floor: as for `log_bins`.

    Raises:
        ContractError: not ascending, not positive, none finite, not one-dimensional, or no numbers.
    """
    ends = numeric(bounds)
    if ends is None or ends.ndim != 1 or not np.isfinite(ends[:-1]).all() or \
            not (len(ends) and 0 < ends[0] < math.inf) or not (np.diff(ends) > 0).all():
        raise ContractError(f"bounds={bounds!r} must be the upper ends of buckets in seconds, positive and ascending, "
                            f"such as [0.1, 0.25, 0.5, inf]")
    edges = np.concatenate([[0.0], ends, [] if math.isinf(ends[-1]) else [math.inf]])
    rows = [_thresholds(edges, np.maximum((1 + tolerance) * edges, edges + floor))]
    rows += [_thresholds(edges, ratio * edges) for ratio in np.asarray(ratios, float)]
    surely, maybe = (np.stack(part) for part in zip(*rows, strict=True))
    lower = edges[:-1]
    coarse = edges[1:] > np.maximum((1 + abs(tolerance)) * lower, lower + floor) * (1 + 1e-12)
    return Bins(edges, surely, maybe, coarse)


def _thresholds(edges: Floats, moved: Floats) -> tuple[Ints, Ints]:
    """Return for each bin the first above its moved upper end, and the first that reaches over its moved lower end."""
    surely = np.searchsorted(edges[:-1], moved[1:], side="left")
    maybe = np.searchsorted(edges[1:-1], moved[:-1], side="right")
    return surely, maybe
