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
# # B Ablation: what does the answer need?
#
# **Question.** If a component is silenced at the last token, does the model still give the same answer?

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

from emolib import figures
from emolib.experiments import ablation
from emolib.experiments.ablation import views
from emolib.figures.display import say, spoken
from emolib.paper import claims, ladder
from emolib.stats import landmarks
from emolib.study.freshness import measured, reference_table
from emolib.study.run import Run
from emolib.tables.provenance import absent, footer
from emolib.tables.results import last_of_window, select

run = Run.of(globals())
data, reference = measured(run, ablation), reference_table(run, ablation)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
least, shifted = (
    ladder.model_by_model(run, ablation, partial(views.least_kept, metric=metric)) for metric in views.OFFSETS
)
found = ladder.checked(claims.shown_runs(run.slug), ["C7"])
later = ladder.checks_of(found, dict(claim="C7", check="lowest agreement without one later"))
later = later[later["outcome"] != "no number"].drop_duplicates("run")
kept = " to ".join(dict.fromkeys(f"{share:.0%}" for share in least["value"].agg(["min", "max"]).dropna()))
say(
    f"Without the attention output that it misses most, a model keeps {kept or '(not measured)'} of its answers. In "
    f"{ladder.share_of(later['outcome'] == 'holds')} every later one can be spared, so that "
    f"{claims.claims()['C7'].levels['spared']:.0%} of the labels stay. Part of a loss is a shift of all events alike, "
    f"which *A shift is not a loss*, below, takes out. The place is looked for without *the ends*, the first and last "
    f"{landmarks.EDGE} layers: on what the first add all others build, and what the last add is the answer itself."
)

# %% tags=["hide-input"]
rows = {
    "answers that stay without the attention output missed most": ladder.in_cells(least, ".0%"),
    "its depth": dict(zip(least["run"], least["depth"].map("{:.2f}".format), strict=True)),
    "the fewest that stay without one later": ladder.in_cells(later.rename(columns={"number": "value"}), ".0%"),
    "the fewest that stay anywhere, a shift of all events taken out": ladder.in_cells(shifted, ".0%"),
}
ladder.side_by_side(rows, runs=least["run"])

# %% tags=["hide-input"]
removed = ladder.model_by_model(run, ablation, views.zeroed)
theirs = views.paper_agreement(span=1)
look = dict(panel="run", x="depth", ylabel="agreement", ylim=(0, 1))
figures.show(
    figures.depth_curves(
        removed,
        paper=ladder.behind(theirs[theirs["method"] == "zero"], removed),
        twin=ladder.untrained(run, ablation, views.zeroed),
        **look,
    ),
    name="fig-ablation-models",
    title=f"Without one attention output at least {figures.extremes(least, 'run', '.0%')} of the labels stay, the ends aside",
    caption="Share of events that keep their label when one layer of one component is set to zero at the last token, in "
    "each model, with 95% intervals over writers. Dashed: the paper's Llama 3.2 1B (its Figure 14).",
    alt="Agreement after zero ablation over depth for attention, feed-forward and residual stream, a panel for each model.",
)
ladder.badges(run, "B_ablation")

# %% [markdown]
# ## What is removed
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
# The last two are our controls. If a component is missed only because nothing at all in its place is strange to the model,
# these two should cost little.
#
# ```{figure} ../drawings/knockout.svg
# :name: fig-drawing-knockout
#
# A knockout by zero. What one sub-layer would add to the residual stream at the last token is left out, and the answer is
# compared with that of the clean run on the same event.
# ```
#
# ## One layer at a time
#
# The dotted line is what a model would score that always gave the same answer, the most frequent one. At or below that
# line the answers stay no more often than one answer for all events would. That need not mean that nothing of the event
# is left: what an edit does to all events alike can do it, too, and is taken out below.

# %% tags=["hide-input"]
single, triple = (select(data, metric="agreement", span=span) for span in (1, 3))
zeroed = single[single["method"] == "zero"]
floor = select(data, metric="constant_agreement").iloc[0]
behind = None if reference is None else select(reference, metric="agreement", span=1, method=views.PAPERS)
look = dict(x="depth", ylabel="agreement", panel="component", hue="method", ylim=(0, 1))
look["lines"] = {"constant answer": floor["value"]}
figures.show(
    figures.depth_curves(
        single[single["method"].isin(views.PAPERS)], paper=views.paper_agreement(span=1), reference=behind, **look
    ),
    name="fig-ablation-single",
    title=f"Lowest agreement after zeroing one layer, the ends aside: {figures.extremes(views.lowest(zeroed, 'component'), 'component')}",
    fold=True,
    caption=f"Agreement after zero and random ablation of one layer at the last token, {floor['n']:,} agreed events, 95% "
    "intervals over writers. Dashed: the paper's Llama 3.2 1B (its Figures 14 and 15). Dotted line: a constant answer.",
    alt="Agreement over depth after zero and random ablation, in panels for attention, feed-forward and residual stream.",
)

