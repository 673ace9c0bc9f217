"""Splitting: stable, disjoint, complete, and about the asked size."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.errors import ConfigError, ContractError, StepError
from penstock.components.data.split.step import SplitConfig, run, split_rows

BOTH = {"validation": 0.1, "test": 0.1}


def ids(table: pa.Table) -> set[str]:
    return set(table["id"].to_pylist())


def numbered(count: int) -> pa.Table:
    return pa.table({"id": [f"{row}" for row in range(count)]})


@given(st.sets(st.text(min_size=1), max_size=50), st.integers(0, 2**53 - 1))
def test_every_row_lands_in_exactly_one_split(names: set[str], seed: int) -> None:
    parts = split_rows(pa.table({"id": pa.array(sorted(names), pa.string())}), {"validation": 0.1, "test": 0.2}, seed)

    assert sum(len(part) for part in parts.values()) == len(names)
    assert set.union(*map(ids, parts.values())) == names


@given(st.permutations([f"{row}" for row in range(40)]))
def test_order_decides_nothing(names: list[str]) -> None:
    straight, shuffled = split_rows(numbered(40), BOTH), split_rows(pa.table({"id": names}), BOTH)

    assert {name: ids(part) for name, part in straight.items()} == {name: ids(part) for name, part in shuffled.items()}


def test_a_row_keeps_its_split_when_the_dataset_grows() -> None:
    small, grown = split_rows(numbered(1_000), BOTH), split_rows(numbered(3_000), BOTH)

    assert all(ids(small[name]) <= ids(grown[name]) for name in small)


def test_a_larger_share_takes_the_smaller_one_in() -> None:
    small, large = (split_rows(numbered(1_000), {"validation": share})["validation"] for share in (0.1, 0.2))

    assert ids(small) < ids(large)


def test_shares_hold_on_average() -> None:
    parts = split_rows(numbered(60_000), BOTH)

    assert len(parts["test"]) == pytest.approx(6_000, abs=4 * 73)
    assert len(parts["validation"]) == pytest.approx(6_000, abs=4 * 73)


def test_another_seed_draws_other_rows() -> None:
    assert ids(split_rows(numbered(1_000), BOTH, 1)["test"]) != ids(split_rows(numbered(1_000), BOTH, 2)["test"])


def test_the_sources_own_test_split_stays(shapes: Path, tmp_path: Path) -> None:
    source, result = Dataset(shapes), run(shapes, tmp_path / "out", SplitConfig())

    assert sorted(result.manifest.splits) == ["test", "train", "validation"]
    assert result.read("test") == source.read("test")
    assert result.rows == source.rows
    assert result.description == source.description
    assert ids(result.read("train")) | ids(result.read("validation")) == ids(source.read("train"))


def test_a_test_split_is_carved_where_the_source_has_none(shapes: Path, tmp_path: Path) -> None:
    source = Dataset(shapes)
    write_dataset(tmp_path / "in", source.description, {"train": source.read("train")})

    result = run(tmp_path / "in", tmp_path / "out", SplitConfig(validation=0.2, test=0.3))
    assert result.manifest.splits["test"].rows == pytest.approx(60, abs=25)
    assert result.rows == 200


def test_nothing_is_carved_where_nothing_is_asked(shapes: Path, tmp_path: Path) -> None:
    result = run(shapes, tmp_path / "out", SplitConfig(validation=0, test=0))

    assert result.manifest.content_hash == Dataset(shapes).manifest.content_hash


def test_too_few_rows_are_told_with_what_to_do(shapes: Path, tmp_path: Path) -> None:
    source = Dataset(shapes)
    write_dataset(tmp_path / "in", source.description, {"train": source.read("train").slice(2, 1)})

    with pytest.raises(StepError, match=r"validation would get none of the 1 training rows at .*; bring"):
        run(tmp_path / "in", tmp_path / "out", SplitConfig(validation=0.01))
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_training_rows_cannot_be_split(shapes: Path, tmp_path: Path) -> None:
    source = Dataset(shapes)
    write_dataset(tmp_path / "in", source.description, {"test": source.read("test")})

    with pytest.raises(ContractError, match="no split 'train'"):
        run(tmp_path / "in", tmp_path / "out", SplitConfig())


def test_a_retry_finds_its_finished_output_and_another_config_does_not(shapes: Path, tmp_path: Path) -> None:
    first = run(shapes, tmp_path / "out", SplitConfig()).manifest
    assert run(shapes, tmp_path / "out", SplitConfig()).manifest == first

    with pytest.raises(ContractError, match="exists already"):
        run(shapes, tmp_path / "out", SplitConfig(seed=1))


@pytest.mark.parametrize(("options", "message"), [
    ({"validation": 0.7, "test": 0.3}, r"validation \+ test = 1 leaves no training rows; try 0\.1 and 0\.1"),
    ({"validation": 1}, "validation=1: Input should be less than 1"),
    ({"tset": 0.1}, r"unknown field 'tset', did you mean 'test'\?"),
    ({"seed": 0.5}, "seed=0.5"),
])
def test_a_wrong_option_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SplitConfig.parse(options)


def test_a_seed_may_arrive_as_float() -> None:
    assert SplitConfig.parse({"seed": 7.0, "validation": 0}).seed == 7
