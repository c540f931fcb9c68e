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
# # A ten-minute tour
#
# **Question.** Two students fail the same exam, one after a week at the beach, the other after a week in bed with a fever.
# Where inside a language model does that difference become its answer?
#
# Four tools find out, each in a few lines of code: *read* the difference with a probe, *move* it from one story to the
# other with a patch, *remove* a part of the network, and *push* the network in a direction.

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

# %% tags=["hide-input", "intervention"]
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from torch.testing import assert_close

import emolib as el
from emolib import figures, stats
from emolib.book.fetch import fetch
from emolib.engine.labels import label_tokens
from emolib.engine.places import attended
from emolib.engine.registry import EMBEDDED, registry, usual_dtype
from emolib.figures.display import spoken, tell_seconds
from emolib.interventions import playground as play
from emolib.probes.directions import SteeringVectors, unit
from emolib.stats.scores import pearson
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

tell_seconds()
model = model if attended() else EMBEDDED  # the pages of every run have the same tour
if "sha256" in registry().get(model, {}):
    fetch(model)  # if it is not there yet
title = registry().get(model, {}).get("title", model).removesuffix(" Instruct")
answer = display(Markdown("**Answer.** It will stand here when all cells have run."), display_id=True)

# %% [markdown]
# One pair of stories proves nothing by itself: the chapters do the same on thousands of texts, with controls and
# intervals. In the book this page is of the smallest of the models, whichever the chapters are about; layers of two
# models do not have the same numbers. At the end of this page there is a playground for events of your own.
#
# This page can be read as it is. To run it, take its notebook by a button at the top, and run all cells: each says below it
# how many seconds it took, half a minute at the most on a laptop without GPU. To ask a larger model, change one word in the
# cell of parameters, `model = "qwen2.5-coder-1.5b"`; its weights, about a gigabyte, are fetched the first time. Of that cell
# nothing else matters here.
#
# ## Two stories
#
# A *prompt* wraps each story: it asks for the emotion, shows two solved examples, and ends with "Answer:". The model's
# answer is the next word it would write. Beside the two stories we ask about eight events of each of the thirteen
# emotions, written for this project; what the model says to all of them together will be needed twice.

# %% tags=["intervention"]
lm = el.load(model, dtype=usual_dtype(model))
# Equal but for rounding, which is coarser in 16 bits.
near = dict(atol=1e-3, rtol=1e-3) if lm.precision == "float32" else dict(atol=0.25, rtol=0.02)

beach = "I spent the week before the exam at the beach, and I failed."
bed = "I spent the week before the exam in bed with a fever, and I failed."
events = load_corpus("situations").events.groupby("emotion").head(8)
ask = get_prompt("T1-2shot")
prompts = [ask.render(text) for text in [beach, bed, *events["text"]]]
print(prompts[0])

# %% [markdown]
# ## What the model says
#
# nnsight runs the model inside a *trace*, where every activation can be taken out under its name. Here that is the very
# last thing: the *logits*, a score for each word that might come next. We keep those of thirteen words. `emolib` reads all
# prompts at once, and gives the same numbers.

# %% tags=["intervention"]
# One entry of the vocabulary for each label.
words = label_tokens(lm.tokenizer, EMOTIONS).ids().to(lm.device)
inputs = [lm.tokenizer(one, return_tensors="pt").to(lm.device) for one in prompts[:2]]

with torch.no_grad(), lm.lm.trace(**inputs[0]):
    by_hand = lm.lm.output.logits[0, -1].save()

engine = el.Engine(lm, prompts, answers=EMOTIONS)
encoded = engine.encode(read=["attn_out", "resid_post"])
raw = encoded.logits  # [text, label]
assert_close(raw[0], by_hand[words].float(), **near)
mean = raw[2:].mean(0)

# %% [markdown]
# Some words are likelier than others whatever the story is. *Calibration* subtracts from each label its mean score over
# the other events; what remains is what this story has to do with it. Shares below are among the thirteen labels alone.

