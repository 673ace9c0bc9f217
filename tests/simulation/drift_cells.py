"""How often drift tests cry wolf, and what they find: the shipping tests on drawn data.

Draws no picture and writes no file.
"""

from collections.abc import Callable
from typing import NamedTuple

import label_free_cells
import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from scipy.stats import norm
from table import Table

from penstock.components.evidence.drift import (
    DriftResult,
    binned,
    chi_square,
    jensen_shannon,
    kolmogorov_smirnov,
    maximum_mean_discrepancy,
    population_stability,
)
from penstock.components.evidence.drift_bets import bets, capital_after, growth
from penstock.components.evidence.drift_stream import DriftMonitor

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator], DriftResult]

ALPHA = 0.05
RESAMPLES = 199
TEN = np.full(10, 0.1)
ZIPF = (1 / np.arange(1, 51)) / (1 / np.arange(1, 51)).sum()
MOVED = TEN + np.array([0.05, *[-0.05 / 9] * 9])
ARL = 2_000
HORIZON = 10 * ARL
BATCH = 50
LATE = 50_000  # requests at which a search for a change is given up
DIMENSIONS = 8
REFERENCES = 20


class Stream(NamedTuple):
    """A monitor, and the chance of each class, or of a score between two edges, at a request number."""

    setting: str
    monitor: DriftMonitor
    chance: Callable[[int], Floats]
    session: int = 1


