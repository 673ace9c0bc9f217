"""How often latency verdicts are wrong, and what they cost: tables for docs/statistics.md.

Stationary cells draw the share U of stable's requests beyond its order statistic from its beta law, and the canary's
count from the binomial law given U: the same law as drawing every latency. Where the level moves, all are drawn.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from latency_peers import Factors, climbing_table, power_table
from scipy.signal import lfilter
from scipy.special import betaincinv, ndtr, ndtri
from table import Table

from penstock.components.evidence.exceedance import RATIOS
from penstock.components.evidence.quantile import log_mix, window_size

__all__ = ["tables"]

Floats = npt.NDArray[np.float64]

ALPHA, TOLERANCE, SIGMA = 0.05, 0.1, 0.5  # of the logarithm of a service time
TRUTHS = (0.0, TOLERANCE, 2 * TOLERANCE)
QUANTILES, SHARES, LOOKS = (0.5, 0.95, 0.99), (0.01, 0.05, 0.5), (1, 100, 1000)
WINDOWS = 60  # of a stationary run
REQUESTS = 5_000  # of a run whose latencies are all drawn
CHUNK = 1_000


class Rates(NamedTuple):
    """Counts of runs: ever `worse` at truth 0 and at the tolerance, ever `within` at the tolerance and at twice it."""

    worse_none: int
    worse_edge: int
    within_edge: int
    within_worse: int


class Race:
    """The evidence of many runs of one quantile, at three truths, and who ever reached 1 / alpha."""

    def __init__(self, runs: int, factors: Factors) -> None:
        self.factors = factors
        self.wealth = np.zeros((4, runs, len(RATIOS)))
        self.ever = np.zeros((4, runs), np.bool_)
        self.canary = np.zeros(runs)

    def window(self, exceeding: Floats, rank: Floats, stable: Floats, canary: Floats) -> None:
        """Take a window of each run; `exceeding` is (3, runs), at the truths; runs without a canary request wait."""
        there = canary > 0
        if not there.any():
            return
        for row, (truth, sign) in enumerate(((0, 1), (1, 1), (1, -1), (2, -1))):
            self.wealth[row][there] += self.factors.of(exceeding[truth][there], rank[there], stable[there],
                                                       canary[there], sign)
            self.ever[row] |= log_mix(self.wealth[row]) >= math.log(1 / ALPHA)
        self.canary += canary


def ranks(stable: Floats, quantile: float) -> Floats:
    """Return m as `Quantile` does."""
    found: Floats = np.clip(np.rint(stable * (1 - quantile)), 1, stable)
    return found


def stationary(quantile: float, share: float, looks: int, runs: int, rng: np.random.Generator,
               factors: Factors) -> Race:
    """Draw counts only; windows without a canary request are skipped, as the test does."""
    race, size = Race(runs, factors), window_size(quantile)
    shifts = np.log((1 + TOLERANCE) / (1 + np.array(TRUTHS)))[:, None] / SIGMA
    for _ in range(WINDOWS):
        if looks == 1:
            stable, canary = np.full(runs, float(size)), _some(rng, size, share, runs)
        else:
            stable, canary = np.zeros(runs), np.zeros(runs)
            while (waiting := stable < size).any():
                drawn = rng.binomial(looks, share, runs)
                stable, canary = stable + waiting * (looks - drawn), canary + waiting * drawn
        rank = ranks(stable, quantile)
        slow = rng.beta(rank, stable - rank + 1)
        race.window(rng.binomial(canary.astype(int), ndtr(ndtri(slow) - shifts)).astype(float), rank, stable, canary)
    return race


def _some(rng: np.random.Generator, size: int, share: float, runs: int) -> Floats:
    """Draw how many canary requests come before stable has `size`, given that there is one (by inversion)."""
    most = int(20 + 3 * size * share / (1 - share) + 60 * math.sqrt(size * share) / (1 - share))
    steps = np.arange(1, most)
    weights = np.cumprod(np.concatenate([[1.0], (size + steps - 1) / steps * share]))[1:]
    cumulative = np.cumsum(weights)
    found: Floats = 1.0 + np.searchsorted(cumulative, rng.random(runs) * cumulative[-1])
    return found


def moving(traffic: str, quantile: float, share: float, looks: int, runs: int, rng: np.random.Generator,
           factors: Factors) -> Race:
    """Draw every latency, at a level both versions share; a window ends as in production, at a look."""
    race, size = Race(runs, factors), window_size(quantile)
    length = looks * math.ceil((size + 6 * math.sqrt(size * share)) / (1 - share) / looks)
    shifts = np.log((1 + np.array(TRUTHS)) / (1 + TOLERANCE))
    at, level = rng.uniform(0, 2_500, runs), rng.normal(0, 0.5, runs)
    done = 0
    while done < REQUESTS:
        labels = rng.random((runs, length), np.float32) < share
        enough = np.cumsum(~labels, axis=1)[:, looks - 1::looks] >= size
        enough[:, -1] = True
        last = (np.argmax(enough, axis=1) + 1) * looks
        levels = _levels(traffic, at, level, length, rng)
        seconds = levels + SIGMA * rng.standard_normal((runs, length), np.float32)
        inside = np.arange(length) < last[:, None]
        stable = (inside & ~labels).sum(axis=1).astype(float)
        rank = ranks(stable, quantile)
        ordered = np.sort(np.where(inside & ~labels, seconds, -np.inf), axis=1)
        y = ordered[np.arange(runs), length - rank.astype(int)]
        of_canary = np.where(inside & labels, seconds, -np.inf) - y[:, None]
        exceeding = np.stack([(of_canary > -shift).sum(axis=1) for shift in shifts]).astype(float)
        race.window(exceeding, rank, stable, (inside & labels).sum(axis=1).astype(float))
        at, level = at + last, levels[np.arange(runs), last - 1].astype(float)
        done += int(last.mean())
    return race


def _levels(traffic: str, at: Floats, level: Floats, length: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    when = at[:, None] + np.arange(length)
    if traffic == "diurnal":
        return (0.5 * np.sin(2 * np.pi * when / 2_500)).astype(np.float32)
    if traffic == "drifting":
        return (2e-4 * when).astype(np.float32)
    noise = (0.5 * math.sqrt(1 - 0.99**2)) * rng.standard_normal((len(at), length), np.float32)
    found, _ = lfilter([1.0], [1.0, -0.99], noise, axis=1, zi=0.99 * level[:, None])
    return np.asarray(found, np.float32)


def cell(traffic: str, quantile: float, share: float, looks: int, runs: int, seed: int) -> tuple[Rates, float]:
    """Return the counts of a cell, and the mean horizon in canary requests."""
    rng = np.random.default_rng([seed, int(1000 * quantile), int(1000 * share), looks, len(traffic)])
    counts, canary, factors = np.zeros(4, int), 0.0, Factors()
    for begin in range(0, runs, CHUNK if traffic != "stationary" else runs):
        some = min(CHUNK, runs - begin) if traffic != "stationary" else runs
        race = stationary(quantile, share, looks, some, rng, factors) if traffic == "stationary" else \
            moving(traffic, quantile, share, looks, some, rng, factors)
        counts += race.ever.sum(axis=1)
        canary += float(race.canary.sum())
    return Rates(*map(int, counts)), canary / runs


def cells() -> list[tuple[str, float, float, int]]:
    found = [("stationary", q, share, looks) for q in QUANTILES for share in SHARES for looks in LOOKS]
    for traffic in ("diurnal", "drifting", "autocorrelated"):
        found += [(traffic, q, share, 100) for q in QUANTILES for share in SHARES]
        found += [(traffic, 0.5, share, looks) for share in (0.05, 0.5) for looks in (1, 1000)]
    return found


def error_table(runs: int, seed: int) -> Table:
    rows = []
    for traffic, quantile, share, looks in cells():
        rates, canary = cell(traffic, quantile, share, looks, runs, seed)
        lower = max(float(betaincinv(k, runs - k + 1, 0.001)) if k else 0.0 for k in rates)
        rows.append((traffic, f"p{quantile * 100:g}", f"{share:.0%}", str(looks), f"{canary:,.0f}",
                     *(_rate(k, runs) for k in rates), f"{lower:.4f}", "yes" if lower <= ALPHA else "NO"))
    note = (f"{runs:,} runs a cell, alpha {ALPHA:g}, tolerance {TOLERANCE:.0%}; in brackets the Monte-Carlo standard "
            f"error. A stationary run is {WINDOWS} windows, another {REQUESTS:,} requests; the horizon is its mean in "
            "canary requests. Looks are after so many requests of both versions; a window closes at the first look at "
            "which stable has enough. Diurnal: the level of both versions moves by a factor of 2.7 in 2,500 requests; "
            "drifting: up by a factor of 2.7; autocorrelated: the log of the level is AR(1) with 0.99 from request to "
            "request and as much spread as the service times have. The last two columns: lower 99.9 % bound of the "
            "worst of the four, and whether it is at most alpha.")
    return Table("Latency: wrong verdicts on one quantile", note,
                 ("traffic", "quantile", "share", "looks", "horizon", "`worse` at 0 %", "`worse` at 10 %",
                  "`within` at 10 %", "`within` at 20 %", "lower bound", "kept"), rows)


def _rate(count: int, runs: int) -> str:
    rate = count / runs
    return f"{rate:.4f} ({math.sqrt(rate * (1 - rate) / runs):.4f})"


def tables(runs: int, seed: int) -> list[Table]:
    """Simulate.

    Args:
        runs: of each cell of the error table; the others take a part of it.
    """
    few = min(max(runs // 30, 10), 300)
    return [error_table(runs, seed), power_table(few, seed), climbing_table(few, seed)]
