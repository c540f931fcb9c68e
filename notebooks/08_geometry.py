# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["colab", "remove-cell"]
# On Colab this installs the project and its embedded model. Anywhere else it does nothing.
import importlib.metadata
import importlib.util
import subprocess
import sys

repository = ""
if "google.colab" in sys.modules:
    if importlib.util.find_spec("emolib") is None:
        if not repository:
            raise ValueError("set repository, above, to the address of the project: git+https://github.com/owner/name")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"emolib @ {repository}"], check=True)
    subprocess.run([sys.executable, "-m", "emolib.cli", "fetch", "smollm2-135m"], check=True)
    if "numpy" in sys.modules and sys.modules["numpy"].__version__ != importlib.metadata.version("numpy"):
        raise RuntimeError("packages were replaced: choose Runtime, Restart session, then run all; it starts at once")

# %% [markdown]
# # 8 Geometry: do directions lie as theory says?
#
# **Question.** Does the direction of an emotion in the residual stream point where appraisal theory says, towards
# pleasantness for joy, towards the doing of others for anger?
#
# A probe is also a direction. With $v_a$ the weights of appraisal $a$ and $w_e$ those of emotion $e$, the paper compares
# them by their cosine at every layer (equation E7 of section 8, {cite:t}`tak2025`),
#
# $$\operatorname{sim}(a, e) = \frac{v_a^\top w_e}{\lVert v_a\rVert\,\lVert w_e\rVert},$$
#
# and finds early directions aligned as theory says, late ones orthogonal. Weights of a classifier, though, depend on how
# it was fitted. We therefore compute three further pairs of directions, from the covariance
# $c_y = \operatorname{cov}(x, y)$ of the activations with the label or the rating $y$, and from the covariance $\Sigma$
# of activations within emotions:
#
# | vector | direction | what it is |
# |---|---|---|
# | probe | $w_e$, $v_a$ | the paper's: a classifier that reads the emotion, a regression that reads the rating; agreed set |
# | mean difference | $c_y$ | how the activation changes with $y$; for an emotion, its mean minus the mean of all; all events |
# | whitened | $\Sigma^{-1/2} c_y$ | the same where all directions vary equally, so that a few large ones do not decide |
# | LDA | $\Sigma^{-1} c_y$ | linear discriminant analysis: what best reads $y$ out; all events |

# %% tags=["parameters", "hide-input"]
model = "smollm2-135m"
corpus = "situations"
prompt = "T1-2shot"
calibration = "batch"
scoring = "first_subtoken"
text = "masked"
tap = "contribution"
dtype = "float32"
device = "auto"
seed = 0
profile = "quick"
corpus_path = ""

# %% tags=["hide-input"]
import pandas as pd

from emolib import figures
from emolib.engine.sites import layer_number
from emolib.experiments import geometry
from emolib.figures.appraisals import emotion_map, paths, space, with_keys
from emolib.figures.display import say
from emolib.paper import claims
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import paper
from emolib.tables.results import footer, select

run = Run(
    model=model,
    corpus=corpus,
    prompt=prompt,
    calibration=calibration,
    scoring=scoring,
    text=text,
    tap=tap,
    dtype=dtype,
    device=device,
    seed=seed,
    profile=profile,
    corpus_path=corpus_path,
)
study = Study(run)
data, reference = study.measure(geometry), study.reference(geometry)

# %% [markdown]
# ## The paper's plane
#
# The paper's figure has the cosine with pleasantness across and that with other-agency (it was another person's doing)
# upwards. Each emotion walks from its first layer (ring) to its last (dot). How far chance alone reaches stands with the
# curves below.

# %% tags=["hide-input"]
cosines = with_keys(select(data, metric="cosine"))
six, plane = list(geometry.SIX), list(geometry.PLANE)
names = {"probe": "probe", "mean_difference": "mean difference", "whitened": "whitened", "lda": "LDA"}
theirs = with_keys(paper.values("geometry"))
own = cosines[cosines["emotion"].isin(six) & cosines["appraisal"].isin(plane) & (cosines["set"] == "")]
titles = {"probe": "probe, this run", "mean_difference": "mean difference", "whitened": "whitened"}
walks = [own[own["vector"] == vector].assign(panel=title) for vector, title in titles.items()]
walks = pd.concat([theirs.assign(panel=f"probe, {paper.DETAILED.name}"), *walks])
figures.show(
    paths(walks, x=plane[0], y=plane[1]),
    name="fig-geometry-paths",
    caption="Cosines of six emotion directions with pleasantness (across) and other-agency (up), residual stream, first "
    "layer (ring) to last (dot). First panel: the paper's values (its Figure 6).",
    alt="Four panels of paths over layers: the paper's probes, ours, mean differences and whitened directions.",
)

