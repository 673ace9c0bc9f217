"""Act on the verdict of the canary: all traffic to the new version, or back to the stable one.

Judges nothing itself. Waits until the traffic has moved, writes the stage down and gives the canary lease back.
"""

import logging
from pathlib import Path

from pydantic import Field

from penstock.components.contracts.config import Config
from penstock.components.contracts.errors import ContractError, PenstockError, StepError
from penstock.components.contracts.reports import CanaryReport
from penstock.components.control.base import ControlPlane
from penstock.components.control.inference_service import canary_version, service_ref, stable_version, url
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.registry import Registry, Stage
from penstock.components.deployment.traffic import describe, finish_trial, return_to_stable

__all__ = ["PromoteConfig", "run"]

logger = logging.getLogger(__name__)


class PromoteConfig(Config):
    """How long the traffic may take to move."""

    timeout: float = Field(default=60, gt=0, description="Seconds until the routes must show the change and the other "
                           "revision must have drained.")


def run(report: Path | str, service: str, version: str, registry: Path | str, run_id: str, config: PromoteConfig,
        plane: ControlPlane) -> str:
    """Carry out the verdict in the report folder of analyse_canary; a restarted step finishes what it began.

    Returns:
        The URL where requests are sent; "" where a first version was rolled back and nothing serves.

    Raises:
        ContractError: the report judged another version or service.
        StepError: somebody else changed the service, or the traffic did not move; it has gone back to stable.
        ControlError: the plane did not answer; where that was after the traffic had moved, the registry says so.
        ObjectConflict: another run tries a version of this service now.
    """
    judged = CanaryReport.load(report)
    if (judged.service, judged.canary.version) != (service, version):
        raise ContractError(f"{report} judged version {judged.canary.version} of {judged.service}, not {version} of "
                            f"{service}; give promote the report of this version")
    stage: Stage = "rolled_back" if judged.verdict == "roll_back" else "serving"
    stages = Registry(registry)
    with CanaryLease(plane, service, run_id) as lease:
        if stage == "serving":
            try:
                finish_trial(plane, service, version, judged.traffic_percent, lease, config.timeout)
            except PenstockError:
                if not lease.lost:
                    _roll_back(plane, service, version, config)
                    isvc = plane.get(service_ref(service))
                    if isvc:  # settled on this version where only the last answer was lost
                        stages.found_serving(service, stable_version(isvc), run_id)
                    lease.release()
                raise
        else:
            _roll_back(plane, service, version, config)
        stages.stage(service, version, stage, run_id, judged.reason)
        lease.release()
    isvc = plane.get(service_ref(service))
    logger.info("service=%s version=%s stage=%s traffic=%r", service, version, stage,
                describe(isvc) if isvc else "none, the service was deleted")
    return url(isvc) if isvc else ""


def _roll_back(plane: ControlPlane, service: str, version: str, config: PromoteConfig) -> None:
    """Send `version` back; another one on trial is not ours to touch."""
    isvc = plane.get(service_ref(service))
    if isvc and canary_version(isvc) not in ("", version):
        raise StepError(f"{service} has version {canary_version(isvc)} on trial, not {version}: somebody else changed "
                        f"it; see `penstock laptop status`")
    return_to_stable(plane, service, config.timeout)
