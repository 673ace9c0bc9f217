"""The predictor's command line: `python -m penstock.inference`.

Reads arguments, sets up logging and names the reason where the server cannot start; `server` does the rest.
"""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

from penstock.components.contracts.errors import PenstockError

__all__ = ["main"]

EXAMPLE = """\
example:
  python -m penstock.inference --model_name fashion-mnist --model_dir models/fashion-mnist --http_port 8080
  curl http://127.0.0.1:8080/v2/models/fashion-mnist
"""

log = logging.getLogger("penstock.inference")


def main() -> int:
    """Serve one model; return the exit code: 0 after a signal, 1 where it cannot serve, 2 for wrong arguments."""
    options = _parser().parse_args()
    _configure_logging()
    # kserve takes a second to import, and reads sys.argv on the way: not before the arguments are known to be right.
    from penstock.inference.model import Classifier
    from penstock.inference.server import run

    model = Classifier(options.model_name, options.model_dir, options.threads, options.max_batch)
    try:
        run(model, options.http_host, options.http_port, options.drain_seconds)
    except PenstockError as error:
        log.error("event=failed model=%s reason=%s", options.model_name, error)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m penstock.inference",
        description="Serve a Model folder over the Open Inference Protocol v2 and KServe's V1 protocol.",
        epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--model_name", required=True,
                        help="name in the URLs /v2/models/NAME/infer and /v1/models/NAME:predict")
    parser.add_argument("--model_dir", required=True, type=Path,
                        help="a Model folder: model.json, model.onnx, golden.npz")
    parser.add_argument("--http_port", type=int, default=8080, help="TCP port (8080)")
    parser.add_argument("--http_host", default=os.environ.get("PENSTOCK_HTTP_HOST", "127.0.0.1"),
                        help="address to listen on ($PENSTOCK_HTTP_HOST, else 127.0.0.1: this machine only)")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads of one computation (1)")
    parser.add_argument("--max_batch", type=_positive, default=256, help="images allowed in one request (256)")
    parser.add_argument("--drain_seconds", type=float, default=1.0,
                        help="from SIGTERM, which ends readiness, until the listener closes (1.0); 0: at once")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _configure_logging() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr,
                        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s")
    log.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", "ORJSONResponse")  # kserve 0.21 uses it, FastAPI 0.165 would rather it did not
    kserve = logging.getLogger("kserve")
    kserve.setLevel(logging.CRITICAL)  # it logs a traceback for every refused request; uvicorn logs the real ones
    kserve.addHandler(logging.NullHandler())  # without a handler kserve would set up its own, with a line per request


if __name__ == "__main__":
    sys.exit(main())
