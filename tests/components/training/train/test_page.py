"""The page of a training: what its manifest says, and nothing that was not measured."""

from penstock.components.contracts.model import Origin, Preprocessing, Signature, TrainedModelManifest
from penstock.components.training.train.page import render

EPOCHS = ({"train_loss": 1.5, "validation_accuracy": 0.71, "validation_loss": 1.25, "learning_rate": 0.3},
          {"train_loss": 1.25, "validation_accuracy": 0.83, "validation_loss": 1.0, "learning_rate": 0.15},
          {"train_loss": 1.0, "validation_accuracy": 0.82, "validation_loss": 1.125, "learning_rate": 0.001})


def manifest(history: tuple[dict[str, float], ...], averaged: bool = False) -> TrainedModelManifest:
    return TrainedModelManifest(
        network="torchvision:resnet18", signature=Signature(height=8, width=8, channels=1, classes=("a", "b")),
        preprocessing=Preprocessing(mean=(0.5,), std=(0.5,)), metrics={"train_loss": 1.0}, history=history,
        origin=Origin(dataset="<sides>", dataset_hash="0123456789abcdef", code_version="test",
                      config={"learning_rate": 0.3, "weights": ""}),
        averaged=averaged, files={})


def test_curves_of_all_that_was_measured() -> None:
    page = render(manifest(EPOCHS, averaged=True), "f" * 64)

    assert "3 epochs, training loss 1.0000, validation accuracy 82.00%" in page
    assert "82.00% in the end, 83.00% at best, in epoch 2" in page
    assert all(f"Lines: {measure} over epoch" in page for measure in ("loss", "accuracy", "learning rate"))
    assert "moving average of the weights" in page
    assert "torchvision:resnet18" in page
    assert "&lt;sides&gt;" in page
    assert "<td class=\"number\">0.001</td>" in page
    assert "ffffffffffff" in page
    assert "fffffffffffff" not in page


def test_without_a_validation_split() -> None:
    history = tuple({name: epoch[name] for name in ("train_loss", "learning_rate")} for epoch in EPOCHS[:1])
    page = render(manifest(history), "0" * 64)

    assert "1 epoch, training loss 1.5000" in page
    assert "Lines: loss over epoch" in page
    assert "accuracy" not in page
    assert "weights of the last step" in page


def test_the_same_training_has_the_same_page() -> None:
    assert render(manifest(EPOCHS), "0") == render(manifest(EPOCHS), "0")
