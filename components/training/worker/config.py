"""What determines the weights: every option a rank reads, and the folder it works in.

The train step writes `config.json` into the work folder; `python -m penstock.components.training.worker` reads it, or
writes it from its own `--set` options. Imports no torch, so that the step and a pipeline can use it for free.
"""

import difflib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from penstock.components.contracts.config import Config
from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.folder import text_sha256, write_atomically

__all__ = ["OWN_NETWORKS", "TORCHVISION", "WorkFolder", "WorkerConfig", "local_path", "parse_settings"]

MOST_SEED = 2**53 - 1  # KFP carries numbers as doubles
OWN_NETWORKS = ("convnet", "linear", "mlp")
TORCHVISION = "torchvision:"  # before the name of a classifier of torchvision


class WorkerConfig(Config):
    """One training: two equal ones, on the same data and the same kind of CPU, give the same bytes of weights."""

    network: str = Field(default="convnet", description=(
        "linear: one matrix; mlp: two hidden layers; convnet: seven convolutions; torchvision:NAME: any classifier of "
        "torchvision, for example torchvision:resnet18."))
    width: int = Field(default=0, ge=0, le=4096, description=(
        "Hidden units (mlp) or channels of the first block (convnet). 0: the network's own, 512 or 32."))
    weights: str = Field(default="", description=(
        "What training starts from, the last layer excepted. \"\": random; DEFAULT or another name of torchvision's "
        "weights: downloaded; else path or file:// URI of a state_dict (.pt, .pth, .safetensors)."))
    image_size: int = Field(default=0, ge=0, le=1024, description=(
        "Pixels per side that a torchvision network sees, enlarged inside it. 0: as they are, but at least what the "
        "network needs."))
    epochs: int = Field(default=5, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(default=256, ge=2, le=65_536, description="Rows per step, over all workers together.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd has Nesterov momentum.")
    learning_rate: float = Field(default=0.6, gt=0, le=100, description="The highest of the schedule.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Of sgd; beta1 of adamw. 0: none.")
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="On weights, not on biases and scales. 0: none.")
    warmup: float = Field(default=0.2, ge=0, lt=1, description=(
        "Share of the steps in which the rate climbs, before the cosine takes it to 0. 0: no warm-up."))
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="Mass taken from the true class. 0: none.")
    clip_norm: float = Field(default=0.0, ge=0, le=1e9, description="Largest norm of the gradient. 0: not clipped.")
    ema_decay: float = Field(default=0.0, ge=0, lt=1, description=(
        "Share that a moving average of the weights keeps of itself at each step, for example 0.99; the average is "
        "then validated and becomes the model. 0: off."))
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 autocast where every worker's CPU computes in it, else fp32.")
    crop_padding: int = Field(default=1, ge=0, le=64, description=(
        "Pixels of black border out of which a random crop is cut. 0: no crop."))
    flip: float = Field(default=0.5, ge=0, le=1, description="Probability of a mirrored image. 0: never.")
    seed: int = Field(default=0, ge=0, le=MOST_SEED, description="Another seed, another run; the same, the same.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that share each batch (DDP).")
    tensorboard: bool = Field(default=True, description=(
        "Whether rank 0 writes curves, sample images and PR curves for TensorBoard into the work folder."))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_size % self.workers:
            nearest = max(2, math.ceil(self.batch_size / self.workers)) * self.workers
            raise ValueError(f"batch_size={self.batch_size} cannot be shared by workers={self.workers}; try {nearest}")
        if self.batch_size < 2 * self.workers:
            raise ValueError(f"batch_size={self.batch_size} leaves a worker less than 2 rows; try {2 * self.workers}")
        _check_network(self.network)
        if self.width and (self.network == "linear" or self.is_torchvision):
            raise ValueError(f"width={self.width}: the {self.network} network has no width; use 0, or network mlp")
        if self.image_size and not self.is_torchvision:
            raise ValueError(f"image_size={self.image_size}: the {self.network} network takes images as they are; use "
                             "0, or ingest with another image_size")
        return self

    @property
    def is_torchvision(self) -> bool:
        return self.network.startswith(TORCHVISION)

    def fingerprint(self, dataset_hash: str, code_version: str) -> str:
        """Name what the weights will be made from: 16 hex digits."""
        return text_sha256(f"{code_version} {dataset_hash} {json.dumps(self.model_dump(), sort_keys=True)}")[:16]


