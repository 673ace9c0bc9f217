"""Watch the requests of others through the counters that each predictor exposes for Prometheus.

Counts requests, errors and latencies from the moment it begins; accuracy cannot be seen this way. Judges nothing.
"""

import re
import time
from collections import Counter
from functools import partial
from typing import NamedTuple

import httpx
import numpy as np

from penstock.components.deployment.analyse_canary.analysis import Batch, SequentialAnalysis
from penstock.components.deployment.analyse_canary.ladder import Ladder, Seen
from penstock.components.deployment.analyse_canary.observed import Evidence, Observed, Revision
from penstock.components.deployment.analyse_canary.watch import Watch

__all__ = ["Counts", "began", "observe", "parse", "since", "sum_up"]

SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
TIMEOUT = 5.0  # seconds for one look at the counters
POLL = 0.5  # seconds between two looks


class Counts(NamedTuple):
    """Counters of one version: by HTTP status, and per upper edge of a latency bucket in seconds, cumulative."""

    requests: Counter[int]
    buckets: Counter[float]

    @property
    def total(self) -> int:
        return self.requests.total()

    def plus(self, more: "Counts") -> "Counts":
        """Add what was counted since; an edge without requests stays an edge."""
        requests, buckets = Counter(self.requests), Counter(self.buckets)
        requests.update(more.requests)
        buckets.update(more.buckets)
        return Counts(requests, buckets)

    @property
    def errors(self) -> int:
        """Answers 5xx: a request that the client got wrong (4xx) is no fault of the version."""
        return sum(count for code, count in self.requests.items() if code >= 500)


def observe(canary: Revision, stable: Revision, requests: int, analysis: SequentialAnalysis, watch: Watch,
            ladder: Ladder) -> Evidence:
    """Watch until the evidence is there, both versions together have answered `requests`, or `watch` ends it.

    Args:
        analysis: fed at each look with what was counted since the one before.
        ladder: climbed while nothing speaks against the canary.
    """
    counters = _Counters(canary, stable, analysis)
    while True:
        total = counters.look()
        over = watch.is_over(partial("requests={} of={}".format, total.requests, requests))
        if over or ladder.is_enough(analysis, total) or total.requests >= requests:
            break
        if not ladder.is_top and ladder.is_held(total):
            if not watch.change_share(ladder.next):
                break
            ladder.begin(counters.look())  # what came in while the traffic moved is the last rung's
        else:
            time.sleep(POLL)
    unread = [f"{revision.url}/metrics" for revision, last in counters.last.items() if not last]
    if unread and not watch.stopped:
        watch.stopped = f"no counters could be read at {' and '.join(unread)}: mode observe needs penstock's predictor"
    return Evidence(ladder=ladder, canary=sum_up(canary, counters.seen[canary]),
                    stable=sum_up(stable, counters.seen[stable]), asked=counters.total.requests, unanswered=0,
                    seconds=watch.seconds, analysis=analysis)


class _Counters:
    """What was counted since the first look at the predictors of both versions, through restarts of theirs.

    A look finds one process of a revision, whichever its service leads to. One that began since the first look counts
    whole; what another, met later, had counted until then is not known to be of this trial, and is left out.

    Attributes:
        last: the last reading of each process of each revision, by when it began; {}: none could be read yet.
        seen: since the first.
    """

    def __init__(self, canary: Revision, stable: Revision, analysis: SequentialAnalysis) -> None:
        self._canary, self._stable, self._analysis = canary, stable, analysis
        self._begun = time.time()
        first = {revision: _read(revision) for revision in (canary, stable)}
        self.last: dict[Revision, dict[float, Counts]] = {
            revision: {found.began: found.counts} if found else {} for revision, found in first.items()}
        self.seen = {revision: _nothing() for revision in self.last}

    def look(self) -> Seen:
        """Read again, feed the tests with what is new, and return the sums."""
        new = {revision: self._new(revision) for revision in self.last}
        for revision, counts in new.items():
            self.seen[revision] = self.seen[revision].plus(counts)
        self._analysis.update(_batch(new[self._stable]), _batch(new[self._canary]))
        return self.total

    def _new(self, revision: Revision) -> Counts:
        if not (now := _read(revision)):
            return _nothing()
        known = self.last[revision]
        is_new = bool(known) and now.began > self._begun
        before = known.get(now.began, _nothing() if is_new else now.counts)
        known[now.began] = now.counts
        return since(before, now.counts)

    @property
    def total(self) -> Seen:
        stable, canary = self.seen[self._stable], self.seen[self._canary]
        return Seen(stable.total + canary.total, stable.total, canary.total, stable.errors)


class _Reading(NamedTuple):
    """The counters of one process, and when it began to count, seconds since 1970; 0: it does not say."""

    began: float
    counts: Counts


def _nothing() -> Counts:
    return Counts(Counter(), Counter())


def began(text: str, version: str) -> float:
    """Read when the counters of one version were made, which tells one process from another; 0: they do not say."""
    found = [float(match["value"]) for match in SAMPLE.finditer(text) if match["name"] == "penstock_requests_created"
             and dict(LABEL.findall(match["labels"])).get("version") == version]
    return min(found, default=0.0)


def parse(text: str, version: str) -> Counts:
    """Read the text format of Prometheus, the samples of one version."""
    counts = _nothing()
    for match in SAMPLE.finditer(text):
        labels = dict(LABEL.findall(match["labels"]))
        if labels.get("version") != version:
            continue
        if match["name"] == "penstock_requests_total":
            counts.requests[int(labels["code"])] += int(float(match["value"]))
        elif match["name"] == "penstock_request_seconds_bucket":
            counts.buckets[float(labels["le"])] += int(float(match["value"]))
    return counts


def since(before: Counts, now: Counts) -> Counts:
    """Return what was counted between two readings; a predictor that was restarted began again from 0."""
    if now.total < before.total:
        return now
    return Counts(Counter({code: count - before.requests[code] for code, count in now.requests.items()}),
                  Counter({edge: count - before.buckets[edge] for edge, count in now.buckets.items()}))


def sum_up(revision: Revision, counts: Counts) -> Observed:
    """Sum up; each latency is known to lie between the edges of its bucket."""
    edges = sorted(counts.buckets)
    inside = np.diff(np.array([0, *(counts.buckets[edge] for edge in edges)]))
    fast = np.repeat(np.array([0.0, *edges[:-1]])[: len(edges)], inside)
    return Observed(revision, counts.total, counts.errors, 0, 0, fast, np.repeat(np.array(edges, float), inside))


def _batch(counts: Counts) -> Batch:
    """Return what the tests are told; the buckets of the counters hold all answers up to their edge."""
    edges = sorted(counts.buckets)
    inside = np.diff([0, *(counts.buckets[edge] for edge in edges)])
    return Batch(counts.total, counts.errors, buckets=dict(zip(edges, inside.tolist(), strict=True)))


def _read(revision: Revision) -> _Reading | None:
    """Ask a revision's predictor for its counters; None where it does not answer."""
    try:
        response = httpx.get(f"{revision.url}/metrics", timeout=TIMEOUT, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        return None
    return _Reading(began(response.text, revision.version), parse(response.text, revision.version))
