"""The step table of a run: live on a terminal, one plain line per finished step elsewhere.

Draws what `progress` says; knows nothing of kfp.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from penstock.pipelines.progress import Event, Progress, StepState

__all__ = ["duration", "step_table"]

Show = Callable[[Event, Progress], None]
MARKS = {"waiting": ("·", "dim"), "running": ("▸", "bold cyan"), "succeeded": ("✓", "green"), "cached": ("=", "green"),
         "failed": ("✗", "bold red"), "skipped": ("–", "dim"), "interrupted": ("!", "bold yellow")}


def duration(seconds: float) -> str:
    """Format a time, for example `4.2 s` or `3 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


@contextmanager
def step_table(stream: TextIO, terminal: bool | None = None) -> Iterator[Show]:
    """Show the steps on `stream` for the length of the block.

    Args:
        terminal: whether `stream` can move its cursor; None asks it.

    Yields:
        A function to call with each event and the progress after it.
    """
    if terminal if terminal is not None else stream.isatty():
        with _live(stream) as show:
            yield show
    else:
        yield lambda event, progress: _print_line(stream, event, progress)


def _print_line(stream: TextIO, event: Event, progress: Progress) -> None:
    if event.kind in ("succeeded", "cached", "failed"):
        step = next(step for step in progress if step.name == event.step)
        stream.write(f"{_line(step)}\n")
        stream.flush()


def _line(step: StepState) -> str:
    took = "" if step.status == "cached" else duration(step.seconds)
    return f"{MARKS[step.status][0]} {step.name:<16} {step.status:<11} {took:>12}".rstrip()


@contextmanager
def _live(stream: TextIO) -> Iterator[Show]:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    shown = Progress()

    def draw() -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column()
        table.add_column(min_width=16)
        table.add_column(min_width=11)
        table.add_column(justify="right", min_width=12)
        for step in shown:
            mark, style = MARKS[step.status]
            seconds = step.seconds_until(time.time())
            blank = step.status in ("waiting", "skipped", "cached")
            table.add_row(mark, step.name, step.status, "" if blank else duration(seconds), style=style)
        return table

    def show(event: Event, progress: Progress) -> None:
        nonlocal shown
        shown = progress
        live.refresh()

    with Live(get_renderable=draw, console=Console(file=stream), refresh_per_second=4) as live:
        try:
            yield show
        finally:
            shown.close()  # after a signal the last picture must not say that something runs
