"""What pushing appraisals does to the label (paper §9, F; E8-E10; Figs 7, 30-36): steering vectors and their controls.

The vectors of the paper (`raw` and what is made of it) are fitted, as in its code, on texts that are answered right, of
one half of the writers, and judged on a balanced sample of those of the other half. `tuned` vectors and differences of
means are fitted on all texts by writers outside that other half, answered right or not, the former with a penalty
chosen by how well unseen writers are predicted: what a direction reads on the texts of the other half (`direction_r2`)
says whether it is one of the appraisal whose name it bears.

A centre is *decisive* if it has the highest mean theory score on texts of the fitting half (the judged texts take no
part in the choice), of raw and of tuned vectors each for itself, or if it lies at the depth where the paper acts;
there, more doses, kinds of vectors and random directions are run than elsewhere.

Random directions are of five kinds: `random`, one for all layers of the window; `random_per_layer`, the paper's
control; and three sets, in the place of the appraisals', from which settings are put together as from fitted ones.
Only sets give a null for a mean over settings: opposite and overlapping settings score alike, as fitted ones do, and
a mean of independent draws would vary too little. `random_sets` are directions of no preference, in which activations
hardly vary, and add up to more over a window than fitted ones do. Those of `matched_sets` have the covariance of the
activations, those of `shuffled_sets` are fitted, with the penalties of the tuned ones, on ratings handed to other
writers; each has, before settings are put together, the length of the weights in whose place it stands, and each
setting adds up over the window to the same length as the tuned one.

An appraisal may also be said instead of pushed, in a sentence behind the event (`data/said.yml`): `prompted`. What any
sentence does is told by neutral ones (`prompted_neutral`), and left out of `prompted_beyond_neutral`, which counts from
the answers that follow as many neutral sentences. What else a push moves is read behind it (`_read_behind`), and the
expectations may be those of a meta-analysis of people's appraisals instead of the ratings of these texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib import stats
from emolib.engine.sites import centres, span_layers
from emolib.interventions import steering, theory
from emolib.interventions.steering import EVERY, MAIN, REST, SHARES, WIDE, Cell, Design, Family, Pushed, Vectors
from emolib.interventions.theory import label_counts
from emolib.probes.directions import (
    USED,
    Kind,
    Reading,
    SteeringVectors,
    accumulated_norm,
    contrasts,
    random_directions,
    shuffled_vectors,
    unit,
)
from emolib.stats.sampling import balanced_rows
from emolib.stats.scores import Array, Statistic, difference, mean, r2
from emolib.study.study import Study
from emolib.tables.paper import DETAILED
from emolib.texts import sources
from emolib.texts.appraisals import ACTING, EMOTIONS, PRINTED, PUSHED, SETTINGS, Setting, expected_shifts, label_means

RESAMPLES = 500
PAPER_DEPTH = 9 / DETAILED.layers
# What the paper's Figure 1 is about, and no other figure shows, beside its settings.
PUSHES = (*SETTINGS, Setting(self_responsblt=1), Setting(self_responsblt=-1))
PAIRS = tuple(setting for setting in PUSHES if len(setting) > 1)
RANDOM, PER_LAYER, SETS = "random", "random_per_layer", "random_sets"
MATCHED, SHUFFLED = "matched_sets", "shuffled_sets"
FAIR = (MATCHED, SHUFFLED)
RANDOMS = (RANDOM, PER_LAYER, SETS, *FAIR)
PROMPTED, NEUTRAL, BEYOND = "prompted", "prompted_neutral", "prompted_beyond_neutral"
SAID = tuple(setting for setting in PUSHES if "chance_control" not in setting)  # those that the chapter shows
LATER = 4  # layers behind a window where it is read what a push has moved
TUNED: Mapping[str, Kind] = {"tuned": "raw", "mean_difference": "mean_difference"}  # how settings are put together
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
        Family("tuned", 3, (CHOICE,), EVERY),
        Family("mean_difference", 3, (CHOICE,), MAIN),
        Family("unit", 3, (), MAIN),
        Family(RANDOM, 3, MAIN, MAIN, (20, 100)),
        Family(RANDOM, 3, (), REST, (0, 20)),
        Family(RANDOM, 1, (), MAIN, (0, 20)),
        Family(PER_LAYER, 3, (), MAIN, (0, 20)),
        Family(SETS, 3, (), (CHOICE,), (0, 30)),
        Family(MATCHED, 3, (), (CHOICE,), (0, 30, 100)),
        Family(SHUFFLED, 3, (), (CHOICE,), (0, 30, 100)),
    ),
)
QUICK = Design(
    texts=26,
    choosing=26,
    step=4,
    families=(
        Family("raw", 3, MAIN, EVERY),
        Family("tuned", 3, (CHOICE,), MAIN),
        *(Family(vector, 3, (), MAIN) for vector in ("fix3", "fixall", "mean_difference", "unit")),
        Family("raw", 1, (), MAIN),
        Family(RANDOM, 3, MAIN, MAIN, (20, 100)),
        Family(RANDOM, 3, (), REST, (0, 20)),
        Family(RANDOM, 1, (), MAIN, (0, 20)),
        Family(PER_LAYER, 3, (), (CHOICE,), (0, 20)),
        Family(SETS, 3, (), (CHOICE,), (0, 10)),
        Family(MATCHED, 3, (), (CHOICE,), (0, 10, 20)),
        Family(SHUFFLED, 3, (), (CHOICE,), (0, 10, 20)),
    ),
)
Row = dict[str, Any]


class Texts(NamedTuple):
    """What tuned vectors are fitted on: activations [L, n, d], ratings (n rows) and writers [n]."""

    features: Tensor
    ratings: pd.DataFrame
    groups: np.ndarray


Expected = Mapping[Setting, Array]


def run(study: Study) -> pd.DataFrame:
    """Predicted labels, theory scores and random nulls for every setting, kind of vector, dose and centre.

    A setting is the signs of its appraisals in their columns; `settings` "printed" is the mean over the paper's 14.
    count (of the judged texts, by label), theory_score, total_variation, against_theory (share of texts whose answer
    changes to a label that is expected to become rarer); theory_score_null of each random draw against every setting,
    and of each set of draws for the mean, of `FAIR` ones also for their own settings; flow (texts from `label` to
    `answer`) at the first decisive centre; direction_r2 (of the ratings by writers of the judged half, all of their
    texts) and alpha (the penalty), of each appraisal, as if it were pushed up; selection_score (on fitting texts, by
    centre), decisive (with its `reason`), residual_norm, kept_share (of the squared length, after projection),
    accumulated_norm (of unit vectors summed over the window; of `FAIR` ones of what is pushed at a dose of 1, the
    mean of the draws). meta_analysis_score (as theory_score, expectations and emotions of `theory.meta_analysis`),
    meta_analysis_agreement (rank correlation of both expectations, over n emotions), beyond_saying (theory_score of a
    push minus that of saying the same, on the same texts). At the paper's depth, read_layer
    and there read_shift (of the rating `label`, in its standard deviations), on_target (of what is pushed, in its
    direction) and off_target (mean size over other appraisals); rating_correlation (of `label` with what is pushed).
    Raises ValueError for a corpus without ratings, too few right answers or writers, or a model too shallow for a
    window.
    """
    design = FULL if study.run.profile == "full" else QUICK
    ratings = study.events[list(study.corpus.ratings)]
    fitting, judged = steering.fitted_and_judged(study, design.texts)
    stream = study.stacked("resid_post")
    features = stream[:, fitting].float()
    norms = features.norm(dim=-1).mean(1)
    released = SteeringVectors(features, ratings.iloc[fitting][list(USED)])
    outside = steering.outside_judged(study)
    data = Texts(stream[:, outside].float(), ratings.loc[outside, list(USED)], study.groups[outside])
    tuned = SteeringVectors(*data[:2], groups=data.groups, seed=study.run.seed)
    units = unit_vectors(released, design, seed=study.run.seed, tuned=tuned)
    vectors = {**steering.in_both_units(units, norms)}
    profiles = expected_shifts(label_means(ratings, study.events["emotion"]), PUSHES)
    expected = dict(zip(PUSHES, profiles, strict=True))
    choosing = balanced_rows(study.truth, fitting, design.choosing, seed=study.run.seed)
    selection = {vector: _selection(study, vector, vectors, expected, choosing, design) for vector in ("raw", "tuned")}
    decisive = {vector: decisive_centres(scores, study.model.n_layers) for vector, scores in selection.items()}
    clean = study.predicted[judged]
    rows: list[Row] = stats.point(label_counts(clean[:, None])).rows(LABELS, metric="count", dose=0.0, n=len(clean))
    for vector, scores in selection.items():
        rows += _selected(vector, scores, decisive[vector])
    rows += [*_lengths(released, units), *steering.residual_norms(norms)]
    rows += _read(study, stream[:, ~outside].float(), np.flatnonzero(~outside), released, tuned)
    cells = steering.plan(
        design, study, pushes, decisive=lambda vector: decisive["tuned" if vector in (*TUNED, *FAIR) else "raw"]
    )
    for place, cell in enumerate(cells):
        if cell.vector in FAIR:
            sets = fair_sets(cell, tuned, data, seed=study.run.seed)
            cells[place] = cell._replace(pushed=[*sets])
            rows += _added_up(cell, sets)
            share = norms if cell.dose.unit == "norm" else torch.ones_like(norms)
            vectors |= {
                (cell.vector, pushed, cell.dose.unit): {layer: share[layer] * one for layer, one in window.items()}
                for pushed, window in sets.items()
            }
    outer = dict(zip(SAID, expected_shifts(theory.meta_analysis(), SAID), strict=True))
    told, neutral = _told(study, judged)
    rows += [*_agreement(expected, outer), *_said(told, neutral, clean, expected, study, judged, outer)]
    rows += _read_behind(study, judged, stream, tuned, data, vectors, decisive["raw"][-1])
    for cell, ids in zip(cells, steering.answers(study, cells, vectors, judged, name="modulation"), strict=True):
        if cell.vector in RANDOMS:
            found = [*_null(cell, ids, clean, expected, outer)]
        else:
            close = cell.vector in ("raw", *TUNED) and (cell.span, cell.dose) == (3, CHOICE)
            close &= cell.centre in decisive["tuned" if cell.vector in TUNED else "raw"]
            found = [*_scores(cell.pushed, ids, clean, expected, study, judged, outer if close else {})]
            if close:
                found += _beyond_saying(cell, ids, told, clean, expected, study, judged)
        if (cell.vector, cell.span, cell.centre) == ("raw", 3, decisive["raw"][0]):
            found += _flows(cell, ids, clean)
        rows += [row | cell.columns | dict(n=len(clean)) for row in found]
    return pd.DataFrame(rows)


def pushes(vector: str, draws: int) -> Sequence[Any]:
    """What vectors of a kind push: settings, numbers of random draws, or of sets pairs of a draw and a setting."""
    if vector in (SETS, *FAIR):
        return [(draw, setting) for draw in range(draws) for setting in PRINTED]
    return range(draws) if vector in RANDOMS else PAIRS if vector == "unit" else PUSHES


def decisive_centres(selection: Mapping[int, np.ndarray], n_layers: int) -> list[int]:
    """The centre with the highest mean selection score, then the one at the paper's depth if that is another."""
    best = max(selection, key=lambda centre: selection[centre].mean())
    there = min(centres(3, n_layers), key=lambda centre: abs((centre + 1) / n_layers - PAPER_DEPTH))
    return list(dict.fromkeys([best, there]))


