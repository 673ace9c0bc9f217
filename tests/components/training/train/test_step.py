"""The train step on the laptop plane: real torchrun agents, killed at the worst moment, and their PyTorchJob."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.components.contracts.dataset import Dataset, Description, ImageFormat, rows_table, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.contracts.model import TrainedModel
from penstock.components.control.base import JobFailed, Manifest, ObjectConflict, ObjectRef, UnsupportedField
from penstock.components.control.connect import connect
from penstock.components.control.laptop import processes
from penstock.components.training.train.step import TrainConfig, job_of, run
from penstock.components.training.worker.config import WorkFolder

# Long enough an epoch (about a second) to be hit in its middle; two workers, so that gradients are really averaged.
SMALL = {"network": "convnet", "width": 4, "epochs": 3, "batch_size": 16, "learning_rate": 0.1, "workers": 2,
         "threads": 1, "precision": "fp32", "max_restarts": 2, "ema_decay": 0.9}
LINEAR = {"network": "linear", "epochs": 1, "batch_size": 64, "learning_rate": 0.1, "threads": 1, "max_restarts": 0}


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """2,000 rows of 12x12 noise, brighter by class."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 2200)
    images = np.clip(random.integers(0, 90, (2200, 12, 12, 1)) + 50 * labels[:, None, None, None], 0, 255)
    table = rows_table([f"row-{i}" for i in range(2200)], images.astype(np.uint8), labels)
    description = Description(name="stripes", source="test", classes=("dark", "grey", "light"),
                              image=ImageFormat(height=12, width=12, channels=1))
    return write_dataset(tmp_path_factory.mktemp("stripes") / "dataset", description,
                         {"train": table.slice(0, 2000), "validation": table.slice(2000)})


def train(dataset: Dataset, folder: Path, run_id: str, **options: object) -> str:
    config = TrainConfig.parse(options | {"work": str(folder / "work")})
    run(dataset.folder, folder / "model", config, run_id=run_id)
    return TrainedModel(folder / "model").weights_sha256


