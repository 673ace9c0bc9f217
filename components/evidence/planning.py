"""How many requests a verdict will take, and what a bad canary breaks until then: known before a roll-out begins.

Draws roll-outs from a stated truth and lets the tests' own bets (`rehearsal`) judge them; sees no live traffic.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.decision import Verdict
from penstock.components.evidence.rehearsal import Floats, Rehearsal, rehearse
from penstock.components.evidence.sequential import SequentialTest

__all__ = ["Cost", "Rung", "TooClose", "cost", "of_canary", "samples_needed"]

RUNS = 2000  # the standard error of the requests at power 0.9 is 3 %
SEED = 20261121
STRIDES = 1.2, 1.05  # a look comes so many times later than the one before: at first, and once verdicts are near
NEAR = 0.1  # of the roll-outs have half of the evidence
HORIZON = 1e12  # requests; what takes longer is never told


class TooClose(ConfigError):
    """The truth is so close to the tolerance that no number of requests can tell on which side it is."""


class Cost(NamedTuple):
    """What a verdict takes.

    Attributes:
        verdict: the one that is right for the effect.
        requests: of both versions together, until it has fallen with the power asked for.
        canary: how many of these the canary is expected to answer.
        mean: requests of both versions together until a verdict, on average; inf where some roll-outs get none.
        harm: what the canary has done beyond stable by the verdict, on average: events of a rate or a count, answers
            that moved to other classes of a mix, requests that it answered of a latency; negative for a canary with
            fewer events than stable.
    """

    verdict: Verdict
    requests: int
    canary: int
    mean: float
    harm: float


class Rung(NamedTuple):
    """A share of the requests that a canary holds on its way up.

    Attributes:
        share: between 0 and 1.
        requests: of both versions, after which the canary may leave the rung.
    """

    share: float
    requests: int = 0


def samples_needed(test: SequentialTest, baseline: float, effect: float, share: float, power: float = 0.9) -> int:
    """Return the requests of both versions together until the right verdict has fallen with probability `power`.

    Refused are a `DistributionTest`, which says `within` by windows over the whole distribution, and no roll-out draws
    one; a `HardStop`, which never says `within` and judges each interval by itself, so its length would decide; an
    `AsymptoticRateTest`, whose batches are not drawn; and a `LatencyTest` with a floor: what so many seconds are
    relative to stable's latency is not known before.

    Args:
        test: with its tolerance, alpha and block; what it has seen does not count.
        baseline: RateTest: stable's share of events. Others: see `rehearsal`.
        effect: the truth, in the unit of the tolerance; below it `within` is right, above it `worse`.
        share: the canary's part of the requests, between 0 and 1.

    Raises:
        TooClose: no number of requests can tell.
        ConfigError: the test cannot be planned, an argument is out of its range, or the test ends before it can tell.
    """
    return cost(test, baseline, effect, share, power).requests


def cost(test: SequentialTest, baseline: float, effect: float, share: float | Sequence[Rung],
         power: float = 0.9, alpha_worse: float = 0.0) -> Cost:
    """Return what a verdict takes, from at most 2,000 roll-outs judged by the test's own bets, the same at every call.

    On a ladder of rungs evidence counts from the first; `worse` may fall on any of them, `within` once the requests of
    the last have been seen.

    A look comes whenever 5 % more has been seen. Looks at every 400th part would have the verdict 3 % sooner, looks at
    every 50th 10 % later (RateTest); of MixTests that look at every 40th only 0.81 have it in time, at every 250th 0.9.
    Requests of one block are taken to be all alike, the worst there is. Takes 0.2 to 0.8 s, 1.4 s for ten classes.
    The inverse Gaussian passage time of the best gambler takes 0.02 s and lies from 0.89 to 1.27 of this over 36 cells
    of a RateTest; each test would need one of its own (2 cores, 2026-11-21).

    Args: see `samples_needed`, and
        alpha_worse: at which `worse` falls, where the test is one of several that share an alpha; 0: the test's own.

    Raises: see `samples_needed`.
    """
    right = _right_verdict(test, effect)
    ladder = (Rung(float(share)),) if isinstance(share, int | float | np.floating) else tuple(share)
    for rung in ladder:
        if not 0 < rung.share < 1:
            raise ConfigError(f"share={rung.share:g} must be between 0 and 1, for example 0.05 for 5 % of the requests")
    if not 0 < power < 1:
        raise ConfigError(f"power={power:g} must be between 0 and 1, for example 0.9")
    roll_outs = rehearse(test, baseline, effect, ladder[0].share, RUNS, SEED)
    ends = np.cumsum([rung.requests for rung in ladder]) / test.block
    thresholds = np.log([[1 / (alpha_worse or test.alpha)], [1 / test.alpha]])
    times, worse = _first_passage(roll_outs, thresholds, [rung.share for rung in ladder], ends)
    times = np.where(worse, times, np.maximum(times, ends[-1]))
    in_time = np.sort(np.where(worse == (right == "worse"), times, np.inf))
    units = float(in_time[math.ceil(power * len(in_time)) - 1])
    if math.isinf(units):
        raise TooClose(f"effect={effect:g} is too close to tolerance={test.tolerance:g}: no number of requests can "
                       f"tell with power={power:g}; ask for less power, or for an effect farther off")
    if len(ladder) == 1 and 0 < test.max_samples < units * roll_outs.samples:
        raise ConfigError(f"max_samples={test.max_samples} ends the test before it can tell; that takes about "
                          f"{math.ceil(units * roll_outs.samples)}")
    requests = math.ceil(units * test.block)
    canary = float(of_canary(requests, ladder))
    harm = roll_outs.harm * float(of_canary(times * test.block, ladder).mean())
    return Cost(right, requests, round(canary), float(times.mean()) * test.block, harm)


def of_canary(requests: npt.ArrayLike, ladder: Sequence[Rung]) -> Floats:
    """Return how many of the first `requests` are the canary's, on average; of the same shape."""
    left, found = np.asarray(requests, float), 0.0
    for rung in ladder[:-1]:
        here = np.minimum(left, rung.requests)
        left, found = left - here, found + here * rung.share
    return np.asarray(found + left * ladder[-1].share)


