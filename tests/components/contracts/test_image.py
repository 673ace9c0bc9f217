"""One way from a picture file to pixels: what a person sees is what a model gets."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ExifTags, Image

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.image import decode_image


def file(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))))
def test_a_png_gives_its_pixels_back(pixels: np.ndarray) -> None:
    channels = pixels.shape[2]
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)

    np.testing.assert_array_equal(decode_image(file(picture), 0, 0, channels), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_gives_the_asked_shape(kind: str, channels: int) -> None:
    pixels = decode_image(file(Image.new("RGB", (20, 10), (200, 200, 200)), kind), 8, 6, channels)

    assert pixels.shape == (8, 6, channels)
    assert pixels.dtype == np.uint8
    assert abs(pixels.astype(int) - 200).max() <= 3


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 0x4000], [0x8000, 0xFFFF]], np.uint16)

    assert decode_image(file(Image.fromarray(deep)), 0, 0, 1)[:, :, 0].tolist() == [[0, 0x40], [0x80, 0xFF]]


def test_what_is_clear_is_white() -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30])

    assert decode_image(file(clear), 0, 0, 3).tolist() == [[[255] * 3] * 2] * 2
    assert decode_image(file(palette, transparency=0), 0, 0, 1).tolist() == [[[255]] * 2] * 2


def test_a_photo_is_turned_as_its_camera_was_held() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = decode_image(file(Image.new("RGB", (20, 10)), "JPEG", exif=exif), 0, 0, 3)

    assert pixels.shape == (20, 10, 3)


@pytest.mark.parametrize("data", [b"", b"no image", file(Image.new("RGB", (64, 64), "red"))[:100]])
def test_bytes_that_are_no_picture_are_named(data: bytes) -> None:
    with pytest.raises(ContractError, match=rf"cat\.png is no readable image \({len(data)} bytes\)"):
        decode_image(data, 0, 0, 3, "cat.png")
