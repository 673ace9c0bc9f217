"""What every rank runs: `torchrun -m penstock.components.training.worker --dataset URI --work URI`.

Ends 0 when the model is in the work folder, 1 with one clear line when it cannot be. SIGTERM is left to the kernel: the
process is gone at once (143 to a shell and to the kubelet), and the checkpoint of the last whole epoch is there.
"""

import argparse
import ctypes
import logging
import signal
import sys
from pathlib import Path

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import PenstockError, StepError
from penstock.components.contracts.model import TRAINED_MANIFEST
from penstock.components.training.worker.config import WorkFolder, local_path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
log = logging.getLogger("penstock.components.training.worker")


def main() -> int:
    """Run one rank."""
    _end_with_agent()
    parser = argparse.ArgumentParser(prog="torchrun -m penstock.components.training.worker", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="dataset folder, with a train split; path or file:// URI")
    parser.add_argument("--work", required=True, help="folder with config.json, shared by all workers")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        _train(local_path(arguments.dataset), WorkFolder(local_path(arguments.work)))
    except PenstockError as error:
        log.error("%s", error)
        return 1
    except Exception as error:
        log.error("%s: %s", type(error).__name__, error)  # in a line of its own, above what Python and torchrun add
        raise
    return 0


def _train(dataset_folder: Path, work: WorkFolder) -> None:
    if (work.model / TRAINED_MANIFEST).is_file():
        log.info("model=%s action=none-needed", work.model)
        return
    if work.diverged():
        raise StepError(work.diverged())
    config, dataset = work.config(), Dataset(dataset_folder)
    # PyTorch takes three seconds to import: not before it is known to be needed.
    import torch

    from penstock.components.training.worker.loop import Diverged, Trainer
    from penstock.components.training.worker.ranks import joined

    torch.use_deterministic_algorithms(True)
    with joined() as ranks:
        try:
            Trainer(config, dataset, work, ranks).run()
        except Diverged as error:
            work.mark_diverged(str(error))
            raise


def _end_with_agent() -> None:
    """Ask the kernel to end this process with the torchrun agent that started it.

    torchrun puts every worker into a session of its own, so that a killed agent would leave it behind.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
