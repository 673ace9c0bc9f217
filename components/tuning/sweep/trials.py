"""What came of the trials: read from Katib's Trial objects, compared by a finite number only.

Reads objects; follows none and draws nothing.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from penstock.components.contracts.reports import SweepTrial
from penstock.components.control.base import ControlPlane, Manifest, ObjectRef, condition

__all__ = ["ENDED_LISTS", "best_trial", "brief", "read_trial", "table_csv", "trial_names", "trial_ref"]

ENDED_LISTS = ("succeededTrialList", "failedTrialList", "killedTrialList", "earlyStoppedTrialList",
               "metricsUnavailableTrialList")
RUNNING_LISTS = ("runningTrialList", "pendingTrialList")
# Looked for in this order: an early-stopped Trial is Running still, one without metrics may be Succeeded too.
CONDITIONS = ("EarlyStopped", "MetricsUnavailable", "Killed", "Failed", "Succeeded", "Running", "Created")
CANDIDATES = ("Succeeded", "EarlyStopped")


def trial_ref(experiment: Manifest, name: str) -> ObjectRef:
    """Name the Trial object of an Experiment."""
    return ObjectRef("kubeflow.org/v1beta1", "Trial", name, ObjectRef.of(experiment).namespace)


def trial_names(experiment: Manifest, ended_only: bool = False) -> list[str]:
    """Return the names of an Experiment's trials, those that ended first."""
    status: Mapping[str, list[str]] = experiment.get("status", {})
    lists = ENDED_LISTS if ended_only else (*ENDED_LISTS, *RUNNING_LISTS)
    return list(dict.fromkeys(name for key in lists for name in status.get(key) or []))


def read_trial(plane: ControlPlane, ref: ObjectRef, objective: str) -> tuple[str, SweepTrial] | None:
    """Read a Trial; None where there is none.

    Katib 0.19 calls a trial that printed `loss=nan` a success and may call it the best, so the number is read here.

    Returns:
        When it started (RFC3339, "" for not yet), and what came of it.
    """
    found = plane.get(ref)
    if found is None:
        return None
    status = found.get("status", {})
    observed = status.get("observation", {}).get("metrics") or []
    latest = {entry["name"]: str(entry.get("latest", "unavailable")) for entry in observed}
    metrics = {name: number for name, text in latest.items() if math.isfinite(number := _number(text))}
    state = next((kind for kind in CONDITIONS if condition(found, kind).get("status") == "True"), "Created")
    reason = ""
    if state not in CANDIDATES:
        said = condition(found, state)
        reason = ": ".join(text for text in (said.get("reason", ""), said.get("message", "")) if text) or state
    elif objective not in metrics:
        given = latest.get(objective, "missing")
        state, reason = "MetricsUnavailable", f"{objective} is {given}, not a finite number"
    started = str(status.get("startTime") or "")
    return started, SweepTrial(
        name=ref.name, status=state, metrics=metrics, reason=reason,
        parameters={entry["name"]: str(entry["value"]) for entry in found["spec"].get("parameterAssignments") or []},
        seconds=_seconds(started, str(status.get("completionTime") or "")))


def best_trial(trials: Sequence[SweepTrial], objective: str, direction: str) -> SweepTrial | None:
    """Return the candidate with the best objective, of equal ones the first; None where there is no candidate."""
    candidates = [trial for trial in trials if not trial.reason]
    sign = 1 if direction == "maximize" else -1
    return max(candidates, key=lambda trial: sign * trial.metrics[objective], default=None)


def brief(text: str) -> str:
    """Cut the digits of a drawn number that nobody reads; trials.csv has them all."""
    number = _number(text)
    return f"{number:.4g}" if math.isfinite(number) else text


def table_csv(trials: Sequence[SweepTrial]) -> bytes:
    """Write one row per trial: name, status, seconds, every parameter, every metric, reason."""
    parameters = dict.fromkeys(name for trial in trials for name in trial.parameters)
    metrics = dict.fromkeys(name for trial in trials for name in trial.metrics)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "status", "seconds", *parameters, *metrics, "reason"])
    for trial in trials:
        values: list[Any] = [trial.parameters.get(name, "") for name in parameters]
        values += [trial.metrics.get(name, "") for name in metrics]
        writer.writerow([trial.name, trial.status, f"{trial.seconds:g}", *values, trial.reason])
    return text.getvalue().encode()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(started: str, completed: str) -> float:
    if not started or not completed:
        return 0.0
    return (datetime.fromisoformat(completed) - datetime.fromisoformat(started)).total_seconds()
