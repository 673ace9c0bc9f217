"""What `penstock run` says at its end: the endpoint, who serves it, a request to try, and where to read on.

Writes the request file; asks nobody.
"""

import json
import os
from pathlib import Path

import numpy as np

from penstock.components.contracts.model import GOLDEN
from penstock.pipelines.progress import Progress
from penstock.pipelines.run_folder import RunFolder
from penstock.pipelines.step_outputs import StepOutputs
from penstock.pipelines.summary import Summary, shipped_model

__all__ = ["outcome", "write_request"]


def outcome(folder: RunFolder, summary: Summary) -> str:
    """Return the closing lines of a run that succeeded."""
    lines = []
    if summary.sweep and summary.sweep.trials:
        best = ", ".join(f"{name} {_number(value)}" for name, value in summary.sweep.best.items())
        lines.append(f"sweep     {summary.sweep.trials} trials, best with {best}")
    if summary.model:
        lines.append(f"model     {summary.model.name} {summary.model.version}, "
                     f"{summary.model.test_accuracy:.2%} right on the test split")
    if found := summary.conversion:
        faster = f", {found.speedup:.2f} times as fast as fp32" if found.shipped != "fp32" else ""
        lines.append(f"ships     {found.shipped}{faster}; against the trained network "
                     f"{found.changed_predictions:.2%} other predictions, accuracy {found.accuracy_change * 100:+.2f} "
                     "points")
    if summary.canary:
        lines.append(f"canary    {summary.canary.verdict}: {summary.canary.reason}")
    if summary.endpoint:
        traffic = ", ".join(f"{part.version} {part.percent} %" for part in summary.endpoint.traffic)
        lines += [f"endpoint  {summary.endpoint.url}", f"traffic   {traffic}"]
        if summary.model and (request := write_request(folder)):
            lines.append(f"try       curl -s {summary.endpoint.url}/v2/models/{summary.model.name}/infer "
                         f"-H 'content-type: application/json' -d @{_short(request)}")
    lines.append(f"page      {_short(folder.index)}")
    return "\n".join(lines)


def write_request(folder: RunFolder) -> Path | None:
    """Write `request.json`, an inference request with one real picture; None where no model ships."""
    model = shipped_model(StepOutputs(folder, Progress.read(folder.events)))
    if model is None:
        return None
    with np.load(model.folder / GOLDEN) as golden:
        image = golden["inputs"][:1]
    body = {"inputs": [{"name": "image", "shape": list(image.shape), "datatype": "UINT8",
                        "data": image.ravel().tolist()}]}
    folder.request.write_text(json.dumps(body) + "\n", encoding="utf-8")
    return folder.request


def _number(text: str) -> str:
    """Shorten a number as a sweep writes it; any other value stays."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _short(path: Path) -> str:
    """Return the path as seen from here, where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
