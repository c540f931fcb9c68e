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

from emolib.figures.display import glue, say
from emolib.paper import claims, ladder
from emolib.paper import overview as models
from emolib.study.run import Run

stored = claims.shown_runs(Run.of(globals()).slug)
found = models.overview(stored)
of, best = partial(ladder.quoted, ladder.checked(stored)), partial(ladder.best_rows, stored)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
trends = models.trends(found, "paper", "ours").merge(models.families(found), on="landmark")
pushed = of("C14", "mean theory score, directions that predict"), of("C14", "as released: mean theory score")
short = f"""
- **An answer reaches the last token late**, later than the study says. When the last token's state is copied
  from one event into another, half of the answers go along from this depth on (0 is the first layer, 1 the last):
  {models.where(found, "patching onset")}. {models.moves(trends, "patching onset")}
- **What attention brings there is not emotion alone.** At the layer where attention carries most emotions along, it
  carries even more *topics*: share of topics minus that of emotions, {of("C10", "share of topics minus")}.
- **Words tell much of it.** Balanced accuracy of the best probe of activations minus that of the best probe of the words
  alone: {of("C2", "best probe of the writer")}.
- **Pushing one appraisal at a time follows the theory with directions that read it**; with the study's it is not shown.
  Mean theory score over these pushes (-1 to 1, 0 if unrelated): {pushed[0]}; with the study's directions {pushed[1]}."""
say(short)

# %% [markdown]
# What this takes away from the study is less its findings than their names. *Where the model settles on its answer* is
# found again by reading and by moving activations. That what settles there is *emotion*, and that it is *inferred* rather
# than read off the words, the study's design could not show, and the controls of this book make it doubtful or smaller.
#
# One caution stands before everything below. Most of these controls were measured on SmolLM2-135M alone, a model that
# names the writer's emotion less often than the study asks of a model. They say what *can* be behind the study's curves; what
# is behind them in the study's models, its size of model has to say. Qwen 2.5 Coder 1.5B is such a model, and its experiments
# are added one by one.
#
# ## What the study concludes
#
# {cite:t}`tak2025` conclude that emotion is *localised*. Three methods that could have disagreed point to the same stretch of
# the network: the emotion becomes readable there, moves along with what is patched there, and suffers when attention is
# removed there. Attention in the middle layers, they hold, gathers what the text says, and feed-forward layers right after
# it turn that into an emotion. Appraisals can be read from the same layers, and pushing them changes the answer as the
# theory expects; so what was found fits psychology.
#
# ## An answer arrives late, in one place

# %% tags=["hide-input"]
say(
    "An answer is *carried along* when it becomes that of the event whose activation was copied. Depth from which the "
    f"residual stream carries half of them: {of('C5', 'depth at')}; the largest share before depth 0.35: "
    f"{of('C5', 'highest transfer')}. Depth at which five layers of attention carry most: "
    f"{of('C6', 'depth of the peak')}; layers from there to the peak of feed-forward outputs: {of('C6', 'layers from')}."
)

# %% [markdown]
# Next to nothing early, most of it late, and a few attention outputs that bring it: that shape is in both of our models and in
# the ten of the paper. How deep the place lies is not the same, and others have found emotion near the middle in
# models as small as ours {cite:p}`jeong2026`. The measures differ. A probe of the writer's label asks when the event's
# emotion *can* be read; patching asks when the last token holds *what will be said*. These are two targets, and nothing
# forces them to meet. And size is not all: our 1.5B model, tuned for code, settles later than the study's smaller 1B.
#
# The agreement of the methods is weaker evidence than it seems. The study's probe is trained on the events that the model
# labels as their writers did (the *agreed set*), so that it reads the model's own answer; patching moves that answer, and
# removal destroys it. Wherever an answer is settled, all three should find it, for any question with thirteen answers.
#
# ## Is it emotion that arrives there?

# %% tags=["hide-input"]
changed = dict(metric="accuracy", check="text", set="changed")
masked, written = (ladder.listed(best("robustness", text=kind, **changed)) for kind in ("masked", "original"))
say(
    f"The same texts can be asked for their topic. Share of topics minus share of emotions that attention carries, at the "
    f"layer where it carries most emotions: {of('C10', 'share of topics minus')}. The study's own control asks for the first "
    f"word of a text, which is copied, not understood. From "
    f"how many layers later the residual stream carries it than the emotion: {of('C10', 'layers by which')}; where the "
    "interval holds 0, it is not shown to be later."
)
say(
    f"What is inferred depends on what is left to infer. Share of the writer's labels in answers to texts whose words of "
    f"emotion are masked, as the study's are: {masked}; to the same texts as they were written: {written}."
)

# %% [markdown]
# So in this model the band is where what was read turns into what was asked for, a place of topics as well as of emotions.
# (That more topics than emotions go along may mean no more than that topics are easier.) And much of the difficulty lies in
# the masks: where the words of feeling stand in the text, even a small model finds them; some of them are the answer itself.
# What remains is a claim about *this task*, thirteen labels after a description.
#
# ## Words, activations, answers

# %% tags=["hide-input"]
features = [
    best("wording", metric="balanced_accuracy", target="writer", features=kind) for kind in ("tfidf", "activations")
]
said = best("behaviour", metric="balanced_accuracy", calibration="batch")
say(
    f"How well is the writer's emotion named, each emotion counting alike? By a classifier that sees nothing but weighted "
    f"words: {ladder.listed(features[0])}. By the best probe of activations: {ladder.listed(features[1])}. By what the "
    f"models *answer*: {ladder.listed(said)}."
)

