"""What the answer needs (paper appendix B, C.1; E4, E5; Figs 12, 14, 15): components removed at the last token.

Zero and random ablation as in the paper; mean and resample ablation beside them, which stay closer to what the model
is used to. Accuracy is agreement with the clean answer, on the texts where that is right (paper B). An edit may also
shift the scores of all texts alike, which offsets fitted without it turn into lost answers: re-centred agreement leaves
that shift out, and the area under the ROC curve needs no offsets at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import entropy
from torch import Tensor

from emolib import stats
from emolib.engine.edits import Mean, Noise, Operation, Patch, Zero
from emolib.engine.sweeps import joined, sweep
from emolib.interventions.interchange import fitting
from emolib.stats.sampling import enough
from emolib.study.study import Study
from emolib.texts.corpus import EMOTIONS

SPANS = (1, 3)


def run(study: Study) -> pd.DataFrame:
    """Agreement with the clean answer under every ablation, and what a constant answer would score.

    agreement (0-1, over writers) and label_entropy (bits) by method, component, centre layer and span;
    recentred_agreement, the same when each label's mean score over these texts stays what it is without the edit;
    auroc, how well a label's score (less the mean of the text's scores) tells the texts whose clean answer it is from
    the others, the mean over labels (0-1, chance 0.5), also without any edit (no method), unless all have one answer;
    constant_agreement, the share of the most frequent clean answer (`label`), is the floor. Random directions are drawn
    for each text and site, so the interval over texts holds their variation too. Where many texts are answered right, a
    sample of them is `enough`; `quick` runs take every second window of three and, alone, its last layer. Raises
    ValueError when no text is answered right.
    """
    rows = enough(study.agreed, seed=study.run.seed)
    if len(rows) < 2:
        raise ValueError(study.too_few("ablation needs two"))
    quick = study.run.profile == "quick"
    edits = joined(
        sweep(operation, study.model, span=span, layers=layers).assign(method=method)
        for method, operation in _operations(study, rows).items()
        for span in SPANS
        if (layers := [layer for layer in fitting(study, span) if not quick or layer % 2 == (span == 1)])
    )
    logits = study.intervene(edits, rows, name="ablation")
    answers, recentred = study.decide(logits), study.decide(logits - shift(logits, study.clean.logits[rows]))
    clean, groups, n = study.predicted[rows], study.groups[rows], len(rows)
    most = np.bincount(clean).argmax()
    agreement = stats.cluster_wilson(answers == clean[:, None], groups)
    without_shift = stats.cluster_wilson(recentred == clean[:, None], groups)
    floor = stats.cluster_wilson(clean == most, groups)
    bits = stats.point([entropy(np.bincount(column), base=2) for column in answers.T])
    return pd.DataFrame(
        [
            *agreement.rows(edits.frame, metric="agreement", n=n),
            *without_shift.rows(edits.frame, metric="recentred_agreement", n=n),
            *_told_apart(study, edits.frame, logits, rows),
            *bits.rows(edits.frame, metric="label_entropy", n=n),
            *floor.rows(dict(metric="constant_agreement", label=EMOTIONS[most]), n=n),
        ]
    )


def _told_apart(study: Study, sites: pd.DataFrame, logits: Tensor, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rows of how well scores tell the texts of a clean answer from the others, last without any edit; none where all
    texts have one answer."""
    clean = study.predicted[rows]
    if len(np.unique(clean)) > 1:
        scores = torch.cat([logits, study.clean.logits[rows, None]], dim=1)
        areas = stats.macro_auroc((scores - scores.mean(dim=-1, keepdim=True)).numpy(), clean, study.groups[rows])
        yield from areas[:-1].rows(sites, metric="auroc", n=len(rows))
        yield from areas[-1:].rows([{}], metric="auroc", n=len(rows))


def shift(edited: Tensor, clean: Tensor) -> Tensor:
    """What each edit adds to each label in the mean of the texts [E, C]; of scores [N, E, C], clean [N, C]."""
    return edited.mean(dim=0) - clean.mean(dim=0)


def _operations(study: Study, rows: np.ndarray) -> dict[str, Operation]:
    activations = {component: study.stacked(component) for component in study.model.components}
    return {
        "zero": Zero(),
        "random": Noise(study.run.seed),
        "mean": Mean(
            {
                component: torch.stack([layer.float().mean(0) for layer in values])
                for component, values in activations.items()
            }
        ),
        "resample": Patch(activations, donors(rows, len(study.truth), seed=study.run.seed)),
    }


def donors(rows: np.ndarray, n_texts: int, *, seed: int) -> torch.Tensor:
    """For each text of `rows` another one of them, drawn at random, as an index [n_texts]; itself for other texts."""
    order = np.random.default_rng(seed).permutation(rows)
    chosen = np.arange(n_texts)
    chosen[order] = np.roll(order, 1)  # one random cycle: every text gives once, none to itself
    return torch.from_numpy(chosen)