# %% tags=["hide-input"]
say(
    f"With the ends, the lowest agreement after zero ablation is {figures.extremes(zeroed, 'component', lowest=True)}. A "
    f"constant answer scores {floor['value']:.2f}."
)

# %% [markdown]
# ## One ablation, by hand
#
# What the curves count, done once before your eyes on an event of ours, in SmolLM2 135M, the small model that comes
# with the project: attention's output in layer 2 becomes zero at the last token, and the rest of the network runs on.
# Beside it stands the same in a plain [nnsight](https://nnsight.net) trace; the scores of both are compared, and are
# the same. Sweeps like the one in the last line, in the model of this page and over many events, are what its figures
# are made of.

# %% tags=["intervention"]
import pandas as pd
import torch

import emolib as el
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

small, event = el.load("smollm2-135m"), load_corpus("situations").events["text"][185]
question = get_prompt("T1-2shot").render(event)
engine = el.Engine(small, [question], answers=EMOTIONS)
encoded = engine.encode()
zero = el.Edit(component="attn_out", layers=(1,), operation=el.Zero())  # layers count from 0 in code
scores = {"clean": encoded.logits[0], "attention zeroed": engine.replay(encoded, [zero])[0, 0]}

with torch.no_grad(), small.lm.trace(**small.tokenizer(question, return_tensors="pt")):
    small.lm.model.layers[1].self_attn.output[0][:, -1] = 0
    plain = small.lm.lm_head.output[0, -1].save()

scores["the same in nnsight"] = plain[engine.answers]
torch.testing.assert_close(scores["attention zeroed"], scores["the same in nnsight"], atol=1e-3, rtol=1e-3)
best = {name: [EMOTIONS[i] for i in found.topk(3).indices] for name, found in scores.items()}
print(event, pd.DataFrame(best), sep="\n")
everywhere = engine.replay(encoded, el.sweep(el.Zero(), small, components=["attn_out", "mlp_out"]))

# %% [markdown]
# ## A shift is not a loss
#
# Batch calibration subtracts from each label its mean score over all events, so that labels the model likes anyway do not
# win by that alone. Those offsets are fitted without the edit. If an edit then raises *anger* for every event alike, many
# answers become *anger*, though each event is told from the others as well as before. The second curve below centres the
# scores anew under each edit: every label keeps the mean that it has without the edit, over the same events, and only what
# an edit does to one event more than to others can change an answer.

# %% tags=["hide-input"]
centred = views.centred(data)
if len(centred):
    panel = centred["panel"].iloc[0]
    low = views.lowest(select(centred, panel=panel), "offsets")
    figures.show(
        figures.depth_curves(centred, x="depth", ylabel="agreement", panel="panel", hue="offsets", ylim=(0, 1)),
        name="fig-ablation-centred",
        title=f"Lowest agreement, {panel} zeroed, the ends aside: {figures.extremes(low, 'offsets')}",
        caption="Agreement after zero ablation of one layer and of three, with the offsets of the clean run and with ones "
        "centred anew under the edit, 95% intervals over writers. Between the curves lies a shift of all events alike.",
        alt="Agreement over depth after zero ablation with fixed and with re-centred offsets, attention and feed-forward.",
    )
else:
    say(absent(data.attrs["provenance"]))

# %% [markdown]
# Another question needs no offsets: does the score of *anger* still tell the events that the model answered with *anger*
# from all others? The *area under the ROC curve* is the chance that, of one event of each kind, the former has the higher
# score: 0.5 where nothing is left, 1 where all are told apart. What an edit does to all events alike cannot change it. From
# an event's scores their mean over the labels is subtracted first.

