"""How far numbers move with threads, batches and memory, which `emolib.tables.compare` states; and what never moves.

In one process and dtype, on one kind of processor: labels, counts and shares are equal; what is continuous moves by
rounding; the paper's own probe, which stops before it has converged, by more. Rows never change their order.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from emolib.engine.engine import Engine
from emolib.experiments import ablation, behaviour, geometry
from emolib.study.clean import KEEP
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables.results import digest
from helpers import ROOT, assert_agree

EXPERIMENTS = (behaviour, ablation, geometry)
EQUAL = ("behaviour", "ablation")  # labels, and shares of them, but for
AREA = "auroc"  # which is of scores
Tables = dict[str, pd.DataFrame]


def tables(run: Run, folder: Path, model: Any = None, **engine: Any) -> Tables:
    """Of a study of most of the texts, as if they were answered right, so that a random model can be probed."""
    study = Study(run, model=model, folder=folder, agreed=range(140))
    study.__dict__["engine"] = Engine(study.model, study._prompts, study.labels.ids(run.scoring), keep=KEEP, **engine)
    return {one.__name__.rpartition(".")[2]: study.table(one) for one in EXPERIMENTS}


@pytest.fixture(scope="module")
def usual(tiny_run: Run, tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    """One thread, batches as they come; the folder with what was kept."""
    folder = tmp_path_factory.mktemp("usual")
    return folder, tables(tiny_run, folder, tiny_study.model)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    yield
    torch.set_num_threads(before)


def _agree(one: Tables, other: Tables) -> None:
    for name, table in one.items():
        assert_agree(table, other[name])
        if name in EQUAL:
            exact = table["metric"] != AREA
            assert table.loc[exact, "value"].equals(other[name].loc[exact, "value"])


def test_threads_move_no_label_and_what_is_continuous_by_rounding(
    tiny_run: Run, tiny_study: Study, usual: tuple[Path, Tables], two_threads: None, tmp_path: Path
) -> None:
    _agree(usual[1], tables(tiny_run, tmp_path, tiny_study.model))


@pytest.mark.parametrize("engine", [dict(max_texts=24), dict(memory_bytes=10**7)], ids=str)
def test_neither_do_batches_and_memory(
    engine: dict[str, Any], tiny_run: Run, tiny_study: Study, usual: tuple[Path, Tables], tmp_path: Path
) -> None:
    _agree(usual[1], tables(tiny_run, tmp_path, tiny_study.model, **engine))


AGAIN = """
import json, sys
import torch
from pathlib import Path
from emolib.study.run import Run
from emolib.tables.results import digest
from test_tolerance import tables
torch.set_num_threads(int(sys.argv[3]))
found = tables(Run(**json.loads(sys.argv[1])), Path(sys.argv[2]))
print(json.dumps({name: digest(table) for name, table in found.items()}))
"""


def test_rows_come_in_one_order_with_one_value_under_any_hash_seed_and_after_a_resume(
    tiny_run: Run, usual: tuple[Path, Tables]
) -> None:
    """Half of what was kept is lost, and another process, which orders its sets otherwise, goes on."""
    folder, expected = usual
    for shard in sorted(folder.glob("cache/*/*.safetensors"))[::2]:
        shard.unlink()
    seed = str(1 + int(os.environ.get("PYTHONHASHSEED", "0").replace("random", "0")))
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT}/tests:{ROOT}/tests/study"}
    given = [json.dumps(tiny_run.parameters()), str(folder), str(torch.get_num_threads())]
    done = subprocess.run([sys.executable, "-c", AGAIN, *given], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: digest(table) for name, table in expected.items()}
