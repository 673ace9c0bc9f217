"""Climbing: a canary gets a larger share once its rung was held, and is promoted from the last one only."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.model import Model
from penstock.components.contracts.reports import CanaryReport, Check
from penstock.components.control.base import Manifest, ObjectConflict
from penstock.components.control.lease import CanaryLease, LeaseLost
from penstock.components.deployment.analyse_canary import gather, watch
from penstock.components.deployment.analyse_canary.analysis import SequentialAnalysis
from penstock.components.deployment.analyse_canary.journal import STATE
from penstock.components.deployment.analyse_canary.ladder import Ladder, Seen, Stay
from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig, run

NEW = "sides-predictor-00002"
CONFIG = AnalyseCanaryConfig(requests=4000, rate=2000, min_requests_per_version=50, max_error_rate_increase=0.05,
                             max_accuracy_drop=0.1, paired_rows=0, timeout=60, ladder=(25, 50), rung_increase=0.3,
                             latency_floor_ms=2000)  # a busy machine is not a slow canary
STABLE = Seen(100, 80, 20)


@pytest.fixture
def shares(trial: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shares that were asked for, in turn; the gateway routes as it is told."""
    apply, asked = trial.apply, [20]

    def routed(manifest: Manifest) -> Manifest:
        found: Manifest = apply(manifest)
        if manifest["kind"] == "InferenceService" and (percent := found["spec"]["predictor"]["canaryTrafficPercent"]):
            gateway.every = round(100 / percent)
            asked.append(percent)
        return found

    monkeypatch.setattr(trial, "apply", routed)
    return asked


