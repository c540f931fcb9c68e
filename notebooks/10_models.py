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
# **Question.** What holds in every model, from a hundred million to fourteen billion parameters, what begins at a size,
# and what is a matter of method?

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
from functools import partial

import pandas as pd
from IPython.display import display

from emolib import figures
from emolib.figures.display import bundle, glue, plain, say
from emolib.paper import claims, ladder
from emolib.paper import overview as models
from emolib.study.run import Run

stored = claims.shown_runs(Run.of(globals()).slug)
found = models.overview(stored)
order = models.by_size(found)
own = claims.verdicts_by({ladder.run_name(tables, slug): tables for slug, tables in stored.items()})
theirs = claims.paper_verdicts().query("reading == 'as released'")
together = models.sized(pd.concat([own.query("reading == 'as released'"), theirs]), found)
pattern = models.patterns(together)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
counted = pattern["pattern"].value_counts()
alone = counted.get("in the study's", 0)
say(
    "Of the nineteen claims, tested as the paper tested them, this many hold as a whole: in every model that has numbers "
    f"**{counted.get('in all', 0)}**; in the larger but not in the smallest that were tested **{counted.get('from a size on', 0)}**; in all of "
    f"the study's and, as a whole, none of ours **{alone}**; in some, whatever their size "
    f"**{counted.get('in some', 0)}**; in none **{counted.get('in none', 0)}**. In fewer than three models "
    f"**{counted.get('in few', 0)}** can be tested."
)

# %% tags=["hide-input"]
trends = models.trends(found, "paper", "ours").merge(models.families(found), on="landmark")
onset = models.where(found, "patching onset")
say(
    f"Depth from which overwriting the residual stream carries half of the answers along: {onset}. "
    f"{models.moves(trends, 'patching onset')}"
)

# %% tags=["hide-input"]
figures.show(
    models.against_size(found, {name: name for name in models.DEPTHS}),
    name="fig-models-places",
    title=f"Half of the answers go along from depth {models.spans(found, 'patching onset')}",
    caption="Where in the network four landmarks lie, by number of parameters. Filled: the runs of this book, with 95% "
    "intervals where they are stored. Hollow: the paper's ten models, from its Figures 2, 3, 11 and 12.",
    alt="Four panels over the number of parameters: depth of probe saturation, patching onset, attention band, ablation dip.",
)
say(
    f"Attention carries the most answers along at depth {models.where(found, 'attention band')}. "
    f"{models.moves(trends, 'attention band')}"
)

# %% tags=["hide-input"]
first = models.against_size(found, {"patching onset": "from where the answer is carried"})
first.set_size_inches(3.8, 2.7)  # so narrow that it is not made smaller on a phone
drawn = bundle(
    first,
    name="fig-first-page",
    title=f"Half of the answers go along from depth {models.spans(found, 'patching onset')}",
    caption="Where in the network the answer is settled, by size of the model: from which depth on half of the answers go "
    "along when what the network holds at the last token is copied from another event. Hollow: the ten models of the "
    "study. Filled: ours, with 95% intervals.",
    alt="That depth over the number of parameters, the study's ten models and this book's together.",
)
glue("first-figure", drawn, here=False)

# %% [markdown]
# ## What is compared
#
# The paper compares ten models by heat maps with one column a layer ({cite:t}`tak2025`, its Figures 2, 3, 11 and 12), so
# that a network of 16 layers ends where one of 42 has hardly begun. Here all share one axis, the layer divided by the
# number of layers, and every curve is reduced to the point that matters, by the same rules for the paper's values and for
# every stored run of ours:
#
# - **probe saturation**: where the probe of the residual stream first reaches 95% of its maximum;
# - **patching onset**: the first layer whose residual stream, overwritten, carries at least half of the answers along;
# - **attention band**: the middle of the five neighbouring layers whose attention outputs carry the most answers along;
# - **ablation dip**: where zeroing three neighbouring attention outputs hurts most, the first and last three aside.
#
# ## What holds everywhere, and what begins at a size
#
# Each claim in the reading *as released*, the only one for which the paper's ten models have numbers, over all models that
# can be tested on it. For most claims beyond C7 the paper published numbers of one model alone, so that *every model* means
# few. A claim counts as holding where its verdict is whole ([What reproduces](11_claims.ipynb) has the tests).
# Where some models pass, they are named.

# %% tags=["hide-input"]
say(models.told(pattern))

