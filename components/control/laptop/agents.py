"""Agents: the processes that stand for the pods of a PyTorchJob on this machine.

Builds the environment that the training operator would inject, and starts and ends agents with all that they started.
Knows no status and no condition: `job_keeper` does.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from penstock.components.control.base import ControlError, Manifest
from penstock.components.control.laptop import processes

__all__ = ["end_agents", "environment", "pod_name", "start_agent", "worker"]

END_SECONDS = 5.0  # from SIGTERM to SIGKILL: a checkpoint is whole or absent, so nothing is lost


def worker(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Worker replica specification of a PyTorchJob."""
    found: dict[str, Any] = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    return found


def pod_name(job: Mapping[str, Any], index: int) -> str:
    """Return the name that the operator gives to worker `index`."""
    return f"{job['metadata']['name']}-worker-{index}"


def environment(job: Manifest, port: int) -> dict[str, str]:
    """Return what training-operator 1.9 injects into each pod of a worker-only job with an elasticPolicy.

    Source: pkg/controller.v1/pytorch/{envvar,elastic}.go. The operator's PET_RDZV_ENDPOINT names the first pod and
    port 23456; here every pod is this machine, so it is the loopback address and a free port.
    """
    spec, elastic = job["spec"], job["spec"]["elasticPolicy"]
    replicas = worker(job).get("replicas", 1)
    least = elastic.get("minReplicas", elastic.get("maxReplicas", replicas))
    most = elastic.get("maxReplicas", least)
    variables = {
        "PYTHONUNBUFFERED": "1",
        "PET_NPROC_PER_NODE": str(spec.get("nprocPerNode", "auto")),
        "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}",
        "PET_RDZV_BACKEND": str(elastic.get("rdzvBackend", "c10d")),
        "PET_NNODES": f"{least}:{most}",
    }
    if "maxRestarts" in elastic:
        variables["PET_MAX_RESTARTS"] = str(elastic["maxRestarts"])
    return variables


def start_agent(job: Manifest, index: int, port: int, log: Path) -> processes.Process:
    """Start one agent in a process group of its own, but in this session, its output appended to `log`.

    Raises:
        ControlError: its program is not installed.
    """
    container = worker(job)["template"]["spec"]["containers"][0]
    asked = {entry["name"]: str(entry["value"]) for entry in container.get("env", [])}
    network = {"PET_LOCAL_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": _loopback()}  # in the place of a pod network
    command = _installed([*container["command"], *container.get("args", [])])
    return processes.start(command, asked | environment(job, port) | network, log, owner=job["metadata"]["uid"],
                           name=pod_name(job, index))


def end_agents(job: Manifest, index: int | None = None) -> None:
    """End every process of a job, or of one of its agents, also those whose agent was killed.

    torchrun starts its workers in sessions of their own, so neither group nor parent tells whose they are: the mark in
    their environment does.

    Raises:
        ControlError: one survives even SIGKILL.
    """
    uid, name = job["metadata"]["uid"], "" if index is None else pod_name(job, index)
    grace = END_SECONDS
    while left := processes.marked(uid, name):
        processes.end_all(left, grace)
        grace = 0  # what was started meanwhile has no claim to patience


def _installed(command: Sequence[str]) -> list[str]:
    """Take Python and its scripts from this interpreter's installation, as an image would have them on its PATH."""
    program = command[0]
    if program in ("python", "python3"):
        return [sys.executable, *command[1:]]
    script = Path(sys.executable).with_name(program)
    if not script.is_file():
        raise ControlError(f"{script} is not there: install penstock with its torch extra into this environment")
    return [str(script), *command[1:]]


def _loopback() -> str:
    return next(name for name, addresses in psutil.net_if_addrs().items()
                if any(address.address == "127.0.0.1" for address in addresses))
