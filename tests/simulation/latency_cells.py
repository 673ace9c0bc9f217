"""How often latency verdicts are wrong, and what they cost: tables for docs/statistics.md.

Traffic is drawn in `latency_traffic`; here are the shipping bets on it, thousands of runs at a time.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
from latency_peers import climbing_table, fixed_sample, power_table
from latency_traffic import DRIFT, REQUESTS, SWING, TOLERANCE, TRAFFIC, WINDOWS, Cell, Window, ranks, windows
from table import ALPHA, Table, located, written

from penstock.components.evidence.exceedance import RATIOS, log_mean, tilts
from penstock.components.evidence.quantile import log_mix

__all__ = ["ALPHA", "LOOKS", "SHARES", "Bets", "name", "tables", "truth"]

Floats = npt.NDArray[np.float64]

QUANTILES, SHARES, LOOKS = (0.5, 0.9, 0.99, 0.999), (0.01, 0.05, 0.5), (1, 100, 1000)
QUESTIONS = (("worse", 0), ("worse", 1), ("within", 1), ("within", 2))  # verdict, truth in tolerances
RISES = (0.1, 0.5, 1.0)  # of the logarithm of the level, in a window
CHUNK = 1_000  # runs at once, so that the arrays stay in the processor's cache


class Bets:
    """`log_factors` of one quantile; tilts and means of each size of window are worked out once.

    `rows` is (2, 2, K, sizes): for both signs, tilts and log means.
    """

    def __init__(self, quantile: float) -> None:
        self.quantile = quantile
        self._keys = np.zeros(0, np.int64)
        self._rows = np.zeros((2, 2, len(RATIOS), 0))

    def of(self, stable: Floats, canary: Floats) -> Floats:
        """Return (2, 2, K, runs) for windows of these sizes, (runs,)."""
        key = (stable * 2**24 + canary).astype(np.int64)
        if len(new := np.setdiff1d(key, self._keys)):
            self._learn(new)
        found: Floats = self._rows[..., np.searchsorted(self._keys, key)]
        return found

    def _learn(self, new: npt.NDArray[np.int64]) -> None:
        n_s, n_c = (new >> 24).astype(float), (new & (2**24 - 1)).astype(float)
        steps = [sign * tilts(n_s, n_c) for sign in (1, -1)]
        means = [log_mean(h, ranks(n_s, self.quantile)[:, None], n_s[:, None], n_c[:, None]) for h in steps]
        rows = np.stack([np.stack([h.T, mean.T]) for h, mean in zip(steps, means, strict=True)])
        keys = np.concatenate([self._keys, new])
        order = np.argsort(keys)
        self._keys, self._rows = keys[order], np.concatenate([self._rows, rows], axis=-1)[..., order]


class Race:
    """The evidence of many runs for each of QUESTIONS, and who ever reached 1 / alpha."""

    def __init__(self, runs: int, bets: Bets) -> None:
        self._bets = bets
        self.wealth = np.zeros((len(QUESTIONS), len(RATIOS), runs))
        self.ever = np.zeros((len(QUESTIONS), runs), np.bool_)
        self.canary = np.zeros(runs)

    def window(self, window: Window) -> None:
        """Take a window of each run; where the canary has no request in it, it says nothing."""
        rows = self._bets.of(window.stable, window.canary)
        for at, (verdict, multiple) in enumerate(QUESTIONS):
            tilt, mean = rows[int(verdict == "within")]
            wealth, ever = self.wealth[at], self.ever[at]
            wealth += window.exceeding[multiple] * tilt - mean
            may = np.flatnonzero(wealth.max(axis=0) >= math.log(1 / ALPHA))  # the mixture is below its best part
            ever[may] |= log_mix(wealth[:, may].T) >= math.log(1 / ALPHA)
        self.canary += window.canary


def counts(cell: Cell, bets: Bets, runs: int, seed: int) -> tuple[list[int], float]:
    """Return how many runs ever say each of QUESTIONS, and the mean horizon in canary requests."""
    found, canary = np.zeros(len(QUESTIONS), np.int64), 0.0
    for begin in range(0, runs, CHUNK):
        rng = np.random.default_rng([seed, round(1000 * cell.quantile), round(1000 * cell.share), cell.looks,
                                     (*TRAFFIC, "sawtooth").index(cell.traffic), begin])
        race = Race(min(CHUNK, runs - begin), bets)
        for window in windows(cell, len(race.canary), rng):
            race.window(window)
        found += race.ever.sum(axis=1)
        canary += float(race.canary.sum())
    return [int(each) for each in found], canary / runs


def error_tables(runs: int, seed: int, rows: tuple[tuple[float, float, int], ...] = ()) -> list[Table]:
    """Return one table for each of QUESTIONS.

    Args:
        runs: of each cell.
        seed: of the random numbers.
        rows: quantile, share and looks; () stands for all 36.
    """
    lines: list[list[tuple[str, ...]]] = [[] for _ in QUESTIONS]
    worst = [(-1, "")] * len(QUESTIONS)
    every: dict[float, Bets] = {}
    for quantile, share, looks in rows or [(q, share, looks) for q in QUANTILES for share in SHARES for looks in LOOKS]:
        bets = every.setdefault(quantile, Bets(quantile))
        cells = [Cell(traffic, quantile, share, looks) for traffic in TRAFFIC]
        found = [counts(cell, bets, runs, seed) for cell in cells]
        horizon = round(min(canary for _, canary in found))
        row = (name(quantile), f"{share * 100:g} %", f"{looks:,}", f"{horizon:,}", of_fixed(horizon, quantile, share))
        for at in range(len(QUESTIONS)):
            ever = [each[at] for each, _ in found]
            lines[at].append((*row, *(written(count, runs) for count in ever)))
            place = f"{row[0]}, share {row[1]}, looks every {row[2]}, {TRAFFIC[int(np.argmax(ever))]}"
            worst[at] = max(worst[at], located(max(ever), runs, place))
    return [Table(f"LatencyTest: ever `{verdict}` although {truth(multiple)}",
                  f"Runs in per cent that ever say `{verdict}` before the horizon, ± Monte-Carlo standard error, "
                  f"{runs:,} runs a cell; at most {ALPHA * 100:g} % are promised. Worst cell: {worst[at][1]}."
                  + (f" {TRAFFIC_NOTE}" if at == 0 else " The traffic is that of the first of these tables."),
                  ("quantile", "share", "look every", "horizon", OF_FIXED, *TRAFFIC), lines[at])
            for at, (verdict, multiple) in enumerate(QUESTIONS)]


TRAFFIC_NOTE = (
    f"Tolerance {TOLERANCE:.0%}; the canary's latencies are those of stable times 1, {1 + TOLERANCE:g} or "
    f"{1 + 2 * TOLERANCE:g}. p90, p99 and p99.9 stand for a share of slow requests of 10, 1 and 0.1 %. A run is "
    f"{REQUESTS:,} requests of both versions, or {WINDOWS} windows where these take more; the horizon is its mean in "
    "canary requests, in the shortest of the four columns. A window closes at the first look at which both versions "
    "together have as many requests as it was planned to have for about 20, 40, 400 or 4,000 of stable's; looks go on "
    "at that pace up to the horizon. Service times are log-normal "
    "with a sigma of 0.5 around a level that both versions share. The test never compares across windows, so only "
    "how the level moves inside a window can matter, so it moves there, in steps of a tenth of a window or less: "
    f"diurnal by a factor of {math.exp(2 * SWING):.1f} and back in four windows; autocorrelated as AR(1) with a "
    f"standard deviation of {SWING:g} of its logarithm and a memory of a third of a window; drifting "
    f"{math.exp(DRIFT):.0f}-fold in the run, evenly. No latency is approximated: stationary counts have their "
    "beta-binomial law, p50 and p90 are drawn request by request, and for p99 and p99.9 the slowest requests of stable "
    "in each step and the canary's counts beyond a threshold are drawn, which is the same law. The shipped test counts "
    "in bins of a tenth of the tolerance, at the end that costs it, and so is wrong a little less often. Beside the "
    "horizon: how many times the canary requests of a fixed sample it is, one that tells a canary like stable from one "
    "at the tolerance with a power of 90 %. Where it is far below 1 next to nothing can be said of the canary by then, "
    "wrong things included.")
OF_FIXED = "horizon : fixed sample"  # a column


def of_fixed(horizon: int, quantile: float, share: float) -> str:
    """Write a horizon of canary requests as a multiple of the fixed sample."""
    return f"{horizon / fixed_sample(quantile, share, 0.0, tolerance=TOLERANCE):.2f}"


def movement_table(runs: int, seed: int) -> Table:
    """Let the level rise, or fall, through every window, or through four of them and then back at once."""
    rows = []
    for quantile, traffic in itertools.product((0.5, 0.9), ("drifting", "sawtooth")):
        bets, plain = Bets(quantile), Cell("drifting", quantile, 0.5, 1)._replace(traffic=traffic)
        found = [counts(plain._replace(drift=sign * rise * plain.windows), bets, runs, seed)[0]
                 for rise in RISES for sign in (1, -1)]
        edge = [max(each[QUESTIONS.index((verdict, 1))] for each in pair for verdict in ("worse", "within"))
                for pair in zip(found[::2], found[1::2], strict=True)]
        rows.append((name(quantile), f"{plain.windows:,}",
                     "always" if traffic == "drifting" else "four windows, then back",
                     *(written(count, runs) for count in edge)))
    note = ("The level moves by so much within a window, up or down. Runs in per cent that ever say `within`, or "
            "`worse`, about a canary exactly as much slower as is tolerated, whichever of the four counts is the "
            f"largest; share 50 %, looks after every request, {runs:,} runs a cell; at most {ALPHA * 100:g} % are "
            "promised. A window ends after a number of requests of both versions that was chosen when it began, so "
            "its last request is no more likely to be stable's than any other. Where it ended with a request of "
            "stable, 13.45 % were wrong (p50, share 50 %, always 65 % a window).")
    return Table("LatencyTest: when the level moves one way in every window", note,
                 ("quantile", "windows", "moves", *(f"{math.expm1(rise):.0%} a window" for rise in RISES)),
                 rows)


def truth(multiple: int) -> str:
    """Say what the canary is, for a title."""
    return ("the canary is exactly like stable", "the canary is slower by exactly the tolerance",
            "the canary is slower by twice the tolerance")[multiple]


def name(quantile: float) -> str:
    """Return p99.9 for 0.999."""
    return f"p{quantile * 100:g}"


def tables(runs: int, seed: int, errors: bool = True, others: bool = True) -> list[Table]:
    """Simulate.

    Args:
        runs: of each cell; where no error rate is counted, a part of it is taken.
        seed: of the random numbers.
        errors: whether the tables of wrong verdicts are asked for.
        others: whether all the others are.
    """
    few = min(max(runs // 30, 10), 300)
    found = error_tables(runs, seed) if errors else []
    if others:
        found += [movement_table(runs, seed), power_table(few, seed), climbing_table(runs, seed)]
    return found
