"""Clean up after a run that ended in the middle of a trial: traffic back to stable, lease given back, registry true.

The exit handler of the pipeline, also called by `penstock run` after Ctrl-C, when kfp.local runs no exit handler.
Touches nothing that another run holds; a second call finds nothing to do.
"""

import logging
from pathlib import Path

from penstock.components.control.base import ControlPlane, Manifest
from penstock.components.control.connect import connect
from penstock.components.control.inference_service import (
    canary_version,
    is_ours,
    is_settled,
    service_ref,
    stable_version,
)
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
        ContractError: the registry is damaged; traffic and lease are as they should be.
        ObjectConflict: another run has just taken the lease.
        StepError: the traffic did not move.
    """
    plane, stages = plane or connect(), Registry(registry)
    lease = CanaryLease(plane, service, run_id)
    holder = lease.holder
    if holder != run_id and (holder or not _is_unresolved(plane.get(service_ref(service)))):
        return False
    with lease:
        isvc = plane.get(service_ref(service))  # as it is while nobody else changes it
        unresolved, version = _is_unresolved(isvc), canary_version(isvc) if isvc else ""
        if unresolved:
            return_to_stable(plane, service, TIMEOUT)
        try:
            if version:
                stages.stage(service, version, "rolled_back", run_id, "the run ended before a verdict")
            elif isvc and stages.found_serving(service, stable_version(isvc), run_id):
                logger.warning("service=%s run_id=%s event=registry_mended", service, run_id)
        finally:
            lease.release()
    logger.warning("service=%s run_id=%s event=restored version=%s", service, run_id, version or "none")
    return unresolved


def _is_unresolved(isvc: Manifest | None) -> bool:
    return isvc is not None and is_ours(isvc) and not is_settled(isvc)
