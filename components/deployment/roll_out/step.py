"""Put a registered version on trial: beside the stable one with a share of the traffic, or alone where none is stable.

Judges nothing: `analyse_canary` does. Leaves the canary lease in the run's hands for the steps that follow.
"""

import logging
from pathlib import Path

from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.control.base import ControlPlane, ObjectConflict
from penstock.components.control.inference_service import (
    Placement,
    canary_version,
    is_ours,
    service_ref,
    stable_version,
)
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.registry import Registry
from penstock.components.deployment.traffic import describe, return_to_stable, start_trial
from penstock.manifests import load

__all__ = ["RollOutConfig", "run"]

RUNTIME = "penstock-onnx"

logger = logging.getLogger(__name__)


class RollOutConfig(Config):
    """How a version goes on trial."""

    canary_percent: int = Field(default=20, ge=1, le=99, description="Percent of the requests that go to the version "
                                "on trial; a first deploy gets all of them.")
    runtime: str = Field(default=RUNTIME, min_length=1, description="ServingRuntime that runs the model; another than "
                         "the default must have been applied before.")
    storage: str = Field(default="", pattern=r"^([a-z][a-z0-9]*://.+)?$", description="The registry folder as "
                         "predictors reach it: on a cluster for example pvc://claim/folder; \"\": the folder itself, as file://.")
    ready_timeout: float = Field(default=120, gt=0, description="Seconds until the version must answer and have its "
                                 "share.")
    lease_seconds: int = Field(default=30, ge=15, description="Seconds without a sign of life after which the traffic "
                               "goes back to stable.")


def run(service: str, version: str, registry: Path | str, run_id: str, config: RollOutConfig,
        plane: ControlPlane) -> str:
    """Start the trial and wait until it is real; a restarted step goes on with its own trial.

    Returns:
        "first" (nothing was stable: all traffic), "canary", or "serving" (the version is the stable one already).

    Raises:
        ObjectConflict: another run tries a version of this service, or the service is not penstock's.
        StepError: the version did not start or got no traffic in time; the service is as it was before.
    """
    uri = Registry(registry).model_uri(service, version)
    if config.storage:
        uri = f"{config.storage.rstrip('/')}/{service}/{version}/model"
    with CanaryLease(plane, service, run_id, config.lease_seconds) as lease:
        before = plane.get(service_ref(service))
        if before and not is_ours(before):
            lease.release()
            raise ObjectConflict(f"InferenceService {service} was not made by penstock, which therefore cannot go back "
                                 f"to it; choose another service name, or delete it first")
        holds = stable_version(before) if before else ""
        if holds == version:
            return_to_stable(plane, service, config.ready_timeout)  # from what a dead run may have left on trial
            return "serving"
        if before and canary_version(before) not in ("", version):
            return_to_stable(plane, service, config.ready_timeout)  # or it would get this trial's share meanwhile
        if config.runtime == RUNTIME:
            plane.apply(load("serving/servingruntime.yaml"))
        try:
            isvc = start_trial(plane, service, Placement(version, uri, config.runtime), config.canary_percent, lease,
                               config.ready_timeout)
        except BaseException as error:
            logger.error("service=%s version=%s event=no_trial error=%s", service, version, error)
            if not lease.lost:
                return_to_stable(plane, service, config.ready_timeout)
                lease.release()
            raise
    logger.info("service=%s version=%s stable=%s traffic=%r", service, version, holds or "none", describe(isvc))
    return "canary" if holds else "first"
