"""Analysing a trial end to end, over HTTP: each way to be promoted and each way to be sent back."""

import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import CanaryReport, Check
from penstock.components.control.base import ObjectConflict
from penstock.components.control.lease import CanaryLease, LeaseLost
from penstock.components.deployment.analyse_canary import gather, replay, watch
from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig, run
from penstock.components.deployment.traffic import return_to_stable

OLD, NEW = "sides-predictor-00001", "sides-predictor-00002"
CONFIG = AnalyseCanaryConfig(requests=1000, rate=2000, min_requests_per_version=50, max_error_rate_increase=0.05,
                             max_accuracy_drop=0.1, paired_rows=60, timeout=30,
                             latency_floor_ms=2000)  # a busy machine is not a slow canary


@pytest.fixture(autouse=True)
def _frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "LOOK", 0.02)


@pytest.fixture
def analyse(sides: Dataset, report: Path, models: dict[str, Model]) -> Any:
    def analyse(plane: Any, name: str = "alike", run_id: str = "run-2", dataset: Path = sides.folder,
                **changes: object) -> CanaryReport:
        config = AnalyseCanaryConfig.parse(CONFIG.model_dump() | changes)
        return run(dataset, report, "sides", models[name].version, run_id, config, plane)

    return analyse


@pytest.fixture
def no_validation_rows(sides: Dataset, tmp_path: Path) -> Path:
    splits = sides.read_all()
    empty = splits | {"validation": splits["validation"].slice(0, 0)}
    return write_dataset(tmp_path / "empty", sides.description, empty).folder


