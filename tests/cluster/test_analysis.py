"""`analyse_canary` as a step on the cluster: it reaches both versions from inside, climbs, and judges."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import CanaryReport
from penstock.components.control.inference_service import Placement, newest_revision, percent_of, service_ref
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig, run
from penstock.components.deployment.traffic import return_to_stable, start_trial

pytestmark = pytest.mark.cluster
PATIENCE = 300.0
CONFIG = AnalyseCanaryConfig(requests=4000, rate=200, min_requests_per_version=100, max_error_rate_increase=0.05,
                             max_accuracy_drop=0.1, paired_rows=100, timeout=240, ladder=(50,),
                             latency_floor_ms=2000)  # a busy machine is not a slow canary
log = logging.getLogger(__name__)


@pytest.fixture
def analyse(plane: KubernetesPlane, service: str, model_store: Any, models: dict[str, Model], sides: Dataset,
            tmp_path: Path) -> Iterator[Any]:
    """Put a model on trial with 20 % of the requests, and analyse it; afterwards `good` has all traffic again."""
    def analyse(name: str, **changes: object) -> CanaryReport:
        version = models[name].version
        with CanaryLease(plane, service, "run-1", 60) as lease:
            start_trial(plane, service, Placement(version, model_store.uri(name), "penstock-onnx"), 20, lease, PATIENCE)
        config = AnalyseCanaryConfig.parse(CONFIG.model_dump() | changes)
        found = run(sides.folder, tmp_path / "report", service, version, "run-1", config, plane)
        log.info("verdict=%s canary=%d seconds=%.1f reason=%r", found.verdict, found.canary.requests, found.seconds,
                 found.reason)
        return found

    yield analyse
    return_to_stable(plane, service, PATIENCE)
    with CanaryLease(plane, service, "run-1", 60) as lease:
        lease.release()


def test_a_good_canary_climbs_and_earns_its_promotion(analyse: Any, plane: KubernetesPlane, service: str) -> None:
    found = analyse("alike")

    assert (found.verdict, [check for check in found.checks if not check.passed]) == ("promote", [])
    assert found.stable is not None
    assert (found.unanswered, found.canary.errors, found.stable.errors) == (0, 0, 0)
    assert found.canary.labelled == found.canary.requests >= 100
    assert next(check for check in found.checks if check.name == "ladder").detail.startswith("ladder: 20, 50 %")
    assert found.agreement is not None  # each revision was asked alone
    assert found.agreement.estimate == 1
    isvc = plane.get(service_ref(service))
    assert isvc is not None
    assert percent_of(isvc, newest_revision(isvc)) == 50


def test_a_canary_that_is_wrong_is_sent_back_from_its_first_rung(analyse: Any) -> None:
    found = analyse("wrong")

    assert found.verdict == "roll_back"
    assert found.reason.startswith("wrong answers: ")
    assert found.canary.correct < found.canary.labelled / 2


def test_the_requests_of_others_are_counted(analyse: Any, service: str, traffic: Any) -> None:
    with traffic(service):
        found = analyse("alike", mode="observe", requests_per_session=1, ladder=(), max_error_rate_increase=0.1)

    assert (found.verdict, found.stable is not None) == ("promote", True)
    assert found.canary.requests >= 100
    assert found.canary.latency["p95"] > 0
