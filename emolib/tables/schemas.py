"""The columns of each experiment's table, as data, and the pandera schemas made of them.

One row is one measurement. All tables share the columns of `COMMON`; `OWN` adds those of an experiment. A text that
does not apply is "", a number that does not apply is missing. `layer` is 0-based and, of a window of `span` layers, its
centre; `last_layer` is the last one of the window, `depth` the 1-based layer over `n_layers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pandas as pd
import pandera.pandas as pa

from emolib.engine.sites import COMPONENTS
from emolib.texts.appraisals import PUSHED

TEXT, COUNT, SIGN, NUMBER = "text", "count", "sign", "number"  # any words; whole numbers from 0; -1, 0, 1; any finite
Kind = str | tuple[str, ...]  # one of the four, or the words that may stand in the column beside ""

POSITIONS = ("-1", "-2", "-3", "-4", "-5", "all")
CALIBRATIONS = ("none", "batch")
CORPORA = ("run", "keyword-free", "situations")
UNITS = ("absolute", "norm")  # of a dose: as it is, or as a share of the layer's mean residual norm
RESULT = ("value", "ci_low", "ci_high", "n")
DERIVED = ("last_layer", "n_layers", "depth")  # of layer, span and the model

_LINEAR = ("as_released", "ours")
_STEERED: Mapping[str, Kind] = {"vector": TEXT, "unit": UNITS, "dose": NUMBER, "label": TEXT}
OWN: Mapping[str, Mapping[str, Kind]] = {
    # confusion_count: `label` is the writer's and `answer` the model's; word_count: `label` is the word
    "behaviour": {
        "scoring": ("first_subtoken", "last_subtoken", "log_probability", "mean_log_probability"),
        "calibration": (*CALIBRATIONS, "zscore", "equal_shares"),
        "reader": ("single", "majority_of_5"),
        "label": TEXT,
        "answer": TEXT,
    },
    "probing": {"setting": _LINEAR, "probe": ("linear", "mlp"), "target": ("writer", "model", "shuffled")},
    "ablation": {"method": ("zero", "random", "mean", "resample"), "label": TEXT},
    "patching": {
        "source": ("other_label", "same_label"),
        "direction": ("denoising", "noising", "both"),
        "source_label": TEXT,
        "base_label": TEXT,
    },
    # `part` and `token` name a place of the prompt, `segment` one of its six kinds of places
    "attention": {
        "demonstrations": ("given", "shuffled", "relabelled", "removed"),
        "segment": TEXT,
        "measure": TEXT,
        "set": ("agreed", "sample"),
        "band": ("early", "middle"),
        "part": TEXT,
        "token": TEXT,
        "words": TEXT,
    },
    "appraisals": {
        "setting": _LINEAR,
        "target": ("writer", "shuffled"),
        "baseline": ("label",),
        "set": ("all", "agreed", "read"),
        "reader": ("single", "mean_of_5"),
        "source": ("ratings", "six_ratings", "probed_ratings", "activations"),
        "appraisal": TEXT,
        "emotion": TEXT,
    },
    "geometry": {
        "vector": ("probe", "mean_difference", "whitened", "lda"),
        "set": ("all", "agreed"),
        "emotion": TEXT,
        "appraisal": TEXT,
        "pc": COUNT,
    },
    # a column for each appraisal that is pushed, +1 or -1, 0 where a setting leaves it alone; `settings` "printed":
    # the mean over those that the paper prints; flow: `label` before, `answer` after; read_shift: `label` is the
    # appraisal that is read
    "modulation": {
        **_STEERED,
        "answer": TEXT,
        **dict.fromkeys(PUSHED, SIGN),
        "settings": ("printed",),
        "draw": COUNT,
        "reason": ("selected", "paper_depth"),
    },
    "promotion": _STEERED,
    # `check` is the question; matched: emotion on the `texts` of that control task
    "robustness": {
        "check": (
            "prompts",
            "text",
            "topic",
            "first_word",
            "matched",
            "demonstrations",
            "positions",
            "splits",
            "misclassified",
        ),
        "texts": ("topic", "first_word"),
        "text": ("masked", "original", "original_minus_masked"),
        "calibration": CALIBRATIONS,
        "method": ("zero", "random"),
        "source": ("answer", "probe", "writer", "label", "beyond_label"),
        "target": ("writer",),
        "set": TEXT,
        "against": ("class",),
        "baseline": ("mask_count", "shuffled"),
        "emotion": TEXT,
        "appraisal": TEXT,
        "label": TEXT,
    },
    # what a probe is given; carried: it is trained on one corpus, "run" the run's own, and tested on another
    "wording": {
        "features": ("length", "bag_of_words", "tfidf", "token_embeddings", "activations", "residual", "both"),
        "target": ("writer", "model", "shuffled"),
        "appraisal": TEXT,
        "trained_on": CORPORA,
        "tested_on": CORPORA,
    },
}
EXPERIMENTS = tuple(sorted(OWN))
COMMON: Mapping[str, Kind] = {
    "experiment": EXPERIMENTS,
    "model": TEXT,
    "prompt": TEXT,
    "seed": COUNT,
    "metric": TEXT,
    "component": COMPONENTS,
    "layer": COUNT,
    "last_layer": COUNT,
    "n_layers": COUNT,
    "depth": NUMBER,
    "span": COUNT,
    "position": POSITIONS,
    "value": NUMBER,
    "ci_low": NUMBER,
    "ci_high": NUMBER,
    "n": COUNT,
}
# An interval may miss its value by rounding alone, never by more than this share of the value (or of 1).
SLACK = 1e-6


def columns(experiment: str) -> dict[str, Kind]:
    """The columns of an experiment's table in order, with their kinds. Raises ValueError for an unknown experiment."""
    if experiment not in OWN:
        raise ValueError(f"{experiment!r} is not an experiment: they are {', '.join(OWN)}")
    common = dict(COMMON)
    result = {name: common.pop(name) for name in RESULT}
    return {**common, **OWN[experiment], **result}


