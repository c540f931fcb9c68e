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
# # B Ablation: what does the answer need?
#
# **Question.** If a component is silenced at the last token, does the model still give the same answer?
#
# Reading a signal does not prove that it is used. Here one component at a time is taken away at the last token, in one
# layer or in three neighbouring ones, and the rest of the network runs on. *Agreement* is the share of events whose label
# stays what it was (appendix B, {cite:t}`tak2025`). There are several ways to take something away:
#
# | ablation | the activation $x$ becomes | why |
# |---|---|---|
# | zero | $0$ | the paper's first; far from anything the model has seen |
# | random | $\lVert x\rVert\, r/\lVert r\rVert$ with $r \sim \mathcal N(0, I)$ | the paper's second; keeps the size, destroys the direction |
# | mean | the average of $x$ over all events | keeps what all events share; removes only what is particular to this one |
# | resample | $x$ of another event | stays entirely within what the model produces |
#
# The last two are our controls: a component that only matters because its absence is strange should survive them.

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
from emolib.experiments import ablation
from emolib.figures.display import say
from emolib.paper import claims
from emolib.stats.landmarks import EDGE
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
data, reference = study.measure(ablation), study.reference(ablation)

# %% [markdown]
# ## One layer at a time
#
# The dotted line is what a model would score that always gave the same answer, the most frequent one. Agreement below or
# at that line means that nothing of the event is left.

# %% tags=["hide-input"]
agreement = select(data, metric="agreement")
floor = select(data, metric="constant_agreement").iloc[0]
single, triple = (agreement[agreement["span"] == span] for span in (1, 3))
published = {
    edit: paper.values(f"{edit}_ablation", model=paper.DETAILED.id, prompt="T1-2shot", position="-1", span=1)
    for edit in ("zero", "random")
}
theirs = pd.concat([frame.assign(condition=f"edit:{edit}") for edit, frame in published.items()])
mine = {
    "n_layers": study.model.n_layers,
    "ylabel": "agreement",
    "lines": {"constant answer": floor["value"]},
    "ylim": (0, 1),
}
pair = ["edit:zero", "edit:random"]
behind = None if reference is None else select(reference, metric="agreement", span=1, condition=pair)
if behind is not None:
    behind = behind.assign(
        n_layers=behind["layer"].max() + 1, depth=(behind["layer"] + 1) / (behind["layer"].max() + 1)
    )

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        single[single["condition"].isin(pair)],
        hue="condition",
        panel="component",
        paper=theirs,
        reference=behind,
        x="depth",
        **mine,
    ),
    name="fig-ablation-single",
    caption=f"Agreement after zero and random ablation of one layer at the last token, {floor['n']:,} agreed events, 95 % "
    "intervals over writers. Dashed: the paper's Llama 3.2 1B (its Figures 14 and 15). Dotted line: a constant answer.",
    alt="Agreement over depth after zero and random ablation, in panels for attention, feed-forward and residual stream.",
)

# %% tags=["hide-input"]
zeroed = single[single["condition"] == "edit:zero"]
inner = zeroed[zeroed["layer"].between(EDGE, study.model.n_layers - 1 - EDGE)]
inner = inner if len(inner) else zeroed  # a model of few layers has no inner ones
dips, deepest = (
    rows.loc[rows.groupby("component")["value"].idxmin()].set_index("component") for rows in (inner, zeroed)
)
for words, rows in {f"first and last {EDGE} layers aside": dips, "over all layers": deepest}.items():
    say(
        f"Deepest dips of zero ablation, {words}: "
        + "; ".join(
            f"{figures.readable(name)} layer {layer_number(row.layer)} (**{row.value:.2f}**, {row.ci_low:.2f} to {row.ci_high:.2f})"
            for name, row in rows.iterrows()
        )
        + f". A constant answer scores {floor['value']:.2f}."
    )

# %% [markdown]
# ## Gentler removals
#
# Mean ablation leaves what all events have in common, resample ablation puts in another event's activation. Where zero
# ablation hurts and these do not, the component carries something constant that the model needs, not the emotion.

