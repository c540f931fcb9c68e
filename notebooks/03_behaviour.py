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
# # 3 Behaviour: what does the model answer?
#
# **Question.** Asked for the emotion of a described event, does the model name the one its writer felt?

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
from emolib.experiments import behaviour
from emolib.experiments.behaviour import views
from emolib.figures.display import say, spoken
from emolib.paper import claims, ladder
from emolib.study.freshness import measured
from emolib.study.run import Run
from emolib.tables import paper
from emolib.tables.provenance import footer
from emolib.tables.results import select
from emolib.texts.corpus import corpus_note

run = Run.of(globals())
data = measured(run, behaviour)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
runs = ladder.model_by_model(run, behaviour, partial(views.accuracies, scoring=scoring))
raw, calibrated = (views.accuracies(data, scoring=scoring, calibration=kind).iloc[0] for kind in views.AS)
right = figures.extremes(select(runs, answers="calibrated"), "run", ".0%")
own = ladder.run_name({"behaviour": data}, run.slug)
never = ladder.untrained(run, behaviour, partial(views.accuracies, scoring=scoring))
never = never[never["answers"] == "calibrated"]
chance = f" With weights that were never trained it is {ladder.listed(never, '.1%')}." if len(never) else ""
say(
    f"Without calibration {own} names the writer's emotion for **{spoken(raw, '.1%')}** of the events; calibrated, for "
    f"**{spoken(calibrated, '.1%')}** (in brackets the 95% interval). The paper's smallest model, "
    f"{paper.DETAILED.name}, reaches {paper.DETAILED.accuracy:.1%}.{views.humans(data)}{chance}"
)

# %% tags=["hide-input"]
look = dict(lines={"chance": 1 / 13}, xlim=(0, 0.7), percent=True, paper_model="ten models", whose="counted here")
points, words = views.accuracy_points(runs, data), "share of events with the writer's label"
figures.show(
    figures.interval_points(points, by="who", xlabel=words, paper=views.paper_accuracies(), **look),
    name="fig-behaviour-accuracy",
    title=f"Calibrated, models name the writer's emotion for this share of events: {right}",
    caption=f"Accuracy over thirteen labels. Points: the models that were run, on {raw['n']:,} events, and, where the corpus "
    "has them, human readers, on the events that they read, with 95% intervals that treat a writer's events as one cluster. "
    "Diamonds: the ten models of the paper (its Figure 11), the smallest first, on crowd-enVENT.",
    alt="Accuracy of each model, as scored and calibrated, of human readers where there are any, and of the paper's models.",
)
ladder.badges(run, "03_behaviour")

# %% [markdown]
# ## The task
#
# Everything later in this book explains an answer. This chapter is about the answer itself: how often it is right, which
# labels are taken for one another, and what would be a good score. The model reads one prompt per event,
#
# > *instruction* Context: *demonstration* Answer: *label* … Context: **the event** Answer:
#
# and we compare the scores of the thirteen labels as its next token ({cite:t}`tak2025`, section 3). Whatever else the
# model would rather say does not count, except where we ask for it below.
#
# ## How often it is right
#
# A model that has no idea is right once in thirteen times. People are the other end of the scale: for the real corpus,
# five readers guessed the emotion of each of 1,200 events, and their agreement with the writer says what we can
# reasonably expect.
#
# A model can prefer some labels whatever the event is. A small one may even name one label nearly always, and its
# accuracy then says little. *Batch calibration* {cite:p}`zhou2023` subtracts from each label's score its mean over the
# corpus,
#
# $$\tilde s_e(x) = s_e(x) - \frac{1}{N}\sum_{i=1}^{N} s_e(x_i),$$
#
# which uses no label. Both numbers are shown. The offsets are fixed here once and used in the later chapters, but for
# controls that say otherwise.
#
# ## Which label it prefers
#
# The bars show how the answers are spread over the labels. In the corpus every emotion is equally frequent except guilt
# and shame, which have half as many events.

# %% tags=["hide-input"]
bars = views.spreads(data)
most = {name: rows.loc[rows["value"].idxmax()] for name, rows in bars.items()}
given = [f"{name}, {row['value'] / row['n']:.0%} of the answers are *{row['label']}*" for name, row in most.items()]
figures.show(
    figures.stacked_labels(bars),
    name="fig-behaviour-labels",
    title="; ".join(given[:2]).capitalize(),
    caption="How the answers are spread over the labels: this run as scored and calibrated; human readers, where the "
    "corpus has them; the paper's Llama 3.2 1B (its Figure 10). The written labels are spread nearly evenly.",
    alt="Stacked bars of the labels given: this run as scored, this run calibrated, human readers, and the paper.",
)

# %% [markdown]
# ## What is taken for what
#
# Mistakes are informative where they are systematic. Neighbours in meaning, such as guilt and shame or joy and pride, are
# confused by people too.

