"""Which sets of classes to bet on, and what the bets win: the arithmetic of a changed mix of answers.

Arrays of any leading shape; the verdict is `mix`'s, the bets themselves are `capital`'s.
"""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.components.evidence.capital import Gamblers, Seen, Window, bet

__all__ = ["MixSeen", "distance", "moved_sets", "set_bet", "subsets", "within_gamblers", "worse_bet"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class MixSeen(NamedTuple):
    """Sums over all windows before this one; they choose the sets and the stakes, and are no evidence themselves.

    Attributes:
        stable: (*batch, C) requests of stable per class.
        canary: (*batch, C).
        excess: (*batch, C) sum over windows of weight x (canary's share - stable's share).
        weight: (*batch) sum of the weights n_s n_c / (n_s + n_c) (Mantel and Haenszel 1959).
    """

    stable: Floats
    canary: Floats
    excess: Floats
    weight: Floats

    @classmethod
    def nothing(cls, batch: tuple[int, ...], classes: int) -> "MixSeen":
        return cls(np.zeros((*batch, classes)), np.zeros((*batch, classes)), np.zeros((*batch, classes)),
                   np.zeros(batch))

    def after(self, stable: Floats, canary: Floats) -> "MixSeen":
        """Add a window, (*batch, C) each; one that is not complete changes no contrast."""
        n_s, n_c = stable.sum(-1), canary.sum(-1)
        both = (n_s > 0) & (n_c > 0)
        weight = np.where(both, n_s * n_c / np.maximum(n_s + n_c, 1e-300), 0.0)
        share_s, share_c = (part / np.where(both, total, 1.0)[..., None]
                            for part, total in ((stable, n_s), (canary, n_c)))
        return MixSeen(self.stable + stable, self.canary + canary,
                       self.excess + weight[..., None] * (share_c - share_s), self.weight + weight)

    @property
    def moves(self) -> Floats:
        """Return by how much each class' share is larger with the canary, (*batch, C)."""
        return np.asarray(self.excess / np.where(self.weight > 0, self.weight, 1.0)[..., None])


def moved_sets(seen: MixSeen, tolerance: float) -> Bools:
    """Choose two sets of classes to bet on, from the past alone.

    The first holds every class whose share grew: the set whose difference is the total variation distance. The second
    is what would have brought the most evidence per request: classes in the order of their relative growth, as many as
    make (difference - tolerance) / its standard error largest. Where one class of many moved, it is a small set with
    little noise; where all moved a little, the first is better.

    Returns:
        (*batch, 2, C).
    """
    moves = seen.moves
    share = (seen.stable + seen.canary + 0.5) / ((seen.stable + seen.canary).sum(-1) + 0.5 * moves.shape[-1])[..., None]
    coarse = 1 / np.maximum(seen.weight, 1.0)  # of a share that a request or two have shown
    order = np.argsort(-moves / (share + coarse[..., None]), axis=-1)
    difference = np.cumsum(np.take_along_axis(moves, order, -1), -1)[..., :-1]
    level = np.cumsum(np.take_along_axis(share, order, -1), -1)[..., :-1]
    score = (difference - tolerance) / np.sqrt(level * (1 - level) + coarse[..., None])
    rank = np.argsort(order, axis=-1)
    best: Bools = rank <= score.argmax(-1)[..., None]
    return np.stack([moves > 0, best], axis=-2)


def worse_bet(gamblers: Gamblers, seen: MixSeen, stable: Floats, canary: Floats, tolerance: float) -> Floats:
    """Return the logarithm of what the gamblers against "no set moved by more than d" win in a window.

    Before anything is known they bet on every single class and on every class' complement, in equal parts; an average
    of bets that none can win in the long run is one too.

    Args:
        stable: (*batch, C) requests of the window per class; `canary` alike.
        tolerance: the distance that the sets are chosen for.

    Returns:
        (*batch, 2, D, K), for the two rules of `moved_sets`.
    """
    sets = moved_sets(seen, tolerance)
    found = set_bet(gamblers, seen, stable, canary, sets)
    fresh = seen.weight <= 0
    if np.any(fresh):
        one = np.eye(stable.shape[-1], dtype=bool)
        each = set_bet(gamblers, seen, stable, canary, np.concatenate([one, ~one]))
        top = each.max(axis=-3, keepdims=True)
        mean = top + np.log(np.exp(each - top).mean(axis=-3, keepdims=True))
        found = np.where(fresh[..., None, None, None], mean, found)
    return found


def set_bet(gamblers: Gamblers, seen: MixSeen, stable: Floats, canary: Floats, sets: Bools) -> Floats:
    """Bet on "class in set"; sets (*batch, S, C) or (S, C), returns (*batch, S, D, K)."""
    def parts(counts: Floats) -> tuple[Floats, Floats]:
        inside = counts @ sets.T if sets.ndim == 2 else (sets * counts[..., None, :]).sum(-1)
        return inside, np.broadcast_to(counts.sum(-1)[..., None], inside.shape)

    return bet(gamblers, Seen(*parts(seen.stable), *parts(seen.canary)), Window(*parts(stable), *parts(canary)))


def subsets(classes: int) -> Bools:
    """Return every set of classes but the empty one and the whole, (2^C - 2, C)."""
    found = np.array(list(itertools.product([False, True], repeat=classes))[1:-1], bool)
    return found.reshape(-1, classes)


def within_gamblers(minimum_effect: float) -> Gamblers:
    """Return who bets against "some set moved by at least d": three gamblers for each of 2^C - 2 sets, and four d."""
    return Gamblers(minimum_effect * np.array([0.5, 1.0, 2.0, 4.0]), minimum_effect * np.array([0.5, 1.0, 2.0]),
                    np.array([0.2, 0.6, 0.2]), -1)


def distance(seen: MixSeen) -> Floats:
    """Estimate the total variation distance, (*batch).

    The plain estimate is half the sum of the moves' sizes, and noise has a size: it is biased upwards by about
    sqrt(classes / (6 weight)) where nothing moved. Each square is therefore reduced by its variance first, which
    leaves two fifths of that bias (10 classes, 1,000 requests of each version: 0.023 instead of 0.053, 2026-11-21).
    """
    total = np.where(seen.weight > 0, seen.weight, 1.0)[..., None]
    share = (seen.stable + seen.canary) / np.maximum((seen.stable + seen.canary).sum(-1), 1.0)[..., None]
    found: Floats = np.minimum(np.sqrt(np.maximum(seen.moves**2 - share * (1 - share) / total, 0)).sum(-1) / 2, 1)
    return found
