"""Networks of every kind for every shape, preprocessing inside, and the way back from a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.model import (
    TRAINED_MANIFEST,
    WEIGHTS,
    Preprocessing,
    Signature,
    TrainedModelManifest,
    files_sha256,
)
from penstock.components.training.worker.models import WithPreprocessing, build, load_trained


def signature(height: int = 28, width: int = 28, channels: int = 1, classes: int = 10) -> Signature:
    return Signature.model_validate({"height": height, "width": width, "channels": channels,
                                     "classes": tuple(f"class-{i}" for i in range(classes))})


@pytest.mark.parametrize("network", ["linear", "mlp", "convnet"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 31, 3), (28, 28, 1), (33, 17, 3)])
def test_every_network_takes_every_shape(network: str, shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    module = build(network, signature(height, width, channels, classes=4))

    assert module(torch.rand(3, channels, height, width)).shape == (3, 4)


def test_width_changes_the_size() -> None:
    sizes = [sum(p.numel() for p in build(network, signature(), width).parameters())
             for network in ("mlp", "convnet") for width in (8, 16)]

    assert sizes[0] < sizes[1]
    assert sizes[2] < sizes[3]


def test_impossible_networks_are_named() -> None:
    with pytest.raises(ConfigError, match=r"network='resnet': there is none .* convnet, linear, mlp and torchvision:"):
        build("resnet", signature())
    with pytest.raises(ConfigError, match="images of 7x28 pixels are too small; at least 8x8"):
        build("linear", signature(height=7))


def test_preprocessing_is_inside() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    network = build("linear", signature(8, 9, 3))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 9, 3), np.uint8)

    logits = WithPreprocessing(network, Preprocessing(mean=mean, std=std))(torch.from_numpy(images))

    normalised = ((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    torch.testing.assert_close(logits, network(torch.from_numpy(np.ascontiguousarray(normalised))))


def test_a_trained_model_comes_back(good: Path) -> None:
    network, manifest = load_trained(good)

    assert manifest.network == "linear"
    assert not network.training
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == {
        "1.weight": (3, 64), "1.bias": (3,)}


def test_weights_of_another_network_are_refused(good: Path, tmp_path: Path) -> None:
    save_file({"1.weight": torch.zeros(3, 65), "1.bias": torch.zeros(3)}, tmp_path / WEIGHTS)
    manifest = TrainedModelManifest.load(good / TRAINED_MANIFEST)
    manifest.model_copy(update={"files": files_sha256(tmp_path, TRAINED_MANIFEST)}).save(tmp_path / TRAINED_MANIFEST)

    with pytest.raises(ContractError, match="does not fit network 'linear'"):
        load_trained(tmp_path)
