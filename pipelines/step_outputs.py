"""Find what the steps of a run left: kfp.local keeps no index, only folders.

The layout is `steps/<pipeline>-<start>/<task>/<output>`; reads nothing inside an output.
"""

import json
from pathlib import Path

from penstock.pipelines.progress import Progress
from penstock.pipelines.run_folder import RunFolder

__all__ = ["StepOutputs"]

EXECUTOR_OUTPUT = "executor_output.json"  # kfp writes it when a step has ended well


class StepOutputs:
    """The outputs of the steps that are done, taken from their newest start (an older one, where kfp had a cache)."""

    def __init__(self, folder: RunFolder, progress: Progress) -> None:
        done = set(progress.names("succeeded", "cached"))
        self._folders: dict[str, Path] = {}
        for output in sorted(folder.steps.glob(f"*/*/{EXECUTOR_OUTPUT}")):
            step = output.parent.name.replace("-", "_")
            if step in done:
                self._folders[step] = output.parent

    def artifact(self, step: str, key: str) -> Path | None:
        """Return where output `key` of a step lies; None where the step is not done or wrote none."""
        folder = self._folders.get(step)
        return folder / key if folder and (folder / key).exists() else None

    def value(self, step: str) -> str:
        """Return what the step's function returned; "" where it is not done or returned nothing."""
        if step not in self._folders:
            return ""
        output = json.loads((self._folders[step] / EXECUTOR_OUTPUT).read_text(encoding="utf-8"))
        return str(output.get("parameterValues", {}).get("Output", ""))
