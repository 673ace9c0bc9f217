"""The ways to break a promise: the traffic is what is stated; within the rules nothing breaks, outside they do."""

import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

RUNS = 300


@pytest.fixture
def misuse(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import misuse

    monkeypatch.setattr(misuse, "WINDOWS", 2500)
    return sys.modules[misuse.__name__]


@pytest.mark.parametrize("name", ["after every request", "after 100 requests", "at each error of either version",
                                  "at each error of stable"])
def test_requests_are_shared_out_and_fail_as_stated(misuse: ModuleType, name: str) -> None:
    drawn = misuse._complete(misuse.TRIGGERS[name](np.random.default_rng(0), 500), 500)
    sums = np.zeros(4)
    for window in islice(drawn, 600):
        assert ((window.stable > 0) == (window.canary > 0)).all()
        assert (window.stable_events <= window.stable).all()
        assert (window.canary_events <= window.canary).all()
        sums += [part.sum() for part in window]
    assert sums[3] / (sums[1] + sums[3]) == pytest.approx(0.05, rel=0.05)
    assert sums[0] / sums[1] == pytest.approx(0.1, rel=0.03)
    assert sums[2] / sums[3] == pytest.approx(0.12, rel=0.05)


def test_only_updates_that_follow_the_outcomes_break_the_promise(misuse: ModuleType) -> None:
    table = misuse._triggers(RUNS, 0)
    assert table == misuse._triggers(RUNS, 0)
    assert ["above α" in " ".join(row) for row in table.rows] == [False, False, True, True]


def test_only_a_share_that_changes_between_two_updates_breaks_the_promise(misuse: ModuleType) -> None:
    rows = misuse._one_window(RUNS, 0).rows
    assert ["above α" in " ".join(row) for row in rows] == [False, False, True]
    assert [cell.split(".")[0] for cell in rows[-1][1:]] == ["100"] * 3


def test_bursts_break_what_was_not_told_of_them(misuse: ModuleType) -> None:
    rows = misuse._bursts(12, 0).rows
    assert [(row[0], row[1], "above α" in row[2]) for row in rows] == [
        ("MixTest", "none", True), ("MixTest", "20", False), ("LatencyTest", "none", True)]
