"""What pushing appraisals does to the label (paper §9, F; E8-E10; Figs 7, 30-36): steering vectors and their controls.

The vectors are fitted on one half of the writers whose texts are answered right and judged on a balanced sample of the
other half. A centre is *decisive* if it has the highest mean theory score on texts of the fitting half (the judged
texts take no part in the choice), or if it lies at the depth where the paper acts; there, more doses, kinds of vectors
and random directions are run than elsewhere.

Random directions are of three kinds: `random`, one for all layers of the window, which adds up as fitted vectors do;
`random_per_layer`, the paper's control; and `random_sets`, in the place of the appraisals', from which settings are put
together as from fitted ones. Only these give a null for a mean over settings: opposite and overlapping settings score
alike, as fitted ones do, and a mean of independent draws would vary too little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from torch import Tensor

from emolib import stats
from emolib.engine.sites import centres, span_layers
from emolib.interventions import steering, theory
from emolib.interventions.steering import EVERY, MAIN, REST, SHARES, WIDE, Cell, Design, Family, Pushed, Vectors
from emolib.interventions.theory import label_counts
from emolib.probes.directions import USED, Kind, SteeringVectors, accumulated_norm, random_directions, unit
from emolib.stats.sampling import balanced_rows
from emolib.stats.scores import Array, Statistic
from emolib.study.study import Study
from emolib.tables.paper import DETAILED
from emolib.texts.appraisals import ACTING, EMOTIONS, PRINTED, SETTINGS, Setting, expected_shifts, label_means

RESAMPLES = 500
PAPER_DEPTH = 9 / DETAILED.layers
# What the paper's Figure 1 is about, and no other figure shows, beside its settings.
PUSHES = (*SETTINGS, Setting(self_responsblt=1), Setting(self_responsblt=-1))
PAIRS = tuple(setting for setting in PUSHES if len(setting) > 1)
RANDOM, PER_LAYER, SETS = "random", "random_per_layer", "random_sets"
RANDOMS = (RANDOM, PER_LAYER, SETS)
COUNTED = 3  # random draws whose label counts are kept: as many as the paper shows
CHOICE = SHARES[1]  # the dose at which the centre is chosen
LABELS = [dict(label=label) for label in EMOTIONS]
PLACE = dict(component="resid_post", position="-1")

FULL = Design(
    texts=195,
    choosing=100,
    step=1,
    families=(
        Family("raw", 3, WIDE, EVERY),
        Family("raw", 1, (), MAIN),
        Family("fix3", 3, (CHOICE,), EVERY),
        Family("fixall", 3, (CHOICE,), EVERY),
        Family("mean_difference", 3, (CHOICE,), MAIN),
        Family("unit", 3, (), MAIN),
        Family(RANDOM, 3, WIDE, MAIN, (20, 100)),
        Family(RANDOM, 3, (), REST, (0, 20)),
        Family(RANDOM, 1, (), MAIN, (0, 20)),
        Family(PER_LAYER, 3, (), MAIN, (0, 20)),
        Family(SETS, 3, (), MAIN, (0, 30)),
    ),
)
QUICK = Design(
    texts=26,
    choosing=26,
    step=4,
    families=(
        Family("raw", 3, MAIN, EVERY),
        *(Family(vector, 3, (), MAIN) for vector in ("fix3", "fixall", "mean_difference", "unit")),
        Family("raw", 1, (), MAIN),
        Family(RANDOM, 3, MAIN, MAIN, (20, 100)),
        Family(RANDOM, 3, (), REST, (0, 20)),
        Family(RANDOM, 1, (), MAIN, (0, 20)),
        Family(PER_LAYER, 3, (), (CHOICE,), (0, 20)),
        Family(SETS, 3, (), MAIN, (0, 10)),
    ),
)
Row = dict[str, Any]
Expected = Mapping[Setting, Array]


def run(study: Study) -> pd.DataFrame:
    """Predicted labels, theory scores and random nulls for every setting, kind of vector, dose and centre.

    A setting is the signs of its appraisals in their columns; `settings` "printed" is the mean over the paper's 14.
    count (of the judged texts, by label), theory_score, total_variation; theory_score_null of each random draw against
    every setting, and of each set of draws for the mean; flow (texts from `label` to `answer`) at the first decisive
    centre; selection_score (on fitting texts, by centre), decisive (with its `reason`), residual_norm, kept_share (of
    the squared length, after projection), accumulated_norm (of unit vectors summed over the window).
    Raises ValueError for a corpus without ratings, too few right answers, or a model too shallow for a window.
    """
    design = FULL if study.run.profile == "full" else QUICK
    ratings = study.events[list(study.corpus.ratings)]
    fitting, judged = steering.fitted_and_judged(study, design.texts)
    features = study.stacked("resid_post")[:, fitting].float()
    norms = features.norm(dim=-1).mean(1)
    fitted = SteeringVectors(features, ratings.iloc[fitting][list(USED)])
    units = unit_vectors(fitted, design, seed=study.run.seed)
    vectors = steering.in_both_units(units, norms)
    profiles = expected_shifts(label_means(ratings, study.events["emotion"]), PUSHES)
    expected = dict(zip(PUSHES, profiles, strict=True))
    choosing = balanced_rows(study.truth, fitting, design.choosing, seed=study.run.seed)
    selection = _selection(study, vectors, expected, choosing, design)
    decisive = decisive_centres(selection, study.model.n_layers)
    clean = study.predicted[judged]
    rows: list[Row] = stats.point(label_counts(clean[:, None])).rows(LABELS, metric="count", dose=0.0, n=len(clean))
    rows += [*_selected(selection, decisive), *_lengths(fitted, units), *steering.residual_norms(norms)]
    cells = steering.plan(design, study, pushes, decisive=decisive)
    for cell, ids in zip(cells, steering.answers(study, cells, vectors, judged, name="modulation"), strict=True):
        measure = _null if cell.vector in RANDOMS else _scores
        found = [*measure(cell, ids, clean, expected, study, judged)]
        if (cell.vector, cell.span, cell.centre) == ("raw", 3, decisive[0]):
            found += _flows(cell, ids, clean)
        rows += [row | cell.columns | dict(n=len(clean)) for row in found]
    return pd.DataFrame(rows)


def pushes(vector: str, draws: int) -> Sequence[Any]:
    """What vectors of a kind push: settings, numbers of random draws, or of sets pairs of a draw and a setting."""
    if vector == SETS:
        return [(draw, setting) for draw in range(draws) for setting in PRINTED]
    return range(draws) if vector in RANDOMS else PAIRS if vector == "unit" else PUSHES


def decisive_centres(selection: Mapping[int, np.ndarray], n_layers: int) -> list[int]:
    """The centre with the highest mean selection score, then the one at the paper's depth if that is another."""
    best = max(selection, key=lambda centre: selection[centre].mean())
    there = min(centres(3, n_layers), key=lambda centre: abs((centre + 1) / n_layers - PAPER_DEPTH))
    return list(dict.fromkeys([best, there]))


