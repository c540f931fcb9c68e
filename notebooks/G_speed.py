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
# # G Speed: what does an edit cost?
#
# **Question.** How much faster than the plain way are reading, editing and probing here, and how does the cost grow?

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
from emolib.book import speed
from emolib.figures.display import plain, say
from emolib.paper import ladder
from emolib.tables.provenance import duration, footer

bench = speed.bench()
if missing := [name for name in speed.PARTS if name not in bench]:
    say(f"Not measured in this folder: {', '.join(missing)}. Call `make bench` there (about a quarter of an hour).")

# %% [markdown]
# ## Times faster
#
# The goals were set before measuring. In a round both sides run next to each other; the range is that over rounds.

# %% tags=["hide-input"]
if not missing:
    table = speed.ratios(bench)[["figure", "unit", "goal", "value", "ci_low", "ci_high", "reached"]]
    faster = table[table["unit"] == "times"].assign(kind="measured, range over rounds")
    goal = pd.DataFrame({"figure": faster["figure"], "value": faster["goal"].astype(float), "kind": "goal"})
    goals = "; ".join(f"{row.figure} {row.value:.0f} ({row.goal})" for row in faster.itertuples())
    figures.show(
        figures.interval_points(
            pd.concat([faster, goal]), by="figure", hue="kind", xlabel="times faster than the plain way"
        ),
        name="fig-speed-ratios",
        title=f"Times faster than the plain way: {figures.extremes(faster, 'figure', '.1f')}",
        caption="How many times faster than the plain way: per text and edit, per text read, per site probed. Median and "
        "range over rounds.",
        alt=f"Speed ratios, goals in brackets: {goals}.",
    )

# %% tags=["hide-input"]
if not missing:
    heads = {"value": "median", "ci_low": "least", "ci_high": "greatest"}
    missed = table[table["reached"] == "no"]
    short = "; ".join(f"{row.figure} {row.value:.1f} instead of {row.goal}" for row in missed.itertuples())
    say(
        f"Of {len(table)} goals **{len(table) - len(missed)}** are reached"
        + (f"; missed: **{short}**." if short else ".")
    )
None if missing else table.rename(columns=heads).style.format(precision=1).hide()

# %% [markdown]
# ## What is compared
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
#
# ## The same answers
#
# A fast wrong answer is worth nothing. The logits of every sampled plain pass are compared with ours (except under random
# ablation, where the two sides draw different directions), the engine with nnsight with the engine with plain hooks, and
# the accuracy of the probes with that of scikit-learn's.

# %% tags=["hide-input"]
if not missing:
    few, many, half = (bench["editing"][key] for key in ("edits_90", "edits_360", "bfloat16"))
    passes = few["plain_passes"] + many["plain_passes"]
    gap = max(few["largest_difference"], many["largest_difference"])
    say(
        f"Zero ablation of all sites runs on {few['texts']} texts, all four kinds on {many['texts']}. Over {passes} plain "
        f"passes a label's logit differs by at most **{gap:.2g}**. A plain edit takes {1e3 * few['plain']['median']:.0f} ms "
        f"a text, ours {1e3 * few['ours']['median']:.2f} ms with 90 edits, {1e3 * many['ours']['median']:.2f} with 360."
    )
    say(
        f"In bfloat16 ours is {half['over_float32']['median']:.1f} times as fast as in float32, which is "
        f"**{half['ratio']['median']:.0f}** times the plain float32 way; **{100 * half['equal_labels']['batch']:.1f}%** of "
        f"the calibrated labels stay equal ({100 * half['equal_labels']['none']:.1f}% without calibration). Small "
        "models are therefore run in float32 where nothing else is asked for. Larger ones are run in *mixed* precision: bfloat16 "
        "where they multiply with their weights, float32 elsewhere. There rounding can decide between labels that score almost "
        "alike."
    )

# %% tags=["hide-input"]
for record in [] if missing else [bench["probing"]["few"], bench["probing"]["many"]]:
    theirs, ours = (pd.DataFrame(record["parts"][side]).sum() for side in ("plain", "ours"))
    times = theirs / ours
    say(
        f"Probing {record['rows']:,} rows: accuracy at a site differs by at most {100 * record['largest_accuracy_gap']:.2f} "
        f"points, $R^2$ by {record['largest_r2_gap']:.1g}. Label probes are {times['labels']:.1f} times as fast as "
        f"scikit-learn's, rating probes {times['ratings']:.1f} times."
    )

