"""Fashion-MNIST: 70,000 grey pictures of clothes, 28x28, with a test split of its own (Xiao et al. 2017).

Looks in the cache, in the folder of Debian's package, at the public download, and last installs that package. What
it finds is the published content by sha256, or it is not taken.
"""

import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from penstock.components.contracts.dataset import Description, ImageFormat
from penstock.components.contracts.errors import ContractError, StepError
from penstock.components.contracts.folder import text_sha256, write_atomically
from penstock.components.data.ingest.config import IngestConfig, cache_folder
from penstock.components.data.ingest.idx_format import idx_table, parse_idx, unpack
from penstock.components.data.ingest.rows import SourceRows

__all__ = ["CLASSES", "FILES", "load", "read"]

logger = logging.getLogger(__name__)

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DOWNLOAD = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"  # no TLS there; the hashes below vouch
CONNECT_SECONDS, READ_SECONDS, INSTALL_SECONDS = 10, 60, 600


class IdxFile(NamedTuple):
    """One published file: its size in bytes and its sha256, both of what is inside the .gz.

    Mirrors compress anew, so the hash of the .gz differs from place to place.
    """

    name: str
    size: int
    sha256: str


IMAGES = {
    "train": IdxFile("train-images-idx3-ubyte.gz", 47_040_016,
                     "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "test": IdxFile("t10k-images-idx3-ubyte.gz", 7_840_016,
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
}
LABELS = {
    "train": IdxFile("train-labels-idx1-ubyte.gz", 60_008,
                     "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "test": IdxFile("t10k-labels-idx1-ubyte.gz", 10_008,
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
FILES = (*IMAGES.values(), *LABELS.values())


def load(config: IngestConfig) -> SourceRows:
    """Read Fashion-MNIST.

    Returns:
        Splits `train` (60,000) and `test` (10,000); ids `train-00000` to `test-09999` in the published order.

    Raises:
        StepError: it is in none of the four places; the text says what went wrong in each.
    """
    content = _find(cache_folder(config) / "fashion-mnist")
    return read({split: (content[IMAGES[split].name], content[LABELS[split].name]) for split in IMAGES}, config)


def read(content: Mapping[str, tuple[bytes, bytes]], config: IngestConfig) -> SourceRows:
    """Make rows of the published files.

    Args:
        content: per split what is inside the files of images and labels.
    """
    tables = {split: idx_table(split, parse_idx(IMAGES[split].name, images, 3),
                               parse_idx(LABELS[split].name, labels, 1), config)
              for split, (images, labels) in content.items()}
    height, width, channels = tables["train"][1]
    description = Description(
        name="fashion-mnist", source=config.source, classes=CLASSES,
        image=ImageFormat.model_validate({"height": height, "width": width, "channels": channels}))
    return SourceRows(description, {split: table for split, (table, _) in tables.items()},
                      text_sha256("".join(file.sha256 for file in FILES)))


def _find(cache: Path) -> dict[str, bytes]:
    """Return the four files' content by file name, from the first place that has them."""
    places: dict[str, Callable[[], dict[str, bytes]]] = {
        f"cache {cache}": lambda: _read(cache),
        f"system folder {SYSTEM_FOLDER}": lambda: _read(SYSTEM_FOLDER),
        f"download from {DOWNLOAD}": lambda: _download(cache),
        f"apt-get install {DEBIAN_PACKAGE}": _install,
    }
    failures = []
    for place, read in places.items():
        try:
            content = read()
        except (StepError, ContractError, OSError) as error:
            logger.info("source=fashion-mnist place=%r failed=%r", place, str(error))
            failures.append(f"{place}: {error}")
        else:
            logger.info("source=fashion-mnist place=%r", place)
            return content
    raise StepError(f"Fashion-MNIST could not be had. {'; '.join(failures)}. Put its four .gz files into {cache}, "
                    "or ingest synthetic://shapes, which needs nothing")


def _read(folder: Path) -> dict[str, bytes]:
    missing = [file.name for file in FILES if not (folder / file.name).is_file()]
    if missing:
        raise StepError(f"{', '.join(missing)} not there")
    with ThreadPoolExecutor(len(FILES)) as pool:  # zlib and sha256 let go of the interpreter
        return dict(pool.map(lambda file: (file.name, _check(file, (folder / file.name).read_bytes())), FILES))


def _check(file: IdxFile, packed: bytes) -> bytes:
    content = unpack(file.name, packed, file.size)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ContractError(f"{file.name} is not the published file: its content has sha256 {found}, not {file.sha256}")
    return content


def _download(cache: Path) -> dict[str, bytes]:
    """Fetch the four files into the cache, each only once its content has been checked."""
    import httpx

    content = {}
    patience = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        with httpx.Client(timeout=patience, follow_redirects=True) as client:
            for file in FILES:
                answer = client.get(f"{DOWNLOAD}/{file.name}").raise_for_status()
                content[file.name] = _check(file, answer.content)
                write_atomically(cache / file.name, answer.content)
                logger.info("source=fashion-mnist downloaded=%s bytes=%d", file.name, len(answer.content))
    except httpx.HTTPError as error:
        raise StepError(f"{type(error).__name__}: {error}") from error
    return content


def _install() -> dict[str, bytes]:
    """Install Debian's package of the data, which only root can do."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise StepError("only root can, on Debian or Ubuntu")
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", DEBIAN_PACKAGE]):
        try:
            done = subprocess.run(["apt-get", *arguments], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                                  capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise StepError(f"apt-get {arguments[0]} took longer than {INSTALL_SECONDS} s") from error
    if done.returncode:  # of the installation: old package lists may do, so a failed update is no reason to stop
        raise StepError(f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return _read(SYSTEM_FOLDER)
