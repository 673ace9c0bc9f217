"""The control plane of a cluster: any Kubernetes, through kubeconfig or the pod's service account.

The verbs over an API server. Runs nothing itself: the operators there do; where pods know more than the conditions that
these write, `kubernetes_pods` asks the pods.
"""

import copy
import json
import logging
import math
import time
from collections.abc import Iterator
from datetime import timedelta

from penstock.components.control.base import (
    ABSENT,
    HASH_ANNOTATION,
    ControlError,
    LogLine,
    Manifest,
    NotFound,
    ObjectConflict,
    ObjectRef,
    condition,
    manifest_hash,
    outcome,
)
from penstock.components.control.inference_service import failure, is_ready
from penstock.components.control.kubernetes_api import APPLY, JSON_PATCH, Api, Query
from penstock.components.control.kubernetes_errors import MANAGER
from penstock.components.control.kubernetes_logs import follow, read_all
from penstock.components.control.kubernetes_pods import SELECTORS, PodWatch, find_pods

__all__ = ["KubernetesPlane"]

JOBS = ("Experiment", "Job", "PyTorchJob", "TrainJob", "Trial")  # immutable
SERVER_FIELDS = ("uid", "creationTimestamp", "generation", "managedFields", "selfLink", "deletionTimestamp")
STREAM_SECONDS = 60  # then the object is read anew: a balancer may have dropped a silent stream without a word
POLL_SECONDS = 0.5
ATTEMPTS = 5
DELETE_SECONDS = 120.0
DRY_RUN: Query = {"dryRun": "All"}
log = logging.getLogger(__name__)


