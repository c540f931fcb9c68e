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
# # 6 Patching: what carries the answer?
#
# **Question.** If an activation of one event is put in place of another event's, does the model give the first one's
# emotion?
#
# Probes show what can be read from a component, not what the model makes of it. *Activation patching* intervenes: while
# the model answers a *base* event, the activation $x_t^{(l)}$ of one component at layer $l$ and token $t$ is overwritten
# by the one a *source* event with another emotion has there (§6, {cite:t}`tak2025`),
#
# $$x_t^{(l)} \leftarrow \hat x_t^{(l)},$$
#
# and the rest of the network runs on. The outcome is *transferred* when the answer becomes the source's, *kept* when it
# stays the base's, and *neither* otherwise. A window of three layers overwrites a layer and its two neighbours at once.
# Tokens are counted from the end of the prompt; -1 is the colon after "Answer", where the model must speak.

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
from emolib.experiments import patching
from emolib.figures.display import say
from emolib.figures.outcomes import outcome_stacks
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
data, reference = study.measure(patching), study.reference(patching)

# %% [markdown]
# ## Pairs
#
# The paper draws 200 pairs anew for every layer and site. Here one set of pairs serves all sites, so that two sites
# differ by what is patched and by nothing else. Events the model answers right, the emotions as equally frequent as
# possible, are matched in rounds (`emolib.stats.pairs.matchings`): in a round every event has one partner of another emotion
# and another writer, gives its activation to it and takes its partner's. Every pair is thus used in both directions.

# %% tags=["hide-input"]
main = data[
    (data["position"] == "-1") & (data["condition"] == "") & data["metric"].isin(["transfer", "kept", "neither"])
]
if reference is not None:
    last = reference["layer"].max() + 1
    reference = reference.assign(n_layers=last, depth=(reference["layer"] + 1).astype(float) / last)
counts, n = select(data, metric="pair_count"), main["n"].iloc[0]
say(
    f"This run has **{n:,} pairs**. Each of the {len(counts)} ordered pairs of emotions occurs "
    f"{counts['value'].min():.0f} to {counts['value'].max():.0f} times."
)

# %% [markdown]
# Two pairs that share a writer, be it of the base or of the source, are not independent. The intervals of shares are
# Wilson's with the number of pairs divided by a design effect that counts all such ties
# (`emolib.stats.pairs.share_interval`); ignoring the source would make them too narrow.
#
# ## One layer
#
# What can a single layer carry? Shading around the edges marks the 95 % intervals of the share transferred, from below,
# and of the share kept, from above.

# %% tags=["hide-input"]
single, llama = select(main, span=1), dict(model=paper.DETAILED.id, prompt="T1-2shot", position="-1")
theirs = paper.values("patching", span=1, **llama)
behind = (
    None
    if reference is None
    else select(reference, span=1, position="-1", condition="", metric=["transfer", "kept", "neither"])
)
figures.show(
    outcome_stacks(single, n_layers=study.model.n_layers, paper=theirs, reference=behind),
    name="fig-patching-single",
    caption=f"Outcome of patching one layer at the last token, {n:,} pairs, 95 % intervals. Dashed, for attention only: "
    "the paper's Llama 3.2 1B (its Figure 17), from below the share transferred, from above the share kept.",
    alt="Shares of transferred, neither and kept over depth in panels for attention, feed-forward and residual stream.",
)

# %% [markdown]
# ## Three layers, as in the paper
#
# For attention and feed-forward outputs a window adds up what its layers contribute. For the residual stream it adds
# nothing: each overwrite replaces all that came before, so only the last layer of the window counts. Plotted at its
# centre, as in the paper, the stream's curve lies one layer too early (two, with windows of five). Everything about the
# stream, ours and the paper's, is therefore drawn at the **last overwritten layer**.

