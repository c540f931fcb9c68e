"""Stored tables against the weights: a random sample of their cells is computed anew and compared.

A cell is a row that has a layer. The experiment runs in a study of a few random layers, and rows are joined by all
their keys. What depends on more than its layer (where a curve saturates, the layer chosen from all) is left out. Where
an experiment has no layers, all of it is computed. The texts are read anew in a folder that is thrown away, so that no
number comes from a cache. Needs the weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from emolib.book.run import experiment, measuring, result_of, stored_run, why_stale
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.compare import compare

CHOSEN = ("r2_fall", "decisive")  # metrics whose layer was chosen from all


def verify(root: Path, slug: str, *, cells: int, only: str | None = None) -> Iterator[tuple[str, bool]]:
    """Yield what came of each stored table of the run with this slug, as text, and whether it holds.

    `cells` is how many cells of each table are computed at least, or all of them, in layers drawn anew each time.
    Raises ValueError when there are no such tables, or where they do not say which weights and texts they are of.
    """
    run = stored_run(slug, root)
    with tempfile.TemporaryDirectory() as temporary:
        whole = Study(run, folder=temporary)
        paths = {name: result_of(name, run.slug, root) for name in measuring(only, root)}
        for name, path in paths.items():
            if not path.is_file():
                continue
            table = results.read(path)
            if reason := why_stale(run, name, table):
                yield f"{path.stem}: stale, {reason}", False
                continue
            layers = _drawn(table, cells)
            study = Study(run, model=whole.model, corpus=whole.corpus, folder=temporary, only_layers=layers)
            try:
                found = study.table(experiment(name))
            except ValueError as error:
                yield f"{path.stem}: cannot be measured with layers {layers} alone: {error}", False
                continue
            yield _compared(table, found, layers)


def _drawn(table: pd.DataFrame, cells: int) -> list[int] | None:
    """Enough random layers for so many cells; None for a table without layers."""
    counts = table["layer"].dropna().astype(int).value_counts()
    if counts.empty:
        return None
    common = counts[counts >= counts.median()].sample(frac=1)
    return sorted(common.index[: np.searchsorted(common.cumsum(), cells) + 1])


def _compared(table: pd.DataFrame, found: pd.DataFrame, layers: list[int] | None) -> tuple[str, bool]:
    if layers is not None:
        kept = [rows["layer"].isin(layers) & ~rows["metric"].isin(CHOSEN) for rows in (table, found)]
        table, found = table[kept[0]], found[kept[1]]
    comparison = compare(table, found)
    where = "the whole table" if layers is None else f"layers {', '.join(map(str, layers))}"
    left = f"; {len(comparison.lost)} stored rows depend on more" if len(comparison.lost) else ""
    paired = replace(comparison, lost=comparison.lost[:0], added=comparison.added[:0])
    wrong = [f"  {failure}" for failure in paired.failures()]
    text = f"{comparison}; {where}{left}; largest difference: {comparison.largest()}"
    return "\n".join([text, *wrong]), not wrong
