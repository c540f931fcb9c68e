"""All models on one depth axis (Figs 2, 3, 11, 12): the paper's ten from its values, ours from every stored run.

Landmarks are found by the same rules for both: where the residual stream's probe saturates, from where overwriting it
carries the answer, where removing attention bites and how deep, how well the model does. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from emolib.engine.registry import TWIN, parse, registry
from emolib.figures.display import spoken
from emolib.figures.palette import CYCLE, INK
from emolib.figures.panels import label_axes, panels, styled
from emolib.paper.claims.evidence import Evidence, NotTestable, Tables, landmark
from emolib.paper.claims.tests import probe_curve, transfer_curve
from emolib.paper.tables import paper_tables
from emolib.study import freshness
from emolib.study.run import LADDER, REFERENCE, Run
from emolib.tables import paper
from emolib.tables.results import readable

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
USUAL = dict(prompt="T1-2shot", position="-1")
Row = dict[str, Any]


def overview(runs: Mapping[str, Tables]) -> pd.DataFrame:
    """Landmarks of the paper's ten models and of stored runs (tables by slug).

    One row a model and landmark: model, source ("paper", "ours"), parameters (NaN if unknown), layers, metric (a key of
    DEPTHS, 0-1, or of SIZES, a share), value, ci_low, ci_high, n. What a run did not measure has no row.
    """
    rows: list[Row] = []
    for model in paper.PAPER_MODELS:
        about = dict(model=model.name, source="paper", parameters=parameters(model.id))
        rows += [about | row for row in landmarks(paper_tables(model.id))]
    for slug, tables in runs.items():
        size = parameters(Evidence(tables).parameters("model").get("model", ""))
        rows += [dict(model=run_name(tables, slug), source="ours", parameters=size) | row for row in landmarks(tables)]
    return pd.DataFrame(rows)


def landmarks(tables: Tables) -> Iterator[Row]:
    """The landmarks of one model that its tables hold."""
    found = Evidence(tables)
    calibration = found.parameters("calibration").get("calibration", "none")
    patched = dict(metric="transfer", source="other_label", position="-1")
    stored = found.one("probing", metric="saturation_depth", setting="as_released", component="resid_post")

    def dip(component: str) -> pd.Series:
        keys = dict(metric="agreement", method="zero", component=component, position="-1", span=3)
        return landmark("dip", found.curve("ablation", **keys))

    # The row of each; a depth is that of the row, unless it is stored with its interval.
    rows: dict[str, Callable[[], pd.Series]] = {
        "accuracy": lambda: found.rows("behaviour", metric="accuracy", calibration=calibration).iloc[0],
        "probe saturation": lambda: (
            landmark("saturation", probe_curve(found, "resid_post")) if stored is None else stored
        ),
        "patching onset": lambda: landmark("onset", found.stream("patching", **patched)),
        "attention transfer": lambda: landmark("peak", transfer_curve(found, "attn_out")),
        "agreement without attention": lambda: dip("attn_out"),
        "ablation dip": lambda: dip("attn_out"),
        "agreement without feed-forward": lambda: dip("mlp_out"),
    }
    for name, find in rows.items():
        with suppress(NotTestable):
            row = find()
            ends = {key: row[key] for key in ("value", "ci_low", "ci_high", "n")}
            if name in DEPTHS and row is not stored:
                ends |= dict(value=row["depth"], ci_low=np.nan, ci_high=np.nan)
            yield dict(layers=found.n_layers, metric=name, **ends)


def parameters(model: str) -> float:
    """The number of parameters of a registered name or hub id, or of its twin; NaN for any other model."""
    known, base = registry(), parse(model).base
    entry = known.get(base) or next((one for one in known.values() if one["hub"] == base), None)
    return float(entry["parameters"]) if entry else np.nan


def run_name(tables: Tables, slug: str) -> str:
    """How figures name a run: its model, and what differs from the reference run; never as a model of the paper."""
    usual = {name: str(value) for name, value in REFERENCE.parameters().items() if name not in ("model", "device")}
    stated = Evidence(tables).parameters("model", *usual)
    extra = [stated[name] for name in usual if stated.get(name, usual[name]) != usual[name]]
    name = paper.model_name(_titled(stated["model"]) if "model" in stated else slug)
    extra = extra or ["run here"] * (name in {model.name for model in paper.PAPER_MODELS})
    return f"{name} ({', '.join(extra)})" if extra else name


def _titled(model: str) -> str:
    """A registered model by its title, anything else as it is."""
    base, behind, seed = model.partition(TWIN)
    title = registry().get(base, {}).get("title", base).removesuffix(" Instruct")
    return f"{title}{behind}{seed}"


def model_by_model(
    run: Run, experiment: ModuleType, view: Callable[[pd.DataFrame], pd.DataFrame], root: str | Path = "."
) -> pd.DataFrame:
    """What `view` takes from an experiment's table of this run and of each committed run that has one, column `run`.

    The smallest model comes first; one of unknown size last. Raises ValueError when no run has that table.
    """
    parts = {}
    for one in sorted({one.slug: one for one in (*LADDER, run)}.values(), key=lambda one: _size(one.model)):
        path = freshness.table_path(one, experiment, root)
        if path.is_file() and (table := readable(path)) is not None:
            parts[run_name({path.stem: table}, one.slug)] = view(table)
    if not parts:
        raise ValueError(f"no run has a table of {freshness.name_of(experiment)}: measure it first (emolib run)")
    return pd.concat([rows.assign(run=name) for name, rows in parts.items()], ignore_index=True)


def behind(rows: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows once for each run of `model_by_model`: the same curve behind every panel."""
    return pd.concat([rows.assign(run=name) for name in shown["run"].unique()], ignore_index=True)