# %% tags=["hide-input"]
triple, theirs = select(main, span=3), paper.values("patching", span=3, **llama)
stream = theirs["component"] == "resid_post"
theirs = theirs.assign(
    layer=theirs["layer"].mask(stream, theirs["last_layer"]), depth=theirs["depth"].mask(stream, theirs["last_depth"])
)
figures.show(
    outcome_stacks(triple, n_layers=study.model.n_layers, paper=theirs),
    name="fig-patching-three",
    caption=f"Outcome of patching three neighbouring layers at the last token, {n:,} pairs, 95 % intervals, at the "
    "centre of the window for attention and feed-forward and at its last layer for the stream. Dashed: the paper's Llama "
    "3.2 1B (its Figure 16, 200 pairs).",
    alt="Shares of transferred, neither and kept over depth for windows of three layers, the paper's edges dashed.",
)

# %% tags=["hide-input"]
shares = main[main["component"] == "resid_post"].merge(
    single, on=["component", "layer", "metric"], suffixes=("", "_single")
)
wide = shares[shares["span"] > 1]
apart = (wide["value"] - wide["value_single"]).abs()
say(
    f"Measured, not assumed: over {len(wide)} shares of windows of three and five layers in the stream, the largest "
    f"difference to patching the last layer alone is **{apart.max():.4f}**, that is {(apart * wide['n']).max():.0f} of "
    f"{n:,} pairs. {(apart == 0).sum()} of the {len(wide)} shares are equal."
)

# %% [markdown]
# In exact arithmetic every difference would be zero. A computer rounds, and differently when the same number is reached
# by another way; a pair whose two best labels are nearly tied may then flip.
#
# ## Does a wider window transfer more?
#
# More layers must transfer at least about as much. What matters is whether the place stays the same.

# %% tags=["hide-input"]
spans = main[main["component"] == "attn_out"]
theirs = pd.concat([paper.values("patching", component="attn_out", span=span, **llama) for span in (1, 3, 5)])
figures.show(
    outcome_stacks(spans, panel="span", n_layers=study.model.n_layers, paper=theirs),
    name="fig-patching-spans",
    caption="Outcome of patching attention outputs in windows of one, three and five layers, at the centre of the "
    "window, 95 % intervals. Dashed: the paper's Llama 3.2 1B (its Figure 17).",
    alt="Shares of transferred, neither and kept over depth for attention in windows of one, three and five layers.",
)
best = spans[spans["metric"] == "transfer"].sort_values("value").groupby("span").tail(1).sort_values("span")
say(
    "Attention transfers most: "
    + "; ".join(
        f"window of {row.span} around layer {layer_number(row.layer)}, **{row.value:.2f}** ({row.ci_low:.2f} to "
        f"{row.ci_high:.2f})"
        for row in best.itertuples()
    )
    + "."
)

# %% [markdown]
# ## Which token?
#
# The same at the four tokens before the last. The last layers cannot transfer anything there, because no later layer
# carries it to the last token.

# %% tags=["hide-input"]
shown = select(data, metric="transfer", condition="")
wanted = 3 if (shown[shown["position"] != "-1"]["span"] == 3).any() else 1
shown = shown[shown["span"] == shown["component"].map({"attn_out": wanted, "mlp_out": wanted, "resid_post": 1})]
theirs = paper.values("patching", span=3, metric="transfer", model=paper.DETAILED.id, prompt="T1-2shot")
theirs = theirs.assign(layer=theirs["layer"].mask(theirs["component"] == "resid_post", theirs["last_layer"]))
figures.show(
    figures.site_heatmap(shown, label="share of pairs transferred", rows="position", paper=theirs),
    name="fig-patching-tokens",
    caption=f"Share of pairs transferred by token and layer. This run: windows of {wanted} for attention and "
    f"feed-forward, single layers of the stream, {shown['n'].min()} pairs at tokens -2 to -5. Below, the paper's Llama "
    "3.2 1B (its Figure 21, windows of three), the stream at the last overwritten layer.",
    alt="Heat-maps of the share transferred over layers and the last five tokens, ours above the paper's.",
)

