"""Metric lines in the form that Katib's collectors parse, and their way back.

`<RFC3339Nano> name=1.234e-01`, one metric a line, on stdout. Katib 0.19 stores "unavailable" for a value that is not
finite and calls the trial a success, so such a value is never written: it is an error.
"""

import math
import re
from datetime import UTC, datetime

__all__ = ["format_metric", "parse_metric"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ([A-Za-z0-9_-]+)=([+-]?\d\.\d+e[+-]\d{2,3})")


def format_metric(name: str, value: float, at: datetime | None = None) -> str:
    """Write one metric line, without its line end.

    Raises:
        ValueError: Katib would misread the name, or the value is not finite.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"metric name {name!r}: Katib reads letters, digits, _ and - only")
    if not math.isfinite(value):
        raise ValueError(f"metric {name} is {value}: Katib would call this a success")
    return f"{(at or datetime.now(UTC)):%Y-%m-%dT%H:%M:%S.%f}000Z {name}={value:.6e}"


def parse_metric(line: str) -> tuple[str, float] | None:
    """Read a line as `format_metric` writes it; None for any other."""
    found = _LINE.fullmatch(line.strip())
    return (found[1], float(found[2])) if found else None
