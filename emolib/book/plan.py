"""What a run would take, before it is computed: passes, time, memory, disk, and what is there already.

Every experiment was measured once, on the embedded model (`costs.yml`, by tools/costs.py). Its work is scaled to texts,
layers and width of the run, its time by a calibration of some seconds on this machine: random models of a few layers
are timed, shaped as the one asked for and as the embedded one. No weights are needed, only a configuration.
"""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from transformers import LlamaConfig

from emolib.book import run as book
from emolib.book.disk import size
from emolib.engine import registry, weights
from emolib.engine.edits import Edit, Zero
from emolib.engine.engine import ROOM, Engine, limits, text_bytes
from emolib.engine.layouts import find_layout
from emolib.engine.loading import describe
from emolib.engine.model import resolve_device, wrap_model
from emolib.engine.tiny import byte_tokenizer
from emolib.stats.sampling import ENOUGH
from emolib.study.clean import KEEP, cache_bytes
from emolib.study.run import Run
from emolib.study.study import texts_used
from emolib.tables import results
from emolib.tables.provenance import cost, duration
from emolib.texts.corpus import EMOTIONS

# What an experiment's work grows with, beside layers; the others take a fixed number of texts.
GROWS = {**dict.fromkeys(("behaviour", "probing", "wording", "appraisals", "geometry"), "texts"), "ablation": "agreed"}
# With what power of the number of layers an experiment's edits grow; with one more what they run through.
EDITS = {"behaviour": 0.0, "modulation": 0.5}
# With what power of the width fits grow, by sites of 6,600 texts of width 576 and 1536; what is made of answers, less.
FITS = {"probing": 1.55, "appraisals": 2.2, "wording": 2.2, "geometry": 1.3}
ANSWERS = 0.6
# How many times longer fits take where there is nothing to learn: of a twin of Qwen 2.5 Coder 1.5B.
UNTRAINED = {"probing": 3.0, "appraisals": 2.7, "geometry": 1.3}
LOADING = 3.5  # seconds of an experiment that go into loading the model and its checks
DEPTHS = (1, 3)  # layers of the models that are timed: what differs is what layers take
KINDS = ("reading", "replaying", "full")  # passes, tokens times layers, and seconds of each
COLUMNS = 16  # edits of one replay
LEAST = 4  # fewer would read the weights more often than they are used
PATIENCE = 0.8  # seconds that one timed pass may take


class Shape(NamedTuple):
    """What is known of a model without its weights, which have `bytes`, and how; a tokenizer where one is here."""

    config: Any
    layers: int
    width: int
    components: int
    parameters: int
    bytes: int
    tokenizer: Any
    source: str


class Texts(NamedTuple):
    """How many texts, how many tokens of a prompt are its own and how many all share, and whose tokenizer said so."""

    number: int
    own: int
    shared: int
    tokenizer: str


class Rates(NamedTuple):
    """Seconds a token and layer takes when prompts are read, and when edits are replayed; bytes that a batch takes, and
    `obstacle` as in a Model."""

    reading: float
    replaying: float
    batch: int = 0
    obstacle: str = ""


class Estimate(NamedTuple):
    """Of one experiment: texts that are read, edits of a text that are answered, seconds, and bytes at the peak."""

    reads: int
    edits: int
    seconds: float
    memory: float


