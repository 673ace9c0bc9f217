"""Roll-outs of slow canaries: the rules do what is said of them, and what is bet is what the shipped test bets."""

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from penstock.components.evidence.histogram import log_bins
from penstock.components.evidence.latency import LatencyTest
from penstock.components.evidence.quantile import Quantile

FOLDER = Path(__file__).parent
RUNS = 100


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules beside this file, which import each other as the script does."""
    monkeypatch.syspath_prepend(FOLDER)
    import latency_cells
    import latency_rollouts
    import rollouts
    import table

    return {module.__name__: module for module in (latency_cells, latency_rollouts, rollouts, table)}


def test_no_promise_is_refuted_and_rows_are_whole(modules: dict[str, ModuleType],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """LatencyTest's hour is of 20 minutes here."""
    monkeypatch.setattr(modules["latency_rollouts"], "END", 20 * 6000)
    (table,) = modules["latency_rollouts"].tables(RUNS, 1)
    assert len(table.rows) == 50
    cells = {}
    for row in table.rows:
        assert len(row) == len(table.headers)
        assert "±" in row[3] if row[1] in ("+0 %", "+5 %") else "±" not in row[3]
        assert "±" not in row[4] if row[1] == "+0 %" else "±" in row[4]
        assert not row[2].startswith("LatencyTest") or "above α" not in "".join(row)
        assert (row[6] == row[7] == "0") == (row[1] == "+0 %")
        cells[row[:3]] = row[3:]
    for stable in ("250 ms", "450 ms"):
        test, argo = (cells[stable, "+100 %", rule] for rule in ("LatencyTest p50", "Argo Rollouts"))
        assert test[0] == "100.0"
        assert argo[0] == "0.0"
        assert 1000 * float(test[3].replace(",", "")) < float(argo[3].replace(",", ""))
    assert float(cells["450 ms", "+0 %", "Flagger"][0].split()[0]) < 5
    assert cells["450 ms", "+25 %", "Flagger"][0] == "100.0"
    assert cells["250 ms", "+25 %", "Flagger"][0] == "0.0"  # slower, and far below the limit


