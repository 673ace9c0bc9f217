"""What `penstock plan` says: the numbers of the planner in the words of a person, and where its options come from."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.components.contracts.errors import ConfigError
from penstock.components.evidence.planning import Rung, cost, samples_needed
from penstock.components.evidence.rate import RateTest
from penstock.pipelines.cli import penstock
from penstock.pipelines.planning import RollOut, plan_lines, planned_roll_out

README = Path(__file__).parents[2] / "README.md"
PLAN = RollOut(share=0.2, error_rate=0.02, max_increase=0.05, alpha=0.05, power=0.9, rate=10, block=1, requests=1000,
               timeout=300)


def parts(plan: RollOut) -> tuple[str, list[str], str]:
    """Return the first sentence, the lines of the truths, and what is said of them."""
    lines = list(plan_lines(plan))
    assert all(line == line.rstrip() for line in lines)
    first, last = (place for place, line in enumerate(lines) if not line)
    return " ".join(lines[:first]), lines[first + 2:last], " ".join(lines[last + 1:])


def table(plan: RollOut) -> list[str]:
    return parts(plan)[1]


def rounded(requests: int) -> int:
    """Round up to two figures, by text."""
    figures = int(str(requests)[:2]) + (int(str(requests)[2:] or 0) > 0)
    return figures * 10 ** len(str(requests)[2:])


def test_the_table_has_the_numbers_of_the_planner() -> None:
    good, bad = (rounded(samples_needed(RateTest(0.05), 0.02, effect, 0.2)) for effect in (0.0, 0.25))
    lines = table(PLAN)
    assert [line.split("  ")[0] for line in lines] == [
        "as stable's", "1 point more, 0.2 x the limit", "5 points more, the limit", "10 points more, 2 x the limit",
        "25 points more, 5 x the limit"]
    assert f" within * {good:,} " in " ".join(lines[0].split())
    assert lines[2].endswith("never: too close to the limit")
    assert " worse " in lines[4]
    assert f" {bad:,} " in lines[4]


def test_the_first_sentence_says_what_it_is_about() -> None:
    first, _, _ = parts(PLAN)
    good, bad = (rounded(samples_needed(RateTest(0.05), 0.02, effect, 0.2)) for effect in (0.0, 0.1))
    assert first.startswith(f"With 20 % of the traffic, a canary as good as stable takes {good:,} requests (")
    assert " at 10 per second) to show that it is within 5 points; " in first
    assert f"one with 10 points more errors is found out by {bad:,}, having served about " in first


def test_what_comes_later_than_the_analysis_ends_is_marked() -> None:
    soon = PLAN._replace(requests=10**6, timeout=1e6)
    assert not any("*" in line for line in plan_lines(soon))

    _, lines, few = parts(PLAN._replace(requests=10, timeout=1e6))
    assert sum(" *  " in line for line in lines) == 4
    assert "* analyse_canary ends before, after 10 requests or 11.6 days" in few
    assert "--set analyse_canary.requests=" in few
    assert "timeout=" not in few

    _, _, short = parts(PLAN._replace(requests=10**6, timeout=1))
    assert "--set analyse_canary.timeout=" in short
    assert "requests=" not in short


def test_a_truth_that_cannot_be_is_left_out() -> None:
    assert [line.split("  ")[0] for line in table(PLAN._replace(error_rate=0.94))] == [
        "as stable's", "1 point more, 0.2 x the limit", "5 points more, the limit"]
    assert parts(PLAN._replace(error_rate=0.94))[0].endswith("to show that it is within 5 points.")


def test_hopeless_plans_say_so() -> None:
    first, _, _ = parts(PLAN._replace(alpha=0.45, power=0.99999, max_increase=0.002))
    assert first == "With 20 % of the traffic, a canary as good as stable is too close to the limit to be told."


def test_many_times_the_limit_are_written_out() -> None:
    assert any("1 point more, 10,000 x the limit" in line for line in table(PLAN._replace(max_increase=0.000001)))


@pytest.mark.parametrize(("rate", "text"), [(100, " s "), (1, " min "), (0.1, " h "), (0.001, " days ")])
def test_times_are_in_the_unit_of_a_person(rate: float, text: str) -> None:
    assert text in table(PLAN._replace(rate=rate))[0]


def test_options_come_from_the_profile_from_set_and_from_the_command_line() -> None:
    laptop = planned_roll_out("laptop", (), 0.001, 0.9, {})
    assert (laptop.share, laptop.rate, laptop.max_increase, laptop.alpha) == (0.1, 200, 0.01, 0.05)
    assert (laptop.error_rate, laptop.power, laptop.block) == (0.001, 0.9, 1)
    small = planned_roll_out("test", ("analyse_canary.alpha=0.1", "analyse_canary.requests=77"), 0, 0.8,
                             {"rate": 3, "share": None, "max_increase": 0.02})
    assert (small.share, small.rate, small.max_increase, small.alpha) == (0.5, 3, 0.02, 0.1)
    assert (small.requests, small.power) == (77, 0.8)


def test_requests_of_one_client_count_as_one() -> None:
    settings = ("analyse_canary.mode=observe", "analyse_canary.requests_per_session=20")
    assert planned_roll_out("laptop", settings, 0.001, 0.9, {}).block == 20
    with pytest.raises(ConfigError, match=r"--set analyse_canary\.requests_per_session=20"):
        planned_roll_out("laptop", settings[:1], 0.001, 0.9, {})


@pytest.mark.parametrize("increase", [0.0, 1.0])
def test_nothing_to_find_out_is_refused(increase: float) -> None:
    with pytest.raises(ConfigError, match="leaves nothing to find out"):
        planned_roll_out("laptop", (), 0.001, 0.9, {"max_increase": increase})


def test_the_command_speaks_in_percent() -> None:
    answer = CliRunner().invoke(penstock, ["plan", "--share", "50", "--error-rate", "2", "--max-increase", "5",
                                           "--rate", "20", "--power", "0.8", "--alpha", "0.1"])
    assert answer.exit_code == 0, answer.output
    expected = plan_lines(planned_roll_out("laptop", (), 0.02, 0.8, {
        "share": 0.5, "max_increase": 0.05, "rate": 20, "alpha": 0.1}))
    assert answer.stdout.splitlines() == list(expected)


@pytest.mark.parametrize(("arguments", "text"), [
    (["--share", "0"], "with 0 % of the requests for the canary one version gets none"),
    (["--rate", "0"], "rate=0 must be more than 0"),
    (["--share", "120"], "120.0 is not in the range"), (["--alpha", "0.7"], "alpha=0.7: Input should be less than 0.5"),
    (["--power", "1"], "power=1 must be between 0 and 1"), (["--profile", "lapdog"], "did you mean 'laptop'?"),
    (["--set", "analyse_canary.rat=3"], "unknown field 'rat'"), (["--max-increase", "0"], "try --max-increase 1"),
])
def test_wrong_options_are_2_with_their_reason(arguments: list[str], text: str) -> None:
    answer = CliRunner().invoke(penstock, ["plan", *arguments])
    assert answer.exit_code == 2
    assert text in answer.stderr
    assert answer.stdout == ""


def test_the_readme_shows_what_the_command_prints() -> None:
    shown = README.read_text(encoding="utf-8").split("$ penstock plan", 1)[1].split("```")[0]
    arguments, _, output = shown.partition("\n")
    assert CliRunner().invoke(penstock, ["plan", *shlex.split(arguments)]).stdout == output


def test_a_ladder_is_planned_rung_by_rung() -> None:
    settings = ("roll_out.canary_percent=10", "analyse_canary.ladder=[50]", "analyse_canary.rung_increase=0.2")
    climbing = planned_roll_out("laptop", settings, 0.02, 0.9, {"max_increase": 0.05})
    alone = 0.05 * 0.9 / 4  # errors, latency, wrong answers and class mix are watched, and bursts
    assert climbing.ladder == tuple(Rung(share, samples_needed(RateTest(0.05, alone), 0.02, 0.2, share))
                                    for share in (0.1, 0.5))
    assert planned_roll_out("laptop", settings, 0.02, 0.9, {"share": 0.1}).ladder == ()

    first, lines, last = parts(climbing)
    assert first.startswith("With 10 % → 50 % of the traffic, a canary as good as stable takes ")
    assert f" {rounded(cost(RateTest(0.05), 0.02, 0.25, climbing.ladder, alpha_worse=alone).requests):,} " in lines[-1]
    assert f"ladder: 10 % for {rounded(climbing.ladder[0].requests):,} requests, then 50 % until the verdict" in last
    assert "finds out a canary with 20 points more errors in 9 of 10 cases" in last
