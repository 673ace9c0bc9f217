"""How wrong accuracy without labels gets where its assumption breaks: the shipping estimates on drawn data.

Rows are drawn from three classes in the plane; the model knows the law of the rows it was made for, so it is calibrated
there, exactly. Draws no picture and writes no file.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from table import Table

from penstock.components.contracts.reports import Interval
from penstock.components.evidence.label_free import (
    average_confidence,
    change_by_confidence,
    change_by_disagreement,
    thresholded_confidence,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

View = Callable[[Floats, Floats], Floats]  # the logits of both models -> those that judge a row

ROWS = 1_000
MANY = 1_000_000  # rows that the true accuracy is counted on
MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 3.0]])
EVEN = np.full(3, 1 / 3)
SEEN = (1.0, 0.9)  # noise of what the stable model sees, and of what the candidate sees


class World(NamedTuple):
    """Traffic: classes in shares `prior`, moved by `shift`, labels replaced by any with chance `noise`."""

    prior: Floats = EVEN
    shift: float = 0.0
    noise: float = 0.0
    temperature: float = 1.0  # the model's logits are divided by it
    drifted: float = 1.0  # the same, after validation only


def tables(runs: int, seed: int) -> list[Table]:
    """Return how far off each estimate is, and how often its interval holds the truth."""
    return [_accuracy(runs, seed), _change(runs, seed)]


def _logits(seen: Floats, noise: float = 1.0) -> Floats:
    found: Floats = (seen @ MEANS.T - (MEANS**2).sum(axis=1) / 2) / noise**2
    return found


def _draw(world: World, rows: int, rng: np.random.Generator, temperature: float) -> tuple[Floats, Bools]:
    """Return confidences and whether the predictions are right, (rows,) each."""
    labels = rng.choice(3, size=rows, p=world.prior)
    seen = MEANS[labels] + rng.normal(size=(rows, 2))
    if world.shift:  # inputs elsewhere, labels by the old law given the input
        seen = seen + world.shift
        labels = (softmax(_logits(seen), axis=1).cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    labels = np.where(rng.random(rows) < world.noise, rng.integers(0, 3, rows), labels)
    scores = softmax(_logits(seen) / temperature, axis=1)
    return scores.max(axis=1), scores.argmax(axis=1) == labels


WORLDS = {"as at validation": World(),
          "temperature off by 0.5 (overconfident), at validation too": World(temperature=0.5),
          "temperature off by 2 (underconfident), at validation too": World(temperature=2.0),
          "temperature off by 0.5, since validation": World(drifted=0.5),
          "temperature off by 2, since validation": World(drifted=2.0),
          "label shift: classes 70, 20, 10 %": World(prior=np.array([0.7, 0.2, 0.1])),
          "covariate shift: inputs moved by 1, same law of labels": World(shift=1.0),
          "changed meaning: 10 % of labels at random": World(noise=0.1)}


def _judged(found: list[Interval], truth: float) -> tuple[str, str, str]:
    middle = np.array([one.estimate for one in found])
    covered = np.mean([one.lower <= truth <= one.upper for one in found])
    width = np.mean([one.upper - one.lower for one in found])
    error = round(100 * float(middle.mean() - truth), 1) + 0.0  # no "-0.0"
    return f"{error:+.1f}", f"{100 * width:.1f}", f"{covered:.3f}"


def _accuracy(runs: int, seed: int) -> Table:
    rows = []
    for number, (name, world) in enumerate(WORLDS.items()):
        rng = np.random.default_rng(seed + number)
        temperature = world.temperature * world.drifted
        truth = float(_draw(world, MANY, rng, temperature)[1].mean())
        average, thresholded = [], []
        for _ in range(runs):
            labelled = _draw(World(), ROWS, rng, world.temperature)
            confidence, _right = _draw(world, ROWS, rng, temperature)
            average.append(average_confidence(confidence))
            thresholded.append(thresholded_confidence(*labelled, confidence))
        rows.append((name, f"{100 * truth:.1f}", *_judged(average, truth), *_judged(thresholded, truth)))
    return Table("Accuracy without labels, where calibration holds and where it breaks",
                 f"Mean error, in points, and how often the 95 % interval holds the true accuracy. {ROWS:,} labelled "
                 f"rows and {ROWS:,} without labels, {runs:,} runs (standard error of a coverage of 0.95: "
                 f"{(0.95 * 0.05 / runs) ** 0.5:.3f}).",
                 ("traffic", "accuracy", "average confidence: error", "width", "coverage", "ATC: error", "width",
                  "coverage"), rows)


def _pair(rows: int, rng: np.random.Generator, prior: Floats) -> tuple[Ints, Floats, Floats]:
    """Return labels, and the logits of stable and candidate, who see each row through a noise of their own."""
    labels = rng.choice(3, size=rows, p=prior)
    one, other = (_logits(MEANS[labels] + noise * rng.normal(size=(rows, 2)), noise) for noise in SEEN)
    return labels, one, other


def _change(runs: int, seed: int) -> Table:
    views: dict[str, tuple[View, Floats, float]] = {
        "calibrated where they differ, from both models": (lambda one, other: one + other, EVEN, 0.0),
        "the candidate's own confidence": (lambda one, other: other, EVEN, 0.0),
        "the candidate's own confidence, off_by=0.5": (lambda one, other: other, EVEN, 0.5),
        "stable's own confidence": (lambda one, other: one, EVEN, 0.0),
        "from both, temperature off by 0.5": (lambda one, other: 2.0 * (one + other), EVEN, 0.0),
        "from both, temperature off by 2": (lambda one, other: 0.5 * (one + other), EVEN, 0.0),
        "from both, label shift to 70, 20, 10 %": (lambda one, other: one + other, np.array([0.7, 0.2, 0.1]), 0.0)}
    rows = []
    for number, (name, (view, prior, off_by)) in enumerate(views.items()):
        rng = np.random.default_rng(seed + number)
        labels, stable, candidate = _pair(MANY, rng, prior)
        truth = float((candidate.argmax(axis=1) == labels).mean() - (stable.argmax(axis=1) == labels).mean())
        bounded, estimated = [], []
        for _ in range(runs):
            _, stable, candidate = _pair(ROWS, rng, prior)
            differ = stable.argmax(axis=1) != candidate.argmax(axis=1)
            likely = softmax(view(stable[differ], candidate[differ]), axis=1)
            each = np.arange(len(likely))
            bounded.append(change_by_disagreement(int(differ.sum()), ROWS))
            estimated.append(change_by_confidence(likely[each, candidate[differ].argmax(axis=1)],
                                                  likely[each, stable[differ].argmax(axis=1)], ROWS, off_by=off_by))
        rows.append((name, f"{100 * truth:+.1f}", *_judged(estimated, truth), *_judged(bounded, truth)[1:]))
    return Table("Change of accuracy without labels, from the rows where two models differ",
                 f"In points. Each model is calibrated on all rows, exactly; {ROWS:,} rows, {runs:,} runs.",
                 ("probabilities", "true change", "error", "width", "coverage", "bound by disagreement: width",
                  "coverage"), rows)
