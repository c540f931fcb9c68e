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
# # 6 Patching: what carries the answer?
#
# **Question.** If an activation of one event is put in place of another event's, does the model give the first one's
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
from functools import partial

from emolib import figures
from emolib.engine.sites import layer_number
from emolib.experiments import patching
from emolib.experiments.patching import views
from emolib.figures.display import readable, say
from emolib.paper import claims, ladder
from emolib.stats import landmarks
from emolib.study.freshness import measured, reference_table
from emolib.study.run import Run
from emolib.tables.provenance import absent, footer
from emolib.tables.results import last_of_window, select

run = Run.of(globals())
data, reference = measured(run, patching), reference_table(run, patching)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
half, peak = (
    ladder.model_by_model(run, patching, partial(views.turn, landmark=landmark, component=component))
    for landmark, component in (("onset", "resid_post"), ("peak", "attn_out"))
)
never = ladder.untrained(run, patching, partial(views.turn, landmark="onset", component="resid_post"))
carried = ladder.model_by_model(run, patching, partial(views.best_of, component="attn_out"))
say(
    f"Overwriting the residual stream carries half of the answers along from depth {ladder.listed(half)} on"
    f"{ladder.in_untrained(never)}. One attention "
    f"output alone carries at most {ladder.listed(carried, '.0%')}, at depth {ladder.listed(peak)}. Depths go in steps of one "
    "layer, so an interval has no width where nearly all resamples agree on the layer."
)
moved = ladder.model_by_model(run, patching, views.transferred)
theirs = views.paper_outcomes(span=1, metric="transfer")
look = dict(panel="run", x="depth", ylabel="share transferred", ylim=(0, 1))

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        moved, paper=ladder.behind(theirs, moved), twin=ladder.untrained(run, patching, views.transferred), **look
    ),
    name="fig-patching-models",
    title=f"The residual stream carries half of the answers along from depth {figures.extremes(half, 'run')} on",
    caption="Share of pairs whose answer becomes the source's when one layer of one component is overwritten at the last "
    "token, in each model, with 95% intervals. Dashed: attention in the paper's Llama 3.2 1B (its Figure 17).",
    alt="Share transferred over depth for attention output, feed-forward output and residual stream, a panel for each model.",
)
ladder.badges(run, "06_patching")

# %% [markdown]
# ## What a patch is
#
# Probes show what can be read from a component, not what the model makes of it. *Activation patching* intervenes: while
# the model answers a *base* event, the activation $x_t^{(l)}$ of one component at layer $l$ and token $t$ is overwritten
# by the one a *source* event with another emotion has there (§6, {cite:t}`tak2025`),
#
# $$x_t^{(l)} \leftarrow \hat x_t^{(l)},$$
#
# and the rest of the network runs on. The outcome is *transferred* when the answer becomes the source's, *kept* when it
# stays the base's, and *neither* otherwise. A window of three layers overwrites a layer and its two neighbours at once.
# Tokens are counted from the end of the prompt; -1 is the colon after "Answer", where the model must speak.
#
# After the last layer the residual stream *is* the answer, in any network, and also a network whose weights were never
# trained fixes it somewhere. How much the best patch carries is therefore no good sign of training. From where on it does
# so, and where it does not yet, can be one; the curves of an untrained twin, where one was run, are drawn behind its model's.
#
# ```{figure} ../drawings/patch.svg
# :name: fig-drawing-patch
#
# A patch. The attention output of one layer, at the last token of the source, takes the place of the base's own; the rest
# of the base's run is computed anew. The answer is then the source's, the base's own, or another.
# ```
#
# ## Pairs
#
# The paper draws 200 pairs anew for every layer and site. Here one set of pairs serves all sites, so that two sites
# differ by what is patched and by nothing else. Events the model answers right, the emotions as equally frequent as
# possible, are matched in rounds: in a round every event has one partner of another emotion and another writer, gives its
# activation to it and takes its partner's. Each event of a pair is thus once the source and once the base.

# %% tags=["hide-input"]
main, counts = views.outcomes(data), select(data, metric="pair_count")
n = main["n"].iloc[0]
say(
    f"This run has **{n:,} pairs**. Each of the {len(counts)} ordered pairs of emotions occurs "
    f"{counts['value'].min():.0f} to {counts['value'].max():.0f} times."
)

