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
# # 9 Modulation: does pushing an appraisal move the emotion?
#
# **Question.** If the model is made to take an event as more pleasant, or as more of somebody else's doing, does its
# answer move to the emotion that appraisal theory expects?
#
# Appraisals are judgements about an event; theory says that the emotion follows from their combination
# {cite:p}`smith1985,lazarus1991`. If the model's directions for appraisals ([chapter 7](07_appraisals.ipynb)) are part
# of how it finds the emotion, then adding such a direction to the residual stream must move the label, and in the
# expected direction. {cite:t}`tak2025` report that it does, around layer 9 of 16. With $v_a$ the weights of the probe
# that reads appraisal $a$ at a layer, a push is
#
# ```{math}
# x \;\leftarrow\; x + \beta\, \frac{z}{\lVert z\rVert}, \qquad
# z = (I - P_B) \sum_{a \in A} \gamma_a v_a, \qquad
# P_B = V_B (V_B^\top V_B)^{-1} V_B^\top ,
# ```
#
# at the last token, in three neighbouring layers with each layer's own $z$. $A$ are the appraisals that are pushed,
# $\gamma_a = \pm 1$ says whether up or down, and the columns of $V_B$ are vectors that are to stay as they are. Which
# vectors stay is where the paper and its code part, so all readings stand side by side:
#
# | vector | what is added | from |
# |---|---|---|
# | raw | the signed sum of probe weights; nothing is projected out | what the released code does |
# | fix3 | without its part along the others of four appraisals: pleasantness, other-agency, predictability, situational control | what the code prepares and then does not use |
# | fixall | without its part along all other appraisals | the equation of the paper |
# | unit | raw, but weights brought to equal length before they are summed (pairs only) | ours |
# | mean difference | mean activation of events rated above average minus that of the others | ours |
#
# The 20 settings are four appraisals up and down and twelve pairs of signs (pleasantness with each of the other three);
# the paper prints 14 of them. Self-agency up and down are added, because the paper's opening example is about it.

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
from emolib.experiments import modulation
from emolib.figures.display import say
from emolib.figures.flows import label_flows
from emolib.interventions import theory
from emolib.paper import claims
from emolib.paper import tables as paper_tables
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
data, reference = study.measure(modulation), study.reference(modulation)

# %% [markdown]
# ## Where, how hard, and on which texts
#
# Vectors are fitted on one half of the writers in the agreed set and judged on texts of the other half, a sample with
# the emotions as equal as they can be. Lengths of pushes come in two units: $\beta$ as in the paper, which is absolute,
# and a share of the mean length of the residual stream at the layer, without which layers and models cannot be
# compared. The layer at which most is shown was chosen on texts of the fitting half, so the judged texts had no part in
# it.

# %% tags=["hide-input"]
n_layers, dose = study.model.n_layers, modulation.CHOICE.size
chosen = select(data, metric="decisive").set_index("condition")["layer"].astype(int)
centre, there = chosen["reason:selected"], chosen["reason:paper_depth"]
every = paper_tables.paper_tables(paper.DETAILED.id)["modulation"]
every = every.assign(n_layers=paper.DETAILED.layers, depth=(every["layer"] + 1).astype(float) / paper.DETAILED.layers)
norm = select(data, metric="residual_norm").set_index("layer")["value"]
base = select(data, condition="baseline")
scores, counts = (select(data, metric=name, span=3) for name in ("theory_score", "count"))
null = theory.null_bands(select(data, metric="theory_score_null", span=3))
where, texts = layer_number(centre), base["n"].iloc[0]
say(
    f"Judged on **{texts}** texts. Chosen centre: layer **{where}** of {n_layers}; the paper's depth is at layer "
    f"{layer_number(there)}. At layer {where} the residual stream is {norm[centre]:.0f} long, so that β = 4 is a share of"
    f" {4 / norm[centre]:.3f} and a share of {dose:g} is β = {dose * norm[centre]:.1f}; over the layers the length runs "
    f"from {norm.min():.0f} to {norm.max():.0f}."
)

