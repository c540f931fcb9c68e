"""What the chapter on modulation shows of its table: rows selected for figures and sentences.

Tables are `named` first. `paper` are the rows of modulation in `emolib.paper.tables` of the model that the study
examines in detail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from emolib import stats
from emolib.engine.sites import layer_number
from emolib.figures.display import in_table, plain, spoken
from emolib.figures.panels import readable, with_push
from emolib.interventions.theory import theory_score
from emolib.tables.results import select
from emolib.texts.appraisals import PRINTED, PUSHED, Setting

MEAN = f"mean of {len(PRINTED)} settings"
SETTINGS = [str(setting) for setting in PRINTED]
SINGLE = [str(Setting(**{name: sign})) for name in ("pleasantness", "other_responsblt") for sign in (1, -1)]
AGENCY = [str(Setting(self_responsblt=sign)) for sign in (1, -1)]
EXAMPLE = {
    "guilt or shame": ["guilt", "shame"],
    "sadness or anger": ["sadness", "anger"],
}  # of self-agency, up and down
PAPER = dict(layer=8, dose=2.0)  # where and how hard the paper pushes, layer 9 of 16
NULL = dict(metric="theory_score_null", vector=["random", "random_sets"])
FAIR = dict(matched_sets="random of like covariance", shuffled_sets="fitted on other writers' ratings")
KINDS = dict(
    raw="as released",
    fix3="three others projected out",
    fixall="all others projected out",
    unit="brought to equal length",
    tuned="directions that predict",
    mean_difference="differences of means",
)
READ = {kind: KINDS[kind] for kind in ("raw", "tuned", "mean_difference")}
DEPTH, LAST = "theory score at the paper's depth", "around the last layers"
SAID = dict(
    tuned=f"pushed, {KINDS['tuned']}",
    raw=f"pushed, {KINDS['raw']}",
    prompted="said",
    prompted_beyond_neutral="said, beyond what any sentence does",
)


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


def place(table: pd.DataFrame, vector: str = "raw") -> Place:
    """Where most of the chapter is shown of a kind of vector: `raw` or `tuned`, for which the centre was chosen."""
    chosen = select(table, metric="decisive", vector=vector).set_index("reason")["layer"].astype(int)
    dose = select(table, metric="selection_score")["dose"].iloc[0]
    norms = select(table, metric="residual_norm").set_index("layer")["value"]
    return Place(chosen["selected"], chosen["paper_depth"], float(dose), norms)


def named(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `setting`: what is pushed, in words."""
    rows = table[[*PUSHED, "settings", "draw"]].to_dict("records")
    return table.assign(setting=[_words(row) for row in rows])


def baseline(table: pd.DataFrame) -> pd.DataFrame:
    """Label counts without a push."""
    return select(table, metric="count", dose=0.0)


def pushed(table: pd.DataFrame, settings: Sequence[str], **keys: object) -> dict[str, pd.DataFrame]:
    """The rows of raw vectors by setting."""
    return {setting: select(table, setting=setting, vector="raw", **keys) for setting in settings}


def label_bars(table: pd.DataFrame, **at: object) -> dict[str, pd.DataFrame]:
    """Label counts without and under eight pushes, ours or the paper's."""
    settings = [str(setting) for setting in PRINTED if "predict_event" not in setting]
    return {"no push": baseline(table)} | pushed(table, settings, metric="count", **at)


def gains(bars: Mapping[str, pd.DataFrame]) -> str:
    """The label that each push of one appraisal adds most texts to, in words: "joy (more pleasant), ..."."""
    counts = pd.DataFrame({push: bar.set_index("label")["value"] for push, bar in bars.items()})
    most = counts[SINGLE].sub(counts["no push"], axis=0).astype(float).idxmax()
    return ", ".join(f"{label} ({push})" for push, label in most.items())


