"""Errata that published counts decide: control task, labels, sampling, settings, attention (see `paper.errata`)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emolib.engine.registry import registry
from emolib.paper.errata import Finding, finding
from emolib.paper.errata.paper import DEFAULT, published
from emolib.tables import paper
from emolib.texts.prompts import get_prompt

# How Fig 24 draws these labels at the default prompt, read from the figure (to about six events).
FIG_24 = {"boredom": 201, "sadness": 463}
NEVER = ("boredom", "disgust", "guilt", "sadness")  # labels that Phi's scoring token rules out


def from_counts() -> list[Finding]:
    """Return all findings of this module."""
    return [found for part in (control_task, labels, confusions, sampling, settings, attention) for found in part()]


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
    """Return D6, P37: labels that cannot be answered, and the bar called human."""
    answers = paper.values("behaviour", metric="predicted_count", prompt=["T1-2shot", ""])
    answers = answers.pivot_table(index="label", columns="model", values="value", aggfunc="first")
    phi, drawn = answers["microsoft/Phi-3.5-mini-instruct"], answers["human"]
    sizes = label_sizes()
    never = sizes[list(NEVER)].sum()
    return [
        finding(
            "D6",
            "events of boredom, disgust, guilt, sadness, and Phi 3.5 mini's answers of them",
            never,
            phi[list(NEVER)].sum(),
            "Fig 10",
        ),
        finding(
            "D6",
            "highest accuracy without and with these four out of reach",
            1.0,
            1 - never / sizes.sum(),
            "counts of the labels",
        ),
        finding(
            "P37",
            "events by which the bar called human differs from the written labels",
            np.nan,
            (drawn[sizes.index] - sizes).abs().sum(),
            "Fig 10",
        ),
    ]


def label_sizes() -> pd.Series:
    """Return the number of events of each of the thirteen labels."""
    written = paper.values("human", metric="recall")["label"]
    return pd.Series({label: 275 if label in ("guilt", "shame") else 550 for label in written})


def confusions() -> list[Finding]:
    """Return D7, M2, M12: rows, columns and diagonal of the confusion matrix."""
    confusion = paper.values("behaviour", metric="confusion_count", **DEFAULT)
    confusion[["true", "answer"]] = confusion["label"].str.split("=>", expand=True)
    answered = confusion.groupby("answer")["value"].sum()
    agreed = confusion[confusion["true"] == confusion["answer"]].set_index("true")["value"]
    sizes = label_sizes()
    shown = [label for _, label in get_prompt("T1-2shot").demonstrations]
    return [
        *(
            finding("D7", f"answers of {label}: as read from Fig 24, and by Fig 9", read, answered[label], "Figs 9, 24")
            for label, read in FIG_24.items()
        ),
        finding("M2", "agreed events of the largest and the smallest label", agreed.max(), agreed.min(), "Fig 9"),
        *(
            finding(
                "M12",
                f"share of events answered right: of all labels, and of {label}, a demonstration's",
                agreed.sum() / sizes.sum(),
                agreed[label] / sizes[label],
                "Fig 9",
            )
            for label in shown
        ),
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
            "standard deviation of an accuracy: said to be the most, and by sampling near one half, 548 events",
            0.015,
            np.sqrt(0.25 / 548),
            "binomial",
        ),
        finding(
            "P35",
            "gigabytes: said to suffice, and the weights of Phi 3 medium in single precision",
            40,
            4 * phi["parameters"] / 1e9,
            "parameters x 4 bytes",
        ),
    ]


def settings() -> list[Finding]:
    """Return P2, P8, P17, X1, D8: sizes of models, and settings and sets of events of the figures."""
    phi = next(entry for entry in registry().values() if entry["paper"] == "Phi3 4B")
    pushed = paper.values("modulation", condition=["other_responsblt:-1", "other_responsblt:+1"], label="anger")
    at = pushed.groupby("condition")["layer"].nunique()
    drawn = paper.values("random_ablation", figure="Fig 12")["model"].nunique()
    counts = {
        "token positions of the ablations": ("zero_ablation", "position"),
        "spans of patching": ("patching", "span"),
        "strengths of promotion": ("promotion", "coefficient"),
    }
    used = {name: paper.values(what, **DEFAULT)[column].nunique() for name, (what, column) in counts.items()}
    return [
        finding("P2", "parameters of Phi 3.5 mini in 10^9: Table 1, model", 3, phi["parameters"] / 1e9, "registry"),
        finding(
            "P8",
            "layers at which other-agency is shown to be pushed: down, and up",
            at["other_responsblt:-1"],
            at["other_responsblt:+1"],
            "Figs 7, 31",
        ),
        finding("P17", "models of Fig 12: named in the caption, and drawn", 1, drawn, "Fig 12"),
        *(
            finding("X1", f"{name}: by default, and in the figures", 1, value, "figures")
            for name, value in used.items()
        ),
        *reruns(),
    ]


def reruns() -> list[Finding]:
    """Return D8: the agreed events of the OLMo 2 models in their two runs."""
    events = paper.values("behaviour", metric="correct_count", prompt="T1-2shot")
    twice = events[events["condition"] == "rerun"].set_index("model")["value"]
    once = events[events["condition"] == ""].set_index("model")["value"]
    return [
        finding(
            "D8",
            f"agreed events of {paper.model_name(model)}: accuracy and zero ablation, and random ablation",
            once[model],
            value,
            "Fig 11, stored outputs",
        )
        for model, value in twice.items()
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
