"""Which files each executed notebook is made from, and when it is out of date.

    emolib run --model smollm2-135m                                    # what make book calls
    snakemake --cores 4 --config model=smollm2-135m profile=full       # the same, directly
    snakemake --executor slurm --jobs 20 --configfile runs.yml         # many runs on many machines: "runs: [{model: ...}, ...]"

Configuration: the fields of emolib.study.run.Run, or `runs`, a list of such; `only`, one notebook or a list of them.
The committed reference results are no target here unless their run is asked for, so a fresh clone recomputes nothing.
"""

import re
import sys

from emolib.book.run import (
    configured_runs,
    measures,
    notebook_sources,
    select_notebooks,
    user_files,
    write_parameters,
)

NOTEBOOKS = select_notebooks(config.pop("only", None))
# The others read what these have measured.
MEASURING = [notebook for notebook in NOTEBOOKS if measures(notebook)]
RUNS = {run.slug: run for run in configured_runs(config)}
PARAMETERS = {slug: write_parameters(run) for slug, run in RUNS.items()}


localrules:
    all,


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)),


rule all:
    default_target: True
    input:
        expand("runs/{run}/{notebook}.ipynb", run=RUNS, notebook=NOTEBOOKS),


# One rule a notebook, so that each has its own sources. The measurements it writes to results/ are no output here:
# Snakemake would delete them when a figure fails, and hours of computing with them.
for number, notebook in enumerate(NOTEBOOKS):

    rule:
        name:
            f"notebook_{notebook}"
        input:
            notebook=f"notebooks/{notebook}.ipynb",
            sources=notebook_sources(notebook),
            given=lambda wildcards: user_files(RUNS[wildcards.run]),
            measured=[] if notebook in MEASURING else [f"runs/{{run}}/{name}.ipynb" for name in MEASURING],
        # The run's parameters are no input: its device does not make a result stale, and all else is in its name.
        params:
            python=sys.executable,
        output:
            f"runs/{{run}}/{notebook}.ipynb",
        # In the order of the book: the first one keeps what the others read.
        priority: len(NOTEBOOKS) - number
        # A model fills the machine: one notebook at a time on one computer, each on its own node of a cluster.
        threads: workflow.cores or 8
        shell:
            "{params.python:q} -m emolib.book.run runs/{wildcards.run}/run.json {input.notebook} {output}"
