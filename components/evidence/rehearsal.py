"""Roll-outs drawn from a stated truth, many at a time, with the evidence that the shipping tests would have.

Knows what each test counts and how it bets; asks for no verdict.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.capital import Seen, Window, bet, capital
from penstock.components.evidence.class_sets import MixSeen, set_bet, subsets, within_gamblers, worse_bet
from penstock.components.evidence.count import CountTest, evidence, log_likelihood, mixture
from penstock.components.evidence.exceedance import RATIOS, log_mean, tilts
from penstock.components.evidence.histogram import log_bins
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.mix import MOST_FOR_WITHIN, MixTest
from penstock.components.evidence.quantile import log_mix, window_size
from penstock.components.evidence.rate import RateTest, difference_gamblers
from penstock.components.evidence.sequential import SequentialTest

__all__ = ["Rehearsal", "rehearse"]

Floats = npt.NDArray[np.float64]

MIX_BETS = 40_000  # at once: with 2,000 roll-outs the 1,022 sets of 10 classes would take a minute
FEWEST = 50  # roll-outs
LATENCY_RUNS = 1000
MOST_WINDOWS = 20  # of latencies between two looks


class Rehearsal(ABC):
    """Roll-outs of one test; those that have their verdict are dropped on the way.

    Args:
        share: the canary's part of the requests.
        runs: how many roll-outs.

    Attributes:
        share: of the requests from now on; may be set at any time.
        harm: what the canary does beyond stable, per request that it answers.
        samples: of the test (`SequentialTest.samples`), per request of both versions.
    """

    harm: float
    samples: float

    def __init__(self, share: float, runs: int, seed: int) -> None:
        self.share, self.runs = share, runs
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def after(self, size: int) -> Floats:
        """Let one more window of `size` requests of both versions pass.

        Returns:
            (2, runs) logarithms of the evidence: against "not worse", and against "at least as bad".
        """

    @abstractmethod
    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        """Go on with the roll-outs `which` only, (runs,)."""


def rehearse(test: SequentialTest, baseline: float, effect: float, share: float, runs: int, seed: int) -> Rehearsal:
    """Return roll-outs of `test` under a truth.

    Args:
        baseline: what stable does. RateTest: its share of events; CountTest: its events per request; LatencyTest: the
            standard deviation of the logarithm of its latency, about 0.5 where p99 is 3 times the median. MixTest does
            not ask: stable's classes are equally common.
        effect: what the canary does beyond that, in the unit of the tolerance.

    Raises:
        ConfigError: there is no such truth, or nobody can rehearse such a test.
    """
    if isinstance(test, RateTest):
        return _RateRehearsal(test, baseline, effect, share, runs, seed)
    if isinstance(test, CountTest):
        return _CountRehearsal(test, baseline, effect, share, runs, seed)
    if isinstance(test, MixTest):
        return _MixRehearsal(test, effect, share, runs, seed)
    if type(test) is LatencyTest:  # not of DistributionTest: its `within` is another
        return _LatencyRehearsal(test, baseline, effect, share, min(runs, LATENCY_RUNS), seed)
    raise ConfigError(f"{type(test).__name__} cannot be planned; RateTest, CountTest, LatencyTest and MixTest can")


class _RateRehearsal(Rehearsal):
    """Of a `RateTest`: independent requests, the rates stay as they are."""

    def __init__(self, test: RateTest, baseline: float, effect: float, share: float, runs: int, seed: int) -> None:
        super().__init__(share, runs, seed)
        if not (0 <= baseline <= 1 and 0 <= baseline + effect <= 1):
            raise ConfigError(f"baseline={baseline:g} and effect={effect:g}: stable's share of events and the "
                              f"canary's, {baseline + effect:g}, must be from 0 to 1")
        self._rates, self.harm, self.samples = (baseline, baseline + effect), effect, share
        self._sides = [difference_gamblers(test.tolerance, sign) for sign in (1, -1)]
        self._wealth = np.zeros((2, runs, 1, len(self._sides[0].effects)))
        self._seen, self._waiting = np.zeros((4, runs)), np.zeros((4, runs))

    def after(self, size: int) -> Floats:
        canary = self.rng.binomial(size, self.share, self._seen.shape[1])
        self._waiting += [self.rng.binomial(size - canary, self._rates[0]), size - canary,
                          self.rng.binomial(canary, self._rates[1]), canary]
        complete = (self._waiting[1] > 0) & (self._waiting[3] > 0)
        window = np.where(complete, self._waiting, 0)
        for side, gamblers in enumerate(self._sides):
            self._wealth[side] += bet(gamblers, Seen(*self._seen), Window(*window))
        self._seen += window
        self._waiting -= window
        return np.stack([capital(gamblers, wealth)[:, 0]
                         for gamblers, wealth in zip(self._sides, self._wealth, strict=True)])

    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        self._seen, self._waiting, self._wealth = self._seen[:, which], self._waiting[:, which], self._wealth[:, which]


class _CountRehearsal(Rehearsal):
    """Of a `CountTest`: requests come at random, and so do events."""

    def __init__(self, test: CountTest, baseline: float, effect: float, share: float, runs: int, seed: int) -> None:
        super().__init__(share, runs, seed)
        if not (0 < baseline < math.inf and effect >= -1):
            raise ConfigError(f"baseline={baseline:g} must be stable's events per request, more than 0, and "
                              f"effect={effect:g} the ratio of the canary's rate to stable's minus 1, at least -1")
        self._rates = baseline * np.array([[1.0], [1 + effect]])
        self.harm, self.samples = baseline * effect, baseline * (1 + effect * share)
        self._null = math.log1p(test.tolerance)
        bets = mixture(test.tolerance)
        self._bets = bets.at(int(np.flatnonzero(bets.etas == self._null)[0]))
        self._likelihood = np.zeros((runs, len(self._bets.etas)))

    def after(self, size: int) -> Floats:
        parts = size * np.array([[1 - self.share], [self.share]])
        stable, canary = self.rng.poisson(parts * self._rates, (2, len(self._likelihood)))
        self._likelihood += log_likelihood(self._bets.etas, self._null, stable, canary, self.share)
        return np.moveaxis(evidence(self._bets, self._likelihood)[..., 0], -1, 0)

    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        self._likelihood = self._likelihood[which]


class _MixRehearsal(Rehearsal):
    """Of a `MixTest`: half of the classes grow at the cost of the others, all by as much, the hardest way to see.

    Only the verdict that is right is waited for. Roll-outs are as few as `MIX_BETS` allows: 50 for `within` of 10
    classes give the requests at power 0.9 to within a tenth.
    """

    def __init__(self, test: MixTest, effect: float, share: float, runs: int, seed: int) -> None:
        classes = len(test.classes)
        grown = classes // 2
        if not 0 <= effect <= (classes - grown) / classes:
            raise ConfigError(f"effect={effect:g} must be a total variation distance from 0 to "
                              f"{(classes - grown) / classes:g}, so far as half of {classes} classes can grow")
        self._is_worse = effect > test.tolerance
        if not self._is_worse and classes > MOST_FOR_WITHIN:
            raise ConfigError(f"MixTest says within for up to {MOST_FOR_WITHIN} classes, not for {classes}; merge some")
        self._sets = subsets(classes) if not self._is_worse else np.zeros((2, classes), bool)
        super().__init__(share, min(runs, max(FEWEST, MIX_BETS // max(len(self._sets), 2 * classes))), seed)
        self._stable = np.full(classes, 1 / classes)
        self._canary = self._stable + np.where(np.arange(classes) < grown, effect / grown, -effect / (classes - grown))
        self.harm, self.samples, self._tolerance = effect, share, test.tolerance
        self._gamblers = (difference_gamblers(test.tolerance, 1) if self._is_worse
                          else within_gamblers(test.tolerance)._replace(nulls=np.array([test.tolerance])))
        self._wealth = np.zeros((self.runs, len(self._sets), 1, len(self._gamblers.effects)))
        self._seen = MixSeen.nothing((self.runs,), classes)
        self._waiting = np.zeros((2, self.runs, classes))

    def after(self, size: int) -> Floats:
        requests = self.rng.binomial(size, self.share, self._waiting.shape[1])
        self._waiting += [self.rng.multinomial(size - requests, self._stable),
                          self.rng.multinomial(requests, self._canary)]
        stable, canary = np.where((self._waiting.sum(axis=-1).min(axis=0) > 0)[:, None], self._waiting, 0.0)
        self._wealth += (worse_bet(self._gamblers, self._seen, stable, canary, self._tolerance) if self._is_worse
                         else set_bet(self._gamblers, self._seen, stable, canary, self._sets))
        self._seen = self._seen.after(stable, canary)
        self._waiting -= (stable, canary)
        rows = capital(self._gamblers, self._wealth)[..., 0]
        none = np.full(len(rows), -np.inf)
        if self._is_worse:
            return np.stack([np.logaddexp.reduce(rows, axis=-1) - math.log(rows.shape[-1]), none])
        return np.stack([none, rows.min(axis=-1)])

    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        self._wealth, self._waiting = self._wealth[which], self._waiting[:, which]
        self._seen = MixSeen(*(part[which] for part in self._seen))


class _LatencyRehearsal(Rehearsal):
    """Of a `LatencyTest`: log-normal latencies, each of the canary's slower by the effect.

    Of a window only what the test counts is drawn, exactly: the shares of stable beyond its order statistics, and how
    many of the canary are beyond those. Windows are as short as the quantiles allow, `MOST_WINDOWS` to a look, and all
    have the canary's mean number of requests.
    """

    def __init__(self, test: LatencyTest, spread: float, effect: float, share: float, runs: int, seed: int) -> None:
        super().__init__(share, runs, seed)
        if not 0 < spread < math.inf or effect <= -1:
            raise ConfigError(f"baseline={spread:g} must be the standard deviation of log latency, more than 0, for "
                              f"example 0.5, and effect={effect:g} the canary's slow-down, more than -1")
        if test.floor:
            raise ConfigError(f"floor={test.floor:g} s cannot be planned; say what it is relative to stable's latency, "
                              "as tolerance, and leave floor at 0")
        self.harm, self.samples = 1.0, share
        edges = log_bins(test.tolerance, [1.0])[0].edges
        lost = math.log(edges[2] / edges[1]) / 2  # counts are taken at the far edge of a bin
        slower = math.log1p(effect) - math.log1p(test.tolerance)
        self._shifts = (slower - lost) / spread, (slower + lost) / spread
        self._tails = np.sort(1 - np.array(test.quantiles))
        self._stable = max(map(window_size, test.quantiles))
        self._wealth = np.zeros((2, runs, len(self._tails), len(RATIOS)))
        self._best = np.zeros((runs, len(self._tails)))  # against "at least as bad"; a quantile stays within
        self._waiting, self._begun = 0, False

    def after(self, size: int) -> Floats:
        self._waiting += size
        least = max(self._stable / (1 - self.share) if self._begun else 2 * self._stable, 1 / self.share)
        if windows := min(int(self._waiting / least), MOST_WINDOWS):
            canary = max(1, round(self._waiting / windows * self.share))
            self._close(windows, round(self._waiting / windows - canary), canary)
            self._waiting, self._begun = 0, True
        evidence = log_mix(self._wealth)
        self._best = np.maximum(self._best, evidence[1])
        worse = evidence[0].max(axis=-1) - math.log(len(self._tails))
        return np.stack([worse, self._best.min(axis=-1)])

    def _close(self, windows: int, stable: int, canary: int) -> None:
        ranks = np.clip(np.rint(stable * self._tails), 1, stable)
        gaps = self.rng.standard_gamma(np.diff(ranks, prepend=0, append=stable + 1), (
            windows, self._wealth.shape[1], len(ranks) + 1))
        beyond = ndtri(gaps.cumsum(axis=-1)[..., :-1] / gaps.sum(axis=-1, keepdims=True))
        for side, (sign, shift) in enumerate(zip((1, -1), self._shifts, strict=True)):
            between = np.diff(ndtr(beyond + shift), prepend=0, append=1, axis=-1)
            exceeding = self.rng.multinomial(canary, between).cumsum(axis=-1)[..., :-1].sum(axis=0)
            steps = sign * tilts(stable, canary)
            means = log_mean(steps, ranks[:, None], stable, canary)
            self._wealth[side] += exceeding[..., None] * steps - windows * means

    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        self._wealth, self._best = self._wealth[:, which], self._best[which]
