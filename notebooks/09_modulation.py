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
# # 9 Modulation: does pushing an appraisal move the emotion?
#
# **Question.** If the model is made to take an event as more pleasant, or as more of somebody else's doing, does its
# answer move to the emotion that appraisal theory expects?

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
from emolib.experiments.modulation import views
from emolib.figures.display import plain, say, spoken
from emolib.figures.flows import label_flows
from emolib.paper import claims, ladder
from emolib.paper import tables as paper_tables
from emolib.study.freshness import measured
from emolib.study.run import Run
from emolib.tables import paper
from emolib.tables.provenance import footer
from emolib.tables.results import select

run = Run.of(globals())
tables = measured(run, modulation), paper_tables.paper_tables(paper.DETAILED.id)["modulation"]
data, llama = (views.named(table) for table in tables)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
short, curves = (ladder.model_by_model(run, modulation, view) for view in (views.in_short, views.by_kind))
say(
    "Answers move as theory expects where the mean theory score is above zero, with its whole interval. At the paper's "
    f"depth it is so in this many models: {views.in_how_many(short, views.DEPTH)}. Around the last layers, where the paper "
    f"sees no effect, in {views.in_how_many(short, views.LAST)}. Above zero is not yet beyond chance: at the paper's depth, sets of random "
    f"directions of like covariance reach {views.chance_reaches(data)} in this run. "
    "Directions as released are those of the paper's code; the two other kinds are ours."
)
look = dict(hue="what", panel="run", x="depth", ylabel="mean theory score", ylim=(-1, 1), lines={"no relation": 0.0})
figures.show(
    figures.depth_curves(curves, twin=ladder.untrained(run, modulation, views.by_kind), **look),
    name="fig-modulation-models",
    title=f"Highest mean theory score: {views.highest(curves)}",
    caption="How far labels move in the order that people's ratings say (1: exactly so, 0: no relation) when appraisals are "
    "pushed around a layer: mean over the printed settings, 95% intervals over writers, for three kinds of directions.",
    alt="Mean theory score over depth for three kinds of directions, a panel for each model.",
)
say(claims.as_markdown(views.short_table(short)))
ladder.badges(run, "09_modulation")

# %% [markdown]
# ## What is pushed
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
# | directions | what is added | from |
# |---|---|---|
# | as released | the signed sum of probe weights, from a ridge with the penalty 5; nothing is projected out | what the released code does |
# | three others projected out | without its part along the others of four appraisals: pleasantness, other-agency, predictability, situational control | what the code prepares and then does not use |
# | all others projected out | without its part along all other appraisals | the equation of the paper |
# | brought to equal length | as released, but with weights of equal length before they are summed (pairs only) | ours |
# | directions that predict | as released, but with a penalty chosen to predict the ratings by writers left out, on right and wrong answers alike | ours |
# | differences of means | mean activation of events rated above average minus that of the others, on the same events | ours |
#
# The 20 settings are four appraisals up and down and twelve pairs of signs (pleasantness with each of the other three);
# the paper prints 14 of them. Self-agency up and down are added, because the paper's opening example is about it.
#
# ```{figure} ../drawings/push.svg
# :name: fig-drawing-push
#
# A push. One vector is added to the residual stream at the last token: the direction of an appraisal or, as a control, one of
# many random directions of equal length. Drawn at one layer; it is done in three. An appraisal's push tells something as
# far as it moves the answer otherwise than the random ones do.
# ```
#
# ## Where, how hard, and on which texts
#
# The paper's vectors are fitted on one half of the writers in the agreed set and judged on texts of the other half, a
# sample with the emotions as equal as they can be. Directions that predict and differences of means may learn from all
# texts by writers outside that other half, answered right or not. Lengths of pushes come in two units: $\beta$ as in the paper,
# which is absolute, and a share of the mean length of the residual stream at the layer, without which layers and models
# cannot be compared. The layer at which most is shown was chosen on texts of the fitting half, for directions as released
# and for ones that predict by their own scores, so the judged texts had no part in it.
#
# ## Do the vectors read what they are called?
#
# A direction of pleasantness should tell how pleasant an event was for a writer whom it has not seen. The paper's
# penalty, $\alpha = 5$ on raw activations, is the same for every model, layer and appraisal. Where it is too weak, the
# fit follows the noise of its own texts, and R² on unseen writers falls; below zero it predicts worse than the mean
# rating does. Pushing along such a vector says little of the appraisal (see the [errata](errata.ipynb), M18). The
# curves below show where that is so. Nor is it enough that a direction reads well: weights that read best among correlated activations
# also subtract what disturbs the reading {cite:p}`haufe2014`, and a push along them moves that as well. With a penalty
# chosen by cross-validation over writers, one for each layer and appraisal, and likewise with plain differences of
# means, the directions predict as far as the curves below say.

