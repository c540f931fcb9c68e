"""All models on one depth axis (Figs 2, 3, 11, 12): the paper's ten from its values, ours from every stored run.

Landmarks are found by the same rules for both: where the residual stream's probe saturates, from where overwriting it
carries the answer, where removing attention bites and how deep, how well the model does. Loads no model library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import false_discovery_control, permutation_test, rankdata

from emolib.figures.display import plain, spoken
from emolib.figures.palette import CYCLE, INK
from emolib.figures.panels import label_axes, panels, styled
from emolib.paper import ladder
from emolib.paper.claims import TWIN_PASSES, checks, claims, closed, counted, data
from emolib.paper.claims.evidence import (
    NUMBER,
    RELEASED,
    ROBUST,
    Evidence,
    NotTestable,
    Tables,
    averaged,
    landmark,
    number,
)
from emolib.paper.claims.tests import probe_curve, transfer_curve
from emolib.paper.tables import paper_tables
from emolib.tables import paper
from emolib.texts.appraisals import NAMED

DEPTHS = {
    "probe saturation": "where the probe of the residual stream first has 95% of its maximum",
    "patching onset": "from where overwriting the residual stream carries half of the answers",
    "attention band": "where five layers of attention carry the most answers",
    "ablation dip": "where removing three layers of attention hurts most",
}
SIZES = {
    "accuracy": "accuracy",
    "attention transfer": "best transfer of attention",
    "agreement without attention": "agreement without attention",
    "agreement without feed-forward": "agreement without feed-forward",
    "emotion beyond the words": "emotion: probe minus text alone",
    "appraisals beyond the label": "appraisals: R² beside the label",
    "steering as released": "theory score, as released",
    "steering that predicts": "theory score, directions that predict",
}
# Those that are the number of a claim's check: the claim, and how the check begins.
CHECKED = {
    "emotion beyond the words": ("C2", "best probe of the writer's label minus"),
    "steering as released": ("C14", "as released: mean theory score"),
    "steering that predicts": ("C14", "mean theory score, directions that predict"),
}
# What an abstract tells of a run: the chapter, in words what is measured, and the landmark, or the claim's check.
PARTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("03_behaviour", "Texts whose emotion it names as their writer did (chance 0.08)", dict(landmark="accuracy")),
    (
        "05_probing",
        "Depth where a probe of its answers has 95\N{NO-BREAK SPACE}% of its best",
        dict(landmark="probe saturation"),
    ),
    ("05_wording", "Emotion read beyond what the words alone tell", dict(landmark="emotion beyond the words")),
    ("06_patching", "Depth from where a copied state carries half of the answers", dict(landmark="patching onset")),
    ("06_patching", "Answers that attention carries along, at best", dict(landmark="attention transfer")),
    ("B_ablation", "Answers left without three layers of attention", dict(landmark="agreement without attention")),
    (
        "07_appraisals",
        "Of ratings, what activations add to the emotion's name",
        dict(landmark="appraisals beyond the label"),
    ),
    (
        "08_geometry",
        "Of twelve directions, those with the theory's sign",
        dict(claim="C13", check="cosines with the sign"),
    ),
    ("09_modulation", "Theory score of pushes, as released (-1 to 1)", dict(landmark="steering as released")),
    ("09_modulation", "The same with directions that predict", dict(landmark="steering that predicts")),
)
KIN = {"Ministral": "Mistral"}  # families by the first word of a model's name, and who belongs to one
FEW = 3  # models below which verdicts make no pattern
USUAL = dict(prompt="T1-2shot", position="-1")
Row = dict[str, Any]


def overview(runs: Mapping[str, Tables]) -> pd.DataFrame:
    """Landmarks of the paper's ten models and of stored runs (tables by slug).

    One row a model and landmark: model, source ("paper", "ours"), parameters (NaN if unknown), layers, metric (a key of
    DEPTHS, 0-1, or of SIZES, a share), value, ci_low, ci_high, n. What a run did not measure has no row.
    """
    rows: list[Row] = []
    for model in paper.PAPER_MODELS:
        about = dict(model=model.name, source="paper", parameters=ladder.size(model.id))
        rows += [about | row for row in landmarks(paper_tables(model.id))]
    for slug, tables in runs.items():
        about = dict(model=ladder.run_name(tables, slug), source="ours", parameters=ladder.size_of(tables))
        rows += [about | row for row in landmarks(tables)]
    return pd.DataFrame(rows)


def landmarks(tables: Tables) -> Iterator[Row]:
    """The landmarks of one model that its tables hold."""
    found = Evidence(tables)
    calibration = found.parameters("calibration").get("calibration", "none")
    patched = dict(metric="transfer", source="other_label", position="-1")
    stored = {
        "probe saturation": found.one(
            "probing", metric="saturation_depth", setting="as_released", component="resid_post"
        ),
        "patching onset": found.one("patching", metric="onset_depth", component="resid_post"),
        "attention band": found.one("patching", metric="peak_depth", component="attn_out", span=5),
    }

    def dip(component: str) -> pd.Series:
        keys = dict(metric="agreement", method="zero", component=component, position="-1", span=3)
        return landmark("dip", found.curve("ablation", **keys))

    def beside_label() -> pd.Series:
        rows = found.rows("appraisals", metric="partial_r2", appraisal=list(NAMED))
        return pd.Series(averaged(rows.loc[rows.groupby("appraisal")["value"].idxmax()]))

    # The row of each; a depth is that of the row, unless it is stored with its interval.
    rows: dict[str, Callable[[], Any]] = {
        "accuracy": lambda: found.rows("behaviour", metric="accuracy", calibration=calibration).iloc[0],
        "probe saturation": lambda: landmark("saturation", probe_curve(found, "resid_post")),
        "patching onset": lambda: landmark("onset", found.stream("patching", **patched)),
        "attention transfer": lambda: landmark("peak", transfer_curve(found, "attn_out")),
        "attention band": lambda: landmark("peak", transfer_curve(found, "attn_out")),
        "agreement without attention": lambda: dip("attn_out"),
        "ablation dip": lambda: dip("attn_out"),
        "agreement without feed-forward": lambda: dip("mlp_out"),
        "appraisals beyond the label": beside_label,
    }
    for name, find in rows.items():
        with suppress(NotTestable):
            row = find()
            ends = {key: row[key] for key in (*NUMBER, "n")}
            if (kept := stored.get(name)) is not None:
                ends |= {key: kept[key] for key in NUMBER}
            elif name in DEPTHS:
                ends |= dict(value=row["depth"], ci_low=np.nan, ci_high=np.nan)
            yield dict(layers=found.n_layers, metric=name, **ends)
    asked = checks(tables, sorted({claim for claim, _ in CHECKED.values()}))
    for name, (claim, check) in CHECKED.items():
        own = ladder.checks_of(asked, dict(claim=claim, check=check))
        for row in own.rename(columns={"number": "value"}).dropna(subset="value").to_dict("records"):
            yield dict(layers=found.n_layers, metric=name, **{key: row[key] for key in (*NUMBER, "n")})


def beside_twins(runs: Mapping[str, Tables]) -> pd.DataFrame:
    """The sizes (keys of `SIZES`) of runs beside those of their untrained twins, as far as both measured them.

    A row a run and size: what is measured, model, trained, untrained (in words, with intervals; twins divided by
    semicolons), apart ("yes" where the trained model's interval meets no twin's).
    """
    rows = []
    for slug, tables in runs.items():
        own, *theirs = (
            {row["metric"]: row for row in landmarks(one)} for one in (tables, *getattr(tables, "twins", ()))
        )
        for metric, words in SIZES.items():
            others = [twin[metric] for twin in theirs if metric in twin]
            if metric in own and others:
                row = own[metric]
                apart = [row["ci_low"] > other["ci_high"] or row["ci_high"] < other["ci_low"] for other in others]
                rows.append(
                    {
                        "what is measured": words,
                        "model": ladder.run_name(tables, slug),
                        "trained": spoken(row),
                        "untrained": "; ".join(map(spoken, others)),
                        "apart": "yes" if all(apart) else "no",
                    }
                )
    return pd.DataFrame(rows)


def abstract(slug: str, root: str | Path = ".") -> str:
    """What a run shows of each part of the study, beside the committed runs and the study's models, for its first page.

    Whether it can be asked, a table of `PARTS`, and how many claims came out how, as Markdown with HTML. Of a run
    without tables, that it has none.
    """
    runs = ladder.with_ladder(slug, root=root)
    if slug not in runs:
        return "Nothing of this run has been measured."
    own, names = runs[slug], {ladder.run_name(tables, slug): slug for slug, tables in runs.items()}
    found, judged = (
        overview(runs),
        ladder.checked(runs, sorted({about["claim"] for _, _, about in PARTS if "claim" in about})),
    )
    columns = sorted(names, key=lambda name: names[name] != slug)
    rows = []
    for chapter, words, about in PARTS:
        if "claim" in about:
            numbers = ladder.checks_of(judged, about).drop_duplicates("run").set_index("run")["shown"].to_dict()
            theirs = ladder.checks_of(checks(paper_tables(paper.DETAILED.name), [about["claim"]]), about)[
                "shown"
            ].tolist()
            study = f"{theirs[0]} ({paper.DETAILED.name})" if theirs and theirs[0] else ""
        else:
            part = found[found["metric"] == about["landmark"]].dropna(subset="value")
            mine = part[part["source"] == "ours"].set_index("model")
            numbers = {name: number(row) for name, row in mine.iterrows()}
            values = part.loc[part["source"] == "paper", "value"]
            study = (
                f"{values.min():.2f} to {values.max():.2f}"
                if len(values) > 1
                else "".join(map("{:.2f}".format, values))
            )
        cells = [numbers.get(name) or "(not measured)" for name in columns]
        rows.append([f'<a href="{chapter}.html">{words}</a>', *cells, study or "–"])
    table = ladder.as_page_table(pd.DataFrame(rows, columns=["what is measured", *columns, "the study's models"]))
    shut = closed("ability", own, getattr(own, "twins", ()))
    limits = f"**It cannot be asked for most of the study's claims**: {shut}." if shut else ""
    parts = [limits, table.to_html(), f"Of the study's nineteen claims, with all controls: {counted(own)}."]
    return "\n\n".join(filter(None, parts))


def doubts(found: pd.DataFrame) -> pd.DataFrame:
    """What a critic would say, what is measured against it, by which claim's check (a link to its chapter), and the
    outcome of that check in each run of `checked`, "–" where it was not measured."""
    rows = []
    for one in data()["doubts"]:
        own = ladder.checks_of(found, one).drop_duplicates("run").set_index("run")["outcome"].replace("no number", "–")
        link = f"[{one['claim']}]({claims()[one['claim']].chapter}.ipynb)"
        rows.append({"a critic would say": one["doubt"], "what is measured": one["measured"], "claim": link, **own})
    return pd.DataFrame(rows).reindex(columns=[*list(rows[0])[:3], *found["run"].unique()]).fillna("–")


def written_for(found: pd.DataFrame) -> str:
    """Where the runs of `checked` differ from what the discussion takes for granted, in a sentence; else nothing."""
    of_each = [(one, ladder.checks_of(found, one)) for one in data()["written_for"]]
    asked = [(one, own[own["outcome"] != "no number"]) for one, own in of_each]
    apart = [
        f"that {one['says']} ({one['claim']}), not in {run}"
        for one, own in asked
        for run in own.loc[~own["outcome"].isin(one["outcomes"]), "run"].unique()
    ]
    if apart:
        return f"**Where the runs shown here differ from what is written here:** {'; '.join(apart)}."
    none = all(own.empty for _, own in asked)
    return "**No run shown here has measured what is taken for granted here.**" if none else ""


def patterns(judged: pd.DataFrame) -> pd.DataFrame:
    """How the verdict on each claim goes with the models, in one reading (the rows of `claims.verdicts_by`).

    `judged` has columns claim, outcome, reason, model, parameters, source (as in `overview`). Columns: claim, pattern
    ("in all"; "in none"; "from a size on"; "in the study's", in all of these and in none of ours; else "in some"; "in
    few" where fewer than three models can be tested), holds (names of the models that pass), partly (of those that pass
    in part), unlearnt (of those whose untrained twin passes as well, which count as not tested), tested, study (names
    of the study's models that were tested), smallest (parameters of the smallest model that passes).
    """
    rows = []
    for claim, part in judged.groupby("claim", sort=False):
        unlearnt = tuple(part.loc[part["reason"] == TWIN_PASSES, "model"])
        part = part[part["outcome"] != "not testable"].sort_values("parameters")
        held, theirs = (part["outcome"] == "reproduced").to_numpy(), (part["source"] == "paper").to_numpy()
        if len(held) < FEW:
            pattern = "in few"
        elif held.all() or not held.any():
            pattern = "in all" if held.all() else "in none"
        elif held[held.argmax() :].all():
            pattern = "from a size on"
        else:
            pattern = "in the study's" if (held == theirs).all() else "in some"
        passing = part[held]
        half = tuple(part.loc[part["outcome"] == "partly", "model"])
        about = dict(
            holds=tuple(passing["model"]),
            partly=half,
            unlearnt=unlearnt,
            tested=len(held),
            study=tuple(part.loc[theirs, "model"]),
        )
        rows.append(dict(claim=claim, pattern=pattern, **about, smallest=passing["parameters"].min()))
    return pd.DataFrame(rows)


def sized(judged: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Verdicts by model with the parameters and the source that `overview` has of each."""
    about = found.groupby("model")[["parameters", "source"]].first()
    return judged.join(about, on="model")


def told(found: pd.DataFrame) -> str:
    """The `patterns` as a list in Markdown, a line each, with the sentences of the claims."""
    heads = {
        "in all": "**In every model that was tested**",
        "from a size on": "**In the larger, but not in the smallest of those tested**",
        "in the study's": "**In every model of the study that has numbers, and as a whole in none of ours**",
        "in some": "**In some models, whatever their size**",
        "in none": "**In none**",
        "in few": f"**Tested in fewer than {FEW} models**, which shows no pattern",
    }
    lines = []
    for pattern, head in heads.items():
        own = found[found["pattern"] == pattern]
        if len(own):
            lines += [f"{head}:", "", *(f"- {_pattern(row)}" for row in own.itertuples()), ""]
    return "\n".join(lines)


def _pattern(row: Any) -> str:
    about = f"{row.claim}, {claims()[row.claim].sentence} In {len(row.holds)} of {row.tested}"
    rest = f" In part in {len(row.partly)}: {', '.join(row.partly)}." if row.partly else ""
    if row.unlearnt:
        rest += f" Not counted: {', '.join(row.unlearnt)}, whose untrained twin passes as well."
    if row.pattern == "from a size on":
        return f"{about}, from {row.smallest / 1e9:.1f} billion parameters on.{rest}"
    if row.pattern == "in none" and row.study:
        own = row.study[0] if len(row.study) == 1 else f"{len(row.study)} models"
        return f"{about}, the study's own values of {own} among them.{rest}"
    named = row.pattern in ("in some", "in few") or (row.pattern == "in the study's" and len(row.holds) == 1)
    return f"{about}: {', '.join(row.holds)}.{rest}" if named and row.holds else f"{about}.{rest}"


def by_method(judged: pd.DataFrame) -> pd.DataFrame:
    """The claims whose verdict on one model differs between the readings, of the rows of `claims.verdicts_by`: claim
    (with its sentence), model, and what each reading's verdict is called."""
    table = judged.pivot(index=["claim", "model"], columns="reading", values=["outcome", "said"])
    table = table.reindex(columns=pd.MultiIndex.from_product([["outcome", "said"], [RELEASED, ROBUST]]))
    known = (table["outcome"] != "not testable").all(axis=1)
    table = table.loc[known & (table["outcome", RELEASED] != table["outcome", ROBUST]), "said"]
    order = {name: number for number, name in enumerate(claims())}
    table = table.reset_index().sort_values("claim", key=lambda names: names.map(order)).rename_axis(columns=None)
    return table.assign(claim=[f"{name} {claims()[name].sentence}" for name in table["claim"]])


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
    answered = paper.values("behaviour", metric="predicted_count", prompt="T1-2shot")
    theirs = {name: rows for name, rows in answered.groupby(answered["model"].map(paper.model_name))}
    bars = {name: theirs[name] for name in order if name in theirs}
    for slug, tables in runs.items():
        if "behaviour" in tables:
            found = Evidence(tables)
            chosen = dict(metric="predicted_count", reader="", **found.parameters("calibration"))
            bars[ladder.run_name(tables, slug)] = found.rows("behaviour", **chosen)
    return bars


def values_of(found: pd.DataFrame, metric: str) -> pd.Series:
    """One landmark of each model of `overview`."""
    return found[found["metric"] == metric].set_index("model")["value"]


def onset_minus_saturation(found: pd.DataFrame) -> pd.Series:
    """How much deeper the patching onset lies than probe saturation, by model, where both are known."""
    return (values_of(found, "patching onset") - values_of(found, "probe saturation")).dropna()


def where(found: pd.DataFrame, metric: str) -> str:
    """Where a landmark lies in our runs and between which values in the paper's models, in words."""
    rows = found[found["metric"] == metric].dropna(subset="value").sort_values("parameters")
    own, theirs = rows[rows["source"] == "ours"], rows.loc[rows["source"] == "paper", "value"]
    numbers = ladder.in_words(own["model"], [f"{value:.2f}" for value in own["value"]])
    return f"{numbers} (in the paper's models {theirs.min():.2f} to {theirs.max():.2f})" if len(theirs) else numbers


def spans(found: pd.DataFrame, metric: str) -> str:
    """Between which values a landmark lies in our runs and in the paper's models, in words."""
    ours, theirs = (_range(values) for values in _by_source(found, metric))
    return f"{ours} in our models and {theirs} in the study's"


def against_study(found: pd.DataFrame, metric: str) -> str:
    """Where a landmark lies in our runs beside the paper's models, in words: "later than in any of the study's"."""
    ours, theirs = _by_source(found, metric)
    if ours.empty or theirs.empty:
        return "(not measured)"
    if ours.min() > theirs.max() or ours.max() < theirs.min():
        return f"{'later' if ours.min() > theirs.max() else 'earlier'} than in any of the study's"
    inside = ours.between(theirs.min(), theirs.max()).all()
    return "about where it does in the study's" if inside else "not always where it does in the study's"


def _by_source(found: pd.DataFrame, metric: str) -> list[pd.Series]:
    """The values of a landmark in our runs, and those in the paper's models."""
    rows = found[found["metric"] == metric].dropna(subset="value")
    return [rows.loc[rows["source"] == source, "value"] for source in ("ours", "paper")]


def _range(values: pd.Series) -> str:
    ends = dict.fromkeys(f"{end:.2f}" for end in (values.min(), values.max()))
    return " to ".join(ends) if len(values) else "(not measured)"


def checked_numbers(found: pd.DataFrame, parts: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """The number of each run of `ladder.checked` for named checks (words to claim and check), for a figure.

    Columns: what (the words), run, value, ci_low, ci_high. Raises ValueError when no run has any of them.
    """
    own = [
        ladder.checks_of(found, dict(claim=claim, check=check)).assign(what=words)
        for words, (claim, check) in parts.items()
    ]
    rows = pd.concat(own).rename(columns={"number": "value"}).dropna(subset="value")
    if rows.empty:
        raise ValueError(f"no run has a number for {', '.join(parts)}: measure it first (emolib run)")
    return rows.drop_duplicates(["what", "run"])[["what", "run", "value", "ci_low", "ci_high"]]


def trends(found: pd.DataFrame, *sources: str) -> pd.DataFrame:
    """Spearman's correlation of each landmark that three models have at least with the number of parameters.

    Columns: landmark, correlation, p (by permutation, two-sided, so that three models can never be clear), n (the
    models), q (p after Benjamini and Hochberg, over these landmarks).
    """
    rows = []
    for metric in (*SIZES, *DEPTHS):
        part = found[(found["metric"] == metric) & found["source"].isin(sources)].dropna(subset=["parameters", "value"])
        if len(part) > 2:
            size, value = (rankdata(part[name]) for name in ("parameters", "value"))
            pairings = dict(permutation_type="pairings", vectorized=True, rng=0)
            result = permutation_test((value,), partial(_correlation, size), **pairings)
            rows.append(dict(landmark=metric, correlation=result.statistic, p=result.pvalue, n=len(part)))
    table = pd.DataFrame(rows)
    return table.assign(q=false_discovery_control(table["p"]))


def _correlation(given: np.ndarray, drawn: np.ndarray, axis: int = -1) -> np.ndarray:
    mine, theirs = given - given.mean(), drawn - drawn.mean(axis, keepdims=True)
    length = np.sqrt((mine**2).sum() * (theirs**2).sum(axis))
    return (mine * theirs).sum(axis) / np.maximum(length, np.finfo(float).tiny)  # 0 where all are equal


def numbers(found: pd.DataFrame) -> pd.DataFrame:
    """All landmarks, a row a model, the smallest first, parameters in billions."""
    table = found.pivot(index=["model", "source", "parameters", "layers"], columns="metric", values="value")
    table = table[[name for name in (*SIZES, *DEPTHS) if name in table]].reset_index().sort_values("parameters")
    table["parameters"] /= 1e9
    return table.rename(columns={"parameters": "parameters (10⁹)"}).rename_axis(columns=None)


def moves(trends: pd.DataFrame, metric: str) -> str:
    """A sentence on a landmark that the one before has named: whether it goes with size, and within families."""
    row = trends.set_index("landmark").loc[metric]
    up = row["correlation"] > 0
    how = "shows no clear trend with" if row["q"] >= 0.05 else f"{'rises' if up else 'falls'} with"
    within = row["grows"] if up else row["families"] - row["grows"]
    return (
        f"This depth {how} the size of the model: rank correlation **{plain(row['correlation'], '+.2f')}** over "
        f"{row['n']:.0f} models, the paper's and ours; {'higher' if up else 'lower'} in the larger model of "
        f"**{within:.0f} of {row['families']:.0f}** of the paper's families that have two sizes."
    )


def families(found: pd.DataFrame) -> pd.DataFrame:
    """Landmarks within the families of which the paper has two sizes: landmark, families, and in how many it grows."""
    rows = []
    for metric in (*SIZES, *DEPTHS):
        part = found[(found["metric"] == metric) & (found["source"] == "paper")].dropna(subset=["parameters", "value"])
        part = part.assign(family=part["model"].str.split().str[0].replace(KIN)).sort_values("parameters")
        pairs = [own["value"].to_numpy() for _, own in part.groupby("family") if len(own) == 2]
        rows.append(dict(landmark=metric, families=len(pairs), grows=sum(big > small for small, big in pairs)))
    return pd.DataFrame(rows)


@styled
def against_size(found: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Landmarks over parameters, a panel each titled by its words: the paper's models hollow, ours filled, intervals.

    Raises ValueError when none of the named landmarks is there.
    """
    rows = found[found["metric"].isin(list(names))].dropna(subset=["parameters"])
    there = [name for name in names if (rows["metric"] == name).any()]
    if not there:
        raise ValueError(f"no landmark of {list(names)} in the table: give the result of overview")
    fig, axes = panels(len(there), height=2.1, below=0.5, columns=2)
    for ax, name in zip(axes, there, strict=True):
        for source, fill, colour in (("paper", "none", INK), ("ours", CYCLE[0], CYCLE[0])):
            part = rows[(rows["metric"] == name) & (rows["source"] == source)]
            ax.vlines(part["parameters"] / 1e9, part["ci_low"], part["ci_high"], color=colour, linewidth=1)
            ax.plot(part["parameters"] / 1e9, part["value"], "o", color=colour, markerfacecolor=fill, label=source)
        ax.set(title=names[name], xscale="log", ylim=(min(0, rows["ci_low"].min() - 0.02), 1))
        ax.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
        ax.minorticks_off()
    label_axes(axes, "parameters (billions)", "value" if names is SIZES else "depth")
    handles, _ = axes[0].get_legend_handles_labels()
    fig.legend(handles, ["the study's ten models", "ours"], loc="outside lower center", ncols=2)
    return fig
