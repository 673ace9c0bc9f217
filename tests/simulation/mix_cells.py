"""How often MixTest is wrong, and how long it takes: the shipping bets on the mixes of `mixes`.

Draws no picture and writes no file.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
from mixes import DAYS, EVERY, FIXED, GROWTH, HORIZON, MINIMUM, PATTERNS, Bools, Cell, Floats, Mixes, growing, spans
from rate_cells import LOOKS, LOST, QUESTIONS, SHARES, Span, hash_of
from scipy.stats import chi2, ncx2
from table import ALPHA, Table, located, written

from penstock.components.evidence.capital import Gamblers, capital
from penstock.components.evidence.class_sets import MixSeen, set_bet, subsets, within_gamblers, worse_bet
from penstock.components.evidence.rate import difference_gamblers

OVER = math.log(1 / ALPHA)
MOST_AT_ONCE = 20_000  # runs x classes, or runs x sets, so that the arrays stay in the processor's cache
MOST_RUNS = 2000  # at once, with however few classes
FEWER = 20, 0.3  # looks and growth of their steps with more than 10 classes: 10,000 runs take 15 seconds instead of 25
GRID_CLASSES = {"worse": 10, "within": 6}
GRID = tuple(itertools.product((0.001, 0.01, 0.1), SHARES, LOOKS))  # the first: stable's share of what grows
# Classes, skewed, share, look: each number of classes with both shapes; two, where there are the most errors, with each
# share and each interval.
FEW = ((2, False, 0.01, 1), (2, True, 0.05, 1000), (2, False, 0.5, 100), (4, False, 0.5, 100), (4, True, 0.01, 1000))
SHAPES = {"worse": (*FEW, (100, False, 0.05, 100), (100, True, 0.5, 1)),
          "within": (*FEW, (10, False, 0.05, 100), (10, True, 0.5, 1))}
TRUTHS = ("the mix is the same", "it differs by exactly the minimum effect", "it differs by twice the minimum effect")
PATTERNS_SAID = (
    f"Looks come every so many requests at first, {EVERY} times, then each is {GROWTH * 100:g} % further than the one "
    f"before. Diurnal: the weight of every second class, the one that grows among them, rises and falls by a factor of "
    f"1.6 while that of the others falls and rises, {DAYS} days in the horizon. Drifting: from one end of this to the "
    f"other. Autocorrelated: it wanders (AR(1), 0.9 from look to look, a standard deviation of that factor, at most "
    f"its square). All of it is alike for both versions.")


def times(cell: Cell, runs: int, random: np.random.Generator) -> Floats:
    """Return the canary requests at which each run first says `worse`; infinite: not before the horizon."""
    gamblers = difference_gamblers(MINIMUM, 1)
    mixes, seen = Mixes(cell, runs, random), MixSeen.nothing((runs,), cell.classes)
    wealth = np.zeros((runs, 2, 1, len(gamblers.effects)))
    found, going = np.full(runs, np.inf), np.arange(runs)
    for span in spans(cell):
        stable, canary = mixes.next(span)
        wealth += worse_bet(gamblers, seen, stable, canary, MINIMUM)
        evidence = np.logaddexp.reduce(capital(gamblers, wealth)[..., 0], axis=-1) - math.log(2)
        seen = seen.after(stable, canary)
        over = evidence >= OVER
        found[going[over]] = np.minimum(found[going[over]], seen.canary[over].sum(-1))
        # Where the canary is worse indeed, lost runs may come back.
        gone = np.isfinite(found[going]) | ((evidence < LOST) & (cell.truth <= MINIMUM))
        if gone.mean() > 0.1:
            mixes.keep(~gone)
            going, wealth, seen = going[~gone], wealth[~gone], MixSeen(*(part[~gone] for part in seen))
        if not len(going):
            break
    return found


def stages(moved: Bools) -> list[Bools]:
    """Return ever more sets of classes, (S, C) each: the one that moved, with a class more or less, all there are."""
    near = moved ^ np.eye(len(moved), dtype=bool)
    near = near[near.any(axis=-1) & ~near.all(axis=-1)]
    return [moved[None], np.concatenate([moved[None], near]), subsets(len(moved))]


def suspects(cell: Cell, runs: int, random: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return (looks, 2, runs, C) counts of the runs in which the set that moved is ever taken for one that did not.

    A run in which that is out of the question draws no further, and has windows of nothing from there on.
    """
    gamblers = _within()
    mixes, seen = Mixes(cell, runs, random), MixSeen.nothing((runs,), cell.classes)
    moved = stages(mixes.grows)[0]
    wealth = np.zeros((runs, 1, 1, len(gamblers.effects)))
    windows, found, going = [], np.zeros(runs, bool), np.arange(runs)
    for span in spans(cell):
        stable, canary = mixes.next(span)
        windows.append(np.zeros((2, runs, cell.classes), np.int32))
        windows[-1][:, going] = stable, canary
        wealth += set_bet(gamblers, seen, stable, canary, moved)
        seen = seen.after(stable, canary)
        evidence = capital(gamblers, wealth)[:, 0, 0]
        found[going[evidence >= OVER]] = True
        gone = (evidence < LOST) & (not cell.turning)
        if gone.mean() > 0.1:
            mixes.keep(~gone)
            going, wealth, seen = going[~gone], wealth[~gone], MixSeen(*(part[~gone] for part in seen))
        if not len(going):
            break
    return np.stack(windows)[:, :, found]


