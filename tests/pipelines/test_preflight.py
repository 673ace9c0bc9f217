"""What is looked at before a run: too little of anything is refused with what to do."""

import socket
from collections import namedtuple
from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.base import ControlError, PortInUse
from penstock.pipelines.preflight import check_machine, check_source

STAGES = {"ingest": {"source": "synthetic://shapes?rows=60&seed=0"}}
Usage = namedtuple("Usage", ["free"])
Memory = namedtuple("Memory", ["available"])


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PENSTOCK_GATEWAY_PORT", str(free.getsockname()[1]))


def test_this_machine_will_do_and_nothing_is_made(tmp_path: Path) -> None:
    check_machine(tmp_path / "a" / "runs", STAGES)
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.disk_usage", lambda path: Usage(5e8))
    with pytest.raises(ControlError, match=r"has 0\.5 GiB free, a run needs 1; make room"):
        check_machine(tmp_path, STAGES)


def test_too_little_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(2e8))
    with pytest.raises(ControlError, match=r"0\.2 GiB of memory are available, a run needs 1"):
        check_machine(tmp_path, STAGES)


def test_a_gateway_port_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PENSTOCK_GATEWAY_PORT", str(port))
        with pytest.raises(PortInUse, match=str(port)):
            check_machine(tmp_path, STAGES)


def test_a_missing_folder_of_images_is_refused(tmp_path: Path) -> None:
    check_source({"ingest": {"source": str(tmp_path)}})
    with pytest.raises(ConfigError, match="is no folder here"):
        check_source({"ingest": {"source": str(tmp_path / "absent")}})
