"""Networks of torchvision on small pictures, trained a little, exported, and held against ONNX and the way back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from penstock.components.contracts.dataset import Dataset, write_dataset
from penstock.components.contracts.model import GOLDEN, NETWORK, Built
from penstock.components.conversion.export.step import ExportConfig, run
from penstock.components.training.worker.config import WorkerConfig, WorkFolder
from penstock.components.training.worker.loop import Trainer
from penstock.components.training.worker.models import WithPreprocessing, load_exported
from penstock.components.training.worker.ranks import Ranks


@pytest.mark.slow
@pytest.mark.parametrize(("network", "image_size"), [("resnet18", 0), ("mobilenet_v3_small", 48)])
def test_a_trained_classifier_is_exported_and_comes_back(
        shapes: Path, network: str, image_size: int, tmp_path: Path) -> None:
    rows = Dataset(shapes)
    data = write_dataset(tmp_path / "data", rows.description, {
        "train": rows.read("train").slice(0, 96), "validation": rows.read("test")})
    config = WorkerConfig.parse({"network": f"torchvision:{network}", "image_size": image_size, "epochs": 1,
                                 "batch_size": 32, "learning_rate": 0.01, "tensorboard": False})
    work = WorkFolder(tmp_path / "work")
    Trainer(config, data, work, Ranks(rank=0, world=1)).run()

    model = run(data.folder, work.model, tmp_path / "model", "shapes", "run-1", ExportConfig())  # parity is inside

    assert Built.model_validate_json((model.folder / NETWORK).read_bytes()) == Built(
        network=f"torchvision:{network}", image_size=image_size)
    network_again, manifest = load_exported(model.folder)
    with np.load(model.folder / GOLDEN) as golden, torch.inference_mode():
        logits = WithPreprocessing(network_again, manifest.preprocessing)(torch.from_numpy(golden["inputs"]))
        np.testing.assert_allclose(logits.numpy(), golden["logits"], atol=1e-5)
        assert np.ptp(golden["logits"], axis=0).max() > 0  # it looks at its input