# %% [markdown]
# ## How much, not only whether
#
# The answer flips when one label overtakes another; evidence that moves part of the way is not seen. So we also follow
# the logits. Let $z_y$ be the logit of label $y$, $s$ and $b$ the labels of source and base, and $e_y = z_y - \bar z$,
# where $\bar z$ is the mean logit of the eleven labels that are neither. Brackets average over pairs:
#
# $$R_{\text{denoising}} =
# \frac{\langle e_s^{\text{patched}} - e_s^{\text{base}}\rangle}{\langle e_s^{\text{source}} - e_s^{\text{base}}\rangle},
# \qquad R_{\text{noising}} =
# \frac{\langle e_b^{\text{base}} - e_b^{\text{patched}}\rangle}
# {\langle e_b^{\text{base}} - e_b^{\text{source}}\rangle}.$$
#
# *Denoising* asks how much of the source's emotion comes in with the patch, *noising* how much of the base's own goes
# ({cite:t}`heimersheim2024`). 0 is untouched, 1 is all of it. Noising asks the mirror question: how much of an event's
# own evidence is lost when another event's activation is written over it. For the plain logit difference $z_s - z_b$ the
# two directions say the same thing: swapping a pair turns one into the other, and every pair is used in both directions.
# That single number, a weighted mean of the two, is the curve called *both*.

# %% tags=["hide-input"]
recovery = select(data, metric="recovery", span=1)
limits = (min(-0.05, recovery["ci_low"].min()), max(1.05, recovery["ci_high"].max()))
behind = None if reference is None else select(reference, metric="recovery", span=1)
figures.show(
    figures.depth_curves(
        recovery,
        ylabel="recovered evidence",
        hue="condition",
        panel="component",
        x="depth",
        reference=behind,
        n_layers=study.model.n_layers,
        ylim=limits,
    ),
    name="fig-patching-recovery",
    caption=f"Normalised recovery when one layer is patched at the last token, {n:,} pairs, ratio of means with 95 % "
    "intervals that count shared writers. 1 is all of the evidence.",
    alt="Recovered evidence over depth for denoising, noising and both, in panels for the three components.",
)

# %% [markdown]
# ## Control: what patching breaks by itself
#
# An activation from elsewhere may disturb whatever it says. If it comes from another event with the **same** emotion, an
# answer that is not kept is damage, not transfer. Patching an event with itself changes nothing at all, which the tests
# of the library check.

# %% tags=["hide-input"]
control = data[(data["metric"] == "kept") & (data["condition"] == patching.SAME)]
other = main[(main["metric"] == "kept") & (main["span"] < 5)]
both = pd.concat([control.assign(source="same emotion"), other.assign(source="other emotion")])
for span in sorted(set(control["span"])):
    figures.show(
        figures.depth_curves(
            both[both["span"] == span],
            ylabel="share kept",
            hue="source",
            panel="component",
            x="depth",
            n_layers=study.model.n_layers,
            ylim=(0, 1),
        ),
        name=f"fig-patching-control-{span}",
        caption="Share of answers kept when the source has another emotion or the same one "
        f"({control['n'].iloc[0]} pairs); windows of {span}, last token, 95 % intervals.",
        alt="Share of answers kept over depth, for sources of the same and of another emotion, in three panels.",
    )

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on three claims: the residual stream carries nothing that decides early and everything after a
# critical layer (C5), attention outputs carry it only in a band in the middle and feed-forward outputs a little later
# (C6), and wider windows transfer more while the place stays the same (C8). Depth is the layer over the number of layers.
# Intervals of places resample the writers of bases and sources, which makes them wide rather than narrow
# (`emolib.stats.pairs.over_texts`); a depth beyond 1 means never. First the paper's ten models, with its windows of five
# layers.