# %% tags=["hide-input"]
place, tuned, base = views.place(data), views.place(data, "tuned"), views.baseline(data)
n_layers, norm, dose = int(data["n_layers"].iloc[0]), place.norms, place.dose
where, texts = layer_number(place.centre), int(base["n"].iloc[0])
say(
    f"Judged on **{texts}** texts. Chosen centre: layer **{where}** of {n_layers} as released, layer "
    f"**{layer_number(tuned.centre)}** for directions that predict; the paper's depth is at layer "
    f"{layer_number(place.there)}. {views.centres_in_words(data, place)} At "
    f"layer {where} the residual stream is {norm[place.centre]:.0f} long, so that β = 4 is a share of {4 / norm[place.centre]:.3f} and a share of {dose:g} is β = {dose * norm[place.centre]:.1f}; over the "
    f"layers the length runs from {norm.min():.0f} to {norm.max():.0f}."
)
reads = views.what_is_read(data)
look = dict(hue="direction", panel="appraisal", ylabel="R² on unseen writers", ylim=(-1, 1), lines={"mean rating": 0.0})
figures.show(
    figures.depth_curves(reads, **look),
    name="fig-modulation-read",
    title=f"Best R² on unseen writers, over layers and appraisals: {figures.extremes(reads, 'direction')}",
    caption="R² of the ratings that each direction reads from the residual stream, on all texts by writers of the judged "
    "half, with 95% intervals over writers; below −1 not drawn. A difference of means reads by a line fitted where it was.",
    alt="R squared over layers in a panel for each appraisal: directions as released, ones that predict, differences of means.",
)

# %% [markdown]
# ## What the labels become, and who moves where
#
# The bars count labels; they hide which texts move. That is in the second figure, folded: for pleasantness, ribbons from
# the label that was to the one it becomes. The paper's figure of this kind is captioned layer 9 but was drawn at layer 10 (see the [errata](errata.ipynb)). Our sample has the
# emotions in more equal shares than the paper's agreed set, so compare each bar with its own baseline.

# %% tags=["hide-input"]
bars = views.label_bars(data, **place.at)
figures.show(
    figures.stacked_labels(bars, paper=views.label_bars(llama, **views.PAPER)),
    name="fig-modulation-labels",
    title=f"What gains most texts when pushed: {views.gains(bars)}",
    caption=f"Predicted labels under pushes along directions as released around layer {where}, each {dose:g} of the "
    "residual norm. The thinner bar below is of the paper's Llama 3.2 1B, around its layer 9 at β = 2 (its Figure 7).",
    alt="Pairs of stacked bars of predicted labels without push and for eight pushes, ours above the paper's.",
)
flows = views.pushed(data, views.SINGLE[:2], metric="flow", **place.at)
figures.show(
    label_flows(flows, before="no push", after="pushed"),
    name="fig-modulation-flow",
    title="Which labels change into which when pleasantness is pushed",
    fold=True,
    caption=f"Labels before and after a push of pleasantness, as released, around layer {where}, {dose:g} of the norm, "
    f"{texts} judged texts. Pale ribbons keep their label.",
    alt="Two flow diagrams of labels before and after pleasantness is pushed up and down.",
)

# %% [markdown]
# ## One push, by hand
#
# What the bars count, done once before your eyes in the smallest of the models, SmolLM2 135M. A direction for
# pleasantness is fitted on 52 events of ours: the mean activation of those rated pleasant minus that of the others. Scaled to a
# fifth of the stream's length, it is added to another event's residual stream, at the last token, in three
# neighbouring layers where it is seen to work. The same push follows as a plain [nnsight](https://nnsight.net) trace,
# and the two have to give the same scores. The last line makes the same push around every layer, as the curves of this
# chapter do.

# %% tags=["intervention"]
import torch

