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
    if importlib.util.find_spec("emolib") is None:
        if not repository:
            raise ValueError("set repository, above, to the address of the project: git+https://github.com/owner/name")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"emolib @ {repository}"], check=True)
    subprocess.run([sys.executable, "-m", "emolib.cli", "fetch", "smollm2-135m"], check=True)
    if "numpy" in sys.modules and sys.modules["numpy"].__version__ != importlib.metadata.version("numpy"):
        raise RuntimeError("packages were replaced: choose Runtime, Restart session, then run all; it starts at once")

# %% [markdown]
# # C Robustness: does it depend on how we ask?
#
# **Question.** Do the places found so far stay where they are when the prompt, the question, the text, the token or the
# split changes?
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
# so that what the events have in common cancels, and the middle 95 % of the differences is the interval.

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
from emolib.experiments import robustness
from emolib.experiments.robustness import views as views
from emolib.figures.display import say
from emolib.paper import claims
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import paper
from emolib.tables.results import footer
from emolib.texts.prompts import PAPER_PROMPTS

run = Run(
    model=model,
    corpus=corpus,
    prompt=prompt,
    calibration=calibration,
    scoring=scoring,
    text=text,
    tap=tap,
    dtype=dtype,
    device=device,
    seed=seed,
    profile=profile,
    corpus_path=corpus_path,
)
study = Study(run)
data, reference = study.measure(robustness), study.reference(robustness)

# %% [markdown]
# ## Eleven prompts
#
# The paper's nine prompts differ in the instruction (templates 1 to 4) and in the number of demonstrations. We add two it
# leaves out: no demonstration at all, and the default inside the model's own chat template (a model without one has no
# such row). Events that are themselves a demonstration are in none of the samples. Accuracy is weighted to the corpus's
# shares of emotions; calibration subtracts each label's mean score, fitted for each prompt by itself.

# %% tags=["hide-input"]
accuracy = views.pairs_of(views.pick(data, "check:prompts", metric="accuracy", component=""))
accuracy = accuracy.replace({"calibration": {"none": "not calibrated", "batch": "calibrated"}})
theirs = paper.values("behaviour", model=paper.DETAILED.id, metric="accuracy", condition="", prompt=list(PAPER_PROMPTS))
figures.show(
    figures.interval_points(
        accuracy,
        xlabel="accuracy",
        by="prompt",
        hue="calibration",
        lines={"chance": 1 / 13},
        paper=theirs.assign(calibration="not calibrated"),
        paper_model=paper.DETAILED.name,
    ),
    name="fig-robustness-accuracy",
    caption=f"Accuracy on {accuracy['n'].iloc[0]:,} events under each prompt, 95 % intervals over writers. Diamonds: the "
    "paper's Llama 3.2 1B on 6,600 events (its Figure 25, not calibrated), which knows no `0shot` and no `chat`.",
    alt="Accuracy under each prompt with and without calibration, beside the paper's.",
)

# %% tags=["hide-input"]
answers = {
    name: views.pick(data, "check:prompts;calibration:none", metric="predicted_count", prompt=name)
    for name in accuracy["prompt"].unique()
}
figures.show(
    figures.stacked_labels(answers, xlabel="share of answers, not calibrated"),
    name="fig-robustness-answers",
    caption="What is answered under each prompt before calibration, on the same events; every emotion is the right "
    "answer about equally often. The paper's Figure 24 shows the same for its model.",
    alt="One bar per prompt, split into the thirteen answers.",
)

# %% [markdown]
# ## The same places under every prompt?
#
# Patching and ablation are done on each prompt's own agreed set, as in the paper, so the curves of two prompts differ
# also in their events; the differences below resample the writers of both sets together.

# %% tags=["hide-input"]
mine = views.by_prompt(views.pick(data, "check:prompts"))
figures.show(
    figures.site_heatmap(
        mine,
        label="share of pairs or events",
        rows="prompt",
        panel="panel",
        paper=views.paper_by_prompt(list(PAPER_PROMPTS)),
    ),
    name="fig-robustness-prompts",
    caption="Attention output at the last token under each prompt. Left: share of patched pairs that take over the other "
    "event's answer. Right: share of answers that survive zero ablation. Below, the paper's Llama 3.2 1B (Figure 27 and "
    "its stored notebooks).",
    alt="Heat-maps over prompts and layers for patching and zero ablation of attention, ours above the paper's.",
)

