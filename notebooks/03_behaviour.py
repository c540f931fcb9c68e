# ---
# jupyter:
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
# # 3 Behaviour: what does the model answer?
#
# **Question.** Asked for the emotion of a described event, does the model name the one its writer felt?
#
# Everything later in this book explains an answer. This chapter is about the answer itself: how often it is right, which
# labels are taken for one another, and what would be a good score. The model reads one prompt per event,
#
# > *instruction* Context: *demonstration* Answer: *label* … Context: **the event** Answer:
#
# and we compare the scores of the thirteen labels as its next token ({cite:t}`tak2025`, section 3). Whatever else the
# model would rather say does not count, except where we ask for it below.

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
from emolib.experiments import behaviour
from emolib.figures.display import say
from emolib.paper import claims
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import paper
from emolib.tables.results import footer, select

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
data = study.measure(behaviour)
reference = study.reference(behaviour)

# %% [markdown]
# ## How often it is right
#
# A model that has no idea is right once in thirteen times. People are the other end of the scale: for the real corpus,
# five readers guessed the emotion of each of 1,200 events, and their agreement with the writer is the ceiling we can
# reasonably expect.
#
# Small models need one correction before this number means anything. Under a prompt with two demonstrations they name
# one label nearly always, whatever the event. *Batch calibration* {cite:p}`zhou2023` subtracts from each label's score
# its mean over the corpus,
#
# $$\tilde s_e(x) = s_e(x) - \frac{1}{N}\sum_{i=1}^{N} s_e(x_i),$$
#
# which uses no label. Both numbers are shown, and the offsets are fixed here once and used unchanged in all later
# chapters.

# %% tags=["hide-input"]
ours = select(
    data, metric="accuracy", condition=[f"scoring:{scoring};calibration:{kind}" for kind in ("none", "batch")]
)
ours = ours.assign(model=[f"{run.model}, {'calibrated' if 'batch' in c else 'as scored'}" for c in ours["condition"]])
readers = data[(data["model"] == "human") & (data["metric"] == "accuracy")]
readers = readers.assign(
    model=["one reader" if "single" in c else "five readers, majority" for c in readers["condition"]]
)
before = [] if reference is None else [reference[reference["condition"].isin(ours["condition"])]]
before = [
    frame[frame["metric"] == "accuracy"].assign(model="reference run, " + frame["condition"].str[-5:])
    for frame in before
]
published = paper.values("behaviour", metric="accuracy", prompt="T1-2shot", model=[m.name for m in paper.PAPER_MODELS])
published = published.assign(model=[paper.model_name(name) for name in published["model"]])
figure = figures.interval_points(
    pd.concat([ours, *before, readers]),
    xlabel="share of events with the writer's label",
    by="model",
    paper=published,
    lines={"chance": 1 / 13},
    xlim=(0, 0.7),
    paper_model="ten models",
)

# %% tags=["hide-input"]
raw, calibrated = (ours[ours["model"].str.endswith(end)].iloc[0] for end in ("as scored", "calibrated"))
figures.show(
    figure,
    name="fig-behaviour-accuracy",
    caption=f"Accuracy over thirteen labels on {raw['n']:,} events. Points: this run and, where the corpus has them, human "
    "readers, with 95 % intervals that treat a writer's events as one cluster. Diamonds: the ten models of the paper "
    f"(its Figure 11), on crowd-enVENT. {study.corpus.note}",
    alt=f"Accuracy of {run.model}: {raw['value']:.2f} as scored, {calibrated['value']:.2f} calibrated, chance 0.08; "
    "the paper's models lie between 0.41 and 0.57.",
)
say(
    f"As scored, {run.model} is right for **{raw['value']:.1%}** of the events (95 % interval {raw['ci_low']:.1%} to "
    f"{raw['ci_high']:.1%}); calibrated, for **{calibrated['value']:.1%}** ({calibrated['ci_low']:.1%} to "
    f"{calibrated['ci_high']:.1%}). The paper's smallest model, {paper.DETAILED.name}, reaches {paper.DETAILED.accuracy:.1%}."
)

# %% [markdown]
# ## Which label it prefers
#
# The bars show how the answers are spread over the labels. In the corpus every emotion is equally frequent except guilt
# and shame, which have half as many events.

# %% tags=["hide-input"]
counts = data[data["metric"] == "predicted_count"]
bars = {"as scored": counts[counts["condition"] == "calibration:none"]}
bars |= {"calibrated": counts[counts["condition"] == "calibration:batch"]}
people = counts[counts["model"] == "human"]
bars |= {"human readers": people} if len(people) else {}
theirs = paper.values("behaviour", metric="predicted_count", prompt="T1-2shot", model=paper.DETAILED.id)
bars |= {f"paper, {paper.DETAILED.name}": theirs}
figures.show(
    figures.stacked_labels(bars),
    name="fig-behaviour-labels",
    caption="How the answers are spread over the labels: this run as scored and calibrated; human readers, where the "
    "corpus has them; the paper's Llama 3.2 1B (its Figure 10). The written labels are spread nearly evenly.",
    alt="Stacked bars of the labels given: this run as scored, this run calibrated, human readers, and the paper.",
)
most = bars["as scored"].sort_values("value").iloc[-1]
say(
    f"As scored, the most frequent answer is *{most['label']}*, given to {most['value'] / most['n']:.0%} of all events."
)

