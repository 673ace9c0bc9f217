"""Batches: the gather against plain slicing, and draws that depend on seed and epoch alone."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.training.worker.augment import Split, plan_epoch, stream_seed

ROWS, HEIGHT, WIDTH = 7, 5, 6


def pictures(channels: int) -> torch.Tensor:
    draws = np.random.default_rng(0).integers(0, 256, (ROWS, HEIGHT, WIDTH, channels), np.uint8)
    return torch.from_numpy(draws)


@given(channels=st.sampled_from([1, 3]), padding=st.integers(0, 3), flip=st.sampled_from([0.0, 0.5, 1.0]),
       seed=st.integers(0, 2**53 - 1), epoch=st.integers(0, 100))
def test_a_batch_is_the_planned_crops(channels: int, padding: int, flip: float, seed: int, epoch: int) -> None:
    images, labels = pictures(channels), torch.arange(ROWS)
    plan = plan_epoch(ROWS, seed, epoch, padding, flip)

    batch, batch_labels = Split(images, labels, padding).batch(plan.order, plan)

    bordered = np.pad(images.numpy(), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    for picture, row in zip(batch.numpy(), plan.order.tolist(), strict=True):
        top, left = int(plan.top[row]), int(plan.left[row])
        crop = bordered[row, top : top + HEIGHT, left : left + WIDTH]
        np.testing.assert_array_equal(picture, crop[:, ::-1] if plan.mirrored[row] else crop)
    assert batch_labels.tolist() == plan.order.tolist()


def test_without_a_plan_pictures_are_as_they_are() -> None:
    images = pictures(1)

    batch, labels = Split(images, torch.arange(ROWS), padding=2).batch(torch.tensor([3, 1]))

    assert torch.equal(batch, images[[3, 1]])
    assert labels.tolist() == [3, 1]


def test_a_plan_is_a_pure_function_of_seed_and_epoch() -> None:
    first = plan_epoch(50, 1, 2, padding=2, flip=0.5)
    torch.rand(10)
    again, others = plan_epoch(50, 1, 2, 2, 0.5), [plan_epoch(50, 1, 3, 2, 0.5), plan_epoch(50, 2, 2, 2, 0.5)]

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(first.order, other.order) for other in others)
    assert sorted(first.order.tolist()) == list(range(50))


def test_streams_are_told_apart() -> None:
    streams = [(1, "weights"), (1, "epoch", 1), (1, "epoch", 11), (11, "epoch", 1)]
    seeds = {stream_seed(*stream) for stream in streams}

    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
