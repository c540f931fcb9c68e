"""What the chapter on robustness shows of its table, beside the paper's values: rows selected and named.

Checks that a corpus has no texts for leave no rows, and their views are empty.
"""

from __future__ import annotations

import pandas as pd

from emolib.figures.display import in_table, spoken
from emolib.figures.panels import readable
from emolib.tables import paper
from emolib.tables.results import at_last_layer
from emolib.texts.prompts import PAPER_PROMPTS

PLACES = {"attn_out": "attention", "resid_post": "stream"}
CONTROLS = ("topic", "first_word")
MOVED = {"topic": "asked for the topic", "first_word": "asked for the first word", "text": "text as written"}
KINDS = {"peak_shift": "peak of patching", "dip_shift": "dip of ablation"}
TEXTS = {"masked": "masked", "original": "as written", "original_minus_masked": "difference, points"}
DIFFERENCE = "shown_minus_hidden"
LEAKED = {
    ("shown", ""): "under prompts that show them",
    ("hidden", ""): "under prompts that do not",
    (DIFFERENCE, ""): "a difference of",
    (DIFFERENCE, "class"): "more than for other events of the same emotion by",
}
DEPTHS = tuple(f"{landmark}_depth" for landmark in ("peak", "dip", "onset", "saturation"))
TASK_COLUMNS = ("accuracy", "balanced_accuracy", "majority_share", "agreed_count", *DEPTHS)


