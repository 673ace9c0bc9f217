"""The schedule by value, and what decays."""

import pytest
import torch

from penstock.components.training.worker.config import WorkerConfig
from penstock.components.training.worker.optimizers import build_optimizer, learning_rate, set_learning_rate


def test_the_rate_climbs_then_falls_as_a_cosine() -> None:
    config = WorkerConfig(learning_rate=1.0, warmup=0.2)

    rates = [learning_rate(step, 10, config) for step in range(10)]

    assert rates[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.9619398])
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx(0.0380602)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_without_warm_up_it_starts_at_the_top() -> None:
    assert learning_rate(0, 4, WorkerConfig(learning_rate=0.3, warmup=0)) == 0.3


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_matrices_decay(name: str) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))

    optimizer = build_optimizer(network, WorkerConfig.parse({"optimizer": name, "weight_decay": 0.1}))
    set_learning_rate(optimizer, 0.25)

    assert {(group["weight_decay"], parameter.ndim) for group in optimizer.param_groups
            for parameter in group["params"]} == {(0.1, 4), (0.0, 1)}
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
