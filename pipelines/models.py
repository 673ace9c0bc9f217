"""The registry for a person: which versions a service has, what is known of each, and the way back to an older one.

A roll-back is a roll-out like any other: the canary lease keeps other runs away, the version goes on trial beside the
stable one, and what happened is written into the registry's history. Makes no model.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.components.contracts.errors import ConfigError
from penstock.components.deployment.registry import Registry, Stages
from penstock.pipelines.run_folder import new_run_id

if TYPE_CHECKING:
    from penstock.components.control.base import ControlPlane

__all__ = ["default_registry", "list_models", "roll_back", "show_model"]

TIMEOUT = 60.0  # seconds for the routes to show each change


def default_registry() -> Path:
    """Return the registry that `penstock run` fills on this machine."""
    from penstock.components.control.laptop.home import home

    return home() / "registry"


def list_models(registry: Path, name: str = "") -> Iterator[str]:
    """Yield a line per version, the oldest of each service first.

    Args:
        name: a service; "": all of them.

    Raises:
        ConfigError: the registry has no such service.
    """
    for service in _services(Registry(registry), name):
        stages = Registry(registry).stages(service)
        for record in Registry(registry).records(service):
            newest = record.lineage[-1]
            yield (f"{service:<20} {record.version}  {_standing(record.version, stages):<11} "
                   f"{newest.metrics.get('accuracy', float('nan')):>7.2%}  {_stamp(newest.registered_at)}  "
                   f"run {newest.run_id}")


def show_model(registry: Path, name: str, version: str = "") -> Iterator[str]:
    """Yield what is known of a version: where it came from, how good it is, where it lies, and when it served.

    Args:
        version: "": the one that serves.

    Raises:
        ConfigError: nothing of this name serves.
        ContractError: there is no such version.
    """
    found = Registry(registry)
    _services(found, name)
    stages = found.stages(name)
    version = version or stages.serving
    if not version:
        raise ConfigError(f"no version of {name} serves; name one: penstock models list {name}")
    record = found.record(name, version)
    yield f"{name} {version}, {_standing(version, stages)}"
    yield f"folder    {found.model_uri(name, version).removeprefix('file://')}"
    for entry in record.lineage:
        yield (f"made by   run {entry.run_id} at {_stamp(entry.registered_at)}, penstock {entry.made_by}, from "
               f"{entry.dataset} ({entry.dataset_hash[:12]})")
        yield "          " + ", ".join(f"{metric} {value:.4f}" for metric, value in sorted(entry.metrics.items()))
    for event in stages.history:
        if event.version == version:
            yield f"{event.stage.replace('_', ' '):<12} {_stamp(event.at)}  run {event.run_id}: {event.reason}"


def roll_back(registry: Path, name: str, version: str, percent: int, plane: "ControlPlane") -> str:
    """Give all traffic of a service to a registered version.

    The version must reproduce its golden rows to be ready, gets its share first, and then everything. Nothing is
    analysed: whoever rolls back knows why. An error, or Ctrl-C, leaves the traffic where it was.

    Args:
        percent: of the requests, while it is on trial.

    Returns:
        The version that served before, "" where none did.

    Raises:
        ConfigError: the version serves already, or the registry does not know the service.
        ContractError: there is no such version.
        ObjectConflict: another run tries a version of this service.
        StepError: it did not start, or the traffic did not move; it has gone back.
    """
    from penstock.components.control.inference_service import service_ref, stable_version
    from penstock.components.control.lease import CanaryLease
    from penstock.components.deployment.restore.step import run as restore
    from penstock.components.deployment.roll_out.step import RollOutConfig
    from penstock.components.deployment.roll_out.step import run as roll_out
    from penstock.components.deployment.traffic import finish_trial

    _services(Registry(registry), name)
    live = plane.get(service_ref(name))
    before, run_id = stable_version(live) if live else "", f"rollback-{new_run_id()}"
    config = RollOutConfig(canary_percent=percent)
    try:
        if roll_out(name, version, registry, run_id, config, plane) == "serving":
            with CanaryLease(plane, name, run_id) as lease:
                lease.release()
            raise ConfigError(f"{name} is served by version {version} already; see `penstock models list {name}`")
        with CanaryLease(plane, name, run_id) as lease:
            finish_trial(plane, name, version, percent if before else 100, lease, TIMEOUT)
            reason = f"rolled back from {before} by hand" if before else "put live by hand"
            Registry(registry).stage(name, version, "serving", run_id, reason)
            lease.release()
    except BaseException:
        restore(name, registry, run_id, plane)
        raise
    return before


def _services(registry: Registry, name: str) -> list[str]:
    known = registry.services()
    if name and name not in known:
        raise ConfigError(f"{registry.folder} has no model {name!r}; it has {', '.join(known) or 'none'}")
    return [name] if name else known


def _standing(version: str, stages: Stages) -> str:
    if version == stages.serving:
        return "serving"
    last = next((event.stage for event in reversed(stages.history) if event.version == version), "")
    if version == stages.previous:
        return "previous"
    return {"rolled_back": "rolled back", "serving": "served"}.get(last, "registered")


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
