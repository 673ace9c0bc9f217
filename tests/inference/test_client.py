"""The client against a real predictor, and against what answers that is none."""

import io
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.components.contracts.errors import ContractError
from penstock.inference import client
from penstock.inference.client import (
    RequestRefused,
    ServiceError,
    ServiceUnavailable,
    ServiceUnknown,
    ServiceUnreachable,
    predict,
    predict_files,
    signature,
)

LEFT = np.array([[[200], [0], [10]], [[180], [0], [0]]], np.uint8)
RIGHT = LEFT[:, ::-1]


@pytest.fixture
def stranger() -> Iterator[str]:
    """A web server that is no predictor: a page or some JSON for a GET, 502 for a POST."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, b'{"inputs": []}' if self.path.endswith("/json") else b"<html>hello</html>")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(502, b"<html>hello</html>")

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def png(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> Path:
    content = io.BytesIO()
    Image.fromarray(pixels[..., 0]).resize(size, Image.Resampling.NEAREST).convert("RGB").save(content, "PNG")
    path.write_bytes(content.getvalue())
    return path


def test_asks_what_a_service_takes(served: Any) -> None:
    assert signature(served.url + "/", "sides") == (2, 3, 1)


def test_classifies_pixels_in_several_requests(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BATCH", 3)
    answer = predict(served.url, "sides", np.stack([LEFT, RIGHT, LEFT, RIGHT, LEFT]))

    assert answer.classes == ["left", "right", "left", "right", "left"]
    assert answer.probabilities.argmax(axis=1).tolist() == [0, 1, 0, 1, 0]
    assert answer.versions == [served.model.version] * 5


def test_classifies_nothing_without_asking() -> None:
    assert predict("http://127.0.0.1:1", "sides", np.empty((0, 2, 3, 1), np.uint8)).classes == []


def test_classifies_pictures_of_any_size(served: Any, tmp_path: Path) -> None:
    paths = [png(tmp_path / "a.png", RIGHT, (30, 20)), png(tmp_path / "b.png", LEFT, (3, 2))]

    assert predict_files(served.url, "sides", paths).classes == ["right", "left"]


def test_goes_past_a_proxy_of_the_environment(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)

    assert signature(served.url, "sides") == (2, 3, 1)


def test_what_is_no_picture_is_named(served: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(ContractError, match=r"notes\.png is no readable image"):
        predict_files(served.url, "sides", [tmp_path / "notes.png"])
    with pytest.raises(ContractError, match=r"absent\.png cannot be read: No such file"):
        predict_files(served.url, "sides", [tmp_path / "absent.png"])


@pytest.mark.parametrize("model", ["hats", "a b/c?"])
def test_an_unknown_service_is_named(served: Any, model: str) -> None:
    with pytest.raises(ServiceUnknown, match="knows no service"):
        signature(served.url, model)


def test_a_refusal_carries_the_servers_reason(served: Any) -> None:
    with pytest.raises(RequestRefused, match=r"expected shape \[-1, 2, 3, 1\].*found \[1, 3, 2, 1\]"):
        predict(served.url, "sides", LEFT.reshape(1, 3, 2, 1))


def test_a_failing_model_is_no_refusal(served: Any) -> None:
    with pytest.raises(ServiceError, match=r"failed \(500\).*NaN") as error:
        predict(served.url, "sides", np.zeros((1, 2, 3, 1), np.uint8))
    assert type(error.value) is ServiceError


def test_a_gateway_that_is_down_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ServiceUnreachable, match=r"nothing answers at .*refused.*penstock laptop status"):
            signature(url, "sides")


@pytest.mark.parametrize("url", ["127.0.0.1:8480", "http://127.0.0.1:port"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ServiceUnreachable):
        signature(url, "sides")


def test_a_stranger_is_recognised(stranger: str) -> None:
    with pytest.raises(ServiceError, match="not with JSON"):
        signature(stranger, "sides")
    with pytest.raises(ServiceError, match=r"takes no images: its inputs are \[\]"):
        signature(stranger, "json")
    with pytest.raises(ServiceUnavailable, match=r"failed \(502\): <html>hello"):
        predict(stranger, "sides", LEFT[None])
