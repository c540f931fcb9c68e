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
# # 8 Geometry: do directions lie as theory says?
#
# **Question.** Does the direction of an emotion in the residual stream point where appraisal theory says, towards
# pleasantness for joy, towards the doing of others for anger?

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
from emolib import figures
from emolib.engine.sites import layer_number
from emolib.experiments import geometry
from emolib.experiments.geometry import views
from emolib.figures import say, spoken
from emolib.paper import claims, ladder
from emolib.study.freshness import measured, reference_table
from emolib.study.run import Run
from emolib.tables import paper
from emolib.tables.provenance import absent, footer
from emolib.tables.results import select

run = Run.of(globals())
data, reference = measured(run, geometry), reference_table(run, geometry)
lacking = absent(data.attrs["provenance"])

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
right, beyond, late = (
    ladder.model_by_model(run, geometry, view) for view in (views.early_signs, views.beyond_construction, views.faded)
)
never, above = (ladder.untrained(run, geometry, view) for view in (views.early_signs, views.beyond_construction))
probes, means = (select(late, name=name) for name in ("probe", "mean difference"))
say(
    "- *Do they point there?* Pairs of probes with the sign that people's ratings of the same events give, on average over early layers: "
    f"{ladder.in_words(right['run'], right['shown'])}{ladder.in_untrained(never)}. Of the pairs "
    f"whose rating has a clear sign: {ladder.in_words(right['run'], right['clear'])}.\n"
    "- *More than the method gives by construction?* Layers in which the interval lies wholly above the range that the method gives: "
    f"{ladder.in_words(beyond['run'], beyond['shown'])}{ladder.in_untrained(above)}.\n"
    "- *Do they become orthogonal?* Late cosines as a multiple of early ones, below 1 where they fade, between probes: "
    f"{ladder.listed(probes)}; between plain differences of means: {ladder.listed(means)}."
)

# %% tags=["hide-input"]
lines, twin = (find(run, geometry, views.aligned) for find in (ladder.model_by_model, ladder.untrained))
look = dict(hue="kind", panel="run", x="depth", ylabel="alignment with theory", lines={"none": 0})
figures.show(
    figures.depth_curves(lines, twin=twin[twin["kind"] == "measured"], **look),
    name="fig-geometry-models",
    title=f"Layers with alignment wholly above that by construction: {' and '.join(beyond['shown'] + ' (' + beyond['run'] + ')')}",
    caption="How far the directions of six emotions point along those of two appraisals as people's ratings say that they "
    "should, in each model: mean over twelve pairs, as measured, and when labels and ratings are handed to other writers "
    "together, which is what the method gives by construction. 95% intervals, or the range of 95% of the draws.",
    alt="Alignment over depth, measured and by construction, a panel for each model.",
)
if lacking:
    say(lacking)
ladder.badges(run, "08_geometry")

# %% [markdown]
# ## Which directions are compared
#
# A probe is also a direction. With $v_a$ the weights of appraisal $a$ and $w_e$ those of emotion $e$, the paper compares
# them by their cosine at every layer (equation E7 of section 8, {cite:t}`tak2025`),
#
# $$\operatorname{sim}(a, e) = \frac{v_a^\top w_e}{\lVert v_a\rVert\,\lVert w_e\rVert},$$
#
# and finds early directions aligned as theory says, late ones orthogonal. Weights of a classifier, though, depend on how
# it was fitted. We therefore compute three further pairs of directions, from the covariance
# $c_y = \operatorname{cov}(x, y)$ of the activations with the label or the rating $y$, and from the covariance $\Sigma$
# of activations within emotions:
#
# | vector | direction | what it is |
# |---|---|---|
# | probe | $w_e$, $v_a$ | the paper's: a classifier that reads the emotion, a regression that reads the rating; agreed set |
# | mean difference | $c_y$ | how the activation changes with $y$; for an emotion, its mean minus the mean of all; all events |
# | whitened | $\Sigma^{-1/2} c_y$ | the same where all directions vary equally, so that a few large ones do not decide |
# | LDA | $\Sigma^{-1} c_y$ | linear discriminant analysis: what best reads $y$ out; all events |
#
# ## The paper's plane
#
# The paper's figure has the cosine with pleasantness across and that with other-agency (it was another person's doing)
# upwards. Each emotion walks from its first layer (ring) to its last (dot). How far chance alone would take
# them is drawn with the curves below.

# %% tags=["hide-input"]
signs = views.expected_signs(data)
shares = signs[views.drawn(data)].mean()
each = shares.map("{:.0%}".format) + " (" + shares.index + ")"
figures.show(
    figures.paths(views.walks(data), x=geometry.PLANE[0], y=geometry.PLANE[1]),
    name="fig-geometry-paths",
    title=f"Early cosines with the sign of people's ratings: {', '.join(each)}",
    caption="Cosines of six emotion directions with pleasantness (across) and other-agency (up), residual stream, first "
    "layer (ring) to last (dot). First panel: the paper's values (its Figure 6).",
    alt="Four panels of paths over layers: the paper's probes, ours, mean differences and whitened directions.",
)