import emolib as el
from emolib.texts.corpus import EMOTIONS, load_corpus
from emolib.texts.prompts import get_prompt

small, events = el.load("smollm2-135m"), load_corpus("situations").events
fit, ask = events.groupby("emotion").head(4), get_prompt("T1-2shot")
read = el.Engine(small, [ask.render(text) for text in fit["text"]], answers=EMOTIONS).encode(read=["resid_post"])
stream, pleasant = read.activations["resid_post"][:, :, -1], torch.tensor(fit["pleasantness"].to_numpy() > 3)
direction = stream[:, pleasant].mean(1) - stream[:, ~pleasant].mean(1)
direction *= stream.norm(dim=-1).mean(1, keepdim=True) / direction.norm(dim=-1, keepdim=True)

event, layers = events["text"][185], (19, 20, 21)  # layers count from 0 in code
engine = el.Engine(small, [ask.render(event)], answers=EMOTIONS)
encoded, push = engine.encode(), el.Add(direction, 0.2)
edit = el.Edit(component="resid_post", layers=layers, operation=push)
scores = {"clean": encoded.logits[0], "more pleasant": engine.replay(encoded, [edit])[0, 0]}

with torch.no_grad(), small.lm.trace(**small.tokenizer(ask.render(event), return_tensors="pt")):
    for layer in layers:
        small.lm.model.layers[layer].output[:, -1] += 0.2 * direction[layer]
    by_hand = small.lm.lm_head.output[0, -1].save()

scores["the same in nnsight"] = by_hand[engine.answers]
torch.testing.assert_close(scores["more pleasant"], scores["the same in nnsight"], atol=1e-3, rtol=1e-3)
print(event, pd.DataFrame({name: [EMOTIONS[i] for i in s.topk(3).indices] for name, s in scores.items()}), sep="\n")
everywhere = engine.replay(encoded, el.sweep(push, small, components=["resid_post"], span=3))

