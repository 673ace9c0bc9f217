"""torchvision's classifiers: every family builds and answers for small grey pictures, and what cannot be is refused."""

import pytest
import torch
from torch.nn import functional
from torchvision import models

from penstock.components.contracts.errors import ConfigError
from penstock.components.contracts.model import Signature
from penstock.components.training.worker.classifiers import build_classifier, input_size

# The smallest of each family whose build differs.
FAMILIES = {"alexnet": 63, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "googlenet": 32,
            "inception_v3": 75, "maxvit_t": 224, "mnasnet0_5": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32,
            "regnet_x_400mf": 32, "resnet18": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 32, "swin_t": 224,
            "vgg11": 32, "vit_b_32": 224}


def signature(height: int = 28, width: int = 28, channels: int = 1, classes: int = 4) -> Signature:
    return Signature.model_validate({"height": height, "width": width, "channels": channels,
                                     "classes": tuple(f"class-{i}" for i in range(classes))})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for init in ("trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, init, lambda tensor, *_, **__: tensor)  # two seconds each for the large
    network = build_classifier(f"torchvision:{name}", signature()).train()

    assert network.size == (FAMILIES[name], FAMILIES[name])
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 4)  # a tensor, in training too: no auxiliary heads


def test_every_classifier_of_torchvision_has_a_size() -> None:
    for name in models.list_models(module=models):
        height, width = input_size(name, signature(), 0)
        assert 28 <= height == width <= 256


@pytest.mark.parametrize(("name", "shape", "image_size", "expected"), [
    ("resnet18", (16, 16), 0, (32, 32)),
    ("resnet18", (16, 16), 16, (16, 16)),
    ("resnet18", (16, 64), 0, (32, 128)),  # no side is stretched more than the other
    ("resnet18", (100, 60), 0, (100, 60)),
    ("resnet18", (28, 28), 224, (224, 224)),
    ("inception_v3", (28, 28), 0, (75, 75)),
    ("vit_b_32", (28, 20), 0, (224, 224)),
    ("vit_b_32", (300, 300), 448, (448, 448)),
])
def test_the_size_that_a_network_sees(
        name: str, shape: tuple[int, int], image_size: int, expected: tuple[int, int]) -> None:
    assert input_size(name, signature(*shape), image_size) == expected


@pytest.mark.parametrize(("name", "shape", "image_size", "text"), [
    ("resnet18", (28, 28), 16, "image_size=16 is too small for torchvision:resnet18 and images of 28x28 .* 28 or more"),
    ("alexnet", (28, 28), 40, "it must be 63 or more"),
    ("vit_b_32", (300, 200), 0, "sees 224x224 pixels, the images have 300x200; set image_size to a multiple of 224"),
    ("vit_b_32", (28, 28), 230, "torchvision:vit_b_32 cannot be built for images of 230x230 pixels: .* image_size=224"),
    ("maxvit_t", (28, 28), 230, "torchvision:maxvit_t cannot be built for images of 230x230 pixels: .* image_size=224"),
])
def test_impossible_sizes_are_named(name: str, shape: tuple[int, int], image_size: int, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build_classifier(f"torchvision:{name}", signature(*shape), image_size)


@pytest.mark.parametrize(("name", "text"), [
    ("resnet19", "torchvision has no such classifier; did you mean torchvision:resnet1[58]"),
    ("fasterrcnn_resnet50_fpn", "is made for detection: only float classifiers .* nearest is torchvision:\\w*resnet"),
    ("deeplabv3_resnet50", "is made for segmentation"),
    ("quantized_resnet18", "is made for quantization: .* the nearest is torchvision:resnet18"),
    ("r3d_18", "is made for video"),
    ("raft_large", "is made for optical_flow"),
])
def test_what_is_no_classifier_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build_classifier(f"torchvision:{name}", signature())


def test_a_grey_picture_is_enlarged_and_shown_to_all_three_channels() -> None:
    network = build_classifier("torchvision:squeezenet1_1", signature(16, 16)).eval()
    images = torch.rand(3, 1, 16, 16)

    seen = functional.interpolate(images.repeat(1, 3, 1, 1), (32, 32), mode="bilinear")
    torch.testing.assert_close(network(images), network.body(seen))


def test_the_same_seed_builds_the_same_weights() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(build_classifier("torchvision:squeezenet1_1", signature()).state_dict())

    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