# %% tags=["hide-input"]
shift = views.shifts(data, "check:prompts")
shift = shift[shift["metric"].isin(["peak_shift", "dip_shift"])]
figures.show(
    figures.interval_points(
        shift, xlabel="layers later than under the default", by="prompt", hue="kind", lines={"default": 0}
    ),
    name="fig-robustness-shift",
    caption="How many layers later than under the default prompt patching of attention peaks and zero ablation of "
    "attention costs most, first and last three layers aside; paired 95 % intervals. In the paper all are zero.",
    alt="Shift of the patching peak and of the ablation dip, in layers, for each prompt.",
)
gap = views.pick(data, "check:prompts", metric="balanced_accuracy_change")
far = gap[(gap["ci_low"] > 0.10) | (gap["ci_high"] < -0.10)]
say(
    f"Probes of the writer's label differ from the default's by at most **{gap['value'].abs().max():.2f}** over "
    f"{len(gap)} prompts and layers; {len(far)} differ by more than .10 with their whole interval."
    if len(gap)
    else "The samples of this run are too small to probe under each prompt."
)

# %% [markdown]
# ## Demonstrations that are in the corpus, and masks
#
# Twelve of the paper's thirteen demonstrations are, nearly word for word, events of crowd-enVENT ({cite:t}`troiano2023`):
# they are evaluated with their answer in view. And its texts are *masked*: emotion words are replaced by "...", which
# keeps a model from spotting keywords but is itself a trace, because some emotions are masked more often than others.
# Events that masking left alone are the control: there the two columns differ by calibration only. Prompts that show an
# event also have more demonstrations than those that do not, so the difference is compared with that of other events of the
# same emotion.

# %% tags=["hide-input"]
leak = views.pick(data, "check:demonstrations")
own = leak[leak["prompt"] != "all"]
say(
    "No two events of this corpus are demonstrations."
    if leak.empty
    else f"With these events in, accuracy changes by at most **{own['value'].abs().max():.2%}** under any prompt. "
    "They themselves are answered right under prompts that show them, and that do not: "
    + "; ".join(
        f"{views.LEAKED[row.condition]} {views.interval(row, '.0%')}"
        for row in leak[leak["prompt"] == "all"].itertuples()
    )
    + "."
)
mask = views.pick(data, "baseline:mask_count"), views.pick(data, "baseline:shuffled")
say(
    "The texts of this corpus have no masks."
    if mask[0].empty
    else f"The number of masks alone gives a balanced accuracy of **{views.interval(mask[0].iloc[0], '.1%')}**, with shuffled "
    f"labels {views.interval(mask[1].iloc[0], '.1%')}; chance is {1 / 13:.1%}."
)
apart = pd.concat([views.pick(data, f"check:text;set:{name}") for name in ("changed", "unchanged")])
say(
    "There is only one column of texts, so nothing to unmask."
    if apart.empty
    else "Accuracy on the texts as masked and as written:\n\n"
    + "\n".join(
        f"- {row.set} by masking, {row.text.replace('_', ' ')}: {views.interval(row, '.1%')} ({row.n} events)"
        for row in views.pairs_of(apart).itertuples()
    )
)

# %% [markdown]
# ## Is it emotion? Two other questions about the same events
#
# If attention in the middle of the network carried *any* answer, the places would say nothing about emotion. The paper
# therefore asks for the **first word** of the text. That control is weak: most texts begin with the same word, and a word
# is copied, not understood. Ours asks for the **topic** (family, work, school, ...): the default prompt with another
# question and the same demonstrations, equally many events of each topic, each with words of one topic only. Both are set
# against the emotion task *on the same events*.

# %% tags=["hide-input"]
carried, theirs = views.by_task(data), views.paper_by_task()
if len(carried):
    figures.show(
        figures.depth_curves(
            carried,
            ylabel="transfer",
            hue="task",
            panel="panel",
            x="depth",
            ylim=(0, 1),
            n_layers=study.model.n_layers,
            paper=theirs,
        ),
        name="fig-robustness-controls",
        caption="Share of patched pairs that take over the other event's answer: attention in windows of three layers, "
        "the residual stream layer by layer, 95 % intervals. Dashed: the paper's first-word task (its Figure 23).",
        alt="Transfer over depth for emotion and the two control tasks on the same events.",
    )

# %% tags=["hide-input"]
moved = pd.concat([views.shifts(data, f"check:{name}") for name in views.CONTROLS])
say(
    "Control minus emotion on the same events, in layers: "
    + (
        "; ".join(
            f"{row.prompt.replace('_', ' ')}, {row.kind} **{views.interval(row, '+.0f')}**"
            for row in moved.itertuples()
        )
        if len(moved)
        else "neither task can be measured here"
    )
    + "."
)
views.tasks(data).style.format(precision=2, na_rep="")

