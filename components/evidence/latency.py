"""Quantiles of latency, canary against stable: seconds or counts in buckets in, verdict out.

A window's evidence is in `exceedance`, what is known of one quantile in `quantile`, the counting in `histogram`.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.decision import NEVER, Decision, Verdict, changed, plain, somewhere
from penstock.components.evidence.histogram import Bins, log_bins, prometheus_bins
from penstock.components.evidence.quantile import Quantile, Ratio
from penstock.components.evidence.rate import RateTest
from penstock.components.evidence.sequential import (
    HOPELESS,
    SequentialTest,
    State,
    is_number,
    numeric,
    restored,
    tallied,
)

__all__ = ["LatencyTest"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FINEST = 0.005  # relative; a finer tolerance would need tens of thousands of bins
FARTHEST = 20.0  # ratio that the confidence sequence still tells from larger ones


def _ratios(tolerance: float) -> Floats:
    """Return the ratios that a confidence sequence tells apart: a fifth of the tolerance, and coarser farther off."""
    unit = max(abs(math.log1p(tolerance)), 0.02)
    far = np.geomspace(2 * unit, math.log(FARTHEST), max(math.ceil(math.log(math.log(FARTHEST) / unit / 2) / 0.18), 2))
    found = np.unique(np.concatenate([unit * np.arange(11) / 5, far[far > 2 * unit]]))
    ratios: Floats = np.exp(np.concatenate([-found[:0:-1], found]))
    return ratios


class LatencyTest(SequentialTest):
    """Is the canary at most `tolerance` slower than stable, in the same windows, at each of some quantiles?

    A window of a quantile ends with the first update by which both versions together have had as many requests as were
    chosen when it began, so many that about `window_size` are stable's (400 for p99), and its evidence is multiplied
    with that of the windows before. Let S(x) be the share of requests slower than x. With probability at most alpha the
    test ever says `worse` while S_canary((1 + tolerance) x) <= S_stable(x) for all x in every window, and with
    probability at most alpha ever `within` while, at one of the quantiles, it is at least S_stable(x) for all x in
    every window. "All x" are the order statistics of stable's that a window may pick: values around the quantile. How
    the versions compare far from it is not looked at.

    Requests are independent within a window, or given to the versions at random, whatever latency depends on: by a
    share that stays as it is within the window. Updates come by the clock or by a count of requests of both versions,
    never because of a latency in them.

    `worse` falls when the evidence of one of Q quantiles reaches Q / alpha: a union bound, for their windows end at
    different times, and Ville's inequality does not cover a mean of them (Choe and Ramdas, arXiv 2402.09698). `within`
    falls when every quantile is, and needs no correction then (Berger 1982).

    Args:
        tolerance: relative: 0.1 is 10 % slower.
        quantiles: each between 0 and 1.
        floor: seconds of difference that nobody minds: what is allowed is the larger of the two.

    Raises:
        ConfigError: also for blocks of dependent requests: of a block it is not known how its latencies go together.
    """

    DEFAULT_NAME: ClassVar[str] = "latency"

    def __init__(self, tolerance: float, quantiles: Sequence[float] = (0.5, 0.99), alpha: float = 0.05, *,
                 block: int = 1, max_samples: int = 0, name: str = "", floor: float = 0.0) -> None:
        super().__init__(tolerance, alpha, block=block, max_samples=max_samples, name=name)
        if block > 1:
            raise ConfigError(f"block={block}: latencies cannot be tested in blocks; give one latency per session, for "
                              f"example its slowest or its median, and leave block at 1")
        listed = numeric(quantiles)
        if listed is None or listed.ndim != 1 or not listed.size or not ((listed > 0) & (listed < 1)).all() or \
                len(set(listed.tolist())) < listed.size:
            raise ConfigError(f"quantiles={quantiles!r} must be a list of numbers between 0 and 1, each once, such as "
                              f"(0.5, 0.99)")
        if tolerance <= -1 or 0 < abs(tolerance) < FINEST or tolerance > FARTHEST / 2:
            raise ConfigError(f"tolerance={tolerance:g} must be 0 or from {FINEST} to {FARTHEST / 2:g}: 0.1 is 10 % "
                              f"slower; for less, give 0 and a floor in seconds")
        if not is_number(floor) or floor < 0:
            raise ConfigError(f"floor={floor!r} must be seconds, 0 or more")
        self.quantiles, self.floor = tuple(listed.tolist()), float(floor)
        self._bounds: list[float] | None = None  # upper ends of Prometheus' buckets; None: latencies are counted here
        self._samples = 0
        self._begun = False
        self._begin(*log_bins(self.tolerance, _ratios(self.tolerance), self.floor))

    def _begin(self, bins: Bins, ratios: Floats) -> None:
        self._bins = bins
        self._evidence = {q: Quantile(q, bins, ratios) for q in self.quantiles}

    def update(self, stable: npt.ArrayLike, canary: npt.ArrayLike) -> None:
        """Take the latencies since the last update.

        Args:
            stable: (N,) seconds; N may be 0.
            canary: (M,) seconds; M may be 0.

        Raises:
            ContractError: a value is no latency, or the test has begun with counts in buckets.
        """
        if self._bounds is not None:
            raise ContractError("this test has begun with counts in buckets; begin another one for latencies")
        self._take(self._bins.tally(stable, "stable"), self._bins.tally(canary, "the canary"))

    def update_histogram(self, bounds: npt.ArrayLike, stable_counts: npt.ArrayLike,
                         canary_counts: npt.ArrayLike) -> None:
        """Take counts in buckets since the last update, as Prometheus has them.

        Args:
            bounds: (K,) upper ends in seconds, ascending, the same in every update; the last may be infinite.
            stable_counts: (K,) requests in each bucket, not cumulative.
            canary_counts: (K,) the same of the canary.

        Raises:
            ContractError: bounds or counts are not as said, or 2**53 together, or the test has begun otherwise.
        """
        bins = prometheus_bins(bounds, self.tolerance, _ratios(self.tolerance), self.floor)
        ends = [float(end) for end in bins.edges[1:-1]]
        if self._begun and self._bounds != ends:
            raise ContractError(f"bounds={ends} are others than before ({self._bounds}); begin a new test")
        buckets = len(np.asarray(bounds))
        counts = [_counts(given, buckets, len(bins.coarse)) for given in (stable_counts, canary_counts)]
        if not self._begun:
            self._bounds = ends
            self._begin(bins, _ratios(self.tolerance))
        self._take(*counts)

    def _take(self, stable: Ints, canary: Ints) -> None:
        self._begun, self._samples = True, self._samples + int(canary.sum())
        for evidence in self._evidence.values():
            if evidence.update(stable, canary) and evidence.verdict == "undecided" and not self._is_over():
                evidence.verdict = self._fallen(*evidence.log_e)
        self._settle()

    def _fallen(self, worse: float, within: float) -> Verdict:
        threshold = math.log(1 / self.alpha)
        if worse >= threshold:
            return "worse"
        return "within" if within >= threshold and self._can_be_within else "undecided"

    def _settle(self) -> None:
        if self._settled == "undecided" and not self._is_over():
            worse = self.log_e[0] >= math.log(1 / self.alpha)
            self._settled = "worse" if worse else "within" if self._is_within() else "undecided"

    def _is_within(self) -> bool:
        return all(evidence.verdict == "within" for evidence in self._evidence.values())

    @property
    def _can_be_within(self) -> bool:
        return self.tolerance > 0 or self.floor > 0

    @property
    def samples(self) -> int:
        return self._samples

    @property
    def log_e(self) -> tuple[float, float]:
        """Return the most evidence against "not worse", over how many quantiles, and the least on "at least as bad"."""
        pairs = [evidence.log_e for evidence in self._evidence.values()]
        worse = max(pair[0] for pair in pairs) - math.log(len(pairs))
        return worse, min(pair[1] for pair in pairs) if self._can_be_within else -math.inf

    def quantile_decisions(self) -> dict[float, Decision]:
        """Return what is known of each quantile alone; `worse` is not corrected for how many there are."""
        return {q: self._alone(evidence) for q, evidence in self._evidence.items()}

    def decide(self) -> Decision:
        """Say what is known now; `estimate`, `lower` and `upper`: the ratio of quantiles minus 1, at the worst one.

        Both ends allow for how many quantiles there are; where `within` has fallen, which needs no such allowance, they
        are the quantile's own.
        """
        alone = self.quantile_decisions()
        q = max(alone, key=lambda each: self._badness(each, alone[each]))
        worst, more = alone[q], 0
        ratio = self._evidence[q].ratio(math.log(self._allowed_for / self.alpha))
        if self._settled == "undecided":
            needed = [each.more for each in alone.values()]
            if worst.estimate > self.tolerance:  # a quantile that is worse by itself takes more beside others
                needed = [self._needed(self._evidence[q], worst.estimate, len(alone))]
            more = NEVER if NEVER in needed else max(needed)
            more = more or self._more(max(self.log_e[0], 0.0) / max(self._samples, 1))
        reason = self._explain(self._evidence[q], self._settled, ratio, more)
        if self._settled == "within" and len(alone) > 1:
            reason += f"; {', '.join(_name(each) for each in alone if each != q)} too"
        return Decision(self._settled, reason, *ratio, self._samples, *self._shown, self.alpha, more)

    @property
    def _allowed_for(self) -> int:
        return 1 if self._settled == "within" else len(self.quantiles)

    def _badness(self, q: float, decision: Decision) -> tuple[bool, bool, float, float]:
        """Return what makes a quantile the one to speak of: not seen, not within, or most of all for `worse`."""
        undecided = self._settled == "undecided"
        return (undecided and self._evidence[q].coarse is not None, undecided and decision.verdict != "within",
                self._evidence[q].log_e[0], q)

    def share_above(self, bound: float, tolerance: float = 0.01) -> RateTest:
        """Return a test that counts requests slower than a bound, for buckets too wide for a quantile.

        Feed it with `update(stable=(slower, requests), canary=(slower, requests))`.

        Args:
            bound: seconds, one of the buckets' bounds.
            tolerance: of the share, absolute: 0.01 is 1 point.

        Raises:
            ConfigError: no bucket ends there.
        """
        if not bound > 0 or (self._bounds is not None and bound not in self._bounds):
            raise ConfigError(f"bound={bound:g} is no end of a bucket; take one of {self._bounds}")
        return RateTest(tolerance, self.alpha, max_samples=self.max_samples, name=f"{self.name} above {bound:g} s")

    def _alone(self, evidence: Quantile) -> Decision:
        ratio = evidence.ratio(math.log(1 / self.alpha))
        is_open = evidence.verdict == "undecided"
        more = self._needed(evidence, ratio.estimate) if is_open else 0
        worse, within = (-math.inf, -math.inf) if is_open and self._is_over() else evidence.log_e
        return Decision(evidence.verdict, self._explain(evidence, evidence.verdict, ratio, more), *ratio, evidence.used,
                        worse, within if self._can_be_within else -math.inf, self.alpha, more)

    def _needed(self, evidence: Quantile, estimate: float, quantiles: int = 1) -> int:
        """Estimate how many more canary requests decide this quantile, if it is slower as one of so many."""
        slower = estimate > self.tolerance
        if not evidence.growth or self._is_over() or evidence.coarse is not None or not (slower or self._can_be_within):
            return NEVER
        have = max(evidence.log_e[0 if slower else 1], 0.0)
        needed = max(math.log((quantiles if slower else 1) / self.alpha) - have, 0.0) / evidence.growth
        return math.ceil(needed) if needed <= HOPELESS * self._samples else NEVER

    @property
    def _allowed(self) -> str:
        return f"{_percent(self.tolerance)} are allowed" + (f", or {self.floor:g} s more" if self.floor else "")

    def _explain(self, evidence: Quantile, verdict: Verdict, ratio: Ratio, more: int) -> str:
        what, allowed = f"{self.name} at {_name(evidence.quantile)}", self._allowed
        if evidence.coarse is not None and verdict == "undecided":
            lower, upper = self._bins.edges[evidence.coarse:evidence.coarse + 2]
            bound = float(upper if math.isfinite(upper) else lower)
            where = f"from {plain(lower)} to {plain(upper)} s" if math.isfinite(upper) else f"above {plain(lower)} s"
            return (f"{what}: stable's lies in the bucket {where}, too wide where {allowed}; give RateTest the share "
                    f"of requests slower than {plain(bound)} s instead (share_above({bound:.12g}))")
        if not evidence.used:
            return f"{what}: nothing to compare yet, {evidence.size:,} requests of both versions make a beginning"
        text = f"{what}: {_percent(ratio.estimate)} against stable's in {evidence.used:,} canary requests"
        if verdict == "worse":  # where a floor is what it exceeds, the ratio alone may show nothing
            beyond = f"at least {_percent(ratio.lower)}" if ratio.lower >= self.tolerance else "slower than it may be"
            return f"{text}, {beyond}; {allowed}{changed(ratio.lower, ratio.upper)}"
        if verdict == "within":
            end = f"at most {_percent(ratio.upper)}" if ratio.upper <= self.tolerance else "no slower than it may be"
            return f"{text}, {end}; {allowed}{changed(ratio.lower, ratio.upper)}"
        text = f"{text}, {somewhere(ratio.lower, ratio.upper, _percent)}; {allowed}"
        if not self._can_be_within and ratio.estimate <= 0:
            return f"{text}: that a canary is not slower by anything at all cannot be shown"
        return f"{text}: {self._outlook(more, 'canary requests')}"

    def _options(self) -> State:
        return {"tolerance": self.tolerance, "quantiles": list(self.quantiles), "alpha": self.alpha,
                "block": self.block, "max_samples": self.max_samples, "name": self.name, "floor": self.floor}

    def _evidence_state(self) -> State:
        return {"bounds": self._bounds, "begun": self._begun, "samples": self._samples,
                "quantiles": [evidence.to_state() for evidence in self._evidence.values()]}

    def _restore(self, state: State) -> None:
        if state["bounds"] is not None:
            self._bounds = [float(end) for end in state["bounds"]]
            ratios = _ratios(self.tolerance)
            self._begin(prometheus_bins(self._bounds, self.tolerance, ratios, self.floor), ratios)
        self._begun, self._samples = bool(state["begun"]), int(restored(state["samples"], np.zeros(()), 0))
        for evidence, saved in zip(self._evidence.values(), state["quantiles"], strict=True):
            evidence.restore(saved)


def _percent(ratio: float) -> str:
    return f"{plain(ratio * 100, '+')} %" if math.isfinite(ratio) else "any"


def _name(quantile: float) -> str:
    return f"p{quantile * 100:g}"


def _counts(given: npt.ArrayLike, buckets: int, bins: int) -> Ints:
    counts = tallied(given, (buckets,))
    if counts is None:
        raise ContractError(f"the counts {given!r} must be {buckets} whole numbers, one for each bucket, not "
                            f"cumulative, not negative, and below 2**53 together")
    return np.append(counts, np.zeros(bins - buckets)).astype(np.int64)
