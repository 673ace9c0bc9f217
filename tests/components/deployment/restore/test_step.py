"""Restoring: this run's unresolved trial is undone, and nothing else is touched."""

from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.model import Model
from penstock.components.control.inference_service import (
    canary_version,
    inference_service,
    is_settled,
    named,
    percent_of,
    service_ref,
    stable,
)
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.registry import Registry
from penstock.components.deployment.restore.step import run
from penstock.components.deployment.roll_out.step import RollOutConfig
from penstock.components.deployment.roll_out.step import run as roll_out
from penstock.components.deployment.traffic import finish_trial

CONFIG = RollOutConfig(ready_timeout=5)
OLD = "sides-predictor-00001"


@pytest.fixture
def trial(plane: Any, registry: Registry, models: dict[str, Model]) -> Any:
    """The plane with `alike` on trial beside `good`, by run-2."""
    roll_out("sides", models["good"].version, registry.folder, "run-1", CONFIG, plane)
    with CanaryLease(plane, "sides", "run-1") as lease:
        finish_trial(plane, "sides", models["good"].version, 100, lease, 5)
        lease.release()
    roll_out("sides", models["alike"].version, registry.folder, "run-2", CONFIG, plane)
    return plane


def test_an_unresolved_trial_is_undone_once(trial: Any, registry: Registry, models: dict[str, Model]) -> None:
    assert run("sides", registry.folder, "run-2", trial)
    assert not run("sides", registry.folder, "run-2", trial)

    isvc = trial.settled("sides")
    assert (canary_version(isvc), percent_of(isvc, OLD)) == ("", 100)
    assert CanaryLease(trial, "sides", "run-2").holder == ""
    event = registry.stages("sides").history[-1]
    assert (event.version, event.stage, event.run_id) == (models["alike"].version, "rolled_back", "run-2")


def test_another_runs_trial_is_left_alone(trial: Any, registry: Registry, models: dict[str, Model]) -> None:
    assert not run("sides", registry.folder, "run-3", trial)

    assert canary_version(trial.settled("sides")) == models["alike"].version
    assert CanaryLease(trial, "sides", "run-2").holder == "run-2"


def test_a_trial_that_lost_its_lease_is_undone_by_whoever_comes(trial: Any, registry: Registry) -> None:
    trial.lapse("sides")
    CanaryLease(trial, "sides", "run-2").release()

    assert run("sides", registry.folder, "run-3", trial)
    assert canary_version(trial.settled("sides")) == ""


@pytest.fixture
def promoted(trial: Any, models: dict[str, Model]) -> Any:
    """The plane with `alike` promoted by run-2, which was cut off before it could tell the registry."""
    with CanaryLease(trial, "sides", "run-2") as lease:
        finish_trial(trial, "sides", models["alike"].version, 20, lease, 5)
    return trial


def test_what_was_promoted_is_written_down_once(promoted: Any, registry: Registry, models: dict[str, Model]) -> None:
    assert not run("sides", registry.folder, "run-2", promoted)
    found = registry.stages("sides")
    assert (found.serving, found.history[-1].run_id) == (models["alike"].version, "run-2")

    assert not run("sides", registry.folder, "run-2", promoted)
    assert registry.stages("sides") == found


def test_another_run_writes_nothing_down(promoted: Any, registry: Registry) -> None:
    before = registry.stages("sides")
    assert not run("sides", registry.folder, "run-3", promoted)
    assert registry.stages("sides") == before


def test_a_registry_without_the_version_says_nothing_of_it(promoted: Any, tmp_path: Path) -> None:
    assert not run("sides", tmp_path / "another", "run-2", promoted)
    assert not (tmp_path / "another" / "sides" / "stages.json").exists()
    assert CanaryLease(promoted, "sides", "run-2").holder == ""


def test_a_damaged_registry_does_not_keep_the_lease(promoted: Any, registry: Registry) -> None:
    (registry.folder / "sides" / "stages.json").write_text("{")
    with pytest.raises(ContractError, match=r"stages\.json is damaged"):
        run("sides", registry.folder, "run-2", promoted)
    assert CanaryLease(promoted, "sides", "run-2").holder == ""


def test_a_return_that_was_cut_off_is_finished(trial: Any, registry: Registry, models: dict[str, Model]) -> None:
    """Taken back already is the version, not yet the share that was asked for it."""
    isvc = trial.get(service_ref("sides"))
    good = models["good"].version
    trial.apply(inference_service("sides", good, named(isvc).uri, runtime=named(isvc).runtime, stable=stable(isvc),
                                  canary_percent=0))
    assert not is_settled(trial.get(service_ref("sides")))

    assert run("sides", registry.folder, "run-2", trial)
    assert is_settled(trial.settled("sides"))


def test_a_service_of_somebody_else_is_left_alone(plane: Any, registry: Registry) -> None:
    theirs = inference_service("sides", "v", "file:///m", runtime="other", canary_percent=30)
    theirs["spec"]["predictor"]["canaryTrafficPercent"] = 30
    del theirs["metadata"]["annotations"]
    plane.apply(theirs)
    assert not run("sides", registry.folder, "run-2", plane)
    assert plane.get(service_ref("sides"))["spec"]["predictor"]["canaryTrafficPercent"] == 30


def test_a_finished_run_has_nothing_to_restore(promoted: Any, registry: Registry) -> None:
    assert not run("sides", registry.folder, "run-2", promoted)  # the lease is given back all the same
    assert CanaryLease(promoted, "sides", "run-2").holder == ""
    assert percent_of(promoted.settled("sides"), "sides-predictor-00002") == 100


def test_a_first_version_that_nobody_judged_is_removed(
    plane: Any, registry: Registry, models: dict[str, Model]
) -> None:
    roll_out("sides", models["good"].version, registry.folder, "run-1", CONFIG, plane)

    assert run("sides", registry.folder, "run-1", plane)
    assert plane.settled("sides") is None


def test_a_run_that_never_came_to_roll_out_has_nothing(plane: Any, registry: Registry) -> None:
    assert not run("sides", registry.folder, "run-1", plane)
    assert plane.objects == {}