# %% [markdown]
# ## What the labels become
#
# Below, *pl*, *oa*, *pr*, *sc* and *sa* are pleasantness, other-agency, predictability, situational control and
# self-agency; arrows say which way they are pushed.

# %% tags=["hide-input"]
bars = {"no push": base, "no push (paper)": select(every, condition="baseline", metric="count")}
for name in [setting for setting in theory.printed() if "predict_event" not in setting]:
    here = {"condition": f"{name};vector:raw;unit:norm", "layer": centre, "coefficient": dose}
    bars[theory.abbreviated(name)] = select(counts, **here)
    theirs = {"condition": f"{name};vector:raw", "metric": "count", "layer": 8, "coefficient": 2}
    bars[f"{theory.abbreviated(name)} (paper)"] = select(every, **theirs)
figures.show(
    figures.stacked_labels(bars),
    name="fig-modulation-labels",
    caption=f"Predicted labels under pushes of raw vectors around layer {where}, each {dose:g} of the residual norm. In "
    "parentheses, the paper's Llama 3.2 1B around its layer 9 at β = 2 (its Figure 7). Our sample has the emotions in "
    "more equal shares than the paper's agreed set, so compare each bar with its own baseline.",
    alt="Stacked bars of predicted labels without push and for eight pushes, ours and the paper's.",
)

# %% tags=["hide-input"]
moves = ["pleasantness:+1", "pleasantness:-1", "other_responsblt:+1", "other_responsblt:-1"]
stacks = select(counts, condition=[f"{name};vector:raw;unit:norm" for name in moves], coefficient=dose)
noise = select(counts, condition=["random:0;unit:norm", "random:1;unit:norm"], coefficient=dose)
stacks = stacks.assign(condition=stacks["condition"].map(theory.abbreviated))
noise = noise.assign(condition=noise["condition"].str.extract(r"(random:\d)")[0])
figures.show(
    figures.depth_stacks(pd.concat([stacks, noise])),
    name="fig-modulation-layers",
    caption=f"Predicted labels for a push of {dose:g} of the residual norm around each layer, raw vectors, and two "
    "random directions of the same length (the paper's Figures 30, 31 and 36; it never shows other-agency up over "
    "layers: the first row of its Figure 31 repeats another figure).",
    alt="Stacked shares of predicted labels over layers for four pushes and two random directions.",
)

# %% [markdown]
# ## Does it follow theory?
#
# Counts of labels do not say by themselves whether theory is met. The expectation is taken from the ratings alone: with
# $z_{a,e}$ the mean rating of appraisal $a$ by writers who felt emotion $e$, standardised over the emotions, the label
# $e$ should shift by $\sum_a \gamma_a z_{a,e}$. The **theory score** is the rank correlation, over the labels, of this
# expectation with the shift that is observed, $\log\frac{n_e + 1/2}{n^0_e + 1/2}$, from $-1$ to 1
# (`emolib.interventions.theory.theory_score`). Random directions of the same length, the same one in all layers of the window
# so that they add up as fitted vectors do, say which scores mean nothing.

