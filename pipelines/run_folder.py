"""The folder of one run: where everything of it lies, and `run.json`, what it was started with and by whom.

Knows files and pids; starts and ends nothing.
"""

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.contracts.folder import write_atomically

__all__ = ["Owner", "RunFolder", "RunRecord", "all_runs", "new_run_id", "open_run"]

RUN_ID = re.compile(r"[a-z0-9-]{1,40}")
RunStatus = Literal["running", "succeeded", "failed", "interrupted"]


class Owner(BaseModel):
    """A process, told apart from a later one of the same pid by its start (seconds since the epoch)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Owner":
        return cls(pid=pid, created=psutil.Process(pid).create_time())

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class RunRecord(BaseModel):
    """`run.json`. `session` leads the process session that all steps live in; None until the first step could run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    run_id: str
    pipeline: str
    profile: str
    scalars: dict[str, str]
    stages: dict[str, dict[str, object]]
    versions: dict[str, str]
    started: str  # RFC 3339
    status: RunStatus = "running"
    owner: Owner
    session: Owner | None = None

    def is_running(self) -> bool:
        return self.status == "running" and self.owner.is_alive()


class RunFolder:
    """Names the files of a run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()

    def __str__(self) -> str:
        return str(self.path)

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def record_file(self) -> Path:
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def steps(self) -> Path:
        return self.path / "steps"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def train(self) -> Path:
        return self.path / "train"

    @property
    def sweep(self) -> Path:
        return self.path / "sweep"

    @property
    def canary(self) -> Path:
        return self.path / "canary"

    @property
    def pages(self) -> Path:
        return self.path / "pages"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def index(self) -> Path:
        return self.path / "index.html"

    @property
    def request(self) -> Path:
        return self.path / "request.json"

    def log(self, step: str) -> Path:
        return self.logs / f"{step}.log"

    def load(self) -> RunRecord:
        """Read `run.json`.

        Raises:
            ContractError: there is none, or it is damaged.
        """
        if not self.record_file.is_file():
            raise ContractError(f"{self.path} is no run: run.json is missing; `penstock runs list` shows all")
        try:
            return RunRecord.model_validate_json(self.record_file.read_bytes())
        except ValidationError as error:
            raise ContractError(f"{self.record_file} is damaged: {error.errors()[0]['msg']}") from error

    def save(self, record: RunRecord) -> RunRecord:
        write_atomically(self.record_file, record.model_dump_json(indent=2) + "\n")
        return record

    def update(self, **changes: object) -> RunRecord:
        """Change fields of `run.json`."""
        return self.save(self.load().model_copy(update=changes))


def new_run_id(now: datetime | None = None) -> str:
    """Return a name that sorts by time and that no other run has."""
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def all_runs(out: Path) -> Iterator[tuple[RunFolder, RunRecord]]:
    """Yield the runs below `out`, oldest first; a folder without a `run.json` is none."""
    for path in sorted(out.iterdir()) if out.is_dir() else []:
        if (path / "run.json").is_file():
            folder = RunFolder(path)
            yield folder, folder.load()


def open_run(out: Path, run_id: str) -> RunFolder:
    """Return the folder of an existing run.

    Raises:
        ConfigError: `run_id` cannot be one, or there is no such run.
    """
    if not RUN_ID.fullmatch(run_id) or not (out / run_id / "run.json").is_file():
        known = ", ".join(folder.run_id for folder, _ in all_runs(out)) or "none"
        raise ConfigError(f"there is no run {run_id!r} in {out}; there are: {known}")
    return RunFolder(out / run_id)