def keys(experiment: str) -> list[str]:
    """The columns that tell one measurement of an experiment from another."""
    return [name for name in columns(experiment) if name not in (*RESULT, *DERIVED)]


def dtype(kind: Kind) -> str:
    """The pandas type of a column of a kind."""
    return {COUNT: "Int64", SIGN: "Int64", NUMBER: "float64"}.get(kind, "str") if isinstance(kind, str) else "str"


@cache
def schema(experiment: str) -> pa.DataFrameSchema:
    """The pandera schema of an experiment's table: columns, types, words, no two rows of one key, whole intervals."""
    required = ("experiment", "model", "metric", "value")
    return pa.DataFrameSchema(
        {name: _column(kind, required=name in required) for name, kind in columns(experiment).items()},
        checks=[
            pa.Check(lambda table: ~table.duplicated(keys(experiment), keep=False), error="two rows have the same key"),
            pa.Check(
                lambda table: table["ci_low"].isna() == table["ci_high"].isna(), error="only one end of an interval"
            ),
            pa.Check(_contained, error="an interval does not contain its value"),
        ],
        strict=True,
        name=experiment,
    )


def _column(kind: Kind, *, required: bool) -> pa.Column:
    if isinstance(kind, tuple):
        return pa.Column(str, pa.Check.isin(kind if required else (*kind, "")))
    if kind == TEXT:
        return pa.Column(str, pa.Check.ne("") if required else None)
    if kind == COUNT:
        return pa.Column("Int64", pa.Check.ge(0), nullable=True)
    if kind == SIGN:
        return pa.Column("Int64", pa.Check.isin((-1, 0, 1)), nullable=True)
    return pa.Column(float, pa.Check(lambda column: ~np.isinf(column), error="not finite"), nullable=not required)


def _contained(table: pd.DataFrame) -> pd.Series:
    slack = SLACK * table["value"].abs().clip(lower=1.0)
    outside = (table["value"] < table["ci_low"] - slack) | (table["value"] > table["ci_high"] + slack)
    return ~outside
