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
    there = importlib.util.find_spec("emolib") is not None
    if there or repository:
        if not there:
            wanted = f"emolib[chapters] @ {repository}"
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wanted], check=True)
        subprocess.run([sys.executable, "-m", "emolib.cli", "fetch", "smollm2-135m"], check=True)
        if "numpy" in sys.modules and sys.modules["numpy"].__version__ != importlib.metadata.version("numpy"):
            raise RuntimeError("packages were replaced: choose Runtime, Restart session, then run all")
    else:
        print("Where is the project? Set repository, above, to git+https://github.com/owner/name. Then run all.")

# %% [markdown]
# # All models
#
# **Question.** What holds in every model, from a hundred million to fourteen billion parameters, and what changes with
# size?
#
# The paper compares ten models by heat maps with one column a layer ({cite:t}`tak2025`, its Figures 2, 3, 11 and 12), so
# that a network of 16 layers ends where one of 42 has hardly begun. Here all share one axis, the layer divided by the
# number of layers, and every curve is reduced to the point that matters. The same rules find these points in the paper's
# values and in every stored run of ours:
#
# - **probe saturation**: where the probe of the residual stream first reaches 95 % of its maximum;
# - **patching onset**: the first layer whose residual stream, overwritten, carries at least half of the answers along;
# - **ablation dip**: where zeroing three neighbouring attention outputs hurts most, the first and last three aside.

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
from emolib import figures
from emolib.figures.display import say
from emolib.paper import claims
from emolib.paper import overview as models
from emolib.study.run import Run

stored = claims.shown_runs(Run.of(globals()).slug)
found = models.overview(stored)
order = models.by_size(found)

# %% [markdown]
# ## Where things happen
#
# If the three methods look at one event, their marks should lie close together in each model. Models are sorted by size,
# the smallest on top.

# %% tags=["hide-input"]
figures.show(
    figures.interval_points(
        models.depths(found), xlabel="depth (layer / number of layers)", by="model", hue="metric", xlim=(0, 1)
    ),
    name="fig-models-depth",
    caption="Three landmarks on one depth axis: the paper's ten models, from its Figures 2, 3 and 12, and the stored runs "
    "of this book (the intervals are theirs). Patching onsets stand at the layer that is overwritten last, which the "
    "paper's figures draw two layers earlier.",
    alt="For each model three marks between depth 0 and 1: probe saturation, patching onset and ablation dip.",
)

# %% tags=["hide-input"]
apart, dips = models.onset_minus_saturation(found).abs(), models.values_of(found, "ablation dip")
say(
    f"Probe saturation and patching onset, two methods that share no computation, lie at most **{apart.max():.2f}** of the "
    f"depth apart in the {len(apart)} models that have both. The ablation dip lies between {dips.min():.2f} and "
    f"{dips.max():.2f}."
)

# %% [markdown]
# ## The curves behind the marks
#
# The same three methods layer by layer, in the paper's models. What to look at is the shape: a rise, a step, a dip, and
# whether they come at one depth. Curves of our runs are in the chapters on [probing](05_probing.ipynb),
# [patching](06_patching.ipynb) and [ablation](B_ablation.ipynb), with intervals.

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        models.paper_curves(order), hue="name", panel="panel", x="depth", ylim=(0, 1), ylabel="share of events"
    ),
    name="fig-models-curves",
    caption="The paper's ten models, smallest first (its Figures 2, 3 and 12), without intervals. Accuracy of probes of the "
    "residual stream; pairs transferred by windows of five layers of attention; agreement after zeroing three layers of "
    "attention. Windows stand at their centre.",
    alt="Three panels over depth with a curve for each of ten models: probe accuracy, transfer, agreement after zeroing.",
)

# %% [markdown]
# ## What they answer
#
# A model that is right equally often may still answer differently: a label that the one
# hardly ever gives may be a frequent answer of the other. That matters for everything done on the agreed set, in which a label that is never given has no event. Where a
# vocabulary splits labels and the last piece alone is scored, as released, some can never be given at all
# ([appendix A](../A_data_models_task.md)).

# %% tags=["hide-input"]
figures.show(
    figures.stacked_labels(models.answers(stored, order)),
    name="fig-models-answers",
    caption="How answers are spread over the labels: the paper's ten models, smallest first, as scored (its Figure 10), and "
    "the stored runs of this book with the calibration each uses. The writers' labels are spread nearly evenly.",
    alt="A stacked bar of thirteen labels for each of the paper's ten models and each stored run.",
)

# %% [markdown]
# ## What size changes
#
# Transfer asks whether a site is *sufficient* for the answer, removal whether it is *necessary*. In the values of
# {cite:t}`tak2025` the first weakens with size but remains; the second all but vanishes: the large models hardly notice
# the loss of three attention layers. A window of three is also a smaller share of a deeper network, so that the
# comparison is not quite fair to the claim.

# %% tags=["hide-input"]
figures.show(
    models.against_size(found),
    name="fig-models-size",
    caption="Accuracy over thirteen labels; best transfer of attention in windows of five layers (three where five were not "
    "run); agreement with the clean answer after zeroing three layers of attention, and of feed-forward, at the "
    "worst place. Hollow: the paper's models (its Figures 3, 11, 12) with intervals from their number of texts or pairs.",
    alt="Four panels over the number of parameters: accuracy, attention transfer, agreement without attention and without MLP.",
)
trends = models.trends(found)
say(
    "Rank correlation with the number of parameters over the paper's ten models: "
    + "; ".join(f"{row.landmark} **{row.correlation:+.2f}** (p = {row.p:.3f})" for row in trends.itertuples())
    + ". Ten models of five families are few, and families differ in more than size."
)

# %% [markdown]
# ## All numbers

# %% tags=["hide-input"]
models.numbers(found).style.format(precision=2, na_rep="–").hide()

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on the parts of claims C2, C5, C6 and C7 that speak of all models. How many of the paper's ten pass
# the test of each as released, without controls:

# %% tags=["hide-input"]
judged = claims.paper_verdicts().query("reading == 'as released'")
passed = judged[judged["outcome"] == "reproduced"].groupby("claim").size()
named = {name: claims.claims()[name].sentence for name in ("C2", "C5", "C6", "C7")}
say("\n".join(f"- {name}, {sentence} **{passed.get(name, 0)} of 10**" for name, sentence in named.items()))
say(claims.origins(stored))
