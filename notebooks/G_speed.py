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
# # G Speed: what does an edit cost?
#
# **Question.** How much faster than the plain way are reading, editing and probing here, and how does the cost grow?
#
# The *plain way* is that of the paper's released code ({cite:t}`tak2025`): for every edit a full forward pass over four
# texts padded to one length, with a hook that changes the one activation. In a causal model nothing before the edited
# token can change, so `emolib.engine.engine` reads each text once (*encode*), keeps its keys, values and residual stream, and
# runs again only the edited token from the edited layer on (*replay*), many edits beside one another. With $T$ tokens a
# text, $L$ layers, one edit in each, and $c$ operations per token and layer, $E$ edits of a text cost
#
# $$\text{plain} = E\,T\,L\,c \qquad\text{against}\qquad \text{ours} \approx T L\,c + E\,\tfrac{L+1}{2}\,c .$$
#
# This page measures nothing and does not depend on the run: it draws what `make bench` measured on one machine. Both ways
# run on the embedded model with the embedded corpus, which anybody can repeat, each in its own process, in turn, with
# equal threads and the same weights. The plain way is too slow to run whole: it runs a sample of its passes spread evenly
# over the edits, and its time is counted per text and edit. What mean and resample ablation put in is read beforehand
# without being counted for the plain way, and counted for ours. Probes (scikit-learn: one fit per site, target and fold)
# are measured on one row a text, and on about as many rows as crowd-enVENT has texts: the last tokens under several prompts.

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
import json
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from emolib import figures
from emolib.figures.display import say
from emolib.figures.palette import CYCLE, INK, style
from emolib.figures.panels import label_axes, panels
from emolib.study.run import REFERENCE
from emolib.tables import results
from emolib.tables.results import footer

bench = {path.stem: json.loads(path.read_text()) for path in sorted(Path("results/bench").glob("*.json"))}

# %% tags=["hide-input"]
wanted = ("editing", "reading", "probing", "overhead", "machine", "growth")
missing = [name for name in wanted if name not in bench]
editing, machine = bench.get("editing", {}), bench.get("machine", {})
probing = {name: bench["probing"][name] for name in ("few", "many") if "probing" in bench}
if missing:
    say(f"Not measured in this folder: {', '.join(missing)}. Call `make bench` there (about a quarter of an hour).")

# %% [markdown]
# ## Times faster
#
# The goals were set before measuring. In a round both sides run next to each other; the range is that over rounds.

# %% tags=["hide-input"]
goals = {"editing, 90 edits a text": 60, "editing, 360 edits a text": 100, "reading": 4}
goals |= {f"probing, {record['rows']:,} rows": 10 for record in probing.values()}
found = {f"editing, {n} edits a text": editing[f"edits_{n}"]["ratio"] for n in (90, 360) if editing}
found |= {"reading": bench["reading"]["ratio"]} if "reading" in bench else {}
found |= {f"probing, {record['rows']:,} rows": record["ratio"] for record in probing.values()}
rows = [dict(figure=name, unit="times", goal=goals[name], sign=1, **ratio) for name, ratio in found.items()]
if "overhead" in bench:
    rows.append(dict(figure="nnsight, at most", unit="%", goal=15, sign=-1, **bench["overhead"]["percent"]))
if machine:
    rows.append(
        dict(figure="replay, share of the machine's rate", unit="%", goal=40, sign=1, **machine["replay_percent"])
    )
table = pd.DataFrame(rows, columns=["figure", "unit", "goal", "median", "min", "max", "sign"])
table["reached"] = (table["sign"] * (table["median"] - table["goal"]) >= 0).map({True: "yes", False: "no"})

# %% tags=["hide-input"]
if found:
    faster = table[table["unit"] == "times"].rename(columns={"median": "value", "min": "ci_low", "max": "ci_high"})
    goal = faster.assign(value=faster["goal"].astype(float), ci_low=float("nan"), ci_high=float("nan"), kind="goal")
    drawn = pd.concat([faster.assign(kind="measured, range over rounds"), goal])
    figures.show(
        figures.interval_points(drawn, by="figure", hue="kind", xlabel="times faster than the plain way"),
        name="fig-speed-ratios",
        caption="How many times faster than the plain way: per text and edit, per text read, per site probed. Median and "
        "range over rounds.",
        alt="Speed ratios, goals in brackets: "
        + "; ".join(f"{row.figure} {row.value:.0f} ({row.goal})" for row in faster.itertuples())
        + ".",
    )
table.drop(columns="sign").rename(columns={"min": "least", "max": "greatest"}).style.format(precision=1).hide()

# %% [markdown]
# ## The same answers
#
# A fast wrong answer is worth nothing. The logits of every sampled plain pass are compared with ours (except under random
# ablation, where the two sides draw different directions), the engine with nnsight with the engine with plain hooks, and
# the accuracy of the probes with that of scikit-learn's.

