"""How a run ends: what is left over is ended, the traffic is put back, and the folder says what happened.

Called by `penstock run` and, where that was killed, by its child.
"""

from penstock.pipelines.progress import Progress
from penstock.pipelines.run_folder import Owner, RunFolder, RunStatus
from penstock.pipelines.session import end_session
from penstock.pipelines.summary import Summary

__all__ = ["clean_up", "end_steps", "finish"]


def clean_up(folder: RunFolder, session: Owner | None = None) -> Summary:
    """End a run that was cut off: no process of it stays, and a canary of it takes no more traffic.

    Args:
        session: the leader of the steps' session; None takes the one in `run.json`.
    """
    end_steps(folder, session)
    return finish(folder, "interrupted")


def end_steps(folder: RunFolder, session: Owner | None = None) -> None:
    """End what is left of a run's steps, then give its canary's traffic back to the stable version."""
    record = folder.load()
    leader = session or record.session
    if leader:
        end_session(leader.pid, leader.created)
    from penstock.components.control.connect import connect
    from penstock.components.deployment.restore.step import run as restore

    restore(record.scalars["service"], record.scalars["registry"], folder.run_id, connect())


def finish(folder: RunFolder, status: RunStatus) -> Summary:
    """Write `summary.json`, `index.html` and the status in `run.json`."""
    from penstock.pipelines.index_page import write_index
    from penstock.pipelines.summary import summarise

    progress = Progress.read(folder.events).close()
    summary = summarise(folder, status, progress)
    write_index(folder, summary, progress)
    folder.update(status=status)
    return summary
