"""What breaks the promises: updates that follow the outcomes, shares that change between two, bursts nobody spoke of.

Draws no picture and writes no file.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from climbing import FALLING, LOOK, STEPS
from table import ALPHA, Table, written

from penstock.components.evidence.capital import Seen, Window, bet, capital
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.mix import MixTest
from penstock.components.evidence.rate import difference_gamblers
from penstock.components.evidence.sequential import SequentialTest

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Iterator[tuple[Floats, ...]]]  # counts of windows, as in Window

BASELINE, TOLERANCE, SHARE = 0.1, 0.02, 0.05  # the canary's errors are BASELINE + TOLERANCE
WINDOWS = 4000
CLIMB_TOLERANCE = 0.005
BURST, FEW = 20, 100  # requests that end alike; runs of the tests that are fed one by one
UPDATES, EACH, PART = 500, 100, 0.2  # of such a run: how many, requests in each, and the canary's part


def _by_count(requests: int) -> Draw:
    def draw(random: np.random.Generator, runs: int) -> Iterator[tuple[Floats, ...]]:
        while True:
            canary = random.binomial(requests, SHARE, runs)
            yield (random.binomial(requests - canary, BASELINE), requests - canary,
                   random.binomial(canary, BASELINE + TOLERANCE), canary)
    return draw


def _at_stable_errors(random: np.random.Generator, runs: int) -> Iterator[tuple[Floats, ...]]:
    while True:
        stable = random.geometric(BASELINE, runs)
        canary = random.negative_binomial(stable, 1 - SHARE)
        yield np.ones(runs), stable, random.binomial(canary, BASELINE + TOLERANCE), canary


def _at_errors(random: np.random.Generator, runs: int) -> Iterator[tuple[Floats, ...]]:
    of_canary = SHARE * (BASELINE + TOLERANCE)
    either = of_canary + (1 - SHARE) * BASELINE
    while True:
        fine = random.geometric(either, runs) - 1
        last = random.random(runs) < of_canary / either
        canary = random.binomial(fine, SHARE * (1 - BASELINE - TOLERANCE) / (1 - either)) + last
        yield ~last, fine + 1 - canary, last, canary


TRIGGERS: dict[str, Draw] = {
    "after every request": _by_count(1), "after 100 requests": _by_count(100),
    "at each error of either version": _at_errors, "at each error of stable": _at_stable_errors}


def _complete(drawn: Iterator[tuple[Floats, ...]], runs: int) -> Iterator[Window]:
    """Join windows until both versions have requests, as the test does."""
    waiting = np.zeros((4, runs))
    for counts in drawn:
        waiting += counts
        whole = (waiting[1] > 0) & (waiting[3] > 0)
        yield Window(*np.where(whole, waiting, 0.0))
        waiting[:, whole] = 0


def ever(windows: Iterator[Window], tolerance: float, runs: int) -> tuple[int, int]:
    """Count the runs in which RateTest ever says `worse`, and ever `within`."""
    sides = [difference_gamblers(tolerance, sign) for sign in (1, -1)]
    wealth = [np.zeros((runs, 1, len(side.effects))) for side in sides]
    seen, over = Seen(*np.zeros((4, runs))), np.zeros((2, runs), bool)
    for window in windows:
        for at, side in enumerate(sides):
            wealth[at] += bet(side, seen, window)
            over[at] |= capital(side, wealth[at])[:, 0] >= math.log(1 / ALPHA)
        seen = seen.after(window)
    return int(over[0].sum()), int(over[1].sum())


def tables(runs: int, seed: int) -> list[Table]:
    """Return a table for each way to break a promise."""
    return [_triggers(runs, seed), _one_window(runs, seed), _bursts(min(runs, FEW), seed)]


def _triggers(runs: int, seed: int) -> Table:
    lines = []
    for name, draw in TRIGGERS.items():
        drawn = draw(np.random.default_rng([seed, 1]), runs)
        windows = (window for window, _ in zip(_complete(drawn, runs), range(WINDOWS), strict=False))
        lines.append((name, *(written(count, runs) for count in ever(windows, TOLERANCE, runs))))
    return Table(
        "A warning: updates that follow the outcomes",
        f"Errors of stable {BASELINE:.0%}, of the canary {TOLERANCE * 100:g} points more, which is the tolerance; "
        f"share {SHARE:.0%}, {WINDOWS:,} updates. Updates may come by the clock, or after so many requests. Where "
        f"it is an outcome that brings one about, the window that it ends is no fair sample, and the promise is void. "
        f"Whoever asks for a verdict (`decide`) may do so at any moment. False verdicts in per cent, "
        f"{runs:,} runs a row.",
        ("an update comes", "ever `worse`", "ever `within`"), lines)


def _climb(levels: tuple[float, ...], more: float, ends: str, random: np.random.Generator,
           runs: int) -> Iterator[tuple[Floats, ...]]:
    """Yield the counts of a climbing canary, from look to look, from step to step, or all at once."""
    counts = np.zeros((4, runs))
    for step, ((share, looks), level) in enumerate(zip(STEPS, levels, strict=True)):
        for look in range(looks):
            canary = random.binomial(LOOK, share, runs)
            counts += (random.binomial(LOOK - canary, level), LOOK - canary,
                       random.binomial(canary, level + more), canary)
            last = look == looks - 1
            if ends == "look" or (last and (ends == "step" or step == len(STEPS) - 1)):
                yield tuple(counts)
                counts = np.zeros((4, runs))


def _one_window(runs: int, seed: int) -> Table:
    lines = []
    for ends, says in (("look", f"every {LOOK:,} requests"), ("step", "whenever the share changes"),
                       ("end", "once, at the end")):
        cells = []
        for levels, more, side in ((FALLING[::-1], 0.0, 0), (FALLING, CLIMB_TOLERANCE, 1),
                                   (FALLING, 2 * CLIMB_TOLERANCE, 1)):
            drawn = _climb(levels, more, ends, np.random.default_rng([seed, 2, side]), runs)
            cells.append(written(ever(_complete(drawn, runs), CLIMB_TOLERANCE, runs)[side], runs))
        lines.append((says, *cells))
    steps = ", ".join(f"{looks * LOOK:,} requests at {share:.0%}" for share, looks in STEPS)
    rates = ", ".join(f"{level * 100:g}" for level in FALLING)
    return Table(
        "A warning: a share that changes between two updates",
        f"{steps}; errors of stable {rates} % in these steps (rising: the other way round); tolerance "
        f"{CLIMB_TOLERANCE * 100:g} points. Inside one update the test compares all of one version with all of "
        f"the other: where the share has changed meanwhile, that is the canary's night with stable's day. Update "
        f"whenever the share changes. False verdicts in per cent, {runs:,} runs a row.",
        ("updates", "`worse`, +0, rising", f"`within`, +{CLIMB_TOLERANCE * 100:g}, falling",
         f"`within`, +{2 * CLIMB_TOLERANCE * 100:g}, falling"), lines)


def _burst_of(values: Floats, requests: int, place: int) -> Floats:
    """Return the values of `requests` requests after the first `place`, each value holding for BURST of them."""
    return values[(place + np.arange(requests)) // BURST]


def _fed(kind: str, block: int, random: np.random.Generator) -> SequentialTest:
    """Feed a test with a canary exactly like stable, whose requests come in bursts that end alike."""
    test = MixTest(4, 0.05, block=block) if kind == "MixTest" else LatencyTest(0.1, (0.5,))
    many = UPDATES * EACH // BURST + 1
    sides = [random.integers(0, 4, many) if kind == "MixTest" else random.lognormal(-3, 0.5, many) for _ in range(2)]
    done = [0, 0]
    for _ in range(UPDATES):
        canary = int(random.binomial(EACH, PART))
        now = [_burst_of(side, count, place)
               for side, count, place in zip(sides, (EACH - canary, canary), done, strict=True)]
        done = [done[0] + EACH - canary, done[1] + canary]
        test.update(*(np.bincount(each, minlength=4) for each in now) if kind == "MixTest" else now)
        if test.decide().verdict != "undecided":
            break
    return test


def _bursts(runs: int, seed: int) -> Table:
    lines = []
    for kind, block in (("MixTest", 1), ("MixTest", BURST), ("LatencyTest", 1)):
        random = np.random.default_rng([seed, 3, block])
        said = [_fed(kind, block, random).decide().verdict for _ in range(runs)]
        wrong = written(said.count("worse"), runs)
        lines.append((kind, str(block) if block > 1 else "none", wrong, f"{said.count('within') / runs * 100:.1f}",
                      f"{said.count('undecided') / runs * 100:.1f}"))
    return Table(
        "A warning: bursts that MixTest and LatencyTest are not told of",
        f"The canary is exactly like stable; {BURST} requests in a row give the same class, or take as long; share "
        f"{PART:.0%}, up to {UPDATES:,} updates of {EACH} requests; 4 classes and a minimum effect of 0.05, p50 and a "
        f"tolerance of 10 %. These two have nothing that warns of bursts. MixTest takes a `block`; of LatencyTest give "
        f"one latency a session. Per cent of {runs:,} runs of the shipped classes.",
        ("test", "`block`", "`worse`", "`within`, which is right", "undecided"), lines)
