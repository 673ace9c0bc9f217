"""Restoring: this run's unresolved trial is undone, and nothing else is touched."""

from typing import Any

import pytest

from penstock.components.contracts.model import Model
from penstock.components.control.inference_service import canary_version, percent_of
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


def test_a_finished_run_has_nothing_to_restore(trial: Any, registry: Registry, models: dict[str, Model]) -> None:
    with CanaryLease(trial, "sides", "run-2") as lease:
        finish_trial(trial, "sides", models["alike"].version, 20, lease, 5)

    assert registry.stages("sides").serving != models["alike"].version  # it was cut off before it could say so
    assert not run("sides", registry.folder, "run-2", trial)  # the lease is given back all the same
    assert registry.stages("sides").serving == models["alike"].version
    assert CanaryLease(trial, "sides", "run-2").holder == ""
    assert percent_of(trial.settled("sides"), "sides-predictor-00002") == 100


def test_a_first_version_that_nobody_judged_is_removed(
    plane: Any, registry: Registry, models: dict[str, Model]
) -> None:
    roll_out("sides", models["good"].version, registry.folder, "run-1", CONFIG, plane)

    assert run("sides", registry.folder, "run-1", plane)
    assert plane.settled("sides") is None


def test_a_run_that_never_came_to_roll_out_has_nothing(plane: Any, registry: Registry) -> None:
    assert not run("sides", registry.folder, "run-1", plane)
    assert plane.objects == {}
