"""The protocol by value: what goes in comes out, and nothing but a Refusal is raised over any bytes."""

import json
import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penstock.components.contracts.model import Signature
from penstock.inference.protocol import (
    OUTPUTS,
    OutputWish,
    Question,
    Refusal,
    body_limit,
    decode,
    encode,
)

SIGNATURE = Signature(height=2, width=2, channels=3, classes=("ankle boot", "sac à main"))
MAX_BATCH = 8
PIXELS = arrays(np.uint8, st.tuples(st.integers(1, MAX_BATCH), st.just(2), st.just(2), st.just(3)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["inputs", "outputs", "name", "data", "shape", "parameters", "id"]), inner, max_size=4),
    max_leaves=20)


def request(images: np.ndarray, **changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(images.shape)} | changes]}


@given(PIXELS, st.booleans())
def test_json_pixels_arrive_as_they_were_sent(images: np.ndarray, nested: bool) -> None:
    data = images.tolist() if nested else images.ravel().tolist()
    body = json.dumps(request(images, data=data)).encode()

    assert np.array_equal(decode(body, "", SIGNATURE, MAX_BATCH).images, images)
    assert len(body) <= body_limit(SIGNATURE, MAX_BATCH)


@given(PIXELS)
def test_binary_pixels_arrive_as_they_were_sent(images: np.ndarray) -> None:
    head = json.dumps(request(images, parameters={"binary_data_size": images.size})).encode()

    assert np.array_equal(decode(head + images.tobytes(), str(len(head)), SIGNATURE, MAX_BATCH).images, images)


@given(st.binary(max_size=200), st.sampled_from(["", "0", "5", "-1", "²", "1e3"]))
def test_any_bytes_are_refused_and_nothing_worse(body: bytes, size: str) -> None:
    with pytest.raises(Refusal):
        decode(body, size, SIGNATURE, MAX_BATCH)


@given(JSON, st.lists(st.integers(-2, 9), max_size=5))
def test_any_data_and_shape_are_refused_or_fit(data: Any, shape: list[int]) -> None:
    body = json.dumps({"inputs": [{"name": "image", "datatype": "UINT8", "shape": shape, "data": data}]}).encode()
    with suppress(Refusal):
        assert decode(body, "", SIGNATURE, MAX_BATCH).images.shape == tuple(shape)


@given(JSON)
def test_any_json_is_refused(body: Any) -> None:
    with pytest.raises(Refusal):
        decode(json.dumps(body).encode(), "", SIGNATURE, MAX_BATCH)


@pytest.mark.parametrize(("whole", "own", "binary"), [
    (False, {}, False), (True, {}, True), (True, {"binary_data": False}, False), (False, {"binary_data": True}, True)])
def test_an_output_may_differ_from_the_request(whole: bool, own: dict[str, bool], binary: bool) -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    body = request(images, data=images.ravel().tolist()) | {
        "parameters": {"binary_data_output": whole}, "outputs": [{"name": "class", "parameters": own}]}

    assert decode(json.dumps(body).encode(), "", SIGNATURE, 1).outputs == (OutputWish("class", binary),)


@given(st.lists(st.tuples(st.floats(-50, 50, width=32), st.floats(-50, 50, width=32)), min_size=1, max_size=4))
def test_json_and_binary_outputs_say_the_same(rows: list[tuple[float, float]]) -> None:
    logits = np.array(rows, np.float32)
    images = np.zeros((len(rows), 2, 2, 3), np.uint8)

    def ask(binary: bool) -> tuple[dict[str, Any], bytes]:
        question = Question("id", images, tuple(OutputWish(name, binary) for name in OUTPUTS))
        answer = encode(question, logits, logits / 100, model="m", version="v", classes=SIGNATURE.classes)
        size = answer.json_size or len(answer.body)
        return json.loads(answer.body[:size]), answer.body[size:]

    listed, behind = ask(binary=False)
    described, raw = ask(binary=True)
    sizes = [output["parameters"]["binary_data_size"] for output in described["outputs"]]
    assert behind == b""
    assert sum(sizes) == len(raw)
    assert np.frombuffer(raw[: sizes[0]], "<f4").tolist() == listed["outputs"][0]["data"]
    assert raw.endswith(listed["outputs"][2]["data"][-1].encode())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_answer_that_is_no_number_is_refused(bad: float) -> None:
    question = Question("id", np.zeros((2, 2, 2, 3), np.uint8), (OutputWish("class", False),))
    with pytest.raises(Refusal, match=r"for rows \[1\]") as refusal:
        encode(question, np.array([[0, 1], [0, bad]], np.float32), np.zeros((2, 2), np.float32),
               model="m", version="v", classes=SIGNATURE.classes)
    assert refusal.value.status == 500
