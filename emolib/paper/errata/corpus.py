"""Errata that the corpus decides: counts, masking, decoding, demonstrations, readers, ratings (cases: `paper.errata`).

All functions need crowd-enVENT, which is looked for as `emolib.texts.corpus.load_corpus` says. Loads no model library.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from emolib.paper.errata import Finding, finding
from emolib.tables import paper
from emolib.texts.corpus import APPRAISALS, Corpus, demonstration_rows, load_corpus, load_readings
from emolib.texts.prompts import Prompt, paper_demonstrations

ONLY_HERE = ("P1", "P33", "P34", "M11")  # cases that nothing but the corpus decides


def from_corpus(path: str | None = None) -> list[Finding]:
    """Return all findings of this module.

    Raises FileNotFoundError or ValueError when the corpus cannot be read.
    """
    corpus = load_corpus("crowd-envent", path=path)
    original = load_corpus("crowd-envent", path=path, text="original")
    garbled = load_corpus("crowd-envent", path=path, encoding="latin-1")
    readings = load_readings(path)
    return [
        *sizes(corpus),
        *masking(corpus, original),
        *decoding(corpus, garbled),
        *demonstrations(corpus),
        *readers(corpus, readings),
        *label_only(corpus),
    ]


def sizes(corpus: Corpus) -> list[Finding]:
    """Return P1: numbers of events, of appraisals, and of events of a label."""
    counts = corpus.events["emotion"].value_counts()
    return [
        finding("P1", "events: in the text, and in the corpus", 6800, len(corpus.events), "corpus"),
        finding("P1", "appraisals: in the text, and in the corpus", 23, len(APPRAISALS), "corpus"),
        finding("P1", "events of most labels: in the text, and in the corpus", 500, counts.max(), "corpus"),
        finding("P1", "events of guilt, of shame: in the text, and in the corpus", 250, counts["guilt"], "corpus"),
    ]


def masking(masked: Corpus, original: Corpus) -> list[Finding]:
    """Return P33: how many events masking changes, in all, and its share in the least and the most masked label."""
    changed = masked.events["text"] != original.events["text"]
    share = changed.groupby(masked.events["emotion"]).mean().sort_values()
    rows = [finding("P33", "events with a masked word", np.nan, changed.sum(), "corpus")]
    ends = [(share.index[0], share.iloc[0]), (share.index[-1], share.iloc[-1])]
    return rows + [finding("P33", f"share of masked events of {name}", np.nan, value, "corpus") for name, value in ends]


def decoding(right: Corpus, garbled: Corpus) -> list[Finding]:
    """Return P34: events whose text depends on the encoding."""
    differ = right.events["text"] != garbled.events["text"]
    control = garbled.events["text"].str.contains(r"[\x80-\x9f]", regex=True)
    return [
        finding("P34", "events that differ between the two encodings", np.nan, differ.sum(), "corpus"),
        finding("P34", "events with control characters as released", np.nan, control.sum(), "corpus"),
    ]


def demonstrations(corpus: Corpus) -> list[Finding]:
    """Return M11: demonstrations that are, nearly, events of the corpus, and the events they are."""
    shown = paper_demonstrations()
    rows = {
        label: demonstration_rows(corpus.events, Prompt(name="one", instruction="", demonstrations=((text, label),)))
        for label, text in shown.items()
    }
    found = [label for label, ids in rows.items() if ids]
    return [
        finding("M11", "of thirteen demonstrations, those that are events of the corpus", np.nan, len(found), "corpus"),
        finding("M11", "events that are a demonstration", np.nan, sum(map(len, rows.values())), "corpus"),
    ]


def readers(corpus: Corpus, readings: pd.DataFrame) -> list[Finding]:
    """Return P37: the largest gap between the bar called human and what readers answered, as a share of answers."""
    written = corpus.events["emotion"].value_counts(normalize=True)
    answered = readings["emotion"].value_counts(normalize=True).reindex(written.index).fillna(0)
    widest = (answered - written).abs().idxmax()
    return [
        finding(
            "P37",
            f"share of {widest}: bar called human, and readers' answers",
            written[widest],
            answered[widest],
            "readings",
        )
    ]


def label_only(corpus: Corpus) -> list[Finding]:
    """Return M14 once more: the paper's best probe of six appraisals, and the label alone on all events.

    The probes are of the agreed set; the like-for-like baseline is in `paper.appraisals`.
    """
    probes = paper.values("appraisal_probe", model=paper.DETAILED.id)
    best = probes.groupby("condition")["value"].max()
    return [
        finding(
            "M14",
            f"R2 of {name}: best probe, and the label alone on all events",
            value,
            explained(corpus, name),
            "Fig 29, corpus",
        )
        for name, value in ((key.removeprefix("appraisal:"), value) for key, value in best.items())
    ]


def explained(corpus: Corpus, appraisal: str) -> float:
    """Return the share 0-1 of an appraisal's variance that lies between the thirteen labels (in sample)."""
    ratings = corpus.ratings[appraisal].to_numpy(dtype=float)
    means = pd.Series(ratings).groupby(corpus.events["emotion"].to_numpy()).transform("mean").to_numpy()
    return float(np.var(means) / np.var(ratings))