def test_the_same_seed_gives_the_same_table(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    cells = modules["latency_rollouts"]
    monkeypatch.setattr(cells, "SLOWER", (0.25, 1.0))
    first, again, other = (cells.tables(50, seed)[0].markdown() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_evidence_is_that_of_the_shipped_quantile(modules: dict[str, ModuleType], quantile: float) -> None:
    """In counts that bins cannot blur: far above the order statistic or far below."""
    cells, rng, runs = modules["latency_rollouts"], np.random.default_rng(0), 6
    bins, ratios = log_bins(0.05, [1.0])
    shipped = [Quantile(quantile, bins, ratios) for _ in range(runs)]
    ours = cells.Evidence(modules["latency_cells"].Bets(quantile), runs)
    tail = np.array([0.02, 0.02, 0.01, 0.005, 0.002, 0.0]) if quantile == 0.99 else np.linspace(0.2, 0.8, runs)
    for _ in range(30):
        stable, canary = rng.integers(100, 500, (2, runs)).astype(float)
        canary[0] = 0.0
        exceeding = rng.binomial(canary.astype(int), tail).astype(float)
        ours.take(stable, canary, exceeding)
        for test, n_s, n_c, x in zip(shipped[1:], stable[1:], canary[1:], exceeding[1:], strict=True):
            rank = min(max(round(n_s * (1 - quantile)), 1), n_s)
            window = np.zeros((2, len(bins.coarse)), np.int64)
            window[0, [100, 500, 900]] = n_s - rank, 1, rank - 1
            window[1, [100, 900]] = n_c - x, x
            test._close(window)
    expected = np.array([test.log_e for test in shipped[1:]]).T
    assert np.abs(ours.wealth[..., 0]).max() < 1e-9  # no canary request, no evidence
    found = np.array([cells.log_mix(wealth.T) for wealth in ours.wealth])
    assert found[:, 1:] == pytest.approx(expected, abs=1e-8)
    assert np.array_equal(ours.says()[:, 1:], expected >= math.log(20))
    assert ours.says().any(axis=1).all()


def shipped_minutes(quantile: float, slower: float, rng: np.random.Generator) -> float:
    """Return when a LatencyTest on the same ladder says `worse`, request by request."""
    test = LatencyTest(0.05, (quantile,))
    for request in range(30 * 6000):
        seconds = np.exp(0.5 * rng.standard_normal(1)) * 0.1
        nobody: npt.NDArray[np.float64] = np.zeros(0)
        is_canary = rng.random() < min(0.1 * (request // 6000 + 1), 0.5)
        test.update(nobody if is_canary else seconds, seconds * (1 + slower) if is_canary else nobody)
        if (verdict := test._settled) != "undecided":
            assert verdict == "worse"
            return (request + 1) / 6000
    return math.inf


@pytest.mark.parametrize(("quantile", "slower"), [(0.5, 0.4), (0.99, 1.0)])
def test_roll_backs_come_when_the_shipped_test_has_them(modules: dict[str, ModuleType], quantile: float,
                                                        slower: float) -> None:
    cells, rng = modules["latency_rollouts"], np.random.default_rng(0)
    theirs = [shipped_minutes(quantile, slower, rng) for _ in range(30)]
    ours = cells.ours(modules["latency_cells"].Bets(quantile), slower, 2000, 0)
    assert ours.promoted.mean() < 0.05
    found = ours.minutes[~ours.promoted]
    means = [np.mean(each) for each in (theirs, found)]
    error = np.std(found) / math.sqrt(30)
    assert means[0] == pytest.approx(means[1], abs=3.5 * error)
    assert error < 0.15 * means[1]


def test_the_ladder_climbs_waits_and_promotes(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    cells, bets = modules["latency_rollouts"], modules["latency_cells"].Bets(0.5)
    assert cells.share(np.array([0, 5999, 6000, 24_000, 300_000.0])) == pytest.approx([0.1, 0.1, 0.2, 0.5, 0.5])
    climb = 6000 * (0.1 + 0.2 + 0.3 + 0.4 + 0.5)
    monkeypatch.setattr(cells, "END", 15 * 6000)
    faster = cells.judged(bets, -0.3, 20, np.random.default_rng(0))
    assert faster.promoted.all()
    assert faster.served == pytest.approx(climb + 10 * 6000, rel=0.01)  # known soon, and promoted after the ladder
    edge = cells.judged(bets, 0.05, 60, np.random.default_rng(0))
    waits = np.isinf(edge.minutes) & ~edge.promoted
    assert waits.sum() > 40
    assert edge.served[waits] == pytest.approx(climb + 10 * 3000, rel=0.02)
    assert (edge.served[edge.promoted] > climb + 10 * 3000).all()


def test_flaggers_limit_is_absolute(modules: dict[str, ModuleType]) -> None:
    cells, per_minute = modules["latency_rollouts"], 60 * modules["rollouts"].PER_SECOND
    below, above = (cells.flagger(stable, 1.0, 50, 0) for stable in (100, 450))
    assert below.promoted.all()
    assert below.served == pytest.approx(per_minute * (0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 55), rel=0.01)
    assert np.isinf(below.minutes).all()
    assert above.minutes.tolist() == [6] * 50  # five failed minutes, and the next interval
    assert above.served == pytest.approx(np.full(50, 6 * 600), rel=0.1)  # the weight was held


def test_bounds_and_shares(modules: dict[str, ModuleType]) -> None:
    """Against values drawn."""
    cells, rng = modules["latency_rollouts"], np.random.default_rng(0)
    seconds = np.exp(0.5 * rng.standard_normal(1_000_000))
    p99 = np.exp(0.5 * 2.3263479)
    for ratio, slower in ((1.05, 0.05), (1.05, 1.0), (500 / 450, 0.1), (2.0, 1.0)):
        assert cells.beyond(ratio, slower) == pytest.approx((seconds * (1 + slower) > ratio * p99).mean(), rel=0.03)