# %% tags=["hide-input"]
panel = {
    name: theory.abbreviated(name)
    for name in (
        "settings:printed",
        "pleasantness:+1",
        "other_responsblt:+1",
        "predict_event:-1",
        "pleasantness:+1;other_responsblt:-1",
        "self_responsblt:+1",
    )
}
sizes = {(";unit:norm", dose): f"{dose:g} of the norm", ("", 2.0): "β = 2"}
rows = [
    frame.assign(panel=title, what=what)
    for name, title in panel.items()
    for (unit, size), word in sizes.items()
    for what, table in ((word, scores), (f"random, {word}", null))
    if table is scores or name != "settings:printed"
    for frame in [select(table, condition=f"{name};vector:raw{unit}", coefficient=size)]
]
printed = [f"{name};vector:raw" for name in theory.printed() if name != "other_responsblt:+1"]
theirs = select(every, metric="theory_score", coefficient=2, condition=printed)
mean = theirs.groupby(["layer", "depth", "n_layers"])["value"].mean().reset_index().assign(condition="settings:printed")
behind = pd.concat([mean, theirs]).assign(what="β = 2")
behind = behind.assign(panel=behind["condition"].map(theory.abbreviated))
behind = behind[behind["panel"].isin(panel.values())]

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(
        pd.concat(rows),
        hue="what",
        panel="panel",
        paper=behind,
        x="depth",
        n_layers=n_layers,
        ylabel="theory score",
        ylim=(-1, 1),
    ),
    name="fig-modulation-depth",
    caption="Theory score of raw vectors around each layer, for two lengths of push, with 95 % intervals over writers; "
    "*random*: mean of at least 20 directions and the range in which 95 % of new ones would lie; for the mean of settings "
    "see the next figure. Dashed: the paper's counts at β = 2, scored alike; its mean is over the 13 settings that it shows "
    "at all layers.",
    alt="Theory score over depth in six panels, fitted vectors against random directions, with the paper's curve.",
)

# %% [markdown]
# At the chosen centre there are at least a hundred random directions. A single one can come out high against a single
# expectation, because thirteen labels are few and a strong push makes one label win. For the mean over settings a random
# direction takes the place of *each appraisal's*, and settings are put together from them as from the fitted ones:
# opposite and overlapping settings then score alike by chance as well, and a mean of unrelated directions would vary too
# little. Chance also reorders labels that few texts have, so a score from few texts is too low; the paper's counts, drawn
# down to as many texts as here, are therefore scored again at the end of this chapter.

# %% tags=["hide-input"]
at = {"layer": centre, "coefficient": dose}
raw = [f"{name};vector:raw;unit:norm" for name in (*modulation.SETTINGS, "settings:printed")]
mine = select(scores, condition=raw, **at)
draws = select(data, metric="theory_score_null", condition=raw, span=3, **at)
draws = draws.assign(seed=draws["label"].str.removeprefix("draw:").astype(int))
mine, draws = (frame.assign(condition=frame["condition"].map(theory.abbreviated)) for frame in (mine, draws))
figures.show(
    figures.against_null(mine, draws, xlabel="theory score"),
    name="fig-modulation-null",
    caption=f"Theory scores around layer {where}, {dose:g} of the norm, against {draws['seed'].nunique()} random "
    "directions of the same accumulated length, each scored against the setting's expectation; their mean against "
    f"{(draws['condition'] == theory.abbreviated('settings:printed')).sum()} sets of random directions.",
    alt="Theory score with interval for each setting over a cloud of scores of random directions.",
)

# %% [markdown]
# ## Which vector?
#
# The paper speaks of *unique* effects, with the other appraisals held fixed, but its code injects the raw sum. Holding
# all others fixed also takes unpleasantness out of pleasantness, its near opposite, and may leave little that means
# anything: the table says how much of the raw vector's squared length is left.

# %% tags=["hide-input"]
kinds = ["raw", "fix3", "fixall", "mean_difference"]
names = ["settings:printed", *theory.settings()[:8]]
kind = scores["condition"].str.extract(r"vector:(\w+);unit:norm")[0]
sets = scores["condition"].str.split(";vector", n=1).str[0]
some = scores.assign(condition=sets, vector=kind)[sets.isin(names) & kind.isin(kinds)]
some = some[(some["layer"] == centre) & (some["coefficient"] == dose)]
some = some.assign(condition=some["condition"].map(theory.abbreviated))
figures.show(
    figures.interval_points(some, by="condition", hue="vector", xlabel="theory score", xlim=(-1, 1)),
    name="fig-modulation-vectors",
    caption=f"Theory scores of four kinds of vectors around layer {where}, {dose:g} of the norm, 95 % intervals.",
    alt="Theory scores of raw, fix3, fixall and mean-difference vectors for single appraisals and their mean.",
)

