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
# # 7 Appraisals: are the reasons for an emotion there too?
#
# **Question.** Do the activations tell how the writer judged the event, and do they tell more than the emotion's name?
#
# *Appraisals* are the judgements from which emotions arise: was it pleasant, sudden, foreseeable, whose doing was it? The
# writers of crowd-enVENT rated 21 of them from 1 to 5 for their own event {cite:p}`troiano2023`. A linear probe predicts
# such a rating from the activation $x$ of one site (equation E6 of section 7, {cite:t}`tak2025`),
#
# $$\hat r_a = v_a^\top x + b_a,\qquad \min_{v,b}\ \sum_i (r_{a,i} - \hat r_{a,i})^2 + \alpha\lVert v_a\rVert^2,$$
#
# and is judged by $R^2$ on events it has not seen: 1 is perfect, 0 is no better than the mean rating, below 0 is worse.
# There is a catch. Joyful events *are* pleasant, so a probe that found only the emotion would predict pleasantness well.
# An appraisal is there in its own right as far as a probe beats what the emotion's name alone predicts.

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
from emolib.engine.sites import layer_number
from emolib.experiments import appraisals
from emolib.figures.appraisals import radar, with_keys
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
data, reference = study.measure(appraisals), study.reference(appraisals)

# %% [markdown]
# ## As the paper did it
#
# Raw features, $\alpha = 5$, the agreed set (the events that the model names as their writer did), four fifths to train
# and one to test. The paper shows six appraisals. *Label only* predicts, for the very same test events, the mean rating
# that their emotion has in the training events: what a probe would reach that knew the emotion and nothing else.

# %% tags=["hide-input"]
named = list(appraisals.NAMED)
released = select(data, metric="r2", condition=appraisals.RELEASED, label=named)
theirs = paper.values("appraisal_probe", model=paper.DETAILED.id)
theirs = theirs.assign(label=theirs["condition"].str.removeprefix("appraisal:"))
mine = {"n_layers": study.model.n_layers, "x": "depth", "panel": "label", "ylabel": "held-out $R^2$"}
limits = (min(-0.1, released["value"].min() - 0.05), max(0.75, released["value"].max() + 0.05))
alone = select(data, metric="r2", condition=f"{appraisals.LABEL};set:agreed", label=named)
levels = [alone.assign(layer=layer, component="label only") for layer in sorted(released["layer"].unique())]

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        pd.concat([released, *levels]), paper=theirs, lines={"the mean rating": 0}, ylim=limits, **mine
    ),
    name="fig-appraisals-released",
    caption=f"Held-out $R^2$ of six appraisal probes as released, and of the emotion label alone, on the same "
    f"{released['n'].iloc[0]} test events of the agreed set, 95 % intervals over writers. Dashed: the probes of the "
    "paper's Llama 3.2 1B (its Figure 29).",
    alt="R2 over depth in six panels, one an appraisal, for each component, ours and the paper's, and for the label alone.",
)
best = released.loc[released.groupby("label")["value"].idxmax()].set_index("label")
say(
    "Best $R^2$ of any site, in brackets that of the label alone on the same events, and the paper's best: "
    + "; ".join(
        f"{figures.readable(name)} **{row.value:.2f}** ({alone.set_index('label').loc[name, 'value']:.2f}; "
        f"{theirs[theirs['label'] == name]['value'].max():.2f})"
        for name, row in best.loc[named].iterrows()
    )
    + "."
)

# %% [markdown]
# ## All events, and what the label alone explains
#
# Now the probes see all events, standardised features, and an $\alpha$ for each appraisal and fold that was chosen on the
# other folds; all events of a writer stay in one fold. *Label only* is here the baseline of all events: for each of them
# the mean rating that the emotion its writer named has in the other folds. *Shuffled* is the control: ratings handed to
# other writers ([](05_probing.ipynb) does the same with labels).

