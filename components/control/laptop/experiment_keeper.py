"""Keeps one Experiment: starts its trials, takes in how they end, and says how it ended itself.

The rules are those of Katib 0.19 (pkg/controller.v1beta1/experiment) but two: it never starts more than maxTrialCount
trials, and when it is over it ends those that still run. Checks nothing: `experiments` did.
"""

import logging
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from penstock.components.control.base import ControlPlane, LogLine, Manifest, NotFound, ObjectRef, condition, outcome
from penstock.components.control.laptop.experiment_status import decide, is_over, mark, summarise, trial_state
from penstock.components.control.laptop.job_kinds import kind_of
from penstock.components.control.laptop.job_status import now
from penstock.components.control.laptop.store import Store
from penstock.components.control.laptop.suggestions import DEFAULT_PARALLEL, Suggestions
from penstock.components.control.laptop.trials import (
    Metrics,
    end_trial,
    job_ref,
    make_trial,
    objective_of,
    trial_name,
)
from penstock.components.control.laptop.trouble import TROUBLE, in_words, insist

__all__ = ["ExperimentKeeper"]

POLL_SECONDS = 0.1
log = logging.getLogger(__name__)


class _End(NamedTuple):
    """What a trial's thread hands back: the job as it ended and its metrics; `error` says more where it failed."""

    number: int
    job: Manifest | None
    metrics: Metrics
    error: str


