"""A run that is cut off, at every stage and by every signal, and goes on: nothing is left over, nothing done twice."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.components.control.laptop.plane import LaptopPlane
from penstock.components.control.lease import CanaryLease
from penstock.pipelines.progress import Progress
from penstock.pipelines.run_folder import RunFolder, all_runs
from penstock.pipelines.summary import Summary

pytestmark = pytest.mark.slow

START_SECONDS = 120.0  # for a stage to begin, on a busy machine
CACHED = ("ingest", "validate", "split", "sweep", "train", "evaluate", "export", "quantize", "verify_parity")
STAGES = ("ingest", "validate", "require", "split", "sweep", "train", "evaluate", "gate", "require_2", "export",
          "quantize", "verify_parity", "require_3", "register", "roll_out", "analyse_canary", "promote", "require_4",
          "restore")
ALSO = {"ingest": (signal.SIGINT,), "validate": (signal.SIGTERM,), "train": (signal.SIGINT, signal.SIGTERM),
        "analyse_canary": (signal.SIGINT,), "promote": (signal.SIGTERM,)}
CUTS = [(stage, number) for stage in STAGES for number in (signal.SIGKILL, *ALSO.get(stage, ()))]


@pytest.fixture(scope="module")
def serving(laptop: Any) -> Callable[[], str]:
    """Deploy a version that serves before any of the runs that are cut off; returns a way to ask for it."""
    done = laptop("run", "train_and_deploy", "--profile", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    return lambda: [version for _, status, version in summaries(laptop.folder) if status == "succeeded"][-1]


def summaries(folder: Path) -> list[tuple[str, str, str]]:
    """Return run id, status and version of every run that has ended, oldest first."""
    found = []
    for run, _ in all_runs(folder / "runs"):
        if run.summary.is_file():
            summary = Summary.model_validate_json(run.summary.read_bytes())
            found.append((run.run_id, summary.status, summary.model.version if summary.model else ""))
    return found


def newest(folder: Path) -> RunFolder:
    return list(all_runs(folder / "runs"))[-1][0]


def attempt(laptop: Any, resume: str, seed: int) -> subprocess.Popen[str]:
    """Start a run, or go on with one; a seed of its own makes it another version than any before."""
    if resume:
        process: subprocess.Popen[str] = laptop.start("run", "train_and_deploy", "--resume", resume)
        return process
    process = laptop.start(
        "run", "train_and_deploy", "--profile", "test", "--set", f"train.seed={seed}",
        "--set", "gate.max_accuracy_drop=1", "--set", "gate.max_slice_drop=1")
    return process


def wait_for(process: subprocess.Popen[str], stage: str, folder: Path, before: int) -> None:
    """Wait until the run that follows the first `before` ones is in `stage`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        runs = list(all_runs(folder / "runs"))
        if len(runs) > before and runs[-1][1].owner.pid == process.pid \
                and stage in Progress.read(runs[-1][0].events).names("running"):
            return
        time.sleep(0.01)
    raise AssertionError(f"{stage} did not begin: {process.communicate() if process.poll() is not None else 'in time'}")


def cut(laptop: Any, process: subprocess.Popen[str], number: signal.Signals, stage: str, before: int) -> RunFolder:
    """Send the signal to the program alone, once the run began `stage`, and return the run's folder."""
    wait_for(process, stage, laptop.folder, before)
    os.kill(process.pid, number)
    output, errors = process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), output + errors
    folder = newest(laptop.folder)
    if number != signal.SIGKILL:
        assert f"penstock run train_and_deploy --resume {folder.run_id}" in errors
    return folder


def test_one_run_cut_off_at_every_stage_goes_on(laptop: Any, serving: Callable[[], str]) -> None:
    before, stable, resume = len(list(all_runs(laptop.folder / "runs"))), serving(), ""
    for stage, number in CUTS:
        folder = cut(laptop, attempt(laptop, resume, seed=1), number, stage, before)
        resume = folder.run_id
        assert laptop.left_of_runs() == [], f"after {number.name} at {stage}"
        summary = Summary.model_validate_json(folder.summary.read_bytes())
        assert summary.status == "interrupted"
        assert summary.endpoint is not None
        shares = [(part.version, part.percent) for part in summary.endpoint.traffic]
        if STAGES.index(stage) < STAGES.index("promote"):
            assert shares == [(stable, 100)], f"after {number.name} at {stage}"
        assert [percent for _, percent in shares] == [100]

    with attempt(laptop, resume, seed=1) as process:
        output, errors = process.communicate()

    assert process.returncode == 0, output + errors
    steps = {step.name: step.status for step in Progress.read(folder.events)}
    assert [name for name in CACHED if steps[name] != "cached"] == []
    summary = Summary.model_validate_json(folder.summary.read_bytes())
    assert summary.status == "succeeded"
    assert summary.model is not None
    assert summary.endpoint is not None
    assert [(part.version, part.percent) for part in summary.endpoint.traffic] == [(summary.model.version, 100)]
    assert summary.model.version != stable
    assert laptop.left_of_runs() == []


def test_a_run_is_taken_up_once_and_waits_for_no_other_run(laptop: Any, serving: Callable[[], str],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    before, stable = len(list(all_runs(laptop.folder / "runs"))), serving()
    process = attempt(laptop, "", seed=2)
    wait_for(process, "ingest", laptop.folder, before)
    run_id = newest(laptop.folder).run_id
    refused = laptop("run", "train_and_deploy", "--resume", run_id)
    assert refused.returncode == 2
    assert f"run {run_id} is still running (process {process.pid})" in refused.stderr
    os.kill(process.pid, signal.SIGTERM)
    process.communicate()

    monkeypatch.setenv("PENSTOCK_HOME", laptop.environment["PENSTOCK_HOME"])
    monkeypatch.setenv("PENSTOCK_GATEWAY_PORT", laptop.environment["PENSTOCK_GATEWAY_PORT"])
    with CanaryLease(LaptopPlane(), "shapes", "another-run"):
        stopped = laptop("run", "train_and_deploy", "--resume", run_id)

    summary = Summary.model_validate_json(newest(laptop.folder).summary.read_bytes())
    assert stopped.returncode == 1
    assert "roll_out: run another-run holds the canary lease of service shapes" in stopped.stderr
    assert summary.endpoint is not None
    assert [(part.version, part.percent) for part in summary.endpoint.traffic] == [(stable, 100)]
