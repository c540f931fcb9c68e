"""What the chapter on modulation shows of its table: rows selected for figures and sentences.

`paper` are the rows of modulation in `emolib.paper.tables` of the model that the study examines in detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from emolib import stats
from emolib.interventions.theory import theory_score
from emolib.tables.results import select
from emolib.texts.appraisals import PRINTED, PUSHED, Setting

SIGNS = list(PUSHED)
MEAN = f"mean of {len(PRINTED)} settings"
SINGLE = tuple(Setting(**{name: sign}) for name in ("pleasantness", "other_responsblt") for sign in (1, -1))
AGENCY = (Setting(self_responsblt=1), Setting(self_responsblt=-1))
PAPER = dict(layer=8, dose=2.0)  # where and how hard the paper pushes, layer 9 of 16


class Place(NamedTuple):
    """Where most is shown: the chosen centre, that at the paper's depth, the dose (a share of the norm), and how long
    the residual stream is at each layer."""

    centre: int
    there: int
    dose: float
    norms: pd.Series

    @property
    def at(self) -> dict[str, object]:
        """The columns of rows at the chosen centre and dose, in windows of three layers."""
        return dict(layer=self.centre, unit="norm", dose=self.dose, span=3)


def place(table: pd.DataFrame) -> Place:
    """Where most of the chapter is shown."""
    chosen = select(table, metric="decisive").set_index("reason")["layer"].astype(int)
    dose = select(table, metric="selection_score")["dose"].iloc[0]
    norms = select(table, metric="residual_norm").set_index("layer")["value"]
    return Place(chosen["selected"], chosen["paper_depth"], float(dose), norms)


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `setting`: what is pushed, in words."""
    return rows.assign(setting=[_words(row) for row in rows.to_dict("records")])


def of(rows: pd.DataFrame, settings: Iterable[Setting | str], **keys: object) -> pd.DataFrame:
    """The rows of some settings, or of `MEAN`, with their words, that have the given values of other columns."""
    words = [str(setting) for setting in settings]
    found = named(select(rows, **keys) if keys else rows)
    return found[found["setting"].isin(words)]


def label_bars(table: pd.DataFrame, paper: pd.DataFrame, where: Place) -> dict[str, pd.DataFrame]:
    """Label counts without and under eight pushes, ours and the paper's."""
    bars = {"no push": baseline(table), "no push (paper)": baseline(paper)}
    for setting in (setting for setting in PRINTED if "predict_event" not in setting):
        bars[str(setting)] = of(table, [setting], metric="count", vector="raw", **where.at)
        bars[f"{setting} (paper)"] = of(paper, [setting], metric="count", vector="raw", **PAPER)
    return bars


def baseline(table: pd.DataFrame) -> pd.DataFrame:
    """Label counts without a push."""
    return select(table, metric="count", dose=0.0)


