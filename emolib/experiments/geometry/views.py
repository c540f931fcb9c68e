"""What the chapter on geometry shows, from its table. Loads no model library."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emolib.experiments.geometry import EARLY, HALVING, LATE, PLANE, SIX
from emolib.figures.panels import readable
from emolib.tables import paper
from emolib.tables.results import select

NAMES = {"probe": "probe", "mean_difference": "mean difference", "whitened": "whitened", "lda": "LDA"}
DRAWN = ("probe", "mean_difference", "whitened")
ALIGNMENT = {
    "alignment": "measured",
    "alignment_split": "two halves",
    "alignment_by_construction": "both shuffled",
    "alignment_null": "ratings shuffled",
}
RATIOS = {"fade": "last quarter over first half", "halving": "just past the middle over the middle"}
VALENCE = {"pc1_valence": "measured", "pc1_valence_null": "labels shuffled"}
CORNER = (*PLANE, "self_responsblt")
PAIR = ["emotion", "appraisal"]


def cosines(data: pd.DataFrame, metric: str = "cosine", axes: tuple[str, ...] = PLANE) -> pd.DataFrame:
    """The cosines of the paper's six emotions with `axes`, every kind of vector on the texts it is meant for."""
    return on_own_texts(select(data, metric=metric, emotion=six(data), appraisal=list(axes)))


def six(data: pd.DataFrame) -> list[str]:
    """Those of the paper's six emotions that the texts have."""
    return [name for name in SIX if (data["emotion"] == name).any()]


def kinds(data: pd.DataFrame) -> list[str]:
    """The kinds of vectors that there are: no probes where too few texts are answered right."""
    return [name for name in NAMES if (data["vector"] == name).any()]


def drawn(data: pd.DataFrame) -> list[str]:
    """Those kinds that are drawn, in words."""
    return [NAMES[name] for name in DRAWN if name in kinds(data)]


def on_own_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of probes on the agreed set, as in the paper, and of all other vectors on all texts."""
    return rows[(rows["set"] == "agreed") == (rows["vector"] == "probe")]


def walks(data: pd.DataFrame) -> pd.DataFrame:
    """The paper's cosines and ours, column `panel`."""
    titles, own = {name: NAMES[name] for name in DRAWN} | {"probe": "probe, this run"}, cosines(data)
    parts = [own[own["vector"] == name].assign(panel=title) for name, title in titles.items()]
    return pd.concat([paper.values("geometry").assign(panel=f"probe, {paper.DETAILED.name}"), *parts])


def probe_curves(data: pd.DataFrame) -> pd.DataFrame:
    """The probes' cosines, and "ratings shuffled" as one more `appraisal`: both bands, as far as either reaches."""
    own, null = (rows[rows["vector"] == "probe"] for rows in (cosines(data), cosines(data, "cosine_null")))
    band = null.groupby(["emotion", "layer", "n_layers"], as_index=False)
    band = band.agg({"value": "mean", "ci_low": "min", "ci_high": "max"}).assign(appraisal="ratings shuffled")
    return pd.concat([band, own])


def chance(data: pd.DataFrame) -> pd.DataFrame:
    """By kind of vector and half of the layers (`early` or not) how far shuffled ratings `reach`, and the share of our
    cosines `beyond` that."""
    keys = [*PAIR, "vector", "layer"]
    pairs = cosines(data).merge(cosines(data, "cosine_null"), on=keys, suffixes=("", "_null"))
    pairs = pairs.assign(
        reach=(pairs["ci_high_null"] - pairs["ci_low_null"]) / 2,
        beyond=~pairs["value"].between(pairs["ci_low_null"], pairs["ci_high_null"]),
        half=(pairs["depth"] > EARLY).map({False: "first half", True: "second half"}),
    )
    return pairs.groupby(["vector", "half"])[["reach", "beyond"]].mean().unstack("half").loc[kinds(data)]


def reach(data: pd.DataFrame) -> pd.DataFrame:
    """What `chance` says, as text "first half and second half of the layers": a row a kind of vector."""
    found = chance(data)
    words = {"reach": ("shuffled ratings reach", "±{:.2f}"), "beyond": ("ours beyond", "{:.0%}")}
    columns = {head: found[what].map(form.format).agg(" and ".join, axis=1) for what, (head, form) in words.items()}
    return pd.DataFrame(columns).rename(index=NAMES).rename_axis(index=None)


