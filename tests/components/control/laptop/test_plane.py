"""Services behind Envoy: first deploy, canary, promotion, roll back, and no request lost on the way."""

import math
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from penstock.components.control.base import NotFound, ObjectConflict, ObjectRef, UnsupportedField, condition

FIRST, SECOND = "digits-predictor-00001", "digits-predictor-00002"


def test_a_first_deploy_gets_all_traffic_whatever_the_percent_says(bench: Any) -> None:
    found = bench.roll_out(bench.model("v1"), percent=20)

    status = found["status"]
    assert condition(found, "Ready")["status"] == "True"
    assert status["observedGeneration"] == 1
    assert status["url"] == bench.url
    assert status["modelStatus"] == {"transitionStatus": "UpToDate"}
    assert status["components"]["predictor"]["latestRolledoutRevision"] == FIRST
    assert Counter(bench.ask().revision for _ in range(20)) == {FIRST: 20}
    assert bench.ask().body == {"model_name": "digits", "model_version": "v1"}


def test_canary_promotion_and_roll_back_lose_no_request(bench: Any) -> None:
    one, two, three = (bench.model(version) for version in ("v1", "v2", "v3"))
    bench.roll_out(one)
    with bench.load() as load:
        bench.roll_out(two, percent=20)
        assert bench.traffic() == [("02", 20), ("01", 80)]
        drained = bench.pid(1)
        bench.roll_out(two)
        assert bench.traffic() == [("02", 100)]
        bench.eventually(lambda: not bench.pid(1))
        bench.roll_out(three, percent=30)
        bench.roll_out(three, percent=0)
        assert bench.traffic() == [("03", 0), ("02", 100)]
        bench.eventually(lambda: not bench.pid(3))
        bench.roll_out(two)
        assert bench.traffic() == [("02", 100)]

    assert drained
    assert set(load.statuses()) == {200}
    assert {revision for _, revision in load.answers} == {FIRST, SECOND, "digits-predictor-00003"}
    assert load.answers[-1] == (200, SECOND)


def test_the_split_is_the_one_asked_for(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"), percent=20)

    count = 600
    hits = Counter(bench.ask().revision for _ in range(count))

    bound = 5 * math.sqrt(count * 0.2 * 0.8)  # five sigma: one false alarm in two million runs
    assert abs(hits[SECOND] - 0.2 * count) < bound
    assert hits[FIRST] + hits[SECOND] == count


def test_a_slow_request_is_answered_although_its_revision_leaves(bench: Any) -> None:
    bench.roll_out(bench.model("v1", slow="1.5"))
    with bench.load() as load:
        bench.eventually(lambda: bench.pid(1))
        bench.roll_out(bench.model("v2"))
        bench.eventually(lambda: not bench.pid(1))

    assert set(load.statuses()) == {200}
    assert load.answers[0] == (200, FIRST)


def test_a_percent_after_the_promotion_brings_the_revision_before_back(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"))
    with bench.load() as load:
        bench.plane.apply(bench.service(bench.model("v2"), percent=0))
        bench.eventually(lambda: bench.traffic() == [("02", 0), ("01", 100)])

    assert set(load.statuses()) == {200}
    assert bench.ask().body["model_version"] == "v1"


def test_an_unknown_path_names_the_services_and_each_answer_its_request(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))

    wrong = bench.ask(name="digit")
    assert (wrong.status, wrong.body["services"]) == (404, ["digits"])
    assert wrong.headers["content-type"] == "application/json"
    assert bench.ask(name="digits-2").status == 404

    assert bench.ask(x_request_id="mine").headers["x-request-id"] == "mine"


def test_nothing_is_written_where_a_field_is_refused(bench: Any) -> None:
    manifest = bench.service(bench.model("v1"))
    manifest["spec"]["predictor"]["maxReplicas"] = 4

    with pytest.raises(UnsupportedField, match="maxReplicas=4"):
        bench.plane.apply(manifest)

    assert bench.plane.get(ObjectRef.of(manifest)) is None


def test_a_stale_version_changes_nothing(bench: Any) -> None:
    old = bench.roll_out(bench.model("v1"))
    bench.plane.apply(bench.service(bench.model("v2")))
    stale = bench.service(bench.model("v3"), percent=1)
    stale["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]

    with pytest.raises(ObjectConflict, match="digits"):
        bench.plane.apply(stale)

    assert "canaryTrafficPercent" not in bench.plane.get(ObjectRef.of(stale))["spec"]["predictor"]


def test_two_services_share_the_gateway_and_one_can_go(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    other = bench.plane.apply(bench.service(bench.model("v9"), name="letters"))
    *_, ready = bench.plane.watch(ObjectRef.of(other), timedelta(seconds=20))

    assert condition(ready, "Ready")["status"] == "True"
    assert bench.ask("letters").body["model_version"] == "v9"
    assert bench.ask().body["model_version"] == "v1"

    bench.plane.delete(ObjectRef.of(other))
    bench.eventually(lambda: bench.ask("letters").status == 404)
    assert bench.ask().status == 200


def test_deleted_and_applied_again_a_service_starts_from_nothing(bench: Any) -> None:
    first = bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"))
    bench.plane.delete(ObjectRef.of(first))

    again = bench.roll_out(bench.model("v3"), percent=10)

    assert again["metadata"]["uid"] != first["metadata"]["uid"]
    assert again["status"]["components"]["predictor"]["latestRolledoutRevision"] == FIRST
    assert bench.ask().body["model_version"] == "v3"


def test_what_the_predictors_print_can_be_read(bench: Any) -> None:
    service = bench.roll_out(bench.model("v1", fail="1"))

    assert [line.text for line in bench.plane.logs(ObjectRef.of(service))] == ["cannot load v1"]
    with pytest.raises(NotFound, match="no such object"):
        list(bench.plane.logs(ObjectRef(service["apiVersion"], service["kind"], "nobody")))


def test_a_missing_runtime_is_told_and_its_coming_noticed(bench: Any) -> None:
    runtime = ObjectRef("serving.kserve.io/v1alpha1", "ServingRuntime", "script")
    bench.plane.delete(runtime)
    refused = bench.roll_out(bench.model("v1"))

    assert condition(refused, "Ready")["status"] == "False"
    assert refused["status"]["modelStatus"]["lastFailureInfo"]["reason"] == "RuntimeNotRecognized"
    assert bench.ask().status == 503

    bench.runtime()
    bench.eventually(lambda: bench.traffic() == [("01", 100)])
