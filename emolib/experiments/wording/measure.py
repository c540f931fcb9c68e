"""What the words of a text alone tell of emotion and appraisals, and what activations tell beyond them (E2, E6).

The paper has no such control: whatever a probe reads from activations may have been there to be read in the words. So
the probes of chapters 5 and 7 (`ours`: all texts, folds that keep a writer on one side) are given the text instead:
its length, its words counted, its words weighted (TF-IDF), and the model's own input embeddings averaged over it. What
the features of a fold are fitted on is its training part. Beside them stands the residual stream at the last token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from accelerate.utils import align_module_device
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, hstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from emolib.probes.linear import fit_logistic, grouped_folds, nested_logistic, shuffled_labels
from emolib.probes.ridge import fit_ridge, held_out_means, nested_ridge
from emolib.stats import Interval, scores
from emolib.stats.sampling import halves
from emolib.stats.scores import Array, Statistic
from emolib.study.shards import progress
from emolib.study.study import Study
from emolib.texts.appraisals import APPRAISALS, EMOTIONS

TARGETS = ("writer", "model", "shuffled")
STEP = {"full": 1, "quick": 3}
RESAMPLES = 500
STRENGTHS = (0.003, 0.01, 0.1)  # C of logistic regressions on standardised features
# C and alpha on counted and weighted words, which are not standardised
WORD_STRENGTHS, ALPHAS = (0.3, 1.0, 3.0), (1.0, 3.0, 10.0, 30.0, 100.0)
LEAST = 3  # texts that a word has to be in, of those that words are counted in
VECTORISERS = {"bag_of_words": CountVectorizer(min_df=LEAST), "tfidf": TfidfVectorizer(min_df=LEAST, sublinear_tf=True)}
RARE = 1e-6  # below that a probability is as good as none
LABEL = 100.0  # how large a label's columns are beside words, so that a penalty hardly shrinks what they add
OTHERS = ("keyword-free", "situations")  # the first that is not the run's own
NAMES = [dict(appraisal=name) for name in APPRAISALS]
Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, int | None]  # the name of features, and the layer they are of
Score: TypeAlias = Callable[[ArrayLike, ArrayLike], Statistic]
Guesses: TypeAlias = dict[Key, Array]


def run(study: Study) -> pd.DataFrame:
    """What is read from text, from activations and from both, of emotions and appraisals, and what carries over.

    By `features`, those of activations also by layer of the residual stream (last token): balanced_accuracy by
    `target`; r2 and partial_r2 (beyond the writer's label) by `appraisal`. Features are length, bag_of_words, tfidf,
    token_embeddings (where the model's are here), activations, residual (activations without what the guesses of tfidf
    predict of them) and both (activations beside these guesses); the last two are read for the writer's label, both
    also for ratings. accuracy_gain and r2_gain are both minus tfidf. best_difference: the best of the layers minus the
    best of the text alone, each chosen on one half of the writers and compared on the other. carried: balanced accuracy
    of a probe `trained_on` one corpus and `tested_on` another; carried_difference: activations at the layer that is
    best within the run, minus the text's `features`. Intervals are over writers. Appraisals need a corpus with ratings.
    Where the model always answers alike, probes of its answer are left out, and `.attrs["left_out"]` says so. Raises
    ValueError when there are too few texts.
    """
    folds = grouped_folds(study.truth, study.groups, seed=study.run.seed)
    control = shuffled_labels(study.truth, study.groups, seed=study.run.seed)
    targets = dict(zip(TARGETS, (study.truth, study.predicted, control), strict=True))
    if min(len(np.unique(study.predicted[folds != fold])) for fold in np.unique(folds)) < 2:
        del targets["model"]
    labels = np.stack([*targets.values()])
    ratings = study.events[list(APPRAISALS)].to_numpy(dtype=float) if study.corpus.rated else None
    onehot = np.eye(len(EMOTIONS))[study.truth]
    layers = sorted({study.layers()[0], *study.layers(STEP[study.run.profile])})  # the first has hardly begun
    named, rated, beside = Guesses(), Guesses(), Guesses()
    for name, x in dense_features(study).items():
        named[name, None] = nested_logistic(x, labels, folds, n_classes=len(EMOTIONS), strengths=STRENGTHS)[0]
        if ratings is not None:
            rated[name, None] = nested_ridge(x, ratings, folds)[0]
            beside[name, None] = nested_ridge(x, ratings, folds, free=onehot)[0]
    for name, vectoriser in VECTORISERS.items():
        words = [counted(vectoriser, study.events["text"], folds != fold) for fold in range(int(folds.max()) + 1)]
        named[name, None], evidence = name_by_words(words, labels, folds)
        if ratings is not None:
            rated[name, None], foreseen = rate_by_words(words, ratings, folds)
            beside[name, None], _ = rate_by_words(words, ratings, folds, label=onehot)
    # What follows is put beside the guesses of the last of these, tfidf.
    for layer in progress(layers, "wording", [1] * len(layers), unit=" layers"):
        x = study.activations("resid_post", layer).float()
        named["activations", layer], strength = nested_logistic(
            x, labels, folds, n_classes=len(EMOTIONS), strengths=STRENGTHS
        )
        parts = {kind: np.empty_like(labels[:1]) for kind in ("residual", "both")}
        for fold, known in enumerate(evidence):
            train = folds != fold
            for kind, part in dict(residual=without(x, known, train), both=torch.cat([x, known], dim=1)).items():
                parts[kind][:, ~train] = name_others(part, labels[:1], train, strength[fold])[:, ~train]
        named |= {(kind, layer): guess for kind, guess in parts.items()}
        if ratings is not None:
            beside["activations", layer] = nested_ridge(x, ratings, folds, free=onehot)[0]
            rated["activations", layer], rated["both", layer] = rate_on_top(x, ratings, folds, foreseen)
    rows = [*emotion_rows(study, targets, named)]
    if ratings is not None:
        rows += appraisal_rows(study, ratings, rated, beside, held_out_means(ratings, study.truth, folds))
    curve = scores.balanced_accuracy(study.truth, np.stack([named["activations", layer][0] for layer in layers], 1))
    best = layers[int(curve(np.ones((1, len(folds)))).argmax())]
    table = pd.DataFrame([*rows, *carried_rows(study, other_corpus(study), layers, best)])
    if "model" not in targets:
        table.attrs["left_out"] = "Left out are probes of the model's answer: it always gives the same."
    return table


def dense_features(study: Study) -> dict[str, Tensor]:
    """The features of the text alone that are not fitted on anything, by name, [n, d]."""
    texts, embedded = study.events["text"], token_embeddings(study)
    length = torch.tensor(np.stack([texts.str.len(), texts.str.split().str.len()], axis=1), dtype=torch.float32)
    return {"length": length} | ({} if embedded is None else {"token_embeddings": embedded})


def counted(vectoriser: CountVectorizer, texts: pd.Series, train: np.ndarray) -> csr_array:
    """The words of all texts [n, words] as the vectoriser counts or weights them, fitted on `train` [n] alone."""
    return csr_array(vectoriser.fit(texts[train]).transform(texts))


def token_embeddings(study: Study) -> Tensor | None:
    """The model's input embeddings, averaged over each text, [n, d]; None where its weights are not here."""
    embedding: Any = study.model.hf.get_input_embeddings()
    ids = [study.tokenizer(f" {text}", add_special_tokens=False)["input_ids"] for text in study.events["text"]]
    with align_module_device(embedding):  # its weights, should they be kept elsewhere
        weight = embedding.weight.detach()
        if weight.device.type == "meta":
            return None
        return torch.stack([weight[torch.tensor(one, device=weight.device)].float().mean(0) for one in ids]).cpu()


def without(x: Tensor, known: Tensor, train: np.ndarray) -> Tensor:
    """The activations `x` [n, d] minus what `known` [n, k] predicts of them by least squares, fitted on `train` [n]."""
    table = torch.cat([known, torch.ones(len(known), 1)], dim=1).double()
    rows = torch.as_tensor(train)
    # gelsd, because guesses that are probabilities may depend on one another
    weights = torch.linalg.lstsq(table[rows], x[rows].double(), driver="gelsd").solution
    return (x.double() - table @ weights).float()


def name_others(x: Tensor, labels: np.ndarray, train: np.ndarray, strength: float) -> np.ndarray:
    """Label ids [T, n] of all texts for T targets, by probes with C = `strength` fitted on the texts `train` [n]."""
    weights = torch.as_tensor(np.broadcast_to(train, labels.shape).copy())
    probe = fit_logistic(x, torch.as_tensor(labels), weights, n_classes=len(EMOTIONS), C=strength)
    return probe.predict(x).cpu().numpy()


def name_by_words(words: Sequence[csr_array], labels: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, list[Tensor]]:
    """Held-out label ids [T, n] of T targets by scikit-learn, and each fold's log-probabilities [n, C] behind them.

    These are of the first target, by which C is chosen on the other folds. Those of texts that a fold trains on come
    from regressions without them, so that they are as good as those of its held-out texts.
    """
    guesses, evidence = np.empty_like(labels), []
    for fold, x in enumerate(words):
        train = folds != fold
        inner = [_log_probabilities_within(x, labels[0], folds, fold, C) for C in WORD_STRENGTHS]
        own = labels[0][train]
        best = int(np.argmax([(found[train].argmax(1) == own).sum() for found in inner]))
        for target, truth in enumerate(labels):
            probe = LogisticRegression(C=WORD_STRENGTHS[best], max_iter=1000).fit(x[train], truth[train])
            guesses[target, ~train] = probe.predict(x[~train])
            if not target:
                inner[best][~train] = _log_probabilities(probe, x[~train])
        evidence.append(torch.tensor(inner[best], dtype=torch.float32))
    return guesses, evidence


def _log_probabilities_within(x: csr_array, truth: np.ndarray, folds: np.ndarray, fold: int, strength: float) -> Array:
    found = np.zeros((len(folds), len(EMOTIONS)))
    for other in np.unique(folds[folds != fold]):
        train, test = (folds != fold) & (folds != other), folds == other
        probe = LogisticRegression(C=strength, max_iter=1000).fit(x[train], truth[train])
        found[test] = _log_probabilities(probe, x[test])
    return found


def _log_probabilities(probe: LogisticRegression, x: csr_array) -> Array:
    found = np.full((x.shape[0], len(EMOTIONS)), np.log(RARE))
    found[:, probe.classes_] = np.maximum(probe.predict_log_proba(x), np.log(RARE))
    return found


def rate_by_words(
    words: Sequence[csr_array], ratings: Array, folds: np.ndarray, *, label: Array | None = None
) -> tuple[Array, list[Array]]:
    """Held-out ratings [n, T] by ridge regression on words, and for each fold the ratings [n, T] behind them.

    Alpha is chosen for each fold and rating on the other folds; the ratings of texts that a fold trains on come from
    regressions without them. A `label` [n, C] enters beside the words, unpenalised.
    """
    guesses, behind = np.empty_like(ratings), []
    targets = torch.tensor(ratings)
    for fold, x in enumerate(words):
        table = torch.tensor((x if label is None else hstack([x, LABEL * label])).toarray().astype(float))
        # Without the fold and each other one, which chooses; and without the fold alone, which predicts it.
        parts = np.stack([(folds != fold) & (folds != other) for other in range(len(words))])
        weights, bias = fit_ridge(table, targets, torch.as_tensor(parts), alphas=ALPHAS, standardise="none")
        found = np.empty((len(ALPHAS), *ratings.shape))
        for other in range(len(words)):
            rows = folds == other
            found[:, rows] = (table[rows] @ weights[other].transpose(1, 2) + bias[other][:, None]).numpy()
        errors = ((found - ratings) ** 2)[:, folds != fold].sum(axis=1)
        behind.append(np.take_along_axis(found, errors.argmin(0)[None, None], axis=0)[0])
        guesses[folds == fold] = behind[-1][folds == fold]
    return guesses, behind


def rate_on_top(x: Tensor, ratings: Array, folds: np.ndarray, foreseen: Sequence[Array]) -> tuple[Array, Array]:
    """Held-out ratings [n, T] from activations `x` [n, d], and from these on top of what words foresee.

    `foreseen` [n, T] is each fold's, as `rate_by_words` gives it; activations are asked for what is left over by the
    best straight line through it on the texts that the fold trains on.
    """
    known = [_straight(guess, ratings, folds != fold) for fold, guess in enumerate(foreseen)]
    targets = [ratings, *(ratings - guess for guess in known)]
    alone, *left = np.split(nested_ridge(x, np.concatenate(targets, axis=1), folds)[0], len(targets), axis=1)
    both = np.stack([guess + more for guess, more in zip(known, left, strict=True)])
    return alone, both[folds, np.arange(len(folds))]


def _straight(guess: Array, ratings: Array, train: np.ndarray) -> Array:
    centre, mean = guess[train].mean(axis=0), ratings[train].mean(axis=0)
    apart = guess[train] - centre
    spread = (apart**2).sum(axis=0)
    slope = (apart * (ratings[train] - mean)).sum(axis=0) / np.where(spread > 0, spread, 1.0)
    return mean + slope * (guess - centre)


def emotion_rows(study: Study, targets: dict[str, np.ndarray], named: Guesses) -> Iterator[Row]:
    """Rows of how often emotions are named right, and of what activations add to the text."""
    n = len(study.truth)
    for place, (target, truth) in enumerate(targets.items()):
        chosen = {key: guess[place] for key, guess in named.items() if place < len(guess)}
        found = _interval(study, scores.balanced_accuracy(truth, np.stack([*chosen.values()], axis=1)))
        yield from found.rows(map(_site, chosen), metric="balanced_accuracy", target=target, n=n)
    own = {key: guess[0] for key, guess in named.items()}
    yield from contrasts(study, scores.balanced_accuracy, study.truth, own, "accuracy_gain", target="writer")


def appraisal_rows(study: Study, ratings: Array, rated: Guesses, beside: Guesses, label: Array) -> Iterator[Row]:
    """Rows of how well ratings are predicted, alone and beyond the `label` means, and of what activations add."""
    n = len(ratings)
    for key, guess in rated.items():
        found = _interval(study, scores.r2(ratings, guess))
        yield from found.rows([name | _site(key) for name in NAMES], metric="r2", n=n)
    for key, guess in beside.items():
        found = _interval(study, partial_r2(ratings, label, guess))
        yield from found.rows([name | _site(key) for name in NAMES], metric="partial_r2", n=n)
    for index, name in enumerate(NAMES):
        own = {key: guess[:, index] for key, guess in rated.items()}
        yield from contrasts(study, scores.r2, ratings[:, index], own, "r2_gain", **name)


def partial_r2(ratings: Array, label: Array, both: Array) -> Statistic:
    """The statistic "share of what the guesses `label` leave over that `both` explain", a column a rating."""
    alone, together = scores.r2(ratings, label), scores.r2(ratings, both)

    def statistic(weights: Array) -> Array:
        base = alone(weights)
        return (together(weights) - base) / (1 - base)

    return statistic


def contrasts(
    study: Study, score: Any, truth: Array, guesses: Mapping[Key, Array], gain: str, **about: Any
) -> Iterator[Row]:
    """Rows of what activations add to tfidf, and of their best minus the best of the text alone.

    `guesses` [n] of `truth` [n] by features and layer are judged by `score`.
    """
    n, table = len(truth), np.stack([*guesses.values()], axis=1)
    of = {kind: [i for i, (name, _) in enumerate(guesses) if name == kind] for kind in ("activations", "both")}
    both = [key for key in guesses if key[0] == "both"]
    text = [i for i, (_, layer) in enumerate(guesses) if layer is None]
    base = score(truth, guesses["tfidf", None])
    more = _interval(study, scores.difference(score(truth, table[:, of["both"]]), base))
    yield from more.rows(map(_site, both), metric=gain, n=n, **about)
    sides = halves(study.groups, seed=study.run.seed)
    for kind, columns in of.items():
        gap = best_difference(score(truth, table[:, columns]), score(truth, table[:, text]), sides)
        yield from _interval(study, gap).rows(dict(features=kind), metric="best_difference", n=n, **about)


def best_difference(one: Statistic, other: Statistic, half: np.ndarray) -> Statistic:
    """The statistic [r, 1] "best column of `one` minus best of `other`", chosen on one half and compared on the other.

    `half` [n] says which texts are in the first; the mean of both ways is taken. The best of many columns lies above
    what it is worth by chance alone, and that of the longer list by more.
    """
    sides = np.stack([half, ~half]).astype(float)
    chosen = [statistic(sides).argmax(axis=1) for statistic in (one, other)]

    def statistic(weights: Array) -> Array:
        gaps = [
            one(weights * side)[:, [first]] - other(weights * side)[:, [second]]
            for side, first, second in zip(sides[::-1], *chosen, strict=True)
        ]
        return np.mean(gaps, axis=0)

    return statistic


def other_corpus(study: Study) -> Study:
    """The same model and prompt on the corpus that probes are carried over to."""
    name = next(name for name in OTHERS if name != study.corpus.name)
    run = replace(study.run, corpus=name, corpus_path=None)
    return Study(run, model=study.model, folder=study.folder, prompt=study.prompt, only_layers=study.only_layers)


def carried_rows(study: Study, other: Study, layers: Sequence[int], best: int) -> Iterator[Row]:
    """Rows of probes that are trained on all texts of one corpus and tested on all of the other, both ways.

    Their C is the middle one of those that are chosen from within the run, for words the largest.
    """
    for (fitted, one), (tested, two) in permutations({"run": study, other.corpus.name: other}.items(), 2):
        train = np.arange(len(one.truth) + len(two.truth)) < len(one.truth)
        truth = np.concatenate([one.truth, two.truth])
        texts = pd.concat([one.events["text"], two.events["text"]], ignore_index=True)
        words = counted(VECTORISERS["tfidf"], texts, train)
        probe = LogisticRegression(C=WORD_STRENGTHS[-1], max_iter=1000).fit(words[train], truth[train])
        guesses: Guesses = {("tfidf", None): probe.predict(words[~train])}
        features: dict[Key, list[Tensor | None]] = {
            ("token_embeddings", None): [token_embeddings(part) for part in (one, two)],
            **{
                ("activations", at): [part.activations("resid_post", at).float() for part in (one, two)]
                for at in layers
            },
        }
        for key, parts in features.items():
            if here := [part for part in parts if part is not None]:
                guesses[key] = name_others(torch.cat(here), truth[None], train, STRENGTHS[1])[0, ~train]
        about = dict(trained_on=fitted, tested_on=tested, target="writer", n=len(two.truth))
        score = scores.balanced_accuracy(two.truth, np.stack([*guesses.values()], axis=1))
        yield from _interval(two, score).rows(map(_site, guesses), metric="carried", **about)
        for key in [key for key in guesses if key[1] is None]:
            pair = (scores.balanced_accuracy(two.truth, guesses[name]) for name in (("activations", best), key))
            gap = _interval(two, scores.difference(*pair))
            yield from gap.rows(_site(key) | dict(layer=best), metric="carried_difference", **about)


def _interval(study: Study, statistic: Statistic) -> Interval:
    return study.interval(scores.or_zero(statistic), n_resamples=RESAMPLES)


def _site(key: Key) -> Row:
    name, layer = key
    return dict(features=name) | ({} if layer is None else dict(component="resid_post", layer=layer, position="-1"))
