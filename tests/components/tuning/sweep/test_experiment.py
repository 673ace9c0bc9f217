"""The Experiment to the letter, in both kinds of trial, and what Katib would refuse about it."""

import copy
from pathlib import Path
from typing import Any

import pytest
from kubeflow_katib_api.models import V1beta1Experiment

from penstock.components.contracts.errors import ConfigError
from penstock.components.contracts.folder import text_sha256
from penstock.components.control.base import Manifest
from penstock.components.control.katib_template import render_trial
from penstock.components.training.job import training_job
from penstock.components.training.worker.config import WorkerConfig
from penstock.components.tuning.sweep.config import SweepConfig
from penstock.components.tuning.sweep.experiment import check_sweep, experiment, experiment_name, fingerprint

SPACE = {
    "learning_rate": {"type": "double", "min": 0.01, "max": 1, "distribution": "logUniform"},
    "batch_size": {"type": "int", "min": 64, "max": 256, "step": 64},
    "optimizer": {"type": "categorical", "list": ["sgd", "adamw"]},
    "momentum": {"type": "discrete", "list": [0.5, 0.9]},
}
TRAIN = {"network": "linear", "epochs": 5, "learning_rate": 0.5, "workers": 2, "timeout_minutes": 5}


def config(**options: object) -> SweepConfig:
    return SweepConfig.parse({"max_trials": 6, "parallel_trials": 2, "max_failed_trials": 2, "parameters": SPACE,
                              "trial": {"epochs": 1}} | options)


def made(**options: object) -> Manifest:
    return experiment(config(**options), TRAIN, "r-1", "/data/set", Path("/runs/r-1/sweep"), "abc")


def worker_args(job: Manifest) -> list[str]:
    spec = job["spec"]
    container = (spec["trainer"] if "trainer" in spec
                 else spec["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0])
    args: list[str] = container["args"]
    return args


def test_the_object_to_the_letter() -> None:
    labels = {"penstock.dev/run": "r-1", "penstock.dev/inputs": fingerprint(config(), TRAIN, "abc")}
    searched = {name: f"${{trialParameters.{name}}}" for name in SPACE}
    options = {name: str(value) for name, value in WorkerConfig(network="linear", epochs=1).model_dump().items()}
    options |= {"flip": "0.5", "ema_decay": "0", "clip_norm": "0", "tensorboard": "true"} | searched
    args = ["--dataset", "/data/set", "--work", "/runs/r-1/sweep/${trialParameters.trialName}"]
    for name, value in options.items():
        args += ["--set", f"{name}={value}"]
    job = training_job("", labels, kind="PyTorchJob", workers=1, threads=1, max_restarts=0, args=args)
    job["metadata"] = {"labels": job["metadata"]["labels"]}
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] = "Never"

    assert made() == {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": "sweep-r-1", "namespace": "default",
                     "labels": {"app.kubernetes.io/part-of": "penstock"} | labels},
        "spec": {
            "objective": {
                "type": "maximize",
                "objectiveMetricName": "validation_accuracy",
                "additionalMetricNames": ["validation_loss", "train_loss"],
                "metricStrategies": [{"name": name, "value": "latest"}
                                     for name in ("validation_accuracy", "validation_loss", "train_loss")],
            },
            "algorithm": {"algorithmName": "tpe", "algorithmSettings": [{"name": "random_state", "value": "0"}]},
            "parameters": [
                {"name": "learning_rate", "parameterType": "double",
                 "feasibleSpace": {"min": "0.01", "max": "1", "distribution": "logUniform"}},
                {"name": "batch_size", "parameterType": "int",
                 "feasibleSpace": {"min": "64", "max": "256", "step": "64", "distribution": "uniform"}},
                {"name": "optimizer", "parameterType": "categorical", "feasibleSpace": {"list": ["sgd", "adamw"]}},
                {"name": "momentum", "parameterType": "discrete", "feasibleSpace": {"list": ["0.5", "0.9"]}},
            ],
            "parallelTrialCount": 2,
            "maxTrialCount": 6,
            "maxFailedTrialCount": 2,
            "resumePolicy": "Never",
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "trialTemplate": {
                "retain": False,
                "primaryContainerName": "pytorch",
                "trialParameters": [{"name": "trialName", "reference": "${trialSpec.Name}"},
                                    *({"name": name, "reference": name} for name in SPACE)],
                "trialSpec": job,
            },
        },
    }


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob"])
def test_katibs_models_keep_every_field(kind: str) -> None:
    manifest = made(kind=kind, goal=0.9, settings={"gamma": 0.25})

    assert V1beta1Experiment.from_dict(copy.deepcopy(manifest)).to_dict() == manifest
    assert manifest["spec"]["objective"]["goal"] == 0.9
    assert manifest["spec"]["algorithm"]["algorithmSettings"] == [
        {"name": "random_state", "value": "0"}, {"name": "gamma", "value": "0.25"}]


