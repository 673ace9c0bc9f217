"""Rolling out: a trial that is real, or a service as it was before."""

from typing import Any

import pytest

from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.model import Model
from penstock.components.control.base import ObjectConflict, ObjectRef
from penstock.components.control.inference_service import canary_version, percent_of, stable_version
from penstock.components.control.lease import CanaryLease, LeaseLost
from penstock.components.deployment.promote.step import PromoteConfig
from penstock.components.deployment.registry import Registry
from penstock.components.deployment.roll_out.step import RollOutConfig, run
from penstock.components.deployment.traffic import finish_trial

CONFIG = RollOutConfig(ready_timeout=5)
RUNTIME = ObjectRef("serving.kserve.io/v1alpha1", "ServingRuntime", "penstock-onnx")
OLD, NEW = "sides-predictor-00001", "sides-predictor-00002"


@pytest.fixture
def served(plane: Any, registry: Registry, models: dict[str, Model]) -> Any:
    """The plane with version `good` promoted."""
    version = models["good"].version
    assert run("sides", version, registry.folder, "run-1", CONFIG, plane) == "first"
    with CanaryLease(plane, "sides", "run-1") as lease:
        finish_trial(plane, "sides", version, 100, lease, PromoteConfig().timeout)
        lease.release()
    return plane


def test_a_first_version_gets_all_traffic_and_is_not_yet_stable(
    plane: Any, registry: Registry, models: dict[str, Model]
) -> None:
    assert run("sides", models["good"].version, registry.folder, "run-1", CONFIG, plane) == "first"

    isvc = plane.settled("sides")
    assert (canary_version(isvc), stable_version(isvc), percent_of(isvc, OLD)) == (models["good"].version, "", 100)
    assert CanaryLease(plane, "sides", "run-1").holder == "run-1"
    assert RUNTIME in plane.objects


def test_a_next_version_gets_its_share_beside_the_stable_one(
    served: Any, registry: Registry, models: dict[str, Model]
) -> None:
    assert run("sides", models["alike"].version, registry.folder, "run-2", CONFIG, served) == "canary"

    isvc = served.settled("sides")
    assert (percent_of(isvc, NEW), percent_of(isvc, OLD)) == (20, 80)
    assert (canary_version(isvc), stable_version(isvc)) == (models["alike"].version, models["good"].version)


def test_predictors_may_reach_the_registry_by_another_uri(
    plane: Any, registry: Registry, models: dict[str, Model]
) -> None:
    version = models["good"].version
    config = RollOutConfig(ready_timeout=5, storage="pvc://models/registry/")

    run("sides", version, registry.folder, "run-1", config, plane)

    spec = plane.settled("sides")["spec"]["predictor"]
    assert spec["model"]["storageUri"] == f"pvc://models/registry/sides/{version}/model"


def test_a_restarted_step_goes_on_with_its_own_trial(served: Any, registry: Registry, models: dict[str, Model]) -> None:
    for _ in range(2):
        assert run("sides", models["alike"].version, registry.folder, "run-2", CONFIG, served) == "canary"
    served.lapse("sides")  # the run was away too long, and is resumed
    assert run("sides", models["alike"].version, registry.folder, "run-2", CONFIG, served) == "canary"

    assert percent_of(served.settled("sides"), NEW) == 20


def test_the_stable_version_again_changes_nothing(served: Any, registry: Registry, models: dict[str, Model]) -> None:
    before = served.settled("sides")

    assert run("sides", models["good"].version, registry.folder, "run-2", CONFIG, served) == "serving"
    assert served.settled("sides") == before


def test_what_a_dead_run_left_on_trial_is_replaced(served: Any, registry: Registry, models: dict[str, Model]) -> None:
    run("sides", models["wrong"].version, registry.folder, "run-2", CONFIG, served)
    served.lapse("sides")
    CanaryLease(served, "sides", "run-2").release()

    assert run("sides", models["good"].version, registry.folder, "run-3", CONFIG, served) == "serving"
    assert canary_version(served.settled("sides")) == ""
    assert run("sides", models["alike"].version, registry.folder, "run-3", CONFIG, served) == "canary"


