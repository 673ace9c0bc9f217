"""What the pods print: every line once, each pod's in its order, from all pods, and to the end."""

import json
from collections import defaultdict
from typing import Any

import pytest

from penstock.components.control.base import ObjectRef

COUNT = 200
# Two nodes meet where their environment says, and part together: the first success ends an elastic PyTorchJob.
MEET = """
import json, os, socket, time
place = os.environ.get("PET_RDZV_ENDPOINT") or os.environ.get("PET_MASTER_ADDR", "") + ":29500"
host, port = place.rsplit(":", 1)
deadline = time.monotonic() + 120
port = os.environ.get("PET_MASTER_PORT", port)

def listen():
    rank = os.environ.get("PET_NODE_RANK")
    if rank == "0" or rank is None and host in ("127.0.0.1", socket.gethostname()):
        try:
            return socket.create_server((host if host == "127.0.0.1" else "", int(port)))
        except OSError:  # on one machine the other node was faster
            return None

def call():
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=120)
        except OSError:  # it does not listen yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)

server = listen()
if server:
    server.settimeout(120)
other = server.accept()[0] if server else call()
"""
PART = """
other.sendall(b"!")
other.recv(1)
"""
MANY = f"for number in range({COUNT}): print(number, 'ä', flush=True)"
ENVIRONMENT = "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('PET_')}), flush=True)"
PODS = {"Job": "{name}-", "PyTorchJob": "{name}-worker-", "TrainJob": "{name}-node-0-"}


@pytest.mark.parametrize("kind", [*PODS])
def test_every_line_of_every_pod(bed: Any, kind: str) -> None:
    nodes = 1 if kind == "Job" else 2
    job = bed.apply(bed.job(kind, MANY if nodes == 1 else MEET + MANY + PART, nodes=nodes))

    printed = defaultdict(list)
    for pod, text in bed.plane.logs(ObjectRef.of(job)):
        printed[pod].append(text)

    assert len(printed) == nodes
    assert all(pod.startswith(PODS[kind].format(**job["metadata"])) for pod in printed)
    assert [*printed.values()] == [[f"{number} ä" for number in range(COUNT)]] * nodes
    again = defaultdict(list)
    for pod, text in bed.plane.logs(ObjectRef.of(job)):
        again[pod].append(text)
    # Of an elastic PyTorchJob the operator deletes the pods that have not quite ended at the first success.
    assert set(again) == set(printed) or (kind == "PyTorchJob" and again)
    assert all(lines == printed[pod] for pod, lines in again.items())


@pytest.mark.parametrize("kind", [*PODS])
def test_the_last_words_of_a_pod_that_fails(bed: Any, kind: str) -> None:
    """Also those without an end of line; a TrainJob starts its pod again, so the words come again."""
    job = bed.apply(bed.job(kind, "import sys; print('first', flush=True); sys.stdout.write('last'); sys.exit(3)"))

    lines = bed.plane.logs(ObjectRef.of(job))
    texts = [next(lines).text, next(lines).text] if kind == "TrainJob" else [line.text for line in lines]

    assert texts == ["first", "last"]


NETWORK = {"PET_RDZV_ENDPOINT", "PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_LOCAL_ADDR"}  # each plane has its own


@pytest.mark.parametrize(("kind", "expected"), [
    ("PyTorchJob", {"PET_NNODES": "2:2", "PET_NPROC_PER_NODE": "1", "PET_MAX_RESTARTS": "0",
                    "PET_RDZV_BACKEND": "c10d"}),
    ("TrainJob", {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1"}),
])
def test_the_environment_of_the_nodes(bed: Any, kind: str, expected: dict[str, str]) -> None:
    """Exactly the variables that torchrun reads; what names a place must name the same one on all nodes."""
    job = bed.apply(bed.job(kind, MEET + ENVIRONMENT + PART, nodes=2))

    seen = [json.loads(line.text) for line in bed.plane.logs(ObjectRef.of(job))]

    ranks = sorted(environment.pop("PET_NODE_RANK", "none") for environment in seen)
    assert ranks == (["0", "1"] if kind == "TrainJob" else ["none", "none"])
    assert seen[0] == seen[1]
    places = {name for name in seen[0] if name in NETWORK} - {"PET_LOCAL_ADDR"}
    assert places == ({"PET_MASTER_ADDR", "PET_MASTER_PORT"} if kind == "TrainJob" else {"PET_RDZV_ENDPOINT"})
    assert {name: value for name, value in seen[0].items() if name not in NETWORK} == expected
