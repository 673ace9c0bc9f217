"""What is common to the jobs of all kinds: what one asks for, what was counted of it, how a condition is written.

Pure functions over the object; what each kind makes of them is in `job_kinds`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

from penstock.components.control.base import Manifest, condition, outcome

__all__ = ["Cause", "Counts", "Plan", "add_condition", "is_finished", "now"]


class Plan(NamedTuple):
    """What a job asks for, read from its object."""

    replicas: int
    container: Mapping[str, Any]  # command, args, env
    in_place: bool  # a pod that failed starts again under its name, as a container does; else it stays failed
    limit: float  # the failure that ends the job: 1 is the first, inf none
    deadline: float  # seconds from its creation, inf: none
    one_suffices: bool  # one pod's success is the job's
    spares: bool  # pods that run when the job ends are left to run


class Counts(NamedTuple):
    """How many pods run, have succeeded, have failed."""

    active: int
    succeeded: int
    failed: int


class Cause(Enum):
    """Why a job failed."""

    FAILURES = "its pods failed too often"
    DEADLINE = "it ran for too long"
    MACHINE = "this machine cannot keep it"


def add_condition(job: Manifest, kind: str, reason: str, message: str, *stamps: str) -> None:
    """Put condition `kind` to True at the end of the list; one that says the same already stays as it is.

    Args:
        stamps: names of the fields beside lastTransitionTime that hold the time.
    """
    present = condition(job, kind)
    if (present.get("status"), present.get("reason")) == ("True", reason):
        return
    time = now()
    times = dict.fromkeys((*stamps, "lastTransitionTime"), time)
    others = [entry for entry in job["status"].get("conditions", []) if entry["type"] != kind]
    added = {"type": kind, "status": "True", "reason": reason, "message": message} | times
    job["status"]["conditions"] = [*others, added]


def is_finished(job: Mapping[str, Any]) -> bool:
    """Say whether the job has succeeded or failed."""
    return outcome(job) != ""


def now() -> str:
    """Return the time as the API writes it: RFC3339, whole seconds, UTC."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
