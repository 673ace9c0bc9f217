"""The real API server, its schemas and its webhooks on every object of ours: the templates, and what a laptop run made.

Each is sent as a dry run with strict field validation; nothing is kept.
"""

import json
import logging
from importlib import resources
from pathlib import Path

import pytest

from penstock.components.control.base import ControlError, Manifest
from penstock.components.control.inference_service import Placement, inference_service
from penstock.components.control.kubernetes import KubernetesPlane
from penstock.components.control.laptop.home import plane_root
from penstock.manifests import load

pytestmark = pytest.mark.cluster
TEMPLATES = sorted(f"{folder.name}/{file.name}" for folder in resources.files("penstock.manifests").iterdir()
                   if folder.is_dir() for file in folder.iterdir() if file.name.endswith(".yaml"))
OBJECTS = sorted((plane_root() / "objects").glob("*/*.json"))  # of PENSTOCK_HOME, else this user's
log = logging.getLogger(__name__)


def check(plane: KubernetesPlane, manifest: Manifest) -> None:
    """Send it; an operator that this cluster lacks is no fault of the object."""
    try:
        plane.dry_run(manifest)
    except ControlError as error:
        if " has no " in str(error) and "to install" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_what_the_cluster_takes(plane: KubernetesPlane, template: str) -> None:
    manifest = load(template)
    if manifest["kind"] == "InferenceService":
        manifest = inference_service("digits", "v1", "pvc://models/v1", runtime="penstock-onnx",
                                     stable=Placement("v0", "pvc://models/v0", "penstock-onnx"), canary_percent=20)
    check(plane, manifest)


@pytest.mark.skipif(not OBJECTS, reason=f"no laptop run has left objects in {plane_root()}")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_object_of_the_laptop_is_what_the_cluster_takes(plane: KubernetesPlane, path: Path) -> None:
    check(plane, json.loads(path.read_bytes()))