def unit_vectors(
    released: SteeringVectors, design: Design, *, seed: int, tuned: SteeringVectors | None = None
) -> dict[tuple[str, Pushed], Tensor]:
    """The unit vectors [L, d] of everything a design pushes, but for `fair_sets`, by kind.

    A draw does not depend on how many follow it. `tuned` are those that its kinds are made of.
    """
    made: dict[tuple[str, Pushed], Tensor] = {}
    n_layers, _, width = released.ridge.shape
    for vector in dict.fromkeys(family.vector for family in design.families if family.vector not in FAIR):
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
            fitted, kind = (tuned, TUNED[vector]) if tuned and vector in TUNED else (released, cast(Kind, vector))
            made |= {(vector, setting): fitted.combine(setting, kind).float() for setting in pushes(vector, 0)}
    return made


def fair_sets(
    cell: Cell, tuned: SteeringVectors, data: Texts, *, seed: int
) -> dict[tuple[int, Setting, int], Mapping[int, Tensor]]:
    """The vector [d] at each layer of the cell's window, at a dose of 1, by draw, setting and the cell's centre.

    Made of what the tuned vectors are fitted on, and of their lengths: see above.
    """
    layers = list(span_layers(cell.centre, cell.span, len(tuned.ridge)))
    names = [name for name in ACTING if any(name in setting for setting in PRINTED)]
    columns, draws = [tuned.names.index(name) for name in names], 1 + max(draw for draw, _ in cell.pushed)
    if cell.vector == MATCHED:
        flat = contrasts(data.features[layers], draws * len(names), seed=seed + 2)
        drawn = flat.unflatten(0, (draws, len(names)))
    else:
        penalties = tuned.alphas[layers][:, columns]
        drawn = shuffled_vectors(data.features[layers], data.ratings[names], data.groups, penalties, draws, seed=seed)
    each = unit(drawn) * tuned.ridge[layers][:, columns].norm(dim=-1).T[..., None]
    length = {setting: accumulated_norm(tuned.combine(setting, "raw"), layers) for setting in PRINTED}
    made: dict[tuple[int, Setting, int], Mapping[int, Tensor]] = {}
    for draw, setting in cell.pushed:
        total = unit(torch.stack([sign * each[draw, names.index(name)] for name, sign in setting.items()]).sum(0))
        total *= length[setting] / total.sum(0).norm()
        made[draw, setting, cell.centre] = dict(zip(layers, total.float(), strict=True))
    return made


