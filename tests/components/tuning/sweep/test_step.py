"""The sweep step against a Katib in memory: what it believes, what it adopts, what it leaves, and how it fails."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.reports import PAGE, SweepReport
from penstock.components.control.base import JobFailed, ObjectConflict, ObjectRef
from penstock.components.training.worker.config import WorkFolder
from penstock.components.tuning.sweep import step
from penstock.components.tuning.sweep.step import TRIALS, SweepConfig, run

EXPERIMENT = ObjectRef("kubeflow.org/v1beta1", "Experiment", "sweep-r-1")
TRAIN: dict[str, object] = {"network": "linear", "epochs": 5.0, "learning_rate": 0.6, "timeout_minutes": 5}
SPACE = {"learning_rate": {"type": "double", "min": 0.1, "max": 1}}
Sweep = Callable[..., dict[str, object]]


def answer(parameters: dict[str, str]) -> float:
    """Best at 0.3."""
    return 0.9 - abs(float(parameters["learning_rate"]) - 0.3)


@pytest.fixture
def sweep(shapes: Path, tmp_path: Path) -> Sweep:
    """Run the step on four trials."""
    def go(report: str = "report", train: dict[str, object] = TRAIN, **options: object) -> dict[str, object]:
        own = {"max_trials": 4, "parameters": SPACE, "trial": {"epochs": 1}, "work": str(tmp_path / "work")}
        return run(shapes, tmp_path / report, train, SweepConfig.parse(own | options), run_id="r-1")

    return go


@pytest.fixture
def plane(memory_plane: Any, rates: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Katib whose trials are best at a learning rate of 0.3, and whom the step is connected to."""
    found = memory_plane(answer, rates)
    monkeypatch.setattr(step, "connect", lambda: found)
    return found


def failing(text: str) -> Callable[[dict[str, str]], float]:
    def trial(parameters: dict[str, str]) -> float:
        raise ValueError(f"{text} at {parameters['learning_rate']}")

    return trial


def test_no_sweep_passes_the_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PLANE", "none")  # it would need one

    assert run(tmp_path / "no-data", tmp_path / "report", TRAIN, SweepConfig(), run_id="r-1") == TRAIN
    report = SweepReport.load(tmp_path / "report")
    assert (report.verdict, report.best, report.trials, report.changed) == ("off", "", (), {})
    assert "training takes the options as they are" in (tmp_path / "report" / PAGE).read_text()
    assert run(tmp_path / "no-data", tmp_path / "report", TRAIN, SweepConfig(), run_id="r-1") == TRAIN


def test_the_best_trials_parameters_go_into_the_training(
        plane: Any, sweep: Sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    assert sweep() == TRAIN | {"learning_rate": 0.3}

    report = SweepReport.load(tmp_path / "report")
    assert report.verdict == "succeeded"
    assert report.reason == "validation_accuracy 0.9 with learning_rate 0.3: the best of 4 trials"
    assert (report.best, report.best_value, report.changed) == ("sweep-r-1-trial002", 0.9, {"learning_rate": "0.3"})
    assert [trial.metrics["validation_accuracy"] for trial in report.trials] == pytest.approx([0.7, 0.8, 0.9, 0.8])
    assert {trial.seconds for trial in report.trials} == {7.0}
    assert (tmp_path / "report" / TRIALS).read_text().splitlines()[:2] == [
        "trial,status,seconds,learning_rate,validation_accuracy,train_loss,reason",
        "sweep-r-1-trial000,Succeeded,7,0.1,0.7,0.25,"]
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("trial=")]
    assert lines == [
        f"trial=sweep-r-1-trial00{index} status=Succeeded learning_rate={rate} validation_accuracy={value} best={best} "
        f"trials={index + 1}/4" for index, (rate, value, best) in enumerate(
            [("0.1", "0.7", "0.7"), ("0.4", "0.8", "0.8"), ("0.3", "0.9", "0.9"), ("0.2", "0.8", "0.9")])]


def test_a_loss_is_minimized(plane: Any, sweep: Sweep) -> None:
    plane.trial = lambda parameters: float(parameters["learning_rate"])

    assert sweep(objective="validation_loss", direction="minimize")["learning_rate"] == 0.1


def test_what_is_no_number_is_never_the_best(plane: Any, sweep: Sweep, tmp_path: Path) -> None:
    plane.trial = lambda parameters: "nan" if parameters["learning_rate"] == "0.3" else answer(parameters)

    assert sweep()["learning_rate"] == 0.4

    report = SweepReport.load(tmp_path / "report")
    assert [trial.status for trial in report.trials] == ["Succeeded", "Succeeded", "MetricsUnavailable", "Succeeded"]
    assert report.trials[2].reason == "validation_accuracy is unavailable, not a finite number"
    assert report.trials[2].metrics == {"train_loss": 0.25}
    assert report.reason.endswith("the best of 3 trials; 1 more came to nothing")


def test_every_trial_without_a_number_is_no_success(plane: Any, sweep: Sweep, tmp_path: Path) -> None:
    plane.trial = lambda parameters: "inf"

    with pytest.raises(StepError, match=r"4 of 4 trials failed [^v]*: validation_accuracy is unavailable, not a"):
        sweep()
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("allowed", "tried", "state"), [(4, 4, ""), (1, 2, r": ExperimentFailed: Experiment has "
                                                                           "failed because max failed count")])