# %% [markdown]
# ## The twelve curves
#
# What sign should each cosine have? We take it from the people: an emotion whose mean rating of an appraisal lies above
# the mean of the thirteen emotions should point along it, one below against it. Bands are 95 % intervals over writers,
# from a jackknife that leaves out one group of writers at a time. How far can a cosine lie from zero by chance? For
# *ratings shuffled* the ratings go to other writers and the appraisals' directions are fitted again; a cosine within
# that band says nothing.

# %% tags=["hide-input"]
mine = {"n_layers": study.model.n_layers, "x": "depth"}
probes = own[own["vector"] == "probe"]
null = with_keys(select(data, metric="cosine_null", condition=own["condition"].unique().tolist()))
# one band for two appraisals, as far as either reaches
band = null[null["vector"] == "probe"].groupby(["emotion", "layer"], as_index=False)
band = band.agg({"value": "mean", "ci_low": "min", "ci_high": "max"}).assign(appraisal="ratings shuffled")
figures.show(
    figures.depth_curves(
        pd.concat([band, probes]),
        hue="appraisal",
        panel="emotion",
        paper=theirs,
        ylabel="cosine",
        ylim=(-0.8, 0.9),
        lines={"orthogonal": 0},
        **mine,
    ),
    name="fig-geometry-curves",
    caption="Cosine of probe directions by depth, 95 % intervals. Ratings shuffled: mean and the range of 95 % of the draws, "
    "of both appraisals together. Dashed: the paper's Llama 3.2 1B.",
    alt="Six panels, one an emotion: cosines with two appraisals over depth, ours, the paper's, and with shuffled ratings.",
)

# %% tags=["hide-input"]
pairs = own.merge(null, on=["emotion", "appraisal", "vector", "layer"], suffixes=("", "_null"))
pairs = pairs.assign(
    reach=(pairs["ci_high_null"] - pairs["ci_low_null"]) / 2,
    beyond=~pairs["value"].between(pairs["ci_low_null"], pairs["ci_high_null"]),
    half=((pairs["layer"] + 1) / study.model.n_layers <= geometry.EARLY).map({True: 0, False: 1}),
)
found = pairs.groupby(["vector", "half"])[["reach", "beyond"]].mean()
say(
    "How far shuffled ratings reach, on average over the twelve pairs, in the first and in the second half of the layers, "
    "and the share of our cosines that lie beyond: "
    + "; ".join(
        f"{names[name]} ±{rows['reach'].iloc[0]:.2f} and ±{rows['reach'].iloc[-1]:.2f}, beyond **{rows['beyond'].iloc[0]:.0%}** "
        f"and **{rows['beyond'].iloc[-1]:.0%}**"
        for name, rows in found.groupby(level=0, sort=False)
    )
    + "."
)

# %% tags=["hide-input"]
contrast = with_keys(select(data, metric="rating_contrast"))
contrast = contrast[contrast["emotion"].isin(six) & contrast["appraisal"].isin(plane)].set_index(
    ["emotion", "appraisal"]
)
signs = (2 * (contrast["value"] > 0) - 1).rename("expected")
early = own[(own["layer"] + 1) / study.model.n_layers <= geometry.EARLY].join(signs, on=["emotion", "appraisal"])
right = (early["value"] * early["expected"] > 0).groupby([early["vector"], early["emotion"], early["appraisal"]]).mean()
table = (
    contrast[["value"]]
    .rename(columns={"value": "rating, from the mean of emotions"})
    .join(right.unstack("vector").reindex(columns=list(names)).rename(columns=names))
    .rename(index=figures.readable)
)
shares = ", ".join(f"{names[name]} **{part.mean():.0%}**" for name, part in right.groupby("vector"))
say(
    "Share of the layers in the first half in which the cosine has the sign that the ratings give. Over all pairs and "
    f"layers: {shares}."
)
table.style.format({table.columns[0]: "{:+.2f}"} | dict.fromkeys(table.columns[1:], "{:.0%}"))

# %% [markdown]
# ## Is it the model, or the data?
#
# Twelve right signs look convincing, but labels and ratings are correlated in people: joyful events *are* rated
# pleasant. Two directions fitted on the same events share the accidents of those events, and so align in proportion to
# that correlation *whatever the activations know*. *Alignment* is the mean of the twelve cosines, each times its
# expected sign; three comparisons take it apart.
#
# - **Ratings shuffled**: the ratings go to other writers, the labels stay. Nothing should align.
# - **Both shuffled**: labels and ratings go to other writers *together*. The activations know nothing of either; what remains
#   is there by construction.
# - **Two halves**: the emotions' directions come from one half of the writers, the appraisals' from the other, so that they
#   share no accident. What remains is in the activations. It may still be emotion rather than appraisal: ratings go with
#   labels in either half, so a direction that carries nothing but the emotion would align as well. Noise in both
#   directions makes these cosines smaller, never larger.