# %% [markdown]
# Two pairs that share a writer, be it of the base or of the source, are not independent. The intervals of shares are
# Wilson's with the number of pairs divided by a design effect that counts all such ties; ignoring the source would make
# them too narrow.
#
# ## One layer
#
# What can a single layer carry? Shading around the edges marks the 95% intervals of the share transferred, from below,
# and of the share kept, from above.

# %% tags=["hide-input"]
figures.show(
    figures.outcome_stacks(
        select(main, span=1),
        paper=views.paper_outcomes(span=1),
        reference=None if reference is None else views.outcomes(reference, span=1),
    ),
    name="fig-patching-single",
    title=f"Share of answers carried along by one layer, at the best place: {figures.extremes(select(main, span=1, metric='transfer'), 'component', '.0%')}",
    caption=f"Outcome of patching one layer at the last token, {n:,} pairs, 95% intervals. Dashed, for attention only: "
    "the paper's Llama 3.2 1B (its Figure 17), from below the share transferred, from above the share kept.",
    alt="Shares of transferred, neither and kept over depth in panels for attention, feed-forward and residual stream.",
)

# %% [markdown]
# ## One patch, by hand
#
# What the figure counts, done once before your eyes in the smallest of the models, SmolLM2 135M, on two events of ours.
# Thirteen events, one of each emotion, are read, and the mean score of each label over them is subtracted, as
# calibration does. Then the residual stream after layer 24 of the fourth event, the *source*, is written over that of
# the sixth, the *base*. The engine does it in every layer at once, which is the sweep that the figures of this chapter
# are made of, over many pairs; a plain [nnsight](https://nnsight.net) trace does it in that one layer. The scores of
# both are compared, and are the same.

# %% tags=["intervention"]
import pandas as pd
import torch

import emolib as el
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

small, (source, base) = el.load("smollm2-135m"), (3, 5)
events = load_corpus("situations").events.groupby("emotion").head(1)["text"].tolist()
prompts = [get_prompt("T1-2shot").render(event) for event in events]
engine = el.Engine(small, prompts, answers=EMOTIONS)
encoded = engine.encode(read=["resid_post"])
stream = encoded.activations["resid_post"][:, :, -1]  # [layer, event, width]; layers count from 0 in code
patch = el.Patch({"resid_post": stream}, donors=torch.full((len(events),), source))
patched = engine.replay(encoded, el.sweep(patch, small, components=["resid_post"]))[base]  # in every layer

with torch.no_grad(), small.lm.trace(**small.tokenizer(prompts[base], return_tensors="pt")):
    small.lm.model.layers[23].output[:, -1] = stream[23, source]
    plain = small.lm.lm_head.output[0, -1].save()
torch.testing.assert_close(patched[23], plain[engine.answers], atol=1e-3, rtol=1e-3)
clean, mean = encoded.logits, encoded.logits.mean(0)
scores = {"source": clean[source], "base": clean[base], "patched": patched[23]}
best = {name: [EMOTIONS[i] for i in (z - mean).topk(3).indices] for name, z in scores.items()}
print(f"source: {events[source]}\nbase: {events[base]}", pd.DataFrame(best), sep="\n")
print("in every layer:", *(EMOTIONS[i] for i in (patched - mean).argmax(-1)))

# %% [markdown]
# ## Three layers, as in the paper
#
# For attention and feed-forward outputs a window adds up what its layers contribute. For the residual stream it adds
# nothing: each overwrite replaces all that came before, so only the last layer of the window counts. Plotted at its
# centre, as in the paper, the stream's curve lies one layer too early (two, with windows of five). Everything about the
# stream, ours and the paper's, is therefore drawn at the **last overwritten layer**.

# %% tags=["hide-input"]
figures.show(
    figures.outcome_stacks(select(main, span=3), paper=views.paper_outcomes(span=3)),
    name="fig-patching-three",
    title=f"Share of answers carried along by three layers, at the best place: {figures.extremes(select(main, span=3, metric='transfer'), 'component', '.0%')}",
    fold=True,
    caption=f"Outcome of patching three neighbouring layers at the last token, {n:,} pairs, 95% intervals, at the "
    "centre of the window for attention and feed-forward and at its last layer for the stream. Dashed: the paper's Llama "
    "3.2 1B (its Figure 16, 200 pairs).",
    alt="Shares of transferred, neither and kept over depth for windows of three layers, the paper's edges dashed.",
)

