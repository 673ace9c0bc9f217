"""What the supervisor remembers of a service: its revisions, their processes, and where its roll-out stands.

Data and its derivation from the objects. Starts nothing: `serving` does.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel

from penstock.components.contracts.folder import text_sha256
from penstock.components.control.base import Manifest
from penstock.components.control.laptop.processes import Process
from penstock.components.control.laptop.traffic import RollOut, Target

__all__ = ["Failure", "Revision", "Service", "Template", "canary_percent", "template_of"]

MODELS = "/mnt/models"  # where KServe mounts a model
HTTP_PORT = "8080"  # where KServe's predictors listen
NAME = "{{.Name}}"
Phase = Literal["ended", "starting", "ready", "draining", "ending", "failed"]


class Failure(BaseModel):
    """Why a revision does not serve; `reason` is one of KServe's FailureReason, `exit_code` -1 where unknown."""

    reason: Literal["ModelLoadFailed", "RuntimeUnhealthy", "RuntimeNotRecognized", "NoSupportingRuntime"]
    message: str
    exit_code: int = -1
    revision: str = ""


class Template(BaseModel):
    """What a predictor is made of; `command`, `env` and `ready_path` still have KServe's port in them."""

    uri: str
    command: list[str]
    env: dict[str, str]
    ready_path: str

    def fingerprint(self) -> str:
        return text_sha256(self.model_dump_json())[:16]

    def filled(self, text: str, port: int) -> str:
        """Put this machine's port and folder where the text has a container's; in one pass, a folder may hold 8080."""
        values = {MODELS: unquote(self.uri.removeprefix("file://")), HTTP_PORT: str(port)}
        return re.sub(rf"{MODELS}(?![\w-])|(?<!\d){HTTP_PORT}(?!\d)", lambda found: values[found.group()], text)


class Revision(BaseModel):
    """One predictor: a template, and the process that runs it now or ran it last.

    `since` is when the phase began, `retry_at` when a crashed stable may start again (seconds since the epoch).
    """

    name: str
    template: Template
    phase: Phase = "ended"
    since: float = 0.0
    port: int = 0
    process: Process | None = None
    restarts: int = 0
    failures: int = 0
    retry_at: float = 0.0
    failure: Failure | None = None


class Service(BaseModel):
    """One InferenceService as the supervisor sees it.

    `generation` is the one taken up last, `made` the number of the newest revision, `live` the traffic that the gateway
    has taken, `refusal` why a generation could not be taken up, `lapsed` the holder whose lease ran out, `leaving` that
    its object is gone.
    """

    name: str
    uid: str
    generation: int = 0
    made: int = 0
    revisions: dict[str, Revision] = {}
    roll_out: RollOut = RollOut()
    live: list[Target] = []
    refusal: Failure | None = None
    lapsed: str = ""
    leaving: bool = False

    def serving(self) -> set[str]:
        return {name for name, revision in self.revisions.items() if revision.phase in ("ready", "draining")}


def canary_percent(manifest: Manifest) -> int:
    """Return the canaryTrafficPercent of an InferenceService; 100 where the field is absent."""
    return int(manifest["spec"]["predictor"].get("canaryTrafficPercent", 100))


def template_of(service: Manifest, runtime: Manifest | None) -> Template | Failure:
    """Make a predictor's template from the service and its runtime, or say why there is none."""
    model, name = service["spec"]["predictor"]["model"], service["metadata"]["name"]
    if runtime is None:
        return Failure(reason="RuntimeNotRecognized", message=(
            f"there is no ServingRuntime {model['runtime']}; apply it first, or name another in model.runtime"))
    spec = runtime["spec"]
    supported = [entry["name"] for entry in spec["supportedModelFormats"]]
    if model["modelFormat"]["name"] not in supported:
        return Failure(reason="NoSupportingRuntime", message=(
            f"ServingRuntime {model['runtime']} serves {', '.join(supported)}, not {model['modelFormat']['name']}"))
    named: dict[str, Any] = json.loads(json.dumps(spec["containers"][0]).replace(NAME, name))
    probe = named.get("readinessProbe", {}).get("httpGet", {})
    return Template(
        uri=model["storageUri"], command=_resolved([*named.get("command", []), *named.get("args", [])]),
        env={entry["name"]: str(entry["value"]) for entry in named.get("env", [])},
        ready_path=probe.get("path", f"/v2/models/{name}/ready"))


def _resolved(command: list[str]) -> list[str]:
    """Take Python and its scripts from this installation, as an image would have them on its PATH."""
    if command[:1] in (["python"], ["python3"]):
        return [sys.executable, *command[1:]]
    if not command or "/" in command[0]:
        return command
    beside = Path(sys.executable).with_name(command[0])
    return [str(beside), *command[1:]] if beside.is_file() else command
