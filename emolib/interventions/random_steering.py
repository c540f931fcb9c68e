"""Random directions in the place of fitted ones: what steering scores where no theory is in it (paper F, Fig 36).

Three kinds: one direction for all layers of the window, which adds up as fitted vectors do; one a layer, the paper's
control; and sets of directions in the place of the appraisals', from which settings are put together as from fitted
ones. Only the last give a null for a mean over settings: opposite and overlapping settings score alike, as fitted ones
do, and a mean of independent draws would vary too little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from emolib.interventions import theory
from emolib.interventions.steering import Cell
from emolib.probes.directions import random_directions, unit

RANDOM, RELEASED_RANDOM, RANDOM_SETS = "random", "random_per_layer", "random_sets"
RANDOMS = (RANDOM, RELEASED_RANDOM, RANDOM_SETS)
SHOWN = 3  # draws whose label counts are kept: as many as the paper shows


def random_names(kind: str, draws: int) -> Sequence[str]:
    """What is pushed: numbers of draws, or "draw;setting" for sets."""
    if kind == RANDOM_SETS:
        return [f"{draw};{name}" for draw in range(draws) for name in theory.printed()]
    return [str(draw) for draw in range(draws)]


def random_vectors(kind: str, draws: int, n_layers: int, width: int, *, seed: int) -> dict[tuple[str, str], Tensor]:
    """The unit vectors [L, d] of each of `random_names`, by (kind, name); the first do not depend on `draws`."""
    if kind != RANDOM_SETS:
        over = "layer" if kind == RELEASED_RANDOM else "window"
        drawn = random_directions(draws, n_layers, width, seed=seed, over=over)
        return {(kind, str(draw)): vector for draw, vector in enumerate(drawn)}
    acting = theory.ACTING
    # Another seed: sets are no combinations of the single directions.
    bases = random_directions(draws * len(acting), n_layers, width, seed=seed + 1, over="window")
    found = {}
    for name in random_names(kind, draws):
        draw, setting = name.split(";", 1)
        base = dict(zip(acting, bases[int(draw) * len(acting) :], strict=False))
        found[kind, name] = unit(sum(sign * base[one] for one, sign in theory.signs(setting).items()))
    return found


def null_rows(cell: Cell, ids: np.ndarray, clean: np.ndarray, expected: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The rows of a random cell: theory scores of its draws, label ids [n, names], under `expected` shifts by setting.

    Single directions are scored against every setting, and count what they move; sets give one score each, the mean
    over the printed settings, each against its own expectation.
    """
    return (_set_rows if cell.kind == RANDOM_SETS else _single_rows)(cell, ids, clean, expected)


def _single_rows(cell: Cell, ids: np.ndarray, clean: np.ndarray, expected: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Scores of random draws against every expectation."""
    draws, counts, base = len(cell.names), theory.label_counts(ids)[0], theory.counted(clean)
    scores = theory.theory_score(np.stack([*expected.values()])[:, None], counts, base)
    against = [f"{name};vector:raw{cell.dose.suffix}" for name in expected]
    labels = [f"draw:{name}" for name in cell.names] * len(against)
    null = pd.DataFrame(dict(condition=np.repeat(against, draws), label=labels, value=scores.ravel()))
    null = null.assign(metric="theory_score_null" + cell.kind.removeprefix(RANDOM))
    over = "" if cell.kind == RANDOM else ";over:layer"
    ours = [f"random:{name}{over}{cell.dose.suffix}" for name in cell.names]
    moved = dict(condition=ours, value=theory.total_variation(counts, base), metric="total_variation")
    return pd.concat([null, pd.DataFrame(moved), theory.count_rows(ours[:SHOWN], counts[:SHOWN])]).assign(
        n=len(clean), **cell.site
    )


def _set_rows(cell: Cell, ids: np.ndarray, clean: np.ndarray, expected: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The mean score over settings of each set of random directions, every setting against its own expectation."""
    profile = np.stack([expected[name.split(";", 1)[1]] for name in cell.names])
    scores = theory.theory_score(profile, theory.label_counts(ids)[0], theory.counted(clean))
    means = scores.reshape(-1, len(theory.printed())).mean(axis=1)
    rows = dict(value=means, label=[f"draw:{draw}" for draw in range(len(means))], metric="theory_score_null")
    return pd.DataFrame(rows).assign(
        condition=f"settings:printed;vector:raw{cell.dose.suffix}", n=len(clean), **cell.site
    )
