"""Errata that are shown by doing: projections, norms, pieces of words, pushes, probes, lists (cases: `paper.errata`).

Synthetic where a property of mathematics is at stake, and on the run's own activations and tokenizer where size
matters. What random networks show is in `networks`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from emolib.engine.labels import label_tokens
from emolib.engine.sites import layer_number
from emolib.paper.errata import Finding, finding
from emolib.paper.errata.counts import NEVER
from emolib.probes.directions import SteeringVectors, project_out
from emolib.probes.linear import fit_released
from emolib.study.study import Study
from emolib.texts.appraisals import ACTING, EMOTIONS
from emolib.texts.prompts import get_prompt

# How the vocabulary shared by Llama 2 and Phi 3 ends the labels it splits; the other labels are one piece there.
LLAMA_2 = {"boredom": ("bored", "om"), "disgust": ("disg", "ust"), "guilt": ("gu", "ilt"), "sadness": ("sad", "ness")}


def from_demos() -> list[Finding]:
    """Return the findings that need neither corpus nor run."""
    return [*unused_projection(), *pieces(), *random_pushes(), *missing_labels(), *missing_comma()]


def from_study(study: Study) -> list[Finding]:
    """Return the findings on a run's own tokenizer and activations; on directions only for a corpus with ratings."""
    rated = real_projection(study) if study.corpus.rated else []
    return [*norms(study), *control_prompt(study.model.tokenizer), *convergence(study), *rated]


def unused_projection(*, width: int = 2048, shared: float = 0.45, seed: int = 0) -> list[Finding]:
    """Return D1 on random vectors of mutual cosine about `shared`: the one injected, and the one that was computed."""
    generator = torch.Generator().manual_seed(seed)
    common, own = (torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (1, len(ACTING)))
    vectors = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    target, held = vectors[0], vectors[1:]
    return _projection("random vectors", target, project_out(target, held), held)


def real_projection(study: Study) -> list[Finding]:
    """Return D1 and M7 on the appraisal directions of the run, at the layer nearest to depth 9/16, agreed events."""
    layer, rows = _acting_layer(study), study.agreed
    features = study.activations("resid_post", layer)[rows].float()[None]
    vectors = SteeringVectors(features, study.events[list(ACTING)].iloc[rows])
    raw, fixed = (vectors.combine({ACTING[0]: 1}, kind)[0] for kind in ("raw", "fix3"))
    held = vectors.ridge[0, 1:]
    lengths = vectors.ridge[0].norm(dim=-1)
    name = f"directions of this run, layer {layer_number(layer)}"
    ratio = float(lengths.max() / lengths.min())
    return [
        *_projection(name, raw, fixed, held),
        finding(
            "M7", f"longest over shortest summed vector: if weighed alike, and in fact, {name}", 1, ratio, "this run"
        ),
    ]


def _acting_layer(study: Study) -> int:
    """The 0-based layer nearest to depth 9/16, where the paper acts."""
    return max(0, round(study.model.n_layers * 9 / 16) - 1)


def _projection(name: str, injected: Tensor, projected: Tensor, held: Tensor) -> list[Finding]:
    worst = [_cosines(vector, held).abs().max().item() for vector in (injected, projected)]
    text = f"largest cosine with a fixed appraisal: vector computed, and injected ({name})"
    return [finding("D1", text, worst[1], worst[0], "executed")]


