"""The networks, and the way back from a trained model folder to a module.

A network takes (N, C, H, W) float32, normalised, and gives (N, classes) logits; `WithPreprocessing` puts what comes
before inside. Knows no optimizer and no data; training, evaluation and export build what they need here.
"""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.model import (
    NETWORK,
    WEIGHTS,
    Built,
    Model,
    ModelManifest,
    Preprocessing,
    Signature,
    TrainedModel,
    TrainedModelManifest,
)
from penstock.components.training.worker.config import OWN_NETWORKS, TORCHVISION

__all__ = ["SMALLEST", "WithPreprocessing", "build", "load_exported", "load_trained"]

SMALLEST = 8  # pixels: three poolings leave one


class WithPreprocessing(nn.Module):
    """A network that takes raw pixels: (N, H, W, C) uint8 in, (N, classes) float32 logits out."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        # The permuted view of an NHWC tensor is what PyTorch calls channels_last: no copy. It comes first because
        # onnxruntime broadcasts over a last axis of 1 or 3 value by value: 30 of the 330 us of a row (2026-11-21).
        pixels = image.permute(0, 3, 1, 2).float()
        logits: Tensor = self.network((pixels / 255.0 - self.mean) / self.std)
        return logits.float()


def build(network: str, signature: Signature, width: int = 0, image_size: int = 0) -> nn.Module:
    """Build a network with fresh weights from torch's global generator.

    Args:
        network: one of ours, or `torchvision:NAME`.
        width: hidden units or first channels; 0 is the network's own default. Of ours only.
        image_size: pixels per side that it sees; 0: as they are, or what it needs. Of torchvision's only.

    Raises:
        ConfigError: no network of this name, or images that it cannot take.
    """
    if network.startswith(TORCHVISION):
        from penstock.components.training.worker.classifiers import build_classifier

        return build_classifier(network, signature, image_size).to(memory_format=torch.channels_last)
    if network not in _NETWORKS:
        raise ConfigError(f"network={network!r}: there is none of this name; there are {', '.join(OWN_NETWORKS)} and "
                          f"{TORCHVISION}NAME")
    if min(signature.height, signature.width) < SMALLEST:
        raise ConfigError(f"images of {signature.height}x{signature.width} pixels are too small; at least "
                          f"{SMALLEST}x{SMALLEST} are needed: ingest with a larger image_size")
    return _NETWORKS[network](signature, width).to(memory_format=torch.channels_last)


def load_trained(folder: Path | str) -> tuple[nn.Module, TrainedModelManifest]:
    """Open a TrainedModel folder.

    Returns:
        The network with its weights, in evaluation mode, and the manifest. It takes normalised pixels; put
        `WithPreprocessing` around it.

    Raises:
        ContractError: the folder is damaged, or its weights do not fit its network.
    """
    trained = TrainedModel(folder)
    manifest = trained.manifest
    return _filled(trained.folder, manifest.built, manifest.signature), manifest


def load_exported(folder: Path | str) -> tuple[nn.Module, ModelManifest]:
    """Open the torch side of a Model folder: `weights.safetensors` in the network that `network.json` describes.

    Returns:
        The network with its weights, in evaluation mode, and the manifest. It takes normalised pixels; put
        `WithPreprocessing` around it.

    Raises:
        ContractError: the folder is damaged, or its weights do not fit its network.
    """
    model = Model(folder)
    path = model.folder / NETWORK
    try:
        built = Built.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ContractError(f"{path} does not say how the network is built ({why}); export the model again") from error
    return _filled(model.folder, built, model.manifest.signature), model.manifest


def _filled(folder: Path, built: Built, signature: Signature) -> nn.Module:
    network = build(built.network, signature, built.width, built.image_size)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise ContractError(f"{folder / WEIGHTS} does not fit network {built.network!r}: {error}") from error
    return network.eval()


def _linear(signature: Signature, width: int) -> nn.Module:
    pixels = signature.height * signature.width * signature.channels
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, len(signature.classes)))


def _mlp(signature: Signature, width: int) -> nn.Module:
    pixels, hidden = signature.height * signature.width * signature.channels, width or 512
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                         nn.Linear(hidden, len(signature.classes)))


def _convnet(signature: Signature, width: int) -> nn.Module:
    first = width or 32
    stem = max(1, first // 2)
    return nn.Sequential(
        *_convolution(signature.channels, stem), _Block(stem, first), _Block(first, 2 * first),
        _Block(2 * first, 4 * first), nn.AdaptiveMaxPool2d(1), nn.Flatten(), _Head(4 * first, len(signature.classes)))


class _Block(nn.Module):
    """Halves height and width, then refines: a pooled convolution and a residual one."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        # Pooled before it is normalised: a quarter of the memory traffic, which is what a step takes its time for.
        self.shrink = nn.Sequential(nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.MaxPool2d(2),
                                    nn.BatchNorm2d(channels), nn.ReLU())
        self.refine = nn.Sequential(*_convolution(channels, channels))

    def forward(self, maps: Tensor) -> Tensor:
        smaller: Tensor = self.shrink(maps)
        refined: Tensor = self.refine(smaller)
        return smaller + refined


class _Head(nn.Linear):
    """A linear layer with small outputs, so that the first steps stay calm at a high learning rate.

    Page, How to train your ResNet (2019). Fashion-MNIST, 5 epochs, 6,000 validation rows: 93.1 % without, 93.5 % with
    it at its own best rate (one run each, 2026-11-21).
    """

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = super().forward(features)
        return 0.25 * scores


def _convolution(channels_in: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]


_NETWORKS = {"linear": _linear, "mlp": _mlp, "convnet": _convnet}
