"""The InferenceService object: how one is filled, and how its status is read without being fooled.

Pure functions over the object, Knative dialect; talks to no control plane. What the fields mean: KServe v1beta1 API,
and for what a status may pretend, the observations in `is_ready`.

KServe copies annotations into the template of the revision, so that one that changes starts new pods. Ours therefore
name only what goes with the template: the version that `spec` names, and what was stable when it was put there. Whether
it is on trial is another thing: it is as long as the object has a `canaryTrafficPercent`. Promotion drops that field,
nothing else.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from penstock.components.contracts.errors import ConfigError
from penstock.components.control.base import Manifest, ObjectRef
from penstock.manifests import load

__all__ = [
    "NOTHING",
    "SETTLED",
    "Placement",
    "RevisionTraffic",
    "address",
    "addresses",
    "canary_percent",
    "canary_version",
    "check_service_name",
    "failure",
    "inference_service",
    "is_newest_ready",
    "is_ours",
    "is_ready",
    "is_settled",
    "named",
    "newest_revision",
    "percent_of",
    "service_ref",
    "stable",
    "stable_version",
    "traffic",
    "url",
    "with_percent",
]

PREFIX = "penstock.dev/"
PERCENT = "canaryTrafficPercent"
SETTLED = -1  # as percent: no trial goes on
FAILED = ("BlockedByFailedLoad", "InvalidSpec")  # transitionStatus: the newest revision will not serve
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
        stable: what is stable as this version comes in, and holds the traffic that it does not get. Equal version: the
            stable one that comes back. `NOTHING`: the first deploy, which gets all traffic and still is on trial.
        canary_percent: percent of the requests for `version` beside the stable one; -1: no trial goes on.
    """
    manifest = load("serving/inferenceservice.yaml")
    manifest["metadata"]["name"] = check_service_name(service)
    annotations = {"version": version, "previous-version": stable.version, "previous-uri": stable.uri,
                   "previous-runtime": stable.runtime}
    manifest["metadata"]["annotations"] |= {PREFIX + name: value for name, value in annotations.items()}
    predictor = manifest["spec"]["predictor"]
    predictor["model"] |= {"runtime": runtime, "storageUri": uri}
    if canary_percent != SETTLED:
        predictor[PERCENT] = 100 if stable == NOTHING else canary_percent
    return manifest


def with_percent(isvc: Manifest, percent: int) -> Manifest:
    """Return what asks for the same version with another share; -1: the trial is over, its version is stable."""
    version, uri, runtime = named(isvc)
    return inference_service(isvc["metadata"]["name"], version, uri, runtime=runtime, stable=_previous(isvc),
                             canary_percent=percent)


def is_ours(isvc: Mapping[str, Any]) -> bool:
    """Whether the object was filled by `inference_service`, so that it says what is stable."""
    return f"{PREFIX}version" in isvc["metadata"].get("annotations", {})


def named(isvc: Mapping[str, Any]) -> Placement:
    """Return what `spec` names: the version on trial, or the stable one."""
    model = isvc["spec"]["predictor"]["model"]
    return Placement(_annotation(isvc, "version"), model["storageUri"], model["runtime"])


def stable(isvc: Mapping[str, Any]) -> Placement:
    """Return what holds the traffic when no canary runs; `NOTHING` before the first promotion."""
    return named(isvc) if is_ours(isvc) and is_settled(isvc) else _previous(isvc)


def stable_version(isvc: Mapping[str, Any]) -> str:
    """Return the version of `stable`, "" before the first promotion."""
    return stable(isvc).version


def is_settled(isvc: Mapping[str, Any]) -> bool:
    """Whether no version is on trial, and none is being taken back."""
    return PERCENT not in isvc["spec"]["predictor"]


def canary_version(isvc: Mapping[str, Any]) -> str:
    """Return the version on trial, "" where none is."""
    version = _annotation(isvc, "version")
    return version if version != stable_version(isvc) else ""


def canary_percent(isvc: Mapping[str, Any]) -> int:
    """Return the percent asked for the newest revision; 100 where the field is absent."""
    return int(isvc["spec"]["predictor"].get(PERCENT, 100))


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
    """Return where clients send requests, "" before the status has it."""
    return str(isvc.get("status", {}).get("url", ""))


def address(isvc: Mapping[str, Any]) -> str:
    """Return where steps send requests: the address inside the cluster, and on a laptop, which has one only, `url`.

    The URL of a cluster is for clients outside: its domain may be known to nobody inside, or ask them to log in.
    """
    return _inside(isvc) or url(isvc)


def addresses(isvc: Mapping[str, Any]) -> dict[str, str]:
    """Return, by revision, where steps reach it alone; Knative puts the tag before the name, inside as outside."""
    inside = urlsplit(_inside(isvc))
    return {entry.revision: urlunsplit(inside._replace(netloc=f"{entry.tag}-{inside.netloc}"))
            if inside.netloc and entry.tag else entry.url for entry in traffic(isvc)}


def is_ready(isvc: Mapping[str, Any]) -> bool:
    """Whether the newest revision is ready and gets just its share.

    Does not believe the Ready condition: right after a change it still speaks of the old revision, and with a canary
    that never starts both traffic entries, `latest` too, point to the old one. A trial beside a stable version is
    ready only when two revisions share the traffic as asked, so an outdated status cannot pass for it.
    """
    trial = canary_version(isvc) and stable_version(isvc)
    asked = canary_percent(isvc) if trial else 100
    return is_newest_ready(isvc) and percent_of(isvc, newest_revision(isvc)) == asked


def is_newest_ready(isvc: Mapping[str, Any]) -> bool:
    """Whether the newest revision could take requests, whatever its share."""
    newest = newest_revision(isvc)  # of a first deploy it can be ready, with all traffic, some time before any URL is
    return newest != "" and _predictor(isvc).get("latestReadyRevision") == newest and url(isvc) != ""


def failure(isvc: Mapping[str, Any]) -> str:
    """Say why the newest revision failed, "" where nothing is known to be wrong with it.

    Right after a change the status may still speak of the revision before: who has just changed something must look
    whether there is a newer one. `observedGeneration` does not tell: KServe counts generations of another object there,
    which stay behind for good.
    """
    model = isvc.get("status", {}).get("modelStatus", {})
    info = model.get("lastFailureInfo") or {}  # KServe keeps it when all is well again
    revision = info.get("modelRevisionName", "")
    if model.get("transitionStatus") not in FAILED or revision not in ("", newest_revision(isvc)):
        return ""
    where = [f"revision {revision}"] if revision else []
    where += [f"exit code {info['exitCode']}"] if "exitCode" in info else []
    text = f"{info.get('reason', model['transitionStatus'])}: {info.get('message', 'no message')}"
    return f"{text} ({', '.join(where)})" if where else text


def _inside(isvc: Mapping[str, Any]) -> str:
    return str(isvc.get("status", {}).get("address", {}).get("url", ""))


def _previous(isvc: Mapping[str, Any]) -> Placement:
    return Placement(*(_annotation(isvc, f"previous-{field}") for field in Placement._fields))


def _annotation(isvc: Mapping[str, Any], name: str) -> str:
    return str(isvc["metadata"].get("annotations", {}).get(PREFIX + name, ""))


def _predictor(isvc: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = isvc.get("status", {}).get("components", {}).get("predictor", {})
    return found
