"""The interval of one share: a published value, and what no trial at all can say."""

import pytest

from penstock.components.contracts.reports import Interval
from penstock.components.evidence.fixed import proportion


def test_a_proportion_is_wilsons() -> None:
    found = proportion(81, 263, 0.95)  # Newcombe 1998, table I

    assert (found.estimate, found.lower, found.upper) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert proportion(0, 0, 0.95) == Interval(estimate=0, lower=0, upper=1)
