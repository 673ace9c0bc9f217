"""The InferenceService object: what is asked for, and a status that does not fool."""

import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.base import Manifest
from penstock.components.control.inference_service import (
    NOTHING,
    SETTLED,
    Placement,
    RevisionTraffic,
    address,
    addresses,
    canary_percent,
    canary_version,
    failure,
    inference_service,
    is_ready,
    is_settled,
    newest_revision,
    percent_of,
    stable,
    stable_version,
    traffic,
    url,
    with_percent,
)

STABLE = Placement("v1", "file:///models/v1", "penstock-onnx")
OLD, NEW = "digits-predictor-00001", "digits-predictor-00002"


def trial(percent: int = 20, holds: Placement = STABLE) -> Manifest:
    return inference_service("digits", "v2", "file:///models/v2", runtime="other", stable=holds, canary_percent=percent)


def with_status(isvc: Manifest, shares: dict[str, int], created: str = NEW, ready: str = NEW, observed: int = 2,
                **status: object) -> Manifest:
    entries = [{"revisionName": revision, "percent": percent, "url": f"http://{revision}",
                "tag": "latest" if revision == created else "prev"}
               for revision, percent in shares.items()]
    isvc["metadata"]["generation"] = 2
    isvc["status"] = {
        "observedGeneration": observed, "url": "http://gateway",
        "conditions": [{"type": "Ready", "status": "True"}],
        "components": {"predictor": {"latestCreatedRevision": created, "latestReadyRevision": ready,
                                     "traffic": entries}},
    } | status
    return isvc


def test_a_trial_names_the_new_version_and_keeps_the_stable_one() -> None:
    isvc = trial()

    assert isvc["spec"]["predictor"]["model"]["storageUri"] == "file:///models/v2"
    assert isvc["spec"]["predictor"]["model"]["runtime"] == "other"
    assert (stable(isvc), stable_version(isvc), canary_version(isvc), canary_percent(isvc)) == (STABLE, "v1", "v2", 20)


def test_a_first_deploy_is_on_trial_with_all_traffic() -> None:
    first = trial(holds=NOTHING)

    assert (canary_version(first), stable(first), canary_percent(first)) == ("v2", NOTHING, 100)


@pytest.mark.parametrize("holds", [NOTHING, STABLE])
def test_promotion_and_percent_change_nothing_that_starts_pods(holds: Placement) -> None:
    tried = trial(holds=holds)
    promoted = with_percent(tried, SETTLED)

    assert (canary_version(promoted), stable(promoted)) == ("", Placement("v2", "file:///models/v2", "other"))
    assert is_settled(promoted)
    assert not is_settled(tried)
    for other in (promoted, with_percent(tried, 0), with_percent(tried, 100)):
        assert other["metadata"] == tried["metadata"]
        assert {**other["spec"]["predictor"], "canaryTrafficPercent": 20} == \
            {**tried["spec"]["predictor"], "canaryTrafficPercent": 20}


def test_a_stable_version_that_comes_back_is_not_on_trial() -> None:
    back = inference_service("digits", *STABLE[:2], runtime="penstock-onnx", stable=STABLE, canary_percent=0)

    assert (canary_version(back), stable(back), canary_percent(back)) == ("", STABLE, 0)
    assert stable(with_percent(back, SETTLED)) == STABLE


@pytest.mark.parametrize("name", ["", "Digits", "1st", "a_b", "../up", "x" * 41, "end-"])
def test_a_service_name_that_cannot_be_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(ConfigError, match="fashion-mnist"):
        inference_service(name, "v1", "file:///m", runtime="r")


def test_a_trial_is_ready_when_two_revisions_share_as_asked() -> None:
    isvc = with_status(trial(), {NEW: 20, OLD: 80})

    assert is_ready(isvc)
    assert traffic(isvc)[0] == RevisionTraffic(NEW, 20, f"http://{NEW}", "latest")
    assert (newest_revision(isvc), percent_of(isvc, OLD), url(isvc)) == (NEW, 80, "http://gateway")


@pytest.mark.parametrize(
    ("shares", "created", "ready"),
    [
        ({OLD: 100}, OLD, OLD),  # right after the change: all of it speaks of the old revision
        ({OLD: 100}, NEW, OLD),  # the canary does not start: `latest` and `prev` both point to the old one
        ({NEW: 0, OLD: 100}, NEW, NEW),  # the canary crashed, its share was taken away
        ({NEW: 20, OLD: 80}, NEW, OLD),  # routed, but no longer ready
        ({}, NEW, ""),
    ],
)
def test_ready_conditions_that_lie_are_not_believed(shares: dict[str, int], created: str, ready: str) -> None:
    assert not is_ready(with_status(trial(), shares, created, ready))


def test_steps_go_by_the_address_inside_the_cluster() -> None:
    isvc = with_status(trial(), {NEW: 20, OLD: 80})
    assert (address(isvc), addresses(isvc)) == ("http://gateway", {NEW: f"http://{NEW}", OLD: f"http://{OLD}"})

    isvc["status"]["address"] = {"url": "http://s-predictor.ns.svc.cluster.local"}
    assert (url(isvc), address(isvc)) == ("http://gateway", "http://s-predictor.ns.svc.cluster.local")
    assert addresses(isvc) == {NEW: "http://latest-s-predictor.ns.svc.cluster.local",
                               OLD: "http://prev-s-predictor.ns.svc.cluster.local"}


def test_without_a_status_nothing_is_ready() -> None:
    assert not is_ready(trial())
    assert (address(trial()), addresses(trial())) == ("", {})
    assert (traffic(trial()), newest_revision(trial()), url(trial()), failure(trial())) == ([], "", "", "")


def test_a_first_deploy_is_ready_with_all_traffic() -> None:
    assert is_ready(with_status(trial(holds=NOTHING), {NEW: 100}))
    assert not is_ready(with_status(trial(holds=NOTHING), {}, ready=""))


def test_a_failure_is_that_of_the_newest_revision_and_of_now() -> None:
    info = {"reason": "ModelLoadFailed", "message": "no model.onnx", "exitCode": 3, "modelRevisionName": NEW}
    failed = {"modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": info}}

    now = with_status(trial(), {OLD: 100}, **failed)
    lagging = with_status(trial(), {OLD: 100}, observed=1, **failed)  # as it stays in KServe after a promotion
    over = with_status(trial(), {OLD: 100}, modelStatus={"transitionStatus": "UpToDate", "lastFailureInfo": info})
    other = with_status(trial(), {OLD: 100}, created="digits-predictor-00003", **failed)
    speechless = with_status(trial(), {OLD: 100}, modelStatus={"transitionStatus": "BlockedByFailedLoad"})

    assert failure(now) == failure(lagging) == f"ModelLoadFailed: no model.onnx (revision {NEW}, exit code 3)"
    assert (failure(over), failure(other)) == ("", "")
    assert failure(speechless) == "BlockedByFailedLoad: no message"
