"""Envoy's configuration as data: a listener that never changes, clusters and routes that are files it watches.

Pure functions from ports and weights to Envoy v3 resources; `gateway` writes and runs them.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.components.contracts.folder import text_sha256

__all__ = ["CLUSTERS", "REVISION_HEADER", "ROUTES", "STATS", "bootstrap", "clusters", "parse_stats", "routes"]

REVISION_HEADER = "x-penstock-revision"
CLUSTERS, ROUTES = "clusters.json", "routes.json"
TYPES = "type.googleapis.com/envoy"
REQUEST_SECONDS = 300  # as Knative's revision time-out
CONNECT_SECONDS = 1  # loopback: a predictor that does not accept within a second hangs
# Below uvicorn's keep-alive of 5 s, so that Envoy never writes to a connection that the predictor is about to close.
IDLE_SECONDS = 2
STATS = r"version_text$|^cluster\..*upstream_rq_active$|^http\.gateway\.downstream_rq_active$"
ACCESS = {
    "time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%", "milliseconds": "%DURATION%", "revision": "%UPSTREAM_CLUSTER%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def bootstrap(folder: Path, port: int) -> dict[str, Any]:
    """Return what Envoy starts with: the listener on 127.0.0.1:`port`, its admin on a free loopback port."""
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "rds": {"route_config_name": "routes", "config_source": _source(folder, ROUTES)},
        "access_log": [{"name": "file", "typed_config": {
            "@type": f"{TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(folder / "access.log"), "log_format": {"json_format": ACCESS}}}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": f"{TYPES}.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True}}],
    }
    listener = {
        "name": "gateway",
        "address": _address(port),
        "enable_reuse_port": False,  # else a second Envoy would share the port and take half of the requests
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    }
    return {
        "node": {"id": "gateway", "cluster": "penstock"},
        "admin": {"address": _address(0)},
        "dynamic_resources": {"cds_config": _source(folder, CLUSTERS)},
        "static_resources": {"listeners": [listener]},
    }


def clusters(ports: Mapping[str, int]) -> dict[str, Any]:
    """Return one cluster per revision, with its predictor as the only endpoint."""
    return _versioned([_cluster(revision, port) for revision, port in sorted(ports.items())])


def routes(shares: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return the routes: per service the weight of each revision; a service without any answers 503, the rest 404."""
    known = [route for service, weights in sorted(shares.items()) for route in _routes(service, weights)]
    body = {"error": "no service has this path; ask /v2/models/<service>/infer or /v1/models/<service>:predict",
            "services": sorted(shares)}
    host = {"name": "all", "domains": ["*"], "routes": [*known, {"match": {"prefix": "/"}, **_answer(404, body)}]}
    return _versioned([
        {"@type": f"{TYPES}.config.route.v3.RouteConfiguration", "name": "routes", "virtual_hosts": [host]}])


def parse_stats(text: str) -> dict[str, str]:
    """Read what the admin interface prints for `/stats?filter=...`."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name: value.strip('"') for name, _, value in pairs}


def _cluster(revision: str, port: int) -> dict[str, Any]:
    options = f"{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "@type": f"{TYPES}.config.cluster.v3.Cluster",
        "name": revision,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "load_assignment": {"cluster_name": revision, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": options,
            "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
            "explicit_http_config": {"http_protocol_options": {}}}},
    }


def _routes(service: str, weights: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one route per protocol; V1 puts a verb behind the name, after a colon."""
    verb = {"safe_regex": {"regex": f"/v1/models/{re.escape(service)}(:[a-z]+)?"}}
    return [_route({"path_separated_prefix": f"/v2/models/{service}"}, service, weights),
            _route(verb, service, weights)]


def _route(match: dict[str, Any], service: str, weights: Mapping[str, int]) -> dict[str, Any]:
    if not weights:
        body = {"error": f"{service} has no ready revision; see `penstock laptop status`"}
        return {"match": match, **_answer(503, body)}
    return {"match": match, "route": {
        "timeout": f"{REQUEST_SECONDS}s",
        # Never on a 5xx: an answer counts, also a wrong one.
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 1},
        "weighted_clusters": {"clusters": [
            {"name": revision, "weight": weight, "response_headers_to_add": [_header(REVISION_HEADER, revision)]}
            for revision, weight in sorted(weights.items())]},
    }}


def _answer(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"direct_response": {"status": status, "body": {"inline_string": json.dumps(body) + "\n"}},
            "response_headers_to_add": [_header("content-type", "application/json")]}


def _header(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _source(folder: Path, name: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {
        "path": str(folder / "xds" / name), "watched_directory": {"path": str(folder / "xds")}}}


def _versioned(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The version is a hash of the content: the same state gives the same version, also after a restart."""
    return {"version_info": text_sha256(json.dumps(resources, sort_keys=True))[:16], "resources": resources}
