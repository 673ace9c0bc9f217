"""The predictor as a process, asked by V1: the same answers, counters and refusals as by v2."""

import json
from typing import Any

import numpy as np
import pytest

from penstock.inference.client import predict

LEFT = [[200, 0, 10], [180, 0, 0]]
RIGHT = [[0, 0, 90], [10, 0, 100]]


def test_speaks_v1_beside_v2(served: Any) -> None:
    counted = [served.metric("penstock_requests_total", code="200"),
               served.metric("penstock_predictions_total", **{"class": "left"})]
    status, headers, body = served.ask("/v1/models/sides:predict", {"instances": [LEFT, RIGHT]})
    answer, second = json.loads(body), predict(served.url, "sides", np.array([LEFT, RIGHT], np.uint8)[..., None])

    assert (status, headers["x-model-version"]) == (200, served.model.version)
    assert (answer["model_name"], answer["model_version"]) == ("sides", served.model.version)
    assert [row["class"] for row in answer["predictions"]] == second.classes == ["left", "right"]
    assert [row["index"] for row in answer["predictions"]] == [0, 1]
    assert np.array_equal(np.array([row["probabilities"] for row in answer["predictions"]], np.float32),
                          second.probabilities)
    assert [served.metric("penstock_requests_total", code="200"),
            served.metric("penstock_predictions_total", **{"class": "left"})] == [counted[0] + 2, counted[1] + 2]


def test_v1_says_what_is_here_and_whether_it_is_ready(served: Any) -> None:
    assert json.loads(served.ask("/v1/models")[2]) == {"models": ["sides"]}
    assert json.loads(served.ask("/v1/models/sides")[2]) == {"name": "sides", "ready": True}


@pytest.mark.parametrize(("body", "status", "text"), [
    (b"{", 400, "the body is no JSON"),
    ({"instances": [[1, 2, 3]]}, 400, "instances[0]: expected shape [2, 3, 1] or [2, 3]; found [3]"),
    ({"instances": [[[1, 2, 3]] * 2] * 5}, 413, "expected at most 4 in a request; found 5"),
    ({"instances": [[[0] * 3] * 2]}, 500, "computed NaN or infinity for rows [0]"),
    (b" " * (2**24 + 1), 413, "expected a body of at most 16777216 bytes; found 16777217"),
])
def test_v1_refuses_what_does_not_fit(served: Any, body: Any, status: int, text: str) -> None:
    before = served.metric("penstock_requests_total", code=str(status))
    code, _, answer = served.ask("/v1/models/sides:predict", body)

    assert code == status
    assert text in json.loads(answer)["error"]
    assert served.metric("penstock_requests_total", code=str(status)) == before + 1
