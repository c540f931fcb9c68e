"""Single questions about how far a result holds: leaked demonstrations, masks, tokens, splits, and missed texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from scipy.stats import chi2

from emolib import stats
from emolib.engine.edits import Noise, Operation, Zero
from emolib.engine.sites import COMPONENTS
from emolib.engine.sweeps import joined, sweep
from emolib.experiments.robustness.profile import RESAMPLES, Profile, Row, weighted
from emolib.probes.linear import cross_validate, fit_logistic, grouped_folds, probeable, shuffled_labels
from emolib.probes.ridge import cross_validate_ridge
from emolib.stats import scores
from emolib.stats.sampling import balanced_rows
from emolib.study.clean import KEEP
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

SPLITS = 10
MASK = "..."  # what stands for an emotion word in the masked column
MOST_MASKS = 3  # texts with more are counted together: 67 of 6,600
APPRAISALS = ("pleasantness", "unpleasantness", "other_responsblt", "self_responsblt", "suddenness", "predict_event")
TABLE = tuple((e, a) for e in ("sadness", "joy", "guilt") for a in ("pleasantness", "other_responsblt"))  # Table 3
# The paper's penalty first; with few texts for the width of a model it is far too weak.
ALPHAS = (5.0, 50.0, 500.0, 5000.0)
FEWEST = 8  # correct, and missed, texts of an emotion; fewer are left out
MISSED_RESAMPLES = 1000


def leaked(
    study: Study, profiles: Mapping[str, Profile], shown: Mapping[str, np.ndarray], sample: np.ndarray
) -> Iterator[Row]:
    """What texts of the corpus that are demonstrations of a prompt do to the accuracy under it (errata P29).

    `shown` are their rows by prompt, `sample` the rows of the profiles, none of them shown. accuracy_change is the
    accuracy on the corpus with these texts minus without, each text of the sample standing for those of its class;
    accuracy of set "shown" and "hidden" is that on the same texts under prompts that show them and that do not. These
    prompts also differ in what they are otherwise worth: against "class" subtracts the accuracy on the sample's texts
    of the same emotion under the same prompts.
    """
    own = np.unique(np.concatenate(list(shown.values())))
    if len(own) < 2:
        return
    shows = np.stack([np.isin(own, rows) for rows in shown.values()])
    right, usual = np.empty(shows.shape), np.empty(shows.shape)
    for i, (name, mine) in enumerate(zip(shown, shows, strict=True)):
        profile = profiles[name]
        logits = study.variant(rows=own, prompt=profile.study.prompt).clean.logits
        right[i] = profile.study.decide(logits) == study.truth[own]
        usual[i] = [profile.right[profile.study.truth == label].mean() for label in study.truth[own]]
        if mine.any():
            hits, worth = np.append(profile.right, right[i, mine]), np.append(profile.weights, np.ones(mine.sum()))
            before, after = weighted(hits, worth * (np.arange(len(hits)) < len(sample))), weighted(hits, worth)
            change = study.interval(
                scores.difference(after, before), np.append(sample, own[mine]), n_resamples=RESAMPLES
            )
            yield from change.rows(
                dict(check="demonstrations", prompt=name, metric="accuracy_change", n=int(mine.sum()))
            )
    both = shows.any(0) & ~shows.all(0)
    if len(np.unique(study.groups[own[both]])) < 2:
        return
    seen, unseen, usual_seen, usual_unseen = (
        np.nanmean(np.where(where, table, np.nan)[:, both], axis=0)
        for table in (right, usual)
        for where in (shows, ~shows)
    )
    table = np.column_stack([seen, unseen, seen - unseen, (seen - unseen) - (usual_seen - usual_unseen)])
    keys = [dict(metric="accuracy", set=name) for name in ("shown", "hidden")]
    keys += [dict(metric="accuracy_change", set="shown_minus_hidden", against=other) for other in ("", "class")]
    interval = stats.cluster_bootstrap(table, study.groups[own[both]], seed=study.run.seed)
    yield from interval.rows(keys, check="demonstrations", prompt="all", n=int(both.sum()))


def mask_baseline(study: Study, *, n_folds: int) -> Iterator[Row]:
    """What the number of masks tells about the emotion: balanced_accuracy of a probe of it alone, and of its control.

    Nothing for texts without any mask. The baseline "shuffled" has the labels of other writers.
    """
    counts = np.minimum([text.count(MASK) for text in study.events["text"]], MOST_MASKS)
    if not counts.any():
        return
    features = torch.nn.functional.one_hot(torch.as_tensor(counts), MOST_MASKS + 1).float()
    folds = grouped_folds(study.truth, study.groups, n_folds=n_folds, seed=study.run.seed)
    targets = np.stack([study.truth, shuffled_labels(study.truth, study.groups, seed=study.run.seed)])
    guesses, _ = cross_validate(features, targets, folds, n_classes=len(EMOTIONS))
    for name, truth, guess in zip(("mask_count", "shuffled"), targets, guesses, strict=True):
        found = study.interval(scores.balanced_accuracy(truth, guess), n_resamples=RESAMPLES)
        yield from found.rows(dict(check="text", metric="balanced_accuracy", baseline=name, n=len(truth)))


def masked_apart(masked: Profile, original: Profile) -> Iterator[Row]:
    """accuracy on the texts that masking changed, and on those it left alone, in both columns, and the difference.

    The texts left alone read the same in both: only the calibration differs there, which makes them the control.
    """
    changed = masked.study.events["text"].to_numpy() != original.study.events["text"].to_numpy()
    for name, members in {"changed": changed, "unchanged": ~changed}.items():
        groups = masked.study.groups[members]
        if len(np.unique(groups)) < 2:
            continue
        hits = [profile.right[members].astype(float) for profile in (masked, original)]
        table = np.column_stack([*hits, hits[1] - hits[0]])
        keys = [dict(metric="accuracy", text=text) for text in ("masked", "original")]
        keys.append(dict(metric="accuracy_change", text="original_minus_masked"))
        interval = stats.cluster_bootstrap(table, groups, seed=masked.study.run.seed)
        yield from interval.rows(keys, check="text", set=name, n=int(members.sum()))


def by_token(study: Study, layers: Sequence[int], n: int) -> Iterator[Row]:
    """agreement after zero and random ablation of one layer at each of the last five tokens, and zero at all of them.

    On at most `n` agreed texts, the same everywhere. An edit of all tokens is a full pass, so that attention and
    feed-forward alone are ablated there. Nothing when fewer than two writers' texts are answered right.
    """
    rows = balanced_rows(study.truth, study.agreed, n, seed=study.run.seed)
    if len(np.unique(study.groups[rows])) < 2 or not layers:
        return
    methods: dict[str, Operation] = {"zero": Zero(), "random": Noise(study.run.seed)}
    parts = [name for name in COMPONENTS[:2] if name in study.model.components]
    whole = [
        sweep(Zero(), study.model, components=[name], layers=layers, position="all").assign(method="zero")
        for name in parts
    ]
    single = (
        sweep(operation, study.model, layers=layers, position=position).assign(method=method)
        for method, operation in methods.items()
        for position in range(-1, -KEEP - 1, -1)
    )
    edits = joined([*single, *whole])
    right = study.decide(study.intervene(edits, rows, name="ablating by token")) == study.truth[rows][:, None]
    kept = stats.cluster_wilson(right, study.groups[rows])
    yield from kept.rows(edits.frame, check="positions", metric="agreement", n=len(rows))


def over_splits(study: Study, layers: Sequence[int]) -> Iterator[Row]:
    """accuracy (mean) and accuracy_sd of probes of the residual stream over ten random 80/20 splits of the agreed set.

    The splits are the paper's kind, random and not grouped, the probes standardised and fitted to convergence.
    sampling_sd is what as many independent test texts vary by chance: sqrt(p (1 - p) / n). The interval of a standard
    deviation takes the splits as independent draws. Nothing when the agreed texts are too few.
    """
    agreed = study.agreed
    orders = [np.random.default_rng(seed).permutation(len(agreed)) for seed in range(SPLITS)]
    tests = np.stack(orders) < len(agreed) // 5
    if not probeable(study.truth[agreed], np.arange(len(agreed)) % 2, n_folds=2):
        return
    truth = torch.as_tensor(study.truth[agreed])
    low, high = np.sqrt((SPLITS - 1) / chi2.ppf([0.5 + stats.LEVEL / 2, 0.5 - stats.LEVEL / 2], SPLITS - 1))
    for layer in progress(layers, "splits", [1] * len(layers), unit=" layers"):
        features = study.activations("resid_post", layer)[agreed].float()
        probe = fit_logistic(features, truth.expand(SPLITS, -1), torch.as_tensor(~tests), n_classes=len(EMOTIONS))
        hits = probe.predict(features).numpy() == study.truth[agreed]
        shares = np.array([hit[test].mean() for hit, test in zip(hits, tests, strict=True)])
        site = dict(check="splits", component="resid_post", layer=layer, position="-1", n=SPLITS)
        spread, mean = float(shares.std(ddof=1)), float(shares.mean())
        yield site | dict(metric="accuracy", value=mean)
        yield site | dict(metric="accuracy_sd", value=spread, ci_low=spread * low, ci_high=spread * high)
        yield site | dict(metric="sampling_sd", value=float(np.sqrt(mean * (1 - mean) / tests[0].sum())))


def missed(study: Study, layers: Sequence[int]) -> Iterator[Row]:
    """Probed and rated appraisals of correct and missed texts, and their difference, missed minus correct (Table 3).

    Probes of the residual stream are ridge regressions in folds grouped by writer; each appraisal has the penalty with
    the best held-out R2. At the layer with the best mean R2 (metric r2, by appraisal): mean_rating and sd_rating
    (probed), writer_rating (the writers'), and rating_difference for every emotion and source. A missed text resembles
    the emotion that was answered, so its probed appraisals (source "probe") lean there by construction: "label" is what
    the answer alone would make of them, "beyond_label" the rest, and "writer" what the writers themselves rated, which
    no model has touched (errata P31). At each of `layers`: rating_difference of the probe for Table 3's six. Nothing
    for a corpus without ratings or without enough correct and missed texts of an emotion.
    """
    correct = study.predicted == study.truth
    enough = [
        label
        for label in range(len(EMOTIONS))
        if min(np.bincount(correct[study.truth == label], minlength=2)) >= FEWEST
    ]
    if not study.corpus.rated or not enough or not layers:
        return
    ratings = study.events[list(APPRAISALS)].to_numpy(dtype=float)
    readings = [_reading(study, ratings, layer) for layer in layers]
    best = int(np.argmax([_r2(ratings, reading).mean() for reading in readings]))
    sites = [dict(component="resid_post", layer=layer, position="-1") for layer in layers]
    fit = study.interval(scores.r2(ratings, readings[best]), n_resamples=MISSED_RESAMPLES)
    keys = [sites[best] | dict(metric="r2", appraisal=name, n=len(ratings)) for name in APPRAISALS]
    found = fit.rows(keys)
    cells = [(EMOTIONS[label], appraisal) for label in enough for appraisal in APPRAISALS]
    expected = answered(readings[best], study.predicted, correct)
    tables = {"probe": readings[best], "writer": ratings, "label": expected, "beyond_label": readings[best] - expected}
    for source, table in tables.items():
        site = sites[best] if source != "writer" else {}
        found += _differences(study, table, cells, source=source, **site)
    found += _means(study, readings[best], cells, "mean_rating", "sd_rating", **sites[best])
    found += _means(study, ratings, cells, "writer_rating")
    some = [cell for cell in TABLE if cell in cells]
    for i in range(len(layers)) if some else ():
        if i != best:
            found += _differences(study, readings[i], some, source="probe", **sites[i])
    yield from (row | dict(check="misclassified") for row in found)


def answered(readings: np.ndarray, predicted: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """What the answer alone says [n, k]: the mean reading of the other texts rightly given the same answer.

    NaN where there are fewer than two such texts.
    """
    expected = np.full_like(readings, np.nan)
    for label in np.unique(predicted):
        right = correct & (predicted == label)
        if right.sum() < 3:
            continue
        same = predicted == label
        # A text is not its own evidence: a correct one is left out of the mean it is compared with.
        total, own = readings[right].sum(axis=0), np.where(right[same, None], readings[same], 0.0)
        expected[same] = (total - own) / (right.sum() - right[same, None])
    return expected


def _reading(study: Study, ratings: np.ndarray, layer: int) -> np.ndarray:
    """The appraisals [n, k] that probes of a layer read from texts by writers they have not seen."""
    folds = grouped_folds(study.truth, study.groups, seed=study.run.seed)
    features = study.activations("resid_post", layer).float()
    found = cross_validate_ridge(features, torch.tensor(ratings), folds, alphas=ALPHAS)
    best = np.argmax([_r2(ratings, reading) for reading in found], axis=0)
    return np.take_along_axis(found, best[None, None], axis=0)[0]


def _r2(ratings: np.ndarray, reading: np.ndarray) -> np.ndarray:
    return scores.r2(ratings, reading)(np.ones((1, len(ratings))))[0]


def _differences(study: Study, table: np.ndarray, cells: list[tuple[str, str]], **keys: object) -> list[Row]:
    """Rows of missed minus correct for (emotion, appraisal) cells; texts without a reading count in neither."""
    values, (missed, correct) = _split(study, table, cells)

    def difference(weights: scores.Array) -> scores.Array:
        means = [(weights @ (values * members)) / np.maximum(weights @ members, 1e-9) for members in (missed, correct)]
        return means[0] - means[1]

    names = [
        dict(emotion=emotion, appraisal=appraisal, n=int(n))
        for (emotion, appraisal), n in zip(cells, (missed + correct).sum(axis=0), strict=True)
    ]
    interval = study.interval(difference, n_resamples=MISSED_RESAMPLES)
    return interval.rows(names, metric="rating_difference", **keys)


def _means(
    study: Study, table: np.ndarray, cells: list[tuple[str, str]], mean: str, deviation: str = "", **site: object
) -> list[Row]:
    """Rows of the mean, and the standard deviation if it is named, of missed and of correct texts by cell."""
    found: list[Row] = []
    values, sets = _split(study, table, cells)
    for name, members in zip(("missed", "correct"), sets, strict=True):
        keys = [
            site | dict(emotion=emotion, appraisal=appraisal, set=name, n=int(own.sum()))
            for (emotion, appraisal), own in zip(cells, members.T, strict=True)
        ]
        interval = stats.cluster_bootstrap(values, study.groups, weights=members, seed=study.run.seed)
        found += interval.rows(keys, metric=mean)
        columns = zip(keys, values.T, members.T, strict=True) if deviation else ()
        found += [key | dict(metric=deviation, value=float(v[own > 0].std(ddof=1))) for key, v, own in columns]
    return found


def _split(
    study: Study, table: np.ndarray, cells: list[tuple[str, str]]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Values [n, cells] of each cell's appraisal, 0 where unknown, and members (1 or 0) of missed and correct texts."""
    values = table[:, [APPRAISALS.index(appraisal) for _, appraisal in cells]]
    mine = np.stack([study.truth == EMOTIONS.index(emotion) for emotion, _ in cells], axis=1) & np.isfinite(values)
    right = (study.predicted == study.truth)[:, None]
    return np.nan_to_num(values), ((mine & ~right).astype(float), (mine & right).astype(float))
