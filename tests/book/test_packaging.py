"""One source of pins, a wheel that works alone, and the rules of the repository that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import emolib
from emolib.book.doctor import memory_gb, models_table
from emolib.engine.registry import registered_file, registry
from helpers import ROOT, isolated

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [one for one in map(Requirement, lines) if one.name != "emolib"]
    for name, lines in PROJECT["optional-dependencies"].items()
}
TEST_EXTRA = EXTRAS["test"]
# Not in the lock: what only a cluster needs.
LOCKED = [extra for name, extra in EXTRAS.items() if name not in ("test", "slurm")]
DEPENDENCIES = [*CORE, *(one for extra in LOCKED for one in extra)]
# What a notebook on Colab finds installed, of its public list of August 2026: the core must leave all of it alone.
COLAB = {
    "python": "3.13.0",
    "torch": "2.11.0",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
}
PACKAGES = {path.parent.name for path in (ROOT / "emolib").glob("*/__init__.py")} | {"cli"}
# Declared without being imported: started as a program, or needed by transformers to read the embedded model.
NOT_IMPORTED = {
    "beartype",  # pytest is told to
    "pytest-xdist",  # make test shares its files out with it
    "accelerate",
    "gguf",
    "ipykernel",
    "jupyter-book",
    "snakemake",
    "ruff",
    "mypy",
    "types-pyyaml",
    "import-linter",
    "soupsieve",
}
# What comes with a declared package and is imported on purpose: the book's machinery, and scikit-learn's companions.
BROUGHT = {
    "docutils": "jupyter-book",
    "sphinx": "jupyter-book",
    "myst-nb": "jupyter-book",
    "markdown-it-py": "jupyter-book",
    "ipython": "ipykernel",
    "nbclient": "papermill",
    "pillow": "matplotlib",
    "fonttools": "matplotlib",
    "joblib": "scikit-learn",
    "threadpoolctl": "scikit-learn",
    "packaging": "jupyter-book",
    "tokenizers": "transformers",
    "huggingface-hub": "transformers",
    "httpx": "nnsight",
    "zstandard": "nnsight",
}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("requirement", [*DEPENDENCIES, *TEST_EXTRA], ids=lambda r: r.name)
def test_lock_has_every_declared_package_within_its_range_and_it_is_what_is_installed(requirement: Requirement) -> None:
    version = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True), f"make lock: {requirement} but {version}"
    assert Version(metadata.version(requirement.name)).public == version, "make setup installs the locked versions"


def test_lock_is_exact_sorted_and_valid_on_every_machine() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line) for line in lines), "no +cpu, no address"
    names = [line.split("==")[0].lower() for line in lines]
    assert names == sorted(set(names))
    assert "emolib" not in names


def test_locked_packages_run_on_every_supported_patch_of_the_oldest_python() -> None:
    for name in locked():
        supported = metadata.metadata(name).get("Requires-Python") if installed(name) else None
        specifier = Requirement(f"python{supported or ''}").specifier
        assert specifier.contains("3.11.0"), f"{name} wants {supported}: bound it in pyproject.toml"


def installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:  # a package of another system or Python version
        return False


def test_embedded_model_is_pinned_in_one_version_and_is_the_registered_file() -> None:
    import hashlib

    package, version = registry()["smollm2-135m"]["wheel"].split("==")
    assert locked()[package] == version
    path = registered_file("smollm2-135m")
    assert path is not None, "emolib fetch smollm2-135m"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == registry()["smollm2-135m"]["sha256"]


def test_environment_yml_adds_no_pin_of_its_own() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-c requirements.lock", "-e .[all,test]"]}
    pinned = [item for item in conda if "=" in item]
    assert pinned == ["python=3.11"]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.11")


def test_every_import_is_declared_and_every_declared_package_is_used() -> None:
    providers = metadata.packages_distributions()
    declared = {canonicalize_name(r.name) for r in [*DEPENDENCIES, *TEST_EXTRA]}
    used: set[str] = set()
    for path in sources("emolib", "tests", "tools", "notebooks"):
        for name in {module.split(".")[0] for module in imported(path)} - set(sys.stdlib_module_names):
            ours = {"emolib", "checkout", "helpers", "ndif", "soak", "planted", "benchmarks", "experiments", "tools"}
            if name in ours or (path.parent / f"{name}.py").is_file():
                continue
            owners = {canonicalize_name(owner) for owner in providers.get(name, [])}
            assert owners & (declared | BROUGHT.keys()), f"{path.name} imports {name}: list it in pyproject.toml"
            used |= owners
    assert declared - used <= NOT_IMPORTED, "declared, never imported"


def test_runtime_code_imports_no_test_package() -> None:
    providers = metadata.packages_distributions()
    only_tests = {canonicalize_name(r.name) for r in TEST_EXTRA} - {"playwright"}  # doctor looks for its browser
    for path in sources("emolib"):
        owners = {canonicalize_name(o) for m in imported(path) for o in providers.get(m.split(".")[0], [])}
        assert not owners & only_tests, path.name


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what its core needs, and nothing else."""
    home = tmp_path_factory.mktemp("core")
    isolated(home, wheel)
    return home


