"""How time and memory grow: random Llama models, one quantity varied at a time, one process a point.

Processes are forked from one that has only imported the libraries, so that each has its own peak memory. The exponent
of a quantity is the slope of log time over log quantity, with its 95 % interval (t distribution over the points).
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
import string
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from scipy import stats

from emolib.engine.edits import Add, Edit
from emolib.engine.engine import Engine
from emolib.engine.sites import COMPONENTS
from emolib.engine.tiny import tiny_model
from emolib.tables.provenance import peak_memory_mb

BASE = dict(texts=128, length=48, edits=24, layers=8, width=192, budget_mb=64, max_texts=64)
# Sizes from which the machine is busy with the work rather than with its administration.
POINTS: Mapping[str, Sequence[int]] = {
    "texts": (64, 200, 640, 2000, 6600),
    "length": (24, 48, 96, 192, 384),
    "edits": (24, 72, 216, 648),
    "layers": (4, 8, 16, 32),
    "width": (96, 192, 384, 768),
    "budget_mb": (64, 128, 256, 512),
}
# For memory against its budget the budget must be what limits a batch.
FIXED: Mapping[str, Mapping[str, int]] = {
    "texts": dict(edits=6, length=24),
    "budget_mb": dict(texts=200, max_texts=10**6, edits=6, length=96, width=384),
}


def random_prompts(texts: int, length: int) -> list[str]:
    """Distinct prompts of `length` random letters behind a shared prefix; a byte is a token."""
    generator = random.Random(0)
    return ["Context: " + "".join(generator.choices(string.ascii_letters, k=length)) for _ in range(texts)]


def measure_point(settings: Mapping[str, int], runs: int) -> dict[str, Any]:
    """Median seconds of all edits of all texts, encoding included, and the memory in MiB that they took at the most.

    Memory is the process's peak minus what it had once the model was there.
    """
    width, layers = settings["width"], settings["layers"]
    shape = dict(num_attention_heads=width // 32, num_key_value_heads=width // 96, intermediate_size=4 * width)
    model = tiny_model("llama", hidden_size=width, num_hidden_layers=layers, **shape)
    sites = [(component, layer) for component in COMPONENTS for layer in range(layers)]
    add = Add(torch.randn(layers, width))
    edits = [Edit(component=c, layers=(layer,), operation=add) for c, layer in islice(cycle(sites), settings["edits"])]
    texts = random_prompts(settings["texts"], settings["length"])
    warm = Engine(model, texts[:2], torch.arange(13))  # what a process does once is not growth
    warm.replay(warm.encode([0, 1]), edits[:1])
    before, seconds = peak_memory_mb(), []
    for _ in range(runs):
        start = time.perf_counter()
        engine = Engine(
            model, texts, torch.arange(13), memory_bytes=settings["budget_mb"] * 2**20, max_texts=settings["max_texts"]
        )
        for batch in engine.batches():
            engine.replay(engine.encode(batch), edits)
        seconds.append(time.perf_counter() - start)
    return dict(seconds=statistics.median(seconds), memory_mb=peak_memory_mb() - before)


def exponent(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Slope of log y over log x with its 95 % interval."""
    fit = stats.linregress(np.log(x), np.log(y))
    half = stats.t.ppf(0.975, len(x) - 2) * fit.stderr
    return dict(value=float(fit.slope), ci_low=float(fit.slope - half), ci_high=float(fit.slope + half))


def measure(points: Mapping[str, Sequence[int]] = POINTS, *, runs: int = 1) -> dict[str, Any]:
    """Every point, and per quantity the exponents of time and memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    rows, exponents = [], {}
    for quantity, values in points.items():
        for value in values:
            settings = BASE | FIXED.get(quantity, {}) | {quantity: value}
            with context.Pool(1) as pool:
                found = pool.apply(measure_point, (settings, runs))
            rows.append(dict(quantity=quantity, value=value, settings=settings) | found)
        mine = [row for row in rows if row["quantity"] == quantity]
        exponents[quantity] = {
            # Less than a MiB is no more than the allocator's own noise.
            what: exponent([row["value"] for row in mine], [max(row[what], least) for row in mine])
            for what, least in (("seconds", 0.0), ("memory_mb", 1.0))
        }
    return dict(points=rows, exponents=exponents)
