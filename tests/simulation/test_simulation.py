"""`make simulate` in little: the file is written, the same seed writes the same, and no promise is refuted."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ville import means

FOLDER = Path(__file__).parent
RUNS = 50


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules beside this file, which import each other as the script does."""
    monkeypatch.syspath_prepend(FOLDER)
    import climbing
    import mix_cells
    import mixes
    import peers
    import power
    import rate_cells
    import rollouts
    import simulate
    import table

    return {module.__name__: module
            for module in (climbing, mix_cells, mixes, peers, power, rate_cells, rollouts, simulate, table)}


@pytest.fixture
def little(modules: dict[str, ModuleType]) -> tuple:
    job = modules["simulate"].Job
    corners = ((0.001, 0.5, 1000), (0.1, 0.05, 1))
    return (job("Rates", "rate_cells", options={"cells": corners}), job("Rates", "power", options={"quick": True}))


def test_the_same_seed_writes_the_same_text(modules: dict[str, ModuleType], little: tuple, tmp_path: Path) -> None:
    written = []
    rates, speed = little
    little = (rates._replace(options=rates.options | {"questions": (("worse", 1),)}), speed)
    for place in ("one", "two"):
        folder = tmp_path / place
        folder.mkdir()
        path = modules["simulate"].write(folder, little, RUNS, 1, processes=1)
        written.append([path.read_bytes(), *(path.read_bytes() for path in sorted(folder.rglob("*.svg")))])
    assert written[0] == written[1]
    assert len(written[0]) == 4
    text = written[0][0].decode()
    assert text.startswith("# What the tests promise")
    assert text.count("\n## ") == 3
    assert re.search(r"promised: 10 cells of RateTest, the worst at \d\.\d\d %, 0 of them above α\.", text)
    for picture in re.findall(r"\]\((statistics/\w+\.svg)\)", text):
        assert (tmp_path / "one" / picture).read_text(encoding="utf-8").startswith("<?xml")
    first, second = (modules["simulate"].simulate(little[0], RUNS, seed) for seed in (1, 2))
    assert first[0].markdown() in text
    assert second[0].markdown() not in text


def test_no_promise_is_refuted(modules: dict[str, ModuleType], little: tuple) -> None:
    for table in modules["simulate"].simulate(little[0], RUNS, 3):
        assert table.rows
        for row in table.rows:
            assert len(row) == len(table.headers)
            for cell in row[4:]:
                assert re.fullmatch(r"\d+\.\d\d ±\d+\.\d\d", cell), f"{table.title}: {row}"


def test_every_job_has_its_module(modules: dict[str, ModuleType]) -> None:
    for job in modules["simulate"].JOBS:
        assert "def tables(runs: int, seed: int" in (FOLDER / f"{job.module}.py").read_text(encoding="utf-8")


def test_a_bound_that_refutes(modules: dict[str, ModuleType]) -> None:
    cells = modules["table"]
    assert "above α" not in cells.written(2, 50)
    assert "above α" in cells.written(5, 50, 0.01)
    assert "above α" in cells.written(25, 50)
    assert cells.lower_bound(0, 50) == 0
    assert cells.lower_bound(50, 50) == pytest.approx(0.001 ** (1 / 50))


@pytest.mark.parametrize("pattern", ["stationary", "diurnal", "drifting", "autocorrelated", "sessions"])
@pytest.mark.parametrize("look", [1, 100])
def test_the_traffic_is_what_is_stated(modules: dict[str, ModuleType], pattern: str, look: int) -> None:
    cells = modules["rate_cells"]
    cell = cells.plan(0.1, 0.05, look, pattern, 1)
    traffic, sums = cells.Traffic(cell, 400, np.random.default_rng(0)), np.zeros(4)
    for span in cells.spans(cell):
        window = traffic.next(span)
        assert (window.stable_events <= window.stable).all()
        assert (window.canary_events <= window.canary).all()
        assert ((window.stable > 0) == (window.canary > 0)).all()
        sums += [part.sum() for part in window]
        if span.middle > 0.5:
            break
    assert sums[3] / (sums[1] + sums[3]) == pytest.approx(0.05, rel=0.05)
    assert sums[2] / sums[3] - sums[0] / sums[1] == pytest.approx(0.02, abs=0.006)


def test_rivals_know_good_from_bad(modules: dict[str, ModuleType]) -> None:
    power, peers = modules["power"], modules["peers"]
    cell = modules["rate_cells"].Cell(0.02, 0.5, 100, "stationary", 0.01, 0.1)
    found = power.race(cell, 3000, 20, 0, power.RIVALS)
    assert all(np.isfinite(times).all() for times in found.worse.values())
    found = power.race(cell._replace(truth=0.0), 30_000, 20, 0, power.RIVALS)
    assert all(np.isfinite(times).sum() >= 10 for times in found.within.values())
    p_s, p_c = np.array(0.01), np.array(0.03)
    null = float(peers.projection(p_s, p_c, np.array(1.0), np.array(1.0), 0.0))
    assert null == pytest.approx(0.02)  # where nothing is tolerated, both are drawn together
    assert peers.fixed_sample(0.1, 0.02, 0.0, 0.5) == pytest.approx(3868, rel=0.001)


