"""Many metrics: who is named, against closed testing by brute force; what the verdict says; what each may cost."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.combining import HARD_STOP, budget, combine, named
from penstock.components.evidence.decision import NEVER, Decision, Verdict

evidence = st.lists(st.floats(-20, 20), min_size=1, max_size=7)


def metric(verdict: Verdict = "undecided", worse: float = 0.0, within: float = 0.0, more: int = 100,
           name: str = "errors", alpha: float = 0.05) -> Decision:
    return Decision(verdict, f"{name}: so it is", 0.1, 0.0, 0.2, 500, worse, within, alpha,
                    more if verdict == "undecided" else 0)


def stop(fired: bool, alpha: float = 0.005) -> Decision:
    return Decision("worse" if fired else "undecided", "hard stop: a burst", 0.9, 0.5, 1.0, 20,
                    math.log(1 / alpha) if fired else -math.inf, -math.inf, alpha, 0 if fired else NEVER)


@given(evidence, st.sampled_from([0.05, 0.2]))
def test_named_is_closed_testing_by_the_largest(log_e: list[float], alpha: float) -> None:
    """i is rejected if every set of hypotheses with i in it is: by the largest of its e-values, n / alpha or more."""
    found, values = named(log_e, alpha), np.exp(log_e)
    for i in range(len(values)):
        others = [j for j in range(len(values)) if j != i]
        least = min(values[[i, *part]].max() / (size + 1) for size in range(len(values))
                    for part in itertools.combinations(others, size))
        assert found[i] == (least >= 1 / alpha) or least == pytest.approx(1 / alpha)


@given(evidence)
def test_named_are_never_fewer_than_bonferronis_and_never_without_a_verdict(log_e: list[float]) -> None:
    found = named(log_e, 0.05)

    assert (found >= (np.array(log_e) >= math.log(len(log_e) / 0.05) + 1e-9)).all()
    if found.any():
        assert found[np.argmax(log_e)]


def test_named_works_on_many_runs_at_once() -> None:
    many = np.random.default_rng(0).normal(3, 4, (5, 6, 4))

    assert named(many, 0.05).tolist() == [[named(row, 0.05).tolist() for row in part] for part in many]
    assert named([-math.inf, 5.0], 0.05).tolist() == [False, True]


def test_all_within_is_within_and_the_closest_is_told() -> None:
    found = combine({"errors": metric("within", within=9), "p99": metric("within", within=4, name="p99")}, 0.05,
                    [stop(False)])

    assert (found.verdict, found.more, found.log_e_within) == ("within", 0, 4)
    assert found.reason == "all 2 metrics are within; the closest: p99: so it is"
    assert combine([metric("within", within=4)], 0.05).reason == "errors: so it is"


def test_one_open_metric_leaves_all_open() -> None:
    decisions = {"errors": metric("within", within=9), "p50": metric(more=70), "p99": metric(more=900)}
    found = combine(decisions, 0.05)

    assert (found.verdict, found.more) == ("undecided", 900)
    assert found.reason == "p99: errors: so it is. 2 of 3 metrics are open"
    hopeless = combine({**decisions, "mix": metric(more=NEVER, name="mix")}, 0.05)
    assert hopeless.more == NEVER
    assert hopeless.reason.startswith("mix: so it is")
    assert combine([metric(more=70)], 0.05).reason == "errors: so it is"


def test_a_metric_that_is_worse_by_itself_may_be_chance_among_many() -> None:
    names = [f"slice {number}" for number in range(20)]
    lone = {name: metric("within", worse=-3, within=9, name=name) for name in names}
    lone["slice 7"] = metric("worse", worse=math.log(25), name="slice 7")
    found = combine(lone, 0.05)
    assert (found.verdict, found.more) == ("undecided", NEVER)
    assert "slice 7: so it is. That may be chance where 20 metrics are looked at" in found.reason

    lone["slice 7"] = metric("worse", worse=math.log(401), name="slice 7")
    lone["slice 8"] = metric(name="slice 8")
    found = combine(lone, 0.05)
    assert (found.verdict, found.more) == ("worse", 0)
    assert found.reason == "slice 7: so it is. 1 other is still open"
    assert found.log_e_worse >= found.threshold


def test_all_that_are_bad_are_named() -> None:
    bad = {f"slice {number}": metric("worse", worse=9 + number, name=f"slice {number}") for number in range(6)}
    found = combine({**bad, "errors": metric(), "p99": metric()}, 0.05)

    assert found.reason == ("slice 5: so it is. Worse too: slice 0, slice 1, slice 2 and 2 more. "
                            "2 others are still open")


def test_many_a_little_bad_show_nothing_together() -> None:
    """Their mean is 20.2, but a mean over tests that look at different times is no evidence."""
    together = {f"slice {value}": metric(worse=math.log(value), name=f"slice {value}") for value in (30, 29, 1.5)}
    found = combine(together, 0.05)

    assert found.verdict == "undecided"
    assert found.log_e_worse == pytest.approx(math.log(30 / 3))


def test_a_fired_hard_stop_decides_alone_and_has_its_own_part() -> None:
    found = combine({"errors": metric(worse=-2), "p99": metric("within", within=9)}, 0.05, [stop(True)])
    assert (found.verdict, found.alpha, found.samples) == ("worse", 0.05, 20)
    assert found.reason == "hard stop: a burst. 1 other is still open"
    assert found.log_e_worse >= found.threshold

    just = {"errors": metric("worse", worse=math.log(1 / 0.047))}
    assert combine(just, 0.05).verdict == "worse"
    left = combine(just, 0.05, [stop(False)])
    assert left.verdict == "undecided"  # a tenth of alpha is the hard stop's
    assert "That may be chance where hard stops too are looked at" in left.reason


def test_a_verdict_that_has_fallen_is_not_taken_back() -> None:
    """Of one metric it is the verdict; beside another it still counts as what it was at least."""
    fallen = metric("worse", worse=-4)
    assert combine([fallen], 0.05).verdict == "worse"
    both = {"errors": fallen, "p99": metric(name="p99")}
    assert combine(both, 0.05).log_e_worse == pytest.approx(math.log(20 / 2))
    assert combine(both, 0.05).verdict == "undecided"
    assert combine(both | {"p99": metric("worse", worse=9, name="p99")}, 0.05).reason.endswith("Worse too: errors")


def test_one_that_was_within_and_has_turned_says_so() -> None:
    found = combine({"errors": metric("within", worse=9, within=9)}, 0.05)
    assert (found.verdict, found.reason) == (
        "worse", "errors: so it is; it was within in the beginning, and has turned worse")


@given(st.lists(st.tuples(st.sampled_from(["within", "worse", "undecided"]), st.floats(-30, 800)), min_size=1,
                max_size=20), st.sampled_from([(), (False,), (True,), (False, True)]))
def test_the_evidence_reaches_the_threshold_just_when_the_verdict_is_worse(
        parts: list[tuple[Verdict, float]], fired: tuple[bool, ...]) -> None:
    found = combine([metric(verdict, worse) for verdict, worse in parts], 0.05, [stop(one) for one in fired])

    assert (found.verdict == "worse") == (found.log_e_worse >= found.threshold) or \
        found.log_e_worse == pytest.approx(found.threshold)
    assert found.verdict != "within" or all(verdict == "within" for verdict, _ in parts)


def test_the_budget_adds_up_and_is_what_a_lone_metric_needs() -> None:
    names = [f"slice {number}" for number in range(9)]
    parts = budget(names, 0.05)

    assert list(parts) == [*names, HARD_STOP]
    assert sum(parts.values()) == pytest.approx(0.05)
    assert parts[HARD_STOP] == pytest.approx(0.005)
    assert HARD_STOP not in budget(names, 0.05, hard_stop=0)
    for factor, verdict in ((1.001, "worse"), (0.999, "undecided")):
        lone = {name: metric(worse=-math.inf) for name in names}
        lone["slice 3"] = metric(worse=math.log(factor / parts["slice 3"]))
        assert combine(lone, 0.05, [stop(False)]).verdict == verdict


@pytest.mark.parametrize(("names", "alpha", "hard_stop", "text"), [
    ([], 0.05, 0.1, "at least one"), (["a", "a"], 0.05, 0.1, "named once"), ([HARD_STOP], 0.05, 0.1, "none of them"),
    (["a"], 0.7, 0.1, "alpha=0.7"), (["a"], 0.05, 1.0, "hard_stop=1")])
def test_a_budget_that_cannot_be_is_refused(names: list[str], alpha: float, hard_stop: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        budget(names, alpha, hard_stop)


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(ConfigError, match="no decision"):
        combine({}, 0.05)
    with pytest.raises(ConfigError, match="p99: a test at a larger alpha"):
        combine({"errors": metric(), "p99": metric(alpha=0.1)}, 0.05)
    with pytest.raises(ConfigError, match="leave nothing"):
        combine([metric()], 0.05, [stop(False, 0.05)])
    with pytest.raises(ConfigError, match="alpha=0"):
        combine([metric()], 0)
