"""Bets that a share of requests has left its limits, and the capital of those who bet.

Every request brings new betters, so the capital on the table is an e-detector (Shin, Ramdas, Rinaldo 2023, e-SR): while
every share keeps its limits, its expectation is the number of requests at most. All functions work on arrays of any
leading shape. Knows neither classes nor scores: `drift_stream` does.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

__all__ = ["Bets", "bets", "capital_after", "growth"]

Floats = npt.NDArray[np.float64]

EFFECTS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])  # in log odds beyond the limit: who bets on large and small changes
TINY = 1e-12


class Bets(NamedTuple):
    """Who bets, all (E,): each on one share, in one direction, on one effect.

    Attributes:
        part: index of the share.
        gain: logarithm of what the stake is multiplied by where a request belongs to the part.
        loss: the same where it does not.
    """

    part: npt.NDArray[np.int64]
    gain: Floats
    loss: Floats


def bets(lower: npt.ArrayLike, upper: npt.ArrayLike) -> Bets:
    """Return those who bet against "the share is at least `lower`" and "at most `upper`".

    Args:
        lower: (k,) limits; nobody bets against 0.
        upper: (k,) limits; nobody bets against 1.
    """
    low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    parts = np.repeat(np.arange(len(low)), len(EFFECTS))
    limit = np.concatenate([np.repeat(high, len(EFFECTS)), np.repeat(low, len(EFFECTS))])
    effect = np.concatenate([np.tile(EFFECTS, len(high)), -np.tile(EFFECTS, len(low))])
    possible = (limit > TINY) & (limit < 1 - TINY)
    limit, effect = limit[possible], effect[possible]
    believed = expit(logit(limit) + effect)
    return Bets(np.concatenate([parts, parts])[possible], np.log(believed / limit),
                np.log((1 - believed) / (1 - limit)))


def growth(who: Bets, events: npt.ArrayLike, requests: npt.ArrayLike, block: int = 1) -> Floats:
    """Return the logarithm of what a batch multiplies each one's capital by.

    A request multiplies it by an expected 1 + (p - c) * something positive where the share is p and the limit c. With
    a root of order `block` that holds for sessions of at most so many requests, whatever binds those of a session: the
    geometric mean of factors is at most their arithmetic mean.

    Args:
        events: (*batch, k) requests of each part.
        requests: (*batch).
        block: requests of a session at most.

    Returns:
        (*batch, E).
    """
    hits = np.asarray(events, dtype=float)[..., who.part]
    found: Floats = (hits * (who.gain - who.loss) + np.asarray(requests, dtype=float)[..., None] * who.loss) / block
    return found


def capital_after(log_capital: Floats, requests: npt.ArrayLike, grown: Floats) -> Floats:
    """Return the logarithm of each one's capital after a batch; who joins in a batch, joins at its beginning.

    Args:
        log_capital: (*batch, E).
        requests: (*batch); each brings a capital of 1 in all, divided evenly.
        grown: (*batch, E), from `growth`.
    """
    joining = np.log(np.asarray(requests, dtype=float) / grown.shape[-1])[..., None]
    found: Floats = np.logaddexp(log_capital, joining) + grown
    return found
