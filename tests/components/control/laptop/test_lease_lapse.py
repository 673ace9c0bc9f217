"""The canary lease: a holder that falls silent loses the canary's traffic."""

from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.components.control.base import Manifest, ObjectRef, condition

LEASE = ObjectRef("coordination.k8s.io/v1", "Lease", "digits-canary")


def lease(seconds: int, age: float = 0.0, holder: str = "run-1") -> Manifest:
    renewed = datetime.now(UTC) - timedelta(seconds=age)
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind,
            "metadata": {"name": LEASE.name, "labels": {"penstock.dev/service": "digits"}},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds,
                     "renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"}}


def has_lease_condition(bench: Any, status: str, reason: str) -> bool:
    found = condition({"status": bench.status()}, "CanaryLease")
    return (found.get("status"), found.get("reason")) == (status, reason)


def test_a_lapsed_lease_rolls_the_canary_back(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.plane.apply(lease(seconds=30))
    with bench.load() as load:
        bench.roll_out(bench.model("v2"), percent=20)
        bench.eventually(lambda: has_lease_condition(bench, "True", "LeaseHeld"))
        assert bench.traffic() == [("02", 20), ("01", 80)]

        bench.plane.apply(lease(seconds=1))
        bench.eventually(lambda: bench.traffic() == [("02", 0), ("01", 100)])

    assert set(load.statuses()) == {200}
    assert bench.plane.get(LEASE)["spec"]["holderIdentity"] == ""
    assert bench.settled()["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert has_lease_condition(bench, "False", "LeaseLapsed")
    assert "run-1 has not renewed" in condition({"status": bench.status()}, "CanaryLease")["message"]

    bench.plane.apply(lease(seconds=30))
    bench.roll_out(bench.model("v2"), percent=20)
    bench.eventually(lambda: has_lease_condition(bench, "True", "LeaseHeld"))


def test_a_lapsed_lease_without_a_canary_changes_nothing(bench: Any) -> None:
    bench.roll_out(bench.model("v1"), percent=20)
    bench.plane.apply(lease(seconds=1, age=60))
    bench.plane.apply(bench.service(bench.model("v2")))
    bench.eventually(lambda: bench.traffic() == [("02", 100)])

    assert bench.plane.get(LEASE)["spec"]["holderIdentity"] == "run-1"


def test_a_released_lease_never_lapses(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.plane.apply(lease(seconds=1, age=60, holder=""))

    bench.roll_out(bench.model("v2"), percent=20)

    assert bench.traffic() == [("02", 20), ("01", 80)]
