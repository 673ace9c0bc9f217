"""Any image classifier of torchvision behind our signature: our classes, one or three channels, images of any size.

Builds networks with random weights; `pretrained` fills them. Imports torchvision, so `models` imports this where it is
asked for.
"""

import difflib
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from penstock.components.contracts.errors import ConfigError
from penstock.components.contracts.model import Signature
from penstock.components.training.worker.config import TORCHVISION

__all__ = ["Classifier", "build_classifier", "input_size"]

LEAST = 32  # pixels per side: strides of 32 in all, as most of them have, leave one
SIZED = {"vit_": "image_size", "maxvit_": "input_size"}  # these are built for one square size, named by this argument
# The auxiliary classifiers of these two are for training very deep nets without batch normalisation, which they have.
OPTIONS = {"googlenet": {"aux_logits": False, "init_weights": True},
           "inception_v3": {"aux_logits": False, "init_weights": True}}


class Classifier(nn.Module):
    """A torchvision network that takes (N, 1 or 3, H, W) float32 of any size and gives (N, classes) logits.

    Args:
        body: takes (N, 3, *size).
        size: height and width that `body` sees; images are enlarged to it, bilinearly.
    """

    def __init__(self, body: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.body = body
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[2:]) != self.size:
            images = functional.interpolate(images, self.size, mode="bilinear", align_corners=False)
        logits: Tensor = self.body(images.expand(-1, 3, -1, -1))
        return logits


def build_classifier(network: str, signature: Signature, image_size: int = 0) -> Classifier:
    """Build `torchvision:NAME` for the classes of a signature, with fresh weights from torch's global generator.

    Args:
        image_size: pixels per side that the network sees; 0: see `input_size`.

    Raises:
        ConfigError: torchvision has no such classifier, or it cannot take images of this size.
    """
    name = _known(network)
    size = input_size(name, signature, image_size)
    options: dict[str, Any] = OPTIONS.get(name, {}) | {"num_classes": len(signature.classes)}
    options |= {argument: size[0] if argument == "image_size" else size
                for prefix, argument in SIZED.items() if name.startswith(prefix)}
    try:
        return Classifier(models.get_model(name, weights=None, **options), size)
    except (AssertionError, ValueError) as error:  # not a multiple of its patches
        why = str(error).splitlines()[0]
        raise ConfigError(f"{network} cannot be built for images of {size[0]}x{size[1]} pixels: {why} Use image_size="
                          f"{_declared(name)[0]}, or a multiple of it") from error


def input_size(name: str, signature: Signature, image_size: int) -> tuple[int, int]:
    """Return height and width that a classifier sees: what it is asked to, or the images' own, enlarged to its least.

    Raises:
        ConfigError: images would be made smaller.
    """
    height, width = signature.height, signature.width
    declared = _declared(name)
    if image_size:
        least = max(height, width, *declared)
        if image_size < least:
            raise ConfigError(f"image_size={image_size} is too small for {TORCHVISION}{name} and images of "
                              f"{height}x{width} pixels: it must be {least} or more; to shrink images, ingest with a "
                              "smaller image_size")
        return image_size, image_size
    if name.startswith(tuple(SIZED)):
        if max(height, width) > declared[0]:
            raise ConfigError(f"{TORCHVISION}{name} sees {declared[0]}x{declared[1]} pixels, the images have "
                              f"{height}x{width}; set image_size to a multiple of {declared[0]}")
        return declared
    scale = max(max(LEAST, declared[0]) / height, max(LEAST, declared[1]) / width, 1)
    return round(height * scale), round(width * scale)


def _declared(name: str) -> tuple[int, int]:
    """Return the least height and width that torchvision declares for a network, over all its weights."""
    declared = [weights.meta["min_size"] for weights in models.get_model_weights(name)]
    return min(size[0] for size in declared), min(size[1] for size in declared)


def _known(network: str) -> str:
    """Return the name that torchvision knows a classifier by."""
    name = network.removeprefix(TORCHVISION)
    classifiers = models.list_models(module=models)
    if name in classifiers:
        return name
    near = difflib.get_close_matches(name, classifiers, n=1, cutoff=0)[0]
    if name in models.list_models():
        kind = models.get_model_builder(name).__module__.split(".")[2]  # torchvision.models.detection.faster_rcnn
        raise ConfigError(f"network={network!r} is made for {kind}: only float classifiers can be trained and served; "
                          f"the nearest is {TORCHVISION}{near}")
    raise ConfigError(f"network={network!r}: torchvision has no such classifier; did you mean {TORCHVISION}{near}?")