# %% tags=["hide-input"]
confusions = select(data, metric="confusion_count", calibration=calibration)
recall = select(data, metric="recall", calibration=calibration).sort_values("value", ascending=False)
best, mistake = recall.iloc[0], views.most_mistaken(confusions)
least = recall[recall["ci_low"].fillna(recall["value"]) <= recall["value"].min()].iloc[
    ::-1
]  # whose interval holds the lowest
worst = [f"*{row['label']}* {spoken(row, '.0%')}" for _, row in least.iterrows()]
figures.show(
    figures.confusion_matrix(confusions, paper=paper.values("behaviour", metric="confusion_count")),
    name="fig-behaviour-confusion",
    title=f"Most frequent mistake: {mistake['answer']} for {mistake['value']:.0%} of the events of {mistake['label']}",
    fold=True,
    caption="Answers to the events of each written emotion, in per cent of the row. Above this run "
    f"(calibration: {calibration}), below the paper's Llama 3.2 1B (its Figure 9).",
    alt="Two confusion matrices of thirteen emotions; a strong diagonal means that the label is the writer's.",
)
say(
    f"Best recognised is *{best['label']}*: {spoken(best, '.0%')} of its events. Least recognised, as far as intervals tell: "
    f"{' and '.join(worst)}."
)

# %% [markdown]
# ## What it would say freely
#
# Restricting the answer to thirteen labels hides what the model would say by itself. Here is the first word of its free
# continuation, chosen greedily.

# %% tags=["hide-input"]
share = select(data, metric="share_of_labels").iloc[0]
say(
    f"The free answer is one of the thirteen labels for {spoken(share, '.1%')} of the events. Below are the most "
    "frequent first words and their shares, here and in the paper's Figure 8. A dash stands for a word that is not among "
    "those counted."
)
views.free_words(data).style.format("{:.1%}", subset=views.SHARES, na_rep="–").hide()

# %% [markdown]
# ## Does the way of scoring matter?
#
# A label can be scored by its first sub-token, by its last (as the released code does), or by the log-probability of the
# whole word, summed or per token. Where every label is a single token of the vocabulary the rules rank alike; where
# labels are split, they do not, and some labels can then hardly be predicted at all.

# %% tags=["hide-input"]
rules = views.accuracies(data)
figures.show(
    figures.interval_points(
        rules, xlabel="accuracy", by="scoring", hue="answers", lines={"chance": 1 / 13}, percent=True
    ),
    name="fig-behaviour-scoring",
    title=views.of_each_rule(rules),
    fold=True,
    caption="Accuracy by scoring rule and calibration, with 95% intervals.",
    alt="Accuracy of each scoring rule, without and with batch calibration.",
)
single = rules["scoring"].nunique() == 4  # where a label has several tokens, one of the two sub-token rules is left out
say(
    f"Each label is a single token of {own}, so all rules give the same answers, with calibration and without."
    if single
    else f"{own} splits some labels into several tokens."
)

# %% [markdown]
# ## Does the way of calibrating matter?
#
# Batch calibration is one of several corrections that need no label. Two others, on the same scores: *standardised*
# divides what it gives by each label's standard deviation over the events; *equal shares* moves the scores of each label
# until all labels have the same probability in the mean over the events. Of the events that at least one of two ways
# gets right, *right both ways* is the share that both get right. It says how far the set of events that later chapters
# rest on follows from our choice.

# %% tags=["hide-input"]
same = select(data, metric="same_answer").replace({"calibration": views.OTHERS})
told = [f"**{spoken(row, '.0%')}** of the events ({row['calibration']})" for _, row in same.iterrows()]
say(f"With another correction the answer stays what it is in this run for {' and for '.join(told)}.")
views.calibrated_otherwise(data).style.hide()

# %% [markdown]
# ## The agreed set
#
# As in the paper, most later experiments use the events whose answer equals the writer's label: the *agreed set*. It
# keeps the model's successes, and it has few events of a label that the model often misses. Where a chapter also
# reports all events, it says so.

# %% tags=["hide-input"]
agreed = select(data, metric="agreed_count", calibration=calibration).iloc[0]
sizes = confusions[confusions["label"] == confusions["answer"]].sort_values("value")
fewest, largest = sizes.iloc[0], sizes.iloc[-1]
say(
    f"The agreed set of this run has **{agreed['value']:,.0f}** of {agreed['n']:,} events (calibration: {calibration}); it "
    f"is largest for *{largest['label']}* ({largest['value']:.0f}) and smallest for *{fewest['label']}* "
    f"({fewest['value']:.0f}). The paper's has {paper.DETAILED.n:,}."
)

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("03_behaviour", claims.run_tables(f"results/{run.slug}")))
say(f"The test in words: {claims.claims()['C1'].test}.")
say(corpus_note(run.corpus))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** What the model answers is settled; [the method in code](04_method.ipynb) shows how its answers are taken apart,
# and [Probing](05_probing.ipynb) asks from which layer on the answer can be read.
