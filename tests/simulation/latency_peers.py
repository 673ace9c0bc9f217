"""Latency verdicts beside those of other methods: confidence sequences per version, and one sample of a fixed size.

The peers compare the lower end of one version's sequence with the upper end of the other's (union bound, alpha / 2 on
each side): Howard and Ramdas (2022) for one quantile, by the beta-binomial mixture, and their uniform band for all.
They pool all that a version has answered; latencies are drawn in 1,500 bins, which is all their order statistics need.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from latency_traffic import Sizes
from latency_traffic import ranks as order_statistic
from scipy.special import betaln, ndtr, ndtri, xlog1py, xlogy
from table import ALPHA, Table, written

from penstock.components.evidence.exceedance import RATIOS, log_mean, tilts
from penstock.components.evidence.quantile import log_mix, window_size

__all__ = ["Factors", "beta_binomial_log_e", "climbing_table", "fixed_sample", "power_table", "ranks", "uniform_width"]

Floats = npt.NDArray[np.float64]
Ends = Callable[[int, float], tuple[int, int]]  # samples, quantile -> ranks of the ends, 0 and n + 1 for none

SIGMA, TOLERANCE = 0.5, 0.05
CENTRES = np.linspace(-4, 6, 1501)  # of the bins, in standard deviations of the log of a service time
MOST = 400_000  # canary requests
EFFECTS = (0.1, 0.25, 1.0, 0.0)  # the canary is so much slower; 0: how long `within` takes


def beta_binomial_log_e(count: npt.ArrayLike, samples: npt.ArrayLike, p: float) -> Floats:
    """Return the log evidence against "the p-quantile is x" from how many samples are at most x.

    A beta mixture with mean p (the conjugate mixture of Howard and Ramdas 2022); a + b = 10 / (1 - p).
    """
    k, n = np.asarray(count, float), np.asarray(samples, float)
    a, b = 10 * p / (1 - p), 10.0
    found: Floats = betaln(a + k, b + n - k) - betaln(a, b) - xlogy(k, p) - xlog1py(n - k, -p)
    return found


def ranks(samples: int, p: float) -> tuple[int, int]:
    """Return between which order statistics the p-quantile is; 0 and n + 1 where there is no bound."""
    def next_to_it(inside: int, outside: int, beyond: int) -> int:
        """Return the count next to the confidence set, on the side of `outside`; the set is one interval."""
        if beta_binomial_log_e(outside, samples, p) < math.log(1 / ALPHA):
            return beyond
        while abs(outside - inside) > 1:
            middle = (inside + outside) // 2
            is_in = beta_binomial_log_e(middle, samples, p) < math.log(1 / ALPHA)
            inside, outside = (middle, outside) if is_in else (inside, middle)
        return outside

    middle = round(samples * p)
    return next_to_it(middle, 0, -1) + 1, next_to_it(middle, samples, samples + 1)


def uniform_width(samples: int) -> float:
    """Return half the width of a band around the distribution function, valid at all times (Howard and Ramdas 2022)."""
    return 0.85 * math.sqrt((math.log(math.log(math.e * samples)) + 0.8 * math.log(1612 / ALPHA)) / samples)


def uniform_ranks(samples: int, p: float) -> tuple[int, int]:
    width = uniform_width(samples)
    return max(math.floor(samples * (p - width)), 0), min(math.ceil(samples * (p + width)) + 1, samples + 1)


def fixed_sample(p: float, share: float, effect: float, power: float = 0.9, tolerance: float = TOLERANCE) -> float:
    """Return the canary requests of a two-sample z-test of log quantiles, with their asymptotic variance."""
    distance = abs(math.log((1 + effect) / (1 + tolerance))) / SIGMA
    density = math.exp(-ndtri(p) ** 2 / 2) / math.sqrt(2 * math.pi)
    variance = p * (1 - p) / density**2 / (1 - share)
    return float((ndtri(1 - ALPHA) + ndtri(power)) ** 2 * variance / distance**2)


def ours(p: float, share: float, effect: float, runs: int, rng: np.random.Generator) -> Floats:
    """Return the canary requests of each run until the right verdict, looking after every request."""
    sign, shift = 1 if effect > TOLERANCE else -1, math.log((1 + TOLERANCE) / (1 + effect)) / SIGMA
    wealth, used, needed = np.zeros((runs, len(RATIOS))), np.zeros(runs), np.full(runs, math.inf)
    sizes, factors = Sizes(window_size(p), 1, runs), Factors()
    while (alive := np.isinf(needed) & (used < MOST)).any():
        stable, canary = sizes.draw(share, rng)
        used += canary
        wealth += bet(factors, p, stable, canary, shift, sign, alive, rng)
        there = alive & (log_mix(wealth) >= math.log(1 / ALPHA))
        needed[there] = used[there]
    return needed


def bet(factors: "Factors", p: float, stable: Floats, canary: Floats, shift: float, sign: int,
        alive: npt.NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """Draw what the test counts in a window of each run; return its log factors, (runs, K), 0 where it counts nothing.

    Args:
        shift: logarithm of (1 + tolerance) over the canary's slow-down, in standard deviations.
        alive: (runs,) which runs still ask.
    """
    some = alive & (stable > 0) & (canary > 0)
    n_s, n_c = stable[some], canary[some]
    rank = order_statistic(n_s, p)
    slow = ndtr(ndtri(rng.beta(rank, n_s - rank + 1)) - shift)
    found = np.zeros((len(stable), len(RATIOS)))
    found[some] = factors.of(rng.binomial(n_c.astype(int), slow).astype(float), rank, n_s, n_c, sign)
    return found


class Factors:
    """`log_factors` of many runs, with the mean of each size of window worked out once."""

    def __init__(self) -> None:
        self._places: dict[tuple[float, float, int], int] = {}
        self._rows: list[tuple[Floats, Floats]] = []

    def of(self, exceeding: Floats, rank: Floats, stable: Floats, canary: Floats, sign: int) -> Floats:
        """Return (runs, K); all arguments but `sign` are (runs,), with at least one canary request each."""
        if not len(exceeding):
            return np.zeros((0, len(RATIOS)))
        _, first, where = np.unique(stable * 1e7 + canary, return_index=True, return_inverse=True)
        keys = [(stable[at], canary[at], sign) for at in first]
        new = [at for at, key in zip(first, keys, strict=True) if key not in self._places]
        if new:
            h = sign * tilts(stable[new], canary[new])
            means = log_mean(h, rank[new, None], stable[new, None], canary[new, None])
            for at, *row in zip(new, h, means, strict=True):
                self._places[stable[at], canary[at], sign] = len(self._rows)
                self._rows.append((row[0], row[1]))
        h, means = (np.array([self._rows[self._places[key]][part] for key in keys])[where] for part in (0, 1))
        found: Floats = exceeding[:, None] * h - means
        return found


class Pool:
    """Everything that a version has answered, of many runs, in bins."""

    def __init__(self, runs: int) -> None:
        self.counts = np.zeros((runs, len(CENTRES)))
        self.size = 0

    def add(self, requests: int, level: float, rng: np.random.Generator) -> None:
        edges = (CENTRES[1:] + CENTRES[:-1]) / 2 - level
        shares = np.diff(ndtr(edges), prepend=0.0, append=1.0)
        self.counts += rng.multinomial(requests, shares, len(self.counts))
        self.size += requests

    def at(self, rank: int) -> Floats:
        """Return the order statistic of each run, infinite beyond the sample."""
        if not 1 <= rank <= self.size:
            return np.full(len(self.counts), -math.inf if rank < 1 else math.inf)
        found: Floats = CENTRES[np.argmax(np.cumsum(self.counts, axis=1) >= rank, axis=1)]
        return found


def verdicts(stable: Pool, canary: Pool, p: float, ends: Ends, tolerance: float) -> tuple[npt.NDArray[np.bool_], ...]:
    """Return which runs say `worse` and which `within`."""
    (low_s, high_s), (low_c, high_c) = ends(stable.size, p), ends(canary.size, p)
    allowed = math.log1p(tolerance) / SIGMA
    return canary.at(low_c) > stable.at(high_s) + allowed, canary.at(high_c) < stable.at(low_s) + allowed


def peer(p: float, share: float, effect: float, ends: Ends, runs: int, rng: np.random.Generator) -> Floats:
    """Return the canary requests of each run until the right verdict, looking 30 times in every tenfold."""
    stable, canary, needed = Pool(runs), Pool(runs), np.full(runs, math.inf)
    for look in range(30, 1000):
        total = round(10 ** (look / 30))
        if total > MOST or np.isfinite(needed).all():
            break
        canary.add(total - canary.size, math.log1p(effect) / SIGMA, rng)
        stable.add(round(total * (1 - share) / share) - stable.size, 0.0, rng)
        worse, within = verdicts(stable, canary, p, ends, TOLERANCE)
        needed[(worse if effect > TOLERANCE else within) & np.isinf(needed)] = total
    return needed


def power_table(runs: int, seed: int) -> Table:
    rng, rows = np.random.default_rng([seed, 11]), []
    for p in (0.5, 0.99):
        for share in (0.05, 0.2, 0.5):
            for effect in EFFECTS:
                found = ours(p, share, effect, runs, rng)
                few = min(runs, 20)
                others = [peer(p, share, effect, ends, few, rng) for ends in (ranks, uniform_ranks)]
                rows.append((f"p{p * 100:g}", f"{share:.0%}", f"{effect:.0%}", _number(np.median(found)),
                             _number(np.quantile(found, 0.95, method="higher")),
                             _number(fixed_sample(p, share, effect)), *(_number(np.median(each)) for each in others)))
    note = (f"Canary requests until `worse`, or `within` at 0 %, where {TOLERANCE:.0%} slower is tolerated; alpha "
            f"{ALPHA:g}, lognormal service times with sigma {SIGMA:g}, {runs} runs ({min(runs, 20)} of the peers). The "
            "fixed sample has power 0.9 and is looked at once. The peers: confidence sequences of each version's "
            f"quantile, and the band around its whole distribution function. -: more than {MOST:,}.")
    return Table("Latency: requests until the verdict", note,
                 ("quantile", "share", "slower by", "median", "95 % of runs", "fixed sample", "sequence per version",
                  "uniform band"), rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def climbing_table(runs: int, seed: int) -> Table:
    """Let shares climb while latency doubles from night to day, or falls back."""
    rng, tolerance = np.random.default_rng([seed, 12]), 0.1
    rows: list[tuple[str, ...]] = []
    for name, sign, effect in (("night to day", 1, 0.0), ("day to night", -1, 2 * tolerance)):
        for p in (0.5, 0.99):
            shift = math.log((1 + tolerance) / (1 + effect)) / SIGMA
            stable, canary, factors = Pool(runs), Pool(runs), Factors()
            sizes, wealth = Sizes(window_size(p), 1, runs), np.zeros((runs, len(RATIOS)))
            pooled, mine = np.zeros(runs, np.bool_), np.zeros(runs, np.bool_)
            for part in range(60):
                share = (0.01, 0.05, 0.5)[part // 20]
                level = sign * math.log(2) * (1 - math.cos(math.pi * (part + 0.5) / 60)) / 2 / SIGMA
                canary.add(round(1000 * share), level + math.log1p(effect) / SIGMA, rng)
                stable.add(1000 - round(1000 * share), level, rng)
                pooled |= verdicts(stable, canary, p, ranks, tolerance)[0 if sign > 0 else 1]
                for _ in range(max(round(1000 * (1 - share) / window_size(p)), 1)):
                    wealth += bet(factors, p, *sizes.draw(share, rng), shift, sign, ~mine, rng)
                    mine |= log_mix(wealth) >= math.log(1 / ALPHA)
            rows.append((name, f"p{p * 100:g}", f"{effect:.0%}", "`worse`" if sign > 0 else "`within`",
                         written(int(mine.sum()), runs), written(int(pooled.sum()), runs)))
    note = ("60,000 requests with a share of 1, 5 and 50 %, 20,000 each, while the latency of both versions doubles "
            f"or halves; {tolerance:.0%} slower is tolerated. False verdicts in per cent, {runs:,} runs a row.")
    return Table("Latency: wrong verdicts while shares climb and the day goes on", note,
                 ("latency", "quantile", "truth", "wrong verdict", "windows", "pooled per version"), rows)
