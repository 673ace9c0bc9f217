"""Where a source's files are: on this machine, or at any address that fsspec knows (`s3://`, `gs://`, `https://`, …).

Opens file systems, lists them, and puts their errors into words. Keys and endpoints are the environment's business:
for `s3://` AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_ENDPOINT_URL, as boto reads them.
"""

import difflib
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from penstock.components.contracts.errors import ConfigError, PenstockError, StepError

__all__ = [
    "BLOCK_BYTES",
    "CONNECTIONS",
    "Location",
    "Storage",
    "explain",
    "file_errors",
    "is_no_bucket",
    "local_path",
    "reaching",
    "shown",
]

CONNECT_SECONDS, READ_SECONDS = 5, 20
ATTEMPTS = 3  # of a request; at worst an endpoint that drops every packet costs 3 * 5 s and two short pauses
READS = 2  # of a body that breaks off
CONNECTIONS = 32
BLOCK_BYTES = 8 * 2**20  # fetched ahead; for s3 fsspec would take 50 MiB
S3_SCHEMES = ("s3", "s3a")
COMMON = ("abfs", "file", "ftp", "gs", "hdfs", "http", "https", "memory", "s3", "sftp", "smb", "webdav", "zip")
S3_OPTIONS = {
    # fsspec would first ask for the size of every object, so that it can read large ones in parts: two requests for one
    "max_concurrency": 1,
    "config_kwargs": {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS,
                      "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
                      "max_pool_connections": CONNECTIONS},
}
_MODULE_ERRORS = (("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError"),
                  ("aiohttp", "ClientError"))
NO_KEY = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError")


class Location(NamedTuple):
    """One file or folder: its file system, its path there, and its address for a person."""

    system: Any  # fsspec.AbstractFileSystem, which has no types
    path: str
    uri: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.system, LocalFileSystem)

    @property
    def folder(self) -> str:
        """The address of the folder that the file is in."""
        return self.uri.rpartition("/")[0] or ("/" if self.uri.startswith("/") else ".")

    @property
    def name(self) -> str:
        return posixpath.basename(self.path.rstrip("/"))

    def join(self, name: str) -> "Location":
        """Return a place below this folder; `name` may climb with `..`."""
        path, uri = (f"{base.rstrip('/')}/{name}" for base in (self.path, self.uri))
        if not self.is_local and {"..", "."} & set(name.split("/")):  # object stores take names as they are
            scheme, root, rest = path.rpartition("://")
            path = scheme + root + posixpath.normpath(rest)
        return Location(self.system, path, uri)

    def open(self, *, by_parts: bool = False) -> IO[bytes]:
        """Open the file for reading; what is named .gz is unpacked.

        Args:
            by_parts: it is read here and there, not from its beginning to its end: nothing is fetched ahead.
        """
        options = {"cache_type": "none"} if by_parts and self.system.async_impl else {}
        file: IO[bytes] = self.system.open(self.path, "rb", block_size=BLOCK_BYTES, **options,
                                           compression="gzip" if self.path.endswith(".gz") else None)
        return file


class Storage:
    """The file systems that one ingest reads from, each opened once.

    fsspec's own caches of file systems and listings are not used: in a notebook they would keep yesterday's key.
    """

    def __init__(self) -> None:
        self._opened: dict[str, tuple[Any, str]] = {}

    def locate(self, uri: str) -> Location:
        """Find the file system of an address or of a path on this machine; looks at no file.

        Raises:
            ConfigError: the scheme is unknown, or the package that speaks it is not installed.
            StepError: the file system cannot be opened.
        """
        root = _root(uri)
        if root not in self._opened:
            self._opened[root] = _open(uri)
        system, path = self._opened[root]
        return Location(system, path if root == uri else system._strip_protocol(uri),
                        str(local_path(uri) or shown(uri)))

    def resolve(self, base: Location, name: str) -> Location:
        """Find the file that a table names: an address, an absolute path here, or one relative to the table's folder.

        Args:
            base: the folder that the table is in.
        """
        return self.locate(name) if "://" in name or name.startswith("/") else base.join(name)


def local_path(source: str) -> Path | None:
    """Return the path on this machine that a source names; None for an address elsewhere."""
    scheme, _, rest = source.rpartition("://")
    if "::" in source or scheme not in ("", "file", "local"):
        return None
    return Path(rest).expanduser()


