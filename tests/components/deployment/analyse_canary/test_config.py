"""The options of an analysis: what they must be alone, and together with the sample."""


import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.components.deployment.analyse_canary.config import LARGEST, AnalyseCanaryConfig
from penstock.components.evidence.rate import LARGEST_NULL


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'paired_rows'"):
        AnalyseCanaryConfig.parse({"paired_row": 3})
    with pytest.raises(ConfigError, match="mode='mirror'"):
        AnalyseCanaryConfig.parse({"mode": "mirror"})


def test_a_limit_that_no_test_can_hold_is_refused() -> None:
    assert LARGEST == LARGEST_NULL
    for name in ("max_accuracy_drop", "max_error_rate_increase"):
        with pytest.raises(ConfigError, match=f"{name}=0.97: a limit above 0.95 shuts nothing out"):
            AnalyseCanaryConfig.parse({name: 0.97})


def test_requests_of_others_must_be_described() -> None:
    with pytest.raises(ConfigError, match="requests_per_session=0: requests of one client may fail together"):
        AnalyseCanaryConfig(mode="observe").check_sample(20)
    with pytest.raises(ConfigError, match="counters do not tell sessions apart; set max_latency_increase=0"):
        AnalyseCanaryConfig(mode="observe", requests_per_session=20).check_sample(20)
    observed = {"mode": "observe", "requests_per_session": 1, "max_latency_increase": 0.1}
    with pytest.raises(ConfigError, match="cannot be told from counters: the predictor's buckets are 25% wide"):
        AnalyseCanaryConfig.parse(observed | {"latency_floor_ms": 0}).check_sample(20)
    AnalyseCanaryConfig.parse(observed | {"latency_floor_ms": 5}).check_sample(20)


def test_a_sample_must_be_able_to_show_what_is_asked() -> None:
    AnalyseCanaryConfig().check_sample(20)
    with pytest.raises(ConfigError, match=r"max_latency_increase: tolerance=0\.001 must be 0 or from 0.005"):
        AnalyseCanaryConfig(max_latency_increase=0.001).check_sample(20)
    with pytest.raises(ConfigError, match="one version gets about 1,000 at 20 %; set requests to 7200"):
        AnalyseCanaryConfig(min_requests_per_version=1200).check_sample(20)
    with pytest.raises(ConfigError, match=r"too few to show at 20 % that latency at p99.9 is no more than 50% higher, "
                                          r"even of a canary that answers at once: that takes about 3\d,\d{3}; set"):
        AnalyseCanaryConfig(latency_quantile=0.999).check_sample(20)


def test_an_agreement_must_be_one_that_rows_can_show() -> None:
    AnalyseCanaryConfig(min_agreement=0.97).check_sample(20, 120)
    with pytest.raises(ConfigError, match=(
            r"min_agreement=0\.98 cannot be shown: split test has 120 rows, and where both versions agree on all "
            r"of them 97\.8% are sure; set it to 0\.97, or to 0: off")):
        AnalyseCanaryConfig(min_agreement=0.98).check_sample(20, 120)
    with pytest.raises(ConfigError, match=r"min_agreement=1 cannot be shown: paired_rows=500, .* set it to 0\.99"):
        AnalyseCanaryConfig(min_agreement=1).check_sample(20)
    AnalyseCanaryConfig(min_agreement=1, paired_rows=0).check_sample(20)


@pytest.mark.parametrize(("rows", "told"), [(None, False), (88, False), (87, True)])
def test_a_limit_on_accuracy_that_only_a_better_canary_keeps_is_told(
    rows: int | None, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    AnalyseCanaryConfig().check_sample(20, rows)

    assert ("max_accuracy_drop=0.03 split test has 87 rows: where both versions give the same answers 3 points remain "
            "open, so only a canary that has more of them right is promoted; it takes 88" in caplog.text) is told


def test_the_time_of_rows_counts_where_they_are_judged() -> None:
    config = AnalyseCanaryConfig(rate=10, timeout=200)
    config.check_sample(20)
    config.check_sample(20, 100)
    with pytest.raises(ConfigError, match="takes about 1,808, and 1,000 for rows that both answer; set timeout to 430"):
        config.check_sample(20, 500)
    config.model_copy(update={"max_accuracy_drop": 1}).check_sample(20, 500)


def test_a_ladder_climbs_by_more_than_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"ladder=\[50, 25\] must climb: ascending"):
        AnalyseCanaryConfig.parse({"ladder": [50, 25]})
    with pytest.raises(ConfigError, match=r"ladder.0=0: Input should be greater than or equal to 1"):
        AnalyseCanaryConfig.parse({"ladder": [0]})
    with pytest.raises(ConfigError, match=r"rung_increase=0.15 must be twice max_error_rate_increase=0.1 at least"):
        AnalyseCanaryConfig.parse({"ladder": [50], "rung_increase": 0.15, "max_error_rate_increase": 0.1})
    assert AnalyseCanaryConfig(max_error_rate_increase=0.2).increase == 0.4
    assert AnalyseCanaryConfig(max_error_rate_increase=0.02).increase == 0.1


def test_a_ladder_that_takes_too_long_is_refused() -> None:
    told = r"requests=500 are too few to show at 10 % → 50 % an .*: that takes about [\d,]+ \([\d,]+ of them to hold"
    with pytest.raises(ConfigError, match=told):
        AnalyseCanaryConfig(ladder=(50,), requests=500).check_sample(10)
    only_held = AnalyseCanaryConfig(ladder=(20, 50), max_error_rate_increase=1, min_requests_per_version=400)
    with pytest.raises(ConfigError, match=r"requests=5000 are too few to hold a share of 10 % → 20 % → 50 % in turn: "
                                          r"that takes about 6,800"):
        only_held.check_sample(10)
    with pytest.raises(ConfigError, match="timeout=10 ends the analysis after 10 requests at rate=1, too few to hold"):
        only_held.model_copy(update={"requests": 9000, "rate": 1, "timeout": 10}).check_sample(10)
