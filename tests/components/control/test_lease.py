"""The canary lease: one holder, taken and renewed by compare-and-swap, and a loss is noticed."""

import copy
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from penstock.components.contracts.errors import DiskFull
from penstock.components.control import lease as lease_module
from penstock.components.control.base import ControlError, LogLine, Manifest, ObjectConflict, ObjectRef
from penstock.components.control.lease import CanaryLease, LeaseLost


class OneObject:
    """A control plane that keeps one object, with compare-and-swap."""

    def __init__(self) -> None:
        self.kept: Manifest | None = None
        self.version = 0
        self.down: Exception | None = None
        self.written = threading.Condition()

    def apply(self, manifest: Manifest) -> Manifest:
        current = self.kept["metadata"]["resourceVersion"] if self.kept else "0"
        if self.down:
            raise self.down
        if manifest["metadata"].get("resourceVersion", current) != current:
            raise ObjectConflict("moved on")
        with self.written:
            self.version += 1
            self.kept = copy.deepcopy(manifest)
            self.kept["metadata"]["resourceVersion"] = str(self.version)
            self.written.notify_all()
        return copy.deepcopy(self.kept)

    def get(self, ref: ObjectRef) -> Manifest | None:
        return copy.deepcopy(self.kept)

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        return iter(())

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        return iter(())

    def delete(self, ref: ObjectRef) -> None:
        self.kept = None

    @property
    def spec(self) -> Manifest:
        assert self.kept is not None
        return dict(self.kept["spec"])


@pytest.fixture
def plane() -> OneObject:
    return OneObject()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 31 seconds pass."""
    now = datetime.now(UTC) + timedelta(seconds=31)
    monkeypatch.setattr(lease_module, "_now", lambda: now)


def test_the_object_is_a_lease_that_kubernetes_would_take(plane: OneObject) -> None:
    CanaryLease(plane, "digits", "run-1").acquire()

    assert plane.kept is not None
    assert ObjectRef.of(plane.kept) == ObjectRef("coordination.k8s.io/v1", "Lease", "digits-canary")
    assert plane.kept["metadata"]["labels"] == {"penstock.dev/service": "digits"}
    assert (plane.spec["holderIdentity"], plane.spec["leaseDurationSeconds"]) == ("run-1", 30)
    assert plane.spec["leaseTransitions"] == 0
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{6}Z", plane.spec["renewTime"])


def test_a_second_run_is_told_who_holds_it_since_when_and_what_to_do(plane: OneObject) -> None:
    CanaryLease(plane, "digits", "run-1").acquire()

    told = rf"run run-1 holds .* since {plane.spec['acquireTime']}.*wait until it ends"
    with pytest.raises(ObjectConflict, match=told):
        CanaryLease(plane, "digits", "run-2").acquire()
    assert plane.spec["holderIdentity"] == "run-1"


def test_a_run_may_take_its_own_lease_again_and_keeps_its_length(plane: OneObject) -> None:
    CanaryLease(plane, "digits", "run-1", seconds=45).acquire()
    first = plane.spec
    CanaryLease(plane, "digits", "run-1").acquire()

    assert plane.spec == first | {"renewTime": plane.spec["renewTime"]}
    assert plane.spec["renewTime"] > first["renewTime"]


def test_what_is_released_is_free_for_others(plane: OneObject) -> None:
    lease = CanaryLease(plane, "digits", "run-1")
    lease.acquire()
    lease.release()
    assert lease.holder == ""

    other = CanaryLease(plane, "digits", "run-2")
    other.acquire()
    lease.release()  # not ours any more: nothing happens
    assert (other.holder, plane.spec["leaseTransitions"]) == ("run-2", 1)


@pytest.mark.usefixtures("later")
def test_a_lapsed_lease_is_free(plane: OneObject, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as past:
        past.setattr(lease_module, "_now", lambda: datetime.now(UTC))
        CanaryLease(plane, "digits", "run-1").acquire()

    CanaryLease(plane, "digits", "run-2").acquire()
    assert plane.spec["holderIdentity"] == "run-2"


def test_two_that_see_it_free_at_the_same_moment_do_not_both_get_it(
    plane: OneObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = CanaryLease(plane, "digits", "run-1"), CanaryLease(plane, "digits", "run-2")
    with monkeypatch.context() as stale:
        stale.setattr(plane, "get", lambda ref: None)
        one.acquire()
        with pytest.raises(ObjectConflict):
            other.acquire()
    assert plane.spec["holderIdentity"] == "run-1"


def test_the_heartbeat_renews_and_the_lease_outlives_the_block(plane: OneObject) -> None:
    with CanaryLease(plane, "digits", "run-1", heartbeat=0.01) as lease, plane.written:
        assert plane.written.wait_for(lambda: plane.version >= 3, timeout=10)
    lease.check()

    assert lease.holder == "run-1"


def test_a_loss_is_noticed_and_named(plane: OneObject) -> None:
    with CanaryLease(plane, "digits", "run-1", heartbeat=0.01) as lease:
        assert plane.kept is not None
        plane.kept["spec"]["holderIdentity"] = "run-2"
        lease._thread.join(10)  # type: ignore[union-attr]

        with pytest.raises(LeaseLost, match="run-2 took it"):
            lease.check()
    assert plane.spec["holderIdentity"] == "run-2"


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("trouble", [ControlError("no answer"), DiskFull("no answer"), OSError("no answer")])
def test_a_plane_that_stays_away_is_a_loss_too(
        plane: OneObject, monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    clock = iter([datetime.now(UTC)] * 3)
    monkeypatch.setattr(lease_module, "_now", lambda: next(clock, datetime.now(UTC) + timedelta(seconds=31)))
    with CanaryLease(plane, "digits", "run-1", heartbeat=0.01) as lease:
        plane.down = trouble
        lease._thread.join(10)  # type: ignore[union-attr]

        with pytest.raises(LeaseLost, match="no answer"):
            lease.check()


@pytest.mark.usefixtures("later")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_of_the_heartbeat_is_a_loss_at_once(plane: OneObject) -> None:
    with CanaryLease(plane, "digits", "run-1", heartbeat=0.01) as lease:
        plane.down = KeyError("renewTime")
        lease._thread.join(10)  # type: ignore[union-attr]

        with pytest.raises(LeaseLost, match=r"cannot be renewed: KeyError\('renewTime'\)"):
            lease.check()


def test_renewing_what_lapsed_says_that_the_traffic_went_back(plane: OneObject) -> None:
    lease = CanaryLease(plane, "digits", "run-1")
    lease.acquire()
    assert plane.kept is not None
    plane.kept["spec"]["holderIdentity"] = ""

    with pytest.raises(LeaseLost, match="it lapsed, and the traffic went back to stable"):
        lease.renew()