# %% tags=["hide-input"]
gentle = single[single["component"] != "resid_post"]
figures.show(
    figures.depth_curves(gentle, hue="condition", panel="component", x="depth", **mine),
    name="fig-ablation-kinds",
    caption="Four ablations of one layer at the last token, 95 % intervals. The residual stream is left out: overwriting "
    "it removes the event altogether, whatever it is overwritten with.",
    alt="Agreement over depth for zero, random, mean and resample ablation of attention and feed-forward outputs.",
)
worst = gentle.loc[gentle.groupby(["component", "condition"])["value"].idxmin()]
worst = worst.assign(layer=[layer_number(layer) for layer in worst["layer"]])
table = worst[["component", "condition", "layer", "value", "ci_low", "ci_high"]]
table.rename(columns={"layer": "lowest at layer", "value": "agreement"}).style.format(precision=2).hide()

# %% [markdown]
# ## Three layers at a time
#
# A single layer can often be spared because its neighbours do similar work. The paper's comparison of models therefore
# silences three neighbouring layers. A window of three covers a smaller share of a deeper network, so windows of one size
# are not one treatment for all models.

# %% tags=["hide-input"]
wide = {
    edit: paper.values(f"{edit}_ablation", model=paper.DETAILED.id, prompt="T1-2shot", position="-1", span=3)
    for edit in ("zero", "random")
}
theirs = pd.concat([frame.assign(condition=f"edit:{edit}") for edit, frame in wide.items()])
spans = triple[triple["component"] != "resid_post"]
theirs = theirs[theirs["component"] != "resid_post"]
figures.show(
    figures.depth_curves(spans, hue="condition", panel="component", paper=theirs, x="depth", **mine),
    name="fig-ablation-span",
    caption="Agreement after ablation of three neighbouring layers, at the centre of the window, 95 % intervals. Dashed: "
    "zero and random ablation of the paper's Llama 3.2 1B (its Figure 12).",
    alt="Agreement over depth when three neighbouring layers are removed, ours and the paper's.",
)

# %% [markdown]
# For the residual stream the window is vacuous: the last overwritten layer decides alone, so three layers around layer $c$
# are the same as layer $c+1$ by itself. The stored numbers should show that exactly:

# %% tags=["hide-input"]
keys = ["condition", "layer"]
overwrites = ["edit:zero", "edit:mean", "edit:resample"]
stream = agreement[(agreement["component"] == "resid_post") & agreement["condition"].isin(overwrites)]
wide = stream[stream["span"] == 3].assign(layer=stream["layer"] + 1)
both = wide.merge(stream[stream["span"] == 1], on=keys, suffixes=("_3", "_1"))
difference = (both["value_3"] - both["value_1"]).abs().max()
say(
    f"Largest difference between a window of three and its last layer alone, over {len(both)} pairs: **{difference:.4f}**."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C7 of the paper: removing attention in the middle hurts most, and later attention can be
# spared. The numbers that decide, for this run:

# %% tags=["hide-input"]
zero = single[(single["condition"] == "edit:zero") & (single["component"] == "attn_out")].set_index("layer")
dip = dips.loc["attn_out"]
later, low_at = zero[zero.index > dip["layer"]], int(zero["value"].idxmin())
resampled = single[(single["condition"] == "edit:resample") & (single["component"] == "attn_out")].set_index("layer")[
    "value"
]
llama = published["zero"][published["zero"]["component"] == "attn_out"].set_index("layer")
low = llama.loc[llama["value"].idxmin()]
after = llama[llama.index > low.name]["value"].min()
depth = layer_number(dip["layer"]) / study.model.n_layers

# %% tags=["hide-input"]
rows = {
    f"depth of the deepest dip of attention, first and last {EDGE} layers aside (the paper: {low['depth']:.2f})": f"{depth:.2f}, layer {layer_number(dip['layer'])} of {study.model.n_layers}",
    f"agreement there (the paper: {low['value']:.2f})": f"{dip['value']:.2f} ({dip['ci_low']:.2f} to {dip['ci_high']:.2f})",
    "lowest over all layers": f"{zero['value'].min():.2f}, layer {layer_number(low_at)}",
    "lowest when another event's attention is put in": f"{resampled.min():.2f}, layer {layer_number(int(resampled.idxmin()))}",
    f"lowest agreement of any later attention layer (the paper: {after:.2f})": f"{later['value'].min():.2f}",
}
say("\n".join(f"- {name}: **{value}**" for name, value in rows.items()))

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("B_ablation", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