class ExperimentKeeper:
    """The trials of one Experiment, a thread for each that runs, and one that watches them.

    Args:
        store: where the Experiment is, and where its status and its Trials go.
        plane: runs the trials' jobs.
        experiment: as it is in the store, with a status.
        key: with the number of a trial it makes its name.
        suggestions: has drawn the `trials` already.
        trials: that were there before, in order; those that have not ended are started again.
        lines: file that gets every line of every trial, after the name of its pod.

    Attributes:
        troubles: what each trial that failed died of, by its name, the last to fail last.
    """

    def __init__(self, store: Store, plane: ControlPlane, experiment: Manifest, key: str, suggestions: Suggestions,
                 trials: list[Manifest], lines: Path) -> None:
        self._store, self._plane, self._experiment, self._key = store, plane, experiment, key
        self._ref, self._uid = ObjectRef.of(experiment), experiment["metadata"]["uid"]
        self._suggestions, self._trials, self._lines = suggestions, trials, lines
        self._threads: dict[int, threading.Thread] = {}
        self._ends: queue.Queue[_End] = queue.Queue()
        self._ending = False
        self._lock = threading.Lock()  # around the start of a job and the decision to start no more
        self._stopped = threading.Event()
        self.troubles: dict[str, str] = {}  # by trial, in the order in which they failed
        self._saved = ""
        self._thread = threading.Thread(target=self._keep, name=f"experiment-{self._ref.name}", daemon=True)

    def start(self) -> None:
        """Start the first trials, or those that have not ended, then watch."""
        self._thread.start()

    def stop(self) -> None:
        """End every trial that runs, and watch no longer."""
        self._stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            for number, trial in enumerate(self._trials):
                if not is_over(trial):
                    self._start_trial(number)
            while self._is_there() and not self._reconcile():
                self._take_in()
        except Exception as error:
            self._give_up(error)
            if not isinstance(error, TROUBLE):  # a defect, to be seen with its stack
                raise
        finally:
            self._end_trials()

    def _is_there(self) -> bool:
        present = self._store.load(self._ref)
        return not self._stopped.is_set() and present is not None and present["metadata"]["uid"] == self._uid

    def _reconcile(self) -> bool:
        """Bring the status up to date, start what may start; say whether the Experiment is over."""
        kind, reason, message = self._summary()
        if kind != "Running":
            self._finish(kind, reason, message)
            return True
        spec, parallel = self._experiment["spec"], self._experiment["spec"].get("parallelTrialCount", DEFAULT_PARALLEL)
        while len(self._threads) < parallel and len(self._trials) < spec["maxTrialCount"] and self._start_next():
            pass
        if self._trials:
            self._summary()
            mark(self._experiment, kind, reason, message)
        self._save()
        return False

    def _start_next(self) -> bool:
        ended = next((index for index, trial in enumerate(self._trials) if not is_over(trial)), len(self._trials))
        assignments = self._suggestions.ask([objective_of(trial) for trial in self._trials[:ended]])
        if assignments is None:
            return False
        number = len(self._trials)
        name = trial_name(self._ref.name, self._key, number)
        self._trials.append(self._store.put(make_trial(self._experiment, name, number, assignments)))
        log.info("experiment=%s trial=%s parameters=%s", self._ref.name, name, assignments)
        self._start_trial(number)
        return True

    def _start_trial(self, number: int) -> None:
        trial = self._trials[number]
        trial.setdefault("status", {"startTime": now()})
        mark(trial, "Created", "TrialCreated", "Trial is created")
        mark(trial, "Running", "TrialRunning", "Trial is running")
        self._save_trial(trial)
        thread = threading.Thread(target=self._run, args=(number,), name=trial["metadata"]["name"], daemon=True)
        thread.start()
        self._threads[number] = thread

    def _run(self, number: int) -> None:
        """Run one trial's job to its end; the body of a thread of its own."""
        trial = self._trials[number]
        metrics = Metrics(trial["spec"]["objective"])
        job, error = None, ""
        try:
            job = self._follow(trial, metrics)
            error = self._plane.failure(job_ref(trial)) if job is not None else ""
        except Exception as raised:
            error = in_words(raised)
            if not isinstance(raised, TROUBLE):
                raise
        finally:  # the keeper waits for this end, whatever brings it
            self._ends.put(_End(number, job, metrics, error))

    def _follow(self, trial: Manifest, metrics: Metrics) -> Manifest | None:
        """Return the job when it is finished, None when the trial is to end.

        Like Katib, make the job anew when somebody deletes it; but who deletes the Experiment has deleted that first.
        """
        ref = job_ref(trial)
        while True:
            with self._lock:
                if self._ending or not self._is_there():
                    return None
                job = self._plane.apply(trial["spec"]["runSpec"])
            primary = kind_of(job).pod_name(job, 0, 0) if kind_of(job).plan(job).replicas > 1 else ""
            try:
                for line in self._plane.logs(ref):
                    self._write(line)
                    if primary in ("", line.pod):
                        metrics.read(line.text)
            except NotFound:
                continue
            found = self._plane.get(ref)
            if found is not None and outcome(found):
                return found

    def _write(self, line: LogLine) -> None:
        with self._lock, self._lines.open("a", encoding="utf-8") as file:
            file.write(f"{line.pod} {line.text}\n")

    def _take_in(self) -> None:
        """Wait for the end of a trial, but not for long."""
        try:
            end = self._ends.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        self._threads.pop(end.number).join()
        self._record(end)
        if not (trial := self._trials[end.number])["spec"]["retainRun"]:
            self._plane.delete(job_ref(trial))

    def _record(self, end: _End) -> None:
        trial = self._trials[end.number]
        if end.job is not None:
            end_trial(trial, end.job, end.metrics)
        elif end.error:
            mark(trial, "Failed", "TrialFailed", f"Trial has failed. Job message: {end.error}")
        else:
            _kill(trial)
        if trial_state(trial) in ("Failed", "MetricsUnavailable"):
            said = condition(trial, trial_state(trial))["message"]
            self.troubles[trial["metadata"]["name"]] = end.error or said
        trial["status"].setdefault("completionTime", now())
        self._save_trial(trial)
        log.info("experiment=%s trial=%s state=%s objective=%s", self._ref.name, trial["metadata"]["name"],
                 trial_state(trial), objective_of(trial))

    def _finish(self, kind: str, reason: str, message: str) -> None:
        """End what runs first: whoever watches may leave as soon as the Experiment is over."""
        self._end_trials()
        self._close(kind, reason, message)
        self._save()
        log.info("experiment=%s %s=%s", self._ref.name, kind.lower(), reason)

    def _give_up(self, error: Exception) -> None:
        """End the Experiment for good, for somebody waits for that; what it had come to before stays."""
        log.error("experiment=%s event=given_up error=%s", self._ref.name, in_words(error))
        try:
            with suppress(*TROUBLE):  # `error` says what is wrong with this machine
                self._end_trials()
        finally:
            for trial in self._trials:
                if not is_over(trial):
                    _kill(trial)
            if not is_over(self._experiment):
                message = f"Experiment has failed because this machine cannot keep it: {in_words(error)}"
                self._close("Failed", "ExperimentFailed", message)
            insist(self._save_all, self._stopped)

    def _close(self, kind: str, reason: str, message: str) -> None:
        self._summary()
        mark(self._experiment, kind, reason, message)
        self._experiment["status"]["completionTime"] = now()

    def _end_trials(self) -> None:
        with self._lock:
            self._ending = True
        lasting = []
        for number, thread in sorted(self._threads.items()):
            try:
                self._plane.delete(job_ref(self._trials[number]))
            except TROUBLE as error:
                lasting.append(error)  # told when the others have been ended too
            thread.join()
        while not self._ends.empty():  # one may have ended by itself just now
            end = self._ends.get()
            del self._threads[end.number]
            self._record(end)
        if lasting:
            raise lasting[0]

    def _summary(self) -> tuple[str, str, str]:
        values = [objective_of(trial) if trial_state(trial) == "Succeeded" else None for trial in self._trials]
        maximize = self._experiment["spec"]["objective"]["type"] == "maximize"
        summarise(self._experiment["status"], self._trials, values, maximize)
        return decide(self._experiment, values)

    def _save(self) -> None:
        if str(self._experiment["status"]) != self._saved:
            self._store.put_status(self._ref, self._uid, self._experiment["status"])
            self._saved = str(self._experiment["status"])

    def _save_trial(self, trial: Manifest) -> None:
        self._store.put_status(ObjectRef.of(trial), trial["metadata"]["uid"], trial["status"])

    def _save_all(self) -> None:
        for trial in self._trials:
            self._save_trial(trial)
        self._save()


def _kill(trial: Manifest) -> None:
    trial.setdefault("status", {})
    mark(trial, "Killed", "TrialKilled", "Trial is killed")
    trial["status"].setdefault("completionTime", now())
