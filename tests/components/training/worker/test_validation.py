"""Validation: the shares of all ranks together are the whole, and the answers come in the rows' order."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from penstock.components.contracts.model import Preprocessing, Signature
from penstock.components.training.worker.augment import Split
from penstock.components.training.worker.models import WithPreprocessing, build
from penstock.components.training.worker.ranks import Ranks
from penstock.components.training.worker.validation import validate

ROWS = 1100  # more than two forward passes


def parts(world: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Validate as each of `world` ranks in turn; returns the sum of their figures and the sum of their answers."""
    random = np.random.default_rng(0)
    split = Split(torch.from_numpy(random.integers(0, 256, (rows, 8, 8, 1), np.uint8)),
                  torch.from_numpy(random.integers(0, 3, rows)))
    torch.manual_seed(0)
    network = build("linear", Signature(height=8, width=8, channels=1, classes=("a", "b", "c")))
    model = WithPreprocessing(network, Preprocessing(mean=(0.5,), std=(0.5,)))
    monkeypatch.setattr(Ranks, "total", lambda self, values: values)
    found = [validate(model, split, Ranks(rank, world), bf16=False, classes=3) for rank in range(world)]
    whole = model(split.batch(torch.arange(rows))[0]).detach()
    figures = torch.tensor([list(part.metrics.values()) for part in found]).sum(0)
    expected = torch.stack([(whole.argmax(1) == split.labels).float().mean(),
                            functional.cross_entropy(whole, split.labels)])
    torch.testing.assert_close(figures, expected)
    return whole, sum((part.logits for part in found if part.logits is not None), torch.zeros(()))


@pytest.mark.parametrize(("world", "rows"), [(1, ROWS), (3, ROWS), (4, 2)])  # two ranks without a row
def test_the_shares_of_all_ranks_are_the_whole(world: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, together = parts(world, rows, monkeypatch)

    torch.testing.assert_close(together, whole)
