"""The choices all sources share: which rows, which pixels."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from penstock.components.contracts.image import decode_image
from penstock.components.data.ingest.rows import choose_rows, fit_images


@given(labels=st.lists(st.integers(0, 4), max_size=60), limit=st.integers(1, 70))
def test_a_limit_is_shared_evenly_and_grows_by_adding(labels: list[int], limit: int) -> None:
    array = np.array(labels, np.int64)
    chosen = choose_rows(array, limit)

    assert len(chosen) == min(limit, len(labels))
    assert list(chosen) == sorted(set(chosen.tolist()))
    assert set(choose_rows(array, limit - 1).tolist() if limit > 1 else []) <= set(chosen.tolist())
    taken, available = (np.bincount(rows, minlength=5) for rows in (array[chosen], array))
    short = taken < available  # classes with rows left over: none of them got more than one row less than another
    assert not short.any() or taken[short].min() >= taken.max() - 1


def test_no_limit_takes_every_row_in_order() -> None:
    assert choose_rows(np.array([1, 0, 1]), 0).tolist() == [0, 1, 2]


def test_images_that_fit_are_not_touched() -> None:
    images = np.zeros((2, 4, 4, 1), np.uint8)
    assert fit_images(images, 0, 0) is images
    assert fit_images(images, 4, 1) is images


@pytest.mark.parametrize("channels", [1, 3])
def test_a_resized_array_is_what_its_file_would_give(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 4 - channels)).astype(np.uint8)
    images = images[..., :1] if channels == 3 else np.repeat(images[..., :1], 3, axis=-1)
    fitted = fit_images(images, 5, channels)

    for image, found in zip(images, fitted, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "PNG")
        np.testing.assert_array_equal(found, decode_image(buffer.getvalue(), 5, 5, channels))