@pytest.mark.parametrize(("kind", "container"), [("PyTorchJob", "pytorch"), ("TrainJob", "node")])
def test_a_trial_is_a_training_that_the_worker_takes(kind: str, container: str) -> None:
    spec = made(kind=kind)["spec"]
    assert spec["trialTemplate"]["primaryContainerName"] == container

    point = {"learning_rate": "0.02", "batch_size": "128", "optimizer": "adamw", "momentum": "0.5"}
    job = render_trial(spec, "sweep-r-1-abcdefgh", "default", point)

    assert job["kind"] == kind
    assert job["metadata"]["name"] == "sweep-r-1-abcdefgh"
    args = worker_args(job)
    assert args[:4] == ["--dataset", "/data/set", "--work", "/runs/r-1/sweep/sweep-r-1-abcdefgh"]
    assert args[4::2] == ["--set"] * len(WorkerConfig.model_fields)
    assert WorkerConfig.parse(dict(text.split("=", 1) for text in args[5::2])) == WorkerConfig(
        network="linear", epochs=1, learning_rate=0.02, batch_size=128, optimizer="adamw", momentum=0.5)


def test_counts_stay_within_the_trials() -> None:
    spec = made(max_trials=2, parallel_trials=8, max_failed_trials=9)["spec"]

    assert [spec[f"{name}Count"] for name in ("maxTrial", "parallelTrial", "maxFailedTrial")] == [2, 2, 2]


def test_names_that_katib_takes() -> None:
    assert experiment_name("r-1") == "sweep-r-1"
    assert experiment_name("a" * 34) == "sweep-" + "a" * 34
    assert experiment_name("a" * 35) == f"sweep-{'a' * 25}-{text_sha256('a' * 35)[:8]}"
    assert experiment_name("b" * 24 + "-" + "c" * 15).startswith(f"sweep-{'b' * 24}-")
    assert len({experiment_name("a" * 39 + last) for last in "xyz"}) == 3


def test_the_fingerprint_tells_searches_apart() -> None:
    def named(train: dict[str, Any] = TRAIN, data: str = "abc", **options: object) -> str:
        return fingerprint(config(**options), train, data)

    assert named() == named(TRAIN | {"epochs": 5.0, "timeout_minutes": 9}, timeout_minutes=3, work="/elsewhere")
    others = [named(seed=1), named(data="abd"), named(TRAIN | {"network": "mlp"}), named(max_trials=7)]
    assert len({named(), *others}) == 5


@pytest.mark.parametrize(("options", "text"), [
    ({"settings": {"n_EI_candidates": 0.5}}, "n_EI_candidates"),
    ({"settings": {"gama": 0.25}}, "gama"),
    ({"algorithm": "random", "settings": {"gamma": 0.25}}, "gamma"),
    ({"algorithm": "grid"}, "a grid needs a step for each double"),
    ({"algorithm": "grid", "max_trials": 20, "parameters": {"momentum": {"type": "discrete", "list": [0.5, 0.9]}}},
     "maxTrialCount"),
])
def test_what_katib_would_refuse_is_refused_before_anything_starts(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match="Experiment sweep-") as caught:
        check_sweep(config(**options), TRAIN)
    assert text in str(caught.value)


def test_paths_that_a_shell_would_take_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'/data/my set' to sh -c"):
        experiment(config(), TRAIN, "r-1", "/data/my set", Path("/runs"), "abc")


def test_no_sweep_needs_no_check() -> None:
    check_sweep(SweepConfig(), {"whatever": 1})
