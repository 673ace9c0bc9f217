"""The step table: plain lines where nobody can move a cursor, one live table where somebody can."""

import io

import pytest

from penstock.pipelines.progress import Event, Progress
from penstock.pipelines.table import duration, step_table

EVENTS = [Event(kind="planned", time=0, steps=("ingest", "train", "export")),
          Event(kind="cached", time=1, step="ingest"), Event(kind="started", time=1, step="train"),
          Event(kind="failed", time=95.4, step="train")]


def shown(terminal: bool) -> str:
    stream, progress = io.StringIO(), Progress()
    with step_table(stream, terminal) as show:
        for event in EVENTS:
            progress.apply(event)
            show(event, progress)
    return stream.getvalue()


def test_elsewhere_each_finished_step_is_one_line() -> None:
    assert shown(terminal=False).splitlines() == [
        "= ingest           cached", "✗ train            failed        1 min 34 s"]


def test_on_a_terminal_every_step_is_in_the_table_and_the_last_picture_has_none_running() -> None:
    table = shown(terminal=True)
    assert "1 min 34 s" in table
    last = table[table.rindex("ingest") :]
    assert "failed" in last
    assert "skipped" in last  # export
    assert "waiting" not in last


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
