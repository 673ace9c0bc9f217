"""Compare ways to do the same thing: in turn, several rounds in one process, medians and ratios in one table.

A shared machine changes its speed from minute to minute; a ratio within one run holds where a figure does not.
"""

import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS = 3


def compare(title: str, unit: str, ways: Mapping[str, Callable[[], int]]) -> str:
    """Time each way `ROUNDS` times, round-robin; the first is the peer that the others are measured against.

    Args:
        ways: by name, a function that does the work and returns how many units it did.

    Returns:
        A table: units per second, median (minimum-maximum), and the ratio of medians to the first way's.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            done = way()
            rates[name].append(done / (time.perf_counter() - started))
    peer = statistics.median(next(iter(rates.values())))
    width = max(map(len, rates))
    lines = [f"\n{title} ({unit}/s, median of {ROUNDS} interleaved rounds)"]
    for name, measured in rates.items():
        middle = statistics.median(measured)
        spread = f"({min(measured):,.0f}-{max(measured):,.0f})"
        lines.append(f"  {name:<{width}}  {middle:>10,.0f} {spread:<20} {middle / peer:6.2f}x")
    return "\n".join(lines)
