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
place = models.spread(found, "patching onset")
words = of("C2", "best probe of the writer")
pushed = of("C14", "mean theory score, directions that predict"), of("C14", "as released: mean")
short = f"""
- **An answer arrives late, in one place.** {place} The shape is the paper's; the depth is the model's own.
- **That place is not one of emotion alone.** Where attention carries most of the emotion, the share of *topics* that it
  carries is larger by {of("C10", "share of topics minus")}.
- **Words tell much of it.** The best probe of activations names the writer's emotion better than the best probe of the
  words alone by {words} in balanced accuracy.
- **Pushing appraisals follows the theory with directions that read them**, mean score {pushed[0]}, and not with the
  paper's, {pushed[1]} (0 is chance, 1 the theory's whole order of labels)."""
say(short)

# %% [markdown]
# What this takes away from the study is less its findings than their names. *Where the model settles on its answer* is
# found again by every method we tried. That what settles there is *emotion*, and that it is *inferred* rather than read off
# the words, is what the study's design could not show, and what the controls of this book make doubtful or smaller.
#
# ## An answer arrives late, in one place

# %% tags=["hide-input"]
say(
    f"Overwriting the last token's residual stream carries half of the answers along from depth {of('C5', 'depth at')} on "
    f"(the claim, from the paper's models: 0.45 to 0.68), and before depth 0.35 at most {of('C5', 'highest transfer')} of "
    f"them. Five layers of attention carry most around depth {of('C6', 'depth of the peak')}, and feed-forward outputs "
    f"{of('C6', 'layers from the peak')} layers later."
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
    f"The same texts can be asked for their topic. At the layer where attention carries most of the emotion, topics are "
    f"carried along more often, by {of('C10', 'share of topics minus')}. The study's own control, the first word of a text, "
    f"is carried later by {of('C10', 'layers by which')} layers; but a first word is copied, not understood."
)
say(
    f"What is inferred depends on what is left to infer. Texts whose words of emotion are masked, as the study's are, get "
    f"the writer's label in {masked}; the same texts as they were written, in {written}."
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
    f"A classifier that sees nothing but weighted words names the writer's emotion with a balanced accuracy of "
    f"{models.listed(features[0])}. The best probe of activations reaches {models.listed(features[1])}. What the models "
    f"*answer* is right in {models.listed(said)}, equal weight to each emotion."
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
    f"Patching: at its peak, attention of five layers is sufficient for {of('C6', 'transfer of attention')} of the answers. "
    f"Removal: with three layers of attention zeroed, at worst {of('C7', 'lowest agreement without attention')} of the "
    "answers remain; with the scores' offsets centred anew under the edit, "
    f"{of('C7', 'lowest agreement without attention, offsets')}."
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
    f"All six appraisals that the study names can be read above zero for {of('C12', 'best R2 above zero')} of six, above what "
    f"the emotion's label alone predicts for {of('C12', 'best R2 above that of the label')}, and above the best probe of the "
    f"text alone for {of('C12', 'best R2 above that of the best probe of the text')}. Beside the label, a probe explains a "
    f"share of the rest for {of('C12', 'share of the rest')}."
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
    f"The cosines between emotion and appraisal directions have the theory's sign in "
    f"{of('C13', 'cosines with the sign')} of twelve cases. Beyond depth 0.75 the released probes' cosines shrink to "
    f"{of('C13', 'mean size')}; directions that are no classifier's keep "
    f"{of('C13', 'share of the size that is left with differences')} of their size."
)
say(
    f"Pushed at the paper's depth, one appraisal at a time: mean theory score {pushed[1]} with the released directions, "
    f"{of('C14', 'with the other appraisals projected out: mean')} with what they share with the others removed, {pushed[0]} "
    "with directions that predict unseen writers' ratings. The last also move labels near the end of the network "
    f"({of('C14', 'mean theory score, directions that predict, after')}), where the study saw nothing move."
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
models.doubts(models.checked(stored)).style.hide()

# %% [markdown]
# Each row is one check of a claim; the word is its outcome (*holds*, *open* where its interval reaches over the limit,
# *fails*), the number is in [What reproduces](11_claims.ipynb). A dash: not measured on that model.
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