def check(report: CanaryReport, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def test_a_canary_as_good_as_stable_earns_its_promotion(trial: Any, analyse: Any, report: Path) -> None:
    found = analyse(trial)

    assert (found.verdict, [entry for entry in found.checks if not entry.passed]) == ("promote", [])
    assert found.stable is not None
    assert 50 <= found.canary.requests < 200
    assert found.traffic_percent == 20
    assert (found.canary.revision, found.stable.revision) == (NEW, OLD)
    assert (found.canary.labelled, found.canary.errors) == (found.canary.requests, 0)
    assert 0.75 <= found.canary.correct / found.canary.labelled <= 1
    assert set(found.canary.latency) == {"p50", "p90", "p95", "p99"}
    assert check(found, "sample").value == found.canary.requests
    assert check(found, "traffic_split").value == pytest.approx(0.2, abs=0.01)
    assert CanaryLease(trial, "sides", "run-2").holder == "run-2"

    assert CanaryReport.load(report) == found
    page = (report / "index.html").read_text()
    titles = ("Rules", "Evidence: errors", "Requests", "Latency", "Accuracy", "Agreement", "Course")
    assert all(f"<h2>{title}" in page for title in titles)


def test_a_retried_step_returns_the_report_that_is_there(trial: Any, gateway: Any, analyse: Any) -> None:
    first = analyse(trial)
    asked = gateway.asked

    assert analyse(trial) == first
    assert gateway.asked == asked


def test_errors_send_a_canary_back(trial: Any, gateway: Any, analyse: Any) -> None:
    gateway.versions[NEW].fails = 5

    found = analyse(trial)
    assert (found.verdict, found.agreement) == ("roll_back", None)
    assert 0 < found.canary.errors <= found.canary.requests < 100
    assert "points, at least +" in found.reason
    assert found.reason.endswith("+5 points are allowed")


@pytest.mark.parametrize(("status", "body"), [(500, b""), (400, b""), (200, b"fine"), (200, b'{"outputs": []}')])
def test_a_burst_of_answers_without_prediction_stops_at_once(
    trial: Any, gateway: Any, analyse: Any, status: int, body: bytes
) -> None:
    gateway.versions[NEW].fails, gateway.versions[NEW].status, gateway.versions[NEW].body = 1, status, body

    found = analyse(trial)
    assert found.verdict == "roll_back"
    assert found.canary.errors == found.canary.requests < 60
    assert found.agreement is None


def test_a_slow_canary_is_sent_back(trial: Any, gateway: Any, analyse: Any) -> None:
    gateway.versions[NEW].sleep = 0.15

    found = analyse(trial, concurrency=8, paired_rows=0, latency_floor_ms=25)
    assert found.verdict == "roll_back"
    assert "p95" in found.reason
    assert check(found, "latency_increase").value > 0.5


@pytest.mark.parametrize("paired_rows", [0, 120])
def test_a_canary_that_is_wrong_more_often_is_sent_back(
    trial: Any, gateway: Any, analyse: Any, paired_rows: int
) -> None:
    gateway.versions[NEW].errs = 2

    found = analyse(trial, paired_rows=paired_rows)
    assert found.verdict == "roll_back"
    assert "wrong answers: " in found.reason or "accuracy: " in found.reason


def test_too_small_a_sample_is_no_evidence_whatever_it_shows(trial: Any, gateway: Any, analyse: Any) -> None:
    gateway.versions[NEW].errs, gateway.versions[OLD].errs = 11, 10
    found = analyse(trial, max_accuracy_drop=0.05)

    assert found.verdict == "roll_back"
    assert found.reason.startswith("not enough evidence: accuracy: on ")


def test_a_sample_that_is_late_is_no_evidence(trial: Any, analyse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"timeout=0\.5 ends the analysis after 50 requests at rate=100, too few"):
        analyse(trial, rate=100, timeout=0.5)
    monkeypatch.setattr(AnalyseCanaryConfig, "check_sample", lambda *_: None)  # the gateway is slow instead
    found = analyse(trial, rate=100, timeout=0.5)

    assert found.verdict == "roll_back"
    assert "of at most 1,000 requests in " in check(found, "sample").detail
    assert found.reason.startswith(f"{check(found, 'sample').detail}; errors: ")
    assert "accuracy: no row was answered by both versions, because the time was up" in found.reason


def test_a_sample_that_cannot_show_it_is_refused_with_one_that_can(trial: Any, gateway: Any, analyse: Any) -> None:
    told = "requests=1000 are too few to show at 20 % an error rate that is no more than 0.01 higher, without one error"
    with pytest.raises(ConfigError, match=told):
        analyse(trial, max_error_rate_increase=0.01)
    assert gateway.asked == 0


def test_disagreement_is_a_reason_only_where_it_is_asked_for(trial: Any, gateway: Any, analyse: Any) -> None:
    gateway.versions[NEW].errs, gateway.versions[OLD].errs = 5, 4  # as good, but wrong on other rows

    found = analyse(trial, min_agreement=0.9, max_accuracy_drop=1)
    assert (found.verdict, check(found, "agreement").passed) == ("roll_back", False)
    assert found.agreement is not None
    assert found.agreement.estimate < 0.8


def test_a_canary_that_dies_is_noticed_without_its_answers(
    trial: Any, gateway: Any, analyse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK", 0)
    gateway.after[50] = lambda: trial.crash(NEW)

    found = analyse(trial)
    assert found.verdict == "roll_back"
    assert found.reason.startswith("stopped early: the canary failed: ModelLoadFailed: it was killed")
    assert gateway.asked < 500


def test_a_lapsed_lease_stops_the_analysis(
    trial: Any, gateway: Any, analyse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK", 0)
    gateway.after[50] = lambda: trial.lapse("sides")

    assert "the canary gets 0 % of the requests instead of 20 %" in analyse(trial).reason


def test_another_holder_ends_the_step(
    trial: Any, gateway: Any, analyse: Any, monkeypatch: pytest.MonkeyPatch, report: Path
) -> None:
    with pytest.raises(ObjectConflict, match="run run-2 holds"):
        analyse(trial, run_id="run-3")
    monkeypatch.setattr(CanaryLease, "check", lambda self: _raise(LeaseLost("run run-9 took it")))
    with pytest.raises(LeaseLost, match="run-9"):
        analyse(trial)
    assert not report.exists()


def _raise(error: Exception) -> None:
    raise error


def test_requests_that_nobody_answers_are_counted_and_held_against_nobody(
    trial: Any, gateway: Any, analyse: Any
) -> None:
    gateway.after[100] = lambda: setattr(gateway, "down", True)
    gateway.after[101] = lambda: None
    found = analyse(trial, requests=500, max_accuracy_drop=1, paired_rows=0,
                    max_latency_increase=0)

    assert found.unanswered >= 390
    assert found.canary.errors == 0
    assert found.canary.requests + (found.stable.requests if found.stable else 0) + found.unanswered == 500
    assert not check(found, "unanswered").passed
    assert found.reason.startswith("not enough evidence: 20 answers of the canary and 80 of stable, 500 of at most 500")


@pytest.mark.parametrize("hangs", [0, 3])
def test_what_nobody_owns_up_to_may_all_have_been_the_canarys(
    trial: Any, gateway: Any, analyse: Any, monkeypatch: pytest.MonkeyPatch, hangs: float
) -> None:
    monkeypatch.setattr(replay, "REQUEST_TIMEOUT", 1.5)
    one = gateway.versions[NEW]
    one.fails, one.status, one.silent, one.hangs = 8, 503, True, hangs

    found = analyse(trial, concurrency=32)
    lost = check(found, "unattributed")
    assert (found.verdict, found.canary.errors, lost.passed) == ("roll_back", 0, False)
    assert found.reason.endswith(lost.detail.removeprefix("not enough evidence: "))
    assert lost.detail.endswith("points higher; 5 are allowed")
    assert lost.value > 0.08  # one in eight hangs


def test_a_few_that_nobody_owns_up_to_are_no_obstacle(trial: Any, gateway: Any, analyse: Any) -> None:
    one = gateway.versions[NEW]
    one.fails, one.status, one.silent = 50, 503, True

    found = analyse(trial)
    assert (found.verdict, check(found, "unattributed").passed) == ("promote", True)
    assert found.unanswered > 0


def test_a_row_that_is_asked_twice_is_one_proof(trial: Any, analyse: Any) -> None:
    found = analyse(trial, paired_rows=500)

    assert check(found, "accuracy_change").detail.startswith("accuracy: on 120 rows that both answered, ")


def test_rows_that_could_not_show_a_limit_are_refused(trial: Any, gateway: Any, analyse: Any) -> None:
    with pytest.raises(ConfigError, match=r"min_agreement=0\.98 cannot be shown: split test has 120 rows"):
        analyse(trial, min_agreement=0.98, paired_rows=500)
    assert gateway.asked == 0


def test_a_first_version_must_answer(first: Any, gateway: Any, analyse: Any) -> None:
    found = analyse(first, "good", "run-1")

    assert (found.verdict, found.stable, found.canary.requests, found.traffic_percent) == ("first", None, 50, 100)
    assert gateway.asked == 50


def test_a_first_version_has_time_until_the_gateway_is_back(first: Any, gateway: Any, analyse: Any) -> None:
    back = threading.Timer(0.2, setattr, (gateway, "down", False))
    gateway.after[20] = lambda: (setattr(gateway, "down", True), back.start())

    found = analyse(first, "good", "run-1", rate=500)
    assert (found.verdict, found.canary.requests, found.unanswered > 0) == ("first", 50, True)


def test_a_first_version_that_nobody_hears_of_is_sent_back(first: Any, gateway: Any, analyse: Any) -> None:
    one = gateway.versions[OLD]
    one.fails, one.status, one.silent = 1, 503, True

    found = analyse(first, "good", "run-1", max_error_rate_increase=1, requests=60)
    assert (found.verdict, found.canary.requests, gateway.asked) == ("roll_back", 0, 60)
    assert found.reason.startswith("not enough evidence: 0 answers of the first version, 60 of at most 60 requests in ")


def test_a_first_version_that_fails_is_sent_back(first: Any, gateway: Any, analyse: Any) -> None:
    gateway.versions[OLD].fails = 4

    found = analyse(first, "good", "run-1")
    assert found.verdict == "roll_back"
    assert found.reason.startswith("12 errors in 50 answers; no stable version")


def test_the_stable_version_has_nothing_to_prove(trial: Any, analyse: Any, gateway: Any) -> None:
    CanaryLease(trial, "sides", "run-2").release()
    return_to_stable(trial, "sides", 5)
    found = analyse(trial, "good", "run-3")

    assert (found.verdict, found.canary.requests, gateway.asked) == ("promote", 0, 0)
    assert "has all traffic already" in found.reason


def test_a_version_that_is_not_on_trial_cannot_be_judged(trial: Any, plane: Any, analyse: Any) -> None:
    with pytest.raises(StepError, match="is not on trial"):
        analyse(trial, "wrong")
    trial.lapse("sides")
    trial.settled("sides")
    with pytest.raises(StepError, match="the lease lapsed and the traffic went back"):
        analyse(trial)


def test_bad_input_is_refused(trial: Any, analyse: Any, no_validation_rows: Path) -> None:
    with pytest.raises(StepError, match=r"split validation of .* has no rows to send"):
        analyse(trial, dataset=no_validation_rows, split="validation")
    with pytest.raises(ContractError, match="has no split 'holdout'"):
        analyse(trial, split="holdout")