def plan(run: Run, notebooks: Sequence[str], root: Path, cores: int | None = None) -> Iterator[str]:
    """Lines that say what the notebooks of a run would take.

    Raises RuntimeError for a model of which not even the configuration can be had.
    """
    at_once = book.side_by_side(run)
    threads = max(1, (cores or os.cpu_count() or 1) // at_once)
    shape = shape_of(run)
    texts, (agreed, said) = texts_of(run), agreed_share(run, root)
    start = time.perf_counter()
    rates, usual = calibrate(shape, run, texts, threads), calibrate(shape_of(Run()), Run(device="cpu"), texts, threads)
    way = f"full passes of {texts.own + texts.shared} tokens, because {rates.obstacle}"
    way = way if rates.obstacle else "replay of the last tokens"
    billions, whole = shape.parameters / 1e9, f"{shape.bytes / 1e9:.2f} GB in {run.dtype}"
    yield f"model        {run.model}, {billions:.2f} billion parameters, {whole}; {shape.source}"
    yield f"             {shape.layers} layers of width {shape.width}; edits by {way}"
    yield (
        f"texts        {texts.number:,} of {run.corpus}: {texts.own} tokens each behind {texts.shared} that all share "
        f"({texts.tokenizer}); {agreed:.0%} answered right, {said}"
    )
    took = f"{time.perf_counter() - start:.0f} s on {threads} thread{'s' * (threads > 1)}"
    reading, replaying = (f"{1e6 * rate:.0f}" for rate in (rates.reading, rates.replaying))
    yield f"calibration  {took}: a token takes {reading} microseconds a layer to be read, {replaying} under an edit"
    yield f"{'':12} {'texts read':>10}  {'edits':>12}  {'time':>8}  {'memory':>8}"
    seconds, drawing, peaks = [], 0.0, [0.0]
    for notebook in notebooks:
        table, name = book.result_of(notebook, run.slug, root), book.experiment_of(notebook)
        drawing += 0 if (root / "runs" / run.slug / f"{notebook}.ipynb").is_file() else measured(run)["drawing"]
        if not book.measures(notebook, root):
            continue
        one = estimate(name, run, shape, texts, agreed=agreed, rates=rates, usual=usual)
        line = f"{name:12} {one.reads:10,}  {one.edits:12,}  {duration(one.seconds):>8}  {size(one.memory):>8}"
        if book.why_not_fresh(run, notebook, root) is None:
            # Told beside measured: who doubts the one sees the other.
            found = results.read(table).attrs["provenance"]
            yield f"{line}  there already: took {cost(found)} on {found['processor']}"
            continue
        seconds.append(one.seconds)
        peaks.append(one.memory)
        yield line
    total = sum(seconds) if at_once == 1 else seconds[:1] and seconds[0] + sum(seconds[1:]) / at_once or 0.0
    together, free = sum(sorted(peaks)[-at_once:]), registry.free_memory()
    yield f"time         about {duration(total + drawing / at_once)}, pages drawn" + ", two at a time" * (at_once == 2)
    yield _fits("memory", together, free, "choose a dtype of two bytes, a smaller model, or a machine that has it")
    for what, folder, wanted in space(run, shape, texts, root) if seconds else ():
        there = next(place for place in (folder, *folder.parents) if place.is_dir())
        yield _fits(f"disk, {what}", wanted, shutil.disk_usage(there).free, f"make room in {folder}")


def estimate(name: str, run: Run, shape: Shape, texts: Texts, *, agreed: float, rates: Rates, usual: Rates) -> Estimate:
    """What an experiment would take: what it took once, scaled by texts, layers and width and by the calibrations.

    `rates` are those of the model asked for, `usual` those of the embedded one, on this machine; `agreed` is the share
    of texts answered right.
    """
    base = measured(run)
    row = base["experiments"][name]
    grown = {"texts": texts.number / base["texts"], "agreed": min(ENOUGH, texts.number * agreed) / base["agreed"]}
    more, deep = grown.get(GROWS.get(name, ""), 1.0), shape.layers / base["layers"]
    wide = (shape.width / base["width"]) ** FITS.get(name, ANSWERS)
    wide *= UNTRAINED.get(name, 1.0) if registry.parse(run.model).seed is not None else 1.0
    (reads, _, read), (replays, _, replayed), (passes, _, passed) = (row[kind] for kind in KINDS)
    # Where every layer has its edits, more layers mean more of them, and each runs through more layers.
    edited_layers, slower = deep ** EDITS.get(name, 1.0), rates.reading / base["rates"]["reading"] * more * deep
    edits = (replays + passes) * more * edited_layers
    read *= slower * texts.own / base["own"]
    if rates.obstacle:  # the whole prompt, and again for every edit
        whole = texts.own + texts.shared
        edited, read = edits * whole * shape.layers * rates.reading, read * whole / texts.own
    else:
        edited = replayed * more * deep * rates.replaying / base["rates"]["replaying"] + passed * slower
        edited *= edited_layers
    # Loading, and what is made of answers alone, take no longer for more layers.
    loaded = min(LOADING, row["other"])
    other = (row["other"] - loaded) * more * (deep * wide if EDITS.get(name, 1.0) else 1.0)
    other = (loaded + other) * usual.reading / base["rates"]["reading"]
    arrays = (
        row["arrays"] * 4 * (texts.number * shape.layers * shape.width - base["texts"] * base["layers"] * base["width"])
    )
    memory = row["memory"] + (shape.bytes - base["bytes"]) + arrays + (rates.batch - usual.batch)
    return Estimate(round(reads * more), round(edits), read + edited + other, memory)


@cache
def measured(run: Run) -> dict[str, Any]:
    """What the experiments took when they were measured in the profile of a run, and on what."""
    return yaml.safe_load(files("emolib.book").joinpath("costs.yml").read_text(encoding="utf-8"))[run.profile]


@cache
def shape_of(run: Run) -> Shape:
    """The Shape of a run's model, without weights.

    Raises RuntimeError where neither what is here nor the registry tells it.
    """
    entry = registry.registry().get(registry.parse(run.model).base)
    try:
        config, empty, tokenizer, _ = describe(run.model, dtype=run.dtype)
        source = "by its configuration"
    except (ValueError, RuntimeError):  # a registered model that is not installed, or a hub that is not to be reached
        if entry is None:
            raise
        config, tokenizer, source = _like(entry), None, "not here: a Llama of that size instead"
        empty = weights.skeleton(config, run.dtype)
    paths = find_layout(empty).paths
    width, layers = config.get_text_config(decoder=True).hidden_size, len(paths["resid_post"])
    counted = sum(weight.numel() for weight in empty.parameters())
    return Shape(config, layers, width, len(paths), counted, weights.size(empty), tokenizer, source)


def _like(entry: Any) -> LlamaConfig:
    """A Llama with the layers, width and parameters of a registered model."""
    width, layers, vocabulary = entry["width"], entry["layers"], 49152
    each = (entry["parameters"] - vocabulary * width) / layers
    return LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        intermediate_size=max(width, round((each / width - 2.5 * width) / 3)),
        num_attention_heads=width // 64,
        num_key_value_heads=max(n for n in range(1, width // 64 + 1) if width // 64 % n == 0 and n <= 8),
        tie_word_embeddings=True,
    )


def texts_of(run: Run) -> Texts:
    """The Texts of a run, by the tokenizer of its model where that is here, else by that of the embedded one."""
    tokenizer, whose = shape_of(run).tokenizer, "its own tokenizer"
    if tokenizer is None:
        tokenizer, whose = shape_of(Run()).tokenizer, "the embedded model's tokenizer"
    prompt, events = run.load_prompt(), run.load_corpus().events
    prompt = prompt.in_template(tokenizer) if prompt.chat and not prompt.turn else prompt
    some = events["text"].iloc[:: max(1, len(events) // 100)]
    ids = tokenizer([prompt.render(text) for text in some])["input_ids"]
    shared = len(os.path.commonprefix([min(ids), max(ids)]))
    n = len(texts_used(run, len(events)))
    return Texts(n, max(KEEP, round(sum(map(len, ids)) / len(ids)) - shared), shared, whose)


def agreed_share(run: Run, root: Path) -> tuple[float, str]:
    """The share of texts that the model answers right, and how that is known."""
    table = book.result_of("03_behaviour", run.slug, root)
    if book.why_not_fresh(run, "03_behaviour", root) is None:
        behaviour = results.read(table)
        found = behaviour[(behaviour["metric"] == "agreed_count") & (behaviour["calibration"] == run.calibration)].iloc[
            0
        ]
        return float(found["value"] / found["n"]), "as measured"
    base, _, seed = registry.parse(run.model)
    if seed is not None:
        return 1 / len(EMOTIONS), "by chance"
    known = {name: row["agreement"] for name, row in registry.registry().items() if "agreement" in row}
    size = registry.registry().get(base, {}).get("parameters") or shape_of(run).parameters
    near = min(known, key=lambda name: abs(registry.registry()[name]["parameters"] - size))
    return known[near], "assumed" if near != base else "as on crowd-envent"


def calibrate(shape: Shape, run: Run, texts: Texts, threads: int) -> Rates:
    """The Rates of a model shaped as the one asked for, in the dtype and on the device of a run."""
    place = resolve_device("cpu" if run.remote or run.device == "balanced" else run.device)
    most, size = limits(place)
    # One byte a token behind a start token; the first byte of its own tells a text from the next.
    prompts = ["s" * (texts.shared - 1) + "ab"[row % 2] + "t" * (texts.own - 1) for row in range(most)]
    engines, each = [], []
    for depth in DEPTHS:
        hf = weights.untrained(few(shape.config, depth), 0, run.dtype).to(place)
        model = wrap_model(hf, byte_tokenizer(), name=f"{depth} layers")
        engines.append(Engine(model, prompts, torch.arange(len(EMOTIONS)), keep=KEEP))
        each.append(text_bytes(model, len(prompts[0]) + ROOM, run=max(texts.own, ROOM), keep=KEEP))
    obstacle = engines[0].model.obstacle
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # As many at a time as in the run, unless that takes too long.
        full = each[0] + (each[1] - each[0]) // (DEPTHS[1] - DEPTHS[0]) * (shape.layers - DEPTHS[0])
        batch = max(1, min(most, size // full))
        batch = max(min(batch, LEAST), int(batch * min(1.0, PATIENCE / sum(timed(engines[1], batch)))))
        # Turn about: what else the machine does then takes time from both.
        fastest = np.min([[timed(engine, batch) for engine in engines] for _ in range(3)], axis=0)
    finally:
        torch.set_num_threads(before)
    reading, replaying = (of_a_layer(*seconds) for seconds in fastest.T)
    tokens = batch * (texts.own + (texts.shared if obstacle else 0))
    return Rates(reading / tokens, replaying / (batch * COLUMNS), min(size, most * full), obstacle)


def of_a_layer(shallow: float, deep: float) -> float:
    """Seconds of a layer from those of models of the two `DEPTHS`.

    Where a busy machine makes the deeper one the quicker, no more than a share of its time can be told, which is never
    nothing.
    """
    return (deep - shallow) / (DEPTHS[1] - DEPTHS[0]) if deep > shallow else deep / DEPTHS[1]


def timed(engine: Engine, batch: int) -> tuple[float, float]:
    """Seconds that the first `batch` texts take to be read, and edits of their first layer to be answered."""
    edit = Edit(component=engine.model.components[0], layers=(0,), operation=Zero())
    start = time.perf_counter()
    encoding = engine.encode(list(range(batch)))
    encoding.logits.cpu()
    middle = time.perf_counter()
    if not engine.model.obstacle:
        engine.replay(encoding, [edit] * COLUMNS).cpu()
    return middle - start, time.perf_counter() - middle


def few(config: Any, depth: int) -> Any:
    """The configuration with `depth` layers, and a vocabulary of bytes."""
    found = copy.deepcopy(config)
    text = found.get_text_config(decoder=True)
    for name, value in list(vars(text).items()):  # one entry a layer, such as their kinds
        if isinstance(value, (list, tuple)) and len(value) == text.num_hidden_layers:
            setattr(text, name, value[:depth])
    text.num_hidden_layers, text.vocab_size = depth, len(byte_tokenizer())
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(text, name, 0)
    return found


def space(run: Run, shape: Shape, texts: Texts, root: Path) -> Iterator[tuple[str, Path, float]]:
    """What is written to disk, where, and its bytes: the cache of activations and of answers, weights, if unpacked."""
    item = 4 if run.dtype in ("float32", "mixed") else 2
    yield "cache", root, cache_bytes(texts.number, shape.layers, shape.components, shape.width, item)
    base, _, seed = registry.parse(run.model)
    entry = registry.registry().get(base, {"file": base})
    if seed is not None or not entry.get("file", "").endswith(".gguf"):
        return
    place = registry.registered_file(base) if "sha256" in entry else Path(base)
    if place is None or not weights.described(place).with_name(run.dtype).is_dir():
        yield "weights", registry.cache_folder(), shape.bytes


def _fits(what: str, wanted: float, free: int, advice: str) -> str:
    line = f"{what:12} {size(wanted)}, {size(free)} are free"
    return line if wanted <= free else f"{line}: {advice}"