# %% tags=["hide-input"]
shown = {
    "alignment": "measured",
    "alignment_split": "two halves",
    "alignment_by_construction": "both shuffled",
    "alignment_null": "ratings shuffled",
}
sources = {"ours": data} | ({} if reference is None else {"reference": reference})
curves = {key: with_keys(select(table, metric=list(shown))) for key, table in sources.items()}
curves = {key: rows[(rows["set"] == "") & rows["vector"].isin(list(titles))] for key, rows in curves.items()}
curves = {
    key: rows.assign(condition=rows["metric"].map(shown), panel=rows["vector"].map(names))
    for key, rows in curves.items()
}
lines, behind = curves["ours"], curves.get("reference")
lines = pd.concat([lines[lines["condition"] == word] for word in shown.values()])
if behind is not None:
    behind = behind[behind["condition"].isin(["measured", "two halves"])].assign(n_layers=behind["layer"].max() + 1)
    behind = behind.assign(depth=(behind["layer"] + 1) / behind["n_layers"])

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        lines,
        hue="condition",
        panel="panel",
        reference=behind,
        ylabel="alignment with theory",
        lines={"none": 0},
        **mine,
    ),
    name="fig-geometry-alignment",
    caption="Mean over twelve pairs of the cosine times its expected sign, residual stream. Measured: 95 % interval over "
    "writers; two halves: mean and interval from random splits; shuffled: mean and the range of 95 % of the draws.",
    alt="Alignment over depth for three kinds of vectors: measured, from two halves of the writers, and two shuffles.",
)

# %% tags=["hide-input"]
wide = lines.pivot(index=["vector", "layer"], columns="condition", values=["value", "ci_low", "ci_high"])
beyond = wide["ci_low"]["measured"] > wide["ci_high"]["both shuffled"]
halves = wide["ci_low"]["two halves"] > 0
say(
    "Layers in which the measured alignment lies beyond that of both shuffled (interval against range): "
    + "; ".join(f"{names[name]} **{part.sum()} of {len(part)}**" for name, part in beyond.groupby(level=0))
    + "."
)
first = wide[(wide.index.get_level_values("layer") + 1) / study.model.n_layers <= geometry.EARLY]["value"]
rest = wide.drop(first.index)["value"]
say(
    "Measured alignment in the first and in the second half of the layers, and the same from two halves of the writers: "
    + "; ".join(
        f"{names[name]} {first.loc[name, 'measured'].mean():.2f}, {rest.loc[name, 'measured'].mean():.2f} against "
        f"**{first.loc[name, 'two halves'].mean():.2f}, {rest.loc[name, 'two halves'].mean():.2f}** (above 0 in "
        f"{part.sum()} of {len(part)} layers)"
        for name, part in halves.groupby(level=0)
    )
    + "."
)

# %% [markdown]
# ## Do the directions become orthogonal?
#
# The paper's cosines fade after the middle. That may be the model, or the classifier: when classes are easy to tell, a
# weakly penalised classifier is free to turn away from the direction in which their means differ. If the fade is the
# model's, all kinds of vectors must show it, also on the same events (*agreed set*).

# %% tags=["hide-input"]
fades = with_keys(select(data, metric=["halving", "fade"]))
fades = fades.assign(condition=fades["vector"].map(names) + fades["set"].map({"": "", "agreed": ", agreed set"}))
sizes = theirs.assign(size=theirs["value"].abs()).groupby("depth")["size"].mean()
known = {
    "halving": sizes[geometry.HALVING[1]] / sizes[geometry.HALVING[0]],
    "fade": sizes[sizes.index >= geometry.LATE].mean() / sizes[sizes.index <= geometry.EARLY].mean(),
}
last = fades[fades["metric"] == "fade"]
figures.show(
    figures.interval_points(
        last,
        by="condition",
        xlabel="mean size of the cosines, last quarter / first half",
        lines={"no change": 1, "paper": known["fade"]},
    ),
    name="fig-geometry-fade",
    caption="Size of the twelve cosines in the last quarter of the layers over that in the first half, 95 % intervals.",
    alt="Points with intervals for seven kinds of vectors, the paper's ratio and the level of no change.",
)
size = float(select(data, metric="cosine_random_sd")["value"].iloc[0])
say(f"For scale: two random directions of this model have cosines with a standard deviation of {size:.3f}.")