def expected_signs(data: pd.DataFrame) -> pd.DataFrame:
    """For each of the twelve pairs how far the emotion's mean rating lies from that of all emotions (`rating`), whether
    its 95% interval excludes zero (`clear`), and the share of the layers of the first half in which the cosine has
    that sign, a column per kind of vector."""
    rated = _contrasts(data).set_index(PAIR)
    contrast, clear = rated["value"].rename("contrast"), (rated["ci_low"] > 0) | (rated["ci_high"] < 0)
    early = cosines(data).join(contrast, on=PAIR)
    early = early[early["depth"] <= EARLY]
    right = (early["value"] * early["contrast"] > 0).groupby([early["vector"], early["emotion"], early["appraisal"]])
    shares = right.mean().unstack("vector")[kinds(data)].rename(columns=NAMES)
    return pd.DataFrame({"rating": contrast, "clear": clear}).join(shares).rename(index=readable)


def signs_in_words(data: pd.DataFrame) -> pd.DataFrame:
    """The same as text, a row "joy, pleasantness" a pair; in brackets a rating of which the sign is not clear."""
    found = expected_signs(data)
    rating = found["rating"].map("{:+.2f}".format).str.replace("-", "\N{MINUS SIGN}")
    shares = found.drop(columns=["rating", "clear"]).map("{:.0%}".format)
    shown = pd.DataFrame({"rating": rating.where(found["clear"], "(" + rating + ")")}).join(shares)
    return shown.set_axis([", ".join(pair) for pair in found.index])


def _contrasts(data: pd.DataFrame) -> pd.DataFrame:
    return select(data, metric="rating_contrast", emotion=six(data), appraisal=list(PLANE))


def alignment(data: pd.DataFrame) -> pd.DataFrame:
    """Alignment with theory by layer: measured and its comparisons (`kind`), a `panel` per kind of vector."""
    rows = on_own_texts(select(data, metric=list(ALIGNMENT), vector=[name for name in DRAWN if name in kinds(data)]))
    rows = rows.assign(kind=rows["metric"].map(ALIGNMENT), panel=rows["vector"].map(NAMES))
    return rows.sort_values("metric", key=lambda names: names.map(list(ALIGNMENT).index), kind="stable")


def aligned(data: pd.DataFrame) -> pd.DataFrame:
    """Alignment of probe directions by layer, measured and by construction."""
    return select(alignment(data), vector="probe", kind=["measured", "both shuffled"])


def beyond_construction(data: pd.DataFrame) -> pd.DataFrame:
    """In how many layers the probes' alignment lies beyond that by construction, interval against range: a row, `shown`
    "3 of 30"."""
    ends = aligned(data).pivot(index="layer", columns="kind", values=["ci_low", "ci_high"])
    beyond = ends["ci_low", "measured"] > ends["ci_high", "both shuffled"]
    return pd.DataFrame([dict(shown=f"{beyond.sum()} of {len(beyond)}")])


def early_signs(data: pd.DataFrame) -> pd.DataFrame:
    """How many of the probes' cosines have, on average over the first half of the layers, the sign that people's
    ratings give: a row, `shown` "11 of 12"; `clear`, the same of ratings whose sign is clear."""
    own = select(cosines(data), vector="probe")
    means = own[own["depth"] <= EARLY].groupby(PAIR)["value"].mean()
    rated = _contrasts(data).set_index(PAIR).loc[means.index]
    right, clear = means * rated["value"] > 0, (rated["ci_low"] > 0) | (rated["ci_high"] < 0)
    shown = f"{right.sum()} of {len(right)}"
    return pd.DataFrame([dict(shown=shown, clear=f"{(right & clear).sum()} of {clear.sum()}")])


def faded(data: pd.DataFrame) -> pd.DataFrame:
    """The size of late cosines over that of early ones, of probes and of differences of means, column `name`."""
    rows = fading(data)
    return rows[rows["name"].isin(["probe", "mean difference"]) & (rows["ratio"] == RATIOS["fade"])]