# %% tags=["hide-input"]
ten = paper.values("patching", metric="transfer", prompt="T1-2shot", position="-1", span=5)
ten = ten.assign(model=ten["model"].map(paper.model_name))
stream = ten[(ten["component"] == "resid_post") & (ten["value"] >= patching.ONSET)].groupby("model")["last_depth"].min()
peaks = ten.loc[ten.groupby(["model", "component"])["value"].idxmax()].set_index(["component", "model"])["depth"]
published = pd.DataFrame(
    {"stream: half transferred": stream, "attention: peak": peaks["attn_out"], "feed-forward: peak": peaks["mlp_out"]}
)
own = data[data["metric"].str.endswith("_depth")].set_index(["metric", "component", "span"])
five = 5 if ("peak_depth", "attn_out", 5) in own.index else own.index.get_level_values("span").max()
sites = [("onset_depth", "resid_post", 1), ("peak_depth", "attn_out", five), ("peak_depth", "mlp_out", five)]
published.loc[run.model] = [own.loc[site, "value"] for site in sites]
published.sort_values("stream: half transferred").style.format("{:.2f}")

# %% tags=["hide-input"]
stream = single[(single["component"] == "resid_post") & (single["metric"] == "transfer")].set_index("layer")["value"]
late = stream[stream.index >= 0.75 * study.model.n_layers]
early = stream[stream.index < 0.25 * study.model.n_layers]
difference = select(data, metric="peak_difference_layer").set_index("span")
place = best.iloc[0]["layer"]
gain = data[(data["metric"] == "span_gain") & (data["component"] == "attn_out") & (data["layer"] == place)]
gain = [
    f"{row.span} layers over {row.span - 2} {row.value:+.2f} ({row.ci_low:+.2f} to {row.ci_high:+.2f})"
    for row in gain.sort_values("span").itertuples()
]
found = {name: f"{row.value:.2f} ({row.ci_low:.2f} to {row.ci_high:.2f})" for name, row in own.iterrows()}
apart = [
    f"{row.value:+.0f} ({row.ci_low:+.0f} to {row.ci_high:+.0f}), window of {span}"
    for span, row in difference.iterrows()
]

# %% tags=["hide-input"]
theirs = published.drop(run.model).agg(["min", "max"])
theirs = [f"(the paper's ten models: {theirs[name]['min']:.2f} to {theirs[name]['max']:.2f})" for name in theirs]
rows = {
    f"C5: depth at which the stream transfers half of the pairs {theirs[0]}": found[sites[0]],
    "C5: share transferred in the first quarter of the stream, at most": f"{early.max():.2f}",
    "C5: share transferred in the last quarter of the stream, at least": f"{late.min():.2f}",
    f"C6: depth of attention's peak, window of {five} {theirs[1]}": found[sites[1]],
    f"C6: depth of the feed-forward peak, window of {five} {theirs[2]}": found[sites[2]],
    "C6: layers from attention's peak to the feed-forward peak": "; ".join(apart),
    "C8: layer at which attention peaks": "; ".join(
        f"{layer_number(row.layer)}, window of {row.span}" for row in best.itertuples()
    ),
    f"C8: what a wider window adds at layer {layer_number(place)}": "; ".join(gain) or "it does not fit there",
}
say("\n".join(f"- {name}: **{value}**" for name, value in rows.items()))

# %% [markdown]
# That patching the stream works late is no discovery: after the last layer it is the answer itself. What is informative
# is how early it starts to work, and which component brings it there. Transfer shows that a site *suffices* to move the
# answer. Whether it is also *needed* is the question of the [ablations](B_ablation.ipynb): in the paper attention
# transfers in all ten models, yet five of them hardly need it, so neither test can stand for the other. And an answer
# that is not kept is not always transferred: the control shows how much a foreign activation breaks although it speaks
# for the same emotion.

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("06_patching", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
