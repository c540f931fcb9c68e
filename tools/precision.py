"""What a dtype costs and what it changes, on this machine: `python tools/precision.py MODEL [MODEL ...]`.

Prints a row a model and dtype: the share of 500 texts of crowd-enVENT whose calibrated label is not that of float32,
with its interval (writers as clusters); the share that agrees with the writers; texts encoded a second, of processor
time, so that other work on the machine counts little, the dtypes taking turns; and the gigabytes of the weights.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from emolib.engine.choices import DType
from emolib.engine.labels import calibration_offsets
from emolib.stats import cluster_wilson
from emolib.study.run import Run
from emolib.study.study import Study

DTYPES: tuple[DType, ...] = ("float32", "mixed", "bfloat16")
TEXTS, BLOCKS = 500, 5


def opened(model: str, dtype: DType) -> Study:
    """The study of 500 texts, the same for all models and dtypes."""
    run = Run(model=model, corpus="crowd-envent", dtype=dtype, device="cpu")
    rows = np.random.default_rng(0).choice(len(run.load_corpus().events), TEXTS, replace=False)
    return Study(run, rows=rows)


def encoded(study: Study, rows: list[int]) -> tuple[torch.Tensor, float]:
    """Label logits of the texts `rows`, and the processor seconds that took."""
    logits, start = torch.empty(len(rows), len(study.words)), time.process_time()
    for batch in study.engine.batches(rows):
        logits[[rows.index(row) for row in batch]] = study.engine.encode(batch).logits
    return logits, time.process_time() - start


def measure(model: str) -> None:
    """Prints the rows of one model."""
    studies = {dtype: opened(model, dtype) for dtype in DTYPES}
    for study in studies.values():
        study.engine.encode([0])  # the shared prefix, and what a first pass prepares
    blocks = [part.tolist() for part in np.array_split(np.arange(TEXTS), BLOCKS)]
    found: dict[DType, list[tuple[torch.Tensor, float]]] = {dtype: [] for dtype in DTYPES}
    for rows in blocks:
        for dtype, study in studies.items():
            found[dtype].append(encoded(study, rows))
    labels: dict[DType, np.ndarray] = {}
    for dtype, study in studies.items():
        logits = torch.cat([logits for logits, _ in found[dtype]])
        labels[dtype] = (logits - calibration_offsets(logits, "batch")).argmax(-1).numpy()
        flips = cluster_wilson(labels[dtype] != labels["float32"], study.groups)
        rate = np.median([len(rows) / seconds for rows, (_, seconds) in zip(blocks, found[dtype], strict=True)])
        size = sum(weight.nbytes for weight in study.model.hf.parameters()) / 1e9
        print(
            f"{model:20} {dtype:8}  flips {float(flips.value):6.1%} [{float(flips.ci_low):.1%}, "
            f"{float(flips.ci_high):.1%}]  "
            f"right {np.mean(labels[dtype] == study.truth):.1%}  {rate:6.2f} texts/s  {size:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:] in ([], ["--help"]):
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        measure(name)
