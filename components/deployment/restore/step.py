"""Clean up after a run that ended in the middle of a trial: traffic back to stable, lease given back, registry true.

The exit handler of the pipeline, also called by `penstock run` after Ctrl-C, when kfp.local runs no exit handler.
Touches nothing that another run holds; a second call finds nothing to do.
"""

import logging
from pathlib import Path

from penstock.components.control.base import ControlPlane
from penstock.components.control.connect import connect
from penstock.components.control.inference_service import canary_version, service_ref, stable_version
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.registry import Registry
from penstock.components.deployment.traffic import return_to_stable

__all__ = ["run"]

TIMEOUT = 60.0  # seconds for the routes to show the change

logger = logging.getLogger(__name__)


def run(service: str, registry: Path | str, run_id: str, plane: ControlPlane | None = None) -> bool:
    """Undo this run's unresolved trial, or one whose lease has lapsed, so that nobody looks after it.

    Args:
        plane: None: the one that `connect` finds.

    Returns:
        Whether there was one.

    Raises:
        StepError: the traffic did not move.
    """
    plane = plane or connect()
    lease = CanaryLease(plane, service, run_id)
    holder, isvc = lease.holder, plane.get(service_ref(service))
    version = canary_version(isvc) if isvc else ""
    if holder != run_id and (holder or not version):
        return False
    with lease:
        if version:
            return_to_stable(plane, service, TIMEOUT)
            Registry(registry).stage(service, version, "rolled_back", run_id, "the run ended before a verdict")
        elif isvc:
            _write_down(Registry(registry), service, stable_version(isvc), run_id)
        lease.release()
    logger.warning("service=%s run_id=%s event=restored version=%s", service, run_id, version or "none")
    return bool(version)


def _write_down(registry: Registry, service: str, version: str, run_id: str) -> None:
    """Let the registry say what serves, where the run was cut off between the traffic and the registry."""
    if version != registry.stages(service).serving and version in (one.version for one in registry.records(service)):
        registry.stage(service, version, "serving", run_id, "it had all traffic when the run ended")
