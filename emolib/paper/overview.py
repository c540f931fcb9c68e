"""All models on one depth axis (Figs 2, 3, 11, 12): the paper's ten from its values, ours from every stored run.

Landmarks are found by the same rules for both: where the residual stream's probe saturates, from where overwriting it
carries the answer, where removing attention bites and how deep, how well the model does. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from emolib.engine.registry import registry
from emolib.figures.palette import CYCLE, INK
from emolib.figures.panels import label_axes, panels, styled
from emolib.paper.claims.causes import inner_minimum, transfer
from emolib.paper.claims.readout import probe_curve
from emolib.paper.claims.verdicts import Evidence, NotTestable, Tables
from emolib.paper.tables import paper_tables
from emolib.tables import paper

DEPTHS = {
    "probe saturation": "where the probe of the residual stream first has 95 % of its maximum",
    "patching onset": "from where overwriting the residual stream carries half of the answers",
    "ablation dip": "where removing three layers of attention hurts most",
}
SIZES = {
    "accuracy": "accuracy",
    "attention transfer": "best transfer of attention",
    "agreement without attention": "agreement without attention",
    "agreement without feed-forward": "agreement without feed-forward",
}
Row = dict[str, Any]


def overview(runs: Mapping[str, Tables]) -> pd.DataFrame:
    """Return landmarks of the paper's ten models and of stored runs (tables by slug).

    One row a model and landmark: model, source ("paper", "ours"), parameters (NaN if unknown), layers, metric (a key of
    DEPTHS, 0-1, or of SIZES, a share), value, ci_low, ci_high, n. What a run did not measure has no row.
    """
    rows: list[Row] = []
    for model in paper.PAPER_MODELS:
        about = dict(model=model.name, source="paper", parameters=parameters(model.id))
        rows += [about | row for row in landmarks(paper_tables(model.id))]
    for slug, tables in runs.items():
        about = dict(model=run_name(tables, slug), source="ours", parameters=parameters(_parameter(tables, "model")))
        rows += [about | row for row in landmarks(tables)]
    return pd.DataFrame(rows)


def landmarks(tables: Tables) -> Iterator[Row]:
    """Yield the landmarks of one model that its tables hold."""
    found = Evidence(tables)
    for finder in (_accuracy, _saturation, _onset, _peak, _dips):
        try:
            yield from (dict(layers=found.n_layers) | row for row in finder(found))
        except NotTestable:
            continue


def _accuracy(found: Evidence) -> Iterator[Row]:
    rows = found.rows("behaviour", metric="accuracy")
    chosen = _parameter(found.tables, "calibration") or "none"
    rows = rows[rows["condition"].str.contains(f"calibration:{chosen}")]
    if len(rows):
        yield dict(metric="accuracy") | _numbers(rows.iloc[0])


def _saturation(found: Evidence) -> Iterator[Row]:
    curve = probe_curve(found, "resid_post")
    reached = curve[curve["value"] >= 0.95 * curve["value"].max()].iloc[0]
    stored = dict(metric="saturation_depth", condition="setting:as_released", component="resid_post")
    if found.has("probing", **stored):
        yield dict(metric="probe saturation") | _numbers(found.rows("probing", **stored).iloc[0])
    else:
        yield dict(metric="probe saturation", value=reached["depth"], n=reached["n"])


def _onset(found: Evidence) -> Iterator[Row]:
    curve = found.curve("patching", metric="transfer", component="resid_post", position="-1")
    reached = curve[curve["value"] >= 0.5]
    if len(reached):
        yield dict(metric="patching onset", value=reached["depth"].iloc[0], n=reached["n"].iloc[0])


def _peak(found: Evidence) -> Iterator[Row]:
    curve, _ = transfer(found, "attn_out")
    yield dict(metric="attention transfer") | _numbers(curve.loc[curve["value"].idxmax()])


def _dips(found: Evidence) -> Iterator[Row]:
    keys = dict(metric="agreement", condition="edit:zero", position="-1", span=3)
    for component, name in (("attn_out", "attention"), ("mlp_out", "feed-forward")):
        row = inner_minimum(found.curve("ablation", component=component, **keys))
        yield dict(metric=f"agreement without {name}") | _numbers(row)
        if component == "attn_out":
            yield dict(metric="ablation dip", value=row["depth"], n=row["n"])


def _numbers(row: pd.Series) -> Row:
    return {name: row[name] for name in ("value", "ci_low", "ci_high", "n")}


def parameters(model: str) -> float:
    """Return the number of parameters of a registered name or hub id, NaN for any other model."""
    known = registry()
    entry = known.get(model) or next((one for one in known.values() if one["hub"] == model), None)
    return float(entry["parameters"]) if entry else np.nan


def run_name(tables: Tables, slug: str) -> str:
    """Return how figures name a run: its model, and what differs from the paper's corpus and a full run."""
    corpus, profile = _parameter(tables, "corpus"), _parameter(tables, "profile")
    extra = [word for word, usual in ((corpus, "crowd-envent"), (profile, "full")) if word not in ("", usual)]
    name = paper.model_name(_parameter(tables, "model") or slug)
    return f"{name} ({', '.join(extra)})" if extra else name


def _parameter(tables: Tables, name: str) -> str:
    for table in tables.values():
        value = table.attrs.get("provenance", {}).get("parameters", {}).get(name)
        if value:
            return str(value)
    return ""


def trend(found: pd.DataFrame, metric: str, *, source: str = "paper") -> tuple[float, float, int]:
    """Return Spearman's correlation of a landmark with the number of parameters, its p value, and the models."""
    rows = found[(found["metric"] == metric) & (found["source"] == source)].dropna(subset=["parameters", "value"])
    result = spearmanr(rows["parameters"], rows["value"])
    return float(result.statistic), float(result.pvalue), len(rows)


@styled
def against_size(found: pd.DataFrame) -> Figure:
    """Return the SIZES landmarks over parameters, a panel each: the paper's models hollow, ours filled, with intervals.

    Raises ValueError without a row of SIZES.
    """
    rows = found[found["metric"].isin(list(SIZES))].dropna(subset=["parameters"])
    names = [name for name in SIZES if (rows["metric"] == name).any()]
    if not names:
        raise ValueError(f"no landmark of {list(SIZES)} in the table: give the result of overview")
    fig, axes = panels(len(names), height=2.1, below=0.5, columns=2)
    for ax, name in zip(axes, names, strict=True):
        for source, fill, colour in (("paper", "none", INK), ("ours", CYCLE[0], CYCLE[0])):
            part = rows[(rows["metric"] == name) & (rows["source"] == source)]
            ax.vlines(part["parameters"] / 1e9, part["ci_low"], part["ci_high"], color=colour, linewidth=1)
            ax.plot(part["parameters"] / 1e9, part["value"], "o", color=colour, markerfacecolor=fill, label=source)
        ax.set(title=SIZES[name], xscale="log", ylim=(0, 1))
        ax.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
        ax.minorticks_off()
    label_axes(axes, "parameters (billions)", "share")
    handles, _ = axes[0].get_legend_handles_labels()
    fig.legend(handles, ["the paper's ten models", "this book's runs"], loc="outside lower center", ncols=2)
    return fig
