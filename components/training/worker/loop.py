"""The training loop of one rank: from a dataset and a work folder to a TrainedModel.

Everything random is a pure function of (seed, epoch), so a run cut off anywhere and resumed from its last checkpoint
ends in the same bytes as one that was not. Starts no processes and knows no Kubernetes object: torchrun started it.
"""

import logging
import math
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from penstock.components.contracts.dataset import Dataset, DatasetManifest, images_array
from penstock.components.contracts.errors import StepError
from penstock.components.contracts.folder import complete_folder
from penstock.components.contracts.model import (
    TRAINED_MANIFEST,
    WEIGHTS,
    Origin,
    Preprocessing,
    Signature,
    TrainedModelManifest,
    files_sha256,
)
from penstock.components.training.worker import checkpoint
from penstock.components.training.worker.augment import Split, plan_epoch, stream_seed
from penstock.components.training.worker.average import Average
from penstock.components.training.worker.config import WorkerConfig, WorkFolder
from penstock.components.training.worker.events import PICTURES, Events
from penstock.components.training.worker.metrics import format_metric
from penstock.components.training.worker.models import WithPreprocessing, build
from penstock.components.training.worker.optimizers import build_optimizer, learning_rate, set_learning_rate
from penstock.components.training.worker.ranks import Ranks
from penstock.components.training.worker.validation import validate

__all__ = ["Diverged", "Trainer", "pixel_statistics"]

CODE_VERSION = version("penstock")
log = logging.getLogger(__name__)


class Diverged(StepError):
    """The loss is no number any more; the same configuration would come to it again."""


