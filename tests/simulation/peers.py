"""Rivals of RateTest: what else could judge the same windows. Each takes windows of many runs at once.

Draws no traffic, decides nothing about a roll-out.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import mannwhitneyu, norm

from penstock.components.evidence.capital import Gamblers, Seen, Window, bet, capital
from penstock.components.evidence.rate import difference_gamblers

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ALPHA = 0.05
MEANS = np.concatenate([[1e-5], np.geomspace(1e-4, 0.5, 160), np.linspace(0.52, 0.999, 12)])  # of the confidence grid


class Verdicts(NamedTuple):
    """Which runs say so at this look; each (runs,)."""

    worse: Flags
    within: Flags


class Judge(Protocol):
    """Whoever may be shown one window after another."""

    def look(self, window: Window) -> Verdicts:
        """Take a window; empty ones, where both arms have no request, change nothing."""


class Bets:
    """RateTest's own bets, for many runs."""

    def __init__(self, tolerance: float, runs: int) -> None:
        self._sides = [difference_gamblers(tolerance, sign) for sign in (1, -1)]
        self._wealth = [np.zeros((runs, 1, len(side.effects))) for side in self._sides]
        self._seen = Seen(*np.zeros((4, runs)))

    def look(self, window: Window) -> Verdicts:
        for index, side in enumerate(self._sides):
            self._wealth[index] += bet(side, self._seen, window)
        self._seen = self._seen.after(window)
        return Verdicts(*(_evidence(side, wealth) >= math.log(1 / ALPHA)
                          for side, wealth in zip(self._sides, self._wealth, strict=True)))


def _evidence(side: Gamblers, wealth: Floats) -> Floats:
    return capital(side, wealth)[:, 0]


class Projected:
    """The e-process of Turner, Ly and Gruenwald (2024) for 2x2 tables, window by window, with the exact projection.

    The alternative is the plug-in estimate from the windows before (their prior, Beta(0.18, 0.18)); the null's point is
    the one on p_c = p_s + tolerance with the least Kullback-Leibler divergence.
    """

    def __init__(self, tolerance: float, runs: int) -> None:
        self._tolerance = tolerance
        self._log_e = np.zeros((2, runs))
        self._seen = Seen(*np.zeros((4, runs)))

    def look(self, window: Window) -> Verdicts:
        seen, shift = self._seen, self._tolerance
        stable = (seen.stable_events + 0.18) / (seen.stable + 0.36)
        canary = (seen.canary_events + 0.18) / (seen.canary + 0.36)
        null = projection(stable, canary, window.stable, window.canary, shift)
        gain = (xlogy(window.stable_events, stable / null)
                + xlogy(window.stable - window.stable_events, (1 - stable) / (1 - null))
                + xlogy(window.canary_events, canary / (null + shift))
                + xlogy(window.canary - window.canary_events, (1 - canary) / (1 - null - shift)))
        self._log_e[0] += np.where(canary - stable > shift, gain, 0.0)
        self._log_e[1] += np.where(canary - stable < shift, gain, 0.0)
        self._seen = seen.after(window)
        return Verdicts(*(self._log_e >= math.log(1 / ALPHA)))


def projection(stable: Floats, canary: Floats, many_s: Floats, many_c: Floats, shift: float) -> Floats:
    """Return the p_s for which (p_s, p_s + shift) is hardest to tell from (stable, canary); by bisection."""
    low = np.full(np.shape(stable), max(0.0, -shift) + 1e-12)
    high = np.full(np.shape(stable), min(1.0, 1.0 - shift) - 1e-12)
    for _ in range(32):  # to 1e-10
        middle = (low + high) / 2
        shifted = middle + shift
        slope = many_s * (middle - stable) / (middle * (1 - middle)) \
            + many_c * (shifted - canary) / (shifted * (1 - shifted))
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    return (low + high) / 2


class PerArm:
    """Betting confidence sequences, one per arm, pooled over all windows (Waudby-Smith and Ramdas 2024).

    Predictable plug-in bets on the grid `MEANS`; each bound has alpha / 2, so that a lower and an upper one together
    have alpha (a union bound). The bets of a window are set by the windows before.
    """

    def __init__(self, tolerance: float, runs: int) -> None:
        self._tolerance = tolerance
        self._lost = np.zeros((2, 2, runs, len(MEANS)))  # arm, bound, run, mean: log capital against it
        self._sums = np.zeros((2, 2, runs))  # arm; events, requests
        self.bounds = np.stack([np.zeros((2, runs)), np.ones((2, runs))])  # lower, upper; arm; run

    def look(self, window: Window) -> Verdicts:
        for arm, (events, many) in enumerate(((window.stable_events, window.stable),
                                              (window.canary_events, window.canary))):
            before, count = self._sums[arm]
            mean = (before + 0.5) / (count + 1)
            spread = (before * (1 - mean) + 0.25) / (count + 1)
            size = np.sqrt(2 * math.log(2 / ALPHA) / (spread * (count + 1) * np.log(count + 2)))[:, None]
            up, down = np.minimum(size, 0.5 / MEANS), np.minimum(size, 0.5 / (1 - MEANS))
            good = (many - events)[:, None]
            self._lost[arm, 0] += events[:, None] * np.log1p(up * (1 - MEANS)) + good * np.log1p(-up * MEANS)
            self._lost[arm, 1] += events[:, None] * np.log1p(-down * (1 - MEANS)) + good * np.log1p(down * MEANS)
            self._sums[arm] += events, many
            self.bounds[0, arm] = np.maximum(self.bounds[0, arm], crossing(self._lost[arm, 0], MEANS, 0.0))
            self.bounds[1, arm] = np.minimum(
                self.bounds[1, arm], crossing(self._lost[arm, 1][:, ::-1], MEANS[::-1], 1.0))
        (low_s, low_c), (high_s, high_c) = self.bounds
        return Verdicts(low_c - high_s > self._tolerance, high_c - low_s < self._tolerance)


