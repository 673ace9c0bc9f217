"""Which files a folder holds, here or at an address, and which files a pattern names.

Lists names; opens no file.
"""

import os
import posixpath
from pathlib import Path
from typing import NamedTuple

from penstock.components.contracts.errors import ConfigError
from penstock.components.data.ingest.storage import Location, reaching

__all__ = ["WILDCARD", "Listing", "expand", "list_folder"]

WILDCARD = "*"


class Listing(NamedTuple):
    """What is below a folder; all names are relative to it, with `/` between their parts.

    `folders` holds those with files in them, and empty ones where the storage knows such a thing.
    """

    files: list[str]
    folders: set[str]


def list_folder(root: Location) -> Listing:
    """List a folder and all below it.

    Raises:
        ConfigError: there is no such folder or bucket, or nothing is in it.
        StepError: the storage refuses, or gives no answer.
    """
    if root.is_local:
        return _list_local(root)
    with reaching(root.uri):
        paths = root.system.find(root.path)
    prefix = root.path.rstrip("/") + "/"
    files = [path.removeprefix(prefix) for path in paths if path.startswith(prefix) and not path.endswith("/")]
    if not files:
        raise ConfigError(f"source {root.uri!r}: there is no file below it; check the address, it must name a "
                          "folder")
    return Listing(files, {str(parent) for file in files for parent in Path(file).parents} - {"."})


def expand(location: Location) -> list[Location]:
    """Return the files that a pattern with `*` names, sorted; for a path without one, that file.

    Raises:
        ConfigError: no file is there.
        StepError: the storage refuses, or gives no answer.
    """
    system, path, uri = location
    with reaching(uri):
        if WILDCARD not in location.name:
            if system.info(path)["type"] == "directory":
                raise ConfigError(f"source {uri!r} is a folder; give the file in it")
            return [location]
        paths = sorted(found for found in system.glob(path) if system.isfile(found))
        if not paths and not location.is_local:
            system.ls(path.rpartition("/")[0])  # says why: no bucket, no key
    if not paths:
        raise ConfigError(f"source {uri!r}: no file has such a name")
    return [Location(system, found, posixpath.join(location.folder, posixpath.basename(found))) for found in paths]


def _list_local(root: Location) -> Listing:
    """Walk a folder here; links are followed, for a class folder is often one, but never round in a circle."""
    top = Path(root.path)
    if not top.is_dir():
        raise ConfigError(f"source {root.uri!r}: there is no folder {top.absolute()}; "
                          "give one that holds a folder of images per class")
    files, folders, seen = [], set(), set()
    with reaching(root.uri):
        for directory, below, names in os.walk(top, onerror=_raise, followlinks=True):
            real = os.path.realpath(directory)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            relative = Path(directory).relative_to(top)
            folders.add(relative.as_posix())
            files += [(relative / name).as_posix() for name in names if (Path(directory) / name).is_file()]
    return Listing(files, folders - {"."})


def _raise(error: OSError) -> None:
    raise error
