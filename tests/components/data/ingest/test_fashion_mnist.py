"""Fashion-MNIST: found in the first place that has it, taken only if it is the published content.

The tests publish a tiny data set of the same form, so that they need neither the real one nor a network.
"""

import functools
import gzip
import hashlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from penstock.components.contracts.dataset import images_array
from penstock.components.contracts.errors import StepError
from penstock.components.data.ingest import fashion_mnist
from penstock.components.data.ingest.config import IngestConfig, cache_folder

ROWS = {"train": 30, "test": 20}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publish a tiny data set: its four .gz files, and the hashes of what is in them. No place has it yet."""
    folder = tmp_path / "published"
    folder.mkdir()
    random = np.random.default_rng(0)
    for table, make in ((fashion_mnist.IMAGES, lambda rows: random.integers(0, 256, (rows, 28, 28))),
                        (fashion_mnist.LABELS, lambda rows: np.arange(rows) % 10)):
        for split, file in list(table.items()):
            content = idx(make(ROWS[split]))
            (folder / file.name).write_bytes(gzip.compress(content))
            entry = fashion_mnist.IdxFile(file.name, len(content), hashlib.sha256(content).hexdigest())
            monkeypatch.setitem(table, split, entry)
    monkeypatch.setattr(fashion_mnist, "FILES", (*fashion_mnist.IMAGES.values(), *fashion_mnist.LABELS.values()))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fashion_mnist, "DOWNLOAD", "http://127.0.0.1:9")  # the discard port: nobody answers
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def server(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(published))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        monkeypatch.setattr(fashion_mnist, "DOWNLOAD", f"http://127.0.0.1:{http.server_port}")
        yield published
        http.shutdown()
        thread.join()


def config(tmp_path: Path, **options: object) -> IngestConfig:
    return IngestConfig.parse({"cache": str(tmp_path / "cache"), **options})


def put(published: Path, place: Path) -> None:
    place.mkdir(parents=True)
    for file in published.iterdir():
        (place / file.name).write_bytes(file.read_bytes())


def test_rows_keep_the_published_order_and_splits(published: Path, tmp_path: Path) -> None:
    put(published, tmp_path / "cache" / "fashion-mnist")
    rows = fashion_mnist.load(config(tmp_path))

    assert {split: len(table) for split, table in rows.splits.items()} == ROWS
    assert rows.splits["train"]["id"].to_pylist()[:2] == ["train-00000", "train-00001"]
    assert rows.splits["test"]["id"].to_pylist()[-1] == "test-00019"
    assert rows.splits["train"]["label"].to_pylist()[:11] == [*range(10), 0]
    assert rows.description.classes[0] == "T-shirt/top"
    assert rows.description.classes[9] == "Ankle boot"
    expected = np.random.default_rng(0).integers(0, 256, (30, 28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(images_array(rows.splits["train"], rows.description.image)[..., 0], expected)


def test_a_limit_and_another_size_are_honoured(published: Path, tmp_path: Path) -> None:
    put(published, tmp_path / "cache" / "fashion-mnist")
    rows = fashion_mnist.load(config(tmp_path, limit=10, image_size=14, channels=3))

    assert rows.description.image.shape == (14, 14, 3)
    assert rows.splits["train"]["label"].to_pylist() == list(range(10))


def test_the_system_folder_is_used_where_the_cache_is_empty(published: Path, tmp_path: Path) -> None:
    put(published, tmp_path / "system")

    assert len(fashion_mnist.load(config(tmp_path)).splits["train"]) == 30
    assert not (tmp_path / "cache").exists()


def test_a_download_fills_the_cache(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(fashion_mnist.load(config(tmp_path)).splits["train"]) == 30

    monkeypatch.setattr(fashion_mnist, "DOWNLOAD", "http://127.0.0.1:9")
    assert len(fashion_mnist.load(config(tmp_path)).splits["train"]) == 30
    assert sorted(path.name for path in (tmp_path / "cache" / "fashion-mnist").iterdir()) == sorted(
        path.name for path in server.iterdir())


def test_a_download_of_other_content_is_refused_and_not_kept(server: Path, tmp_path: Path) -> None:
    changed = server / fashion_mnist.LABELS["train"].name
    changed.write_bytes(gzip.compress(idx(np.zeros(30))))

    with pytest.raises(StepError, match=r"download from .*: train-labels-idx1-ubyte\.gz is not the published file"):
        fashion_mnist.load(config(tmp_path))
    assert not (tmp_path / "cache" / "fashion-mnist" / changed.name).exists()


def test_a_truncated_file_in_the_cache_is_told_and_replaced(server: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "fashion-mnist"
    put(server, cache)
    images = cache / fashion_mnist.IMAGES["train"].name
    images.write_bytes(images.read_bytes()[:1000])
    assert len(fashion_mnist.load(config(tmp_path)).splits["train"]) == 30
    assert images.read_bytes() == (server / images.name).read_bytes()


def test_every_failed_place_is_told_in_one_error(published: Path, tmp_path: Path) -> None:
    put(published, tmp_path / "cache" / "fashion-mnist")
    images = tmp_path / "cache" / "fashion-mnist" / fashion_mnist.IMAGES["test"].name
    images.write_bytes(images.read_bytes()[:1000])

    with pytest.raises(StepError) as caught:
        fashion_mnist.load(config(tmp_path))
    text = str(caught.value)
    assert "t10k-images-idx3-ubyte.gz (1,000 bytes) is truncated or no .gz file" in text
    assert f"system folder {tmp_path / 'system'}: train-images-idx3-ubyte.gz" in text
    assert "download from http://127.0.0.1:9: ConnectError" in text
    assert "apt-get install dataset-fashion-mnist: only root can" in text
    assert f"Put its four .gz files into {tmp_path / 'cache' / 'fashion-mnist'}" in text


def test_root_on_debian_installs_the_package_last(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def apt_get(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[1])
        if command[1] == "install":
            put(published, tmp_path / "system")
        return subprocess.CompletedProcess(command, 100 if command[1] == "update" else 0, "", "no network")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(fashion_mnist.subprocess, "run", apt_get)

    assert len(fashion_mnist.load(config(tmp_path)).splits["train"]) == 30
    assert commands == ["update", "install"]


def test_a_failed_installation_is_told(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(fashion_mnist.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(
        command, 100, "", "E: Unable to locate package\n"))

    with pytest.raises(StepError, match="exit code 100: E: Unable to locate package"):
        fashion_mnist.load(config(tmp_path))


def test_the_cache_follows_the_xdg_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(IngestConfig()) == tmp_path / "penstock" / "datasets"

    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(IngestConfig()) == Path.home() / ".cache" / "penstock" / "datasets"
    assert cache_folder(IngestConfig(cache="/data")) == Path("/data")


@pytest.mark.skipif(not fashion_mnist.SYSTEM_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_thing_is_what_the_hashes_say(tmp_path: Path) -> None:
    rows = fashion_mnist.load(IngestConfig(cache=str(tmp_path), limit=100))

    assert {split: len(table) for split, table in rows.splits.items()} == {"train": 100, "test": 100}
    assert np.bincount(rows.splits["test"]["label"].to_numpy()).tolist() == [10] * 10
