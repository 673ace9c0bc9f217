"""The Open Inference Protocol v2 over REST for one image classifier: bytes in, pixels; predictions in, bytes out.

Pure: no network, no model, no clock. Covers JSON tensors and the binary tensor extension, in both directions.
kserve 0.21's own decoder turns a binary tensor into a list and back (1x12288 values: 219 requests/s instead of 1,300,
1 core, 2026-11-20), checks nothing against the signature, ignores requested outputs and writes NaN as null.

Source: https://github.com/kserve/open-inference-protocol, REST; Triton's "binary tensor data extension".
"""

import math
import struct
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

from penstock.components.contracts.errors import PenstockError
from penstock.components.contracts.model import Signature

__all__ = [
    "HEADER_LENGTH",
    "INPUT",
    "OUTPUTS",
    "Answer",
    "OutputWish",
    "Question",
    "Refusal",
    "body_limit",
    "decode",
    "encode",
    "metadata",
    "require_finite",
    "whole_pixels",
]

HEADER_LENGTH = "inference-header-content-length"
INPUT = "image"
OUTPUTS = ("logits", "probabilities", "class")
BYTES_PER_VALUE = 8  # a uint8 in JSON is up to "255, "; the rest is for brackets and white space
ENVELOPE = 65_536  # bytes of names, ids and parameters around the tensor


class Refusal(PenstockError):
    """A request that gets no prediction; `status` is the HTTP code, the text says what was expected and found."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class OutputWish(NamedTuple):
    """An output the client wants, as JSON or as raw bytes behind it."""

    name: str
    binary: bool


class Question(NamedTuple):
    """A request that fits the signature; `images` is (N, H, W, C) uint8."""

    id: str
    images: npt.NDArray[np.uint8]
    outputs: tuple[OutputWish, ...]


class Answer(NamedTuple):
    """A response body; `json_size` is its JSON part's length in bytes, 0 where all of it is JSON."""

    body: bytes
    json_size: int


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _TensorParameters(_Part):
    binary_data_size: int | None = None


class _Tensor(_Part):
    name: str
    shape: list[int]
    datatype: str
    parameters: _TensorParameters = _TensorParameters()
    data: Any = None


class _OutputParameters(_Part):
    binary_data: bool | None = None


class _Output(_Part):
    name: str
    parameters: _OutputParameters = _OutputParameters()


class _RequestParameters(_Part):
    binary_data_output: bool = False


class _Request(_Part):
    id: str = ""
    parameters: _RequestParameters = _RequestParameters()
    inputs: list[_Tensor]
    outputs: list[_Output] = []


def metadata(name: str, version: str, signature: Signature) -> dict[str, Any]:
    """Return the model metadata object; -1 is the batch."""
    classes = len(signature.classes)
    return {
        "name": name,
        "versions": [version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *signature.image_shape]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, classes]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
            {"name": "class", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def body_limit(signature: Signature, max_batch: int) -> int:
    """Return the largest body worth reading, in bytes: a full batch as JSON."""
    return max_batch * math.prod(signature.image_shape) * BYTES_PER_VALUE + ENVELOPE


def decode(body: bytes, json_size: str, signature: Signature, max_batch: int) -> Question:
    """Read a request and hold it against the signature.

    Args:
        body: JSON, or JSON and raw tensor bytes.
        json_size: value of the header `Inference-Header-Content-Length`, "" where there is none.
        max_batch: images allowed in one request.

    Raises:
        Refusal: 400, or 413 where the batch is too large.
    """
    text, raw = _parts(body, json_size)
    try:
        request = _Request.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise Refusal(f"no Open Inference Protocol v2 request: {place}: {first['msg']}") from error
    images = _images(request.inputs, raw, signature, max_batch)
    return Question(request.id or uuid.uuid4().hex, images, _wishes(request))


def encode(question: Question, logits: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32], *,
           model: str, version: str, classes: Sequence[str]) -> Answer:
    """Write the response with the outputs that were asked for.

    Args:
        logits: (N, classes) float32.
        probabilities: (N, classes) float32.

    Raises:
        Refusal: 500, because the model computed NaN or infinity, for which JSON has no word.
    """
    require_finite(logits, probabilities, model, version)
    names = [classes[index] for index in logits.argmax(axis=1)]
    values: dict[str, npt.NDArray[np.float32] | list[str]] = {
        "logits": logits, "probabilities": probabilities, "class": names}
    outputs, raw = [], []
    for wish in question.outputs:
        output, data = _output(wish, values[wish.name])
        outputs.append(output)
        raw.append(data)
    text = to_json({"id": question.id, "model_name": model, "model_version": version, "outputs": outputs})
    behind = b"".join(raw)
    return Answer(text + behind, len(text) if any(wish.binary for wish in question.outputs) else 0)


def require_finite(logits: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32], model: str,
                   version: str) -> None:
    """Refuse to answer with what is no number.

    Raises:
        Refusal: 500, naming the first rows.
    """
    finite = np.isfinite(logits).all(axis=1) & np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        rows = np.flatnonzero(~finite)[:5].tolist()
        raise Refusal(f"version {version} of {model} computed NaN or infinity for rows {rows} of the request", 500)


