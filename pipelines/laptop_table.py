"""What serves on this machine, as lines for a person.

Draws what `control.laptop.status` found; asks nobody.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from penstock.pipelines.table import duration

if TYPE_CHECKING:
    from penstock.components.control.laptop.status import LaptopStatus, RevisionStatus

__all__ = ["laptop_lines"]


def laptop_lines(laptop: "LaptopStatus") -> Iterator[str]:
    """Yield one line for the gateway and one per service and revision."""
    if not (laptop.supervisor_pid or laptop.gateway_pid or laptop.services):
        yield "nothing serves on this machine"
        return
    state = f"process {laptop.gateway_pid}" if laptop.gateway_pid else "not running"
    restarts = f", restarted {laptop.gateway_restarts} times" if laptop.gateway_restarts else ""
    yield f"gateway {laptop.url} ({state}{restarts})"
    for service in laptop.services:
        yield f"{service.name}  {laptop.url}/v2/models/{service.name}"
        for revision in service.revisions:
            yield f"  {_revision(revision)}"


def _revision(revision: "RevisionStatus") -> str:
    version = Path(unquote(urlsplit(revision.uri).path)).parent.name
    parts = [f"{revision.name}  version {version}", f"{revision.percent:>3} %", revision.phase]
    if revision.pid:
        parts.append(f"process {revision.pid}, {revision.memory / 1e6:,.0f} MB, up {duration(revision.uptime)}")
    if revision.restarts:
        parts.append(f"restarted {revision.restarts} times")
    return "  ".join(parts)
