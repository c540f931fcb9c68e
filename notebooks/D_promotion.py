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
# # D Promotion: does an emotion's own direction make the model answer it?
#
# **Question.** If the direction that reads an emotion is added to the residual stream, does the answer become that
# emotion?

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
from emolib.engine.sites import layer_number
from emolib.experiments import promotion
from emolib.experiments.promotion import views
from emolib.figures.display import say
from emolib.paper import claims, ladder
from emolib.paper.tables import paper_tables
from emolib.study.freshness import measured
from emolib.study.run import Run
from emolib.tables import paper
from emolib.tables.provenance import footer
from emolib.tables.results import select

run = Run.of(globals())
data, llama = measured(run, promotion), paper_tables(paper.DETAILED.id)["promotion"]

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
found = ladder.checked(claims.shown_runs(run.slug), ["C17"])
start, end = claims.claims()["C17"].levels["middle"]
beyond = ladder.checks_of(found, dict(claim="C17", check="the first of these minus")).query("outcome != 'no number'")
mean = "mean promotion over emotions, doses and layers"
say(
    f"Pushed along an emotion's direction, from depth {start:g} on, more answers become that emotion than under random pushes "
    f"of the same length in **{(beyond['ci_low'] > 0).sum()} of {len(beyond)}** models. The promotion score is 1 where every "
    "event takes the label, 0 where as many have it as before, and −1 where none keeps it. Its mean over emotions and "
    "lengths:"
)
rows = {
    f"mean from depth {start:g} on": ladder.measured(found, "C17", f"{mean} from"),
    "this minus the mean along random directions": ladder.measured(found, "C17", "the first of these minus"),
    f"mean between depth {start:g} and {end:g}, away from the last layers": ladder.measured(
        found, "C17", f"{mean} between"
    ),
}
ladder.side_by_side(rows, runs=found["run"].unique())

# %% tags=["hide-input"]
pushed, never = (find(run, promotion, views.by_model) for find in (ladder.model_by_model, ladder.untrained))
best = ladder.model_by_model(run, promotion, views.at_their_best)
own, chance = (figures.extremes(select(best, vector=vector), "run") for vector in ("probe", "random"))
look = dict(x="depth", ylabel="mean promotion score", ylim=(-1, 1), lines={"no effect": 0.0})
figures.show(
    figures.depth_curves(pushed, twin=never, hue="vector", panel="run", **look),
    name="fig-promotion-models",
    title=f"Where probes promote most: {own}; random directions there: {chance}",
    caption="Promotion score when a direction of an emotion, a tenth as long as the residual stream, is added around a layer, "
    "mean over emotions, in each model. 1: every event takes the label; 0: no change; −1: none keeps it.",
    alt="Mean promotion score over depth for probe vectors, differences of means and random directions, a panel a model.",
)
ladder.badges(run, "D_promotion")

# %% [markdown]
# ## What is pushed
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
# so that 1 means that all events got the label, 0 no change, and −1 that none is left that has it. The paper tests six emotions on the texts that the probe was
# trained on; here are all thirteen, on writers that the probe has not seen, beside a second kind of vector, the
# difference between the mean activation of an emotion's events and that of all, and random directions of the same
# length.
#
# ## How hard is a push?
#
# $\beta$ is an absolute length, as in the paper, while the residual stream differs in length between models and grows
# with depth. Beside it stand lengths in shares of the mean residual norm of the layer.

# %% tags=["hide-input"]
table, theirs, n_layers = views.scores(data), figures.with_push(llama), int(data["n_layers"].iloc[0])
norm = select(data, metric="residual_norm").set_index("layer")["value"]
texts = select(data, metric="baseline_share")["n"].iloc[0]
say(
    f"Judged on **{texts}** texts. The residual stream is {norm.min():.0f} to {norm.max():.0f} long over the layers, and "
    f"{norm[n_layers // 2]:.0f} in the middle, where β = 4 is a share of {4 / norm[n_layers // 2]:.3f}."
)

# %% [markdown]
# ## Every emotion, every layer

# %% tags=["hide-input"]
for number, push in enumerate(table["push"].unique(), start=1):
    absolute, shown = push.startswith("β"), select(table, vector="probe", push=push)
    figures.show(
        figures.site_heatmap(
            shown,
            rows="label",
            panel="vector",
            paper=select(theirs, push=push) if absolute else None,
            label="promotion score",
            limits=(-1, 1),
            centre=0,
        ),
        name=f"fig-promotion-{number}",
        title=f"Promotion score of each emotion, {push}: up to {shown['value'].max():.2f}",
        fold=True,
        caption=f"Promotion score of each emotion's probe vector, {push}, by centre of three layers, {texts} texts"
        + ("; below, the paper's six emotions in Llama 3.2 1B (its Figure 28)." if absolute else "."),
        alt=f"Heat map of promotion scores over layers and emotions for {push}.",
    )

# %% tags=["hide-input"]
half = [f"{row.emotions} of {row.of} at {row.push}" for row in views.promoted(table).itertuples()]
say(f"Emotions whose probe gains them half of what is possible, a score of 0.5, around some layer: {', '.join(half)}.")

