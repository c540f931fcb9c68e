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
# # 10 Discussion: what we now believe
#
# **Question.** Where in a language model is the emotion of a described event inferred, and what have *appraisals*, a
# person's judgements of the event, to do with it? This page says what the study concludes, what is left of it after
# measuring again, and what remains open.

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

from emolib import figures
from emolib.figures.display import glue, plain, say
from emolib.paper import claims, ladder
from emolib.paper import overview as models
from emolib.study.run import Run

stored = claims.shown_runs(Run.of(globals()).slug)
found, judged = models.overview(stored), ladder.checked(stored)
beside = pd.concat([judged, ladder.of_paper()])
of, best = partial(ladder.measured, beside), partial(ladder.best_rows, stored)
table = partial(ladder.side_by_side, runs=beside["run"].unique())

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
pushed = [
    ladder.positive(judged, "C14", check)
    for check in ("mean theory score, directions that predict", "as released: mean theory score")
]
short = f"""
- **In our models an answer reaches the last token {models.against_study(found, "patching onset")}.** Copy what the
  network holds there from one event into another, and from a certain depth on half of the answers go along. That depth
  is {models.spans(found, "patching onset")} (0 is the beginning of the network, 1 its end).
- **What is brought there is not emotion alone.** Asked for the topic of an event, the network uses the same place, and
  the topic goes along more often than the emotion, in {ladder.positive(judged, "C10", "share of topics minus")} where both were asked.
- **Words tell much of it.** The best reader of the network's inner state names the writer's emotion more often than the
  best reader of the bare words, by {ladder.quoted(judged, "C2", "best probe of the writer")}.
- **Pushing one judgement at a time moves answers only partly as psychological theory expects.** The mean theory score
  is above zero, with its whole interval, in {pushed[0]} along directions that predict people's judgements of events, and in
  {pushed[1]} along the study's. That is not yet a difference between the two, nor a score beyond random directions; the
  chapter on modulation sets these beside, and counts single pushes and pairs together, where an effect shows more easily.

{models.written_for(judged)}
"""
say(short)

# %% [markdown]
# What this takes away from the study is less its findings than their names. That there is a depth at which *the
# model settles on its answer* is found again, by reading activations and by moving them; whether it lies near the middle, and
# whether removal points to it too, is told below for each model. That what settles there is *emotion*, and that it is
# *inferred* rather than read off the words, the study's design could not show. The controls of this book put both to
# the test, and the lines above say how that came out.

# %% tags=["hide-input"]
doubts = models.doubts(judged)
runs = judged["run"].unique()
say(
    f"One caution stands before everything below. Of {len(doubts)} controls that a critic would ask "
    f"for, this many were measured: {ladder.in_words(runs, (doubts[runs] != '–').sum().astype(str))}. And where a model "
    "answers less well than the study's models, its controls show what *may* lie behind the study's curves, not what does."
)

# %% [markdown]
# **How to read the tables.** A row is one measurement, a column one model. The last column has the study's own values of
# the model that it examined in detail. The 95% interval stands in brackets. A dash says that nothing was measured, and so does a missing column. A
# *depth* is a layer's number over the number of layers. There is nothing between two layers, so that the interval of a
# depth may begin and end at the same one. What happens in the methods is told in [Method](04_method.ipynb).
#
# ## What the study concludes
#
# {cite:t}`tak2025` conclude that emotion is *localised*. Three methods that could have disagreed point to the same stretch of
# the network. The emotion becomes readable there; it moves along with what is copied there; and it is lost when attention is
# removed there. Attention in the middle layers, they hold, gathers what the text says, and feed-forward layers right after
# it turn that into an emotion. Appraisals can be read from the same layers, and pushing them changes the answer as the
# theory expects. So what was found fits psychology.
#
# ## Where an answer arrives
#
# An answer is *carried along* when an activation is copied from one event into another, and the answer comes with it.

# %% tags=["hide-input"]
table(
    {
        "Depth from which the residual stream carries half of the answers": of("C5", "depth at"),
        "The same with weights that were never trained": of("C5", "depth at", untrained=True),
        "Largest share that it carries in the first third of the layers": of("C5", "highest transfer"),
        "Smallest share that it carries in the last eighth": of("C5", "lowest transfer"),
        "Depth at which neighbouring layers of attention carry most": of("C6", "depth of the peak"),
        "Layers from there to where feed-forward carries most": of("C6", "layers from"),
    }
)