def unit_vectors(fitted: SteeringVectors, design: Design, *, seed: int) -> dict[tuple[str, Pushed], Tensor]:
    """The unit vectors [L, d] of everything a design pushes, by kind; a draw does not depend on how many follow it."""
    made: dict[tuple[str, Pushed], Tensor] = {}
    n_layers, _, width = fitted.ridge.shape
    for vector in dict.fromkeys(family.vector for family in design.families):
        draws = max(max(family.draws) for family in design.families if family.vector == vector)
        if vector == SETS:
            # Another seed: sets are no combinations of the single directions.
            base = random_directions(draws * len(ACTING), n_layers, width, seed=seed + 1, over="window")
            each = base.unflatten(0, (draws, len(ACTING)))
            for draw, setting in pushes(vector, draws):
                parts = [sign * each[draw, ACTING.index(name)] for name, sign in setting.items()]
                made[vector, (draw, setting)] = unit(sum(parts[1:], parts[0]))
        elif vector in RANDOMS:
            over: Literal["window", "layer"] = "layer" if vector == PER_LAYER else "window"
            drawn = random_directions(draws, n_layers, width, seed=seed, over=over)
            made |= {(vector, draw): one for draw, one in enumerate(drawn)}
        else:
            kind = cast(Kind, vector)
            made |= {(vector, setting): fitted.combine(setting, kind).float() for setting in pushes(vector, 0)}
    return made


def _selection(
    study: Study, vectors: Vectors, expected: Expected, rows: np.ndarray, design: Design
) -> dict[int, np.ndarray]:
    """Theory scores [20] of the paper's settings at each centre of the grid, on texts of the fitting half."""
    cells = [Cell("raw", 3, CHOICE, centre, SETTINGS) for centre in design.grid(study.model.n_layers)]
    found = steering.answers(study, cells, vectors, rows, name="modulation, choice of layer")
    profile, base = np.stack([expected[setting] for setting in SETTINGS]), label_counts(study.predicted[rows, None])
    scores = (theory.theory_score(profile, label_counts(ids)[0], base[0, 0]) for ids in found)
    return dict(zip(design.grid(study.model.n_layers), scores, strict=True))


