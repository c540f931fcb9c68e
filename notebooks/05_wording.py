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
# # 5 Wording: what do the words alone tell?
#
# **Question.** How much of what a probe reads from the activations could be read from the words of the text, without any
# model?

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
from emolib.experiments import wording
from emolib.experiments.wording import views
from emolib.figures import say, spoken
from emolib.paper import claims, ladder
from emolib.study.freshness import measured
from emolib.study.run import Run
from emolib.tables.provenance import footer
from emolib.tables.results import select

run = Run.of(globals())
data = measured(run, wording)
name = ladder.run_name({"wording": data}, run.slug)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
named = select(data, metric="balanced_accuracy", target="writer")
words, stream, gap = views.best(named, *views.TEXT), views.best(named, "activations"), views.gap(data, target="writer")
say(
    f"The best probe of the text alone ({views.FEATURES[words['features']]}) names the writer's emotion with a balanced "
    f"accuracy of **{spoken(words)}**, the best probe of the residual stream of {name} (after layer "
    f"{layer_number(stream['layer'])}) with **{spoken(stream)}**; chance is {1 / 13:.2f}. The best of the stream minus "
    f"the best of the text, both chosen on other writers, is **{spoken(gap, '+.2f')}**: {views.said(gap)}."
)

# %% tags=["hide-input"]
look = dict(hue="source", panel="target", x="depth", ylabel="balanced accuracy", lines={"chance": 1 / 13})
figures.show(
    figures.depth_curves(views.against_text(data), **look),
    name="fig-wording-emotion",
    title=f"Writer's label read at best: {stream['value']:.2f} (residual stream) and {words['value']:.2f} (text alone)",
    caption=f"Balanced held-out accuracy of probes of the residual stream by depth, and of the best probe of the text "
    f"alone, which has no depth (level line), on all {named['n'].iloc[0]:,} events; five folds grouped by writer, 95% "
    "intervals over writers. A panel for the writer's label and one for the model's own answer, as far as it varies.",
    alt="Balanced accuracy of the residual stream over depth, beside the level line of the best probe of the text.",
)

# %% [markdown]
# For the *writer's label* text and activations answer the same question: what did this person feel? For the *model's
# answer* they do not: what the last layers say is the answer itself, so activations must win there in the end, and the
# point is only where they begin to.

# %% [markdown]
# ## What the probes are given
#
# The probes of [chapter 5](05_probing.ipynb) and [chapter 7](07_appraisals.ipynb) find the emotion, and the writer's
# ratings, in the residual stream. But somebody who writes of a funeral, a diploma or a barking dog gives the emotion away
# by the word. A probe that reads a trace of that word reads no inference about emotion. The paper has no control for it.
# Here such probes are given the text instead of the activations, in four forms: its **length**; its **words counted**; its
# **words weighted** by how rare they are (TF-IDF); and the model's own **token embeddings**, what it looks up for each
# token before its first layer, averaged over the text. It is the text that the model reads: where a corpus masks words of
# emotion, they are masked here too. Every probe, of text and of activations, has its penalty chosen on folds that it is
# not judged by. Chapter 5 keeps one penalty for all sites, as the paper does, which lets a probe of few texts fit much
# noise; numbers of the same site therefore differ between the two chapters.

# %% tags=["hide-input"]
shuffled, first = select(data, metric="balanced_accuracy", target="shuffled"), views.first(named)
texts = select(named, features=list(views.TEXT)).replace({"features": views.FEATURES})
say(
    f"Of the text alone the writer's label is read with {figures.extremes(texts, 'features')}. "
    f'After layer 1, the "layer 0" of much of the literature, the last token alone gives {spoken(first)}: it has '
    f"looked at the text once. With shuffled labels all probes lie between {shuffled['value'].min():.2f} and "
    f"{shuffled['value'].max():.2f}."
)