def _selection(
    study: Study, vector: str, vectors: Vectors, expected: Expected, rows: np.ndarray, design: Design
) -> dict[int, np.ndarray]:
    """Theory scores [20] of the paper's settings at each centre of the grid, on texts of the fitting half."""
    cells = [Cell(vector, 3, CHOICE, centre, SETTINGS) for centre in design.grid(study.model.n_layers)]
    found = steering.answers(study, cells, vectors, rows, name="modulation, choice of layer")
    profile, base = np.stack([expected[setting] for setting in SETTINGS]), label_counts(study.predicted[rows, None])
    each = (theory.theory_score(profile, label_counts(ids)[0], base[0, 0]) for ids in found)
    return dict(zip(design.grid(study.model.n_layers), each, strict=True))


def _selected(vector: str, selection: Mapping[int, np.ndarray], decisive: Sequence[int]) -> Iterator[Row]:
    tried = dict(metric="selection_score", vector=vector, unit=CHOICE.unit, dose=CHOICE.size)
    for centre, scores in selection.items():
        yield PLACE | tried | dict(span=3, layer=centre, value=float(scores.mean()))
    for reason, centre in {"selected": decisive[0], "paper_depth": decisive[-1]}.items():
        yield PLACE | dict(metric="decisive", vector=vector, reason=reason, span=3, layer=centre, value=1.0)


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


