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
# # The method in code
#
# **Question.** What does it take, in code, to ask whether a layer of a network is needed for its answer?
#
# **Answer.** Four lines with nnsight for one text and one layer; five with `emolib` for all layers at once, which give the
# same numbers. This page goes from the one to the other, step by step, on two events that were written for this project.
# Everything in the chapters is made of these steps. Nothing here needs a GPU: the page runs in less than a minute.

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

# %% [markdown]
# ## A model, two events, thirteen labels
#
# This page is of the smallest of the models, SmolLM2 135M, whichever the chapters are about. A *prompt* asks for the
# emotion of an event and ends with "Answer:". On this page the model's answer is the label whose first token has the
# highest *logit*, its score as the next token; the chapters calibrate first, as the last section says.

# %% tags=["intervention"]
import pandas as pd
import torch

import emolib as el
from emolib import figures
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

lm = el.load("smollm2-135m")
events = load_corpus("situations").events
events = events[events["emotion"].isin(["joy", "fear"])].groupby("emotion").head(1)
prompts = [get_prompt("T1-2shot").render(event) for event in events["text"]]
events[["emotion", "text"]].style.hide(axis="index")

# %% [markdown]
# ## One text, one layer, by hand
#
# nnsight runs the model with a *trace*: inside it, `layer.output` is the activation itself, and assigning to it changes
# what the rest of the network sees. Here the output of one attention sub-layer at the last token becomes zero.

# %% tags=["intervention"]
layer = lm.n_layers // 2
ids = lm.tokenizer(prompts[0], return_tensors="pt")["input_ids"].to(lm.device)
with torch.no_grad(), lm.lm.trace(input_ids=ids):
    lm.modules("attn_out")[layer].output[0][:, -1] = 0
    by_hand = lm.lm.output.logits[0, -1].save()
with torch.no_grad():
    clean = lm.hf(ids).logits[0, -1]

# %% [markdown]
# ## The same with emolib
#
# An `Edit` says what is done (`Zero`), to which component, in which layers, at which token. The `Engine` reads every
# prompt once (`encode`) and then runs each edit on top of what it has kept (`replay`): only the last token, only from the
# edited layer on, and only the rows of the unembedding that belong to the labels. In a causal model nothing before the
# edited token can change, so nothing is lost. `plain` is the check: one whole pass of transformers with a hook.

# %% tags=["intervention"]
engine = el.Engine(lm, prompts, answers=EMOTIONS)
edit = el.Edit(component="attn_out", layers=(layer,), operation=el.Zero())
encoded = engine.encode()
edited = engine.replay(encoded, [edit])  # [text, edit, answer]

torch.testing.assert_close(edited[0, 0], by_hand[engine.answers].float(), atol=1e-3, rtol=1e-3)
torch.testing.assert_close(edited[0, 0], el.plain(lm, prompts[0], edit, answers=EMOTIONS), atol=1e-3, rtol=1e-3)
torch.testing.assert_close(encoded.logits[0], clean[engine.answers].float(), atol=1e-3, rtol=1e-3)

# %% tags=["intervention"]
shown = {"unchanged": encoded.logits[0], "attention silenced": edited[0, 0]}
before, after = (EMOTIONS[values.argmax()] for values in shown.values())
figures.say(
    f"With the attention of layer {el.layer_number(layer)} silenced, the answer to the first event "
    + (f"stays *{before}*." if before == after else f"changes from *{before}* to *{after}*.")
)
columns = {name: values.cpu().numpy() for name, values in shown.items()}
pd.DataFrame({"label": EMOTIONS, **columns}).style.hide().format(precision=2)

# %% [markdown]
# ## A sweep over all layers
#
# A *sweep* is a list of edits with a table that says where each of them acts. Results come back in its order, so that the
# two can be put side by side. Windows of three layers are named after the one in their middle.

# %% tags=["intervention"]
sweep = el.sweep(el.Zero(), lm, components=["attn_out", "mlp_out"], span=3)
logits = engine.replay(encoded, sweep)
change = (logits - encoded.logits[:, None]).abs().amax(-1)  # largest change of any label, [text, edit]
table = sweep.frame.assign(**{emotion: change[row].cpu().numpy() for row, emotion in enumerate(events["emotion"])})
largest = table.nlargest(6, "joy").assign(layer=table["layer"].map(el.layer_number))  # counted from 1, as in figures
largest[["component", "layer", *events["emotion"]]].style.hide().format(precision=2)

# %% tags=["hide-input", "intervention"]
keys = ["component", "layer", "span", "n_layers"]
rows = table.assign(n_layers=lm.n_layers).melt(keys, list(events["emotion"]), var_name="event")
most = rows.loc[rows["value"].idxmax()]
figures.show(
    figures.depth_curves(rows, ylabel="largest change of a logit", panel="event"),
    name="fig-method-sweep",
    title=f"What changes a logit most: {figures.readable(most['component'])} around layer {el.layer_number(most['layer'])}",
    caption="Largest change of any of the thirteen label logits when three neighbouring layers of attention or of the "
    "feed-forward network are silenced at the last token; two events, no interval because there is one text a panel.",
    alt="Two panels, one an event, with the change of the logits over layers for attention and feed-forward outputs.",
)

# %% [markdown]
# ## From two texts to a claim
#
# What the chapters add is statistics, not another method. An answer is the label with the highest logit after
# *calibration* (each label's mean over the corpus is subtracted). Many texts give a share of answers that survive.
# Where one writer wrote several of them, as in crowd-enVENT, an interval is found by drawing whole *writers* with
# replacement (`emolib.stats`). Each share then stands beside a control: a random direction of the same size, the
# activation of another event, shuffled labels. `Study` ties these together and keeps what it has computed; an
# experiment is a function from a study to a table (`emolib/experiments`).
#
# The [API](../api.md) lists every function used here.
