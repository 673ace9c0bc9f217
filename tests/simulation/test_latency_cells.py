"""The cells of latency: what is drawn has its law, and what is bet on it is what the shipped tests bet."""

import math
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from penstock.components.evidence.distribution import DistributionTest, Everywhere, _ranks
from penstock.components.evidence.exceedance import log_factors
from penstock.components.evidence.histogram import FASTEST, log_bins
from penstock.components.evidence.quantile import log_mix

FOLDER = Path(__file__).parent
WIDTH = math.log1p(0.1) / 10  # of a bin at a tolerance of 10 %, as a logarithm


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules beside this file, which import each other as the script does."""
    monkeypatch.syspath_prepend(FOLDER)
    import distribution_cells
    import distribution_windows
    import latency_cells
    import latency_traffic

    return {module.__name__: module
            for module in (distribution_cells, distribution_windows, latency_cells, latency_traffic)}


def in_bins(values: npt.NDArray[np.float64], place: float) -> npt.NDArray[np.float64]:
    """Move logarithms of seconds to one place in their bins, 0 to 1."""
    moved: npt.NDArray[np.float64] = ((values - math.log(FASTEST)) // WIDTH + place) * WIDTH + math.log(FASTEST)
    return moved


@pytest.mark.parametrize("looks", [1, 100, 1000])
@pytest.mark.parametrize("binned", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.3])
def test_evidence_is_that_of_the_shipped_test(modules: dict[str, ModuleType], looks: int, binned: bool,
                                              share: float) -> None:
    """With all values in the middle of their bins, and the canary's a little below, bins lose nothing."""
    windows, rng = modules["distribution_windows"], np.random.default_rng(looks)
    bets = {quantile: modules["latency_cells"].Bets(quantile) for quantile in windows.DECILES}
    is_canary = rng.random((2, 2000)) < share
    values = rng.normal(-2.0, 0.5, is_canary.shape) + 0.3 * is_canary
    if binned:
        values = np.where(is_canary, in_bins(values, 0.3), in_bins(values, 0.5))
    parts = windows.wealths(is_canary, values.astype(np.float32), looks, np.array([0.0]), bets)
    for run in range(2):
        test = DistributionTest(0.1)
        for begin in range(0, is_canary.shape[1], looks):
            canary, seconds = is_canary[run, begin:begin + looks], np.exp(values[run, begin:begin + looks])
            test.update(seconds[~canary], seconds[canary])
            if looks == 1 and begin % 7:
                continue
            found = [evidence.log_e[0] for evidence in test._evidence.values()]
            closed = [np.count_nonzero(ends[run] <= begin + looks) for _, ends in parts]
            ours = [float(log_mix(wealth[0, :, run, many - 1])) if many else 0.0
                    for (wealth, _), many in zip(parts, closed, strict=True)]
            assert test.log_e[0] == pytest.approx(max(found) - math.log(9))
            if binned:
                assert found == pytest.approx(ours, abs=1e-5)
            else:
                assert (np.array(found) <= np.array(ours) + 1e-5).all()
        assert share < 0.1 or max(found) > max(0.8 * max(ours), 2)


def test_a_run_is_ever_worse_if_one_quantile_is(modules: dict[str, ModuleType]) -> None:
    windows, rng = modules["distribution_windows"], np.random.default_rng(0)
    bets = {quantile: modules["latency_cells"].Bets(quantile) for quantile in windows.DECILES}
    is_canary = rng.random((40, 2000)) < 0.5
    values = rng.normal(0, 0.5, is_canary.shape).astype(np.float32)
    parts = windows.wealths(is_canary, values, 100, np.log1p([0.0, 0.2]), bets)
    best = [np.max([log_mix(np.moveaxis(wealth[at], 0, -1)).max(axis=1) for wealth, _ in parts], axis=0)
            for at in (0, 1)]
    expected = [int((each >= math.log(9 * 20)).sum()) for each in best]
    assert windows.ever_worse(parts).tolist() == expected
    assert 0 < expected[1] < 40


def test_everywhere_is_that_of_the_shipped_test(modules: dict[str, ModuleType]) -> None:
    cells, rng = modules["distribution_cells"], np.random.default_rng(0)
    shipped = DistributionTest(0.1, cdf_tolerance=cells.CDF_TOLERANCE)
    ours = Everywhere(cells.CDF_TOLERANCE, log_bins(0.1, [1.0])[0])
    wealth = np.zeros((len(ours._points), len(ours._tilts[0])))
    for stable, canary in ((9900, 100), (5150, 300)):
        seconds, theirs = in_bins(rng.normal(-2, 0.5, stable), 0.5), in_bins(rng.normal(-2, 0.5, canary), 0.7)
        y = np.sort(seconds)[::-1][_ranks(ours._points, stable) - 1]
        found = (theirs > y[:, None] + math.log1p(0.1)).sum(axis=1).astype(float)
        wealth += cells.everywhere_factors(ours, found, np.array(float(canary)))
        shipped.update(np.exp(seconds), np.exp(theirs))
        assert shipped.log_e[1] == pytest.approx(log_mix(wealth, np.full(3, 1 / 3)).min(), abs=1e-9)


