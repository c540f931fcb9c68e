"""Where a curve over layers turns: saturation, onset, peak and dip, each defined here and nowhere else.

A landmark takes a curve [..., L], L measured layers in order, and returns the index [...] of one of them, or L, one
past the last, where the curve never gets there. `of` makes it a statistic with an interval, `row` finds it in a stored
curve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd

from emolib.stats.scores import Array, Statistic

Landmark = Literal["saturation", "onset", "peak", "dip"]
SATURATION = 0.95  # share of a curve's own maximum (claim C2)
ONSET = 0.5  # value from which most answers follow (claims C5, C10)
EDGE = 3  # measured layers at either end that a search for a dip leaves out (claims C7, C11)


def saturation(curve: Array) -> Array:
    """The first layer with `SATURATION` of the curve's maximum."""
    return _first(curve >= SATURATION * curve.max(axis=-1, keepdims=True))


def onset(curve: Array) -> Array:
    """The first layer with at least `ONSET`."""
    return _first(curve >= ONSET)


def peak(curve: Array) -> Array:
    """The layer of the maximum; the first of several."""
    return curve.argmax(axis=-1)


def dip(curve: Array) -> Array:
    """The layer of the minimum, the first and last `EDGE` layers aside where there are more than these."""
    edge = EDGE if curve.shape[-1] > 2 * EDGE else 0
    return curve[..., edge : curve.shape[-1] - edge].argmin(axis=-1) + edge


FIND: dict[Landmark, Callable[[Array], Array]] = {"saturation": saturation, "onset": onset, "peak": peak, "dip": dip}


def of(landmark: Landmark, statistic: Statistic, layers: Array | range | list[int] | None = None) -> Statistic:
    """The statistic "0-based layer of the landmark" of a curve's statistic [r, L]; columns: one.

    `layers` [L] are those of the curve's columns, by default 0..L-1; a landmark that is never reached is one layer past
    the last.
    """

    def found(weights: Array) -> Array:
        curve = statistic(weights)
        places = np.arange(curve.shape[-1]) if layers is None else np.asarray(layers)
        return np.append(places, places[-1] + 1).astype(float)[FIND[landmark](curve)][:, None]

    return found


def row(landmark: Landmark, curve: pd.DataFrame) -> pd.Series | None:
    """The row of a stored curve (a row a layer, in order, with a `value`) at the landmark; None if never reached."""
    index = int(FIND[landmark](curve["value"].to_numpy(dtype=float)))
    return curve.iloc[index] if index < len(curve) else None


def rows(landmark: Landmark, curves: pd.DataFrame, *by: str) -> pd.DataFrame:
    """The rows of stored curves at the landmark, one for each value of the columns `by` where it is ever reached."""
    each = curves.sort_values("layer").groupby(list(by))
    return pd.DataFrame([found for _, curve in each if (found := row(landmark, curve)) is not None])


def _first(reached: np.ndarray) -> Array:
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1), reached.shape[-1])