# %% tags=["hide-input"]
if editing:
    few, many, half = (editing[key] for key in ("edits_90", "edits_360", "bfloat16"))
    passes = few["plain_passes"] + many["plain_passes"]
    gap = max(few["largest_difference"], many["largest_difference"])
    say(
        f"Zero ablation of all sites runs on {few['texts']} texts, all four kinds on {many['texts']}. Over {passes} plain "
        f"passes a label's logit differs by at most **{gap:.1e}**. A plain edit takes {1e3 * few['plain']['median']:.0f} ms "
        f"a text, ours {1e3 * few['ours']['median']:.2f} ms with 90 edits, {1e3 * many['ours']['median']:.2f} with 360."
    )
    say(
        f"In bfloat16 ours is {half['over_float32']['median']:.1f} times as fast as in float32, which is "
        f"**{half['ratio']['median']:.0f}** times the plain float32 way; **{100 * half['equal_labels']['batch']:.1f} %** of "
        f"the calibrated labels stay equal ({100 * half['equal_labels']['none']:.1f} % without calibration). The reference "
        "run is in float32, so that none of its labels depends on the rounding."
    )

# %% tags=["hide-input"]
for record in probing.values():
    plain, ours = (
        {key: sum(part[key] for part in record["parts"][side]) for key in ("labels", "ratings")}
        for side in ("plain", "ours")
    )
    say(
        f"Probing {record['rows']:,} rows: accuracy at a site differs by at most {100 * record['largest_accuracy_gap']:.2f} "
        f"points, $R^2$ by {record['largest_r2_gap']:.0e}. Label probes are {plain['labels'] / ours['labels']:.1f} times as "
        f"fast as scikit-learn's, rating probes {plain['ratings'] / ours['ratings']:.1f} times."
    )
if "reading" in bench:
    hooks, states, ours = (1e3 * bench["reading"][name]["median"] for name in ("plain", "hidden_states", "ours"))
    say(
        f"Reading: {hooks:.0f} ms a text with hooks, {states:.0f} ms with `output_hidden_states`, which has the residual "
        f"stream only ({bench['reading']['ratio_hidden_states']['median']:.1f} times ours), {ours:.0f} ms ours."
    )
if "overhead" in bench:
    record = bench["overhead"]
    say(
        f"nnsight: logits differ by {record['largest_difference']:.1e}; it costs **{record['percent']['median']:.1f} %** "
        f"({record['percent']['min']:.1f} to {record['percent']['max']:.1f}) over plain hooks."
    )

# %% [markdown]
# ## The machine's limit
#
# A text's linear layers are products with matrices of fixed size, so the processor's own rate on them bounds encode and
# replay. It depends on the number of rows multiplied at once: for replay, texts in a batch times edits that start in the
# same layer. Attention, norms and hooks count as time but not as work.

# %% tags=["hide-input"]
if machine:
    rates = {f"{int(n):,} rows": r for n, r in machine["linear_rate"].items()}
    rates |= {"replay": machine["replay"], "encode": machine["encode"]}
    speed = pd.DataFrame([dict(what=name, **rate) for name, rate in rates.items()]).assign(
        kind="median, range over rounds"
    )
    speed["value"], speed["ci_low"], speed["ci_high"] = (speed[key] / 1e9 for key in ("median", "min", "max"))
    figures.show(
        figures.interval_points(speed, by="what", hue="kind", xlabel="GFLOP/s", xlim=(0, None)),
        name="fig-speed-machine",
        caption="Rate of the model's linear layers alone, by number of rows, and what replay (360 edits a text) and encode "
        f"reach: {machine['replay_percent']['median']:.0f} and {machine['encode_percent']['median']:.0f} % of the fastest.",
        alt="GFLOP/s: " + "; ".join(f"{row.what} {row.value:.0f}" for row in speed.itertuples()) + ".",
    )
    own, whole = few["parts"][0]["tokens"] / few["texts"], few["tokens"]["padded"]
    say(
        f"This is also what bounds reading, which can only save the shared prefix and the unembedding: the plain way "
        f"multiplies {whole:.0f} tokens a text, padding included, ours {own:.0f}, **{whole / own:.1f}** times fewer."
    )

# %% [markdown]
# ## Growth
#
# Random Llama models, one quantity varied at a time and a new process for every point. The exponent is the slope in the
# double-logarithmic plot: 1 means twice the quantity, twice the cost. Below 1 a fixed part is shared; attention grows with
# the square of a text's length and the linear layers with the square of the width.

