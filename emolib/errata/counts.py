"""Errata that published counts decide: control task, labels, sampling, attention (cases: `emolib.errata`)."""

from __future__ import annotations

import numpy as np

from emolib import paper
from emolib.errata import Finding, finding
from emolib.errata.paper import DEFAULT, published
from emolib.registry import registry

NEVER = ("boredom", "disgust", "guilt", "sadness")  # labels that Phi's scoring token rules out


def from_counts() -> list[Finding]:
    """Return all findings of this module."""
    return [found for part in (control_task, labels, sampling, attention) for found in part()]


def control_task() -> list[Finding]:
    """Return P12, P28, M13: transfer of the first-word task in the layers of emotion, and its commonest label."""
    keys = dict(metric="patching:transfer", component="attn_out", position="-1")
    at = {layer: published("control_first_word", layer=layer, **keys) for layer in (10, 12, 15)}
    emotion = published("patching", metric="transfer", component="attn_out", position="-1", span=3, layer=10, **DEFAULT)
    words = paper.values("control_first_word", metric="behaviour:confusion_count")
    true = words.assign(word=words["label"].str.split("=>").str[0]).groupby("word")["value"].sum()
    right = words[[a == b for a, b in words["label"].str.split("=>")]].set_index("label")["value"]
    probe = published("control_first_word", metric="emotion_probe:accuracy", component="resid_post", layer=1)
    return [
        finding("P12", "first-word transfer of attention: at layer 15, the end, and at 12", at[15], at[12], "Fig 23"),
        finding(
            "P28", "transfer of attention at layer 10: emotion, and the first word", emotion, at[10], "Figs 16, 23"
        ),
        finding(
            "M13",
            "commonest first word among the texts answered right",
            np.nan,
            right.max() / right.sum(),
            "stored outputs",
        ),
        finding(
            "M13",
            "probe of the first word at layer 1, and always the commonest word",
            probe,
            right.max() / right.sum(),
            "Fig 22",
        ),
        finding(
            "M13", "commonest first word among all texts of the task", np.nan, true.max() / true.sum(), "stored outputs"
        ),
    ]


def labels() -> list[Finding]:
    """Return D6, D7, P21, P37, M2: counts of labels."""
    phi = paper.values(
        "behaviour", metric="predicted_count", model="microsoft/Phi-3.5-mini-instruct", prompt="T1-2shot"
    ).set_index("label")["value"]
    written = paper.values("human", metric="recall")["label"]  # the thirteen labels
    sizes = {label: 275 if label in ("guilt", "shame") else 550 for label in written}
    confusion = paper.values("behaviour", metric="confusion_count", **DEFAULT)
    column = confusion.assign(guess=confusion["label"].str.split("=>").str[1]).groupby("guess")["value"].sum()
    drawn = paper.values("behaviour", metric="predicted_count", model="human").set_index("label")["value"]
    agreed = confusion[[a == b for a, b in confusion["label"].str.split("=>")]]["value"]
    differ = float(sum(abs(drawn[label] - sizes[label]) for label in sizes))
    return [
        finding(
            "D6",
            "events of boredom, disgust, guilt, sadness, and Phi 3.5 mini's answers of them",
            sum(sizes[label] for label in NEVER),
            phi[list(NEVER)].sum(),
            "Fig 10",
        ),
        finding(
            "D6",
            "highest accuracy without and with these four out of reach",
            1.0,
            1 - sum(sizes[label] for label in NEVER) / sum(sizes.values()),
            "counts of the labels",
        ),
        finding(
            "D7",
            "answers of boredom: Fig 24 as drawn, confusion matrix",
            column["sadness"],
            column["boredom"],
            "Figs 9, 24",
        ),
        finding(
            "D7",
            "answers of sadness: Fig 24 as drawn, confusion matrix",
            column["boredom"],
            column["sadness"],
            "Figs 9, 24",
        ),
        finding(
            "P37", "events by which the bar called human differs from the written labels", np.nan, differ, "Fig 10"
        ),
        finding("M2", "agreed events of the largest and the smallest label", agreed.max(), agreed.min(), "Fig 9"),
    ]


def sampling() -> list[Finding]:
    """Return M3, P30, P35: spread by sampling alone, memory by counting."""
    phi = next(entry for entry in registry().values() if entry["paper"] == "Phi3 14B")
    return [
        finding(
            "M3", "half-width of a 95 % interval at one half, 200 pairs", np.nan, 1.96 * np.sqrt(0.25 / 200), "binomial"
        ),
        finding(
            "P30",
            "standard deviation of an accuracy near one half, 548 test events",
            0.015,
            np.sqrt(0.25 / 548),
            "binomial",
        ),
        finding(
            "P35",
            "gigabytes of weights, Phi 3 medium in single precision",
            40,
            4 * phi["parameters"] / 1e9,
            "parameters x 4 bytes",
        ),
    ]


def attention() -> list[Finding]:
    """Return M10: the share of events whose most attended token lies in the event."""
    rows = paper.values("attention", condition="segment:evaluated_text").set_index("layer")
    share = rows["value"] / rows["n"].astype(float)
    return [
        finding(
            "M10",
            f"events whose most attended token is in the event, layer {layer}",
            np.nan,
            share[layer - 1],
            "stored outputs",
        )
        for layer in (9, 10, 11)
    ]
