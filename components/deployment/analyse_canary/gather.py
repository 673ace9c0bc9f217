"""Collect the evidence on a version that is on trial: replayed or observed requests, and rows asked of both versions.

Says who is who, sends and sums up; the rules are in `verdict`.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.errors import StepError
from penstock.components.control.base import ControlPlane, Manifest
from penstock.components.control.inference_service import (
    canary_percent,
    canary_version,
    newest_revision,
    stable_version,
    traffic,
    url,
)
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig
from penstock.components.deployment.analyse_canary.observe import observe
from penstock.components.deployment.analyse_canary.observed import Answer, Evidence, Revision, pair, sum_up
from penstock.components.deployment.analyse_canary.replay import replay
from penstock.components.deployment.analyse_canary.watch import Watch

__all__ = ["Trial", "gather"]

SEED = 0  # of the order in which rows are sent: another analysis sends the same rows


class Trial:
    """Who is on trial, beside whom, and with which share.

    Attributes:
        canary: the version on trial and its revision.
        stable: the other one; None for a first version.
        percent: share of the requests that the canary is to get; 100 for a first version.
    """

    def __init__(self, isvc: Manifest) -> None:
        self.service = isvc["metadata"]["name"]
        self.url = url(isvc)
        newest = newest_revision(isvc)
        urls = {entry.revision: entry.url for entry in traffic(isvc)}
        self.canary = Revision(canary_version(isvc), newest, urls.get(newest, ""))
        other = next((name for name in urls if name != newest), "")
        has_stable = bool(stable_version(isvc))
        self.stable = Revision(stable_version(isvc), other, urls.get(other, "")) if has_stable else None
        self.percent = canary_percent(isvc) if has_stable else 100

    def endpoint(self, base: str) -> str:
        """Return the URL that answers inference requests, at the gateway or at one revision."""
        return f"{base}/v2/models/{self.service}/infer"


def gather(dataset: Path | str, isvc: Manifest, config: AnalyseCanaryConfig, plane: ControlPlane,
           lease: CanaryLease) -> Evidence:
    """Collect the whole sample, or what there is of it when something is plainly wrong.

    Raises:
        ConfigError: the sample cannot show what is asked.
        ContractError: the dataset is damaged or has no such split.
        StepError: the split has no rows.
        LeaseLost: another run may act on the service now.
    """
    source, trial = Dataset(dataset), Trial(isvc)
    if trial.stable:
        config.check_sample(trial.percent)
    rows = source.read(config.split)
    if not len(rows):
        raise StepError(f"split {config.split} of {source.folder} has no rows to send; name another split")
    images, labels = images_array(rows, source.description.image), rows["label"].to_numpy()
    watch = Watch(plane, trial.service, lease, trial.canary, trial.percent, config.timeout)
    if trial.stable and config.mode == "observe":
        evidence = observe(trial.canary, trial.stable, trial.percent, config.requests, watch)
    else:
        evidence = _replay(trial, images, labels, config, watch)
    if trial.stable and config.paired_rows and not watch.stopped:
        ours, theirs = (replay(images, _order(len(images), config.paired_rows), trial.endpoint(revision.url),
                               config.rate, config.concurrency, watch.over_answers)
                        for revision in (trial.canary, trial.stable))
        evidence.pairs = pair(ours, theirs, labels)
    evidence.stopped = watch.stopped
    return evidence


def _replay(trial: Trial, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], config: AnalyseCanaryConfig,
            watch: Watch) -> Evidence:
    count = config.requests if trial.stable else config.min_requests_per_version
    answers = replay(images, _order(len(images), count), trial.endpoint(trial.url), config.rate, config.concurrency,
                     watch.over_answers)
    return Evidence(
        percent=trial.percent, asked=len(answers), seconds=watch.seconds, answers=answers,
        canary=sum_up(trial.canary, answers, labels),
        stable=sum_up(trial.stable, answers, labels) if trial.stable else None,
        unanswered=sum(not _is_known(answer, trial) for answer in answers))


def _is_known(answer: Answer, trial: Trial) -> bool:
    return answer.is_from(trial.canary) or (trial.stable is not None and answer.is_from(trial.stable))


def _order(rows: int, count: int) -> list[int]:
    """Return `count` row indices in a random order, each as often as any other to within one."""
    random = np.random.default_rng(SEED)
    rounds = [random.permutation(rows) for _ in range(-(-count // rows))]
    return [int(row) for row in np.concatenate(rounds)[:count]]