# %% [markdown]
# Next to nothing goes along early, most of it does late, and a few attention outputs bring it. That shape is in our models
# as in the ten of the study. What goes along late, and that few attention outputs bring it, an untrained twin may show as
# well ([All models](10_models.ipynb)). What it need not show, as the second row says where one was run, is the first part:
# that nothing goes along before the place. So the depth can be learnt; that there is a place need not be. How deep the place lies differs. The study's claim C5 is about a place near the middle, so
# that a model with the same shape and a deeper place does not reproduce it.

# %% tags=["hide-input"]
trends = models.trends(found, "paper", "ours").merge(models.families(found), on="landmark")
say(
    f"Half of the answers go along from a depth of {models.spans(found, 'patching onset')}. {models.moves(trends, 'patching onset')}"
)

# %% [markdown]
# Others have found emotion near the middle in models as small as our smallest {cite:p}`jeong2026`. But the measures differ. A
# probe of the writer's label asks when the event's emotion *can* be read; copying asks when the last token holds *what will
# be said*. These are two targets, and nothing forces them to meet.
#
# That the study's methods agree is weaker evidence than it seems. Its probe is trained on the events that the model labels as
# their writers did (the *agreed set*), so that it reads the model's own answer. Copying moves that answer, and removal
# destroys it. Wherever an answer is settled, all three should find it, for any question with thirteen answers.
#
# ## Is it emotion that arrives there?
#
# The same texts can be asked for their topic. The study's own control asks for the first word of a text, which is copied,
# not understood. And what is inferred depends on what is left to infer: the study's texts have words of emotion masked.

# %% tags=["hide-input"]
changed = partial(best, "robustness", metric="accuracy", check="text", set="changed")
table(
    {
        "Where attention carries most emotions: share of topics minus share of emotions": of(
            "C10", "share of topics minus"
        ),
        "Layers by which the residual stream carries the first word later than the emotion": of(
            "C10", "layers by which"
        ),
        "Events with masked words: share answered as their writers did": ladder.in_cells(changed(text="masked")),
        "The same events as they were written": ladder.in_cells(changed(text="original")),
    }
)

# %% [markdown]
# So, where this was measured, the band is where what was read turns into what was asked for: a place of topics as well as of
# emotions. That more topics than emotions go along may mean no more than that topics are easier. The first word is not shown
# to come later where its interval holds 0.
#
# Much of the difficulty lies in the masks. Where the words of feeling stand in the text, even a small model finds them; some
# of them are the answer itself. What remains is a claim about *this task*, thirteen labels after a description.
#
# ## Words, activations, answers
#
# How well is the writer's emotion named? Here each emotion counts alike, so that chance is one in thirteen.

# %% tags=["hide-input"]
named = partial(best, "wording", metric="balanced_accuracy", target="writer")
words = ["length", "token_embeddings", "bag_of_words", "tfidf"]
answered = best("behaviour", metric="balanced_accuracy", calibration="batch")
table(
    {
        "Best of four classifiers of the words alone (one has the model's own token embeddings)": ladder.in_cells(
            named(features=words)
        ),
        "Best probe of activations": ladder.in_cells(named(features="activations")),
        "The second minus the first, both chosen on other writers": of("C2", "best probe of the writer"),
        "What the model answers": ladder.in_cells(answered),
    }
)

# %% [markdown]
# There are two gaps. *Activations beyond words* is the one that the study needed and did not measure: without it, a probe may
# read words. It is there where it was measured, and the table says how large it is. *Activations beyond answers* is the gap
# that speaks for probing. A probe, which is taught by thousands of labels, finds more of the event in a model's
# activations than its answers say. That the model does not know and that it does not say are different findings. A probe of
# the agreed set, where the answer is right by construction, cannot tell them apart.
#
# ## Sufficient is not necessary
#
# What is copied may be enough for an answer that would come without it. So the opposite is asked, too: how many answers are
# left when attention is set to zero in three neighbouring layers? The first and the last three layers are left alone.

