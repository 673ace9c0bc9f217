"""A laptop plane in a home of its own, and a predictor that is a few lines of standard library."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.components import images
from penstock.components.control.base import Manifest, ObjectRef
from penstock.components.control.laptop import status
from penstock.components.control.laptop.plane import LaptopPlane
from penstock.components.control.laptop.processes import free_port

SERVICE = ObjectRef("serving.kserve.io/v1beta1", "InferenceService", "digits")
RUNTIME = ObjectRef("serving.kserve.io/v1alpha1", "ServingRuntime", "script")
WAIT_SECONDS = 20.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# The model folder says how it behaves: fail.txt ends it at once, slow.txt holds its answers back.
PREDICTOR = '''
import http.server, json, pathlib, signal, sys, time
name, folder, port = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
version = (folder / "version.txt").read_text()
if (folder / "fail.txt").exists():
    sys.exit("cannot load " + version)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def log_message(self, *_): pass
    def do_GET(self):
        self.answer(200 if self.path == f"/v2/models/{name}/ready" else 404, {})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if (folder / "slow.txt").exists():
            time.sleep(float((folder / "slow.txt").read_text()))
        self.answer(200, {"model_name": name, "model_version": version})
    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
'''


class Answer:
    """What the gateway said: status, headers in lower case, JSON body."""

    def __init__(self, status_code: int, headers: Any, body: bytes) -> None:
        self.status = status_code
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = json.loads(body) if body.startswith(b"{") else {}

    @property
    def revision(self) -> str:
        return str(self.headers.get("x-penstock-revision", ""))


class Bench:
    """One plane, its model folders, and shorthand for what every test does with them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.plane = LaptopPlane(folder / "laptop")
        self.url = f"http://127.0.0.1:{port}"

    @property
    def root(self) -> Path:
        return self.folder / "laptop"

    def model(self, version: str, **behaviour: str) -> str:
        """Make a model folder; return its URI."""
        folder = self.folder / "models" / version
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "version.txt").write_text(version)
        for name, value in behaviour.items():
            (folder / f"{name}.txt").write_text(value)
        return f"file://{folder}"

    def runtime(self, program: str = "python") -> Manifest:
        script = self.folder / "predictor.py"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(PREDICTOR)
        return self.plane.apply({
            "apiVersion": RUNTIME.api_version, "kind": RUNTIME.kind, "metadata": {"name": RUNTIME.name},
            "spec": {"supportedModelFormats": [{"name": "onnx"}], "protocolVersions": ["v2"], "containers": [
                {"name": "kserve-container", "image": images.SERVE, "command": [program, str(script)],
                 "args": ["{{.Name}}", "/mnt/models", "8080"]}]}})

    def service(self, uri: str, percent: int | None = None, name: str = SERVICE.name) -> Manifest:
        predictor: dict[str, Any] = {"minReplicas": 1, "model": {
            "modelFormat": {"name": "onnx"}, "protocolVersion": "v2", "runtime": RUNTIME.name, "storageUri": uri}}
        if percent is not None:
            predictor["canaryTrafficPercent"] = percent
        return {"apiVersion": SERVICE.api_version, "kind": SERVICE.kind, "metadata": {"name": name},
                "spec": {"predictor": predictor}}

    def roll_out(self, uri: str, percent: int | None = None) -> Manifest:
        """Apply, wait until it is Ready (or will not be), return it."""
        self.plane.apply(self.service(uri, percent))
        return self.settled()

    def settled(self) -> Manifest:
        *_, last = self.plane.watch(SERVICE, timedelta(seconds=WAIT_SECONDS))
        return last

    def status(self) -> dict[str, Any]:
        found = self.plane.get(SERVICE) or {}
        shown: dict[str, Any] = found.get("status", {})
        return shown

    def eventually(self, holds: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"it did not come about: {self.status()}"
            time.sleep(0.05)

    def load(self) -> "Load":
        """Return a client that asks all the time, for a with block."""
        return Load(self)

    def traffic(self) -> list[tuple[str, int]]:
        """Return (last digits of the revision, percent) as the status has them."""
        predictor = self.status().get("components", {}).get("predictor", {})
        return [(entry["revisionName"][-2:], entry["percent"]) for entry in predictor.get("traffic", [])]

    def pid(self, number: int) -> int:
        """Return the pid of the predictor of a revision, 0 where none runs."""
        revisions = {revision.name: revision for revision in status.status(self.root).services[0].revisions}
        wanted = f"{SERVICE.name}-predictor-{number:05d}"
        return revisions[wanted].pid if wanted in revisions else 0

    def ask(self, name: str = SERVICE.name, timeout: float = 10.0, **headers: str) -> Answer:
        """Send one inference request."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        request = urllib.request.Request(f"{self.url}/v2/models/{name}/infer", b"{}", named)
        try:
            with DIRECT.open(request, timeout=timeout) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())


class Load:
    """A client that asks all the time, until the block ends."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._stop = bench, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[tuple[int, str]] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def statuses(self) -> Counter[int]:
        return Counter(code for code, _ in self.answers)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._bench.ask()
                self.answers.append((answer.status, answer.revision))
            except OSError:
                self.answers.append((0, ""))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give a plane with the script runtime; nothing of it is left afterwards."""
    port = free_port()
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    monkeypatch.setenv("PENSTOCK_GATEWAY_PORT", str(port))
    bench = Bench(tmp_path, port)
    bench.runtime()
    yield bench
    status.stop(root=bench.root)


@pytest.fixture
def other_bench(tmp_path: Path, bench: Bench) -> Iterator[Bench]:
    """A second home beside the first."""
    other = Bench(tmp_path / "other", free_port())
    other.runtime()
    yield other
    status.stop(root=other.root)
