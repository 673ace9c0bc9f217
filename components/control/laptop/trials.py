"""Trials of an Experiment: their objects, the metrics in what their primary pod prints, and how each ends.

Pure functions over objects and lines; the rules are those of Katib 0.19 (pkg/controller.v1beta1/trial, pkg/
metricscollector/v1beta1/file-metricscollector) but one: a trial whose objective is no finite number is
MetricsUnavailable, where Katib calls it Succeeded and may even call it the best.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from penstock.components.contracts.folder import text_sha256
from penstock.components.control.base import Manifest, ObjectRef, condition, outcome
from penstock.components.control.katib_template import KINDS, render_trial
from penstock.components.control.laptop.experiment_status import mark
from penstock.components.control.laptop.job_status import now

__all__ = ["EXPERIMENT_LABEL", "NUMBER_ANNOTATION", "Metrics", "end_trial", "job_ref", "make_trial", "objective_of",
           "trial_name"]

EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
NUMBER_ANNOTATION = "penstock.dev/trial-number"
UNAVAILABLE = "unavailable"
FILTER = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)", re.ASCII)
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of Kubernetes' made-up names
JOB_ENDS = ("Succeeded", "Complete", "Failed")


def trial_name(experiment: str, key: str, number: int) -> str:
    """Name trial `number` as Katib does, but the same for the same `key`, so that it finds its work folder again."""
    digest = int(text_sha256(f"{key}/{number}"), 16)
    suffix = ""
    while len(suffix) < 8:
        digest, index = divmod(digest, len(LETTERS))
        suffix += LETTERS[index]
    return f"{experiment}-{suffix}"


def make_trial(experiment: Manifest, name: str, number: int, assignments: Mapping[str, str]) -> Manifest:
    """Make the Trial object with these parameters, its job inside as `spec.runSpec`."""
    spec, metadata = experiment["spec"], experiment["metadata"]
    template = spec["trialTemplate"]
    defaults = KINDS[template["trialSpec"]["kind"]]
    owner = {"apiVersion": experiment["apiVersion"], "kind": experiment["kind"], "name": metadata["name"],
             "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}
    return {
        "apiVersion": experiment["apiVersion"], "kind": "Trial",
        "metadata": {
            "name": name, "namespace": metadata["namespace"], "ownerReferences": [owner],
            "labels": metadata.get("labels", {}) | {EXPERIMENT_LABEL: metadata["name"]},
            "annotations": {NUMBER_ANNOTATION: str(number)}},
        "spec": {
            "objective": spec["objective"] | {"metricStrategies": _strategies(spec["objective"])},
            "parameterAssignments": [{"name": key, "value": value} for key, value in assignments.items()],
            "runSpec": render_trial(spec, name, metadata["namespace"], assignments),
            "retainRun": template.get("retain", False),
            "metricsCollector": {"collector": {"kind": "StdOut"}},
            "primaryPodLabels": template.get("primaryPodLabels") or dict(defaults.pod_labels),
            "primaryContainerName": template["primaryContainerName"],
            "successCondition": template.get("successCondition") or defaults.success,
            "failureCondition": template.get("failureCondition") or defaults.failure}}


class Metrics:
    """What Katib's StdOut collector keeps of the lines of a trial's primary pod.

    Args:
        objective: of the trial, with a strategy for each metric.
    """

    def __init__(self, objective: Mapping[str, Any]) -> None:
        self._objective = objective["objectiveMetricName"]
        self._names = [entry["name"] for entry in objective["metricStrategies"]]
        self._found: list[tuple[datetime, str, str]] = []

    def read(self, line: str) -> None:
        """Take in one line; `name=value`, several of them, perhaps after an RFC 3339 time and a blank."""
        if not any(name in line for name in self._names):
            return
        time = _time(line)
        self._found += [(time, found[1], found[2]) for found in FILTER.finditer(line) if found[1] in self._names]

    def observation(self) -> list[dict[str, str]]:
        """Return `status.observation.metrics`: per metric the texts of min, max and latest.

        A text that is no number, such as the empty one that the filter sees in `loss=nan`, is latest but neither min
        nor max. Without any line for the objective, nothing counts.
        """
        reported = any(name == self._objective for _, name, _ in self._found)
        by_time = sorted(self._found, key=lambda entry: entry[0]) if reported else []
        return [_summary(name, [text for _, found, text in by_time if found == name]) for name in self._names]


def objective_of(trial: Mapping[str, Any]) -> float | None:
    """Return the objective of a trial by its strategy, or None where that is no finite number."""
    objective = trial["spec"]["objective"]
    name = objective["objectiveMetricName"]
    strategy = next(entry["value"] for entry in objective["metricStrategies"] if entry["name"] == name)
    for metric in trial.get("status", {}).get("observation", {}).get("metrics", []):
        if metric["name"] == name:
            text = metric.get(strategy, "")
            return _number(metric.get("latest", "") if text == UNAVAILABLE else text)
    return None


def end_trial(trial: Manifest, job: Manifest, metrics: Metrics) -> None:
    """Write how a trial ended, from its finished job and its metrics."""
    ended = next(found for kind in JOB_ENDS if (found := condition(job, kind)).get("status") == "True")
    if outcome(job) == "failed":
        kind, reason, message = "Failed", "TrialFailed", "Trial has failed"
    else:
        trial["status"]["observation"] = {"metrics": metrics.observation()}
        if objective_of(trial) is None:
            kind, reason, message = "MetricsUnavailable", "MetricsUnavailable", "Metrics are not available"
        else:
            kind, reason, message = "Succeeded", "TrialSucceeded", "Trial has succeeded"
    if ended.get("message"):
        message = f"{message}. Job message: {ended['message']}"
    if ended.get("reason"):
        reason = f"{reason}. Job reason: {ended['reason']}"
    mark(trial, kind, reason, message)
    trial["status"]["completionTime"] = now()


def job_ref(trial: Mapping[str, Any]) -> ObjectRef:
    """Name the job of a trial."""
    return ObjectRef.of(trial["spec"]["runSpec"])


def _strategies(objective: Mapping[str, Any]) -> list[dict[str, str]]:
    """Add what Katib's defaulter adds: the objective's direction, for the other metrics too."""
    asked = list(objective.get("metricStrategies", []))
    known = {entry["name"] for entry in asked}
    value = "max" if objective["type"] == "maximize" else "min"
    names = (objective["objectiveMetricName"], *objective.get("additionalMetricNames", []))
    return asked + [{"name": name, "value": value} for name in names if name not in known]


def _summary(name: str, texts: list[str]) -> dict[str, str]:
    numbers = [text for text in texts if _number(text) is not None]
    latest = texts[-1] if texts else UNAVAILABLE
    return {"name": name, "min": min(numbers, key=float, default=UNAVAILABLE),
            "max": max(numbers, key=float, default=UNAVAILABLE)} | ({"latest": latest} if latest else {})


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _time(line: str) -> datetime:
    word = line.split(" ", 1)[0]
    if STAMP.fullmatch(word):
        try:
            return datetime.fromisoformat(word)
        except ValueError:  # the 31st of February, for example
            pass
    return datetime.min.replace(tzinfo=UTC)