# %% [markdown]
# Two gaps. *Activations beyond words* is the gap that the study needed and did not measure: without it, a probe may read
# words. It is there in the model where it was measured, and it is small (the number above takes the best of four readers of
# the text, here one stands alone). *Activations beyond answers* is the gap that speaks for probing: a probe, which is
# taught by thousands of labels, finds more of the event in a weak model's activations than its answers say. Whether the
# model does not know or does not say are different findings, and a probe of the agreed set, where the answer is right by
# construction, cannot tell them apart.
#
# ## Sufficient is not necessary

# %% tags=["hide-input"]
say(
    f"Share of answers that five layers of attention carry along, at the best place: {of('C6', 'transfer of attention')}. "
    "Share that remains with three layers of attention zeroed, at the worst place but for the first and last three layers: "
    f"{of('C7', 'lowest agreement without attention')}; with each label's mean score brought back to what it was without the "
    f"edit: {of('C7', 'lowest agreement without attention, offsets')}."
)

# %% [markdown]
# Zeroing an output shifts all answers of a model in one direction, and part of what looks like a lost answer is that shift.
# With it taken out, less is lost, and the order of attention and feed-forward can turn round ([Ablation](B_ablation.ipynb)).
# In the paper's own values, larger models lose less when attention is removed, while patching still works ([All
# models](10_models.ipynb)). One reading of both: what is carried there can be enough for the answer, but larger models depend
# on it less, perhaps because other layers can stand in.
#
# ## Appraisals, beyond the label and beyond the words

# %% tags=["hide-input"]
say(
    "Of the six appraisals that the study names (pleasantness, unpleasantness, self- and other-agency, predictability, "
    "suddenness), the study's probe, on the agreed set, predicts this many better than their mean does: "
    f"{of('C12', 'best R2 above zero')}; better than the emotion's label does: {of('C12', 'best R2 above that of the label')}. A "
    "probe whose penalty is chosen, on all events, reads more than the text alone of this many: "
    f"{of('C12', 'best R2 above that of the best probe of the text')}; and adds to the label for: {of('C12', 'share of the rest')}."
)

# %% [markdown]
# Here the study's claim comes out better with controls than without. The study's probes hardly beat the label; probes with a
# penalty suited to their texts explain part of what it leaves in both models, and in the one where that was measured more
# than the words give. So models keep something of *how* an event came about (who did it, could it be foreseen), and not only
# which emotion it fits.
#
# ## Cosines that fade, projections, and pushes

# %% tags=["hide-input"]
say(
    f"Of twelve cosines between emotions and appraisals, how many have the theory's sign in the first half of the layers: "
    f"{of('C13', 'cosines with the sign')}. Mean size of the released probes' cosines beyond depth 0.75: "
    f"{of('C13', 'mean size')}. Of differences of means, which need no classifier, their late size over their early one: "
    f"{of('C13', 'share of the size that is left with differences')}."
)
say(
    f"Mean theory score of pushing one appraisal at the paper's depth, with its directions: {pushed[1]}; without what they "
    f"share with the others: {of('C14', 'with the other appraisals projected out: mean')}; with directions that predict "
    f"unseen writers' ratings: {pushed[0]}. The same directions pushed after depth 0.85, where the study saw nothing move: "
    f"{of('C14', 'mean theory score, directions that predict, after')}."
)
reads = [
    ladder.listed(best("modulation", metric="direction_r2", vector=kind, pleasantness=1)) for kind in ("raw", "tuned")
]
say(
    f"How well a direction of pleasantness reads the ratings of unseen writers, $R^2$ at its best layer: the study's "
    f"{reads[0]}; with a chosen penalty {reads[1]}."
)

# %% [markdown]
# Where it was measured the fade is one of classifiers: directions that need none keep their cosines. Which axis the
# emotions themselves keep is asked in [Geometry](08_geometry.ipynb).
#
# Steering depends on how a direction is found. Where the study's procedure, few texts and hardly a penalty, gives
# directions that read nothing of unseen writers, pushing them says nothing of appraisals. Where they do read, their pushes
# show no clearer order, and projected ones do not either. So reading an appraisal is not enough to steer by it. Weights
# that read best among correlated activations also subtract what disturbs the reading {cite:p}`haufe2014`, and a push along
# them moves that too; a difference of means has only what goes with the appraisal. Directions with a penalty chosen for
# unseen writers, and differences of means more so ([Modulation](09_modulation.ipynb)), move answers in the order of the
# theory. When two appraisals are pushed they do so beyond random directions of like covariance, or with an interval that
# reaches down to these. That is evidence *for* the study's thesis from a procedure that is not the study's; and because
# such pushes move labels late as well, it says nothing for a middle band of appraisal.
#
# ## What a critic would say, and what was measured

# %% tags=["hide-input"]
say(claims.as_markdown(models.doubts(ladder.checked(stored))))

# %% [markdown]
# Each row is one check of a claim. *Holds*: the study's claim survives the critic. *Fails*: the critic is right. *Open*: the
# interval reaches over the limit. The number is in [What reproduces](11_claims.ipynb). A dash: not measured on that model. Other controls decide no
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
glue("in-short", short, here=False)
say(models.written_for(ladder.checked(stored)))
say(claims.origins(stored))
