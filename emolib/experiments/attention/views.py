"""What the chapter on attention shows, from its table. Loads no model library."""

from __future__ import annotations

from html import escape

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.experiments.attention import EARLY, MIDDLE
from emolib.figures.display import spoken
from emolib.tables import paper
from emolib.tables.results import select

MASSES = {"mass": "attention weight", "value_mass": "weight times value length"}
TOPS = {"top1_count": "the most attended", "top3_count": "one of the three most attended"}
PARTS = ("demo_1", "demo_2", "evaluated_text", "final_cue", "format", "instruction")
TURNS = {"mass": "attention", "value_mass": "by value length", "top1_share": "events whose top token is there"}


def masses(data: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """The shares of every part at every layer, as weights and by value length; the text's share of the tokens."""
    given = select(data, demonstrations="given")
    uniform = select(given, metric="token_share", segment="text")["value"].item()
    return select(given, metric=list(MASSES)).replace({"metric": MASSES}), uniform


def largest(data: pd.DataFrame) -> pd.DataFrame:
    """Of every segment the row of its largest share by value length, the largest first; column `where` is its layer."""
    rows = select(data, metric="value_mass", demonstrations="given").sort_values("value", ascending=False)
    rows = rows.drop_duplicates("segment")
    return rows.assign(where=rows["layer"].map(layer_number))


def counts(table: pd.DataFrame, parts: tuple[str, ...] = PARTS) -> pd.DataFrame:
    """The counts of texts whose most attended tokens lie in `parts`, ours or the paper's, as shares 0 to 1."""
    rows = table[table["metric"].isin(list(TOPS)) & table["part"].isin(parts) & (table["token"] == "")]
    n = rows["n"].astype(float)
    shares = {name: rows[name] / n for name in ("value", "ci_low", "ci_high")}
    return rows.assign(**shares).sort_values("metric", kind="stable").replace({"metric": TOPS})


def tops(table: pd.DataFrame) -> pd.DataFrame:
    """How often the most attended token lies in the event, ours or the paper's, and how often it is the final cue."""
    rows = counts(table, ("evaluated_text", "final_cue"))
    return rows[rows["metric"] == TOPS["top1_count"]].reset_index(drop=True)


def most_in_the_event(table: pd.DataFrame) -> pd.DataFrame:
    """The row of the layer at which most often the event holds the most attended token."""
    return tops(table).query("part == 'evaluated_text'").nlargest(1, "value")


def published() -> pd.DataFrame:
    """The paper's counts of its Llama."""
    return paper.values("attention", model=paper.DETAILED.id, metric="top1_count")


def top_tokens(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The `n` prompt tokens that are most attended most often, ours or the paper's: in how many layers, in how many
    texts over all layers, at which layer most often, in how many texts there; tokens are as HTML shows them."""
    tokens = table[(table["metric"] == "top1_count") & (table["token"] != "")].sort_values("value")
    best = tokens.groupby(["part", "token"]).agg(
        layers=("layer", "nunique"),
        total=("value", "sum"),
        most=("layer", "last"),
        there=("value", "last"),
        n=("n", "last"),
    )
    best = best.nlargest(n, "total").reset_index()
    tokens = best["token"].map(escape)
    return best.assign(part=best["part"].str.replace("_", " "), token=tokens, most=best["most"].map(layer_number))


def beyond_first(data: pd.DataFrame) -> pd.DataFrame:
    """The shares, of what does not rest on the first token, of the text and of the demonstrations' labels."""
    return data[(data["metric"] == "mass_beyond_first") & data["segment"].isin(["text", "demonstration_label"])]


def later_share(data: pd.DataFrame) -> pd.DataFrame:
    """By treatment of the demonstrations the text's share beyond the first token in the second half of the layers:
    `share`, and what `uniform` attention would give."""
    rows = beyond_first(data)
    rows = rows[(rows["segment"] == "text") & (rows["depth"] > EARLY)]
    tokens = select(data, metric="token_share").pivot(index="demonstrations", columns="segment", values="value")
    share = rows.groupby("demonstrations", sort=False)["value"].mean()
    return pd.DataFrame({"share": share, "uniform": tokens["text"] / (1 - tokens["first_token"])}).loc[share.index]


def enrichment(data: pd.DataFrame) -> pd.DataFrame:
    """The enrichment of kinds of words by layer; `panel` tells those of masked texts apart."""
    rows = data[(data["metric"] == "enrichment") & data["layer"].notna()]
    return rows.assign(panel=rows["words"].str.startswith("mask").map({True: "masked texts", False: "words"}))


def enrichment_by_band(data: pd.DataFrame) -> pd.DataFrame:
    """The enrichment of kinds of words in the middle layers; column `before` is that of the layers up to half."""
    rows = select(data, metric="enrichment", band="middle")
    before = select(data, metric="enrichment", band="early").set_index("words")["value"]
    return rows.assign(before=rows["words"].map(before))


def turn(data: pd.DataFrame) -> pd.DataFrame:
    """Change of the text's share from the first half to the middle, a row per treatment and `measure`: "+0.021 (+0.014
    to +0.027)"; the shares of weights for every treatment, the others as the demonstrations are given."""
    rows = select(data, metric="mid_minus_early", measure=list(TURNS))
    cells = rows.assign(cell=rows.apply(spoken, axis=1, form="+.3f"), measure=rows["measure"].map(TURNS))
    wide = cells.pivot(index="demonstrations", columns="measure", values="cell")
    return wide.loc[rows["demonstrations"].unique(), list(TURNS.values())]


def published_turn() -> float:
    """The same change of the paper's Llama, of events whose most attended token is in the text."""
    text = counts(published(), ("evaluated_text",))
    return (
        text[text["depth"].between(EARLY, MIDDLE, "right")]["value"].mean()
        - text[text["depth"] <= EARLY]["value"].mean()
    )
