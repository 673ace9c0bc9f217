"""A control plane in memory that runs an Experiment as Katib does, one trial at each look, and nothing else."""

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from penstock.components.control.base import (
    HASH_ANNOTATION,
    LogLine,
    Manifest,
    NotFound,
    ObjectConflict,
    ObjectRef,
    manifest_hash,
    outcome,
)
from penstock.components.control.katib import validate_experiment

Trial = Callable[[dict[str, str]], object]  # what a trial's log ends in: a number, or a text that is none
LISTS = {"Succeeded": "succeededTrialList", "Failed": "failedTrialList", "Running": "runningTrialList",
         "MetricsUnavailable": "metricsUnavailableTrialList"}


class MemoryPlane:
    """Katib and its trials, in the parts that a sweep sees: status, Trials, logs, deletion.

    A trial answers a number (its objective), or raises ValueError: its job fails with that text as its last line.
    """

    def __init__(self, trial: Trial, points: list[dict[str, str]]) -> None:
        self.trial, self.points = trial, points
        self.objects: dict[ObjectRef, Manifest] = {}
        self.applied: list[str] = []
        self.deleted: list[ObjectRef] = []
        self._logs: dict[str, list[str]] = {}

    def apply(self, manifest: Manifest) -> Manifest:
        validate_experiment(manifest)
        ref = ObjectRef.of(manifest)
        present = self.objects.get(ref)
        if present is not None:
            if present["metadata"]["annotations"][HASH_ANNOTATION] != manifest_hash(manifest):
                raise ObjectConflict(f"{ref} exists and is another")
            return present
        self.applied.append(ref.name)
        stored = copy.deepcopy(manifest)
        stored["metadata"]["annotations"] = {HASH_ANNOTATION: manifest_hash(manifest)}
        stored["status"] = {"conditions": [{"type": "Created", "status": "True"}]}
        self.objects[ref] = stored
        return stored

    def get(self, ref: ObjectRef) -> Manifest | None:
        return copy.deepcopy(self.objects.get(ref))

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        for step in itertools.count():
            experiment = self.objects.get(ref)
            if experiment is None:
                return
            yield copy.deepcopy(experiment)
            if outcome(experiment) or (not timeout and step):
                return
            self._go_on(experiment)

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        if ref.name not in self._logs:
            raise NotFound(f"{ref}: there is no such job")
        read = 0
        while True:
            trial = self.objects.get(ObjectRef("kubeflow.org/v1beta1", "Trial", ref.name))
            ended = trial is None or _state(trial) != "Running"
            for line in self._logs[ref.name][read:]:
                yield LogLine(f"{ref.name}-worker-0", line)
                read += 1
            if ended:
                return
            time.sleep(0.005)

    def failure(self, ref: ObjectRef) -> str:
        return ""

    def delete(self, ref: ObjectRef) -> None:
        self.deleted.append(ref)
        self.objects.pop(ref, None)

    def trials(self) -> list[Manifest]:
        return [found for ref, found in self.objects.items() if ref.kind == "Trial"]

    def _go_on(self, experiment: Manifest) -> None:
        """Start the next trial, or end the one that runs; then count, as Katib's status_util does."""
        running = [trial for trial in self.trials() if _state(trial) == "Running"]
        if running:
            self._end(experiment, running[0])
        else:
            self._start(experiment)
        states = {trial["metadata"]["name"]: _state(trial) for trial in self.trials()}
        status: dict[str, Any] = {name: [trial for trial, state in states.items() if state == kind]
                                  for kind, name in LISTS.items()}
        experiment["status"] |= status
        spec = experiment["spec"]
        failed = sum(state in ("Failed", "MetricsUnavailable") for state in states.values())
        done = sum(state != "Running" for state in states.values())
        goal = spec["objective"].get("goal")
        reached = [trial for trial in self.trials() if goal is not None and _state(trial) == "Succeeded"
                   and float(_latest(trial)) >= goal]
        if reached:
            _condition(experiment, "Succeeded", "ExperimentGoalReached")
        elif failed > spec["maxFailedTrialCount"]:
            _condition(experiment, "Failed", "ExperimentFailed", "Experiment has failed because max failed count has "
                                                                 "reached")
        elif done >= min(spec["maxTrialCount"], len(self.points)):
            _condition(experiment, "Succeeded", "ExperimentMaxTrialsReached")

    def _start(self, experiment: Manifest) -> None:
        number = len(self.trials())
        name = f"{experiment['metadata']['name']}-trial{number:03d}"
        assignments = [{"name": key, "value": value} for key, value in self.points[number].items()]
        self.objects[ObjectRef("kubeflow.org/v1beta1", "Trial", name)] = {
            "apiVersion": "kubeflow.org/v1beta1", "kind": "Trial", "metadata": {"name": name},
            "spec": {"parameterAssignments": assignments},
            "status": {"startTime": f"2026-11-21T10:{number:02d}:00Z",
                       "conditions": [{"type": "Created", "status": "True"}, {"type": "Running", "status": "True"}]}}
        self._logs[name] = ["07:00 INFO begins"]

    def _end(self, experiment: Manifest, trial: Manifest) -> None:
        status, name = trial["status"], trial["metadata"]["name"]
        status["conditions"][1]["status"] = "False"
        status["completionTime"] = status["startTime"].replace(":00Z", ":07Z")
        assignments = {entry["name"]: entry["value"] for entry in trial["spec"]["parameterAssignments"]}
        objective = experiment["spec"]["objective"]["objectiveMetricName"]
        try:
            value = self.trial(assignments)
        except ValueError as error:
            self._logs[name] += [f"07:01 ERROR {error}", "torchrun: 1 worker failed"]
            _condition(trial, "Failed", "TrialFailed", f"Trial has failed. Job {name} has failed")
            return
        # Katib 0.19: a value that is no number is a success, with "unavailable" in it
        numbers = {"latest": f"{value:.6e}"} if isinstance(value, float) else {"min": "unavailable"}
        status["observation"] = {"metrics": [{"name": objective, **numbers}, {"name": "train_loss", "latest": "0.25"}]}
        _condition(trial, "Succeeded", "TrialSucceeded")


def _condition(found: Manifest, kind: str, reason: str, message: str = "") -> None:
    found["status"]["conditions"].append({"type": kind, "status": "True", "reason": reason, "message": message})


def _state(trial: Manifest) -> str:
    return str([entry["type"] for entry in trial["status"]["conditions"] if entry["status"] == "True"][-1])


def _latest(trial: Manifest) -> str:
    return str(trial["status"]["observation"]["metrics"][0].get("latest", "nan"))


@pytest.fixture
def rates() -> list[dict[str, str]]:
    """Four points of a search over the learning rate."""
    return [{"learning_rate": rate} for rate in ("0.1", "0.4", "0.3", "0.2")]


@pytest.fixture
def memory_plane() -> type[MemoryPlane]:
    """The plane's class, for a test to say how its trials go."""
    return MemoryPlane
