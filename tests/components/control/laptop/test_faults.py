"""Processes that die: what is started again, what is given up, and what the status says of it."""

import itertools
import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest

from penstock.components.contracts.errors import DiskFull
from penstock.components.control.base import ControlError, PortInUse, condition
from penstock.components.control.laptop import status, supervisor
from penstock.components.control.laptop.launch import port_is_free


def kill(pid: int) -> None:
    assert pid
    os.kill(pid, signal.SIGKILL)


def test_a_canary_that_never_starts_gets_nothing(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    with bench.load() as load:
        broken = bench.roll_out(bench.model("v2", fail="1"), percent=20)
        bench.eventually(lambda: bench.traffic() == [("01", 20), ("01", 80)])  # as KServe shows it

    assert condition(broken, "Ready")["status"] == "False"
    assert broken["status"]["components"]["predictor"]["latestCreatedRevision"] == "digits-predictor-00002"
    failure = broken["status"]["modelStatus"]["lastFailureInfo"]
    assert (failure["reason"], failure["exitCode"]) == ("ModelLoadFailed", 1)
    assert failure["modelRevisionName"] == "digits-predictor-00002"
    assert "cannot load v2" in failure["message"]
    assert broken["status"]["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"
    assert set(load.statuses()) == {200}


def test_a_program_that_is_not_there_is_named(bench: Any) -> None:
    bench.runtime(program="/no/such/program")

    failed = bench.roll_out(bench.model("v1"))

    assert "cannot start /no/such/program" in failed["status"]["modelStatus"]["lastFailureInfo"]["message"]
    assert condition(failed, "Ready")["status"] == "False"


def test_what_failed_is_tried_again_when_it_is_applied_again(bench: Any) -> None:
    model = bench.model("v1", fail="1")
    bench.roll_out(model)
    (bench.folder / "models" / "v1" / "fail.txt").unlink()

    again = bench.roll_out(model)

    assert condition(again, "Ready")["status"] == "True"
    assert bench.traffic() == [("02", 100)]


def test_a_killed_canary_is_given_up_and_its_share_goes_to_stable(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"), percent=50)

    kill(bench.pid(2))
    bench.eventually(lambda: bench.traffic() == [("02", 0), ("01", 100)])

    assert {bench.ask().status for _ in range(50)} == {200}
    failure = bench.status()["modelStatus"]["lastFailureInfo"]
    assert (failure["reason"], failure["exitCode"]) == ("RuntimeUnhealthy", 137)
    assert not bench.pid(2)


def test_a_killed_stable_is_started_again(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    before = bench.pid(1)

    kill(before)
    bench.eventually(lambda: bench.pid(1) not in (0, before) and bench.ask().status == 200)
    bench.eventually(lambda: condition({"status": bench.status()}, "Ready")["status"] == "True")

    assert bench.status()["annotations"]["penstock.dev/predictor-restarts"] == "1"
    assert "was started again 1 time(s)" in condition({"status": bench.status()}, "PredictorReady")["message"]


def test_a_local_reply_names_its_revision_too(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    os.kill(status.status(bench.root).supervisor_pid, signal.SIGSTOP)
    try:
        kill(bench.pid(1))
        answer = bench.ask()
    finally:
        os.kill(status.status(bench.root).supervisor_pid, signal.SIGCONT)

    assert (answer.status, answer.revision) == (503, "digits-predictor-00001")


def test_a_killed_envoy_is_started_again_on_its_port(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"), percent=20)
    before = status.status(bench.root)

    kill(before.gateway_pid)
    bench.eventually(lambda: status.status(bench.root).gateway_pid not in (0, before.gateway_pid))
    bench.eventually(lambda: not port_is_free(bench.port))
    bench.eventually(lambda: condition({"status": bench.status()}, "Ready")["status"] == "True")

    after = status.status(bench.root)
    assert (after.gateway_port, after.gateway_restarts) == (bench.port, 1)
    assert bench.traffic() == [("02", 20), ("01", 80)]
    assert {bench.ask().status for _ in range(50)} == {200}
    assert bench.status()["annotations"]["penstock.dev/gateway-restarts"] == "1"


def test_a_new_supervisor_adopts_what_a_killed_one_left(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    bench.roll_out(bench.model("v2"), percent=20)
    before = status.status(bench.root)

    with bench.load() as load:
        kill(before.supervisor_pid)
        bench.eventually(lambda: not status.status(bench.root).supervisor_pid)
        bench.roll_out(bench.model("v2"), percent=40)

    after = status.status(bench.root)
    assert after.supervisor_pid not in (0, before.supervisor_pid)
    assert after.gateway_pid == before.gateway_pid
    assert [revision.pid for revision in after.services[0].revisions] == [
        revision.pid for revision in before.services[0].revisions]
    assert bench.traffic() == [("02", 40), ("01", 60)]
    assert set(load.statuses()) == {200}


def test_a_sign_of_life_of_a_lease_brings_the_supervisor_back(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    kill(status.status(bench.root).supervisor_pid)
    bench.eventually(lambda: not status.status(bench.root).supervisor_pid)

    bench.plane.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "digits-canary"},
                       "spec": {"holderIdentity": "run-1"}})

    assert status.status(bench.root).supervisor_pid


@pytest.mark.parametrize("trouble", [DiskFull("no space"), psutil.AccessDenied(1), OSError("no more files")])
def test_a_supervisor_in_trouble_tries_again_until_it_is_told_to_end(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    def end() -> None:
        if toy.tick.call_count == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    toy = mock.Mock()
    toy.tick.side_effect = end
    toy.idle.side_effect = itertools.chain([trouble], itertools.repeat(False))
    toy.stop.side_effect = trouble
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.01)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        supervisor._run(toy, tmp_path)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert toy.tick.call_count == 3
    toy.stop.assert_called_once_with()


def test_what_died_with_the_supervisor_is_started_again(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    before = status.status(bench.root)
    for pid in (before.supervisor_pid, before.gateway_pid, bench.pid(1)):
        kill(pid)
    bench.eventually(lambda: not status.status(bench.root).supervisor_pid)

    bench.plane.apply(bench.service(bench.model("v1")))
    bench.eventually(lambda: bench.pid(1) and not port_is_free(bench.port) and bench.ask().status == 200)


def test_a_taken_port_is_named_with_its_owner_and_nothing_is_written(bench: Any, other_bench: Any,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    bench.roll_out(bench.model("v1"))  # its Envoy has the port

    with pytest.raises(PortInUse, match=rf"port {bench.port} .* by process \d+ \(envoy\).*PENSTOCK_GATEWAY_PORT="):
        other_bench.roll_out(other_bench.model("v1"))
    assert other_bench.status() == {}
    assert status.status(other_bench.root).supervisor_pid == 0

    monkeypatch.setenv("PENSTOCK_GATEWAY_PORT", str(other_bench.port))
    other_bench.roll_out(other_bench.model("other"))
    assert other_bench.ask().body["model_version"] == "other"
    assert bench.ask().body["model_version"] == "v1"

    with pytest.raises(ControlError, match=f"runs on port {bench.port}, not {other_bench.port}"):
        bench.plane.apply(bench.service(bench.model("v1")))


def test_the_supervisor_holds_on_to_nothing_of_who_started_it(bench: Any) -> None:
    bench.roll_out(bench.model("v1"))
    found = status.status(bench.root)

    for pid in (found.supervisor_pid, found.gateway_pid, bench.pid(1)):
        process = psutil.Process(pid)
        files = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}  # noqa: PTH115
        assert process.cwd() == "/"
        assert os.getsid(pid) != os.getsid(0)
        assert all(path == "/dev/null" or path.startswith(str(bench.root)) for path in files)
