"""Promoting and rolling back: all traffic on one version, the other gone, the stage written down, the lease free."""

from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import CanaryReport, VariantReport
from penstock.components.control.base import ControlError, Manifest
from penstock.components.control.inference_service import (
    canary_version,
    is_settled,
    percent_of,
    service_ref,
    stable,
    stable_version,
    traffic,
)
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.promote.step import PromoteConfig, run
from penstock.components.deployment.registry import Registry
from penstock.components.deployment.roll_out.step import RollOutConfig
from penstock.components.deployment.roll_out.step import run as roll_out

CONFIG = PromoteConfig(timeout=5)
OLD, NEW = "sides-predictor-00001", "sides-predictor-00002"


def judged(folder: Path, version: str, verdict: str, percent: int = 20) -> Path:
    canary = VariantReport(version=version, revision=NEW, requests=1, errors=0, labelled=1, correct=1, latency={})
    report = CanaryReport(verdict=verdict, reason=f"because {verdict}", service="sides", traffic_percent=percent,
                          canary=canary)
    report.save(folder / f"{verdict}-{version}", "<html></html>")
    return folder / f"{verdict}-{version}"


@pytest.fixture
def first(plane: Any, registry: Registry, models: dict[str, Model]) -> Any:
    """The plane with `good` on trial as the first version, by run-1."""
    roll_out("sides", models["good"].version, registry.folder, "run-1", RollOutConfig(ready_timeout=5), plane)
    return plane


@pytest.fixture
def trial(first: Any, registry: Registry, models: dict[str, Model], tmp_path: Path) -> Any:
    """The plane with `alike` on trial beside `good`, by run-2, with a runtime of its own."""
    good, config = models["good"].version, RollOutConfig(ready_timeout=5, runtime="other")
    run(judged(tmp_path, good, "first", 100), "sides", good, registry.folder, "run-1", CONFIG, first)
    roll_out("sides", models["alike"].version, registry.folder, "run-2", config, first)
    return first


def test_a_first_version_becomes_stable(
    first: Any, registry: Registry, models: dict[str, Model], tmp_path: Path
) -> None:
    version = models["good"].version
    url = run(judged(tmp_path, version, "first", 100), "sides", version, registry.folder, "run-1", CONFIG, first)

    isvc = first.settled("sides")
    assert url == first.url
    assert (stable_version(isvc), canary_version(isvc), percent_of(isvc, OLD)) == (version, "", 100)
    assert registry.stages("sides").serving == version
    assert CanaryLease(first, "sides", "run-1").holder == ""


def test_a_promoted_version_has_all_traffic_and_the_old_one_is_gone(
    trial: Any, registry: Registry, models: dict[str, Model], tmp_path: Path
) -> None:
    version = models["alike"].version
    report = judged(tmp_path, version, "promote")
    for _ in range(2):  # a restarted step finds it done
        assert run(report, "sides", version, registry.folder, "run-2", CONFIG, trial) == trial.url

    isvc = trial.settled("sides")
    assert [(entry.revision, entry.percent) for entry in traffic(isvc)] == [(NEW, 100)]
    assert stable(isvc) == (version, registry.model_uri("sides", version), "other")
    assert "canaryTrafficPercent" not in isvc["spec"]["predictor"]
    stages = registry.stages("sides")
    assert (stages.serving, stages.previous) == (version, models["good"].version)
    assert [event.reason for event in stages.history] == ["because first", "because promote"]
    assert CanaryLease(trial, "sides", "run-2").holder == ""


