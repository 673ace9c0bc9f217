"""Batches out of a split that lies in memory: shuffled, cropped at random and mirrored, all by one gather.

Every draw is a pure function of (seed, epoch), whatever was drawn before, so that a resumed run sees the same pixels.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["EpochPlan", "Split", "plan_epoch", "stream_seed"]


class Split:
    """All images of a split, with a black border out of which crops are cut.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) int64.
        padding: pixels of border on each side.

    Attributes:
        labels: (N,) int64.
    """

    def __init__(self, images: Tensor, labels: Tensor, padding: int = 0) -> None:
        self.rows, self.height, self.width, channels = images.shape
        self.padding = padding
        bordered = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
        self._pitch = bordered.shape[2]
        self._area = bordered.shape[1] * bordered.shape[2]
        self._pixels = bordered.reshape(-1, channels)
        self.labels = labels

    def batch(self, rows: Tensor, plan: "EpochPlan | None" = None) -> tuple[Tensor, Tensor]:
        """Gather rows.

        Args:
            rows: (B,) indices into the split.
            plan: where to crop and what to mirror; None: the middle, as it is.

        Returns:
            Images (B, H, W, C) uint8 and labels (B,) int64.
        """
        y, x = torch.arange(self.height), torch.arange(self.width)
        if plan is None:
            down, across = (y + self.padding).expand(len(rows), -1), (x + self.padding).expand(len(rows), -1)
        else:
            down = y + plan.top[rows, None]
            across = torch.where(plan.mirrored[rows, None], self.width - 1 - x, x) + plan.left[rows, None]
        index = (rows[:, None] * self._area + down * self._pitch)[:, :, None] + across[:, None, :]
        return self._pixels[index], self.labels[rows]


class EpochPlan(NamedTuple):
    """The draws of one epoch: the order of rows, and per row its crop's corner and whether it is mirrored."""

    order: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor


def plan_epoch(rows: int, seed: int, epoch: int, padding: int, flip: float) -> EpochPlan:
    """Draw everything that is random about an epoch; each field is (rows,)."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "epoch", epoch))
    return EpochPlan(
        order=torch.randperm(rows, generator=generator),
        top=torch.randint(0, 2 * padding + 1, (rows,), generator=generator),
        left=torch.randint(0, 2 * padding + 1, (rows,), generator=generator),
        mirrored=torch.rand(rows, generator=generator) < flip)


def stream_seed(seed: int, *stream: object) -> int:
    """Derive the seed of an independent stream of random numbers: 63 bits."""
    digest = hashlib.blake2b(":".join(map(str, (seed, *stream))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