def listed(rows: pd.DataFrame, form: str = ".2f") -> str:
    """The number of each run of `model_by_model`, a row a run, in words: "**0.42 (0.34 to 0.51)** in A and ...in B"."""
    each = [f"**{spoken(row, form)}** in {row['run']}" for _, row in rows.iterrows()]
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each) or "(not measured)"


def _size(model: str) -> float:
    return float(np.nan_to_num(parameters(model), nan=np.inf))


def depths(found: pd.DataFrame) -> pd.DataFrame:
    """The DEPTHS landmarks of `overview`, the smallest model first, each model's in their order."""
    order = {"model": by_size(found), "metric": list(DEPTHS)}
    rows = found[found["metric"].isin(order["metric"])]
    return rows.sort_values(["model", "metric"], key=lambda names: names.map(order[names.name].index))


def by_size(found: pd.DataFrame) -> list[str]:
    """The models of `overview`, the smallest first."""
    return found.sort_values("parameters")["model"].drop_duplicates().tolist()


def paper_curves(order: list[str]) -> pd.DataFrame:
    """The paper's curves behind the landmarks, a `panel` each, `name` the model in the given order."""
    parts = {
        "probe, stream": paper.values("emotion_probe", component="resid_post", **USUAL),
        "patching, attention": paper.values("patching", metric="transfer", component="attn_out", span=5, **USUAL),
        "zeroing, attention": paper.values("zero_ablation", component="attn_out", span=3, **USUAL),
    }
    curves = pd.concat([rows.assign(panel=name) for name, rows in parts.items()])
    curves = curves.assign(name=curves["model"].map(paper.model_name))
    return curves.sort_values("name", key=lambda names: names.map(order.index), kind="stable")


def answers(runs: Mapping[str, Tables], order: list[str]) -> dict[str, pd.DataFrame]:
    """Counts of the predicted labels by model: the paper's in the given order, then the runs' as calibrated."""
    counted = paper.values("behaviour", metric="predicted_count", prompt="T1-2shot")
    theirs = {name: rows for name, rows in counted.groupby(counted["model"].map(paper.model_name))}
    bars = {name: theirs[name] for name in order if name in theirs}
    for slug, tables in runs.items():
        if "behaviour" in tables:
            found = Evidence(tables)
            chosen = dict(metric="predicted_count", reader="", **found.parameters("calibration"))
            bars[run_name(tables, slug)] = found.rows("behaviour", **chosen)
    return bars


def values_of(found: pd.DataFrame, metric: str) -> pd.Series:
    """One landmark of each model of `overview`."""
    return found[found["metric"] == metric].set_index("model")["value"]


def onset_minus_saturation(found: pd.DataFrame) -> pd.Series:
    """How much deeper the patching onset lies than probe saturation, by model, where both are known."""
    return (values_of(found, "patching onset") - values_of(found, "probe saturation")).dropna()


def trends(found: pd.DataFrame, source: str = "paper") -> pd.DataFrame:
    """Spearman's correlation of each landmark with the number of parameters.

    Columns: landmark, correlation, p, n (the models).
    """
    rows = []
    for metric in (*SIZES, *DEPTHS):
        part = found[(found["metric"] == metric) & (found["source"] == source)].dropna(subset=["parameters", "value"])
        result = spearmanr(part["parameters"], part["value"])
        rows.append(dict(landmark=metric, correlation=result.statistic, p=result.pvalue, n=len(part)))
    return pd.DataFrame(rows)


def numbers(found: pd.DataFrame) -> pd.DataFrame:
    """All landmarks, a row a model, the smallest first, parameters in billions."""
    table = found.pivot(index=["model", "source", "parameters", "layers"], columns="metric", values="value")
    table = table[[name for name in (*SIZES, *DEPTHS) if name in table]].reset_index().sort_values("parameters")
    table["parameters"] /= 1e9
    return table.rename(columns={"parameters": "parameters (10⁹)"}).rename_axis(columns=None)


@styled
def against_size(found: pd.DataFrame) -> Figure:
    """The SIZES landmarks over parameters, a panel each: the paper's models hollow, ours filled, with intervals.

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