# %% [markdown]
# ## The twelve curves
#
# What sign should each cosine have? We take it from the people: an emotion whose mean rating of an appraisal lies above
# the mean of the thirteen emotions should point along it, one below against it. Bands are 95% intervals over writers,
# from a jackknife that leaves out one group of writers at a time. How far can a cosine lie from zero by chance? For
# *ratings shuffled* the ratings go to other writers and the appraisals' directions are fitted again; a cosine within
# that band says nothing.

# %% tags=["hide-input"]
look = dict(hue="appraisal", panel="emotion", x="depth", ylabel="cosine", ylim=(-0.8, 0.9), lines={"orthogonal": 0})
if "probe" in views.kinds(data):
    curves = views.probe_curves(data)
    sizes = curves[curves["appraisal"] != "ratings shuffled"]
    sizes = sizes.assign(value=sizes["value"].abs())
    figures.show(
        figures.depth_curves(curves, paper=paper.values("geometry"), **look),
        name="fig-geometry-curves",
        title=f"Largest size of a cosine: {figures.extremes(sizes, 'appraisal')}",
        fold=True,
        caption="Cosine of probe directions by depth, 95% intervals. Ratings shuffled: mean and the range of 95% of the draws, "
        "of both appraisals together. Dashed: the paper's Llama 3.2 1B.",
        alt="Six panels, one an emotion: cosines with two appraisals over depth, ours, the paper's, and with shuffled ratings.",
    )
else:
    say("(not measured): too few texts are answered right, as *In short* says.")

# %% tags=["hide-input"]
say(
    "Mean over the pairs, in the first and in the second half of the layers: how far from zero shuffled ratings reach, and "
    "how often ours lie beyond:"
)
views.reach(data)

# %% tags=["hide-input"]
clear = signs[signs["clear"]][shares.index].mean()
say(
    "How far the emotion's mean rating lies from that of all emotions, in brackets where its interval includes zero, so that "
    "the sign is not clear; and the share of early layers in which the cosine has that sign. Over the "
    f"{signs['clear'].sum()} clear pairs of {len(signs)}: {', '.join(clear.index + ' ' + clear.map('{:.0%}'.format))}."
)
views.signs_in_words(data)

# %% [markdown]
# ## Is it the model, or the data?
#
# Right signs look convincing, but labels and ratings are correlated in people: joyful events *are* rated pleasant. Two
# directions fitted on the same events share the accidents of those events, and so align in proportion to that
# correlation *even where the activations know nothing*. *Alignment* is the mean of the twelve cosines, each times its
# expected sign; three comparisons stand beside it.
#
# - **Ratings shuffled**: the ratings go to other writers, the labels stay. Nothing should align.
# - **Both shuffled**: labels and ratings go to other writers *together*. The activations know nothing of either; what
#   remains is what the method gives by construction. It is no floor: what is measured can lie below it.
# - **Two halves**: the emotions' directions come from one half of the writers, the appraisals' from the other, so that they
#   share no accident. What remains is in the activations. It may still be emotion rather than appraisal: ratings go with
#   labels in either half, so a direction that carries nothing but the emotion would align as well. Noise in both
#   directions makes these cosines smaller, never larger.

# %% tags=["hide-input"]
rows = views.alignment(data)
behind = None if reference is None else views.alignment(reference).query("kind in ['measured', 'two halves']")
look = dict(hue="kind", panel="panel", x="depth", ylabel="alignment with theory", lines={"none": 0})
figures.show(
    figures.depth_curves(rows, reference=behind, **look),
    name="fig-geometry-alignment",
    title=f"Highest alignment from two halves of the writers: {figures.extremes(select(rows, kind='two halves'), 'panel')}",
    fold=True,
    caption="Mean over twelve pairs of the cosine times its expected sign, residual stream. Measured: 95% interval over "
    "writers; two halves: mean and interval from random splits; shuffled: mean and the range of 95% of the draws.",
    alt="Alignment over depth for three kinds of vectors: measured, from two halves of the writers, and two shuffles.",
)

# %% tags=["hide-input"]
say(
    "Alignment in the first and in the second half of the layers, measured and from two halves of the writers; in how many "
    "layers the measured one lies beyond both shuffled (interval against range), and that of two halves above 0:"
)
views.alignment_by_half(data)

# %% [markdown]
# ## Do the directions become orthogonal?
#
# The paper's cosines fade after the middle. That may be the model, or the classifier: when classes are easy to tell, a
# weakly penalised classifier is free to turn away from the direction in which their means differ. If the fade is the
# model's, all kinds of vectors must show it, also on the same events (*agreed set*).

