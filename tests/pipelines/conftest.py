"""A laptop plane of its own for each module of tests: another home, another port, and nothing left afterwards."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

LEFT_SECONDS = 15.0  # for a process that was told to end


class Laptop(NamedTuple):
    """Runs `penstock` against a home and a port of its own, in `folder`."""

    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from penstock.pipelines.cli import main; main()", *arguments], cwd=self.folder,
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            output, errors = process.communicate()
            return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def processes(self) -> list[psutil.Process]:
        """Return every live process that belongs to this home."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                if process.environ().get("PENSTOCK_HOME") == self.environment["PENSTOCK_HOME"]:
                    found.append(process)
        return found

    def left_of_runs(self) -> list[str]:
        """Return the command lines of processes that are neither a service's nor gone after a while."""
        deadline = time.monotonic() + LEFT_SECONDS
        while left := [process for process in self.processes() if _is_of_a_run(process)]:
            if time.monotonic() > deadline:
                return [" ".join(process.cmdline()) for process in left]
            time.sleep(0.1)
        return []


def _is_of_a_run(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        line = " ".join(process.cmdline())
        return any(part in line for part in ("kfp_process", "executor_main", "torchrun", "training.worker"))
    return False


def command_lines(processes: Sequence[psutil.Process]) -> list[str]:
    return [" ".join(process.cmdline()) for process in processes]


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    folder = tmp_path_factory.mktemp("laptop")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PENSTOCK_HOME": str(folder / "home"), "PENSTOCK_GATEWAY_PORT": str(port),
                                "PENSTOCK_PLANE": "laptop"}
    made = Laptop(folder, environment)
    yield made
    stopped = made("laptop", "stop")
    left = made.processes()
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert stopped.returncode == 0, stopped.stderr
    assert command_lines(left) == []