def crossing(lost: Floats, means: Floats, nothing: float) -> Floats:
    """Return the mean up to which the capital against it is enough, interpolated; `nothing` where there is none."""
    threshold = math.log(2 / ALPHA)
    out = lost >= threshold
    last = np.clip(len(means) - 1 - np.argmax(out[:, ::-1], axis=-1), 0, len(means) - 2)
    here, there = (np.take_along_axis(lost, at[:, None], axis=-1)[:, 0] for at in (last, last + 1))
    part = np.clip((here - threshold) / np.maximum(here - there, 1e-12), 0, 1)
    return np.where(out.any(axis=-1), means[last] + part * (means[last + 1] - means[last]), nothing)


class Peeked:
    """The score test of a difference on everything so far, at its fixed-sample level, at each look."""

    def __init__(self, tolerance: float, runs: int) -> None:
        self._tolerance, self._seen = tolerance, Seen(*np.zeros((4, runs)))

    def look(self, window: Window) -> Verdicts:
        self._seen = self._seen.after(window)
        score, ready = z_score(self._seen, self._tolerance)
        critical = float(norm.ppf(1 - ALPHA))
        return Verdicts(ready & (score > critical), ready & (score < -critical))


def z_score(seen: Seen, tolerance: float) -> tuple[Floats, Flags]:
    """Return the score statistic of a difference (Farrington and Manning 1990), and where there is anything to judge.

    Its standard error is that of the point of p_c = p_s + tolerance which fits best, so rare events do not fool it.
    """
    many_s, many_c = np.maximum(seen.stable, 1), np.maximum(seen.canary, 1)
    stable, canary = seen.stable_events / many_s, seen.canary_events / many_c
    null = projection(stable, canary, many_s, many_c, tolerance)
    error = np.sqrt(null * (1 - null) / many_s + (null + tolerance) * (1 - null - tolerance) / many_c)
    score: Floats = (canary - stable - tolerance) / np.maximum(error, 1e-12)
    return score, (seen.stable > 0) & (seen.canary > 0)


def fixed_sample(baseline: float, tolerance: float, truth: float, share: float, power: float = 0.9) -> float:
    """Return the canary requests of the score test, planned beforehand and looked at once.

    n = (z_{1-alpha} sd_0 + z_{power} sd_1)^2 / (truth - tolerance)^2, where
    sd^2 = p_c (1 - p_c) + p_s (1 - p_s) share / (1 - share), at the closest point of the null for sd_0 and at the
    truth for sd_1.

    Args:
        truth: the canary's share of events minus stable's.
    """
    null = float(projection(np.array(baseline), np.array(baseline + truth), np.array(1 - share), np.array(share),
                            tolerance))

    def deviation(stable: float, canary: float) -> float:
        return math.sqrt(canary * (1 - canary) + stable * (1 - stable) * share / (1 - share))

    quantiles = float(norm.ppf(1 - ALPHA)), float(norm.ppf(power))
    return ((quantiles[0] * deviation(null, null + tolerance) + quantiles[1] * deviation(baseline, baseline + truth))
            / (truth - tolerance)) ** 2


class Ranks:
    """A Mann-Whitney test on the rates of all windows so far, at each look, as Kayenta's judge has it.

    It knows no tolerance, and says `worse` at a one-sided level of 0.01 (Kayenta: a two-sided 98 % interval).
    """

    LEVEL, FIRST = 0.01, 5

    def __init__(self, _: float, runs: int) -> None:
        self._rates: list[Floats] = []
        self._never = np.zeros(runs, bool)

    def look(self, window: Window) -> Verdicts:
        self._rates.append(np.stack([window.stable_events / np.maximum(window.stable, 1),
                                     window.canary_events / np.maximum(window.canary, 1)]))
        if len(self._rates) < self.FIRST:
            return Verdicts(self._never, self._never)
        stable, canary = np.stack(self._rates, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):  # all rates alike: no p-value, no verdict
            found = mannwhitneyu(canary, stable, alternative="greater", method="asymptotic", axis=-1).pvalue
        return Verdicts(np.nan_to_num(found, nan=1.0) < self.LEVEL, self._never)
