"""Tables and pictures on a web server: many files at once, and what is said when it gives none."""

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.components.contracts.errors import ConfigError, StepError
from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.step import run

Paint = Callable[..., Path]
TOGETHER = 8


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Serve a folder; a picture is sent only when as many as `TOGETHER` have been asked for."""
    waiting = threading.Barrier(TOGETHER, timeout=60)

    class Patient(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".png"):
                waiting.wait()
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "web").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Patient, directory=str(tmp_path / "web"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path / "web"
        server.shutdown()
        thread.join()


def test_files_are_asked_for_together(web: tuple[str, Path], tmp_path: Path, paint: Paint) -> None:
    url, folder = web
    for row in range(2 * TOGETHER):
        paint(folder / "images" / f"{row}.png", seed=row)
    lines = [f"images/{row}.png,{row % 2}" for row in range(2 * TOGETHER)]
    (folder / "photos.csv").write_text("\n".join(["path,label", *lines]))

    dataset = run(tmp_path / "d", IngestConfig(source=f"{url}/photos.csv"))
    assert dataset.rows == 2 * TOGETHER
    assert dataset.read("train")["id"].to_pylist()[3] == "images/3.png"


def test_a_file_that_is_not_there(web: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/absent\.csv: there is no such file"):
        run(tmp_path / "d", IngestConfig(source=f"{web[0]}/absent.csv"))


def test_a_server_that_gives_whole_files_only_has_no_parquet(web: tuple[str, Path], tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"], "label": ["a"]}), web[1] / "a.parquet")
    with pytest.raises(StepError, match=r"/a\.parquet: its server gives no answer that can be used: .*range requests"):
        run(tmp_path / "d", IngestConfig(source=f"{web[0]}/a.parquet"))


def test_a_server_that_is_not_there(web: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"^http://127\.0\.0\.1:9/photos\.csv: its server gives no answer"):
        run(tmp_path / "d", IngestConfig(source="http://127.0.0.1:9/photos.csv"))

    assert not (tmp_path / "d").exists()
