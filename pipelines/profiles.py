"""Named sets of options for a pipeline. Nothing else sizes things: workers, rows, requests and times are set here.

Knows the stages by name; what an option means its step says.
"""

import difflib
import os
from collections.abc import Callable, Mapping

from penstock.components.contracts.errors import ConfigError
from penstock.pipelines.run_folder import RunFolder
from penstock.pipelines.stages import Arguments, Options

__all__ = ["PROFILES", "profile_arguments"]

Stages = dict[str, Options]


def laptop() -> Stages:
    """Fashion-MNIST, small convolutional network, a canary with every tenth request, then every second: the default."""
    return {
        "ingest": {"source": "fashion-mnist"},
        "validate": {},
        "split": {},
        "sweep": {},
        "train": {"network": "convnet", "workers": _workers()},
        "evaluate": {},
        "gate": {},
        "export": {},
        "quantize": {},
        "verify_parity": {},
        "roll_out": {"canary_percent": 10},
        # A laptop does other work beside this: its p95 wanders by tens of milliseconds, whatever the model.
        "analyse_canary": {"rate": 200, "latency_floor_ms": 100, "ladder": [50]},
        "promote": {},
    }


def convnet() -> Stages:
    """As `laptop`, swept: with the accuracy that a convolutional network must reach on Fashion-MNIST."""
    return laptop() | {"sweep": _sweep(), "gate": {"min_accuracy": 0.9}}


def photos() -> Stages:
    """Your own folder of images, from a hundred pictures up: `--set ingest.source=FOLDER --set service=NAME`.

    Small batches and many passes: 100 pictures in batches of 512 would be one step an epoch, and learn nothing. The ten
    held out of 100 cannot show that a canary keeps its accuracy; the gate compares them with what serves.
    """
    train = {"network": "convnet", "epochs": 40, "batch_size": 32, "learning_rate": 0.05, "workers": _workers()}
    canary = laptop()["analyse_canary"] | {"max_accuracy_drop": 1}
    return laptop() | {"ingest": {"source": "photos", "image_size": 32}, "train": train, "analyse_canary": canary}


def linear() -> Stages:
    """Fashion-MNIST, linear model: the simplest thing that answers."""
    train = {"network": "linear", "epochs": 3, "learning_rate": 0.1, "label_smoothing": 0.0, "crop_padding": 0,
             "flip": 0.0, "workers": _workers()}
    return laptop() | {"train": train, "gate": {"min_accuracy": 0.82}}


def test() -> Stages:
    """Synthetic shapes, linear model: the whole way in seconds, for tests and a first look."""
    return {
        "ingest": {"source": "synthetic://shapes?rows=600&seed=0"},
        "validate": {},
        "split": {},
        "sweep": {},
        "train": {"network": "linear", "epochs": 2, "batch_size": 32, "learning_rate": 0.05, "crop_padding": 0},
        "evaluate": {},
        "gate": {"min_accuracy": 0.2},
        "export": {},
        "quantize": {},
        "verify_parity": {},
        "roll_out": {"canary_percent": 50},
        "analyse_canary": {"requests": 300, "rate": 150, "min_requests_per_version": 50, "paired_rows": 60,
                           "max_error_rate_increase": 0.1, "max_latency_increase": 0.0, "max_accuracy_drop": 0.3},
        "promote": {},
    }


PROFILES: Mapping[str, Callable[[], Stages]] = {
    "laptop": laptop, "convnet": convnet, "linear": linear, "photos": photos, "test": test}
SERVICES = {"photos": "photos", "test": "shapes"}


def profile_arguments(name: str, folder: RunFolder) -> Arguments:
    """Return the arguments of a pipeline for a run in `folder`.

    Raises:
        ConfigError: there is no such profile.
    """
    if name not in PROFILES:
        close = difflib.get_close_matches(name, PROFILES, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(PROFILES)}"
        raise ConfigError(f"there is no profile {name!r}; {hint}")
    from penstock.components.control.laptop.home import home

    stages = PROFILES[name]()
    stages["train"]["work"] = str(folder.train)
    stages["sweep"]["work"] = str(folder.sweep)
    stages["analyse_canary"]["work"] = str(folder.canary)
    service = SERVICES.get(name, "fashion-mnist")
    return Arguments({"service": service, "registry": str(home() / "registry")}, stages)


def _sweep() -> Options:
    """Search what decides most, in trials of one epoch, one per core."""
    space = {"learning_rate": {"type": "double", "min": 0.2, "max": 1.2, "distribution": "logUniform"},
             "weight_decay": {"type": "double", "min": 1e-4, "max": 2e-3, "distribution": "logUniform"}}
    return {"parameters": space, "max_trials": 4, "parallel_trials": _cores(), "trial": {"epochs": 1}}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _workers() -> int:
    """Return the training processes of one thread each, a power of two so that they share a batch evenly.

    Two processes of one thread trained 8 % faster than one process of two threads (2 cores, 2026-11-20).
    """
    return min(8, 1 << (_cores().bit_length() - 1))