# %% tags=["hide-input"]
wide = last_of_window(select(main, component="resid_post"), "metric")
apart = int((wide["apart"] > 0).sum())
say(
    f"All {len(wide)} shares of wider windows in the stream equal those of their last layer alone."
    if not apart
    else f"Of {len(wide)} shares of wider windows in the stream all but {apart} equal those of their last layer alone. These "
    f"differ by {(wide['apart'] * wide['n']).max():.0f} of {n:,} pairs at most: numbers are rounded differently when they are computed in another "
    "way, and a pair whose two best labels are nearly tied may flip."
)

# %% [markdown]
# ## Does a wider window transfer more?
#
# More layers must transfer at least about as much. What matters is whether the place stays the same.

# %% tags=["hide-input"]
spans, theirs = main[main["component"] == "attn_out"], views.paper_outcomes(component="attn_out", span=[1, 3, 5])
if len(spans):
    figures.show(
        figures.outcome_stacks(spans, panel="span", paper=theirs),
        name="fig-patching-spans",
        title=f"Share of answers that attention carries along, at the best place: {figures.extremes(select(spans, metric='transfer'), 'span', '.0%')}",
        fold=True,
        caption="Outcome of patching attention outputs in windows of one, three and five layers, at the centre of the "
        "window, 95% intervals. Dashed: the paper's Llama 3.2 1B (its Figure 17).",
        alt="Shares of transferred, neither and kept over depth for attention in windows of one, three and five layers.",
    )
best = [
    f"layer {layer_number(row['layer'])} for {'one layer' if row['span'] == 1 else 'windows of ' + str(row['span'])}"
    for _, row in landmarks.rows("peak", spans[spans["metric"] == "transfer"], "span").iterrows()
]
say(f"Attention transfers most around {', '.join(best)}." if best else absent(data.attrs["provenance"]))

# %% [markdown]
# ## Which token?
#
# The same at the four tokens before the last. The last layer cannot transfer anything there, because no later layer
# carries it to the last token.

# %% tags=["hide-input"]
tokens = views.by_token(data)
figures.show(
    figures.site_heatmap(
        tokens,
        label="share of pairs transferred",
        paper=views.paper_outcomes(span=3, metric="transfer", position=[*tokens["position"].unique()]),
    ),
    name="fig-patching-tokens",
    title=f"Share of answers carried along from one token, at the best site: {figures.extremes(tokens, 'position', '.0%')}",
    fold=True,
    caption=f"Share of pairs transferred by token and layer. This run: windows of {tokens['span'].max()} for attention "
    f"and feed-forward, single layers of the stream, {tokens['n'].min()} pairs at tokens -2 to -5. Below, the paper's "
    "Llama 3.2 1B (its Figure 21, windows of three), the stream at the last overwritten layer.",
    alt="Heat-maps of the share transferred over layers and the last five tokens, ours above the paper's.",
)

# %% [markdown]
# ## How much, not only whether
#
# The answer flips when one label overtakes another; evidence that moves part of the way is not seen. So we also follow
# the logits. Let $z_y$ be the logit of label $y$, $s$ and $b$ the labels of source and base, and $e_y = z_y - \bar z$,
# where $\bar z$ is the mean logit of the eleven labels that are neither. Brackets average over pairs:
#
# $$R_{\text{denoising}} =
# \frac{\langle e_s^{\text{patched}} - e_s^{\text{base}}\rangle}{\langle e_s^{\text{source}} - e_s^{\text{base}}\rangle},
# \qquad R_{\text{noising}} =
# \frac{\langle e_b^{\text{base}} - e_b^{\text{patched}}\rangle}
# {\langle e_b^{\text{base}} - e_b^{\text{source}}\rangle}.$$
#
# *Denoising* asks how much of the source's emotion comes in with the patch, *noising* how much of the base's own goes
# ({cite:t}`heimersheim2024`). 0 is untouched, 1 is all of it. For the plain logit difference $z_s - z_b$ the
# two say the same thing: swapping a pair turns one into the other, and each event is once the source and once the base.
# That single number, a weighted mean of the two, is the curve called *both*.

