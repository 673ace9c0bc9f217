"""What a control plane is: six verbs over Kubernetes objects, the same on a cluster and on a laptop.

Holds the protocol, the errors and a few readers of objects. Talks to nothing: `laptop` and `kubernetes` do.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Protocol

from penstock.components.contracts.errors import PenstockError
from penstock.components.contracts.folder import text_sha256

__all__ = [
    "ABSENT",
    "HASH_ANNOTATION",
    "ControlError",
    "ControlPlane",
    "JobFailed",
    "LogLine",
    "Manifest",
    "NotFound",
    "ObjectConflict",
    "ObjectRef",
    "PortInUse",
    "UnsupportedField",
    "condition",
    "manifest_hash",
    "outcome",
]

Manifest = dict[str, Any]
SUCCESSES = ("Succeeded", "Complete")  # the second: Job and TrainJob
FAILURES = ("Failed",)
ABSENT = "0"  # as `metadata.resourceVersion`: there must be no such object yet
HASH_ANNOTATION = "penstock.dev/manifest-hash"


class ControlError(PenstockError):
    """A control plane could not do what it was asked."""


class NotFound(ControlError):
    """There is no such object."""


class ObjectConflict(ControlError):
    """An object of this name exists and is another, or somebody else changed or holds it."""


class UnsupportedField(ControlError):
    """The object uses a field that this plane does not honour; it is never ignored."""


class PortInUse(ControlError):
    """A port that must be free is not."""


class JobFailed(ControlError):
    """A job ended in condition Failed; the text has its reason and last log lines."""


@dataclass(frozen=True)
class ObjectRef:
    """Names one object."""

    api_version: str
    kind: str
    name: str
    namespace: str = "default"

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "ObjectRef":
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace", "default"))

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class LogLine(NamedTuple):
    """One line that a pod (on the laptop: an agent or predictor process) printed."""

    pod: str
    text: str


class ControlPlane(Protocol):
    """Kubernetes objects in, Kubernetes objects out."""

    def apply(self, manifest: Manifest) -> Manifest:
        """Create the object, or adopt the one of the same name.

        Jobs are immutable: an existing one with another hash is an ObjectConflict. InferenceServices and Leases are
        updated; where the manifest carries `metadata.resourceVersion` and the object has moved on: ObjectConflict.
        The version "0" says that there must be no such object yet.

        Raises:
            UnsupportedField: the plane does not honour a field of the manifest; nothing was created.
        """
        ...

    def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object as it is now, with its status, or None."""
        ...

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        """Yield the object now and at each change; end after a terminal condition, after deletion, or at the time-out.

        Terminal: a job's Succeeded or Failed; an InferenceService's Ready True or False for its newest generation.

        Raises:
            JobFailed: a job cannot start, and its conditions will not say so.
        """
        ...

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        """Yield the lines of all pods of a job, in order of time, until it ends.

        Raises:
            NotFound: there is no such object.
            JobFailed: the job cannot start, and its conditions will not say so.
        """
        ...

    def failure(self, ref: ObjectRef) -> str:
        """Say what the object's own conditions do not: why its pods died or cannot start; "" where nothing is known."""
        ...

    def delete(self, ref: ObjectRef) -> None:
        """End what runs and forget the object; an absent one is no error."""
        ...


def condition(manifest: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the condition of type `kind`, or {} where the status has none."""
    found: list[dict[str, Any]] = manifest.get("status", {}).get("conditions", [])
    return next((entry for entry in found if entry.get("type") == kind), {})


def outcome(manifest: Mapping[str, Any]) -> Literal["succeeded", "failed", ""]:
    """Say how a Job, PyTorchJob, TrainJob, Trial or Experiment ended; "": not yet, or it does not say.

    An Experiment that "succeeded" may have no best trial: Katib 0.19 calls one so whose trials all failed.
    """
    if any(condition(manifest, kind).get("status") == "True" for kind in FAILURES):
        return "failed"
    return "succeeded" if any(condition(manifest, kind).get("status") == "True" for kind in SUCCESSES) else ""


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Hash what the user asked for: kind, name, labels and spec, not what a server added."""
    metadata = manifest["metadata"]
    asked = {key: manifest.get(key, {}) for key in ("kind", "spec")}
    asked |= {key: metadata.get(key, {}) for key in ("name", "labels")}
    return text_sha256(json.dumps(asked, sort_keys=True))[:16]
