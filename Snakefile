"""Which notebooks a run executes, and when one is out of date: `emolib.book.run.page_sha256` says.

    emolib run --model smollm2-135m                                    # what make book calls
    snakemake --cores 4 --config model=smollm2-135m profile=full       # the same, directly
    snakemake --profile profiles/slurm --configfile runs.yml           # many runs on many machines: "runs: [{model: ...}, ...]"

No shell comes between Snakemake and a notebook: `profiles/default`, which Snakemake reads by itself, runs jobs in threads.
Configuration: the fields of emolib.study.run.Run, or `runs`, a list of such; `only`, one notebook or a list of them.
The committed reference results are no target here unless their run is asked for, so a fresh clone recomputes nothing.
"""

import re
from pathlib import Path

from emolib.book.run import configured_runs, measures, page_sha256, select_notebooks, side_by_side, start, write_parameters

NOTEBOOKS = select_notebooks(config.pop("only", None))
# The others read what these have measured.
MEASURING = [notebook for notebook in NOTEBOOKS if measures(notebook)]
FIRST = next(iter(MEASURING), None)
RUNS = {run.slug: run for run in configured_runs(config)}
# What says that runs/<slug>/<notebook>.ipynb is made. Not the notebook itself: Snakemake would delete the last good one
# before it is made anew, and when that fails.
MADE = "runs/{run}/.made"
for slug in RUNS:
    for notebook in NOTEBOOKS:
        if not Path(f"runs/{slug}/{notebook}.ipynb").is_file():
            Path(MADE.format(run=slug), notebook).unlink(missing_ok=True)
PARAMETERS = {slug: write_parameters(run) for slug, run in RUNS.items()}


def threads(run, first):
    """The first reads the texts for the others, with all cores; on a cluster each notebook has its own node."""
    return workflow.cores if first else max(1, workflow.cores // side_by_side(run))


localrules:
    all,


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)),


rule all:
    default_target: True
    input:
        expand(f"{MADE}/{{notebook}}", run=RUNS, notebook=NOTEBOOKS),


# One rule a notebook, since some read what the others have measured. What is measured goes to results/ and is no output
# here: Snakemake would delete it when a figure fails, and hours of computing with it. Whether a table is stale is
# asked of emolib.study.freshness, once here, in the hash, and once when the notebook runs.
for number, notebook in enumerate(NOTEBOOKS):

    rule:
        name:
            f"notebook_{notebook}"
        input:
            measured=[] if notebook in MEASURING else [f"{MADE}/{name}" for name in MEASURING],
        params:
            notebook=f"notebooks/{notebook}.ipynb",
            made_from=lambda wildcards, notebook=notebook: page_sha256(RUNS[wildcards.run], notebook),
        output:
            f"{MADE}/{notebook}",
        # In the order of the book, but the longest does not wait to run alone. The first keeps what the others read: it
        # outweighs any two of them, whose priorities Snakemake adds.
        priority: 1000 if notebook == FIRST else len(NOTEBOOKS) - (0.5 if notebook == "C_robustness" else number)
        threads: lambda wildcards, first=notebook == FIRST: threads(RUNS[wildcards.run], first)
        resources:
            gpu=lambda wildcards: int(RUNS[wildcards.run].device.startswith("cuda")),
        run:
            made = f"runs/{wildcards.run}/{Path(params.notebook).name}"
            start(f"runs/{wildcards.run}/run.json", params.notebook, made, threads=threads)
            Path(output[0]).touch()