# %% tags=["hide-input"]
figures.show(
    figures.depth_stacks(views.over_layers(data, place), panel="setting"),
    name="fig-modulation-layers",
    title="The labels under pushes around every layer, and under random directions",
    fold=True,
    caption=f"Predicted labels for a push of {dose:g} of the residual norm around each layer, as released, and two "
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
# expectation with the shift that is observed, $\log\frac{n_e + 1/2}{n^0_e + 1/2}$, from $-1$ to 1. Random directions of
# the same length at each layer, one direction in all layers of the window, say which scores mean nothing. They add up
# to the full length, fitted vectors only as far as they agree from layer to layer.

# %% tags=["hide-input"]
curves = views.by_depth(data, place)
above = views.above_random(curves)
figures.show(
    figures.depth_curves(
        curves,
        hue="what",
        panel="setting",
        paper=views.paper_by_depth(llama, list(curves["setting"].unique())),
        x="depth",
        ylabel="theory score",
        ylim=(-1, 1),
    ),
    name="fig-modulation-depth",
    title=f"Theory scores of single settings above the range of random directions: {above.sum()} of {len(above)}",
    fold=True,
    caption=f"Theory score around each layer, as released, for a push of {dose:g} of the norm, with 95% intervals over "
    "writers. Random: the mean of random directions, and the range in which 95% of new ones would lie; one in forty "
    "lies above it. Dashed: the paper's counts at β = 2, scored alike.",
    alt="Theory score over depth in six panels, fitted directions against random ones, with the paper's curve.",
)

# %% [markdown]
# At the chosen centre and the doses shown there are a hundred random directions. A single one can come out high against a single
# expectation, because thirteen labels are few and a strong push makes one label win. A mean over settings needs a null of
# its own, because the settings are not independent: opposite ones score alike by chance as well. For it, sets of random
# directions stand in for the directions of the appraisals, and settings are put together from them as from the fitted
# ones. Chance also reorders labels that few texts have, so a score from few texts is too low; the paper's counts, drawn
# down to as many texts as here, are therefore scored again at the end of this chapter.

# %% tags=["hide-input"]
mine = select(data, metric="theory_score", vector="raw", **place.at)
draws, length = select(data, **views.NULL, **place.at), views.lengths(data, place)
figures.show(
    figures.against_null(mine, draws, by="setting", xlabel="theory score"),
    name="fig-modulation-null",
    title=f"Theory scores as released: {plain(mine['value'].min(), '.2f')} to {plain(mine['value'].max(), '.2f')}; random "
    f"directions: {plain(draws['value'].min(), '.2f')} to {plain(draws['value'].max(), '.2f')}",
    fold=True,
    caption=f"Theory scores as released around layer {where}, {dose:g} of the norm, against "
    f"{draws['draw'].nunique()} random directions, each scored against the setting's expectation; the mean against "
    f"{(draws['setting'] == views.MEAN).sum()} sets of random directions. Over the window unit vectors add up to "
    f"{length['raw']:.2f} (as released) and {length['random']:.2f} (random).",
    alt="Theory score with interval for each setting over a cloud of scores of random directions.",
)

# %% [markdown]
# ## Directions that predict, against fair nulls
#
# Those random directions are unlike what a model meets: its activations vary along few directions, and a vector that
# points anywhere else is longer, in its own terms, than it looks. Two nulls are fairer to chance. One has the
# covariance of the activations: random sums of the activations of real events. The other is fitted as directions that
# predict are, with their penalties, to ratings that were handed to other writers. Both come in sets, from which
# settings are put together as from the fitted directions, and are brought to what those add up to over the window. A
# failure would be a mean score within their cloud.

# %% tags=["hide-input"]
acting = tuned._replace(centre=tuned.there)  # at the paper's depth, where the claims are judged and most sets are drawn
around, fair = f"layer {layer_number(acting.centre)}, {dose:g} of the norm", views.fair_nulls(data, acting)
pushes = select(data, metric="theory_score", vector="tuned", setting=[*views.SETTINGS, views.MEAN], **acting.at)
sets = select(fair, vector="matched_sets")
means = figures.extremes(select(pushes, setting=views.MEAN), "setting"), select(sets, setting=views.MEAN)["value"].max()
figures.show(
    figures.against_null(pushes, sets, by="setting", xlabel="theory score"),
    name="fig-modulation-fair",
    title=f"Theory score {means[0]}; the mean of a set of random directions reaches {means[1]:.2f} at most",
    caption=f"Theory scores of directions that predict around {around}, with 95% intervals, against {fair['draw'].nunique()} sets "
    "of random directions with the covariance of the activations and the same accumulated length.",
    alt="Theory score of directions that predict with interval for each setting over a cloud of scores of matched random directions.",
)
score = dict(xlabel="theory score", xlim=(-1, 1))
both = [acting, tuned] if tuned.centre != tuned.there else [acting]
pd.concat([views.robust(data, one) for one in both]).style.hide()

# %% [markdown]
# Around the layer of the paper's depth and, where it is another, around the one chosen for directions that predict. In
# parentheses, of directions the 95% interval over writers; of nulls, the range in which 95% of new sets would lie.
# *Against theory* is the share of the judged texts whose answer changes to a label of which theory expects fewer. It
# counts all judged texts, so a push that changes few answers has a low share as well: it is no test by itself.

# %% [markdown]
# ## Would it do to say so?
#
# Instead of a push, a plain sentence for each appraisal stands behind each judged event, up or down: "The event was
# pleasant.", "Nobody else was responsible for the event." Texts, scores and calibration are the same.

# %% tags=["hide-input"]
gain, means = views.beyond_saying(data, acting), select(data, metric="theory_score", settings="printed")
told = {way: select(means, vector=way).iloc[0] for way in ("prompted", "prompted_beyond_neutral")}
say(
    f"Saying so reaches a mean theory score of **{spoken(told['prompted'])}**, or "
    f"{spoken(told['prompted_beyond_neutral'])} beyond what any sentence does. The score of pushes around {around}, with "
    f"directions that predict, minus that of saying so is **{spoken(gain, '+.2f')}** on the same texts. Expectations from "
    f"people's ratings and from a meta-analysis have a mean rank correlation of {views.agreement(data):.2f}."
)
ways = views.pushed_and_said(data, acting)
figures.show(
    figures.interval_points(ways, by="setting", hue="way", **score),
    name="fig-modulation-said",
    title=f"Mean theory score: {figures.extremes(select(ways, setting=views.MEAN), 'way')}",
    caption=f"Theory score of pushes around {around}, with directions that predict, and of saying the same; 95% intervals.",
    alt="Theory scores by setting, of pushes, of sentences, and of sentences beyond what a neutral one does.",
)
views.instead(data, acting).style.hide()

# %% [markdown]
# Steering has a use of its own only where it does better than telling the model so; a failure is a score of pushes below
# that of sentences. Of the sentences none names an emotion. Others say nothing of appraisals ("The event took place.") and
# tell what any sentence does: *beyond* counts from the answers that follow as many of those. *By the meta-analysis* takes
# its expectations from outside of any corpus, the correlations of appraisals with emotions that {cite:t}`yeo2024` found over
# many studies of people. They know neither trust nor neutral, predictability with eight of the thirteen, and some numbers
# rest on a single study. *Labels moved* is the share of the texts by which the counts of labels differ from those before. In
# parentheses, of the two nulls the range in which 95% of new sets would lie, else 95% intervals.
#
# ## What else does a push move?
#
# A push of pleasantness may move all that the model makes of an event. Directions that predict, fitted on other writers,
# read all rated appraisals some layers behind the window, in standard deviations of the rating.

# %% tags=["hide-input"]
behind, reads = views.on_and_off(data, acting), layer_number(views.read_layer(data))
ends = (min(0.0, behind["ci_low"].min()), 1.05 * behind["ci_high"].max())
on, off = (select(behind, metric=metric, settings="printed").iloc[0] for metric in ("on_target", "off_target"))
say(
    f"Read at layer {reads}, behind pushes around {around}, what is pushed moves by **{spoken(on)}** standard deviations of "
    f"its rating in the direction of the push, and other appraisals by {spoken(off)} in size on "
    f"average, {off['value'] / on['value']:.2f} times as far. In people's ratings an appraisal that is pushed goes with the others by a "
    f"correlation of {views.in_people(data):.2f} in size, on average."
)
figures.show(
    figures.interval_points(behind, by="setting", hue="read", xlabel="standard deviations of the rating", xlim=ends),
    name="fig-modulation-beside",
    title=f"What is pushed moves by {on['value']:.2f} standard deviations of its rating, other appraisals by {off['value']:.2f}",
    fold=True,
    caption=f"What is read at layer {reads} behind pushes around {around}, with directions that predict; 95% intervals.",
    alt="By setting, how far the pushed appraisal is read to move, and the mean size by which all others are.",
)
views.moved_beside(data, acting).style.hide()

# %% [markdown]
# The table has the three appraisals that are read to move most beside what is pushed; in parentheses, how they go with it in
# people's ratings, a correlation turned as the push is. In people appraisals go together too: what is pleasant is not
# unpleasant. A failure is that what is pushed is not read to move in its direction, or no more than what was left alone.
#
# ## Which vector?
#
# The paper speaks of *unique* effects, with the other appraisals held fixed, but its code injects the raw sum. Holding
# all others fixed also takes unpleasantness out of pleasantness, its near opposite, and may leave little that means
# anything: the table says how much of the squared length is left.

# %% tags=["hide-input"]
kinds = views.by_vector(data, acting)
figures.show(
    figures.interval_points(kinds, by="setting", hue="direction", xlabel="theory score", xlim=(-1, 1)),
    name="fig-modulation-vectors",
    title=f"Mean theory score around layer {layer_number(acting.centre)}: "
    f"{figures.extremes(select(kinds, setting=views.MEAN), 'direction')}",
    fold=True,
    caption=f"Theory scores of five kinds of directions around {around}, 95% intervals.",
    alt="Theory scores of five kinds of directions for single appraisals and the mean of all settings.",
)
views.vectors_compared(data, llama, acting).style.format(precision=2, na_rep="–").hide()

# %% [markdown]
# *Agrees with the paper* is the rank correlation over labels between our shift and that of the paper's counts at its
# layer 9, averaged over settings, with the lowest and highest. *Kept* is the share of the squared length that
# projection leaves. *One layer* pushes there alone, a third of the total length.
#
# ## How hard?

# %% tags=["hide-input"]
found = views.by_dose(data, place)
means = select(found, setting=views.MEAN)
best = means.loc[means["value"].idxmax()]
say(
    "The paper gives lengths as β; shares of the stream's length are ours. Of the lengths tried as released around layer "
    f"{where}, **{best['push']}** has the highest mean theory score, {spoken(best)}. It lies within the interval of "
    f"{(means['ci_high'] >= best['value']).sum() - 1} of the {len(means) - 1} others."
)
theirs = views.paper_by_dose(llama, [*found["setting"].unique()])
look = dict(by="push", hue="setting", xlabel="theory score", xlim=(-1, 1), paper_model="Llama 3.2 1B")
figures.show(
    figures.interval_points(found, paper=theirs, **look),
    name="fig-modulation-dose",
    title=f"Mean theory score by length of push, around layer {where}: {figures.extremes(means, 'push')}",
    fold=True,
    caption=f"Theory score by length of push around layer {where}, as released, 95% intervals; diamonds: the paper's "
    "counts at its layer 9. A push that is too strong gives one label to all texts, and the order of the others is lost.",
    alt="Theory score by dose for pleasantness and other-agency up and down and for the mean of settings.",
)

# %% [markdown]
# ## Self-agency: the example of the paper's first figure
#
# The paper opens with two stories of a failed exam: where one did it oneself the emotion is guilt, where circumstances
# did it, sadness. Its text says the reverse, and no figure tests it. Pushed up, self-agency should turn sadness and
# anger into guilt and shame; pushed down, the other way round.

# %% tags=["hide-input"]
agency = views.beyond(data, views.AGENCY, place)
bars = {"no push": base} | views.pushed(data, views.AGENCY, metric="count", **place.at)
figures.show(
    figures.stacked_labels(bars),
    name="fig-modulation-self",
    title=f"Theory score of self-agency: {figures.extremes(agency, 'setting')}",
    fold=True,
    caption=f"Predicted labels when self-agency is pushed up or down around layer {where}, as released, {dose:g} of the norm.",
    alt="Stacked bars of predicted labels without push and with self-agency pushed up and down.",
)
counts = views.counted_together(bars, views.EXAMPLE)
seen, ahead = views.as_in_the_example(counts), agency["value"] > agency["limit"]
each = [f"{row['setting']} **{spoken(row)}**, limit {row['limit']:.2f}" for _, row in agency.iterrows()]
say(
    f"Changes that go as the example asks, however small, in the counts below: **{sum(seen)}** of {len(seen)}. Theory scores "
    f"above the limit, 99% of those of random directions: **{ahead.sum()}** of {len(ahead)}: {'; '.join(each)}. So the "
    f"example is {'' if all(seen) and ahead.all() else 'not '}seen here."
)
counts.rename_axis(index="push").reset_index().style.hide()

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on three claims: one pushed appraisal moves labels as theory says, in a middle band of layers only
# (C14); two combine as theory says (C15); random directions give no such pattern (C16). Labels are what moves here: no
# text is generated. Where directions as released and ones that predict part, the former say what the paper's code does at
# this number of texts, and the latter what pushing an appraisal does. Random directions shift labels too, so it is the pattern that
# counts, and a score of one setting that lies within the cloud of its random directions is no evidence. Vectors are judged
# on writers that they were not fitted on. A sentence is no dose: how hard it pushes is not in our hands, and another wording
# may push harder. Directions that read what was moved are of the kind that was pushed, so part of what they read is the push
# itself, carried along by the stream.

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
few = pd.Series(paper_tables.thinned_scores(texts, **views.PAPER))
theirs = views.paper_by_dose(llama, [views.MEAN]).set_index("dose")["value"]
own, read = (
    select(data, metric="theory_score", settings="printed", vector=kind, **acting.at).iloc[0]
    for kind in ("raw", "tuned")
)
beyond = views.beyond(data, views.SETTINGS, acting)
say(
    f"Mean theory score of the paper's {len(views.SETTINGS)} settings, around {around}, at the paper's depth:\n\n"
    f"- along directions that predict: **{spoken(read)}**\n"
    f"- as released: {spoken(own)}; settings beyond 99% of the random directions: "
    f"{(beyond['value'] > beyond['limit']).sum()} of {len(beyond)}\n"
    f"- of the paper's counts, layer 9 and β = 2: {theirs[2]:.2f}; of so many of its texts as here, {texts}: "
    f"{few.mean():.2f} ({few.quantile(0.025):.2f} to {few.quantile(0.975):.2f})"
)
say(claims.chapter_verdicts("09_modulation", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** [Promotion](D_promotion.ipynb) pushes along the directions of emotions themselves; [Robustness](C_robustness.ipynb) asks
# whether prompt, split and question matter; the [Discussion](10_discussion.ipynb) puts everything together.
