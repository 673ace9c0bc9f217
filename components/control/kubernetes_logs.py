"""The log of a job: the lines of all its pods as one, in order of time.

Asks for what is new once a second instead of following streams: a broken connection, a restarted container or a pod
that comes later then needs no other code. Reads only.
"""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from penstock.components.control.base import LogLine, Manifest, ObjectRef
from penstock.components.control.kubernetes_api import Api
from penstock.components.control.kubernetes_errors import Refused

__all__ = ["PodLog", "Stamped", "follow", "read_all"]

POLL_SECONDS = 1.0
STAMP = re.compile(r"(?P<second>[^.+Z]+)\.(?P<fraction>\d+)(?P<zone>.*)")


class Stamped(NamedTuple):
    """A line with the kubelet's time of it, RFC 3339 with nanoseconds, so that it sorts as text."""

    time: str
    line: LogLine


class PodLog:
    """Reads one container of a pod, each line once.

    Args:
        pod: as listed.
    """

    def __init__(self, api: Api, pod: Manifest) -> None:
        self._api, self._name = api, pod["metadata"]["name"]
        ref = ObjectRef("v1", "Pod", self._name, pod["metadata"]["namespace"])
        self._path, self._what = f"{api.path(ref)}/log", f"read the log of {ref}"
        self._container = pod["spec"]["containers"][0]["name"]  # the user's; what is injected comes after it
        self._last, self._seen_then = "", 0  # time of the newest line that was read, and how many bear it
        self._restarts = 0

    def new(self, pod: Manifest) -> list[Stamped]:
        """Return the lines that were added, those of a container that has been restarted meanwhile too."""
        restarts = _restarts(pod, self._container)
        found = self._read({"previous": "true"}) if restarts > self._restarts else []
        self._restarts = restarts
        return [*found, *self._read({})]

    def _read(self, options: dict[str, str]) -> list[Stamped]:
        query = {"container": self._container, "timestamps": "true"} | options
        if self._last:
            query["sinceTime"] = f"{self._last[:19]}Z"  # whole seconds only: lines come again and are dropped below
        try:
            text = self._api.text(self._path, self._what, query)
        except Refused:  # the container is not there yet, or its former life has been forgotten
            return []
        pairs = [line.partition(" ") for line in (text or "").split("\n") if line]
        stamped = [Stamped(_utc(stamp), LogLine(self._name, line)) for stamp, _, line in pairs]
        known = [entry for entry in stamped if entry.time == self._last][: self._seen_then]
        added = [entry for entry in stamped if entry.time >= self._last][len(known) :]
        if added:
            kept = self._seen_then if added[-1].time == self._last else 0
            self._last = added[-1].time
            self._seen_then = kept + sum(entry.time == self._last for entry in added)
        return added


def follow(pods: Callable[[], list[Manifest]], ended: Callable[[], bool], api: Api) -> Iterator[LogLine]:
    """Yield the lines of the pods until the job has ended and everything is read.

    What the pods wrote after the newest line of the round before is held back for a round, because another pod may have
    written earlier and been read earlier.

    Args:
        pods: that the job has now.
        ended: whether no line can come any more; asked before the last look.
    """
    logs: dict[str, PodLog] = {}
    held: list[Stamped] = []
    newest = ""
    while True:
        last = ended()
        for pod in pods():
            log = logs.setdefault(pod["metadata"]["uid"], PodLog(api, pod))
            held += log.new(pod)
        held.sort(key=lambda entry: entry.time)
        due = len(held) if last else sum(entry.time <= newest for entry in held)
        yield from (entry.line for entry in held[:due])
        newest = max([newest, *(entry.time for entry in held)])
        del held[:due]
        if last:
            return
        time.sleep(POLL_SECONDS)


def read_all(pods: list[Manifest], api: Api) -> Iterator[LogLine]:
    """Yield what the pods have written so far."""
    found = [entry for pod in pods for entry in PodLog(api, pod).new(pod)]
    yield from (entry.line for entry in sorted(found, key=lambda entry: entry.time))


def _restarts(pod: Manifest, container: str) -> int:
    states: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses", [])
    return sum(int(state.get("restartCount", 0)) for state in states if state["name"] == container)


def _utc(stamp: str) -> str:
    """Write a kubelet's time in UTC; nodes have their own zones."""
    found = STAMP.fullmatch(stamp)
    if found is None or found["zone"] == "Z":
        return stamp
    second = datetime.fromisoformat(found["second"] + found["zone"]).astimezone(UTC)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{found['fraction']}Z"