# %% tags=["hide-input"]
growth, names = bench.get("growth", {"points": [], "exponents": {}}), ["texts", "length", "edits", "layers", "width"]
points, look = pd.DataFrame(growth["points"]), {"time": ("seconds", "o"), "memory beyond the model": ("memory_mb", "s")}
with mpl.rc_context(style()):
    fig, axes = panels(len(names), height=1.9, below=0.5)
    for ax, name in zip(axes, names, strict=True):
        part = points[points["quantity"] == name] if len(points) else []
        for (label, (what, marker)), colour in zip(look.items(), CYCLE, strict=False):
            if len(part):
                first = part.iloc[0][["value", what]].clip(lower=1e-3)
                ax.loglog(
                    part["value"] / first["value"], part[what] / first[what], marker, ls="-", c=colour, label=label
                )
        ax.loglog([1, 100], [1, 100], color=INK, linewidth=1, linestyle=(0, (1, 3)), label="in proportion")
        ax.set(title={"length": "tokens a text", "edits": "edits a text"}.get(name, name))
    label_axes(axes, "times the smallest", "times the first")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

# %% tags=["hide-input"]
if len(points):
    figures.show(
        fig,
        name="fig-speed-growth",
        caption="Time for all edits of all texts, encoding included, and memory taken beyond the model, relative to the "
        "smallest value of each quantity. Both axes logarithmic; dotted: in proportion.",
        alt="Growth of time and memory with texts, tokens, edits, layers and width; the exponents are in the table below.",
    )
form, columns = "{value:.2f} ({ci_low:.2f} to {ci_high:.2f})", {"time": "seconds", "memory": "memory_mb"}
pd.DataFrame(
    {
        name: {
            f"exponent of {what}, 95 % interval": form.format(**growth["exponents"][name][key])
            for what, key in columns.items()
        }
        for name in names
        if name in growth["exponents"]
    }
).T

# %% tags=["hide-input"]
if len(points):
    budget, many = (points[points["quantity"] == name] for name in ("budget_mb", "texts"))
    taken = "; ".join(f"{row.memory_mb:.0f} MiB taken of {row.value} MiB" for row in budget.itertuples())
    say(
        f"Memory follows the budget that the engine is given for a batch: {taken}. From {many['value'].min():,} to "
        f"{many['value'].max():,} texts it goes from {many['memory_mb'].iloc[0]:.0f} to {many['memory_mb'].iloc[-1]:.0f} MiB."
    )

# %% [markdown]
# ## What the reference run costs, and would cost
#
# The reference run's times are those its tables carry. The plain way's are estimated: the (text, edit) pairs or texts
# behind a table times the plain way's time for one, scaled to the length of the reference corpus's prompts where that is
# known. Probes and intervals are left out of the estimate, and so is every pass whose outcome is not a row of its own.

# %% tags=["hide-input"]
tables = {path.stem: results.read(path) for path in sorted(Path("results", REFERENCE.slug).glob("*.parquet"))}
keys = ["component", "layer", "span", "position", "condition", "coefficient", "seed"]
outcomes = ["agreement", "transfer", "recovery", "promotion_score", "total_variation"]
rows = []
for name, data in tables.items():
    edited = data[data["metric"].isin(outcomes)].drop_duplicates(keys)["n"].fillna(0).sum()
    passes = int(data["n"].max() if name == "behaviour" else edited)
    rows.append(dict(experiment=name, measured=data.attrs["provenance"]["seconds"] / 3600, passes=passes))
costs = pd.DataFrame(rows, columns=["experiment", "measured", "passes"])

# %% tags=["hide-input"]
if editing and len(costs):
    here = editing["edits_90"]["tokens"]["padded"]
    longer = (editing["reference_tokens"] or {"padded": here})["padded"] / here
    costs["plain"] = costs["passes"] * longer * editing["edits_90"]["plain"]["median"] / 3600
    say(
        f"The reference run took **{costs['measured'].sum():.1f} hours** (goal: 3); the plain way would take "
        f"**{costs['plain'].sum():,.0f} hours** for its passes alone"
        + (
            f" (prompts {longer:.2f} times as long as here)."
            if editing["reference_tokens"]
            else " (were its prompts as long as here)."
        )
    )
heads = {"measured": "hours, measured", "passes": "plain passes", "plain": "hours, plain (estimated)"}
costs.rename(columns=heads).style.format(precision=1, thousands=",").hide()

# %% [markdown]
# ## What this shows and what it does not
#
# The ratios hold for this model, prompt and machine. Longer texts raise them, since the plain way reads a text again for
# every edit; fewer edits a text lower them, since reading is then most of the work. Edits of all tokens cannot be replayed
# and cost a full pass either way.

# %% tags=["hide-input"]
abouts = {record["provenance"]["seconds"]: record["provenance"] for record in bench.values()}
if abouts:
    say(footer(abouts[max(abouts)]))
