"""Judge a version on trial by the requests it answers beside the stable one.

Brings together the trial, the evidence and the rules, and lets a canary climb its ladder; `promote` carries the verdict
out.
"""

import logging
import shutil
from pathlib import Path

from penstock.components.contracts.errors import StepError
from penstock.components.contracts.reports import REPORT, CanaryReport, VariantReport
from penstock.components.control.base import ControlPlane, Manifest
from penstock.components.control.inference_service import (
    canary_percent,
    canary_version,
    newest_revision,
    service_ref,
    stable_version,
)
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.analyse_canary.config import AnalyseCanaryConfig

__all__ = ["AnalyseCanaryConfig", "run"]

logger = logging.getLogger(__name__)


def run(dataset: Path | str, target: Path | str, service: str, version: str, run_id: str, config: AnalyseCanaryConfig,
        plane: ControlPlane) -> CanaryReport:
    """Analyse the trial of `version` and write the report folder `target`.

    Args:
        dataset: its split `config.split` holds labelled rows that no model was trained on.
        run_id: holds the canary lease, which is kept alive meanwhile.

    Returns:
        The report; a complete one of this version that is there already is returned as it is. A replay that was
        killed goes on where it was at its last look.

    Raises:
        ConfigError: the sample cannot show what is asked.
        ContractError: the dataset is damaged or has no such split.
        StepError: the version is not on trial.
        LeaseLost: another run may act on the service now.
    """
    # scipy, httpx and matplotlib: two seconds that nobody pays who only reads the options
    from penstock.components.deployment.analyse_canary.gather import gather
    from penstock.components.deployment.analyse_canary.page import render
    from penstock.components.deployment.analyse_canary.verdict import judge

    if (Path(target) / REPORT).is_file():
        present = CanaryReport.load(target)
        if (present.service, present.canary.version) == (service, version):
            return present
    notes = Path(config.work, f"{service}-{version}") if config.work else Path(f"{target}.journal")
    with CanaryLease(plane, service, run_id) as lease:
        isvc = plane.get(service_ref(service))
        if isvc and stable_version(isvc) == version and not canary_version(isvc):
            report, evidence = _nothing_to_judge(isvc, service, version), None
        elif isvc is None or canary_version(isvc) != version or not canary_percent(isvc):
            raise StepError(f"version {version} of {service} is not on trial: roll_out did not run, or the lease "
                            f"lapsed and the traffic went back to stable; start the run again")
        else:
            evidence = gather(dataset, isvc, config, plane, lease, notes)
            report = judge(service, evidence, config)
    logger.info("service=%s version=%s verdict=%s unanswered=%d reason=%r", service, version, report.verdict,
                report.unanswered, report.reason)
    saved = report.save(target, render(report, evidence, config))
    shutil.rmtree(notes, ignore_errors=True)
    return saved


def _nothing_to_judge(isvc: Manifest, service: str, version: str) -> CanaryReport:
    """Answer for a version that is the stable one already."""
    canary = VariantReport(version=version, revision=newest_revision(isvc), requests=0, errors=0, labelled=0, correct=0,
                           latency={})
    return CanaryReport(verdict="promote", reason=f"version {version} has all traffic already; there is nothing to "
                        f"compare it with", service=service, traffic_percent=100, canary=canary)
