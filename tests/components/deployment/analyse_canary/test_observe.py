"""Observing: the counters of real predictors' text format, summed from the moment of looking."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Histogram as PrometheusHistogram

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.model import Model
from penstock.components.deployment.analyse_canary import observe as observe_module
from penstock.components.deployment.analyse_canary import watch
from penstock.components.deployment.analyse_canary.config import BUCKET
from penstock.components.deployment.analyse_canary.observe import Counts, began, parse, since, sum_up
from penstock.components.deployment.analyse_canary.observed import Revision
from penstock.components.deployment.analyse_canary.step import AnalyseCanaryConfig, run
from penstock.inference.metrics import BUCKETS

OLD, NEW = "sides-predictor-00001", "sides-predictor-00002"
REVISION = Revision("v2", "r2", "http://2")


class Predictor:
    """Counts as penstock.inference does; each look at /metrics finds `step` requests more.

    After `restarts` looks it begins anew, and answers `code_then` from there on.
    """

    def __init__(self, version: str, step: int, seconds: float = 0.004, code: int = 200, restarts: int = 0,
                 code_then: int = 200, before: int = 1000) -> None:
        self.version, self.step, self.seconds, self.code = version, step, seconds, code
        self.restarts, self.code_then, self.looks = restarts, code_then, 0
        self.registry = CollectorRegistry()
        self._requests = PrometheusCounter("penstock_requests", "-", ["model", "version", "code"],
                                           registry=self.registry)
        self._seconds = PrometheusHistogram("penstock_request_seconds", "-", ["model", "version"],
                                            buckets=(0.005, 0.01, 0.1, 1), registry=self.registry)
        self.count(before)  # anybody looked

    def count(self, requests: int) -> None:
        for _ in range(requests):
            self._requests.labels("sides", self.version, str(self.code)).inc()
            if self.code == 200:
                self._seconds.labels("sides", self.version).observe(self.seconds)

    def text(self) -> bytes:
        text = generate_latest(self.registry)
        self.looks += 1
        if self.looks == self.restarts:
            self.__init__(self.version, self.step, self.seconds, self.code_then, before=0)  # type: ignore[misc]
        self.count(self.step)
        return text


@pytest.fixture
def predictors(trial: Any) -> Iterator[dict[str, Predictor]]:
    """Serve /REVISION/metrics of the predictors in the dict."""
    found: dict[str, Predictor] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            data = found[self.path.split("/")[1]].text()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    trial.urls = {revision: f"http://127.0.0.1:{server.server_port}/{revision}" for revision in (OLD, NEW)}
    trial.settled("sides")
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def observe(
    trial: Any, predictors: dict[str, Predictor], models: dict[str, Model], sides: Dataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    monkeypatch.setattr(observe_module, "POLL", 0.005)

    def observe(stable: int = 80, canary: int = 20, timeout: float = 20, ladder: tuple[int, ...] = (),
                predictor: Callable[..., Predictor] = Predictor, **of_canary: Any) -> Any:
        predictors[OLD] = predictor(models["good"].version, stable)
        predictors[NEW] = predictor(models["alike"].version, canary, **of_canary)
        config = AnalyseCanaryConfig(mode="observe", requests=1000, paired_rows=0, timeout=timeout,
                                     requests_per_session=1, min_requests_per_version=50, max_error_rate_increase=0.05,
                                     ladder=ladder, rung_increase=0.3)
        return run(sides.folder, tmp_path / "report", "sides", models["alike"].version, "run-2", config, trial)

    return observe


def test_counters_are_read_for_one_version_only() -> None:
    predictor, other = Predictor("v2", 0), Predictor("v1", 0)
    text = (predictor.text() + other.text()).decode()

    counts = parse(text, "v2")
    assert counts.requests == {200: 1000}
    assert counts.buckets == {0.005: 1000, 0.01: 1000, 0.1: 1000, 1.0: 1000, float("inf"): 1000}
    assert parse(text, "v3").total == 0
    assert 0 < began(text, "v2") < began(text, "v1")
    assert began(text, "v3") == 0


def test_what_was_there_before_does_not_count_and_a_restart_begins_anew() -> None:
    before = Counts(Counter({200: 10, 500: 1}), Counter({0.1: 10}))
    now = Counts(Counter({200: 15, 500: 1, 503: 2}), Counter({0.1: 15}))

    assert since(before, now) == Counts(Counter({200: 5, 500: 0, 503: 2}), Counter({0.1: 5}))
    assert since(now, before) == before


def test_the_buckets_are_as_wide_as_the_config_takes_them_to_be() -> None:
    edges = np.array(BUCKETS)

    assert edges[1:] / edges[:-1] == pytest.approx(np.full(len(edges) - 1, 1 + BUCKET), abs=0.01)


def test_latencies_lie_between_the_edges_of_their_bucket() -> None:
    counts = Counts(Counter({200: 4, 400: 3, 500: 1}), Counter({0.1: 2, 0.2: 3, float("inf"): 4}))

    found = sum_up(REVISION, counts)
    assert found.fast.tolist() == [0.0, 0.0, 0.1, 0.2]
    assert found.slow.tolist() == [0.1, 0.1, 0.2, float("inf")]
    assert (found.requests, found.errors, found.labelled) == (8, 1, 0)


def test_a_canary_that_answers_others_well_is_promoted(observe: Any) -> None:
    report = observe()

    assert report.verdict == "promote", report.reason
    assert report.stable.requests >= 200
    assert report.canary.requests >= 50
    assert report.agreement is None
    assert "accuracy_change" not in [check.name for check in report.checks]


def test_a_canary_that_answers_well_climbs(observe: Any) -> None:
    report = observe(ladder=(50,))

    assert (report.verdict, report.traffic_percent) == ("promote", 50), report.reason
    assert "ladder: 20, 50 % of the requests in turn" in [check.detail for check in report.checks]


@pytest.mark.parametrize(("code_then", "verdict"), [(200, "promote"), (500, "roll_back")])
def test_a_predictor_that_begins_anew_loses_no_count(observe: Any, code_then: int, verdict: str) -> None:
    report = observe(ladder=(50,), restarts=6, code_then=code_then)

    assert report.verdict == verdict, report.reason
    assert report.canary.requests > 60  # five looks before, and those since
    assert report.canary.errors in (0, report.canary.requests - 100)


def test_of_several_replicas_each_is_counted_for_itself(observe: Any, predictors: dict[str, Predictor]) -> None:
    """A service leads now to one, now to another; a replica that was not met at first had counted before the trial."""
    class Replicas(Predictor):
        def __init__(self, *replicas: Predictor) -> None:
            self.replicas = itertools.cycle(replicas)

        def text(self) -> bytes:
            return next(self.replicas).text()

    def several(version: str, step: int, **options: Any) -> Predictor:
        return Replicas(*(Predictor(version, step, before=before, **options) for before in (1000, 100_000, 0)))

    report = observe(predictor=several)

    assert (report.verdict, report.canary.errors, report.stable.errors) == ("promote", 0, 0), report.reason
    assert report.canary.requests + report.stable.requests <= 1100
    assert report.stable.requests == pytest.approx(4 * report.canary.requests, rel=0.1)


def test_where_the_traffic_does_not_move_observing_ends(
    observe: Any, trial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOVE", 0.1)
    trial.stalled = True

    assert "stopped early: the canary did not get 50 % of the requests" in observe(ladder=(50,)).reason


def test_a_slow_one_is_sent_back(observe: Any) -> None:
    assert "latency at p95: " in observe(seconds=0.5).reason


def test_errors_are_a_burst_here_too(observe: Any) -> None:
    report = observe(code=503)

    assert (report.verdict, report.reason[:16]) == ("roll_back", "burst of errors:")


@pytest.mark.parametrize("unread", [range(3), range(4, 9)])
def test_counters_that_cannot_be_read_for_a_while_are_read_later(
    observe: Any, monkeypatch: pytest.MonkeyPatch, unread: range
) -> None:
    looks, read = itertools.count(), observe_module._read
    monkeypatch.setattr(observe_module, "_read",
                        lambda revision: None if next(looks) // 2 in unread else read(revision))

    report = observe()
    assert report.verdict == "promote", report.reason


def test_where_nobody_asks_there_is_no_evidence(observe: Any) -> None:
    report = observe(stable=0, canary=0, timeout=0.2)

    assert report.verdict == "roll_back"
    assert "not enough evidence: 0 answers of the canary and 0 of stable, 0 of at most 1,000 requests" in report.reason


def test_a_predictor_without_counters_is_named(observe: Any, trial: Any) -> None:
    trial.urls[OLD] = "http://127.0.0.1:1"
    trial.settled("sides")

    assert "no counters could be read at http://127.0.0.1:1/metrics" in observe(timeout=0.2).reason