# %% tags=["hide-input"]
recovery = select(data, metric="recovery", span=1)
own = recovery[recovery["component"] == "attn_out"]
behind = None if reference is None else select(reference, metric="recovery", span=1)
look = dict(hue="direction", panel="component", x="depth")
look["ylim"] = (min(-0.05, recovery["ci_low"].min()), max(1.05, recovery["ci_high"].max()))
figures.show(
    figures.depth_curves(recovery, ylabel="recovered evidence", reference=behind, **look),
    name="fig-patching-recovery",
    title=f"Largest share of the evidence that one attention output carries: {figures.extremes(own, 'direction')}",
    fold=True,
    caption=f"Normalised recovery when one layer is patched at the last token, {n:,} pairs, ratio of means with 95% "
    "intervals that count shared writers. 1 is all of the evidence.",
    alt="Recovered evidence over depth for denoising, noising and both, in panels for the three components.",
)

# %% [markdown]
# ## Control: what patching breaks by itself
#
# An activation from elsewhere may disturb whatever it says. If it comes from another event with the **same** emotion, an
# answer that is not kept is damage, not transfer. Patching an event with itself changes nothing at all, which the tests
# of the library check.

# %% tags=["hide-input"]
kept, look = views.kept(data), dict(ylabel="share kept", hue="source", panel="component", x="depth", ylim=(0, 1))
same = select(kept, source="the same emotion")["n"].iloc[0]
for span in (1, 3):
    shown, layers = select(kept, span=span), "one layer" if span == 1 else f"{span} layers"
    own = select(shown, source="the same emotion")
    figures.show(
        figures.depth_curves(shown, **look),
        name=f"fig-patching-control-{span}",
        title=f"Answers kept with {layers} of an event of the same emotion, where fewest are: {figures.extremes(own, 'component', '.0%', lowest=True)}",
        fold=span > 1,
        caption=f"Share of answers kept when the source has another emotion or the same one ({same} pairs); {layers} "
        "overwritten at the last token, 95% intervals.",
        alt="Share of answers kept over depth, for sources of the same and of another emotion, in three panels.",
    )
own = select(kept, span=1, source="the same emotion")
low = own.loc[own["value"].idxmin()]
say(
    f"One layer's {readable(low['component'])} of another event with the same emotion changes up to {1 - low['value']:.0%} of "
    f"the answers, at layer {layer_number(low['layer'])}. Both events had the same answer before: so much is damage."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on three claims: the residual stream carries nothing that decides early and everything after a
# critical layer (C5), attention outputs carry it only in a band in the middle and feed-forward outputs a little later
# (C6), and wider windows transfer more while the place stays the same (C8). Depth is the layer over the number of layers.
# Intervals of places resample the writers of both texts of a pair, and are if anything too wide. In the table below stand
# the paper's models and those of this book, with windows of five layers where there are any.

# %% tags=["hide-input"]
places = views.places(ladder.model_by_model(run, patching, views.turns))
if (places[[*views.TURNS]] > 1).any(axis=None):
    say("A depth beyond 1 says that it never happens.")
places.style.format(precision=2, na_rep="–").hide()

# %% [markdown]
# That patching the stream works late is no discovery: after the last layer it is the answer itself. Nor is working early a
# merit, since in an untrained network it can work from the first layers on. What is informative is that before a certain
# depth of a trained model it does *not* work, and which component brings the change there. Transfer shows that a site *suffices* to move the
# answer. Whether it is also *needed* is the question of the [ablations](B_ablation.ipynb): in the paper attention
# transfers in all ten models, yet five of them hardly need it, so neither test can stand for the other. And an answer
# that is not kept is not always transferred: the control shows how much a foreign activation breaks although it speaks
# for the same emotion.

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("06_patching", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** Only attention can bring something from the event to the last token: [Attention](06_attention.ipynb) looks at what it attends to there, and
# [Ablation](B_ablation.ipynb) takes it away.
