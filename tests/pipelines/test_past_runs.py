"""Old runs: listed for a person, removed by number or by age, and never the one that is live."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.pipelines.past_runs import list_runs, remove_runs
from penstock.pipelines.run_folder import Owner, RunFolder, RunRecord

GONE = Owner(pid=os.getpid(), created=1.0)  # our pid, another process


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))


def make_run(out: Path, run_id: str, status: str, days: float = 0, owner: Owner = GONE) -> None:
    folder = RunFolder(out / run_id)
    folder.path.mkdir(parents=True)
    (folder.path / "big").write_bytes(bytes(2_000_000))
    folder.save(RunRecord.model_validate({
        "run_id": run_id, "pipeline": "train_and_deploy", "profile": "test", "versions": {}, "stages": {},
        "scalars": {"service": "shapes", "registry": "/r"}, "status": status, "owner": owner,
        "started": (datetime.now(UTC) - timedelta(days=days)).isoformat()}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    out = tmp_path / "runs"
    make_run(out, "a", "succeeded", days=30)
    make_run(out, "b", "running", days=20, owner=Owner.of(os.getpid()))
    make_run(out, "c", "running", days=10)
    make_run(out, "d", "failed", days=1)
    return out


def test_a_run_that_was_killed_is_listed_as_interrupted(runs: Path) -> None:
    assert [line.split() for line in list_runs(runs)] == [
        ["a", "succeeded", "shapes"], ["b", "running", "shapes"], ["c", "interrupted", "shapes"],
        ["d", "failed", "shapes"]]


def test_all_but_the_newest_go_except_a_live_one(runs: Path) -> None:
    removed = dict(remove_runs(runs, keep=1, older_than=None))

    assert {*removed} == {"a", "c"}
    assert all(2 <= megabytes < 2.1 for megabytes in removed.values())
    assert sorted(path.name for path in runs.iterdir()) == ["b", "d"]


def test_old_ones_go_except_a_live_one(runs: Path) -> None:
    assert [run_id for run_id, _ in remove_runs(runs, keep=None, older_than=15)] == ["a"]
