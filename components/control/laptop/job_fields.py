"""Which fields of PyTorchJob, TrainJob and Job the laptop plane honours, as data.

What they do is written here for the reader; `job_kinds` does it. Webhook rules that a manifest can break are here too,
so that it fails on both planes.
"""

import re

from penstock.components.control.laptop.field_rules import (
    CONTAINER,
    METADATA,
    ONE_CONTAINER,
    Allowed,
    Kind,
    is_count,
    is_number,
)

__all__ = ["BATCH_JOB", "PYTORCH_JOB", "TRAIN_JOB"]

RESERVED = ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")
LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_LABEL = Allowed(lambda value: bool(LABEL.fullmatch(str(value))), "a letter, then a-z, 0-9 and -, 63 at most")
SECONDS = Allowed(lambda value: is_number(value) and value > 0, "seconds, for example 600")
COUNT = Allowed(is_count, "a whole number from 1")
LIMIT = Allowed(lambda value: is_count(value) or (is_number(value) and value == 0), "a whole number from 0")
RESTARTS = Allowed(lambda value: value in ("OnFailure", "Never"), "OnFailure or Never")
ONE = Allowed(lambda value: is_number(value) and value == 1, "1")

WORKER = "spec.pytorchReplicaSpecs.Worker"
WORKER_POD = f"{WORKER}.template"
PYTORCH_JOB = Kind(
    "kubeflow.org/v1",
    METADATA | {
        "spec.nprocPerNode": "PET_NPROC_PER_NODE",
        "spec.elasticPolicy.rdzvBackend": "PET_RDZV_BACKEND",
        "spec.elasticPolicy.minReplicas": "PET_NNODES",
        "spec.elasticPolicy.maxReplicas": "PET_NNODES",
        "spec.elasticPolicy.maxRestarts": "PET_MAX_RESTARTS",
        "spec.runPolicy.cleanPodPolicy": "what becomes of the agents when the job has ended",
        "spec.runPolicy.backoffLimit": "how many restarts of agents make the job fail",
        "spec.runPolicy.activeDeadlineSeconds": "ends the job, without the operator's delay",
        f"{WORKER}.replicas": "that many torchrun agents",
        f"{WORKER}.restartPolicy": "whether an agent that failed is started again, at once",
        f"{WORKER_POD}.metadata.labels.*": "kept",
        f"{WORKER_POD}.metadata.annotations.*": "kept",
    } | {f"{WORKER_POD}.spec.containers[].{name}": text for name, text in CONTAINER.items()},
    ("spec.elasticPolicy", "spec.runPolicy", f"{WORKER_POD}.spec.containers"),
    {
        "metadata.name": DNS_LABEL,
        "spec.elasticPolicy.rdzvBackend": Allowed(lambda value: value == "c10d", "c10d"),
        "spec.runPolicy.cleanPodPolicy":
            Allowed(lambda value: value in ("Running", "All", "None"), "Running, All or None"),
        f"{WORKER}.restartPolicy": RESTARTS,
        f"{WORKER_POD}.spec.containers": ONE_CONTAINER,
        f"{WORKER_POD}.spec.containers[].name": Allowed(lambda value: value == "pytorch", "pytorch"),
    },
)

TRAIN_JOB = Kind(
    "trainer.kubeflow.org/v1alpha1",
    METADATA | {
        "spec.runtimeRef.name": "the runtime whose environment and rules are kept to",
        "spec.runtimeRef.kind": "kept",
        "spec.runtimeRef.apiGroup": "kept",
        "spec.trainer.image": CONTAINER["image"],
        "spec.trainer.command[]": CONTAINER["command[]"],
        "spec.trainer.args[]": CONTAINER["args[]"],
        "spec.trainer.env[].name": CONTAINER["env[].name"],
        "spec.trainer.env[].value": CONTAINER["env[].value"],
        "spec.trainer.numNodes": "that many torchrun agents: PET_NNODES",
        "spec.trainer.numProcPerNode": "PET_NPROC_PER_NODE",
        "spec.activeDeadlineSeconds": "ends the job",
    },
    ("spec.runtimeRef.name", "spec.trainer.command"),
    {
        "metadata.name": DNS_LABEL,
        "spec.runtimeRef.name": Allowed(lambda value: value == "torch-distributed", "torch-distributed"),
        "spec.runtimeRef.kind": Allowed(lambda value: value == "ClusterTrainingRuntime", "ClusterTrainingRuntime"),
        "spec.runtimeRef.apiGroup": Allowed(lambda value: value == "trainer.kubeflow.org", "trainer.kubeflow.org"),
        "spec.trainer.env[].name":
            Allowed(lambda value: value not in RESERVED, f"none of {', '.join(RESERVED)}, which the runtime sets"),
        "spec.trainer.numNodes": COUNT,
        "spec.trainer.numProcPerNode": COUNT,
        "spec.activeDeadlineSeconds": SECONDS,
    },
)

JOB_POD = "spec.template"
BATCH_JOB = Kind(
    "batch/v1",
    METADATA | {
        "spec.parallelism": "one process",
        "spec.completions": "one process",
        "spec.backoffLimit": "how many failures are made good by a new start, at once; default 6",
        "spec.activeDeadlineSeconds": "ends the job",
        f"{JOB_POD}.metadata.labels.*": "kept",
        f"{JOB_POD}.metadata.annotations.*": "kept",
        f"{JOB_POD}.spec.restartPolicy": "OnFailure: starts the process again; Never: starts a pod of a new name",
    } | {f"{JOB_POD}.spec.containers[].{name}": text for name, text in (CONTAINER | {"name": "kept"}).items()},
    (f"{JOB_POD}.spec.containers", f"{JOB_POD}.spec.restartPolicy"),
    {
        "spec.parallelism": ONE,
        "spec.completions": ONE,
        "spec.backoffLimit": LIMIT,
        "spec.activeDeadlineSeconds": SECONDS,
        f"{JOB_POD}.spec.restartPolicy": RESTARTS,
        f"{JOB_POD}.spec.containers": ONE_CONTAINER,
    },
)
