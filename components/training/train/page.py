"""The page of a training, for a person: how loss, accuracy and learning rate went, epoch by epoch.

Lays out what a trained model's manifest says; computes nothing but which epoch was best.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from penstock.components.contracts.model import TrainedModelManifest
from penstock.components.reporting.page import Section, render_page, table
from penstock.components.reporting.plots import lines

__all__ = ["render"]

History = Sequence[Mapping[str, float]]


def render(model: TrainedModelManifest, weights: str) -> str:
    """Render the page of a trained model.

    Args:
        weights: sha256 of the weights file.
    """
    history, last = model.history, model.history[-1]
    sections = [_losses(history), *_accuracy(history), _rates(history), _epochs(history), _options(model)]
    reason = f"{len(history)} {'epochs' if len(history) > 1 else 'epoch'}, training loss {last['train_loss']:.4f}"
    if "validation_accuracy" in last:
        reason += f", validation accuracy {last['validation_accuracy']:.2%}"
    facts = {"network": model.network, "dataset": model.origin.dataset, "weights": weights[:12],
             "dataset hash": model.origin.dataset_hash[:12],
             "model": "moving average of the weights" if model.averaged else "weights of the last step"}
    return render_page("Training", "trained", reason, sections, facts)


def _losses(history: History) -> Section:
    names = {"train_loss": "training", "validation_loss": "validation"}
    note = ("Nats per row. The training loss is the mean over an epoch, on augmented rows and with label smoothing; "
            "the validation loss is measured after it, on rows as they are. So the two may lie apart; what counts is "
            "whether the second still falls.")
    return Section("Loss", _curves(history, names, "loss"), note)


def _accuracy(history: History) -> list[Section]:
    if "validation_accuracy" not in history[-1]:
        return []
    reached = [epoch["validation_accuracy"] for epoch in history]
    best = max(range(len(reached)), key=reached.__getitem__)
    note = f"Of the validation rows: {reached[-1]:.2%} in the end, {reached[best]:.2%} at best, in epoch {best + 1}."
    return [Section("Accuracy", _curves(history, {"validation_accuracy": "validation"}, "accuracy"), note)]


def _rates(history: History) -> Section:
    return Section("Learning rate", _curves(history, {"learning_rate": "learning rate"}, "learning rate"),
                   "At the last step of each epoch.")


def _epochs(history: History) -> Section:
    names = list(history[-1])
    rows = [[index, *(_figure(name, epoch[name]) for name in names)] for index, epoch in enumerate(history, start=1)]
    headers = ["Epoch", *(name.replace("_", " ") for name in names)]
    return Section("Epochs", table(headers, rows, numeric=range(len(headers))))


def _options(model: TrainedModelManifest) -> Section:
    rows = [[name.replace("_", " "), str(value) or "–"] for name, value in sorted(model.origin.config.items())]
    return Section("Options", table(["Option", "Value"], rows), "All that determines the weights, but for the data.")


def _figure(name: str, value: float) -> str:
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4f}" if name.endswith("loss") else f"{value:.3g}"


def _curves(history: History, names: Mapping[str, str], ylabel: str) -> Markup:
    """Draw the named figures over the epochs; one that was not measured is left out."""
    series = {text: [epoch[name] for epoch in history] for name, text in names.items() if name in history[-1]}
    return lines(range(1, len(history) + 1), series, "epoch", ylabel)
