"""The InferenceService object: how one is filled, and how its status is read without being fooled.

Pure functions over the object, Knative dialect; talks to no control plane. What the fields mean: KServe v1beta1 API,
and for what a status may pretend, the observations in `is_ready`.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.base import Manifest, ObjectRef
from penstock.manifests import load

__all__ = [
    "NOTHING",
    "Placement",
    "RevisionTraffic",
    "canary_percent",
    "canary_version",
    "check_service_name",
    "failure",
    "inference_service",
    "is_ours",
    "is_ready",
    "newest_revision",
    "percent_of",
    "service_ref",
    "stable",
    "stable_version",
    "traffic",
    "url",
]

PREFIX = "penstock.dev/"
NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")  # DNS-1035; 40 leave room for -predictor-00001 in 63


class Placement(NamedTuple):
    """A model version, where its folder lies, and the ServingRuntime that runs it."""

    version: str
    uri: str
    runtime: str


NOTHING = Placement("", "", "")  # no version is stable yet


class RevisionTraffic(NamedTuple):
    """What one revision gets: its share of the requests, and the URL that reaches it alone."""

    revision: str
    percent: int
    url: str
    tag: str  # "latest", "prev" or ""


def service_ref(service: str) -> ObjectRef:
    """Name the InferenceService of a service."""
    return ObjectRef("serving.kserve.io/v1beta1", "InferenceService", service)


def check_service_name(service: str) -> str:
    """Return `service` where it can name an InferenceService.

    Raises:
        ConfigError: it cannot; it would also become a folder and a URL.
    """
    if not NAME.fullmatch(service):
        raise ConfigError(f"service={service!r}: use 1 to 40 of a-z, 0-9 and -, first a letter, e.g. 'fashion-mnist'")
    return service


def inference_service(service: str, version: str, uri: str, *, runtime: str, stable: Placement = NOTHING,
                      canary_percent: int = 0) -> Manifest:
    """Fill the template.

    Args:
        version: the version that `spec` names: the one on trial, or the stable one.
        uri: its model folder, e.g. `file:///srv/registry/fashion-mnist/3f2a/model`.
        runtime: name of a ServingRuntime.
        stable: what holds the traffic that `version` does not get. Equal version: no trial goes on. `NOTHING`: the
            first deploy, which gets all traffic and still is on trial.
        canary_percent: percent of the requests for `version` while it is on trial beside a stable one.
    """
    manifest = load("serving/inferenceservice.yaml")
    manifest["metadata"]["name"] = check_service_name(service)
    on_trial = version != stable.version
    annotations = {
        "stable-version": stable.version, "stable-uri": stable.uri, "stable-runtime": stable.runtime,
        "canary-version": version if on_trial else "", "canary-uri": uri if on_trial else "",
    }
    manifest["metadata"]["annotations"] |= {PREFIX + name: value for name, value in annotations.items()}
    predictor = manifest["spec"]["predictor"]
    predictor["model"] |= {"runtime": runtime, "storageUri": uri}
    if on_trial and stable != NOTHING:
        predictor["canaryTrafficPercent"] = canary_percent
    return manifest


def is_ours(isvc: Mapping[str, Any]) -> bool:
    """Whether the object was filled by `inference_service`, so that it says what is stable."""
    return f"{PREFIX}stable-version" in isvc["metadata"].get("annotations", {})


def stable(isvc: Mapping[str, Any]) -> Placement:
    """Return what holds the traffic when no canary runs; `NOTHING` before the first promotion."""
    return Placement(*(_annotation(isvc, f"stable-{field}") for field in Placement._fields))


def stable_version(isvc: Mapping[str, Any]) -> str:
    """Return the version of `stable`, "" before the first promotion."""
    return _annotation(isvc, "stable-version")


def canary_version(isvc: Mapping[str, Any]) -> str:
    """Return the version on trial, "" where none is."""
    return _annotation(isvc, "canary-version")


def canary_percent(isvc: Mapping[str, Any]) -> int:
    """Return the percent asked for the newest revision; 100 where the field is absent."""
    return int(isvc["spec"]["predictor"].get("canaryTrafficPercent", 100))


def traffic(isvc: Mapping[str, Any]) -> list[RevisionTraffic]:
    """Return the shares as the status gives them; a revision may occur twice, under two tags."""
    entries = _predictor(isvc).get("traffic", [])
    return [RevisionTraffic(entry.get("revisionName", ""), int(entry.get("percent", 0)), entry.get("url", ""),
                            entry.get("tag", "")) for entry in entries]


def percent_of(isvc: Mapping[str, Any], revision: str) -> int:
    """Return the percent of the requests that `revision` gets, over all its entries."""
    return sum(entry.percent for entry in traffic(isvc) if entry.revision == revision)


def newest_revision(isvc: Mapping[str, Any]) -> str:
    """Return the revision made last, "" before there is one."""
    return str(_predictor(isvc).get("latestCreatedRevision", ""))


def url(isvc: Mapping[str, Any]) -> str:
    """Return where requests are sent, "" before the status has it."""
    return str(isvc.get("status", {}).get("url", ""))


def is_ready(isvc: Mapping[str, Any]) -> bool:
    """Whether the newest revision is ready and gets just its share.

    Does not believe the Ready condition: right after a change it still speaks of the old revision, and with a canary
    that never starts both traffic entries, `latest` too, point to the old one. A trial beside a stable version is
    ready only when two revisions share the traffic as asked, so an outdated status cannot pass for it.
    """
    newest = newest_revision(isvc)
    if not newest or _predictor(isvc).get("latestReadyRevision") != newest:
        return False
    trial = canary_version(isvc) and stable_version(isvc)
    return percent_of(isvc, newest) == (canary_percent(isvc) if trial else 100)


def failure(isvc: Mapping[str, Any]) -> str:
    """Say why the newest revision failed, "" where nothing is known to be wrong with it."""
    metadata, status = isvc["metadata"], isvc.get("status", {})
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return ""  # it speaks of what was there before
    info = status.get("modelStatus", {}).get("lastFailureInfo") or {}
    revision = info.get("modelRevisionName", "")
    if not info or revision not in ("", newest_revision(isvc)):
        return ""
    where = [f"revision {revision}"] if revision else []
    where += [f"exit code {info['exitCode']}"] if "exitCode" in info else []
    text = f"{info.get('reason', 'failed')}: {info.get('message', 'no message')}"
    return f"{text} ({', '.join(where)})" if where else text


def _annotation(isvc: Mapping[str, Any], name: str) -> str:
    return str(isvc["metadata"].get("annotations", {}).get(PREFIX + name, ""))


def _predictor(isvc: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = isvc.get("status", {}).get("components", {}).get("predictor", {})
    return found
