"""Do the directions of emotions and of appraisals lie as theory says (paper §8; E7; Fig 6), and where do emotions lie?

Residual stream, last token. `probe`: the paper's vectors, weights of the raw classifier and of ridge on four fifths of
the agreed set. Closed-form, on all texts: `mean_difference`, the covariance of activations with the label or the
rating; `lda`, that times the inverse covariance within emotions; `whitened`, times its root, so that no few large
directions of the stream decide. Two nulls: ratings handed to other writers, and labels and ratings handed over
*together*, which shows the alignment that their correlation brings about in activations that know nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from emolib import stats
from emolib.experiments.geometry import EARLY, HALVING, LATE, PLANE, SIX, alignment
from emolib.experiments.geometry.alignment import Cosines, Moments, Sample, components, correlation, interval
from emolib.probes.directions import unit
from emolib.probes.linear import RELEASED_NEEDS, fit_released, released_split
from emolib.probes.ridge import fit_ridge
from emolib.stats.scores import Array
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.appraisals import EMOTIONS, NAMED

DRAWS, SPLITS = 100, 10  # resamples of writers, and shuffles; splits into halves
REFITS = {"full": (10, 4, 8), "quick": (5, 3, 4)}  # left-out parts, shuffles and splits of probes, each fitted anew
STEP = {"full": 1, "quick": 3}
PERMUTATIONS = 5000
# The paper's twelve pairs, in cosines [..., 13, 6].
PAIRS: tuple[Any, ...] = (..., *np.ix_([EMOTIONS.index(name) for name in SIX], [NAMED.index(name) for name in PLANE]))
SITE = dict(component="resid_post", position="-1")
Row = dict[str, Any]


def run(study: Study) -> pd.DataFrame:
    """Cosines of 13 emotion and 6 appraisal directions by layer and kind of vector, and the plane of the emotions.

    By `vector`, `emotion` and `appraisal`: cosine, cosine_null (ratings moved), cosine_by_construction (both moved; the
    value is the mean, the ends hold 95% of draws). By vector: alignment, the mean over the paper's twelve pairs of the
    cosine times its expected sign, and magnitude, that of its size, with both nulls and _split: emotions from one half
    of the writers, appraisals from the other, so that accidents of the same texts cannot align them (interval: spread
    of random splits); halving and fade, ratios of magnitudes. PCA of the emotions' centroids: pc_share by `pc`,
    pc1_valence (_p: permuted over emotions), between_share, and _null from shuffled labels; pc_coordinate by emotion.
    `set` agreed repeats closed-form cosines on the probes' texts. Of the ratings: rating_contrast, an emotion's mean
    minus the mean of emotions; its sign is the expected one. Intervals are standard errors over writers: bootstrap; for
    probes a delete-a-group jackknife. `quick` runs read every third layer. Where the agreed set is too small to probe,
    what is measured on it is left out, and `.attrs["left_out"]` says why. Raises ValueError for a corpus without
    ratings or with too few texts.
    """
    rated = study.corpus.ratings.columns  # refuses a corpus without ratings
    ratings = study.events[list(rated)][list(NAMED)].to_numpy(dtype=np.float32)
    split = released_split(study.agreed, study.truth)
    profile, seed, layers = study.run.profile, study.run.seed, study.layers(STEP[study.run.profile])
    draw = partial(Sample, study.truth, ratings, study.groups, n_classes=len(EMOTIONS))
    parts = {"all": np.arange(len(ratings))} | ({"agreed": split[0]} if split else {})
    samples = {name: draw(rows, draws=DRAWS, splits=SPLITS, seed=seed) for name, rows in parts.items()}
    everyone, agreed = samples["all"], samples.get("agreed")
    contrast = label_contrast(everyone)
    rows: list[Row] = [dict(metric="cosine_random_sd", value=float(study.model.width**-0.5))]
    rows += contrast_rows(everyone, contrast, seed)
    history: dict[tuple[str, str], list[Cosines]] = {}
    for layer in progress(layers, "geometry", [1] * len(layers), unit=" layers"):
        features = study.activations("resid_post", layer).float()
        found: dict[tuple[str, str], Cosines] = {}
        if agreed:
            found["probe", "agreed"] = probe_cosines(features[agreed.rows], agreed, *REFITS[profile], seed=seed)
        level: list[Row] = []
        for name, which in samples.items():
            known, turns = Moments(features[which.rows], which), alignment.metrics(features[which.rows], which.labels)
            found |= {(kind, name): known.cosines(turn) for kind, turn in turns.items()}
            if which is everyone:
                for kind in ("mean_difference", "whitened"):
                    flat = plane(known, turns[kind], features, contrast, seed)
                    level += [dict(vector=kind, set=name) | row for row in flat]
        for (kind, name), cosines in found.items():
            nulls = kind == "probe" or name == "all"
            measured = (*cosine_rows(cosines, nulls=nulls), *summaries(cosines, np.sign(contrast)))
            level += [dict(vector=kind, set=name) | row for row in measured]
            history.setdefault((kind, name), []).append(cosines)
        rows += [SITE | dict(layer=layer) | row for row in level]
    depths = (np.array(layers) + 1) / study.model.n_layers
    for (kind, name), levels in history.items():
        rows += [SITE | dict(vector=kind, set=name) | row for row in fading(levels, depths)]
    table = pd.DataFrame(rows)
    if split is None:
        table.attrs["left_out"] = f"Left out are the probes' directions: {study.too_few(RELEASED_NEEDS)}."
    return table


def label_contrast(of: Sample) -> Array:
    """How far the mean rating [13, 6] of each emotion lies from the mean of the emotions; NaN for absent ones."""
    ratings = of.targets[:, of.n_classes :].double().numpy()
    means = np.full((of.n_classes, ratings.shape[1]), np.nan)
    for label in np.flatnonzero(of.present):
        means[label] = ratings[of.labels == label].mean(axis=0)
    return means - np.nanmean(means, axis=0)


def probe_cosines(features: Tensor, of: Sample, parts: int, shuffles: int, splits: int, *, seed: int) -> Cosines:
    """Cosines of the paper's probes (E7), with `parts` groups of writers left out in turn, `shuffles` and `splits`."""
    labels, ratings, n_classes = of.labels, of.targets[:, of.n_classes :].double(), of.n_classes
    moved = [ratings[torch.as_tensor(order)] for order in of.orders]
    keep = left_out(of.groups, parts, seed=seed)
    everything = torch.ones(1, len(labels), dtype=torch.bool)
    ridge = partial(fit_ridge, alphas=(5.0,), standardise="none")
    rising = ridge(features, torch.cat([ratings, *moved], dim=1), everything)[0][0, 0]
    rising = unit(rising).reshape(len(moved) + 1, ratings.shape[1], -1)
    part = np.stack([(half, ~half) for half in of.halves[:splits]])
    without, halved = (
        unit(ridge(features, ratings, torch.as_tensor(rows))[0][:, 0]) for rows in (keep, part.reshape(-1, len(labels)))
    )

    def classes(rows: np.ndarray | slice, given: np.ndarray) -> Tensor:
        return unit(fit_released(features[rows], given[rows], n_classes=n_classes).weights[0].double())

    own, whole = classes(slice(None), labels), slice(None)
    crossed = [
        [(classes(half, labels) @ other.T).numpy() for half, other in zip(pair, v.flip(0), strict=True)]
        for pair, v in zip(part, halved.unflatten(0, (-1, 2)), strict=True)
    ]
    return Cosines(
        value=(own @ rising[0].T).numpy(),
        replicates=np.stack([(classes(rows, labels) @ v.T).numpy() for rows, v in zip(keep, without, strict=True)]),
        factor=(len(keep) - 1) / len(keep) ** 0.5,
        split=np.mean(crossed, axis=1),
        apart=(own @ rising[1:].transpose(1, 2)).numpy(),
        together=np.stack(
            [
                (classes(whole, labels[order]) @ v.T).numpy()
                for order, v in zip(of.orders[:shuffles], rising[1:], strict=False)
            ]
        ),
    )


