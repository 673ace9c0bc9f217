"""A small HTTP server that speaks as much of the Kubernetes API as the plane uses, and a plane that talks to it."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from penstock.components.control import kubernetes, kubernetes_api, kubernetes_logs, kubernetes_pods
from penstock.components.control.base import Manifest
from penstock.components.control.kubernetes import KubernetesPlane

KINDS = {"/apis/batch/v1": [("jobs", "Job")], "/api/v1": [("pods", "Pod")],
         "/apis/coordination.k8s.io/v1": [("leases", "Lease")],
         "/apis/serving.kserve.io/v1beta1": [("inferenceservices", "InferenceService")]}
PODS = "/api/v1/namespaces/team/pods"


class ApiServer:
    """Objects by path, with resourceVersions; every request is kept."""

    def __init__(self, port: int = 0) -> None:
        self.objects: dict[str, Manifest] = {}
        self.logs: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: dict[tuple[str, str], list[tuple[int, object]]] = {}
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.version = 10
        self.compacted = 0
        self.start(port)

    def start(self, port: int = 0) -> None:
        outer, self.stopped = self, False

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                outer.answer(self, body)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.stopped = True
        self.http.shutdown()
        self.http.server_close()

    def put(self, path: str, manifest: Manifest, kind: str = "MODIFIED") -> Manifest:
        self.version += 1
        present = self.objects.get(path)
        metadata = {"uid": f"uid-{self.version}", "creationTimestamp": "2026-11-21T10:00:00Z"} \
            | (present["metadata"] if present else {}) | manifest["metadata"] | {"resourceVersion": str(self.version)}
        self.objects[path] = manifest | {"metadata": metadata}
        self.events.append((self.version, {"type": kind, "object": self.objects[path]}))
        return self.objects[path]

    def remove(self, path: str) -> None:
        self.version += 1
        self.events.append((self.version, {"type": "DELETED", "object": self.objects.pop(path)}))

    def answer(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        url = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        method = handler.command
        self.requests.append((method, url.path, query, body))
        planned = self.answers.get((method, url.path))
        if planned:
            code, content = planned.pop(0)
        elif query.get("watch"):
            return self.stream(handler, int(query["resourceVersion"]))
        else:
            code, content = self.result(method, url.path, query, body)
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        return None

    def stream(self, handler: BaseHTTPRequestHandler, since: int) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        too_old = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
        sent, end = since, time.monotonic() + 60
        while time.monotonic() < end and not self.stopped:
            new = [entry for entry in self.events if entry[0] > sent]
            for version, event in [(0, too_old)] if since < self.compacted else new:
                line = json.dumps(event).encode() + b"\n"
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                handler.wfile.flush()
                sent = version
            if since < self.compacted:
                break
            time.sleep(0.01)
        handler.close_connection = True

    def result(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, object]:
        if method == "POST":
            return self.create(f"{path}/{body['metadata']['name']}", query, body)
        if method == "PATCH":
            patched = self.objects[path] | {"metadata": {"managedFields": body[0]["value"]}} \
                if isinstance(body, list) else body
            return 200, self.put(path, patched)
        found = self.read(path)
        if method == "DELETE" and found is not None:
            self.remove(path)
        return (404, {"message": "not found"}) if found is None else (200, found)

    def create(self, path: str, query: dict[str, str], body: Any) -> tuple[int, object]:
        if path in self.objects:
            return 409, {"message": "already exists", "reason": "AlreadyExists"}
        fields = [{"manager": query["fieldManager"], "operation": "Update"}]
        return 201, self.put(path, body | {"metadata": body["metadata"] | {"managedFields": fields}})

    def read(self, path: str) -> object:
        if path in KINDS:
            return {"resources": [{"name": name, "kind": kind, "namespaced": True} for name, kind in KINDS[path]]}
        if path == PODS:
            return {"items": [pod for key, pod in self.objects.items() if key.startswith(f"{PODS}/")]}
        return self.logs.get(path) or self.objects.get(path)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    server = ApiServer()
    context = {"cluster": "c", "user": "u", "namespace": "team"}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "u", "user": {}}],
              "contexts": [{"name": "x", "context": context}],
              "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}]}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("PENSTOCK_NAMESPACE", raising=False)
    monkeypatch.setattr(kubernetes, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(kubernetes_api, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(kubernetes_logs, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(kubernetes_pods, "LOOK_SECONDS", 0.0)
    yield server
    server.stop()


@pytest.fixture
def plane(server: ApiServer) -> KubernetesPlane:
    return KubernetesPlane()
