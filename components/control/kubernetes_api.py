"""The connection to an API server: who we are there, which kinds it has, requests and streams.

Uses the `kubernetes` package for credentials and transport only: every kind is reached by discovery, as plain objects.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from penstock.components.control.base import ControlError, Manifest, ObjectRef
from penstock.components.control.kubernetes_errors import MANAGER, Unreachable, is_transient, refusal, status_of

__all__ = ["APPLY", "JSON_PATCH", "SERVICE_ACCOUNT", "Api", "Query"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
PATIENCE_SECONDS = 120.0  # a control plane node that is upgraded is away for about a minute
RETRY_SECONDS = 1.0
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"  # JSON is YAML
COMPONENTS = {"kubeflow.org": "the Training Operator or Katib", "trainer.kubeflow.org": "Kubeflow Trainer",
              "serving.kserve.io": "KServe"}
Query = Mapping[str, str | int]
log = logging.getLogger(__name__)


class Resource(NamedTuple):
    """How a kind is reached."""

    plural: str
    namespaced: bool


class Api:
    """One API server, as one user.

    Attributes:
        namespace: where objects of the namespace `default` live.
        server: its URL.
    """

    def __init__(self, namespace: str = "") -> None:
        from kubernetes import client  # a second that the laptop does not pay

        configuration = client.Configuration()
        found = _configure(configuration)
        configuration.retries = False  # ours are in `request`
        self.namespace = namespace or os.environ.get("PENSTOCK_NAMESPACE", "") or found
        self.server = configuration.host
        self._client = client.ApiClient(configuration)
        self._resources: dict[str, dict[str, Resource]] = {}
        self._reached = False

    def place(self, ref: ObjectRef) -> ObjectRef:
        """Put our namespace for `default`: manifests know no other."""
        if ref.namespace != "default":
            return ref
        return ObjectRef(ref.api_version, ref.kind, ref.name, self.namespace)

    def path(self, ref: ObjectRef, *, collection: bool = False) -> str:
        """Return the URL path of an object, or of the collection that it is in.

        Raises:
            ControlError: the cluster has no such kind.
        """
        resource = self._resource(ref.api_version, ref.kind)
        scope = f"/namespaces/{quote(ref.namespace)}" if resource.namespaced else ""
        path = f"{_root(ref.api_version)}{scope}/{resource.plural}"
        return path if collection else f"{path}/{quote(ref.name)}"

    def get(self, path: str, what: str, query: Query | None = None) -> Manifest | None:
        """Return what is there, None for 404."""
        response = self.request("GET", path, what, query=query)
        return None if response is None else _object(response)

    def send(self, method: str, path: str, what: str, body: object, *, kind: str = "application/json",
             query: Query | None = None) -> Manifest:
        """Write an object with `POST` or `PATCH` and return it as it is then; unknown fields are an error.

        Raises:
            ControlError: see `kubernetes_errors`.
        """
        options = {"fieldManager": MANAGER, "fieldValidation": "Strict"} | dict(query or {})
        return _object(self.request(method, path, what, query=options, body=body, kind=kind))

    def lines(self, path: str, what: str, query: Query, seconds: float) -> Iterator[str]:
        """Yield the lines of a stream until it ends, breaks off, or is silent for `seconds`."""
        from urllib3.exceptions import HTTPError

        response = self.request("GET", path, what, query=query, seconds=seconds, stream=True)
        if response is None:
            return
        rest = b""
        try:
            for chunk in response.stream(amt=None, decode_content=False):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
        except HTTPError as error:
            log.debug("stream=%s event=broken error=%s", path, error)
        finally:
            response.close()

    def text(self, path: str, what: str, query: Query) -> str | None:
        """Return a text, None for 404."""
        response = self.request("GET", path, what, query=query)
        return None if response is None else response.data.decode(errors="replace")

    def request(self, method: str, path: str, what: str, *, query: Query | None = None, body: object = None,
                kind: str = "application/json", seconds: float = READ_SECONDS, stream: bool = False) -> Any:
        """Ask the server; once it has been reached, wait for one that restarts.

        Args:
            what: we want, for the text of an error: "get Job default/x".
            seconds: of silence until the answer counts as lost.
            stream: leave the answer to be read.

        Returns:
            urllib3's response; None for 404 of GET and DELETE.

        Raises:
            ControlError: see `kubernetes_errors`.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                response = self._client.call_api(
                    path, method, {}, [*(query or {}).items()],
                    {"Content-Type": kind, "Accept": "application/json, */*"}, body=body,
                    auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True,
                    _request_timeout=(CONNECT_SECONDS, seconds))
                self._reached = True
                if not stream:
                    response.data  # noqa: B018 (reads it, so that a connection lost here is tried again too)
                return response
            except ApiException as error:
                if error.status == 0:  # TLS
                    raise self._unreachable(what, error.reason) from error
                self._reached = True
                status = status_of(error.body)
                if error.status == 404 and method in ("GET", "DELETE"):
                    return None
                if not is_transient(error.status, status) or time.monotonic() > deadline:
                    raise refusal(what, error.status, status) from error
                log.info("server=%s event=retry status=%d message=%s", self.server, error.status, status.get("message"))
            except HTTPError as error:
                never_sent = isinstance(error, NewConnectionError | ConnectTimeoutError)
                again = never_sent or method in ("GET", "DELETE")
                if not (self._reached and again) or time.monotonic() > deadline:
                    raise self._unreachable(what, str(error)) from error
                log.info("server=%s event=retry error=%s", self.server, error)
            time.sleep(RETRY_SECONDS)

    def _resource(self, api_version: str, kind: str) -> Resource:
        known = self._resources.get(api_version, {})
        if kind not in known:  # asked again each time: it may have been installed by now
            listed = self.get(_root(api_version), f"look up the kinds of {api_version}") or {}
            known = {entry["kind"]: Resource(entry["name"], entry["namespaced"])
                     for entry in listed.get("resources", []) if "/" not in entry["name"]}
            self._resources[api_version] = known
        if kind not in known:
            component = COMPONENTS.get(api_version.partition("/")[0], "what defines it")
            raise ControlError(f"the cluster at {self.server} has no {kind} ({api_version}); ask its administrator to "
                               f"install {component}")
        return known[kind]

    def _unreachable(self, what: str, why: str | None) -> Unreachable:
        kubeconfig, reason = os.environ.get("KUBECONFIG", ""), " ".join(str(why).split())
        return Unreachable(f"cannot {what}: the cluster at {self.server} cannot be reached ({reason}); check it with "
                           f"`kubectl get --raw /readyz`, and that KUBECONFIG={kubeconfig!r} names the right one")


def _configure(configuration: Any) -> str:
    """Fill in server and credentials and return the namespace that goes with them."""
    from kubernetes import config

    kubeconfig = os.environ.get("KUBECONFIG", "")
    try:
        if not kubeconfig and (SERVICE_ACCOUNT / "token").exists():
            config.load_incluster_config(client_configuration=configuration)
            return (SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        place = kubeconfig or "~/.kube/config"  # said by us, because the package reads the environment only once
        config.load_kube_config(place, client_configuration=configuration)
        _, active = config.list_kube_config_contexts(place)
    except (config.ConfigException, OSError) as error:
        raise ControlError(f"no cluster is configured: {error}; set KUBECONFIG to a kubeconfig file, or run in a pod "
                           "with a service account") from error
    return str(active["context"].get("namespace") or "default")


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _object(response: Any) -> Manifest:
    found: Manifest = json.loads(response.data)
    return found
