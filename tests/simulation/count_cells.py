"""Counts in simulation: how often CountTest is wrong, and how many events a verdict takes; `combining_cells` follow.

Within a batch the numbers of events are the same in all runs: which version an event is from does not depend on them,
and then the canary's sum decides, so that evidence is worked out for sums and not for runs. Draws nothing.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import combining_cells
import numpy as np
import numpy.typing as npt
from combining_cells import CLOSE, STEP, TOLERANCE, Counts, Floats, decision_bets, sizes
from scipy.special import bdtr, betainc, betaln, xlogy
from table import ALPHA, Table, located, written

from penstock.components.evidence.count import Mixture, evidence, log_likelihood
from penstock.components.evidence.dependence import ClumpingSeen, clump_evidence, clumping_log_e

HORIZON = 100_000  # events of both versions
QUESTIONS = (("worse", 0.0, "the canary is exactly like stable"),
             ("worse", TOLERANCE, "the canary is worse by exactly the tolerance"),
             ("within", TOLERANCE, "the canary is worse by exactly the tolerance"),
             ("within", 2 * TOLERANCE, "the canary is worse by twice the tolerance"))  # verdict, ratio minus 1
PATHS, SERVED = 4, 250  # of the load, each for the same part of the runs; fewer than so many runs are not split off
LOADS = ("stationary", "diurnal", "drifting", "autocorrelated")
CLIMB = "1 → 5 → 50 %"
SHARES: dict[str, tuple[float, ...]] = {"1 %": (0.01,), "5 %": (0.05,), "50 %": (0.5,), CLIMB: (0.01, 0.05, 0.5)}
LOOKS = (1, 100, 1000)
BLOCKS = ((1, False, "none, unwatched"), (1, True, "none"), (20, False, "20"))  # for bursts of 20


class Course(NamedTuple):
    """The windows of one batch of runs: (W,) events of both versions, and the canary's part of the traffic."""

    events: Counts
    shares: Floats