# %% tags=["hide-input"]
table(
    {
        "Share of answers that attention carries along, at the best place": of("C6", "transfer of attention"),
        "Share left without attention, at the worst place": of("C7", "lowest agreement without attention"),
        "The same, with each label's mean score brought back to what it was": of(
            "C7", "lowest agreement without attention, offsets"
        ),
    }
)

# %% [markdown]
# Zeroing an output shifts all answers of a model in one direction, and part of what looks like a lost answer is that shift.
# With it taken out, less is lost, and the order of attention and feed-forward can turn round ([Ablation](B_ablation.ipynb)).
# In the study's own values, larger models lose less when attention is removed, while copying still works ([All
# models](10_models.ipynb)). One reading of both: what is carried there can be enough for the answer, but larger models depend
# on it less, perhaps because other layers can stand in.
#
# ## Appraisals, beyond the label and beyond the words
#
# The study names six appraisals: pleasantness, unpleasantness, self- and other-agency, predictability and suddenness. For how
# many of the six does a probe read people's ratings better than a simpler guess does?

# %% tags=["hide-input"]
table(
    {
        "The study's probe, better than the mean rating": of("C12", "best R2 above zero"),
        "The study's probe, better than the emotion's label": of("C12", "best R2 above that of the label"),
        "A probe with a chosen penalty, adding to the label": of("C12", "share of the rest"),
        "A probe with a chosen penalty, better than the words": of(
            "C12", "best R2 above that of the best probe of the text"
        ),
    }
)

# %% [markdown]
# Here the outcome of a control depends on the probe as well. Where the study's probe is no better than the emotion's
# label, it may have read no more than that. Probes whose *penalty*, the brake on their weights, is chosen to suit the
# texts explain part of what the label leaves, and, where that was measured, more than the words give. So models keep
# something of *how* an event came about (who did it, could it be foreseen), and not only which emotion it fits.
#
# ## Cosines that fade
#
# A *direction* says how activations change when an emotion or an appraisal grows. The *cosine* of two directions is 1 where
# they are the same, 0 where they have nothing in common, and −1 where they are opposite.

# %% tags=["hide-input"]
table(
    {
        "Of twelve cosines of emotion and appraisal, those with the theory's sign early": of(
            "C13", "cosines with the sign"
        ),
        "The same with weights that were never trained": of("C13", "cosines with the sign", untrained=True),
        "Mean size of the cosines late, the study's probes": of("C13", "mean size"),
        "Differences of means: late size over early size": of("C13", "share of the size that is left with differences"),
    }
)

# %% [markdown]
# *Early* is the first half of the layers, *late* the last quarter. Signs alone say little: emotions and judgements of the
# same events share what the words of these events share, so that an untrained twin can have most of them too. Where it was
# measured, the fade belongs to the study's probes alone: differences of means, which need no probe, keep their cosines. Which axis the emotions themselves keep is asked in
# [Geometry](08_geometry.ipynb).
#
# ## Pushes
#
# A *push* adds a direction to the activations, here that of one appraisal. Its *theory score* is 1 where the answers
# change as people's ratings say they should, 0 where the two have nothing to do with one another, and −1 where they are opposed.

# %% tags=["hide-input"]
kinds = {
    "the study's": ("C14", "as released: mean theory score"),
    "others projected out": ("C14", "with the other appraisals projected out: mean"),
    "predict ratings": ("C14", "mean theory score, directions that predict"),
    "predict ratings, late": ("C14", "mean theory score, directions that predict, after"),
}
scores = models.checked_numbers(beside, kinds)
apart = scores.pivot(index="run", columns="what", values="value").reindex(columns=list(kinds)).iloc[:, [2, 0]].dropna()
pairs = [f"{plain(a, '.2f')} and {plain(b, '.2f')} ({who})" for who, (a, b) in apart.T.items()]
figures.show(
    figures.interval_points(scores, xlabel="mean theory score", by="what", hue="run", lines={"no relation": 0.0}),
    name="fig-discussion-pushes",
    title=f"Mean theory score of single pushes along directions that predict and along the study's: {'; '.join(pairs)}",
    caption="Mean theory score of pushes of one appraisal, by how its direction is found: by the study's procedure; the same "
    "without what it shares with other appraisals; with a penalty chosen to predict the ratings of unseen writers. At the "
    "depth that the study pushes at, and, last row, after depth 0.85. Bars: 95% intervals.",
    alt="For each kind of direction a mark for every model, with its interval, between -1 and 1.",
)

