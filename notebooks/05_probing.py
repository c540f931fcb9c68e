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
# # 5 Probing: where can the emotion be read?
#
# **Question.** At which layer, in which component and at which token do the activations tell the emotion?
#
# A *linear probe* is the simplest reader one can attach to a network. From the activation $x$ of one site, a layer's
# attention output, its feed-forward output or the residual stream after it, it computes
#
# $$\hat y = \operatorname{softmax}(W^\top x + b),\qquad W \in \mathbb{R}^{d\times 13},$$
#
# and is trained to name the emotion (equation E2 of the paper's section 5, {cite:t}`tak2025`). If a probe succeeds on
# events it has not seen, the emotion is there *and* laid out so that a weighted sum finds it. That is not yet evidence
# that the model uses it: a probe reads what can be read.

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
from emolib.experiments import probing
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
data, reference = study.measure(probing), study.reference(probing)

# %% [markdown]
# ## By depth, as the paper did it
#
# Probes are trained on four fifths of the *agreed set*, the events that the model answers as the writer did, with raw
# features and a fixed penalty, and judged on the other fifth. Writer's and model's label are the same there by
# definition. Depth is the layer divided by the number of layers, so that models of different depth share an axis.

# %% tags=["hide-input"]
released = select(data, metric="accuracy", condition=probing.RELEASED, position="-1")
theirs = paper.values("emotion_probe", model=paper.DETAILED.id, prompt="T1-2shot", position="-1")
mine = {"n_layers": study.model.n_layers}
behind = None if reference is None else select(reference, metric="accuracy", condition=probing.RELEASED, position="-1")
if behind is not None:
    behind = behind.assign(
        n_layers=behind["layer"].max() + 1, depth=(behind["layer"] + 1) / (behind["layer"].max() + 1)
    )
figures.show(
    figures.depth_curves(
        released,
        ylabel="held-out accuracy",
        panel="component",
        paper=theirs,
        reference=behind,
        x="depth",
        lines={"chance": 1 / 13},
        ylim=(0, 1),
        **mine,
    ),
    name="fig-probing-depth",
    caption="Held-out accuracy of linear probes at the last token, agreed set, with 95 % intervals "
    f"({released['n'].iloc[0]} test events). Dashed: the paper's Llama 3.2 1B (its Figure 13).",
    alt="Probe accuracy over depth for attention output, feed-forward output and residual stream, ours and the paper's.",
)

# %% tags=["hide-input"]
saturation = select(data, metric="saturation_depth")
stream = saturation[(saturation["component"] == "resid_post") & (saturation["condition"] == probing.RELEASED)].iloc[0]
curves = paper.values("emotion_probe", prompt="T1-2shot", position="-1", component="resid_post")
reached = curves[curves["value"] >= probing.SATURATION * curves.groupby("model")["value"].transform("max")]
depths = reached.groupby("model")["depth"].min().rename(index=paper.model_name).sort_values()
top = released[released["component"] == "resid_post"].sort_values("value").iloc[-1]
say(
    f"In the residual stream the best probe is right for **{top['value']:.1%}** ({top['ci_low']:.1%} to "
    f"{top['ci_high']:.1%}) of the held-out events, after layer {layer_number(top['layer'])} of {study.model.n_layers}. "
    f"95 % of that maximum is first reached at depth **{stream['value']:.2f}** (interval {stream['ci_low']:.2f} to "
    f"{stream['ci_high']:.2f}). The paper's ten models reach it between {depths.min():.2f} and {depths.max():.2f}."
)

# %% tags=["hide-input"]
ours = pd.DataFrame({"depth of 95 % of the maximum": [stream["value"], *depths]}, index=[run.model, *depths.index])
ours.sort_values("depth of 95 % of the maximum").style.format("{:.2f}")

# %% [markdown]
# ## All events, writers kept apart, and a control
#
# The agreed set makes probing easy to overrate: it drops every event the model misses, and in late layers the probe may
# simply read off the answer. So we probe *all* events, with folds that keep all events of one writer on one side, for
# three targets: the **writer's** label, the **model's** own answer, and **shuffled** labels. The last is the control of
# {cite:t}`hewitt2019`: what a probe can reach with labels that mean nothing. Accuracy is balanced over the thirteen
# emotions, so that a frequent answer earns nothing.

# %% tags=["hide-input"]
targets = data[(data["metric"] == "balanced_accuracy") & (data["position"] == "-1")]
targets = targets.assign(condition=targets["condition"].str.removeprefix(f"{probing.OURS};"))
figures.show(
    figures.depth_curves(
        targets,
        ylabel="balanced accuracy",
        hue="condition",
        panel="component",
        x="depth",
        lines={"chance": 1 / 13},
        **mine,
    ),
    name="fig-probing-targets",
    caption=f"Balanced held-out accuracy on all {targets['n'].iloc[0]:,} events for the writer's label, the model's own "
    "answer and shuffled labels, five folds grouped by writer, 95 % intervals over writers.",
    alt="Balanced accuracy over depth in three panels, a curve each for the model's answer, the writer's and shuffled labels.",
)