# %% tags=["hide-input", "intervention"]
scores = {
    "beach, raw": raw[0],
    "fever, raw": raw[1],
    "beach, calibrated": raw[0] - mean,
    "fever, calibrated": raw[1] - mean,
}
said = {name: EMOTIONS[z.argmax()] for name, z in scores.items()}
rows = pd.concat(
    [pd.DataFrame(dict(panel=name, label=EMOTIONS, value=z.softmax(-1).cpu())) for name, z in scores.items()]
)
told = [
    f"*{one}* to both" if one == two else f"*{one}* to the beach and *{two}* to the fever"
    for one, two in [(said["beach, raw"], said["fever, raw"]), (said["beach, calibrated"], said["fever, calibrated"])]
]
figures.show(
    figures.label_shares(rows, panel="panel"),
    name="fig-tour-answers",
    title=f"Calibrated, {title} answers {told[1]}",
    caption=f"What {title} says to the two stories, before and after calibration.",
    alt="Four panels with the share of each of thirteen labels: the two stories, raw and calibrated.",
)
figures.say(
    f"Raw, {title} answers {told[0]}. Calibrated, it answers {told[1]}. Many people would say *guilt* to the beach and "
    "*sadness* to the fever."
)

# %% [markdown]
# ## One probe: read
#
# The *residual stream* is the list of numbers that each layer hands to the next. At the last token, does it say whether
# what happened was the student's own doing? Our events come with ratings that say so of each. Half of the events teach us
# a direction: the mean stream of those rated above average, less the mean stream of the others. The other half shows
# whether it holds. The chapter is [Probing](05_probing.ipynb).

