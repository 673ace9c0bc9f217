"""Figures of the evidence: an update early and late, a verdict over 20 metrics, a simulation."""

from collections.abc import Callable

import numpy as np
from interleaved import compare
from scipy.stats import false_discovery_control

from penstock.components.evidence import CountTest, LatencyTest, MixTest, RateTest, combine
from penstock.components.evidence.capital import Seen, Window, bet, capital
from penstock.components.evidence.rate import difference_gamblers

UPDATES = 200
METRICS = 20
RUNS, LOOKS = 10_000, 20


def updates(test: RateTest, before: int) -> Callable[[], int]:
    for _ in range(before):
        test.update(stable=(1, 95), canary=(0, 5))

    def work() -> int:
        for _ in range(UPDATES):
            test.update(stable=(1, 95), canary=(0, 5))
        return UPDATES

    return work


def test_an_update_costs_the_same_however_much_has_passed() -> None:
    report("RateTest.update", "updates", {"the first": updates(RateTest(0.01), 0),
                                          "after 5,000 others": updates(RateTest(0.01), 5000)})


def test_an_update_of_each_kind() -> None:
    rng = np.random.default_rng(0)
    stable, canary = rng.lognormal(-4, 0.5, 950), rng.lognormal(-4, 0.5, 50)
    count, latency, mix = CountTest(0.5), LatencyTest(0.1), MixTest(10, 0.1)

    def times(update: Callable[[], None]) -> Callable[[], int]:
        def work() -> int:
            for _ in range(UPDATES):
                update()
            return UPDATES

        return work

    report("update", "updates", {
        "RateTest": updates(RateTest(0.01), 0),
        "CountTest": times(lambda: count.update(stable=9, canary=1, share=0.05)),
        "LatencyTest, 1,000 latencies": times(lambda: latency.update(stable, canary)),
        "MixTest, 10 classes": times(lambda: mix.update(stable=np.full(10, 95), canary=np.full(10, 5)))})


def test_a_verdict_over_many_metrics() -> None:
    tests = {f"metric {number}": RateTest(0.01, name=f"metric {number}") for number in range(METRICS)}
    for test in tests.values():
        test.update(stable=(10, 950), canary=(1, 50))

    def correct_by_hand() -> int:
        false_discovery_control(np.linspace(0.001, 0.9, METRICS))
        return 1

    def verdict() -> int:
        combine({name: test.decide() for name, test in tests.items()}, 0.05)
        return 1

    report(f"a verdict over {METRICS} metrics", "verdicts",
           {"scipy's false_discovery_control of as many p-values": correct_by_hand, "decide and combine": verdict})


def test_a_simulation_of_ten_thousand_runs() -> None:
    gamblers, rng = difference_gamblers(0.005, 1), np.random.default_rng(0)
    window = Window(rng.binomial(95, 0.01, RUNS) * 1.0, np.full(RUNS, 95.0),
                    rng.binomial(5, 0.01, RUNS) * 1.0, np.full(RUNS, 5.0))

    def one_by_one() -> int:
        test = RateTest(0.005)
        for run in range(100):
            test.update(stable=(window.stable_events[run], 95), canary=(window.canary_events[run], 5))
        return 100

    def together() -> int:
        seen = Seen(*(np.full(RUNS, 100.0) for _ in range(4)))
        for _ in range(LOOKS):
            capital(gamblers, bet(gamblers, seen, window))
        return RUNS * LOOKS

    report("a simulation of RateTest", "looks", {"run by run": one_by_one, "10,000 runs at once": together})


def report(title: str, unit: str, ways: dict[str, Callable[[], int]]) -> None:
    print(compare(title, unit, ways))  # noqa: T201 - what a benchmark is for