class KubernetesPlane:
    """A `ControlPlane` on a cluster.

    Objects of the namespace `default`, which is what manifests say, live in the plane's.

    Args:
        namespace: of the plane; "": `PENSTOCK_NAMESPACE`, else that of the kubeconfig's context or of the pod.

    Raises:
        ControlError: neither a kubeconfig nor a service account is there.
    """

    def __init__(self, namespace: str = "") -> None:
        self._api = Api(namespace)
        self._pods = PodWatch(self._api)

    @property
    def namespace(self) -> str:
        """Where objects of the namespace `default` live."""
        return self._api.namespace

    def apply(self, manifest: Manifest) -> Manifest:
        """Create or update an object; see `ControlPlane.apply`.

        Jobs are created, or adopted by name and hash. What else there is, is applied on the server's side, which keeps
        what others added and removes what we no longer ask for; fields that somebody else set to other values stay.

        Raises:
            UnsupportedField: the cluster does not know a field of the manifest.
            ObjectConflict: a job of this name is another; or the object is not at the manifest's resourceVersion; or
                somebody else owns a field.
            Forbidden: the user may not; names the missing rule.
            Refused: the API server or a webhook says no, in its own words.
        """
        ref, body = self._prepare(manifest)
        expected = manifest["metadata"].get("resourceVersion")
        if ref.kind in JOBS:
            return self._create_or_adopt(ref, body)
        if expected == ABSENT:
            return self._create(ref, body)
        return self._update(ref, body, expected)

    def dry_run(self, manifest: Manifest) -> Manifest:
        """Let the API server and its webhooks check an object without keeping it, unknown fields included.

        Returns:
            The object as it would be.

        Raises:
            ControlError: as `apply` would.
        """
        ref, body = self._prepare(manifest)
        if self.get(ref) is None:
            return self._create(ref, body, DRY_RUN)
        return self._api.send("PATCH", self._api.path(ref), f"check {ref}", body, kind=APPLY,
                              query={**DRY_RUN, "force": "true"})

    def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object as it is now, with its status, or None."""
        ref = self._api.place(ref)
        return self._api.get(self._api.path(ref), f"get {ref}")

    def watch(self, ref: ObjectRef, timeout: timedelta) -> Iterator[Manifest]:
        """Yield the object now and at each change, until it is settled or gone, or the time is over.

        An API server that restarts meanwhile is waited for.

        Raises:
            JobFailed: a pod of the job has not been able to start for two minutes, see `kubernetes_pods`.
        """
        ref = self._api.place(ref)
        deadline = time.monotonic() + timeout.total_seconds()
        uid = seen = ""
        while (found := self.get(ref)) is not None:
            if found["metadata"]["uid"] != (uid := uid or found["metadata"]["uid"]):
                return  # deleted, and another of its name created
            for current in self._stream(ref, found, deadline):
                if current.get("deleted"):
                    return
                if current["metadata"]["resourceVersion"] != seen:
                    seen = current["metadata"]["resourceVersion"]
                    yield current
                if _is_settled(current):
                    return
                if ref.kind in JOBS:
                    self._pods.look(ref, current)
            if ref.kind in JOBS:
                self._pods.look(ref, found)
            if time.monotonic() >= deadline:
                return
            time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))

    def logs(self, ref: ObjectRef) -> Iterator[LogLine]:
        """Yield the lines of all pods of a job in order of time until it ends; of a service those printed so far.

        Raises:
            NotFound: there is no such object.
            JobFailed: a pod of the job has not been able to start for two minutes.
        """
        ref = self._api.place(ref)
        found = self.get(ref)
        if found is None:
            raise NotFound(f"{ref}: there is no such object, so no log")
        if ref.kind not in SELECTORS:
            raise ControlError(f"{ref} has no pods, so no log; {', '.join(SELECTORS)} have")
        job = found
        if ref.kind not in JOBS:
            yield from read_all(find_pods(self._api, ref, job), self._api)
            return

        def ended() -> bool:
            current = self.get(ref)
            if current is None or current["metadata"]["uid"] != job["metadata"]["uid"] or outcome(current):
                return True
            self._pods.look(ref, current)
            return False

        yield from follow(lambda: find_pods(self._api, ref, job), ended, self._api)

    def failure(self, ref: ObjectRef) -> str:
        """Say why the pods of an object died or cannot start, "" where nothing is known; see `ControlPlane.failure`."""
        ref = self._api.place(ref)
        found = self.get(ref)
        return self._pods.failure(ref, found) if found is not None and ref.kind in SELECTORS else ""

    def delete(self, ref: ObjectRef) -> None:
        """Delete the object and wait until it is gone, a job's pods too; an absent one is no error.

        Raises:
            ControlError: something holds it back.
        """
        ref = self._api.place(ref)
        found = self.get(ref)
        if found is None:
            return
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        self._api.request("DELETE", self._api.path(ref), f"delete {ref}", body=options)
        self._await_gone(ref, found)

    def _await_gone(self, ref: ObjectRef, found: Manifest) -> None:
        uid, deadline = found["metadata"]["uid"], time.monotonic() + DELETE_SECONDS
        left = [str(ref)]
        while left and time.monotonic() < deadline:
            current = self.get(ref)
            left = [str(ref)] if current is not None and current["metadata"]["uid"] == uid else []
            if not left and current is None and ref.kind in JOBS:  # two trainings must not write one folder
                left = [f"pod {pod['metadata']['name']}" for pod in find_pods(self._api, ref, found)]
            if left:
                time.sleep(POLL_SECONDS)
        if left:
            held = found["metadata"].get("finalizers", [])
            raise ControlError(f"{', '.join(left)} is not gone after {DELETE_SECONDS:g} s"
                               + (f"; it has the finalizers {', '.join(held)}" if held else "")
                               + f"; look with `kubectl -n {ref.namespace} describe {ref.kind.lower()} {ref.name}`")

    def _prepare(self, manifest: Manifest) -> tuple[ObjectRef, Manifest]:
        """Say where the object belongs, and leave out what a server wrote into it."""
        ref = self._api.place(ObjectRef.of(manifest))
        body = copy.deepcopy({key: value for key, value in manifest.items() if key != "status"})
        body["metadata"] = {key: value for key, value in body["metadata"].items()
                            if key not in (*SERVER_FIELDS, "resourceVersion")} | {"namespace": ref.namespace}
        if ref.kind in JOBS:  # on a service an annotation would make a new revision
            body["metadata"]["annotations"] = {**body["metadata"].get("annotations", {}),
                                               HASH_ANNOTATION: manifest_hash(manifest)}
        return ref, body

    def _create(self, ref: ObjectRef, body: Manifest, query: Query | None = None) -> Manifest:
        return self._api.send("POST", self._api.path(ref, collection=True), f"create {ref}", body, query=query)

    def _create_or_adopt(self, ref: ObjectRef, body: Manifest) -> Manifest:
        present = self.get(ref)
        if present is not None and present["metadata"].get("deletionTimestamp"):
            self._await_gone(ref, present)
            present = None
        if present is None:
            try:
                return self._create(ref, body)
            except ObjectConflict:
                present = self.get(ref)  # somebody was faster: a former try of ours whose answer was lost, perhaps
                if present is None:
                    raise
        theirs = present["metadata"].get("annotations", {}).get(HASH_ANNOTATION)
        if theirs != body["metadata"]["annotations"][HASH_ANNOTATION]:
            raise ObjectConflict(f"{ref} exists and is another; a {ref.kind} is immutable, so delete it first")
        log.info("object=%r event=adopted uid=%s", str(ref), present["metadata"]["uid"])
        return present

    def _update(self, ref: ObjectRef, body: Manifest, expected: str | None, attempt: int = 1) -> Manifest:
        present = self.get(ref)
        current = present["metadata"]["resourceVersion"] if present is not None else ABSENT
        if expected is not None and expected != current:
            now = "does not exist (any more)" if present is None else f"is at version {current} now"
            raise ObjectConflict(f"{ref} {now}, the manifest expects {expected}: get it again, look, and apply anew")
        if present is not None:
            try:
                current = self._own_what_we_created(ref, present)
            except ObjectConflict:
                if expected is not None or attempt == ATTEMPTS:
                    raise
                return self._update(ref, body, expected, attempt + 1)  # its status was written in between
        if expected is not None:
            body["metadata"]["resourceVersion"] = current
        return self._api.send("PATCH", self._api.path(ref), f"apply {ref}", body, kind=APPLY)

    def _own_what_we_created(self, ref: ObjectRef, present: Manifest) -> str:
        """Turn the ownership that creation left into that of apply; return the version of the object then.

        Only `POST` says "must not exist yet", but fields that came with it count as an update's, and apply would never
        remove them.
        """
        version: str = present["metadata"]["resourceVersion"]
        entries = present["metadata"].get("managedFields", [])
        created = [entry for entry in entries if _is_ours(entry, "Update")]
        if not created:
            return version
        rest = [entry for entry in entries if not _is_ours(entry, "Update")]
        if not any(_is_ours(entry, "Apply") for entry in entries):
            rest.append(created[0] | {"operation": "Apply"})
        patch = [{"op": "replace", "path": "/metadata/managedFields", "value": rest},
                 {"op": "replace", "path": "/metadata/resourceVersion", "value": version}]
        patched = self._api.send("PATCH", self._api.path(ref), f"apply {ref}", patch, kind=JSON_PATCH)
        return str(patched["metadata"]["resourceVersion"])

    def _stream(self, ref: ObjectRef, found: Manifest, deadline: float) -> Iterator[Manifest]:
        """Yield the object and what becomes of it; ends at times, to be begun anew. Deleted: `{"deleted": True}`."""
        yield found
        left = min(deadline - time.monotonic(), STREAM_SECONDS)
        if left <= 0:
            return
        query = {"watch": "true", "fieldSelector": f"metadata.name={ref.name}", "timeoutSeconds": math.ceil(left),
                 "resourceVersion": found["metadata"]["resourceVersion"]}
        path = self._api.path(ref, collection=True)
        for line in self._api.lines(path, f"watch {ref}", query, left):
            event = json.loads(line)
            if event["type"] in ("ADDED", "MODIFIED"):
                yield event["object"]
            elif event["type"] == "DELETED":
                yield {"deleted": True}
            else:  # ERROR: 410, the version is too old to go on from
                log.info("object=%r event=watch-anew reason=%s", str(ref), event["object"].get("message"))
                return


def _is_ours(entry: Manifest, operation: str) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource", "")) == (MANAGER, operation, "")


def _is_settled(found: Manifest) -> bool:
    if found["kind"] in JOBS:
        return outcome(found) != ""
    if found["kind"] != "InferenceService":
        return False
    newest = found.get("status", {}).get("observedGeneration") == found["metadata"].get("generation")
    return is_ready(found) or failure(found) != "" or (newest and condition(found, "Ready").get("status") == "False")
