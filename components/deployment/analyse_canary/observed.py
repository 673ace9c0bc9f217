"""What was seen of a canary and of the stable version beside it: answers, sums over them, and how to tell them apart.

Data and arithmetic; sends no request and judges nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.reports import VariantReport
from penstock.components.deployment.analyse_canary.analysis import Batch, SequentialAnalysis
from penstock.components.deployment.analyse_canary.ladder import Ladder, Seen

__all__ = ["Answer", "Evidence", "Observed", "Pairs", "Revision", "batch", "pair", "sum_up", "variant_report"]

Floats = npt.NDArray[np.floating]
REPORTED = (50, 90, 95, 99)  # percentiles


class Revision(NamedTuple):
    """A version, the revision that runs it, and the URL that reaches it alone."""

    version: str
    name: str
    url: str


class Answer(NamedTuple):
    """What came back for one row; revision and version are "" where the answer does not say who gave it."""

    row: int
    sent: float  # seconds since the first
    seconds: float
    status: int  # HTTP; 0: nothing came back
    revision: str = ""
    version: str = ""
    predicted: int = -1  # class index; -1: there is none in the answer
    arrived: bool = True  # false: there was no connection, or it broke, as where the gateway is away

    @property
    def failed(self) -> bool:
        """A replayed row is a valid request: whatever is not a prediction is an error."""
        return self.status != 200 or self.predicted < 0

    def is_from(self, revision: Revision) -> bool:
        """Whether this revision gave the answer; what the gateway says goes before what the model says."""
        return self.revision == revision.name if self.revision else self.version == revision.version != ""


class Observed(NamedTuple):
    """The requests of one revision, summed up.

    `fast` and `slow`: (N,) sorted seconds of its good answers, which lie between the two; equal where they were timed.
    """

    revision: Revision
    requests: int
    errors: int
    labelled: int
    correct: int
    fast: Floats
    slow: Floats


class Pairs(NamedTuple):
    """Rows that both revisions answered, in the same order."""

    canary_correct: npt.NDArray[np.bool_]
    stable_correct: npt.NDArray[np.bool_]
    agree: npt.NDArray[np.bool_]


@dataclass
class Evidence:
    """Everything a verdict rests on.

    Attributes:
        ladder: the shares of the requests that the canary was to get.
        asked: requests sent or seen, answered or not.
        unanswered: those of a replay that no version is known to have answered.
        unattributed: of these those that arrived: they got no answer in time, or one that does not say whose it is.
        stopped: why the analysis ended early, "" where it did not.
        late: whether the time was up.
        answers: each request of a replay, in the order in which they were sent.
        analysis: the tests that were fed meanwhile; None for a first version, which is compared with nothing.
    """

    ladder: Ladder
    canary: Observed
    stable: Observed | None
    asked: int
    unanswered: int
    seconds: float
    unattributed: int = 0
    stopped: str = ""
    late: bool = False
    pairs: Pairs | None = None
    answers: Sequence[Answer] = field(default=())
    analysis: SequentialAnalysis | None = None

    @property
    def seen(self) -> Seen:
        """Return how far the trial has come."""
        stable = self.stable
        return Seen(self.asked, stable.requests if stable else 0, self.canary.requests, stable.errors if stable else 0)


def sum_up(revision: Revision, answers: Sequence[Answer], labels: npt.NDArray[np.integer]) -> Observed:
    """Sum up the answers that a revision gave.

    Args:
        labels: class index by row.
    """
    own = [answer for answer in answers if answer.is_from(revision)]
    good = [answer for answer in own if not answer.failed]
    seconds = np.sort(np.array([answer.seconds for answer in good], float))
    return Observed(revision, len(own), len(own) - len(good), len(good),
                    sum(int(labels[answer.row]) == answer.predicted for answer in good), seconds, seconds)


def batch(revision: Revision, answers: Sequence[Answer], labels: npt.NDArray[np.integer], classes: int) -> Batch:
    """Sum up what a revision answered since the last look, for the tests.

    Args:
        labels: class index by row.
        classes: how many there are.
    """
    own = [answer for answer in answers if answer.is_from(revision)]
    good = [answer for answer in own if not answer.failed]
    predicted = np.array([answer.predicted for answer in good], int)
    return Batch(len(own), len(own) - len(good), np.array([answer.seconds for answer in good], float), {}, len(good),
                 sum(int(labels[answer.row]) != answer.predicted for answer in good),
                 np.bincount(predicted, minlength=classes)[:classes])


def pair(canary: Sequence[Answer], stable: Sequence[Answer], labels: npt.NDArray[np.integer]) -> Pairs | None:
    """Pair the answers to the same rows; None where no row was answered by both."""
    other = {answer.row: answer.predicted for answer in stable if not answer.failed}
    both = [(answer.predicted, other[answer.row], int(labels[answer.row])) for answer in canary
            if not answer.failed and answer.row in other]
    if not both:
        return None
    ours, theirs, truth = np.array(both).T
    return Pairs(ours == truth, theirs == truth, ours == theirs)


def variant_report(observed: Observed) -> VariantReport:
    """Return what goes into the report of one version."""
    latency = {f"p{percent}": _finite(observed, percent) for percent in REPORTED} if len(observed.slow) else {}
    return VariantReport(version=observed.revision.version, revision=observed.revision.name, requests=observed.requests,
                         errors=observed.errors, labelled=observed.labelled, correct=observed.correct, latency=latency)


def _finite(observed: Observed, percent: int) -> float:
    """Return a percentile in seconds; for the last, open bucket of a histogram its beginning."""
    high = float(np.percentile(observed.slow, percent, method="inverted_cdf"))
    return high if np.isfinite(high) else float(np.percentile(observed.fast, percent, method="inverted_cdf"))
