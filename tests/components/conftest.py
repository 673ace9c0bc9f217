"""A small dataset that a linear network learns, and networks trained on it well and badly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from penstock.components.contracts.dataset import (
    Dataset,
    Description,
    ImageFormat,
    images_array,
    rows_table,
    write_dataset,
)
from penstock.components.contracts.model import (
    TRAINED_MANIFEST,
    WEIGHTS,
    Origin,
    Preprocessing,
    Signature,
    TrainedModelManifest,
    files_sha256,
)

CLASSES = ("dark", "left", "right")
SIZE = 8
TrainSides = Callable[..., Path]


def pictures(count: int, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures that are dark, or bright on one side; returns (N, 8, 8, 1) uint8 and (N,) labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    bright = np.zeros((count, SIZE, SIZE, 1))
    bright[labels == 1, :, : SIZE // 2] = 60
    bright[labels == 2, :, SIZE // 2 :] = 60
    return np.clip(90 + bright + random.normal(0, noise, bright.shape), 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="session")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """120 rows a split and the slice columns `light` (two values) and `scan` (one value a row)."""
    splits = {}
    for seed, name in enumerate(("train", "validation", "test")):
        images, labels = pictures(120, seed, noise=90)
        ids = [f"{name}-{i:03d}" for i in range(len(labels))]
        table = rows_table(ids, images, labels)
        splits[name] = table.append_column("light", [["lamp" if i % 4 else "sun" for i in range(120)]]).append_column(
            "scan", [ids])
    image = ImageFormat(height=SIZE, width=SIZE, channels=1)
    description = Description(name="sides", source="test", classes=CLASSES, image=image)
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", description, splits)


@pytest.fixture(scope="session")
def train_sides(sides: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainSides:
    """A function that fits a linear network to `sides` for `steps` and returns its TrainedModel folder."""
    import torch
    from safetensors.torch import save_file

    from penstock.components.training.worker.models import WithPreprocessing, build

    def fit(steps: int, **changes: object) -> Path:
        torch.manual_seed(0)
        rows, image = sides.read("train"), sides.description.image
        signature = Signature(height=SIZE, width=SIZE, channels=1, classes=CLASSES).model_copy(update=changes)
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
