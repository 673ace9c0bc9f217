"""The file registry: complete entries, lineage that grows, stages that several runs may write."""

from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.model import Model
from penstock.components.deployment.registry import Lineage, Registry


def lineage(run_id: str) -> Lineage:
    return Lineage(run_id=run_id, dataset="sides", dataset_hash="d1", metrics={"accuracy": 0.9},
                   registered_at=datetime(2026, 11, 21, 7, tzinfo=UTC), made_by="test")


def test_a_registered_version_is_a_whole_copy_and_knows_where_it_came_from(
    tmp_path: Path, models: dict[str, Model]
) -> None:
    registry, model = Registry(tmp_path / "r"), models["good"]
    registry.register("sides", model, lineage("run-1"))

    uri = registry.model_uri("sides", model.version)
    assert uri == f"file://{tmp_path}/r/sides/{model.version}/model"
    assert Model(uri.removeprefix("file://")).manifest == model.manifest
    assert registry.record("sides", model.version).lineage == (lineage("run-1"),)
    assert registry.services() == ["sides"]


def test_the_same_version_again_gains_a_lineage_entry_per_run(tmp_path: Path, models: dict[str, Model]) -> None:
    registry, model = Registry(tmp_path), models["good"]
    for run_id in ("run-1", "run-2", "run-2"):
        registry.register("sides", model, lineage(run_id))

    assert [entry.run_id for entry in registry.record("sides", model.version).lineage] == ["run-1", "run-2"]
    assert [record.version for record in registry.records("sides")] == [model.version]


def test_an_unknown_version_is_named_with_those_that_are_there(registry: Registry, models: dict[str, Model]) -> None:
    with pytest.raises(ContractError, match=rf"no version 'v9' of sides; it has .*{models['good'].version}"):
        registry.model_uri("sides", "v9")
    with pytest.raises(ConfigError, match=r"service='\.\./sides'"):
        registry.records("../sides")


def test_a_damaged_record_is_named(registry: Registry, models: dict[str, Model]) -> None:
    path = registry.folder / "sides" / models["good"].version / "record.json"
    path.write_text("{")

    with pytest.raises(ContractError, match=f"{path} is damaged"):
        registry.record("sides", models["good"].version)


def test_stages_say_what_serves_what_served_before_and_why(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.stages("sides").serving == ""

    registry.stage("sides", "v1", "serving", "run-1", "first")
    registry.stage("sides", "v2", "rolled_back", "run-2", "slow")
    registry.stage("sides", "v3", "serving", "run-3", "better")
    again = registry.stage("sides", "v3", "serving", "run-3", "better")

    assert (again.serving, again.previous) == ("v3", "v1")
    assert [(event.version, event.stage, event.run_id, event.reason) for event in again.history] == [
        ("v1", "serving", "run-1", "first"), ("v2", "rolled_back", "run-2", "slow"),
        ("v3", "serving", "run-3", "better")]
    assert registry.stages("sides") == again


def _stage_many(folder: Path, name: str) -> None:
    for index in range(10):
        Registry(folder).stage("sides", f"{name}-{index}", "serving", name, "")


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=_stage_many, args=(tmp_path, name)) for name in ("a", "b", "c")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    history = Registry(tmp_path).stages("sides").history
    assert sorted(event.version for event in history) == [f"{name}-{index}" for name in "abc" for index in range(10)]
