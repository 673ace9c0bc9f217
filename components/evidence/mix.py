"""The mix of what a model answers: has the canary's share of any set of classes moved by more than is allowed?

Counts per class in, verdict out; binned confidences are classes too. The bets are in `capital`. Nothing here knows
which class is right.
"""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from penstock.components.contracts.errors import ConfigError, ContractError
from penstock.components.evidence.capital import capital
from penstock.components.evidence.class_sets import MixSeen, distance, set_bet, subsets, within_gamblers, worse_bet
from penstock.components.evidence.decision import Decision, changed, plain
from penstock.components.evidence.rate import difference_gamblers
from penstock.components.evidence.sequential import SequentialTest, State, restored, tallied

__all__ = ["MOST_FOR_WITHIN", "MixTest", "confidence_bins"]

Floats = npt.NDArray[np.float64]

MOST_FOR_WITHIN = 10  # classes; each set of them is a hypothesis of its own, and there are 2^classes - 2
RULES = 2  # of `moved_sets`
NULLS = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 15.0, 25.0, 50.0])  # times the minimum effect
SMALLEST = 0.001  # minimum effect that the nulls are laid around where it is 0


def confidence_bins(values: npt.ArrayLike, edges: Sequence[float]) -> npt.NDArray[np.int64]:
    """Count confidences per bin, so that a MixTest with one class per bin compares them.

    Args:
        values: confidences of the requests.
        edges: growing; bin i is from edges[i] to just below edges[i + 1], and the last bin has its upper edge too.

    Returns:
        (len(edges) - 1,) counts.

    Raises:
        ConfigError: edges that do not grow, or fewer than three.
        ContractError: a value outside of the edges, or none at all (NaN).
    """
    bounds, found = np.asarray(edges, float), np.asarray(values, float).ravel()
    if bounds.ndim != 1 or len(bounds) < 3 or not (np.diff(bounds) > 0).all():
        raise ConfigError(f"edges={list(edges)} must be three growing numbers at least, such as [0, 0.5, 0.9, 1]")
    outside = found[~((found >= bounds[0]) & (found <= bounds[-1]))]
    if len(outside):
        raise ContractError(f"{len(outside)} confidences such as {outside[0]:g} are outside of {bounds[0]:g} to "
                            f"{bounds[-1]:g}; send probabilities, or wider edges")
    return np.histogram(found, bounds)[0]