def tables(runs: int, seed: int) -> list[Table]:
    """Return the tables of drift and of accuracy without labels.

    Args:
        runs: of a cheap cell; dear ones take a stated part of them.
        seed: of everything.
    """
    return [_false_alarms(runs, seed), _psi_rule(runs, seed), _power(max(runs // 10, 20), seed),
            _run_lengths(runs, seed), _delays(max(runs // 20, 20), seed),
            *label_free_cells.tables(max(runs // 10, 20), seed)]


def _counted(test: Callable[..., DriftResult], n: int, m: int, before: Floats, after: Floats) -> Draw:
    return lambda rng: test(rng.multinomial(n, before), rng.multinomial(m, after), resamples=RESAMPLES,
                            seed=int(rng.integers(2**32)))


def _numbers(n: int, m: int, shift: float = 0.0, digits: int = 9) -> Draw:
    return lambda rng: kolmogorov_smirnov(np.round(rng.normal(size=n), digits),
                                          np.round(rng.normal(shift, size=m), digits))


def _vectors(n: int, m: int, shift: float = 0.0) -> Draw:
    return lambda rng: maximum_mean_discrepancy(rng.normal(size=(n, DIMENSIONS)),
                                                rng.normal(shift, size=(m, DIMENSIONS)), resamples=RESAMPLES,
                                                seed=int(rng.integers(2**32)))


def _binned(n: int, m: int) -> Draw:
    return lambda rng: population_stability(*binned(rng.normal(size=n), rng.normal(size=m)), resamples=RESAMPLES,
                                            seed=int(rng.integers(2**32)))


def _share(draw: Draw, runs: int, seed: int) -> tuple[float, str]:
    """Return how often p <= 0.05, and the same as text with its Monte-Carlo standard error."""
    rng = np.random.default_rng(seed)
    found = sum(draw(rng).p_value <= ALPHA for _ in range(runs)) / runs
    return found, f"{found:.3f} ± {(found * (1 - found) / runs) ** 0.5:.3f}"


def _false_alarms(runs: int, seed: int) -> Table:
    few = max(runs // 10, 20)
    cells: list[tuple[str, str, Draw, int]] = [
        ("Kolmogorov-Smirnov", "100 and 100 rows", _numbers(100, 100), runs),
        ("Kolmogorov-Smirnov", "1,000 and 300 rows", _numbers(1000, 300), runs),
        ("Kolmogorov-Smirnov", "1,000 and 300 rows, rounded to whole numbers", _numbers(1000, 300, digits=0), runs),
        ("chi-square", "1,000 and 1,000 rows, 10 even classes", _counted(chi_square, 1000, 1000, TEN, TEN), runs),
        ("chi-square", "200 and 50 rows, 50 classes, the rarest 0.4 %", _counted(chi_square, 200, 50, ZIPF, ZIPF),
         runs),
        ("PSI", "100 and 100 rows, 10 even classes", _counted(population_stability, 100, 100, TEN, TEN), runs),
        ("PSI", "200 and 50 rows, 50 classes", _counted(population_stability, 200, 50, ZIPF, ZIPF), runs),
        ("PSI", "500 and 500 numbers in 10 bins", _binned(500, 500), runs),
        ("Jensen-Shannon", "100 and 100 rows, 10 even classes", _counted(jensen_shannon, 100, 100, TEN, TEN), runs),
        ("MMD", f"100 and 100 rows, {DIMENSIONS} columns", _vectors(100, 100), few),
        ("MMD", f"50 and 200 rows, {DIMENSIONS} columns", _vectors(50, 200), few)]
    rows = [(test, setting, f"{count:,}", _share(draw, count, seed + number)[1])
            for number, (test, setting, draw, count) in enumerate(cells)]
    return Table("Drift tests where nothing has changed",
                 f"How often p <= {ALPHA:g}, with its standard error. Permutations: {RESAMPLES}.",
                 ("test", "sample", "runs", "false alarms"), rows)


def _psi_rule(runs: int, seed: int) -> Table:
    rows = []
    for number, n in enumerate((100, 300, 1000, 10_000)):
        rng = np.random.default_rng(seed + number)
        for setting, after in (("none", TEN), ("a class from 10 to 15 %", MOVED)):
            one, other = rng.multinomial(n, TEN, size=runs) + 0.5, rng.multinomial(n, after, size=runs) + 0.5
            index = ((other - one) / (n + 5) * np.log(other / one)).sum(axis=1)
            power = _share(_counted(population_stability, n, n, TEN, after), max(runs // 10, 20), seed)[1]
            rows.append((f"{n:,}", setting, f"{np.median(index):.4f}", f"{(index > 0.1).mean():.3f}",
                         f"{(index > 0.25).mean():.3f}", power))
    return Table("PSI: its rule of thumb and its p-value",
                 "The same index means other things at other sample sizes: 10 even classes, as many rows of each. "
                 f"{runs:,} runs; {max(runs // 10, 20):,} for the p-value.",
                 ("rows", "change", "median PSI", "PSI > 0.1", "PSI > 0.25", f"p <= {ALPHA:g}"), rows)


def _power(runs: int, seed: int) -> Table:
    cells: list[tuple[str, str, Draw]] = [
        ("Kolmogorov-Smirnov", "500 and 500 rows, mean + 0.1 standard deviations", _numbers(500, 500, 0.1)),
        ("Kolmogorov-Smirnov", "500 and 500 rows, mean + 0.2 standard deviations", _numbers(500, 500, 0.2)),
        *[(name, "500 and 500 rows, a class from 10 to 15 %", _counted(test, 500, 500, TEN, MOVED))
          for name, test in (("chi-square", chi_square), ("PSI", population_stability),
                             ("Jensen-Shannon", jensen_shannon))],
        ("MMD", f"100 and 100 rows, {DIMENSIONS} columns, each mean + 0.2", _vectors(100, 100, 0.2)),
        ("MMD", f"100 and 100 rows, {DIMENSIONS} columns, each mean + 0.4", _vectors(100, 100, 0.4))]
    few = max(runs // 5, 20)
    rows = [(test, setting, _share(draw, few if test == "MMD" else runs, seed + number)[1])
            for number, (test, setting, draw) in enumerate(cells)]
    return Table("Drift tests where something has changed",
                 f"How often p <= {ALPHA:g}; {runs:,} runs, {few:,} for MMD.", ("test", "change", "found"), rows)


def lengths(stream: Stream, runs: int, horizon: int, batch: int, arl: float, rng: np.random.Generator) -> Floats:
    """Return the requests until an alarm, (runs,); infinite where there is none up to the horizon."""
    monitor = stream.monitor
    who = bets(monitor.lower, monitor.upper)
    block = monitor.to_state()["options"]["block"]
    found = np.full(runs, np.inf)
    capital, there = np.full((runs, len(who.part)), -np.inf), np.arange(runs)
    for done in range(0, horizon, batch):
        cells = stream.session * rng.multinomial(batch // stream.session, stream.chance(done), size=len(there))
        events = cells if monitor.edges is None else cells.cumsum(axis=1)[:, :-1]
        requests = np.full(len(there), batch)
        capital = capital_after(capital, requests, growth(who, events, requests, block))
        alarm = logsumexp(capital, axis=1) >= np.log(arl)
        found[there[alarm]] = done + batch
        capital, there = capital[~alarm], there[~alarm]
        if not len(there):
            break
    return found


def _always(chance: Floats) -> Callable[[int], Floats]:
    return lambda _: chance


def _scores(monitor: DriftMonitor, shift: float) -> Floats:
    assert monitor.edges is not None
    return np.diff(norm.cdf(monitor.edges - shift), prepend=0.0, append=1.0)


def _classes(rows: int, chance: Floats, seed: int, **options: float) -> DriftMonitor:
    reference = np.random.default_rng(seed).multinomial(rows, chance)
    return DriftMonitor.of_classes(reference, **options)  # type: ignore[arg-type]


def _at_limit(monitor: DriftMonitor, part: int = 0) -> Floats:
    """Return chances with one class at its upper limit, and the others as in the reference but for the rest."""
    chance = monitor.shares * (1 - monitor.upper[part]) / (1 - monitor.shares[part])
    chance[part] = monitor.upper[part]
    return chance


def _day(at: int) -> Floats:
    """Return ten classes of which the first goes from 8 to 12 % and back, each 2,000 requests."""
    first = 0.1 + 0.02 * np.sin(2 * np.pi * at / 2000)
    return np.array([first, *[(1 - first) / 9] * 9])


def _run_lengths(runs: int, seed: int) -> Table:
    two = _classes(5000, np.array([0.8, 0.2]), seed, arl=ARL)
    ten, wide = _classes(5000, TEN, seed, arl=ARL), _classes(5000, TEN, seed, arl=ARL, tolerance=0.02)
    blocks = _classes(5000, TEN, seed, arl=ARL, block=10)
    scores = DriftMonitor.of_scores(np.random.default_rng(seed).normal(size=5000), arl=ARL)
    even, limit, binary, normal = (_always(chance) for chance in (TEN, _at_limit(ten), _at_limit(two),
                                                                 _scores(scores, 0.0)))
    streams = [Stream("2 classes, at the limit that is no drift", two, binary),
               Stream("10 classes, nothing has changed", ten, even),
               Stream("10 classes, one at its limit", ten, limit),
               Stream("10 classes, one breathing by 2 points, tolerance 2 points", wide, _day),
               Stream("10 classes, one breathing by 2 points, tolerance 0", ten, _day),
               Stream("scores, nothing has changed", scores, normal),
               Stream("10 classes, sessions of 10 alike, block=1 (not valid)", ten, even, 10),
               Stream("10 classes, sessions of 10 alike, block=10", blocks, even, 10)]
    rows = []
    for number, stream in enumerate(streams):
        found = lengths(stream, runs, HORIZON, BATCH, ARL, np.random.default_rng(seed + number))
        cut = np.minimum(found, HORIZON)
        early = float((found <= ARL / 10).mean())
        rows.append((stream.setting, f"{cut.mean():,.0f} ± {cut.std() / runs**0.5:,.0f}",
                     f"{np.isinf(found).mean():.3f}", f"{early:.4f} ± {(early * (1 - early) / runs) ** 0.5:.4f}"))
    return Table("The drift monitor without drift",
                 f"Promised: {ARL:,} requests until a false alarm on average, and one within the first {ARL // 10} "
                 f"in at most 0.1 of the runs. Runs are cut at {HORIZON:,} requests, which makes the mean too small. "
                 f"References of 5,000 rows, batches of {BATCH}, {runs:,} runs.",
                 ("stream", "mean requests until an alarm", "no alarm until the cut", f"alarm within {ARL // 10}"),
                 rows)


def _delays(runs: int, seed: int) -> Table:
    classes = [(f"a class from 10 to {10 + points} %", TEN + points / 100 * np.array([1, *[-1 / 9] * 9]))
               for points in (2, 5, 10)]
    each = max(runs // REFERENCES, 2)
    rows = []
    for size in (1000, 10_000):
        found: dict[str, list[Floats]] = {}
        for number in range(REFERENCES):
            rng = np.random.default_rng(seed + number)
            ten, scores = _classes(size, TEN, seed + number), DriftMonitor.of_scores(rng.normal(size=size))
            streams = [Stream(change, ten, _always(chance)) for change, chance in classes]
            streams += [Stream(f"scores + {shift:g} standard deviations", scores, _always(_scores(scores, shift)))
                        for shift in (0.1, 0.2, 0.5)]
            for stream in streams:
                found.setdefault(stream.setting, []).append(lengths(stream, each, LATE, 100, 1e6, rng))
        for change, parts in found.items():
            every = np.concatenate(parts)
            texts = [f"{value:,.0f}" if np.isfinite(value) else f"over {LATE:,}"
                     for value in (np.quantile(every, q, method="higher") for q in (0.5, 0.95))]
            rows.append((f"{size:,}", change, *texts, f"{np.isfinite(every).mean():.3f}"))
    return Table("How soon the drift monitor sees a change",
                 f"Requests from the change to the alarm, at 1,000,000 requests between false alarms; batches of 100, "
                 f"{REFERENCES} references with {each} runs each. What stays within the limits that a small reference "
                 "leaves is never seen.",
                 ("rows of reference", "change", "median", "95 % by", f"seen by {LATE:,}"), rows)
