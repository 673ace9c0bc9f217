"""The optimizer and its learning rate at every step.

The rate is a pure function of the step, so nothing of a schedule needs to be kept or restored.
"""

import math

import torch
from torch import nn

from penstock.components.training.worker.config import WorkerConfig

__all__ = ["build_optimizer", "learning_rate", "set_learning_rate"]


def build_optimizer(network: nn.Module, config: WorkerConfig) -> torch.optim.Optimizer:
    """Make the optimizer; biases and normalisation scales (one-dimensional) do not decay."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


def learning_rate(step: int, steps: int, config: WorkerConfig) -> float:
    """Return the rate of step 0 ≤ `step` < `steps`: a straight climb, then half a cosine that ends just above 0."""
    climb = round(config.warmup * steps)
    if step < climb:
        return config.learning_rate * (step + 1) / (climb + 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - climb) / (steps - climb)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
