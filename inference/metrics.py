"""What a predictor counts, per model version, for Prometheus: what the canary and the dashboards compare.

kserve's own histograms know no version and no status, and their first bucket is 5 ms. Serves nothing: /metrics does.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Histogram

__all__ = ["VersionMetrics"]

# Seconds, from half a millisecond to 5.9 s. A canary's quantile can be told from stable's only where the bucket that
# holds it is narrower than the difference: these are 25 % wide.
BUCKETS = tuple(float(f"{0.0005 * 1.25**step:.3g}") for step in range(43))

REQUESTS = Counter("penstock_requests", "Inference requests by HTTP status.", ["model", "version", "code"])
SECONDS = Histogram("penstock_request_seconds", "From the request's head to its answer, answered requests only.",
                    ["model", "version"], buckets=BUCKETS)
PREDICTIONS = Counter("penstock_predictions", "Images by predicted class.", ["model", "version", "class"])


class VersionMetrics:
    """The counters of one version; every series exists from the start, at 0."""

    def __init__(self, model: str, version: str, classes: Sequence[str]) -> None:
        self._labels = (model, version)
        self._seconds = SECONDS.labels(*self._labels)
        self._predictions = [PREDICTIONS.labels(*self._labels, name) for name in classes]
        REQUESTS.labels(*self._labels, "200")

    def count(self, code: int, seconds: float) -> None:
        """Count a request; `seconds` enters the histogram where the code is 200, since a refusal costs nothing."""
        REQUESTS.labels(*self._labels, str(code)).inc()
        if code == 200:
            self._seconds.observe(seconds)

    def count_predictions(self, logits: npt.NDArray[np.float32]) -> None:
        """Count the predicted classes of (N, classes) logits."""
        for index, images in enumerate(np.bincount(logits.argmax(axis=1)).tolist()):
            if images:
                self._predictions[index].inc(images)
