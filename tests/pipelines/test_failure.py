"""The reason of a failed step, taken from its log."""

from pathlib import Path

import pytest

from penstock.pipelines.failure import failure_reason

OURS = """    reading
Traceback (most recent call last):
  File "a.py", line 1, in f
    x()
ValueError: inner

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/tmp/x.py", line 9, in require
    raise StepError("no")
penstock.components.contracts.errors.StepError: accuracy 0.71 is below 0.82;
  train longer
"""


@pytest.mark.parametrize(("text", "reason"), [
    (OURS, "accuracy 0.71 is below 0.82;\n  train longer"),
    ("Traceback (most recent call last):\n  File x\nKeyError: 'a'\n\n", "KeyError: 'a'"),
    ("Traceback (most recent call last):\n  File x\nKeyboardInterrupt\n", "KeyboardInterrupt"),
    ("one\nKilled\n", "Killed"),
    ("", "it left no output"),
])
def test_the_last_error_of_the_log_is_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    log = tmp_path / "step.log"
    log.write_text(text, encoding="utf-8")
    assert failure_reason(log) == reason


def test_a_step_without_a_log_says_so(tmp_path: Path) -> None:
    assert failure_reason(tmp_path / "absent.log") == "it left no output"
