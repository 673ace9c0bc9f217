"""Which control plane this process talks to.

Looks at the environment only; the planes do the work.
"""

import os
from pathlib import Path

from penstock.components.control.base import ControlError, ControlPlane

__all__ = ["connect"]

PLANES = ("laptop", "kubernetes")
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def connect() -> ControlPlane:
    """Return the plane that `PENSTOCK_PLANE` names; unset, a cluster inside its pods, else the laptop.

    Raises:
        ControlError: an unknown plane; or the cluster's, and no cluster is configured.
    """
    asked = os.environ.get("PENSTOCK_PLANE", "")
    if asked and asked not in PLANES:
        raise ControlError(f"PENSTOCK_PLANE={asked!r} is no control plane; set it to {' or '.join(PLANES)}")
    if asked == "laptop" or not (asked or SERVICE_ACCOUNT.exists()):
        from penstock.components.control.laptop.plane import LaptopPlane

        return LaptopPlane()
    from penstock.components.control.kubernetes import KubernetesPlane

    return KubernetesPlane()
