"""The worker as a pod runs it: a process, told by its work folder or by --set what to train."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import TrainedModel
from penstock.components.training.worker.config import WorkerConfig, WorkFolder
from penstock.components.training.worker.metrics import parse_metric

SETTINGS = ("network=linear", "epochs=2", "batch_size=32", "learning_rate=0.1", "tensorboard=false")


def worker(dataset: Path, work: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.components.training.worker", "--dataset", str(dataset),
               "--work", str(work)]
    for setting in settings:
        command += ["--set", setting]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_it_trains_what_it_is_told(sides: Dataset, tmp_path: Path) -> None:
    done = worker(sides.folder, tmp_path, *SETTINGS)

    assert done.returncode == 0, done.stderr
    metrics = [found for line in done.stdout.splitlines() if (found := parse_metric(line))]
    assert [name for name, _ in metrics] == ["train_loss", "validation_accuracy", "validation_loss"] * 2
    assert TrainedModel(tmp_path / "model").manifest.metrics == pytest.approx(dict(metrics), rel=1e-5)
    assert WorkFolder(tmp_path).config() == WorkerConfig(
        network="linear", epochs=2, batch_size=32, learning_rate=0.1, tensorboard=False)


@pytest.mark.parametrize(("settings", "text"), [
    (("epoch=3",), "WorkerConfig: unknown field 'epoch', did you mean 'epochs'?"),
    (("epochs",), "--set epochs: give key=value"),
    ((), "config.json says of no training what it is"),
])
def test_mistakes_end_it_before_pytorch_is_there(
        sides: Dataset, tmp_path: Path, settings: tuple[str, ...], text: str) -> None:
    done = worker(sides.folder, tmp_path, *settings)

    assert done.returncode == 1
    assert " ERROR " in done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not WorkFolder(tmp_path).hopeless()


def test_other_options_than_the_folder_s_are_refused(sides: Dataset, tmp_path: Path) -> None:
    WorkFolder(tmp_path).claim(WorkerConfig(network="linear"), sides.manifest.content_hash)

    done = worker(sides.folder, tmp_path, "network=mlp")

    assert done.returncode == 1
    assert "holds a training with other options (network 'linear' -> 'mlp')" in done.stderr


def test_a_network_that_cannot_be_is_tried_once(sides: Dataset, tmp_path: Path) -> None:
    for _ in range(2):
        done = worker(sides.folder, tmp_path, "network=torchvision:resnet19")
        assert done.returncode == 1
        assert "ERROR network='torchvision:resnet19': torchvision has no such classifier" in done.stderr
    assert "resnet19" in WorkFolder(tmp_path).hopeless()