def _added_up(cell: Cell, sets: Mapping[tuple[int, Setting, int], Mapping[int, Tensor]]) -> Iterator[Row]:
    lengths: dict[Setting, list[float]] = {}
    for (_, setting, _), window in sets.items():
        lengths.setdefault(setting, []).append(float(torch.stack([*window.values()]).sum(0).norm()))
    for setting, each in lengths.items():
        key = dict(metric="accumulated_norm", vector=cell.vector, span=cell.span, layer=cell.centre)
        yield PLACE | key | setting.columns() | dict(value=float(np.mean(each)), n=len(each))


def _read(
    study: Study, features: Tensor, held_out: np.ndarray, released: SteeringVectors, tuned: SteeringVectors
) -> Iterator[Row]:
    """How well directions predict the ratings by writers they were not fitted on, and the penalties chosen."""
    names, n_layers = [*PUSHED], len(features)
    columns = [tuned.names.index(name) for name in names]
    keys = [Setting(**{name: 1}).columns() | dict(layer=layer) for layer in range(n_layers) for name in names]
    truth = np.tile(study.events.loc[held_out, names].to_numpy(dtype=float), n_layers)
    kinds: dict[str, tuple[SteeringVectors, Reading]] = {
        "raw": (released, "ridge"),
        "tuned": (tuned, "ridge"),
        "mean_difference": (tuned, "mean_difference"),
    }
    for vector, (fitted, kind) in kinds.items():
        guess = np.hstack([*fitted.predict(features, kind)[:, :, columns]])
        found = study.interval(r2(truth, guess), held_out, n_resamples=RESAMPLES)
        yield from found.rows(keys, **PLACE, metric="direction_r2", vector=vector, n=len(held_out))
    for vector in ("raw", "tuned"):
        alphas = kinds[vector][0].alphas[:, columns].cpu().numpy()
        yield from stats.point(alphas).rows(keys, **PLACE, metric="alpha", vector=vector)