def whole_pixels(data: list[Any], what: str) -> npt.NDArray[np.uint8]:
    """Turn a flat or evenly nested list of numbers into pixels, in the list's own shape.

    Args:
        what: the list's name, for the text of a refusal.

    Raises:
        Refusal: 400, because the list is ragged or holds anything but whole numbers from 0 to 255.
    """
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise Refusal(f"{what}: expected a flat or an evenly nested list; found another: {error}") from error
    if not values.size:
        return np.empty(values.shape, np.uint8)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        found = f"{values.min()} to {values.max()}" if values.dtype.kind in "iuf" else f"{values.dtype.name} values"
        raise Refusal(f"{what}: expected whole numbers from 0 to 255; found {found} ({values.dtype.name})")
    return values.astype(np.uint8)


def _parts(body: bytes, json_size: str) -> tuple[bytes, bytes]:
    if not json_size:
        return body, b""
    if not (json_size.isdecimal() and int(json_size) <= len(body)):
        raise Refusal(f"{HEADER_LENGTH}: expected the JSON part's length, at most the body's {len(body)} bytes; "
                      f"found {json_size!r}")
    return body[: int(json_size)], body[int(json_size) :]


def _images(inputs: list[_Tensor], raw: bytes, signature: Signature, max_batch: int) -> npt.NDArray[np.uint8]:
    if [tensor.name for tensor in inputs] != [INPUT]:
        raise Refusal(f"expected one input, {INPUT!r}; found {[tensor.name for tensor in inputs]}")
    tensor = inputs[0]
    if tensor.datatype != "UINT8":
        raise Refusal(f"input {INPUT!r}: expected datatype UINT8 (raw pixels, 0 to 255, nothing normalised); "
                      f"found {tensor.datatype}")
    if tuple(tensor.shape[1:]) != signature.image_shape or tensor.shape[0] < 1:
        raise Refusal(f"input {INPUT!r}: expected shape {[-1, *signature.image_shape]} with at least one image; "
                      f"found {tensor.shape}")
    if tensor.shape[0] > max_batch:
        raise Refusal(f"input {INPUT!r}: expected at most {max_batch} images in a request; found {tensor.shape[0]}; "
                      "send several requests", 413)
    pixels = _binary(tensor, raw) if tensor.parameters.binary_data_size is not None else _listed(tensor, raw)
    expected = math.prod(tensor.shape)
    if pixels.size != expected:
        raise Refusal(f"input {INPUT!r}: expected {expected} values for shape {tensor.shape}; found {pixels.size}")
    return pixels.reshape(tensor.shape)


def _binary(tensor: _Tensor, raw: bytes) -> npt.NDArray[np.uint8]:
    if tensor.data is not None:
        raise Refusal(f"input {INPUT!r}: expected either data or binary_data_size; found both")
    if tensor.parameters.binary_data_size != len(raw):
        raise Refusal(f"input {INPUT!r}: expected {tensor.parameters.binary_data_size} bytes behind the JSON, as "
                      f"binary_data_size says; found {len(raw)} (is the header {HEADER_LENGTH} right?)")
    return np.frombuffer(raw, np.uint8)


def _listed(tensor: _Tensor, raw: bytes) -> npt.NDArray[np.uint8]:
    if not isinstance(tensor.data, list):
        raise Refusal(f"input {INPUT!r}: expected data as a list; found {type(tensor.data).__name__}")
    if raw:
        raise Refusal(f"input {INPUT!r}: expected nothing behind the JSON without binary_data_size; "
                      f"found {len(raw)} bytes")
    return whole_pixels(tensor.data, f"input {INPUT!r}")


def _wishes(request: _Request) -> tuple[OutputWish, ...]:
    default = request.parameters.binary_data_output
    unknown = [output.name for output in request.outputs if output.name not in OUTPUTS]
    if unknown:
        raise Refusal(f"expected outputs out of {list(OUTPUTS)}; found {unknown}")
    if not request.outputs:
        return tuple(OutputWish(name, default) for name in OUTPUTS)
    return tuple(OutputWish(output.name, default if (asked := output.parameters.binary_data) is None else asked)
                 for output in request.outputs)


def _output(wish: OutputWish, values: npt.NDArray[np.float32] | list[str]) -> tuple[dict[str, Any], bytes]:
    """Return one output's JSON object and the raw bytes that go behind the JSON."""
    if isinstance(values, list):
        output: dict[str, Any] = {"name": wish.name, "datatype": "BYTES", "shape": [len(values)]}
        encoded = [name.encode() for name in values]
        data = b"".join(struct.pack("<I", len(name)) + name for name in encoded)
    else:
        output = {"name": wish.name, "datatype": "FP32", "shape": list(values.shape)}
        data = values.astype("<f4", copy=False).tobytes()
    if not wish.binary:
        return output | {"data": values if isinstance(values, list) else values.ravel().tolist()}, b""
    return output | {"parameters": {"binary_data_size": len(data)}}, data