@pytest.fixture
def analyse(
    trial: Any, shares: list[int], sides: Dataset, report: Path, models: dict[str, Model],
    monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setattr(gather, "LOOK", 0.02)

    def analyse(**changes: object) -> CanaryReport:
        config = AnalyseCanaryConfig.parse(CONFIG.model_dump() | changes)
        return run(sides.folder, report, "sides", models["alike"].version, "run-2", config, trial)

    return analyse


def check(report: CanaryReport, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def kill(analyse: Any, gateway: Any) -> None:
    """End an analysis soon after its first climb."""
    end = held()[0] + 30

    def check(lease: CanaryLease) -> None:
        if gateway.asked > end:
            raise LeaseLost("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CanaryLease, "check", check)
        with pytest.raises(LeaseLost):
            analyse()


def held(config: AnalyseCanaryConfig = CONFIG) -> list[int]:
    """Return how many requests each rung is held for where stable has no errors."""
    return [rung.requests for rung in config.rungs(20)]


def test_a_good_canary_climbs_and_is_promoted_from_the_last_rung(
    analyse: Any, shares: list[int], report: Path
) -> None:
    found = analyse()

    assert (found.verdict, shares, found.traffic_percent) == ("promote", [20, 25, 50], 50)
    assert found.canary.requests + found.stable.requests >= sum(held())
    assert check(found, "ladder").detail == "ladder: 20, 25, 50 % of the requests in turn"
    assert (check(found, "traffic_split").passed, check(found, "traffic_split").rule) == (True, "about 0.2, 0.25, 0.5")
    page = (report / "index.html").read_text()
    assert "20 → 25 → 50 % of the requests" in page
    assert "Held for at least" in page


def test_a_bad_canary_never_gets_more(gateway: Any, analyse: Any, shares: list[int]) -> None:
    gateway.versions[NEW].fails = 2

    found = analyse()
    assert (found.verdict, shares, found.traffic_percent) == ("roll_back", [20], 20)
    assert check(found, "ladder").detail.endswith("more requests at 20 %, then 50 %")


def test_one_that_only_fails_with_more_traffic_is_sent_back_from_there(
    gateway: Any, analyse: Any, shares: list[int], trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = trial.apply

    def overloaded(manifest: Manifest) -> Manifest:
        found: Manifest = apply(manifest)
        gateway.versions[NEW].fails = 2 if shares[-1] == 50 else 0
        return found

    monkeypatch.setattr(trial, "apply", overloaded)

    found = analyse()
    assert (found.verdict, shares, found.traffic_percent) == ("roll_back", [20, 25, 50], 50)
    assert "errors" in found.reason


def test_evidence_alone_does_not_promote_from_below(
    analyse: Any, shares: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnalyseCanaryConfig, "check_sample", lambda *_: None)
    found = analyse(rate=100, timeout=3, max_accuracy_drop=1, max_class_shift=1, max_error_rate_increase=0.2,
                    rung_increase=0.4)

    assert shares[-1] < 50
    assert (found.verdict, check(found, "error_rate_increase").passed) == ("roll_back", True)
    assert "ladder: " in found.reason
    assert found.reason.endswith(", then 50 %")


def test_traffic_that_does_not_move_sends_the_canary_back(
    analyse: Any, trial: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOVE", 0.1)
    gateway.after[held()[0]] = lambda: setattr(trial, "stalled", True)

    found = analyse()
    assert found.verdict == "roll_back"
    assert "the canary did not get 25 % of the requests: the traffic of sides did not move within 0.1 s" in found.reason


def test_somebody_else_who_writes_all_the_time_sends_it_back(
    analyse: Any, trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(manifest: Manifest) -> Manifest:
        raise ObjectConflict("the status was written in between")

    monkeypatch.setattr(trial, "apply", late)
    monkeypatch.setattr(CanaryLease, "check", lambda self: None)
    monkeypatch.setattr(CanaryLease, "acquire", lambda self: None)
    monkeypatch.setattr(CanaryLease, "renew", lambda self: None)

    assert "did not get 25 % of the requests: the status was written in between" in analyse().reason


@pytest.mark.parametrize("state", ["as it was", "a rung behind", "of another share"])
def test_a_killed_analysis_goes_on_at_its_rung(
    analyse: Any, gateway: Any, shares: list[int], report: Path, state: str
) -> None:
    kill(analyse, gateway)
    assert shares == [20, 25]
    asked, journal = gateway.asked, report.with_name("report.journal") / STATE
    kept = json.loads(journal.read_text())
    before = kept["answers"]
    if state == "a rung behind":
        kept["state"]["ladder"] = kept["state"]["ladder"][:1]
    if state == "of another share":
        kept["state"]["ladder"][-1][0] = 30
    journal.write_text(json.dumps(kept))

    found = analyse()
    assert (found.verdict, shares) == ("promote", [20, 25, 50])
    assert found.canary.requests + found.stable.requests == before + gateway.asked - asked
    climbed = "20, 30, 25, 50" if state == "of another share" else "20, 25, 50"
    assert check(found, "ladder").detail.startswith(f"ladder: {climbed} %")


def test_a_killed_analysis_that_has_too_few_requests_left_begins_anew(
    analyse: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(analyse, gateway)
    asked = gateway.asked
    monkeypatch.setattr(Ladder, "fits", lambda *_: False)

    found = analyse()
    assert (found.verdict, found.canary.requests + found.stable.requests) == ("promote", gateway.asked - asked)


def test_a_canary_that_nobody_hears_of_does_not_climb(analyse: Any, gateway: Any, shares: list[int]) -> None:
    gateway.versions[NEW].fails, gateway.versions[NEW].status, gateway.versions[NEW].silent = 1, 503, True

    found = analyse(requests=1500)
    assert (found.verdict, shares, found.canary.requests) == ("roll_back", [20], 0)
    assert found.unanswered > 0


def test_a_state_of_other_tests_leaves_no_rung_behind(
    analyse: Any, gateway: Any, shares: list[int], report: Path
) -> None:
    kill(analyse, gateway)
    journal = report.with_name("report.journal") / STATE
    kept = json.loads(journal.read_text())
    del kept["state"]["analysis"]["blamed"]
    journal.write_text(json.dumps(kept))

    found = analyse()
    assert found.verdict == "promote"
    assert check(found, "ladder").detail.startswith("ladder: 25, 50 %")
    assert check(found, "traffic_split").passed


def test_a_trial_that_was_begun_once_more_climbs_anew_and_keeps_what_was_seen() -> None:
    up = Ladder(CONFIG, 20)
    up.begin(STABLE)
    up.begin(Seen(200, 155, 45))

    found = Ladder(CONFIG, 20).restored(json.loads(json.dumps(up.to_state())), Seen(300, 205, 95))
    assert (found.percents, found.percent, found.is_top) == ((20, 25, 50, 20, 25, 50), 20, False)
    assert found.missing(Seen(300, 205, 95)) == held()[0]
    found.begin(Seen(400, 285, 115))
    again = Ladder(CONFIG, 25).restored(json.loads(json.dumps(found.to_state())), Seen(410, 290, 120))
    assert (again.percents, again.rungs) == (found.percents, found.rungs)


def test_a_climb_that_the_requests_left_do_not_allow_is_begun_with_all_of_them() -> None:
    ladder, all_rungs = Ladder(CONFIG, 20), sum(held())
    assert ladder.fits(Seen(CONFIG.requests - all_rungs))
    assert not ladder.fits(Seen(CONFIG.requests - all_rungs + 1))
    assert Ladder(AnalyseCanaryConfig(), 20).fits(Seen(5000))  # nothing is to be held


def test_without_a_ladder_there_is_one_rung_and_it_is_left_at_any_time() -> None:
    ladder = Ladder(AnalyseCanaryConfig(), 20)

    assert (ladder.percent, ladder.is_top, ladder.missing(Seen())) == (20, True, 0)
    assert Ladder(CONFIG, 50).percents == (50,)
    assert Ladder(CONFIG, 50).missing(Seen()) > 0  # begun anew at the last share: held all the same
    assert Ladder(CONFIG, 100).missing(Seen()) == 0  # a first version


def test_a_rung_is_held_for_as_long_as_a_gross_fault_takes_to_find() -> None:
    ladder = Ladder(CONFIG, 20)
    assert (ladder.next, ladder.is_top, ladder.missing(Seen())) == (25, False, held()[0])

    ladder.begin(STABLE)
    assert ladder.rungs[1] == Stay(25, held()[1], STABLE)
    assert ladder.missing(STABLE) == held()[1]
    noisy = Ladder(CONFIG, 20)
    noisy.begin(STABLE._replace(errors=8))
    assert noisy.missing(STABLE) > ladder.missing(STABLE)  # against 10 % of errors the same is harder to see
    noisy.begin(STABLE._replace(errors=80))
    assert noisy.is_top
    assert [rung.needed for rung in Ladder(CONFIG.model_copy(update={"max_error_rate_increase": 1}), 20).rungs] == [250]


def test_each_version_must_answer_its_part_of_a_rung() -> None:
    ladder = Ladder(CONFIG.model_copy(update={"max_error_rate_increase": 1}), 20)  # 250 requests
    assert ladder.missing(Seen(250, 200, 50)) == 0
    assert ladder.missing(Seen(400, 350, 40)) == 50  # of the canary 10 more
    assert ladder.missing(Seen(400, 100, 300)) == 125  # of stable 100 more
    assert ladder.missing(Seen(400, 0, 0)) == 250
    assert not ladder.is_held(Seen(400, 350, 40))


@pytest.mark.parametrize("changes", [
    {}, {"mode": "observe", "requests_per_session": 1}, {"max_error_rate_increase": 1}, {"max_class_shift": 1},
    {"max_latency_increase": 0}, {"max_accuracy_drop": 1}])
def test_a_rung_is_planned_beside_all_tests_that_watch(changes: dict[str, Any]) -> None:
    config = AnalyseCanaryConfig(**changes)
    replays = config.mode == "replay"

    analysis = SequentialAnalysis(config, labelled=replays, classes=("bag", "boot") if replays else ())
    assert len(analysis.tests) == config.tests
    assert all(analysis.budget[name] == pytest.approx(config.alpha_alone) for name in analysis.tests)


def test_a_rung_becomes_longer_where_stable_errs() -> None:
    ladder = Ladder(CONFIG, 20)
    many = Seen(held()[0], round(0.8 * held()[0]), held()[0] - round(0.8 * held()[0]) + 1)
    assert Ladder(CONFIG, 20).is_held(many)

    assert not ladder.is_held(many._replace(errors=many.stable // 10))
    assert ladder.rungs[0].needed > held()[0]


def test_answers_belong_to_the_rung_they_came_on() -> None:
    ladder = Ladder(CONFIG, 20)
    ladder.begin(STABLE)

    assert ladder.answered(Seen(200, 155, 45)) == [(ladder.rungs[0], 80, 20), (ladder.rungs[1], 75, 25)]


@pytest.mark.parametrize("state", [None, [], [[20]], [[20, 5, [0, 0, 0, 0, 0]]], [["x", 5, [0, 0, 0, 0]]]])
def test_a_damaged_state_is_refused(state: list[Any] | None) -> None:
    with pytest.raises(ContractError, match="damaged"):
        Ladder(CONFIG, 20).restored(state, STABLE)