class MixTest(SequentialTest):
    """Is the total variation distance between what the two versions answer at most `minimum_effect`?

    The distance is the largest difference, over all sets of classes, between the canary's share of answers in the set
    and stable's. A window ends when both versions have a request (a block of them); windows are multiplied, so the mix
    may breathe as it likes. With probability at most alpha the test ever says `worse` while the distance is at most
    `minimum_effect` in every window. With probability at most alpha it ever says `within` while one and the same set of
    classes differs by `minimum_effect` at least in every window: moves that turn round from window to window, and
    leave no difference over several, are not covered. `within` is offered for up to 10 classes. Both are for updates
    that come by the clock or by a count of requests, never because of an answer in them.

    Args:
        classes: their number, or their names.
        minimum_effect: total variation distance, 0.02: 2 of 100 answers fall into another class. 0: any difference
            counts, and `within` is never said.

    Raises:
        ConfigError: fewer than two classes, or an effect outside of [0, 1).
    """

    DEFAULT_NAME = "answers"
    TOLERANCE: ClassVar[tuple[str, float]] = "minimum_effect", 0.02

    def __init__(self, classes: int | Sequence[str], minimum_effect: float, alpha: float = 0.05, *, block: int = 1,
                 max_samples: int = 0, name: str = "") -> None:
        super().__init__(minimum_effect, alpha, block=block, max_samples=max_samples, name=name)
        self.classes = _names(classes)
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"classes={classes!r} must be two or more, each named once: give how many there are, "
                              f"such as 10, or their names, such as ['cat', 'dog']")
        minimum_effect = self.tolerance
        if not 0 <= minimum_effect < 1:
            raise ConfigError(f"minimum_effect={minimum_effect:g} is a distance from 0 to 1, for example 0.02")
        count, scale = len(self.classes), minimum_effect or SMALLEST
        nulls = np.unique(np.concatenate([[0.0, minimum_effect], (NULLS * scale)[NULLS * scale < 1]]))
        self._row = int(np.flatnonzero(nulls == minimum_effect)[0])
        self._worse = difference_gamblers(minimum_effect, 1, nulls)
        self._within = within_gamblers(minimum_effect) if minimum_effect and count <= MOST_FOR_WITHIN else None
        self._sets = subsets(count) if self._within else np.zeros((0, count), bool)
        self._worse_wealth = np.zeros((RULES, len(nulls), len(self._worse.effects)))  # logarithms
        self._within_wealth = np.zeros((len(self._sets), 4, 3))
        self._best = np.zeros(len(nulls)), np.zeros(4)  # highest evidence of each row so far
        self._seen = MixSeen.nothing((), count)
        self._waiting = np.zeros((2, count))
        self._now = self._evidence()

    def update(self, stable: npt.ArrayLike, canary: npt.ArrayLike) -> None:
        """Take what was answered since the last update; call it whenever the share of traffic changes, too.

        A window in which two shares are mixed compares one version's early answers with the other's late ones.

        Args:
            stable: (classes,) answers of stable per class, whole numbers.
            canary: the same of the canary.

        Raises:
            ContractError: another number of classes, or a count that is none, or 2**53 of them.
        """
        found = []
        for version, given in (("stable", stable), ("canary", canary)):
            counts = tallied(given, (len(self.classes),))
            if counts is None:
                raise ContractError(f"{version}={given!r} must be {len(self.classes)} whole numbers, one per class "
                                    f"({', '.join(self.classes[:3])} ...), none negative, below 2**53 together")
            found.append(counts)
        self._waiting += np.array(found)
        if (self._waiting.sum(axis=1) >= self.block).all():
            self._close(*(self._waiting / self.block))
            self._waiting[:] = 0

    def _close(self, stable: Floats, canary: Floats) -> None:
        self._worse_wealth += worse_bet(self._worse, self._seen, stable, canary, self.tolerance)
        if self._within:
            # Rounded, so that the state of 10 classes is 150 kB of JSON instead of 260; down, so that a million windows
            # add no evidence: it costs 5e-7 a window.
            self._within_wealth = np.floor(
                1e6 * (self._within_wealth + set_bet(self._within, self._seen, stable, canary, self._sets))) / 1e6
        self._now = self._evidence()  # kept: `decide` asks for it three times
        self._best = np.maximum(self._best[0], self._now[0]), np.maximum(self._best[1], self._now[1])
        self._seen = self._seen.after(stable, canary)
        self._settle()

    def _evidence(self) -> tuple[Floats, Floats]:
        """Return the logarithms of the evidence of each null: (D,) at most, (4,) at least."""
        worse = np.logaddexp.reduce(capital(self._worse, self._worse_wealth), axis=0) - math.log(RULES)
        within = capital(self._within, self._within_wealth).min(axis=0) if self._within else np.full(4, -math.inf)
        return worse, within

    @property
    def samples(self) -> int:
        return int(self._seen.canary.sum())

    @property
    def log_e(self) -> tuple[float, float]:
        worse, within = self._now
        return float(worse[self._row]), float(within[1])

    @property
    def _can_be_within(self) -> bool:
        return self._within is not None

    def decide(self) -> Decision:
        """Say what is known now; `estimate`, `lower` and `upper` are total variation distances."""
        estimate, threshold = float(distance(self._seen)), math.log(1 / self.alpha)
        # An end is the first distance that is not ruled out: each beyond the true one is another chance to be wrong.
        out = [best >= threshold for best in self._best]
        if self._within:
            out[1] |= self._within.nulls >= 1  # nothing can be farther apart, so there is nothing to rule out
        above, below = np.logical_and.accumulate(out[0]), np.logical_and.accumulate(out[1][::-1])
        lower = float(self._worse.nulls[above].max(initial=0.0))
        upper = float(self._within.nulls[below[::-1]].min(initial=1.0)) if self._within else 1.0
        more = self._more(self._growth(estimate))
        return Decision(self._settled, self._explain(estimate, lower, upper, more), estimate, lower, upper,
                        self.samples, *self._shown, self.alpha, more)

    def _growth(self, estimate: float) -> float:
        """Estimate the evidence per canary request if the truth is what it looks like."""
        stable, canary, moved = self._seen.stable, self._seen.canary, self._seen.moves > 0
        if not canary.sum() or (estimate <= self.tolerance and not self._within):
            return 0.0
        level = float(np.clip(stable[moved].sum() / stable.sum(), 0.01, 0.99))
        return float((estimate - self.tolerance)**2 / (2 * level * (1 - level) * (1 + canary.sum() / stable.sum())))

    def _explain(self, estimate: float, lower: float, upper: float, more: int) -> str:
        canary, unit = self._seen.canary.sum(), "requests" if self.block == 1 else "blocks of requests"
        if not canary:
            return f"{self.name}: nothing to compare yet, both versions must have answered"
        most = int(np.abs(self._seen.moves).argmax())
        moved = f"class {self.classes[most]} moved most, {self._seen.moves[most] * 100:+.1f} points"
        text = (f"{self.name}: beyond chance {estimate * 100:.1f} of 100 {self.name} changed class in {canary:,.0f} "
                f"{unit} of the canary; {moved}")
        allowed = f"{plain(self.tolerance * 100)} of 100 may{changed(lower, upper)}"
        if self._settled == "worse":
            return f"{text}; more than {plain(max(lower, self.tolerance) * 100)} of 100 changed, {allowed}"
        if self._settled == "within":
            return f"{text}; at most {plain(min(upper, self.tolerance) * 100)} of 100 changed, {allowed}"
        text = f"{text}; {allowed}"
        if estimate <= self.tolerance and not self._within:
            why = f"is only offered for up to {MOST_FOR_WITHIN} classes" if self.tolerance else "cannot be shown"
            return f"{text}: that no more than that changed {why}"
        return f"{text}: {self._outlook(more, f'canary {unit}')}"

    def _options(self) -> State:
        return {"classes": self.classes, "minimum_effect": self.tolerance, "alpha": self.alpha, "block": self.block,
                "max_samples": self.max_samples, "name": self.name}

    def _evidence_state(self) -> State:
        return {"worse": self._worse_wealth.tolist(), "within": self._within_wealth.tolist(),
                "best": [best.tolist() for best in self._best], "seen": [part.tolist() for part in self._seen],
                "waiting": self._waiting.tolist()}

    def _restore(self, state: State) -> None:
        self._worse_wealth = restored(state["worse"], self._worse_wealth)
        self._within_wealth = restored(state["within"], self._within_wealth)
        self._best = restored(state["best"][0], self._best[0], 0), restored(state["best"][1], self._best[1], 0)
        stable, canary, excess, weight = state["seen"]
        self._seen = MixSeen(restored(stable, self._seen.stable, 0), restored(canary, self._seen.canary, 0),
                             restored(excess, self._seen.excess), restored(weight, self._seen.weight, 0))
        self._waiting = restored(state["waiting"], self._waiting, 0)
        self._now = self._evidence()


def _names(classes: object) -> list[str]:
    """Return names of classes, none where they are neither counted nor listed."""
    if isinstance(classes, Integral):
        return [str(number) for number in range(int(classes))]
    if isinstance(classes, str | bytes) or not isinstance(classes, Iterable):
        return []
    return [str(name) for name in classes]
