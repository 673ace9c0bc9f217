"""Follow a running Experiment: pass on what its trials print, and one line for each that ends.

Decides nothing; the step judges what came of it.
"""

import logging
import math
import threading
import time
from collections import deque
from pathlib import Path

from penstock.components.contracts.reports import SweepTrial
from penstock.components.control.base import ControlError, ControlPlane, Manifest, NotFound, ObjectRef
from penstock.components.control.launcher import last_lines
from penstock.components.training.worker.config import WorkFolder
from penstock.components.training.worker.metrics import parse_metric
from penstock.components.tuning.sweep.config import SweepConfig
from penstock.components.tuning.sweep.trials import best_trial, brief, read_trial, trial_names, trial_ref

__all__ = ["Follower"]

KEPT_LINES = 500  # of a trial; torchrun adds some fifty when a worker fails
LOG_SECONDS = 5.0  # for the last lines, once all trials have ended
RETRY_SECONDS = 0.1  # until the job of a new trial is there
log = logging.getLogger(__name__)


class Follower:
    """What is known of the trials of one Experiment.

    Args:
        work: the folder that holds the trials' own.
    """

    def __init__(self, plane: ControlPlane, config: SweepConfig, work: Path) -> None:
        self._plane, self._config, self._work = plane, config, work
        self._readers: dict[str, _Reader] = {}
        self._ended: dict[str, SweepTrial] = {}

    def see(self, experiment: Manifest) -> None:
        """Take in the Experiment as it is now."""
        ended = trial_names(experiment, ended_only=True)
        for name in trial_names(experiment):
            if name not in self._readers and name not in ended:
                self._readers[name] = _Reader(self._plane, _job_ref(experiment, name))
        for name in ended:
            if name not in self._ended and (found := self._read(experiment, name)):
                self._ended[name] = found[1]
                self._tell(found[1])
            if name in self._readers:
                self._readers[name].over.set()

    def close(self) -> None:
        """Stop waiting for jobs that are not there; what is being read is read to its end."""
        for reader in self._readers.values():
            reader.over.set()

    def trials(self, experiment: Manifest) -> list[SweepTrial]:
        """Return every trial in the order in which they started, each failure with the error that its log ends in."""
        deadline = time.monotonic() + LOG_SECONDS
        for reader in self._readers.values():
            reader.stop(deadline)
        found = [read for name in trial_names(experiment) if (read := self._read(experiment, name))]
        return [self._with_error(trial) for _, trial in sorted(found, key=lambda read: (read[0] or "~", read[1].name))]

    def log_of(self, trial: str) -> list[str]:
        """Return the last lines that a trial printed; [] where none came through."""
        return last_lines(list(self._readers[trial].lines)) if trial in self._readers else []

    def _read(self, experiment: Manifest, name: str) -> tuple[str, SweepTrial] | None:
        return read_trial(self._plane, trial_ref(experiment, name), self._config.objective)

    def _with_error(self, trial: SweepTrial) -> SweepTrial:
        if trial.status != "Failed":
            return trial
        errors = [line.partition(" ERROR ")[2] for line in self.log_of(trial.name) if " ERROR " in line]
        why = WorkFolder(self._work / trial.name).hopeless() or (errors[-1] if errors else "")
        return trial.model_copy(update={"reason": why or trial.reason})

    def _tell(self, trial: SweepTrial) -> None:
        objective = self._config.objective
        best = best_trial([*self._ended.values()], objective, self._config.direction)
        parameters = " ".join(f"{name}={brief(value)}" for name, value in trial.parameters.items())
        value, top = trial.metrics.get(objective, math.nan), best.metrics[objective] if best else math.nan
        log.info("trial=%s status=%s %s %s=%.6g best=%.6g trials=%d/%d%s", trial.name, trial.status, parameters,
                 objective, value, top, len(self._ended), self._config.max_trials,
                 f" reason={trial.reason!r}" if trial.reason else "")


class _Reader:
    """Reads one trial's log in a thread of its own, as long as its job is there."""

    def __init__(self, plane: ControlPlane, job: ObjectRef) -> None:
        self.lines = deque[str](maxlen=KEPT_LINES)
        self._plane, self._job = plane, job
        self.over = threading.Event()  # set: the job will not come any more
        self._thread = threading.Thread(target=self._read, name=f"log-{job.name}", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Wait for the last lines, until `deadline` on the monotonic clock."""
        self.over.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _read(self) -> None:
        while True:
            last = self.over.is_set()
            try:
                for pod, text in self._plane.logs(self._job):
                    self.lines.append(text)
                    metric = parse_metric(text)
                    if metric:
                        log.info("pod=%s metric=%s value=%.6g", pod, *metric)
                    else:
                        log.info("pod=%s %s", pod, text)
                return
            except NotFound:  # not yet, or no more
                if last:
                    return
                self.over.wait(RETRY_SECONDS)
            except ControlError as error:
                log.warning("job=%s log=unreadable reason=%s", self._job.name, error)
                return


def _job_ref(experiment: Manifest, trial: str) -> ObjectRef:
    job = experiment["spec"]["trialTemplate"]["trialSpec"]
    return ObjectRef(job["apiVersion"], job["kind"], trial, ObjectRef.of(experiment).namespace)
