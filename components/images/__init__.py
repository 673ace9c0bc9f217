"""The images of penstock by name. Nothing else names an image; `manifests` is tested to agree.

Every name contains "python", because kfp.local warns about an image that does not.
"""

__all__ = ["ALL", "CONVERT", "LIGHT", "SERVE", "TORCH", "VERSION"]

VERSION = "0.1.0"
LIGHT = f"penstock-python-light:{VERSION}"  # data, gate, deployment: no torch
TORCH = f"penstock-python-torch:{VERSION}"  # training worker, evaluation of a torch model
CONVERT = f"penstock-python-convert:{VERSION}"  # torch and ONNX
SERVE = f"penstock-python-serve:{VERSION}"  # the predictor: no torch, no kfp
ALL = {"light": LIGHT, "torch": TORCH, "convert": CONVERT, "serve": SERVE}
