"""The hash that decides whether stored results still belong to the code, on a copy of the package."""

from __future__ import annotations

import ast
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import emolib
from emolib.tables import provenance

MODULE = "emolib.experiments.ablation.measure"
Change = Callable[[str, str, str], bool]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the code of emolib."""
    ignored = shutil.ignore_patterns("__pycache__", "data")
    return shutil.copytree(Path(emolib.__file__).parent, tmp_path / "emolib", ignore=ignored)


@pytest.fixture
def code_sha256(package: Path) -> Callable[[str], str]:
    """`code_sha256` as it is in the copy, without what it remembers."""
    spec = importlib.util.spec_from_file_location("copied_provenance", package / "provenance.py")
    assert spec is not None and spec.loader is not None
    copied: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)

    def fresh(module: str = MODULE) -> str:
        copied.code_sha256.cache_clear()
        return copied.code_sha256(module)

    return fresh


@pytest.fixture
def changes_hash(package: Path, code_sha256: Callable[..., str]) -> Change:
    """Whether replacing one text by another in a file of the copy changes the hash of the ablation."""

    def change(file: str, old: str, new: str) -> bool:
        before, path = code_sha256(), package / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")
        ast.parse(path.read_text(encoding="utf-8"))
        return code_sha256() != before

    return change


def test_the_copy_has_the_hash_of_the_original(code_sha256: Callable[..., str]) -> None:
    assert code_sha256() == provenance.code_sha256(MODULE)
    assert len(code_sha256()) == 64


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("experiments/ablation.py", '"""What the answer needs', '"""What is needed by the answer'),
        ("experiments/ablation.py", "    runs take every second centre of the wider span.\n", ""),
        ("edits.py", '    """The zero vector (E4, zero ablation)."""\n', '    """Nothing."""\n'),
        ("experiments/ablation.py", "  # one random cycle: every text gives once, none to itself", ""),
        ("experiments/ablation.py", "SPANS = (1, 3)", "# Widths of the windows.\nSPANS = (\n    1,\n    3,\n)"),
        ("stats.py", "LEVEL = 0.95\n", "\n\nLEVEL = (0.95)\n"),
    ],
)
def test_words_and_layout_do_not_count(changes_hash: Change, file: str, old: str, new: str) -> None:
    assert not changes_hash(file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("experiments/ablation.py", "SPANS = (1, 3)", "SPANS = (1, 5)"),
        ("experiments/ablation.py", "np.roll(order, 1)", "np.roll(order, 2)"),
        ("experiments/ablation.py", '"zero": Zero(),', '"nil": Zero(),'),
        ("edits.py", "1_000_003", "1_000_033"),  # imported
        ("stats.py", "LEVEL = 0.95\n", "LEVEL = 0.9\n"),  # imported with `from emolib import`
        ("clean.py", "KEEP = 5 ", "KEEP = 4 "),
        ("scores.py", "correct[rows]", "-correct[rows]"),  # imported by what is imported
        ("context.py", "enable_gqa=True", "enable_gqa=False"),
        ("checks.py", "torch.float32: 1e-4", "torch.float32: 1e-3"),  # imported inside a function
    ],
)
def test_what_is_computed_counts_wherever_it_is_imported_from(
    changes_hash: Change, file: str, old: str, new: str
) -> None:
    assert changes_hash(file, old, new)


def test_what_only_fetches_names_and_keeps_does_not_count(changes_hash: Change) -> None:
    assert not changes_hash("results.py", "SLACK = 1e-6", "SLACK = 1e-7")
    assert not changes_hash("shards.py", "mininterval=5", "mininterval=6")


def test_what_is_not_imported_does_not_count(changes_hash: Change, package: Path) -> None:
    assert not changes_hash(
        "plotting/__init__.py",
        "\nfrom __future__ import annotations\n",
        "\nfrom __future__ import annotations\nX = 1\n",
    )
    (package / "experiments" / "new.py").write_text("X = 1\n")
    assert not changes_hash("experiments/behaviour.py", "TOP_WORDS = 20", "TOP_WORDS = 30")


def test_a_new_import_counts(changes_hash: Change) -> None:
    assert changes_hash("experiments/ablation.py", "from emolib import stats\n", "from emolib import paper, stats\n")


def test_a_string_that_is_no_docstring_counts(changes_hash: Change) -> None:
    # Messages are behaviour; only what stands where a docstring stands is left out.
    assert changes_hash("experiments/ablation.py", "another prompt or a larger model", "a larger model")


def test_empty_fields_of_other_versions_of_python_do_not_count() -> None:
    def dumped(**extra: object) -> str:
        tree = ast.parse("def f(a):\n    return -a[1:]")
        function = tree.body[0]
        function._fields = (*ast.FunctionDef._fields, *extra)
        for name, value in extra.items():
            setattr(function, name, value)
        return provenance._dump(tree)

    assert dumped() == dumped(later_field=[]) == dumped(later_field=None)
    assert dumped() != dumped(later_field=["T"])
    assert "USub" in dumped() and "Constant(value=1)" in dumped()


def test_experiments_differ_and_a_module_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ablation", "behaviour", "probing")
    assert len({provenance.code_sha256(f"emolib.experiments.{name}") for name in names}) == 3
    monkeypatch.setattr(provenance.ast, "parse", None)
    assert provenance.code_sha256(MODULE)


def test_imported_files_by_hand(tmp_path: Path) -> None:
    package = tmp_path / "emolib"
    (package / "experiments").mkdir(parents=True)
    for name in ("__init__", "stats", "edits", "study", "experiments/__init__", "experiments/probing"):
        (package / f"{name}.py").write_text("")
    code = "%matplotlib inline\n!ls\nimport numpy\nimport emolib.engine.edits as e\nfrom emolib import stats\n"
    code += (
        "from os import path\nfrom emolib.experiments import probing\nif 1:\n    from emolib.study.study import Study\n"
    )
    found = {path.relative_to(package).as_posix() for path in provenance.imported(code, tmp_path)}
    modules = {"edits.py", "stats.py", "study.py", "experiments/probing.py"}
    assert found == modules | {"__init__.py", "experiments/__init__.py"}


def test_every_module_of_the_package_imports_absolutely() -> None:
    # Relative imports would escape the hash.
    for path in Path(emolib.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path.name} line {node.lineno}"
