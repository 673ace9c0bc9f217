"""What the steps of a run are doing, as events in a file that outlives every process of the run.

The child that runs kfp writes events, its parent shows them, and whoever cleans up reads them back.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Event", "Progress", "StepState"]

Status = Literal["waiting", "running", "succeeded", "cached", "failed", "skipped", "interrupted"]


class Event(BaseModel):
    """One line of the event file; `time` is in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["planned", "started", "succeeded", "cached", "failed"]
    time: float
    step: str = ""
    steps: tuple[str, ...] = ()  # of `planned`: every step, in order


class StepState(BaseModel):
    """Where one step is; times in seconds."""

    model_config = ConfigDict(extra="forbid")

    name: str
    status: Status = "waiting"
    seconds: float = 0.0
    started: float = 0.0

    def seconds_until(self, now: float) -> float:
        """Return how long the step has run at `now`, seconds since the epoch."""
        return now - self.started if self.status == "running" else self.seconds


class Progress:
    """The steps of one attempt at a run, in order."""

    def __init__(self) -> None:
        self._steps: dict[str, StepState] = {}

    @classmethod
    def read(cls, path: Path) -> "Progress":
        """Read an event file; an absent one is a run that has not begun. A half-written last line is left out."""
        progress = cls()
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []:
            if line.endswith("\n"):
                progress.apply(Event.model_validate_json(line))
        return progress

    def __iter__(self) -> Iterator[StepState]:
        return iter(self._steps.values())

    @property
    def failed(self) -> str:
        """The first step that failed, or ""."""
        return next((step.name for step in self if step.status == "failed"), "")

    def apply(self, event: Event) -> None:
        """Take one event into account."""
        if event.kind == "planned":
            self._steps = {name: StepState(name=name) for name in event.steps}
            return
        step = self._steps.setdefault(event.step, StepState(name=event.step))
        if event.kind == "started":
            step.status, step.started = "running", event.time
        else:
            step.seconds = round(event.time - step.started, 3) if step.status == "running" else 0.0
            step.status = event.kind

    def close(self, now: float | None = None) -> "Progress":
        """Mark what will not happen any more: running steps were interrupted, waiting ones are skipped."""
        for step in self:
            if step.status == "running":
                step.seconds, step.status = round(step.seconds_until(now or time.time()), 3), "interrupted"
            elif step.status == "waiting":
                step.status = "skipped"
        return self

    def names(self, *statuses: Status) -> Iterable[str]:
        """Return the names of the steps in one of these states."""
        return [step.name for step in self if step.status in statuses]
