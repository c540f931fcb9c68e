"""What the answer needs (paper appendix B, C.1; E4, E5; Figs 12, 14, 15): components removed at the last token.

Zero and random ablation as in the paper; mean and resample ablation beside them, which stay closer to what the model
is used to. Accuracy is agreement with the clean answer, on the texts where that is right (paper B).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch

from emolib import stats
from emolib.engine.edits import Edit, Mean, Noise, Operation, Patch, Zero
from emolib.engine.sites import COMPONENTS, centres, span_layers
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

SPANS = (1, 3)


def run(study: Study) -> pd.DataFrame:
    """Agreement with the clean answer under every ablation, and what a constant answer would score.

    Metrics: agreement (0-1, writers' clusters) and label_entropy (bits) by component, centre layer and span for
    edit:zero, random, mean, resample; constant_agreement, the share of the most frequent clean answer, is the floor.
    Random directions are drawn for each text and site, so the interval over texts holds their variation too. `quick`
    runs take every second centre of the wider span.
    Raises ValueError when no text is answered right.
    """
    rows = study.agreed
    if len(rows) < 2:
        raise ValueError(
            f"the model answers {len(rows)} of {len(study.truth)} texts right and ablation needs two: try "
            "calibration=batch, another prompt or a larger model"
        )
    n_layers, step = study.model.n_layers, 1 if study.run.profile == "full" else 2
    sites = [
        (component, centre, span)
        for span in SPANS
        for component in COMPONENTS
        for centre in centres(span, n_layers)
        if span == 1 or centre % step == 0
    ]
    operations = _operations(study, rows)
    conditions = [(kind, *site) for kind in operations for site in sites]
    edits = [
        Edit(component=component, layers=span_layers(centre, span, n_layers), operation=operations[kind])
        for kind, component, centre, span in conditions
    ]
    answers = study.decide(study.intervene(edits, rows, name="ablation"))
    clean, groups = study.predicted[rows], study.groups[rows]
    return pd.DataFrame([*_rows(answers, clean, groups, conditions), _floor(clean, groups)])


def _operations(study: Study, rows: np.ndarray) -> dict[str, Operation]:
    activations = {component: study.stacked(component) for component in COMPONENTS}
    return {
        "zero": Zero(),
        "random": Noise(study.run.seed),
        "mean": Mean({component: values.float().mean(1) for component, values in activations.items()}),
        "resample": Patch(activations, donors(rows, len(study.truth), seed=study.run.seed)),
    }


def donors(rows: np.ndarray, n_texts: int, *, seed: int) -> torch.Tensor:
    """For each text of `rows` another one of them, drawn at random, as an index [n_texts]; itself for other texts."""
    order = np.random.default_rng(seed).permutation(rows)
    chosen = np.arange(n_texts)
    chosen[order] = np.roll(order, 1)  # one random cycle: every text gives once, none to itself
    return torch.from_numpy(chosen)


def _rows(
    answers: np.ndarray, clean: np.ndarray, groups: np.ndarray, conditions: list[tuple[str, str, int, int]]
) -> Iterable[dict[str, Any]]:
    agreement = stats.cluster_wilson(answers == clean[:, None], groups).columns()
    for column, (kind, component, centre, span) in enumerate(conditions):
        site = dict(condition=f"edit:{kind}", component=component, layer=centre, span=span, position="-1", n=len(clean))
        yield site | dict(metric="agreement") | {name: float(values[column]) for name, values in agreement.items()}
        share = np.bincount(answers[:, column], minlength=len(EMOTIONS)) / len(clean)
        entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
        yield site | dict(metric="label_entropy", value=float(entropy))


def _floor(clean: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    most = np.bincount(clean, minlength=len(EMOTIONS)).argmax()
    interval = stats.cluster_wilson(clean == most, groups)
    return dict(metric="constant_agreement", label=EMOTIONS[most], n=len(clean)) | {
        name: float(values[0]) for name, values in interval.columns().items()
    }
