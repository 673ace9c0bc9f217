"""Writes docs/statistics.md: how often the tests of `components/evidence` are wrong, and how fast they are.

    python tests/simulation/simulate.py --runs 10000 --out docs

The same runs and seed give the same bytes. Simulates nothing itself.
"""

import argparse
import importlib
import itertools
import logging
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the processes are as many as the cores

from latency_cells import OF_FIXED
from rate_cells import QUESTIONS
from table import Table

RUNS = 10_000
SEED = 20261121
PROCESSES = len(os.sched_getaffinity(0))
log = logging.getLogger("simulate")


class Job(NamedTuple):
    """What one process computes at a time: a module's tables.

    Attributes:
        heading: the chapter that they belong to.
        fewer: runs are divided by this, where a cell is dear and no error rate is proven.
        options: of the module's `tables`, beside runs and seed.
    """

    heading: str
    module: str
    fewer: int = 1
    options: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it


RATES, LATENCY, COUNTS, MIX, BURSTS, DRIFT, PLANNING = (
    "Shares of requests: RateTest", "Latency: LatencyTest", "Events under changing load: CountTest",
    "Class mix: MixTest", "Requests that come in bursts", "Drift", "Planning")
JOBS = (
    *(Job(RATES, "rate_cells", options={"questions": (question,)}) for question in QUESTIONS),
    Job(RATES, "climbing"),
    Job(RATES, "misuse"),
    Job(RATES, "power", fewer=10, options={"errors": False}),
    Job(RATES, "power", options={"speeds": False}),
    Job(RATES, "rollouts"),
    Job(LATENCY, "latency_cells", options={"others": False}),
    Job(LATENCY, "latency_cells", options={"errors": False}),
    Job(LATENCY, "latency_rollouts"),
    Job(LATENCY, "distribution_cells"),
    Job(COUNTS, "count_cells"),
    *(Job(MIX, "mix_cells", options={"questions": (question,), "shapes": False}) for question in QUESTIONS),
    Job(MIX, "mix_cells", options={"questions": ()}),
    Job(BURSTS, "dependence_cells"),
    Job(DRIFT, "drift_cells"),
    Job(PLANNING, "planning_cells"),
)

WRONG = re.compile(r"(\w+Test)\b[^:]*: ever `(worse|within)`")  # the title of a table of error rates
LONGEST_FIRST = {LATENCY: -3, MIX: -2, BURSTS: -1}  # so that no core waits in the end for one that began last

FRONT = """# What the tests promise, and what they do

Written by `make simulate`; the same seed gives the same text. Nothing here is typed in.

## In plain words

A new model, the canary, answers a part of the requests; the old one, stable, answers the rest. You say how much worse
the canary may be: the tolerance, for example "0.5 points more errors". The test looks at both whenever you like, and
says one of three things:

- `worse`: the canary is worse than you allow. Roll it back.
- `within`: it is not. Go on.
- `undecided`: what was seen so far fits both. Wait; the text says for about how many requests, or that no number would
  do because the canary is almost exactly at the tolerance.

**What is promised.** If the canary never is worse than the tolerance, the chance that the test *ever* says `worse` is
at most α, 5 % unless you set another. If it is worse than that all the time, the chance that it *ever* says `within`
is at most α as well. Ever means ever: look once a day or after every request, stop when you like, go on when you like.
No sample size has to be planned, the share of the traffic may change, and the errors may come and go with the hour as
long as they do so for both versions.

**What is asked of you.** An update, which hands the test what it has not seen yet, comes by the clock or after a number
of requests, never because of how requests ended; and one comes whenever the share of the traffic changes. Two warnings
below show what happens otherwise.

**What is not promised.**

- Nothing about a canary that is good first and bad later, or the other way round: that is the monitor's job.
- Nothing about requests that hang together when nobody said so. The requests of one session end alike; tell the test
  (`block`) how many they are at most. The table of unstated sessions shows what happens otherwise.
- Nothing about a mix of classes that differs each time in another way: the promise of MixTest's `within` is for one and
  the same difference in every window.
- That a verdict comes soon. The closer the canary is to the tolerance, the longer it takes, with the square.
- 5 % is a limit, not a forecast: most cells below lie well under it.

**How to read the tables.** A cell such as `1.42 ±0.12` is a share of simulated runs in per cent with its Monte-Carlo
standard error. A cell is marked **above α** when its lower 99.9 % bound (Clopper and Pearson) is above α, that is, when
the simulation refutes the promise. Only what promises nothing may carry that mark: rivals, tests that were not told of
sessions or bursts, and the asymptotic variant. "Ever" is up to the horizon, a number of canary requests.

**The traffic of RateTest's tables.** The horizon is ten times what a planned test of fixed size would need. Looks come
every so many requests at first, 120 times, then each is 8 % further than the one before. Stationary: errors of stable
stay as they are. Diurnal: they swing by 80 % up and down, five days in the horizon. Drifting: they grow threefold.
Autocorrelated: they wander (AR(1), 0.9 from look to look, a standard deviation of 50 %), for both versions alike.
Sessions: 1, 5 or 20 requests that all end alike, cut in two by the looks, with `block=20` stated; their horizon is 20
times as long. Errors of stable 0.1, 1 and 10 % go with a tolerance of 0.1, 0.5 and 2 points.
"""


