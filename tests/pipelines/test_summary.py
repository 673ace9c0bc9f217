"""What a summary reads: the newest outputs of finished steps, and who gets how much of the traffic."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.components.control.inference_service import SETTLED, Placement, inference_service
from penstock.pipelines.progress import Event, Progress
from penstock.pipelines.run_folder import RunFolder
from penstock.pipelines.step_outputs import StepOutputs
from penstock.pipelines.summary import TrafficPart, traffic_by_version


def leave(folder: RunFolder, start: str, task: str, value: str, whole: bool = True) -> Path:
    output = folder.steps / f"train-and-deploy-{start}" / task
    (output / "report").mkdir(parents=True)
    if whole:
        text = json.dumps({"parameterValues": {"Output": value}})
        (output / "executor_output.json").write_text(text, encoding="utf-8")
    return output


def progress_of(**statuses: Any) -> Progress:
    progress = Progress()
    for step, kind in statuses.items():
        progress.apply(Event(kind=kind, time=0, step=step))
    return progress


def test_the_newest_whole_output_of_a_step_that_is_done_counts(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    leave(folder, "2026-11-21-07-00-00", "roll-out", "old")
    newest = leave(folder, "2026-11-21-07-00-01", "roll-out", "new")
    leave(folder, "2026-11-21-07-00-02", "roll-out", "cut off", whole=False)
    leave(folder, "2026-11-21-07-00-02", "gate", "of the attempt before")

    outputs = StepOutputs(folder, progress_of(roll_out="cached", gate="started"))

    assert outputs.value("roll_out") == "new"
    assert outputs.artifact("roll_out", "report") == newest / "report"
    assert outputs.artifact("roll_out", "page") is None
    assert (outputs.value("gate"), outputs.artifact("gate", "report")) == ("", None)


def service(stable: str, canary: str, *traffic: tuple[str, int], newest: str = "s-00002") -> dict[str, Any]:
    entries = [{"revisionName": revision, "percent": percent} for revision, percent in traffic]
    isvc = inference_service("s", canary or stable, "file:///m", runtime="r", stable=Placement(stable, "", ""),
                             canary_percent=20 if canary else SETTLED)
    return isvc | {"status": {"components": {"predictor": {"latestCreatedRevision": newest, "traffic": entries}}}}


def test_traffic_is_told_by_version() -> None:
    split = service("aaa", "bbb", ("s-00002", 20), ("s-00001", 80))
    assert traffic_by_version(split) == (TrafficPart(version="aaa", percent=80), TrafficPart(version="bbb", percent=20))
    assert traffic_by_version(service("bbb", "", ("s-00002", 100))) == (TrafficPart(version="bbb", percent=100),)
    assert traffic_by_version(service("", "aaa", ("s-00001", 100), newest="s-00001")) == (
        TrafficPart(version="aaa", percent=100),)


def test_a_canary_that_never_started_gets_nothing_although_latest_has_a_share() -> None:
    broken = service("aaa", "bbb", ("s-00001", 20), ("s-00001", 80))
    assert traffic_by_version(broken) == (TrafficPart(version="aaa", percent=100),)


@given(st.integers(0, 100))
def test_no_share_is_lost(percent: int) -> None:
    parts = traffic_by_version(service("aaa", "bbb", ("s-00002", percent), ("s-00001", 100 - percent)))
    assert sum(part.percent for part in parts) == 100
    assert all(part.percent for part in parts)