def _scores(
    pushed: Sequence[Setting],
    ids: np.ndarray,
    clean: np.ndarray,
    expected: Expected,
    study: Study,
    judged: np.ndarray,
    outer: Expected,
) -> Iterator[Row]:
    """What settings do to answers `clean`, [n] or of each setting [n, k]; by the expectations `outer` too, if any."""
    profile = np.stack([expected[setting] for setting in pushed])
    shown = [pushed.index(setting) for setting in PRINTED if setting in pushed]
    keys, whole = [setting.columns() for setting in pushed], len(shown) == len(PRINTED)
    means = [dict(settings="printed")] if whole else []

    for key, counts in zip(keys, label_counts(ids)[0], strict=True):
        yield from stats.point(counts).rows(LABELS, metric="count", **key)
    score = theory.score_statistic(profile, ids, clean)
    scored = _symmetric(study, judged, with_mean(score, shown) if whole else score, -1, 1)
    yield from scored.rows([*keys, *means], metric="theory_score")
    moved = _symmetric(study, judged, theory.variation_statistic(ids, clean), 0, 1)
    yield from moved.rows(keys, metric="total_variation")
    against = theory.against(profile, ids, clean)
    yield from stats.cluster_wilson(against, study.groups[judged]).rows(keys, metric="against_theory")
    if whole:
        share = study.interval(mean(against[:, shown].mean(axis=1)), judged, n_resamples=RESAMPLES)
        yield from share.rows(means, metric="against_theory")
    if outer:
        known = [index for index, setting in enumerate(pushed) if setting in outer]
        base = clean if clean.ndim == 1 else clean[:, known]
        score = theory.score_statistic(np.stack([outer[pushed[index]] for index in known]), ids[:, known], base)
        scored = _symmetric(study, judged, with_mean(score, [known.index(index) for index in shown]), -1, 1)
        yield from scored.rows([*(keys[index] for index in known), *means], metric="meta_analysis_score")


def with_mean(statistic: Statistic, columns: Sequence[int]) -> Statistic:
    """The statistic with one more column: the mean of some of its own."""

    def wider(weights: Array) -> Array:
        values = statistic(weights)
        return np.column_stack([values, values[:, columns].mean(axis=1)])

    return wider


def _symmetric(study: Study, judged: np.ndarray, statistic: Statistic, low: float, high: float) -> stats.Interval:
    """Value and interval of what noise pulls to one side, within what is possible."""
    found = study.interval(statistic, judged, ends="symmetric", n_resamples=RESAMPLES)
    return found.map(lambda values: values.clip(low, high))


