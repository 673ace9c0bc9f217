"""Weights to start from: torchvision's, by name, or a file's; everything but the last layer, which is ours.

The last layer is what changes its shape with the number of classes, so no network needs to name it. Trains nothing.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from penstock.components.contracts.errors import ConfigError, StepError
from penstock.components.contracts.model import Signature
from penstock.components.training.worker.config import TORCHVISION, WorkerConfig, local_path
from penstock.components.training.worker.models import build

__all__ = ["load_weights"]

BODY = "body."  # where Classifier keeps torchvision's network
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # of Inception and GoogLeNet, which are trained without
log = logging.getLogger(__name__)


def load_weights(network: nn.Module, config: WorkerConfig, signature: Signature) -> None:
    """Fill `network`, as `config` built it, from `config.weights`.

    Raises:
        ConfigError: there are no weights of this name, or they do not fit.
        StepError: torchvision's server or the file cannot be reached.
    """
    state = _read(config)
    own = network.state_dict()
    head = _head(network, config, signature)
    if not any(name in state for name in own):
        state = {f"{BODY}{name}": tensor for name, tensor in state.items()}
    body = {name: tensor for name, tensor in own.items()
            if name not in head and not (name.endswith("num_batches_tracked") and name not in state)}
    complaints = [*(f"{name} is missing" for name in body if name not in state),
                  *(f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}" for name, tensor in body.items()
                    if name in state and state[name].shape != tensor.shape),
                  *(f"{name} is unknown" for name in state
                    if name not in own and not name.removeprefix(BODY).startswith(AUXILIARY)),
                  *(f"{name} has values that are no numbers" for name in body
                    if name in state and not bool(torch.isfinite(state[name]).all()))]
    if complaints:
        more = f" and {len(complaints) - 1} more" if len(complaints) > 1 else ""
        raise ConfigError(f"weights={config.weights!r} do not fit network {config.network!r}: {complaints[0]}{more}; "
                          'give weights of this network and this image_size, or ""')
    network.load_state_dict(own | {name: state[name] for name in body})
    log.info("weights=%s tensors=%d fresh=%s", config.weights, len(body), ",".join(sorted(head)))


def _head(network: nn.Module, config: WorkerConfig, signature: Signature) -> frozenset[str]:
    """Name the parameters whose shape follows the number of classes."""
    wider = signature.model_copy(update={"classes": (*signature.classes, "one more")})
    with torch.random.fork_rng():
        other = build(config.network, wider, config.width, config.image_size).state_dict()
    return frozenset(name for name, tensor in network.state_dict().items() if other[name].shape != tensor.shape)


def _read(config: WorkerConfig) -> Mapping[str, Tensor]:
    name = config.network.removeprefix(TORCHVISION)
    known = {str(entry) for entry in models.get_model_weights(name).__members__} if config.is_torchvision else set()
    if config.weights.rsplit(".", 1)[-1] in known:
        return _downloaded(name, config.weights)
    path = local_path(config.weights)
    if not path.is_file():
        names = f"torchvision's weights for it are {', '.join(sorted(known))}; else " if known else ""
        raise StepError(f"weights={config.weights!r}: there is no such file; {names}give a path that every worker sees")
    return _of_file(path)


def _downloaded(name: str, weights: str) -> Mapping[str, Tensor]:
    chosen = models.get_model_weights(name)[weights.rsplit(".", 1)[-1]]
    try:
        network = models.get_model(name, weights=chosen, progress=False)
    except (OSError, RuntimeError) as error:  # no network, no disk; a file with another hash
        raise StepError(f"weights={weights!r} of {TORCHVISION}{name} cannot be had from {chosen.url}: {error}; fetch "
                        "the file where there is a network, and give its path as weights") from error
    state: Mapping[str, Tensor] = network.state_dict()
    return state


def _of_file(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors have no error in common
        raise ConfigError(f"weights={path}: this is no file of weights alone ({error}); save a state_dict() with "
                          "torch.save, or as .safetensors") from error
    for key in ("state_dict", "model"):  # as many training scripts wrap it
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ConfigError(f"weights={path} holds no state_dict: names and tensors; save network.state_dict()")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}  # module.: saved from a wrapper
