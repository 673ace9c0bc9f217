"""A control plane in memory, and a registry with two versions that really answer."""

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.model import Model
from penstock.components.control.base import LogLine, Manifest, ObjectConflict, ObjectRef
from penstock.components.control.inference_service import service_ref
from penstock.components.control.laptop.traffic import RollOut, settle, targets
from penstock.components.deployment import traffic
from penstock.components.deployment.registry import Lineage, Registry

SERVICE = "sides"


class FakePlane:
    """Shares out traffic as the laptop plane does, one step behind, and fails where told to.

    Objects with resourceVersion and generation; an InferenceService catches up by one step at each `get`.

    Attributes:
        broken: storageUri -> why a predictor of it never gets ready.
        urls: revision -> where it answers.
        stalled: status stays as it is.
        pod_trouble: what `failure` tells of pods.
    """

    def __init__(self, url: str = "http://127.0.0.1:1") -> None:
        self.objects: dict[ObjectRef, Manifest] = {}
        self.broken: dict[str, str] = {}
        self.urls: dict[str, str] = {}
        self.stalled = False
        self.pod_trouble = ""
        self.url = url
        self._version = 0
        self._states: dict[str, RollOut] = {}
        self._revisions: dict[str, dict[str, str]] = {}
        self._crashed: set[str] = set()

    def apply(self, manifest: Manifest) -> Manifest:
        ref = ObjectRef.of(manifest)
        present = self.objects.get(ref)
        current = present["metadata"]["resourceVersion"] if present else "0"
        if manifest["metadata"].get("resourceVersion", current) != current:
            raise ObjectConflict(f"{ref} is at {current}")
        self._version += 1
        kept = copy.deepcopy(manifest)
        generation = present["metadata"]["generation"] + (present["spec"] != kept["spec"]) if present else 1
        kept["metadata"] |= {"resourceVersion": str(self._version), "generation": generation}
        kept["status"] = present["status"] if present else {}
        self.objects[ref] = kept
        return copy.deepcopy(kept)

    def get(self, ref: ObjectRef) -> Manifest | None:
        found = copy.deepcopy(self.objects.get(ref))
        if ref.kind == "InferenceService" and found and not self.stalled:
            self._reconcile(ref)
        return found

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        found = self.get(ref)
        return iter([found] if found else [])

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        return iter(())

    def failure(self, ref: ObjectRef) -> str:
        return self.pod_trouble

    def delete(self, ref: ObjectRef) -> None:
        self.objects.pop(ref, None)
        self._states.pop(ref.name, None)

    def settled(self, service: str) -> Manifest | None:
        """Return the InferenceService once nothing moves any more."""
        for _ in range(10):
            found = self.get(service_ref(service))
        return found

    def crash(self, revision: str) -> None:
        """End a revision's predictor for good."""
        self._crashed.add(revision)

    def lapse(self, service: str) -> None:
        """Do what the supervisor does when a lease lapses: no traffic for the canary, nobody holds the lease."""
        self.objects[service_ref(service)]["spec"]["predictor"]["canaryTrafficPercent"] = 0
        self._version += 1
        self.objects[service_ref(service)]["metadata"]["resourceVersion"] = str(self._version)

    def _reconcile(self, ref: ObjectRef) -> None:
        isvc = self.objects[ref]
        predictor = isvc["spec"]["predictor"]
        uri = predictor["model"]["storageUri"]
        known = self._revisions.setdefault(ref.name, {})
        template = f"{predictor['model']['runtime']} {uri}"
        created = known.setdefault(template, f"{ref.name}-predictor-{len(known) + 1:05d}")
        state = self._states.get(ref.name, RollOut())._replace(
            created=created, percent=predictor.get("canaryTrafficPercent", 100))
        reason = self.broken.get(uri, "") or ("it was killed" if created in self._crashed else "")
        if not reason:
            state = state._replace(ready=created)
        shares = targets(state, set(known.values()) - self._crashed)
        self._states[ref.name] = settle(state, shares, set(known.values()))
        info: dict[str, Any] = {"reason": "ModelLoadFailed", "message": reason, "exitCode": 1,
                                "modelRevisionName": created}
        isvc["status"] = {
            "observedGeneration": isvc["metadata"]["generation"], "url": self.url,
            "conditions": [{"type": "Ready", "status": "True"}],  # it lies, as KServe's does
            "components": {"predictor": {
                "latestCreatedRevision": created, "latestReadyRevision": state.ready,
                "traffic": [{"revisionName": share.revision, "percent": share.percent,
                             "tag": "latest" if share.latest else "prev",
                             "url": self.urls.get(share.revision, self.url)} for share in shares]}},
            "modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": info} if reason else {},
        }


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> FakePlane:
    """A control plane in memory; what waits for it looks every 5 ms."""
    monkeypatch.setattr(traffic, "POLL", 0.005)
    return FakePlane()


@pytest.fixture
def registry(tmp_path: Path, models: dict[str, Model]) -> Registry:
    """A registry where all three are registered for the service `sides`."""
    found = Registry(tmp_path / "registry")
    for model in models.values():
        found.register(SERVICE, model, Lineage(run_id="run-0", dataset="sides", dataset_hash="d1", metrics={},
                                               registered_at=datetime(2026, 11, 21, tzinfo=UTC), made_by="test"))
    return found
