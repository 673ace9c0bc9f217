"""Two models on the same rows: by value, and symmetric in who is who."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.evidence.paired import compare

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


def rows(both: int, gained: int, lost: int, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make (candidate, serving) with these numbers of right answers."""
    candidate = [True] * (both + gained) + [False] * (lost + neither)
    serving = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return np.array(candidate), np.array(serving)


def test_by_value() -> None:
    found = compare(*rows(both=80, gained=12, lost=5, neither=3))

    assert (found.rows, found.gained, found.lost) == (100, 12, 5)
    assert found.difference.estimate == pytest.approx(0.07)
    # Bonett and Price: p12 = 13/102, p21 = 6/102, 7/102 +- 1.96 sqrt((19/102 - (7/102)^2) / 102)
    assert (found.difference.lower, found.difference.upper) == pytest.approx((-0.01412, 0.15138), abs=1e-4)
    assert found.p_value == pytest.approx(0.143463, abs=1e-6)  # 2 * P(X <= 5), X ~ B(17, 1/2)


def test_equal_models_differ_by_nothing_and_more_rows_say_so_more_firmly() -> None:
    few, many = compare(*rows(both=10, gained=0, lost=0)), compare(*rows(both=10_000, gained=0, lost=0))

    assert few.difference.estimate == many.difference.estimate == 0
    assert few.p_value == many.p_value == 1
    assert many.difference.upper < 0.0003 < few.difference.upper


@given(answers, st.floats(0.5, 0.999))
def test_swapping_the_models_swaps_the_sign(both: list[tuple[bool, bool]], level: float) -> None:
    candidate, serving = np.array(both).T
    one, other = compare(candidate, serving, level), compare(serving, candidate, level)

    assert one.difference.estimate == pytest.approx(candidate.mean() - serving.mean())
    assert one.difference.lower == pytest.approx(-other.difference.upper)
    assert one.difference.upper == pytest.approx(-other.difference.lower)
    assert one.p_value == pytest.approx(other.p_value)
    assert -1 <= one.difference.lower < one.difference.upper <= 1


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    kinds = random.choice(4, size=(2_000, 80), p=[0.8, 0.1, 0.05, 0.05])  # both, gained, lost, neither
    found = [compare(np.isin(row, [0, 1]), np.isin(row, [0, 2])).difference for row in kinds]

    covered = np.mean([entry.lower <= 0.05 <= entry.upper for entry in found])
    assert 0.93 <= covered <= 0.98