# %% [markdown]
# ## What is a matter of method
#
# Some verdicts turn round when the controls of the *robust* reading are put in, on the same model and the same texts.
# There the difference is one of method, not of size. What each control is stands with the claim in
# [What reproduces](11_claims.ipynb).

# %% tags=["hide-input"]
differs = models.by_method(own)
say(f"In the runs of this book **{differs['claim'].nunique()}** claims have another verdict with the controls.")
differs.style.hide()

# %% [markdown]
# ## Where things happen
#
# If the three methods look at one event, their marks should lie close together in each model. Models are sorted by size,
# the smallest on top.

# %% tags=["hide-input"]
apart, dips = models.onset_minus_saturation(found).abs(), models.values_of(found, "ablation dip")
off = (dips - models.values_of(found, "patching onset")).abs()
figures.show(
    figures.interval_points(
        models.depths(found), xlabel="depth (layer / number of layers)", by="model", hue="metric", xlim=(0, 1)
    ),
    name="fig-models-depth",
    title=f"Probe saturation and patching onset lie at most {apart.max():.2f} of the depth apart",
    caption="The landmarks of each model on one depth axis: the paper's ten models and the stored runs of this book (the "
    "intervals are theirs). Patching onsets stand at the layer that is overwritten last, which the paper's figures draw "
    "two layers earlier.",
    alt="For each model marks between depth 0 and 1: probe saturation, patching onset, attention band and ablation dip.",
)
say(
    f"Probe saturation and patching onset lie at most **{apart.max():.2f}** of the depth apart in the {len(apart)} models "
    "that have both. That is less of a coincidence than it looks: both are about the answer that the model is going to "
    "give, one by reading it, the other by carrying it along. The ablation dip lies between "
    f"{dips.min():.2f} and {dips.max():.2f}, up to {off.max():.2f} from the onset ({off.idxmax()})."
)

# %% [markdown]
# ## How much
#
# Transfer asks whether a site is *sufficient* for the answer, removal whether it is *necessary*. In the values of
# {cite:t}`tak2025` the first weakens with size but remains, and the second weakens more. A window of three layers is also a
# smaller share of a deeper network, so that the comparison is not quite fair to the claim. What appraisals add beside the
# label, what activations add to words, and how pushes follow theory is known of our runs and, for one of these, of one
# model of the paper.

# %% tags=["hide-input"]
clear = trends[(trends["q"] < 0.05) & trends["landmark"].isin(list(models.SIZES))]
said = ", ".join(f"{row.landmark} ({plain(row.correlation, '+.2f')})" for row in clear.itertuples()) or "none"
figures.show(
    models.against_size(found, models.SIZES),
    name="fig-models-size",
    title=f"Rank correlation with size, where it is clear: {said}",
    caption="Accuracy over thirteen labels; best transfer of attention in windows of five layers (three where five were not "
    "run); agreement with the clean answer after zeroing three layers of attention, and of feed-forward, at the "
    "worst place; best probe of the writer's label minus the best of the text alone; share of the rest that appraisal probes "
    "explain beside the label, mean of six; mean theory score of pushes of one appraisal. Hollow: the paper's models.",
    alt="Panels over the number of parameters: accuracy, transfer, agreement, probes beyond words and label, theory scores.",
)

# %% [markdown]
# ## Does depth move with size, or with family?
#
# Ranks over all models that have a number, the paper's and ours. How likely a trend is by chance (p) is counted over the
# orders in which the same models could stand, so that three models are never a clear one. Several trends are looked at:
# q is p corrected for their number by the method of Benjamini and Hochberg. Families differ in more than size; the last
# columns count, in the paper's families of two sizes, how often the larger has the larger value.

# %% tags=["hide-input"]
clear = trends[trends["q"] < 0.05]
said = ", ".join(f"{row.landmark} ({plain(row.correlation, '+.2f')})" for row in clear.itertuples()) or "none"
say(
    f"Clear at q below 0.05: **{said}**. The others of {len(trends)} quantities show no clear "
    "trend; with so few models that does not exclude one."
)
trends.style.format(precision=3).format(partial(plain, form="+.2f"), subset="correlation").hide()

