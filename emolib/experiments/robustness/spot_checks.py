"""Single questions about how far a result holds: leaked demonstrations, masks, splits, tokens (errata M11, P29-P33)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from scipy.stats import chi2

from emolib import stats
from emolib.engine.edits import Edit, Noise, Operation, Zero
from emolib.engine.sites import COMPONENTS
from emolib.experiments.robustness.task_profile import RESAMPLES, Row, TaskProfile, each, probeable
from emolib.probes.linear import cross_validate, fit_logistic, grouped_folds, shuffled_labels
from emolib.stats import scores
from emolib.stats.sampling import balanced_rows
from emolib.stats.scores import Array, Statistic
from emolib.study import shards
from emolib.study.clean import KEEP
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

SPLITS = 10
MASK = "..."  # what stands for an emotion word in the masked column
MOST_MASKS = 3  # texts with more are counted together: 67 of 6,600


def leaked(
    study: Study, profiles: Mapping[str, TaskProfile], shown: Mapping[str, np.ndarray], sample: np.ndarray
) -> Iterator[Row]:
    """What texts of the corpus that are demonstrations of a prompt do to the accuracy under it.

    `shown` are their rows by prompt, `sample` the rows of the profiles, none of them shown. accuracy_change is the
    accuracy on the corpus with these texts minus without, each text of the sample standing for those of its class;
    accuracy of set:shown and set:hidden is that on the same texts under prompts that show them and that do not. These
    prompts also differ in what they are otherwise worth: against:class subtracts the accuracy on the sample's texts of
    the same emotion under the same prompts.
    """
    own = np.unique(np.concatenate(list(shown.values())))
    if len(own) < 2:
        return
    seen, unseen, usual_seen, usual_unseen = [], [], [], []
    for name, rows in shown.items():
        profile, mine = profiles[name], np.isin(own, rows)
        logits = study.variant(rows=own, prompt=profile.study.prompt).clean.logits
        right = profile.study.decide(logits) == study.truth[own]
        seen.append(np.where(mine, right, np.nan))
        unseen.append(np.where(mine, np.nan, right))
        answers, truth = profile.study.predicted, profile.study.truth
        usual = np.array([(answers == truth)[truth == label].mean() for label in study.truth[own]])
        usual_seen.append(np.where(mine, usual, np.nan))
        usual_unseen.append(np.where(mine, np.nan, usual))
        if not mine.any():
            continue
        hits = np.concatenate([profile.study.predicted == profile.study.truth, right[mine]])
        worth = np.concatenate([profile.weights, np.ones(mine.sum())])
        groups = study.groups[np.concatenate([sample, own[mine]])]
        change = _removal(hits, worth, np.arange(len(hits)) >= len(sample))
        found = each(stats.bootstrap(change, groups, n_resamples=RESAMPLES, seed=study.run.seed))[0]
        yield dict(prompt=name, condition="check:demonstrations", metric="accuracy_change", n=int(mine.sum())) | found
    both = np.isfinite(seen).any(0) & np.isfinite(unseen).any(0)
    if len(np.unique(study.groups[own[both]])) < 2:
        return
    parts = (seen, unseen, usual_seen, usual_unseen)
    table = np.stack([np.nanmean(np.array(part)[:, both], axis=0) for part in parts], axis=1)
    gap, expected = table[:, 0] - table[:, 1], table[:, 2] - table[:, 3]
    table = np.column_stack([table[:, :2], gap, gap - expected])
    intervals = each(stats.cluster_bootstrap(table, study.groups[own[both]], seed=study.run.seed))
    names = ("set:shown", "set:hidden", "set:shown_minus_hidden", "set:shown_minus_hidden;against:class")
    for name, interval in zip(names, intervals, strict=True):
        metric = "accuracy_change" if "minus" in name else "accuracy"
        yield dict(prompt="all", condition=f"check:demonstrations;{name}", metric=metric, n=int(both.sum())) | interval


def mask_baseline(study: Study, *, n_folds: int) -> Iterator[Row]:
    """What the number of masks tells about the emotion: balanced_accuracy of a probe of it alone, and of its control.

    Nothing for texts without any mask. baseline:shuffled has the labels of other writers.
    """
    counts = np.minimum([text.count(MASK) for text in study.events["text"]], MOST_MASKS)
    if not counts.any():
        return
    features = torch.nn.functional.one_hot(torch.as_tensor(counts), MOST_MASKS + 1).float()
    folds = grouped_folds(study.truth, study.groups, n_folds=n_folds, seed=study.run.seed)
    targets = np.stack([study.truth, shuffled_labels(study.truth, study.groups, seed=study.run.seed)])
    guesses, _ = cross_validate(features, targets, folds, n_classes=len(EMOTIONS))
    for name, truth, guess in zip(("mask_count", "shuffled"), targets, guesses, strict=True):
        found = stats.bootstrap(
            scores.balanced_accuracy(truth, guess), study.groups, n_resamples=RESAMPLES, seed=study.run.seed
        )
        key = dict(metric="balanced_accuracy", condition=f"check:text;baseline:{name}", n=len(truth))
        yield key | each(found)[0]


def masked_apart(masked: TaskProfile, original: TaskProfile) -> Iterator[Row]:
    """accuracy on the texts that masking changed, and on those it left alone, in both columns, and the difference.

    The texts left alone read the same in both: only the calibration differs there, which makes them the control.
    """
    changed = masked.study.events["text"].to_numpy() != original.study.events["text"].to_numpy()
    for name, members in {"changed": changed, "unchanged": ~changed}.items():
        groups = masked.study.groups[members]
        if len(np.unique(groups)) < 2:
            continue
        hits = [(p.study.predicted == p.study.truth)[members].astype(float) for p in (masked, original)]
        table = np.column_stack([*hits, hits[1] - hits[0]])
        intervals = each(stats.cluster_bootstrap(table, groups, seed=masked.study.run.seed))
        columns = ("text:masked", "text:original", "text:original_minus_masked")
        for column, interval in zip(columns, intervals, strict=True):
            metric = "accuracy_change" if "minus" in column else "accuracy"
            yield dict(metric=metric, condition=f"check:text;{column};set:{name}", n=int(members.sum())) | interval


def by_token(study: Study, layers: Sequence[int], n: int) -> Iterator[Row]:
    """agreement after zero and random ablation of one layer at each of the last five tokens, and zero at all of them.

    On at most `n` agreed texts, the same everywhere. An edit of all tokens is a full pass, so that attention and
    feed-forward alone are ablated there. Nothing when fewer than two writers' texts are answered right.
    """
    rows = balanced_rows(study.truth, study.agreed, n, seed=study.run.seed)
    if len(np.unique(study.groups[rows])) < 2:
        return
    operations: dict[str, Operation] = {"zero": Zero(), "random": Noise(study.run.seed)}
    edits = {
        (kind, position): [
            Edit(component=component, layers=(layer,), operation=operation, position=position)
            for component in COMPONENTS[: 2 if position == "all" else 3]
            for layer in layers
        ]
        for kind, operation in operations.items()
        for position in (*range(-1, -KEEP - 1, -1), "all")
        if position != "all" or kind == "zero"
    }
    near = [edit for (_, position), some in edits.items() if position != "all" for edit in some]
    logits = iter(study.intervene(near, rows, name="ablating by token").unbind(1))
    whole = _everywhere(study, rows, edits["zero", "all"])
    for (kind, position), some in edits.items():
        found = whole if position == "all" else torch.stack([next(logits) for _ in some], dim=1)
        kept = study.decide(found) == study.truth[rows][:, None]
        for edit, interval in zip(some, each(stats.cluster_wilson(kept, study.groups[rows])), strict=True):
            site = dict(component=edit.component, layer=edit.layers[0], span=1, position=str(position), n=len(rows))
            yield site | dict(metric="agreement", condition=f"check:positions;edit:{kind}") | interval


def over_splits(study: Study, layers: Sequence[int]) -> Iterator[Row]:
    """accuracy (mean) and accuracy_sd of probes of the residual stream over ten random 80/20 splits of the agreed set.

    The splits are the paper's kind, random and not grouped, the probes standardised and fitted to convergence.
    sampling_sd is what as many independent test texts vary by chance: sqrt(p (1 - p) / n). The interval of a standard
    deviation takes the splits as independent draws. Nothing when the agreed texts are too few.
    """
    agreed = study.agreed
    orders = [np.random.default_rng(seed).permutation(len(agreed)) for seed in range(SPLITS)]
    tests = np.stack(orders) < len(agreed) // 5
    if not probeable(study.truth[agreed], np.arange(len(agreed)) % 2):
        return
    truth = torch.as_tensor(study.truth[agreed])
    ends = np.sqrt((SPLITS - 1) / chi2.ppf([0.5 + stats.LEVEL / 2, 0.5 - stats.LEVEL / 2], SPLITS - 1))
    for layer in shards.progress(layers, "splits", [1] * len(layers), unit=" layers"):
        features = study.activations("resid_post", layer)[agreed].float()
        probe = fit_logistic(features, truth.expand(SPLITS, -1), torch.as_tensor(~tests), n_classes=len(EMOTIONS))
        hits = probe.predict(features).numpy() == study.truth[agreed]
        shares = np.array([hit[test].mean() for hit, test in zip(hits, tests, strict=True)])
        site = dict(component="resid_post", layer=layer, position="-1", condition="check:splits", n=SPLITS)
        spread, mean = float(shares.std(ddof=1)), float(shares.mean())
        yield site | dict(metric="accuracy", value=mean)
        yield site | dict(metric="accuracy_sd", value=spread, ci_low=spread * ends[0], ci_high=spread * ends[1])
        yield site | dict(metric="sampling_sd", value=float(np.sqrt(mean * (1 - mean) / tests[0].sum())))


def _everywhere(study: Study, rows: np.ndarray, edits: Sequence[Edit]) -> torch.Tensor:
    """Label logits [rows, edits, C] under edits of all tokens: whole passes."""
    found = torch.empty(len(rows), len(edits), len(study.words))
    place = {int(row): index for index, row in enumerate(rows)}
    batches = study.engine.batches(list(place))
    for batch in shards.progress(batches, "ablating all tokens", [len(batch) for batch in batches]):
        found[[place[row] for row in batch]] = study.engine.forward(batch, edits).cpu().float()
    return found


def _removal(hits: np.ndarray, worth: np.ndarray, removed: np.ndarray) -> Statistic:
    """The statistic "mean of hits with all texts minus that without the removed", texts counted by their worth."""

    def change(weights: Array) -> Array:
        whole = scores.mean(hits.astype(float))
        return whole(weights * worth) - whole(weights * worth * ~removed)

    return change
