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
# # 7 Appraisals: are the reasons for an emotion there too?
#
# **Question.** Do the activations tell how the writer judged the event, and do they add anything to the emotion's name?

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
from emolib.experiments import appraisals
from emolib.experiments.appraisals import views
from emolib.figures import readable, say, spoken
from emolib.paper import claims, ladder
from emolib.study.freshness import measured, reference_table
from emolib.study.run import Run
from emolib.tables.provenance import absent, footer
from emolib.tables.results import select

run = Run.of(globals())
data, reference = measured(run, appraisals), reference_table(run, appraisals)
lacking = absent(data.attrs["provenance"])

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
known, added = (ladder.model_by_model(run, appraisals, view) for view in (views.most_read, views.beyond_label))
counts = (added["ci_low"] > 0).groupby(added["run"], sort=False).agg(["sum", "size"])
shares = [f"{more} of {every}" for more, every in counts.to_numpy()]
top = added.drop_duplicates("run")
say(
    f"Pleasantness is read with $R^2$ {ladder.listed(known)}. Beside the emotion's name the activations still add something "
    f"about this many appraisals: {ladder.in_words(counts.index, shares)}. (Alone they need not beat the name: see *Verdict*.) The largest share that they explain of what the name leaves open "
    f"is {ladder.listed(top)}."
)
rated, never = (find(run, appraisals, views.by_appraisal) for find in (ladder.model_by_model, ladder.untrained))
look = dict(hue="appraisal", panel="run", x="depth", ylabel="held-out $R^2$", lines={"the mean rating": 0})

# %% tags=["hide-input"]
figures.show(
    figures.depth_curves(rated, twin=never, **look),
    name="fig-appraisals-models",
    title=f"Pleasantness is read with R² {figures.extremes(known, 'run')}",
    caption="How much of writers' ratings of six appraisals a linear probe of the residual stream predicts, in each model, "
    "on all events by writers it has not seen.",
    alt="R2 of six appraisals over depth, a panel for each model.",
)
if lacking:
    say(lacking)
ladder.badges(run, "07_appraisals")

# %% [markdown]
# ## What an appraisal is
#
# *Appraisals* are the judgements from which emotions arise: was it pleasant, sudden, foreseeable, whose doing was it? The
# writers of crowd-enVENT rated 21 of them from 1 to 5 for their own event {cite:p}`troiano2023`. A linear probe predicts
# such a rating from the activation $x$ of one site (equation E6 of section 7, {cite:t}`tak2025`),
#
# $$\hat r_a = v_a^\top x + b_a,\qquad \min_{v,b}\ \sum_i (r_{a,i} - \hat r_{a,i})^2 + \alpha\lVert v_a\rVert^2,$$
#
# and is judged by $R^2$ on events it has not seen: 1 is perfect, 0 is no better than the mean rating, below 0 is worse.
# There is a catch. Joyful events *are* pleasant, so a probe that found only the emotion would predict pleasantness well.
# More than the emotion's name is there as far as name and activations together predict better than the name alone. What
# that is remains open: it may be the appraisal, or how strong the emotion was.
#
# ## As the paper did it
#
# Raw features, $\alpha = 5$, the agreed set (the events that the model names as their writer did), four fifths to train
# and one to test. The paper shows six appraisals. *Label only* predicts, for the very same test events, the mean rating
# that their emotion has in the training events: what a probe would reach that knew the emotion and nothing else.

# %% tags=["hide-input"]
look = dict(panel="appraisal", x="depth", ylabel="held-out $R^2$", lines={"the mean rating": 0})
if views.has_released(data):
    curves = views.released(data)
    limits = (min(-0.1, curves["value"].min() - 0.05), max(0.75, curves["value"].max() + 0.05))
    figures.show(
        figures.depth_curves(curves, paper=views.published("appraisal_probe"), ylim=limits, **look),
        name="fig-appraisals-released",
        title=f"Best R² as released: {figures.extremes(curves, 'component')}",
        fold=True,
        caption=f"Held-out $R^2$ of six appraisal probes as released, and of the emotion label alone, on the same "
        f"{curves['n'].iloc[0]} test events of the agreed set, 95% intervals over writers. Dashed: the probes of the "
        "paper's Llama 3.2 1B (its Figure 29).",
        alt="R2 over depth in six panels, one an appraisal, for each component, ours and the paper's, and for the label alone.",
    )
