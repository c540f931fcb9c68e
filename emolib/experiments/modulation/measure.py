"""What pushing appraisals does to the label (paper §9, F; E8-E10; Figs 7, 30-36): steering vectors and their controls.

The vectors are fitted on one half of the writers whose texts are answered right and judged on a balanced sample of the
other half. A centre is *decisive* if it has the highest mean theory score on texts of the fitting half (the judged
texts take no part in the choice), or if it lies at the depth where the paper acts; there, more doses, kinds of vectors
and random directions are run than elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from emolib import stats
from emolib.engine.sites import centres, span_layers
from emolib.interventions import theory
from emolib.interventions.random_steering import (
    RANDOM,
    RANDOM_SETS,
    RANDOMS,
    RELEASED_RANDOM,
    null_rows,
    random_names,
    random_vectors,
)
from emolib.interventions.steering import (
    EVERY,
    MAIN,
    REST,
    SHARES,
    WIDE,
    Cell,
    Design,
    Family,
    Vectors,
    answers,
    fitted_and_judged,
    in_both_units,
    plan,
)
from emolib.probes.directions import USED, SteeringVectors, accumulated_norm
from emolib.stats.sampling import balanced_rows
from emolib.stats.scores import Statistic
from emolib.study.study import Study
from emolib.tables.paper import DETAILED
from emolib.texts.corpus import EMOTIONS

RESAMPLES = 500
PAPER_DEPTH = 9 / DETAILED.layers
EXTRA = ("self_responsblt:+1", "self_responsblt:-1")  # what the paper's Figure 1 is about, and no other figure shows
SETTINGS = (*theory.settings(), *EXTRA)
PAIRS = tuple(name for name in SETTINGS if ";" in name)
CHOICE = SHARES[1]  # the dose at which the centre is chosen

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
        Family(RELEASED_RANDOM, 3, (), MAIN, (0, 20)),
        Family(RANDOM_SETS, 3, (), MAIN, (0, 30)),
    ),
)
QUICK = Design(
    texts=39,
    choosing=39,
    step=4,
    families=(
        Family("raw", 3, MAIN, EVERY),
        Family("raw", 1, (), MAIN),
        Family("fix3", 3, (), MAIN),
        Family("fixall", 3, (), MAIN),
        Family("mean_difference", 3, (), MAIN),
        Family("unit", 3, (), MAIN),
        Family(RANDOM, 3, MAIN, MAIN, (20, 100)),
        Family(RANDOM, 3, (), REST, (0, 20)),
        Family(RANDOM, 1, (), MAIN, (0, 20)),
        Family(RELEASED_RANDOM, 3, (), (CHOICE,), (0, 20)),
        Family(RANDOM_SETS, 3, (), MAIN, (0, 10)),
    ),
)


def run(study: Study) -> pd.DataFrame:
    """Predicted labels, theory scores and random nulls for every setting, kind of vector, dose and centre.

    Metrics: count (labels of the judged texts), theory_score (also its mean over the paper's 14 settings, condition
    `settings:printed`), total_variation; theory_score_null of each random draw (label `draw:i`) against every setting,
    and of the mean over settings that are put together from random directions; theory_score_null_per_layer of draws
    that are independent over the window, as the paper's; flow (`joy=>anger`) at the first decisive centre;
    selection_score (on fitting texts, per centre), decisive, residual_norm, kept_share (of the squared length, after
    projection), accumulated_norm (of unit vectors summed over the window).
    Raises ValueError for a corpus without ratings, too few right answers, or a model too shallow for a window.
    """
    design = FULL if study.run.profile == "full" else QUICK
    ratings = study.events[list(study.corpus.ratings)]
    fitting, judged = fitted_and_judged(study, design.texts)
    features = study.stacked("resid_post")[:, fitting].float()
    norms = features.norm(dim=-1).mean(1)
    fitted = SteeringVectors(features, ratings.iloc[fitting][list(USED)])
    vectors = in_both_units(_vectors(fitted, design, seed=study.run.seed), norms)
    profiles = theory.expected_shifts(theory.label_means(ratings, study.events["emotion"]), SETTINGS)
    expected = dict(zip(SETTINGS, profiles, strict=True))
    choosing = balanced_rows(study.truth, fitting, design.choosing, seed=study.run.seed)
    selection = _selection(study, vectors, expected, choosing, design)
    decisive = decisive_centres(selection, study.model.n_layers)
    cells = plan(design, study.model.n_layers, pushed_names, decisive=decisive)
    clean, groups = study.predicted[judged], study.groups[judged]
    tables = [_baseline(clean), _selected(selection, decisive), _geometry(fitted, vectors, norms.tolist())]
    for cell, found in zip(cells, answers(study, cells, vectors, judged, name="modulation"), strict=True):
        if cell.kind in RANDOMS:
            tables.append(null_rows(cell, found, clean, expected))
            continue
        tables.append(_scores(cell, found, clean, groups, expected))
        if (cell.kind, cell.span, cell.centre) == ("raw", 3, decisive[0]):
            tables.append(_flows(cell, found, clean))
    return pd.concat(tables, ignore_index=True)


def pushed_names(kind: str, draws: int) -> Sequence[str]:
    """What the vectors of a kind push: settings, or random draws."""
    return random_names(kind, draws) if kind in RANDOMS else PAIRS if kind == "unit" else SETTINGS


def decisive_centres(selection: Mapping[int, np.ndarray], n_layers: int) -> list[int]:
    """The centre with the highest mean selection score, then the one at the paper's depth if that is another."""
    best = max(selection, key=lambda centre: selection[centre].mean())
    there = min(centres(3, n_layers), key=lambda centre: abs((centre + 1) / n_layers - PAPER_DEPTH))
    return list(dict.fromkeys([best, there]))


