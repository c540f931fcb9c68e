"""make test-slurm: two models by three experiments as jobs of a real Slurm cluster, one of them killed half-way.

A copy of this checkout and two small random models lie in a temporary folder. Asked is that the five other jobs finish,
that the killed one goes on from its shards at the next call, that its table is that of an uninterrupted run, and that a
third call submits nothing. Prints what was seen; fails where it does not hold.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster import cluster, install

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import pandas as pd  # noqa: E402
from safetensors import safe_open  # noqa: E402

from emolib.book.run import experiment, result_of  # noqa: E402
from emolib.engine.tiny import tiny_model  # noqa: E402
from emolib.study.run import Run  # noqa: E402
from emolib.study.study import Study  # noqa: E402
from emolib.tables import results  # noqa: E402
from helpers import tiny_table, word_tokenizer  # noqa: E402

LAYERS = {"deep": 16, "flat": 5}
TEXTS = 3900  # of made-up words; a random model answers one in thirteen as their writers did
NOTEBOOKS = ("03_behaviour", "08_geometry", "B_ablation")
KILLED = "B_ablation"  # of the deep model; the only one of the three that intervenes
EVERY = ["--profile", "profiles/slurm", "--latency-wait", "10", "--slurm-init-seconds-before-status-checks", "5"]


def main() -> int:
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {text}", flush=True)

    install()
    say("daemons of Slurm installed")
    with tempfile.TemporaryDirectory(prefix="emolib-slurm-") as name, shown_on_failure(Path(name)):
        folder = Path(name)
        tree, plugin = folder / "checkout", folder / "plugin"
        copy_checkout(tree)
        install_plugin(plugin)
        tiny_table(TEXTS, writers=500).to_csv(folder / "texts.csv", index=False)
        settings = {"corpus": str(folder / "texts.csv"), "device": "cpu"}
        runs = {name: Run(model=small_model(folder, name), **settings) for name in LAYERS}
        given = {"runs": [settings | {"model": run.model} for run in runs.values()], "only": list(NOTEBOOKS)}
        (tree / "runs.json").write_text(json.dumps(given))
        (folder / "daemons").mkdir()
        with cluster(folder / "daemons") as environment, ExitStack() as stack:
            say("munged, mariadbd, slurmdbd, slurmctld, slurmd answer")
            environment |= {"PYTHONPATH": f"{plugin}:{tree}", "TOKENIZERS_PARALLELISM": "false"}
            # Of a node as small as this one, each job gets one processor.
            command = [sys.executable, "-m", "snakemake", *EVERY, "--configfile", "runs.json"]
            command += ["--cores", "1", "--max-threads", "1"]

            first = stack.enter_context(running(command, tree, environment))
            kept = kill_half_way(first, runs["deep"], tree, environment)
            say(f"scancel of {KILLED} of the deep model, which had kept {len(kept)} shards")
            expect(first.wait(1800) != 0, "the first call fails, as one job was killed")
            missing = [path for path in tables(runs, tree) if not path.is_file()]
            expect(missing == [tree / table(KILLED, runs["deep"])], "the five other jobs have left their tables")
            states = accounting(environment)
            expect(sorted(states) == ["CANCELLED", *["COMPLETED"] * 5], f"accounting says so: {states}")
            say("the other five finished")

            asked = [f"--{name}={value}" for name, value in given["runs"][0].items()]
            asked += ["--only", ",".join(NOTEBOOKS), "--cores", "1"]
            emolib = [sys.executable, "-m", "emolib.cli", "run", *asked, "--", *EVERY]
            second = subprocess.run(emolib, cwd=tree, env=environment, timeout=1800)
            expect(second.returncode == 0, "emolib run, the second call, succeeds")
            states = accounting(environment)
            expect(sorted(states) == ["CANCELLED", *["COMPLETED"] * 6], f"it submits one job: {states}")
            now = shards(tree)
            expect(kept.items() <= now.items(), "the shards of the killed job were used, not written again")
            expect(len(now) > len(kept), "there was something left to do")
            resumed = results.read(tree / table(KILLED, runs["deep"]))
            say(f"the killed one went on: {len(now) - len(kept)} shards more")

            third = subprocess.run(command, cwd=tree, env=environment, timeout=1800)
            expect(third.returncode == 0 and accounting(environment) == states, "a third call submits nothing")
            say("a third call had nothing to do")
            shown = "JobID,State,Elapsed,ReqTRES%40,Comment%90"
            subprocess.run(["sacct", "-X", f"--format={shown}"], env=environment, check=True)
        alone = Study(runs["deep"], folder=folder / "alone").table(experiment(KILLED))
        pd.testing.assert_frame_equal(resumed, alone, check_dtype=False, rtol=1e-6, atol=1e-6)
        say("the table is that of a run that nothing interrupted")
    return 0


def expect(holds: bool, what: str) -> None:
    """Return None where it holds. Raises SystemExit otherwise."""
    if not holds:
        raise SystemExit(f"FAILED: {what}")


@contextmanager
def running(command: list[str], tree: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a command, which does not outlive the block."""
    with subprocess.Popen(command, cwd=tree, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def shown_on_failure(folder: Path) -> Iterator[None]:
    """Print the ends of the jobs' logs when something did not hold."""
    try:
        yield
    except BaseException:
        for log in sorted(folder.glob("checkout/.snakemake/slurm_logs/**/*.log")):
            print(f"== {log.relative_to(folder)}", *log.read_text(errors="replace").splitlines()[-25:], sep="\n")
        raise


def copy_checkout(tree: Path) -> None:
    """Return None after the files that git knows, as they are now, were copied."""
    names = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in names.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())


