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
# # 5 Probing: where can the emotion be read?
#
# **Question.** At which layer, in which component and at which token do the activations tell the emotion?

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
from emolib.experiments import probing
from emolib.experiments.probing import views
from emolib.figures import readable, say, spoken
from emolib.paper import claims, ladder
from emolib.study.freshness import measured
from emolib.study.run import Run
from emolib.tables.provenance import absent, footer
from emolib.tables.results import select

run = Run.of(globals())
data = measured(run, probing)
lacking = absent(data.attrs["provenance"])

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
top, stream = (ladder.model_by_model(run, probing, view) for view in (views.best_released, views.saturation))
theirs = views.paper_saturations()
where = [
    f"{row['run']} ({readable(row['component'])}, {readable(row['position'], 'position')}, depth {row['depth']:.2f})"
    for _, row in top.iterrows()
]
say(
    "Over all components, layers and tokens the best linear probe is right for "
    f"{ladder.listed(top.assign(run=where), '.0%')} of the events that the model itself answers right; token −1 is the "
    f"last of the prompt. The residual stream first has 95% of its best accuracy at depth {ladder.listed(stream)}; in the "
    f"paper's ten models, between {theirs.min():.2f} and {theirs.max():.2f}."
)

# %% tags=["hide-input"]
released = ladder.model_by_model(run, probing, views.released)
look = dict(panel="run", x="depth", ylabel="held-out accuracy", lines={"chance": 1 / 13}, ylim=(0, 1))
figures.show(
    figures.depth_curves(
        released,
        paper=ladder.behind(views.paper_released(position="-1"), released),
        twin=ladder.untrained(run, probing, views.released),
        **look,
    ),
    name="fig-probing-depth",
    title=f"The residual stream first has 95% of its best accuracy at depth {figures.extremes(stream, 'run')}",
    caption="Accuracy of linear probes at the last token by depth, in each model, on events that the probe has not seen "
    "and the model itself labels as the writer did; 95% intervals. Dashed: the paper's Llama 3.2 1B (its Figure 13).",
    alt="Probe accuracy over depth for attention output, feed-forward output and residual stream, a panel for each model.",
)
name = ladder.run_name({"probing": data}, run.slug)
say(" ".join([lacking, f"From here on everything is of {name}, but where another model is named."]).strip())
ladder.badges(run, "05_probing")

# %% [markdown]
# ## What a probe is
#
# A *linear probe* is the simplest reader one can attach to a network. From the activation $x$ of one site, a layer's
# attention output, its feed-forward output or the residual stream after it, it computes
#
# $$\hat y = \operatorname{softmax}(W^\top x + b),\qquad W \in \mathbb{R}^{d\times 13},$$
#
# and is trained to name the emotion (equation E2 of the paper's section 5, {cite:t}`tak2025`). If a probe succeeds on
# events it has not seen, the emotion is there *and* laid out so that a weighted sum finds it. That is not yet evidence
# that the model uses it: a probe reads what can be read.
#
# ```{figure} ../drawings/probe.svg
# :name: fig-drawing-probe
#
# A probe. The residual stream is read at one layer and token, and a weighted sum of the numbers found there gives a score
# for each emotion. In the same way a probe reads what attention or the feed-forward sub-layer adds.
# ```
#
# ## By depth, as the paper did it
#
# These probes are trained on four fifths of the *agreed set*, the events that the model answers as the writer did, with
# raw features and a fixed penalty, and judged on the other fifth. Writer's and model's label are the same there by
# definition. Depth is the layer divided by the number of layers, so that models of different depth share an axis. The
# depth at which the probe of the residual stream first has 95% of its maximum, in the paper's models and in ours:

# %% tags=["hide-input"]
depths = pd.concat([theirs, stream.set_index("run")["value"]]).to_frame("depth of 95% of the maximum")
depths.sort_values(depths.columns[0]).style.format("{:.2f}")

# %% [markdown]
# ## What a probe is given
#
# One event, read before your eyes from the smallest of the models, SmolLM2 135M: the residual stream at the prompt's last
# token after each of 30 layers, 576 numbers each, by one call; beside it one of these layers in a plain
# [nnsight](https://nnsight.net) trace.

# %% tags=["intervention"]
import torch

import emolib as el
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

small, event = el.load("smollm2-135m"), load_corpus("situations").events["text"][185]
question = get_prompt("T1-2shot").render(event)
encoded = el.Engine(small, [question], answers=EMOTIONS).encode(read=["resid_post"])
read = encoded.activations["resid_post"][:, 0, -1]  # [layer, width], of the first text's last token

with torch.no_grad(), small.lm.trace(**small.tokenizer(question, return_tensors="pt")):
    plain = small.lm.model.layers[20].output[0, -1].save()

torch.testing.assert_close(read[20], plain, atol=1e-3, rtol=1e-3)
print(event, tuple(read.shape), read[20, :4], plain[:4], sep="\n")

# %% [markdown]
# ## All events, writers kept apart, and a control
#
# The agreed set makes probing easy to overrate: it drops every event the model misses, and in late layers the probe may
# simply read off the answer. So we probe *all* events, with folds that keep all events of one writer on one side, for
# three targets: the **writer's** label, the **model's** own answer, and **shuffled** labels. The last checks the
# procedure, in the spirit of {cite:t}`hewitt2019`: with labels that mean nothing, accuracy on unseen writers has to be at
# chance. (How much a probe could memorise it does not measure.) Accuracy is balanced over the thirteen
# emotions, so that a frequent answer earns nothing.

