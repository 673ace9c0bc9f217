"""The loop of one rank: same seed, same bytes, also when resumed; and what it says when it cannot go on."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from penstock.components.contracts.dataset import Dataset, Description, ImageFormat, rows_table, write_dataset
from penstock.components.contracts.errors import StepError
from penstock.components.contracts.model import TrainedModel
from penstock.components.training.worker import checkpoint
from penstock.components.training.worker.config import WorkerConfig, WorkFolder
from penstock.components.training.worker.loop import Diverged, Trainer, pixel_statistics
from penstock.components.training.worker.metrics import parse_metric
from penstock.components.training.worker.models import WithPreprocessing, load_trained
from penstock.components.training.worker.optimizers import learning_rate
from penstock.components.training.worker.ranks import Ranks
from penstock.components.training.worker.validation import validate

ALONE = Ranks(rank=0, world=1)
SMALL = {"network": "convnet", "width": 4, "epochs": 3, "batch_size": 32, "learning_rate": 0.1, "tensorboard": False}


def trainer(dataset: Dataset, folder: Path, **options: object) -> Trainer:
    return Trainer(WorkerConfig.parse(SMALL | options), dataset, WorkFolder(folder), ALONE)


def train(dataset: Dataset, folder: Path, **options: object) -> str:
    trainer(dataset, folder, **options).run()
    return TrainedModel(folder / "model").weights_sha256


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_seed_same_weights(sides: Dataset, tmp_path: Path, precision: str) -> None:
    first, second, other = (train(sides, tmp_path / name, precision=precision, seed=seed)
                            for name, seed in (("a", 5), ("b", 5), ("c", 6)))

    assert first == second
    assert first != other


@pytest.mark.parametrize("options", [
    {}, {"optimizer": "adamw", "learning_rate": 0.01, "clip_norm": 1.0, "ema_decay": 0.9, "tensorboard": True}])
@pytest.mark.parametrize("done", [1, 2])
def test_a_resumed_run_ends_in_the_same_bytes(
        sides: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], done: int) -> None:
    whole = train(sides, tmp_path / "whole", **options)
    real, calls = Trainer._epoch, []

    def cut_off(self: Trainer, epoch: int) -> dict[str, float]:
        calls.append(epoch)
        if epoch == done:
            raise KeyboardInterrupt
        return real(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train(sides, tmp_path / "cut", **options)
    assert not (tmp_path / "cut" / "model").exists()

    assert train(sides, tmp_path / "cut", **options) == whole


def test_a_checkpoint_of_another_training_is_not_gone_on_from(sides: Dataset, tmp_path: Path) -> None:
    train(sides, tmp_path / "work", epochs=1)
    (tmp_path / "work" / "model").rename(tmp_path / "old")

    assert train(sides, tmp_path / "work") == train(sides, tmp_path / "fresh")


def test_after_a_damaged_checkpoint_the_same_bytes(sides: Dataset, tmp_path: Path) -> None:
    whole = train(sides, tmp_path / "work")
    (tmp_path / "work" / "model").rename(tmp_path / "old")
    newest = next((tmp_path / "work" / "checkpoints").glob("epoch-0003-*"))
    newest.write_bytes(b"damaged")

    assert train(sides, tmp_path / "work") == whole


def test_what_a_run_reports(sides: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                            caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        metrics = trainer(sides, tmp_path, epochs=2).run()

    printed = [parse_metric(line) for line in capsys.readouterr().out.splitlines()]
    assert [found and found[0] for found in printed] == ["train_loss", "validation_accuracy", "validation_loss"] * 2
    assert dict(found for found in printed if found) == pytest.approx(metrics, rel=1e-5)
    assert 0 <= metrics["validation_accuracy"] <= 1
    assert "epoch=2/2" in caplog.text
    manifest = TrainedModel(tmp_path / "model").manifest
    assert manifest.metrics == metrics
    assert len(manifest.history) == 2
    last = learning_rate(5, 6, WorkerConfig.parse(manifest.origin.config))
    assert manifest.history[-1] == metrics | {"learning_rate": last}
    assert not manifest.averaged
    assert manifest.origin.dataset_hash == sides.manifest.content_hash
    assert manifest.origin.config == WorkerConfig.parse(SMALL | {"epochs": 2}).model_dump()
    assert manifest.signature.classes == sides.description.classes


def test_the_average_is_what_is_validated_and_shipped(sides: Dataset, tmp_path: Path) -> None:
    run = trainer(sides, tmp_path / "with", ema_decay=0.9)
    metrics = run.run()
    plain = train(sides, tmp_path / "without")

    trained = TrainedModel(tmp_path / "with" / "model")
    shipped, manifest = load_trained(trained.folder)
    assert manifest.averaged
    assert trained.weights_sha256 != plain
    assert run.average is not None
    assert run.validation is not None
    assert all(torch.equal(tensor, run.average.network.state_dict()[name])
               for name, tensor in shipped.state_dict().items())
    judged = validate(WithPreprocessing(shipped, manifest.preprocessing), run.validation, ALONE, bf16=run.bf16)
    assert judged.metrics == {name: metrics[name] for name in judged.metrics}
    trained_on = [checkpoint.load_newest(tmp_path / name / "checkpoints") for name in ("with", "without")]
    assert all(found is not None for found in trained_on)
    for name, tensor in trained_on[1][1]["network"].items():  # the average is a spectator
        assert torch.equal(tensor, trained_on[0][1]["network"][name])


def test_it_learns(sides: Dataset, tmp_path: Path) -> None:
    metrics = trainer(sides, tmp_path, network="linear", width=0, epochs=30, crop_padding=0, flip=0).run()

    assert metrics["validation_accuracy"] > 0.6  # a third by chance


def test_divergence_is_named(sides: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Diverged) as caught:
        trainer(sides, tmp_path, network="mlp", learning_rate=100, weight_decay=1, warmup=0, epochs=50).run()

    text = str(caught.value)
    assert text.startswith("training diverged: loss is ")
    assert "in epoch " in text
    assert "learning_rate=100); try learning_rate=10, more warmup, or clip_norm=1" in text
    assert not (tmp_path / "model").exists()


def test_without_validation_rows_there_is_no_accuracy(sides: Dataset, tmp_path: Path) -> None:
    only_train = write_dataset(tmp_path / "data", sides.description, {"train": sides.read("train")})

    assert list(trainer(only_train, tmp_path / "work", epochs=1).run()) == ["train_loss"]


def test_too_few_rows_are_named(tmp_path: Path) -> None:
    image = ImageFormat(height=8, width=8, channels=1)
    description = Description(name="one", source="test", classes=("a",), image=image)
    table = rows_table(["only"], np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int64))
    dataset = write_dataset(tmp_path / "data", description, {"train": table})

    with pytest.raises(StepError, match="1 training rows over 1 workers: each needs 2 at least"):
        trainer(dataset, tmp_path / "work")


def test_ranks_that_see_other_checkpoints_are_told(
        sides: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "all_agree", lambda self, value: False)

    with pytest.raises(StepError, match="must be one that all workers share"):
        trainer(sides, tmp_path).run()


def test_pixel_statistics_are_those_of_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 9, 8, 3), np.uint8)

    mean, std = pixel_statistics(images)

    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)))
    assert pixel_statistics(np.full((2, 8, 8, 1), 51, np.uint8)) == (pytest.approx((0.2,)), (1.0,))


def test_checkpoints_hold_what_a_run_needs(sides: Dataset, tmp_path: Path) -> None:
    trainer(sides, tmp_path, epochs=1).run()

    found = checkpoint.load_newest(tmp_path / "checkpoints")

    assert found is not None
    assert found[0] == 1
    assert set(found[1]) == {"fingerprint", "network", "optimizer", "history"}
    assert all(isinstance(value, torch.Tensor) for value in found[1]["network"].values())
