"""A gateway of a few lines: it shares requests between two versions that behave as told."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.dataset import Dataset, images_array
from penstock.components.contracts.model import Model
from penstock.components.control.lease import CanaryLease
from penstock.components.deployment.registry import Registry
from penstock.components.deployment.roll_out.step import RollOutConfig
from penstock.components.deployment.roll_out.step import run as roll_out
from penstock.components.deployment.traffic import finish_trial

OLD, NEW = "sides-predictor-00001", "sides-predictor-00002"


@dataclass
class Behaviour:
    """How a version answers: one request in `fails` with `status`, `sleep` seconds late, one row in `errs` wrongly.

    `silent`: what fails does not say who failed, as behind a proxy that answers itself. `hangs`: seconds that what
    fails takes.
    """

    version: str = ""
    fails: int = 0
    status: int = 500
    sleep: float = 0
    errs: int = 10
    body: bytes = b""
    asked: int = 0
    silent: bool = False
    hangs: float = 0


@dataclass
class Gateway:
    """Routes one request in `every` to the canary; says nothing at all while `down`."""

    labels: dict[bytes, tuple[int, int]]  # pixels -> row, class
    every: int = 1_000_000
    down: bool = False
    asked: int = 0
    after: dict[int, Any] = field(default_factory=dict)  # request number -> what happens then
    versions: dict[str, Behaviour] = field(default_factory=lambda: {OLD: Behaviour(), NEW: Behaviour()})
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def route(self, direct: str) -> tuple[str, int]:
        """Return the revision that answers, and which of its requests this is."""
        with self.lock:
            self.asked += not direct
            self.after.pop(self.asked, lambda: None)()
            revision = direct or (NEW if self.asked % self.every == 0 else OLD)
            self.versions[revision].asked += 1
            return revision, self.versions[revision].asked

    def answer(self, revision: str, number: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
        one = self.versions[revision]
        time.sleep(one.sleep)
        headers = {"x-penstock-revision": revision, "x-model-version": one.version}
        if one.fails and number % one.fails == 0:
            time.sleep(one.hangs)
            return one.status, {} if one.silent else headers, b"{}"
        row, label = self.labels[bytes(json.loads(body)["inputs"][0]["data"])]
        wrong = row % one.errs == 0
        probabilities = [0.0, 0.0, 0.0]
        probabilities[(label + wrong) % 3] = 1.0
        text = json.dumps({"model_version": one.version, "outputs": [{"name": "probabilities", "data": probabilities}]})
        return 200, headers, one.body or text.encode()


def handler(gateway: Gateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            direct = self.path.removesuffix("/v2/models/sides/infer").removeprefix("/")
            if gateway.down:
                self.close_connection = True
                return
            status, headers, answer = gateway.answer(*gateway.route(direct), body)
            with suppress(ConnectionError):  # who asked has given up
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(answer))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

    return Handler


@pytest.fixture
def gateway(sides: Dataset) -> Iterator[Gateway]:
    rows = sides.read("test")
    images = images_array(rows, sides.description.image)
    labels = {image.tobytes(): (row, label)
              for row, (image, label) in enumerate(zip(images, rows["label"].to_pylist(), strict=True))}
    gateway = Gateway(labels)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(gateway))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    yield gateway
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def first(plane: Any, gateway: Gateway, registry: Registry, models: dict[str, Model]) -> Any:
    """The plane with `good` on trial as the first version, by run-1, behind the gateway."""
    plane.url = gateway.url
    plane.urls = {revision: f"{gateway.url}/{revision}" for revision in gateway.versions}
    gateway.versions[OLD].version, gateway.versions[NEW].version = models["good"].version, models["alike"].version
    roll_out("sides", models["good"].version, registry.folder, "run-1", RollOutConfig(ready_timeout=5), plane)
    return plane


@pytest.fixture
def trial(first: Any, gateway: Gateway, registry: Registry, models: dict[str, Model]) -> Any:
    """The plane with `alike` on trial beside `good`, by run-2, behind the gateway, which gives it one in five."""
    gateway.every = 5
    with CanaryLease(first, "sides", "run-1") as lease:
        finish_trial(first, "sides", models["good"].version, 100, lease, 5)
        lease.release()
    roll_out("sides", models["alike"].version, registry.folder, "run-2", RollOutConfig(ready_timeout=5), first)
    return first


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report"