def test_bets_are_the_shipped_factors(modules: dict[str, ModuleType]) -> None:
    bets = modules["latency_cells"].Bets(0.99)
    stable, canary = np.array([400.0, 950.0, 400.0, 410.0]), np.array([3.0, 50.0, 400.0, 3.0])
    rank, exceeding = np.array([4, 10, 4, 4]), np.array([1.0, 2.0, 9.0, 0.0])
    for _ in range(2):  # the second time all sizes are known
        for side, sign in enumerate((1, -1)):
            tilt, mean = bets.of(stable, canary)[side]
            expected = log_factors(exceeding[:, None], rank, stable, canary, sign)[:, 0]
            assert pytest.approx(expected, abs=1e-12) == (exceeding * tilt - mean).T
    assert np.abs(bets.of(np.array([400.0]), np.array([0.0]))[:, 1]).max() < 1e-9  # no request, no evidence


@pytest.mark.parametrize("traffic", ["stationary", "diurnal", "drifting", "autocorrelated"])
@pytest.mark.parametrize("looks", [1, 100])
def test_counts_have_their_law_however_they_are_drawn(modules: dict[str, ModuleType], traffic: str, looks: int,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of a window's versions is chance, and X is beta-binomial whatever the level does."""
    traffics, means = modules["latency_traffic"], []
    cell = traffics.Cell(traffic, 0.9, 0.2, looks, drift=100.0)
    for few in (1000, 0):  # every latency; the slowest alone
        monkeypatch.setattr(traffics, "FEW", few)
        drawn = [window for window, _ in zip(traffics.windows(cell, 4000, np.random.default_rng(1)), range(4),
                                             strict=False)]
        stable, canary = (np.concatenate([window[part] for window in drawn]) for part in (0, 1))
        exceeding = np.concatenate([window.exceeding for window in drawn], axis=1)[:, canary > 0]
        stable, canary = stable[canary > 0], canary[canary > 0]
        assert stable.mean() == pytest.approx(49 if looks == 1 else 80, abs=3)
        assert looks == 1 or (stable + canary == looks).all()
        share = traffics.ranks(stable, 0.9) / (stable + 1)
        expected = float((canary * share).mean())
        assert exceeding[1].mean() == pytest.approx(expected, abs=0.05)
        assert (np.diff(exceeding.mean(axis=1)) > 0.1 * expected).all()
        means.append([canary.mean(), *exceeding.mean(axis=1), *exceeding.std(axis=1)])
    assert means[0] == pytest.approx(means[1], rel=0.05)


def test_the_largest_of_moving_values(modules: dict[str, ModuleType]) -> None:
    rng = np.random.default_rng(0)
    sizes, level, runs = np.array([7, 0, 3]), np.array([0.0, 9.0, 1.0]), 20_000
    found = modules["latency_traffic"].largest(np.tile(sizes, (runs, 1)), np.tile(level, (runs, 1)),
                                               rng.integers(4, 6, runs), np.random.default_rng(1))
    ranks = np.random.default_rng(0).integers(4, 6, runs)
    every = np.sort(rng.normal(np.repeat(level, sizes), 1.0, (runs, 10)), axis=1)[np.arange(runs), 10 - ranks]
    assert np.quantile(found, [0.05, 0.5, 0.95]) == pytest.approx(np.quantile(every, [0.05, 0.5, 0.95]), abs=0.03)


def test_tables_are_whole_and_refute_no_promise(modules: dict[str, ModuleType]) -> None:
    latency, distribution = modules["latency_cells"], modules["distribution_cells"]
    first, again = ([*latency.error_tables(40, 1, ((0.5, 0.05, 1000), (0.999, 0.5, 1000))),
                     *distribution.tables(40, 1, ((0.05, 100), (0.5, 1000)))] for _ in range(2))
    assert [table.markdown() for table in first] == [table.markdown() for table in again]
    assert len(first) == 7
    for table in first:
        assert len(table.rows) == 2
        for row in table.rows:
            assert len(row) == len(table.headers)
            for cell in row[-4:]:
                assert re.fullmatch(r"\d+\.\d\d ±\d+\.\d\d", cell), f"{table.title}: {row}"
