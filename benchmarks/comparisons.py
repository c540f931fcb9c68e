"""emolib against the plain way, figure by figure: each function returns one JSON-able record."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sides import Side, alternate, ratios, spread
from benchmarks.workload import KINDS, PLAIN_BATCH, edit_sites, plain_sample
from emolib.engine.sites import COMPONENTS


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured: rounds, and texts, plain passes or sites in each."""

    runs: int = 3
    edit_texts: int = 256
    edit_passes: int = 16
    many_texts: int = 48
    many_passes: int = 12
    read_texts: int = 512
    read_batches: int = 6
    probe_texts: int = 520
    probe_sites: int = 3
    probe_prompts: tuple[str, ...] = ("T1-2shot", "T2-2shot")
    probe_tokens: int = 5  # times prompts times texts: about as many rows as crowd-enVENT has texts
    probe_many_sites: int = 2
    overhead_texts: int = 32


def editing(ours: Side, plain: Side, *, runs: int, n_texts: int, n_kinds: int, passes: int) -> dict[str, Any]:
    """Seconds per (text, edit) of both sides, their ratio, and the largest difference of logits.

    The plain side runs `passes` of its passes a round, another sample in each; ours runs everything. Only texts and
    kinds without chance (zero, mean, resample) are compared: the two sides draw different random directions.
    """
    n_layers = ours("layers")
    sites = edit_sites(KINDS[:n_kinds], n_layers)
    samples = [plain_sample(n_texts, len(sites), passes=passes, seed=run) for run in range(runs)]
    seen: dict[int, np.ndarray] = {}
    parts: list[dict[str, float]] = []
    if n_kinds > 1:
        plain("prepare", n_texts=n_texts)
    plain("edit", n_texts=n_texts, n_kinds=n_kinds, sample=samples[0][:1])  # the first pass of a process is slower
    ours("edit", n_texts=n_texts, n_kinds=1, at_most=1)

    def plain_run(run: int) -> float:
        seen[run] = np.asarray(plain("edit", n_texts=n_texts, n_kinds=n_kinds, sample=samples[run]))
        return plain.seconds / passes / PLAIN_BATCH

    def our_run(_run: int) -> float:
        parts.append(ours("edit", n_texts=n_texts, n_kinds=n_kinds))
        return parts[-1]["total"] / n_texts / len(sites)

    seconds = alternate(runs, {"plain": plain_run, "ours": our_run})
    fixed = [[index for index, (_, edit) in enumerate(sample) if sites[edit][0] != "random"] for sample in samples]
    mine = [np.asarray(ours("answers", sample=sample)) for sample in samples]
    difference = max(float(np.abs(mine[run][fixed[run]] - seen[run][fixed[run]]).max()) for run in range(runs))
    return dict(
        texts=n_texts,
        edits=len(sites),
        kinds=KINDS[:n_kinds],
        plain_passes=passes * runs,
        ratio=ratios(seconds["plain"], seconds["ours"]),
        plain=spread(seconds["plain"]),
        ours=spread(seconds["ours"]),
        parts=parts,
        largest_difference=difference,
        tokens=plain("tokens", n_texts=n_texts),
    )


def other_precision(ours: Side, other: Side, float32: dict[str, Any]) -> dict[str, Any]:
    """The same edits in another precision: its ratio to the plain float32 way and the share of equal labels.

    `ours` must just have run these edits; its labels are the standard, each side calibrated on its own clean pass.
    """
    n_texts, n_edits = float32["texts"], float32["edits"]
    other("edit", n_texts=n_texts, n_kinds=len(float32["kinds"]), at_most=1)
    seconds = []
    for _ in float32["ours"]["runs"][1:]:
        parts = other("edit", n_texts=n_texts, n_kinds=len(float32["kinds"]))
        seconds.append(parts["total"] / n_texts / n_edits)
    equal = {
        rule: float((np.asarray(ours("labels_of", calibration=rule)) == other("labels_of", calibration=rule)).mean())
        for rule in ("none", "batch")
    }
    plain, mine = float32["plain"]["median"], float32["ours"]["median"]
    return dict(
        texts=n_texts,
        edits=n_edits,
        ours=spread(seconds),
        ratio=spread([plain / s for s in seconds]),
        over_float32=spread([mine / s for s in seconds]),
        equal_labels=equal,
    )


