"""Metrics in a trial's lines, how it ends, and what becomes of an Experiment: by value, as Katib 0.19 has it."""

from typing import Any

import pytest

from penstock.components.control.base import Manifest, condition
from penstock.components.control.laptop.experiment_status import decide, is_over, mark, summarise, trial_state
from penstock.components.control.laptop.trials import Metrics, end_trial, make_trial, objective_of, trial_name

OBJECTIVE: dict[str, Any] = {
    "type": "maximize", "objectiveMetricName": "accuracy", "additionalMetricNames": ["loss"],
    "metricStrategies": [{"name": "accuracy", "value": "max"}, {"name": "loss", "value": "latest"}]}


def observe(*lines: str) -> dict[str, dict[str, str]]:
    metrics = Metrics(OBJECTIVE)
    for line in lines:
        metrics.read(line)
    return {entry.pop("name"): entry for entry in metrics.observation()}


def values(**texts: str) -> dict[str, str]:
    return texts


UNAVAILABLE = values(min="unavailable", max="unavailable", latest="unavailable")


@pytest.mark.parametrize(("lines", "accuracy"), [
    (["accuracy=0.5"], values(min="0.5", max="0.5", latest="0.5")),
    (["epoch 1 accuracy=0.5, loss=2", "accuracy = .75", "accuracy=6e-1"], values(min="0.5", max=".75", latest="6e-1")),
    (["accuracy=0.9 accuracy=0.1"], values(min="0.1", max="0.9", latest="0.1")),
    (["accuracy=1,234"], values(min="1", max="1", latest="1")),
    (["val/accuracy=0.5"], values(min="0.5", max="0.5", latest="0.5")),  # the name ends where \w does
    (["2026-11-21T10:00:02Z accuracy=0.9", "2026-11-21T10:00:01.5Z accuracy=0.8"],
     values(min="0.8", max="0.9", latest="0.9")),
    (["2026-11-21T10:00:02Z accuracy=0.9", "accuracy=0.8"], values(min="0.8", max="0.9", latest="0.9")),
    (["2026-11-21T10:00:02.123456789Z accuracy=0.9", "2026-11-21T12:00:01+02:00 accuracy=0.8"],
     values(min="0.8", max="0.9", latest="0.9")),
    (["2026-02-31T10:00:00Z accuracy=0.9", "accuracy=0.7"], values(min="0.7", max="0.9", latest="0.7")),
    (["accuracy=0.9", "accuracy=nan"], values(min="0.9", max="0.9")),
    (["accuracy=nan"], values(min="unavailable", max="unavailable")),
    (["accuracy=1e999"], values(min="unavailable", max="unavailable", latest="1e999")),
    (["accuracy: 0.9", "{'accuracy': 0.9}", "accuracies=0.1"], UNAVAILABLE),
    (["loss=0.1"], UNAVAILABLE),
    ([], UNAVAILABLE),
])
def test_lines_are_read_as_katibs_collector_reads_them(lines: list[str], accuracy: dict[str, str]) -> None:
    assert observe(*lines)["accuracy"] == accuracy


def test_without_the_objective_no_metric_counts() -> None:
    assert observe("loss=0.5") == {"accuracy": UNAVAILABLE, "loss": UNAVAILABLE}
    assert observe("loss=0.5", "accuracy=1")["loss"] == values(min="0.5", max="0.5", latest="0.5")


def experiment(**spec: Any) -> Manifest:
    """An Experiment as it is in the store; its trials' job has one field, which is enough here."""
    return {
        "apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment", "status": {},
        "metadata": {"name": "sweep", "namespace": "default", "uid": "u-1", "labels": {"team": "a"}},
        "spec": {
            "objective": OBJECTIVE, "maxTrialCount": 4,
            "trialTemplate": {
                "primaryContainerName": "pytorch", "trialParameters": [{"name": "lr", "reference": "rate"}],
                "trialSpec": {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob",
                              "spec": {"rate": "${trialParameters.lr}"}}}} | spec}


def trial(*lines: str, job: str = "Succeeded", objective: dict[str, Any] = OBJECTIVE) -> Manifest:
    """A trial that has ended with these lines."""
    made = make_trial(experiment(objective=objective), "sweep-1", 0, {"rate": "0.1"}) | {"status": {}}
    mark(made, "Running", "TrialRunning", "Trial is running")
    metrics = Metrics(made["spec"]["objective"])
    for line in lines:
        metrics.read(line)
    ended = {"type": job, "status": "True", "reason": f"PyTorchJob{job}", "message": "it is over"}
    end_trial(made, {"status": {"conditions": [{"type": "Running", "status": "False"}, ended]}}, metrics)
    return made


