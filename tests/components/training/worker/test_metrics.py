"""Metric lines: what is written is what Katib reads."""

import math
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.training.worker.metrics import format_metric, parse_metric

KATIB = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")  # its default filter, as Go's RE2 reads it too
NAMES = st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True)
VALUES = st.floats(allow_nan=False, allow_infinity=False)


def test_a_line_to_the_letter() -> None:
    at = datetime(2026, 11, 21, 6, 58, 0, 123456, UTC)

    assert format_metric("accuracy", 0.925, at) == "2026-11-21T06:58:00.123456000Z accuracy=9.250000e-01"


@given(NAMES, VALUES)
def test_katib_and_we_read_the_same(name: str, value: float) -> None:
    line = format_metric(name, value)

    found = KATIB.findall(line)
    assert [(match[0], float(match[1])) for match in found] == [parse_metric(line)]
    assert math.isclose(float(found[0][1]), value, rel_tol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_katib_would_take_for_success_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Katib would call this a success"):
        format_metric("loss", value)


def test_a_name_that_katib_would_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        format_metric("val/acc", 0.9)


@pytest.mark.parametrize("line", ["", "loss=1.0e-01", "2026-11-21 06:58:00,123 INFO epoch=1/3 seconds=1.2"])
def test_other_lines_are_no_metrics(line: str) -> None:
    assert parse_metric(line) is None
