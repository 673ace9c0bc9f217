"""The status of an Experiment and of its Trials, written as Katib 0.19 writes it.

Pure functions over the objects; source: pkg/controller.v1beta1/experiment/util/status_util.go and pkg/apis/controller/
{experiments,trials}/v1beta1/util.go.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.components.control.base import Manifest, condition
from penstock.components.control.laptop.job_status import now

__all__ = ["decide", "is_over", "mark", "summarise", "trial_state"]

# The status field that counts each state of a trial, and the one that lists its trials, in Katib's order of looking.
STATES = {
    "Killed": ("trialsKilled", "killedTrialList"),
    "Failed": ("trialsFailed", "failedTrialList"),
    "Succeeded": ("trialsSucceeded", "succeededTrialList"),
    "Running": ("trialsRunning", "runningTrialList"),
    "MetricsUnavailable": ("trialMetricsUnavailable", "metricsUnavailableTrialList"),
    "Pending": ("trialsPending", "pendingTrialList"),
}
OVER = ("Killed", "Failed", "Succeeded", "MetricsUnavailable")


def mark(found: Manifest, kind: str, reason: str, message: str) -> None:
    """Put condition `kind` of an Experiment or Trial to True, at the end of the list.

    One that says the same already stays as it is. One that ends the object puts Running to False.
    """
    if kind in OVER and (running := condition(found, "Running")):
        _set(found, "Running", "False", running["reason"], running["message"])
    _set(found, kind, "True", reason, message)


def trial_state(trial: Mapping[str, Any]) -> str:
    """Return in which state a trial is: a key of STATES."""
    return next((state for state in STATES if condition(trial, state).get("status") == "True"), "Pending")


def is_over(found: Mapping[str, Any]) -> bool:
    """Say whether an Experiment or Trial has ended, however."""
    return any(condition(found, kind).get("status") == "True" for kind in OVER)


def summarise(status: dict[str, Any], trials: Sequence[Mapping[str, Any]], values: Sequence[float | None],
              maximize: bool) -> None:
    """Write the counts, the lists and the best trial so far; like the API, leave out what is 0 or empty.

    Args:
        values: objective of each trial, None where it has none; the first of equals is the best.
    """
    for fields in STATES.values():
        for field in fields:
            status.pop(field, None)
    status |= {"trials": len(trials)} if trials else {}
    for state, (count, listed) in STATES.items():
        if names := [trial["metadata"]["name"] for trial in trials if trial_state(trial) == state]:
            status |= {count: len(names), listed: names}
    status["currentOptimalTrial"] = {"observation": {}}
    ranked = [(value if maximize else -value, -number) for number, value in enumerate(values) if value is not None]
    if ranked:
        best = trials[-max(ranked)[1]]
        status["currentOptimalTrial"] = {
            "bestTrialName": best["metadata"]["name"],
            "parameterAssignments": best["spec"]["parameterAssignments"],
            "observation": best["status"]["observation"]}


def decide(experiment: Manifest, values: Sequence[float | None]) -> tuple[str, str, str]:
    """Say where an Experiment stands: type, reason and message of its next condition, in Katib's order of asking.

    Args:
        values: objective of each trial, None where it has none.
    """
    spec, status = experiment["spec"], experiment["status"]
    objective = spec["objective"]
    sign = 1 if objective["type"] == "maximize" else -1
    if "goal" in objective and any(value is not None and sign * value >= sign * objective["goal"] for value in values):
        return "Succeeded", "ExperimentGoalReached", "Experiment has succeeded because Objective goal has reached"
    over = {state: status.get(STATES[state][0], 0) for state in OVER}
    failed = over["Failed"] + over["MetricsUnavailable"]
    if "maxFailedTrialCount" in spec and failed >= max(spec["maxFailedTrialCount"], 1):
        return "Failed", "ExperimentFailed", "Experiment has failed because max failed count has reached"
    if sum(over.values()) >= spec["maxTrialCount"]:
        message = "Experiment has succeeded because max trial count has reached"
        return "Succeeded", "ExperimentMaxTrialsReached", message
    return "Running", "ExperimentRunning", "Experiment is running"


def _set(found: Manifest, kind: str, value: str, reason: str, message: str) -> None:
    present, stamp = condition(found, kind), now()
    if (present.get("status"), present.get("reason")) == (value, reason):
        return
    moved = present["lastTransitionTime"] if present.get("status") == value else stamp
    others = [entry for entry in found["status"].get("conditions", []) if entry["type"] != kind]
    found["status"]["conditions"] = [*others, {
        "type": kind, "status": value, "reason": reason, "message": message, "lastUpdateTime": stamp,
        "lastTransitionTime": moved}]
