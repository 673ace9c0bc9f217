"""What pods tell of themselves, by value; the states are those of a real kubelet."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.components.control.base import Manifest
from penstock.components.control.kubernetes_pods import trouble

PULL = {"waiting": {"reason": "ErrImagePull", "message": "failed to pull and unpack image"}}
LOOP = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
RUNS = {"running": {"startedAt": "2026-11-21T10:00:00Z"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
FAILED = {"terminated": {"exitCode": 3, "reason": "Error", "message": "no model\n"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}


def pod(state: Manifest, last: Manifest | None = None, **status: Any) -> Manifest:
    container = {"name": "main", "image": "some/image:1", "state": state, "lastState": last or {}}
    spec = {"containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}]}
    return {"metadata": {"name": "x-0"}, "spec": spec, "status": {"containerStatuses": [container], **status}}


@pytest.mark.parametrize(("state", "last", "text", "stuck"), [
    (PULL, None, "does not start, its image cannot be pulled: some/image:1: ErrImagePull: failed to pull", True),
    ({"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "c" not found'}}, None,
     'it cannot be created: some/image:1: CreateContainerConfigError: configmap "c" not found', True),
    (KILLED, None, "container main was killed because it ran out of memory (OOMKilled, limit 64Mi)", False),
    (LOOP, KILLED, "ran out of memory", False),
    (FAILED, None, "container main ended with exit code 3 (Error): no model", False),
    (LOOP, FAILED, "container main ended with exit code 3", False),
])
def test_a_container_in_trouble(state: Manifest, last: Manifest | None, text: str, stuck: bool) -> None:
    found = trouble(pod(state, last))

    assert found is not None
    assert found.text.startswith("pod x-0: ")
    assert text in found.text
    assert found.stuck is stuck


@pytest.mark.parametrize(("state", "last"), [
    (RUNS, None), (RUNS, KILLED), (DONE, None), ({"waiting": {"reason": "ContainerCreating"}}, None)])
def test_one_that_is_well_or_well_again(state: Manifest, last: Manifest | None) -> None:
    assert trouble(pod(state, last)) is None


def test_an_init_container_counts_and_the_worst_is_told() -> None:
    found = pod(FAILED)
    found["status"]["initContainerStatuses"] = [{"name": "load", "image": "i", "state": PULL}]

    seen = trouble(found)

    assert seen is not None
    assert "container load does not start" in seen.text


def test_an_evicted_pod_says_why() -> None:
    evicted = {"metadata": {"name": "x-0"}, "spec": {"containers": []},
               "status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}}

    assert trouble(evicted) == ("pod x-0: Evicted: The node was low on resource: memory.", False)


@pytest.mark.parametrize(("seconds", "told"), [(5, False), (900, True)])
def test_a_pod_that_no_node_takes_is_told_after_a_while(seconds: int, told: bool) -> None:
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    entry = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu.",
             "lastTransitionTime": f"{since:%Y-%m-%dT%H:%M:%SZ}"}
    waiting = {"metadata": {"name": "x-0"}, "spec": {"containers": []}, "status": {"conditions": [entry]}}

    found = trouble(waiting)

    assert (found is not None and "1 Insufficient cpu" in found.text) is told
