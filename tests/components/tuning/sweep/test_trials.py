"""Trials as a real Katib 0.19 writes them, read for what they are worth."""

from typing import Any

import pytest

from penstock.components.contracts.reports import SweepTrial
from penstock.components.control.base import ObjectRef
from penstock.components.tuning.sweep.trials import best_trial, read_trial, table_csv, trial_names

REF = ObjectRef("kubeflow.org/v1beta1", "Trial", "sweep-r-1-abcdefgh")
GOOD = [{"name": "validation_accuracy", "latest": "9.1e-01", "min": "5.0e-01", "max": "9.2e-01"}]


class Shelf:
    """A plane of which only `get` is asked."""

    def __init__(self, conditions: dict[str, str], metrics: list[dict[str, str]], **status: str) -> None:
        entries = [{"type": kind, "status": "True", "reason": text.partition(":")[0],
                    "message": text.partition(": ")[2]} for kind, text in conditions.items()]
        self.found = {"spec": {"parameterAssignments": [{"name": "learning_rate", "value": "0.1"}]},
                      "status": {"conditions": entries, "observation": {"metrics": metrics}} | status}

    def get(self, ref: ObjectRef) -> dict[str, Any]:
        assert ref == REF
        return self.found


def read(conditions: dict[str, str], metrics: list[dict[str, str]], **status: str) -> SweepTrial:
    found = read_trial(Shelf(conditions, metrics, **status), REF, "validation_accuracy")  # type: ignore[arg-type]
    assert found
    return found[1]


def test_a_success_has_the_last_epochs_metrics() -> None:
    found = read({"Created": "", "Succeeded": "TrialSucceeded"}, GOOD,
                 startTime="2026-11-21T10:00:00Z", completionTime="2026-11-21T10:01:05Z")

    assert found == SweepTrial(name=REF.name, status="Succeeded", parameters={"learning_rate": "0.1"},
                               metrics={"validation_accuracy": 0.91}, seconds=65.0, reason="")


@pytest.mark.parametrize(("conditions", "metrics", "status", "reason"), [
    ({"Failed": "TrialFailed: Trial has failed. Job reason: BackoffLimitExceeded"}, [], "Failed",
     "TrialFailed: Trial has failed. Job reason: BackoffLimitExceeded"),
    ({"Succeeded": "TrialSucceeded", "MetricsUnavailable": "TrialMetricsUnavailable: Metrics are not available"},
     [{"name": "validation_accuracy", "latest": "unavailable"}], "MetricsUnavailable",
     "TrialMetricsUnavailable: Metrics are not available"),
    ({"Succeeded": "TrialSucceeded"}, [{"name": "validation_accuracy", "min": "unavailable", "max": "unavailable"}],
     "MetricsUnavailable", "validation_accuracy is unavailable, not a finite number"),
    ({"Succeeded": "TrialSucceeded"}, [{"name": "validation_accuracy", "latest": "inf"}], "MetricsUnavailable",
     "validation_accuracy is inf, not a finite number"),
    ({"Succeeded": "TrialSucceeded"}, [], "MetricsUnavailable", "validation_accuracy is missing, not a finite number"),
    ({"Killed": "TrialKilled: Trial is killed"}, GOOD, "Killed", "TrialKilled: Trial is killed"),
    ({"Created": "TrialCreated", "Running": "TrialRunning: Trial is running"}, GOOD, "Running",
     "TrialRunning: Trial is running"),
    ({"Running": "TrialRunning", "EarlyStopped": "TrialEarlyStopped"}, GOOD, "EarlyStopped", ""),
])
def test_what_else_becomes_of_a_trial(
        conditions: dict[str, str], metrics: list[dict[str, str]], status: str, reason: str) -> None:
    found = read(conditions, metrics)

    assert (found.status, found.reason, found.seconds) == (status, reason, 0.0)


def trial(name: str, value: float, reason: str = "") -> SweepTrial:
    return SweepTrial(name=name, status="Succeeded", parameters={"learning_rate": name}, seconds=1.5, reason=reason,
                      metrics={} if reason else {"loss": value})


def test_the_best_is_the_first_of_the_best_candidates() -> None:
    trials = [trial("a", 0.5), trial("b", 0.2), trial("c", 0.9, "failed"), trial("d", 0.5), trial("e", 0.2)]

    assert best_trial(trials, "loss", "maximize") == trials[0]
    assert best_trial(trials, "loss", "minimize") == trials[1]
    assert best_trial(trials[2:3], "loss", "maximize") is None


def test_names_from_the_lists_of_an_experiment() -> None:
    experiment = {"status": {"runningTrialList": ["c", "b"], "succeededTrialList": ["a"], "failedTrialList": None}}

    assert trial_names(experiment) == ["a", "c", "b"]
    assert trial_names(experiment, ended_only=True) == ["a"]
    assert trial_names({}) == []


def test_a_row_for_each_trial() -> None:
    assert table_csv([trial("0.1", 0.5), trial("0.2", 0.5, 'it said "no", twice')]).decode().splitlines() == [
        "trial,status,seconds,learning_rate,loss,reason",
        "0.1,Succeeded,1.5,0.1,0.5,",
        '0.2,Succeeded,1.5,0.2,,"it said ""no"", twice"']
