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
# # D Promotion: does an emotion's own direction make the model answer it?
#
# **Question.** If the direction that reads an emotion is added to the residual stream, does the answer become that
# emotion?
#
# This is the direct test that a probe reads what the model uses, before any theory of appraisals (appendix D,
# {cite:t}`tak2025`). With $w_e$ the weights of the emotion probe ([chapter 5](05_probing.ipynb)) for emotion $e$ at a
# layer, a push is
#
# ```{math}
# x \;\leftarrow\; x + \beta\, \frac{w_e}{\lVert w_e\rVert}
# ```
#
# at the last token, in three neighbouring layers. The **promotion score** relates the change of the share $p$ of events
# that get the label to the change that was possible:
#
# ```{math}
# s = \begin{cases} (p_{\text{new}} - p_{\text{base}}) / (1 - p_{\text{base}}) & p_{\text{new}} \ge p_{\text{base}} \\
# (p_{\text{new}} - p_{\text{base}}) / p_{\text{base}} & \text{otherwise,} \end{cases}
# ```
#
# so that 1 means that all events got the label, 0 no change, and −1 that none is left that has it
# (`promotion_score`). The paper tests six emotions on the texts that the probe was
# trained on; here are all thirteen, on writers that the probe has not seen, beside a second kind of vector, the
# difference between the mean activation of an emotion's events and that of all, and random directions of the same
# length.

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
from emolib.experiments import promotion
from emolib.figures.display import say
from emolib.paper import claims
from emolib.paper.tables import paper_tables
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
data, reference = study.measure(promotion), study.reference(promotion)

# %% [markdown]
# ## How hard is a push?
#
# $\beta$ is an absolute length, as in the paper, while the residual stream differs in length between models and grows
# with depth. Beside it stand lengths in shares of the mean residual norm of the layer.

# %% tags=["hide-input"]
n_layers = study.model.n_layers
scores, base = select(data, metric="promotion_score"), select(data, metric="baseline_share")
norm = select(data, metric="residual_norm").set_index("layer")["value"]
doses = {f"β = {size:g}": ("", size) for size in (1.0, 2.0, 4.0)}
doses |= {f"{size:g} of the norm": (";unit:norm", size) for size in (0.1, 0.2) if (scores["coefficient"] == size).any()}
kinds = {"vector:probe": "probe", "vector:mean_difference": "mean difference", "vector:random": "random"}
rows = [
    select(scores, condition=f"{kind}{unit}", coefficient=size).assign(vector=name, dose=dose)
    for kind, name in kinds.items()
    for dose, (unit, size) in doses.items()
    if ((scores["condition"] == f"{kind}{unit}") & (scores["coefficient"] == size)).any()
]
table = pd.concat(rows)
texts = base["n"].iloc[0]
say(
    f"Judged on **{texts}** texts. The residual stream is {norm.min():.0f} to {norm.max():.0f} long over the layers, and "
    f"{norm[n_layers // 2]:.0f} in the middle, where β = 4 is a share of {4 / norm[n_layers // 2]:.3f}."
)

# %% [markdown]
# ## Every emotion, every layer

# %% tags=["hide-input"]
theirs = paper_tables(paper.DETAILED.id)["promotion"]
theirs = theirs.assign(
    n_layers=paper.DETAILED.layers, depth=(theirs["layer"] + 1).astype(float) / paper.DETAILED.layers
)
theirs = theirs.assign(dose="β = " + theirs["coefficient"].map("{:g}".format), component="probe")
heat = table[table["vector"] == "probe"]
for dose in doses:
    known = theirs[theirs["dose"] == dose] if dose.startswith("β") else None
    figures.show(
        figures.site_heatmap(
            heat[heat["dose"] == dose].assign(component="probe"),
            rows="label",
            paper=known,
            label="promotion score",
            limits=(-1, 1),
            centre=0,
        ),
        name=f"fig-promotion-{list(doses).index(dose) + 1}",
        caption=f"Promotion score of each emotion's probe vector, {dose}, by centre of three layers, {texts} texts"
        + ("; below, the paper's six emotions in Llama 3.2 1B (its Figure 28)." if dose.startswith("β") else "."),
        alt=f"Heat map of promotion scores over layers and emotions for {dose}.",
    )

# %% [markdown]
# ## Against random directions, and against mean differences
#
# The mean over emotions says where in the network a push works. Random directions are the same in all layers of the
# window, so that they add up to the same length.

# %% tags=["hide-input"]
keys = ["vector", "dose", "layer"]
means = table.groupby(keys)["value"].mean().reset_index().set_index("dose").loc[[*doses]].reset_index()
both = theirs.groupby(["dose", "layer", "depth", "n_layers"])["value"].mean().reset_index().assign(vector="probe")
figures.show(
    figures.depth_curves(
        means,
        hue="vector",
        panel="dose",
        paper=both,
        n_layers=n_layers,
        x="depth",
        ylim=(-1, 1),
        ylabel="mean promotion score",
    ),
    name="fig-promotion-depth",
    caption="Promotion score averaged over emotions, for probe vectors, mean differences and random directions. Dashed: "
    "the paper's mean over its six emotions.",
    alt="Mean promotion score over depth for three kinds of vectors in a panel per dose.",
)

# %% [markdown]
# One emotion at a time, at the depth where the paper finds the strongest effect (its layer 10 of 16), so that our texts
# take no part in the choice; each with its interval over writers. For random directions the line is the range in which
# 95 % of new draws would lie.

# %% tags=["hide-input"]
strong = "0.1 of the norm"
measured = sorted(table["layer"].astype(int).unique())
place = min((abs((layer + 1) / n_layers - 10 / paper.DETAILED.layers), layer) for layer in measured)[1]
here = table[(table["dose"] == strong) & (table["layer"] == place)]
figures.show(
    figures.interval_points(here, by="label", hue="vector", xlabel="promotion score", xlim=(-1, 1)),
    name="fig-promotion-emotions",
    caption=f"Promotion score around layer {layer_number(place)}, {strong}, {texts} texts.",
    alt="Promotion scores with intervals for thirteen emotions and three kinds of vectors.",
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C17: emotion vectors promote their label from the middle of the network on. That a push
# works does not make the direction the one the model uses; that random directions of the same length do not work rules
# out that any disturbance of this size would do. A score below 0 early in the network means that the push takes the
# label away from events that had it. The best layer of the list below is chosen on the texts it is computed on, which
# flatters it a little; the figure by emotion is free of that. The numbers that decide, for this run:

# %% tags=["hide-input"]
rows = {}
for dose in doses:
    curve = means[means["dose"] == dose].pivot(index="layer", columns="vector", values="value")
    top = int(curve["probe"].idxmax())
    ends = table[(table["dose"] == dose) & (table["layer"] == top)]
    ends = ends[ends["vector"].isin(["probe", "random"])].pivot(index="label", columns="vector")
    ahead = (ends["ci_low", "probe"] > ends["ci_high", "random"]).sum()
    llama = both[both["dose"] == dose]
    peak = llama[llama["value"] > llama["value"].max() - 0.005].sort_values("depth").head(1)
    known = "".join(f"; the paper: {row.value:.2f}, first at depth {row.depth:.2f}" for row in peak.itertuples())
    rows[f"best mean score, {dose}{known}"] = (
        f"{curve['probe'][top]:.2f} at layer {layer_number(top)} (depth {layer_number(top) / n_layers:.2f}), random "
        f"directions {curve['random'][top]:.2f}; {ahead} of {len(ends)} emotions beyond the range of random directions"
    )
say("\n".join(f"- {name}: **{value}**" for name, value in rows.items()))

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("D_promotion", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
