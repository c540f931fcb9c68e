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
# # C Robustness: does it depend on how we ask?
#
# **Question.** Do the places found so far stay where they are when the prompt, the question, the text, the token or the
# split changes?

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
from emolib.experiments import robustness
from emolib.experiments.robustness import views
from emolib.figures.display import say, spoken
from emolib.paper import claims, ladder
from emolib.stats import landmarks
from emolib.study.freshness import measured
from emolib.study.run import Run
from emolib.tables import paper
from emolib.tables.provenance import absent, footer
from emolib.texts.prompts import PAPER_PROMPTS

run = Run.of(globals())
data = measured(run, robustness)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
carried, lowest = views.by_task(data, "transfer"), views.lowest_by_token(data)
later, tokens = views.shifts(data), views.pick(lowest, component="attn_out")
found = ladder.checked(claims.shown_runs(run.slug), ["C10", "C11", "C19"])
how_many = partial(ladder.how_many, found)
say(
    f"- *Another prompt.* Under every one of the paper's {len(PAPER_PROMPTS) - 1} other prompts the peak of patching keeps its place, for certain, in "
    f"{how_many('C11', 'other prompts under which transfer')} and the dip of ablation in "
    f"{how_many('C11', 'other prompts under which zeroing')}.\n"
    "- *Another question.* Where attention carries most emotions along, it carries more topics than emotions in "
    f"{how_many('C10', 'share of topics', 'fails')}. Of three changes (the topic asked for, the first "
    "word asked for, the text as written), so many move the places of attention for certain in this run: "
    f"{views.elsewhere(later[later['check'] != 'prompts']) or '(not measured)'}.\n"
    f"- *Another token.* {views.costliest_token(tokens)}\n"
    f"- *Another split.* The accuracy of probes varies at most {claims.claims()['C19'].levels['times']:g} times as much as chance "
    f"has it in {how_many('C19', 'SD over splits')}."
)

# %% tags=["hide-input"]
asked = {
    "other prompts that leave the peak of patching in its place for certain": (
        "C11",
        "other prompts under which transfer",
    ),
    "other prompts that leave the dip of ablation in its place for certain": (
        "C11",
        "other prompts under which zeroing",
    ),
    "share of topics carried minus that of emotions": ("C10", "share of topics"),
    "spread of probes over splits, as a multiple of that by chance": ("C19", "SD over splits"),
}
rows = {words: ladder.measured(found, *check) for words, check in asked.items()}
ladder.side_by_side(rows, runs=found["run"].unique())

# %% tags=["hide-input"]
look = dict(hue="task", panel="panel", x="depth", ylim=(0, 1))
if len(carried):
    figures.show(
        figures.depth_curves(carried, ylabel="transfer", paper=views.paper_by_task(), **look),
        name="fig-robustness-controls",
        title=f"Share of answers that attention carries along at its best layer: {figures.extremes(views.pick(carried, component='attn_out'), 'task', '.0%')}",
        caption="Share of patched pairs that take over the other event's answer: attention in windows of three layers, "
        "the residual stream layer by layer, 95% intervals. Dashed: the paper's first-word task (its Figure 23).",
        alt="Transfer over depth for emotion and the two control tasks on the same events.",
    )
ladder.badges(run, "C_robustness")

# %% [markdown]
# ## What is compared
#
# A *task* is here a question put to a set of events: a prompt, its answer words, and which answer is right. For every
# task the same things are measured on its own *agreed set*, the events it answers right: what probes of the residual
# stream read, what *zero ablation* of attention takes away, and what *patching* the attention output of three
# neighbouring layers carries from one event to another (appendix C of {cite:t}`tak2025`). Tasks are compared on the
# **same events**: with $s_A$ and $s_B$ the same statistic of two tasks, each of {math}`500` resamples $w$ of the writers
# gives one difference
#
# $$\Delta(w) = s_A(w) - s_B(w),$$
#
# so that what the events have in common cancels, and the middle 95% of the differences is the interval.
#
# ## Eleven prompts
#
# The paper's nine prompts differ in the instruction (templates 1 to 4) and in the number of demonstrations. We add two it
# leaves out: no demonstration at all, and the default inside the model's own chat template (a model without one has no
# such row). Events that are themselves a demonstration are in none of the samples. Accuracy is weighted to the corpus's
# shares of emotions; calibration subtracts each label's mean score, fitted for each prompt by itself.