def over_layers(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Label counts at every layer under four pushes and two random directions, by `setting`."""
    keys = dict(metric="count", unit="norm", dose=where.dose, span=3)
    fitted = select(table, setting=SINGLE, vector="raw", **keys)
    return pd.concat([fitted, select(table, vector="random", draw=[0, 1], **keys)])


def null_bands(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """For each setting, layer, unit and dose the random draws' mean with the range of 95% of new ones.

    Single directions, and of the mean over settings the sets. `limit` is what 1% of new draws exceed, `n` the draws.
    """
    by, rows = ["setting", "layer", "n_layers", "unit", "dose"], []
    for key, draws in select(table, **NULL, **keys).groupby(by)["value"]:
        values = draws.to_numpy(dtype=float)
        limit = float(stats.null_band(values, level=0.98).ci_high)
        rows += stats.null_band(values).rows(dict(zip(by, key, strict=True)), limit=limit, n=len(values))
    return pd.DataFrame(rows)


def by_depth(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores over layers of six settings as released, and their nulls; columns setting, `what`."""
    shown = [MEAN, SINGLE[0], SINGLE[2], str(Setting(predict_event=-1)), SETTINGS[7], AGENCY[0]]
    keys = dict(unit="norm", dose=where.dose, span=3)
    fitted = select(table, setting=shown, metric="theory_score", vector="raw", **keys)
    null = select(null_bands(table, **keys), setting=shown[1:])
    return pd.concat([fitted.assign(what=KINDS["raw"]), null.assign(what="random directions")], ignore_index=True)


def above_random(curves: pd.DataFrame) -> pd.Series:
    """Whether each score of `by_depth` that has a null is above the range of 95% of its random directions."""
    fitted, null = (select(curves, what=what).set_index(["setting", "layer"]) for what in curves["what"].unique())
    return fitted["value"].reindex(null.index) > null["ci_high"]


def what_is_read(table: pd.DataFrame) -> pd.DataFrame:
    """R2 on unseen writers of what each kind of direction reads, over layers; columns appraisal, `direction`."""
    names = {str(Setting(**{name: 1})): name for name in dict.fromkeys(a for one in PRINTED for a in one)}
    rows = select(table, metric="direction_r2", setting=[*names])
    return rows.assign(direction=rows["vector"].map(READ), appraisal=rows["setting"].map(names))


def tuned_by_depth(table: pd.DataFrame) -> pd.DataFrame:
    """Mean theory scores over layers of released and of tuned vectors and of differences of means; column `what`."""
    keys = dict(metric="theory_score", settings="printed", vector=[*READ], unit="norm", dose=place(table).dose, span=3)
    rows = select(table, **keys)
    return rows.assign(what=rows["vector"].map(READ))


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """`tuned_by_depth` of a table that is not `named` yet."""
    return tuned_by_depth(named(table))


def in_short(table: pd.DataFrame) -> pd.DataFrame:
    """The chapter in three numbers for each kind of direction of `READ`; columns direction, `what`, value and interval.

    They are the mean theory score at the layer that is as deep as the paper's, that around the last layer pushed, and
    how well the direction of pleasantness reads the ratings of unseen writers at the former, R².
    """
    scores, there = by_kind(table), place(table).there
    parts = {
        DEPTH: select(scores, layer=there),
        LAST: select(scores, layer=scores["layer"].max()),
        "R² of pleasantness, unseen writers": select(
            table, metric="direction_r2", layer=there, pleasantness=1, vector=[*READ]
        ),
    }
    rows = pd.concat([part.assign(what=what) for what, part in parts.items()], ignore_index=True)
    return rows.assign(direction=rows["vector"].map(READ))


def short_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `in_short` of several runs as texts, one row a run and kind of direction; "–" for what one lacks."""
    table = in_table(rows, ["run", "direction"], "what").rename(columns=dict(run="model"))
    return table.replace(" to ", "\xa0to\xa0", regex=True)  # an interval stays in one line


def in_how_many(rows: pd.DataFrame, what: str) -> str:
    """In how many runs a score of `in_short` is above zero with its whole interval, by kind of direction, in words:
    "**2 of 2** with *directions as released*, ..."."""
    scores = select(rows, what=what)
    above = (scores["ci_low"] > 0).groupby(scores["direction"], sort=False)
    named = {KINDS["raw"]: f"directions {KINDS['raw']}"}
    return ", ".join(f"**{part.sum()} of {len(part)}** with *{named.get(kind, kind)}*" for kind, part in above)


def highest(curves: pd.DataFrame) -> str:
    """Where the highest score of each run lies, in words: "0.67 (A, differences of means, layer 26 of 30)"."""
    top = curves.loc[curves.groupby("run", sort=False)["value"].idxmax()]
    return "; ".join(
        f"{row.value:.2f} ({row.run}, {row.what}, layer {layer_number(row.layer)} of {row.n_layers})"
        for row in top.itertuples()
    )


def fair_nulls(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores of the sets of `FAIR` nulls at the centre of the place, each set against its own expectations."""
    return select(table, metric="theory_score_null", vector=[*FAIR], **where.at)


def chance_reaches(table: pd.DataFrame) -> str:
    """From where to where mean theory scores of sets of random directions of like covariance reach at the depth of the
    paper, in words."""
    where = place(table, "tuned")
    sets = select(fair_nulls(table, where._replace(centre=where.there)), vector="matched_sets", setting=MEAN)["value"]
    return f"from {plain(sets.min(), '.2f')} to {plain(sets.max(), '.2f')}"


def centres_in_words(table: pd.DataFrame, where: Place) -> str:
    """What the chosen centre and the depth of the paper give on the judged texts, along directions as released."""
    keys = dict(metric="theory_score", settings="printed", vector="raw")
    chosen, there = (
        spoken(select(table, **keys, **one.at).iloc[0]) for one in (where, where._replace(centre=where.there))
    )
    return (
        f"On the judged texts the mean theory score as released is {chosen} at the chosen centre, which was chosen on "
        f"others, and {there} at the paper's depth."
    )


def robust(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """One row a kind of vector at the centre of the place: the mean over settings beside what its nulls reach.

    Columns: directions, around layer, theory score and against theory (share of texts moved to a label that should
    become rarer) with their intervals as text, and draws. Of nulls the mean of the draws and the range of 95% of new
    ones.
    """
    rows = []
    for vector, words in READ.items():
        keys = dict(settings="printed", vector=vector, **where.at)
        pair = [select(table, metric=metric, **keys).iloc[0] for metric in ("theory_score", "against_theory")]
        rows.append([words, layer_number(where.centre), *map(spoken, pair), ""])
    for vector, words in FAIR.items():
        keys = dict(settings="printed", vector=vector, **where.at)
        pair, n = [], 0
        for metric in ("theory_score_null", "against_theory"):
            draws = select(table, metric=metric, **keys)["value"].to_numpy(dtype=float)
            pair.append(stats.null_band(draws).rows({})[0])
            n = len(draws)
        rows.append([words, layer_number(where.centre), *map(spoken, pair), str(n)])
    return pd.DataFrame(rows, columns=["directions", "around layer", "theory score", "against theory", "draws"])


def pushed_and_said(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores of pushes with directions that predict and of what is said instead, by setting; column `way`."""
    keys = dict(metric="theory_score", setting=[*SETTINGS, MEAN, *AGENCY])
    ways = [select(table, vector=way, **keys, **(where.at if way == "tuned" else {})) for way in SAID if way != "raw"]
    rows = pd.concat(ways)
    return rows.assign(way=rows["vector"].map(SAID))


def instead(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """One row a way to change an appraisal, pushed at the centre of the place or said: the mean over settings.

    Columns: theory score by the ratings of these texts and by the meta-analysis, and against theory, with intervals as
    text, and labels moved, the total variation. Below them the nulls of `FAIR`, with the range of 95% of new sets, and
    neutral sentences.
    """
    metrics, rows = ("theory_score", "meta_analysis_score", "against_theory"), []
    for way, words in SAID.items():
        at = where.at if way in READ else {}
        means = [select(table, metric=metric, vector=way, settings="printed", **at).iloc[0] for metric in metrics]
        moved = select(table, metric="total_variation", vector=way, setting=SETTINGS, **at)["value"].mean()
        rows.append([words, *map(spoken, means), f"{moved:.2f}"])
    for null, words in FAIR.items():
        bands = []
        for metric in ("theory_score_null", *metrics[1:]):
            draws = select(table, metric=metric, vector=null, settings="printed", **where.at)["value"]
            bands.append(stats.null_band(draws.to_numpy(dtype=float)).rows({})[0])
        rows.append([words, *map(spoken, bands), ""])
    for row in select(table, metric="total_variation", vector="prompted_neutral").to_dict("records"):
        rows.append([("a neutral sentence", "two neutral sentences")[int(row["draw"])], "", "", "", spoken(row)])
    return pd.DataFrame(rows, columns=["", "theory score", "by the meta-analysis", "against theory", "labels moved"])


def beyond_saying(table: pd.DataFrame, where: Place, vector: str = "tuned") -> pd.Series:
    """How much better pushes follow theory than saying so, on the same texts: the row of the mean over settings."""
    return select(table, metric="beyond_saying", vector=vector, settings="printed", **where.at).iloc[0]


def agreement(table: pd.DataFrame) -> float:
    """The mean rank correlation, over the printed settings, of what ratings and meta-analysis expect."""
    return float(select(table, metric="meta_analysis_agreement", setting=SETTINGS)["value"].mean())


def on_and_off(table: pd.DataFrame, where: Place, vector: str = "tuned") -> pd.DataFrame:
    """What is read behind pushes, by setting: of what is pushed, and of all else; column `read`."""
    words = dict(on_target="what is pushed, in its direction", off_target="other appraisals, mean size")
    rows = select(table, metric=[*words], vector=vector, **where.at)
    return rows.assign(read=rows["metric"].map(words))


def read_layer(table: pd.DataFrame) -> int:
    """The layer, from 0, at which it is read what pushes move."""
    return int(select(table, metric="read_layer")["value"].iloc[0])


def in_people(table: pd.DataFrame) -> float:
    """The mean size of the correlation, in ratings, of what is pushed with each other appraisal."""
    return float(select(table, metric="rating_correlation")["value"].abs().mean())


def moved_beside(table: pd.DataFrame, where: Place, vector: str = "tuned") -> pd.DataFrame:
    """One row a setting of one appraisal: how far it is read to be moved, and the three others that are moved most.

    In parentheses, how these go with the appraisal in the ratings of people, as correlations.
    """
    rows = []
    for setting in (setting for setting in PRINTED if len(setting) == 1):
        ((name, _),) = setting.items()
        keys = dict(metric="read_shift", vector=vector, setting=str(setting), **where.at)
        read = select(table, **keys).set_index("label")["value"]
        people = select(table, metric="rating_correlation", setting=str(setting)).set_index("label")["value"]
        most = read.drop(name).sort_values(key=abs, ascending=False)[:3]
        others = [f"{readable(other)} {plain(v, '+.2f')} ({plain(people[other], '+.2f')})" for other, v in most.items()]
        rows.append([str(setting), f"{readable(name)} {plain(read[name], '+.2f')}", "; ".join(others)])
    return pd.DataFrame(rows, columns=["pushed", "read of it", "others that are moved most (in people)"])


def lengths(table: pd.DataFrame, where: Place) -> pd.Series:
    """What unit vectors add up to over the window at the chosen centre, the mean of the settings, by kind of vector."""
    rows = select(table, metric="accumulated_norm", layer=where.centre, span=3)
    return rows.groupby("vector")["value"].mean()


def paper_by_depth(paper: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """The paper's counts scored alike at β = 2; their mean is over the settings that it shows at all layers."""
    rows = select(paper, metric="theory_score", dose=2.0)
    shown = rows[rows.groupby("setting")["layer"].transform("nunique") == rows["layer"].nunique()]
    mean = shown.groupby(["layer", "n_layers"], as_index=False)["value"].mean().assign(setting=MEAN)
    found = pd.concat([mean, rows]).assign(what=KINDS["raw"])
    return found[found["setting"].isin(settings)]


def by_vector(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores of the kinds of directions that have all settings, for single appraisals and the mean; column
    `direction`."""
    single = [str(setting) for setting in PRINTED if len(setting) == 1]
    kinds = [kind for kind in KINDS if kind != "unit"]
    rows = select(table, setting=[MEAN, *single], metric="theory_score", vector=kinds, **where.at)
    return rows.assign(direction=rows["vector"].map(KINDS))


def vectors_compared(table: pd.DataFrame, paper: pd.DataFrame, where: Place) -> pd.DataFrame:
    """One row a kind of vector: its theory score, how its shifts correlate with the paper's, what projection leaves."""
    before, llama = (baseline(rows).set_index("label")["value"] for rows in (table, paper))
    theirs, kept = _by_setting(paper, vector="raw", **PAPER), select(table, metric="kept_share", layer=where.centre)
    rows = []
    for words, vector, span in [
        *((words, kind, 3) for kind, words in KINDS.items()),
        (f"{KINDS['raw']}, one layer", "raw", 1),
    ]:
        settings = [str(setting) for setting in PRINTED if vector != "unit" or len(setting) > 1]
        keys = where.at | dict(vector=vector, span=span)
        new = _by_setting(table, **keys).loc[settings, before.index].to_numpy()
        shifts = (theirs.loc[settings, before.index].to_numpy() + 0.5) / (llama[before.index].to_numpy() + 0.5)
        alike = theory_score(shifts, new, before)
        score = select(table, setting=settings, metric="theory_score", **keys)["value"].mean()
        left = kept.loc[kept["vector"] == vector, "value"].mean()
        rows.append([words, len(settings), score, alike.mean(), alike.min(), alike.max(), left])
    names = ["directions", "settings", "theory score", "agrees with the paper", "lowest", "highest", "kept"]
    return pd.DataFrame(rows, columns=names)


def by_dose(table: pd.DataFrame, where: Place) -> pd.DataFrame:
    """Theory scores at the chosen centre by length of push, in words (`push`), for four settings and the mean."""
    keys = dict(metric="theory_score", vector="raw", layer=where.centre, span=3)
    return with_push(select(table, setting=[MEAN, *SINGLE], **keys))


def paper_by_dose(paper: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """The paper's counts at its layer 9 scored alike, by length of push."""
    rows = select(paper, setting=SETTINGS, metric="theory_score", layer=PAPER["layer"])
    mean = rows.groupby("dose", as_index=False)["value"].mean().assign(setting=MEAN, unit="absolute")
    return with_push(select(pd.concat([mean, rows]), setting=settings))


def counted_together(bars: Mapping[str, pd.DataFrame], groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """How many texts of each bar have a label of each group."""
    counts = pd.DataFrame({push: bar.set_index("label")["value"] for push, bar in bars.items()})
    return pd.DataFrame({name: counts.loc[labels].sum() for name, labels in groups.items()}).astype(int)


def as_in_the_example(counts: pd.DataFrame) -> list[bool]:
    """Whether each change of `counted_together` goes as in the paper's example of self-agency: pushed up, the first
    group of labels gains and the second loses texts, pushed down the other way round."""
    changes = counts.loc[AGENCY] - counts.loc["no push"]
    return [
        bool(up * change > 0) for up, row in zip((1, -1), changes.to_numpy(), strict=True) for change in row * (1, -1)
    ]


def beyond(table: pd.DataFrame, settings: Sequence[str], where: Place) -> pd.DataFrame:
    """Theory scores with `limit`, what 1% of random directions exceed, at the chosen centre and dose."""
    limit = null_bands(table, **where.at).set_index("setting")["limit"]
    found = select(table, setting=settings, metric="theory_score", vector="raw", **where.at)
    return found.assign(limit=found["setting"].map(limit))


def _words(row: Mapping[str, Any]) -> str:
    if row["settings"] == "printed":
        return MEAN
    if pd.isna(row["pleasantness"]):
        return "no push" if pd.isna(row["draw"]) else f"random direction {int(row['draw']) + 1}"
    return str(Setting.from_columns(row))


def _by_setting(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """Label counts, a row a setting."""
    return select(table, metric="count", **keys).pivot(index="setting", columns="label", values="value")