def _null(cell: Cell, ids: np.ndarray, clean: np.ndarray, expected: Expected, outer: Expected) -> Iterator[Row]:
    """Single directions are scored against every setting, and count what they move; sets give one score each, the mean
    over the printed settings, each against its own expectation."""
    counts, base = label_counts(ids)[0], label_counts(clean[:, None])[0, 0]
    if cell.vector in (SETS, *FAIR):
        profile = np.stack([expected[pushed[1]] for pushed in cell.pushed])
        found = {"theory_score_null": theory.theory_score(profile, counts, base)}
        if cell.vector in FAIR:
            found["against_theory"] = theory.against(profile, ids, clean).mean(axis=0)
            other = np.stack([outer[pushed[1]] for pushed in cell.pushed])
            found["meta_analysis_score"] = theory.score_statistic(other, ids, clean)(np.ones((1, len(ids))))[0]
            own = [dict(draw=draw) | setting.columns() for draw, setting, _ in cell.pushed]
            yield from stats.point(found["theory_score_null"]).rows(own, metric="theory_score_null")
        for metric, values in found.items():
            means = values.reshape(-1, len(PRINTED)).mean(axis=1)
            yield from stats.point(means).rows(
                [dict(draw=draw) for draw in range(len(means))], metric=metric, settings="printed"
            )
        return
    draws = [dict(draw=draw) for draw in cell.pushed]
    for setting, profile in expected.items():
        single = stats.point(theory.theory_score(profile, counts, base))
        yield from single.rows(draws, metric="theory_score_null", **setting.columns())
    yield from stats.point(theory.total_variation(counts, base)).rows(draws, metric="total_variation")
    for draw, own in zip(draws, counts[:COUNTED], strict=False):
        yield from stats.point(own).rows(LABELS, metric="count", **draw)


def _flows(cell: Cell, ids: np.ndarray, clean: np.ndarray) -> Iterator[Row]:
    """How many texts went from which label to which, for each setting of the cell; pairs that occur."""
    for setting, answer in zip(cell.pushed, ids.T, strict=True):
        for (old, new), count in Counter(zip(clean.tolist(), answer.tolist(), strict=True)).items():
            key = setting.columns() | dict(label=EMOTIONS[old], answer=EMOTIONS[new])
            yield key | dict(metric="flow", value=float(count))


def _agreement(expected: Expected, outer: Expected) -> Iterator[Row]:
    """How far the ratings of these texts and the meta-analysis expect the same."""
    for setting, profile in outer.items():
        known = np.isfinite(profile) & np.isfinite(expected[setting])
        same = float(theory.rank_correlation(profile[known], expected[setting][known]))
        yield setting.columns() | dict(metric="meta_analysis_agreement", value=same, n=int(known.sum()))


def said(setting: Setting) -> str:
    """What is said behind an event: a sentence for each appraisal of the setting."""
    sentences = sources.packaged("said.yml")["sentences"]
    return " ".join(sentences[name][sign < 0] for name, sign in setting.items())


