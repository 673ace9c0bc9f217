"""Networks trained on the small dataset `sides`, well and badly."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.model import (
    TRAINED_MANIFEST,
    WEIGHTS,
    Origin,
    Preprocessing,
    Signature,
    TrainedModelManifest,
    files_sha256,
)

TrainSides = Callable[..., Path]


@pytest.fixture(scope="session")
def train_sides(sides: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainSides:
    """A function that fits a linear network to `sides` for `steps` and returns its TrainedModel folder."""
    import torch
    from safetensors.torch import save_file

    from penstock.components.training.worker.models import WithPreprocessing, build

    def fit(steps: int, **changes: object) -> Path:
        torch.manual_seed(0)
        rows, image = sides.read("train"), sides.description.image
        signature = Signature(height=image.height, width=image.width, channels=image.channels,
                              classes=sides.description.classes).model_copy(update=changes)
        preprocessing = Preprocessing(mean=(0.4,), std=(0.3,))
        network = build("linear", signature)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        images, labels = torch.from_numpy(images_array(rows, image).copy()), torch.tensor(rows["label"].to_pylist())
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(WithPreprocessing(network, preprocessing)(images), labels).backward()
            optimizer.step()
        folder = tmp_path_factory.mktemp("trained") / "model"
        folder.mkdir()
        save_file(network.state_dict(), folder / WEIGHTS)
        TrainedModelManifest(
            network="linear", signature=signature, preprocessing=preprocessing, metrics={"loss": 1.0},
            origin=Origin(run_id="run-0", dataset="sides", dataset_hash=sides.manifest.content_hash,
                          config={"width": 0}, code_version="test"),
            files=files_sha256(folder, TRAINED_MANIFEST),
        ).save(folder / TRAINED_MANIFEST)
        return folder

    return fit


@pytest.fixture(scope="session")
def good(train_sides: TrainSides) -> Path:
    """A model that is right on most rows of `sides`."""
    return train_sides(steps=60)


@pytest.fixture(scope="session")
def poor(train_sides: TrainSides) -> Path:
    """A model that guesses."""
    return train_sides(steps=0)
