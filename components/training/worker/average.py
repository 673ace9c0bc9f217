"""A moving average of the weights over the steps of a training, which is often better than the last of them.

Polyak and Juditsky (1992), with the exponential form and the warm-up of TensorFlow's ExponentialMovingAverage. Off by
default: it helps while the learning rate is high, and a cosine that ends at 0 leaves it little to do. Fashion-MNIST,
convnet, 2 epochs, 6,003 validation rows, last step against decays 0.9 and 0.97 of the same run: 89.8 % against 91.1 and
91.3 % after the first epoch, 92.87 % against 92.92 and 92.90 % in the end (one seed, 2026-11-21). Knows no data and
writes no file; the loop validates, checkpoints and ships what stands in `network`.
"""

import copy

import torch
from torch import Tensor, nn

__all__ = ["Average"]

WARM_UP = 10  # steps; the k-th forgets at least 9/(10+k), so that the random start is soon gone


class Average:
    """The exponential moving average of a network.

    Running statistics (buffers of floats) are averaged like parameters, for they belong to them; counters are copied.

    Args:
        network: what is trained; the average starts as a copy of it.
        decay: share that the average keeps of itself at each step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._theirs, self._counters = _split(network)
        self._own, self._own_counters = _split(self.network)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps; `step` counts from 1 over the whole training."""
        decay = min(self.decay, (1 + step) / (WARM_UP + step))
        torch._foreach_lerp_(self._own, self._theirs, 1 - decay)
        for own, counter in zip(self._own_counters, self._counters, strict=True):
            own.copy_(counter)


def _split(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors of floats and the others."""
    tensors = [*network.parameters(), *network.buffers()]
    return ([tensor.detach() for tensor in tensors if tensor.is_floating_point()],
            [tensor for tensor in tensors if not tensor.is_floating_point()])
