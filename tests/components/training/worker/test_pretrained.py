"""Weights to start from: named ones, without the network; files of several kinds; and those that do not fit."""

import logging
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ConfigError, StepError
from penstock.components.contracts.model import Signature
from penstock.components.training.worker.config import WorkerConfig, WorkFolder
from penstock.components.training.worker.loop import Trainer
from penstock.components.training.worker.models import build
from penstock.components.training.worker.pretrained import load_weights
from penstock.components.training.worker.ranks import Ranks

NETWORK = "torchvision:squeezenet1_1"
SIGNATURE = Signature(height=28, width=28, channels=1, classes=("a", "b", "c"))
HEAD = {"body.classifier.1.weight", "body.classifier.1.bias"}


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """What torchvision would publish: 1,000 classes, every value one third."""
    state = models.squeezenet1_1(weights=None).state_dict()
    return {name: torch.full_like(tensor, 1 / 3) for name, tensor in state.items()}


def loaded(weights: Path | str, network: str = NETWORK, signature: Signature = SIGNATURE) -> dict[str, Tensor]:
    torch.manual_seed(0)
    module = build(network, signature)
    load_weights(module, WorkerConfig.parse({"network": network, "weights": str(weights)}), signature)
    return module.state_dict()


def assert_filled(state: Mapping[str, Tensor]) -> None:
    """Everything is a third but the head, which is fresh and has our classes."""
    assert {name for name, tensor in state.items() if not bool((tensor == 1 / 3).all())} == HEAD
    assert state["body.classifier.1.weight"].shape[0] == 3


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"])
def test_named_weights(published: dict[str, Tensor], weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                       caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where a download would have been kept
    kept = tmp_path / "hub/checkpoints" / models.SqueezeNet1_1_Weights.DEFAULT.url.rsplit("/", 1)[1]
    kept.parent.mkdir(parents=True)
    torch.save(published, kept)

    with caplog.at_level(logging.INFO):
        assert_filled(loaded(weights))
    assert "fresh=body.classifier.1.bias,body.classifier.1.weight" in caplog.text


def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies that it began with

    with pytest.raises(StepError, match=r"'DEFAULT' of torchvision:squeezenet1_1 cannot be had from https://\S+\.pth: "
                                        r".*refused.*; fetch the file"):
        loaded("DEFAULT")


@pytest.mark.parametrize("kind", ["plain", "state_dict", "model", "module.", "safetensors", "uri"])
def test_files(published: dict[str, Tensor], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(published, path)
    elif kind == "module.":
        torch.save({f"module.{name}": tensor for name, tensor in published.items()}, path)
    else:
        torch.save({kind: published} if kind in ("state_dict", "model") else published, path)

    assert_filled(loaded(path.as_uri() if kind == "uri" else path))


def test_a_network_of_ours_goes_on_from_its_own(tmp_path: Path) -> None:
    earlier = build("convnet", SIGNATURE.model_copy(update={"classes": tuple("abcdefgh")})).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in earlier.items()}, tmp_path / "weights.safetensors")

    state = loaded(tmp_path / "weights.safetensors", "convnet")

    assert {name for name, tensor in state.items() if not torch.equal(tensor, earlier[name])} == {"8.weight", "8.bias"}


def test_auxiliary_heads_are_left_out(tmp_path: Path) -> None:
    published = models.googlenet(weights=None, aux_logits=True, init_weights=False).state_dict()
    torch.save(published, tmp_path / "weights.pth")

    state = loaded(tmp_path / "weights.pth", "torchvision:googlenet")

    assert torch.equal(state["body.conv1.conv.weight"], published["conv1.conv.weight"])
    assert not [name for name in state if "aux" in name]


def test_weights_that_do_not_fit_are_named(published: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"

    def refuse(state: object, text: str) -> None:
        torch.save(state, path)
        with pytest.raises(ConfigError, match=text):
            loaded(path)

    first = "features.0.weight"
    refuse({name: tensor for name, tensor in published.items() if name != first}, f"body.{first} is missing; give")
    refuse(published | {first: torch.zeros(1)}, rf"body.{first} is \(1,\), not \(64, 3, 3, 3\); give weights of this")
    refuse(published | {"head.weight": torch.zeros(1)}, r"body\.head\.weight is unknown")
    refuse(published | {first: published[first] * float("nan")}, "has values that are no numbers")
    refuse(nn.Linear(1, 1).state_dict(), r"body\.features\.0\.weight is missing and \d+ more")
    refuse([1, 2], "holds no state_dict: names and tensors")
    refuse(nn.Linear(1, 1), "this is no file of weights alone")
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="this is no file of weights alone"):
        loaded(path)


def test_a_missing_file_is_named_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"V9.*no such file; torchvision's weights for it .* DEFAULT, IMAGENET1K_V1"):
        loaded("IMAGENET1K_V9")
    with pytest.raises(StepError, match="there is no such file; give a path that every worker sees"):
        loaded(tmp_path / "none.pth", "mlp")


def test_the_loop_starts_from_them_but_not_when_it_resumes(sides: Dataset, tmp_path: Path) -> None:
    def trainer(folder: str, weights: str) -> Trainer:
        config = WorkerConfig.parse({"network": "mlp", "epochs": 1, "batch_size": 32, "learning_rate": 1e-9,
                                     "weights": weights, "tensorboard": False})
        return Trainer(config, sides, WorkFolder(tmp_path / folder), Ranks(rank=0, world=1))

    path = tmp_path / "start.safetensors"
    start = {name: torch.full_like(tensor, 0.01) for name, tensor in trainer("a", "").network.state_dict().items()}
    save_file(start, path)
    first = trainer("b", str(path))
    first.run()
    torch.testing.assert_close(first.network.state_dict()["1.weight"], start["1.weight"])

    path.unlink()
    (tmp_path / "b" / "model").rename(tmp_path / "old")
    trainer("b", str(path)).run()  # from its checkpoint
