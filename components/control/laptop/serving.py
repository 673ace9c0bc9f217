"""The life of predictors: started, found ready, restarted or given up, drained, ended.

Changes the revisions of a service and their processes; knows the gateway only by what it tells: who has traffic, and
how many requests are still on their way.
"""

import http.client
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from penstock.components.control.base import ControlError, Manifest
from penstock.components.control.laptop.processes import end_all, exit_code, free_port, is_alive, marked, send, start
from penstock.components.control.laptop.revisions import (
    Failure,
    Revision,
    Service,
    Template,
    canary_percent,
    template_of,
)
from penstock.components.control.laptop.traffic import needed

__all__ = ["observe", "reconcile", "take_up"]

PROBE_SECONDS = 0.5
START_SECONDS = 600.0  # as Knative's progressDeadline
SETTLE_SECONDS = 0.3  # Envoy's worker threads get new routes some milliseconds after its admin reports them
DRAIN_SECONDS = 30.0  # for requests that are on their way when the traffic is taken away
GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
BACK_OFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_SECONDS = 60.0  # a predictor that lived so long starts its back-off anew
LAST_LINES = 8
KEPT_REVISIONS = 10  # of those that do not run; an older template that comes back gets a new number
log = logging.getLogger(__name__)


def take_up(service: Service, manifest: Manifest, runtime: Manifest | None) -> None:
    """Take up a new generation: find the revision of its template or make one.

    A failed revision is tried again as a new one, since somebody asked again; not when it would get no traffic anyway.
    """
    state = service.roll_out._replace(percent=canary_percent(manifest))
    template = template_of(manifest, runtime)
    service.generation = manifest["metadata"]["generation"]
    if isinstance(template, Failure):
        service.refusal = template
        return
    service.refusal = None
    revision = _revision_of(service, template, state.percent)
    if revision.name != state.created:
        log.info("service=%s generation=%d revision=%s", service.name, service.generation, revision.name)
    if revision.name == state.rolled_out != state.created:
        state = state._replace(previous="")  # back on stable: nothing to go back to from here
    service.roll_out = state._replace(created=revision.name)


def observe(service: Service, root: Path, logs: Path) -> None:
    """Look at each process of a service: has it ended, is it ready?

    Raises:
        ControlError: a child that an ended predictor left behind does not end.
    """
    for revision in service.revisions.values():
        if revision.phase in ("ended", "failed"):
            continue
        if not is_alive(revision.process):
            end_all(marked(str(root), revision.name), grace=0)  # workers that outlived it
            _ended(service, revision, logs)
        elif revision.phase == "starting":
            _probe(service, revision, logs)
    state = service.roll_out
    if state.created in service.serving():
        service.roll_out = state._replace(ready=state.created)


def reconcile(service: Service, weights: dict[str, int] | None, active: Callable[[str], int], root: Path,
              logs: Path) -> None:
    """Start what must run, and end what need not: only when it has no traffic any more.

    Args:
        weights: the shares that the gateway has taken; None: not known at the moment, so nothing is drained.
        active: how many requests are on their way to a revision.
    """
    wanted = set() if service.leaving else needed(service.roll_out)
    for revision in service.revisions.values():
        if revision.phase == "ending":
            if _age(revision) > GRACE_SECONDS and revision.process:
                send(revision.process, signal.SIGKILL)
        elif revision.name in wanted:
            if revision.phase == "ended" and time.time() >= revision.retry_at:
                _start(service, revision, root, logs)
            elif revision.phase == "draining":
                _enter(revision, "ready")
        elif revision.phase == "starting":
            _end(revision)
        elif revision.phase == "ready" and weights is not None and not weights.get(revision.name):
            _enter(revision, "draining")
        elif revision.phase == "draining":
            idle = _age(revision) > SETTLE_SECONDS and not active(revision.name)
            if idle or _age(revision) > DRAIN_SECONDS:
                _end(revision)


def _revision_of(service: Service, template: Template, percent: int) -> Revision:
    fingerprint = template.fingerprint()
    known = [revision for revision in service.revisions.values() if revision.template.fingerprint() == fingerprint]
    if known and (known[-1].phase != "failed" or not percent):
        return known[-1]
    service.made += 1
    name = f"{service.name}-predictor-{service.made:05d}"
    service.revisions[name] = Revision(name=name, template=template)
    idle = [known for known in service.revisions if known not in service.roll_out and _is_idle(service, known, name)]
    for old in idle[:-KEPT_REVISIONS]:
        del service.revisions[old]
    return service.revisions[name]