def pick(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """The rows whose columns have the given values (or one of a list); empty where there are none."""
    for name, wanted in keys.items():
        table = table[table[name].isin(wanted if isinstance(wanted, (list, tuple)) else [wanted])]
    return table.reset_index(drop=True)


def accuracy(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy under every prompt, calibrated and not, and the paper's, which is not."""
    names = {"none": "not calibrated", "batch": "calibrated"}
    theirs = paper.values("behaviour", model=paper.DETAILED.id, metric="accuracy", rerun="", prompt=list(PAPER_PROMPTS))
    ours = pick(table, check="prompts", metric="accuracy", component="").replace({"calibration": names})
    return ours, theirs.assign(calibration=names["none"])


def answers(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What is answered under each prompt before calibration."""
    rows = pick(table, check="prompts", metric="predicted_count", calibration="none")
    return dict(list(rows.groupby("prompt", sort=False)))


def by_prompt(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by prompt and layer of patching and zero ablation of attention, told apart in the column `panel`."""
    rows = pick(table, component="attn_out", position="-1")
    moved = pick(rows, metric="transfer", span=3).assign(panel="patching, 3 layers")
    return pd.concat([moved, pick(rows, metric="agreement", span=1).assign(panel="zero ablation, 1 layer")])


def paper_by_prompt() -> pd.DataFrame:
    """The paper's rows for `by_prompt`: Figure 27 and its stored notebooks."""
    keys = dict(model=paper.DETAILED.id, component="attn_out", prompt=list(PAPER_PROMPTS))
    left = paper.values("zero_ablation", **keys).assign(metric="agreement")
    return by_prompt(pd.concat([paper.values("patching", metric="transfer", **keys), left]))


def by_task(table: pd.DataFrame, metric: str, **keys: object) -> pd.DataFrame:
    """Rows by layer of each control task and of emotion on its texts, with the columns `task` and `panel`."""
    rows = pick(table, metric=metric, check=[*CONTROLS, "matched"], component=list(PLACES), **keys)
    texts = rows["texts"].mask(rows["texts"] == "", rows["check"]).str.replace("_", " ")
    task = rows["check"].replace("matched", "emotion").str.replace("_", " ")
    return rows.assign(task=task, panel=rows["component"].map(PLACES) + ", " + texts)


def paper_by_task() -> pd.DataFrame:
    """The paper's transfer of the first word (Figure 23) for `by_task`, the stream at its last overwritten layer."""
    found = at_last_layer(paper.values("control_first_word", metric="patching:transfer", component=list(PLACES)))
    return found.assign(task="first word", panel=found["component"].map(PLACES) + ", first word")


def tasks(table: pd.DataFrame) -> pd.DataFrame:
    """One row a task: how well it is answered, the share of its commonest answer, and the depths where curves turn."""
    rows = pick(table, metric=TASK_COLUMNS, check=[*CONTROLS, "matched"], component="", calibration=["", "batch"])
    name = rows["check"].where(rows["texts"] == "", "emotion on " + rows["texts"] + " texts").str.replace("_", " ")
    wide = rows.assign(task=name).pivot(index="task", columns="metric", values="value")
    wide = wide.reindex(index=name.unique(), columns=list(TASK_COLUMNS))
    return (
        wide.astype({"agreed_count": "Int64"})
        .rename(columns=lambda metric: metric.replace("_", " "))
        .rename_axis(columns=None)
    )


def shifts(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of where curves of attention turn, in layers later than in what they are compared with.

    Columns `kind`, the place, and `change`: another prompt, another question, or the text as written, in this order.
    """
    found = pick(table, check=["prompts", *MOVED], metric=list(KINDS))
    change = found["prompt"].where(found["check"] == "prompts", found["check"].map(MOVED))
    order = found["check"].map(["prompts", *MOVED].index).argsort(kind="stable")
    return found.assign(kind=found["metric"].map(KINDS), change=change).iloc[order]


def elsewhere(later: pd.DataFrame) -> str:
    """Under how many prompts each place of `shifts` has its whole interval beside zero, in words."""
    beside = ((later["ci_low"] > 0) | (later["ci_high"] < 0)).groupby(later["kind"], sort=False)
    return ", ".join(f"{kind} {hit.sum()} of {len(hit)}" for kind, hit in beside)


def masking(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on events that masking changes and on others, as text with intervals: a row each, a column a text."""
    rows = pick(table, check="text", set=["changed", "unchanged"])
    shown: dict[str, dict[str, str]] = {}
    for row in rows.to_dict("records"):
        apart = row["text"] == "original_minus_masked"
        points = row | {name: 100 * row[name] for name in ("value", "ci_low", "ci_high")}
        cells = shown.setdefault(row["set"], {"events": f"{row['set']} by masking ({row['n']})"})
        cells[TEXTS[row["text"]]] = spoken(points, "+.0f") if apart else spoken(row, ".0%")
    return pd.DataFrame([*shown.values()], columns=["events", *TEXTS.values()])


def leaked(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How demonstrations that are in the corpus change accuracy, by prompt, and how they are answered, by `what`."""
    rows = pick(table, check="demonstrations")
    pooled = pick(rows, prompt="all")
    what = [LEAKED[key] for key in zip(pooled["set"], pooled["against"], strict=True)]
    return rows[rows["prompt"] != "all"], pooled.assign(what=what)


def answered(pooled: pd.DataFrame) -> list[str]:
    """How often these events are answered right, in words: shares in per cent, differences of them in points."""
    apart = pooled["set"] == DIFFERENCE
    points = pooled.assign(**{name: 100 * pooled[name] for name in ("value", "ci_low", "ci_high")})
    shares = [f"{row['what']} {spoken(row, '.0%')}" for _, row in pooled[~apart].iterrows()]
    return [*shares, *(f"{row['what']} {spoken(row, '.0f')} points" for _, row in points[apart].iterrows())]


def missed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of missed minus correct at the best layer for the six cells of Table 3, by `cell` and `source`."""
    best = pick(table, check="misclassified", metric="r2")["layer"].unique().tolist()
    found = pick(table, check="misclassified", metric="rating_difference")
    found = _with_cell(found[found["layer"].isna() | found["layer"].isin(best)])
    found["source"] = found["source"].str.replace("_", " ")
    return pick(found, cell=paper_missed()["cell"].tolist())


def paper_missed() -> pd.DataFrame:
    """The differences, missed minus correct, of the paper's Table 3, by `cell`."""
    rows = paper.values("misclassified", metric="mean_rating")
    wide = rows.pivot(index=["emotion", "appraisal"], columns="set", values="value")
    return _with_cell((wide["missed"] - wide["correct"]).rename("value").reset_index().assign(source="probe"))


def lowest_by_token(table: pd.DataFrame) -> pd.DataFrame:
    """The lowest agreement over the layers under zero ablation of one layer at one token; empty without any.

    A row for each `token` and `part` of the model, in words.
    """
    rows = pick(table, check="positions", metric="agreement", method="zero")
    low = rows.loc[rows.groupby(["position", "component"], sort=False)["value"].idxmin()]
    return low.assign(token=[readable(t, "position") for t in low["position"]], part=low["component"].map(readable))


def over_splits(table: pd.DataFrame) -> pd.DataFrame:
    """Standard deviations of accuracy over splits by layer, points; column `kind`: measured, or by sampling alone."""
    rows = pick(table, check="splits", metric=["accuracy_sd", "sampling_sd"])
    rows[["value", "ci_low", "ci_high"]] *= 100
    return rows.assign(kind=rows["metric"].map({"accuracy_sd": "measured", "sampling_sd": "by sampling alone"}))


def costliest_token(lowest: pd.DataFrame) -> str:
    """At which one token, of rows of `lowest_by_token`, zeroing leaves fewest answers, as a sentence.

    It says whether the intervals tell it from the token that comes next.
    """
    single = lowest[lowest["position"] != "all"].nsmallest(2, "value")
    if len(single) < 2:
        return "No tokens were zeroed one by one in this run."
    first, second = single.to_dict("records")
    told = (
        "more, for certain, than"
        if first["ci_high"] < second["ci_low"]
        else "but the events are too few to tell it from"
    )
    return (
        f"In this run zeroing the attention output of one layer costs most answers at {first['token']}, {told} "
        f"{second['token']}."
    )


def by_token(lowest: pd.DataFrame) -> pd.DataFrame:
    """The rows of `lowest_by_token` as texts with intervals: a row a token, a column a part of the model."""
    return in_table(lowest, "token", "part")


def _with_cell(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(cell=[f"{e}, {readable(a)}" for e, a in zip(rows["emotion"], rows["appraisal"], strict=True)])
