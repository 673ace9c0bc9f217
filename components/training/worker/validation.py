"""How good a network is on rows that it was not trained on; the ranks share the rows.

Judges the network it is given, averaged or not. Changes no weight and writes nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.components.training.worker.augment import Split
from penstock.components.training.worker.ranks import Ranks

__all__ = ["Validation", "validate"]

ROWS = 512  # a forward pass without gradients: larger ones leave the cache


class Validation(NamedTuple):
    """What came out.

    `metrics`: `validation_accuracy`, a share, and `validation_loss`, nats per row, without label smoothing.
    `logits`: (rows of the split, classes) float32 on every rank, or None where they were not asked for.
    """

    metrics: dict[str, float]
    logits: Tensor | None = None


@torch.inference_mode()
def validate(model: nn.Module, split: Split, ranks: Ranks, *, bf16: bool, classes: int = 0) -> Validation:
    """Let a model answer a split, and count over all ranks.

    Args:
        model: (N, H, W, C) uint8 to (N, classes) logits; it is put into evaluation mode.
        classes: logits of a row, to hand those of all rows out; 0: they are not kept.
    """
    model.eval()
    correct, loss_sum = 0.0, 0.0
    answers = torch.zeros(split.rows, classes)
    share = torch.arange(split.rows)[ranks.rank :: ranks.world]  # none, where there are more ranks than rows
    for start in range(0, len(share), ROWS):
        rows = share[start : start + ROWS]
        images, labels = split.batch(rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images)
        correct += float((logits.argmax(1) == labels).sum())
        loss_sum += float(functional.cross_entropy(logits, labels, reduction="sum"))
        if classes:
            answers[rows] = logits.float()
    total = ranks.total(torch.tensor([correct, loss_sum], dtype=torch.float64)) / split.rows
    metrics = {"validation_accuracy": float(total[0]), "validation_loss": float(total[1])}
    return Validation(metrics, ranks.total(answers) if classes else None)  # a row is one rank's; the others add zeros