# %% [markdown]
# ## Training objective and data
#
# The paper asks what training has to do with it, and its models cannot say: all ten are instruction-tuned, and differ
# in family, size and data at once. The models that were run here are fewer and as mixed: SmolLM2 and Qwen 2.5 Coder are
# instruction-tuned, Gemma 3 is not; Qwen 2.5 Coder is made for code, the others are general; all have weights of four bits.
# Models that differ in size, family, data and precision at once can show that a finding is *not* bound to one of them,
# when all show it; they cannot say which of these makes a difference, when one does not.
#
# Two comparisons can. A model beside its *random twin*, the same network and tokenizer with weights that were never trained
# (`MODEL=NAME@random:0`), says what training as such has brought about: what a twin shows as well is no finding, and no claim
# here passes where its twin does. A base model beside its instruction-tuned form says what tuning changed; it takes weights
# from the hub, and [one command](../run_your_model.md) for each.
#
# A claim has several checks. One that holds in a model and in its twin as well counts something that comes from the
# events and the method: directions fitted to ratings and to labels of the same events, for one, share what the words of
# these events share.

# %% tags=["hide-input"]
twins = {ladder.run_name(tables, slug): tables for slug, tables in stored.items() if getattr(tables, "twins", ())}
there = ", ".join(f"**{len(tables.twins)}** of {name}" for name, tables in twins.items())
compared = models.beside_twins(stored)
asked = ladder.checked(twins).query("outcome == 'holds' and untrained != ''").rename(columns={"run": "model"})
both = asked[asked["in_twin"]].rename(columns={"shown": "trained"})
both = both.assign(check=both["claim"] + ", " + both["check"])
if there:
    say(
        f"Twins that were run: {there}. Of {len(compared)} numbers that a model and its twin have both, the 95% intervals "
        f"lie apart for **{(compared['apart'] == 'yes').sum()}**. Of {len(asked)} checks that hold in a model and were "
        f"asked of its twin, **{len(both)}** hold in the twin too: those of the second table."
    )
    display(ladder.as_page_table(compared))
    display(ladder.as_page_table(both[["check", "model", "expectation", "trained", "untrained"]]))
else:
    say("No twin has been run yet, so that this control is open.")

# %% [markdown]
# ## The curves behind the marks
#
# The same methods layer by layer, in the paper's models. What to look at is the shape: a rise, a step, a dip, and
# whether they come at one depth. Curves of our runs are in the chapters on [probing](05_probing.ipynb),
# [patching](06_patching.ipynb) and [ablation](B_ablation.ipynb), with intervals.

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        models.paper_curves(order), hue="name", panel="panel", x="depth", ylim=(0, 1), ylabel="share of events"
    ),
    name="fig-models-curves",
    title="The curves of the paper's ten models",
    fold=True,
    caption="The paper's ten models, smallest first (its Figures 2, 3 and 12), without intervals. Accuracy of probes of the "
    "residual stream; pairs transferred by windows of five layers of attention; agreement after zeroing three layers of "
    "attention. Windows stand at their centre.",
    alt="Three panels over depth with a curve for each of ten models: probe accuracy, transfer, agreement after zeroing.",
)

# %% [markdown]
# ## What they answer
#
# A model that is right equally often may still answer differently: a label that one model hardly ever gives may be a frequent
# answer of another. That matters for everything done on the agreed set, in which a label that is never given has no event.
# Where a vocabulary splits labels and the last piece alone is scored, as released, some can never be given at all
# ([appendix A](../A_data_models_task.md)).

# %% tags=["hide-input"]
figures.show(
    figures.stacked_labels(models.answers(stored, order)),
    name="fig-models-answers",
    title="Answers of all models by label",
    fold=True,
    caption="How answers are spread over the labels: the paper's ten models, smallest first, as scored (its Figure 10), and "
    "the stored runs of this book with the calibration each uses. The writers' labels are spread nearly evenly.",
    alt="A stacked bar of thirteen labels for each of the paper's ten models and each stored run.",
)

# %% [markdown]
# ## All numbers

# %% tags=["hide-input"]
models.numbers(found).style.format(precision=2, na_rep="–").hide()

# %% [markdown]
# ## What this shows and what it does not
#
# A pattern over models is only as good as the number of models behind it. That a claim holds *from a size on* says where the
# smallest model that passes lies among those that were run, not that size is the reason. And depth is counted in layers: a
# deep network may do in more layers what a shallow one does in few.

# %% tags=["hide-input"]
say(claims.origins(stored))

# %% [markdown]
# **Next.** Where paper, code and data contradict each other: [Errata](errata.ipynb).
