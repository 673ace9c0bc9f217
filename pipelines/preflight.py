"""What this machine must offer before a run starts: a free gateway port, disk, memory, and the data source.

Looks and refuses; changes nothing.
"""

from collections.abc import Mapping
from pathlib import Path

import psutil

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.base import ControlError
from penstock.pipelines.stages import Options

__all__ = ["check_machine", "check_source"]

GIB = 2**30
DISK = 1 * GIB  # a Fashion-MNIST run leaves 120 MB, and a full disk breaks more than the run
MEMORY = 1 * GIB  # two ranks, one predictor each for stable and canary; PyTorch alone takes 250 MB a process


def check_machine(out: Path, stages: Mapping[str, Options]) -> None:
    """Look for everything that a run needs and that another program may have taken.

    Raises:
        ControlError: port, disk space or memory is missing.
        ConfigError: the data source does not exist.
    """
    from penstock.components.control.laptop.home import gateway_port, plane_root
    from penstock.components.control.laptop.launch import check_gateway

    check_source(stages)
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.is_dir())
    if (free := psutil.disk_usage(str(existing)).free) < DISK:
        raise ControlError(f"{existing} has {free / GIB:.1f} GiB free, a run needs {DISK / GIB:.0f}; make room, or see "
                           "`penstock runs gc --help`")
    if (available := psutil.virtual_memory().available) < MEMORY:
        raise ControlError(f"{available / GIB:.1f} GiB of memory are available, a run needs {MEMORY / GIB:.0f}; "
                           "close other programs")
    check_gateway(plane_root(), gateway_port())


def check_source(stages: Mapping[str, Options]) -> None:
    """Look whether the rows are where `ingest` will look for them, as far as that is quick to see.

    Raises:
        ConfigError: the source is unknown, its folder or file does not exist, or it has no such option.
    """
    from penstock.components.data.ingest import sources
    from penstock.components.data.ingest.step import IngestConfig

    try:
        sources.check_source(IngestConfig.parse(stages.get("ingest", {})))
    except ConfigError as error:
        raise ConfigError(f"ingest: {error}") from error
