"""The child of `penstock run`: runs a pipeline with kfp.local, in a session of its own, and tells what happens.

    python -m penstock.pipelines.kfp_process RUN_FOLDER PARENT_PID

Stdout carries one JSON event a line, taken from kfp's own log records; what a step prints goes to the step's log.
When the parent dies, this process ends the session and puts the traffic back, then ends itself.
"""

import ctypes
import importlib
import io
import json
import logging
import os
import re
import signal
import sys
import time
import warnings
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from penstock.pipelines.ending import clean_up
from penstock.pipelines.progress import Event
from penstock.pipelines.run_folder import Owner, RunFolder

__all__ = ["Observer", "main", "make_cacheable", "step_order"]

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
COLOUR = re.compile(r"\x1b\[\d+m")
STARTED = re.compile(r"Executing task '(.+)'")
FINISHED = re.compile(r"Task '(.+)' finished with status (SUCCESS|FAILURE)")
CACHED = re.compile(r"Task (\S+) cache hit")
INDENT = " " * 4  # kfp prints it before each line of a step


class StepOutput(io.TextIOBase):
    """Stands in for `sys.stdout`: kfp prints what a step prints, and it ends up in the log of that step."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._file: TextIO | None = None

    def open_for(self, step: str) -> None:
        self.end_step()
        self._file = self._folder.log(step).open("w", encoding="utf-8")

    def end_step(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def write(self, text: str) -> int:
        if self._file and text != INDENT:
            self._file.write(text)
            if text.endswith("\n"):
                self._file.flush()
        return len(text)


class Observer(logging.Filter):
    """Reads kfp's log records as events. A filter of the root logger, because kfp replaces its handlers."""

    def __init__(self, folder: RunFolder, output: StepOutput, shown: TextIO) -> None:
        super().__init__()
        self.ending = False  # asked to end: the running step is heard to its end, and none follows
        self._events, self._steps, self._output, self._shown = folder.events, folder.steps, output, shown

    def filter(self, record: logging.LogRecord) -> bool:
        text = COLOUR.sub("", record.getMessage())
        if found := STARTED.fullmatch(text):
            if self.ending:
                os._exit(128 + signal.SIGTERM)
            self._output.open_for(step_name(found[1]))
            self.tell("started", step_name(found[1]))
        elif found := FINISHED.fullmatch(text):
            self._output.end_step()
            if found[2] == "SUCCESS":
                make_cacheable(self._steps, found[1])
            self.tell("succeeded" if found[2] == "SUCCESS" else "failed", step_name(found[1]))
        elif found := CACHED.match(text):
            self.tell("cached", step_name(found[1]))
        else:
            sys.stderr.write(f"{text}\n")
        return False

    def tell(self, kind: str, step: str = "", steps: tuple[str, ...] = ()) -> None:
        """Write an event to the run's file and to the parent."""
        if self.ending:
            return
        line = Event.model_validate({"kind": kind, "time": time.time(), "step": step, "steps": steps}).model_dump_json()
        with self._events.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self._shown.write(f"{line}\n")
        self._shown.flush()


def make_cacheable(steps: Path, task: str) -> None:
    """Give every output of a task that has just ended a file, if only an empty one.

    kfp.local takes a task from its cache only where every output is on disk; metrics live in metadata alone
    (kfp 2.17.0, local/cache.py).
    """
    outputs = max(steps.glob(f"*/{task}/executor_output.json"))
    for found in json.loads(outputs.read_text(encoding="utf-8")).get("artifacts", {}).values():
        for artifact in found["artifacts"]:
            Path(artifact["uri"]).touch()


def step_name(task: str) -> str:
    """Turn kfp's name of a task into the name of the step's function, numbered where it occurs again."""
    return task.replace("-", "_")


def step_order(specification: dict[str, Any]) -> list[str]:
    """Return the steps of a compiled pipeline in the order in which kfp.local runs them.

    Args:
        specification: the pipeline's IR as a dict.
    """
    def visit(dag: dict[str, Any]) -> list[str]:
        tasks = dag["tasks"]
        order = TopologicalSorter({name: task.get("dependentTasks", []) for name, task in tasks.items()}).static_order()
        names: list[str] = []
        for name in order:
            component = specification["components"][tasks[name]["componentRef"]["name"]]
            names += visit(component["dag"]) if "dag" in component else [step_name(name)]
        return names

    return visit(specification["root"]["dag"])


def main() -> None:
    folder, parent = RunFolder(sys.argv[1]), int(sys.argv[2])
    _die_with(parent, folder)
    warnings.filterwarnings("ignore", message=r".*\['display_name'\] have no effect", category=UserWarning)
    output = StepOutput(folder)
    observer = Observer(folder, output, sys.stdout)
    signal.signal(signal.SIGTERM, lambda number, frame: setattr(observer, "ending", True))
    root = logging.getLogger()
    root.addFilter(observer)
    root.setLevel(logging.INFO)
    sys.stdout = output
    _run(folder, observer)


def _run(folder: RunFolder, observer: Observer) -> None:
    from google.protobuf import json_format
    from kfp import local

    record = folder.load()
    pipeline = getattr(importlib.import_module(f"penstock.pipelines.{record.pipeline}"), record.pipeline)
    specification = json.loads(json_format.MessageToJson(pipeline.pipeline_spec))
    observer.tell("planned", steps=tuple(step_order(specification)))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder.steps), enable_caching=True,
               cache_root=str(folder.cache), workspace_root=str(folder.path / "workspace"))
    pipeline(run_id=folder.run_id, **record.scalars, **record.stages)


def _die_with(parent: int, folder: RunFolder) -> None:
    """Have the kernel say when the parent is gone, also after SIGKILL."""
    def on_orphaned(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        clean_up(folder, Owner.of(os.getpid()))
        os._exit(1)

    signal.signal(signal.SIGHUP, on_orphaned)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGHUP) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        on_orphaned(signal.SIGHUP, None)


if __name__ == "__main__":
    main()