else:
    say("(not measured): too few texts are answered right, as *In short* says.")

# %% tags=["hide-input"]
best = views.best_released(data).rename(index=readable, columns=views.BEST)
say("The best $R^2$ of any site, beside that of the label alone on the same events, and beside the paper's best:")
best.style.format("{:.2f}", na_rep="(not measured)")

# %% [markdown]
# ## All events, and what the label alone explains
#
# Now the probes see all events, standardised features, and an $\alpha$ for each appraisal and fold that was chosen on the
# other folds; all events of a writer stay in one fold. *Label only* knows nothing but the emotion that the writer named:
# it predicts the mean rating which events of that emotion have in the other folds. *Shuffled* is the control: ratings handed to
# other writers ([](05_probing.ipynb) does the same with labels).

# %% tags=["hide-input"]
curves = views.ours(data)
behind = None if reference is None else views.ours(reference).query("source == 'residual stream'")
figures.show(
    figures.depth_curves(curves, hue="source", panel="appraisal", ylabel="held-out $R^2$", x="depth", reference=behind),
    name="fig-appraisals-ours",
    title=f"Best R²: {figures.extremes(curves, 'source')}",
    fold=True,
    caption=f"Held-out $R^2$ in the residual stream, all {curves['n'].iloc[0]:,} events, five folds grouped by writer, "
    "95% intervals; what the writer's label alone explains, on the same events; and probes of shuffled ratings.",
    alt="R2 over depth in six panels: probes by layer, the flat line of the label, and shuffled ratings near zero.",
)

# %% [markdown]
# A probe can lose against the label's line and still know something that the label does not say. The *partial* $R^2$ asks
# exactly that: of what the label leaves unexplained, which share do the activations explain when label and activations
# predict together, $(R^2_\text{both} - R^2_\text{label}) / (1 - R^2_\text{label})$?

# %% tags=["hide-input"]
beyond, where = views.beyond_label(data), layer_number(views.best_layer(data))
figures.show(
    figures.interval_points(beyond, by="appraisal", xlabel="partial $R^2$ beyond the label", lines={"nothing": 0}),
    name="fig-appraisals-partial",
    title=f"Activations add to what the label says of {(beyond['ci_low'] > 0).sum()} of {len(beyond)} appraisals",
    caption=f"Share of the variance left by the label that the residual stream after layer {where} explains, "
    "for all 21 appraisals, 95% intervals. The layer is the one with the highest mean $R^2$.",
    alt="Points with intervals for 21 appraisals, ordered by how much the activations explain beyond the emotion label.",
)
say(
    f"After layer {where} the activations add to the label for **{(beyond['ci_low'] > 0).sum()} of {len(beyond)}** "
    f"appraisals (interval above 0), most for {readable(beyond['appraisal'].iloc[0])} ({beyond['value'].iloc[0]:.2f}). The "
    "verdict below looks elsewhere, for each appraisal where its probe as released reads best, so its shares can differ."
)

# %% [markdown]
# ## Beside human readers
#
# How much of a rating can be in a text at all? Where the corpus has readers, five people rated each of 1,200 events as
# they thought the writer would. Their $R^2$ is the squared correlation with the writer's rating, that is, what the best
# straight line through the readers' ratings explains. The line is fitted to the same ratings that it is judged by, so
# the readers' value is, if anything, too high; the probe's is not, being held out. Readers are a mark to compare with,
# not a ceiling. Probe and readers are compared on the same texts.

# %% tags=["hide-input"]
human = views.beside_readers(data)
if human.empty:
    say("(not measured): nobody but the writers rated these events.")
else:
    few = select(human, appraisal=list(views.NAMED))
    figures.show(
        figures.interval_points(few, by="appraisal", hue="source", xlabel="$R^2$", lines={"the mean rating": 0}),
        name="fig-appraisals-readers",
        title=f"Best R² of six appraisals: {figures.extremes(few, 'source')}",
        fold=True,
        caption=f"How much of the writer's rating is predicted, on the same texts, by a probe of the residual stream after "
        f"layer {where}, by one reader and by the mean of five readers; 95% intervals.",
        alt="Points with intervals for six appraisals: the probe, one reader, and the mean of five readers.",
    )
    say(views.against_readers(data))

