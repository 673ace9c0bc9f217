"""Ending a session: all of its processes go, and nobody else's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from penstock.pipelines.session import end_session, members

LEADER = """
import subprocess, sys, time
sleeper = "import signal, sys, time; {ignore} sys.stdout.write('up\\\\n'); sys.stdout.flush(); time.sleep(600)"
for ignore in ("", "signal.signal(signal.SIGTERM, signal.SIG_IGN);"):
    command = [sys.executable, "-c", sleeper.format(ignore=ignore)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0)
    child.stdout.readline()
sys.stdout.write("up\\n"); sys.stdout.flush()
time.sleep(600)
"""


@pytest.fixture
def leader() -> Iterator[psutil.Process]:
    command = [sys.executable, "-c", LEADER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "up\n"
    found = psutil.Process(process.pid)
    created = found.create_time()
    yield found
    end_session(process.pid, created, grace=0)
    process.wait()


def test_process_groups_of_the_session_go_too_and_stubborn_ones_are_killed(leader: psutil.Process) -> None:
    created = leader.create_time()
    assert len(members(leader.pid, created)) == 3

    assert end_session(leader.pid, created, grace=0.5) == 3

    assert members(leader.pid, created) == []


def test_members_of_a_dead_leader_are_found(leader: psutil.Process) -> None:
    created = leader.create_time()
    os.kill(leader.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while leader.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)

    assert len(members(leader.pid, created)) == 2
    assert end_session(leader.pid, created, grace=0.5) == 2


def test_another_process_with_the_leaders_pid_is_left_alone(leader: psutil.Process) -> None:
    assert end_session(leader.pid, leader.create_time() - 1000, grace=0.1) == 0
    assert leader.is_running()


CALLER = """
import os, subprocess, sys, psutil
from penstock.pipelines.session import end_session
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
ended = end_session(os.getpid(), psutil.Process().create_time(), grace=5)
sys.stdout.write(f"ended {ended}, sleeper {sleeper.wait()}")
"""


def test_a_caller_inside_the_session_is_spared() -> None:
    done = subprocess.run([sys.executable, "-c", CALLER], stdout=subprocess.PIPE, text=True, start_new_session=True,
                          check=True)
    assert done.stdout == f"ended 1, sleeper {-signal.SIGTERM}"