def test_wheel_holds_its_data_and_its_command_works(core: Path, tmp_path: Path) -> None:
    (package,) = core.glob("lib/python*/site-packages/emolib")
    shipped = {path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.suffix != ".pyc"}
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / "emolib" / "data").iterdir()}
    stubs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "emolib").rglob("*.pyi")}  # read at run time
    assert data | stubs | {"emolib/figures/emolib.mplstyle", "emolib/engine/models.yml"} <= shipped

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [core / "bin" / "emolib", *arguments]
        return subprocess.run(program, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)

    models = run("models")
    assert models.returncode == 0 and models.stdout.strip() == models_table(), models.stderr
    refused = run("book")
    assert refused.returncode == 2 and "not in a checkout" in refused.stderr


def test_every_make_command_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), ROOT / ".ci" / "run"]
    named = {word for page in pages for word in re.findall(r"(?:`|^|: )make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert {"book", "test", "reference", "lock", "setup"} <= named <= targets


def test_ci_runs_the_readme_s_test_command_and_then_the_book() -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    commands = [line.split("#")[0].strip() for line in block[1].strip().splitlines()]
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands == ["make book", "make test"]
    assert "set -euo pipefail" in lines and lines.index("make lint") < lines.index("make test") < lines.index(
        "make book"
    )
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_citation_agrees_with_the_project_and_names_the_study() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    study = citation["references"][0]
    names = [author["family-names"] for author in study["authors"]]
    assert names == ["Tak", "Banayeeanzade", "Bolourani", "Kian", "Jia", "Gratch"]
    assert (study["doi"], study["start"], study["end"]) == ("10.18653/v1/2025.findings-acl.679", 13090, 13120)


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = re.compile(r"(^|[^A-Za-z0-9_.])/(" + "|".join(["root", "work", "tmp", "home", "farm", "Users"]) + ")/")
    skipped = {".git", ".venv", "_build", "runs", "cache", ".snakemake", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    kinds = {".py", ".md", ".yml", ".toml", ".bib", ".cff", ".ipynb", ".css", ".lock", ""}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and path.suffix in kinds and not skipped & set(parts) and "__pycache__" not in parts:
            found = pattern.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"


def test_code_is_clean_and_packages_import_only_downwards() -> None:
    for command in (["ruff", "check", "--no-cache"], ["ruff", "format", "--check", "--no-cache"]):
        subprocess.run([sys.executable, "-m", *command, ROOT], check=True)
    subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, check=True)


def test_the_layers_in_the_docstring_are_those_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    lines = re.findall(r"^- (.*)$", emolib.__doc__ or "", re.MULTILINE)
    told = [set(re.findall(r"`(\w+)`", line)) & PACKAGES for line in lines]
    layers = [set(re.findall(r"emolib\.(\w+)", layer)) for layer in reversed(contract["layers"])]
    assert told == layers and set.union(*layers) == PACKAGES


def test_a_notebook_leaves_what_colab_has_alone() -> None:
    for requirement in [*CORE, *EXTRAS["probes"], *EXTRAS["chapters"]]:
        if requirement.name in COLAB:
            assert requirement.specifier.contains(COLAB[requirement.name]), requirement
        assert not any(one.operator == "==" for one in requirement.specifier), (
            f"{requirement}: exact pins are the lock's"
        )
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(COLAB["python"])


FIVE_LINES = """
import sys
import torch
import emolib as el
assert "torch" in sys.modules and not set(sys.modules) & {"emolib.engine.engine", "nnsight"}
from emolib.engine.tiny import tiny_model
prompts = ["Context: The bus left early. Answer:", "Context: We won! Answer:"]
model = tiny_model("llama")
engine = el.Engine(model, prompts, answers=torch.arange(60, 73))
sweep = el.sweep(el.Zero(), model, components=["attn_out"], span=3)
logits = engine.replay(engine.encode(), sweep)
assert logits.shape == (2, len(sweep), 13) and len(sweep.frame) == len(sweep)
for row, prompt in enumerate(prompts):
    for column, edit in enumerate(sweep):
        plain = el.plain(model, prompt, edit, torch.arange(60, 73))
        assert torch.allclose(logits[row, column], plain, atol=1e-4), (row, column)
import importlib.util
there = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
assert not there, there
print("equal")
"""


def test_the_wheel_with_its_core_alone_runs_the_five_lines_and_brings_no_book(core: Path, tmp_path: Path) -> None:
    script = tmp_path / "five_lines.py"
    script.write_text(FIVE_LINES)
    unwanted = ["sphinx", "snakemake", "papermill", "vl_convert", "matplotlib", "sklearn", "pyarrow"]
    program = [core / "bin" / "python", script, *unwanted]
    done = subprocess.run(program, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert done.stdout.strip().endswith("equal"), done.stderr


def test_importing_emolib_takes_less_than_a_tenth_of_a_second() -> None:
    code = "import time; start = time.perf_counter(); import emolib; print(time.perf_counter() - start)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(3)]
    assert min(times) < 0.1


# Hugging Face id: name in the figures, layers, width, heads, key/value heads, head width, MLP width, vocabulary,
# tied embeddings, norms a layer (widths of the residual stream), extra weights a layer (norms of queries and keys,
# biases). From the models' cards and the study's Table 1; None: not in the study.
CARDS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (None, 30, 576, 9, 3, 64, 1536, 49152, True, 2, 0),
    "google/gemma-3-270m": (None, 18, 640, 4, 1, 256, 2048, 262144, True, 4, 512),
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": (None, 24, 896, 14, 2, 64, 4864, 151936, True, 2, 1152),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": (None, 28, 1536, 12, 2, 128, 8960, 151936, True, 2, 2048),
    "meta-llama/Llama-3.2-1B-Instruct": ("Llama3 1B", 16, 2048, 32, 8, 64, 8192, 128256, True, 2, 0),
    "google/gemma-2-2b-it": ("Gemma2 2B", 26, 2304, 8, 4, 256, 9216, 256000, True, 4, 0),
    "meta-llama/Llama-3.1-8B-Instruct": ("Llama3 8B", 32, 4096, 32, 8, 128, 14336, 128256, False, 2, 0),
    "microsoft/Phi-3.5-mini-instruct": ("Phi3 4B", 32, 3072, 32, 32, 96, 8192, 32064, False, 2, 0),
    "allenai/OLMo-2-1124-7B-Instruct": ("OLMo2 7B", 32, 4096, 32, 32, 128, 11008, 100352, False, 2, 8192),
    "mistralai/Ministral-8B-Instruct-2410": ("Mistral 8B", 36, 4096, 32, 8, 128, 12288, 131072, False, 2, 0),
    "microsoft/Phi-3-medium-128k-instruct": ("Phi3 14B", 40, 5120, 40, 10, 128, 17920, 32064, False, 2, 0),
    "mistralai/Mistral-Nemo-Instruct-2407": ("Mistral 12B", 40, 5120, 32, 8, 128, 14336, 131072, False, 2, 0),
    "allenai/OLMo-2-1124-13B-Instruct": ("OLMo2 13B", 40, 5120, 40, 40, 128, 13824, 100352, False, 2, 10240),
    "google/gemma-2-9b-it": ("Gemma2 9B", 42, 3584, 16, 8, 256, 14336, 256000, True, 4, 0),
    "HuggingFaceTB/SmolLM2-360M-Instruct": (None, 32, 960, 15, 5, 64, 2560, 49152, True, 2, 0),
    "Qwen/Qwen2.5-0.5B-Instruct": (None, 24, 896, 14, 2, 64, 4864, 151936, True, 2, 1152),
    "Qwen/Qwen3-0.6B": (None, 28, 1024, 16, 8, 128, 3072, 151936, True, 2, 256),
    "google/gemma-3-1b-it": (None, 26, 1152, 4, 1, 256, 6912, 262144, True, 4, 512),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": (None, 22, 2048, 32, 4, 64, 5632, 32000, False, 2, 0),
    "allenai/OLMo-2-0425-1B-Instruct": (None, 16, 2048, 16, 16, 128, 8192, 100352, False, 2, 4096),
    "Qwen/Qwen2.5-1.5B-Instruct": (None, 28, 1536, 12, 2, 128, 8960, 151936, True, 2, 2048),
    "tiiuae/Falcon3-1B-Instruct": (None, 18, 2048, 8, 4, 256, 8192, 131072, False, 2, 0),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": (None, 24, 2048, 32, 32, 64, 8192, 49152, True, 2, 0),
    "Qwen/Qwen3-1.7B": (None, 28, 2048, 16, 8, 128, 6144, 151936, True, 2, 256),
    "ibm-granite/granite-3.3-2b-instruct": (None, 40, 2048, 32, 8, 64, 8192, 49159, True, 2, 0),
    "HuggingFaceTB/SmolLM3-3B": (None, 36, 2048, 16, 4, 128, 11008, 128256, True, 2, 0),
    "Qwen/Qwen2.5-3B-Instruct": (None, 36, 2048, 16, 2, 128, 11008, 151936, True, 2, 2560),
    "meta-llama/Llama-3.2-3B-Instruct": (None, 28, 3072, 24, 8, 128, 8192, 128256, True, 2, 0),
    "microsoft/Phi-4-mini-instruct": (None, 32, 3072, 24, 8, 128, 8192, 200064, True, 2, 0),
    "Qwen/Qwen3-4B": (None, 36, 2560, 32, 8, 128, 9728, 151936, True, 2, 256),
    "Qwen/Qwen2.5-7B-Instruct": (None, 28, 3584, 28, 4, 128, 18944, 152064, False, 2, 4608),
    "ibm-granite/granite-3.3-8b-instruct": (None, 40, 4096, 32, 8, 128, 12800, 49159, True, 2, 0),
    "Qwen/Qwen3-8B": (None, 36, 4096, 32, 8, 128, 12288, 151936, False, 2, 256),
    "microsoft/phi-4": (None, 40, 5120, 40, 10, 128, 17920, 100352, False, 2, 0),
    "Qwen/Qwen3-14B": (None, 40, 5120, 40, 8, 128, 17408, 151936, False, 2, 256),
    "Qwen/Qwen2.5-14B-Instruct": (None, 48, 5120, 40, 8, 128, 13824, 152064, False, 2, 7168),
}


def test_registry_is_what_the_cards_say_in_their_order() -> None:
    assert [(m["hub"], m.get("paper"), m["layers"], m["width"]) for m in registry().values()] == [
        (hub, name, layers, width) for hub, (name, layers, width, *_) in CARDS.items()
    ]
    gated = {m["hub"].split("/")[0] for m in registry().values() if m["gated"]}
    assert gated == {"meta-llama", "google"} | {"mistralai"}
    assert not registry()["mistral-nemo-12b"]["gated"]


@pytest.mark.parametrize("hub", CARDS)
def test_parameters_follow_from_the_architecture(hub: str) -> None:
    _, layers, d, heads, kv, head, mlp, vocabulary, tied, norms, extra = CARDS[hub]
    attention = 2 * d * heads * head + 2 * d * kv * head
    expected = vocabulary * d * (1 if tied else 2) + layers * (attention + 3 * d * mlp + norms * d + extra) + d
    (entry,) = [m for m in registry().values() if m["hub"] == hub]
    assert entry["parameters"] == expected


def test_memory_is_weights_and_a_fifth() -> None:
    assert memory_gb(1_000_000_000, "float32") == pytest.approx(4.8)
    assert memory_gb(1_000_000_000, "bfloat16") == pytest.approx(2.4)
    assert "67.0 GB" in next(line for line in models_table().splitlines() if line.startswith("phi-3-medium"))


def test_whatever_reads_texts_tables_or_claims_needs_no_model_library() -> None:
    light = ["texts.corpus", "paper.claims", "paper.overview", "stats.intervals", "tables.results", "book.explorer"]
    light += [f"figures.{path.stem}" for path in (ROOT / "emolib/figures").glob("[a-z]*.py")]
    light += [f"experiments.{path.parent.name}.views" for path in (ROOT / "emolib/experiments").glob("*/views.py")]
    code = f"""
import sys, importlib
for name in {light}:
    importlib.import_module("emolib." + name)
from emolib.paper import errata
from emolib.study.run import Run
errata.from_paper(), Run().slug, Run(model="owner/name")
print({{"torch", "transformers", "nnsight"}} & {{name.split(".")[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
