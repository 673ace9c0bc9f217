"""Checkpoints: read back, kept few, and a damaged one never used."""

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.training.worker.checkpoint import load_newest, save


def state(epoch: int) -> dict[str, object]:
    return {"network": {"weight": torch.full((2, 2), float(epoch))}, "metrics": {"loss": 0.5}, "fingerprint": "f"}


def test_the_newest_is_read_and_two_are_kept(tmp_path: Path) -> None:
    for epoch in (9, 10, 11):
        save(tmp_path, epoch, state(epoch))

    found = load_newest(tmp_path)

    assert found is not None
    assert found[0] == 11
    assert torch.equal(found[1]["network"]["weight"], torch.full((2, 2), 11.0))
    assert sorted(path.name[:10] for path in tmp_path.iterdir()) == ["epoch-0010", "epoch-0011"]


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "none") is None


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_after_a_flipped_bit_the_one_before_is_used(
        tmp_path_factory: pytest.TempPathFactory, position: float, bit: int) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    save(folder, 1, state(1))
    newest = save(folder, 2, state(2))
    content = bytearray(newest.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    newest.write_bytes(content)

    found = load_newest(folder)

    assert found is not None
    assert found[0] == 1


def test_a_damaged_one_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path, 1, state(1))
    path.write_bytes(path.read_bytes()[:100])

    with caplog.at_level(logging.WARNING):
        assert load_newest(tmp_path) is None
    assert f"checkpoint={path} damaged=true" in caplog.text


def test_a_half_written_one_is_not_seen(tmp_path: Path) -> None:
    (tmp_path / ".epoch-0002-cut-off").write_bytes(b"half")
    save(tmp_path, 1, state(1))

    found = load_newest(tmp_path)
    assert found is not None
    assert found[0] == 1