def test_every_trial_failing_names_the_last_error(
        plane: Any, sweep: Sweep, tmp_path: Path, allowed: int, tried: int, state: str) -> None:
    plane.trial = failing("loss is infinite")

    with pytest.raises(StepError) as caught:
        sweep(max_failed_trials=allowed)

    first, *rest = str(caught.value).splitlines()
    rate = plane.points[tried - 1]["learning_rate"]
    assert first.startswith(f"Experiment default/sweep-r-1 came to nothing: {tried} of {tried} trials failed "
                            f"(max_failed_trials={allowed})")
    assert state.removeprefix(": ") in first
    assert rest == [f"the last, sweep-r-1-trial00{tried - 1} with learning_rate={rate}: loss is infinite at {rate}",
                    "last log lines:", "07:00 INFO begins", f"07:01 ERROR loss is infinite at {rate}"]
    assert not (tmp_path / "report").exists()


def test_a_few_failures_are_listed_with_their_errors(plane: Any, sweep: Sweep, tmp_path: Path) -> None:
    plane.trial = lambda parameters: (failing("diverged") if parameters == plane.points[1] else answer)(parameters)

    assert sweep()["learning_rate"] == 0.3

    failed = SweepReport.load(tmp_path / "report").trials[1]
    assert (failed.status, failed.reason) == ("Failed", "diverged at 0.4")


def test_a_divergence_is_read_from_the_work_folder(plane: Any, sweep: Sweep, tmp_path: Path) -> None:
    def trial(parameters: dict[str, str]) -> float:
        if parameters["learning_rate"] == "0.4":
            WorkFolder(tmp_path / "work" / "sweep-r-1-trial001").mark_hopeless("training diverged: loss is nan")
            raise ValueError("something else")
        return answer(parameters)

    plane.trial = trial
    sweep()

    assert SweepReport.load(tmp_path / "report").trials[1].reason == "training diverged: loss is nan"


def test_a_goal_that_the_first_trial_meets_ends_the_search(plane: Any, sweep: Sweep, tmp_path: Path) -> None:
    assert sweep(goal=0.6)["learning_rate"] == 0.1

    report = SweepReport.load(tmp_path / "report")
    assert len(report.trials) == 1
    assert report.reason.endswith("the best of 1 trials, which ended early: goal 0.6 is reached")


def test_networks_of_trials_go_and_what_they_logged_stays(plane: Any, sweep: Sweep, tmp_path: Path) -> None:
    def trial(parameters: dict[str, str]) -> float:
        folder = tmp_path / "work" / f"sweep-r-1-trial{rates.index(parameters['learning_rate']):03d}"
        for name in ("model/weights.safetensors", "checkpoints/epoch-0001/state", "tensorboard/events"):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_bytes(b"0")
        return answer(parameters)

    rates = [point["learning_rate"] for point in plane.points]
    plane.trial = trial
    (tmp_path / "work" / "other" / "model").mkdir(parents=True)
    sweep()

    left = sorted(path.relative_to(tmp_path / "work").as_posix() for path in (tmp_path / "work").rglob("*")
                  if not any(path.glob("*")))
    assert left == ["other/model", *(f"sweep-r-1-trial00{index}/tensorboard/events" for index in range(4))]


def test_a_repeated_step_takes_its_report(plane: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep()
    monkeypatch.setattr(step, "connect", lambda: pytest.fail("it has its answer"))

    assert sweep() == first
    with pytest.raises(ContractError, match="holds the report of another sweep"):
        sweep(seed=1)


def test_a_finished_experiment_is_adopted(plane: Any, sweep: Sweep) -> None:
    first = sweep()

    assert sweep(report="again") == first
    assert plane.applied == ["sweep-r-1"]


def test_a_running_experiment_is_adopted(plane: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:  # as SIGKILL would: nothing is deleted
        patch.setattr(step, "_wait", kill)
        patch.setattr(plane, "delete", lambda ref: None)
        with pytest.raises(Killed):
            sweep()
    for _, _ in zip(range(3), plane.watch(EXPERIMENT, timedelta(seconds=1)), strict=False):
        pass
    assert len(plane.trials()) >= 1

    assert sweep()["learning_rate"] == 0.3
    assert plane.applied == ["sweep-r-1"]
    assert len(plane.trials()) == 4


def test_a_failed_or_other_experiment_is_replaced_when_it_has_ended(plane: Any, sweep: Sweep) -> None:
    plane.trial = failing("no")
    with pytest.raises(StepError):
        sweep()
    plane.trial = answer
    plane.objects = {ref: found for ref, found in plane.objects.items() if ref.kind == "Experiment"}
    sweep()
    assert plane.applied == ["sweep-r-1"] * 2

    plane.objects = {ref: found for ref, found in plane.objects.items() if ref.kind == "Experiment"}
    sweep(report="other", seed=1)
    assert plane.applied == ["sweep-r-1"] * 3


def test_another_living_experiment_stays(plane: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def conflict(manifest: object) -> None:
        raise ObjectConflict("it is kept by the living process 7")

    monkeypatch.setattr(plane, "apply", conflict)

    with pytest.raises(ObjectConflict, match="living process 7"):
        sweep()
    assert plane.deleted == []


def test_an_experiment_that_takes_too_long_is_ended(plane: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "watch", lambda ref, timeout: iter([plane.get(ref)]))

    with pytest.raises(JobFailed, match=r"has not finished within timeout_minutes=1e-05, with 0 of max_trials=4 done"):
        sweep(timeout_minutes=1e-5)
    assert plane.get(EXPERIMENT) is None


def test_an_experiment_that_somebody_deletes_is_missed(
        plane: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "watch", lambda ref, timeout: iter([plane.objects.pop(ref)]))

    with pytest.raises(JobFailed, match="was deleted by somebody else"):
        sweep()


def test_an_impossible_sweep_starts_nothing(plane: Any, sweep: Sweep) -> None:
    for options in ({"parameters": {"momentum": {"type": "double", "min": 0.5, "max": 1}}},
                    {"settings": {"gamma": "much"}}):
        with pytest.raises(ConfigError):
            sweep(**options)
    assert plane.applied == []
