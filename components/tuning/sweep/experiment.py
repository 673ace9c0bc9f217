"""The Katib Experiment of a sweep: its space, its counts, and the training job that every trial is.

Fills `manifests/tuning/experiment.yaml` through Katib's own models; gives it to nobody.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.components import images
from penstock.components.contracts.folder import text_sha256
from penstock.components.control.base import Manifest
from penstock.components.control.katib import validate_experiment
from penstock.components.training.job import training_job
from penstock.components.tuning.sweep.config import METRICS, Parameter, SweepConfig, number_text
from penstock.components.tuning.sweep.space import check_space, trial_options
from penstock.manifests import load

__all__ = ["check_sweep", "experiment", "experiment_name", "fingerprint"]

LONGEST_NAME = 40  # Katib adds a hyphen and eight characters for a trial
THREADS = 1  # of a trial: two trials of one thread outrun one of two
CONTAINERS = {"PyTorchJob": "pytorch", "TrainJob": "node"}


def check_sweep(config: SweepConfig, train: Mapping[str, object]) -> None:
    """Refuse a sweep that cannot be, before anything starts.

    Raises:
        ConfigError: naming the field, the value and a valid example; what Katib would refuse is among it.
    """
    if config.max_trials:
        experiment(config, train, "check", "/data", Path("/work"), "")


def experiment(config: SweepConfig, train: Mapping[str, object], run_id: str, dataset_uri: str, work: Path,
               dataset_hash: str) -> Manifest:
    """Make the Experiment of one sweep.

    Args:
        train: options of the training that the sweep is for.
        dataset_uri: the dataset folder as the trials see it.
        work: each trial works in a folder of its own name below it.

    Raises:
        ConfigError: naming the field, the value and a valid example.
    """
    check_space(train, config)
    manifest = load("tuning/experiment.yaml")
    labels = {"penstock.dev/run": run_id, "penstock.dev/inputs": fingerprint(config, train, dataset_hash)}
    manifest["metadata"]["name"] = experiment_name(run_id)
    manifest["metadata"]["labels"] |= labels
    spec = manifest["spec"]
    spec["objective"] = _objective(config)
    spec["algorithm"] = {"algorithmName": config.algorithm, "algorithmSettings": [
        {"name": name, "value": value} for name, value in _settings(config).items()]}
    spec["parameters"] = [_parameter(name, parameter) for name, parameter in config.parameters.items()]
    spec["parallelTrialCount"] = min(config.parallel_trials, config.max_trials)
    spec["maxTrialCount"] = config.max_trials
    spec["maxFailedTrialCount"] = min(config.max_failed_trials, config.max_trials)
    spec["trialTemplate"] |= {
        "primaryContainerName": CONTAINERS[config.kind],
        "trialParameters": [{"name": "trialName", "reference": "${trialSpec.Name}"},
                            *({"name": name, "reference": name} for name in config.parameters)],
        "trialSpec": _job(config, train, labels, dataset_uri, work),
    }
    manifest = _as_katib_writes(manifest)
    validate_experiment(manifest)
    return manifest


def experiment_name(run_id: str) -> str:
    """Name the Experiment of a run; a name too long for Katib is cut and told from others by its hash."""
    name = f"sweep-{run_id}"
    if len(name) <= LONGEST_NAME:
        return name
    mark = text_sha256(run_id)[:8]
    return f"{name[: LONGEST_NAME - len(mark) - 1].rstrip('-')}-{mark}"


def fingerprint(config: SweepConfig, train: Mapping[str, object], dataset_hash: str) -> str:
    """Name what a sweep comes out of: 16 hex digits."""
    search = config.model_dump(mode="json", exclude={"timeout_minutes", "work"})
    made_from = json.dumps([search, trial_options(train, config)], sort_keys=True)
    return text_sha256(f"{images.VERSION} {dataset_hash} {made_from}")[:16]


def _objective(config: SweepConfig) -> Manifest:
    # Latest of each: a trial's network is that of its last epoch. Unasked, Katib would take the best epoch of the
    # objective, and of the other metrics the one that is best in the objective's direction.
    objective: Manifest = {
        "type": config.direction,
        "objectiveMetricName": config.objective,
        "additionalMetricNames": [name for name in METRICS if name != config.objective],
        "metricStrategies": [{"name": name, "value": "latest"} for name in METRICS],
    }
    return objective | ({"goal": config.goal} if config.goal else {})


def _settings(config: SweepConfig) -> dict[str, str]:
    # random, grid and tpe all have a random_state
    return {"random_state": str(config.seed)} | {name: number_text(value) for name, value in config.settings.items()}


def _parameter(name: str, parameter: Parameter) -> Manifest:
    space: dict[str, Any] = {"list": list(parameter.ends())}
    if parameter.in_range:
        space = {"min": number_text(parameter.min), "max": number_text(parameter.max),
                 "distribution": parameter.distribution}
        space |= {"step": number_text(parameter.step)} if parameter.step else {}
    return {"name": name, "parameterType": parameter.type, "feasibleSpace": space}


def _job(config: SweepConfig, train: Mapping[str, object], labels: Mapping[str, str], dataset_uri: str,
         work: Path) -> Manifest:
    options = trial_options(train, config) | {name: f"${{trialParameters.{name}}}" for name in config.parameters}
    args = ["--dataset", dataset_uri, "--work", f"{work}/${{trialParameters.trialName}}"]
    for name, value in options.items():
        args += ["--set", f"{name}={value}"]
    job = training_job("trial", labels, kind=config.kind, workers=1, threads=THREADS, max_restarts=0, args=args)
    for field in ("name", "namespace"):
        job["metadata"].pop(field, None)  # Katib gives each trial its own
    if config.kind == "PyTorchJob":  # OnFailure would restart a trial whose parameters make it fail
        job["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] = "Never"
    return job


def _as_katib_writes(manifest: Manifest) -> Manifest:
    """Pass the object through Katib's models, which drop every field they do not know."""
    from kubeflow_katib_api.models import V1beta1Experiment  # 0.5 s

    written: Manifest = V1beta1Experiment.from_dict(manifest).to_dict()
    return written