def alignment_by_half(data: pd.DataFrame) -> pd.DataFrame:
    """A row per kind of vector: mean alignment in the first and second half of the layers, measured and from two halves
    of the writers; layers beyond both shuffled (interval against range), and layers of two halves above 0."""
    rows = alignment(data)
    means = rows.groupby(["panel", "kind", rows["depth"] > EARLY])["value"].mean().map("{:.2f}".format)
    spoken = means.unstack().apply(" and ".join, axis=1).unstack("kind")[["measured", "two halves"]]
    wide = rows.pivot(index=["panel", "layer"], columns="kind", values=["ci_low", "ci_high"])
    hits = {
        "beyond both shuffled": wide["ci_low", "measured"] > wide["ci_high", "both shuffled"],
        "two halves above 0": wide["ci_low", "two halves"] > 0,
    }
    counts = pd.DataFrame(hits).groupby("panel").agg(lambda layers: f"{layers.sum()} of {len(layers)}")
    return spoken.join(counts).loc[drawn(data)].rename_axis(index=None, columns=None)


def fading(data: pd.DataFrame) -> pd.DataFrame:
    """The ratios of mean sizes of the cosines, column `ratio`, for every kind of vector and set, column `name`."""
    rows = select(data, metric=list(RATIOS))
    other = (rows["set"] == "agreed") & (rows["vector"] != "probe")
    return rows.assign(
        name=rows["vector"].map(NAMES) + other.map({True: ", agreed set", False: ""}), ratio=rows["metric"].map(RATIOS)
    )


def published_fading() -> pd.DataFrame:
    """The same ratios of the paper's probes."""
    theirs = paper.values("geometry")
    sizes = theirs["value"].abs().groupby(theirs["depth"]).mean()
    fade = sizes[sizes.index >= LATE].mean() / sizes[sizes.index <= EARLY].mean()
    values = {"fade": fade, "halving": sizes[HALVING[1]] / sizes[HALVING[0]]}
    return pd.DataFrame([dict(name="probe", ratio=RATIOS[key], value=value) for key, value in values.items()])


def clearest_layer(data: pd.DataFrame) -> int:
    """The 0-based layer where the emotions take up the largest share of the variance of whitened activations."""
    rows = select(data, metric="between_share", vector="whitened")
    return int(rows.loc[rows["value"].idxmax(), "layer"])


def corner(data: pd.DataFrame) -> pd.DataFrame:
    """The whitened cosines with the plane's axes and self-agency at the clearest layer."""
    return select(cosines(data, axes=CORNER), vector="whitened", layer=clearest_layer(data))


def emotion_places(data: pd.DataFrame) -> tuple[pd.DataFrame, list[float]]:
    """The emotions on the first two components, columns `x` and `y`, and the components' shares of the variance; at the
    clearest layer."""
    here = dict(vector="whitened", layer=clearest_layer(data), pc=[1, 2])
    spots = select(data, metric="pc_coordinate", **here).pivot(index="emotion", columns="pc", values="value")
    shares = select(data, metric="pc_share", **here).sort_values("pc")["value"].tolist()
    return spots.rename(columns={1: "x", 2: "y"}).reset_index(), shares


def valence(data: pd.DataFrame) -> pd.DataFrame:
    """The first component's correlation with valence and with shuffled labels (`kind`), by layer."""
    rows = select(data, metric=list(VALENCE))
    return rows.assign(kind=rows["metric"].map(VALENCE), panel=rows["vector"].map(NAMES))


def valence_settles(data: pd.DataFrame) -> pd.DataFrame:
    """The row of the layer from which to the last the first component of the raw centroids goes with valence more than
    that of shuffled labels does, interval against range, `value` its depth; no row where it does not in the last."""
    rows = select(valence(data), vector="mean_difference").pivot(index="layer", columns="metric")
    beyond = rows["ci_low", "pc1_valence"] > rows["ci_high", "pc1_valence_null"]
    found = rows["depth", "pc1_valence"][beyond[::-1].cummin()[::-1]].head(1)
    return pd.DataFrame(dict(layer=found.index, value=found.to_numpy(), ci_low=np.nan, ci_high=np.nan))


def spread_between(data: pd.DataFrame) -> pd.DataFrame:
    """The row of the share of the activations' variance that lies between the emotions, in the last layer."""
    return select(data, metric="between_share", vector="mean_difference").tail(1)
