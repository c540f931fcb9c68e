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
# **Question.** Where in a language model is the emotion of a described event inferred, and what have appraisals to do with
# it? What the study concludes, what is left of it after measuring again, and what remains open.
#
# {cite:t}`tak2025` conclude that emotion is *localised*. Three methods that could have disagreed point to the same stretch of
# the network: the emotion becomes readable there, moves along with what is patched there, and suffers when attention is
# removed there. Attention in the middle layers, they hold, gathers what the text says, and feed-forward layers right after
# it turn that into an emotion. Appraisals can be read from the same layers, and pushing them changes the answer as the
# theory expects; so what was found fits psychology.

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

from IPython.display import Markdown

from emolib.figures.display import glue, say
from emolib.paper import claims
from emolib.paper import overview as models
from emolib.study.run import Run

stored = claims.shown_runs(Run.of(globals()).slug)
found = models.overview(stored)
of, best = partial(models.quoted, models.checked(stored)), partial(models.best_rows, stored)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
trends = models.trends(found, "paper", "ours").merge(models.families(found), on="landmark")
pushed = of("C14", "mean theory score, directions that predict"), of("C14", "as released: mean theory score")
short = f"""
- **An answer is settled late and in one place**, as the study says. Overwriting the last token's residual stream carries
  half of the answers along from depth {models.where(found, "patching onset")} on. {models.moves(trends, "patching onset")}
- **That place is not one of emotion alone.** Where attention carries most of the emotion it carries more of the events'
  *topics*. Share of topics minus that of emotions: {of("C10", "share of topics minus")}.
- **Words tell much of it.** Balanced accuracy of the best probe of activations minus that of the best probe of the words
  alone: {of("C2", "best probe of the writer")}.
- **Pushing appraisals follows the theory with directions that read them**, not with the study's. Mean theory score, 0 by
  chance and 1 at best: {pushed[0]}; with the study's directions {pushed[1]}."""
say(short)

# %% [markdown]
# What this takes away from the study is less its findings than their names. *Where the model settles on its answer* is
# found again by every method we tried. That what settles there is *emotion*, and that it is *inferred* rather than read off
# the words, is what the study's design could not show, and what the controls of this book make doubtful or smaller.
#
# ## An answer arrives late, in one place

# %% tags=["hide-input"]
say(
    f"Depth from which the residual stream carries half of the answers: {of('C5', 'depth at')}; the largest share before "
    f"depth 0.35: {of('C5', 'highest transfer')}. Depth at which five layers of attention carry most: "
    f"{of('C6', 'depth of the peak')}; layers from there to the peak of feed-forward outputs: {of('C6', 'layers from')}."
)

# %% [markdown]
# Nothing early, nearly everything late, and a few attention outputs that bring it: that shape is in every model that we and
# the paper have looked at. How deep the place lies is not the same, and others have found emotion near the middle in
# models as small as ours {cite:p}`jeong2026`. The measures differ. A probe of the writer's label asks when the event's
# emotion *can* be read; patching asks when the last token holds *what will be said*. The second cannot be earlier than the
# first, and in a small model that decides late it is much later.
#
# The agreement of the methods is weaker evidence than it seems. A probe of the agreed set is asked for the model's own
# answer, patching moves that answer, and removal destroys it. All three find the place where an answer is settled, as they
# would for any question with thirteen answers.
#
# ## Is it emotion that arrives there?

# %% tags=["hide-input"]
changed = dict(metric="accuracy", check="text", set="changed")
masked, written = (models.listed(best("robustness", text=kind, **changed)) for kind in ("masked", "original"))
say(
    f"The same texts can be asked for their topic. Share of topics minus share of emotions that attention carries, at the "
    f"layer where it carries most emotions: {of('C10', 'share of topics minus')}. The study's own control asks for the first "
    f"word of a text, which is copied, not understood. Layers by which it is carried later: {of('C10', 'layers by which')}."
)
say(
    f"What is inferred depends on what is left to infer. Share of the writer's labels in answers to texts whose words of "
    f"emotion are masked, as the study's are: {masked}; to the same texts as they were written: {written}."
)

# %% [markdown]
# So the band is where the model turns what it has read into what it was asked for. It is as much a place of topics as of
# emotions. And most of the study's difficulty lies in the masks: where the words of feeling stand in the text, even a small
# model finds them. What remains is a claim about *this task*, thirteen labels after a description, which the study tested
# well.
#
# ## Words, activations, answers

# %% tags=["hide-input"]
features = [
    best("wording", metric="balanced_accuracy", target="writer", features=kind) for kind in ("tfidf", "activations")
]
said = best("behaviour", metric="balanced_accuracy", calibration="batch")
say(
    f"How well is the writer's emotion named, each emotion counting alike? By a classifier that sees nothing but weighted "
    f"words: {models.listed(features[0])}. By the best probe of activations: {models.listed(features[1])}. By what the "
    f"models *answer*: {models.listed(said)}."
)

