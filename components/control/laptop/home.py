"""Where the laptop plane of this user keeps its state, and where its gateway listens.

Reads the environment; creates no folder and opens no port.
"""

import os
from pathlib import Path

from penstock.components.control.base import ControlError

__all__ = ["DEFAULT_PORT", "gateway_port", "home", "plane_root"]

DEFAULT_PORT = 8480


def home() -> Path:
    """Return `$PENSTOCK_HOME`, else `$XDG_STATE_HOME/penstock`, else `~/.local/state/penstock`."""
    asked = os.environ.get("PENSTOCK_HOME", "")
    if asked:
        return Path(asked).expanduser()
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state else Path.home() / ".local" / "state") / "penstock"


def plane_root() -> Path:
    """Return the folder of everything that the laptop plane writes: objects, the supervisor's state, logs."""
    return (home() / "laptop").resolve()  # one folder has one name: processes are found by it


def gateway_port() -> int:
    """Return `$PENSTOCK_GATEWAY_PORT`, else 8480.

    Raises:
        ControlError: it is no port.
    """
    asked = os.environ.get("PENSTOCK_GATEWAY_PORT", "") or str(DEFAULT_PORT)
    if not asked.isdecimal() or not 0 < int(asked) < 65_536:
        raise ControlError(f"PENSTOCK_GATEWAY_PORT={asked!r} is no port; set it to 1..65535, e.g. {DEFAULT_PORT}")
    return int(asked)