# %% tags=["hide-input"]
fading, late = views.fading(data), views.faded(data)
look = dict(by="name", hue="ratio", xlabel="ratio of the mean sizes of the cosines", lines={"no change": 1})
figures.show(
    figures.interval_points(fading, paper=views.published_fading(), paper_model="Llama 3.2 1B", **look),
    name="fig-geometry-fade",
    title=f"Late size of the cosines as a multiple of the early one: {figures.extremes(late, 'name')}",
    caption="Size of the twelve cosines in the last quarter of the layers over that in the first half, and after the "
    "middle over that in the middle, where the paper's halve; 95% intervals. Diamonds: the paper's.",
    alt="Points with intervals for seven kinds of vectors, two ratios each, the paper's, and the level of no change.",
)
size = select(data, metric="cosine_random_sd")["value"].item()
say(f"For scale: two random directions of this model have cosines with a standard deviation of {size:.3f}.")

# %% [markdown]
# ## In space
#
# A third appraisal, self-agency (it was my own doing), separates emotions that share the other two. Whitened directions,
# at the layer where the emotions take up the largest share of the variance.

# %% tags=["hide-input"]
where = layer_number(views.clearest_layer(data))
figures.show(
    figures.space(views.corner(data), axes=views.CORNER),
    name="fig-geometry-space",
    title=f"Directions of {views.corner(data)['emotion'].nunique()} emotions in three appraisals, after layer {where}",
    fold=True,
    caption=f"Cosines of the emotions' whitened directions with three appraisals after layer {where}; the plane is at "
    "self-agency 0.",
    alt="Three-dimensional view: emotions as points on stems above or below the plane of pleasantness and other-agency.",
)

# %% [markdown]
# ## Where the emotions lie
#
# Without any appraisal: take the mean activation of each emotion, and look for the directions in which these thirteen
# centroids differ most (principal component analysis). If the first is *valence*, pleasant against unpleasant, the
# coordinates follow the people's ratings (pleasantness minus unpleasantness).

# %% tags=["hide-input"]
spots, shares = views.emotion_places(data)
figures.show(
    figures.emotion_map(
        spots, xlabel=f"first component ({shares[0]:.0%} of the variance)", ylabel=f"second component ({shares[1]:.0%})"
    ),
    name="fig-geometry-map",
    title=f"The first component holds {shares[0]:.0%} of what tells the emotions apart, the second {shares[1]:.0%}",
    fold=True,
    caption="Centroids of the thirteen emotions on their first two principal components, whitened residual stream after "
    f"layer {where}. Signs are chosen so that pleasant emotions are to the right.",
    alt="A map of thirteen emotions on two principal components.",
)

# %% tags=["hide-input"]
rows, look = views.valence(data), dict(hue="kind", panel="panel", x="depth", ylabel="|r| with valence", ylim=(0, 1))
figures.show(
    figures.depth_curves(rows, **look),
    name="fig-geometry-valence",
    title=f"First component with valence, highest |r|: {figures.extremes(select(rows, kind='measured'), 'panel')}",
    fold=True,
    caption="Correlation over thirteen emotions of the first component with rated valence (its sign is free). Measured: 95% "
    "interval over writers; shuffled labels: mean and the range of 95% of the draws.",
    alt="Correlation of the first component with valence over depth, raw and whitened, with the shuffled null.",
)

# %% tags=["hide-input"]
here = select(data, vector="whitened", layer=views.clearest_layer(data))
r, p = (select(here, metric=metric).iloc[0] for metric in ("pc1_valence", "pc1_valence_p"))
settled, spread = (ladder.model_by_model(run, geometry, view) for view in (views.valence_settles, views.spread_between))
say(
    "The first component of the raw centroids follows valence, beyond what shuffled labels give, in every layer from this "
    f"depth on: {ladder.listed(settled)}. Share of the variance of the activations that lies between emotions in the last "
    f"layer: {ladder.listed(spread, '.0%')}. "
    f"After layer {where}, whitened: |r| = **{spoken(r)}**, p = {p['value']:.4f} when valence is permuted over the emotions."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C13: directions align as theory says in early layers and fade to zero. Cosines of directions
# that were fitted on the same events cannot carry that claim alone: only what is left between two halves of the writers
# is more than shared accidents of the events, only what an untrained twin lacks is learnt, and whether that is appraisal or
# emotion a cosine does not tell: [chapter 7](07_appraisals.ipynb) asks
# what the activations know beyond the label. A cosine also says nothing about use; that is the question of the chapter on
# [modulation](09_modulation.ipynb). The verdict below counts early layers only and asks less of each: that the difference,
# with its interval, is above zero.

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("08_geometry", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** Directions that lie as the theory says need not act so: [Modulation](09_modulation.ipynb) pushes activations along them.
