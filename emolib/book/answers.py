"""The answers of the page book/ask.md: every event of our corpus under many edits, computed before a reader asks.

An edit acts on the last token in windows of three layers, of which every third is taken, so that together they cover
the model once: zero and resample ablation, patches from one event of each emotion, and pushes. What is pushed are
differences of means (`emolib.probes.directions`), fitted on the events of the other half: none has seen the event that
it pushes.

A file has what an edit does to the calibrated logits of the labels, less what it does to all of them alike, in whole
steps. The step is the finest with which the file stays within `MOST` bytes. Where rounding would change the answer, the
label that is answered is rounded up and all others down, so that every value is right to a step and every answer is the
engine's own. Needs the weights.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from emolib.book.render import ANSWERS
from emolib.engine import places
from emolib.engine.edits import Add, Patch, Zero
from emolib.engine.sweeps import Sweep, joined, sweep
from emolib.experiments.ablation.measure import donors
from emolib.interventions.interchange import fitting
from emolib.interventions.steering import SHARES, Vectors, in_both_units
from emolib.probes.directions import SteeringVectors, emotion_vectors
from emolib.stats.sampling import halves
from emolib.study.study import Study
from emolib.tables.provenance import collect_provenance
from emolib.texts.appraisals import EMOTIONS, PUSHED, Setting

PROTOCOL = 1  # of the numbers in a file
SPAN = 3
DOSES = tuple(dose.size for dose in SHARES[:2])
MOST = 3_000_000
STEPS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
CLEAN = 0.001  # the step of the clean logits
SERIES = ["kind", "what", "dose", "component"]  # what the edits of one file line share: they differ in their layers


def write(study: Study, root: Path) -> Path:
    """The file in `ANSWERS` with the answers of the study's model, written anew.

    Raises ValueError for a model whose answers do not fit into `MOST` bytes.
    """
    start = time.perf_counter()
    swept, logits = measure(study)
    about = collect_provenance(
        parameters=study.run.public,
        device=str(study.model.device),
        seconds=time.perf_counter() - start,
        model_revision=study.model.revision,
        corpus_sha256=study.corpus.sha256,
        protocol=PROTOCOL,
    )
    name = places.plain(about["parameters"]["model"])
    path = root / ANSWERS / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    return places.replace_text(path, packed(study, swept.frame, logits, name, about))


def measure(study: Study) -> tuple[Sweep, np.ndarray]:
    """The edits and the label logits [N, E, C] under each; the frame says their kind, what, dose and where."""
    half, parts = halves(study.groups, seed=study.run.seed), []
    sides = np.flatnonzero(half), np.flatnonzero(~half)
    for rows in sides:
        swept = edits(study, rows)
        parts.append(study.intervene(swept, rows, name="answers").numpy())
    return swept, np.concatenate(parts)[np.concatenate(sides).argsort()]


def edits(study: Study, rows: np.ndarray) -> Sweep:
    """All edits of the texts `rows`. What is pushed is fitted on the other texts."""
    model, n = study.model, len(study.truth)
    read = {name: study.stacked(name) for name in model.components}
    place: dict[str, Any] = dict(span=SPAN, layers=fitting(study, SPAN)[::SPAN])
    drawn = Patch(read, donors(np.arange(n), n, seed=study.run.seed))
    found = [
        sweep(Zero(), model, **place).assign(kind="zero", what="", dose=0.0),
        sweep(drawn, model, **place).assign(kind="resample", what="", dose=0.0),
    ]
    for label, row in surest(study).items():
        patch = Patch(read, torch.full((n,), row))
        found.append(sweep(patch, model, **place).assign(kind="patch", what=label, dose=0.0))
    for (_, what, unit), vectors in directions(study, np.setdiff1d(np.arange(n), rows)).items():
        if unit == "norm":
            for dose in (*DOSES, *(-size for size in DOSES if what in PUSHED)):
                pushed = sweep(Add(vectors, dose), model, components=["resid_post"], **place)
                found.append(pushed.assign(kind="push", what=what, dose=dose))
    return joined(found)


def surest(study: Study) -> dict[str, int]:
    """By emotion the number of that event of it which the model gives this label with the highest probability."""
    sure = (study.clean.logits - study.offsets).log_softmax(-1).numpy()
    rows = {label: np.flatnonzero(study.truth == number) for number, label in enumerate(EMOTIONS)}
    return {label: int(own[sure[own, number].argmax()]) for number, (label, own) in enumerate(rows.items()) if len(own)}


def directions(study: Study, rows: np.ndarray) -> Vectors:
    """The vectors [L, d] of the appraisals that are pushed and of the emotions, fitted on the texts `rows`."""
    features, labels = study.stacked("resid_post")[:, rows].float(), study.truth[rows]
    ratings = SteeringVectors(features, study.events.iloc[rows][[*PUSHED]])
    emotions = emotion_vectors(features, labels, n_classes=len(EMOTIONS), kind="mean_difference")
    units: dict[tuple[str, Any], Any] = {
        ("appraisal", name): ratings.combine(Setting(**{name: 1}), "mean_difference").float() for name in PUSHED
    }
    units |= {("emotion", EMOTIONS[label]): emotions[:, label] for label in np.unique(labels)}
    return in_both_units(units, features.norm(dim=-1).mean(1))


def packed(study: Study, frame: pd.DataFrame, logits: np.ndarray, name: str, about: dict[str, Any]) -> str:
    """The script that gives a page the answers under `name`: see above; `about` is their provenance.

    Its `packed` are signed bytes, compressed, [edit, label, text], each less its predecessor in the series, modulo 256;
    an edit's bytes times its entry in `steps`, added to `clean` in thousandths, are the calibrated logits.
    """
    clean = centred(study.clean.logits.numpy() - study.offsets.numpy())
    whole = np.rint(clean / CLEAN).astype(int)
    wanted = centred(logits - study.offsets.numpy()).transpose(1, 2, 0)
    series = frame.groupby(SERIES, sort=False)
    follows = series.cumcount().to_numpy() > 0
    everything = {
        "model": name,
        "about": about,
        "labels": EMOTIONS,
        "span": SPAN,
        "n_layers": study.model.n_layers,
        "series": [[*key, rows["layer"].tolist()] for key, rows in series],
        "surest": surest(study),
        "resampled": donors(np.arange(len(clean)), len(clean), seed=study.run.seed).tolist(),
        "clean": whole.ravel().tolist(),
    }
    for step in STEPS:
        numbers, steps = rounded(wanted, whole.T * CLEAN, step)
        change = numbers.astype(np.uint8)
        change[1:][follows[1:]] -= numbers.astype(np.uint8)[:-1][follows[1:]]
        content = base64.b64encode(gzip.compress(change.tobytes(), 9, mtime=0)).decode()
        text = json.dumps(everything | {"steps": steps, "packed": content}, separators=(",", ":"))
        script = f"(window.emolibAnswers ??= {{}})[{json.dumps(name)}] = {text};\n"
        if len(script) <= MOST:
            return script
    raise ValueError(f"the answers of {name} take {len(script)} bytes, and {MOST} are allowed: leave out edits")


def rounded(wanted: np.ndarray, clean: np.ndarray, step: float) -> tuple[np.ndarray, list[float]]:
    """`wanted` [E, C, N] less `clean` [C, N] in whole numbers of steps, and the step of each edit, `step` at the least.

    The highest of the C stays the highest, which may take rounding another way; nothing is off by more than a step.
    """
    change = wanted - clean
    # An edit may do more than 126 steps: then it has steps of its own.
    steps = np.array([float(f"{one:.4g}") for one in np.maximum(step, np.abs(change).max((1, 2)) / 126)])
    exact = change / steps[:, None, None]
    numbers = np.rint(exact)
    top = wanted.argmax(1)
    lost = (clean + numbers * steps[:, None, None]).argmax(1) != top
    first = np.arange(wanted.shape[1])[:, None] == top[:, None]
    kept = np.where(first, np.ceil(exact), np.floor(exact))
    return np.where(lost[:, None], kept, numbers).astype(np.int8), steps.tolist()


def centred(logits: np.ndarray) -> np.ndarray:
    """Logits [..., C] less their mean over the labels, float64."""
    wide = logits.astype(float)
    return wide - wide.mean(-1, keepdims=True)
