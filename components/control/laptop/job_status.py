"""The status of a PyTorchJob, written as training-operator 1.9 writes it: conditions, reasons, messages, counts.

Pure functions over the object; source: pkg/util/status.go and pkg/controller.v1/pytorch/pytorchjob_controller.go.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from penstock.components.control.base import Manifest, condition

__all__ = ["TERMINAL", "count_replicas", "is_finished", "now", "set_condition"]

TERMINAL = ("Succeeded", "Failed")
# A condition of the first kind removes one of the second.
REPLACES = {"Restarting": "Running", "Running": "Restarting"}


def set_condition(job: Manifest, kind: str, message: str) -> None:
    """Put condition `kind` to True, with reason `PyTorchJob<kind>`, and put right those that it contradicts."""
    stamp = now()
    kept = []
    for entry in job["status"].get("conditions", []):
        if entry["type"] in (kind, REPLACES.get(kind)):
            continue
        ended = kind in TERMINAL and entry["type"] == "Running"
        kept.append(entry | {"status": "False"} if ended else entry)
    added = {"type": kind, "status": "True", "reason": f"PyTorchJob{kind}", "message": message,
             "lastUpdateTime": stamp, "lastTransitionTime": stamp}
    job["status"]["conditions"] = [*kept, added]
    if kind in TERMINAL:
        job["status"].setdefault("completionTime", stamp)


def count_replicas(job: Manifest, active: int, succeeded: int, failed: int) -> None:
    """Write `replicaStatuses`; like the API, it leaves out what is 0."""
    counts = {"active": active, "succeeded": succeeded, "failed": failed}
    selector = f"training.kubeflow.org/job-name={job['metadata']['name']},training.kubeflow.org/replica-type=worker"
    job["status"]["replicaStatuses"] = {
        "Worker": {name: count for name, count in counts.items() if count} | {"selector": selector}}


def is_finished(job: Mapping[str, Any]) -> bool:
    """Say whether the job has succeeded or failed."""
    return any(condition(job, kind).get("status") == "True" for kind in TERMINAL)


def now() -> str:
    """Return the time as the API writes it: RFC3339, whole seconds, UTC."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
