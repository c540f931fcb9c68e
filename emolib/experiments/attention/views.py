"""What the chapter on attention shows, from its table. Loads no model library."""

from __future__ import annotations

from html import escape

import pandas as pd

from emolib.engine.sites import layer_number
from emolib.experiments.attention import EARLY, MIDDLE
from emolib.figures.display import in_table
from emolib.tables import paper
from emolib.tables.results import select

MASSES = {"mass": "attention weight", "value_mass": "weight times value length"}
TOPS = {"top1_count": "the most attended", "top3_count": "one of the three most attended"}
PARTS = ("demo_1", "demo_2", "evaluated_text", "final_cue", "format", "instruction")
TEXT = {"evaluated_text": "text"}  # as the shares call the same part
TURNS = {"mass": "attention", "value_mass": "by value length", "top1_share": "events whose top token is there"}
EMOTION_WORD = "emotion_word_not_label"  # those that a model could not look for as one of its answers


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
    return rows.assign(**shares).sort_values("metric", kind="stable").replace({"metric": TOPS, "part": TEXT})


def most_in_the_text(table: pd.DataFrame) -> pd.Series:
    """The row of the layer at which the text most often holds the most attended token; `where` is that layer."""
    rows = counts(table, ("evaluated_text",))
    rows = rows[rows["metric"] == TOPS["top1_count"]]
    best = rows.loc[rows["value"].idxmax()]
    return pd.concat([best, pd.Series({"where": layer_number(best["layer"])})])


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
    tokens, parts = best["token"].map(escape), best["part"].replace(TEXT).str.replace("_", " ")
    return best.assign(part=parts, token=tokens, most=best["most"].map(layer_number))


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


def in_the_middle(data: pd.DataFrame) -> pd.Series:
    """The enrichment of each kind of words in the middle layers."""
    return select(data, metric="enrichment", band="middle").set_index("words")["value"]


def content_and_emotion(data: pd.DataFrame) -> pd.DataFrame:
    """The enrichment of content words and of emotion words by layer; none where no emotion words are known."""
    rows = select(data, metric="enrichment", words=["content_word", EMOTION_WORD])
    return rows[rows["layer"].notna()].replace({"words": {EMOTION_WORD: "emotion word"}})


def emotion_words(data: pd.DataFrame) -> pd.DataFrame:
    """The row of the enrichment of emotion words in the middle layers; none where these are not known."""
    return select(data, metric="enrichment", words=EMOTION_WORD, band="middle")


def text_change(data: pd.DataFrame) -> pd.DataFrame:
    """The row of the change of the text's share of attention from the first half of the layers to the middle."""
    return select(data, metric="mid_minus_early", measure="mass", demonstrations="given")


def turn(data: pd.DataFrame) -> pd.DataFrame:
    """The same change by treatment of the demonstrations, a row each, and measure: "+0.02 (+0.01 to +0.03)"."""
    rows = select(data, metric="mid_minus_early", measure=list(TURNS))
    return in_table(rows, "demonstrations", "measure", TURNS, "+.2f")


def published_turn() -> float:
    """The same change of the paper's Llama, of events whose most attended token is in the text."""
    text = counts(published(), ("evaluated_text",))
    return (
        text[text["depth"].between(EARLY, MIDDLE, "right")]["value"].mean()
        - text[text["depth"] <= EARLY]["value"].mean()
    )