# %% tags=["hide-input"]
stream = select(data, component="resid_post", metric="r2", label=named)
label = select(data, metric="r2", condition=appraisals.LABEL)
flat = [label[label["label"].isin(named)].assign(layer=layer) for layer in sorted(stream["layer"].unique())]
curves = {"residual stream": appraisals.OURS, "shuffled": appraisals.SHUFFLED}
curves = [stream[stream["condition"] == source].assign(condition=name) for name, source in curves.items()]
behind = None if reference is None else select(reference, component="resid_post", metric="r2", label=named)
if behind is not None:
    behind = behind[behind["condition"] == appraisals.OURS].assign(
        condition="residual stream", n_layers=behind["layer"].max() + 1
    )
    behind = behind.assign(depth=(behind["layer"] + 1) / behind["n_layers"])

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        pd.concat([*curves, *(rows.assign(condition="label only") for rows in flat)]),
        hue="condition",
        reference=behind,
        **mine,
    ),
    name="fig-appraisals-ours",
    caption=f"Held-out $R^2$ in the residual stream, all {curves[0]['n'].iloc[0]:,} events, five folds grouped by writer, "
    "95 % intervals; what the writer's label alone explains, on the same events; and probes of shuffled ratings.",
    alt="R2 over depth in six panels: probes by layer, the flat line of the label, and shuffled ratings near zero.",
)

# %% [markdown]
# A probe can lose against the label's line and still know something that the label does not say. The *partial* $R^2$ asks
# exactly that: of what the label leaves unexplained, which share do the activations explain when label and activations
# predict together, $(R^2_\text{both} - R^2_\text{label}) / (1 - R^2_\text{label})$?

# %% tags=["hide-input"]
sites = select(data, metric="r2", condition=appraisals.OURS, component="resid_post")
layer = int(sites.groupby("layer")["value"].mean().idxmax())
beyond = select(data, metric="partial_r2", component="resid_post", layer=layer).sort_values("value", ascending=False)
figures.show(
    figures.interval_points(beyond, by="label", xlabel="partial $R^2$ beyond the label", lines={"nothing": 0}),
    name="fig-appraisals-partial",
    caption=f"Share of the variance left by the label that the residual stream after layer {layer_number(layer)} explains, "
    "for all 21 appraisals, 95 % intervals. The layer is the one with the highest mean $R^2$.",
    alt="Points with intervals for 21 appraisals, ordered by how much the activations explain beyond the emotion label.",
)
above = beyond[beyond["ci_low"] > 0]
say(
    f"After layer {layer_number(layer)} the activations add to the label for **{len(above)} of {len(beyond)}** appraisals "
    f"(interval above 0), most for {figures.readable(beyond.iloc[0]['label'])} ({beyond.iloc[0]['value']:.2f})."
)

# %% [markdown]
# ## Beside human readers
#
# How much of a rating can be in a text at all? Where the corpus has readers, five people rated each of 1,200 events as
# they thought the writer would. Their $R^2$ is the squared correlation with the writer's rating, that is, what the best
# straight line through the readers' ratings explains. The line is fitted to the same ratings that it is judged by, so
# the readers' value is an upper bound; the probe's is not, being held out. Probe and readers are compared on the same
# texts; the label alone, and what the probe adds to it, are of all events. Without readers, there are no columns for
# them.

# %% tags=["hide-input"]
probe = "setting:ours;set:read" if (data["model"] == "human").any() else appraisals.OURS
columns = {
    "label only, all events": label,
    "probe": select(data, metric="r2", condition=probe, component="resid_post", layer=layer),
    "beyond the label, all events": beyond,
} | {
    name: data[(data["metric"] == "r2") & (data["condition"] == condition)]
    for name, condition in {"one reader": "reader:single", "mean of five": "reader:mean_of_5"}.items()
}
shape = "{0.value:.2f} ({0.ci_low:.2f}, {0.ci_high:.2f})".format
cells = {name: part.set_index("label").apply(shape, axis=1) for name, part in columns.items() if len(part)}
table = pd.DataFrame(cells).loc[list(appraisals.APPRAISALS)].rename(index=figures.readable)
table

# %% [markdown]
# ## What an emotion looks like in appraisals
#
# The mean ratings of six emotions: theory shows in people before it can show in a model. The paper draws the agreed set,
# which sharpens the profiles, because events that the model names correctly are the typical ones. Both are drawn here.

# %% tags=["hide-input"]
profile = with_keys(select(data, metric="mean_rating"))
theirs = with_keys(paper.values("appraisal_profile", model=paper.DETAILED.id))
shown = profile[profile["emotion"].isin(theirs["emotion"]) & profile["appraisal"].isin(named)]
shown = shown.assign(set=shown["set"].map({"agreed": "agreed set", "all": "all events"}))
shown = shown.set_index("appraisal").loc[named].reset_index()
figures.show(
    radar(shown, paper=theirs),
    name="fig-appraisals-profile",
    caption="Mean ratings by the writers, 1 in the centre to 5 outside: foreseen (predictability), pleasant, other's doing "
    "(other-agency), sudden, unpleasant, own doing (self-agency). Solid: events that the model names as the writer "
    "did; dotted: all events; dashed: the agreed set of the paper's Llama 3.2 1B (its Figure 5).",
    alt="Six radar charts, one an emotion, with six appraisals each, on the agreed set, on all events, and in the paper.",
)