def _selected(selection: Mapping[int, np.ndarray], decisive: Sequence[int]) -> Iterator[Row]:
    tried = dict(metric="selection_score", vector="raw", unit=CHOICE.unit, dose=CHOICE.size)
    for centre, scores in selection.items():
        yield PLACE | tried | dict(span=3, layer=centre, value=float(scores.mean()))
    for reason, centre in {"selected": decisive[0], "paper_depth": decisive[-1]}.items():
        yield PLACE | dict(metric="decisive", reason=reason, span=3, layer=centre, value=1.0)


def _lengths(fitted: SteeringVectors, units: Mapping[tuple[str, Pushed], Tensor]) -> Iterator[Row]:
    """What projection leaves of settings, and how far unit vectors add up over windows of three."""
    n_layers = len(fitted.ridge)
    for (vector, pushed), directions in units.items():
        if vector in RANDOMS and pushed != 0:
            continue
        key = PLACE | dict(vector=vector) | (pushed.columns() if isinstance(pushed, Setting) else {})
        if vector in ("fix3", "fixall"):
            layers = [dict(layer=layer) for layer in range(n_layers)]
            yield from stats.point(fitted.kept(pushed, cast(Kind, vector))).rows(layers, metric="kept_share", **key)
        for centre in centres(3, n_layers):
            length = accumulated_norm(directions, span_layers(centre, 3, n_layers))
            yield key | dict(metric="accumulated_norm", span=3, layer=centre, value=length)


def _scores(
    cell: Cell, ids: np.ndarray, clean: np.ndarray, expected: Expected, study: Study, judged: np.ndarray
) -> Iterator[Row]:
    score = theory.score_statistic(np.stack([expected[setting] for setting in cell.pushed]), ids, clean)
    shown = [cell.pushed.index(setting) for setting in PRINTED if setting in cell.pushed]
    whole = len(shown) == len(PRINTED)

    def with_mean(weights: Array) -> Array:
        columns = score(weights)
        return np.column_stack([columns, columns[:, shown].mean(axis=1)]) if whole else columns

    keys = [setting.columns() for setting in cell.pushed]
    for key, counts in zip(keys, label_counts(ids)[0], strict=True):
        yield from stats.point(counts).rows(LABELS, metric="count", **key)
    means = [dict(settings="printed")] if whole else []
    yield from _symmetric(study, judged, with_mean, -1, 1).rows([*keys, *means], metric="theory_score")
    moved = _symmetric(study, judged, theory.variation_statistic(ids, clean), 0, 1)
    yield from moved.rows(keys, metric="total_variation")


def _symmetric(study: Study, judged: np.ndarray, statistic: Statistic, low: float, high: float) -> stats.Interval:
    """Value and interval of what noise pulls to one side, within what is possible."""
    found = study.interval(statistic, judged, ends="symmetric", n_resamples=RESAMPLES)
    return found.map(lambda values: values.clip(low, high))


def _null(
    cell: Cell, ids: np.ndarray, clean: np.ndarray, expected: Expected, study: Study, judged: np.ndarray
) -> Iterator[Row]:
    """Single directions are scored against every setting, and count what they move; sets give one score each, the mean
    over the printed settings, each against its own expectation."""
    counts, base = label_counts(ids)[0], label_counts(clean[:, None])[0, 0]
    if cell.vector == SETS:
        profile = np.stack([expected[setting] for _, setting in cell.pushed])
        means = theory.theory_score(profile, counts, base).reshape(-1, len(PRINTED)).mean(axis=1)
        draws = [dict(draw=draw) for draw in range(len(means))]
        yield from stats.point(means).rows(draws, metric="theory_score_null", settings="printed")
        return
    draws = [dict(draw=draw) for draw in cell.pushed]
    for setting, profile in expected.items():
        scores = stats.point(theory.theory_score(profile, counts, base))
        yield from scores.rows(draws, metric="theory_score_null", **setting.columns())
    yield from stats.point(theory.total_variation(counts, base)).rows(draws, metric="total_variation")
    for draw, own in zip(draws, counts[:COUNTED], strict=False):
        yield from stats.point(own).rows(LABELS, metric="count", **draw)


def _flows(cell: Cell, ids: np.ndarray, clean: np.ndarray) -> Iterator[Row]:
    """How many texts went from which label to which, for each setting of the cell; pairs that occur."""
    for setting, answer in zip(cell.pushed, ids.T, strict=True):
        for (old, new), count in Counter(zip(clean.tolist(), answer.tolist(), strict=True)).items():
            key = setting.columns() | dict(label=EMOTIONS[old], answer=EMOTIONS[new])
            yield key | dict(metric="flow", value=float(count))
