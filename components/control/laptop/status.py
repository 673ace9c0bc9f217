"""What runs on this laptop, and how to end it: what `penstock laptop status` and `stop` show and do.

Reads the supervisor's state and asks the kernel; changes nothing but through objects and signals. The registry is not
touched.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from penstock.components.control.base import ControlError, NotFound, ObjectRef
from penstock.components.control.laptop.home import gateway_port, plane_root
from penstock.components.control.laptop.launch import ensure_supervisor, starting
from penstock.components.control.laptop.processes import Process, end_all, is_alive, marked
from penstock.components.control.laptop.revisions import Service
from penstock.components.control.laptop.store import Store
from penstock.components.control.laptop.supervisor import PROCESS_NAME, SERVICE_LABEL, load_state

__all__ = ["LaptopStatus", "RevisionStatus", "ServiceStatus", "status", "stop"]

STOP_SECONDS = 60.0  # drain of the gateway and of every predictor; 0.5 s where no request is on its way
GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL for what a dead supervisor left behind
POLL_SECONDS = 0.05
FORGOTTEN = ("InferenceService", "Lease", "ServingRuntime")


@dataclass(frozen=True)
class RevisionStatus:
    """One predictor; `pid` and `port` 0 where none runs, `uptime` in seconds, `memory` resident bytes."""

    name: str
    uri: str
    phase: str
    percent: int
    pid: int
    port: int
    uptime: float
    memory: int
    restarts: int


@dataclass(frozen=True)
class ServiceStatus:
    """One InferenceService; its revisions are those that run, have traffic, or have failed."""

    name: str
    revisions: tuple[RevisionStatus, ...]


@dataclass(frozen=True)
class LaptopStatus:
    """Everything that runs; a pid is 0 where the process does not."""

    root: Path
    supervisor_pid: int
    gateway_pid: int
    gateway_port: int
    gateway_restarts: int
    services: tuple[ServiceStatus, ...]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"


def status(root: Path | None = None) -> LaptopStatus:
    """Say what runs now.

    Args:
        root: of the plane; the default is this user's.
    """
    root = (root or plane_root()).resolve()
    state = load_state(root)
    if state is None:
        return LaptopStatus(root, 0, 0, 0, 0, ())
    return LaptopStatus(
        root=root, supervisor_pid=_pid(state.supervisor), gateway_pid=_pid(state.gateway.process),
        gateway_port=state.gateway.port, gateway_restarts=state.gateway.restarts,
        services=tuple(_service_status(service) for _, service in sorted(state.services.items())))


def stop(names: Collection[str] = (), root: Path | None = None) -> list[str]:
    """End services and forget them.

    Args:
        names: of the services; none: all of them, and the supervisor and the gateway with them.
        root: of the plane; the default is this user's.

    Returns:
        What was ended, one line each.

    Raises:
        NotFound: there is no service of that name; nothing was ended.
        ControlError: something does not end.
    """
    root = (root or plane_root()).resolve()
    if not root.is_dir():
        return []
    store = Store(root / "objects")
    return _stop_services(store, root, names) if names else _stop_everything(store, root)


def _stop_services(store: Store, root: Path, names: Collection[str]) -> list[str]:
    manifests = {manifest["metadata"]["name"]: manifest for manifest in store.list("InferenceService")}
    unknown = sorted(set(names) - set(manifests))
    if unknown:
        raise NotFound(f"no service is named {', '.join(unknown)}; there are: {', '.join(manifests) or 'none'}")
    if set(names) == set(manifests):
        return _stop_everything(store, root)
    uids = {manifests[name]["metadata"]["uid"] for name in names}
    with starting(root):
        for name in names:
            store.delete(ObjectRef.of(manifests[name]))
        for lease in store.list("Lease"):
            if lease["metadata"].get("labels", {}).get(SERVICE_LABEL) in names:
                store.delete(ObjectRef.of(lease))
        ensure_supervisor(root, gateway_port())  # it ends the predictors; the other services need it anyway
    deadline = time.monotonic() + STOP_SECONDS
    while left := [service.name for service in _services(root) if service.uid in uids]:
        if time.monotonic() > deadline:
            raise ControlError(f"{', '.join(left)} did not end within {STOP_SECONDS:g} s; see {root / 'logs'}")
        time.sleep(POLL_SECONDS)
    return [f"service {name}" for name in sorted(names)]


def _stop_everything(store: Store, root: Path) -> list[str]:
    with starting(root):
        ended = [f"service {manifest['metadata']['name']}" for manifest in store.list("InferenceService")]
        for kind in FORGOTTEN:
            for manifest in store.list(kind):
                store.delete(ObjectRef.of(manifest))
        # By their marks, not by what is written down: a supervisor that was killed wrote down what was, not what is.
        ended += [f"supervisor {pid}" for pid in end_all(marked(str(root), PROCESS_NAME), STOP_SECONDS)]
        ended += [f"process {pid}" for pid in end_all(marked(str(root)), GRACE_SECONDS)]
        (root / "state.json").unlink(missing_ok=True)
    return ended


def _services(root: Path) -> list[Service]:
    state = load_state(root)
    return list(state.services.values()) if state else []


def _service_status(service: Service) -> ServiceStatus:
    percents: dict[str, int] = {}
    for target in service.live:
        percents[target.revision] = percents.get(target.revision, 0) + target.percent
    shown = [revision for revision in service.revisions.values()
             if revision.process or percents.get(revision.name) or revision.phase == "failed"]
    return ServiceStatus(service.name, tuple(
        RevisionStatus(
            name=revision.name, uri=revision.template.uri, percent=percents.get(revision.name, 0),
            phase=revision.phase if is_alive(revision.process) or not revision.process else "ended",
            pid=_pid(revision.process), port=revision.port if is_alive(revision.process) else 0,
            uptime=time.time() - revision.process.created if is_alive(revision.process) and revision.process else 0.0,
            memory=_memory(revision.process), restarts=revision.restarts)
        for revision in shown))


def _pid(process: Process | None) -> int:
    return process.pid if process is not None and is_alive(process) else 0


def _memory(process: Process | None) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss) if process and is_alive(process) else 0
    except psutil.NoSuchProcess:
        return 0
