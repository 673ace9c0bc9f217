"""The runs that lie in a folder: list them, remove old ones.

A run that is live, or whose model serves, is never removed.
"""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.pipelines.run_folder import RunFolder, RunRecord, all_runs
from penstock.pipelines.summary import Summary

__all__ = ["list_runs", "remove_runs"]

MEGABYTE = 1e6


def list_runs(out: Path) -> Iterator[str]:
    """Yield one line per run, oldest first."""
    for folder, record in all_runs(out):
        summary = _summary(folder)
        version = f"{summary.model.version}  {summary.model.test_accuracy:.2%}" if summary and summary.model else ""
        yield f"{folder.run_id:<22} {_status(record):<12} {record.scalars['service']:<20} {version}".rstrip()


def remove_runs(out: Path, keep: int | None, older_than: float | None) -> Iterator[tuple[str, float]]:
    """Remove old run folders.

    Args:
        keep: how many of the newest stay; None: decide by age.
        older_than: days since its start after which a run goes; None: decide by number.

    Yields:
        The id of each run that was removed, and its size in MB.
    """
    found = list(all_runs(out))
    old = found[: max(0, len(found) - keep)] if keep is not None else found
    for folder, record in old:
        if older_than is not None and _age(record) <= timedelta(days=older_than):
            continue
        if record.is_running() or _serves(folder, record):
            continue
        size = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
        shutil.rmtree(folder.path)
        yield folder.run_id, size / MEGABYTE


def _status(record: RunRecord) -> str:
    """Return the status; a run whose process was killed could not write its own."""
    return "interrupted" if record.status == "running" and not record.is_running() else record.status


def _age(record: RunRecord) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(record.started)


def _summary(folder: RunFolder) -> Summary | None:
    return Summary.model_validate_json(folder.summary.read_bytes()) if folder.summary.is_file() else None


def _serves(folder: RunFolder, record: RunRecord) -> bool:
    from penstock.components.control.connect import connect
    from penstock.components.control.inference_service import canary_version, service_ref, stable_version

    live, summary = connect().get(service_ref(record.scalars["service"])), _summary(folder)
    if live is None or summary is None or summary.model is None:
        return False
    return summary.model.version in (stable_version(live), canary_version(live))
