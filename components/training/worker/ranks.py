"""This process among its peers: rank, world size, and the few things they tell each other.

Built on torch.distributed with gloo; a world of one starts no process group and pays for none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Ranks", "joined"]


class Ranks(NamedTuple):
    """Rank and world size as torchrun gave them."""

    rank: int
    world: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Average gradients over all ranks, for one epoch.

        DDP lays its buckets out anew after its first step, and a ring of three and more ranks then sums in another
        order. A wrapper that lives for one epoch does so at the same step in a resumed run.
        """
        return module if self.world == 1 else DistributedDataParallel(module)

    def share_buffers(self, module: nn.Module) -> None:
        """Give every rank the running statistics of the first."""
        if self.world > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def total(self, values: Tensor) -> Tensor:
        """Add up over all ranks."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def all_agree(self, value: int) -> bool:
        """Say whether every rank has the same value."""
        bounds = torch.tensor([value, -value])
        if self.world > 1:
            dist.all_reduce(bounds, dist.ReduceOp.MAX)
        return bool(bounds[0] == -bounds[1])

    def every(self, flag: bool) -> bool:
        """Say whether it is true on every rank."""
        return int(self.total(torch.tensor(int(flag)))) == self.world

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the process group that torchrun's environment describes, and leave it in the end."""
    ranks = Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    if ranks.world == 1:
        yield ranks
        return
    dist.init_process_group("gloo")
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