def _is_idle(service: Service, name: str, newest: str) -> bool:
    shown = name == newest or any(target.revision == name for target in service.live)
    return not shown and service.revisions[name].phase in ("ended", "failed")


def _start(service: Service, revision: Revision, root: Path, logs: Path) -> None:
    port, template = free_port(), revision.template
    command = [template.filled(word, port) for word in template.command]
    env = {name: template.filled(value, port) for name, value in template.env.items()}
    _enter(revision, "starting")
    try:
        revision.process = start(command, env, _log(logs, revision), str(root), revision.name)
    except ControlError as error:
        _crashed(service, revision, Failure(reason="ModelLoadFailed", message=str(error), revision=revision.name))
        return
    revision.port = port
    log.info("revision=%s event=started pid=%d port=%d", revision.name, revision.process.pid, port)


def _probe(service: Service, revision: Revision, logs: Path) -> None:
    path = revision.template.filled(revision.template.ready_path, revision.port)
    connection = http.client.HTTPConnection("127.0.0.1", revision.port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        ready = connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        ready = False
    finally:
        connection.close()
    if ready:
        log.info("revision=%s event=ready seconds=%.1f", revision.name, _age(revision))
        _enter(revision, "ready")
    elif _age(revision) > START_SECONDS and revision.process:
        send(revision.process, signal.SIGKILL)
        message = f"{revision.name} was not ready within {START_SECONDS:g} s; {_tail(logs, revision)}"
        _crashed(service, revision, Failure(reason="ModelLoadFailed", message=message, revision=revision.name))


def _ended(service: Service, revision: Revision, logs: Path) -> None:
    code = exit_code(revision.process) if revision.process else None
    log.info("revision=%s event=ended phase=%s exit_code=%s", revision.name, revision.phase, code)
    if revision.phase in ("draining", "ending"):
        _enter(revision, "ended")
        revision.process = None
        return
    reason: Literal["ModelLoadFailed", "RuntimeUnhealthy"] = (
        "ModelLoadFailed" if revision.phase == "starting" else "RuntimeUnhealthy")
    how = "ended" if code is None else f"ended with exit code {code}"
    when = "before it was ready" if revision.phase == "starting" else f"after {_age(revision):.0f} s of service"
    _crashed(service, revision, Failure(
        reason=reason, message=f"{revision.name} {how} {when}; {_tail(logs, revision)}",
        exit_code=-1 if code is None else code, revision=revision.name))


def _crashed(service: Service, revision: Revision, failure: Failure) -> None:
    """What was rolled out is started again, later and later; a canary or a first try is given up."""
    log.warning("revision=%s event=failed reason=%s exit_code=%d", revision.name, failure.reason, failure.exit_code)
    lived = _age(revision) if revision.phase == "ready" else 0.0
    revision.process, revision.failure = None, failure
    if revision.name != service.roll_out.rolled_out:
        _enter(revision, "failed")
        return
    revision.failures = 1 if lived > STEADY_SECONDS else revision.failures + 1
    revision.restarts += 1
    _enter(revision, "ended")
    revision.retry_at = time.time() + BACK_OFF_SECONDS[min(revision.failures, len(BACK_OFF_SECONDS)) - 1]


def _end(revision: Revision) -> None:
    if revision.process:
        send(revision.process, signal.SIGTERM)
    _enter(revision, "ending")


def _enter(revision: Revision, phase: Literal["ended", "starting", "ready", "draining", "ending", "failed"]) -> None:
    revision.phase, revision.since = phase, time.time()


def _age(revision: Revision) -> float:
    return time.time() - revision.since


def _log(logs: Path, revision: Revision) -> Path:
    return logs / f"{revision.name}.log"


def _tail(logs: Path, revision: Revision) -> str:
    path = _log(logs, revision)
    if not path.is_file():
        return f"{path} is missing"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    return f"the last lines of {path}: " + " | ".join(lines) if lines else f"{path} is empty"