def install_plugin(folder: Path) -> None:
    """Return None after what the extra `slurm` adds was installed into a folder of its own, and fits what is there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    plugin = [line for line in extras["slurm"] if not line.startswith("emolib")]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    into = ["install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, *into, *plugin, "snakemake-executor-plugin-slurm-jobstep<1"], check=True)
    # The embedded model's package misses what it does not need here: no other complaint may join.
    alone, beside = (
        subprocess.run([*pip, "check"], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True).stdout
        for path in ("", str(folder))
    )
    expect(alone == beside, f"the plugin fits what is installed: {beside}")


def small_model(folder: Path, name: str) -> str:
    """Return the folder of a random model, large enough that its ablations take a while."""
    size = dict(num_hidden_layers=LAYERS[name], hidden_size=128, intermediate_size=512, seed=LAYERS[name])
    model = tiny_model("llama", tokenizer=word_tokenizer(), **size)
    for part in (model.hf, model.tokenizer):
        part.save_pretrained(folder / name)
    return str(folder / name)


def table(notebook: str, run: Run) -> Path:
    """Return where the table of a notebook is, below the checkout."""
    path = result_of(notebook, run.slug, ROOT)
    assert path is not None
    return path.relative_to(ROOT)


def tables(runs: dict[str, Run], tree: Path) -> list[Path]:
    """Return the six tables."""
    return [tree / table(notebook, run) for run in runs.values() for notebook in NOTEBOOKS]


def shards(tree: Path) -> dict[str, int]:
    """Return when each shard of edits of the deep model was written."""
    found = {}
    for path in tree.glob("cache/edits-*/*.safetensors"):
        with safe_open(path, "pt") as shard:
            n_edits = shard.get_slice("logits").get_shape()[1]
        # Four ablations of three components at every layer, and some of wider spans: more than the flat model has.
        if n_edits >= 4 * 3 * LAYERS["deep"]:
            found[str(path)] = path.stat().st_mtime_ns
    return found


def kill_half_way(call: subprocess.Popen[bytes], run: Run, tree: Path, environment: dict[str, str]) -> dict[str, int]:
    """Return the shards that the job to be killed left, after it was cancelled as soon as it had one."""
    while not shards(tree):
        expect(call.poll() is None, "the first call is at work until the job to be killed has a shard")
        time.sleep(0.2)
    queue = subprocess.check_output(["squeue", "--noheader", "--format=%i %k"], env=environment, text=True)
    jobs = dict(reversed(line.split(maxsplit=1)) for line in queue.splitlines())
    number = jobs[f"rule_notebook_{KILLED}_wildcards_{run.slug}"]
    subprocess.run(["scancel", number], env=environment, check=True)
    ended = ["squeue", "--noheader", "--states=running,completing", f"--jobs={number}"]
    while subprocess.check_output(ended, env=environment):
        time.sleep(0.2)
    return shards(tree)


def accounting(environment: dict[str, str]) -> list[str]:
    """Return the state of every job there was, as slurmdbd has it."""
    found = subprocess.check_output(["sacct", "-X", "-n", "-P", "--format=State"], env=environment, text=True)
    return [line.split()[0] for line in found.splitlines()]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the daemons are ended
    sys.exit(main())
