"""What is left of the error rates when requests come in bursts: without a block, with the guard, with the sandwich.

Draws no picture and writes no file.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtri
from table import ALPHA, Table, written

from penstock.components.evidence.asymptotic import FEWEST, Batches, half_normal_evidence, sandwich
from penstock.components.evidence.capital import Seen, Window, bet, capital
from penstock.components.evidence.dependence import ClumpingSeen, clump_evidence, clumping_log_e
from penstock.components.evidence.rate import difference_gamblers

Floats = npt.NDArray[np.float64]
Look = tuple[int, int, float]  # requests of stable and of the canary, and where on the way to the horizon, 0 to 1

TOLERANCE = 0.01
BASELINE = 0.05
HORIZON = 20_000  # canary requests
EVERY = 2000  # looks of the stated size, before the steps grow
GROWTH = 0.02
WARNED = 0.01  # as Clumping's default
GUARD = math.log(1 / WARNED)
CORRELATION = 0.9  # of one request's latent value with the next one's, for AR(1)


def looks(share: float, every: int) -> Iterator[Look]:
    """Plan windows of `every` requests; those without a request of either version are joined with the next."""
    done, number, before = 0.0, 0, (0, 0)
    while done * share < HORIZON:
        done += every if number < EVERY else max(every, round(GROWTH * done))
        number += 1
        canary = math.floor(done * share + 1e-9)
        now = (round(done) - canary, canary)
        if now[0] > before[0] and now[1] > before[1]:
            yield now[0] - before[0], now[1] - before[1], min(done * share / HORIZON, 1.0)
            before = now


class Bursts:
    """Requests of one version in their order; those of a burst all end alike."""

    def __init__(self, size: int, runs: int, random: np.random.Generator) -> None:
        self.size, self.runs, self.random = size, runs, random
        self._place, self._bad = 0, np.zeros(runs)

    def next(self, requests: int, rate: float) -> Floats:
        """Return how many of the next requests failed, (runs,)."""
        rest = min(-self._place % self.size, requests)
        whole, begun = divmod(requests - rest, self.size)
        found = rest * self._bad + self.size * self.random.binomial(whole, rate, self.runs)
        if begun:
            self._bad = (self.random.random(self.runs) < rate).astype(float)
            found = found + begun * self._bad
        self._place += requests
        return np.asarray(found, float)


class Latent(Bursts):
    """Requests whose latent values are an AR(1) process: each fails if its value is below the quantile of the rate."""

    def __init__(self, size: int, runs: int, random: np.random.Generator) -> None:
        super().__init__(1, runs, random)
        self._value = random.normal(size=(runs, 1))

    def next(self, requests: int, rate: float) -> Floats:
        shocks = self.random.normal(size=(self.runs, requests)) * math.sqrt(1 - CORRELATION**2)
        values, _ = lfilter([1.0], [1.0, -CORRELATION], shocks, axis=1, zi=CORRELATION * self._value)
        self._value = values[:, -1:]
        return np.asarray((values < ndtri(rate)).sum(axis=1), float)


def guard(share: float, every: int, size: int, runs: int, seed: int) -> dict[str, Floats]:
    """Say when the canary, exactly like stable, is first called worse: without and with the guard, and with a block.

    Returns:
        canary requests, (runs,) each, infinite for never: `bare`, `guarded`, `block`; and `warned`, `factor`.
    """
    random, gamblers = np.random.default_rng(seed), difference_gamblers(TOLERANCE, 1)
    arms, clumps = [Bursts(size, runs, random) for _ in range(2)], ClumpingSeen.nothing((runs,))
    wealth = np.zeros((2, runs, 1, len(gamblers.effects)))
    seen = [Seen(*np.zeros((4, runs))) for _ in range(2)]
    found = {name: np.full(runs, np.inf) for name in ("bare", "guarded", "block", "warned")}
    done = 0
    for stable, canary, _ in looks(share, every):
        counts = [arm.next(requests, BASELINE) for arm, requests in zip(arms, (stable, canary), strict=True)]
        done += canary
        clumps = clump_evidence(clumps, np.stack(counts, axis=-1),
                                np.broadcast_to([float(stable), float(canary)], (runs, 2)))
        certain = clumping_log_e(clumps) >= GUARD
        over = []
        for index, block in enumerate((1, size)):
            window = Window(*(np.broadcast_to(np.asarray(part, float), (runs,)) / block
                              for part in (counts[0], stable, counts[1], canary)))
            wealth[index] += bet(gamblers, seen[index], window)
            seen[index] = seen[index].after(window)
            over.append(capital(gamblers, wealth[index])[:, 0] >= math.log(1 / ALPHA))
        for name, now in (("bare", over[0]), ("guarded", over[0] & ~certain), ("block", over[1]), ("warned", certain)):
            found[name] = np.where(now & np.isinf(found[name]), done, found[name])
    found["factor"] = clumps.spread[:, 0] / np.maximum(clumps.spread[:, 1], 1e-9)
    return found


def warned(share: float, every: int, base: Callable[[float], float], runs: int, seed: int) -> int:
    """Count the runs in which independent requests are ever taken for bursts."""
    random, clumps, ever = np.random.default_rng(seed), ClumpingSeen.nothing((runs,)), np.zeros(runs, bool)
    for stable, canary, place in looks(share, every):
        requests = np.array([stable, canary])
        clumps = clump_evidence(clumps, random.binomial(requests, base(place), (runs, 2)).astype(float),
                                np.broadcast_to(requests.astype(float), (runs, 2)))
        ever |= clumping_log_e(clumps) >= GUARD
    return int(ever.sum())


def asymptotic(arm: type[Bursts], size: int, share: float, every: int, truth: float, runs: int,
               seed: int) -> tuple[int, int]:
    """Count the runs in which AsymptoticRateTest ever says `worse`, and ever `within`."""
    random = np.random.default_rng(seed)
    arms = [arm(size, runs, random) for _ in range(2)]
    batches, first = Batches.nothing((runs,)), np.zeros(runs)
    ever = np.zeros((2, runs), bool)
    for stable, canary, _ in looks(share, every):
        counts = [each.next(requests, rate) for each, requests, rate in zip(
            arms, (stable, canary), (BASELINE, BASELINE + truth), strict=True)]
        batches = batches.after(counts[0], stable, counts[1], canary)
        if batches.full >= FEWEST:
            total, weight, variance = sandwich(batches)
            first = first if first.any() else variance
            above = total - TOLERANCE * weight
            ever |= np.stack([half_normal_evidence(sign * above, variance, first) for sign in (1, -1)]) \
                >= math.log(1 / ALPHA)
    return int(ever[0].sum()), int(ever[1].sum())


def tables(runs: int, seed: int) -> list[Table]:
    """Return the tables of the guard and of the sandwich."""
    return [_guard(runs, seed), _false_warnings(runs, seed), _sandwich(runs, seed)]


def _guard(runs: int, seed: int) -> Table:
    lines = []
    for share in (0.01, 0.05, 0.5):
        for every in (1, 100, 1000):
            found = guard(share, every, 20, runs, seed)
            wrong = (written(int(np.isfinite(found[name]).sum()), runs) for name in ("bare", "guarded", "block"))
            warned = found["warned"]
            lines.append((f"{share * 100:g} %", f"{every:,}", *wrong, f"{np.isfinite(warned).mean() * 100:.1f}",
                          f"{np.median(warned):,.0f}", f"{np.median(found['factor']):.1f}"))
    return Table(
        "Bursts that nobody spoke of: ever `worse` although the canary is exactly like stable",
        f"RateTest with block=1, {BASELINE * 100:g} % of the requests fail, 20 in a row; tolerance "
        f"{TOLERANCE * 100:g} point, {HORIZON:,} canary requests, {runs:,} runs, in per cent. The guard refuses a "
        f"verdict once it is certain of bursts; a burst that hits the canary before that is still taken for a bad "
        f"canary, and the more so the larger its share. Only a block of the length of a burst, or a session id, keeps "
        f"the promise of {ALPHA * 100:g} %.",
        ("share", "look every", "no guard", "with the guard", "block=20", "warned of",
         "warned after (canary requests, median)", "size of a burst, as said"), lines)


def _false_warnings(runs: int, seed: int) -> Table:
    patterns: dict[str, Callable[[float], float]] = {
        "stationary": lambda place: BASELINE,
        "diurnal": lambda place: BASELINE * (1 + 0.8 * math.sin(2 * math.pi * 5 * place)),
        "drifting": lambda place: BASELINE * (1 + 2 * place),
        "an outage of both": lambda place: BASELINE * (5 if 0.4 < place < 0.6 else 1)}
    lines = []
    for share in (0.01, 0.05, 0.5):
        for every in (1, 100, 1000):
            ever = [warned(share, every, base, runs, seed + 7) for base in patterns.values()]
            lines.append((f"{share * 100:g} %", f"{every:,}", *(written(count, runs, WARNED) for count in ever)))
    return Table(
        "False warnings of bursts",
        f"Independent requests, {HORIZON:,} canary requests, {runs:,} runs: per cent in which the guard is ever "
        f"certain of bursts. {WARNED * 100:g} % is promised while the rate does not bend sharply from one look to "
        f"the next.",
        ("share", "look every", *patterns), lines)


def _sandwich(runs: int, seed: int) -> Table:
    lines = []
    kinds: tuple[tuple[str, type[Bursts], int], ...] = (
        ("independent", Bursts, 1), ("bursts of 5", Bursts, 5), ("bursts of 20", Bursts, 20),
        (f"AR(1), {CORRELATION:g}", Latent, 1))
    for name, arm, size in kinds:
        for share in (0.05, 0.5):
            if arm is Latent and share < 0.5:
                continue  # request by request, 20 times as long
            line = []
            for truth, side in ((0.0, 0), (TOLERANCE, 0), (TOLERANCE, 1), (2 * TOLERANCE, 0), (0.0, 1)):
                line.append(asymptotic(arm, size, share, 100, truth, runs, seed + 3)[side])
            lines.append((name, f"{share * 100:g} %", *(written(count, runs) for count in line[:3]),
                          *(f"{count / runs * 100:.1f}" for count in line[3:])))
    return Table(
        "AsymptoticRateTest: measured error and power",
        f"Per cent of {runs:,} runs, {BASELINE * 100:g} % errors, tolerance {TOLERANCE * 100:g} point, {HORIZON:,} "
        f"canary requests, looks every 100 requests. The first three columns of figures are errors, for which "
        f"{ALPHA * 100:g} % are aimed at and nothing is promised; the last two are right.",
        ("requests", "share", "`worse`, truth 0", "`worse`, truth = tolerance", "`within`, truth = tolerance",
         "`worse`, truth = 2 x tolerance", "`within`, truth 0"), lines)