@pytest.fixture(scope="module")
def undisturbed(stripes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights hash of `SMALL` when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENSTOCK_HOME", str(folder / "home"))
        return train(stripes, folder, "undisturbed", **SMALL)


def wait_for(ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def job_processes(run_id: str) -> list[psutil.Process]:
    job = connect().get(ObjectRef("kubeflow.org/v1", "PyTorchJob", f"train-{run_id}"))
    return processes.marked(job["metadata"]["uid"]) if job else []


def in_the_second_epoch(work: Path) -> bool:
    return any((work / "checkpoints").glob("epoch-0001-*"))


def test_a_linear_model_comes_out(
        stripes: Dataset, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig.parse(LINEAR)

    metrics = run(stripes.folder, tmp_path / "model", config, run_id="run-1")

    trained = TrainedModel(tmp_path / "model")
    assert trained.manifest.metrics == metrics
    assert metrics["validation_accuracy"] > 0.5
    assert trained.manifest.origin.run_id == "run-1"
    assert job_processes("run-1") == []
    with monkeypatch.context() as patch:  # a second time nothing is trained: it would need a plane
        patch.setenv("PENSTOCK_PLANE", "none")
        assert run(stripes.folder, tmp_path / "model", config, run_id="run-1") == metrics


@pytest.mark.slow
def test_an_agent_killed_in_mid_epoch_changes_nothing(
        stripes: Dataset, undisturbed: str, tmp_path: Path, home: Path) -> None:
    def kill() -> None:
        wait_for(lambda: in_the_second_epoch(tmp_path / "work"))
        agent = next(process for process in job_processes("killed") if process.ppid() == os.getpid())
        agent.kill()
        killed.append(agent.pid)

    killed: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()

    weights = train(stripes, tmp_path, "killed", **SMALL)

    killer.join()
    assert killed
    events = EventAccumulator(str(tmp_path / "work" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/train")] == [1, 2, 3]
    assert weights == undisturbed
    assert job_processes("killed") == []


STEP = """
import json, logging, sys
from penstock.components.training.train.step import TrainConfig, run
logging.basicConfig(level=logging.INFO)
dataset, model, options, run_id = sys.argv[1:]
run(dataset, model, TrainConfig.parse(json.loads(options)), run_id=run_id)
"""


def start_step(dataset: Dataset, folder: Path, run_id: str, options: dict[str, object]) -> subprocess.Popen[bytes]:
    options = options | {"work": str(folder / "work")}
    arguments = [str(dataset.folder), str(folder / "model"), json.dumps(options), run_id]
    with (folder / "step.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", STEP, *arguments], stdout=log, stderr=log)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_step_ended_in_mid_epoch_goes_on_exactly(
        stripes: Dataset, undisturbed: str, tmp_path: Path, home: Path, number: signal.Signals, code: int) -> None:
    step = start_step(stripes, tmp_path, "ended", SMALL)
    try:
        wait_for(lambda: in_the_second_epoch(tmp_path / "work"))
        agents = job_processes("ended")
        with pytest.raises(ObjectConflict, match=f"kept by the living process {step.pid}"):
            train(stripes, tmp_path, "ended", **SMALL)
        assert all(agent.is_running() for agent in agents)
    finally:
        step.send_signal(number)
    assert step.wait(timeout=60) == code
    assert len(agents) >= 4  # two agents, two workers
    assert not (tmp_path / "model").exists()
    if number == signal.SIGTERM:
        assert connect().get(ObjectRef("kubeflow.org/v1", "PyTorchJob", "train-ended")) is None
        assert not any(agent.is_running() and agent.status() != psutil.STATUS_ZOMBIE for agent in agents)

    assert train(stripes, tmp_path, "ended", **SMALL) == undisturbed
    assert not any(agent.is_running() and agent.status() != psutil.STATUS_ZOMBIE for agent in agents)


def test_divergence_fails_the_step_once_and_for_all(stripes: Dataset, tmp_path: Path, home: Path) -> None:
    options = LINEAR | {"learning_rate": 100, "weight_decay": 1, "warmup": 0, "epochs": 20, "max_restarts": 3}

    with pytest.raises(StepError, match=r"training diverged: loss is .*; try learning_rate=10"):
        train(stripes, tmp_path, "diverged", **options)

    assert connect().get(ObjectRef("kubeflow.org/v1", "PyTorchJob", "train-diverged")) is None
    with pytest.raises(StepError, match="training diverged"):  # at once: the same would come to the same
        train(stripes, tmp_path, "diverged", **options)


def test_a_failing_worker_fails_the_step_with_its_last_lines(stripes: Dataset, tmp_path: Path, home: Path) -> None:
    shard = next(stripes.folder.glob("train-*.parquet"))
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in stripes.folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / shard.name).write_bytes(b"no parquet")

    with pytest.raises(JobFailed) as caught:
        run(broken, tmp_path / "model", TrainConfig.parse(LINEAR), run_id="broken")

    text = str(caught.value)
    assert "PyTorchJobFailed: Job train-broken has failed because it has reached the specified backoff limit" in text
    assert f"{shard.name} is not the file that manifest.json describes" in text


def test_a_training_that_takes_too_long_is_ended(stripes: Dataset, tmp_path: Path, home: Path) -> None:
    with pytest.raises(JobFailed, match=r"has not finished within timeout_minutes=0\.01"):
        train(stripes, tmp_path, "late", **LINEAR, timeout_minutes=0.01)

    assert connect().get(ObjectRef("kubeflow.org/v1", "PyTorchJob", "train-late")) is None


def test_a_work_folder_of_another_training_is_refused(stripes: Dataset, sides: Dataset, tmp_path: Path) -> None:
    WorkFolder(tmp_path / "work").claim(TrainConfig.parse(LINEAR).worker(), stripes.manifest.content_hash)

    with pytest.raises(ContractError, match=r"epochs 1 -> 2"):
        train(stripes, tmp_path, "other", **LINEAR | {"epochs": 2})
    with pytest.raises(ContractError, match="a training on dataset"):
        train(sides, tmp_path, "other", **LINEAR)


@pytest.mark.parametrize(("options", "text"), [
    ({"lerning_rate": 1}, "unknown field 'lerning_rate', did you mean 'learning_rate'?"),
    ({"timeout_minutes": 0}, "timeout_minutes=0: Input should be greater than 0"),
])
def test_mistakes_in_the_configuration(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.parse(options)
    assert text in str(caught.value)


def job(**options: object) -> Manifest:
    return job_of(TrainConfig.parse(options), "r-1", "/data/set", Path("/runs/r-1/train"), "abc", cores=4)


def test_the_object_to_the_letter() -> None:
    inputs = TrainConfig(workers=2).worker().fingerprint("abc", "0.1.0")
    variables = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": "536870912",
                 "MALLOC_TRIM_THRESHOLD_": "17179869184", "LOGLEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR",
                 "OMP_NUM_THREADS": "2"}

    assert job(workers=2) == {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {
            "name": "train-r-1",
            "namespace": "default",
            "labels": {"app.kubernetes.io/part-of": "penstock", "penstock.dev/run": "r-1",
                       "penstock.dev/inputs": inputs},
        },
        "spec": {
            "nprocPerNode": "1",
            "elasticPolicy": {"rdzvBackend": "c10d", "minReplicas": 2, "maxReplicas": 2, "maxRestarts": 0},
            "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": 7},
            "pytorchReplicaSpecs": {"Worker": {
                "replicas": 2,
                "restartPolicy": "OnFailure",
                "template": {
                    "metadata": {"labels": {"sidecar.istio.io/inject": "false"}},
                    "spec": {"containers": [{
                        "name": "pytorch",
                        "image": "penstock-python-torch:0.1.0",
                        "command": ["torchrun", "-m", "penstock.components.training.worker"],
                        "args": ["--dataset", "/data/set", "--work", "/runs/r-1/train"],
                        "env": [{"name": name, "value": value} for name, value in variables.items()],
                    }]},
                },
            }},
        },
    }


def test_threads_and_restarts_in_the_object() -> None:
    def threads(**options: object) -> str:
        worker = job(**options)["spec"]["pytorchReplicaSpecs"]["Worker"]
        return str(worker["template"]["spec"]["containers"][0]["env"][-1]["value"])

    assert [threads(), threads(workers=8), threads(threads=3)] == ["4", "1", "3"]
    assert job(max_restarts=0)["spec"]["runPolicy"]["backoffLimit"] == 1


def test_the_laptop_refuses_a_field_it_does_not_honour(home: Path) -> None:
    manifest = job()
    manifest["spec"]["runPolicy"]["ttlSecondsAfterFinished"] = 60

    with pytest.raises(UnsupportedField, match=r"spec\.runPolicy\.ttlSecondsAfterFinished=60"):
        connect().apply(manifest)
    assert connect().get(ObjectRef.of(manifest)) is None