# %% tags=["hide-input"]
lines, kept = [], select(data, metric="kept_share", layer=centre)
before, llama0 = (frame.set_index("label")["value"] for frame in (base, bars["no push (paper)"]))
for word, vector, span in [*((kind, kind, 3) for kind in (*kinds, "unit")), ("span 1", "raw", 1)]:
    both = [name for name in theory.printed() if word != "unit" or ";" in name]
    ours, llama = ([f"{name};vector:{tail}" for name in both] for tail in (f"{vector};unit:norm", "raw"))
    rows = select(data, metric="count", span=span, condition=ours, **at)
    new = rows.pivot(index="condition", columns="label", values="value").loc[ours, before.index]
    rows = select(every, metric="count", layer=8, coefficient=2, condition=llama)
    shift = (rows.pivot(index="condition", columns="label", values="value").loc[llama] + 0.5) / (llama0 + 0.5)
    alike = theory.theory_score(shift[before.index], new, before)
    score = select(data, metric="theory_score", span=span, condition=ours, **at)["value"].mean()
    left = kept.loc[kept["condition"].str.endswith(f":{vector}"), "value"].mean()
    lines.append([word, len(both), score, alike.mean(), alike.min(), alike.max(), left])
pd.DataFrame(
    lines, columns=["vector", "settings", "theory score", "agrees with the paper", "lowest", "highest", "kept"]
).style.format(precision=2, na_rep="–").hide()

# %% [markdown]
# *Agrees with the paper* is the rank correlation over labels between our shift and that of the paper's counts at its
# layer 9, averaged over settings, with the lowest and highest. *Kept* is the share of the squared length that
# projection leaves. *Span 1* pushes one layer instead of three, a third of the total length.
#
# ## How hard?

# %% tags=["hide-input"]
found = scores[(scores["layer"] == centre) & sets.isin(["settings:printed", *moves])]
found = found[found["condition"].str.contains("vector:raw")]
unit, steps = found["condition"].str.endswith("unit:norm"), found["coefficient"].map("{:g}".format)
found = found.assign(dose=steps.where(unit, "β = " + steps).where(~unit, steps + " of norm"))
found = found.assign(setting=found["condition"].map(theory.abbreviated))
condition = [f"{name};vector:raw" for name in theory.printed()]
llama = select(every, metric="theory_score", layer=8, condition=condition)
theirs = llama.groupby("coefficient")["value"].mean().reset_index().assign(condition="settings:printed")
llama = pd.concat([theirs, llama])
llama = llama.assign(dose="β = " + llama["coefficient"].map("{:g}".format))
llama = llama.assign(setting=llama["condition"].map(theory.abbreviated))
llama = llama[llama["setting"].isin(found["setting"])]

# %% tags=["hide-input"]
figures.show(
    figures.interval_points(
        found, by="dose", hue="setting", xlabel="theory score", xlim=(-1, 1), paper=llama, paper_model="Llama 3.2 1B"
    ),
    name="fig-modulation-dose",
    caption=f"Theory score by length of push around layer {where}, raw vectors, 95 % intervals; diamonds: the paper's "
    "counts at its layer 9. A push that is too strong gives one label to all texts, and the order of the others is lost.",
    alt="Theory score by dose for pleasantness and other-agency up and down and for the mean of settings.",
)

# %% [markdown]
# ## Who moves where
#
# Counts hide which texts move. The ribbons show, for pleasantness, what the label was and what it becomes. The paper's
# figure of this kind is captioned layer 9 but was drawn at layer 10 (see the [errata](errata.ipynb)).

# %% tags=["hide-input"]
flow = select(data, metric="flow", layer=centre, coefficient=dose)
flows = {
    name: select(flow, condition=f"{name};vector:raw;unit:norm") for name in ("pleasantness:+1", "pleasantness:-1")
}
figures.show(
    label_flows(flows, before="no push", after="pushed"),
    name="fig-modulation-flow",
    caption=f"Labels before and after a push of pleasantness around layer {where}, {dose:g} of the norm, {texts} judged "
    "texts. Pale ribbons keep their label.",
    alt="Two flow diagrams of labels before and after pleasantness is pushed up and down.",
)

