"""Collect the evidence on a version that is on trial: replayed or observed requests, and rows asked of both versions.

Says who is who, sends and sums up; the rules are in `verdict`.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.control.base import ControlPlane, Manifest
from penstock.components.control.inference_service import (
    address,
    addresses,
    canary_percent,
    canary_version,
    newest_revision,
    stable_version,
)
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.analyse_canary.analysis import SequentialAnalysis
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.journal import Journal
from penstock.components.deployment.analyse_canary.ladder import Ladder, Seen
from penstock.components.deployment.analyse_canary.observe import observe
from penstock.components.deployment.analyse_canary.observed import Answer, Evidence, Revision, batch, pair, sum_up
from penstock.components.deployment.analyse_canary.replay import replay
from penstock.components.deployment.analyse_canary.watch import Watch

__all__ = ["Trial", "gather"]

LOOK = 0.5  # seconds between two looks at the evidence
SEED = 0  # of the order in which rows are sent: another analysis sends the same rows

logger = logging.getLogger(__name__)


class Trial:
    """Who is on trial, beside whom, and with which share.

    Attributes:
        canary: the version on trial and its revision.
        stable: the other one; None for a first version.
        percent: share of the requests that the canary is to get; 100 for a first version.
    """

    def __init__(self, isvc: Manifest) -> None:
        self.service = isvc["metadata"]["name"]
        self.url = address(isvc)
        newest = newest_revision(isvc)
        urls = addresses(isvc)
        self.canary = Revision(canary_version(isvc), newest, urls.get(newest, ""))
        other = next((name for name in urls if name != newest), "")
        has_stable = bool(stable_version(isvc))
        self.stable = Revision(stable_version(isvc), other, urls.get(other, "")) if has_stable else None
        self.percent = canary_percent(isvc) if has_stable else 100

    def fingerprint(self, config: AnalyseCanaryConfig, dataset_hash: str) -> str:
        """Return what the evidence on this trial depends on, beside the share, which the ladder keeps.

        A predictor that was started again has another URL: that does not count.
        """
        sides = [revision[:2] for revision in (self.canary, self.stable) if revision]
        return f"{self.service} {sides} {dataset_hash} {config.model_dump_json()}"

    def endpoint(self, base: str) -> str:
        """Return the URL that answers inference requests, at the gateway or at one revision."""
        return f"{base}/v2/models/{self.service}/infer"


def gather(dataset: Path | str, isvc: Manifest, config: AnalyseCanaryConfig, plane: ControlPlane,
           lease: CanaryLease, notes: Path) -> Evidence:
    """Collect evidence until there is enough of it, or what there is when something is plainly wrong.

    Args:
        notes: folder that keeps what a replay has seen; one of the same trial is gone on with.

    Raises:
        ConfigError: the sample cannot show what is asked.
        ContractError: the dataset is damaged or has no such split.
        StepError: the split has no rows.
        LeaseLost: another run may act on the service now.
    """
    source, trial = Dataset(dataset), Trial(isvc)
    rows = source.read(config.split)
    if not len(rows):
        raise StepError(f"split {config.split} of {source.folder} has no rows to send; name another split")
    images, labels = images_array(rows, source.description.image), rows["label"].to_numpy()
    watch = Watch(plane, trial.service, lease, trial.canary, trial.percent, config.timeout)
    if trial.stable is None:
        return _replay(trial, images, labels, config, Looks(trial, labels, watch, Ladder(config, trial.percent)))
    if config.mode == "observe":
        config.check_sample(trial.percent, len(rows))
        analysis = SequentialAnalysis(config, labelled=False)
        evidence = observe(trial.canary, trial.stable, config.requests, analysis, watch,
                           Ladder(config, trial.percent))
    else:
        analysis = SequentialAnalysis(config, labelled=True, classes=source.description.classes)
        journal = Journal(notes, trial.fingerprint(config, source.manifest.content_hash))
        looks = Looks(trial, labels, watch, Ladder(config, trial.percent), analysis, journal)
        # Where it began: it may have climbed before the step was killed.
        config.check_sample(looks.ladder.percents[0], len(rows))
        journal.begin(looks.answers)
        evidence = _replay(trial, images, labels, config, looks)
    if config.paired_rows and not watch.stopped and not analysis.is_worse():
        each = _order(len(images), min(config.paired_rows, len(images)))  # once: a row asked twice proves nothing new
        ours, theirs = (replay(images, each, trial.endpoint(revision.url), config.rate, config.concurrency,
                               lambda answers: watch.is_over(progress(answers)))
                        for revision in (trial.canary, trial.stable))
        evidence.pairs = pair(ours, theirs, labels)
    evidence.stopped, evidence.late = watch.stopped, watch.late
    return evidence


def _replay(trial: Trial, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], config: AnalyseCanaryConfig,
            looks: "Looks") -> Evidence:
    most, watch = config.most_requests, looks.watch
    order = _order(len(images), most)
    while not looks.enough:
        ladder, sent = looks.ladder, len(looks.answers)
        if trial.stable is None:
            until = min(sent + config.min_requests_per_version - looks.seen.canary, most)
        else:
            until = most if ladder.is_top else min(sent + ladder.missing(looks.seen), most)
        looks.begin()
        looks.take(replay(images, order[sent:until], trial.endpoint(trial.url), config.rate, config.concurrency,
                          looks.is_over))
        if looks.enough or until == most or watch.is_over(progress(looks.answers)):
            break
        if trial.stable is None:
            looks.enough = looks.seen.canary >= config.min_requests_per_version
        elif ladder.is_held(looks.seen):
            if not watch.change_share(ladder.next):
                break
            ladder.begin(looks.seen)
    answers = looks.answers
    return Evidence(
        ladder=looks.ladder, asked=len(answers), seconds=looks.before + watch.seconds, answers=answers,
        canary=sum_up(trial.canary, answers, labels), analysis=looks.analysis, stopped=watch.stopped,
        stable=sum_up(trial.stable, answers, labels) if trial.stable else None,
        unanswered=sum(not _is_known(answer, trial) for answer in answers),
        unattributed=sum(_is_nameless(answer, trial) for answer in answers))


class Looks:
    """Feeds the answers of a replay to the tests, look by look; without `analysis` it only watches.

    Attributes:
        answers: that were looked at, those of a step that was killed before among them.
        seen: how far the trial has come.
        enough: whether no further request is needed.
        before: seconds of a step that was killed before.
    """

    def __init__(self, trial: Trial, labels: npt.NDArray[np.integer], watch: Watch, ladder: Ladder,
                 analysis: SequentialAnalysis | None = None, journal: Journal | None = None) -> None:
        self.watch, self.analysis, self.ladder = watch, analysis, ladder
        self._trial, self._labels, self._journal = trial, labels, journal
        self.answers: list[Answer] = []
        self.seen = Seen()
        self.enough = False
        if analysis and journal:
            self._go_on(analysis, journal)
        self.before = max((answer.sent for answer in self.answers), default=0.0)
        self.begin()

    def _go_on(self, analysis: SequentialAnalysis, journal: Journal) -> None:
        answers, state = journal.load()
        if not state:
            return
        seen, fresh = self._with(Seen(), answers), analysis.to_state()
        try:
            ladder = self.ladder.restored(state.get("ladder"), seen)
            analysis.restore(state.get("analysis", {}))
        except ContractError as error:
            logger.warning("service=%s damaged=%r action=begin-anew", self._trial.service, error)
            return
        if not analysis.is_worse() and not ladder.fits(seen):
            logger.info("service=%s requests=%d left=too-few action=begin-anew", self._trial.service, seen.requests)
            analysis.restore(fresh)
            return
        self.answers, self.seen, self.ladder = answers, seen, ladder
        self.enough = ladder.is_enough(analysis, seen)

    def begin(self) -> None:
        """Expect the answers of another replay, which counts them and its seconds from 0."""
        self._taken, self._begun = 0, self.before + self.watch.seconds
        self._next = time.monotonic() + LOOK

    def _with(self, seen: Seen, new: Sequence[Answer]) -> Seen:
        stable, canary = (
            [answer for answer in new if answer.is_from(revision)] if revision else []
            for revision in (self._trial.stable, self._trial.canary))
        return Seen(seen.requests + len(new), seen.stable + len(stable), seen.canary + len(canary),
                    seen.errors + sum(answer.failed for answer in stable))

    def is_over(self, answers: Sequence[Answer]) -> bool:
        """Look again if it is time, and say whether to end.

        Args:
            answers: of this replay, all so far.
        """
        if time.monotonic() >= self._next:
            self.take(answers)
            self._next = time.monotonic() + LOOK  # from here: what a look takes is no part of the pause
        return self.watch.is_over(progress(answers)) or self.enough

    def take(self, answers: Sequence[Answer]) -> None:
        """Hand the answers that are new since the last look to the tests."""
        new = [answer._replace(sent=self._begun + answer.sent) for answer in answers[self._taken:]]
        self._taken = len(answers)
        self.answers += new
        self.seen = self._with(self.seen, new)
        if not (self.analysis and self._trial.stable and new):
            return
        stable, canary = (batch(revision, new, self._labels, len(self.analysis.classes))
                          for revision in (self._trial.stable, self._trial.canary))
        self.analysis.update(stable, canary, sum(_is_nameless(answer, self._trial) for answer in new))
        self.enough = self.ladder.is_enough(self.analysis, self.seen)
        if self._journal:
            state = {"analysis": self.analysis.to_state(), "ladder": self.ladder.to_state()}
            self._journal.save(new, state)


def progress(answers: Sequence[Answer]) -> Callable[[], str]:
    """Return what a line of the log says of a replay."""
    def line() -> str:
        answered = sum(answer.status > 0 for answer in answers)
        return (f"requests={len(answers)} unanswered={len(answers) - answered} "
                f"errors={sum(answer.failed for answer in answers)}")

    return line


def _is_known(answer: Answer, trial: Trial) -> bool:
    return answer.is_from(trial.canary) or (trial.stable is not None and answer.is_from(trial.stable))


def _is_nameless(answer: Answer, trial: Trial) -> bool:
    return answer.arrived and not _is_known(answer, trial)


def _order(rows: int, count: int) -> list[int]:
    """Return `count` row indices in a random order, each as often as any other to within one."""
    random = np.random.default_rng(SEED)
    rounds = [random.permutation(rows) for _ in range(-(-count // rows))]
    return [int(row) for row in np.concatenate(rounds)[:count]]