# %% tags=["hide-input"]
accuracy, theirs = views.accuracy(data)
look = dict(by="prompt", hue="calibration", lines={"chance": 1 / 13}, paper_model=paper.DETAILED.name)
figures.show(
    figures.interval_points(accuracy, xlabel="accuracy", paper=theirs, **look),
    name="fig-robustness-accuracy",
    title=f"Accuracy under the best prompt: {figures.extremes(accuracy, 'calibration', '.0%')}; under the "
    f"worst: {figures.extremes(accuracy, 'calibration', '.0%', lowest=True)}",
    fold=True,
    caption=f"Accuracy on {accuracy['n'].iloc[0]:,} events under each prompt, 95% intervals over writers. Diamonds: the "
    "paper's Llama 3.2 1B on 6,600 events (its Figure 25, not calibrated), which knows no `0shot` and no `chat`.",
    alt="Accuracy under each prompt with and without calibration, beside the paper's.",
)
figures.show(
    figures.stacked_labels(views.answers(data), xlabel="share of answers, not calibrated"),
    name="fig-robustness-answers",
    title="What is answered under each prompt, before calibration",
    fold=True,
    caption="Answers to the same events, each emotion right about equally often; in the paper, Figure 24.",
    alt="One bar per prompt, split into the thirteen answers.",
)

# %% [markdown]
# ## One patch under two prompts, by hand
#
# What the chapter repeats for every prompt, done before your eyes in SmolLM2 135M, the small model that comes with the
# project, on the two events of ours that the chapter on [patching](06_patching.ipynb) opens with: the residual stream
# after a layer of one event, the *source*, is written over that of the other, the *base*, first under the default
# prompt, then under the paper's third template. Of thirteen events, one of each emotion, the mean score of each label
# is subtracted, for each prompt by itself. Beside the sweep through all layers stands the patch of layer 24 as a plain
# [nnsight](https://nnsight.net) trace; the two have to give the same scores.

# %% tags=["intervention"]
import pandas as pd
import torch

import emolib as el
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

small, (source, base), best = el.load("smollm2-135m"), (3, 5), {}
events = load_corpus("situations").events.groupby("emotion").head(1)["text"].tolist()
for name in ("T1-2shot", "T3-2shot"):
    prompts = [get_prompt(name).render(event) for event in events]
    engine = el.Engine(small, prompts, answers=EMOTIONS)
    encoded = engine.encode(read=["resid_post"])
    stream = encoded.activations["resid_post"][:, :, -1]  # [layer, event, width]; layers count from 0 in code
    patch = el.Patch({"resid_post": stream}, donors=torch.full((len(events),), source))
    patched = engine.replay(encoded, el.sweep(patch, small, components=["resid_post"]))[base]
    with torch.no_grad(), small.lm.trace(**small.tokenizer(prompts[base], return_tensors="pt")):
        small.lm.model.layers[23].output[:, -1] = stream[23, source]
        plain = small.lm.lm_head.output[0, -1].save()
    torch.testing.assert_close(patched[23], plain[engine.answers], atol=1e-3, rtol=1e-3)
    for what, scores in {"base": encoded.logits[base], "patched": patched[23]}.items():
        best[name, what] = [EMOTIONS[i] for i in (scores - encoded.logits.mean(0)).topk(3).indices]
print(f"source: {events[source]}\nbase: {events[base]}", pd.DataFrame(best), sep="\n")

# %% [markdown]
# ## The same places under every prompt?
#
# Patching and ablation are done on each prompt's own agreed set, as in the paper, so the curves of two prompts differ
# also in their events; the differences below resample the writers of both sets together.

# %% tags=["hide-input"]
attention, look = views.by_prompt(views.pick(data, check="prompts")), dict(rows="prompt", panel="panel")
if len(attention):
    best = landmarks.rows("peak", attention[attention["metric"] == "transfer"], "prompt")["layer"].map(layer_number)
    figures.show(
        figures.site_heatmap(attention, label="share of pairs or events", paper=views.paper_by_prompt(), **look),
        name="fig-robustness-prompts",
        title=f"Under {len(best)} prompts attention carries most answers along around layers {best.min()} to {best.max()}",
        caption="Attention output at the last token under each prompt. Left: share of patched pairs that take over the "
        "other event's answer. Right: share of answers that survive zero ablation. Below, the paper's Llama 3.2 1B "
        "(Figure 27 and its stored notebooks), grey where the paper did not ask.",
        alt="Heat-maps over prompts and layers for patching and zero ablation of attention, ours above the paper's.",
    )
else:
    say(absent(data.attrs["provenance"]) or "Too few events are answered right under any prompt.")

# %% tags=["hide-input"]
look = dict(xlabel="layers later", by="change", hue="kind", lines={"the place compared with": 0})
if len(later):
    figures.show(
        figures.interval_points(later, **look),
        name="fig-robustness-shift",
        title=f"Changes whose whole interval is beside the place compared with: {views.elsewhere(later)}",
        fold=True,
        caption="How many layers later patching of attention peaks and zero ablation of attention costs most than under "
        "the default prompt, first and last three layers aside; paired 95% intervals. In the paper all are zero for other "
        "prompts. Another question is compared with emotion on the same events, the text as written with the masked one.",
        alt="Shift of the patching peak and of the ablation dip, in layers, for each prompt and each other change.",
    )