def over_layers(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Label counts at every layer under four pushes and two random directions, by `setting`."""
    keys = dict(metric="count", unit="norm", dose=where.dose, span=3)
    return pd.concat(
        [of(table, SINGLE, vector="raw", **keys), named(select(table, vector="random", draw=[0, 1], **keys))]
    )


def null_bands(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """For each setting, layer, unit and dose the random draws' mean with the range of 95 % of new ones.

    Single directions, and of the mean over settings the sets. `limit` is what 1 % of new draws exceed, `n` the draws.
    """
    null = select(table, metric="theory_score_null", span=3, vector=["random", "random_sets"], **keys)
    by, rows = [*SIGNS, "settings", "layer", "unit", "dose"], []
    for key, draws in null.groupby(by, dropna=False)["value"]:
        values = draws.to_numpy(dtype=float)
        limit = float(stats.null_band(values, level=0.98).ci_high)
        rows += stats.null_band(values).rows(dict(zip(by, key, strict=True)), limit=limit, n=len(values))
    return named(pd.DataFrame(rows))


def by_depth(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores over layers of six settings at two doses, and their nulls; columns setting, `what`."""
    shown = (MEAN, SINGLE[0], SINGLE[2], Setting(predict_event=-1), PRINTED[7], AGENCY[0])
    doses = {
        f"{where.dose:g} of the norm": dict(unit="norm", dose=where.dose),
        "β = 2": dict(unit="absolute", dose=2.0),
    }
    rows = []
    for word, dose in doses.items():
        rows.append(of(table, shown, metric="theory_score", vector="raw", span=3, **dose).assign(what=word))
        null = null_bands(table, **dose)
        null = null[null["setting"].isin(map(str, shown[1:]))]
        rows.append(null.assign(what=f"random, {word}", n_layers=rows[0]["n_layers"].iloc[0]))
    found = pd.concat(rows, ignore_index=True)
    return found.assign(depth=(found["layer"].astype(float) + 1) / found["n_layers"].astype(float))


def paper_by_depth(paper: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """The paper's counts scored alike at β = 2; their mean is over the settings that it shows at all layers."""
    rows = named(select(paper, metric="theory_score", dose=2.0))
    shown = rows[rows.groupby("setting")["layer"].transform("nunique") == rows["layer"].nunique()]
    mean = shown.groupby(["layer", "depth", "n_layers"], as_index=False)["value"].mean().assign(setting=MEAN)
    found = pd.concat([mean, rows]).assign(what="β = 2")
    return found[found["setting"].isin(settings)]


def against_null(table: pd.DataFrame, where: Place) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Theory scores of every setting at the chosen centre, and the scores of the random draws."""
    mine = named(select(table, metric="theory_score", vector="raw", **where.at))
    draws = select(table, metric="theory_score_null", vector=["random", "random_sets"], **where.at)
    return mine, named(draws)


def by_vector(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores of four kinds of vectors, for single appraisals and the mean over settings."""
    keys = dict(metric="theory_score", vector=["raw", "fix3", "fixall", "mean_difference"], **where.at)
    single = [setting for setting in PRINTED if len(setting) == 1]
    return of(table, [MEAN, *single], **keys)


def vectors_compared(table: pd.DataFrame, paper: pd.DataFrame, where: Place) -> pd.DataFrame:
    """One row a kind of vector: its theory score, how its shifts correlate with the paper's, what projection leaves."""
    before, llama = (baseline(rows).set_index("label")["value"] for rows in (table, paper))
    kept, rows = select(table, metric="kept_share", layer=where.centre), []
    for word, vector, span in [
        *((kind, kind, 3) for kind in ("raw", "fix3", "fixall", "mean_difference", "unit")),
        ("raw, one layer", "raw", 1),
    ]:
        settings = [setting for setting in PRINTED if vector != "unit" or len(setting) > 1]
        keys = where.at | dict(vector=vector, span=span)
        new = _by_setting(of(table, settings, metric="count", **keys), settings, before.index)
        theirs = _by_setting(of(paper, settings, metric="count", vector="raw", **PAPER), settings, before.index)
        alike = theory_score((theirs + 0.5) / (llama[before.index].to_numpy() + 0.5), new, before)
        score = of(table, settings, metric="theory_score", **keys)["value"].mean()
        left = kept.loc[kept["vector"] == vector, "value"].mean()
        rows.append([word, len(settings), score, alike.mean(), alike.min(), alike.max(), left])
    names = ["vector", "settings", "theory score", "agrees with the paper", "lowest", "highest", "kept"]
    return pd.DataFrame(rows, columns=names)


def by_dose(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores at the chosen centre by length of push, in words (`push`), for four settings and the mean."""
    return _with_push(of(table, [MEAN, *SINGLE], metric="theory_score", vector="raw", layer=where.centre, span=3))


def paper_by_dose(paper: pd.DataFrame, settings: Iterable[str]) -> pd.DataFrame:
    """The paper's counts at its layer 9 scored alike, by length of push."""
    rows = of(paper, PRINTED, metric="theory_score", layer=PAPER["layer"])
    mean = rows.groupby("dose", as_index=False)["value"].mean().assign(setting=MEAN)
    found = _with_push(pd.concat([mean, rows]).assign(unit="absolute"))
    return found[found["setting"].isin(list(settings))]


def flows(table: pd.DataFrame, where: Place) -> dict[str, pd.DataFrame]:
    """Who moved from which label to which when pleasantness is pushed, by setting in words."""
    return {str(setting): of(table, [setting], metric="flow", vector="raw", **where.at) for setting in SINGLE[:2]}


def self_agency(table: pd.DataFrame, where: Place) -> dict[str, pd.DataFrame]:
    """Label counts without a push, and with self-agency pushed up and down."""
    pushed = {str(setting): of(table, [setting], metric="count", vector="raw", **where.at) for setting in AGENCY}
    return {"no push": baseline(table)} | pushed


def counted_together(bars: dict[str, pd.DataFrame], groups: dict[str, list[str]]) -> pd.DataFrame:
    """How many texts of each bar have a label of each group."""
    return pd.DataFrame(
        {
            name: {push: bar.loc[bar["label"].isin(part), "value"].sum() for push, bar in bars.items()}
            for name, part in groups.items()
        }
    ).astype(int)


def beyond(table: pd.DataFrame, settings: Iterable[Setting], where: Place) -> pd.DataFrame:
    """Theory scores with `limit`, what 1 % of random directions exceed, at the chosen centre and dose."""
    keys = {name: value for name, value in where.at.items() if name != "span"}
    null = null_bands(table, **keys).set_index("setting")["limit"]
    found = of(table, settings, metric="theory_score", vector="raw", **where.at)
    return found.assign(limit=found["setting"].map(null))


def _words(row: Mapping[str, Any]) -> str:
    if row.get("settings") == "printed":
        return MEAN
    if pd.isna(row[SIGNS[0]]):
        return "no push" if pd.isna(row.get("draw")) else f"random direction {int(row['draw']) + 1}"
    return str(Setting.from_columns(row))


def _by_setting(rows: pd.DataFrame, settings: Sequence[Setting], labels: pd.Index) -> np.ndarray:
    """Counts [settings, labels]."""
    return rows.pivot(index="setting", columns="label", values="value").loc[[*map(str, settings)], labels].to_numpy()


def _with_push(rows: pd.DataFrame) -> pd.DataFrame:
    words = [
        f"β = {dose:g}" if unit == "absolute" else f"{dose:g} of norm"
        for unit, dose in zip(rows["unit"], rows["dose"], strict=True)
    ]
    return rows.assign(push=words)
