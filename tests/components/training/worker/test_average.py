"""The moving average, by value, and what it leaves alone."""

import torch
from torch import nn

from penstock.components.training.worker.average import Average


def test_the_average_by_value() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = Average(network, decay=0.5)

    nn.init.constant_(network.weight, 5.0)
    average.update(1)  # warm-up: (1 + 1) / (10 + 1) is kept
    expected = 2 / 11 * 1.0 + 9 / 11 * 5.0
    torch.testing.assert_close(average.network.weight.item(), expected)
    nn.init.constant_(network.weight, 3.0)
    average.update(1000)  # (1 + 1000) / (10 + 1000) is more than the decay asked for
    torch.testing.assert_close(average.network.weight.item(), 0.5 * expected + 0.5 * 3.0)
    assert network.weight.item() == 3.0


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    average = Average(network, decay=0.5)
    network(torch.rand(4, 1, 8, 8))
    average.update(1000)

    statistics, own = network[1], average.network[1]
    torch.testing.assert_close(own.running_mean, 0.5 * statistics.running_mean)  # it began at 0
    torch.testing.assert_close(own.running_var, 0.5 + 0.5 * statistics.running_var)  # it began at 1
    assert own.num_batches_tracked == 1
    assert not own.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_weights_loaded_later_are_seen() -> None:
    network = nn.Linear(2, 2)
    average = Average(network, decay=0.0)
    network.load_state_dict({"weight": torch.full((2, 2), 7.0), "bias": torch.zeros(2)})
    average.update(1)

    assert torch.equal(average.network.weight, torch.full((2, 2), 7.0))
