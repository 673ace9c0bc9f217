"""The Kubernetes object of one training: a PyTorchJob or a TrainJob whose workers run `training.worker`.

Fills a template and nothing else: the train step and the sweep's trials give it to a control plane, or to Katib.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from penstock.components import images
from penstock.components.control.base import Manifest
from penstock.manifests import load

__all__ = ["JobKind", "training_job"]

JobKind = Literal["PyTorchJob", "TrainJob"]


def training_job(name: str, labels: Mapping[str, str], *, kind: JobKind, workers: int, threads: int,
                 max_restarts: int, args: Sequence[str]) -> Manifest:
    """Fill the object of one training.

    Both kinds run the same command with the same arguments and environment, so they come to the same weights.

    Args:
        labels: put beside those of the template.
        workers: pods of one process each.
        threads: of each process.
        max_restarts: how often a killed or failed worker may send all back to the last checkpoint. Only a PyTorchJob
            can say so; a TrainJob takes what its runtime gives (`torch-distributed` of Trainer 2.3: the 6 of a
            Kubernetes Job), for none of its fields reaches the Job's backoffLimit.
        args: of the worker, for example `["--dataset", "/data/set", "--work", "/data/work"]`.
    """
    manifest = load(f"jobs/{kind.lower()}.yaml")
    manifest["metadata"]["name"] = name
    manifest["metadata"]["labels"] |= labels
    fill = _fill_pytorchjob if kind == "PyTorchJob" else _fill_trainjob
    container = fill(manifest, workers, max_restarts)
    container["image"] = images.TORCH
    container["args"] = list(args)
    container["env"].append({"name": "OMP_NUM_THREADS", "value": str(threads)})
    return manifest


def _fill_pytorchjob(job: Manifest, workers: int, max_restarts: int) -> Manifest:
    spec = job["spec"]
    spec["elasticPolicy"] |= {"minReplicas": workers, "maxReplicas": workers}
    # A lost worker takes the others with it, so each restarts; and the operator fails a job at the limit, not past it.
    spec["runPolicy"]["backoffLimit"] = max_restarts * workers + 1
    worker = spec["pytorchReplicaSpecs"]["Worker"]
    worker["replicas"] = workers
    container: Manifest = worker["template"]["spec"]["containers"][0]
    return container


def _fill_trainjob(job: Manifest, workers: int, max_restarts: int) -> Manifest:
    trainer: Manifest = job["spec"]["trainer"]
    trainer["numNodes"] = workers
    return trainer
