"""Errata that the paper's own values decide: its sentences against its figures (grades and cases: `paper.errata`)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emolib.paper.errata import Finding, finding
from emolib.tables import paper

LLAMA = paper.DETAILED.id
DEFAULT = dict(model=LLAMA, prompt="T1-2shot")
SITE = dict(position="-1", prompt="T1-2shot")


def from_paper() -> list[Finding]:
    """Return all findings of this module."""
    parts = (swapped_sentences, steering, windows, tokens, appraisals)
    return [found for part in parts for found in part()]


def published(experiment: str, **keys: object) -> float:
    """Return one published value; `layer` is given 1-based, as it stands in the paper.

    Raises ValueError when several values match.
    """
    if "layer" in keys:
        keys["layer"] = int(str(keys["layer"])) - 1
    found = paper.values(experiment, **keys)
    if len(found) != 1:
        raise ValueError(f"{len(found)} values of {experiment} match {keys}: name one")
    return float(found["value"].iloc[0])


def rating(emotion: str, appraisal: str, *, model: str = "data") -> float:
    """Return the mean rating 1-5 of an emotion's events: of all ("data") or of the agreed set of Llama 3.2 1B."""
    return published("appraisal_profile", model=model, condition=f"emotion:{emotion};appraisal:{appraisal}")


def shifted(condition: str, label: str, *, coefficient: float = 4.0, layer: int = 9) -> float:
    """Return how many of 2,740 events get the label when appraisals are pushed at a 1-based centre layer."""
    return published("modulation", condition=condition, label=label, coefficient=coefficient, layer=layer, **DEFAULT)


def swapped_sentences() -> list[Finding]:
    """Return P4-P6: which of two emotions the rating or the count favours; as stated, the first number is larger."""
    both = "pleasantness:+1;other_responsblt:{}1"
    return [
        finding(
            "P4",
            "mean pleasantness of guilt, which section 7 names, and of pride, which it means",
            rating("guilt", "pleasantness"),
            rating("pride", "pleasantness"),
            "ratings of all events",
        ),
        finding(
            "P5",
            "mean self-agency of sadness, which section 1 names, and of guilt",
            rating("sadness", "self_responsblt"),
            rating("guilt", "self_responsblt"),
            "ratings of all events",
        ),
        finding(
            "P6",
            "events that become joy when pleasantness and other-agency rise: by the text, by the figure",
            0,
            shifted(both.format("+"), "joy"),
            "Fig 33",
        ),
        finding(
            "P6",
            "events that become pride: when both rise, as the text says, and when other-agency falls",
            shifted(both.format("+"), "pride"),
            shifted(both.format("-"), "pride"),
            "Fig 33",
        ),
    ]


def steering() -> list[Finding]:
    """Return P7, P9, P27: label counts of steering that contradict the text."""
    less = "pleasantness:-1"
    anger = {beta: shifted(less, "anger", coefficient=beta) for beta in (2.0, 4.0)}
    guilt = published("modulation", condition="baseline", label="guilt", **DEFAULT)
    surprise = published("modulation", condition="baseline", label="surprise", **DEFAULT)
    return [
        finding("P7", "anger under less pleasantness, strength 2, and strength 4", anger[2.0], anger[4.0], "Fig 7"),
        finding(
            "P7", "guilt before, and under less pleasantness, said to raise it", guilt, shifted(less, "guilt"), "Fig 7"
        ),
        finding(
            "P9",
            "joy under more pleasantness at layer 9, as stated, and 10, as drawn",
            shifted("pleasantness:+1", "joy"),
            shifted("pleasantness:+1", "joy", layer=10),
            "Figs 30, 35",
        ),
        finding(
            "P27",
            "surprise before, and under less predictability at layer 14",
            surprise,
            shifted("predict_event:-1", "surprise", layer=14),
            "Fig 32",
        ),
        finding("P27", "the same, at layer 12", surprise, shifted("predict_event:-1", "surprise", layer=12), "Fig 32"),
    ]


def vacuous_window(agreement: pd.DataFrame) -> tuple[float, int]:
    """Return the largest difference between a window of three on h and its last layer alone, and the pairs compared.

    `agreement` holds zero-ablation rows of resid_post at spans 1 and 3, `layer` the centre (0-based).
    """
    wide, single = (agreement[agreement["span"] == span].set_index("layer")["value"] for span in (3, 1))
    shifted_back = single.reindex(wide.index + 1)
    gaps = np.abs(wide.to_numpy() - shifted_back.to_numpy())
    return float(np.nanmax(gaps)), int((~np.isnan(gaps)).sum())