# %% [markdown]
# ## In space
#
# A third appraisal, self-agency (it was my own doing), separates emotions that share the other two. Whitened directions,
# at the layer where the emotions take up the largest share of the variance.

# %% tags=["hide-input"]
parted = select(data, metric="between_share", condition="vector:whitened")
layer = int(parted.loc[parted["value"].idxmax(), "layer"])
corner = (*plane, "self_responsblt")
here = cosines[(cosines["vector"] == "whitened") & (cosines["set"] == "") & (cosines["layer"] == layer)]
here = here[here["emotion"].isin(six)]
figures.show(
    space(here[here["appraisal"].isin(corner)], axes=corner),
    name="fig-geometry-space",
    caption=f"Cosines of the emotions' whitened directions with three appraisals after layer {layer_number(layer)}; the "
    "plane is at self-agency 0.",
    alt="Three-dimensional view: emotions as points on stems above or below the plane of pleasantness and other-agency.",
)

# %% [markdown]
# ## Where the emotions lie
#
# Without any appraisal: take the mean activation of each emotion, and look for the directions in which these thirteen
# centroids differ most (principal component analysis). If the first is *valence*, pleasant against unpleasant, the
# coordinates follow the people's ratings (pleasantness minus unpleasantness).

# %% tags=["hide-input"]
spots = with_keys(select(data, metric="pc_coordinate", layer=layer))
spots = spots[spots["vector"] == "whitened"].pivot(index="label", columns="pc", values="value").reset_index()
share = select(data, metric="pc_share", condition="vector:whitened", layer=layer).set_index("label")["value"]
figures.show(
    emotion_map(
        spots.rename(columns={"1": "x", "2": "y"}),
        xlabel=f"first component ({share['pc1']:.0%} of the variance)",
        ylabel=f"second component ({share['pc2']:.0%})",
    ),
    name="fig-geometry-map",
    caption="Centroids of the thirteen emotions on their first two principal components, whitened residual stream after "
    f"layer {layer_number(layer)}. Signs are chosen so that pleasant emotions are to the right.",
    alt="A map of thirteen emotions on two principal components.",
)

# %% tags=["hide-input"]
kinds = {"pc1_valence": "measured", "pc1_valence_null": "labels shuffled"}
valence = with_keys(select(data, metric=list(kinds)))
valence = valence.assign(condition=valence["metric"].map(kinds), vector=valence["vector"].map(names))
figures.show(
    figures.depth_curves(valence, hue="condition", panel="vector", ylabel="|r| with valence", ylim=(0, 1), **mine),
    name="fig-geometry-valence",
    caption="Correlation over thirteen emotions of the first component with rated valence (its sign is free). Measured: 95 % "
    "interval over writers; shuffled labels: mean and the range of 95 % of the draws.",
    alt="Correlation of the first component with valence over depth, raw and whitened, with the shuffled null.",
)
chance = select(data, metric="pc1_valence_p", condition="vector:whitened", layer=layer)["value"].iloc[0]
at = valence[(valence["layer"] == layer) & (valence["vector"] == "whitened")].set_index("condition").loc["measured"]
say(
    f"After layer {layer_number(layer)}, whitened: |r| = **{at['value']:.2f}** ({at['ci_low']:.2f} to {at['ci_high']:.2f}), "
    f"p = {chance:.4f} when valence is permuted over the emotions."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C13: directions align as theory says in early layers and fade to zero. Cosines of directions
# that were fitted on the same events cannot carry that claim alone: only what is left between two halves of the writers
# is the model's, and whether that is appraisal or emotion a cosine does not tell: [chapter 7](07_appraisals.ipynb) asks
# what the activations know beyond the label. A cosine also says nothing about use; that is the question of the chapter on
# [modulation](09_modulation.ipynb). The numbers that decide:

# %% tags=["hide-input"]
means = early[early["vector"] == "probe"].groupby(["emotion", "appraisal"])[["value", "expected"]].mean()
rows = {
    "C13: pairs with the expected sign, averaged over the first half (probe)": f"{(means['value'] * means['expected'] > 0).sum()} of {len(means)}"
}
ratio = "{0.value:.2f} ({0.ci_low:.2f} to {0.ci_high:.2f})".format
for kind, name in names.items():
    part = fades[(fades["vector"] == kind) & (fades["set"] == "")].set_index("metric")
    rows |= {
        f"C13: size at depth {geometry.HALVING[1]} over that at {geometry.HALVING[0]}, {name} (the paper: "
        f"{known['halving']:.2f})": ratio(part.loc["halving"]),
        f"C13: last quarter over first half, {name} (the paper: {known['fade']:.2f})": ratio(part.loc["fade"]),
    }
say("\n".join(f"- {name}: **{value}**" for name, value in rows.items()))

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("08_geometry", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
