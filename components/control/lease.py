"""The canary lease: one run at a time tries a new version of a service, and a run that dies is noticed.

A coordination.k8s.io/v1 Lease that is taken and renewed by compare-and-swap on its resourceVersion. Knows nothing of
traffic: the laptop's supervisor puts it back when a lease lapses.
"""

import logging
import threading
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from penstock.components.contracts.errors import PenstockError
from penstock.components.control.base import ABSENT, ControlError, ControlPlane, Manifest, ObjectConflict, ObjectRef

__all__ = ["CanaryLease", "LeaseLost", "lease_ref"]

SECONDS = 30  # how long a lease lives without a sign of life
HEARTBEAT = 5.0  # seconds between two signs: five may fail before the lease lapses
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"  # RFC 3339 with microseconds, Kubernetes' MicroTime

logger = logging.getLogger(__name__)


class LeaseLost(ControlError):
    """The lease is no longer ours: nothing of the service may be changed any more."""


def lease_ref(service: str) -> ObjectRef:
    """Name the Lease of a service."""
    return ObjectRef("coordination.k8s.io/v1", "Lease", f"{service}-canary")


class CanaryLease:
    """The right to try a version of one service.

    As a context manager it takes the lease and keeps it alive from a thread; at the end of the block it stays held,
    so that the run's next step can take it over. `release` gives it back.

    Args:
        holder: the run id; the steps of one run share it.
        seconds: life without renewal; 0 keeps what the lease says.
        heartbeat: seconds between two renewals.
    """

    def __init__(self, plane: ControlPlane, service: str, holder: str, seconds: int = 0,
                 heartbeat: float = HEARTBEAT) -> None:
        self._plane, self._service, self._holder = plane, service, holder
        self._seconds, self._heartbeat = seconds, heartbeat
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = ""  # why, once it is

    @property
    def holder(self) -> str:
        """Who holds the lease, "" where nobody does; one that has lapsed is held until it is taken away."""
        present = self._plane.get(lease_ref(self._service))
        return "" if present is None else _holder(present)

    def acquire(self) -> None:
        """Take the lease; a holder may take its own again.

        Raises:
            ObjectConflict: another run holds it, or took it at the same moment.
        """
        present = self._plane.get(lease_ref(self._service))
        if present is not None and _holder(present) not in ("", self._holder) and not _is_lapsed(present):
            raise ObjectConflict(_explain(self._service, present))
        spec = {} if present is None else dict(present["spec"])
        if spec.get("holderIdentity") != self._holder:
            spec |= {"acquireTime": _now().strftime(TIME), "leaseTransitions": spec.get("leaseTransitions", -1) + 1}
        spec["holderIdentity"] = self._holder
        spec["leaseDurationSeconds"] = self._seconds or spec.get("leaseDurationSeconds", SECONDS)
        self._write(spec, present)
        self.lost = ""

    def renew(self) -> None:
        """Give a sign of life.

        Raises:
            LeaseLost: another run holds it, or it lapsed and was taken away.
        """
        present = self._plane.get(lease_ref(self._service))
        if present is None or _holder(present) != self._holder:
            taker = "" if present is None else _holder(present)
            raise LeaseLost(
                f"run {self._holder} no longer holds the canary lease of {self._service}: "
                + (f"run {taker} took it" if taker else "it lapsed, and the traffic went back to stable")
                + "; start the run again when nothing else changes the service")
        self._write(dict(present["spec"]), present)

    def release(self) -> None:
        """Give the lease back; one that is not ours stays as it is."""
        self._stop()
        present = self._plane.get(lease_ref(self._service))
        if present is not None and _holder(present) == self._holder:
            self._write(dict(present["spec"]) | {"holderIdentity": ""}, present)

    def check(self) -> None:
        """Raise where the heartbeat found the lease lost.

        Raises:
            LeaseLost: with the reason.
        """
        if self.lost:
            raise LeaseLost(self.lost)

    def __enter__(self) -> Self:
        self.acquire()
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{self._service}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _beat(self) -> None:
        last = _now()
        while not self._ended.wait(self._heartbeat):
            try:
                self.renew()
                last = _now()
            except LeaseLost as error:
                self.lost = str(error)
                return
            except (PenstockError, OSError) as error:
                logger.warning("lease=%s-canary event=renewal_failed error=%s", self._service, error)
                if _now() - last > timedelta(seconds=self._seconds or SECONDS):
                    self.lost = f"the canary lease of {self._service} was last renewed at {last:%H:%M:%S} UTC: {error}"
                    return
            except Exception as error:
                self.lost = f"the canary lease of {self._service} cannot be renewed: {error!r}"
                raise

    def _write(self, spec: Manifest, seen: Manifest | None) -> None:
        ref = lease_ref(self._service)
        metadata = {"name": ref.name, "namespace": ref.namespace, "labels": {"penstock.dev/service": self._service},
                    "resourceVersion": seen["metadata"]["resourceVersion"] if seen else ABSENT}
        self._plane.apply({"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata,
                           "spec": spec | {"renewTime": _now().strftime(TIME)}})


def _holder(lease: Manifest) -> str:
    return str(lease["spec"].get("holderIdentity", ""))


def _expiry(lease: Manifest) -> datetime:
    renewed = datetime.strptime(lease["spec"]["renewTime"], TIME).replace(tzinfo=UTC)
    return renewed + timedelta(seconds=int(lease["spec"]["leaseDurationSeconds"]))


def _is_lapsed(lease: Manifest) -> bool:
    return _now() > _expiry(lease)


def _explain(service: str, lease: Manifest) -> str:
    spec = lease["spec"]
    left = (_expiry(lease) - _now()).total_seconds()
    return (f"run {spec['holderIdentity']} holds the canary lease of service {service} since {spec['acquireTime']} "
            f"(last sign of life {spec['renewTime']}); wait until it ends and start again. If that run is dead, the "
            f"lease lapses by itself in {left:.0f} s and the traffic goes back to stable")


def _now() -> datetime:
    return datetime.now(UTC)
