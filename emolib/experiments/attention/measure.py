"""Where the last token looks (paper §6, Fig 4; E13): attention by part of the prompt, its top tokens, its words.

The paper shows which token gets the largest weight. Beside that: how much weight each part of the prompt gets, the same
weighted by the length of the value vectors, what is left when the demonstrations are reordered, relabelled or removed,
and whether emotion words are looked at more than other words like them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from emolib import stats
from emolib.engine.sites import layer_number
from emolib.experiments.attention import EARLY, MIDDLE, words
from emolib.experiments.attention.reading import FIRST, SEGMENTS, TEXT, Looks, check_readable, look
from emolib.stats.sampling import balanced_rows
from emolib.study.run import TextColumn
from emolib.study.study import Study
from emolib.texts.prompts import Prompt

SAMPLE = {"full": 1000, "quick": 78}
FEWEST = 20  # agreed texts for counts, texts with a masked word for comparisons of words
Row = dict[str, Any]


def run(study: Study) -> pd.DataFrame:
    """Attention of the last token by layer; all metrics with 95% intervals over writers.

    On a sample balanced over emotions, for `demonstrations` given, shuffled (their order), relabelled (each gets
    another's label) and removed, by `segment`: `mass` and `value_mass`, shares of the attention averaged over heads;
    `mass_beyond_first`, the mass without the first token; `token_share`, what uniform attention would give;
    `top1_share`, `top3_share`, segments of the largest weights over heads and tokens (as released, as described), the
    first token aside; `mid_minus_early`, of each `measure` of the text, at depths (0.5, 0.7] against those up to 0.5.
    Of the demonstrations as given: `top1_count`, as in the paper, and `top3_count`, by `part` of the prompt and `token`
    on the agreed `set`, or on the sample if fewer than 20 are agreed; `enrichment` of `words`, see `word_rows`, by
    layer and for both `band`s of depth. Raises ValueError, before any text is read, for a model that gives no weights.
    """
    check_readable(study.model)
    sample = balanced_rows(study.truth, np.arange(len(study.truth)), SAMPLE[study.run.profile], seed=study.run.seed)
    enough = len(study.agreed) >= FEWEST
    counted = study.agreed if enough else sample
    records: list[Row] = []
    for name, prompt in variants(study.prompt, seed=study.run.seed).items():
        rows = np.union1d(sample, counted) if name == "given" else sample
        looks = look(study.model, prompt, study.events["text"].iloc[rows].tolist(), name=name)
        sampled = looks.part(np.searchsorted(rows, sample))
        found = [*share_rows(study, sampled, sample)]
        if name == "given":
            agreed = looks.part(np.searchsorted(rows, counted))
            found += count_rows(agreed, study.groups[counted], "agreed" if enough else "sample")
            found += word_rows(study, sampled, sample)
        records += [dict(demonstrations=name) | row for row in found]
    return pd.DataFrame(records)


def variants(prompt: Prompt, *, seed: int) -> dict[str, Prompt]:
    """The prompt as `given`, and with its demonstrations `shuffled`, `relabelled`, `removed` where that changes it."""
    shown = prompt.demonstrations
    order = np.random.default_rng(seed).permutation(len(shown))
    order = np.roll(order, 1) if (order == np.arange(len(shown))).all() else order
    labels = [label for _, label in shown]
    turned = labels[1:] + labels[:1]
    changed = {
        "shuffled": tuple(shown[index] for index in order),
        "relabelled": tuple((text, label) for (text, _), label in zip(shown, turned, strict=True)),
        "removed": (),
    }
    others = {name: replace(prompt, demonstrations=pairs) for name, pairs in changed.items() if pairs != shown}
    return {"given": prompt, **others}


def share_rows(study: Study, looks: Looks, rows: np.ndarray) -> Iterator[Row]:
    """Rows of every share by layer and segment; segments that the prompt does not have are left out."""
    groups, n, uniform = study.groups[rows], len(rows), looks.token_share
    beyond = np.maximum(1 - looks.mass[:, :, [FIRST]], np.finfo(np.float32).tiny)
    top = looks.top_segments[..., None] == np.arange(len(SEGMENTS))
    measures = {
        "mass": (looks.mass, None),
        "value_mass": (looks.value_mass, None),
        # Weighted by what is left, so that texts with nothing left do not decide.
        "mass_beyond_first": (looks.mass / beyond, np.broadcast_to(beyond, looks.mass.shape)),
        "top3_share": (top.mean(2), None),
        "top1_share": (top[:, :, 0].astype(float), None),
    }
    bootstrap = partial(stats.cluster_bootstrap, groups=groups, seed=study.run.seed)
    present, n_layers = np.flatnonzero(uniform.any(0)), looks.mass.shape[1]
    for metric, (values, weights) in measures.items():
        kept = present if metric in ("mass", "value_mass") else present[present != FIRST]
        flat = values[:, :, kept].reshape(n, -1)
        weight = None if weights is None else weights[:, :, kept].reshape(n, -1)
        share = metric == "top1_share"
        interval = stats.cluster_wilson(flat, groups) if share else bootstrap(flat, weights=weight)
        sites = [dict(layer=layer, segment=SEGMENTS[segment]) for layer in range(n_layers) for segment in kept]
        yield from interval.rows(sites, metric=metric, n=n)
    named = [dict(segment=SEGMENTS[segment]) for segment in present]
    yield from bootstrap(uniform[:, present]).rows(named, metric="token_share", n=n)
    early, middle = bands(n_layers)
    texts = np.stack([values[:, :, TEXT] for values, _ in measures.values()], axis=2)
    change = bootstrap(texts[:, middle].mean(1) - texts[:, early].mean(1))
    yield from change.rows([dict(measure=name) for name in measures], metric="mid_minus_early", segment="text", n=n)


def bands(n_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Layers up to half the depth, and those behind them up to 0.7 of it, or the first one behind if there is none."""
    depth = np.array([layer_number(layer) for layer in range(n_layers)]) / n_layers
    early = np.flatnonzero(depth <= EARLY)
    middle = np.flatnonzero((depth > EARLY) & (depth <= MIDDLE))
    return early, middle if len(middle) else np.array([len(early)])


def count_rows(looks: Looks, groups: np.ndarray, which: str) -> Iterator[Row]:
    """Rows of how many texts of the set `which` have their largest weight, or one of the three largest, in a part of
    the prompt or on one of its tokens: top1_count, as in the paper's counts, and top3_count, as in its text.

    Tokens of the evaluated text are never named, but for the mask.
    """
    n, n_layers = looks.top.shape[:2]
    parts = dict.fromkeys((part, "") for tokens in looks.tokens for part, _ in tokens.places)
    parts.pop(("first_token", ""))
    for layer, (metric, most) in product(range(n_layers), (("top1_count", 1), ("top3_count", 3))):
        best = zip(looks.tokens, looks.top[:, layer, :most], strict=True)
        found = [{tokens.places[top] for top in tops} for tokens, tops in best]
        # A token counts for its part, too.
        found = [places | {(part, "") for part, _ in places} for places in found]
        named = sorted({place for places in found for place in places if place[1]})
        hits = np.array([[place in places for place in (*parts, *named)] for places in found])
        counts = stats.cluster_wilson(hits, groups).map(lambda share: share * n)
        keys = [dict(part=part, token=token) for part, token in (*parts, *named)]
        yield from counts.rows(keys, metric=metric, layer=layer, set=which, n=n)


def word_rows(study: Study, sampled: Looks, sample: np.ndarray) -> Iterator[Row]:
    """Rows of the enrichment of content words, of masks, and of the emotion words that masks stand for.

    Emotion words are read in the texts as written. Without a masked column there are none, and no such rows.
    """
    texts = study.events["text"].iloc[sample].tolist()
    content = compare_words(sampled, texts, [[] for _ in texts], kind="content_word")
    yield from _enrichment(study, content, sample, "content_word")
    masked, original = (found.iloc[sample].tolist() for found in (_texts(study, "masked"), _texts(study, "original")))
    spans = [words.masked_spans(*pair) for pair in zip(masked, original, strict=True)]
    marked = np.array([index for index, found in enumerate(spans) if found], dtype=int)
    if len(marked) < FEWEST:
        return
    spans, rows = [spans[index] for index in marked], sample[marked]
    if study.run.text == "masked":
        kept = [texts[index] for index in marked]
        masks = [[found.span() for found in words.MASK.finditer(text)] for text in kept]
        for kind in ("mask", "mask_against_punctuation"):
            found = compare_words(sampled.part(marked), kept, masks, kind=kind)
            yield from _enrichment(study, found, rows, kind)
    written = [original[index] for index in marked]
    looks = look(study.model, study.prompt, written, name="as written")
    bins = words.frequency_bins(_texts(study, "original"))
    for kind, without in (("emotion_word", ()), ("emotion_word_not_label", study.prompt.labels)):
        found = compare_words(looks, written, spans, kind="emotion_word", bins=bins, without=without)
        yield from _enrichment(study, found, rows, kind)


def compare_words(
    looks: Looks,
    texts: list[str],
    spans: list[list[words.Span]],
    *,
    kind: str,
    bins: dict[str, int] | None = None,
    without: tuple[str, ...] = (),
) -> words.Compared:
    """Tokens of the texts to compare, in cells of a fifth of the text and, with `bins`, a frequency of the word.

    Targets are the tokens in `spans`: among all of the text (`mask`), among those outside words (`mask_against_
    punctuation`: marks are looked at whatever they say), or among content words (`emotion_word`), words of `without`
    aside. Of `content_word` they are the tokens of content words, among those of all words.
    """
    columns = []
    for number, (tokens, weights, marked) in enumerate(zip(looks.tokens, looks.weights, spans, strict=True)):
        inside, found = tokens.starts >= 0, words.words_of(texts[number])
        owners = words.owner(tokens.starts[inside], [span for _, span in found])
        names = np.array([found[index][0] if index >= 0 else "" for index in owners], dtype=object)
        content = np.array([words.is_content(name) for name in names], dtype=bool)
        target = content if kind == "content_word" else words.owner(tokens.starts[inside], marked) >= 0
        compared = {
            "mask": np.full(len(names), True),
            "mask_against_punctuation": names == "",
            "emotion_word": content,
            "content_word": names != "",
        }[kind]
        kept = compared & ~(target & np.isin(names, without))
        cell = words.fifths(len(names)) + words.FIFTHS * np.array([(bins or {}).get(name, 0) for name in names])
        columns.append((weights[:, inside][:, kept].T, target[kept], cell[kept], np.full(kept.sum(), number)))
    weight, target, cell, text = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return words.Compared(weight=weight, target=target, cell=cell, text=text)


def _texts(study: Study, column: TextColumn) -> pd.Series:
    events = study.written(column).events.set_index("text_id")
    return events["text"].loc[study.events["text_id"]]


def _enrichment(study: Study, tokens: words.Compared, rows: np.ndarray, kind: str) -> Iterator[Row]:
    """By layer, and for the weight averaged over the early and over the middle layers."""
    n_layers = tokens.weight.shape[1]
    averages = np.stack([tokens.weight[:, layers].mean(1) for layers in bands(n_layers)], axis=1)
    tokens = replace(tokens, weight=np.concatenate([tokens.weight, averages], axis=1))
    sites = [dict(layer=layer) for layer in range(n_layers)] + [dict(band=band) for band in ("early", "middle")]
    interval = study.interval(words.enrichment(tokens, len(rows)), rows)
    yield from interval.rows(sites, metric="enrichment", words=kind, n=len(rows))