def tables(runs: int, seed: int) -> list[Table]:
    """Simulate everything.

    Args:
        runs: per cell; 10,000 take about a minute of one core (2026-11-21).
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    return [*_errors(runs, random), _bursts(runs, random), _speed(runs, random), *combining_cells.tables(runs, seed)]


def course(load: str, every: int, shares: tuple[float, ...], random: np.random.Generator) -> Course:
    expected = sizes(every, HORIZON)
    position = np.arange(len(expected)) / len(expected)
    stage = np.minimum(position * len(shares), len(shares) - 1).astype(int)
    if load == "stationary":
        events = expected.astype(np.int64)
    else:
        noise = random.normal(0, 0.5, len(expected))
        for look in range(1, len(noise)):
            noise[look] = 0.9 * noise[look - 1] + math.sqrt(1 - 0.9**2) * noise[look]
        factor = {"diurnal": 1 + 0.8 * np.sin(10 * math.pi * position), "drifting": 5 ** (2 * position - 1),
                  "autocorrelated": np.exp(noise)}[load]
        events = random.poisson(expected * factor)
    return Course(events, np.array(shares)[stage])


def critical(bets: Mixture, windows: Course, block: int = 1) -> Counts:
    """Return (2, W) sums of the canary's events: the smallest that is `worse` at each look, the largest `within`.

    Evidence rises with the canary's sum against "at most", and falls against "at least", so halving finds them.
    """
    null = float(bets.etas[bets.rows[0]])
    each = log_likelihood(bets.etas, null, windows.events / block, np.zeros(len(windows.events)), windows.shares)
    cost, totals = each.cumsum(axis=0), windows.events.cumsum()
    no, yes = np.stack([np.full_like(totals, -1), totals + 1]), np.stack([totals + 1, np.full_like(totals, -1)])
    for _ in range(math.ceil(math.log2(int(totals[-1]) + 2))):
        middle = (no + yes) // 2
        found = evidence(bets, cost + middle[..., None] / block * (bets.etas - null))[..., 0]
        enough = np.stack([found[0, :, 0], found[1, :, 1]]) >= math.log(1 / ALPHA)
        no, yes = np.where(enough, no, middle), np.where(enough, middle, yes)
    return yes


def ever(windows: Course, bounds: Counts, truth: float, runs: int, random: np.random.Generator,
         burst: int = 1, watched: bool = False) -> npt.NDArray[np.int64]:
    """Count the runs that were ever `worse`, and ever `within`, where the ratio minus 1 is `truth`.

    Args:
        burst: events that come together, all from one version.
        watched: no verdict falls where bursts are seen, as CountTest does without a block.
    """
    sums, wrong = np.zeros(runs, np.int64), np.zeros((2, runs), bool)
    seen, certain = ClumpingSeen.nothing((runs,)), np.zeros(runs, bool)
    for events, share, (worse, within) in zip(*windows, bounds.T, strict=True):
        theta = share * (1 + truth) / (share * (1 + truth) + 1 - share)
        drawn = burst * random.binomial(int(events) // burst, theta, runs)
        sums += drawn
        if watched:
            both = np.full(runs, float(events))
            seen = clump_evidence(seen, np.stack([np.zeros(runs), drawn], axis=-1),
                                  np.stack([np.zeros(runs), both], axis=-1))
            certain |= clumping_log_e(seen) >= -math.log(0.01)
        wrong |= np.stack([sums >= worse, sums <= within]) & ~certain
    found: npt.NDArray[np.int64] = wrong.sum(axis=1)
    return found


def _errors(runs: int, random: np.random.Generator) -> list[Table]:
    """Return one table for each of QUESTIONS."""
    paths = min(PATHS, max(runs // SERVED, 1))
    drawn = runs // paths * paths
    rows: list[list[tuple[str, ...]]] = [[] for _ in QUESTIONS]
    worst = [(-1, "")] * len(QUESTIONS)
    for (name, shares), every in itertools.product(SHARES.items(), LOOKS):
        found = [_wrong(load, every, shares, drawn, paths, random) for load in LOADS]
        for at in range(len(QUESTIONS)):
            counts = [each[at] for each in found]
            rows[at].append((name, f"{every:,}", *(written(count, drawn) for count in counts)))
            place = f"share {name}, looks every {every:,}, {LOADS[int(np.argmax(counts))]}"
            worst[at] = max(worst[at], located(max(counts), drawn, place))
    return [Table(f"CountTest: ever `{verdict}` although {truth}",
                  f"Runs in per cent that ever say `{verdict}` within {HORIZON:,} events of both versions, ± "
                  f"Monte-Carlo standard error, {drawn:,} runs a cell; at most {ALPHA * 100:g} % are promised. Worst "
                  f"cell: {worst[at][1]}. " + (LOAD_NOTE if at == 0 else "The load is that of the first such table."),
                  ("share", "look every", *LOADS), rows[at])
            for at, (verdict, _, truth) in enumerate(QUESTIONS)]


def _wrong(load: str, every: int, shares: tuple[float, ...], runs: int, paths: int,
           random: np.random.Generator) -> list[int]:
    """Count for each of QUESTIONS the runs with that verdict."""
    truths = sorted({truth for _, truth, _ in QUESTIONS})
    total = np.zeros((len(truths), 2), int)
    for _ in range(paths):
        windows = course(load, every, shares, random)
        bounds = critical(decision_bets(TOLERANCE), windows)
        total += [ever(windows, bounds, truth, runs // paths, random) for truth in truths]
    return [int(total[truths.index(truth), int(verdict == "within")]) for verdict, truth, _ in QUESTIONS]


LOAD_NOTE = (
    f"Tolerance +{TOLERANCE:.0%}; {CLOSE} looks every so many events, then looks in steps of {STEP - 1:.0%}. Load is "
    "the same for both versions: diurnal swings by 80 %, drifting grows 25-fold, autocorrelated is AR(1) in its "
    "logarithm (0.9 a look, standard deviation 0.5). The base rate of errors does not matter: given an event, only the "
    "ratio and the share do.")


def _bursts(runs: int, random: np.random.Generator) -> Table:
    bets, rows = decision_bets(TOLERANCE), []
    for every in (20, 100):
        for block, watched, name in BLOCKS:
            windows = course("stationary", every, (0.05,), random)
            windows = windows._replace(events=windows.events // 20 * 20)
            wrong = ever(windows, critical(bets, windows, block), TOLERANCE, runs, random, 20, watched).tolist()
            rows.append((f"{every:,}", name, *(written(count, runs) for count in wrong)))
    return Table("CountTest: events that come 20 at a time",
                 f"Share 5 %, otherwise as above, truth = tolerance, per cent of {runs:,} runs. Without a block "
                 "CountTest gives no verdict once it sees bursts; that often comes after one has fallen, so it is a "
                 "warning and no guarantee. (Unwatched: without that.)",
                 ("look every", "block stated", "worse", "within"), rows)


def stopping(answers: Callable[[Floats, float], Floats], truth: float, share: float, runs: int,
             random: np.random.Generator) -> Floats:
    """Return how many events of both versions each run took to reach evidence 1 / ALPHA; infinite beyond the horizon.

    Args:
        answers: from (M,) sums of the canary, and how many events there were, to (M,) logarithms of evidence.
    """
    theta = share * (1 + truth) / (share * (1 + truth) + 1 - share)
    sums, taken, total = np.zeros(runs, np.int64), np.full(runs, math.inf), 0
    for events in sizes(1, HORIZON, 1.01):
        sums += random.binomial(int(events), theta, runs)
        total += int(events)
        lowest = int(sums.min())
        known = answers(np.arange(lowest, int(sums.max()) + 1, dtype=float), total)
        taken[np.isinf(taken) & (known[sums - lowest] >= math.log(1 / ALPHA))] = total
        if np.isfinite(taken).all():
            break
    return taken


def ours(tolerance: float, share: float, side: int) -> Callable[[Floats, float], Floats]:
    bets = decision_bets(tolerance)

    def answers(sums: Floats, total: float) -> Floats:
        found = log_likelihood(bets.etas, math.log1p(tolerance), total - sums, sums, share)
        return evidence(bets, found)[:, side, 0]
    return answers


def beta_mixture(tolerance: float, share: float, side: int, weight: float,
                 half: bool) -> Callable[[Floats, float], Floats]:
    """Lindon and Malek's Dirichlet mixture for two versions, its prior worth `weight` events around no difference.

    Args:
        half: cut the prior at the tolerance, so that it bets in one direction only; without, the evidence is against
            the tolerance itself, and counts where the estimate is on the side asked for.
    """
    null = share * (1 + tolerance) / (share * (1 + tolerance) + 1 - share)
    a, b = weight * share, weight * (1 - share)

    def answers(sums: Floats, total: float) -> Floats:
        won = betaln(a + sums, b + total - sums) - betaln(a, b) - xlogy(sums, null) - xlogy(total - sums, 1 - null)
        beyond = betainc(a + sums, b + total - sums, null)
        if half:
            prior = betainc(a, b, null)
            with np.errstate(divide="ignore"):
                return won + np.log((beyond if side else 1 - beyond) / (prior if side else 1 - prior))
        return np.where((sums < null * total) == bool(side), won, -math.inf)
    return answers


def fixed(tolerance: float, truth: float, share: float, power: float = 0.9) -> int:
    """Return the smallest fixed number of events at which the exact binomial test has this power."""
    null, true = (share * (1 + ratio) / (share * (1 + ratio) + 1 - share) for ratio in (tolerance, truth))
    if truth < tolerance:
        null, true = 1 - null, 1 - true
    for total in (int(size) for size in np.unique(np.geomspace(2, HORIZON, 2000).astype(int))):
        counts = np.arange(total + 1.0)
        enough = counts[1 - bdtr(counts - 1, total, null) <= ALPHA]
        if len(enough) and 1 - bdtr(enough[0] - 1, total, true) >= power:
            return total
    return HORIZON


def _speed(runs: int, random: np.random.Generator) -> Table:
    tolerance, rows = 0.1, []
    for share in (0.05, 0.5):
        for truth in (0.5, 1.0, 4.0, 0.0, -0.5):
            side = int(truth < tolerance)
            least_events = fixed(tolerance, truth, share)
            rivals = [ours(tolerance, share, side), *(beta_mixture(tolerance, share, side, weight, half)
                                                      for half in (True, False) for weight in (20, 100))]
            taken = [stopping(rival, truth, share, runs // 2, random) for rival in rivals]
            rows.append((f"{share:.0%}", f"{1 + truth:g} times", "within" if side else "worse", f"{least_events:,}",
                         " / ".join(f"{np.quantile(taken[0], q, method='higher'):,.0f}" for q in (0.5, 0.95)),
                         f"{np.minimum(taken[0], HORIZON).mean() / least_events:.2f}",
                         *(" / ".join(f"{np.quantile(other, q, method='higher'):,.0f}" for q in (0.5, 0.95))
                           for other in taken[1:])))
    return Table(
        "CountTest: events until the verdict",
        f"Events of both versions, median / p95, looks after every event (the first {CLOSE}, then in steps of "
        f"1 %); tolerance +{tolerance:.0%}, alpha {ALPHA}, {runs // 2:,} runs; inf: more than {HORIZON:,}. Fixed: the "
        "smallest sample at which the exact binomial test has power 0.9; price: our mean over it. Beta: the Dirichlet "
        "mixture of Lindon and Malek, its prior worth 20 or 100 events, cut at the tolerance or two-sided as theirs.",
        ("canary's share", "canary's rate", "verdict", "fixed", "CountTest", "price", "Beta 20, cut", "Beta 100, cut",
         "Beta 20", "Beta 100"), rows)