def test_a_roll_back_leaves_the_service_as_before(
    trial: Any, registry: Registry, models: dict[str, Model], tmp_path: Path
) -> None:
    version, good = models["alike"].version, models["good"].version
    report = judged(tmp_path, version, "roll_back")
    for _ in range(2):
        assert run(report, "sides", version, registry.folder, "run-2", CONFIG, trial) == trial.url

    isvc = trial.settled("sides")
    assert [(entry.revision, entry.percent) for entry in traffic(isvc)] == [(OLD, 100)]
    assert (stable_version(isvc), canary_version(isvc)) == (good, "")
    model = isvc["spec"]["predictor"]["model"]
    assert (model["runtime"], model["storageUri"]) == ("penstock-onnx", registry.model_uri("sides", good))
    stages = registry.stages("sides")
    assert (stages.serving, stages.history[-1].stage, stages.history[-1].reason) == (
        good, "rolled_back", "because roll_back")
    assert CanaryLease(trial, "sides", "run-2").holder == ""


def test_a_first_version_that_is_rolled_back_leaves_no_service(
    first: Any, registry: Registry, models: dict[str, Model], tmp_path: Path
) -> None:
    version = models["good"].version
    report = judged(tmp_path, version, "roll_back", 100)

    assert run(report, "sides", version, registry.folder, "run-1", CONFIG, first) == ""
    assert first.settled("sides") is None


@pytest.mark.parametrize("percent", [0, 50])
def test_a_share_that_somebody_else_changed_is_no_promotion(
    trial: Any, registry: Registry, models: dict[str, Model], tmp_path: Path, percent: int
) -> None:
    trial.objects[service_ref("sides")]["spec"]["predictor"]["canaryTrafficPercent"] = percent
    version = models["alike"].version

    with pytest.raises(StepError, match=rf"on trial at {percent} %, and {version} was judged at 20 %"):
        run(judged(tmp_path, version, "promote"), "sides", version, registry.folder, "run-2", CONFIG, trial)
    isvc = trial.settled("sides")
    assert (canary_version(isvc), percent_of(isvc, OLD)) == ("", 100)
    assert registry.stages("sides").serving == models["good"].version


def test_another_version_on_trial_is_not_touched(
    trial: Any, registry: Registry, models: dict[str, Model], tmp_path: Path
) -> None:
    wrong = models["wrong"].version
    before = trial.settled("sides")

    for verdict in ("promote", "roll_back"):
        with pytest.raises(StepError, match="somebody else changed it"):
            run(judged(tmp_path, wrong, verdict), "sides", wrong, registry.folder, "run-2", CONFIG, trial)
    after = trial.settled("sides")
    assert (after["spec"], canary_version(after)) == (before["spec"], models["alike"].version)


def test_traffic_that_does_not_move_is_not_called_stable(
    trial: Any, registry: Registry, models: dict[str, Model], tmp_path: Path
) -> None:
    trial.stalled = True
    version = models["alike"].version

    with pytest.raises(StepError, match=r"did not move within 0\.05 s"):
        run(judged(tmp_path, version, "promote"), "sides", version, registry.folder, "run-2",
            PromoteConfig(timeout=0.05), trial)
    assert stable_version(trial.settled("sides")) == models["good"].version


def test_a_promotion_whose_last_answer_is_lost_is_written_down(
    trial: Any, registry: Registry, models: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, whole = models["alike"].version, trial.apply

    def apply(manifest: Manifest) -> Manifest:
        found: Manifest = whole(manifest)
        if manifest["kind"] == "InferenceService" and is_settled(manifest):
            raise ControlError("connection reset")
        return found

    monkeypatch.setattr(trial, "apply", apply)
    with pytest.raises(ControlError, match="connection reset"):
        run(judged(tmp_path, version, "promote"), "sides", version, registry.folder, "run-2", CONFIG, trial)
    assert stable_version(trial.settled("sides")) == version
    assert registry.stages("sides").serving == version
    assert CanaryLease(trial, "sides", "run-2").holder == ""


def test_a_report_on_another_version_is_refused(
    trial: Any, registry: Registry, models: dict[str, Model], tmp_path: Path
) -> None:
    report = judged(tmp_path, "v9", "promote")
    with pytest.raises(ContractError, match="judged version v9 of sides"):
        run(report, "sides", models["alike"].version, registry.folder, "run-2", CONFIG, trial)
