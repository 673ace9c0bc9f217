"""What TensorBoard shows of a training: curves, pictures as the network sees them, and a PR curve of each class.

Written by rank 0 into the work folder, one step per epoch, before that epoch's checkpoint: where a run was cut off in
between, the resumed one writes the epoch again and tells TensorBoard to forget the first.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

__all__ = ["Events"]

PICTURES = 32  # in the grid of samples
PICTURE_EPOCHS = 10  # as many grids as TensorBoard shows of one tag
PICTURE_PIXELS = 64  # per side at least; smaller pictures are enlarged, without smoothing
MOST_CLASSES = 100  # with a PR curve of their own


class Events:
    """Writes the event files of one training.

    Args:
        folder: for TensorBoard's --logdir.
        done: epochs that are done; whatever is there of later ones is purged.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the figures of an epoch (1 is the first): a curve of each, losses and accuracies grouped."""
        for name, value in values.items():
            self._writer.add_scalar(_tag(name), value, epoch)

    def pictures(self, epoch: int, images: Tensor) -> None:
        """Write a grid of pictures, (N, H, W, C) uint8, for the first epochs; 8 a row."""
        if epoch > PICTURE_EPOCHS or not len(images):
            return
        chosen = images[:PICTURES]
        times = -(-PICTURE_PIXELS // max(chosen.shape[1:3]))
        enlarged = chosen.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
        self._writer.add_images("samples/augmented", enlarged, epoch, dataformats="NHWC")

    def precision_recall(self, epoch: int, classes: tuple[str, ...], logits: Tensor, labels: Tensor) -> None:
        """Write the PR curve of each class against the others.

        Args:
            logits: (N, classes) float.
            labels: (N,) int64.
        """
        probabilities = torch.softmax(logits.float(), dim=1)
        for index, name in enumerate(classes[:MOST_CLASSES]):
            self._writer.add_pr_curve(f"validation/{name}", labels == index, probabilities[:, index], epoch)

    def flush(self) -> None:
        """Bring what was written to the disk, before the checkpoint that says it is there."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _tag(name: str) -> str:
    """Group by what is measured: validation_loss -> loss/validation."""
    split, _, measure = name.partition("_")
    return f"{measure}/{split}" if split in ("train", "validation") else f"training/{name}"