# %% [markdown]
# ## One push, by hand
#
# What the maps show, done once before your eyes in SmolLM2 135M, the small model that comes with the project. A
# direction for fear is fitted on 52 events of ours: the mean activation of the events of fear minus that of all. Scaled to a
# fifth of the stream's length, it is added to another event's residual stream, at the last token, in three
# neighbouring layers where it is seen to work. Beside it stands the same in a plain [nnsight](https://nnsight.net)
# trace; the scores of both are compared, and are the same. The last line is the same push around every layer, as in a
# row of a map.

# %% tags=["intervention"]
import pandas as pd
import torch

import emolib as el
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

small, events = el.load("smollm2-135m"), load_corpus("situations").events
fit, ask = events.groupby("emotion").head(4), get_prompt("T1-2shot")
read = el.Engine(small, [ask.render(text) for text in fit["text"]], answers=EMOTIONS).encode(read=["resid_post"])
stream, fear = read.activations["resid_post"][:, :, -1], torch.tensor((fit["emotion"] == "fear").to_numpy())
direction = stream[:, fear].mean(1) - stream.mean(1)
direction *= stream.norm(dim=-1).mean(1, keepdim=True) / direction.norm(dim=-1, keepdim=True)

event, layers = events["text"][185], (22, 23, 24)  # layers count from 0 in code
engine = el.Engine(small, [ask.render(event)], answers=EMOTIONS)
encoded, push = engine.encode(), el.Add(direction, 0.2)
edit = el.Edit(component="resid_post", layers=layers, operation=push)
scores = {"clean": encoded.logits[0], "pushed to fear": engine.replay(encoded, [edit])[0, 0]}

with torch.no_grad(), small.lm.trace(**small.tokenizer(ask.render(event), return_tensors="pt")):
    for layer in layers:
        small.lm.model.layers[layer].output[:, -1] += 0.2 * direction[layer]
    plain = small.lm.lm_head.output[0, -1].save()

scores["the same in nnsight"] = plain[engine.answers]
torch.testing.assert_close(scores["pushed to fear"], scores["the same in nnsight"], atol=1e-3, rtol=1e-3)
print(event, pd.DataFrame({name: [EMOTIONS[i] for i in s.topk(3).indices] for name, s in scores.items()}), sep="\n")
everywhere = engine.replay(encoded, el.sweep(push, small, components=["resid_post"], span=3))

# %% [markdown]
# ## Against random directions, and against mean differences
#
# The mean over emotions says where in the network a push works. Random directions are the same in all layers of the
# window. Fitted ones differ from layer to layer, so that random pushes add up to at least their length, and may disturb
# more.

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        views.means(table),
        hue="vector",
        panel="push",
        paper=views.means(theirs),
        x="depth",
        ylim=(-1, 1),
        ylabel="mean promotion score",
    ),
    name="fig-promotion-depth",
    title=f"Largest mean promotion along the probe: {figures.extremes(select(views.means(table), vector='probe'), 'push')}",
    fold=True,
    caption="Promotion score averaged over emotions, for probe vectors, mean differences and random directions. Dashed: "
    "the paper's mean over its six emotions.",
    alt="Mean promotion score over depth for three kinds of vectors in a panel per dose.",
)

# %% [markdown]
# One emotion at a time, at the depth where the paper finds the strongest effect (its layer 10 of 16), so that our texts
# take no part in the choice; each with its interval over writers. For random directions the line is the range in which
# 95% of new draws would lie.

# %% tags=["hide-input"]
here = views.at_paper_depth(table)
around, (k, of) = f"layer {layer_number(int(here['layer'].iloc[0]))}", views.beyond_random(here)
figures.show(
    figures.interval_points(here, by="label", hue="vector", xlabel="promotion score", xlim=(-1, 1)),
    name="fig-promotion-emotions",
    title=f"Around {around}, {k} of {of} emotions are promoted beyond the range of random directions",
    caption=f"Promotion score around {around}, {here['push'].iloc[0]}, {texts} texts. Bars: 95% intervals over writers; of "
    "random directions, the range in which 95% of them lie.",
    alt="Promotion scores with intervals for thirteen emotions and three kinds of vectors.",
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C17: emotion vectors promote their label from the middle of the network on. That a push
# works does not make the direction the one the model uses. Only where the random directions of the same length stay behind
# is it more than what any disturbance of this size would do. A score below 0 means that the push takes the label away from
# events that had it.

# %% tags=["hide-input"]
say(
    f"At the depth where the study finds most, around {around}, random directions stay behind for {k} of {of} emotions, one by one."
)

# %% [markdown]
# The best layer of the table below is chosen on the texts it is computed on, which flatters it a little; the figure by
# emotion is free of that.

# %% tags=["hide-input"]
views.best(table, theirs).style.format(precision=2, na_rep="–").hide()

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("D_promotion", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** [What reproduces](11_claims.ipynb) collects the verdicts on all claims, and [All models](10_models.ipynb) compares models.