# %% tags=["hide-input"]
reads = partial(best, "modulation", metric="direction_r2", pleasantness=1)
table(
    {
        "Pleasantness of unseen writers' events, read by the study's direction (R² in its best layer)": ladder.in_cells(
            reads(vector="raw")
        ),
        "The same, read by a direction with a chosen penalty": ladder.in_cells(reads(vector="tuned")),
    }
)

# %% [markdown]
# Steering can depend on how a direction is found. The study's procedure has few texts and hardly a penalty. Where its
# directions read nothing of unseen writers, pushing them says nothing of appraisals. Where they do read, the figure
# says how far single pushes along them follow the theory. [Modulation](09_modulation.ipynb) takes single pushes and
# pairs together: that mean has the narrower interval, and can lie above zero where the one here does not. That a
# direction reads is no warrant that it steers.
#
# One reason is known. Weights that read best among correlated activations also subtract what disturbs the reading
# {cite:p}`haufe2014`, and a push along them moves that, too. A difference of means has only what goes with the appraisal.
# Directions with a penalty chosen for unseen writers, and differences of means at least about as far
# ([Modulation](09_modulation.ipynb)), move answers in the order of the theory. Whether pushes of two appraisals do so beyond
# random directions of like covariance the row *Any push would do* below says for each model.
#
# That is evidence *for* the study's thesis from a procedure that is not the study's. And because such pushes move labels late
# as well, it says nothing for a middle band of appraisal.
#
# ## What a critic would say, and what was measured
#
# Each row is one check of a claim. *Holds*: the study's claim survives the critic. *Fails*: the critic is right. *Open*: the
# interval reaches over the limit. A dash: not measured on that model. The numbers are in [What
# reproduces](11_claims.ipynb).

# %% tags=["hide-input"]
say(claims.as_markdown(doubts))

# %% [markdown]
# Other controls decide no claim and stand in their chapters: sources of the same emotion in [Patching](06_patching.ipynb);
# random and mean ablations in [Ablation](B_ablation.ipynb); eleven prompts and ten splits in
# [Robustness](C_robustness.ipynb). [Modulation](09_modulation.ipynb) has the appraisal said in a sentence instead of pushed,
# all other appraisals read behind a push, and expectations from a meta-analysis beside those of this corpus.
#
# A critic would also say that thirteen labels of one prompt are not emotion; that one corpus of crowd workers' recollections
# in English is not experience; that weights of four bits are not the model; that a few models are not a law; and that
# steering one word's probability is not steering behaviour. All of that is right, and [Limitations](../11_limitations.md) has it.
#
# ## Localised or distributed
#
# Later work finds emotion spread over most layers and many neurons {cite:p}`reichman2026`, and finds that detecting *that*
# something is emotional comes much earlier than naming *which* emotion {cite:p}`keeman2026`. The two views need not exclude
# each other. The study asks when the last token receives the label; others ask where in a network the information exists. A
# band where information is handed over can sit on top of a representation that is everywhere.
#
# ## What remains open
#
# - Does the gap between activations and words grow with size? A model that infers more should have more to read.
# - Is any middle band *necessary* in a model above two billion parameters, when its output is exchanged instead of zeroed?
# - What decides how deep the place lies? Between the study's models and ours size, family, precision of the weights and
#   calibration differ.
# - Do appraisals steer *within* one emotion, from mild to strong fear? Thirteen words cannot say.
# - Does a pushed appraisal change what a model writes, and what else does the push break? Both need generated text.
#
# How others' findings fit is told in [Related work](../02_related_work.md).

# %% tags=["hide-input"]
glue("in-short", short, here=False)
others = {  # for the page on related work
    "Depth from which the residual stream carries half of the answers": of("C5", "depth at"),
    "Other prompts under which attention carries most in the same place": of(
        "C11", "other prompts under which transfer"
    ),
    "Probes of activations minus the best probe of the words, writer's emotion": of("C2", "best probe of the writer"),
    "Topics minus emotions that attention carries, where it carries most emotions": of("C10", "share of topics minus"),
    "Theory score of directions that predict, minus what 99% of random ones reach": of(
        "C14", "the same beside the 99%"
    ),
}
glue("beside-others", table(others), here=False)
say(claims.origins(stored))