def windows() -> list[Finding]:
    """Return M1, P19, P24, P25, M17: what windows and removals really say."""
    gap, _ = vacuous_window(paper.values("zero_ablation", model=LLAMA, component="resid_post", **SITE))
    at = {
        layer: published("zero_ablation", model=LLAMA, component="mlp_out", span=3, layer=layer, **SITE)
        for layer in (9, 10)
    }
    stream = paper.values("patching", model=LLAMA, component="resid_post", metric="transfer", span=3, **SITE)
    first = stream[stream["value"] >= 0.5].sort_values("layer").iloc[0]
    return [
        finding("M1", "largest difference, window of three at c against layer c + 1 alone", np.nan, gap, "Figs 12, 14"),
        finding(
            "P19",
            "layer from which patching h works: plotted centre, overwritten layer",
            first["layer"] + 1,
            first["last_layer"] + 1,
            "Fig 16",
        ),
        finding(
            "P24",
            "models of ten where removing attention hurts more: said, and counted",
            10,
            attention_dominates(),
            "Fig 12",
        ),
        finding(
            "P25", "agreement without feed-forward 9 to 11, said to be lowest, and 8 to 10", at[10], at[9], "Fig 12"
        ),
        finding(
            "M17",
            "agreement of a network that is silent: share of the first label",
            np.nan,
            published("behaviour", metric="confusion_count", label="anger=>anger", **DEFAULT) / paper.DETAILED.n,
            "Fig 9",
        ),
    ]


def attention_dominates() -> int:
    """Return in how many of ten models the inner minimum of zeroing attention is below that of feed-forward.

    Span 3, without the first and last three centres.
    """
    wins = 0
    for model in paper.PAPER_MODELS:
        rows = paper.values("zero_ablation", model=model.id, prompt="T1-2shot", position="-1", span=3)
        lowest = {
            name: rows[rows["component"] == name].sort_values("layer")["value"].iloc[3:-3].min()
            for name in ("attn_out", "mlp_out")
        }
        wins += int(lowest["attn_out"] < lowest["mlp_out"])
    return wins


def tokens() -> list[Finding]:
    """Return P23, P26: probes over tokens and late layers."""
    keys = dict(component="resid_post", **DEFAULT)
    probe = {token: published("emotion_probe", position=token, layer=6, **keys) for token in ("-1", "-2")}
    late = {layer: published("emotion_probe", position="-1", layer=layer, **keys) for layer in (10, 16)}
    return [
        finding(
            "P23",
            "probe at layer 6: last token, said to be best, and the one before",
            probe["-1"],
            probe["-2"],
            "Fig 18",
        ),
        finding("P26", "probe at layer 10, said to be the last rise, and at 16", late[10], late[16], "Fig 13"),
    ]


def appraisals() -> list[Finding]:
    """Return P13, P16, P36, M14: profiles, R2 over depth, signs and sizes of cosines, what the label explains."""
    falls = {
        layer: published(
            "appraisal_probe",
            component="resid_post",
            position="-1",
            layer=layer,
            condition="appraisal:self_responsblt",
            **DEFAULT,
        )
        for layer in (10, 16)
    }
    guilt = paper.values("geometry", condition="emotion:guilt;appraisal:other_responsblt").set_index("layer")["value"]
    early, late = within_chance()
    return [
        finding(
            "P13",
            "pleasantness of surprise: agreed set, as drawn, and all events",
            rating("surprise", "pleasantness", model=LLAMA),
            rating("surprise", "pleasantness"),
            "Fig 5",
        ),
        finding(
            "P16", "R2 of self-agency at layer 10, and at the end, said to be strong", falls[10], falls[16], "Fig 29"
        ),
        finding("P36", "cosine of guilt and other-agency at layer 1; theory: negative", np.nan, guilt[0], "Fig 6"),
        finding(
            "P36",
            "share of cosines within two standard deviations of random vectors: layers 1 to 12, and from 13",
            early,
            late,
            "Fig 6",
        ),
        *label_only(),
    ]


def within_chance() -> tuple[float, float]:
    """Return the share 0-1 of printed cosines within two standard deviations of random ones, to layer 12 and after."""
    cosines = paper.values("geometry")
    small = cosines["value"].abs() < 2 / np.sqrt(paper.DETAILED.width)
    late = cosines["layer"] >= 12  # layer 13
    return float(small[~late].mean()), float(small[late].mean())


def label_only() -> list[Finding]:
    """Return M14: the best probe of six appraisals, and the label alone, both with the labels of the agreed set."""
    best = paper.values("appraisal_probe", model=LLAMA).groupby("condition")["value"].max()
    return [
        finding(
            "M14",
            f"R2 of {name.removeprefix('appraisal:')}: best probe, and the label alone, counts of the agreed set",
            value,
            published("label_baseline", condition=f"{name};weights:llama_1b_agreed"),
            "Fig 29, ratings",
        )
        for name, value in best.items()
    ]
