"""Why a step failed, in the step's own words: the error that ended its log.

Reads text; judges nothing.
"""

import re
from pathlib import Path

__all__ = ["failure_reason"]

TRACEBACK = "Traceback (most recent call last):"
OURS = re.compile(r"^penstock\.[\w.]*\.(\w+): ")


def failure_reason(log: Path) -> str:
    """Return the text of the exception that a step died of, or its last line where it left no traceback.

    The class of one of our own errors is left out, because its text says it all.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines() if log.is_file() else []
    if not lines:
        return "it left no output"
    starts = [index for index, line in enumerate(lines) if line == TRACEBACK]
    if not starts:
        return lines[-1].strip()
    after = lines[starts[-1] + 1 :]
    error = next((index for index, line in enumerate(after) if line and not line.startswith(" ")), len(after) - 1)
    return OURS.sub("", "\n".join(after[error:]))
