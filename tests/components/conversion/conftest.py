"""Small exported networks with convolutions, and without."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.model import (
    TRAINED_MANIFEST,
    WEIGHTS,
    Model,
    Origin,
    Preprocessing,
    Signature,
    TrainedModelManifest,
    files_sha256,
)
from penstock.components.conversion.export.step import ExportConfig, run
from penstock.components.training.worker.models import WithPreprocessing, build

ExportNetwork = Callable[[str], Model]


@pytest.fixture(scope="session")
def export_network(sides: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ExportNetwork:
    """A function that trains a narrow network on `sides` for a moment and exports it; each is made once."""
    made: dict[str, Model] = {}

    def export(network: str) -> Model:
        if network not in made:
            made[network] = _export(network, sides, tmp_path_factory.mktemp(network))
        return made[network]

    return export


@pytest.fixture(scope="session")
def convnet(export_network: ExportNetwork) -> Model:
    """A convolutional network with all that ours has: poolings, normalisations, residual additions."""
    return export_network("convnet")


def _export(network: str, sides: Dataset, folder: Path) -> Model:
    torch.manual_seed(0)
    signature = Signature(height=8, width=8, channels=1, classes=sides.description.classes)
    preprocessing, width = Preprocessing(mean=(0.4,), std=(0.3,)), {"linear": 0, "mlp": 16, "convnet": 8}[network]
    built = build(network, signature, width)
    pixels_in = WithPreprocessing(built, preprocessing)
    rows = sides.read("train")
    images = torch.from_numpy(images_array(rows, sides.description.image).copy())
    labels = torch.from_numpy(rows["label"].to_numpy().astype(np.int64))
    optimizer = torch.optim.SGD(built.parameters(), lr=0.1, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(pixels_in(images), labels).backward()
        optimizer.step()
    trained = folder / "trained"
    trained.mkdir()
    save_file({name: value.contiguous() for name, value in built.state_dict().items()}, trained / WEIGHTS)
    TrainedModelManifest(
        network=network, signature=signature, preprocessing=preprocessing, metrics={"accuracy": 0.9},
        origin=Origin(dataset="sides", dataset_hash=sides.manifest.content_hash, config={"width": width},
                      code_version="test"),
        files=files_sha256(trained, TRAINED_MANIFEST)).save(trained / TRAINED_MANIFEST)
    return run(sides.folder, trained, folder / "exported", network, "run-1", ExportConfig())
