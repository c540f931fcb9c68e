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
# # Errata
#
# **Question.** Where do the paper's text, its figures, its data and its code contradict each other, and does it matter?
#
# A reader who finds two numbers for one thing cannot know which to believe; this is the list of such cases. Each has a
# grade: **A** can change a conclusion, **B** changes numbers or a figure, **C** is wording or packaging. *P* are cases of the
# paper, *D* and *X* of its released code, *M* of the method. Layers are counted from 1, versions are arXiv 2502.05489v2 and
# the code as published in February 2025 {cite:p}`tak2025`. Some cases are computed here: from the values in the paper's
# figures, from this run's tables, and in a run on crowd-enVENT from the corpus: those that can change a conclusion, and
# those on which a figure or a claim of this book rests. The others are told in words.

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

from emolib.figures.display import say
from emolib.paper import claims, errata
from emolib.study.run import Run
from emolib.tables.provenance import footer

run = Run.of(globals())
tables = claims.stored_runs().get(run.slug, {})

# %% [markdown]
# ## Computed cases
#
# Each row compares two numbers: what the paper states or implies, and what is right or stands against it. A quantity that
# names two things has them in this order.

# %% tags=["hide-input"]
found = errata.from_paper() + errata.from_run(tables)
found += errata.from_corpus(run.corpus_path) if run.corpus == "crowd-envent" else []
computed, cases = errata.table(found), errata.cases()
pairs = zip(computed["stated"], computed["corrected"], strict=True)
numbers = computed.assign(
    case=computed["id"] + " " + computed["grade"],
    numbers=[", ".join(f"{value:.4g}" for value in pair if not pd.isna(value)) for pair in pairs],
)
say(f"**{len(numbers)}** rows for **{numbers['id'].nunique()}** of {len(cases)} cases.")
numbers[["case", "quantity", "numbers", "source"]].style.hide()

# %% [markdown]
# ## The projection that is not used (D1, grade A)
#
# To push one appraisal and leave others alone, their directions must be projected out of it,
# $z = (I - P)\,v$. The released code computes $z$, and injects $v$. Of $z$ nothing lies along the appraisals that are said
# to be held fixed; how much of $v$ does, in this run, stands in the table above. What projection changes in the outcome is
# measured in the chapter on [modulation](09_modulation.ipynb).
#
# ## A window that is none (M1, P19)
#
# Overwriting the residual stream in layers $c-1, c, c+1$ leaves nothing of what was put into the first two: the last one
# decides. The paper's windows on $h$ therefore show single layers, drawn too early. The paper's values and the stored
# ablations of this run both say so.
#
# ## Labels that cannot be said (D6, grade A)
#
# The released code scores a label by its last token. In the vocabulary that Llama 2 and the Phi models share, *disgust* is
# *disg* and *ust*; *ust* is compared with whole words, and never follows "Answer:". So it is with four labels:
#
# | label | pieces | scored as released |
# |---|---|---|
# | boredom | bored + om | om |
# | disgust | disg + ust | ust |
# | guilt | gu + ilt | ilt |
# | sadness | sad + ness | ness |
#
# ## All cases
#
# Every case in our words. *Computed* cases have a row above. *Read* are those that reading the text, the figures or the
# code established, or that another case or chapter measures; P33 is computed in a run on crowd-enVENT.

# %% tags=["hide-input"]
known = cases["id"].isin(computed["id"]).map({True: "computed", False: "read"})
counts = pd.crosstab(cases["grade"], known)
shares = [f"{row.computed} of {row.computed + row.read} cases of grade **{row.Index}**" for row in counts.itertuples()]
say(f"Computed: {', '.join(shares)}.")
heads = {"said": "said or intended", "case": "what is the case"}
cases.assign(established=known).rename(columns=heads).style.hide()

# %% [markdown]
# ## What this shows and what it does not
#
# Grade A marks where a conclusion *can* change, not that it does. Whether steering with raw directions tells another story
# than with projected ones is measured in the chapter on modulation; whether attention is necessary, in the chapter on
# ablation and in *All models*. Grades B and C say where a case acts, on numbers and figures or on wording and packaging;
# this page does not weigh them further.

# %% tags=["hide-input"]
say(footer(tables["behaviour"].attrs["provenance"]) if "behaviour" in tables else claims.origins({}))
