"""The predictor as a process: its answers, its refusals, its metrics, its start and its end."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from penstock.components.contracts.model import Model

INFER = "/v2/models/sides/infer"
LEFT = [200, 0, 10, 180, 0, 0]
RIGHT = [0, 0, 90, 10, 0, 100]


def tensor(*images: list[int], **changes: Any) -> dict[str, Any]:
    """A request for images of 2x3 pixels, with some fields of its tensor changed."""
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [len(images), 2, 3, 1],
                        "data": [list(image) for image in images], **changes}]}


def by_name(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output["data"] for output in answer["outputs"]}


def test_answers_with_every_output_and_the_version(served: Any) -> None:
    status, answer = served.infer({"id": "seven", **tensor(LEFT, RIGHT)})

    assert (status, answer["id"], answer["model_name"]) == (200, "seven", "sides")
    assert answer["model_version"] == served.model.version
    assert [(output["name"], output["datatype"], output["shape"]) for output in answer["outputs"]] == [
        ("logits", "FP32", [2, 2]), ("probabilities", "FP32", [2, 2]), ("class", "BYTES", [2])]
    data = by_name(answer)
    assert data["class"] == ["left", "right"]
    assert data["logits"] == pytest.approx([1.9, 0.05, 0.1, 1.9])
    assert sum(data["probabilities"]) == pytest.approx(2)


def test_names_the_version_in_a_header(served: Any) -> None:
    assert served.ask(INFER, tensor(LEFT))[1]["x-model-version"] == served.model.version
    assert served.ask(INFER, b"{")[1]["x-model-version"] == served.model.version


def test_invents_an_id_where_there_is_none(served: Any) -> None:
    first, second = (served.infer(tensor(LEFT))[1]["id"] for _ in range(2))
    assert first
    assert first != second


def test_takes_flat_data_and_gives_only_what_was_asked_for(served: Any) -> None:
    request = tensor(shape=[2, 2, 3, 1], data=LEFT + RIGHT) | {"outputs": [{"name": "class"}]}
    assert by_name(served.infer(request)[1]) == {"class": ["left", "right"]}


def test_speaks_the_binary_extension_in_both_directions(served: Any) -> None:
    head = json.dumps({
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 3, 1],
                    "parameters": {"binary_data_size": 6}}],
        "outputs": [{"name": "class", "parameters": {"binary_data": True}}, {"name": "probabilities"},
                    {"name": "logits", "parameters": {"binary_data": True}}],
    }).encode()
    status, headers, body = served.ask(INFER, head + bytes(RIGHT), {"Inference-Header-Content-Length": str(len(head))})

    size = int(headers["inference-header-content-length"])
    outputs = {output["name"]: output for output in json.loads(body[:size])["outputs"]}
    assert status == 200
    assert outputs["probabilities"]["data"] == pytest.approx([1 / (1 + np.exp(1.8)), 1 / (1 + np.exp(-1.8))])
    assert [outputs[name]["parameters"]["binary_data_size"] for name in ("class", "logits")] == [9, 8]
    assert body[size:] == struct.pack("<I", 5) + b"right" + np.array([0.1, 1.9], "<f4").tobytes()


@pytest.mark.parametrize(("request_body", "status", "text"), [
    (tensor(LEFT, name="picture"), 400, "expected one input, 'image'; found ['picture']"),
    (tensor(LEFT, datatype="FP32"), 400, "expected datatype UINT8"),
    (tensor(LEFT, shape=[1, 3, 2, 1]), 400, "expected shape [-1, 2, 3, 1] with at least one image; found [1, 3, 2, 1]"),
    (tensor(LEFT, shape=[]), 400, "found []"),
    (tensor(), 400, "at least one image; found [0, 2, 3, 1]"),
    (tensor(LEFT, shape=[2, 2, 3, 1]), 400, "expected 12 values for shape [2, 2, 3, 1]; found 6"),
    (tensor([0, 0, 0, 0, 0, 256]), 400, "expected whole numbers from 0 to 255; found 0 to 256"),
    (tensor([0, 0, 0, 0, 0, -1]), 400, "found -1 to 0"),
    (tensor(LEFT, data=[0.5] * 6), 400, "found 0.5 to 0.5"),
    (tensor(LEFT, data=["a"] * 6), 400, "expected whole numbers"),
    (tensor(LEFT, data=[[1, 2], [3]]), 400, "an evenly nested list"),
    (tensor(LEFT, data=None), 400, "expected data as a list; found NoneType"),
    (tensor(LEFT, parameters={"binary_data_size": 6}), 400, "expected either data or binary_data_size"),
    (tensor(LEFT) | {"outputs": [{"name": "colour"}]}, 400, "found ['colour']"),
    ({"inputs": []}, 400, "found []"),
    ({"instances": [LEFT]}, 400, "inputs: Field required"),
    (b"{'inputs': 1}", 400, "no Open Inference Protocol v2 request"),
    (b"", 400, "no Open Inference Protocol v2 request"),
    (tensor(*[LEFT] * 5), 413, "expected at most 4 images in a request; found 5"),
    (b" " * 100_000, 413, "expected a body of at most 65728 bytes; found 100000"),
])
def test_refuses_what_does_not_fit_and_names_what_would(
    served: Any, request_body: Any, status: int, text: str
) -> None:
    before = served.metric("penstock_requests_total", code=str(status))
    code, answer = served.infer(request_body)

    assert code == status
    assert text in answer["error"]
    assert served.metric("penstock_requests_total", code=str(status)) == before + 1


@pytest.mark.parametrize(("size", "text"), [("7", "expected 6 bytes behind the JSON"), ("x", "found 'x'"),
                                            ("9999", "at most the body's")])
def test_refuses_a_wrong_header_length(served: Any, size: str, text: str) -> None:
    head = json.dumps(tensor(LEFT, data=None, parameters={"binary_data_size": 6})).encode()
    sizes = {"7": str(len(head)), "x": "x", "9999": "9999"}
    status, answer = served.infer(head + b"12345", {"Inference-Header-Content-Length": sizes[size]})

    assert status == 400
    assert text in answer["error"]


@pytest.mark.parametrize("framing", ["Content-Length: 8388608", "Transfer-Encoding: chunked"])
def test_a_client_that_sends_far_too_much_still_gets_its_answer(served: Any, framing: str) -> None:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}\r\n\r\n".encode())
        for _ in range(8):
            part = b" " * 0x100000
            connection.sendall(b"100000\r\n" + part + b"\r\n" if "chunked" in framing else part)
        if "chunked" in framing:
            connection.sendall(b"0\r\n\r\n")
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413")


def test_nan_is_an_error_and_never_null(served: Any) -> None:
    status, answer = served.infer(tensor(LEFT, [0] * 6))

    assert status == 500
    assert "computed NaN or infinity for rows [1]" in answer["error"]


def test_counts_answers_and_classes_per_version(served: Any) -> None:
    names = [("penstock_requests_total", {"code": "200"}), ("penstock_request_seconds_count", {}),
             ("penstock_predictions_total", {"class": "left"}), ("penstock_predictions_total", {"class": "right"})]
    before = [served.metric(name, **labels) for name, labels in names]
    served.infer(tensor(LEFT, RIGHT, LEFT))

    after = [served.metric(name, **labels) for name, labels in names]
    assert [new - old for old, new in zip(before, after, strict=True)] == [1, 1, 2, 1]
    assert served.metric("penstock_request_seconds_bucket", le="0.0005") <= after[1]


def test_describes_itself(served: Any) -> None:
    status, _, body = served.ask("/v2/models/sides")
    described = json.loads(body)

    assert (status, described["name"], described["versions"]) == (200, "sides", [served.model.version])
    assert described["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 3, 1]}]
    assert [output["shape"] for output in described["outputs"]] == [[-1, 2], [-1, 2], [-1]]
    assert served.ask("/v2/health/ready")[0] == served.ask("/v2/health/live")[0] == 200


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/models/other:predict", b"{}"), ("/v1/models/other", None), ("/v1/models/sides:explain", b"{}"),
    ("/v1/nothing", None),
    ("/v2/models/other/infer", b"{}"), ("/v2/models/other", None), ("/v2/models/other/ready", None),
    ("/v2/repository/models/sides/unload", b"{}"), ("/nothing", None)])
def test_what_is_not_here_is_not_found(served: Any, path: str, body: bytes | None) -> None:
    assert served.ask(path, body)[0] == 404
    assert served.ask("/v2/models/sides/ready")[0] == 200


def test_listens_on_one_address_only(served: Any) -> None:
    with pytest.raises(ConnectionRefusedError):  # 127.0.0.2 is this machine too: a server on 0.0.0.0 would answer
        socket.create_connection(("127.0.0.2", urlsplit(served.url).port), timeout=10)


def test_imports_neither_torch_nor_kfp(served: Any) -> None:
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in served.log.read_text().splitlines()}

    assert {"kserve", "onnxruntime"} <= imported
    assert not {"kfp", "torch"} & imported


def test_logs_no_line_per_request(served: Any) -> None:
    for body in (tensor(LEFT), b"{"):
        served.infer(body)
    lines = [line for line in served.log.read_text().splitlines() if not line.startswith("import time:")]

    assert [line for line in lines if "event=failed" not in line] == [line for line in lines if "event=ready" in line]


def test_sigterm_ends_readiness_then_the_listener_and_finishes_what_is_in_flight(
    starter: Callable[..., Any], model: Model
) -> None:
    body = json.dumps(tensor(LEFT)).encode()
    with starter(model.folder, "--drain_seconds", "2") as served:
        served.until_ready()
        address = (urlsplit(served.url).hostname, urlsplit(served.url).port)
        with socket.create_connection(address, timeout=60) as connection:
            head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:10])
            served.process.send_signal(signal.SIGTERM)

            seen = []
            with suppress(OSError):  # ends when the listener has closed
                while True:
                    seen.append(served.ask("/v2/models/sides/ready")[0])
                    assert served.infer(tensor(LEFT))[0] == 200
            assert seen[-1] == 503
            assert served.process.poll() is None

            connection.sendall(body[10:])
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"left"' in answer
        assert served.process.wait(60) == 0
        assert "event=draining" in served.log.read_text()


def test_a_model_that_misses_its_golden_rows_never_serves(starter: Callable[..., Any], wrong_model: Model) -> None:
    with starter(wrong_model.folder) as served:
        seen = set()
        deadline = time.monotonic() + 120
        while served.process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                seen.add(served.ask("/v2/models/sides/ready")[0])
        assert served.process.wait(60) == 1
        assert seen <= {503}
        assert "logits differ by 0.5, allowed 1e-05" in served.log.read_text()


def run_predictor(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "penstock.inference", *options], capture_output=True, text=True,
                          timeout=120, env=os.environ | environment)


def test_a_taken_port_ends_the_start_and_is_named(served: Any) -> None:
    port = str(urlsplit(served.url).port)
    done = run_predictor("--model_name", "sides", "--model_dir", str(served.model.folder), "--http_port", port)

    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_image_chooses_the_address_by_an_environment_variable(served: Any) -> None:
    done = run_predictor("--model_name", "sides", "--model_dir", str(served.model.folder),
                         PENSTOCK_HTTP_HOST="192.0.2.1")  # kept for documentation by RFC 5737, so never this machine's

    assert done.returncode == 1
    assert "cannot listen on 192.0.2.1:8080" in done.stderr


@pytest.mark.parametrize(("options", "code", "text"), [
    (["--help"], 0, "example:"),
    (["--model_dir", "y"], 2, "required: --model_name"),
    (["--model_name", "x", "--model_dir", "y", "--max_batch", "0"], 2, "--max_batch: 0 is not 1 or more")])
def test_arguments_are_explained(options: list[str], code: int, text: str) -> None:
    done = run_predictor(*options)

    assert done.returncode == code
    assert text in done.stdout + done.stderr
