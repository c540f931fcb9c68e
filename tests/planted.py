"""A run of 20 layers in which every claim of the paper is true, table by table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emolib.paper.claims.tests import LEADERS, MISSED, SECOND, SIGNS, SINGLE, UNSHRUNK
from emolib.texts.appraisals import EMOTIONS, NAMED, Setting

LAYERS = 20


def curve(values: Any, **keys: Any) -> list[dict[str, Any]]:
    """One row a layer, with an interval of .02 to either side where the value is a share."""
    return [
        dict(layer=layer, value=float(v), ci_low=float(v) - 0.02, ci_high=float(v) + 0.02, n=1000, **keys)
        for layer, v in enumerate(values)
    ]


def bump(peak: int, height: float, width: float = 1.5) -> np.ndarray:
    return height * np.exp(-(((np.arange(LAYERS) - peak) / width) ** 2))


def rising(middle: float, top: float = 0.9, steep: float = 1.0) -> np.ndarray:
    return 0.1 + (top - 0.1) / (1 + np.exp(-(np.arange(LAYERS) - middle) / steep))


def behaviour() -> list[dict[str, Any]]:
    return [
        dict(
            metric="accuracy", scoring="first_subtoken", calibration="none", value=0.5, ci_low=0.48, ci_high=0.52, n=600
        )
    ]


def probing() -> list[dict[str, Any]]:
    keys = dict(metric="accuracy", setting="as_released", probe="linear")
    rows = curve(rising(7), component="resid_post", position="-1", **keys)
    rows += curve(rising(7) + 0.01, component="mlp_out", position="-1", **keys)
    rows += curve(rising(7) - 0.4 * (np.arange(LAYERS) % 3 == 0), component="attn_out", position="-1", **keys)
    for position in ("-2", "-3", "-4", "-5"):
        rows += curve(rising(7, top=0.6), component="resid_post", position=position, **keys)
    gap = dict(metric="selectivity", setting="ours", target="writer", component="resid_post", position="-1")
    return rows + curve(rising(7) - 0.1, **gap)


def patching() -> list[dict[str, Any]]:
    keys = dict(metric="transfer", source="other_label", position="-1")
    rows = curve(rising(10, top=1.1, steep=0.4) - 0.1, component="resid_post", span=1, **keys)
    for span, height in ((1, 0.2), (3, 0.6), (5, 0.9)):
        rows += curve(bump(10, height), component="attn_out", span=span, **keys)
        rows += curve(bump(12, height / 2), component="mlp_out", span=span, **keys)
    return rows


def ablation() -> list[dict[str, Any]]:
    keys = dict(metric="agreement", method="zero", position="-1")
    rows = []
    for span in (1, 3):
        rows += curve(0.95 - bump(10, 0.6, span / 4), component="attn_out", span=span, **keys)
        rows += curve(0.95 - bump(12, 0.3), component="mlp_out", span=span, **keys)
    shift_free = ("recentred_agreement", "auroc")
    centred = [dict(row, metric=metric) for metric in shift_free for row in rows if row["span"] == 3]
    exchanged = [dict(row, method="resample") for row in rows if row["span"] == 3 and row["component"] == "attn_out"]
    return rows + centred + exchanged


def attention() -> list[dict[str, Any]]:
    keys = dict(metric="mass", demonstrations="given", position="-1")
    rows = curve(0.1 + bump(12, 0.5, 4), segment="text", **keys)
    words = dict(metric="enrichment", words="emotion_word_not_label", demonstrations="given", band="middle")
    rows.append(dict(value=3.0, ci_low=2.8, ci_high=3.2, n=300, **words))
    return rows + curve(np.full(LAYERS, 0.1), segment="demonstration", **keys)


def appraisals() -> list[dict[str, Any]]:
    rows = []
    for name in NAMED:
        keys = dict(component="resid_post", position="-1", appraisal=name)
        rows += curve(rising(7, top=0.5), metric="r2", setting="as_released", **keys)
        rows += curve(rising(7, top=0.3), metric="partial_r2", setting="ours", **keys)
        rows.append(dict(metric="r2", baseline="label", set="agreed", appraisal=name, value=0.2))
    return rows


def geometry() -> list[dict[str, Any]]:
    fade = np.linspace(0.5, 0.02, LAYERS)
    rows = []
    for appraisal, signs in SIGNS.items():
        for emotion, sign in signs.items():
            keys = dict(metric="cosine", vector="probe", emotion=emotion, appraisal=appraisal)
            rows += [dict(layer=i, value=sign * v, **keys) for i, v in enumerate(fade)]
    rows += curve(fade + 0.3, metric="alignment", vector="probe")
    rows += curve(fade - 0.3, metric="alignment_by_construction", vector="probe")
    left = dict(metric="fade", set="all", value=0.25, ci_low=0.2, ci_high=0.3)
    return rows + [dict(left, vector=vector) for vector in UNSHRUNK]


def modulation() -> list[dict[str, Any]]:
    rows = []
    for setting in (*SINGLE, *LEADERS, *SECOND):
        for dose in (1.0, 2.0):
            keys = dict(dose=dose, unit="absolute", span=3, **setting.columns())
            for vector in ("raw", "tuned", "fixall"):
                rows += curve(bump(10, 0.8, 3), metric="theory_score", vector=vector, **keys)
            rows += curve(bump(10, 0.6, 3), metric="total_variation", vector="tuned", **keys)
            null = dict(metric="theory_score_null", layer=10, **keys)
            rows += [
                dict(null, vector="random", value=float(v), draw=i) for i, v in enumerate(np.linspace(-0.4, 0.4, 25))
            ]
            if dose == 1.0:
                for vector in ("matched_sets", "shuffled_sets"):
                    draws = enumerate(np.linspace(-0.4, 0.4, 100))
                    rows += [dict(null, vector=vector, value=float(v), draw=i) for i, v in draws]
    for setting, allowed in LEADERS.items():
        for vector in ("raw", "tuned", "fixall"):
            keys = dict(metric="count", vector=vector, unit="absolute", layer=10, span=3, dose=2.0, **setting.columns())
            rows += [dict(label=e, value=100.0 if e == allowed[0] else 1.0, **keys) for e in EMOTIONS]
    for name in ("pleasantness", "other_responsblt", "predict_event"):
        for vector, height in (("raw", -0.2), ("tuned", 0.3)):
            up = Setting(**{name: 1}).columns()
            rows += curve(np.full(LAYERS, height), metric="direction_r2", vector=vector, **up)
    return rows


def promotion() -> list[dict[str, Any]]:
    rows = []
    for emotion in ("anger", "joy"):
        for name, height in (("probe", 0.9), ("random", 0.1)):
            keys = dict(metric="promotion_score", label=emotion, vector=name, unit="absolute", dose=1.0)
            rows += [dict(layer=i, value=float(v), n=100, **keys) for i, v in enumerate(height * (rising(9) - 0.1))]
    return rows


def robustness() -> list[dict[str, Any]]:
    first = dict(metric="transfer", check="first_word", position="-1", prompt="first_word")
    rows = curve(rising(14, top=1.0, steep=0.4) - 0.1, component="resid_post", span=1, **first)
    rows += curve(bump(15, 0.6), component="attn_out", span=3, **first)
    for prompt in ("T1-2shot", "T2-2shot", "T3-2shot"):
        keys = dict(check="prompts", component="attn_out", position="-1", prompt=prompt)
        rows += curve(bump(10, 0.6), metric="transfer", span=3, **keys)
        rows += curve(0.9 - bump(10, 0.5), metric="agreement", method="zero", span=1, **keys)
    same = dict(component="attn_out", span=3, position="-1")
    rows += curve(bump(9, 0.6), metric="transfer", check="matched", texts="topic", **same)
    rows += curve(np.full(LAYERS, -0.3), metric="transfer_change", check="topic", **same)
    for appraisal, signs in MISSED.items():
        gap = dict(metric="rating_difference", check="misclassified", source="beyond_label", appraisal=appraisal, n=80)
        rows += [
            dict(gap, emotion=emotion, value=0.5 * sign, ci_low=0.5 * sign - 0.1, ci_high=0.5 * sign + 0.1)
            for emotion, sign in signs.items()
        ]
    missed = {"sadness": (1.3, 1.6, 2.2, 3.2), "joy": (4.5, 4.2, 3.5, 3.1), "guilt": (1.9, 1.6, 2.8, 3.3)}
    for emotion, numbers in missed.items():
        names = [(a, s) for a in ("pleasantness", "other_responsblt") for s in ("correct", "missed")]
        keys = dict(metric="mean_rating", check="misclassified", emotion=emotion, n=80)
        rows += [
            dict(appraisal=a, set=s, value=v, ci_low=v - 0.05, ci_high=v + 0.05, **keys)
            for (a, s), v in zip(names, numbers, strict=True)
        ]
    for i in range(LAYERS):
        keys = dict(check="splits", layer=i)
        rows.append(dict(metric="accuracy_sd", value=0.02, ci_low=0.014, ci_high=0.036, **keys))
        rows.append(dict(metric="sampling_sd", value=0.02, **keys))
    return rows


def wording() -> list[dict[str, Any]]:
    ahead = dict(metric="best_difference", features="activations", value=0.2, ci_low=0.15, ci_high=0.25, n=1000)
    return [ahead | dict(target="writer"), *(ahead | dict(appraisal=name) for name in NAMED)]


MAKERS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    maker.__name__: maker
    for maker in (
        behaviour,
        probing,
        patching,
        ablation,
        attention,
        appraisals,
        geometry,
        modulation,
        promotion,
        robustness,
        wording,
    )
}
