"""Pictures, and an S3 server to keep them on: rclone's, a process of its own on this machine."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Paint = Callable[..., Path]
KEY, SECRET = "penstock-tests", "a-secret-for-tests"
RCLONE = Path(sys.executable).with_name("rclone")
LISTENING = re.compile(r"Starting s3 server on \[(http://127\.0\.0\.1:\d+)/\]")


class S3Server:
    """rclone's S3 server over a folder: its subfolders are buckets.

    Attributes:
        root: the folder.
        url: the server's address.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        log = root.with_name(f"{root.name}.log")
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [RCLONE, "serve", "s3", "--config", os.devnull, "--auth-key", f"{KEY},{SECRET}", "--addr",
                 "127.0.0.1:0", "--vfs-cache-mode", "off", "--dir-cache-time", "0s", root],
                stdout=output, stderr=output)
        while (listening := LISTENING.search(log.read_text())) is None:
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        self.url = listening[1]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def paint() -> Paint:
    """Write a picture file of random pixels."""
    def write(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def running_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    root = tmp_path_factory.mktemp("s3")
    server = S3Server(root)
    yield server
    server.stop()


@pytest.fixture
def s3(running_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Give the environment the server's address and key, and no other."""
    use(running_s3, monkeypatch)
    return running_s3


@pytest.fixture
def mortal_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Start a server that the test may stop."""
    (tmp_path / "s3").mkdir()
    server = S3Server(tmp_path / "s3")
    use(server, monkeypatch)
    yield server
    server.stop()


def use(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
