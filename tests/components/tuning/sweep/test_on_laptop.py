"""The sweep step on the laptop plane: real trials of a linear network, one of which diverges, and a step cut off."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from penstock.components.contracts.errors import StepError
from penstock.components.contracts.reports import SweepReport
from penstock.components.control.base import Manifest, ObjectRef
from penstock.components.control.connect import connect
from penstock.components.data.split.step import SplitConfig
from penstock.components.data.split.step import run as split
from penstock.components.tuning.sweep.step import TRIALS, SweepConfig, run

EXPERIMENT = ObjectRef("kubeflow.org/v1beta1", "Experiment", "sweep-r-1")
TRAIN: dict[str, object] = {"network": "linear", "epochs": 5, "batch_size": 32, "crop_padding": 0, "warmup": 0,
                            "weight_decay": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shapes with a validation split."""
    folder = tmp_path_factory.mktemp("sweep") / "data"
    split(shapes, folder, SplitConfig())
    return folder


def grid(*rates: float, **options: object) -> dict[str, object]:
    return {"max_trials": len(rates), "parallel_trials": 2, "algorithm": "grid", "trial": {"epochs": 2},
            "timeout_minutes": 10,
            "parameters": {"learning_rate": {"type": "discrete", "list": [*rates]}}} | options


def test_the_best_of_real_trials_and_why_another_failed(home: Path, data: Path, tmp_path: Path) -> None:
    options = grid(0.05, 100, trial={"epochs": 20})

    found = run(data, tmp_path / "report", TRAIN, SweepConfig.parse(options), run_id="r-1")

    assert found == TRAIN | {"learning_rate": 0.05}
    report = SweepReport.load(tmp_path / "report")
    good, bad = sorted(report.trials, key=lambda trial: trial.reason)
    assert (good.name, good.parameters) == (report.best, {"learning_rate": "0.05"})
    assert set(good.metrics) == {"validation_accuracy", "validation_loss", "train_loss"}
    assert good.metrics["validation_accuracy"] == report.best_value > 0.25
    assert (bad.status, bad.parameters) == ("Failed", {"learning_rate": "100"})
    assert bad.reason.startswith("training diverged: loss is ")
    assert len((tmp_path / "report" / TRIALS).read_text().splitlines()) == 3
    assert not [*tmp_path.rglob("*.safetensors"), *tmp_path.rglob("checkpoints")]
    assert [*tmp_path.glob(f"report-work/{report.best}/tensorboard/events*")]


def test_every_trial_failing_fails_the_step_with_the_last_error(home: Path, data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in data.iterdir():
        (broken / path.name).write_bytes(b"no parquet" if path.name.startswith("train-") else path.read_bytes())

    with pytest.raises(StepError) as caught:
        run(broken, tmp_path / "report", TRAIN, SweepConfig.parse(grid(0.05)), run_id="r-1")

    text = str(caught.value)
    assert "came to nothing: 1 of 1 trials failed (max_failed_trials=3)" in text
    assert "train-00000.parquet is not the file that manifest.json describes" in text.splitlines()[1]
    assert not (tmp_path / "report").exists()


STEP = """
import json, logging, sys
from penstock.components.tuning.sweep.step import SweepConfig, run
logging.basicConfig(level=logging.INFO)
data, report, train, options = sys.argv[1:]
run(data, report, json.loads(train), SweepConfig.parse(json.loads(options)), run_id="r-1")
"""


def started(data: Path, folder: Path, options: dict[str, object]) -> subprocess.Popen[bytes]:
    arguments = [str(data), str(folder / "report"), json.dumps(TRAIN), json.dumps(options)]
    with (folder / "step.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", STEP, *arguments], stdout=log, stderr=log)


def first_ended(folder: Path) -> Manifest:
    """Wait until one trial has succeeded, and return the Experiment."""
    deadline = time.monotonic() + 120
    while True:
        found = connect().get(EXPERIMENT)
        if found and found.get("status", {}).get("succeededTrialList"):
            return found
        assert time.monotonic() < deadline, (folder / "step.log").read_text()
        time.sleep(0.05)


def trainings(folder: Path) -> list[list[str]]:
    """Return the command lines of what works below `folder`."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if any(word.startswith(str(folder)) for word in line)]


@pytest.mark.slow
def test_a_killed_step_goes_on_with_what_its_trials_found(home: Path, data: Path, tmp_path: Path) -> None:
    options = grid(0.05, 0.1, parallel_trials=1)
    step = started(data, tmp_path, options)
    try:
        earlier = first_ended(tmp_path)
    finally:
        step.kill()
    assert step.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "report").exists()

    run(data, tmp_path / "report", TRAIN, SweepConfig.parse(options), run_id="r-1")

    report, done = SweepReport.load(tmp_path / "report"), connect().get(EXPERIMENT)
    assert done
    assert done["metadata"]["uid"] == earlier["metadata"]["uid"]
    assert [trial.status for trial in report.trials] == ["Succeeded", "Succeeded"]
    assert report.trials[0].name == earlier["status"]["succeededTrialList"][0]
    assert trainings(tmp_path) == []


@pytest.mark.slow
def test_a_step_told_to_end_leaves_nothing_running(home: Path, data: Path, tmp_path: Path) -> None:
    step = started(data, tmp_path, grid(0.05, 0.1, parallel_trials=1))
    try:
        first_ended(tmp_path)
        assert trainings(tmp_path)
    finally:
        step.terminate()
    assert step.wait(timeout=60) == 128 + signal.SIGTERM

    assert connect().get(EXPERIMENT) is None
    assert trainings(tmp_path) == []
    assert not (tmp_path / "report").exists()
