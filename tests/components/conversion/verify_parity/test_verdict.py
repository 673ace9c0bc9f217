"""What ships, by value: limits, speed, and what is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.errors import ConfigError
from penstock.components.contracts.reports import Latency
from penstock.components.conversion.verify_parity.verdict import (
    Figures,
    Name,
    VerifyParityConfig,
    measure_figures,
    pick,
)

ROWS, CLASSES = 200, 3
LABELS = np.arange(ROWS) % CLASSES
TORCH = np.eye(CLASSES, dtype=np.float32)[LABELS] * 4  # right on every row, by 4
CPU = "Some CPU with VNNI"
DEFAULTS = VerifyParityConfig()


def timed(*speedups: float) -> tuple[Latency, ...]:
    return tuple(Latency(batch=batch, milliseconds=2 / speedup, lowest=1, highest=3, speedup=speedup)
                 for batch, speedup in zip((1, 64), speedups, strict=True))


def figures(name: Name, shift: float = 0.0, wrong: int = 0, speedups: tuple[float, float] = (2.5, 2.0),
            golden: float = 0.0) -> Figures:
    """A candidate whose logits are off by `shift`, and that answers the first `wrong` rows with another class."""
    logits = TORCH + np.float32(shift)
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    return measure_figures(name, f"version-{name}", 1000, logits, TORCH, LABELS, (golden, 0.01),
                           timed(*((1.0, 1.0) if name == "fp32" else speedups)))


def both(config: VerifyParityConfig = DEFAULTS, fp32_shift: float = 0.0, **int8: object) -> tuple[str, str]:
    found = pick([figures("fp32", fp32_shift), figures("int8", **int8)], config, CPU)  # type: ignore[arg-type]
    return found.shipped, found.reason


def test_figures_by_value() -> None:
    logits = TORCH.copy()
    logits[0] = [0, 4, 0]  # was right, is wrong
    logits[3, 1] += 0.5
    found = measure_figures("int8", "v", 10, logits, TORCH, LABELS, (0.1, 0.2), timed(3, 1.5))

    assert found.differences.shape == (ROWS, CLASSES)
    assert (found.differences.max(), found.differences.sum()) == (4, 8.5)
    assert (found.changed.sum(), found.gained, found.lost, found.unanswered) == (1, 0, 1, 0)
    assert found.accuracy == 199 / 200
    assert found.speedup == 1.5


def test_int8_ships_where_it_is_faster_and_the_reason_has_the_figures() -> None:
    shipped, reason = both(shift=0.05, wrong=1)

    assert shipped == "int8"
    assert reason == ("int8 ships: it is 2.50 times as fast as fp32 at batch 1 and 2.00 times at batch 64, measured on "
                      "this CPU (Some CPU with VNNI); of 200 rows 0.50% get another class than from torch, accuracy "
                      "changes by -0.50 points, logits by up to 4.1.")


@pytest.mark.parametrize("speedups", [(2.5, 0.9), (1.05, 2.0), (0.57, 0.6)])
def test_int8_that_is_not_faster_at_every_batch_size_is_why_fp32_ships(speedups: tuple[float, float]) -> None:
    shipped, reason = both(speedups=speedups)

    assert shipped == "fp32"
    assert reason.startswith(f"fp32 ships, because int8 keeps the limits but is not faster: {speedups[0]:.2f} times as "
                             f"fast as fp32 at batch 1 and {speedups[1]:.2f} times at batch 64, measured on this CPU")
    assert "where 1.1 times is asked for. fp32 computes what torch computes: of 200 rows 0.00%" in reason


@pytest.mark.parametrize(("int8", "text"), [
    ({"wrong": 3}, "int8 changed predictions is 0.015, must be <= 0.01; int8 accuracy drop is 0.015, must be <= 0.005"),
    ({"golden": 0.5}, "int8 golden rows is 0.5, must be <= 0.01"),
    ({"golden": float("nan")}, "int8 golden rows is 3.403e+38, must be <= 0.01"),
    ({"shift": float("nan")}, "int8 rows answered with NaN is 200, must be <= 0"),
    ({"shift": float("inf")}, "int8 rows answered with NaN is 200, must be <= 0"),
])
def test_int8_beyond_a_limit_is_why_fp32_ships(int8: dict[str, float], text: str) -> None:
    found = pick([figures("fp32"), figures("int8", **int8)], DEFAULTS, CPU)  # type: ignore[arg-type]

    assert found.shipped == "fp32"
    assert found.reason.startswith(f"fp32 ships, because int8 breaks a limit: {text}")
    assert [entry.eligible for entry in found.candidates] == [True, False]
    failed = [check for check in found.checks if not check.passed]
    assert failed
    assert not any(check.blocking for check in failed)


def test_nothing_ships_where_every_candidate_is_beyond_a_limit() -> None:
    found = pick([figures("fp32", shift=0.01), figures("int8", wrong=9)], DEFAULTS, CPU)

    assert found.shipped == ""
    assert found.reason == ("Nothing ships: fp32 breaks a limit: fp32 max difference is 0.01, must be <= 0.001; int8 "
                            "breaks a limit: int8 changed predictions is 0.045, must be <= 0.01; int8 accuracy drop is "
                            "0.045, must be <= 0.005.")
    assert {check.name for check in found.checks if check.blocking and not check.passed} == {
        "fp32 max difference", "int8 changed predictions", "int8 accuracy drop"}


def test_a_slow_int8_does_not_stand_in_for_a_broken_fp32() -> None:
    shipped, reason = both(fp32_shift=0.01, speedups=(0.9, 0.9))

    assert shipped == ""
    assert "int8 keeps the limits but is not faster: 0.90 times" in reason


def test_what_is_asked_for_ships_or_nothing_does() -> None:
    fp32, int8 = VerifyParityConfig(ship="fp32"), VerifyParityConfig(ship="int8")

    assert both(fp32)[0] == "fp32"
    assert both(fp32)[1].startswith("fp32 ships, as asked for by ship=fp32: it computes what torch computes")
    assert both(fp32, fp32_shift=0.01) == (
        "", "Nothing ships: fp32 breaks a limit: fp32 max difference is 0.01, must be <= 0.001.")
    slow = both(int8, speedups=(0.5, 0.5))
    assert slow[0] == "int8"
    assert slow[1].startswith("int8 ships: it is 0.50 times as fast as fp32 at batch 1")
    assert both(int8, wrong=9)[0] == ""


def test_where_nothing_was_quantized_fp32_ships() -> None:
    found = pick([figures("fp32")], DEFAULTS, CPU)

    assert found.shipped == "fp32"
    assert found.reason.startswith("fp32 ships, because nothing was quantized: it computes what torch computes")


def test_every_limit_has_an_off_value_but_nan_and_golden_rows() -> None:
    off = {"max_accuracy_drop": 1, "max_changed_predictions": 1, "max_fp32_difference": 0, "max_int8_difference": 0}
    config = VerifyParityConfig.parse(off)
    found = pick([figures("fp32", shift=5, wrong=200), figures("int8", shift=5, wrong=200)], config, CPU)

    assert found.shipped == "int8"
    assert {check.name.split(" ", 1)[1] for check in found.checks} == {
        "rows answered with NaN", "golden rows", "speedup"}
    assert both(VerifyParityConfig(max_int8_difference=0.04), shift=0.05)[0] == "fp32"
    assert both(VerifyParityConfig(max_int8_difference=0.06), shift=0.05)[0] == "int8"


@given(st.integers(0, ROWS), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["auto", "fp32", "int8"]),
       st.floats(0.1, 10), st.floats(0.1, 10))
def test_what_ships_always_keeps_the_limits(wrong: int, drop: float, changed: float, ship: str, first: float,
                                            second: float) -> None:
    config = VerifyParityConfig.parse({"max_accuracy_drop": drop, "max_changed_predictions": changed, "ship": ship})
    found = pick([figures("fp32"), figures("int8", wrong=wrong, speedups=(first, second))], config, CPU)

    int8 = found.candidates[1]
    kept = (drop == 1 or wrong / ROWS <= drop) and (changed == 1 or wrong / ROWS <= changed)
    assert int8.eligible == kept
    if found.shipped == "int8":
        assert kept
        assert ship == "int8" or min(first, second) >= config.min_speedup
    else:
        assert found.shipped == ("" if ship == "int8" else "fp32")


def test_configuration_refuses_what_cannot_be() -> None:
    assert VerifyParityConfig.parse({"batches": [1.0, 64.0], "rounds": 3.0}).batches == (1, 64)
    for options in ({"rounds": 2}, {"batches": []}, {"batches": [0]}, {"ship": "int4"}, {"min_speedup": 0.5}):
        with pytest.raises(ConfigError):
            VerifyParityConfig.parse(options)