def _cosines(vector: Tensor, others: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(vector.double()[None], others.double(), dim=-1)


def llama_2_like() -> object:
    """Return a tokenizer in the manner of Llama 2: pieces that begin a word carry a mark, and four labels are split."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = [piece for first, last in LLAMA_2.values() for piece in (f"▁{first}", last)]
    whole = [f"▁{label}" for label in EMOTIONS if label not in LLAMA_2]
    scores = {"<unk>": -20.0, **dict.fromkeys(["▁Answer", ":", *whole, *split], -1.0)}
    scores |= {letter: -15.0 for letter in "▁abcdefghijklmnopqrstuvwxyzA" if letter not in scores}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def label_pieces(tokenizer: object) -> pd.DataFrame:
    """Return how a tokenizer splits each label: label, pieces, and the piece that either rule scores (first, last)."""
    found = label_tokens(tokenizer, EMOTIONS)
    names = [tokenizer.convert_ids_to_tokens(list(ids)) for ids in found.tokens]  # type: ignore[attr-defined]
    shown = [[name.lstrip("▁Ġ") for name in parts] for parts in names]
    return pd.DataFrame(
        dict(
            label=found.labels,
            pieces=[" + ".join(parts) for parts in shown],
            first=[p[0] for p in shown],
            last=[p[-1] for p in shown],
        )
    )


def pieces() -> list[Finding]:
    """Return D6: how many labels are scored on a fragment that is not the beginning of the word."""
    table = label_pieces(llama_2_like())
    fragments = (table["last"] != table["label"]).sum()
    return [finding("D6", "labels scored on their last fragment, vocabulary like Phi's", np.nan, fragments, "executed")]


def random_pushes(*, width: int = 2048, draws: int = 1000, seed: int = 0) -> list[Finding]:
    """Return M6: the length of three unit pushes in a window, drawn anew per layer (the control) and aligned."""
    drawn = np.random.default_rng(seed).standard_normal((draws, 3, width))
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    length = np.linalg.norm(drawn.sum(axis=1), axis=-1).mean()
    aligned = np.linalg.norm(np.repeat(drawn[:, :1], 3, axis=1).sum(axis=1), axis=-1).mean()
    text = "accumulated length of three unit pushes: random control, and aligned"
    return [
        finding("M6", text, length, aligned, "executed"),
        finding(
            "P10", "total push at strength 1: in one layer, as described, and at most in three", 1, aligned, "executed"
        ),
    ]


def norms(study: Study) -> list[Finding]:
    """Return M8: the length of the last token's residual stream after the first layer, and after the last but one."""
    ends = [
        study.activations("resid_post", layer).float().norm(dim=-1).mean().item()
        for layer in (0, max(1, study.model.n_layers - 2))
    ]
    text = "mean length of the residual stream: after the first layer, after the last but one"
    return [finding("M8", text, *ends, "this run")]


def control_prompt(tokenizer: Any) -> list[Finding]:
    """Return P22: how many tokens the printed control prompt, and the one that was run, have alone."""
    printed, run = (
        Counter(tokenizer(get_prompt(name).prefix)["input_ids"]) for name in ("first_word_printed", "first_word")
    )
    text = "tokens of the control prompt only as printed, and only as run (this run's tokenizer)"
    return [finding("P22", text, (printed - run).total(), (run - printed).total(), "executed")]


def convergence(study: Study) -> list[Finding]:
    """Return M9 at the layer nearest to depth 9/16, agreed events; none where they have a single label."""
    layer, rows = _acting_layer(study), study.agreed
    if len(set(study.truth[rows])) < 2:
        return []
    steps = probe_iterations(study.activations("resid_post", layer)[rows], study.truth[rows])
    where = f"layer {layer_number(layer)}"
    text = f"iterations of the released probe, stopped at 100, {where}: raw features, and standardised"
    return [finding("M9", text, *steps, "this run")]


def probe_iterations(features: Tensor, labels: np.ndarray) -> tuple[int, int]:
    """Return the iterations, at most 100, of the paper's probe on `features` [n, d] as they are, and standardised."""
    x = features.double()
    spread = x.std(0, correction=0)
    standardised = (x - x.mean(0)) / spread.where(spread > 0, 1)
    raw, ours = (fit_released(x, labels, n_classes=len(EMOTIONS)).iterations.item() for x in (features, standardised))
    return int(raw), int(ours)


def missing_labels(*, missing: Sequence[str] = NEVER, width: int = 8, seed: int = 0) -> list[Finding]:
    """Return D5 on random features: rows of a classifier whose training lacks labels, and assignments that fail."""
    (_, works), (rows, fails) = (
        assign_rows([label for label in EMOTIONS if label not in absent], width=width, seed=seed)
        for absent in ((), missing)
    )
    trained = f"{len(EMOTIONS)} labels in training, and {len(EMOTIONS) - len(missing)}"
    return [
        finding(
            "D5",
            "rows of weights: expected, and of a classifier trained without Phi's four",
            len(EMOTIONS),
            rows,
            "executed",
        ),
        finding("D5", f"failing assignments of thirteen rows: {trained}", works, fails, "executed"),
    ]


def assign_rows(labels: Sequence[str], *, width: int, seed: int) -> tuple[int, int]:
    """Return the rows of a classifier trained on these labels, and 1 if a table of all labels cannot take them."""
    targets = np.repeat(labels, 4)
    features = np.random.default_rng(seed).standard_normal((len(targets), width))
    weights, table = LogisticRegression().fit(features, targets).coef_, np.empty((len(EMOTIONS), width))
    try:
        table[:] = weights
    except ValueError:
        return len(weights), 1
    return len(weights), 0


def missing_comma() -> list[Finding]:
    """Return D9: how many names Python reads in a list of two, with and without the comma."""
    both, joined = (len(ast.literal_eval(f"['first'{comma} 'second']")) for comma in (",", ""))
    return [finding("D9", "names in a list of two: with the comma, and without", both, joined, "executed")]