else:
    say("So how far attention's places shift cannot be said either.")

# %% tags=["hide-input"]
gap = views.pick(data, check="prompts", metric="balanced_accuracy_change")
far = (gap["ci_low"] > 0.10) | (gap["ci_high"] < -0.10)
say(
    f"Balanced accuracy of probes of the writer's label differs from that under the default prompt by at most "
    f"**{gap['value'].abs().max():.2f}** over {len(gap)} pairs of prompt and layer; for {far.sum()} of them by more than 0.10 "
    "with the whole interval."
    if len(gap)
    else "The samples of this run are too small to probe under each prompt."
)

# %% [markdown]
# ## Demonstrations that are in the corpus, and masks
#
# Twelve of the paper's thirteen demonstrations are, nearly word for word, events of crowd-enVENT ({cite:t}`troiano2023`):
# they are evaluated with their answer in view. And its texts are *masked*: emotion words are replaced by "...", which
# keeps a model from spotting keywords but is itself a trace, because some emotions are masked more often than others.
# Events without a masked word are the control: their text is the same both times, so their accuracies differ by
# calibration alone. Prompts that show an event also have more demonstrations than those that do not. What showing it adds
# is therefore compared with what the same prompts add for other events of its emotion.

# %% tags=["hide-input"]
changes, pooled = views.leaked(data)
say(
    f"Counting these events in changes the accuracy by at most **{100 * changes['value'].abs().max():.2f} points** under "
    f"any prompt. Of these events themselves the model answers right: {'; '.join(views.answered(pooled))}."
    if len(changes)
    else "No two events of this corpus are demonstrations."
)
mask = [spoken(row, ".1%") for _, row in views.pick(data, baseline=["mask_count", "shuffled"]).iterrows()]
say(
    f"The number of masks alone gives a balanced accuracy of **{mask[0]}**, with shuffled labels {mask[1]}; chance is "
    f"{1 / 13:.1%}."
    if mask
    else "The texts of this corpus have no masks."
)
masked = views.masking(data)
masked.style.hide() if len(masked) else None

# %% [markdown]
# ## Is it emotion? Two other questions about the same events
#
# If attention in the middle of the network carried *any* answer, the places would say nothing about emotion. The paper
# therefore asks for the **first word** of the text. That control is weak: most texts begin with the same word, and a word
# is copied, not understood. Ours asks for the **topic** (family, work, school, ...): the default prompt with another
# question and the same demonstrations, equally many events of each topic, each with words of one topic only. Both are set
# against the emotion task *on the same events*. Attention that carries as many topics as emotions, where it carries most
# of these, is not specific to emotion, whatever it does with first words: the verdict on C10 rests on that.
# That first words come later it judges by the residual stream; {numref}`fig-robustness-shift` shows whether attention's places do.

# %% [markdown]
# {numref}`fig-robustness-controls`, above, has what attention carries; here is how each task is answered. A model that cannot
# do a control task says little with it: compare accuracy with the third column, the share of the commonest right answer,
# and balanced accuracy, which counts every right answer alike, with chance. A model can miss the commonest answer and know
# the others. Where neither is better, only *probes* speak, which read the right answer whether or not the model gives it. *Saturation* is the depth at which a probe has 95% of its best; a depth beyond 1
# means never.

# %% tags=["hide-input"]
read, look = views.by_task(data, "balanced_accuracy", target="writer"), dict(hue="task", panel="panel", x="depth")
if len(read):
    figures.show(
        figures.depth_curves(read, ylabel="balanced accuracy", ylim=(0, 1), **look),
        name="fig-robustness-control-probes",
        title=f"Right answer read from the stream, balanced accuracy at the best layer: {figures.extremes(read, 'task')}",
        fold=True,
        caption="Balanced held-out accuracy of probes of the right answer in the residual stream, 95% intervals over "
        "writers. Chance is one over the number of answers of a task.",
        alt="Probe accuracy over depth for emotion and the control tasks on the same events.",
    )
else:
    say("The samples of this run are too small to probe the control tasks.")
views.tasks(data).reset_index().style.format(precision=2, na_rep="–").hide()

# %% [markdown]
# ## Which token?
#
# One layer is zeroed at one of the last five tokens, or at all of them. How many answers are left says where the answer is
# made. The table has the lowest share over the layers. It is low by chance too, being the lowest of many, so only large
# differences between tokens count.