def _told(study: Study, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answers [n, 16] where settings are said behind the judged texts, and [n, 2] where neutral sentences are."""
    plain = sources.packaged("said.yml")["neutral"]
    notes = [*map(said, SAID), *(" ".join(plain[: n + 1]) for n in range(len(plain)))]
    ids = study.answers_to([f" {note}" for note in notes], judged, name="modulation, said")
    return ids[:, : len(SAID)], ids[:, len(SAID) :]


def _said(
    ids: np.ndarray,
    neutral: np.ndarray,
    clean: np.ndarray,
    expected: Expected,
    study: Study,
    judged: np.ndarray,
    outer: Expected,
) -> Iterator[Row]:
    """What the answers become where appraisals are said, against nothing said and against neutral sentences."""
    told = dict(n=len(judged))
    for row in _scores(SAID, ids, clean, expected, study, judged, outer):
        yield row | told | dict(vector=PROMPTED)
    base = neutral[:, [len(setting) - 1 for setting in SAID]]
    for row in _scores(SAID, ids, base, expected, study, judged, outer):
        if row["metric"] != "count":
            yield row | told | dict(vector=BEYOND)
    draws = [dict(draw=draw, vector=NEUTRAL) for draw in range(neutral.shape[1])]
    moved = _symmetric(study, judged, theory.variation_statistic(neutral, clean), 0, 1)
    yield from moved.rows(draws, metric="total_variation", **told)
    for draw, counts in zip(draws, label_counts(neutral)[0], strict=True):
        yield from stats.point(counts).rows(LABELS, metric="count", **draw, **told)


def _beyond_saying(
    cell: Cell,
    ids: np.ndarray,
    told: np.ndarray,
    clean: np.ndarray,
    expected: Expected,
    study: Study,
    judged: np.ndarray,
) -> Iterator[Row]:
    """How much better the cell's pushes follow theory than what is said, of the printed settings, on the same texts."""
    profile = np.stack([expected[setting] for setting in PRINTED])
    pair = [
        theory.score_statistic(profile, answers[:, [order.index(setting) for setting in PRINTED]], clean)
        for answers, order in ((ids, list(cell.pushed)), (told, SAID))
    ]
    gap = _symmetric(study, judged, with_mean(difference(*pair), range(len(PRINTED))), -2, 2)
    settings = [*(setting.columns() for setting in PRINTED), dict(settings="printed")]
    yield from gap.rows(settings, metric="beyond_saying")


def _read_behind(
    study: Study, judged: np.ndarray, stream: Tensor, tuned: SteeringVectors, data: Texts, vectors: Vectors, centre: int
) -> Iterator[Row]:
    """What directions that predict, fitted on other writers, read `LATER` layers behind pushes of the printed settings.

    Ratings go together in people too: rating_correlation says how far.
    """
    layer = min(centre + 1 + LATER, study.model.n_layers - 1)
    yield PLACE | dict(metric="read_layer", span=3, layer=centre, value=float(layer))
    cells = [Cell(vector, 3, CHOICE, centre, PRINTED) for vector in ("raw", *TUNED)]
    edits = steering.edits(cells, vectors, study.model.n_layers)
    moved = study.read_under(edits, judged, "resid_post", layer).double() - stream[layer, judged].double()[:, None]
    spread = data.ratings[list(tuned.names)].to_numpy(dtype=float).std(axis=0)
    shifts = (moved @ tuned.ridge[layer].T.to(moved)).numpy() / spread  # [text, edit, appraisal]
    average, shape = mean(shifts.reshape(len(judged), -1)), (-1, *shifts.shape[1:])
    signs = np.array([[setting.get(name, 0) for name in tuned.names] for setting in PRINTED] * len(cells))

    def aimed(weights: Array) -> Array:
        found = average(weights).reshape(shape)
        on = (found * signs).sum(axis=2) / (signs != 0).sum(axis=1)
        off = np.where(signs == 0, np.abs(found), 0).sum(axis=2) / (signs == 0).sum(axis=1)
        each = np.stack([on, off], axis=1).reshape(len(found), 2, len(cells), len(PRINTED))
        return np.concatenate([each, each.mean(axis=3, keepdims=True)], axis=3).reshape(len(found), -1)

    settings: list[Row] = [setting.columns() for setting in PRINTED]
    keys = [cell.columns | setting for cell in cells for setting in settings]
    each = study.interval(average, judged, n_resamples=RESAMPLES)
    read = [key | dict(label=name) for key in keys for name in tuned.names]
    yield from each.rows(read, metric="read_shift", n=len(judged))
    both: list[Row] = [cell.columns | dict(metric=metric) for metric in ("on_target", "off_target") for cell in cells]
    wide = [key | setting for key in both for setting in [*settings, dict(settings="printed")]]
    yield from study.interval(aimed, judged, n_resamples=RESAMPLES).rows(wide, n=len(judged))
    together = data.ratings[list(tuned.names)].astype(float).corr()
    for setting in PRINTED:
        if len(setting) == 1:
            ((own, sign),) = setting.items()
            for name in tuned.names:
                if name != own:
                    value = sign * float(together.loc[own, name])
                    yield setting.columns() | dict(
                        metric="rating_correlation", label=name, value=value, n=len(data.groups)
                    )