# %% [markdown]
# A model that cannot do a control task says little with it: compare the first two columns with the third, the share of
# the commonest right answer. Where answers are no better than that, only *probes* speak, which read the right answer
# whether or not the model gives it. *Saturation* is the depth at which a probe has 95 % of its best; a depth beyond 1
# means never.

# %% tags=["hide-input"]
read = views.by_task(data, "balanced_accuracy", "target:writer")
if len(read):
    figures.show(
        figures.depth_curves(
            read,
            ylabel="balanced accuracy",
            hue="task",
            panel="panel",
            x="depth",
            ylim=(0, 1),
            n_layers=study.model.n_layers,
        ),
        name="fig-robustness-control-probes",
        caption="Balanced held-out accuracy of probes of the right answer in the residual stream, 95 % intervals over "
        "writers. Chance is one over the number of answers of a task.",
        alt="Probe accuracy over depth for emotion and the control tasks on the same events.",
    )
else:
    say("The samples of this run are too small to probe the control tasks.")

# %% [markdown]
# ## Which token?

# %% tags=["hide-input"]
tokens = views.pick(data, "check:positions;edit:zero", metric="agreement")
if len(tokens):
    figures.show(
        figures.site_heatmap(
            tokens,
            label="agreement after zero ablation",
            rows="position",
            paper=paper.values("zero_ablation", model=paper.DETAILED.id, span=1, prompt="T1-2shot"),
        ),
        name="fig-robustness-tokens",
        caption="Share of answers that survive zero ablation of one layer at one of the last five tokens, or at all, "
        f"{tokens['n'].iloc[0]} agreed events. Below, the paper's Llama 3.2 1B (its Figure 19).",
        alt="Heat-maps of agreement over layers and tokens for three components, ours above the paper's.",
    )
say("Lowest agreement over the layers, by component, ablation and token:")
views.lowest_by_token(data).style.format(precision=2, na_rep="")

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
six = views.missed(data)
if len(six):
    figures.show(
        figures.interval_points(
            six,
            xlabel="missed minus correct, points on the scale 1 to 5",
            by="cell",
            hue="source",
            paper=views.paper_missed(),
            paper_model=paper.DETAILED.name,
            lines={"none": 0},
        ),
        name="fig-robustness-missed",
        caption="Appraisals of missed minus correct events at the layer that reads them best, 95 % intervals over "
        "writers. Diamonds: the paper's Table 3.",
        alt="Differences for six pairs of emotion and appraisal, from four sources.",
    )
else:
    say("This run has too few missed or correct events of these emotions, or no ratings.")

# %% [markdown]
# ## Ten splits

# %% tags=["hide-input"]
spread = views.pick(data, "check:splits", metric=["accuracy_sd", "sampling_sd"])
spread[["value", "ci_low", "ci_high"]] *= 100
if len(spread):
    figures.show(
        figures.depth_curves(
            spread,
            ylabel="deviation of accuracy, points",
            hue="metric",
            x="depth",
            n_layers=study.model.n_layers,
            lines={"paper's limit": 1.5},
        ),
        name="fig-robustness-splits",
        caption=f"Standard deviation of the probe's accuracy over {spread['n'].iloc[0]} random splits of the agreed set, "
        "its 95 % interval, and what as many independent test events vary by chance. The paper reports at most 1.5.",
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
# anything: the masked column is what the study is about. The numbers that decide, for this run; those on C11 are about
# every other prompt, the verdict about the paper's nine:

# %% tags=["hide-input"]
rows = {
    f"C10: {row.kind}, layers later for the topic than for emotion": views.interval(row, "+.0f")
    for row in views.shifts(data, "check:topic").itertuples()
}
close = shift.assign(near=shift["value"].abs() <= max(1, round(study.model.n_layers / 16)))
rows |= {
    f"C11: other prompts whose {kind} is within a sixteenth of depth of the default's": f"{part['near'].sum()} of {len(part)}"
    for kind, part in close.groupby("kind")
}
for source, words in {"probe": "probed differences", "beyond label": "those beyond what the answer explains"}.items():
    clear, cells = views.with_paper_sign(six, source)
    rows[f"C18: {words} with the paper's sign and an interval without zero"] = f"{clear} of {cells}"
told = {row.text: views.interval(row, ".1%") for row in views.pairs_of(views.pick(apart, "set:changed")).itertuples()}
rows |= {f"accuracy on events with an emotion word, {text.replace('_', ' ')}": value for text, value in told.items()}
worst = spread[spread["metric"] == "accuracy_sd"]["value"]
rows |= (
    {"C19: median and largest deviation over splits, points": f"{worst.median():.1f}, {worst.max():.1f}"}
    if len(worst)
    else {}
)
say("\n".join(f"- {name}: **{value}**" for name, value in rows.items()))

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("C_robustness", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