# %% [markdown]
# ## What is taken for what
#
# Mistakes are informative where they are systematic. Neighbours in meaning, such as guilt and shame or joy and pride, are
# confused by people too.

# %% tags=["hide-input"]
confusions = select(data, metric="confusion_count", condition=f"calibration:{calibration}")
theirs = paper.values("behaviour", metric="confusion_count")
figures.show(
    figures.confusion_matrix(confusions, paper=theirs),
    name="fig-behaviour-confusion",
    caption="Answers to the events of each written emotion, in per cent of the row. Above this run "
    f"(calibration: {calibration}), below the paper's Llama 3.2 1B (its Figure 9).",
    alt="Two confusion matrices of thirteen emotions; a strong diagonal means that the label is the writer's.",
)
recall = select(data, metric="recall", condition=f"calibration:{calibration}").sort_values("value", ascending=False)
best, worst = recall.iloc[0], recall.iloc[-1]
say(
    f"Best recognised is *{best['label']}* ({best['value']:.0%} of its events, interval {best['ci_low']:.0%} to "
    f"{best['ci_high']:.0%}), worst *{worst['label']}* ({worst['value']:.0%}, {worst['ci_low']:.0%} to {worst['ci_high']:.0%})."
)

# %% [markdown]
# ## What it would say freely
#
# Restricting the answer to thirteen labels hides what the model would say by itself. Here is the first word of its free
# continuation, chosen greedily.

# %% tags=["hide-input"]
words = select(data, metric="count", condition="vocabulary:open")
share = select(data, metric="share_of_labels").iloc[0]
table = words[words["label"] != "others"].head(10)[["label", "value"]]
table["share"] = table["value"] / share["n"]
theirs = paper.values("open_vocabulary")
theirs = theirs[theirs["label"] != "others"].sort_values("value", ascending=False).head(10)
table["paper, Llama 3.2 1B"] = [f"{w} ({v / 6600:.0%})" for w, v in zip(theirs["label"], theirs["value"], strict=True)][
    : len(table)
]
say(
    f"The free answer is one of the thirteen labels for {share['value']:.1%} of the events ({share['ci_low']:.1%} to "
    f"{share['ci_high']:.1%}). Its most frequent first words, beside those of the paper's Figure 8:"
)
table.rename(columns={"label": "word", "value": "events"}).style.format({"events": "{:.0f}", "share": "{:.1%}"}).hide()

# %% [markdown]
# ## Does the way of scoring matter?
#
# A label can be scored by its first sub-token, by its last (as the released code does), or by the log-probability of the
# whole word, summed or per token. Where every label is a single token of the vocabulary the rules rank alike; where
# labels are split, they do not, and some labels can then hardly be predicted at all.

# %% tags=["hide-input"]
pieces = pd.Series({label: len(tokens) for label, tokens in zip(study.labels.labels, study.labels.tokens, strict=True)})
rules = data[(data["metric"] == "accuracy") & data["condition"].str.startswith("scoring:")]
figures.show(
    figures.interval_points(rules, xlabel="accuracy", by="condition", lines={"chance": 1 / 13}),
    name="fig-behaviour-scoring",
    caption="Accuracy by scoring rule and calibration, with 95 % intervals.",
    alt="Accuracy of each scoring rule, without and with batch calibration.",
)
split = ", ".join(f"{label} ({n})" for label, n in pieces.items() if n > 1)
say(f"Labels that {run.model} splits into several tokens: {split or 'none, so all rules agree up to calibration'}.")

# %% [markdown]
# ## The agreed set
#
# As in the paper, most later experiments use the events whose answer equals the writer's label: the *agreed set*. It keeps
# the model's successes and leaves some labels nearly empty, so wherever that could matter the later chapters also report
# all events.

# %% tags=["hide-input"]
agreed = select(data, metric="agreed_count", condition=f"calibration:{calibration}").iloc[0]
diagonal = confusions[[a == b for a, b in confusions["label"].str.split("=>")]]
fewest, largest = diagonal.sort_values("value").iloc[[0, -1]]["label"]
say(
    f"The agreed set of this run has **{agreed['value']:,.0f}** of {agreed['n']:,} events (calibration: {calibration}); it "
    f"is largest for *{largest.split('=>')[0]}* ({diagonal['value'].max():.0f}) and smallest for *{fewest.split('=>')[0]}* "
    f"({diagonal['value'].min():.0f}). The paper's has {paper.DETAILED.n:,}."
)

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("03_behaviour", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
