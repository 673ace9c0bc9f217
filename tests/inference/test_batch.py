"""A folder through a real predictor: every picture once, the rest named, and no half-written file."""

import csv
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.inference import batch, client
from penstock.inference.batch import COLUMNS, predict_folder
from penstock.inference.client import RequestRefused, ServiceError, ServiceUnavailable, ServiceUnreachable

LEFT = np.array([[200, 0, 10], [180, 0, 0]], np.uint8)
RIGHT = LEFT[:, ::-1]


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BATCH", 3)  # the shared predictor takes 4 images in a request
    monkeypatch.setattr(batch, "PAUSES", (0.01,) * 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures in three folders, alternately right and left, and what is none."""
    root = tmp_path / "pictures"
    for index, place in enumerate(["", "", "", "a", "a", "a", "a", "b/c", "b/c", "b/c"]):
        path = root / place / f"{index}.{'PNG' if index == 4 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(LEFT if index % 2 else RIGHT).save(path)
    for name in ("notes.txt", ".hidden.png", ".git/x.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("no picture")
    return root


@contextmanager
def flaky(served: Any, *troubles: int) -> Iterator[tuple[str, list[int]]]:
    """A gateway that answers the first inference requests with these codes (0: cuts the line), then asks `served`."""
    seen: list[int] = []
    lock = threading.Lock()

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*served.ask(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                trouble = troubles[len(seen)] if len(seen) < len(troubles) else 200
                seen.append(trouble)
            if trouble == 200:
                self._send(*served.ask(self.path, body, dict(self.headers)))
            elif trouble:
                self._send(trouble, {}, b'{"error": "not now"}')

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def lines(out: Path) -> list[dict[str, str]]:
    with out.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_every_picture_gets_a_line_in_order(served: Any, folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    out = tmp_path / "new" / "predictions.csv"
    summary = predict_folder(served.url, "sides", folder, out, lambda done, total: told.append((done, total)))

    rows = lines(out)
    assert tuple(rows[0]) == COLUMNS == ("path", "class", "probability", "version")
    assert [row["path"] for row in rows] == [
        "0.png", "1.png", "2.png", "a/3.png", "a/4.PNG", "a/5.png", "a/6.png", "b/c/7.png", "b/c/8.png", "b/c/9.png"]
    assert [row["class"] for row in rows] == ["right", "left"] * 5
    assert {row["version"] for row in rows} == {served.model.version}
    direct = client.predict_files(served.url, "sides", [folder / "0.png", folder / "1.png"])
    assert [float(row["probability"]) for row in rows[:2]] == pytest.approx(direct.probabilities.max(axis=1), abs=1e-6)
    assert (summary.out, summary.pictures, summary.unreadable) == (out, 10, ())
    assert summary.classes == {"right": 5, "left": 5}
    assert summary.versions == {served.model.version: 10}
    assert summary.seconds > 0
    assert told == [(0, 10), (3, 10), (6, 10), (9, 10), (10, 10)]


def test_what_is_no_picture_is_left_out_and_named(served: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "1.png").write_text("no picture")
    (folder / "a" / "3.png").unlink()
    (folder / "a" / "3.png").symlink_to("nowhere")
    summary = predict_folder(served.url, "sides", folder, tmp_path / "out.csv")

    assert summary.pictures == len(lines(tmp_path / "out.csv")) == 8
    assert [text.partition(" (")[0] for text in summary.unreadable] == [
        f"{folder}/1.png is no readable image", f"{folder}/a/3.png cannot be read: No such file or directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(served: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "a").chmod(0)
    summary = predict_folder(served.url, "sides", folder, tmp_path / "out.csv")
    (folder / "a").chmod(0o755)

    assert summary.pictures == 6
    assert summary.unreadable == (f"{folder}/a cannot be read: Permission denied",)


def test_any_file_name_is_written_as_it_is(served: Any, tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    names = sorted(['comma, "quoted".png', "new\nline.png", "été.png", os.fsdecode(b"\xff.png")])
    for name in names:
        Image.fromarray(LEFT).save(root / name, "PNG")
    predict_folder(served.url, "sides", root, tmp_path / "out.csv")

    assert [row["path"] for row in lines(tmp_path / "out.csv")] == names


def test_a_short_outage_is_waited_out(served: Any, folder: Path, tmp_path: Path) -> None:
    with flaky(served, 503, 0, 502, 504, 0) as (url, seen):
        summary = predict_folder(url, "sides", folder, tmp_path / "out.csv")

    assert summary.pictures == 10
    assert len(seen) == 5 + 4


@pytest.mark.parametrize(("code", "kind", "asked"), [
    (503, ServiceUnavailable, 6), (0, ServiceUnreachable, 6), (500, ServiceError, 1), (413, RequestRefused, 1)])
def test_a_lasting_outage_or_a_refusal_ends_it_and_leaves_the_old_file(
        served: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type, asked: int
) -> None:
    monkeypatch.setattr(batch, "WORKERS", 1)
    out = tmp_path / "out.csv"
    out.write_text("old")
    with flaky(served, *[code] * 1000) as (url, seen), pytest.raises(kind):
        predict_folder(url, "sides", folder, out)

    assert asked <= len(seen) <= asked + 6  # the next batch may have begun before the first was given up
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "pictures"]


def test_few_pictures_are_in_memory_however_many_there_are(
        served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for index in range(90):
        Image.fromarray(LEFT).save(root / f"{index:03}.png")
    opened, written = [0], [0]
    read = client.read_file

    def counted(path: Path) -> bytes:
        opened[0] += 1
        return read(path)

    def slow(done: int, total: int) -> None:
        time.sleep(0.01)
        written[0] = max(written[0], opened[0] - done)

    monkeypatch.setattr(batch, "read_file", counted)
    predict_folder(served.url, "sides", root, tmp_path / "out.csv", slow)

    assert opened[0] == 90
    assert 3 < written[0] <= 3 * batch.WAITING


def test_an_interrupt_leaves_nothing(served: Any, folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_folder(served.url, "sides", folder, tmp_path / "out.csv", interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("predict")]


def test_wrong_folders_and_names_are_explained_before_anything_is_asked(folder: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no folder .*absent"):
        predict_folder(nowhere, "sides", tmp_path / "absent", tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="is a folder; give the name of a CSV file"):
        predict_folder(nowhere, "sides", folder, tmp_path)
    with pytest.raises(ContractError, match=r"holds no picture \(.bmp"):
        predict_folder(nowhere, "sides", tmp_path / "empty", tmp_path / "out.csv")


def test_a_place_that_cannot_be_written_and_a_folder_without_a_picture_are_named(
        served: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"notes.txt/out.csv cannot be written: .*; name another file"):
        predict_folder(served.url, "sides", folder, folder / "notes.txt" / "out.csv")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no picture")
    with pytest.raises(ContractError, match=r"none of the 1 files .* the first: .*a\.png is no readable image"):
        predict_folder(served.url, "sides", tmp_path / "bad", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_service_that_is_not_there_is_no_outage(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable):
        predict_folder("http://127.0.0.1:1", "sides", folder, tmp_path / "out.csv")
