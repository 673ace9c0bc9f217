"""The supervisor: the one process of a home that keeps predictors and Envoy as the objects ask for.

    python -m penstock.components.control.laptop.supervisor --root FOLDER --port PORT

`launch` starts it. It reads objects and writes their status; everything it must not forget is in `state.json`, so that
one that was killed finds its processes again. With no service left it ends after `IDLE_SECONDS`.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from penstock.components.contracts.folder import write_atomically
from penstock.components.control.base import ControlError, Manifest, ObjectConflict, ObjectRef
from penstock.components.control.laptop import serving
from penstock.components.control.laptop.gateway import Gateway, GatewayRecord, Shares
from penstock.components.control.laptop.locks import START, SUPERVISOR, locked
from penstock.components.control.laptop.processes import Process, end_all, is_alive, marked, this_process
from penstock.components.control.laptop.revisions import Service, canary_percent
from penstock.components.control.laptop.service_status import GatewayView, LeaseView, service_status
from penstock.components.control.laptop.store import Store
from penstock.components.control.laptop.traffic import Target, settle, targets, weights
from penstock.components.control.laptop.trouble import TROUBLE, in_words

__all__ = ["PROCESS_NAME", "SERVICE_LABEL", "State", "Supervisor", "load_state", "main"]

PROCESS_NAME = "supervisor"  # in its mark, see `processes`
SERVICE_LABEL = "penstock.dev/service"  # on a Lease: whose canary it guards
TICK_SECONDS = 0.15
IDLE_SECONDS = 3.0
LOCK_SECONDS = 1.0  # somebody who only looks whether a supervisor runs holds the lock for a moment
GRACE_SECONDS = 10.0  # for all predictors together when the supervisor ends
DRAIN_SECONDS = 10.0
RUNTIME_API = "serving.kserve.io/v1alpha1"
log = logging.getLogger(__name__)


class State(BaseModel):
    """What is on disk. `ready` is when the gateway first took its configuration from this supervisor."""

    supervisor: Process
    gateway: GatewayRecord
    ready: bool = False
    services: dict[str, Service] = {}


class Supervisor:
    """Reconciles objects with processes, one `tick` at a time."""

    def __init__(self, root: Path, port: int) -> None:
        self._root, self._logs = root, root / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self.store = Store(root / "objects")
        earlier = load_state(root)
        record = earlier.gateway if earlier and is_alive(earlier.gateway.process) else GatewayRecord(port=port)
        self.state = State(supervisor=this_process(), gateway=record, services=earlier.services if earlier else {})
        self.gateway = Gateway(record, root)
        self._asked: dict[str, list[Target]] = {}
        self._saved = self._statuses = ""
        self._end_strays()

    def tick(self) -> None:
        """Go one round: look, decide, act, tell."""
        manifests = {manifest["metadata"]["name"]: manifest for manifest in self.store.list("InferenceService")}
        leases = self._leases()
        self._take_up(manifests, leases)
        for service in self.state.services.values():
            serving.observe(service, self._root, self._logs)
        self.gateway.keep_running()
        self.gateway.refresh()
        self.gateway.rotate_log()
        self._settle()
        live = self.gateway.live()
        for service in self.state.services.values():
            shares = None if live is None else live.get(service.name, {})
            serving.reconcile(service, shares, self.gateway.active, self._root, self._logs)
        self._publish()
        self._forget()
        self._save()  # first: who reads of an effect in the status finds it here too
        self._tell(manifests, leases)

    def idle(self) -> bool:
        """Say whether there is nothing to keep."""
        return not self.state.services and not self.store.list("InferenceService")

    def stop(self) -> None:
        """End Envoy, when the requests on their way are through, then every predictor."""
        self.gateway.stop(DRAIN_SECONDS)
        end_all(marked(str(self._root)), GRACE_SECONDS)
        for service in self.state.services.values():
            for revision in service.revisions.values():
                if revision.phase != "failed":
                    revision.phase, revision.process = "ended", None
        self.state.ready = False
        self._save()

    def _take_up(self, manifests: dict[str, Manifest], leases: dict[str, Manifest]) -> None:
        for name, manifest in manifests.items():
            uid = manifest["metadata"]["uid"]
            service = self.state.services.setdefault(name, Service(name=name, uid=uid))
            if service.uid != uid:
                service.leaving = True  # deleted and created again: the new one's turn comes when the old one is gone
            elif service.generation != manifest["metadata"]["generation"] or service.refusal:
                runtime = manifest["spec"]["predictor"]["model"]["runtime"]
                serving.take_up(service, manifest, self.store.load(ObjectRef(RUNTIME_API, "ServingRuntime", runtime)))
            self._watch_lease(service, manifest, leases.get(name))
        for name, service in self.state.services.items():
            service.leaving = service.leaving or name not in manifests

    def _watch_lease(self, service: Service, manifest: Manifest, lease: Manifest | None) -> None:
        """Roll a canary back whose holder has not shown a sign of life in time."""
        if lease is None or not lease["spec"].get("holderIdentity"):
            return
        if not _has_lapsed(lease):
            service.lapsed = ""
            return
        if not 0 < canary_percent(manifest) < 100 or service.roll_out.created == service.roll_out.rolled_out:
            return
        holder = lease["spec"]["holderIdentity"]
        manifest["spec"]["predictor"]["canaryTrafficPercent"] = 0
        lease["spec"]["holderIdentity"] = ""
        try:
            self.store.put(manifest)
            self.store.put(lease)
        except ObjectConflict as conflict:
            log.info("service=%s event=lease-lapse-postponed reason=%s", service.name, conflict)  # somebody is alive
            return
        service.lapsed = holder
        log.warning("service=%s event=lease-lapsed holder=%s", service.name, holder)

    def _leases(self) -> dict[str, Manifest]:
        leases = self.store.list("Lease")
        return {lease["metadata"].get("labels", {}).get(SERVICE_LABEL, ""): lease for lease in leases}

    def _settle(self) -> None:
        """Take over what the gateway routes by now."""
        if self.gateway.live() is None:
            return
        self.state.ready = True
        for service in self.state.services.values():
            service.live = self._asked.get(service.name, service.live)
            service.roll_out = settle(service.roll_out, service.live, service.serving())

    def _publish(self) -> None:
        ports: dict[str, int] = {}
        shares: Shares = {}
        asked: dict[str, list[Target]] = {}
        for service in self.state.services.values():
            ports |= {name: revision.port for name, revision in service.revisions.items() if revision.process}
            if not service.leaving:
                asked[service.name] = targets(service.roll_out, service.serving())
                shares[service.name] = {name: percent for name, percent in weights(asked[service.name]).items()
                                        if service.revisions[name].port}
        if self.gateway.publish(ports, shares):
            self._asked = asked

    def _forget(self) -> None:
        for name, service in list(self.state.services.items()):
            if service.leaving and all(revision.process is None for revision in service.revisions.values()):
                log.info("service=%s event=gone", name)
                del self.state.services[name]

    def _tell(self, manifests: dict[str, Manifest], leases: dict[str, Manifest]) -> None:
        record = self.state.gateway
        view = GatewayView(f"http://127.0.0.1:{record.port}", record.restarts,
                           "" if is_alive(record.process) else record.failure or "Envoy has not started yet")
        for name, manifest in manifests.items():
            service = self.state.services.get(name)
            if service is None or service.uid != manifest["metadata"]["uid"]:
                continue
            ref, lease = ObjectRef.of(manifest), leases.get(name, {}).get("spec", {})
            before = (self.store.load(ref) or {}).get("status", {})
            status = service_status(
                service, view, LeaseView(lease.get("holderIdentity", ""), lease.get("renewTime", "")), before)
            if status != before:
                self.store.put_status(ref, service.uid, status)

    def _save(self) -> None:
        content = self.state.model_dump_json(indent=1)
        if content != self._saved:
            write_atomically(self._root / "state.json", content)
            self._saved = content

    def _end_strays(self) -> None:
        """End what a killed supervisor had started but not written down."""
        known = {revision.process.pid for service in self.state.services.values()
                 for revision in service.revisions.values() if revision.process}
        if self.state.gateway.process:
            known.add(self.state.gateway.process.pid)
        strays = [stray for stray in marked(str(self._root)) if not known & _lineage(stray)]
        for pid in end_all(strays, GRACE_SECONDS):
            log.warning("pid=%d event=stray-ended", pid)


def main(arguments: list[str] | None = None) -> None:
    """Run until SIGTERM, or until there has been nothing to keep for a while."""
    parser = argparse.ArgumentParser(description="Keeps the predictors and the gateway of one home.")
    parser.add_argument("--root", type=Path, required=True, help="folder of the laptop plane")
    parser.add_argument("--port", type=int, required=True, help="of the gateway, on 127.0.0.1")
    options = parser.parse_args(arguments)
    if os.fork():  # so that it belongs to init, and no zombie stays with who started it
        os._exit(0)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, datefmt="%Y-%m-%dT%H:%M:%S",
                        format="time=%(asctime)sZ level=%(levelname)s %(message)s")
    with locked(options.root, SUPERVISOR, LOCK_SECONDS) as mine:
        if mine:
            _run(Supervisor(options.root, options.port), options.root)
        else:
            log.info("event=not-needed reason=another-supervisor-runs")


def load_state(root: Path) -> State | None:
    """Read what the last supervisor of this home wrote down, or None.

    Raises:
        ControlError: this version cannot read it.
    """
    path = root / "state.json"
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ControlError(f"{path} was written by another version of penstock, or is damaged: end what runs with "
                           "`penstock laptop stop` and start anew") from error


def _run(supervisor: Supervisor, root: Path) -> None:
    ends: list[str] = []  # why; no Event: a handler that interrupts its wait() waits for its lock, for ever
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ends.append(signal.Signals(number).name))
    log.info("event=started pid=%d root=%s", os.getpid(), root)
    busy, trouble = time.monotonic(), ""

    def look() -> None:
        nonlocal busy
        supervisor.tick()
        if not supervisor.idle():
            busy = time.monotonic()
        elif time.monotonic() - busy > IDLE_SECONDS:
            # Under this lock nobody applies a service, so that none is written just when its supervisor ends.
            with locked(root, START, 0) as quiet:
                if quiet and supervisor.idle():
                    ends.append(f"idle for {IDLE_SECONDS:g} s")

    while not ends:
        trouble = _try(look, trouble)
        time.sleep(TICK_SECONDS)
    _try(supervisor.stop, "")
    log.info("event=ended pid=%d reason=%r", os.getpid(), ends[0])


def _try(act: Callable[[], None], before: str) -> str:
    """Act; a full disk or a damaged object is told once and tried again: what serves goes on serving meanwhile."""
    try:
        act()
    except TROUBLE as error:
        if str(error) != before:
            log.error("event=tick-failed error=%s", in_words(error))
        return str(error)
    return ""


def _has_lapsed(lease: Manifest) -> bool:
    renewed, seconds = lease["spec"].get("renewTime"), lease["spec"].get("leaseDurationSeconds", 0)
    return not renewed or (datetime.now(UTC) - datetime.fromisoformat(renewed)).total_seconds() > seconds


def _lineage(process: psutil.Process) -> set[int]:
    try:
        return {process.pid, *(parent.pid for parent in process.parents())}
    except psutil.NoSuchProcess:
        return {process.pid}


if __name__ == "__main__":
    main()