def test_intervals_per_arm_are_those_of_the_paper(modules: dict[str, ModuleType]) -> None:
    """Their bounds at alpha / 2 each are the hedged capital's at alpha; `ville` bets against a finer grid of means."""
    peers, random = modules["peers"], np.random.default_rng(0)
    for rate, many in ((0.02, 4000), (0.3, 2000)):
        seen = (random.random(many) < rate).astype(float)
        theirs = means.BettingCS(alpha=0.05, grid=20_001).fit(seen)
        ours, nothing = peers.PerArm(0.0, 1), np.zeros(1)
        for value in seen:
            ours.look(peers.Window(nothing, nothing, np.array([value]), np.ones(1)))
        assert ours.bounds[:, 1, 0] == pytest.approx([theirs.lower_[-1], theirs.upper_[-1]], abs=0.001)


def test_rules_do_what_their_documentation_says(modules: dict[str, ModuleType]) -> None:
    rollouts = modules["rollouts"]
    drive = rollouts.drive
    good, bad = (drive(rollouts.Flagger(5), 0.0, more, 5, 0) for more in (0.0, 0.5))
    assert good.promoted.all()
    per_minute = 60 * rollouts.PER_SECOND
    assert good.served == pytest.approx(per_minute * (0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 55), rel=0.01)
    assert bad.minutes.tolist() == [6] * 5  # five failed minutes, and the next interval
    good, bad = (drive(rollouts.Argo(5), 0.0, more, 5, 0) for more in (0.0, 0.5))
    assert good.served == pytest.approx(per_minute * (10 * (0.2 + 0.4 + 0.6 + 0.8) + 20), rel=0.01)
    assert bad.minutes.tolist() == [20] * 5  # measured at 10, 15 and 20 minutes


@pytest.mark.parametrize("baseline", [0.0, 0.1])
@pytest.mark.parametrize("pattern", ["stationary", "diurnal", "drifting", "autocorrelated"])
@pytest.mark.parametrize("look", [1, 100])
def test_the_mixes_are_what_is_stated(modules: dict[str, ModuleType], baseline: float, pattern: str, look: int) -> None:
    mixes = modules["mixes"]
    cell = mixes.Cell(6, 0.05, look, pattern, 0.05, baseline)
    drawn, sums = mixes.Mixes(cell, 400, np.random.default_rng(0)), np.zeros((2, 6))
    grows = mixes.growing(cell)
    assert grows.sum() == (1 if baseline else 3)
    for span in mixes.spans(cell):
        window = drawn.next(span)
        assert ((window[0].sum(-1) > 0) == (window[1].sum(-1) > 0)).all()
        sums += window.sum(axis=1)
        stable = drawn.mix(span)
        change = drawn.moved(stable) - stable
        assert ((change > 0) == grows).all()
        assert np.abs(change).sum(-1) / 2 == pytest.approx(0.05)
        if span.middle > 0.5:
            break
    assert sums[1].sum() / sums.sum() == pytest.approx(0.05, rel=0.05)
    share = sums / sums.sum(axis=-1, keepdims=True)
    assert (share[1] - share[0])[grows].sum() == pytest.approx(0.05, abs=0.006)
    assert share[0, grows].sum() == pytest.approx(baseline or 0.5, rel=0.25)


@pytest.mark.parametrize("look", [1, 100])
def test_sets_that_are_left_out_change_nothing(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch,
                                               look: int) -> None:
    """`within` with the sets of few runs alone, and with all sets of all runs; alpha is 0.9, so that it is said."""
    cells = modules["mix_cells"]
    cell = modules["mixes"].Cell(4, 0.5, look, "autocorrelated", 0.05, baseline=0.1)
    monkeypatch.setattr(cells, "OVER", -np.inf)
    everything = cells.suspects(cell, 300, np.random.default_rng(0))
    assert everything.shape[1:] == (2, 300, 4)
    monkeypatch.setattr(cells, "OVER", -np.log(0.9))
    expected = int(cells.over(everything, cells.subsets(4)).sum())
    assert 0 < expected < cells.suspects(cell, 300, np.random.default_rng(0)).shape[2] < 300
    assert cells.ever_within(cell, 300, np.random.default_rng(0)) == expected


def test_no_promise_on_mixes_is_refuted(modules: dict[str, ModuleType]) -> None:
    cells = modules["mix_cells"]
    for verdict, multiple in cells.QUESTIONS:
        written = [cells.grid_table(verdict, multiple, ((0.1, 0.5, 1000),), RUNS, 1) for _ in range(2)]
        assert written[0] == written[1]
        for cell in written[0].rows[0][3:]:
            assert re.fullmatch(r"\d+\.\d\d ±\d+\.\d\d", cell)
    table = cells.shape_table("within", RUNS, 1)
    assert len(table.rows) == 2 * len(cells.SHAPES["within"])
    assert "above α" not in table.markdown()


def test_wrong_usage_is_said(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch,
                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate.py", "--only", "weather"])
    with pytest.raises(SystemExit) as ended:
        modules["simulate"].main()
    assert ended.value.code == 2
    assert "no such module" in capsys.readouterr().err
