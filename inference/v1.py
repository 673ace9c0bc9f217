"""KServe's V1 protocol for one image classifier: `{"instances": [...]}` in, `{"predictions": [...]}` out.

Pure, as `protocol` is. Beside lists of pixels it takes picture files of any size in base64, as TensorFlow Serving's
`{"b64": "..."}` does, because who sends V1 by hand has a picture and not its pixels.

Source: https://kserve.github.io/website, data plane V1; TensorFlow Serving's REST API for `b64`.
"""

import base64
import binascii
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic_core import from_json, to_json

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.image import UNREADABLE, decode_image
from penstock.components.contracts.model import Signature
from penstock.inference import protocol
from penstock.inference.protocol import Answer, Refusal, require_finite, whole_pixels

__all__ = ["body_limit", "decode", "encode"]

EXAMPLE = '{"instances": [[[0, 255], [9, 0]]]} or {"instances": [{"b64": "iVBORw0..."}]}'
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # others start programs, or write to stderr what they think (TIFF)
MOST_PIXELS = 50_000_000  # of one picture: a large camera's; each takes 3 bytes while it is decoded
PICTURE_BYTES = 16 * 2**20  # room for picture files in one body, beside what the pixels of a full batch take


def body_limit(signature: Signature, max_batch: int) -> int:
    """Return the largest body worth reading, in bytes: a full batch of pixels, or 16 MiB of picture files."""
    return max(protocol.body_limit(signature, max_batch), PICTURE_BYTES)


def decode(body: bytes, signature: Signature, max_batch: int) -> npt.NDArray[np.uint8]:
    """Read the instances of a request.

    An instance is a nested list of pixels (H, W, C), or (H, W) where the model takes one channel; or
    `{"image": <such a list>}`; or `{"b64": <a picture file>}`, which is scaled to the model's size.

    Args:
        max_batch: images allowed in one request.

    Returns:
        (N, H, W, C) uint8, N at least 1.

    Raises:
        Refusal: 400, or 413 where there are too many; the text names the instance.
    """
    try:
        request = from_json(body)
    except ValueError as error:
        raise Refusal(f"the body is no JSON: {error}; expected {EXAMPLE}") from error
    if not isinstance(request, dict) or not isinstance(request.get("instances"), list):
        found = f"an object with {sorted(request)[:5]}" if isinstance(request, dict) else type(request).__name__
        raise Refusal(f"no V1 request: expected an object with a list `instances`, such as {EXAMPLE}; found {found}")
    instances = request["instances"]
    if not instances:
        raise Refusal("instances: expected at least one; found none")
    if len(instances) > max_batch:
        raise Refusal(f"instances: expected at most {max_batch} in a request; found {len(instances)}; send several "
                      "requests", 413)
    return np.stack([_image(instance, f"instances[{index}]", signature) for index, instance in enumerate(instances)])


def encode(logits: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32], *, model: str, version: str,
           classes: Sequence[str]) -> Answer:
    """Write one prediction per instance, and which version of the model made them.

    Args:
        logits: (N, classes) float32.
        probabilities: (N, classes) float32, in the order of `classes`.

    Raises:
        Refusal: 500, because the model computed NaN or infinity, for which JSON has no word.
    """
    require_finite(logits, probabilities, model, version)
    predictions = [{"class": classes[index], "index": index, "probabilities": row}
                   for index, row in zip(logits.argmax(axis=1).tolist(), probabilities.tolist(), strict=True)]
    return Answer(to_json({"predictions": predictions, "model_name": model, "model_version": version}), 0)


def _image(instance: Any, place: str, signature: Signature) -> npt.NDArray[np.uint8]:
    if isinstance(instance, dict):
        if list(instance) == ["image"]:
            return _image(instance["image"], f"{place}.image", signature)
        if list(instance) == ["b64"]:
            return _picture(instance["b64"], f"{place}.b64", signature)
        raise Refusal(f"{place}: expected an object with `image` or `b64` alone; found {sorted(instance)[:5]}")
    if not isinstance(instance, list):
        raise Refusal(f"{place}: expected a nested list of pixels, or an object with `image` or `b64`; "
                      f"found {type(instance).__name__}")
    pixels = whole_pixels(instance, place)
    height, width, channels = signature.image_shape
    if pixels.shape != (height, width, channels) and (pixels.shape, channels) != ((height, width), 1):
        shapes = f"{[height, width, channels]}{f' or {[height, width]}' if channels == 1 else ''}"
        raise Refusal(f"{place}: expected shape {shapes}; found {list(pixels.shape)}")
    return pixels.reshape(signature.image_shape)


def _picture(text: Any, place: str, signature: Signature) -> npt.NDArray[np.uint8]:
    if not isinstance(text, str):
        raise Refusal(f"{place}: expected a picture file in base64; found {type(text).__name__}")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: a letter beyond ASCII
        raise Refusal(f"{place}: expected base64; found something else: {error}") from error
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
    except Image.DecompressionBombError as error:
        raise Refusal(f"{place}: expected a picture of at most {MOST_PIXELS:,} pixels: {error}") from error
    except UNREADABLE as error:
        raise Refusal(f"{place}: expected a {', '.join(FORMATS)} file; found {len(data):,} bytes of something else or "
                      "a damaged one") from error
    if width * height > MOST_PIXELS:
        raise Refusal(f"{place}: expected a picture of at most {MOST_PIXELS:,} pixels; found {width} x {height}; "
                      "send a smaller one")
    try:
        return decode_image(data, *signature.image_shape, place)
    except ContractError as error:
        raise Refusal(str(error)) from error
