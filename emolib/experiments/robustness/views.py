"""Views of the robustness table for its chapter, beside the paper's values: selections, no measurements, no torch."""

from __future__ import annotations

from typing import Any

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.figures.panels import readable
from emolib.tables import paper

PLACES = {"attn_out": "attention", "resid_post": "stream"}
CONTROLS = ("topic", "first_word")
LEAKED = {
    "check:demonstrations;set:shown": "shown",
    "check:demonstrations;set:hidden": "hidden",
    "check:demonstrations;set:shown_minus_hidden": "difference",
    "check:demonstrations;set:shown_minus_hidden;against:class": "beyond that of other events of the same emotion",
}
TASK_COLUMNS = {
    "accuracy": "calibration:batch",
    "balanced_accuracy": "source:answer",
    "majority_share": "",
    "agreed_count": "",
    "peak_depth": "",
    "dip_depth": "",
    "onset_depth": "",
    "saturation_depth": "",
}


def pick(table: pd.DataFrame, condition: str = "", **keys: Any) -> pd.DataFrame:
    """The rows that have all pairs of `condition` and the given values of other columns; empty when there are none."""
    wanted = {pair for pair in condition.split(";") if pair}
    hits = table["condition"].map(lambda text: wanted <= set(text.split(";"))).astype(bool)
    for column, value in keys.items():
        hits &= table[column].isin(value if isinstance(value, (list, tuple)) else [value])
    return table[hits].reset_index(drop=True)


def pairs_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column for each key of their conditions, such as `emotion` or `source`; "" where it has none."""
    table = table.reset_index(drop=True)
    parts = [dict(pair.split(":", 1) for pair in text.split(";") if pair) for text in table["condition"]]
    return table.join(pd.DataFrame(parts, index=table.index).fillna(""))


def by_prompt(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by prompt and layer of patching and zero ablation of attention, told apart in the column `panel`."""
    moved = table[(table["metric"] == "transfer") & (table["component"] == "attn_out") & (table["span"] == 3)]
    left = table[(table["metric"] == "agreement") & (table["component"] == "attn_out") & (table["span"] == 1)]
    return pd.concat([moved.assign(panel="patching, 3 layers"), left.assign(panel="zero ablation, 1 layer")])


def paper_by_prompt(prompts: list[str]) -> pd.DataFrame:
    """The paper's rows for `by_prompt`: Figure 27 and its stored notebooks."""
    keys = dict(model=paper.DETAILED.id, component="attn_out", position="-1", prompt=prompts)
    left = paper.values("zero_ablation", span=1, **keys).assign(metric="agreement")
    return by_prompt(pd.concat([paper.values("patching", metric="transfer", span=3, **keys), left]))


def by_task(table: pd.DataFrame, metric: str = "transfer", more: str = "") -> pd.DataFrame:
    """Rows by layer of each control task and of emotion on its texts, with the columns `task` and `panel`."""
    parts = []
    for check in CONTROLS:
        for condition, task in ((f"check:{check}", check), (f"check:matched;texts:{check}", "emotion")):
            found = pick(table, f"{condition};{more}", metric=metric).assign(task=task.replace("_", " "))
            panel = found["component"].map(PLACES) + f", {check.replace('_', ' ')}"
            parts.append(found.assign(panel=panel))
    return pd.concat(parts, ignore_index=True)


def paper_by_task() -> pd.DataFrame:
    """The paper's transfer of the first word (Figure 23) for `by_task`, the stream at its last overwritten layer."""
    found = paper.values("control_first_word", metric="patching:transfer", component=list(PLACES))
    stream = found["component"] == "resid_post"
    found = found.assign(layer=found["layer"].mask(stream, found["last_layer"]), task="first word")
    depth = layer_number(found["layer"].astype(float)) / found["n_layers"]
    return found.assign(depth=depth, panel=found["component"].map(PLACES) + ", first word")


def tasks(table: pd.DataFrame) -> pd.DataFrame:
    """One row a task: how well it is answered, the share of its commonest answer, and the depths where curves turn."""
    shown = {}
    for check in CONTROLS:
        named = {f"check:{check}": check, f"check:matched;texts:{check}": f"emotion on {check} texts"}
        for condition, name in named.items():
            cells = {
                metric.replace("_", " "): pick(table, f"{condition};{more}", metric=metric)["value"].head(1).squeeze()
                for metric, more in TASK_COLUMNS.items()
                if len(pick(table, f"{condition};{more}", metric=metric))
            }
            shown |= {name.replace("_", " "): cells} if cells else {}
    return pd.DataFrame(shown).T


def shifts(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Rows of where curves turn, in layers later than in what they are compared with, with the column `kind`."""
    kinds = {
        "peak_shift": "peak of patching",
        "dip_shift": "dip of ablation",
        "onset_shift": "onset in the stream",
        "saturation_shift": "saturation of probes",
    }
    found = table[(table["condition"] == condition) & table["metric"].isin(list(kinds))]
    return found.assign(kind=found["metric"].map(kinds))


def missed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of missed minus correct at the best layer for the six cells of Table 3, by `cell` and `source`."""
    quality = pick(table, "check:misclassified", metric="r2")
    found = pick(table, "check:misclassified", metric="rating_difference")
    if found.empty:
        return found.assign(cell="", source="")
    best = found["layer"].isna() | (found["layer"] == quality["layer"].iloc[0])
    cells = _with_cell(pairs_of(found[best]))
    cells["source"] = cells["source"].str.replace("_", " ")
    return cells[cells["cell"].isin(paper_missed()["cell"])]


def paper_missed() -> pd.DataFrame:
    """The differences, missed minus correct, of the paper's Table 3, by `cell`."""
    rows = pairs_of(paper.values("misclassified", metric="mean_rating"))
    wide = rows.pivot(index=["emotion", "appraisal"], columns="set", values="value")
    return _with_cell((wide["missed"] - wide["correct"]).rename("value").reset_index().assign(source="probe"))


def with_paper_sign(rows: pd.DataFrame, source: str) -> tuple[int, int]:
    """How many of the cells differ as in Table 3 with their whole interval, and how many there are."""
    mine = rows[rows["source"] == source].set_index("cell")
    sign = paper_missed().set_index("cell")["value"]
    clear = [cell for cell in mine.index if (sign[cell] * mine.loc[cell, ["ci_low", "ci_high"]] > 0).all()]
    return len(clear), len(mine)


def lowest_by_token(table: pd.DataFrame) -> pd.DataFrame:
    """The lowest agreement over layers for each component and edit (rows) and token (columns); empty without any."""
    rows = pairs_of(pick(table, "check:positions", metric="agreement"))
    if rows.empty:
        return pd.DataFrame()
    wide = rows.pivot_table(index=["component", "edit"], columns="position", values="value", aggfunc="min")
    return wide.rename(columns=lambda name: readable(name, "position"), index=readable)


def interval(row: Any, form: str = ".2f") -> str:
    """A row as text: value (low to high)."""
    return f"{row.value:{form}} ({row.ci_low:{form}} to {row.ci_high:{form}})"


def _with_cell(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(cell=[f"{e}, {readable(a)}" for e, a in zip(rows["emotion"], rows["appraisal"], strict=True)])