class WorkFolder:
    """The folder that all workers of one training share, and that outlives them.

    It holds `config.json`, `checkpoints/`, `tensorboard/`, and in the end `model/` or `hopeless.txt`.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.checkpoints = self.folder / "checkpoints"
        self.tensorboard = self.folder / "tensorboard"
        self.model = self.folder / "model"
        self._config = self.folder / "config.json"
        self._hopeless = self.folder / "hopeless.txt"

    def claim(self, config: WorkerConfig, dataset_hash: str) -> None:
        """Write down what is trained here, or find it written down.

        Raises:
            ContractError: the folder belongs to another training.
        """
        if self._config.is_file():
            claimed = self._read()
            if claimed["dataset_hash"] != dataset_hash:
                raise ContractError(f"{self.folder} holds a training on dataset {claimed['dataset_hash']}, not on "
                                    f"{dataset_hash}; start a new run, or give it another work folder")
            present, wanted = self.config().model_dump(), config.model_dump()
            changed = [name for name in wanted if present[name] != wanted[name]]
            if changed:
                changes = ", ".join(f"{name} {present[name]!r} -> {wanted[name]!r}" for name in changed)
                raise ContractError(f"{self.folder} holds a training with other options ({changes}); "
                                    "start a new run, or give it another work folder")
            return
        text = json.dumps({"dataset_hash": dataset_hash, "options": config.model_dump()}, indent=2)
        write_atomically(self._config, text + "\n")

    def config(self) -> WorkerConfig:
        """Read the configuration.

        Raises:
            ConfigError: there is none, or it is not one.
        """
        return WorkerConfig.parse(self._read()["options"])

    def hopeless(self) -> str:
        """Return why this training can never succeed, or ""."""
        return self._hopeless.read_text(encoding="utf-8") if self._hopeless.is_file() else ""

    def mark_hopeless(self, reason: str) -> None:
        """Note that the same training would fail again, so that no restart tries it."""
        write_atomically(self._hopeless, reason)

    def _read(self) -> dict[str, Any]:
        try:
            claimed = json.loads(self._config.read_text(encoding="utf-8"))
            return {"dataset_hash": claimed["dataset_hash"], "options": claimed["options"]}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConfigError(f"{self._config} says of no training what it is: {error!r}") from error


def parse_settings(settings: Sequence[str]) -> WorkerConfig:
    """Read a configuration from `key=value` arguments; a value is JSON, or else the text itself.

    None needs quoting: Katib joins the command of a trial with spaces and hands it to `sh`.

    Raises:
        ConfigError: one of them is no `key=value`, or the options do not fit.
    """
    options: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise ConfigError(f"--set {setting}: give key=value, for example learning_rate=0.1")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return WorkerConfig.parse(options)


def _check_network(name: str) -> None:
    """Check the form; which classifiers torchvision has, only the worker knows."""
    if name in OWN_NETWORKS or re.fullmatch(rf"{TORCHVISION}[a-z0-9_]+", name):
        return
    close = difflib.get_close_matches(name, OWN_NETWORKS, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"network={name!r}: there is none of this name; {hint}there are {', '.join(OWN_NETWORKS)}, and "
                     f"torchvision's classifiers, for example {TORCHVISION}resnet18")


def local_path(uri: str) -> Path:
    """Turn a path or a `file://` URI into a path.

    Raises:
        ConfigError: the data is in an object store, which a worker cannot open itself.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise ConfigError(f"{uri}: a worker opens folders, not {parts.scheme}://; mount it and give its path")
    return Path(parts.path if parts.scheme else uri)
