"""A full disk: every writer says what it could not write, how much room there is and what to do, and leaves nothing.

On a file system of 256 KiB where this machine lets the test mount one, and always under a limit on the size of files.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from penstock.components.contracts.dataset import Description, ImageFormat, rows_table, write_dataset
from penstock.components.contracts.errors import DiskFull, PenstockError
from penstock.components.contracts.folder import SealedManifest, append, complete_folder, write_atomically

Write = Callable[[Path], object]
NOISE = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 1)).astype(np.uint8)  # 400 KiB, which do not compress
LIMITED = """
import resource, sys
from pathlib import Path

resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
sys.path.insert(0, sys.argv[1])
from test_full_disk import WRITERS

WRITERS[sys.argv[2]](Path(sys.argv[3]))
"""


class Note(SealedManifest):
    text: str


def within_a_folder(write: Write) -> Write:
    def build(place: Path) -> None:
        with complete_folder(place) as building:
            (building / "first").write_text("…")
            write(building)

    return build


def dataset(place: Path) -> None:
    description = Description(name="noise", source="here", classes=("a", "b"),
                              image=ImageFormat(height=64, width=64, channels=1))
    table = rows_table([str(row) for row in range(100)], NOISE, np.arange(100) % 2)
    write_dataset(place, description, {"train": table.slice(0, 60), "test": table.slice(60)}, rows_per_shard=20)


WRITERS: dict[str, Write] = {
    "file": lambda place: write_atomically(place, NOISE.tobytes()),
    "dataset": dataset,
    "folder with a text": within_a_folder(lambda folder: (folder / "page.html").write_text("x" * NOISE.size)),
    "folder with a manifest": within_a_folder(lambda folder: Note(text="x" * NOISE.size).save(folder / "note.json")),
    "folder with Parquet": within_a_folder(
        lambda folder: pq.write_table(pa.table({"image": [NOISE.tobytes()]}), folder / "a.parquet")),
    "folder with weights": within_a_folder(lambda folder: save_file({"w": NOISE}, folder / "w.safetensors")),
    "folder with arrays": within_a_folder(lambda folder: np.savez(folder / "golden.npz", pixels=NOISE)),
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB, 64 files at most."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64", "tmpfs", place],
                           capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if mount is None or mount.returncode:
        pytest.skip(f"no small file system can be mounted: {mount.stderr.strip() if mount else 'only root can'}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)  # a caught error may still hold the file it failed on


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_and_nothing_is_left(small_disk: Path, name: str) -> None:
    with pytest.raises(DiskFull) as caught:
        WRITERS[name](small_disk / "deep" / "d")

    assert isinstance(caught.value, PenstockError)
    text = str(caught.value)
    assert text.startswith(f"{small_disk}/deep/d could not be written: the disk is full; ")
    assert f" of 0.2 MiB are free in {small_disk}/deep now that" in text
    assert "make room there, or write to another disk, then start again" in text
    assert list((small_disk / "deep").iterdir()) == []


def test_after_room_was_made_the_same_call_succeeds(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(200_000))
    write = within_a_folder(lambda folder: (folder / "page.html").write_text("x" * 100_000))
    with pytest.raises(DiskFull):
        write(small_disk / "d")

    (small_disk / "ballast").unlink()
    write(small_disk / "d")
    assert sorted(path.name for path in (small_disk / "d").iterdir()) == ["first", "page.html"]


def test_an_old_file_survives_its_failed_replacement(small_disk: Path) -> None:
    write_atomically(small_disk / "state.json", "old")
    with pytest.raises(DiskFull):
        write_atomically(small_disk / "state.json", NOISE.tobytes())

    assert (small_disk / "state.json").read_text() == "old"
    assert [path.name for path in small_disk.iterdir()] == ["state.json"]


def test_a_file_is_as_it_was_where_an_end_does_not_fit(small_disk: Path) -> None:
    write_atomically(small_disk / "answers.jsonl", "one\n")
    with pytest.raises(DiskFull, match=r"answers\.jsonl could not be written: the disk is full"):
        append(small_disk / "answers.jsonl", "x" * NOISE.size)
    append(small_disk / "answers.jsonl", "two\n")

    assert (small_disk / "answers.jsonl").read_text() == "one\ntwo\n"


def test_a_disk_without_room_for_a_file_more(small_disk: Path) -> None:
    made = 0
    while os.statvfs(small_disk).f_favail:
        (small_disk / f"file-{made}").touch()
        made += 1
    with pytest.raises(DiskFull, match=r"but no file more fits: all inodes are used\. Nothing half written is left"):
        write_atomically(small_disk / "a", "b")

    assert len(list(small_disk.iterdir())) == made


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_on_the_size_of_files_is_told_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith("COVERAGE")}  # its database is larger than the limit
    ended = subprocess.run([sys.executable, "-c", LIMITED, Path(__file__).parent, name, tmp_path / "d"],
                           capture_output=True, text=True, check=False, env=environment)

    last = ended.stderr.strip().splitlines()[-1]
    assert f"DiskFull: {tmp_path}/d could not be written: a file would be larger than this process may write" in last
    assert "raise `ulimit -f`, then start again" in last
    assert list(tmp_path.iterdir()) == []


def test_another_error_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        within_a_folder(lambda folder: (folder / "absent" / "file").write_text("x"))(tmp_path / "d")
