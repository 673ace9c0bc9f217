"""The KFP face of train, called as the executor calls it, with either kind of job: the same weights, and a page."""

from pathlib import Path

import pytest
from kfp import dsl

from penstock.components.contracts.dataset import Dataset
from penstock.components.contracts.errors import StepError
from penstock.components.contracts.model import TrainedModel
from penstock.components.training.train.component import train

OPTIONS = {"network": "mlp", "width": 16.0, "epochs": 2.0, "batch_size": 32, "learning_rate": 0.1, "threads": 1,
           "workers": 2, "ema_decay": 0.5}


def trained(dataset: Dataset, folder: Path, **options: object) -> tuple[TrainedModel, str, dict[str, float]]:
    """Run the component; returns the model, its page and the logged metrics."""
    data = dsl.Dataset(uri=str(dataset.folder))
    model, page = dsl.Model(uri=str(folder / "model")), dsl.HTML(uri=str(folder / "page"))
    metrics = dsl.Metrics(uri=str(folder / "metrics"))
    train.python_func(dataset=data, model=model, page=page, metrics=metrics, run_id=folder.name,
                      config=OPTIONS | options)
    return TrainedModel(model.path), Path(page.path).read_text(), metrics.metadata


@pytest.mark.slow
def test_both_kinds_of_job_come_to_the_same_weights(sides: Dataset, tmp_path: Path, home: Path) -> None:
    (first, page, metrics), (second, other_page, _) = (
        trained(sides, tmp_path / kind.lower(), kind=kind) for kind in ("PyTorchJob", "TrainJob"))

    assert first.weights_sha256 == second.weights_sha256
    assert first.manifest.history == second.manifest.history
    assert first.manifest.averaged
    assert metrics == first.manifest.metrics
    assert page == other_page
    assert "2 epochs" in page


@pytest.mark.slow
def test_a_network_that_cannot_be_ends_a_trainjob_at_once(sides: Dataset, tmp_path: Path, home: Path) -> None:
    with pytest.raises(StepError, match="torchvision has no such classifier; did you mean torchvision:"):
        trained(sides, tmp_path / "wrong", kind="TrainJob", network="torchvision:resnet19", width=0, workers=1)