# %% [markdown]
# ## Appraisals
#
# The same for the writers' 21 ratings of how the event came about and mattered. $R^2$ is the share of the variance between
# events that is predicted, for events of other writers, with a penalty chosen for each rating on other folds.

# %% tags=["hide-input"]
rated, at = views.rated(data), layer_number(views.best_layer(data))
ahead, pleasant = views.gains(data), [views.row(rated, source) for source in ("residual stream", views.BEST)]
figures.show(
    figures.interval_points(rated, by="appraisal", hue="source", xlabel="held-out $R^2$", lines={"the mean rating": 0}),
    name="fig-wording-appraisals",
    title=f"R² of the rating that each predicts best: {figures.extremes(rated, 'source')}",
    fold=True,
    caption=f"Held-out $R^2$ of the residual stream after layer {at}, the best on average, and of the best of the four "
    "probes of the text alone for each appraisal; 95% intervals over writers.",
    alt="Points with intervals for 21 appraisals, ordered by the residual stream, with the best text-only probe beside each.",
)
say(
    f"The stream predicts **{(ahead['ci_low'] > 0).sum()}** of {len(ahead)} appraisals better than the text and "
    f"**{(ahead['ci_high'] < 0).sum()}** worse, by intervals of the difference that exclude 0. Of pleasantness the stream "
    f"explains {spoken(pleasant[0])}, the text {spoken(pleasant[1])}."
)

# %% [markdown]
# An appraisal can follow from the emotion's name, and the name from the words. The *partial* $R^2$ takes the writer's label
# as known: of what it leaves unexplained, which share does the text explain, and which share do the activations?

# %% tags=["hide-input"]
beyond = views.rated(data, "partial_r2")
figures.show(
    figures.interval_points(
        beyond, by="appraisal", hue="source", xlabel="partial $R^2$ beyond the label", lines={"nothing": 0}
    ),
    name="fig-wording-partial",
    title=f"Largest share explained beyond the label: {figures.extremes(beyond, 'source')}",
    fold=True,
    caption=f"Share of the variance left by the writer's label that the residual stream after layer {at} explains, and "
    "the best of the four probes of the text alone; 95% intervals over writers.",
    alt="Points with intervals for 21 appraisals: what stream and text explain beyond the emotion label.",
)
wide = beyond.pivot(index="appraisal", columns="source", values="value")
say(
    f"Of what the label leaves unexplained the stream explains {wide['residual stream'].mean():.2f}, the text "
    f"{wide[views.BEST].mean():.2f}, on average over the appraisals. The stream's share is the larger one for "
    f"**{(wide['residual stream'] > wide[views.BEST]).sum()} of {len(wide)}**."
)

# %% [markdown]
# ## Beyond the words
#
# Two readers that know different things could do equally well. So the activations are asked what they say that the
# words do not, in two ways. *Without*: what the guesses from weighted words, a log-probability for each emotion, predict
# of each activation by a linear rule is subtracted, and the probe must do with the rest. *Beside*: a probe is given the activations and
# these guesses side by side, and has to beat the words alone. The guesses on training texts come from regressions that
# have not seen them, so that they are as good as those on held-out texts. If the stream held nothing about the emotion
# but these guesses, and in this form, the rest would be at chance and both together would gain nothing. Other traces of
# the words, and the guesses in another form, may still be in the rest.

# %% tags=["hide-input"]
apart = views.curves(data, views.BEYOND, metric="balanced_accuracy", target="writer")
added, joint = select(data, metric="accuracy_gain", target="writer"), views.gap(data, "both", target="writer")
most, rest = views.best(added, "both"), views.best(named, "residual")
figures.show(
    figures.depth_curves(apart, hue="source", x="depth", ylabel="balanced accuracy", lines={"chance": 1 / 13}),
    name="fig-wording-beyond",
    title=f"Beside weighted words (TF-IDF) the stream adds at most {spoken(most, '+.2f')} to balanced accuracy",
    fold=True,
    caption="Balanced held-out accuracy for the writer's label of the residual stream as it is, without what the weighted "
    "words tell of the emotion, and beside them; the level line is the words alone. 95% intervals over writers.",
    alt="Balanced accuracy over depth of the stream, of what words do not predict of it, and of stream and words together.",
)

