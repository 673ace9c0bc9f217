"""Hard stops and many metrics in simulation: false alarms, and how long until the one that is bad is named.

Also the looks, which these tables and those of `count_cells` share. Draws nothing.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from table import ALPHA, Table, written

from penstock.components.evidence.capital import Window
from penstock.components.evidence.combining import named
from penstock.components.evidence.count import Mixture, evidence, log_likelihood, mixture
from penstock.components.evidence.hard_stop import common_tail, limit_tail, spent

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

TOLERANCE = 0.5  # of CountTest; a ratio minus 1
CLOSE, STEP = 200, 1.05  # so many looks of the stated size, then looks in geometric steps
METRICS = 20
NAMING = ("each for itself", "Holm")


def tables(runs: int, seed: int) -> list[Table]:
    """Simulate HardStop and combine.

    Args:
        runs: per cell.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    return [_stops(runs, random), _families(runs, random), _naming(runs, random)]


def decision_bets(tolerance: float) -> Mixture:
    whole = mixture(tolerance)
    return whole.at(int(np.flatnonzero(whole.etas == math.log1p(tolerance))[0]))


def sizes(every: int, horizon: int, step: float = STEP) -> Floats:
    """Return how many events are expected between looks: `every`, and beyond the first looks geometrically more."""
    ends = [float(every * look) for look in range(1, min(CLOSE, horizon // every) + 1)]
    while ends[-1] < horizon:
        ends.append(min(math.ceil(max(ends[-1] * step, ends[-1] + every)), horizon))
    return np.diff(ends, prepend=0)


def _stops(runs: int, random: np.random.Generator) -> Table:
    limit, alpha, intervals, rows = 0.5, 0.005, 1000, []
    cells = {"at the limit, stable at 1 %": (limit, 0.01), "at a tenth of the limit": (limit / 10, 0.01),
             "common outage, both 95 %": (0.95, 0.95), "common outage, both 60 %": (0.6, 0.6)}
    for requests, others in ((20, 380), (200, 200)):
        for name, (canary, stable) in cells.items():
            count = int((_first(canary, stable, requests, others, limit, alpha, intervals, runs, random) > 0).sum())
            rows.append((f"{requests} of {requests + others}", name, written(count, runs, alpha), ""))
        for canary in (0.7, 0.9, 1.0):
            first = _first(canary, 0.01, requests, others, limit, alpha, 50, min(runs, 2000), random)
            first = np.where(first > 0, first, math.inf)
            text = " / ".join(f"{np.quantile(first, q, method='higher'):.0f}" for q in (0.5, 0.95))
            rows.append((f"{requests} of {requests + others}", f"burst, {canary:.0%}, stable at 1 %",
                         f"{np.isfinite(first).mean() * 100:.1f}", text))
    return Table(
        "HardStop: false alarms, and intervals until it fires",
        f"Limit {limit:.0%}, alpha {alpha:.1%}, per cent of {runs:,} runs of {intervals:,} intervals (a burst: 50, of "
        "at most 2,000 runs); intervals median / p95, inf where it did not fire.",
        ("canary's requests", "truth", "ever fired, %", "intervals"), rows)


def _first(canary: float, stable: float, requests: int, others: int, limit: float, alpha: float, intervals: int,
           runs: int, random: np.random.Generator) -> Counts:
    """Return the interval at which each run fires, 0 for never."""
    first = np.zeros(runs, np.int64)
    errors, theirs = np.mgrid[:requests + 1, :others + 1]
    above = limit_tail(Window(theirs, others, errors, requests), limit)
    worst = float(limit_tail(Window(0.0, others, requests, requests), limit))
    common = np.full(above.shape, np.nan)
    for interval in range(1, intervals + 1):
        part = spent(alpha, interval)
        if worst > part:
            break
        a, b = random.binomial(requests, canary, runs), random.binomial(others, stable, runs)
        hit = np.flatnonzero((above[a, b] <= part) & (first == 0))
        new = np.unique(a[hit] * (others + 1) + b[hit])
        new = new[np.isnan(common.flat[new])]
        common.flat[new] = common_tail(Window(new % (others + 1), others, new // (others + 1), requests))
        first[hit[common[a[hit], b[hit]] <= part]] = interval
    return first


def _evidence_of(sums: Counts, bets: Mixture, cost: Floats) -> Floats:
    """Look up (2, *batch) evidence of the canary's sums; `cost` is what all events were worth had none been its."""
    least = int(sums.min())
    all_sums = np.arange(least, int(sums.max()) + 1)
    known = evidence(bets, cost + all_sums[:, None] * (bets.etas - bets.etas[bets.rows[0]]))[..., 0]
    found: Floats = known.T[:, sums - least]
    return found


def _together(truths: Floats, common: bool, runs: int, random: np.random.Generator) -> Iterator[tuple[int, Floats]]:
    """Yield, look by look, the events of each metric so far and (runs, METRICS) evidence against "not worse".

    Args:
        common: half of each metric's events are the same for all of them; their truths are then the same too.
    """
    bets, share = decision_bets(TOLERANCE), 0.05
    null = float(bets.etas[bets.rows[0]])
    theta = share * (1 + truths) / (share * (1 + truths) + 1 - share)
    sums, total, cost = np.zeros((runs, METRICS), np.int64), 0, np.zeros(len(bets.etas))
    for events in np.maximum(sizes(10, 10_000, 1.1).astype(int), 2):
        shared = events // 2 if common else 0
        sums += random.binomial(events - shared, theta, (runs, METRICS))
        if common:
            sums += random.binomial(shared, theta[0], (runs, 1))
        total += int(events)
        cost += log_likelihood(bets.etas, null, float(events), 0.0, share)
        yield total, _evidence_of(sums, bets, cost)[0]


def _decided(worse: Floats) -> dict[str, npt.NDArray[np.bool_]]:
    """Say for (runs, METRICS) evidence which metrics each rule calls worse; the mean calls all or none."""
    mean = logsumexp(worse, axis=-1) - math.log(METRICS) >= math.log(1 / ALPHA)
    return {"each for itself": worse >= math.log(1 / ALPHA), "Holm": named(worse, ALPHA),
            "mean": np.broadcast_to(mean[:, None], worse.shape)}


def _families(runs: int, random: np.random.Generator) -> Table:
    rows = []
    for common in (False, True):
        ever_worse: dict[str, npt.NDArray[np.bool_]] = {}
        for _, worse in _together(np.full(METRICS, TOLERANCE), common, runs, random):
            for rule, found in _decided(worse).items():
                ever_worse[rule] = ever_worse.get(rule, np.zeros(runs, bool)) | found.any(axis=1)
        counts = {rule: int(found.sum()) for rule, found in ever_worse.items()}
        rows.append(("half of the events in common" if common else "independent",
                     *(written(count, runs) for count in counts.values())))
    return Table(
        "combine: ever worse where no metric is",
        f"{METRICS} metrics, each a CountTest with the truth at its tolerance, share 5 %, alpha {ALPHA:.0%} for all "
        f"together, up to 10,000 events of each metric, per cent of {runs:,} runs. combine names by Holm's "
        "steps. The first rule is what looking at each metric for itself would do, the last the mean of all evidence, "
        "which holds only where, as here, all metrics are looked at together.",
        ("metrics", "each for itself", "Holm", "mean"), rows)


def _naming(runs: int, random: np.random.Generator) -> Table:
    rows, runs = [], min(runs, 2000)
    for bad in (1, 3):
        for others in (0.0, TOLERANCE):
            truths = np.full(METRICS, others)
            truths[:bad] = 2.0
            first: dict[str, Floats] = {}
            for total, worse in _together(truths, False, runs, random):
                found = _decided(worse)
                all_named = {f"{rule}, all": found[rule][:, :bad].all(axis=1) for rule in NAMING}
                for rule, now in {"Holm": found["Holm"].any(axis=1), "mean": found["mean"].any(axis=1),
                                  **all_named}.items():
                    taken = first.setdefault(rule, np.full(runs, math.inf))
                    taken[np.isinf(taken) & now] = total
            rows.append((str(bad), f"{1 + others:g} times", *(
                " / ".join(f"{np.quantile(taken, q, method='higher'):,.0f}" for q in (0.5, 0.95))
                for taken in first.values())))
    return Table(
        "combine: events until the verdict, and until the bad metrics are named",
        "As above; the bad ones at 3 times stable's rate, the others as said; events of each metric until the verdict "
        "`worse`, and until all the bad ones are named, median / p95, looks every 10 events and then in steps of "
        f"10 %, {runs:,} runs.",
        ("bad metrics", "the others", "verdict, Holm", "verdict, mean", "named, each for itself", "named, Holm"), rows)
