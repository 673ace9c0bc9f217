"""A run's folder and its record: who owns it, and which are there."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.pipelines.run_folder import RUN_ID, Owner, RunFolder, RunRecord, all_runs, new_run_id, open_run


def make_run(out: Path, run_id: str, **fields: object) -> RunFolder:
    folder = RunFolder(out / run_id)
    record = {"run_id": run_id, "pipeline": "train_and_deploy", "profile": "test", "versions": {},
              "scalars": {"service": "shapes", "registry": str(out / "registry")}, "stages": {"train": {"epochs": 2}},
              "started": datetime.now(UTC).isoformat(), "owner": Owner.of(os.getpid())}
    folder.path.mkdir(parents=True)
    folder.save(RunRecord.model_validate(record | fields))
    return folder


def dead_owner() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner.of(process.pid)
    assert owner.is_alive()
    process.communicate()
    return owner


def test_ids_sort_by_time_and_are_valid() -> None:
    first, second = (new_run_id(datetime(2026, 11, 21, 6, 58, second, tzinfo=UTC)) for second in (0, 1))
    assert first < second
    assert RUN_ID.fullmatch(first)
    assert re.fullmatch(r"20261121-065800-[0-9a-f]{4}", first)


def test_a_record_is_read_as_it_was_written_and_changed_in_place(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")
    assert folder.load().stages == {"train": {"epochs": 2}}

    folder.update(status="failed")

    assert folder.load().status == "failed"
    assert folder.load().stages == {"train": {"epochs": 2}}


def test_a_run_is_running_while_its_owner_lives(tmp_path: Path) -> None:
    assert make_run(tmp_path, "live").load().is_running()
    assert not make_run(tmp_path, "killed", owner=dead_owner()).load().is_running()
    assert not make_run(tmp_path, "done", status="succeeded").load().is_running()
    other = Owner(pid=os.getpid(), created=1.0)
    assert not make_run(tmp_path, "pid-again", owner=other).load().is_running()


def test_runs_are_listed_oldest_first_and_other_folders_are_none(tmp_path: Path) -> None:
    make_run(tmp_path, "b")
    make_run(tmp_path, "a")
    (tmp_path / "notes").mkdir()

    assert [folder.run_id for folder, _ in all_runs(tmp_path)] == ["a", "b"]
    assert list(all_runs(tmp_path / "absent")) == []


@pytest.mark.parametrize("run_id", ["c", "../a", "", "A"])
def test_an_unknown_run_is_refused_with_those_there_are(tmp_path: Path, run_id: str) -> None:
    make_run(tmp_path, "a")
    with pytest.raises(ConfigError, match=r"there is no run .*there are: a$"):
        open_run(tmp_path, run_id)
    assert open_run(tmp_path, "a").run_id == "a"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")
    folder.record_file.write_text("{", encoding="utf-8")
    with pytest.raises(ContractError, match=r"run\.json is damaged"):
        folder.load()
    with pytest.raises(ContractError, match="is no run"):
        RunFolder(tmp_path / "absent").load()
