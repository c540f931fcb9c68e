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
# # What reproduces
#
# **Question.** Which of the paper's claims hold in the models that were run here, and which do its own numbers support?

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
from emolib.figures.display import glue, say
from emolib.paper import claims, ladder, overview
from emolib.study.run import Run
from emolib.tables import paper

run = Run.of(globals())
chosen = claims.shown_runs(run.slug)
own, theirs = chosen.get(run.slug, {}), claims.paper_tables(paper.DETAILED.name)
here, published = ladder.run_name(own, run.slug), f"{paper.DETAILED.name}, the paper's values"

# %% tags=["hide-input"]
counts = [
    f"- **{name}**, with all controls: {claims.counted(each)}." for name, (each, _) in ladder.beside(run.slug).items()
]
counts.append(f"- **{published}**, as released: {claims.counted(theirs, claims.RELEASED)}.")
say("\n".join(["Of nineteen claims:", "", *counts]))

# %% [markdown]
# Each claim in one line. ● means that all of its checks hold, ○ that the first of them, its core, fails, and ◐ that it is
# neither; a claim with – could not be tested. A claim is *reproduced* in a model as large as the paper's smallest, and
# *seen* in a smaller one; the paper's own values *support* it.

# %% tags=["hide-input"]
glue("claims-in-short", ladder.claims_in_short(run.slug))  # the first page shows it too
glue("abstract", overview.abstract(run.slug), here=False)  # and this is on that of the run

# %% [markdown]
# ## How a verdict is made
#
# {cite:t}`tak2025` make, by our count, nineteen claims that can be tested. Each has a test that is written down once, in
# words and as a function, for our tables and for the values published for ten models. A test consists of *checks*. A
# check **holds** when its number, with its whole 95% interval where there is one, is on the claim's side, and **fails**
# when all of that is on the other side; it is **open** when the interval reaches over the limit, or two numbers are equal.
# Where the paper published no number for a check, or a run did not measure it, the check is named with **no number** and
# does not count: there the verdict rests on fewer checks. The first check that counts is the claim's core.
#
# A claim has three **readings**, and a check says which of them it decides. *As released*: the paper's own procedure, as
# its code has it. *As described*: as its text has it, where that is another procedure. *Robust*: with the controls that
# a reader asks for today and the paper does not have, such as what the words alone tell, random directions that are as
# large for the model, or offsets that are centred anew under an edit; there a claim is reproduced only if each of its
# controls was measured.
#
# A claim is tested only where its **gates** are open. A model that names the writer's emotion no better than chance has
# no answers whose place in the network could be asked for, whatever its curves look like; and what a twin of the model
# with untrained weights shows as well, in the same layer and where its run is stored, is nothing that was learnt. (The
# same layer, because every network decides somewhere, and an untrained one can do so in its first layers.) With these gates, no claim is
# reproduced in any reading more often than one time in twenty by tables from which the effects were taken out: the
# project's tests draw 400 such tables.
#
# | verdict | when |
# |---|---|
# | ● reproduced, seen, supported | all checks of the reading that have a number hold |
# | ◐ partly | the core does not fail, but some check is open or fails |
# | ○ not | the core fails |
# | – not testable | a gate is closed; a row that no verdict can do without is missing; or all holds and a control was not measured, or an untrained twin passes as well |
# | not run, not published | nobody has looked: a table was not computed, or the paper has no such value |
#
# What passing is called says whose numbers they are. A claim is *reproduced* in a model of the size of the paper's, from 1.2
# billion parameters on; in a smaller one, of which the paper claims nothing, it is *seen*; by the paper's own published
# values, without most controls, it is *supported*.
#
# Layers are compared as fractions of depth, so that a claim about the middle of a network can be tested in any network.
# The thresholds come from the paper's own figures, a little widened: they are kind to it by construction, and where its
# numbers still do not pass, they do not support the claim.
#
# ## Claim by claim
#
# Under each claim stand its published values, its test, and the checks of both sets of numbers, the core first, with the
# readings that each check decides and intervals in brackets. The intervals of the paper's values are ours, from the number
# of texts or pairs. *Tolerance* is the difference up to which a number of ours counts as equal to the paper's when one of
# its own models is run.

# %% tags=["hide-input"]
say(claims.one_by_one({here: own, published: theirs}))

# %% [markdown]
# ## All models and readings
#
# A row is a claim, a column a model in one reading: the runs of this book first, then those that readers have sent, then
# the paper's models in the order of its Table 1, as released. A cell is empty where nothing was run or published: of nine
# models the paper has no numbers on tokens, prompts, appraisals or steering, which it studied on Llama 3.2 1B alone.

# %% tags=["hide-input"]
judged = claims.verdicts_by({ladder.run_name(found, slug): found for slug, found in chosen.items()})
released = claims.paper_verdicts().query("reading == 'as released'")
everything = claims.grid(judged, claims.contributed(), released)
everything.style.set_table_attributes('class="upright"')

# %% [markdown]
# Where the values of the nine other models do not support what the paper says of all:

# %% tags=["hide-input"]
say(claims.unsupported(released[released["model"] != paper.DETAILED.name]))

# %% [markdown]
# ## What this shows and what it does not
#
# A verdict on this run says something about this model under this prompt, not about the paper's models. Two verdicts on
# one claim are comparable only as far as the same checks count in both. A claim that a small model does not show and
# the paper's own values support may depend on size; one that the paper's own values do not support cannot be rescued by
# ours. The verdicts reduce curves to single words: read the chapters before quoting one.

# %% tags=["hide-input"]
say(claims.origins(chosen))

# %% [markdown]
# **Next.** [All models](10_models.ipynb) asks what holds in which models. To judge a model of yours:
# [Run your own model](../run_your_model.md).
