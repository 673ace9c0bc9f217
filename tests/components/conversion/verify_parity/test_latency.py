"""Timing models in turn: who was asked when, and what is made of it; no time is asserted that a machine decides."""

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock.components.contracts.reports import Latency
from penstock.components.conversion.verify_parity import latency
from penstock.components.conversion.verify_parity.latency import cpu_name, measure_latency

IMAGES = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2, 1)


class Clock:
    """A clock that moves only when a model answers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[tuple[str, int]] = []

    def perf_counter(self) -> float:
        return self.now


class Timed:
    """A model that takes the next of `seconds` for each call."""

    def __init__(self, name: str, seconds: Iterator[float], clock: Clock) -> None:
        self.name, self.seconds, self.clock = name, seconds, clock

    def predict(self, images: np.ndarray) -> None:
        self.clock.asked.append((self.name, len(images)))
        self.clock.now += next(self.seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    return clock


def calls(*rounds: float) -> Iterator[float]:
    """Three warm-up calls, then three calls a round."""
    yield from [9.0] * 3
    for seconds in rounds:
        yield from [seconds, seconds, 100 * seconds]  # one call that somebody interrupted


def test_models_take_turns_and_ratios_are_taken_within_a_round(clock: Clock) -> None:
    # The machine is slow in the second round and slower in the third, for both.
    models = {"fp32": Timed("fp32", calls(1.0, 4.0, 10.0), clock), "int8": Timed("int8", calls(0.5, 2.5, 4.0), clock)}

    found = measure_latency(models, IMAGES, [2], rounds=3, seconds=0)  # type: ignore[arg-type]

    assert found["fp32"] == (Latency(batch=2, milliseconds=4000, lowest=1000, highest=10_000, speedup=1),)
    assert found["int8"] == (Latency(batch=2, milliseconds=2500, lowest=500, highest=4000, speedup=2),)
    asked = [name for name, _ in clock.asked]
    assert asked == ["fp32"] * 3 + ["int8"] * 3 + (["fp32"] * 3 + ["int8"] * 3) * 3


def test_a_batch_larger_than_the_rows_repeats_them(clock: Clock) -> None:
    found = measure_latency({"fp32": Timed("fp32", iter([1.0] * 100), clock)}, IMAGES, [1, 7],  # type: ignore[dict-item]
                            rounds=3, seconds=0)

    assert {rows for _, rows in clock.asked} == {1, 7}
    assert [entry.batch for entry in found["fp32"]] == [1, 7]


def test_a_round_lasts_as_long_as_it_is_told(clock: Clock) -> None:
    measure_latency({"fp32": Timed("fp32", iter([1.0] * 100), clock)}, IMAGES, [1], rounds=3,  # type: ignore[dict-item]
                    seconds=9.5)

    assert len(clock.asked) == 3 + 3 * 10


@pytest.mark.parametrize(("machine", "text", "expected"), [
    ("x86_64", "model name\t: Some Xeon\nflags\t\t: avx2 avx512_vnni\n", "Some Xeon with VNNI"),
    ("x86_64", "model name\t: Some i3\nflags\t\t: avx2\n", "Some i3 without VNNI"),
    ("aarch64", "processor\t: 0\nmodel name\t: Some Arm\n", "Some Arm"),
])
def test_the_cpu_is_named_with_what_int8_needs(machine: str, text: str, expected: str, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(latency, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)

    assert cpu_name() == expected


def test_without_that_file_the_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "Path", lambda _: tmp_path / "nothing")

    assert cpu_name()
