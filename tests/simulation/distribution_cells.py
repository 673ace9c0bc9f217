"""How often DistributionTest is wrong: tables for docs/statistics.md.

For `worse` every latency is drawn, since nine quantiles read the same ones; for `within` the counts that it looks at.
How windows are cut, and what is bet on them, is in `distribution_windows`.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from distribution_windows import ever_worse, wealths
from latency_cells import LOOKS, OF_FIXED, SHARES, Bets, name, of_fixed, truth
from latency_traffic import SIGMA, SWING, TOLERANCE, TRAFFIC, Levels, Sizes
from table import ALPHA, Table, written

from penstock.components.evidence.distribution import DECILES, MISSES, MOST, Everywhere, _ranks
from penstock.components.evidence.histogram import log_bins
from penstock.components.evidence.quantile import log_mix

__all__ = ["tables"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CDF_TOLERANCE = 0.1
REQUESTS = 10_000  # of a run that may say worse
WINDOWS = 20  # of a run that may say within
PERIOD, STEP = 125, 10  # requests: a quarter of a day, and how long the level stays as it is
DRIFT = 4.0  # the logarithm of the level rises by so much in a run
AT_ONCE, MANY = 100, 1_000  # runs, so that the arrays stay in memory that is near


def worse(traffic: str, share: float, looks: int, runs: int, seed: int, bets: dict[float, Bets]) -> tuple[Ints, float]:
    """Return how many runs ever say `worse` at truth 0 and at the tolerance, and the horizon in canary requests."""
    ever, canary = np.zeros(2, np.int64), 0.0
    rise = DRIFT * PERIOD / REQUESTS
    for begin in range(0, runs, AT_ONCE):
        rng = np.random.default_rng([seed, round(1000 * share), looks, TRAFFIC.index(traffic), begin])
        some = min(AT_ONCE, runs - begin)
        is_canary = rng.random((some, REQUESTS), np.float32) < share
        values = rng.standard_normal((some, REQUESTS), np.float32)
        if traffic != "stationary":
            level = Levels(traffic, rise, STEP, PERIOD, some, rng).next(REQUESTS // STEP)
            values += np.repeat(level, STEP, axis=1)
        values *= np.float32(SIGMA)
        ever += ever_worse(wealths(is_canary, values, looks, np.log1p([0.0, TOLERANCE]), bets))
        canary += float(is_canary.sum())
    return ever, canary / runs


def everywhere_factors(test: Everywhere, found: Floats, canary: Floats) -> Floats:
    """Return what `Everywhere` adds to its log wealth in one window, (..., points, tilts).

    Args:
        test: whose grid it is.
        found: (..., points) canary requests at or above T of the order statistic of each point.
        canary: (...) requests.
    """
    mean = canary[..., None, None] * np.log1p(test._shares[:, None] * np.expm1(-test._tilts))
    factors: Floats = np.minimum(-test._tilts * found[..., None] - mean, math.log(MOST)) - math.log1p(MOST * MISSES)
    return factors


def truths(beyond: Floats) -> Iterator[Floats]:
    """Give the canary's share slower than T(x) where stable's share slower than x is `beyond`, (runs, points).

    It is more by the tolerance, then by twice it, beyond all of stable's requests, then at stable's median; elsewhere
    the canary is as fast as it can be with that.
    """
    for more in (CDF_TOLERANCE, 2 * CDF_TOLERANCE):
        yield np.full_like(beyond, more)
    for more in (CDF_TOLERANCE, 2 * CDF_TOLERANCE):
        yield np.where(beyond < 0.5, 0.0, 0.5 + more)


def within(share: float, looks: int, runs: int, seed: int) -> tuple[Ints, float]:
    """Return how many runs ever say `within` at each of `truths`, and the horizon in canary requests."""
    test = Everywhere(CDF_TOLERANCE, log_bins(TOLERANCE, [1.0])[0])
    known: dict[int, Ints] = {}
    ever, used = np.zeros(4, np.int64), 0.0
    for begin in range(0, runs, MANY):
        rng = np.random.default_rng([seed, round(1000 * share), looks, begin])
        some = min(MANY, runs - begin)
        wealth = np.zeros((4, some, *test._wealth.shape))
        is_over, sizes = np.zeros((4, some), np.bool_), Sizes(test.size, looks, some)
        for _ in range(WINDOWS):
            stable, canary = sizes.draw(share, rng)
            if stable.min() < test.least:
                raise ValueError(f"a window with {stable.min():.0f} requests of stable brings no evidence")
            several, which = np.unique(stable.astype(np.int64), return_inverse=True)
            for many in map(int, several):
                known.setdefault(many, _ranks(test._points, many))
            order = np.array([known[many] for many in map(int, several)])[which]
            gaps = rng.standard_gamma(np.diff(order, prepend=0, append=stable[:, None] + 1))
            beyond = gaps.cumsum(axis=1)[:, :-1] / gaps.sum(axis=1, keepdims=True)
            for row, slower in enumerate(truths(beyond)):
                found = _counts(slower, canary, rng)
                wealth[row] += everywhere_factors(test, found, canary)
                evidence = log_mix(wealth[row], np.full(wealth.shape[-1], 1 / wealth.shape[-1])).min(axis=1)
                is_over[row] |= evidence >= math.log(1 / ALPHA)
            used += float(canary.sum())
        ever += is_over.sum(axis=1)
    return ever, used / runs


def _counts(slower: Floats, canary: Floats, rng: np.random.Generator) -> Floats:
    """Draw how many canary requests lie beyond each threshold, given the shares beyond them, (runs, points)."""
    shares = np.diff(slower, prepend=0.0, append=1.0, axis=1)
    found: Floats = rng.multinomial(canary.astype(np.int64), shares).cumsum(axis=1)[:, :-1].astype(float)
    return found


def worse_tables(runs: int, seed: int, rows: tuple[tuple[float, int], ...]) -> list[Table]:
    """Return how often it is ever `worse`, at truth 0 and at the tolerance."""
    bets = {quantile: Bets(quantile) for quantile in DECILES}
    lines: list[list[tuple[str, ...]]] = [[], []]
    for share, looks in rows:
        found = [worse(traffic, share, looks, runs, seed, bets) for traffic in TRAFFIC]
        horizon = round(min(canary for _, canary in found))
        for at in (0, 1):
            lines[at].append((f"{share * 100:g} %", f"{looks:,}", f"{horizon:,}", of_fixed(horizon, 0.5, share),
                              *(written(int(ever[at]), runs) for ever, _ in found)))
    first = (f"Runs in per cent that ever say `worse` before the horizon, ± Monte-Carlo standard error, {runs:,} runs "
             f"a cell; at most {ALPHA * 100:g} % are promised.")
    note = (f"{first} It falls by one of nine quantiles, from {name(min(DECILES))} to {name(max(DECILES))}, at a ninth "
            "of that each; all of a run's requests are drawn, and the nine see the same ones; tolerance "
            f"{TOLERANCE:.0%}. A run is {REQUESTS:,} requests of both versions, the horizon the canary's. Service "
            f"times are log-normal with a sigma of {SIGMA:g} around a level that both versions share and that moves "
            f"every {STEP} requests: diurnal by a factor of {math.exp(2 * SWING):.1f} and back in {4 * PERIOD}; "
            f"drifting {math.exp(DRIFT):.0f}-fold in the run; autocorrelated as AR(1) with a standard deviation of "
            f"{SWING:g} of its logarithm and a memory of {PERIOD / 3:.0f} requests. The shipped test counts in bins, "
            "at the end that costs it, and so says `worse` a little less often. The fixed sample is that of p50.")
    return [Table(f"DistributionTest: ever `worse` although {truth(at)}", (note, first)[at],
                  ("share", "look every", "horizon", OF_FIXED, *TRAFFIC), lines[at]) for at in (0, 1)]


def within_table(runs: int, seed: int, rows: tuple[tuple[float, int], ...]) -> Table:
    """Return how often it is ever `within` although somewhere it is not."""
    lines = []
    for share, looks in rows:
        ever, canary = within(share, looks, runs, seed)
        lines.append((f"{share * 100:g} %", f"{looks:,}", f"{canary:,.0f}",
                      *(written(int(each), runs) for each in ever)))
    size = Everywhere(CDF_TOLERANCE, log_bins(TOLERANCE, [1.0])[0]).size
    points = CDF_TOLERANCE * 100
    note = (f"Runs in per cent that ever say `within` before the horizon, ± Monte-Carlo standard error, {runs:,} runs "
            f"a cell; at most {ALPHA * 100:g} % are promised. `cdf_tolerance` is {points:g} points, a window about "
            f"{size:,} requests of stable, or more, a run {WINDOWS} windows. Time-outs: {points:g} or {2 * points:g} % "
            "of the canary's requests are slower than any of stable's, all others faster; what is counted then does "
            "not depend on how stable's latencies move, so the column is that of all four kinds of traffic. At the "
            "median: "
            "the canary's share of requests slower than T(x) is so many points more than stable's share slower than x "
            "where x is stable's median, and elsewhere as small as it can be with that; stationary, for its counts are "
            "drawn by the law of order statistics, and to draw every latency at a moving level would take 10⁹ of them "
            "for a cell.")
    return Table("DistributionTest: ever `within` although somewhere the canary is slower than it may be", note,
                 ("share", "look every", "horizon", *(f"{where}, {more * 100:g} points" for where in
                  ("time-outs", "at the median") for more in (CDF_TOLERANCE, 2 * CDF_TOLERANCE))), lines)


def tables(runs: int, seed: int, rows: tuple[tuple[float, int], ...] = ()) -> list[Table]:
    """Simulate.

    Args:
        runs: of each cell.
        seed: of the random numbers.
        rows: share and looks; () stands for all nine.
    """
    rows = rows or tuple((share, looks) for share in SHARES for looks in LOOKS)
    return [*worse_tables(runs, seed, rows), within_table(runs, seed, rows)]