# %% tags=["hide-input"]
if not missing:
    hooks, states, ours = (1e3 * bench["reading"][name]["median"] for name in ("plain", "hidden_states", "ours"))
    say(
        f"Reading: {hooks:.0f} ms a text with hooks, {states:.0f} ms with `output_hidden_states`, which has the residual "
        f"stream only ({bench['reading']['ratio_hidden_states']['median']:.1f} times ours), {ours:.0f} ms ours."
    )
    record = bench["overhead"]
    say(
        f"nnsight: logits differ by {record['largest_difference']:.2g}; it costs **{record['percent']['median']:.1f}%** "
        f"({plain(record['percent']['min'], '.1f')} to {record['percent']['max']:.1f}) over plain hooks."
    )

# %% [markdown]
# ## The machine's limit
#
# A text's linear layers are products with matrices of fixed size, so the processor's own rate on them bounds encode and
# replay. It depends on the number of rows multiplied at once: for replay, texts in a batch times edits that start in the
# same layer. Attention, norms and hooks count as time but not as work.

# %% tags=["hide-input"]
if not missing:
    machine = bench["machine"]
    rates = speed.rates(machine).assign(kind="median, range over rounds")
    figures.show(
        figures.interval_points(rates, by="figure", hue="kind", xlabel="GFLOP/s", xlim=(0, None)),
        name="fig-speed-machine",
        title=f"GFLOP/s: {figures.extremes(rates, 'figure', '.0f')}",
        fold=True,
        caption="Rate of the model's linear layers alone, by number of rows, and what replay (360 edits a text) and encode "
        f"reach: {machine['replay_percent']['median']:.0f} and {machine['encode_percent']['median']:.0f}% of the fastest.",
        alt="GFLOP/s: " + "; ".join(f"{row.figure} {row.value:.0f}" for row in rates.itertuples()) + ".",
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
if not missing:
    figures.show(
        speed.growth(bench),
        name="fig-speed-growth",
        title="How time and memory grow with each quantity",
        fold=True,
        caption="Time for all edits of all texts, encoding included, and memory taken beyond the model, relative to the "
        "smallest value of each quantity. Both axes logarithmic; dotted: in proportion.",
        alt="Growth of time and memory with texts, tokens, edits, layers and width; the exponents are in the table below.",
    )

# %% tags=["hide-input"]
None if missing else speed.exponents(bench)

# %% tags=["hide-input"]
if not missing:
    budget, many = speed.points(bench, "budget_mb"), speed.points(bench, "texts")
    taken = "; ".join(f"{row.memory_mb:.0f} MiB at a budget of {row.value}" for row in budget.itertuples())
    say(
        f"Memory follows the budget, by which the engine chooses the size of its batches: {taken}. It bounds the largest "
        f"part of what is taken, not all of it. From {many['value'].min():,} to "
        f"{many['value'].max():,} texts it goes from {many['memory_mb'].iloc[0]:.0f} to {many['memory_mb'].iloc[-1]:.0f} MiB."
    )

# %% [markdown]
# ## What the runs took
#
# Wall time and peak memory of each stored table of the committed runs, on the machine that the chapter of its experiment
# names at its end. Passes are kept: what one experiment has read of a model, another takes from there, so that the time
# of a single table depends on which came first.

# %% tags=["hide-input"]
runs = ladder.with_ladder()
whole = {
    ladder.run_name(tables, slug): duration(sum(table.attrs["provenance"]["seconds"] for table in tables.values()))
    for slug, tables in runs.items()
}
say(f"In all: {ladder.in_words(whole, whole.values())}.")
ladder.took(runs).style.hide()

# %% [markdown]
# ## What this shows and what it does not
#
# The ratios hold for this model, prompt and machine. Longer texts raise them, since the plain way reads a text again for
# every edit; fewer edits a text lower them, since reading is then most of the work. Edits of all tokens cannot be replayed
# and cost a full pass either way.

# %% tags=["hide-input"]
if not missing:
    say(footer(bench["growth"]["provenance"]))
