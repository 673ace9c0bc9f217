"""The objects of a training, to the letter where the train step's tests do not hold them already."""

import pytest

from penstock.components import images
from penstock.components.training.job import JobKind, training_job

ARGS = ["--dataset", "/data/set", "--work", "/data/work", "--set", "learning_rate=0.1"]
VARIABLES = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": "536870912",
             "MALLOC_TRIM_THRESHOLD_": "17179869184", "LOGLEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR",
             "OMP_NUM_THREADS": "3"}


def test_a_trainjob_to_the_letter() -> None:
    job = training_job("train-r-1", {"penstock.dev/run": "r-1"}, kind="TrainJob", workers=2, threads=3, max_restarts=1,
                       args=ARGS)

    assert job == {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "train-r-1", "namespace": "default",
                     "labels": {"app.kubernetes.io/part-of": "penstock", "penstock.dev/run": "r-1"}},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {
                "image": images.TORCH,
                "command": ["torchrun", "-m", "penstock.components.training.worker"],
                "args": ARGS,
                "numNodes": 2,
                "numProcPerNode": 1,
                "env": [{"name": name, "value": value} for name, value in VARIABLES.items()],
            },
        },
    }


def test_both_kinds_run_the_same() -> None:
    def container(kind: JobKind) -> dict[str, object]:
        spec = training_job("a", {}, kind=kind, workers=1, threads=1, max_restarts=0, args=ARGS)["spec"]
        found = spec["trainer"] if kind == "TrainJob" else \
            spec["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
        return {name: found[name] for name in ("image", "command", "args", "env")}

    assert container("PyTorchJob") == container("TrainJob")


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob"])
def test_a_template_is_not_changed(kind: JobKind) -> None:
    jobs = [training_job(name, {"run": name}, kind=kind, workers=3, threads=1, max_restarts=0, args=ARGS)
            for name in ("a", "b")]

    jobs[0]["metadata"] |= {"name": "b", "labels": jobs[1]["metadata"]["labels"]}
    assert jobs[0] == jobs[1]