def test_a_second_run_stops_and_names_the_holder(served: Any, registry: Registry, models: dict[str, Model]) -> None:
    run("sides", models["alike"].version, registry.folder, "run-2", CONFIG, served)

    with pytest.raises(ObjectConflict, match="run run-2 holds the canary lease of service sides"):
        run("sides", models["wrong"].version, registry.folder, "run-3", CONFIG, served)
    assert canary_version(served.settled("sides")) == models["alike"].version


def test_a_version_that_does_not_start_is_taken_back_with_the_reason(
    served: Any, registry: Registry, models: dict[str, Model]
) -> None:
    served.broken[registry.model_uri("sides", models["wrong"].version)] = "golden rows differ by 3"

    with pytest.raises(StepError, match="ModelLoadFailed: golden rows differ by 3"):
        run("sides", models["wrong"].version, registry.folder, "run-2", CONFIG, served)
    isvc = served.settled("sides")
    assert (canary_version(isvc), percent_of(isvc, OLD)) == ("", 100)
    assert isvc["spec"]["predictor"]["model"]["storageUri"] == registry.model_uri("sides", models["good"].version)
    assert CanaryLease(served, "sides", "run-2").holder == ""


def test_a_first_version_that_does_not_start_leaves_no_service(
    plane: Any, registry: Registry, models: dict[str, Model]
) -> None:
    plane.broken[registry.model_uri("sides", models["wrong"].version)] = "no memory"

    with pytest.raises(StepError, match="no memory"):
        run("sides", models["wrong"].version, registry.folder, "run-1", CONFIG, plane)
    assert plane.settled("sides") is None


def test_a_status_that_never_moves_is_a_time_out_with_what_it_says(
    plane: Any, registry: Registry, models: dict[str, Model]
) -> None:
    plane.stalled = True

    with pytest.raises(StepError, match=r"did not move within 0\.05 s: no traffic yet; newest revision none"):
        run("sides", models["good"].version, registry.folder, "run-1", RollOutConfig(ready_timeout=0.05), plane)


def test_after_the_lease_is_lost_nothing_is_touched(
    plane: Any, registry: Registry, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CanaryLease, "check", lambda self: setattr(self, "lost", "x") or _raise(LeaseLost("taken")))

    with pytest.raises(LeaseLost, match="taken"):
        run("sides", models["good"].version, registry.folder, "run-1", CONFIG, plane)
    assert canary_version(plane.settled("sides")) == models["good"].version


def _raise(error: Exception) -> None:
    raise error


def test_an_own_runtime_is_not_overwritten(plane: Any, registry: Registry, models: dict[str, Model]) -> None:
    run("sides", models["good"].version, registry.folder, "run-1", RollOutConfig(runtime="slow"), plane)

    assert RUNTIME not in plane.objects
    assert plane.settled("sides")["spec"]["predictor"]["model"]["runtime"] == "slow"


def test_a_service_of_somebody_else_is_left_alone(plane: Any, registry: Registry, models: dict[str, Model]) -> None:
    foreign = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "sides"},
               "spec": {"predictor": {"model": {"runtime": "theirs", "storageUri": "file:///theirs"}}}}
    plane.apply(foreign)

    with pytest.raises(ObjectConflict, match="was not made by penstock"):
        run("sides", models["good"].version, registry.folder, "run-1", CONFIG, plane)
    assert plane.settled("sides")["spec"] == foreign["spec"]
    assert CanaryLease(plane, "sides", "run-1").holder == ""


def test_bad_input_is_refused_before_anything_happens(plane: Any, registry: Registry) -> None:
    with pytest.raises(ContractError, match="no version 'v9' of sides"):
        run("sides", "v9", registry.folder, "run-1", CONFIG, plane)
    with pytest.raises(ConfigError, match="did you mean 'canary_percent'"):
        RollOutConfig.parse({"canary_percents": 10})
    with pytest.raises(ConfigError, match="canary_percent=0"):
        RollOutConfig.parse({"canary_percent": 0})
    assert RollOutConfig.parse({"canary_percent": 10.0}).canary_percent == 10
    assert plane.objects == {}
