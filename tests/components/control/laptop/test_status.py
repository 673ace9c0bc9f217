"""`penstock laptop status` and `stop`: what runs, and that nothing runs afterwards."""

import os
import signal
from typing import Any

import pytest

from penstock.components.control.base import ControlError, NotFound, ObjectRef
from penstock.components.control.laptop import status
from penstock.components.control.laptop.launch import port_is_free
from penstock.components.control.laptop.processes import marked


def test_nothing_runs_in_a_new_home(bench: Any) -> None:
    found = status.status(bench.root)

    assert (found.supervisor_pid, found.gateway_pid, found.services) == (0, 0, ())
    assert status.stop(root=bench.root) == []
    assert status.stop(root=bench.folder / "nowhere") == []


def test_status_tells_what_runs(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"), percent=20)

    found = status.status(bench.root)

    assert found.url == bench.url
    revisions = found.services[0].revisions
    assert [(revision.percent, revision.phase) for revision in revisions] == [(80, "ready"), (20, "ready")]
    assert all(revision.uptime > 0 and revision.memory > 1_000_000 and revision.port for revision in revisions)
    assert revisions[1].uri == bench.model("v2")
    assert found.supervisor_pid
    assert found.gateway_pid


def test_stop_leaves_no_process_and_no_port(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"), percent=20)
    ports = [bench.port, *(revision.port for revision in status.status(bench.root).services[0].revisions)]

    ended = status.stop(root=bench.root)

    assert ended[0] == "service digits"
    assert marked(str(bench.root)) == []
    assert all(port_is_free(port) for port in ports)
    assert bench.plane.get(ObjectRef.of(bench.service("file:///x"))) is None
    assert (bench.folder / "models" / "v1" / "version.txt").exists()


def test_stop_ends_what_a_killed_supervisor_left(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    os.kill(status.status(bench.root).supervisor_pid, signal.SIGKILL)

    ended = status.stop(root=bench.root)

    assert sum(line.startswith("process ") for line in ended) == 2  # Envoy and the predictor
    assert marked(str(bench.root)) == []
    assert port_is_free(bench.port)


def test_a_state_that_cannot_be_read_is_said_and_stop_works_without_it(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    os.kill(status.status(bench.root).supervisor_pid, signal.SIGKILL)
    (bench.root / "state.json").write_text('{"supervisor": 1}')

    with pytest.raises(ControlError, match="penstock laptop stop"):
        bench.plane.apply(bench.service(bench.model("v1")))
    status.stop(root=bench.root)

    assert marked(str(bench.root)) == []
    assert status.status(bench.root).services == ()


def test_stop_by_name_ends_that_service_only(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    other = ObjectRef.of(bench.plane.apply(bench.service(bench.model("v2"), name="letters")))
    bench.eventually(lambda: bench.ask("letters").status == 200)

    with pytest.raises(NotFound, match="no service is named nobody; there are: digits, letters"):
        status.stop(["letters", "nobody"], root=bench.root)
    assert status.stop(["letters"], root=bench.root) == ["service letters"]

    assert [service.name for service in status.status(bench.root).services] == ["digits"]
    assert bench.plane.get(other) is None
    assert bench.ask().status == 200

    status.stop(["digits"], root=bench.root)
    assert marked(str(bench.root)) == []


def test_sigterm_ends_the_children_and_keeps_the_services(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    os.kill(status.status(bench.root).supervisor_pid, signal.SIGTERM)
    bench.eventually(lambda: not marked(str(bench.root)))
    assert port_is_free(bench.port)

    bench.plane.apply(bench.service(bench.model("v1")))
    bench.eventually(lambda: not port_is_free(bench.port) and bench.ask().status == 200)


def test_the_last_service_takes_the_supervisor_with_it(bench: Any) -> None:
    service = bench.roll_out(bench.model("v1"))

    bench.plane.delete(ObjectRef.of(service))

    bench.eventually(lambda: not marked(str(bench.root)))
