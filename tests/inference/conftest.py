"""A tiny Model folder, and a predictor process that serves it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.components.contracts.folder import complete_folder
from penstock.components.contracts.model import (
    GOLDEN,
    MODEL_MANIFEST,
    ONNX_FILE,
    Model,
    ModelManifest,
    Origin,
    Preprocessing,
    Signature,
    files_sha256,
    version_of,
)

SIGNATURE = Signature(height=2, width=3, channels=1, classes=("left", "right"))
WEIGHTS = np.array([[1, 0], [0, 0], [0, 1]] * 2, np.float32)  # the first column against the last
NAME = "sides"


class Served(NamedTuple):
    """A predictor process; `ask` sends one request and returns status, headers (lower case) and body."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    model: Model

    def ask(self, path: str, body: bytes | dict[str, Any] | None = None,
            headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(self.url + path, data, headers or {}), timeout=60) as response:
                return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def infer(self, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        status, _, answer = self.ask(f"/v2/models/{NAME}/infer", body, headers)
        return status, json.loads(answer)

    def metric(self, name: str, **labels: str) -> float:
        """Read one series of /metrics, 0 where there is none."""
        wanted = dict(model=NAME, version=self.model.version, **labels)
        for line in self.ask("/metrics")[2].decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series.startswith(name + "{") and all(f'{key}="{text}"' in series for key, text in wanted.items()):
                return float(value)
        return 0.0

    def until_ready(self) -> None:
        """Wait for readiness 200, or fail with the process's log."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask(f"/v2/models/{NAME}/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        pytest.fail(f"the predictor is not ready: {self.log.read_text()}")


def write_model(folder: Path, golden_shift: float = 0.0) -> Model:
    """Write a Model folder: pixels, divided by the brightest of them (0/0 for a black image), times WEIGHTS."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("ReduceMax", ["flat", "axes"], ["brightest"], keepdims=1),
            helper.make_node("Div", ["flat", "brightest"], ["scaled"]),
            helper.make_node("MatMul", ["scaled", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "sides",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *SIGNATURE.image_shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    inputs = np.random.default_rng(0).integers(1, 256, (8, *SIGNATURE.image_shape), np.uint8)
    scaled = inputs.reshape(8, -1) / inputs.reshape(8, -1).max(axis=1, keepdims=True)
    with complete_folder(folder) as building:
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
                  building / ONNX_FILE)
        np.savez(building / GOLDEN, inputs=inputs, logits=(scaled @ WEIGHTS + golden_shift).astype(np.float32))
        files = files_sha256(building, MODEL_MANIFEST)
        ModelManifest(
            name=NAME, version=version_of(files, SIGNATURE), signature=SIGNATURE,
            preprocessing=Preprocessing(mean=(0.0,), std=(1.0,)),
            origin=Origin(dataset="toy", dataset_hash="0", config={}, code_version="test"),
            metrics={}, golden_tolerance=1e-5, files=files,
        ).save(building / MODEL_MANIFEST)
    return Model(folder)


@contextmanager
def start(folder: Path, log: Path, *options: str) -> Iterator[Served]:
    """Run a predictor on a free port; the process is ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-X", "importtime", "-m", "penstock.inference", "--model_name", NAME,
               "--model_dir", str(folder), "--http_port", str(port), *options]
    environment = {name: value for name, value in os.environ.items() if name != "PENSTOCK_HTTP_HOST"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        yield Served(f"http://127.0.0.1:{port}", process, log, Model(folder))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return write_model(tmp_path / "model")


@pytest.fixture
def wrong_model(tmp_path: Path) -> Model:
    """A model whose golden rows say something else than it computes."""
    return write_model(tmp_path / "model", golden_shift=0.5)


@pytest.fixture
def starter(tmp_path: Path) -> Callable[..., Any]:
    """Start another predictor than the shared one: `with starter(folder, *options) as served`."""
    return lambda folder, *options: start(folder, tmp_path / "predictor.log", *options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The predictor that all tests of a module share; it takes 4 images in a request."""
    folder = tmp_path_factory.mktemp("served")
    write_model(folder / "model")
    with start(folder / "model", folder / "predictor.log", "--max_batch", "4") as served:
        served.until_ready()
        yield served