# %% [markdown]
# Two gaps. *Activations beyond words* is the gap that the study needed and did not measure: without it, a probe may read
# words. It is there, and it is small. *Activations beyond answers* is the gap that speaks for probing: a weak model's
# activations hold more of the event than its answers say. "The model does not know" and "the model does not say" are
# different findings, and a probe of the agreed set, where the answer is right by construction, cannot tell them apart.
#
# ## Sufficient is not necessary

# %% tags=["hide-input"]
say(
    f"Share of answers that five layers of attention carry along, at best: {of('C6', 'transfer of attention')}. Share of "
    f"answers that remain with three layers of attention zeroed, at worst: {of('C7', 'lowest agreement without attention')}; "
    f"with the scores' offsets centred anew under the edit: {of('C7', 'lowest agreement without attention, offsets')}."
)

# %% [markdown]
# Zeroing an output shifts all answers of a model in one direction, and much of what looks like a lost answer is that shift.
# With it taken out, less is lost, and the order of attention and feed-forward can turn round ([B](B_ablation.ipynb)). In the
# paper's own values the dip shrinks with size while patching still works ([All models](10_models.ipynb)). We read both as
# one finding: the place is *sufficient* for the answer in every model, and *necessary* the less, the more layers a model
# has to fall back on.
#
# ## Appraisals, beyond the label and beyond the words

# %% tags=["hide-input"]
say(
    f"Of the six appraisals that the study names, how many can be read better than not at all: {of('C12', 'best R2 above zero')}; "
    f"better than from the emotion's label: {of('C12', 'best R2 above that of the label')}; better than from the text alone: "
    f"{of('C12', 'best R2 above that of the best probe of the text')}; how many beside the label, on all events: "
    f"{of('C12', 'share of the rest')}."
)

# %% [markdown]
# Here the study's claim comes out better with controls than without. The label alone predicts pleasantness as well as a
# released probe does. But a probe with a penalty suited to its texts explains part of what the label leaves, and more than
# the words give. So models keep something of *how* an event came about (who did it, could it be foreseen), and not
# only which emotion it fits.
#
# ## Cosines that fade, projections, and pushes

# %% tags=["hide-input"]
say(
    f"Of twelve cosines between emotions and appraisals, how many have the theory's sign in the first half of the layers: "
    f"{of('C13', 'cosines with the sign')}. Mean size of the released probes' cosines beyond depth 0.75: "
    f"{of('C13', 'mean size')}. Share of the size that directions keep which are no classifier's, differences of means: "
    f"{of('C13', 'share of the size that is left with differences')}."
)
say(
    f"Mean theory score of pushing one appraisal at the paper's depth, with its directions: {pushed[1]}; without what they "
    f"share with the others: {of('C14', 'with the other appraisals projected out: mean')}; with directions that predict "
    f"unseen writers' ratings: {pushed[0]}. With the last, pushed after depth 0.85, where the study saw nothing move: "
    f"{of('C14', 'mean theory score, directions that predict, after')}."
)

# %% [markdown]
# The fade is one of classifiers, not of the representation: a weakly penalised classifier turns to wherever noise is small.
# The same weakness decides the steering. Directions fitted on few texts with hardly a penalty predict the ratings of unseen
# writers worse than their mean does; pushed, they do what random directions do. The equation of the paper, which projects
# out what appraisals share, leaves too little to push with in a small model. Directions that read what they are called
# steer as theory says. That is evidence *for* the study's thesis from a procedure that is not the study's; and because such
# pushes work late as well, it says nothing for a middle band of appraisal.
#
# ## What a critic would say, and what was measured

# %% tags=["hide-input"]
say(claims.as_markdown(models.doubts(models.checked(stored))))

# %% [markdown]
# Each row is one check of a claim; the word is its outcome (*holds*, *open* where its interval reaches over the limit,
# *fails*), the number is in [What reproduces](11_claims.ipynb). A dash: not measured on that model. Other controls decide no
# claim and stand in their chapters: sources of the same emotion in [Patching](06_patching.ipynb), random and mean ablations in
# [Ablation](B_ablation.ipynb), eleven prompts and ten splits in [Robustness](C_robustness.ipynb); in
# [Modulation](09_modulation.ipynb) the appraisal said in a sentence instead of pushed, all other appraisals read behind a push,
# and expectations from a meta-analysis beside those of this corpus.
#
# A critic would also say that thirteen labels of one prompt are not emotion; that one corpus of crowd workers' recollections
# in English is not experience; that weights of four bits are not the model; that two models are not a law; and that steering
# one word's probability is not steering behaviour. All of that is right, and [Limitations](../11_limitations.md) has it.
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
# - Why does the place lie deeper in our models than in the study's? Size, family, prompt and calibration differ at once.
# - Do appraisals steer *within* one emotion, from mild to strong fear? Thirteen words cannot say.
# - Does a pushed appraisal change what a model writes, and what else does the push break? Both need generated text.
#
# How others' findings fit is told in [Related work](../02_related_work.md).

# %% tags=["hide-input"]
glue("in-short", Markdown(short), here=False)
say(models.written_for(models.checked(stored)))
say(claims.origins(stored))