def left_out(groups: np.ndarray, parts: int, *, seed: int) -> np.ndarray:
    """Which texts [parts, n] stay when each of `parts` random parts of the writers is left out in turn."""
    _, codes = np.unique(groups, return_inverse=True)
    part = np.random.default_rng(seed).permutation(codes.max() + 1) % parts
    return part[codes] != np.arange(min(parts, codes.max() + 1))[:, None]


def plane(of: Moments, metric: Tensor, features: Tensor, contrast: Array, seed: int) -> Iterator[Row]:
    """Rows on the principal components of the emotions' centroids, in the coordinates of the metric."""
    here = np.flatnonzero(of.shares[0].numpy() > 0)
    valence = (contrast[:, NAMED.index("pleasantness")] - contrast[:, NAMED.index("unpleasantness")])[here]
    share, drawn = of.shares[0, here], of.shares[1:, here].clamp_min(1e-9)  # a resample may lack a rare emotion
    centroids = [
        part[..., here, :] @ metric / weight[..., None]
        for part, weight in ((of.value, share), (of.resampled, drawn), (of.shuffled, share))
    ]
    (ratio, place), (ratios, places), (null_ratios, null_places) = (components(part) for part in centroids)
    shown = range(min(3, len(here) - 1))
    pcs = [dict(pc=index + 1) for index in shown]
    yield from interval(ratio, ratios)[shown].rows(pcs, metric="pc_share")
    yield from stats.null_band(null_ratios)[shown].rows(pcs, metric="pc_share_null")
    for index in shown:
        # The sign of a component is free: pleasant emotions to the right, those caused by others up.
        outer = valence if index == 0 else contrast[here, NAMED.index("other_responsblt")]
        sign = 1 if (place[:, index] * outer).sum() >= 0 else -1
        named = [dict(emotion=EMOTIONS[label]) for label in here]
        yield from stats.point(sign * place[:, index]).rows(named, metric="pc_coordinate", pc=index + 1)
    r, draws = correlation(place[:, 0], valence), correlation(places[..., 0], valence)
    orders = np.random.default_rng(seed).permuted(np.tile(valence, (PERMUTATIONS, 1)), axis=1)
    chance = correlation(orders, place[:, 0])
    yield dict(metric="pc1_valence_p", value=float(stats.permutation_p(r, chance)))
    total = (features @ metric).var(0, correction=0).sum()
    between, resampled, shuffled = (
        (part.pow(2).sum(-1) * weight).sum(-1).numpy() / total.item()
        for part, weight in zip(centroids, (share, drawn, share), strict=True)
    )
    for metric_name, found, null in (
        ("pc1_valence", interval(r, draws, scale="cosine"), correlation(null_places[..., 0], valence)),
        ("between_share", interval(between, resampled), shuffled),
    ):
        yield from found.rows({}, metric=metric_name)
        yield from stats.null_band(null).rows({}, metric=f"{metric_name}_null")


