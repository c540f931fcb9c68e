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
from emolib.figures.display import say
from emolib.paper import claims, errata
from emolib.study.run import Run
from emolib.tables.provenance import footer

run = Run.of(globals())
tables = claims.stored_runs().get(run.slug, {})
found = errata.from_paper() + errata.from_run(tables)
found += errata.from_corpus(run.corpus_path) if run.corpus == "crowd-envent" else []
computed, cases = errata.table(found), errata.cases()

# %% tags=["hide-input"]
grave = cases[cases["grade"] == "A"]
more = computed.set_index("id").loc["P24", "corrected"]
say(
    f"Of **{len(cases)}** cases **{len(grave)}** can change a conclusion. Among them: the projected directions of the "
    "steering experiment are computed and never used (D1); removing attention hurts more than removing feed-forward in "
    f"**{more:.0f}** of ten models, not in all (P24); what the emotion's name alone tells of appraisals is not compared "
    "(M14). What becomes of the claims with the controls that these cases ask for is the robust reading in "
    "[What reproduces](11_claims.ipynb)."
)

# %% [markdown]
# ## Cases that can change a conclusion
#
# What the paper says or intends, what is the case, and what was compared: two numbers, or one where the paper gives none. A
# quantity that names two things has them in this order. Where no number stands, the words refer to another case, or the
# corpus decides. *P* are cases of the paper, *D* of its released code, *M* of the method. Layers are counted from 1; versions
# are arXiv 2502.05489v2 and the code as published in February 2025 {cite:p}`tak2025`.

# %% tags=["hide-input"]
errata.listed(found, "A").style.hide()

# %% [markdown]
# ## The projection that is not used (D1, grade A)
#
# To push one appraisal and leave others alone, their directions must be projected out of it,
# $z = (I - P)\,v$. The released code computes $z$, and injects $v$. Of $z$ nothing lies along the appraisals that are said
# to be held fixed. What projection changes in the outcome is measured in the chapter on
# [modulation](09_modulation.ipynb).

# %% tags=["hide-input"]
shares = [
    f"**{row.corrected:.2f}** ({row.quantity.partition(':')[0]})"
    for row in computed[computed["id"] == "D1"].itertuples()
]
say(f"Of $v$, in this run, lies there: {', '.join(shares) or '(not measured)'}.")

# %% [markdown]
# ## A window that is none (M1, P19)
#
# Overwriting the residual stream in layers $c-1, c, c+1$ leaves nothing of what was put into the first two: the last
# one decides. The paper's windows on $h$ therefore show single layers, drawn too early. The paper's values say so (M1),
# and so, up to rounding, do the ablations of this run where they are stored.
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
# ## The other cases
#
# Grade B changes numbers or a figure, grade C is wording or packaging; *X* are further cases of the released code. A case
# without numbers was established by reading the text, the figures or the code, or is measured in another chapter.

# %% tags=["hide-input"]
for grade in ("B", "C"):
    rows = errata.listed(found, grade)
    say(claims.folded(f"Grade **{grade}**: {(cases['grade'] == grade).sum()} cases", claims.as_markdown(rows)))

# %% [markdown]
# ## What this shows and what it does not
#
# Grade A marks where a conclusion *can* change, not that it does. Whether steering with raw directions tells another story
# than with projected ones is measured in the chapter on modulation; whether attention is necessary, in the chapter on
# ablation and in *All models*. Grades B and C say where a case acts, on numbers and figures or on wording and packaging;
# this page does not weigh them further.

# %% tags=["hide-input"]
say(footer(tables["behaviour"].attrs["provenance"]) if "behaviour" in tables else claims.origins({}))