# %% tags=["hide-input"]
told, whole = views.told_apart(data), data[(data["metric"] == "auroc") & (data["method"] == "")].squeeze()
if len(told):
    lines = {"chance": 0.5, "nothing removed": whole["value"]}
    low = views.lowest(select(told, span=told["span"].max()), "component")
    figures.show(
        figures.depth_curves(told, panel="panel", x="depth", ylabel="area under the curve", lines=lines),
        name="fig-ablation-auroc",
        title=f"Lowest area without {low['panel'].iloc[0]}, the ends aside: {figures.extremes(low, 'component')}",
        fold=True,
        caption="How well each label's score tells its events from all others after zero ablation, the mean over labels, "
        "95% intervals over writers. Dotted lines: chance, and the model with nothing removed.",
        alt="Area under the ROC curve over depth after zero ablation of attention and feed-forward, one layer and three.",
    )
    say(f"What is left at the lowest place. With nothing removed the area is {spoken(whole)}, and all labels agree.")
views.lows(data).style.hide() if len(told) else None

# %% [markdown]
# ## Removals that stay closer to the data
#
# Mean ablation leaves what all events have in common, resample ablation puts in another event's activation. Where zero
# ablation hurts and these do not, the component carries something constant that the model needs, not the emotion.

# %% tags=["hide-input"]
gentle = single[single["component"].isin(views.SUBLAYERS)]
if len(gentle):
    figures.show(
        figures.depth_curves(gentle, **look),
        name="fig-ablation-kinds",
        title=f"Lowest agreement without one layer, the ends aside: {figures.extremes(views.lowest(gentle, 'component', 'method'), 'method', lowest=True)}",
        caption="Four ablations of one layer at the last token, 95% intervals. The residual stream is left out: "
        "overwriting it removes the event altogether, whatever it is overwritten with.",
        alt="Agreement over depth for zero, random, mean and resample ablation of attention and feed-forward outputs.",
    )
else:
    say(absent(data.attrs["provenance"]))

# %% tags=["hide-input"]
places = views.in_its_place(gentle).itertuples() if len(gentle) else ()
kept = [
    f"{figures.readable(row.component)}, layer {row.where}: {row.zero:.0%} after zero, {row.mean:.0%} after mean, and "
    f"{row.resample:.0%} after resample ablation, so that the mean brings back {row.back:.0%} of what zero takes"
    for row in places
]
if kept:
    say(f"Labels that stay where zero ablation takes most: {'; '.join(kept)}.")

# %% [markdown]
# ## Three layers at a time
#
# A single layer can often be spared because its neighbours do similar work. The paper's comparison of models therefore
# silences three neighbouring layers. A window of three covers a smaller share of a deeper network, so windows of one size
# are not one treatment for all models.

# %% tags=["hide-input"]
wide = triple[triple["component"].isin(views.SUBLAYERS)]
if len(wide):
    figures.show(
        figures.depth_curves(wide, paper=views.paper_agreement(span=3, component=views.SUBLAYERS), **look),
        name="fig-ablation-span",
        title=f"Lowest agreement without three layers, the ends aside: {figures.extremes(views.lowest(wide, 'component', 'method'), 'method', lowest=True)}",
        fold=True,
        caption="Agreement after ablation of three neighbouring layers, at the centre of the window, 95% intervals. "
        "Dashed: zero and random ablation of the paper's Llama 3.2 1B (its Figure 12).",
        alt="Agreement over depth when three neighbouring layers are removed, ours and the paper's.",
    )
else:
    say(absent(data.attrs["provenance"]))

# %% [markdown]
# For the residual stream the window is vacuous: the last overwritten layer decides alone, so three layers around layer
# $c$ are the same as layer $c+1$ by itself. Up to rounding, the stored numbers should show that:

# %% tags=["hide-input"]
stream = select(data, metric="agreement", component="resid_post", method=views.ONE_VECTOR)
apart = last_of_window(stream, "method")["apart"]
say(
    f"All {len(apart)} windows of three give the agreement of their last layer alone."
    if not apart.any()
    else f"Of {len(apart)} windows of three {(apart > 0).sum()} differ from their last layer alone, by {apart.max():.4f} at most."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C7 of the paper: removing attention in the middle hurts most, and later attention can be
# spared. A removal shows that something is missed, not what it carried, and not how the model would do without it from the
# start. A layer that can be spared may still carry the answer, where its neighbours carry it as well. What zero takes and
# the mean brings back is common to all events, and tells no emotion from another.

# %% tags=["hide-input"]
of = partial(ladder.quoted, found, "C7")
say(
    f"Three layers of attention are missed most around depth {of('depth of that dip')}, with offsets centred anew around depth "
    f"{of('depth of the dip of agreement')}, and with another event's output in their place around depth "
    f"{of('depth of the dip with another')}."
)

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("B_ablation", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** So far an emotion was a label. [Appraisals](07_appraisals.ipynb) asks what it may be made of: whether the model keeps
# how an event came about and mattered.