# %% [markdown]
# ## What an emotion looks like in appraisals
#
# The mean ratings of six emotions: theory shows in people before it can show in a model. The paper draws the agreed set,
# which may sharpen the profiles, if events that the model names correctly are the typical ones. Both are drawn here.

# %% tags=["hide-input"]
shown, gaps = views.profiles(data), views.set_gaps(data)
figures.show(
    figures.radar(shown, paper=views.published("appraisal_profile")),
    name="fig-appraisals-profile",
    title=f"Events that the model names right differ from all by {gaps.mean():.2f} points of rating on average"
    if len(gaps)
    else f"Mean ratings of {shown['emotion'].nunique()} emotions by their writers",
    caption="Mean ratings by the writers, 1 in the centre to 5 outside: foreseen (predictability), pleasant, other's doing "
    "(other-agency), sudden, unpleasant, own doing (self-agency). Solid: events that the model names as the writer "
    "did; dotted: all events; dashed: the agreed set of the paper's Llama 3.2 1B (its Figure 5).",
    alt="Six radar charts, one an emotion, with six appraisals each, on the agreed set, on all events, and in the paper.",
)
if len(gaps):
    say(
        f"Agreed set and all events differ by {gaps.mean():.2f} points on average, by {gaps.max():.2f} at most "
        f"({gaps.idxmax()[0]}, {readable(gaps.idxmax()[1])})."
    )

# %% [markdown]
# ## From appraisals to the emotion
#
# If appraisals make emotions, the ratings alone should name the emotion. A logistic regression on the writers' 21
# ratings is a yardstick for theory; on the 21 *probed* ratings it shows how much of the emotion can be read along their
# directions, compared with a probe of the whole activation. Probed ratings can name it better than the ratings
# themselves: what lies along a direction may be emotion that is no appraisal.

# %% tags=["hide-input"]
named = views.emotion_named(data)
deep = named[named["layer"].notna()]
figures.show(
    figures.depth_curves(deep, hue="source", x="depth", ylabel="balanced accuracy", lines={"chance": 1 / 13}),
    name="fig-appraisals-emotion",
    title=f"Emotion named with a balanced accuracy of {figures.extremes(deep, 'source')}",
    fold=True,
    caption="Balanced accuracy of the emotion named from the 21 probed ratings and from the residual stream, by layer. "
    "Folds grouped by writer, 95% intervals.",
    alt="Balanced accuracy over depth for probed ratings, activations and shuffled labels.",
)

# %% tags=["hide-input"]
best = named.sort_values("value").drop_duplicates("source", keep="last").set_index("source")
own, six, passed, whole = (
    spoken(best.loc[source], ".0%")
    for source in ("all 21 ratings", "the six of the paper", "probed ratings", "residual stream")
)
say(
    f"The writers' own 21 ratings name the emotion with a balanced accuracy of **{own}**, the paper's six of them with "
    f"{six}; chance is {1 / 13:.0%}. At the best layer the 21 probed ratings reach **{passed}**, a probe of the whole "
    f"activation **{whole}**."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C12: appraisals are linearly decodable from the middle on. The paper adds that they are
# strong *towards the end*; whether $R^2$ falls again after its peak is therefore tested. The highest point of a curve
# lies above its end by chance alone. So the peak is looked for on one half of the writers, and the fall from there to
# the last layer is measured on the other half; then the halves change places. The *best* of many sites is chosen on the
# events it is reported for, and is therefore optimistic: an interval that excludes zero there is weak evidence, and the
# figure of partial $R^2$ above, of one layer for all appraisals, the better one. A probe reads what can be read. That the
# model *uses* an appraisal is the question of the chapter on [modulation](09_modulation.ipynb).

# %% tags=["hide-input"]
peak, fall = views.peak_and_fall(data)
say(
    f"By our probes the six appraisals are read best at depth {peak['value'].min():.2f} to {peak['value'].max():.2f} of the "
    f"residual stream. From there to the last layer at most {spoken(fall.iloc[0])} of $R^2$ is lost "
    f"({readable(fall['appraisal'].iloc[0])}). In the last layer $R^2$ is below zero "
    f"{views.lost_at_the_end(data)}. Ours differ in their features, which are standardised, in their penalty, which is "
    "chosen, and in their events, which are all."
)

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("07_appraisals", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** Appraisals and emotions can both be read; [Geometry](08_geometry.ipynb) asks whether their directions stand to each other
# as the theory says.
