"""What every rank runs: `torchrun -m penstock.components.training.worker --dataset URI --work URI`.

What is trained stands in the work folder (config.json). With --set, for example --set network=mlp --set epochs=3, the
worker writes it there itself; options that are not set have their defaults.

Ends 0 when the model is in the work folder, 1 with one clear line when it cannot be. SIGTERM is left to the kernel: the
process is gone at once (143 to a shell and to the kubelet), and the checkpoint of the last whole epoch is there.
"""

import argparse
import ctypes
import logging
import signal
import sys

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import ConfigError, PenstockError, StepError
from penstock.components.contracts.model import TRAINED_MANIFEST
from penstock.components.training.worker.config import WorkFolder, local_path, parse_settings

PR_SET_PDEATHSIG = 1  # linux/prctl.h
log = logging.getLogger("penstock.components.training.worker")


def main() -> int:
    """Run one rank."""
    _end_with_agent()
    parser = argparse.ArgumentParser(prog="torchrun -m penstock.components.training.worker", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="dataset folder, with a train split; path or file:// URI")
    parser.add_argument("--work", required=True, help="folder with config.json, shared by all workers")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                        help="an option of WorkerConfig, for example learning_rate=0.1; may be repeated")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        dataset, work = Dataset(local_path(arguments.dataset)), WorkFolder(local_path(arguments.work))
        if arguments.settings:
            work.claim(parse_settings(arguments.settings), dataset.manifest.content_hash)
        _train(dataset, work)
    except PenstockError as error:
        log.error("%s", error)
        return 1
    except Exception as error:
        log.error("%s: %s", type(error).__name__, error)  # in a line of its own, above what Python and torchrun add
        raise
    return 0


def _train(dataset: Dataset, work: WorkFolder) -> None:
    if (work.model / TRAINED_MANIFEST).is_file():
        log.info("model=%s action=none-needed", work.model)
        return
    if work.hopeless():
        raise StepError(work.hopeless())
    config = work.config()
    # PyTorch takes three seconds to import: not before it is known to be needed.
    import torch

    from penstock.components.training.worker.loop import Diverged, Trainer
    from penstock.components.training.worker.ranks import joined

    torch.use_deterministic_algorithms(True)
    with joined() as ranks:
        try:
            Trainer(config, dataset, work, ranks).run()
        except (ConfigError, Diverged) as error:
            work.mark_hopeless(str(error))
            raise


def _end_with_agent() -> None:
    """Ask the kernel to end this process with the torchrun agent that started it.

    torchrun puts every worker into a session of its own, so that a killed agent would leave it behind.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