# %% tags=["intervention"]
layers = lm.modules("resid_post")  # for most families this is model.model.layers
layer = min(5 * lm.n_layers // 6, lm.n_layers - 2)  # counted from 0

with torch.no_grad(), lm.lm.trace(**inputs[0]):
    by_hand = layers[layer].output[0, -1].save()

stream = encoded.activations["resid_post"][:, :, -1]  # [layer, text, width]
assert_close(stream[layer, 0], by_hand, **near)

known, taught = stream[:, 2:], slice(0, None, 2)
rating = torch.tensor(events["self_responsblt"].to_numpy()).to(lm.device).float()
own = rating[taught] > rating[taught].mean()
there = known[layer, taught]
direction = there[own].mean(0) - there[~own].mean(0)

probe = SteeringVectors(known[:, taught], events[["self_responsblt"]][taught])
library = probe.combine({"self_responsblt": 1}, "mean_difference")[layer]
assert_close(library.float(), unit(direction.float()), atol=1e-4, rtol=1e-3)

# %% [markdown]
# Along that direction every event has a place. A line through the half that taught it turns places into ratings, from 1,
# not at all my own doing, to 5.

# %% tags=["hide-input", "intervention"]
read = probe.predict(stream, "mean_difference")[:, :, 0]  # [layer, text]
truth = rating[1::2].cpu().numpy()  # of the events that have taught nothing
held_out = pearson(read[[0, layer], 3::2].T, np.column_stack([truth, truth]))
first, fit = map(spoken, stats.bootstrap(held_out, np.arange(len(truth))).rows([{}, {}]))
rows = pd.concat(
    [
        pd.DataFrame(dict(story=name, layer=range(lm.n_layers), value=read[:, row], n_layers=lm.n_layers))
        for row, name in enumerate(["beach", "fever"])
    ]
)
figures.show(
    figures.depth_curves(rows, hue="story", ylabel="own doing, as read (1 to 5)", colours=("#b58900", "#8647b9")),
    name="fig-tour-probe",
    title=f"After layer {el.layer_number(layer)} the probe reads {read[layer, 0]:.1f} for the beach and "
    f"{read[layer, 1]:.1f} for the fever",
    caption=f"How much the two stories are the student's own doing, as a probe reads it from the residual stream of "
    f"{title} at the last token, layer by layer. One pair of stories: no interval can be given.",
    alt="Two curves over layers with the rating that the probe reads for the beach and for the fever.",
)
figures.say(
    f"After layer {el.layer_number(layer)} the probe reads {read[layer, 0]:.1f} for the beach and {read[layer, 1]:.1f} for "
    f"the fever. Over the held-out events its correlation with the ratings that come with them is {fit} there, after "
    f"the first layer {first}, with 95% intervals; chance is 0."
)

# %% [markdown]
# ## One patch: move
#
# What can be read need not be used. So we intervene: while the model answers the fever story, its residual stream after
# that layer, at the last token, is overwritten by the beach story's. With `emolib` the same is done in every layer, for
# attention too, with one call. The chapter is [Patching](06_patching.ipynb).

# %% tags=["intervention"]
with torch.no_grad(), lm.lm.trace(**inputs[1]):
    layers[layer].output[:, -1] = stream[layer, 0]
    by_hand = lm.lm.output.logits[0, -1].save()

taken = {name: table[:, :, -1] for name, table in encoded.activations.items()}
# Everything comes from text 0, the beach.
patch = el.Patch(taken, donors=torch.zeros(len(prompts), dtype=torch.long))
sweep = el.sweep(patch, lm, components=["attn_out", "resid_post"])
fever = engine.encode([1])
patched = engine.replay(fever, sweep)[0]  # [edit, label]

places = sweep.frame.assign(n_layers=lm.n_layers)
site = places.query("component == 'resid_post' and layer == @layer").index[0]
assert_close(patched[site], by_hand[words].float(), **near)

# %% [markdown]
# How far did the answer go? Of all that the two stories' thirteen scores differ by, we take the share that the patch
# brings over: 0 is the fever's answer, 1 the beach's.

# %% tags=["hide-input", "intervention"]
way = (raw[0] - raw[1]) - (raw[0] - raw[1]).mean()
places["value"] = ((patched - raw[1]) @ way / (way @ way)).cpu().numpy()
carried = int(places.loc[places.query("component == 'attn_out'")["value"].idxmax(), "layer"])
half = places.query("component == 'resid_post' and value >= 0.5")["layer"].min()
figures.show(
    figures.depth_curves(places, ylabel="share of the way to the beach", lines={"the beach's answer": 1.0}),
    name="fig-tour-patch",
    title=f"Half of the way to the beach's answer is first reached at layer {el.layer_number(half)}",
    caption=f"Share of the way from the fever's answer to the beach's when one layer's attention output or residual stream "
    f"is patched at the last token of {title}. One pair of stories: no interval can be given.",
    alt="Two curves over layers: the share for the residual stream and for the attention output.",
)
figures.say(
    f"In layer {el.layer_number(layer)} the stream brings {places['value'][site]:.0%} of the way, and the answer is then "
    f"*{EMOTIONS[(patched[site] - mean).argmax()]}*. Half of the way is first reached at layer {el.layer_number(half)}. Of "
    f"all attention outputs that of layer {el.layer_number(carried)} brings the most."
)

# %% [markdown]
# ## One knockout: remove
#
# A part that can carry the difference need not be needed. We silence that attention output: zeros in its place, at the
# last token, while the model answers the fever story. `emolib` does it in every layer, for the feed-forward sub-layers too. The
# chapter is [Ablation](B_ablation.ipynb).

# %% tags=["intervention"]
# model.model.layers[...].self_attn, which returns its output and its weights
attention = lm.modules("attn_out")

with torch.no_grad(), lm.lm.trace(**inputs[1]):
    attention[carried].output[0][:, -1] = 0
    by_hand = lm.lm.output.logits[0, -1].save()

sweep = el.sweep(el.Zero(), lm, components=["attn_out", "mlp_out"])
silenced = engine.replay(fever, sweep)[0]
places = sweep.frame.assign(n_layers=lm.n_layers)
site = places.query("component == 'attn_out' and layer == @carried").index[0]
assert_close(silenced[site], by_hand[words].float(), **near)

# %% tags=["hide-input", "intervention"]
change = silenced - raw[1]
places["value"] = (change - change.mean(-1, keepdim=True)).norm(dim=-1).cpu().numpy()
answers = [EMOTIONS[one.argmax()] for one in silenced - mean]
clean = said["fever, calibrated"]
changed = f"still *{clean}*" if answers[site] == clean else f"*{answers[site]}* in place of *{clean}*"
others = sum(one != clean for one in answers)
most = places.loc[places["value"].idxmax()]
figures.show(
    figures.depth_curves(places, ylabel="change of the thirteen scores"),
    name="fig-tour-knockout",
    title=f"{others} of {len(answers)} sub-layers, silenced one at a time, change the answer",
    caption=f"How far the thirteen scores of the fever story move (length of the change, in logits, about its mean) when one "
    f"sub-layer of {title} is silenced at the last token. One story: no interval can be given.",
    alt="Two curves over layers: the change for attention output and feed-forward output.",
)
figures.say(
    f"Without the attention output of layer {el.layer_number(carried)} the answer is {changed}. "
    f"Of the {len(answers)} sub-layers silenced one at a time {others} change the answer, "
    f"and the scores move most without the {figures.readable(most['component'])} of layer {el.layer_number(most['layer'])}. "
    "Zeros are unlike anything the network has seen, so a change alone does not say that the part was about emotion."
)

# %% [markdown]
# ## One push: steer
#
# Last, the direction that the probe has read is added to the stream. In three layers around the probe's, at the last token,
# we push the fever story towards *own doing*, by a tenth of the stream's length. Twenty random directions of the same
# length are pushed beside it: what they do as well says nothing about own doing. The direction now comes from all the
# events. The chapter is [Modulation](09_modulation.ipynb).

# %% tags=["intervention"]
playground = play.Playground(lm, ask, events, known, raw[2:])
doses = {"self_responsblt": 0.1}
push = playground.vector(doses)  # [layer, width]
window = el.span_layers(layer, 3, lm.n_layers)

with torch.no_grad(), lm.lm.trace(**inputs[1]):
    for at in window:
        layers[at].output[:, -1] += push[at]
    by_hand = lm.lm.output.logits[0, -1].save()

where = dict(component="resid_post", layer=layer)
moved = playground.answer(bed, edit="push", span=3, doses=doses, **where)
after = torch.tensor(moved.query("state == 'after'")["value"].to_numpy()).float()
pushed = (by_hand[words].float() - mean).log_softmax(-1).cpu()
assert_close(pushed, after.log(), **near)

# %% tags=["hide-input", "intervention"]
figures.show(
    figures.label_shares(moved),
    name="fig-tour-push",
    title=f"The push moves guilt by {play.told(moved, 'guilt')}",
    caption=f"Answers of {title} to the fever story before (rings) and after (bars) a push towards own doing, and after "
    "pushes of the same length in twenty random directions (dots).",
    alt="Bars with the share of each of thirteen labels after the push, rings for before, dots for random directions.",
)
told = [f"*{label}* by {play.told(moved, label)}" for label in ("guilt", "shame", "sadness")]
figures.say(
    f"The push moves {'; '.join(told)}. The answer before is *{play.top(moved, 'before')}*, after it "
    f"*{play.top(moved, 'after')}*. A change within the range of random directions is no sign of steering."
)
more = "beach" if read[layer, 0] > read[layer, 1] else "fever"
summary = (
    f"**Answer.** In {title} a probe after layer {el.layer_number(layer)} of {lm.n_layers} reads the failure as more the "
    f"student's own doing in the {more} story. Moving the beach story's stream into the fever story brings half of the way "
    f"to the beach's answer, at layer {el.layer_number(half)} for the first time. Without the attention output that brings "
    f"most, the answer to the fever is {changed}. A push towards own doing moves *guilt* by {play.told(moved, 'guilt')}."
)
answer.update(Markdown(summary))

# %% [markdown]
# ## Playground
#
# Now it is your turn. Write an event, choose what is done to the model and where, and press the button; for a push, set at
# least one slider, whose numbers are shares of the stream's length. The menus need Python behind them, so they show in a
# running notebook only. On a page of the book [Ask the model yourself](../ask.md) offers the same edits for events of ours.
# Below is one use, made by the same function, `playground.answer`: a story of ours in which the stream of the beach story
# takes the place of its own.

# %% tags=["intervention"]
play.controls(playground, event=bed, other=beach)

# %% tags=["intervention"]
event = "I found a letter from my sister in the post this morning."
moved = playground.answer(event, edit="patch", other=beach, **where)
figures.show(
    figures.label_shares(moved),
    name="fig-tour-playground",
    title=f"{play.top(moved, 'before').capitalize()} before, {play.top(moved, 'after')} with the stream of the beach story",
    caption=f'Answers of {title} to "{event}" before (rings) and after (bars) the residual stream of the beach story is '
    f"put in after layer {el.layer_number(layer)}.",
    alt="Bars with the share of each of thirteen labels after the patch, and rings for before.",
)

# %% [markdown]
# What next? [The method in code](04_method.ipynb) goes from one intervention to all of them. [Probing](05_probing.ipynb),
# [Patching](06_patching.ipynb), [Ablation](B_ablation.ipynb) and [Modulation](09_modulation.ipynb) ask what of this holds
# for many texts and more than one model.