def _right_verdict(test: SequentialTest, effect: float) -> Verdict:
    if not math.isfinite(effect):
        raise ConfigError(f"effect={effect} is no number; give the true difference, such as 0.0")
    if math.isclose(effect, test.tolerance, rel_tol=1e-9, abs_tol=1e-12):
        raise TooClose(f"effect={effect:g} is the tolerance itself: no number of requests can tell; give an effect "
                       "below or above it")
    if effect < test.tolerance <= 0:
        raise ConfigError(f"tolerance={test.tolerance:g}: that a canary is not worse by anything at all cannot be "
                          "shown, with no number of requests; allow something, such as 0.001")
    return "worse" if effect > test.tolerance else "within"


def _first_passage(roll_outs: Rehearsal, thresholds: Floats, shares: Sequence[float],
                   ends: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return of each roll-out the units until its verdict, inf where there is none, and whether that is `worse`.

    Args:
        thresholds: (2, 1) of the evidence, for `worse` and for `within`.
        shares: (R,) of the canary, rung by rung.
        ends: (R,) units after which each rung ends; the last does not.
    """
    rung = 0
    times, worse = np.full(roll_outs.runs, np.inf), np.zeros(roll_outs.runs, bool)
    undecided, before, seen, stride = np.arange(roll_outs.runs), np.zeros((2, roll_outs.runs)), 0, STRIDES[0]
    while len(undecided) and seen < HORIZON:
        while rung < len(shares) - 1 and seen >= ends[rung]:
            rung += 1
        roll_outs.share = shares[rung]
        size = max(10, math.ceil(2 / min(shares[rung], 1 - shares[rung])), math.ceil(seen * (stride - 1)))
        if rung < len(shares) - 1:
            size = min(size, math.ceil(ends[rung] - seen))
        now = roll_outs.after(size)
        fallen = now >= thresholds
        with np.errstate(invalid="ignore", divide="ignore"):  # between two looks evidence is taken to grow evenly
            moment = np.where(fallen, (thresholds - before) / (now - before), np.inf).min(axis=0)
        done = fallen[0] | fallen[1]
        times[undecided[done]] = seen + size * moment[done]
        worse[undecided[done]] = fallen[0, done]
        seen += size
        if np.quantile((now / thresholds).max(axis=0), 1 - NEAR) > 1 / 2:
            stride = STRIDES[1]
        undecided, before = undecided[~done], now[:, ~done]
        if done.any():
            roll_outs.keep(~done)
    return times, worse
