"""Where a number comes from: code, parameters, model, corpus, versions, machine and cost of a run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("emolib", "numpy", "pandas", "scipy", "scikit-learn", "torch", "transformers", "nnsight", "pyarrow")
# A local path as a value: it starts at a root, a home, a drive, or climbs; hub ids such as "org/name" do not.
LOCAL_PATH = re.compile(r"^(?:/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|file:)")
PATH_INSIDE = re.compile(r"(?:^|[\s\"'=(])(?:~?/[\w.-]+/|[A-Za-z]:\\)")


def collect_provenance(
    *, parameters: Mapping[str, Any], device: str, seconds: float, **made_from: Any
) -> dict[str, Any]:
    """Return the provenance of a table as plain JSON values, free of paths, user names and host names.

    `seconds` is the wall time of the run; `made_from` are the entries that decide whether the table is stale
    (`emolib.study.freshness.key`). Parameters that are local paths are reduced to the file name. `commit` is None
    outside a git checkout of emolib.
    """
    return {
        **git_state(),
        "parameters": {str(name): public(value) for name, value in parameters.items()},
        **made_from,
        "device": device,
        "processor": processor_name(),
        "threads": thread_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := installed(name))},
        "seconds": round(float(seconds), 3),
        "peak_memory_mb": peak_memory_mb(),
        "utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def footer(provenance: Mapping[str, Any]) -> str:
    """Return the provenance as a short Markdown paragraph for the end of a chapter."""
    commit = provenance.get("commit")
    changed = " (modified)" if provenance["dirty"] else ""
    code = "outside git" if commit is None else f"commit `{commit[:10]}`{changed}"
    packages = ", ".join(f"{name} {version}" for name, version in provenance["packages"].items() if name != "emolib")
    values = {k: " and ".join(map(str, v)) if isinstance(v, list) else v for k, v in provenance["parameters"].items()}
    parameters = ", ".join(f"{k} {v}" for k, v in values.items() if v not in (None, ""))
    protocol = f", protocol {provenance['protocol']}" if "protocol" in provenance else ""  # a benchmark has none
    # A twin's is two marks: its seed, and the model whose architecture it has.
    revision = " ".join(mark[:12] for mark in str(provenance["model_revision"] or "").split())
    read = f", {provenance['corpus_reading']}" if "corpus_reading" in provenance else ""  # not in older tables
    lines = [
        f"**Provenance.** Code: {code}{protocol}.",
        f"Run: {parameters}" + (f", model revision `{revision}`" if revision else "") + ".",
        *([absent(provenance)] if absent(provenance) else []),
        *([f"Edits by full passes, because {provenance['full_passes']}."] if "full_passes" in provenance else []),
        f"Corpus: `{provenance['corpus_sha256'][:10]}`{read}.",
        f"Machine: {provenance['processor']}, {provenance['device']}, {provenance['threads']} threads;",
        f"{cost(provenance)}; {provenance['utc']}.",
        f"Python {provenance['python']}, {packages}.",
    ]
    return " ".join(lines)


def cost(provenance: Mapping[str, Any]) -> str:
    """Return in words what a table took: wall time and peak memory."""
    return f"{duration(provenance['seconds'])}, peak memory {provenance['peak_memory_mb'] / 1024:.1f} GB"


def absent(provenance: Mapping[str, Any]) -> str:
    """Return in sentences what a table lacks because its model does, or answers badly; empty where it lacks nothing."""
    model = [f"The model has {provenance['absent']}."] if "absent" in provenance else []
    return " ".join([*model, *([str(provenance["left_out"])] if "left_out" in provenance else [])])


def local_paths(value: Any) -> list[str]:
    """Return the texts in a nested value that are, or contain, a path on this machine."""
    return sorted({text for text in _texts(value) if LOCAL_PATH.search(text) or PATH_INSIDE.search(text)})


def git_state() -> dict[str, str | bool | None]:
    """Return `commit` and `dirty` of the checkout that holds emolib; both None when its files are not in git.

    Results and executed chapters are what a run writes, so they do not count as a modification of the code.
    """
    source = Path(__file__).resolve()
    package = source.parents[1]
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return {"commit": None, "dirty": None}
    root = Path(_git(package, "rev-parse", "--show-toplevel") or package)
    status = _git(root, "status", "--porcelain", "--", ".", ":(exclude)results", ":(exclude)book/chapters")
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    return {"commit": commit, "dirty": None if commit is None else bool(status)}


def processor_name() -> str:
    """Return the name of the processor's model, or of its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def thread_count() -> int:
    """Return the number of threads the run computes with: torch's where it is loaded, else the configured number."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MiB; 0 where the system keeps no count."""
    if platform.system() == "Windows":
        return 0.0
    import resource

    unit = 1024**2 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:  # a machine without git is outside git
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installed(name: str) -> str | None:
    """Return the version of an installed package, None for one that is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def public(value: Any) -> Any:
    """Return a value, or all within it, as a provenance shows it: of a local path its last part."""
    if isinstance(value, Mapping):
        return {str(name): public(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(item) for item in value]
    if isinstance(value, Path) or (isinstance(value, str) and LOCAL_PATH.search(value)):
        return re.split(r"[/\\]", str(value).rstrip("/\\"))[-1]
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return _texts([*map(str, value), *value.values()])
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    return [str(value)] if isinstance(value, (str, Path)) else []


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