# %% tags=["hide-input"]
targets, gap = views.by_target(data), views.best(data, metric="selectivity")
stream = select(targets, component="resid_post")
control = select(targets, target=views.TARGETS["shuffled"])["value"]
figures.show(
    figures.depth_curves(
        targets, ylabel="balanced accuracy", hue="target", panel="component", x="depth", lines={"chance": 1 / 13}
    ),
    name="fig-probing-targets",
    title=f"Best balanced accuracy in the residual stream: {figures.extremes(stream, 'target')}",
    caption=f"Balanced held-out accuracy on all {targets['n'].iloc[0]:,} events for the writer's label, the model's own "
    "answer and shuffled labels, five folds grouped by writer, 95% intervals over writers.",
    alt="Balanced accuracy over depth in three panels, a curve each for the model's answer, the writer's and shuffled labels.",
)

# %% tags=["hide-input"]
tops = stream.groupby("target")["value"].max().reindex([*views.TARGETS.values()])
own, writers, _ = tops
answers = f"The model's own answer is read with up to {own:.2f}, the writer's label with up to {writers:.2f}. "
say(
    f"{'' if pd.isna(own) else answers}The writer's label stands out most after layer {layer_number(gap['layer'])}, depth "
    f"{gap['depth']:.2f}: {spoken(100 * gap[list(claims.NUMBER)], '.1f')} points above shuffled labels. These lie between {control.min():.2f} "
    f"and {control.max():.2f} at all sites; chance is {1 / 13:.2f}. The penalty of these probes is one for all sites: with a "
    "penalty chosen for each, in [Wording](05_wording.ipynb), numbers are higher, and the best layer can be another."
)

# %% [markdown]
# ## By token
#
# The last token of the prompt is the colon after "Answer", where the model must speak. Is the emotion also readable one
# to four tokens earlier?

# %% tags=["hide-input"]
if views.has_released(data):
    tokens = views.by_token(data)
    last = select(tokens, component="resid_post", layer=tokens["layer"].max()).sort_values("position")
    figures.show(
        figures.site_heatmap(tokens, label="held-out accuracy", rows="position", paper=views.paper_released()),
        name="fig-probing-tokens",
        title=f"Read from the last layer's stream: {figures.extremes(last, 'position', '.0%')}",
        fold=True,
        caption="Held-out accuracy of linear probes by token, counted from the end of the prompt, and layer; agreed set. Below, "
        "the paper's Llama 3.2 1B (its Figure 18).",
        alt="Heat-maps of probe accuracy over layers and the last five tokens, for three components, ours above the paper's.",
    )
    first, *rest = [row for _, row in last.sort_values("value", ascending=False).iterrows()]
    say(
        f"In the last layer's residual stream {readable(first['position'], 'position')} is read best, right for "
        f"{spoken(first, '.0%')}. The other tokens follow with {rest[0]['value']:.0%} to {rest[-1]['value']:.0%}."
    )
else:
    say("(not measured): too few texts are answered right, as *In short* says.")

# %% [markdown]
# ## A reader that is not linear
#
# If a small neural network read much more than the linear probe, the emotion would be there in a form that a weighted sum
# misses. As in the paper the network has one hidden layer of 32 units.

# %% tags=["hide-input"]
if views.has_released(data):
    both, theirs, gain = views.nonlinear(data)
    most, least = gain.idxmax(), gain.idxmin()
    ahead = {name: figures.display.plain(100 * points, "+.1f") for name, points in gain.items()}
    reach = 50 * (both["ci_high"] - both["ci_low"]).mean()
    figures.show(
        figures.depth_curves(both, hue="probe", paper=theirs, **(look | {"panel": "component"})),
        name="fig-probing-nonlinear",
        title=f"Non-linear minus linear probe, averaged over layers: at most {ahead[most]} points of accuracy",
        fold=True,
        caption="Linear and non-linear probes on the same events; dashed, the paper's non-linear probe (Figure 13, bottom).",
        alt="Held-out accuracy over depth of the linear and the non-linear probe, in three panels.",
    )
    say(
        f"Averaged over layers the non-linear probe's accuracy differs from the linear one's by {ahead[most]} points on the "
        f"{readable(most)}, where it gains most, and by {ahead[least]} on the {readable(least)}, where it gains least. These "
        f"means have no interval, and a single accuracy is known to about ±{reach:.1f} points."
    )
else:
    say("(not measured): too few texts are answered right, as *In short* says.")

# %% [markdown]
# ## Verdict
#
# The chapter bears on three claims of the paper: that the emotion becomes linearly readable by the middle of the network
# and stays so (C2), that the feed-forward output follows the residual stream more closely than attention does (C3), and
# that the last token carries the strongest signal (C4).

# %% tags=["hide-input"]
say(claims.chapter_verdicts("05_probing", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** What can be read may have stood in the words all along: [Wording](05_wording.ipynb) gives probes the text alone. And
# what can be read need not be used: [Patching](06_patching.ipynb) moves it.
