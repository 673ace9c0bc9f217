"""The drift monitor: false alarms no more often than promised, changes found and named, and a state to go on from."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import beta, norm

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.drift_bets import Bets, bets, capital_after, growth
from penstock.components.evidence.drift_stream import DriftDecision, DriftMonitor

REFERENCE = [4000, 3000, 2000, 1000]
LIMITS = st.floats(0.001, 0.999)


def fed(monitor: DriftMonitor, batches: list[list[int]]) -> DriftMonitor:
    for batch in batches:
        monitor.update(np.array(batch, dtype=int))
    return monitor


@given(LIMITS, st.floats(0, 1))
def test_nobody_gains_within_the_limits(limit: float, part: float) -> None:
    above, below = bets([0.0], [limit]), bets([limit], [1.0])

    for who, share in ((above, limit * part), (below, limit + (1 - limit) * part)):
        expected = share * np.exp(who.gain) + (1 - share) * np.exp(who.loss)
        assert (expected <= 1 + 1e-9).all()
        assert len(who.part) == 6


def test_nobody_bets_against_what_cannot_be() -> None:
    assert len(bets([0.0, 0.2], [1.0, 0.3]).part) == 2 * 6
    assert set(bets([0.0, 0.2], [1.0, 0.3]).part) == {1}


@pytest.mark.parametrize("session", [2, 5])
def test_a_root_makes_sessions_of_equal_requests_fair(session: int) -> None:
    who = bets([0.0], [0.3])

    all_in, all_out = (np.exp(growth(who, [[hits]], [session], block=session))[0] for hits in (session, 0))
    without_root = np.exp(growth(who, [[session]], [session]))[0]

    assert (0.3 * all_in + 0.7 * all_out <= 1 + 1e-9).all()
    assert (0.3 * without_root > 1).any()


def test_the_detector_by_hand() -> None:
    who = Bets(np.array([0]), np.log([1.5]), np.log([0.75]))  # a share of 1/3 is the limit, 1/2 is believed in
    capital = np.array([-np.inf])

    for hits, requests in ((1, 1), (0, 1), (2, 2)):
        capital = capital_after(capital, requests, growth(who, [hits], requests))

    assert np.exp(capital[0]) == pytest.approx(((1 * 1.5 + 1) * 0.75 + 2) * 1.5**2)


def test_capital_is_expected_to_be_the_requests_at_the_limit() -> None:
    who = bets([0.0], [0.2])
    streams = np.array(list(itertools.product([0, 1], repeat=6)))  # all that can happen
    capital = np.full((len(streams), len(who.part)), -np.inf)

    for request in streams.T:
        capital = capital_after(capital, np.ones(len(streams)), growth(who, request[:, None], np.ones(len(streams))))

    chance = 0.2 ** streams.sum(axis=1) * 0.8 ** (6 - streams.sum(axis=1))
    assert chance @ np.exp(logsumexp(capital, axis=1)) == pytest.approx(6)


def test_run_length_is_at_least_as_promised_at_the_limit() -> None:
    rng, arl, runs = np.random.default_rng(2), 200, 1000
    monitor = DriftMonitor.of_classes([900, 100], arl=arl)
    who, chance = bets(monitor.lower, monitor.upper), [monitor.lower[0], monitor.upper[1]]
    capital, length = np.full((runs, len(who.part)), -np.inf), np.full(runs, 10 * arl)
    for done in range(10, 10 * arl, 10):
        events = rng.multinomial(10, chance, size=runs)
        capital = capital_after(capital, np.full(runs, 10), growth(who, events, np.full(runs, 10)))
        alarm = (logsumexp(capital, axis=1) >= math.log(arl)) & (length == 10 * arl)
        length[alarm] = done

    assert length.mean() - 5 * length.std() / runs**0.5 >= arl
    early = float((length <= arl / 10).mean())
    assert early - 5 * math.sqrt(early * (1 - early) / runs) <= 0.1


def test_limits_are_clopper_and_pearsons() -> None:
    monitor = DriftMonitor.of_classes([30, 70, 0], level=0.94, tolerance=0.02)

    assert monitor.lower == pytest.approx([beta.ppf(0.01, 30, 71) - 0.02, beta.ppf(0.01, 70, 31) - 0.02, 0])
    assert monitor.upper == pytest.approx([beta.ppf(0.99, 31, 70) + 0.02, beta.ppf(0.99, 71, 30) + 0.02,
                                           beta.ppf(0.99, 1, 100) + 0.02])
    assert monitor.shares.tolist() == [0.3, 0.7, 0.0]


@pytest.mark.parametrize("digits", [9, 1, 0])
def test_limits_of_scores_hold_as_often_as_promised(digits: int) -> None:
    rng, runs, held = np.random.default_rng(3), 1000, 0
    for _ in range(runs):
        monitor = DriftMonitor.of_scores(np.round(rng.normal(size=200), digits), level=0.8, quantiles=(0.1, 0.5, 0.9))
        assert monitor.edges is not None
        below = np.isin(np.nextafter(monitor.edges, np.inf), monitor.edges)
        largest = np.round(monitor.edges * 10**digits) - below  # of the rounded values that belong to the part
        true = norm.cdf((largest + 0.5) / 10**digits)
        held += bool(((true >= monitor.lower - 1e-12) & (true <= monitor.upper + 1e-12)).all())

    assert held / runs >= 0.8 - 5 * math.sqrt(0.8 * 0.2 / runs)


def test_tied_scores_are_watched_up_to_and_below() -> None:
    monitor = DriftMonitor.of_scores([0.0] * 970 + [1.0] * 30, tolerance=0.01)
    assert monitor.edges is not None
    assert monitor.edges.tolist() == [0.0, np.nextafter(0.0, -1)]

    monitor.update([0.0] * 700 + [1.0] * 300)

    assert "scores up to 0 made up 70.0%" in monitor.decide().reason
    monitor.restart()
    monitor.update([-1.0] * 500 + [0.0] * 500)
    assert "scores below -4.94066e-324 made up 50.0%" in monitor.decide().reason


def test_a_change_is_found_named_and_dated() -> None:
    rng = np.random.default_rng(4)
    monitor = DriftMonitor.of_classes(REFERENCE)
    for _ in range(50):
        monitor.update(rng.choice(4, 100, p=[0.4, 0.3, 0.2, 0.1]))
    before = monitor.decide()
    while not monitor.decide().drifting:
        monitor.update(rng.choice(4, 100, p=[0.3, 0.3, 0.2, 0.2]))

    found = monitor.decide()

    assert (before.drifting, before.part, before.samples) == (False, -1, 5000)
    assert before.reason.startswith("no drift shown in 5,000 requests: evidence ")
    assert found.part == 3
    assert abs(found.since - 5000) <= 300
    assert found.samples <= 6000
    assert found.reference == pytest.approx(0.1)
    assert found.share == pytest.approx(0.2, abs=0.06)
    assert found.reason == (f"drift: class 3 made up {found.share:.1%} of the last {found.samples - found.since:,} "
                            "requests; the reference has 10.0%, and 9.1% to 10.9% is no drift")
    assert found.log_e >= found.threshold == math.log(1e6)


def test_the_share_since_the_change_is_counted_right() -> None:
    monitor = DriftMonitor.of_classes(REFERENCE, arl=1000, block=2)

    monitor.update_counts([10, 20, 10, 160])

    assert monitor.decide().share == pytest.approx(0.8)
    assert (monitor.decide().part, monitor.decide().since) == (3, 0)


def test_an_alarm_stays_until_the_restart() -> None:
    monitor = DriftMonitor.of_classes(REFERENCE)
    monitor.update(np.full(200, 3))
    alarm = monitor.decide()
    monitor.update(np.zeros(50, int))

    assert alarm.drifting
    assert monitor.decide() == alarm
    monitor.restart()
    assert monitor.decide() == DriftMonitor.of_classes(REFERENCE).decide()
    assert monitor.to_state() == DriftMonitor.of_classes(REFERENCE).to_state()


def test_scores_that_move_are_found() -> None:
    rng = np.random.default_rng(5)
    monitor = DriftMonitor.of_scores(rng.normal(size=5000))
    monitor.update([])
    for _ in range(20):
        monitor.update(rng.normal(size=100))
    assert not monitor.decide().drifting
    for _ in range(10):
        monitor.update(rng.normal(0.5, size=100))
    assert monitor.decide().drifting
    assert monitor.decide().share < monitor.decide().reference


@given(st.lists(st.lists(st.integers(0, 3), max_size=30), max_size=12), st.integers(0, 12))
def test_a_restored_monitor_goes_on(batches: list[list[int]], at: int) -> None:
    straight = fed(DriftMonitor.of_classes(REFERENCE, arl=1000), batches)
    first = fed(DriftMonitor.of_classes(REFERENCE, arl=1000), batches[:at])

    state = json.loads(json.dumps(first.to_state(), allow_nan=False))
    second = fed(DriftMonitor.from_state(state), batches[at:])

    assert second.to_state() == straight.to_state()
    assert second.decide() == straight.decide()


@given(st.lists(st.integers(0, 3), max_size=60), st.randoms())
def test_the_order_within_a_batch_does_not_matter(batch: list[int], random: Any) -> None:
    mixed = list(batch)
    random.shuffle(mixed)
    counted = DriftMonitor.of_classes(REFERENCE)
    counted.update_counts(np.bincount(np.array(batch, int), minlength=4))

    assert fed(DriftMonitor.of_classes(REFERENCE), [batch]).to_state() == counted.to_state()
    assert fed(DriftMonitor.of_classes(REFERENCE), [mixed]).to_state() == counted.to_state()


def test_a_restored_monitor_of_scores_goes_on() -> None:
    rng = np.random.default_rng(6)
    monitor = DriftMonitor.of_scores(rng.integers(0, 5, 300) / 4)
    monitor.update(np.full(300, 0.75))

    restored = DriftMonitor.from_state(json.loads(json.dumps(monitor.to_state(), allow_nan=False)))

    assert isinstance(restored.decide(), DriftDecision)
    assert restored.decide() == monitor.decide()
    assert restored.decide().drifting
    assert restored.to_state() == monitor.to_state()


@pytest.mark.parametrize(("change", "text"), [
    ({"test": "RateTest"}, "the state of 'RateTest'"), ({"shares": None}, "damaged"), ({"rise": [0.0]}, "capitals"),
    ({"lower": [0.1]}, "damaged"), ({"options": {}}, "damaged"), ({"alarm": [1]}, "damaged"),
    ({"samples": -5}, "-5 samples"), ({"samples": math.inf}, "damaged"),
    ({"options": {"tolerance": 0.01, "arl": -1, "level": 0.99, "block": 1}}, "arl=-1")])
def test_a_damaged_state_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError, match=text):
        DriftMonitor.from_state(DriftMonitor.of_classes(REFERENCE).to_state() | change)


@pytest.mark.parametrize("name", ["log_capital", "rise"])
def test_a_state_with_capital_that_is_no_number_is_refused(name: str) -> None:
    """It would never raise an alarm again."""
    state = DriftMonitor.of_classes(REFERENCE).to_state()
    with pytest.raises(ContractError, match="damaged"):
        DriftMonitor.from_state(state | {name: [math.nan] * len(state[name])})


@pytest.mark.parametrize("options", [{"tolerance": -0.1}, {"tolerance": 1.0}, {"level": 0.4}, {"level": 1.0},
                                     {"arl": 50}, {"arl": math.inf}, {"block": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        DriftMonitor.of_classes(REFERENCE, **options)


def test_references_that_cannot_serve_are_explained() -> None:
    for reference in ([5], [0, 0]):
        with pytest.raises(ContractError, match="are no reference"):
            DriftMonitor.of_classes(reference)
    for broken in ([0.5, 0.5], [-1, 2], [math.nan, 1], [[1, 2]]):
        with pytest.raises(ContractError, match="no count per class"):
            DriftMonitor.of_classes(broken)
    with pytest.raises(ContractError, match="no change could be shown"):
        DriftMonitor.of_classes(REFERENCE, tolerance=0.9)
    for quantiles in ((), (0.5, 0.5), (0.0, 0.5), (0.9, 0.1)):
        with pytest.raises(ConfigError, match="quantiles"):
            DriftMonitor.of_scores([1.0, 2.0], quantiles=quantiles)
    for scores in ([], [[1.0]], [math.nan, 1.0]):
        with pytest.raises(ContractError, match="is no sample"):
            DriftMonitor.of_scores(scores)


def test_batches_that_do_not_fit_are_explained() -> None:
    classes, scores = DriftMonitor.of_classes(REFERENCE), DriftMonitor.of_scores(np.arange(100.0))
    for batch in ([4], [-1], [0.5], [[1, 2]]):
        with pytest.raises(ContractError, match=r"classes 0 \.\. 3"):
            classes.update(batch)
    with pytest.raises(ContractError, match="3 counts do not fit a monitor of 4 classes"):
        classes.update_counts([1, 2, 3])
    with pytest.raises(ContractError, match="give the scores"):
        scores.update_counts([1] * 7)
    for values in ([math.nan], [[1.0]]):
        with pytest.raises(ContractError, match="leave NaN out"):
            scores.update(values)
    assert classes.decide().samples == scores.decide().samples == 0
