"""Drawn shapes: the same for the same seed, distinct between classes, and strict about their address."""

import numpy as np
import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.shapes import SHAPES, load


def pixels(source: str, split: str = "train", **options: object) -> np.ndarray:
    rows = load(IngestConfig.parse({"source": source, **options}))
    image = rows.description.image
    return np.stack([np.frombuffer(data, np.uint8) for data in rows.splits[split]["image"].to_pylist()]).reshape(
        -1, *image.shape)


def test_the_address_says_how_many_and_how_large() -> None:
    rows = load(IngestConfig(source="synthetic://shapes?rows=50&size=12&classes=3"))

    assert rows.description.classes == ("circle", "square", "triangle")
    assert rows.description.image.shape == (12, 12, 1)
    assert {split: len(table) for split, table in rows.splits.items()} == {"train": 50, "test": 10}
    assert rows.splits["train"]["id"].to_pylist()[:2] == ["train-00000", "train-00001"]
    assert set(rows.splits["train"]["background"].to_pylist()) == {"dark", "light"}
    assert set(rows.splits["train"]["size"].to_pylist()) == {"small", "large"}


def test_the_same_seed_draws_the_same_pictures_and_another_draws_others() -> None:
    first, again, other = (pixels(f"synthetic://shapes?rows=40&seed={seed}") for seed in (7, 7, 8))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).all()


def test_train_and_test_are_different_pictures() -> None:
    address = "synthetic://shapes?rows=50"
    train = {picture.tobytes() for picture in pixels(address)}

    assert not train & {picture.tobytes() for picture in pixels(address, "test")}


def test_the_slice_column_tells_the_background() -> None:
    rows = load(IngestConfig(source="synthetic://shapes?rows=200"))
    corners = pixels("synthetic://shapes?rows=200")[:, :3, :3].mean(axis=(1, 2, 3))
    light = np.array(rows.splits["train"]["background"].to_pylist()) == "light"

    assert corners[light].min() > 40
    assert corners[light].mean() > corners[~light].mean() + 30


def test_classes_can_be_told_apart() -> None:
    """The nearest mean picture of a class, a very weak model, does far better than a guess of 1 in 8."""
    address = "synthetic://shapes?rows=1600&classes=8"
    assert len(SHAPES) == 8
    train, test = (pixels(address, split).reshape(-1, 784).astype(float) for split in ("train", "test"))
    means = np.stack([train[label::8].mean(axis=0) for label in range(8)])
    nearest = ((test[:, np.newaxis] - means) ** 2).sum(axis=2).argmin(axis=1)

    assert (nearest == np.arange(len(test)) % 8).mean() > 0.3


def test_size_and_channels_can_be_asked_for() -> None:
    assert pixels("synthetic://shapes?rows=10&size=16", image_size=20, channels=3).shape == (10, 20, 20, 3)


@pytest.mark.parametrize(("source", "message"), [
    ("synthetic://shapes?rws=5", r"unknown field 'rws', did you mean 'rows'\?; a valid one is synthetic://shapes\?rows="),
    ("synthetic://shapes?rows=many", "rows='many'"),
    ("synthetic://shapes?rows=1", "greater than or equal to 10"),
    ("synthetic://shapes?rows=", "rows=''"),
    ("synthetic://shapes?classes=9", "less than or equal to 8"),
    ("synthetic://blobs", r"shapes are all that can be drawn, for example synthetic://shapes\?rows="),
    ("synthetic://shapes/more", "shapes are all that can be drawn"),
])
def test_a_wrong_address_is_refused_with_a_valid_one(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(IngestConfig(source=source))