class Trainer:
    """One rank's share of a training.

    Args:
        dataset: with the splits `train` and, if there are figures to be measured while training, `validation`.

    Raises:
        ConfigError: there is no such network, or the images do not suit it.
        ContractError: the dataset is damaged, or its images have sizes of their own.
        StepError: fewer rows than one batch for each worker needs.
    """

    def __init__(self, config: WorkerConfig, dataset: Dataset, work: WorkFolder, ranks: Ranks) -> None:
        self.config, self.work, self.ranks = config, work, ranks
        self.manifest = dataset.manifest
        self.train_split, statistics = _load(dataset, "train", config.crop_padding)
        held_out = self.manifest.splits.get("validation")
        self.validation = _load(dataset, "validation")[0] if held_out and held_out.rows else None
        self.batch = min(config.batch_size, self.train_split.rows) // ranks.world
        if self.batch < 2:
            raise StepError(f"{self.train_split.rows} training rows over {ranks.world} workers: each needs 2 at least")
        self.steps = self.train_split.rows // (self.batch * ranks.world)  # per epoch; the last, short batch is left out

        description = self.manifest.description
        height, width, channels = description.image.shape
        self.signature = Signature(height=height, width=width, channels=channels, classes=description.classes)
        self.preprocessing = Preprocessing(mean=statistics[0], std=statistics[1])
        torch.manual_seed(stream_seed(config.seed, "weights"))
        self.network = build(config.network, self.signature, config.width, config.image_size)
        self.model = WithPreprocessing(self.network, self.preprocessing)
        self.optimizer = build_optimizer(self.network, config)
        self.average: Average | None = None  # begun when the first weights are there
        self.history: list[dict[str, float]] = []
        self.logits: Tensor | None = None  # of the validation rows, after the last epoch
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and ranks.every(_computes_bf16()))

    def run(self) -> dict[str, float]:
        """Train to the end, from the newest checkpoint on; rank 0 writes the model folder.

        Returns:
            The metrics of the last epoch.

        Raises:
            ConfigError: the weights to start from do not fit.
            Diverged: the loss is no number any more.
            StepError: the ranks do not see the same checkpoints, or nobody the weights to start from.
        """
        first = self._resume()
        log.info("rank=%d/%d network=%s parameters=%d rows=%d batch=%d precision=%s threads=%d from_epoch=%d",
                 self.ranks.rank, self.ranks.world, self.config.network,
                 sum(parameter.numel() for parameter in self.network.parameters()), self.train_split.rows,
                 self.batch * self.ranks.world, "bf16" if self.bf16 else "fp32", torch.get_num_threads(), first)
        events = Events(self.work.tensorboard, first) if self.ranks.is_first and self.config.tensorboard else None
        if events:
            log.info("tensorboard=%s", self.work.tensorboard)
        for epoch in range(first, self.config.epochs):
            started = time.monotonic()
            metrics = self._epoch(epoch)
            if self.ranks.is_first:
                seconds = time.monotonic() - started
                self._report(epoch + 1, metrics, seconds)
                if events:
                    self._write_events(events, epoch, seconds)
                checkpoint.save(self.work.checkpoints, epoch + 1, self._state())
        if events:
            events.close()
        if self.ranks.is_first:
            self._write_model()
        self.ranks.wait()  # an elastic job has succeeded as soon as one worker has: so none leaves without the model
        return _metrics(self.history)

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        parallel = self.ranks.wrap(self.model)
        torch.manual_seed(stream_seed(self.config.seed, "epoch", epoch, self.ranks.rank))
        loss_sum = 0.0
        for step, (images, labels) in enumerate(self._batches(epoch)):
            rate = learning_rate(epoch * self.steps + step, self.config.epochs * self.steps, self.config)
            set_learning_rate(self.optimizer, rate)
            loss = self._step(parallel, images, labels)
            self._check_finite("loss", loss, epoch, step, rate)
            loss_sum += loss
            if self.average:
                self.average.update(epoch * self.steps + step + 1)
        self.ranks.share_buffers(self.network)
        if self.average:
            self.ranks.share_buffers(self.average.network)
        total = self.ranks.total(torch.tensor([loss_sum], dtype=torch.float64))
        metrics = {"train_loss": float(total) / (self.steps * self.ranks.world)}
        if self.validation:
            wanted = self.config.tensorboard and epoch + 1 == self.config.epochs  # for PR curves
            found = validate(WithPreprocessing(self._judged(), self.preprocessing), self.validation, self.ranks,
                             bf16=self.bf16, classes=len(self.signature.classes) if wanted else 0)
            metrics |= found.metrics
            self.logits = found.logits
        for name, value in metrics.items():
            self._check_finite(name, value, epoch, step, rate)
        self.history.append(metrics | {"learning_rate": rate})
        return metrics

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        plan = plan_epoch(self.train_split.rows, self.config.seed, epoch, self.config.crop_padding, self.config.flip)
        for step in range(self.steps):
            start = (step * self.ranks.world + self.ranks.rank) * self.batch
            yield self.train_split.batch(plan.order[start : start + self.batch], plan)

    def _step(self, model: nn.Module, images: Tensor, labels: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = model(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return loss.item()

    def _check_finite(self, name: str, value: float, epoch: int, step: int, rate: float) -> None:
        if not math.isfinite(value):
            highest = self.config.learning_rate
            raise Diverged(
                f"training diverged: {name} is {value} in epoch {epoch + 1}, step {step + 1} of {self.steps}, at "
                f"learning rate {rate:.3g} (the highest is learning_rate={highest:g}); try "
                f"learning_rate={highest / 10:.2g}, more warmup, or clip_norm=1")

    def _report(self, epoch: int, metrics: dict[str, float], seconds: float) -> None:
        """Print what is known after `epoch` epochs, the last of which took `seconds`."""
        log.info("epoch=%d/%d seconds=%.1f images_per_second=%.0f eta_seconds=%.0f", epoch, self.config.epochs, seconds,
                 self._images() / seconds, (self.config.epochs - epoch) * seconds)
        sys.stdout.writelines(format_metric(name, value) + "\n" for name, value in metrics.items())
        sys.stdout.flush()

    def _images(self) -> int:
        """Count the images that all ranks see in an epoch."""
        return self.steps * self.batch * self.ranks.world

    def _write_events(self, events: Events, epoch: int, seconds: float) -> None:
        events.scalars(epoch + 1, self.history[-1] | {"images_per_second": self._images() / seconds})
        plan = plan_epoch(self.train_split.rows, self.config.seed, epoch, self.config.crop_padding, self.config.flip)
        rows = torch.arange(min(PICTURES, self.train_split.rows))  # the same ones, as each epoch sees them
        events.pictures(epoch + 1, self.train_split.batch(rows, plan)[0])
        if self.validation and self.logits is not None:
            events.precision_recall(epoch + 1, self.signature.classes, self.logits, self.validation.labels)
        events.flush()

    def _state(self) -> dict[str, Any]:
        averaged = {"average": self.average.network.state_dict()} if self.average else {}
        return {"fingerprint": self._fingerprint(), "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(), "history": self.history} | averaged

    def _resume(self) -> int:
        """Take up the newest checkpoint, or the weights to start from; return how many epochs are done."""
        found = checkpoint.load_newest(self.work.checkpoints)
        epoch, state = found if found and found[1]["fingerprint"] == self._fingerprint() else (0, {})
        if not self.ranks.all_agree(epoch):
            raise StepError(f"rank {self.ranks.rank} finds checkpoint {epoch}, another rank another one: the work "
                            f"folder {self.work.folder} must be one that all workers share")
        if epoch:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history = state["history"]
        elif self.config.weights:
            from penstock.components.training.worker.pretrained import load_weights

            load_weights(self.network, self.config, self.signature)
        if self.config.ema_decay:
            self.average = Average(self.network, self.config.ema_decay)
            if epoch:
                self.average.network.load_state_dict(state["average"])
        return epoch

    def _fingerprint(self) -> str:
        return self.config.fingerprint(self.manifest.content_hash, CODE_VERSION)

    def _judged(self) -> nn.Module:
        """Return the network that is validated and becomes the model."""
        return self.average.network if self.average else self.network

    def _write_model(self) -> None:
        with complete_folder(self.work.model) as building:
            weights = {name: tensor.contiguous() for name, tensor in self._judged().state_dict().items()}
            save_file(weights, building / WEIGHTS)
            TrainedModelManifest(
                network=self.config.network, signature=self.signature, preprocessing=self.preprocessing,
                origin=_origin(self.config, self.manifest), metrics=_metrics(self.history), history=tuple(self.history),
                averaged=self.average is not None,
                files=files_sha256(building, TRAINED_MANIFEST)).save(building / TRAINED_MANIFEST)


def _metrics(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the figures of the last epoch."""
    return {name: value for name, value in history[-1].items() if name != "learning_rate"}


def pixel_statistics(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of (N, H, W, C) uint8, in units of 0 to 1.

    Counts the 256 values, so the result is exact and depends on no order of summation.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), 4096):  # bincount makes int64 of its input: 8 bytes a pixel
            counts += np.bincount(images[start : start + 4096, :, :, channel].ravel(), minlength=256)
        mean = float(values @ counts / counts.sum())
        deviation = math.sqrt(float((values - mean) ** 2 @ counts / counts.sum()))
        means.append(mean)
        deviations.append(deviation or 1.0)  # a channel of one value
    return tuple(means), tuple(deviations)


def _load(dataset: Dataset, name: str, padding: int = 0) -> tuple[Split, tuple[tuple[float, ...], tuple[float, ...]]]:
    table = dataset.read(name)
    images = images_array(table, dataset.description.image)
    labels = torch.from_numpy(table["label"].to_numpy().astype(np.int64))
    return Split(torch.from_numpy(images), labels, padding), pixel_statistics(images)


def _origin(config: WorkerConfig, manifest: DatasetManifest) -> Origin:
    return Origin(dataset=manifest.description.name, dataset_hash=manifest.content_hash, config=config.model_dump(),
                  code_version=CODE_VERSION)


def _computes_bf16() -> bool:
    """Say whether bf16 is computed here, not emulated."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