def _vectors(fitted: SteeringVectors, design: Design, *, seed: int) -> dict[tuple[str, str], Tensor]:
    made = {}
    n_layers, _, width = fitted.ridge.shape
    for family in design.families:
        kind, most = family.kind, max(family.draws)
        if kind in RANDOMS:
            made |= random_vectors(kind, most, n_layers, width, seed=seed)
        elif (kind, PAIRS[0]) not in made:
            pushed = pushed_names(kind, most)
            made |= {(kind, name): fitted.combine(theory.signs(name), kind).float() for name in pushed}
    return made


def _selection(
    study: Study, vectors: Vectors, expected: Mapping[str, np.ndarray], rows: np.ndarray, design: Design
) -> dict[int, np.ndarray]:
    """Theory scores [20] of the paper's settings at each centre of the grid, on texts of the fitting half."""
    pushed = theory.settings()
    cells = [Cell("raw", 3, CHOICE, centre, pushed) for centre in design.grid(study.model.n_layers)]
    profile, base = np.stack([expected[name] for name in pushed]), theory.counted(study.predicted[rows])
    found = answers(study, cells, vectors, rows, name="modulation, choice of layer")
    return {
        cell.centre: theory.theory_score(profile, theory.label_counts(ids)[0], base)
        for cell, ids in zip(cells, found, strict=True)
    }


def _scores(
    cell: Cell, ids: np.ndarray, clean: np.ndarray, groups: np.ndarray, expected: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    tail = f";vector:{cell.kind}{cell.dose.suffix}"
    names = [name + tail for name in cell.names]
    score = theory.score_statistic(np.stack([expected[name] for name in cell.names]), ids, clean)
    shown = [cell.names.index(name) for name in theory.printed() if name in cell.names]

    def with_mean(weights: np.ndarray) -> np.ndarray:
        columns = score(weights)
        return np.column_stack([columns, columns[:, shown].mean(axis=1)])

    found = _symmetric(with_mean, groups, -1, 1)
    found = found.assign(condition=[*names, f"settings:printed{tail}"], metric="theory_score")
    moved = _symmetric(theory.variation_statistic(ids, clean), groups, 0, 1)
    moved = moved.assign(condition=names, metric="total_variation")
    whole = len(shown) == len(theory.printed())
    tables = [theory.count_rows(names, theory.label_counts(ids)[0]), found if whole else found[:-1], moved]
    return pd.concat(tables).assign(n=len(clean), **cell.site)


def _symmetric(statistic: Statistic, groups: np.ndarray, low: float, high: float) -> pd.DataFrame:
    """Value and interval of what noise pulls to one side, within what is possible."""
    found = stats.bootstrap(statistic, groups, ends="symmetric", n_resamples=RESAMPLES)
    return pd.DataFrame({name: values.clip(low, high) for name, values in found.columns().items()})


def _flows(cell: Cell, ids: np.ndarray, clean: np.ndarray) -> pd.DataFrame:
    """How many texts went from which label to which, for each setting of the cell; pairs that occur."""
    tables = []
    for name, answer in zip(cell.names, ids.T, strict=True):
        pairs = [f"{EMOTIONS[old]}=>{EMOTIONS[new]}" for old, new in zip(clean, answer, strict=True)]
        counts = pd.Series(pairs).value_counts().rename_axis("label").reset_index(name="value")
        tables.append(counts.assign(condition=f"{name};vector:{cell.kind}{cell.dose.suffix}"))
    return pd.concat(tables).assign(metric="flow", n=len(clean), **cell.site)


def _baseline(clean: np.ndarray) -> pd.DataFrame:
    return theory.count_rows(["baseline"], theory.counted(clean)).assign(coefficient=0.0, n=len(clean))


def _selected(selection: Mapping[int, np.ndarray], decisive: Sequence[int]) -> pd.DataFrame:
    rows = pd.DataFrame(dict(layer=[*selection], value=[scores.mean() for scores in selection.values()]))
    tried = dict(metric="selection_score", condition=f"vector:raw{CHOICE.suffix}", coefficient=CHOICE.size)
    reasons = {"reason:selected": decisive[0], "reason:paper_depth": decisive[-1]}
    chosen = dict(layer=[*reasons.values()], value=1.0, condition=[*reasons], metric="decisive")
    return pd.concat([rows.assign(**tried), pd.DataFrame(chosen)]).assign(span=3, component="resid_post", position="-1")


def _geometry(fitted: SteeringVectors, vectors: Vectors, norms: Sequence[float]) -> pd.DataFrame:
    rows = [dict(metric="residual_norm", layer=layer, value=norm) for layer, norm in enumerate(norms)]
    for kind in ("fix3", "fixall"):
        for name in SETTINGS:
            what = dict(metric="kept_share", condition=f"{name};vector:{kind}")
            shares = enumerate(fitted.kept(theory.signs(name), kind))
            rows += [what | dict(layer=layer, value=float(share)) for layer, share in shares]
    for (kind, name, scale), vector in vectors.items():
        if scale or (kind in RANDOMS and name != "0"):
            continue
        what = dict(metric="accumulated_norm", condition=f"{name};vector:{kind}".removeprefix("0;"), span=3)
        for centre in centres(3, len(norms)):
            length = accumulated_norm(vector, span_layers(centre, 3, len(norms)))
            rows.append(what | dict(layer=centre, value=length))
    return pd.DataFrame(rows).assign(component="resid_post", position="-1")