# %% tags=["hide-input"]
tokens = views.pick(data, check="positions", method="zero", metric="agreement")
if len(tokens):
    theirs = paper.values("zero_ablation", model=paper.DETAILED.id, span=1, prompt="T1-2shot")
    figures.show(
        figures.site_heatmap(tokens, label="agreement after zero ablation", paper=theirs),
        name="fig-robustness-tokens",
        title=f"Lowest agreement, by token: {figures.extremes(tokens, 'position', lowest=True)}",
        fold=True,
        caption="Share of answers that survive zero ablation of one layer at one of the last five tokens, or at all, "
        f"{tokens['n'].iloc[0]} agreed events. Below, the paper's Llama 3.2 1B (its Figure 19).",
        alt="Heat-maps of agreement over layers and tokens for three components, ours above the paper's.",
    )
say(
    f"Lowest share of answers left over the layers, of {lowest['n'].iloc[0]} agreed events, with 95% intervals:"
    if len(lowest)
    else "No tokens were zeroed one by one in this run."
)
views.by_token(lowest).style.hide() if len(lowest) else None

# %% [markdown]
# ## Events the model gets wrong
#
# The paper finds that missed events have other probed appraisals than rightly answered ones (Table 3). That can be so for
# a trivial reason: an event taken for another emotion resembles that emotion, and a probe sees the resemblance. With
# $\hat r(x)$ the rating that a ridge probe reads from an event outside its training, we report the mean of the missed
# minus that of the correct events for four quantities: $\hat r(x)$, the *probe*; the *writer*'s own rating, which no
# model has touched; $m(\hat y)$, what the *label* alone would make of it: the mean reading of other events rightly given
# the same answer; and $\hat r(x) - m(\hat y)$, what is *beyond the label*.

# %% tags=["hide-input"]
six, words = views.missed(data), "missed minus correct, points on the scale 1 to 5"
look = dict(by="cell", hue="source", lines={"none": 0}, paper_model=paper.DETAILED.name)
if len(six):
    figures.show(
        figures.interval_points(six, xlabel=words, paper=views.paper_missed(), **look),
        name="fig-robustness-missed",
        title="Largest difference between the appraisals of missed and of correct events, in points of rating: "
        f"{figures.extremes(six.assign(value=six['value'].abs()), 'source')}",
        fold=True,
        caption="Appraisals of missed minus correct events at the layer that reads them best, 95% intervals over "
        "writers. Diamonds: the paper's Table 3.",
        alt="Differences for six pairs of emotion and appraisal, from four sources.",
    )
else:
    say("This run has too few missed or correct events of these emotions, or no ratings.")

# %% [markdown]
# ## Ten splits
#
# Another split into events to learn from and events to test on gives another accuracy, by chance alone too,
# and the more so the fewer events are in the test. The verdict therefore asks how many times that chance the deviation is. The other
# half of the claim, that $R^2$ is stable as well, is untested: no run measures it over splits.

# %% tags=["hide-input"]
spread, limit = views.over_splits(data), 1.5
look = dict(hue="kind", x="depth", lines={"paper's limit": limit})
if len(spread):
    ours, chance = (views.pick(spread, metric=name) for name in ("accuracy_sd", "sampling_sd"))
    say(
        f"Over {ours['n'].iloc[0]} random splits the accuracy of a probe has a standard deviation of **{ours['value'].max():.1f}** "
        f"points in the layer where it is largest; the paper reports {limit} at most. Chance alone, among as many "
        f"independent test events, gives more than {limit} points in {(chance['value'] > limit).sum()} of {len(chance)} layers."
    )
    figures.show(
        figures.depth_curves(spread, ylabel="deviation, points", **look),
        name="fig-robustness-splits",
        title=f"Largest standard deviation over splits, in points: {figures.extremes(spread, 'kind', '.1f')}",
        fold=True,
        caption="Standard deviation of the probe's accuracy, 95% interval, and what as many test events vary by chance.",
        alt="Standard deviation over splits by depth, beside the deviation of sampling.",
    )
else:
    say("Too few events are answered right to split them.")

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on four claims of the paper: the findings are specific to emotion (C10) and do not depend on the
# prompt (C11), missed events have other appraisals (C18), and results are stable over splits (C19). A stable *place*
# is not a stable *size*: how much an ablation costs may differ between prompts while its place does not. And a shift with
# a wide interval is no evidence of stability. And where the emotion word stands in the text, a model need not infer
# anything: the masked column is what the study is about. The verdict on C11 is about the paper's nine prompts; the figures
# also show the two that we add.

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("C_robustness", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** [Promotion](D_promotion.ipynb) pushes along the directions of emotions, and [What reproduces](11_claims.ipynb) collects the
# verdicts.
