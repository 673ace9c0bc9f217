"""How fast two models answer on this CPU, measured in turn so that a busy neighbour slows both.

Times calls; compares no answers and decides nothing.
"""

import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.onnx import OnnxModel
from penstock.components.contracts.reports import Latency

__all__ = ["cpu_name", "measure_latency"]

WARM_UP_CALLS = 3
LEAST_CALLS = 3  # in a round, however long one takes


def measure_latency(models: Mapping[str, OnnxModel], images: npt.NDArray[np.uint8], batches: Sequence[int], rounds: int,
                    seconds: float) -> dict[str, tuple[Latency, ...]]:
    """Time every model at every batch size.

    A round asks each model in turn for `seconds` and takes the median call. Two rounds of the same model differ by what
    else the machine does, so the speed-up is the median over rounds of ratios within a round.

    Args:
        models: by name; the first is the peer that the others are measured against.
        images: (N, H, W, C) uint8; the first rows of it are repeated to fill a batch.

    Returns:
        One entry per batch size, by name.
    """
    found: dict[str, list[Latency]] = {name: [] for name in models}
    for batch in batches:
        rows = np.ascontiguousarray(images[np.arange(batch) % len(images)])
        timed: dict[str, list[float]] = {name: [] for name in models}
        for model in models.values():
            for _ in range(WARM_UP_CALLS):
                model.predict(rows)
        for _ in range(rounds):
            for name, model in models.items():
                timed[name].append(_median_call(model, rows, seconds))
        peer = next(iter(timed.values()))
        for name, times in timed.items():
            ratios = [theirs / own for theirs, own in zip(peer, times, strict=True)]
            found[name].append(Latency(batch=batch, milliseconds=1000 * statistics.median(times),
                                       lowest=1000 * min(times), highest=1000 * max(times),
                                       speedup=statistics.median(ratios)))
    return {name: tuple(entries) for name, entries in found.items()}


def cpu_name() -> str:
    """Name this CPU, and on x86 whether it has VNNI, the instructions that int8 owes its speed to."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in known.items()}
    name = fields.get("model name") or platform.processor() or platform.machine()
    if platform.machine() not in ("x86_64", "AMD64") or "flags" not in fields:
        return name
    vnni = {"avx512_vnni", "avx_vnni"} & set(fields["flags"].split())
    return f"{name} {'with' if vnni else 'without'} VNNI"


def _median_call(model: OnnxModel, rows: npt.NDArray[np.uint8], seconds: float) -> float:
    calls: list[float] = []
    until = time.perf_counter() + seconds
    while len(calls) < LEAST_CALLS or time.perf_counter() < until:
        started = time.perf_counter()
        model.predict(rows)
        calls.append(time.perf_counter() - started)
    return statistics.median(calls)
