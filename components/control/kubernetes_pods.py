"""The pods of an object: which they are, why one cannot start, and what one died of.

What an operator's conditions leave out or tell late; reads pods, changes nothing.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from penstock.components.control.base import JobFailed, Manifest, ObjectRef
from penstock.components.control.inference_service import newest_revision
from penstock.components.control.kubernetes_api import Api

__all__ = ["SELECTORS", "PodWatch", "Trouble", "find_pods", "trouble"]

SELECTORS = {
    "Job": "batch.kubernetes.io/job-name",
    "PyTorchJob": "training.kubeflow.org/job-name",
    "TrainJob": "jobset.sigs.k8s.io/jobset-name",
    "Trial": "katib.kubeflow.org/trial",
    "Experiment": "katib.kubeflow.org/experiment",
    "InferenceService": "serving.kserve.io/inferenceservice",
}
CANNOT_START = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
                "CreateContainerConfigError", "CreateContainerError", "RunContainerError")
START_SECONDS = 120.0  # a registry that is away for a moment is no reason to give up; a wrong name stays wrong
SCHEDULE_SECONDS = 600.0  # until then a node may be on its way, or a queue ahead
LOOK_SECONDS = 5.0
REVISION = "serving.knative.dev/revision"


class Trouble(NamedTuple):
    """What is wrong with one pod; `stuck`: it will not start unless somebody changes something."""

    text: str
    stuck: bool


class PodWatch:
    """Looks after the pods of jobs, on our own clock, and remembers what it saw: pods vanish with their reason."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._looked: dict[str, float] = {}
        self._stuck_since: dict[str, float] = {}
        self._last: dict[str, str] = {}

    def look(self, ref: ObjectRef, found: Manifest) -> None:
        """Look, at most every few seconds, whether the pods of a job can start.

        Raises:
            JobFailed: one has not been able to for `START_SECONDS`; the operator would wait for ever.
        """
        uid, now = found["metadata"]["uid"], time.monotonic()
        if now - self._looked.get(uid, -LOOK_SECONDS) < LOOK_SECONDS:
            return
        self._looked[uid] = now
        troubles = self._troubles(ref, found)
        stuck = next((trouble.text for trouble in troubles if trouble.stuck), "")
        since = self._stuck_since.setdefault(uid, now)
        if not stuck:
            self._stuck_since.pop(uid, None)  # another thread may read the logs, and look too
        elif now - since >= START_SECONDS:
            raise JobFailed(f"{ref} cannot start: {stuck}; this has been so for {now - since:.0f} s. Correct it and "
                            "start again")

    def failure(self, ref: ObjectRef, found: Manifest) -> str:
        """Say what is or was wrong with the pods, of a service with those of its newest revision; "": nothing seen."""
        if ref.kind == "InferenceService":
            newest = newest_revision(found)
            pods = [pod for pod in find_pods(self._api, ref, found)
                    if pod["metadata"].get("labels", {}).get(REVISION) == newest]
            return _together([seen for pod in pods if (seen := trouble(pod)) is not None])
        self._troubles(ref, found)
        return self._last.get(found["metadata"]["uid"], "")

    def _troubles(self, ref: ObjectRef, found: Manifest) -> list[Trouble]:
        troubles = [seen for pod in find_pods(self._api, ref, found) if (seen := trouble(pod)) is not None]
        if troubles:
            self._last[found["metadata"]["uid"]] = _together(troubles)
        return troubles


def _together(troubles: list[Trouble]) -> str:
    return "; ".join(dict.fromkeys(seen.text for seen in troubles))


def find_pods(api: Api, ref: ObjectRef, found: Manifest) -> list[Manifest]:
    """Return the pods of an object, not those of one of the same name that was there before; the oldest first."""
    pods = ObjectRef("v1", "Pod", "", ref.namespace)
    query = {"labelSelector": f"{SELECTORS[ref.kind]}={ref.name}"}
    listed = api.get(api.path(pods, collection=True), f"list the pods of {ref}", query) or {}
    born = found["metadata"]["creationTimestamp"]
    ours = [pod for pod in listed.get("items", []) if pod["metadata"]["creationTimestamp"] >= born]
    return sorted(ours, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


def trouble(pod: Manifest) -> Trouble | None:
    """Say what is wrong with a pod, None where nothing is."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    found = [seen for container, state in _states(pod) if (seen := _of_container(container, state)) is not None]
    if found:
        worst = max(found, key=lambda seen: seen.stuck)
        return worst._replace(text=f"pod {name}: {worst.text}")
    if status.get("phase") == "Failed":
        return Trouble(f"pod {name}: {status.get('reason', 'Failed')}: {status.get('message', 'no message')}", False)
    unscheduled = [entry for entry in status.get("conditions", []) if entry["type"] == "PodScheduled"
                   and entry["status"] == "False" and _age(entry["lastTransitionTime"]) > SCHEDULE_SECONDS]
    if unscheduled:
        return Trouble(f"pod {name}: no node has taken it for {_age(unscheduled[0]['lastTransitionTime']):.0f} s: "
                       f"{unscheduled[0].get('message', 'no message')}", False)
    return None


def _states(pod: Manifest) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each container with its status."""
    for group, kind in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
        containers = {container["name"]: container for container in pod["spec"].get(group, [])}
        for state in pod.get("status", {}).get(kind, []):
            yield containers.get(state["name"], {}), state


def _of_container(container: dict[str, Any], state: dict[str, Any]) -> Trouble | None:
    waiting = state.get("state", {}).get("waiting") or {}
    if waiting.get("reason") in CANNOT_START:
        image = "its image cannot be pulled" if "Image" in waiting["reason"] else "it cannot be created"
        return Trouble(f"container {state['name']} does not start, {image}: {state.get('image', '')}: "
                       f"{waiting['reason']}: {waiting.get('message', 'no message')}", True)
    past = state.get("lastState", {}).get("terminated") if waiting else None  # else it runs again, and may be well
    for ended in (state.get("state", {}).get("terminated"), past):
        if ended and ended.get("reason") == "OOMKilled":
            limit = container.get("resources", {}).get("limits", {}).get("memory", "none of its own: the node was full")
            return Trouble(f"container {state['name']} was killed because it ran out of memory (OOMKilled, limit "
                           f"{limit}): give it more, or make batches smaller", False)
        if ended and ended.get("exitCode"):
            message = f": {ended['message'].strip()}" if ended.get("message") else ""
            return Trouble(f"container {state['name']} ended with exit code {ended['exitCode']} "
                           f"({ended.get('reason', 'Error')}){message}", False)
    return None


def _age(stamp: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
