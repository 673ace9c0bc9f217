"""V1 by value: pixels and picture files arrive as sent, and nothing but a Refusal is raised over any bytes."""

import base64
import io
import json
import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from penstock.components.contracts.model import Signature
from penstock.inference import v1
from penstock.inference.protocol import Refusal

GREY = Signature(height=2, width=3, channels=1, classes=("left", "right"))
RGB = Signature(height=2, width=3, channels=3, classes=("left", "right"))
MAX_BATCH = 4
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["instances", "image", "b64", "inputs"]), inner, max_size=3),
    max_leaves=20)


def body(*instances: Any) -> bytes:
    return json.dumps({"instances": list(instances)}).encode()


def picture(pixels: np.ndarray, kind: str = "PNG") -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return base64.b64encode(content.getvalue()).decode()


@given(arrays(np.uint8, st.tuples(st.integers(1, MAX_BATCH), st.just(2), st.just(3), st.just(3))), st.booleans())
def test_pixels_arrive_as_they_were_sent(images: np.ndarray, named: bool) -> None:
    listed = [{"image": image} if named else image for image in images.tolist()]

    assert np.array_equal(v1.decode(body(*listed), RGB, MAX_BATCH), images)


def test_one_channel_may_go_without_its_axis_and_forms_may_be_mixed() -> None:
    flat = np.arange(6, dtype=np.uint8).reshape(2, 3)
    sent = [flat.tolist(), flat[..., None].tolist(), {"b64": picture(flat)}, {"image": {"b64": picture(flat)}}]

    assert v1.decode(body(*sent), GREY, MAX_BATCH).tolist() == [flat[..., None].tolist()] * 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_a_picture_file_of_any_size_is_scaled(kind: str) -> None:
    white = np.full((40, 60, 3), 255, np.uint8)

    assert v1.decode(body({"b64": picture(white, kind)}), RGB, MAX_BATCH).min() >= 253


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(Refusal):
        v1.decode(content, GREY, MAX_BATCH)
    with pytest.raises(Refusal, match=r"instances\[0\].b64: expected a BMP"):
        v1.decode(body({"b64": base64.b64encode(content).decode()}), GREY, MAX_BATCH)


@given(st.integers(8, 70), st.integers(0, 255), st.integers(0, 70))
def test_a_damaged_picture_is_refused_or_read(place: int, value: int, lost: int) -> None:
    data = bytearray(base64.b64decode(picture(np.zeros((4, 4), np.uint8))))
    data[place % len(data)] = value
    damaged = base64.b64encode(data[: len(data) - lost]).decode()

    with suppress(Refusal):
        assert v1.decode(body({"b64": damaged}), GREY, MAX_BATCH).shape == (1, 2, 3, 1)


@given(JSON)
def test_any_json_is_refused_or_fits(content: Any) -> None:
    for sent in (json.dumps(content).encode(), body(content)):
        with suppress(Refusal):
            assert v1.decode(sent, GREY, MAX_BATCH).shape[1:] == (2, 3, 1)


@pytest.mark.parametrize(("sent", "text"), [
    (b'{"instances": [[[NaN]]]}', r"instances\[0\]: expected whole numbers from 0 to 255; found nan"),
    (b'[[1]]', "expected an object with a list `instances`.*found list"),
    (b'{"inputs": []}', r"found an object with \['inputs'\]"),
    (b"{'instances': 1}", "the body is no JSON"),
    (b'{"instances": "abc"}', "no V1 request"),
    (body(), "expected at least one; found none"),
    (body([[1, 2, 3], [4, 5]]), r"instances\[0\]: expected a flat or an evenly nested list"),
    (body([[0] * 3] * 2, [[0] * 2] * 3), r"instances\[1\]: expected shape \[2, 3, 1\] or \[2, 3\]; found \[3, 2\]"),
    (body([[0.5] * 3] * 2), r"instances\[0\]: expected whole numbers from 0 to 255; found 0.5 to 0.5"),
    (body([[256] * 3] * 2), "found 256 to 256"),
    (body([["a"] * 3] * 2), "expected whole numbers"),
    (body(7), r"instances\[0\]: expected a nested list of pixels, or an object.*found int"),
    (body({"pixels": []}), r"`image` or `b64` alone; found \['pixels'\]"),
    (body({"image": [], "b64": ""}), r"alone; found \['b64', 'image'\]"),
    (body({"image": 3}), r"instances\[0\].image: expected a nested list"),
    (body({"b64": 3}), r"instances\[0\].b64: expected a picture file in base64; found int"),
    (body({"b64": "a b"}), r"instances\[0\].b64: expected base64"),
    (body({"b64": "é"}), "expected base64"),
])
def test_what_does_not_fit_is_named(sent: bytes, text: str) -> None:
    with pytest.raises(Refusal, match=text) as refusal:
        v1.decode(sent, GREY, MAX_BATCH)
    assert refusal.value.status == 400


def test_a_shape_of_three_channels_has_no_short_form() -> None:
    with pytest.raises(Refusal, match=r"expected shape \[2, 3, 3\]; found \[2, 3\]"):
        v1.decode(body([[0] * 3] * 2), RGB, MAX_BATCH)


def test_too_many_instances_are_another_refusal() -> None:
    with pytest.raises(Refusal, match="at most 4 in a request; found 5; send several") as refusal:
        v1.decode(body(*[[[0] * 3] * 2] * 5), GREY, MAX_BATCH)
    assert refusal.value.status == 413


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v1, "MOST_PIXELS", 99)
    with pytest.raises(Refusal, match="at most 99 pixels; found 10 x 10; send a smaller one"):
        v1.decode(body({"b64": picture(np.zeros((10, 10), np.uint8))}), GREY, MAX_BATCH)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(Refusal, match=r"at most 99 pixels: .*decompression bomb"):
        v1.decode(body({"b64": picture(np.zeros((10, 10), np.uint8))}), GREY, MAX_BATCH)


def test_answers_one_prediction_per_instance() -> None:
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    answer = v1.encode(np.log(probabilities), probabilities, model="m", version="v", classes=("sac à main", "b"))

    assert answer.json_size == 0
    assert json.loads(answer.body) == {
        "predictions": [{"class": "b", "index": 1, "probabilities": [0.25, 0.75]},
                        {"class": "sac à main", "index": 0, "probabilities": [0.5, 0.5]}],
        "model_name": "m", "model_version": "v"}


def test_an_answer_that_is_no_number_is_refused() -> None:
    with pytest.raises(Refusal, match=r"for rows \[1\]") as refusal:
        v1.encode(np.array([[0, 1], [0, math.nan]], np.float32), np.zeros((2, 2), np.float32), model="m", version="v",
                  classes=GREY.classes)
    assert refusal.value.status == 500


def test_a_full_batch_of_pixels_fits_and_so_does_a_photo() -> None:
    large = Signature(height=224, width=224, channels=3, classes=("a", "b"))
    image = np.full(large.image_shape, 255, np.uint8).tolist()

    assert len(json.dumps(image, indent=None)) * 8 < v1.body_limit(large, 8)
    assert v1.body_limit(GREY, 1) == 16 * 2**20
