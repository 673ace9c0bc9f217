"""Knative's traffic semantics, by value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.control.laptop.traffic import RollOut, Target, needed, settle, targets, weights

OLD, NEW = "m-00001", "m-00002"


@pytest.mark.parametrize(("state", "serving", "expected"), [
    # nothing is ready yet
    (RollOut(created=OLD), set(), []),
    # a first deploy gets everything, whatever the percent says
    (RollOut(100, OLD, OLD), {OLD}, [Target(OLD, 100, True)]),
    (RollOut(10, OLD, OLD), {OLD}, [Target(OLD, 100, True)]),
    (RollOut(0, OLD, OLD), {OLD}, [Target(OLD, 100, True)]),
    # N percent to the newest, the rest to what was rolled out
    (RollOut(20, NEW, NEW, OLD), {OLD, NEW}, [Target(NEW, 20, True), Target(OLD, 80, False)]),
    (RollOut(1, NEW, NEW, OLD), {OLD, NEW}, [Target(NEW, 1, True), Target(OLD, 99, False)]),
    # promoted
    (RollOut(100, NEW, NEW, OLD), {OLD, NEW}, [Target(NEW, 100, True)]),
    # rolled back
    (RollOut(0, NEW, NEW, OLD), {OLD, NEW}, [Target(NEW, 0, True), Target(OLD, 100, False)]),
    (RollOut(0, NEW, NEW, OLD), {OLD}, [Target(NEW, 0, True), Target(OLD, 100, False)]),
    # a new revision that is not ready: both entries point to the old one, as on a real cluster
    (RollOut(20, NEW, OLD, OLD), {OLD}, [Target(OLD, 20, True), Target(OLD, 80, False)]),
    (RollOut(100, NEW, OLD, OLD), {OLD}, [Target(OLD, 100, True)]),
    # a canary that was ready and died
    (RollOut(20, NEW, NEW, OLD), {OLD}, [Target(NEW, 0, True), Target(OLD, 100, False)]),
    (RollOut(100, NEW, NEW, OLD), {OLD}, [Target(NEW, 0, True), Target(OLD, 100, False)]),
    # a stable one that died keeps its share: it is being started again
    (RollOut(100, OLD, OLD, OLD), set(), [Target(OLD, 100, True)]),
    (RollOut(20, NEW, NEW, OLD), {NEW}, [Target(NEW, 20, True), Target(OLD, 80, False)]),
])
def test_who_gets_what(state: RollOut, serving: set[str], expected: list[Target]) -> None:
    assert targets(state, serving) == expected


@given(st.integers(0, 100), st.sets(st.sampled_from([OLD, NEW])), st.sampled_from([OLD, NEW]))
def test_the_shares_add_up_to_100(percent: int, serving: set[str], ready: str) -> None:
    assert sum(weights(targets(RollOut(percent, NEW, ready, OLD), serving)).values()) == 100


def test_all_traffic_on_the_newest_revision_rolls_it_out() -> None:
    first = settle(RollOut(100, OLD, OLD), [Target(OLD, 100, True)], {OLD})
    assert first == RollOut(100, OLD, OLD, OLD)

    promoted = settle(RollOut(100, NEW, NEW, OLD), [Target(NEW, 100, True)], {OLD, NEW})
    assert promoted == RollOut(100, NEW, NEW, NEW, OLD)


def test_a_share_rolls_nothing_out() -> None:
    state = RollOut(20, NEW, NEW, OLD)

    assert settle(state, targets(state, {OLD, NEW}), {OLD, NEW}) == state


def test_what_is_asked_for_counts_only_when_the_gateway_has_it() -> None:
    state = RollOut(100, NEW, NEW, OLD)

    assert settle(state, [Target(NEW, 20, True), Target(OLD, 80, False)], {OLD, NEW}) == state


def test_a_percent_after_the_promotion_goes_back_to_the_revision_before() -> None:
    state, both = RollOut(0, NEW, NEW, NEW, OLD), [Target(NEW, 0, True), Target(NEW, 100, False)]

    assert needed(state) == {OLD, NEW}
    assert settle(state, both, {NEW}) == state, "the one before must serve first"
    back = settle(state, both, {OLD, NEW})
    assert weights(targets(back, {OLD, NEW})) == {OLD: 100}
    assert needed(back) == {OLD}


@pytest.mark.parametrize(("state", "expected"), [
    (RollOut(created=OLD), {OLD}),
    (RollOut(0, OLD), {OLD}),
    (RollOut(20, NEW, OLD, OLD), {OLD, NEW}),
    (RollOut(20, NEW, NEW, OLD), {OLD, NEW}),
    (RollOut(100, NEW, NEW, OLD), {OLD, NEW}),
    (RollOut(0, NEW, NEW, OLD), {OLD}),
    (RollOut(100, NEW, NEW, NEW, OLD), {NEW}),
])
def test_which_revisions_run(state: RollOut, expected: set[str]) -> None:
    assert needed(state) == expected
