"""The objects of the laptop plane, as JSON files: what an API server keeps, for one machine.

An object and its status are two files, so that who asks and who reconciles never overwrite each other. Checks no field
and starts nothing: `fields` and `supervisor` do.
"""

import fcntl
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from penstock.components.contracts.folder import write_atomically
from penstock.components.control.base import ABSENT, ControlError, Manifest, ObjectConflict, ObjectRef

__all__ = ["POLL_SECONDS", "SERVER_FIELDS", "Store"]

SERVER_FIELDS = ("uid", "creationTimestamp", "generation", "resourceVersion")  # of the metadata
ASKED_FIELDS = ("labels", "annotations")
POLL_SECONDS = 0.1
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Store:
    """The objects in one folder.

    Args:
        folder: created with the first object.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, ref: ObjectRef) -> Manifest | None:
        """Return an object with its status, or None."""
        found = _read(self._path(ref))
        if found is None:
            return None
        status = _read(self._status_path(ref))
        if status is not None and status["uid"] == found["metadata"]["uid"]:
            found["status"] = status["status"]
        return found

    def follow(self, ref: ObjectRef, timeout: timedelta, is_over: Callable[[Manifest], bool]) -> Iterator[Manifest]:
        """Yield an object with its status now and at each change, until `is_over`, it is gone, or the time is over."""
        deadline = time.monotonic() + timeout.total_seconds()
        seen: Manifest | None = None
        while (found := self.load(ref)) is not None:
            if found != seen:
                yield found
                seen = found
            if is_over(found) or time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

    def list(self, kind: str) -> list[Manifest]:
        """Return all objects of a kind, without their status, by name."""
        folder = self._folder / kind.lower()
        found = [_read(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
        return [manifest for manifest in found if manifest is not None]

    def put(self, manifest: Manifest, *, status: dict[str, Any] | None = None, renew: bool = False) -> Manifest:
        """Create or update what was asked for: spec, labels, annotations. The status stays as it is.

        `metadata.resourceVersion` in the manifest makes it a compare-and-swap; "0" says that there must be no such
        object. An update that changes nothing leaves the version as it is; the generation counts changes of the spec.

        Args:
            status: of a new object, which is never seen without it, whenever its owner dies; one that is there keeps
                its own.
            renew: count a generation even if the spec is the same, so that what failed is tried again.

        Raises:
            ObjectConflict: the object is not at that version any more.
        """
        ref = ObjectRef.of(manifest)
        with self._locked():
            present = _read(self._path(ref))
            _compare(ref, manifest["metadata"].get("resourceVersion"), present)
            if present is None or renew or _asked(manifest) != _asked(present):
                asked = _next(manifest, present, renew)
                if present is None and status is not None:  # first: until its object is there it is nobody's
                    self._write_status(ref, asked["metadata"]["uid"], status)
                write_atomically(self._path(ref), _dump(asked))
            return self.load(ref) or manifest

    def put_status(self, ref: ObjectRef, uid: str, status: dict[str, Any]) -> None:
        """Write the status of the object with this uid; if it is gone or another, do nothing."""
        with self._locked():
            present = _read(self._path(ref))
            if present is not None and present["metadata"]["uid"] == uid:
                self._write_status(ref, uid, status)

    def delete(self, ref: ObjectRef) -> bool:
        """Forget an object; say whether there was one."""
        with self._locked():
            existed = self._path(ref).exists()
            self._path(ref).unlink(missing_ok=True)
            self._status_path(ref).unlink(missing_ok=True)
        return existed

    def _write_status(self, ref: ObjectRef, uid: str, status: dict[str, Any]) -> None:
        write_atomically(self._status_path(ref), _dump({"uid": uid, "status": status}))

    def _path(self, ref: ObjectRef) -> Path:
        for name in (ref.name, ref.namespace):
            if not NAME.fullmatch(name):
                raise ControlError(f"{name!r} cannot name a {ref.kind}: use lower-case letters, digits and dashes, "
                                   "63 characters at most, for example fashion-mnist")
        return self._folder / ref.kind.lower() / f"{ref.namespace}.{ref.name}.json"

    def _status_path(self, ref: ObjectRef) -> Path:
        path = self._path(ref)
        return path.parent / "status" / path.name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> Manifest | None:
    try:
        content: Manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ControlError(f"{path} is damaged: {error}; remove it and apply the object again") from error
    return content


def _dump(manifest: Manifest) -> str:
    return json.dumps(manifest, indent=2) + "\n"


def _asked(manifest: Manifest) -> dict[str, Any]:
    return {"spec": manifest.get("spec", {})} | {key: manifest["metadata"].get(key) or {} for key in ASKED_FIELDS}


def _compare(ref: ObjectRef, expected: str | None, present: Manifest | None) -> None:
    current = present["metadata"]["resourceVersion"] if present is not None else ABSENT
    if expected is not None and expected != current:
        now = "does not exist (any more)" if present is None else f"is at version {current} now"
        raise ObjectConflict(f"{ref} {now}, the manifest expects {expected}: get it again, look, and apply anew")


def _next(manifest: Manifest, present: Manifest | None, renew: bool) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in SERVER_FIELDS}
    # Nanoseconds, but never less than the last one: a version never comes back, not even after a delete.
    version = time.time_ns()
    if present is None:
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                     "generation": 1}
    else:
        old = present["metadata"]
        version = max(version, int(old["resourceVersion"]) + 1)
        changed = renew or manifest.get("spec", {}) != present.get("spec", {})
        metadata |= {"uid": old["uid"], "creationTimestamp": old["creationTimestamp"],
                     "generation": old["generation"] + changed}
    metadata |= {"namespace": metadata.get("namespace", "default"), "resourceVersion": str(version)}
    bare = {key: value for key, value in manifest.items() if key != "status"}
    return bare | {"metadata": metadata}
