"""Run a pipeline on this machine: `prepare` checks and writes down what will run, `execute` runs it.

The command line and the notebook both come through here. kfp itself runs in a child (`kfp_process`), so that one
session holds everything that a run starts.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from penstock.components.contracts.errors import ConfigError, PenstockError
from penstock.pipelines.ending import clean_up, end_steps, finish
from penstock.pipelines.failure import failure_reason
from penstock.pipelines.interrupted import Interrupted
from penstock.pipelines.preflight import check_machine
from penstock.pipelines.profiles import profile_arguments
from penstock.pipelines.progress import Event, Progress
from penstock.pipelines.run_folder import Owner, RunFolder, RunRecord, new_run_id, open_run
from penstock.pipelines.stages import Arguments, anchored, check, override, pipeline_name
from penstock.pipelines.summary import Summary
from penstock.pipelines.table import Show

__all__ = ["RunFailed", "execute", "prepare", "reopen"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
VERSIONS = ("penstock", "kfp", "torch", "onnxruntime", "kserve", "pyarrow", "numpy")


class RunFailed(PenstockError):
    """A step failed; the text has its reason and where its log is."""


class _Signalled(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


def prepare(pipeline: str, profile: str, settings: Sequence[str] = (), out: Path = Path("runs")) -> RunFolder:
    """Check everything that can be checked, then make the folder of a new run.

    Args:
        settings: `--set` options, see `stages.override`.
        out: where run folders lie.

    Raises:
        ConfigError: an unknown pipeline, profile, stage, key or value; nothing was made.
        ControlError: this machine cannot run it now: a port, disk space or memory is missing.
    """
    pipeline = pipeline_name(pipeline)
    folder = RunFolder(out.absolute() / new_run_id())
    arguments = anchored(override(profile_arguments(profile, folder), settings))
    check(arguments)
    check_machine(out, arguments.stages)
    folder.logs.mkdir(parents=True)
    folder.save(RunRecord(
        run_id=folder.run_id, pipeline=pipeline, profile=profile, scalars=arguments.scalars, stages=arguments.stages,
        versions={"python": sys.version.split()[0], **{name: version(name) for name in VERSIONS}},
        started=datetime.now(UTC).isoformat(timespec="seconds"), owner=Owner.of(os.getpid())))
    return folder


def reopen(out: Path, run_id: str, pipeline: str) -> RunFolder:
    """Take up a run that was cut off or failed, with the arguments it had; what is left of its processes is ended.

    Raises:
        ConfigError: there is no such run, it is one of another pipeline, or it is still running.
    """
    folder = open_run(out.absolute(), run_id)
    record = folder.load()
    if record.pipeline != pipeline_name(pipeline):
        raise ConfigError(f"run {run_id} is one of {record.pipeline}, not of {pipeline}")
    if record.is_running():
        raise ConfigError(f"run {run_id} is still running (process {record.owner.pid}); wait for it or end it first")
    check(Arguments(record.scalars, record.stages))
    end_steps(folder)
    check_machine(out, record.stages)
    folder.events.unlink(missing_ok=True)
    folder.update(status="running", owner=Owner.of(os.getpid()), session=None)
    return folder


def execute(folder: RunFolder, show: Show) -> Summary:
    """Run what `prepare` or `reopen` set up, to its end.

    Args:
        show: called with each event and the progress after it, for example a `step_table`.

    Raises:
        RunFailed: a step failed. `summary.json` and `index.html` are written all the same.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; every process of the run is gone and the traffic is on stable.
    """
    with _first_signal_raises() as ignore_further:
        try:
            code = _run_child(folder, show)
            ignore_further()
        except _Signalled as cut:
            name = signal.Signals(cut.number).name
            raise Interrupted(f"{name}: the run was stopped and nothing of it is left running; go on with\n"
                              f"  {resume_command(folder)}", cut.number) from None
        if code != 0:
            raise _failure(folder, code)
        return finish(folder, "succeeded")


def resume_command(folder: RunFolder) -> str:
    """Return the command line that takes a run up again."""
    out = "" if folder.path.parent == Path("runs").absolute() else f" --out {folder.path.parent}"
    return f"penstock run {folder.load().pipeline} --resume {folder.run_id}{out}"


def _run_child(folder: RunFolder, show: Show) -> int:
    """Start kfp in a session of its own and follow its events; return its exit code."""
    progress = Progress()
    with (folder.logs / "kfp.log").open("w", encoding="utf-8") as log, subprocess.Popen(
            [sys.executable, "-m", "penstock.pipelines.kfp_process", str(folder), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True) as child:
        try:
            folder.update(session=Owner.of(child.pid))
            assert child.stdout is not None
            for line in child.stdout:
                event = Event.model_validate_json(line)
                progress.apply(event)
                show(event, progress)
            return child.wait()
        except BaseException:
            clean_up(folder)
            raise


def _failure(folder: RunFolder, code: int) -> RunFailed:
    failed = Progress.read(folder.events).failed
    if not failed:  # kfp itself ended, so its exit handler did not run
        end_steps(folder)
    finish(folder, "failed")
    if not failed:
        log = folder.logs / "kfp.log"
        return RunFailed(f"kfp ended with exit code {code}: {failure_reason(log)}\n  log   {log}")
    log = folder.log(failed)
    return RunFailed(f"{failed}: {failure_reason(log)}\n  log   {log}\n  page  {folder.index}")


@contextmanager
def _first_signal_raises() -> Iterator[Callable[[], None]]:
    """Turn the first signal that asks this program to end into an exception, and ignore those that follow.

    Cleaning up takes seconds, and a second Ctrl-C must not leave half of it undone. Outside the main thread, where
    Python hands out no signals, nothing changes.

    Yields:
        A function that ignores every further signal at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def ignore() -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)

    def on_signal(number: int, frame: FrameType | None) -> None:
        ignore()
        raise _Signalled(number)

    before = {number: signal.signal(number, on_signal) for number in ENDING}
    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
