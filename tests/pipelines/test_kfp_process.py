"""What the child of `penstock run` makes of a pipeline: its order of steps, its events, its logs."""

import io
import json
import logging
from pathlib import Path

import pytest

from penstock.pipelines.kfp_process import Observer, StepOutput, step_order
from penstock.pipelines.progress import Progress
from penstock.pipelines.run_folder import RunFolder


def test_steps_are_listed_in_the_order_in_which_they_run() -> None:
    inner = {"tasks": {"b-two": {"componentRef": {"name": "leaf"}, "dependentTasks": ["a"]},
                       "a": {"componentRef": {"name": "leaf"}}}}
    outer = {"tasks": {"restore": {"componentRef": {"name": "leaf"}, "dependentTasks": ["exit-handler-1"]},
                       "exit-handler-1": {"componentRef": {"name": "inner"}}}}
    specification = {"root": {"dag": outer}, "components": {"inner": {"dag": inner}, "leaf": {}}}

    assert step_order(specification) == ["a", "b_two", "restore"]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.logs.mkdir()
    return folder


def test_kfps_records_become_events_and_prints_the_steps_log(folder: RunFolder) -> None:
    shown = io.StringIO()
    output = StepOutput(folder)
    observer = Observer(folder, output, shown)

    def log(text: str) -> bool:
        return observer.filter(logging.LogRecord("root", logging.INFO, "", 0, text, None, None))

    task = folder.steps / "p-2026" / "roll-out"
    task.mkdir(parents=True)
    metrics = {"metrics": {"artifacts": [{"name": "metrics", "uri": str(task / "metrics"), "metadata": {"a": 1.0}}]}}
    (task / "executor_output.json").write_text(json.dumps({"artifacts": metrics}), encoding="utf-8")

    observer.tell("planned", steps=("ingest", "roll_out", "require"))
    log("Task ingest cache hit (key=e3032bcce82e); skipping execution.")
    log("Executing task \x1b[96m'roll-out'\x1b[0m")
    for text in ("    ", "at 20 %\n", "    ", "  indented\n"):
        output.write(text)
    log("Task \x1b[96m'roll-out'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m")
    output.write("between two steps\n")
    log("Executing task 'require'")
    kept = log("Task 'require' finished with status \x1b[91mFAILURE\x1b[0m")

    assert not kept  # handled here: nothing reaches kfp's handlers
    assert [(step.name, step.status) for step in Progress.read(folder.events)] == [
        ("ingest", "cached"), ("roll_out", "succeeded"), ("require", "failed")]
    assert folder.events.read_text(encoding="utf-8") == shown.getvalue()
    assert folder.log("roll_out").read_text(encoding="utf-8") == "at 20 %\n  indented\n"
    assert (task / "metrics").is_file()  # without a file, kfp would not take the step from its cache


def test_when_ending_the_running_step_is_heard_out_and_tells_nothing(folder: RunFolder) -> None:
    output = StepOutput(folder)
    observer = Observer(folder, output, io.StringIO())
    started = logging.LogRecord("root", logging.INFO, "", 0, "Executing task 'train'", None, None)
    observer.filter(started)
    observer.ending = True

    output.write("cancelled\n")
    ended = logging.LogRecord("root", logging.ERROR, "", 0, "Task 'train' finished with status FAILURE", None, None)
    observer.filter(ended)

    assert list(Progress.read(folder.events).names("running")) == ["train"]
    assert folder.log("train").read_text(encoding="utf-8") == "cancelled\n"
