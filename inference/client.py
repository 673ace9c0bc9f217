"""Ask a service: which pictures it takes, and what it sees in some.

Speaks the Open Inference Protocol v2 through the standard library, so that whoever asks needs no server packages.
Bypasses any HTTP proxy of the environment: a gateway is on this machine or in the cluster's network.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ContractError, PenstockError
from penstock.components.contracts.image import decode_image

__all__ = [
    "Prediction",
    "RequestRefused",
    "ServiceError",
    "ServiceUnavailable",
    "ServiceUnknown",
    "ServiceUnreachable",
    "predict",
    "predict_files",
    "read_file",
    "signature",
]

BATCH = 64  # images in one request, well below a server's limit of 256
TIMEOUT = 30.0  # seconds for one request
UNAVAILABLE = (502, 503, 504)  # what gateways answer while nothing behind them does


class ServiceError(PenstockError):
    """A service did not answer with predictions."""


class ServiceUnreachable(ServiceError):
    """Nothing answers at this URL."""


class ServiceUnavailable(ServiceError):
    """The service is known and cannot answer now (502, 503, 504): asking again may help."""


class ServiceUnknown(ServiceError):
    """Something answers, and it does not know the service."""


class RequestRefused(ServiceError):
    """The service refused the request: asking again will not help."""


class Prediction(NamedTuple):
    """What a service sees in N images; `versions` holds more than one where a canary answered some of them."""

    classes: list[str]  # N
    probabilities: npt.NDArray[np.float32]  # (N, classes)
    versions: list[str]  # N


def signature(url: str, model: str) -> tuple[int, int, int]:
    """Return height, width and channels of the pictures that a service takes.

    Args:
        url: the gateway or a predictor, for example `http://127.0.0.1:8480`.

    Raises:
        ServiceError: nothing answers there, or it does not know the model.
    """
    answer = _ask(url, model, urllib.request.Request(_base(url, model)))
    try:
        _, height, width, channels = answer["inputs"][0]["shape"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServiceError(f"{model} at {url} takes no images: its inputs are {answer.get('inputs')}") from error
    return height, width, channels


def predict(url: str, model: str, images: npt.NDArray[np.uint8]) -> Prediction:
    """Classify raw pixels, a few requests for many images.

    Args:
        images: (N, H, W, C) uint8, in the shape that `signature` names.

    Raises:
        ServiceError: nothing answers, the model is unknown, or it refuses the images.
    """
    prediction = Prediction([], np.empty((0, 0), np.float32), [])
    for start in range(0, len(images), BATCH):
        part = _predict_batch(url, model, images[start : start + BATCH])
        rows = np.concatenate([prediction.probabilities, part.probabilities]) if start else part.probabilities
        prediction = Prediction(prediction.classes + part.classes, rows, prediction.versions + part.versions)
    return prediction


def predict_files(url: str, model: str, paths: Sequence[Path]) -> Prediction:
    """Classify picture files of any size and format.

    Raises:
        ContractError: a file cannot be read, or is no picture.
        ServiceError: as `predict`.
    """
    height, width, channels = signature(url, model)
    pictures = [decode_image(read_file(path), height, width, channels, str(path)) for path in paths]
    return predict(url, model, np.stack(pictures) if pictures else np.empty((0, height, width, channels), np.uint8))


def _predict_batch(url: str, model: str, images: npt.NDArray[np.uint8]) -> Prediction:
    pixels = np.ascontiguousarray(images, np.uint8).tobytes()
    head = json.dumps({
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": list(images.shape),
                    "parameters": {"binary_data_size": len(pixels)}}],
        "outputs": [{"name": "class"}, {"name": "probabilities"}],
    }).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    answer = _ask(url, model, urllib.request.Request(f"{_base(url, model)}/infer", head + pixels, headers))
    outputs = {output["name"]: output for output in answer["outputs"]}
    probabilities = outputs["probabilities"]
    return Prediction(outputs["class"]["data"],
                      np.asarray(probabilities["data"], np.float32).reshape(probabilities["shape"]),
                      [answer["model_version"]] * len(images))


def _base(url: str, model: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ServiceUnreachable(f"{url!r} is no URL of a gateway; it looks like http://127.0.0.1:8480")
    return f"{url.rstrip('/')}/v2/models/{urllib.parse.quote(model, safe='')}"


def _ask(url: str, model: str, request: urllib.request.Request) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise _explain(url, model, error) from error
    except (OSError, HTTPException) as error:  # URLError, a reset connection, a time-out, a port that is no number
        raise ServiceUnreachable(
            f"nothing answers at {url} ({getattr(error, 'reason', error)}); is the gateway running? "
            "see `penstock laptop status`") from error
    except ValueError as error:
        raise ServiceError(f"{url} answers, but not with JSON: {error}; is it a gateway of penstock?") from error
    return answer


def _explain(url: str, model: str, error: urllib.error.HTTPError) -> ServiceError:
    text = error.read().decode(errors="replace").strip()
    try:
        reason = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        reason = text[:200] or error.reason
    if error.code == 404:
        return ServiceUnknown(f"{url} knows no service {model!r} ({reason}); see `penstock laptop status`")
    if 400 <= error.code < 500:
        return RequestRefused(f"{model} refused the request ({error.code}): {reason}")
    kind = ServiceUnavailable if error.code in UNAVAILABLE else ServiceError
    return kind(f"{model} at {url} failed ({error.code}): {reason}")


def read_file(path: Path) -> bytes:
    """Read a picture file.

    Raises:
        ContractError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path} cannot be read: {error.strerror}") from error