def test_trial_object_is_katibs() -> None:
    made = make_trial(experiment(), "sweep-1", 3, {"rate": "0.1"})
    assert made["metadata"]["labels"] == {"team": "a", "katib.kubeflow.org/experiment": "sweep"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    spec = made["spec"]
    assert spec["parameterAssignments"] == [{"name": "rate", "value": "0.1"}]
    assert spec["runSpec"]["metadata"] == {"name": "sweep-1", "namespace": "default"}
    assert spec["runSpec"]["spec"] == {"rate": "0.1"}
    assert spec["primaryPodLabels"] == {"training.kubeflow.org/job-role": "master"}
    assert spec["successCondition"] == 'status.conditions.#(type=="Succeeded")#|#(status=="True")#'
    assert spec["retainRun"] is False


def test_strategies_that_are_not_asked_for_have_the_objectives_direction() -> None:
    """Katib's defaulter does so for the other metrics too: a trap for a loss beside an accuracy."""
    plain = {"type": "minimize", "objectiveMetricName": "loss", "additionalMetricNames": ["accuracy", "time"],
             "metricStrategies": [{"name": "time", "value": "latest"}]}
    made = make_trial(experiment(objective=plain), "sweep-1", 0, {"rate": "1"})
    assert made["spec"]["objective"]["metricStrategies"] == [
        {"name": "time", "value": "latest"}, {"name": "loss", "value": "min"}, {"name": "accuracy", "value": "min"}]


def test_names_are_the_same_for_the_same_key_and_differ_by_number() -> None:
    names = [trial_name("sweep", "key", number) for number in range(50)]
    assert len(set(names)) == 50
    assert names[0] == trial_name("sweep", "key", 0) != trial_name("sweep", "other", 0)
    assert {len(name) for name in names} == {len("sweep-12345678")}


@pytest.mark.parametrize(("lines", "job", "state", "reason", "message"), [
    (["accuracy=0.9"], "Succeeded", "Succeeded", "TrialSucceeded. Job reason: PyTorchJobSucceeded",
     "Trial has succeeded. Job message: it is over"),
    ([], "Succeeded", "MetricsUnavailable", "MetricsUnavailable. Job reason: PyTorchJobSucceeded",
     "Metrics are not available. Job message: it is over"),
    (["accuracy=inf"], "Complete", "MetricsUnavailable", "MetricsUnavailable. Job reason: PyTorchJobComplete",
     "Metrics are not available. Job message: it is over"),
    (["accuracy=0.9"], "Failed", "Failed", "TrialFailed. Job reason: PyTorchJobFailed",
     "Trial has failed. Job message: it is over"),
])
def test_how_a_trial_ends(lines: list[str], job: str, state: str, reason: str, message: str) -> None:
    ended = trial(*lines, job=job)
    assert trial_state(ended) == state
    assert is_over(ended)
    assert condition(ended, "Running")["status"] == "False"
    assert {name: condition(ended, state)[name] for name in ("status", "reason", "message")} == {
        "status": "True", "reason": reason, "message": message}


@pytest.mark.parametrize(("strategy", "value"), [("max", 0.9), ("min", 0.2), ("latest", 0.4)])
def test_objective_is_by_its_strategy(strategy: str, value: float) -> None:
    asked = OBJECTIVE | {"metricStrategies": [{"name": "accuracy", "value": strategy}]}
    assert objective_of(trial("accuracy=0.9", "accuracy=0.2", "accuracy=0.4", objective=asked)) == value


def test_last_value_that_is_no_number_fails_the_trial_where_the_last_counts() -> None:
    latest = OBJECTIVE | {"metricStrategies": [{"name": "accuracy", "value": "latest"}]}
    assert trial_state(trial("accuracy=0.9", "accuracy=nan", objective=latest)) == "MetricsUnavailable"
    assert trial_state(trial("accuracy=0.9", "accuracy=nan")) == "Succeeded"  # its max is 0.9, as in Katib


def stand(*states: str, best: tuple[float | None, ...] = (), **spec: Any) -> tuple[str, str]:
    """Return type and reason of the next condition of an Experiment whose trials are in these states."""
    asked = experiment(**spec)
    trials: list[Manifest] = []
    for number, state in enumerate(states):
        made = {"metadata": {"name": f"t{number}"}, "spec": {"parameterAssignments": []},
                "status": {"observation": {"metrics": []}}}
        if state != "Pending":
            mark(made, state, "Reason", "")
        trials.append(made)
    objectives = [*best, *[None] * (len(states) - len(best))]
    summarise(asked["status"], trials, objectives, maximize=asked["spec"]["objective"]["type"] == "maximize")
    kind, reason, _ = decide(asked, objectives)
    return kind, reason


GOAL, MAX = ("Succeeded", "ExperimentGoalReached"), ("Succeeded", "ExperimentMaxTrialsReached")
FAILED, RUNNING = ("Failed", "ExperimentFailed"), ("Running", "ExperimentRunning")
WITH_GOAL = OBJECTIVE | {"goal": 0.9}
LEAST = OBJECTIVE | {"goal": 0.1, "type": "minimize"}


@pytest.mark.parametrize(("found", "wanted"), [
    (stand(), RUNNING),
    (stand("Running", "Pending"), RUNNING),
    (stand("Succeeded", "Succeeded", "Succeeded", "Succeeded"), MAX),
    (stand("Failed", "MetricsUnavailable", "Killed", "Succeeded"), MAX),
    (stand("Failed", "Failed", "Failed", "Failed"), MAX),  # Katib: Succeeded, though without a best trial
    (stand("Failed", maxFailedTrialCount=2), RUNNING),
    (stand("Failed", "MetricsUnavailable", maxFailedTrialCount=2), FAILED),
    (stand("Succeeded", maxFailedTrialCount=0), RUNNING),
    (stand("Failed", maxFailedTrialCount=0), FAILED),
    (stand("Failed", "Failed", "Failed", "Failed", maxFailedTrialCount=4), FAILED),
    (stand("Succeeded", best=(0.9,), objective=WITH_GOAL), GOAL),
    (stand("Succeeded", best=(0.89,), objective=WITH_GOAL), RUNNING),
    (stand("Succeeded", best=(0.1,), objective=LEAST), GOAL),
    (stand("Succeeded", best=(0.2,), objective=LEAST), RUNNING),
    (stand("Succeeded", "Failed", best=(0.95,), objective=WITH_GOAL, maxFailedTrialCount=1), GOAL),
    (stand("Succeeded", best=(0.0,), objective=OBJECTIVE | {"goal": 0}), GOAL),
])
def test_where_an_experiment_stands(found: tuple[str, str], wanted: tuple[str, str]) -> None:
    assert found == wanted


def test_summary_counts_lists_and_names_the_best() -> None:
    status: dict[str, Any] = {"trialsRunning": 9, "runningTrialList": ["old"]}
    trials = [trial("accuracy=0.5"), trial("accuracy=0.9"), trial("accuracy=0.9"), trial(), trial(job="Failed")]
    for number, one in enumerate(trials):
        one["metadata"]["name"] = f"t{number}"
    summarise(status, trials, [objective_of(one) for one in trials], maximize=True)
    best = status.pop("currentOptimalTrial")
    assert status == {
        "trials": 5, "trialsSucceeded": 3, "succeededTrialList": ["t0", "t1", "t2"], "trialsFailed": 1,
        "failedTrialList": ["t4"], "trialMetricsUnavailable": 1, "metricsUnavailableTrialList": ["t3"]}
    assert best["bestTrialName"] == "t1"
    assert best["parameterAssignments"] == [{"name": "rate", "value": "0.1"}]
    assert best["observation"]["metrics"][0] == {"name": "accuracy", "min": "0.9", "max": "0.9", "latest": "0.9"}
    summarise(status, trials, [objective_of(one) for one in trials], maximize=False)
    assert status["currentOptimalTrial"]["bestTrialName"] == "t0"
    summarise(status, trials[3:], [None, None], maximize=True)
    assert status["currentOptimalTrial"] == {"observation": {}}


def test_condition_that_says_the_same_keeps_its_time() -> None:
    made: Manifest = {"status": {"conditions": [
        {"type": "Running", "status": "True", "reason": "R", "message": "", "lastUpdateTime": "then",
         "lastTransitionTime": "then"}]}}
    mark(made, "Running", "R", "again")
    assert condition(made, "Running")["lastUpdateTime"] == "then"
    mark(made, "Running", "Other", "")
    assert condition(made, "Running")["lastTransitionTime"] == "then" != condition(made, "Running")["lastUpdateTime"]