# %% [markdown]
# ## Self-agency: the example of the paper's first figure
#
# The paper opens with two stories of a failed exam: where one did it oneself the emotion is guilt, where circumstances
# did it, sadness. Its text says the reverse, and no figure tests it. Pushed up, self-agency should turn sadness and
# anger into guilt and shame; pushed down, the other way round.

# %% tags=["hide-input"]
agency = {name: f"{name};vector:raw;unit:norm" for name in modulation.EXTRA}
bars = {"no push": base} | {theory.abbreviated(name): select(counts, condition=c, **at) for name, c in agency.items()}
figures.show(
    figures.stacked_labels(bars),
    name="fig-modulation-self",
    caption=f"Predicted labels when self-agency (sa) is pushed up or down around layer {where}, {dose:g} of the norm.",
    alt="Stacked bars of predicted labels without push and with self-agency pushed up and down.",
)
groups = {"guilt or shame": ["guilt", "shame"], "sadness or anger": ["sadness", "anger"]}
say(
    "; ".join(
        f"{name}: "
        + ", ".join(
            f"{frame[frame['label'].isin(part)]['value'].sum():.0f} texts {word}" for word, part in groups.items()
        )
        for name, frame in bars.items()
    )
    + "."
)
limit = {name: select(null, condition=c, **at)["limit"].item() for name, c in agency.items()}
say(
    "Theory scores: "
    + "; ".join(
        f"{theory.abbreviated(row.condition)} **{row.value:.2f}** ({row.ci_low:.2f} to {row.ci_high:.2f}), 99 % of random "
        f"directions below {limit[row.condition.split(';')[0]]:.2f}"
        for row in select(scores, condition=[*agency.values()], **at).itertuples()
    )
    + "."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on three claims: one pushed appraisal moves labels as theory says, in a middle band of layers only
# (C14); two combine as theory says (C15); random directions give no such pattern (C16). Labels are what moves here: no
# text is generated. Random directions shift labels too, so it is the pattern that counts, and a score of one setting
# that lies within the cloud of its random directions is no evidence. Vectors are judged on writers that they were not
# fitted on. The numbers that decide, for this run:

# %% tags=["hide-input"]
few = pd.Series(paper_tables.thinned_scores(int(texts), layer=8, coefficient=2))
rows = {
    "mean theory score of the paper's 14 settings at its layer 9, β 2": f"{theirs.set_index('coefficient')['value'][2]:.2f}; drawn down to {texts} texts {few.mean():.2f} "
    f"({few.quantile(0.025):.2f} to {few.quantile(0.975):.2f})"
}
tried = [(centre, dose, ";unit:norm"), (there, dose, ";unit:norm"), (there, 2.0, "")]
for place, size, unit in tried:
    here, single = {"layer": place, "coefficient": size}, [f"{name};vector:raw{unit}" for name in theory.settings()]
    row, band = (select(t, condition=f"settings:printed;vector:raw{unit}", **here).iloc[0] for t in (scores, null))
    value, limit = (select(t, condition=single, **here).set_index("condition") for t in (scores, null))
    beyond = (value["value"] > limit["limit"][value.index]).sum()
    push = f"{size:g} of the norm" if unit else f"β {size:g}"
    rows[f"C14 to C16: the same here, layer {layer_number(place)}, {push}"] = (
        f"{row['value']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f}), sets of random directions {band['ci_low']:.2f} to "
        f"{band['ci_high']:.2f}; {beyond} of {len(single)} settings beyond 99 % of {limit['n'].max()} random directions"
    )
say("\n".join(f"- {name}: **{value}**" for name, value in rows.items()))

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("09_modulation", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