def over(windows: npt.NDArray[np.int32], sets: Bools) -> Bools:
    """Return which runs ever have evidence of 1 / alpha against each one of the sets, at the same look.

    Args:
        windows: (looks, 2, runs, C) counts of stable and canary.
        sets: (S, C).
    """
    gamblers, runs, classes = _within(), windows.shape[2], windows.shape[3]
    seen, found = MixSeen.nothing((runs,), classes), np.zeros(runs, bool)
    wealth = np.zeros((runs, len(sets), 1, len(gamblers.effects)))
    for stable, canary in windows.astype(float):
        wealth += set_bet(gamblers, seen, stable, canary, sets)
        seen = seen.after(stable, canary)
        found |= capital(gamblers, wealth)[..., 0].min(axis=-1) >= OVER
    return found


def ever_within(cell: Cell, runs: int, random: np.random.Generator) -> int:
    """Count the runs that ever say `within`.

    The smallest evidence of all sets decides, and it is at most that of the set that moved: who never has that can be
    left out, and the others are told by the same windows once more with all sets. Nothing is approximated.
    """
    windows = suspects(cell, runs, random)
    for sets in stages(growing(cell))[1:]:
        at_once = max(MOST_AT_ONCE // len(sets), 1)
        parts = [windows[:, :, start:start + at_once] for start in range(0, windows.shape[2], at_once)]
        windows = np.concatenate([windows[:, :, :0], *(part[:, :, over(part, sets)] for part in parts)], axis=2)
    return int(windows.shape[2])


def ever(cell: Cell, verdict: str, runs: int, seed: int) -> int:
    """Count the runs in which the verdict falls before the horizon."""
    at_once, found = min(MOST_AT_ONCE // cell.classes, MOST_RUNS), 0
    for start in range(0, runs, at_once):
        random, count = np.random.default_rng([seed, start]), min(at_once, runs - start)
        found += ever_within(cell, count, random) if verdict == "within" else int(
            np.isfinite(times(cell, count, random)).sum())
    return found


def _within() -> Gamblers:
    return within_gamblers(MINIMUM)._replace(nulls=np.array([MINIMUM]))


def tables(runs: int, seed: int, questions: tuple[tuple[str, int], ...] = QUESTIONS,
           shapes: bool = True) -> list[Table]:
    """Return the tables of MixTest.

    Args:
        runs: of a cell in the tables of errors; the others say how many they have.
        questions: verdicts that would be wrong, each with the distance in minimum effects.
        shapes: whether all other tables are asked for too.
    """
    found = [grid_table(verdict, multiple, GRID, runs, seed) for verdict, multiple in questions]
    if shapes:
        found += [*(shape_table(verdict, runs, seed) for verdict in SHAPES), _turning(runs, seed), _power(runs, seed)]
    return found


def _line(cell: Cell, verdict: str, runs: int, seed: int) -> tuple[list[str], tuple[int, str]]:
    """Return a cell's text under each of the patterns, and the worst of their rates with its text."""
    line, worst = [], (-1, "")
    for place, pattern in enumerate(PATTERNS):
        name = [seed, hash_of(verdict), cell.classes, cell.skewed, round(cell.baseline * 1e4), round(cell.share * 100),
                cell.look, round(cell.truth * 1e4), place]
        found = ever(cell._replace(pattern=pattern), verdict, runs,
                     int(np.random.SeedSequence(name).generate_state(1)[0]))
        line.append(written(found, runs))
        worst = max(worst, located(found, runs, f"share {cell.share * 100:g} %, looks every {cell.look:,}, {pattern}"))
    return line, worst


def grid_table(verdict: str, multiple: int, grid: tuple[tuple[float, float, int], ...], runs: int, seed: int) -> Table:
    """Return how often the verdict is wrong where one class grows; baseline, share and look in the rows of `grid`."""
    lines, worst, classes = [], (-1, ""), GRID_CLASSES[verdict]
    for baseline, share, look in grid:
        cell = Cell(classes, share, look, "", multiple * MINIMUM, baseline)
        line, (rate, text) = _line(cell, verdict, runs, seed)
        worst = max(worst, (rate, f"{text}, a class of {baseline * 100:g} % grows"))
        lines.append((f"{baseline * 100:g} %", f"{share * 100:g} %", f"{look:,}", *line))
    return Table(
        f"MixTest: ever `{verdict}` although {TRUTHS[multiple]}",
        f"Runs in per cent that ever say `{verdict}` within {HORIZON:,.0f} canary requests, ± Monte-Carlo standard "
        f"error, {runs:,} runs a cell; at most {ALPHA * 100:g} % are promised. {classes} classes, minimum effect "
        f"{MINIMUM:g}. The first column is stable's share of the class that grows with the canary; the other classes "
        f"are equally common, and shrink in proportion. {PATTERNS_SAID} Worst cell: {worst[1]}.",
        ("share of the class that grows", "share", "look every", *PATTERNS), lines)


def shape_table(verdict: str, runs: int, seed: int) -> Table:
    """Return how often the verdict is wrong with few classes and with many, of which one or every second grows."""
    lines, worst = [], (-1, "")
    for multiple in (multiple for asked, multiple in QUESTIONS if asked == verdict):
        for classes, skewed, share, look in SHAPES[verdict]:
            cell = Cell(classes, share, look, "", multiple * MINIMUM, skewed=skewed)
            cell = cell._replace(every=FEWER[0], growth=FEWER[1]) if classes > 10 else cell
            line, (rate, text) = _line(cell, verdict, runs, seed)
            worst = max(worst, (rate, f"{text}, {_named(classes, skewed)}, distance {cell.truth:g}"))
            lines.append((f"{cell.truth:g}", _named(classes, skewed), f"{share * 100:g} %", f"{look:,}", *line))
    truth = ("it differs by no more than the minimum effect" if verdict == "worse" else
             "it differs by the minimum effect or more")
    few = (f" 100 classes are looked at {FEWER[0]} times before the steps grow, and these by {FEWER[1] * 100:g} %."
           if verdict == "worse" else "")
    return Table(
        f"MixTest with other classes: ever `{verdict}` although {truth}",
        f"As above, {runs:,} runs a cell. With uniform classes every second one grows, with skewed ones (the i-th has "
        f"a share like 1 / i^1.2) the middle one.{few} Worst cell: {worst[1]}.",
        ("distance", "classes", "share", "look every", *PATTERNS), lines)


def _turning(runs: int, seed: int) -> Table:
    lines = []
    for look in (1, 100, 1000):
        count = max(runs // 10, 20)
        cell = Cell(4, 0.5, look, "stationary", 2 * MINIMUM, turning=True)
        lines.append((f"{look:,}", f"{count:,}", *(f"{ever(cell, verdict, count, seed + look) / count * 100:.1f}"
                                                   for verdict in ("worse", "within"))))
    return Table(
        "MixTest: a difference that turns round from window to window",
        "4 classes, share 50 %, per cent of runs. The distance is twice the minimum effect in every window, but what "
        "grew in one window shrinks in the next, so that over two windows nothing moved. The promise of `within` is "
        "for one and the same set of classes in every window: this is not in it.",
        ("look every", "runs", "ever `worse`", "ever `within`"), lines)


def z_sample(cell: Cell) -> float:
    """Return the canary requests of the fixed z test, 90 % power, that is told which classes grow."""
    stable = Mixes(cell, 1, np.random.default_rng(0)).mix(Span(1, 0.0))[0]
    level = float(stable @ growing(cell))
    grown = level + cell.truth
    noise = grown * (1 - grown) + level * (1 - level) * cell.share / (1 - cell.share)
    return FIXED * noise / (cell.truth - MINIMUM)**2


def chi_square_sample(cell: Cell, power: float = 0.9) -> float:
    """Return the canary requests that a chi-square test of equal mixes takes, planned beforehand and looked at once."""
    mixes = Mixes(cell, 1, np.random.default_rng(0))
    stable = mixes.mix(Span(1, 0.0))[0]
    canary = mixes.moved(stable)
    per_weight = float(((canary - stable)**2 / (cell.share * canary + (1 - cell.share) * stable)).sum())
    freedom = cell.classes - 1
    critical, low, high = float(chi2.ppf(1 - ALPHA, freedom)), 0.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if ncx2.sf(critical, freedom, middle) < power else (low, middle)
    return high / per_weight / (1 - cell.share)


def _power(runs: int, seed: int) -> Table:
    lines = []
    for classes, skewed in ((2, False), (10, False), (10, True), (100, False), (100, True)):
        count = max(runs // (10 if classes <= 10 else 100), 20)
        line = []
        for multiple in (2, 5):
            cell = Cell(classes, 0.5, 100, "stationary", multiple * MINIMUM, skewed=skewed, horizon=4 * HORIZON,
                        every=400)
            found = times(cell, count, np.random.default_rng([seed, classes, multiple]))
            median, late = np.sort(found)[[count // 2, int(0.95 * count)]]
            line += [f"{median:,.0f}", f"{late:,.0f}", f"{z_sample(cell):,.0f}", f"{chi_square_sample(cell):,.0f}"]
        lines.append((_named(classes, skewed), f"{count:,}", *line))
    heads = [f"{what}, distance {multiple * MINIMUM:g}" for multiple in (2, 5)
             for what in ("median", "p95", "z test", "chi-square")]
    return Table(
        "MixTest: canary requests until `worse`",
        f"Share 50 %, looks every 100 requests, after 400 of them each {GROWTH * 100:g} % further than the one before; "
        f"minimum effect {MINIMUM:g}; inf: not within {4 * HORIZON:,.0f} canary requests. Beside it two fixed samples "
        f"with 90 % power, to be looked at once: of the z test that asks the same question and is told which classes "
        f"moved, and of a chi-square test, which asks whether the mixes are equal, not whether they "
        f"differ by more than {MINIMUM:g}: it fires on nothing with big samples.",
        ("classes", "runs", *heads), lines)


def _named(classes: int, skewed: bool) -> str:
    return f"{classes}, {'skewed' if skewed else 'uniform'}"
