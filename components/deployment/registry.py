"""The file registry: every version of a service that was ever offered, where it came from, and which one serves.

A folder, `<registry>/<service>/<version>/{model/, record.json}` and `<registry>/<service>/stages.json`, that several
runs may use at once. Deploys nothing: the stage is written down here after the traffic has moved.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import write_atomically
from penstock.components.contracts.model import Model, copy_model
from penstock.components.control.inference_service import check_service_name

__all__ = ["Lineage", "Record", "Registry", "Stage", "StageEvent", "Stages"]

RECORD = "record.json"
STAGES = "stages.json"
Stage = Literal["serving", "rolled_back"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_File = TypeVar("_File", bound=_Frozen)


class Lineage(_Frozen):
    """One run that made a version; the same bytes made twice have two."""

    run_id: str
    dataset: str
    dataset_hash: str
    metrics: dict[str, float]
    registered_at: datetime
    made_by: str  # version of the code


class Record(_Frozen):
    """What is known of one version."""

    service: str
    version: str
    lineage: tuple[Lineage, ...]


class StageEvent(_Frozen):
    """A version went live, or was sent back."""

    version: str
    stage: Stage
    run_id: str
    at: datetime
    reason: str


class Stages(_Frozen):
    """What serves now and what served before; "" where nothing does. `history` begins with the oldest event."""

    serving: str = ""
    previous: str = ""
    history: tuple[StageEvent, ...] = ()


class Registry:
    """A registry folder; it appears with the first version."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).absolute()

    def register(self, service: str, model: Model, lineage: Lineage) -> Record:
        """Copy a model folder into the registry; a version that is there already gains a lineage entry.

        Raises:
            ContractError: the registry holds something else under this version.
        """
        with self._locked(service):
            copy_model(model, self._place(service, model.version) / "model")
            known = self.record(service, model.version).lineage if self._is_registered(service, model.version) else ()
            kept = tuple(entry for entry in known if entry.run_id != lineage.run_id)  # a retried step says it once
            record = Record(service=service, version=model.version, lineage=(*kept, lineage))
            write_atomically(self._place(service, model.version) / RECORD, record.model_dump_json(indent=2) + "\n")
        return record

    def services(self) -> list[str]:
        """Return the services that have a version, by name."""
        return sorted({path.parent.parent.name for path in self.folder.glob(f"*/*/{RECORD}")})

    def records(self, service: str) -> list[Record]:
        """Return the versions of a service, the one registered first at the front."""
        found = [self.record(service, path.parent.name)
                 for path in (self.folder / check_service_name(service)).glob(f"*/{RECORD}")]
        return sorted(found, key=lambda record: (record.lineage[0].registered_at, record.version))

    def record(self, service: str, version: str) -> Record:
        """Return one version.

        Raises:
            ContractError: it is not registered, or its record is damaged.
        """
        if not self._is_registered(service, version):
            known = ", ".join(record.version for record in self.records(service)) or "none"
            raise ContractError(f"{self.folder} has no version {version!r} of {service}; it has {known}")
        return _read(self._place(service, version) / RECORD, Record)

    def model_uri(self, service: str, version: str) -> str:
        """Return the `file://` URI of a version's model folder.

        Raises:
            ContractError: the version is not registered.
        """
        self.record(service, version)
        return (self._place(service, version) / "model").as_uri()

    def stages(self, service: str) -> Stages:
        """Return which version serves, and the history."""
        path = self.folder / check_service_name(service) / STAGES
        return _read(path, Stages) if path.is_file() else Stages()

    def stage(self, service: str, version: str, stage: Stage, run_id: str, reason: str) -> Stages:
        """Write down that a version went live or was sent back; the same event of the same run is written once."""
        with self._locked(service):
            before = self.stages(service)
            event = StageEvent(version=version, stage=stage, run_id=run_id, at=datetime.now(UTC), reason=reason)
            if before.history and _is_same(before.history[-1], event):
                return before
            goes_live = stage == "serving" and version != before.serving
            after = Stages(serving=version if goes_live else before.serving,
                           previous=before.serving if goes_live else before.previous,
                           history=(*before.history, event))
            write_atomically(self.folder / service / STAGES, after.model_dump_json(indent=2) + "\n")
        return after

    def found_serving(self, service: str, version: str, run_id: str) -> bool:
        """Write down what has all traffic, where a run was cut off between the traffic and the registry.

        Returns:
            Whether that was news; a version that is not registered here is none.
        """
        if version == self.stages(service).serving or not self._is_registered(service, version):
            return False
        self.stage(service, version, "serving", run_id, "it had all traffic when the run was cut off")
        return True

    def _place(self, service: str, version: str) -> Path:
        return self.folder / check_service_name(service) / version

    def _is_registered(self, service: str, version: str) -> bool:
        return (self._place(service, version) / RECORD).is_file()

    @contextmanager
    def _locked(self, service: str) -> Iterator[None]:
        """Let one process at a time change a service's folder."""
        folder = self.folder / check_service_name(service)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, by a dead process too
            yield


def _is_same(one: StageEvent, other: StageEvent) -> bool:
    return (one.version, one.stage, one.run_id) == (other.version, other.stage, other.run_id)


def _read(path: Path, kind: type[_File]) -> _File:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ContractError(f"{path} is damaged: {error.errors()[0]['msg']}; restore it from a copy") from error
