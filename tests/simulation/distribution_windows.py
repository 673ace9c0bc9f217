"""Runs of latencies cut into the windows of DistributionTest's quantiles, and what is bet on each: all runs at a time.

Draws nothing and counts no verdict but `worse`.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from latency_cells import ALPHA, Bets
from latency_traffic import TOLERANCE, Sizes, ranks

from penstock.components.evidence.distribution import DECILES
from penstock.components.evidence.quantile import log_mix, window_size

__all__ = ["ever_worse", "wealths"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

PARTS = 8  # of the windows, by their length: a part is sorted together, as if all were as long as its longest


class Windows(NamedTuple):
    """All windows of one size in some runs, W of each at most; those that a run lacks are empty.

    Attributes:
        ends: (runs, W) requests of the run up to the end of each; more than it has for those that it lacks.
        stable: (runs, W) requests.
        canary: (runs, W) requests.
        ordered: of some of the windows each: their places in runs x W, and stable's latencies, ascending, after -inf.
        latencies: (M,) of the canary, in any order.
        window: (M,) the place in runs x W of each.
    """

    ends: Ints
    stable: Floats
    canary: Floats
    ordered: list[tuple[Ints, Singles]]
    latencies: Singles
    window: Ints


def _ends(is_canary: Bools, looks: int, aim: int) -> Ints:
    """Return where the windows end that are to have `aim` requests of stable, (runs, W)."""
    runs, length = is_canary.shape
    every, begin = np.arange(runs), np.zeros(runs, np.int64)
    answered = np.pad(np.cumsum(~is_canary, axis=1), ((0, 0), (1, 0)))
    sizes, ends = Sizes(aim, looks, runs), []
    while (begin < length).any():
        end = begin + sizes.totals
        ends.append(np.where(end <= length, end, length + 1))
        reached = np.minimum(end, length)
        sizes.after(answered[every, reached] - answered[every, np.minimum(begin, length)], sizes.totals)
        begin = end
    return np.stack(ends, axis=1)


def _cut(is_canary: Bools, values: Singles, ends: Ints) -> Windows:
    """Cut runs into windows. `is_canary` and `values` are those of `wealths`."""
    (runs, length), each = values.shape, ends.shape[1]
    begins = np.concatenate([np.zeros((runs, 1), np.int64), ends[:, :-1]], axis=1)
    lasts = np.zeros((runs, length + 2), np.int64)
    np.add.at(lasts, (np.arange(runs)[:, None], ends), 1)
    place = np.cumsum(lasts[:, :length], axis=1)  # of the window that a request is in; `whole` of those that end
    whole = np.count_nonzero(ends <= length, axis=1)
    inside = place < whole[:, None]
    place += np.arange(runs)[:, None] * each
    stable, canary = (np.bincount(place[inside & mine], minlength=runs * each).reshape(runs, each).astype(float)
                      for mine in (~is_canary, is_canary))
    of_stable = np.where(is_canary, np.float32(-np.inf), values).ravel()
    first = (np.minimum(begins, length) + np.arange(runs)[:, None] * length).ravel()
    many = np.where(ends <= length, ends - begins, 0).ravel()
    ordered = []
    for which in np.array_split(np.argsort(many, kind="stable"), PARTS):
        offset = np.arange(many[which].max(initial=1))
        rows = of_stable[np.minimum(first[which][:, None] + offset, of_stable.size - 1)]
        rows[offset >= many[which][:, None]] = -np.inf
        ordered.append((which, np.sort(rows, axis=1)))
    theirs = inside & is_canary
    return Windows(ends, stable, canary, ordered, values[theirs], place[theirs])


def wealths(is_canary: Bools, values: Singles, looks: int, shifts: Floats,
            bets: dict[float, Bets]) -> list[tuple[Floats, Ints]]:
    """Return the log wealth of the tilts of each quantile against "not worse".

    Args:
        is_canary: (runs, N) whose each request is.
        values: (runs, N) logarithms of latencies, of both versions.
        looks: after so many requests, a divisor of N.
        shifts: (truths,) what is added to the canary's logarithms.
        bets: of each of DECILES.

    Returns:
        For each of DECILES (truths, K, runs, W) after each window, and (runs, W) requests up to its end; more than N
        for windows that a run lacks.
    """
    cut: dict[int, Windows] = {}
    found = []
    for quantile in DECILES:
        aim = window_size(quantile)
        if aim not in cut:
            cut[aim] = _cut(is_canary, values, _ends(is_canary, looks, aim))
        found.append((_wealth(cut[aim], shifts - math.log1p(TOLERANCE), bets[quantile]), cut[aim].ends))
    return found


def _wealth(windows: Windows, shifts: Floats, bets: Bets) -> Floats:
    both = ((windows.stable > 0) & (windows.canary > 0)).ravel()  # without it a window is forgotten
    stable, canary = np.maximum(windows.stable.ravel(), 1), windows.canary.ravel() * both
    rank = ranks(stable, bets.quantile).astype(np.int64)
    y = np.full(len(stable), np.inf, np.float32)
    for which, ordered in windows.ordered:
        y[which] = ordered[np.arange(len(which)), ordered.shape[1] - rank[which]]
    above = windows.latencies - np.where(both, y, np.float32(np.inf))[windows.window]
    tilt, mean = bets.of(stable, canary)[0]
    factors = [np.bincount(windows.window[above > -shift], minlength=len(stable)) * tilt - mean for shift in shifts]
    found: Floats = np.cumsum(np.reshape(factors, (len(shifts), len(tilt), *windows.stable.shape)), axis=-1)
    return found


def ever_worse(parts: list[tuple[Floats, Ints]]) -> Ints:
    """Return how many runs have a quantile whose evidence reaches as many times 1 / alpha as there are, (truths,)."""
    needed = math.log(len(parts) / ALPHA)
    ever = np.zeros((len(parts[0][0]), parts[0][0].shape[2]), np.bool_)
    for wealth, _ in parts:
        may = wealth.max(axis=1) >= needed  # the mixture is below its best part
        reached = np.zeros(may.shape, np.bool_)
        reached[may] = log_mix(np.moveaxis(wealth, 1, -1)[may]) >= needed
        ever |= reached.any(axis=-1)
    found: Ints = ever.sum(axis=1)
    return found