def simulate(job: Job, runs: int, seed: int) -> list[Table]:
    """Return a job's tables.

    Raises:
        ModuleNotFoundError: the module is missing.
    """
    module = importlib.import_module(job.module)
    tables: list[Table] = module.tables(max(runs // job.fewer, 1), seed, **job.options)
    return tables


def _load(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def _numbered(task: tuple[int, Job, int, int]) -> tuple[int, list[Table], float]:
    number, job, runs, seed = task
    started = time.monotonic()
    return number, simulate(job, runs, seed), time.monotonic() - started


def run(jobs: tuple[Job, ...], runs: int, seed: int, processes: int) -> list[list[Table]]:
    """Return the tables of all jobs in their order, whatever order they end in."""
    modules = [job.module for job in jobs]
    _load(modules)  # what cannot be imported is said now, not after the others' half an hour
    tasks = sorted(((number, job, runs, seed) for number, job in enumerate(jobs)),
                   key=lambda task: LONGEST_FIRST.get(task[1].heading, 0))
    found: list[list[Table]] = [[] for _ in jobs]
    with multiprocessing.get_context("spawn").Pool(processes, _load, (modules,)) as pool:
        for done, (number, tables, seconds) in enumerate(pool.imap_unordered(_numbered, tasks), start=1):
            found[number] = tables
            log.info("module=%s seconds=%.0f done=%d/%d", jobs[number].module, seconds, done, len(jobs))
    return found


def compose(jobs: tuple[Job, ...], found: list[list[Table]], pictures: str) -> str:
    """Return the whole text."""
    parts = [FRONT, _short(found), "## A confidence sequence closes in\n", pictures]
    heading = ""
    for job, tables in zip(jobs, found, strict=True):
        if job.heading != heading:
            heading = job.heading
            parts.append(f"## {heading}\n")
        parts += [table.markdown() for table in tables]
    return "\n".join(parts)


def _short(found: list[list[Table]]) -> str:
    """Return what the cells of wrong verdicts come to, a clause for each test."""
    cells: dict[str, list[str]] = {}
    early: dict[str, int] = {}
    for table in itertools.chain(*found):
        if title := WRONG.match(table.title):
            for row in table.rows:
                rates = [cell for cell in row if "±" in cell]
                cells.setdefault(title[1], []).extend(rates)
                if OF_FIXED in table.headers and float(row[table.headers.index(OF_FIXED)]) < 1:
                    early[title[1]] = early.get(title[1], 0) + len(rates)
    clauses = [f"{len(those)} cells of {name}, the worst at {max(float(cell.split(' ±')[0]) for cell in those):.2f} %, "
               f"{sum('above α' in cell for cell in those)} of them above α"
               + (f" ({early[name]} end before a fixed sample could tell, and prove little)" if name in early else "")
               for name, those in cells.items()]
    return f"**In short,** wrong verdicts where at most 5 % are promised: {'; '.join(clauses)}.\n"


def write(folder: Path, jobs: tuple[Job, ...], runs: int, seed: int, processes: int = PROCESSES) -> Path:
    """Write statistics.md and its pictures into `folder`."""
    from figures import section

    found = run(jobs, runs, seed, processes) if processes > 1 else [simulate(job, runs, seed) for job in jobs]
    path = folder / "statistics.md"
    pictures = section(folder / "statistics")
    path.write_text(compose(jobs, found, pictures), encoding="utf-8")
    return path


def main() -> int:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0],
                                     epilog="example: python tests/simulation/simulate.py --runs 1000 --out docs")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"per cell (default {RUNS:,}; 50 for a quick look)")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder to write to (default docs)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the random numbers")
    parser.add_argument("--only", action="append", default=[], metavar="MODULE", help="these modules alone, to look at")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    jobs = tuple(job for job in JOBS if not given.only or job.module in given.only)
    missing = [job.module for job in jobs if not (Path(__file__).parent / f"{job.module}.py").is_file()]
    if missing or not jobs:
        parser.error(f"no such module in {Path(__file__).parent}: {', '.join(missing or given.only)}")
    path = write(given.out, jobs, given.runs, given.seed)
    log.info("wrote=%s bytes=%d", path, path.stat().st_size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
