"""The control plane of the laptop: this machine, no Docker, no cluster.

Checks an object, keeps it, and hands it to who runs it: jobs and Experiments live in this process (`jobs`,
`experiments`), services in that of the supervisor. Any thread may call any method.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.components.control.base import LogLine, Manifest, NotFound, ObjectRef, condition
from penstock.components.control.laptop.fields import refuse_unknown
from penstock.components.control.laptop.home import gateway_port, plane_root
from penstock.components.control.laptop.job_kinds import JOBS
from penstock.components.control.laptop.launch import check_gateway, ensure_supervisor, starting
from penstock.components.control.laptop.store import Store

if TYPE_CHECKING:
    from penstock.components.control.laptop.experiments import ExperimentController
    from penstock.components.control.laptop.jobs import JobController

__all__ = ["LaptopPlane"]

EXPERIMENTS = ("Experiment", "Trial")


class LaptopPlane:
    """A `ControlPlane` on this machine.

    Args:
        root: folder for everything that it writes; the default is that of this user, see `home`.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = (root or plane_root()).resolve()
        self._store = Store(self._root / "objects")

    def apply(self, manifest: Manifest) -> Manifest:
        """Create or update an object; see `ControlPlane.apply`.

        Raises:
            UnsupportedField: a field or a value is not honoured; nothing was written.
            ObjectConflict: the manifest carries a resourceVersion that is not the newest.
            PortInUse: the gateway cannot listen; nothing was written.
        """
        refuse_unknown(manifest)
        if (controller := self._controller(manifest["kind"])) is not None:
            return controller.apply(manifest)
        if manifest["kind"] == "InferenceService":
            return self._apply_service(manifest)
        stored = self._store.put(manifest)
        if manifest["kind"] == "Lease" and self._store.list("InferenceService"):
            port = gateway_port()
            with starting(self._root):
                ensure_supervisor(self._root, port)  # a lease that nobody watches protects nothing
        return stored

    def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object as it is now, with its status, or None."""
        return self._store.load(ref)

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        """Yield the object now and at each change, until it is settled or gone, or the time is over."""
        if (controller := self._controller(ref.kind)) is not None:
            yield from controller.watch(ref, timeout)
            return
        yield from self._store.follow(ref, timeout, _is_settled)

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        """Yield the lines of a job or an Experiment until it ends; of a service those printed so far.

        Raises:
            NotFound: there is no such object.
        """
        if (controller := self._controller(ref.kind)) is not None:
            yield from controller.logs(ref)
            return
        if self._store.load(ref) is None:
            raise NotFound(f"{ref}: there is no such object, so no log")
        for path in sorted((self._root / "logs").glob(f"{ref.name}-predictor-*.log")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                yield LogLine(path.stem, line)

    def failure(self, ref: ObjectRef) -> str:
        """Say what the last failed agent of a job or of an Experiment's trials died of; of a service nothing more."""
        controller = self._controller(ref.kind)
        return controller.failure(ref) if controller is not None else ""

    def delete(self, ref: ObjectRef) -> None:
        """End what runs and forget the object; a service's predictors are drained by the supervisor meanwhile."""
        if (controller := self._controller(ref.kind)) is not None:
            controller.delete(ref)
        else:
            self._store.delete(ref)

    def _apply_service(self, manifest: Manifest) -> Manifest:
        port = gateway_port()
        with starting(self._root):
            check_gateway(self._root, port)
            present = self._store.load(ObjectRef.of(manifest))
            failed = present is not None and condition(present, "PredictorReady").get("status") == "False"
            stored = self._store.put(manifest, renew=failed)
            ensure_supervisor(self._root, port)
        return stored

    def _controller(self, kind: str) -> "JobController | ExperimentController | None":
        """Return who runs objects of this kind in this process; what runs, all controllers of a kind share."""
        if kind in JOBS:
            from penstock.components.control.laptop.jobs import JobController

            return JobController(self._store, self._root / "logs")
        if kind in EXPERIMENTS:
            from penstock.components.control.laptop.experiments import ExperimentController

            return ExperimentController(self._store, self._root / "logs", self)
        return None


def _is_settled(found: Manifest) -> bool:
    status = found.get("status", {})
    newest = status.get("observedGeneration") == found["metadata"]["generation"]
    decided = condition(found, "Ready").get("status") in ("True", "False")
    return found["kind"] == "InferenceService" and newest and decided