def shown(uri: str) -> str:
    """Return an address without the password, and without the query, in which a signature may be."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri.partition("?")[0] if uri.startswith("http") else uri)


def file_errors() -> tuple[type[Exception], ...]:
    """Return what a file system raises: OSError, and errors of libraries of which a program that uses none knows none.

    Call it in the `except` clause, when the library at fault has been loaded.
    """
    loaded = (getattr(sys.modules[module], name) for module, name in _MODULE_ERRORS if module in sys.modules)
    return (OSError, *loaded)


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Put errors of the file system into words, see `explain`."""
    try:
        yield
    except file_errors() as error:
        raise explain(uri, error) from error


def explain(uri: str, error: Exception, progress: str = "") -> PenstockError:
    """Say why a file or folder could not be had, and what to do.

    Args:
        uri: a local path or an address.
        progress: how far the reading had come; "" where it had not begun.
    """
    if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
        error = error.__cause__  # fsspec calls a web server that does not answer a missing file
    uri, text = shown(uri), _line(error)
    is_s3 = uri.partition("://")[0] in S3_SCHEMES
    server = _endpoint() if is_s3 else "its server" if "://" in uri else "the file system"
    if isinstance(error, PermissionError) or type(error).__name__ in NO_KEY:
        return StepError(f"{progress}{uri}: {server} refuses to read it: {text}; {_key_advice(is_s3)}")
    if isinstance(error, FileNotFoundError):
        if is_s3 and is_no_bucket(error):
            bucket = uri.split("/")[2]
            return ConfigError(f"{progress}{uri}: there is no bucket {bucket!r} at {server}; "
                               "check its name, and AWS_ENDPOINT_URL")
        return ConfigError(f"{progress}{uri}: there is no such file or folder; check the address")
    advice = f"AWS_ENDPOINT_URL is {_setting('AWS_ENDPOINT_URL')}" if is_s3 else "check the address and the network"
    return StepError(f"{progress}{uri}: {server} gives no answer that can be used: {text}; {advice}. "
                     "Nothing was written; start again when it answers")


def is_no_bucket(error: Exception) -> bool:
    """Say whether an error tells that a whole bucket, not a file in it, is not there."""
    text = f"{error} {error.__cause__}"
    return any(sign in text for sign in ("NoSuchBucket", "HeadBucket", "bucket does not exist"))


def _root(uri: str) -> str:
    """Return the part of an address that names a server and a bucket; all of one that names a file in an archive."""
    if "::" in uri:
        return uri
    return "/".join(uri.split("/", 3)[:3]) if "://" in uri else ""


def _open(uri: str) -> tuple[Any, str]:
    """Open a file system of its own, outside of fsspec's cache, and return it with the path in it."""
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    try:
        system, path = url_to_fs(uri, skip_instance_cache=True, use_listings_cache=False, **_options(uri))
    except ImportError as error:
        raise ConfigError(f"source {shown(uri)!r}: the package for {scheme}:// is not installed here: "
                          f"{_line(error)}") from error
    except ValueError as error:
        if scheme in fsspec.available_protocols():
            raise ConfigError(f"source {shown(uri)!r}: {_line(error)}") from error
        close = difflib.get_close_matches(scheme, fsspec.available_protocols(), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}://? " if close else ""
        raise ConfigError(f"source {shown(uri)!r}: unknown scheme {scheme}://; {hint}there are {', '.join(COMMON)}, "
                          "and what else fsspec knows") from error
    except OSError as error:
        raise explain(uri, error) from error
    if scheme in S3_SCHEMES:
        system.retries = READS
    return system, path


def _options(uri: str) -> dict[str, dict[str, object]]:
    """Return what every file system that an address speaks of is opened with, by scheme."""
    known: dict[str, dict[str, object]] = {name: dict(S3_OPTIONS) for name in S3_SCHEMES}
    if "http://" in uri or "https://" in uri:
        from aiohttp import ClientTimeout

        patience = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        known |= {name: {"client_kwargs": {"timeout": patience}} for name in ("http", "https")}
    return {name: options for name, options in known.items() if f"{name}://" in uri}


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"


def _setting(name: str) -> str:
    return os.environ.get(name) or "not set"


def _key_advice(is_s3: bool) -> str:
    if not is_s3:
        return "check its access rights, or the key in the environment"
    key = ", ".join(f"{name} ({'set' if os.environ.get(name) else 'not set'})"
                    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    return (f"the key is that of {key}, the server that of AWS_ENDPOINT_URL ({_setting('AWS_ENDPOINT_URL')}); "
            "a public bucket is read with FSSPEC_S3_ANON=true")


def _line(error: Exception) -> str:
    """Return the first line of an error; some list every place they looked."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
