"""Makes sure that the supervisor of a home runs, and that it can: that the gateway's port is free or ours.

Started in a session of its own, cwd `/`, on files only: a child with a step's stdout would make kfp.local wait for it.
"""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from penstock.components.control.base import ControlError, PortInUse
from penstock.components.control.laptop.gateway import envoy_binary
from penstock.components.control.laptop.locks import START, SUPERVISOR, is_held, locked
from penstock.components.control.laptop.processes import MARK, is_alive
from penstock.components.control.laptop.supervisor import PROCESS_NAME, load_state

__all__ = ["check_gateway", "ensure_supervisor", "port_is_free", "starting"]

MODULE = "penstock.components.control.laptop.supervisor"
START_SECONDS = 30.0  # 0.7 s on an idle machine
LOCK_SECONDS = 60.0
PORT_SECONDS = 1.0  # an Envoy that was killed lets go of its port when the last of its threads is gone
LAST_LINES = 10
log = logging.getLogger(__name__)


@contextmanager
def starting(root: Path) -> Iterator[None]:
    """Keep others from starting or stopping the supervisor meanwhile.

    Raises:
        ControlError: another process does not let go.
    """
    with locked(root, START, LOCK_SECONDS) as held:
        if not held:
            raise ControlError(f"another process has been starting or stopping the supervisor of {root} for "
                               f"{LOCK_SECONDS:g} s; look for it with: fuser {root / START}")
        yield


def check_gateway(root: Path, port: int) -> None:
    """Check, before anything is written, that the gateway can listen where it shall.

    Raises:
        PortInUse: somebody else listens there.
        ControlError: the gateway runs on another port; or Envoy is not installed.
    """
    envoy_binary()
    state = load_state(root)
    if state is not None and is_alive(state.gateway.process):
        if state.gateway.port != port:
            raise ControlError(f"the gateway of {root} runs on port {state.gateway.port}, not {port}: unset "
                               "PENSTOCK_GATEWAY_PORT, or move it with `penstock laptop stop`")
        return
    if is_held(root, SUPERVISOR):
        return
    deadline = time.monotonic() + PORT_SECONDS
    while not port_is_free(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not port_is_free(port):
        raise PortInUse(f"port {port} of 127.0.0.1, where the gateway shall listen, is taken by {_listener(port)}; end "
                        f"that, or choose another port: export PENSTOCK_GATEWAY_PORT={port + 1}")


def ensure_supervisor(root: Path, port: int) -> None:
    """Start the supervisor if none runs, and wait until its gateway has taken its configuration.

    Raises:
        ControlError: it does not come up; the text has the last lines of its log.
    """
    if is_held(root, SUPERVISOR):
        return
    journal = root / "logs" / "supervisor.log"
    journal.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", MODULE, "--root", str(root), "--port", str(port)]
    env = os.environ | {"PENSTOCK_HOME": str(root.parent), MARK: f"{root}|{PROCESS_NAME}"}
    with journal.open("ab") as output:
        launcher = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                                  start_new_session=True, env=env, check=False)
    deadline = time.monotonic() + (START_SECONDS if launcher.returncode == 0 else 0)
    while time.monotonic() < deadline:
        state = load_state(root)
        if state is not None and state.ready and is_alive(state.supervisor):
            log.info("supervisor=%d event=started log=%s", state.supervisor.pid, journal)
            return
        time.sleep(0.02)
    lines = journal.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    text = f"the supervisor does not come up; {journal} ends with:"
    raise ControlError("\n".join([text, *lines]))


def port_is_free(port: int) -> bool:
    """Say whether Envoy could listen on 127.0.0.1:`port` now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Envoy does
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listener(port: int) -> str:
    try:
        pids = {connection.pid for connection in psutil.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port}
        named = [f"process {pid} ({psutil.Process(pid).name()})" for pid in pids if pid]
        return ", ".join(named) or "a process of another user"
    except psutil.Error:
        return "another process"