# %% tags=["hide-input"]
say(
    f"*Without* these guesses the writer's label is read from the stream with {spoken(rest)} at its best layer. *Beside* them it "
    f"adds something after **{(added['ci_low'] > 0).sum()} of {len(added)}** layers (interval above 0), most after layer "
    f"{layer_number(most['layer'])}. Both together minus the best of the text, chosen on other writers, is "
    f"**{spoken(joint, '+.2f')}**."
)

# %% tags=["hide-input"]
figures.show(
    figures.interval_points(ahead, by="appraisal", xlabel="$R^2$ minus that of the text alone", lines={"equal": 0}),
    name="fig-wording-gains",
    title=f"The stream predicts {(ahead['ci_low'] > 0).sum()} of {len(ahead)} appraisals better than the text alone",
    caption="Best $R^2$ of the residual stream minus the best of the text alone; layer and text probe are chosen on one "
    "half of the writers and compared on the other. 95% intervals.",
    alt="For 21 appraisals how much better the stream predicts them than the text alone.",
)

# %% [markdown]
# ## Carried over to other texts
#
# A reader of words has learnt a vocabulary. In the corpus *keyword-free* the same ten scenes occur under each of the 13
# labels, and no word of feeling in any of them: vocabulary helps little there. A probe that reads the model's view of the
# event, if there is one, should lose less on the way. Each probe is trained on all events of one corpus and tested on all
# of the other, with the same prompt.

# %% tags=["hide-input"]
across = views.carried(data)
figures.show(
    figures.depth_curves(
        across, hue="source", panel="panel", x="depth", ylabel="balanced accuracy", lines={"chance": 1 / 13}
    ),
    name="fig-wording-carried",
    title=f"Writer's label by the best reader: {figures.extremes(across, 'panel')}",
    fold=True,
    caption="Balanced accuracy for the writer's label within this corpus (held out) and from one corpus to another "
    f"({views.sizes(data)}). 95% intervals over the writers of the tested corpus; the "
    "keyword-free texts have no writers, and single texts stand for them, although ten scenes are told thirteen times each.",
    alt="Balanced accuracy over depth in three panels: within the corpus, to the other corpus, and back.",
)
say("Balanced accuracy of the stream, at the layer that is best within this corpus, minus that of the text:")
views.differences(data)

# %% [markdown]
# ## What this shows and what it does not
#
# A probe of the stream that does better shows that more is in the stream than these readers find in the words. That may
# be the order of words, the sense of a phrase, or a view of the event: the comparison does not tell which. A probe that
# does no better is not wrong; it is just no evidence that the model has done more than keep the words. The reverse
# holds as well: that words do as well does not show that the model keeps nothing else, which is why the two are also
# put together. The comparison is not quite even. Words are read from the whole text; of the activations only the last
# token's are, one layer at a time, where the model has to keep ready what it needs for its answer. Words come with
# thousands of columns, the stream with as many as it is wide. And only the stream has seen other texts than these: the
# model was trained on very many. What is found here is found of one model.

# %% [markdown]
# ## Verdict
#
# Claims C2 ([chapter 5](05_probing.ipynb)) and C12 ([chapter 7](07_appraisals.ipynb)) say that something can be read.
# Their verdicts therefore also need the best probe of the activations to be above the best of the text alone:

# %% tags=["hide-input"]
decided = views.decided(claims.checks(claims.run_tables(f"results/{run.slug}"), ["C2", "C12"]))
say(claims.as_markdown(claims.shown(decided)) or "Neither has been tested in this run yet.")

# %% tags=["hide-input"]
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** Reading says what is there. [Patching](06_patching.ipynb) asks what the model does with it, by moving activations
# from one event to another.