def reading(ours: Side, plain: Side, *, runs: int, n_texts: int, batches: int) -> dict[str, Any]:
    """Seconds per text to read all sites of the last token: ours, hooks, and `output_hidden_states` (residual only)."""
    every = n_texts // PLAIN_BATCH // batches
    samples = [list(range(run % every, batches * every, every)) for run in range(runs)]

    def sampled(task: str) -> Any:
        def run_it(run: int) -> float:
            plain(task, n_texts=n_texts, sample=samples[run])
            return plain.seconds / batches / PLAIN_BATCH

        return run_it

    def whole(_run: int) -> float:
        ours("read", n_texts=n_texts)
        return ours.seconds / n_texts

    seconds = alternate(runs, {"plain": sampled("read"), "hidden_states": sampled("hidden_states"), "ours": whole})
    return dict(
        texts=n_texts,
        plain_batches=batches * runs,
        ratio=ratios(seconds["plain"], seconds["ours"]),
        ratio_hidden_states=ratios(seconds["hidden_states"], seconds["ours"]),
        **{name: spread(values) for name, values in seconds.items()},
    )


def probing(ours: Side, *, runs: int, n_texts: int, n_sites: int, names: Sequence[str], keep: int) -> dict[str, Any]:
    """Seconds per site of both sides for all targets, on the same sites, spread over components and layers.

    Rows are the last `keep` tokens of the texts under each prompt of `names`: more rows of real activations than there
    are texts, all of a text's in one fold.
    """
    n_all = len(COMPONENTS) * ours("layers")
    sites = ((np.arange(n_sites) + 0.5) * n_all / n_sites).astype(int).tolist()
    found: dict[str, Any] = {}
    parts: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "activations.pt")
        ours("save_activations", path=path, sites=sites, n_texts=n_texts, names=names, keep=keep)
        with Side("probing", "ours", path, str(n_texts)) as fast, Side("probing", "plain", path, str(n_texts)) as slow:

            def run_it(name: str, side: Side) -> Any:
                def once(_run: int) -> float:
                    found[name] = side("probe")
                    parts[name].append(found[name]["seconds"])
                    return side.seconds / n_sites

                return once

            seconds = alternate(runs, {"plain": run_it("plain", slow), "ours": run_it("ours", fast)})
    gap, r2_gap = (np.subtract(found["ours"][key], found["plain"][key]) for key in ("accuracy", "r2"))
    return dict(
        rows=n_texts * keep * len(names),
        sites=sites,
        ratio=ratios(seconds["plain"], seconds["ours"]),
        parts=parts,
        **{name: spread(values) for name, values in seconds.items()},
        accuracy=found["ours"]["accuracy"],
        mean_accuracy_gap=float(gap.mean()),
        largest_accuracy_gap=float(np.abs(gap).max()),
        largest_r2_gap=float(np.abs(r2_gap).max()),
    )


def overhead(ours: Side, hooked: Side, *, runs: int, n_texts: int) -> dict[str, Any]:
    """How much longer the engine takes with nnsight than with hooks, in per cent, for one list of edits."""
    for side in (ours, hooked):
        side("edit", n_texts=n_texts, n_kinds=1, at_most=1)

    def run_it(side: Side) -> Any:
        return lambda _run: side("edit", n_texts=n_texts, n_kinds=1)["total"]

    seconds = alternate(runs, {"nnsight": run_it(ours), "hooks": run_it(hooked)})
    everything = [(batch, edit) for batch in range(n_texts // PLAIN_BATCH) for edit in range(3 * ours("layers"))]
    gap = np.asarray(ours("answers", sample=everything)) - np.asarray(hooked("answers", sample=everything))
    percent = [100 * (a / b - 1) for a, b in zip(seconds["nnsight"], seconds["hooks"], strict=True)]
    return dict(
        texts=n_texts,
        edits=3 * ours("layers"),
        percent=spread(percent),
        largest_difference=float(np.abs(gap).max()),
        **{name: spread(values) for name, values in seconds.items()},
    )


def machine(ours: Side, hardest: dict[str, Any], *, runs: int, rows: Sequence[int], tokens: int) -> dict[str, Any]:
    """The rate of the model's linear layers by number of rows, and the share of it that replay and encode reach.

    `hardest` is the record of `editing` with the most edits. FLOP are those of the linear layers alone: attention,
    norms and the answer's unembedding are work that replay does beside them and is not credited for.
    """
    flop, n_layers = ours("flop"), ours("layers")
    rates = {
        str(count): spread([ours("linear_rate", rows=count, repeats=max(1, 2048 // count)) for _ in range(runs)])
        for count in (*rows, tokens)
    }
    limit = max(rate["median"] for rate in rates.values())
    share = (n_layers + 1) / 2 / n_layers  # an edit of layer l runs layers l..L
    replays = [flop * share * hardest["texts"] * hardest["edits"] / part["replay"] for part in hardest["parts"]]
    encodes = [flop * part["tokens"] / part["encode"] for part in hardest["parts"]]
    return dict(
        flop_per_token=flop,
        linear_rate=rates,
        limit=limit,
        replay=spread(replays),
        encode=spread(encodes),
        replay_percent=spread([100 * rate / limit for rate in replays]),
        encode_percent=spread([100 * rate / limit for rate in encodes]),
    )