# %% tags=["hide-input"]
gap = select(data, metric="selectivity", component="resid_post", position="-1").sort_values("value").iloc[-1]
control = targets[targets["condition"] == "target:shuffled"]
say(
    f"The writer's label is read best from the residual stream after layer {layer_number(gap['layer'])}, "
    f"{gap['value']:.1%} ({gap['ci_low']:.1%} to {gap['ci_high']:.1%}) above the shuffled control at the same site; over all "
    f"sites the control lies between {control['value'].min():.1%} and {control['value'].max():.1%}, chance being {1 / 13:.1%}."
)

# %% [markdown]
# ## By token
#
# The last token of the prompt is the colon after "Answer", where the model must speak. Is the emotion also readable one,
# two or four tokens earlier?

# %% tags=["hide-input"]
tokens = select(data, metric="accuracy", condition=probing.RELEASED)
figures.show(
    figures.site_heatmap(
        tokens,
        label="held-out accuracy",
        rows="position",
        paper=paper.values("emotion_probe", model=paper.DETAILED.id, prompt="T1-2shot"),
    ),
    name="fig-probing-tokens",
    caption="Held-out accuracy of linear probes by token, counted from the end of the prompt, and layer; agreed set. Below, "
    "the paper's Llama 3.2 1B (its Figure 18).",
    alt="Heat-maps of probe accuracy over layers and the last five tokens, for three components, ours above the paper's.",
)
late = tokens[(tokens["component"] == "resid_post") & (tokens["layer"] == tokens["layer"].max())]
late = late.sort_values("position", ascending=False)
say(
    "In the last layer's residual stream: "
    + "; ".join(
        f"token {row.position} {row.value:.0%} ({row.ci_low:.0%} to {row.ci_high:.0%})" for row in late.itertuples()
    )
    + "."
)

# %% [markdown]
# ## A reader that is not linear
#
# If a small neural network read much more than the linear probe, the emotion would be there in a form that a weighted sum
# misses. As in the paper the network has one hidden layer of 32 units.

# %% tags=["hide-input"]
bent = data[data["condition"] == probing.MLP].assign(condition="probe:non-linear")
both = pd.concat([released.assign(condition="probe:linear"), bent])
theirs = paper.values("emotion_probe_mlp").assign(condition="probe:non-linear")
figures.show(
    figures.depth_curves(
        both,
        ylabel="held-out accuracy",
        hue="condition",
        panel="component",
        paper=theirs,
        x="depth",
        lines={"chance": 1 / 13},
        ylim=(0, 1),
        **mine,
    ),
    name="fig-probing-nonlinear",
    caption="Linear and non-linear probes on the same events; dashed, the paper's non-linear probe (Figure 13, bottom).",
    alt="Held-out accuracy over depth of the linear and the non-linear probe, in three panels.",
)
pair = both.pivot_table(index=["component", "layer"], columns="condition", values="value")
gain = (pair["probe:non-linear"] - pair["probe:linear"]).groupby("component").mean()
say(
    "Averaged over layers, the non-linear probe differs from the linear one by "
    + ", ".join(f"{value:+.1%} ({figures.readable(name)})" for name, value in gain.items())
    + "."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on three claims of the paper: that the emotion becomes linearly readable by the middle of the network
# and stays so (C2), that the feed-forward output follows the residual stream more closely than attention does (C3), and
# that the last token carries the strongest signal (C4). The numbers that decide, for this run:

# %% tags=["hide-input"]
wide = released.pivot_table(index="layer", columns="component", values="value")
follow = wide.corr(method="spearman")["resid_post"]
several = tokens["layer"].isin(tokens.loc[tokens["position"] != "-1", "layer"])
beyond = layer_number(tokens["layer"]) / study.model.n_layers > 0.6
deep = tokens[(tokens["component"] == "resid_post") & several & beyond]
winners = deep.loc[deep.groupby("layer")["value"].idxmax(), "position"]
rows = {
    f"C2: depth at 95 % of the maximum (the paper's ten models: {depths.min():.2f} to {depths.max():.2f})": f"{stream['value']:.2f} ({stream['ci_low']:.2f} to {stream['ci_high']:.2f})",
    "C3: rank correlation with the residual stream over layers, feed-forward": f"{follow['mlp_out']:.2f}",
    "C3: the same for attention": f"{follow['attn_out']:.2f}",
    "C4: layers beyond 60 % depth where the last token is read best": f"{(winners == '-1').sum()} of {len(winners)}",
}
say("\n".join(f"- {name}: **{value}**" for name, value in rows.items()))

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("05_probing", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))