def contrast_rows(of: Sample, contrast: Array, seed: int) -> Iterator[Row]:
    """Rows of how far an emotion's mean rating lies from the mean of the emotions."""
    ratings = of.targets[:, of.n_classes :].double().numpy()
    for label in np.flatnonzero(of.present):
        rows = of.labels == label
        found = stats.point(contrast[label])
        if len(np.unique(of.groups[rows])) > 1:
            # The mean of the emotions moves thirteen times less than the emotion's own, and is taken as known.
            mean = stats.cluster_bootstrap(ratings[rows], of.groups[rows], seed=seed)
            found = mean.map(partial(np.add, contrast[label] - mean.value))
        named = [dict(emotion=EMOTIONS[label], appraisal=name) for name in NAMED]
        yield from found.rows(named, metric="rating_contrast", n=int(rows.sum()))


def cosine_rows(found: Cosines, *, nulls: bool) -> Iterator[Row]:
    """Rows of the cosines of every emotion present with every appraisal."""
    here = np.flatnonzero(~np.isnan(found.value).any(axis=1))
    keys = [dict(emotion=EMOTIONS[label], appraisal=name) for label in here for name in NAMED]
    measured = interval(found.value, found.replicates, factor=found.factor, scale="cosine")
    yield from measured[here].rows(keys, metric="cosine")
    if nulls:
        yield from stats.null_band(found.apart)[here].rows(keys, metric="cosine_null")
        yield from stats.null_band(found.together)[here].rows(keys, metric="cosine_by_construction")


def summaries(found: Cosines, signs: Array) -> Iterator[Row]:
    """Rows of the means over the paper's twelve pairs: of the cosine times its expected sign, and of its size."""
    for metric, turn in (("alignment", lambda c: c * signs), ("magnitude", np.abs)):
        value, draws, split, apart, together = (
            np.nanmean(turn(part)[PAIRS], axis=(-2, -1))
            for part in (found.value, found.replicates, found.split, found.apart, found.together)
        )
        for end, measured in {
            "": interval(value, draws, factor=found.factor),
            "_split": interval(split.mean(), split),
            "_null": stats.null_band(apart),
            "_by_construction": stats.null_band(together),
        }.items():
            yield from measured.rows({}, metric=f"{metric}{end}")


def fading(levels: list[Cosines], depths: Array) -> Iterator[Row]:
    """Ratios of mean magnitudes: at depth .625 to .5 (halving), and of the last quarter to the first half (fade)."""
    before, after = (np.abs(depths - depth).argmin() for depth in HALVING)
    parts = {
        "halving": (np.array([after]), np.array([before])),
        "fade": (np.flatnonzero(depths >= LATE), np.flatnonzero(depths <= EARLY)),
    }
    value = np.stack([np.nanmean(np.abs(found.value)[PAIRS]) for found in levels])
    draws = np.stack([np.nanmean(np.abs(found.replicates)[PAIRS], axis=(1, 2)) for found in levels], axis=1)
    for metric, (late, early) in parts.items():
        if len(late) and len(early):
            # Ratios are judged on the scale of their logarithm.
            ratio, ratios = (np.log(part[..., late].mean(-1) / part[..., early].mean(-1)) for part in (value, draws))
            yield from interval(ratio, ratios, factor=levels[0].factor).map(np.exp).rows({}, metric=metric)