# %% tags=["hide-input"]
both = shown.pivot_table(index=["emotion", "appraisal"], columns="set", values="value").dropna()
gap = (both["agreed set"] - both["all events"]).abs()
say(
    f"Agreed set and all events differ by {gap.mean():.2f} points on average, by {gap.max():.2f} at most "
    f"({gap.idxmax()[0]}, {figures.readable(gap.idxmax()[1])})."
)

# %% [markdown]
# ## From appraisals to the emotion
#
# If appraisals make emotions, the ratings alone should name the emotion. A logistic regression on the writers' 21
# ratings is a yardstick for theory; on the 21 *probed* ratings it shows how much of the emotion passes through them,
# compared with a probe of the whole activation.

# %% tags=["hide-input"]
named_by = with_keys(select(data, metric="emotion_from_appraisals"))
real = named_by[named_by["target"] == "writer"]
real = real.assign(condition=real["source"].str.replace("_", " "))
levels = real[real["layer"].isna()]
deep = real[real["layer"].notna()]
control = named_by[(named_by["target"] == "shuffled") & (named_by["source"] == "activations")]
figures.show(
    figures.depth_curves(
        pd.concat([deep, control.assign(condition="shuffled labels")]),
        hue="condition",
        x="depth",
        ylabel="balanced accuracy",
        lines={"chance": 1 / 13},
        n_layers=study.model.n_layers,
    ),
    name="fig-appraisals-emotion",
    caption="Balanced accuracy of the emotion named from the 21 probed ratings and from the residual stream, by layer. "
    "Folds grouped by writer, 95 % intervals.",
    alt="Balanced accuracy over depth for probed ratings, activations and shuffled labels.",
)

# %% tags=["hide-input"]
words = {"ratings": "all 21 ratings", "six ratings": "the six of the paper"}
top = deep.loc[deep.groupby("condition")["value"].idxmax()]
say(
    "From the writers' own ratings: "
    + "; ".join(
        f"{words[row.condition]} **{row.value:.1%}** ({row.ci_low:.1%} to {row.ci_high:.1%})"
        for row in levels.itertuples()
    )
    + ". At the best layer drawn: "
    + "; ".join(
        f"{row.condition} **{row.value:.1%}** ({row.ci_low:.1%} to {row.ci_high:.1%})" for row in top.itertuples()
    )
    + f". Chance is {1 / 13:.1%}."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C12: appraisals are linearly decodable from the middle on. The paper adds that they are
# strong *towards the end*; whether $R^2$ falls again after its peak is therefore tested. The highest point of a curve
# lies above its end by chance alone. So the peak is looked for on one half of the writers, and the fall from there to
# the last layer measured on the other half, both ways. The *best* of many sites is chosen on the events it is reported
# for, and is therefore optimistic: an interval that excludes zero there is weak evidence, and the figure of partial
# $R^2$ above, of one layer for all appraisals, the better one. A probe reads what can be read. That the model *uses* an
# appraisal is the question of the chapter on [modulation](09_modulation.ipynb). The numbers that decide, for this run:

# %% tags=["hide-input"]
fall, depth = (select(data, metric=metric, label=named).set_index("label") for metric in ("r2_fall", "peak_depth"))
top = select(data, metric="partial_r2", label=named)
top = top.loc[top.groupby("label")["value"].idxmax()].set_index("label")
table = (
    pd.DataFrame(
        {
            "best R2 as released": best["value"].map("{:.2f}".format),
            "label only, same events": alone.set_index("label").apply(shape, axis=1),
            "best partial R2": top.apply(shape, axis=1),
            "depth of the peak": depth.apply(shape, axis=1),
            "fall from peak to end": fall.apply(shape, axis=1),
        }
    )
    .loc[named]
    .rename(index=figures.readable)
)
say("First two columns: agreed set; others: all events. Best of all sites; peak and fall in the residual stream.")
table

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("07_appraisals", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
