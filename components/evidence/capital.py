"""Bets against "the canary's share of events is at most d above stable's", won or lost window by window.

In a window with n_s stable and n_c canary requests, for any anchor a and stake b,

    E = prod over the canary's requests (1 + b/n_c (Y - a - d)) * prod over stable's (1 + b/n_s (a - Y))

has an expectation of at most exp(b (p_c - d - p_s)) <= 1 wherever p_c - p_s <= d, whatever the rates are: the capital
of a gambler who cannot win in the long run while the hypothesis holds (Waudby-Smith and Ramdas 2024). With the stake of
a stated alternative it is the e-variable of Turner, Ly and Gruenwald (2024) for a 2x2 table. Windows are multiplied, so
the rates may move from window to window as they like. b < 0 bets against "at least d above stable's".

All functions work on arrays of any leading shape: a production test is one run, a simulation ten thousand.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

__all__ = ["Gamblers", "Seen", "Window", "bet", "capital"]

Floats = npt.NDArray[np.float64]

FIRST_LEVELS = np.array([0.0005, 0.003, 0.02, 0.1, 0.3, 0.6, 0.9])  # of stable, while nothing is known of it
FIRST_WEIGHTS = np.array([0.15, 0.2, 0.25, 0.2, 0.1, 0.05, 0.05])
CLEAR_OF_RUIN = 0.98  # of the largest stake: one outcome must not lose everything


class Window(NamedTuple):
    """What happened between two looks; each array has the shape of the batch."""

    stable_events: Floats
    stable: Floats
    canary_events: Floats
    canary: Floats


class Seen(NamedTuple):
    """Sums over all windows before this one; they set the stakes, and are no evidence themselves."""

    stable_events: Floats
    stable: Floats
    canary_events: Floats
    canary: Floats

    def after(self, window: Window) -> "Seen":
        return Seen(*(before + now for before, now in zip(self, window, strict=True)))


class Gamblers(NamedTuple):
    """Who bets: one per null hypothesis (rows) and per effect that they believe in (columns).

    Attributes:
        nulls: (D,) differences canary minus stable; row d bets against "at most d", or "at least d" where sign is -1.
        effects: (K,) positive distances from the null that they believe in.
        weights: (K,) which share of the capital each begins with; the sum is 1.
        sign: 1 or -1.
    """

    nulls: Floats
    effects: Floats
    weights: Floats
    sign: int


def bet(gamblers: Gamblers, seen: Seen, window: Window) -> Floats:
    """Return the logarithm of what each gambler's capital is multiplied by.

    Args:
        seen: everything before `window`.
        window: at least one request of each version; where one has none, nothing is bet.

    Returns:
        (*batch, D, K).
    """
    window, seen = (Window(*(np.asarray(part, float) for part in window)),
                    Seen(*(np.asarray(part, float) for part in seen)))
    nulls, effects = gamblers.nulls[:, None], gamblers.sign * gamblers.effects
    found = _log_factor(Window(*(part[..., None, None] for part in window)),
                        _level(Seen(*(part[..., None, None] for part in seen)), nulls + effects), nulls, effects)
    complete = (window.stable > 0) & (window.canary > 0)
    first = complete & (seen.stable == 0)
    if first.any():
        guesses = np.broadcast_to(FIRST_LEVELS[:, None, None], (len(FIRST_LEVELS), *(nulls + effects).shape))
        beginning = Window(*(part[first][..., None, None, None] for part in window))
        found[first] = logsumexp(_log_factor(beginning, guesses, nulls, effects), axis=-3,
                                 b=FIRST_WEIGHTS[:, None, None])
    return np.where(complete[..., None, None], found, 0.0)


def capital(gamblers: Gamblers, log_wealth: Floats) -> Floats:
    """Return the logarithm of the evidence of each row: the gamblers' capital together, from 1 at the beginning.

    Args:
        log_wealth: (*batch, D, K).

    Returns:
        (*batch, D).
    """
    top = log_wealth.max(axis=-1)
    together: Floats = top + np.log(np.exp(log_wealth - top[..., None]) @ gamblers.weights)
    return together


def _level(seen: Seen, effect: Floats) -> Floats:
    """Estimate stable's share of events as someone does who believes in `effect`; Jeffreys' prior."""
    explained = np.clip(seen.canary_events - seen.canary * effect, 0, seen.canary)
    level: Floats = (seen.stable_events + explained + 0.5) / (seen.stable + seen.canary + 1)
    return level


def _log_factor(window: Window, level: Floats, null: Floats, effect: Floats) -> Floats:
    low, high = np.maximum(0.0, -null) + 1e-9, np.minimum(1.0, 1.0 - null) - 1e-9
    level = np.clip(level, low, high)
    stable, canary = (np.where(part > 0, part, 1.0) for part in (window.stable, window.canary))
    # The point of the null that is hardest to tell from the alternative lies nearer to what is less well known.
    noise_s, noise_c = level * (1 - level) / stable, (level + null) * (1 - level - null) / canary
    anchor = np.clip(level + effect * noise_s / (noise_s + noise_c), low, high)
    bound = anchor + null
    stake = effect / (anchor * (1 - anchor) / stable + bound * (1 - bound) / canary)
    most = np.minimum(canary / bound, stable / (1 - anchor))  # a larger stake could lose more than there is
    least = -np.minimum(canary / (1 - bound), stable / anchor)
    stake = np.clip(stake, CLEAR_OF_RUIN * least, CLEAR_OF_RUIN * most)
    on_canary, on_stable = stake / canary, stake / stable
    events_c, events_s = window.canary_events, window.stable_events
    # np.log is vectorised, log1p is not: 4 times as fast, and what 1 + x rounds away is below 1e-16 a request
    found: Floats = (events_c * np.log(1 + on_canary * (1 - bound)) + (window.canary - events_c)
                     * np.log(1 - on_canary * bound) + events_s * np.log(1 - on_stable * (1 - anchor))
                     + (window.stable - events_s) * np.log(1 + on_stable * anchor))
    return found
