"""What tests share that is no fixture: the repository, a corpus and a tokenizer so small that a study takes seconds.

Nothing is imported before it is asked for: most tests need no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from packaging.requirements import Requirement

from emolib.texts.corpus import APPRAISALS, EMOTIONS
from emolib.texts.prompts import get_prompt

ROOT = Path(__file__).resolve().parents[1]
DEVICE = os.environ.get("EMOLIB_TEST_DEVICE", "cpu")  # where small models compute

TINY_WRITERS, TINY_TEXTS = 30, 150
TINY_WORDS = re.findall(
    r"\w+",
    "today yesterday finally suddenly again my his her their our sister neighbour teacher dog boss train garden letter "
    "dinner window found lost broke painted forgot returned praised missed opened cancelled quietly twice outside "
    "before after everyone nobody laughed waited rain cake",
)

# The crowd-enVENT means of each label, in the order of EMOTIONS, to two decimals (no text, no single rating).
CROWD_MEANS = {
    "pleasantness": [1.22, 1.77, 1.17, 1.27, 1.60, 4.70, 2.63, 4.52, 3.33, 1.16, 1.31, 4.07, 3.56],
    "unpleasantness": [4.54, 3.77, 4.63, 4.57, 4.12, 1.26, 2.32, 1.43, 2.57, 4.68, 4.52, 1.77, 2.23],
    "other_responsblt": [4.30, 2.64, 3.96, 2.94, 2.35, 3.19, 2.67, 3.07, 2.77, 2.85, 2.53, 3.85, 3.55],
    "self_responsblt": [1.80, 2.47, 1.67, 2.24, 4.07, 3.59, 2.99, 3.65, 3.04, 2.01, 4.01, 2.32, 3.16],
    "predict_event": [2.76, 3.73, 2.45, 2.23, 2.96, 3.26, 3.64, 3.08, 2.77, 2.66, 2.85, 1.89, 2.91],
    "suddenness": [3.75, 2.07, 3.87, 3.91, 3.09, 2.48, 2.39, 2.45, 3.02, 3.58, 3.40, 4.05, 2.74],
    "chance_control": [1.90, 2.31, 2.23, 2.71, 1.91, 1.91, 2.13, 1.69, 2.42, 3.01, 1.93, 2.01, 1.96],
}


def tiny_table(n: int = TINY_TEXTS, *, writers: int = TINY_WRITERS, seed: int = 0) -> pd.DataFrame:
    """A corpus of one's own: emotions in turn, writers with several texts each, random words, random ratings."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"text_id": [f"t{i:03d}" for i in range(n)]})
    table["writer"] = [f"w{i % writers:02d}" for i in range(n)]
    table["emotion"] = [EMOTIONS[i % len(EMOTIONS)] for i in range(n)]
    table["text"] = [" ".join(random.choice(TINY_WORDS, random.integers(6, 20))) for _ in range(n)]
    for column in APPRAISALS:
        table[column] = random.integers(1, 6, n)
    return table


def needed(project: str, extra: str = "") -> set[str]:
    """The installed packages that a package with that extra needs, and those need in turn; itself included."""
    found: set[tuple[str, str]] = set()
    waiting = [(project, ""), (project, extra)]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) not in found:
            found.add((name, wanted))
            lines = map(Requirement, metadata.requires(name) or [])
            met = [one for one in lines if one.marker is None or one.marker.evaluate({"extra": wanted})]
            waiting += [(one.name, other) for one in met for other in ("", *one.extras)]
    return {name for name, _ in found}


def isolated(home: Path, wheel: Path, extra: str = "", also: Sequence[str] = ()) -> Path:
    """The folder of packages of a new environment with the wheel and what it needs with that extra, and nothing else
    but packages that are named `also`.

    Those packages are links to the ones here: gigabytes are not fetched again. That nothing is missing is pip's word,
    which may ask no index.
    """
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python*/site-packages")
    for name in (needed("emolib", extra) | {*also}) - {"emolib"}:
        package = metadata.distribution(name)
        tops = {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not top.endswith(".pth") and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(package.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", home]
    source = f"{wheel}[{extra}]" if extra else str(wheel)
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it is not there already
    subprocess.run([*pip, "install", "--no-index", "--no-compile", source], check=True, env=settings)
    return packages


def assert_agree(table: pd.DataFrame, other: pd.DataFrame) -> None:
    """Two tables of one experiment differ by nothing but rounding, as `emolib.tables.compare` states it, without a
    flip."""
    from emolib.tables.compare import compare

    found = compare(table, other)
    assert not [*found.failures()] and found.flips.empty, f"{found}: {found.largest()}"


def committed() -> list[Path]:
    """The folders of the tables that are committed: the reference run's, and those of the ladder that have any."""
    from emolib.study.run import LADDER

    return [folder for run in LADDER if (folder := ROOT / "results" / run.slug).is_dir()]


def agreeing_table(model: str, folder: Path, table: pd.DataFrame) -> Path:
    """The file of the corpus with every other label what a model answers: there are agreed texts to work with.

    The answers do not change with the labels, because calibration looks at the texts alone.
    """
    from emolib.study.run import Run
    from emolib.study.study import Study

    path = folder / "agreeing.csv"
    table.to_csv(path, index=False)
    study = Study(Run(model=model, corpus=str(path), device="cpu"), folder=folder)
    answers = np.asarray(study.words)[study.predicted]
    table.assign(emotion=np.where(np.arange(len(table)) % 2, answers, table["emotion"])).to_csv(path, index=False)
    return path


def said_by(notebooks: Sequence[str], run: Any, folder: Path) -> dict[str, str]:
    """What each notebook says in a folder of results, the last being the error that ended it, if there was one.

    Cells that edit the embedded model are passed over.
    """
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    from emolib.book.run import INTERVENTION

    shell, said = InteractiveShell.instance(colors="nocolor"), dict.fromkeys(notebooks, "")
    with contextlib.chdir(folder):
        for name in notebooks:
            shell.reset(new_session=True)
            for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells:
                tags = cell.metadata.get("tags", [])
                if cell.cell_type != "code" or INTERVENTION in tags:
                    continue
                with capture_output() as shown:
                    result = shell.run_cell(cell.source)
                said[name] += "".join(one.data.get("text/markdown", "") + "\n" for one in shown.outputs)
                if error := result.error_before_exec or result.error_in_exec:
                    said[name] += str(error)
                    break
                if "parameters" in tags:
                    shell.user_ns.update(run.parameters())
    InteractiveShell.clear_instance()
    return said


def all_right(events: pd.DataFrame) -> dict[str, Any]:
    """Arguments of a study whose model answers every text right, so that only the corpus is on trial."""
    import torch

    from emolib.study.clean import Clean

    truth = pd.Categorical(events["emotion"], categories=EMOTIONS).codes.astype(int)
    logits = 9 * torch.eye(len(EMOTIONS))[truth] + torch.randn(
        len(truth), len(EMOTIONS), generator=torch.manual_seed(0)
    )
    clean = Clean(logits=logits, sums=logits, words=["yes"] * len(truth))
    return dict(clean=clean, agreed=np.arange(len(truth)))


def word_tokenizer() -> Any:
    """A tokenizer whose tokens are words, so that every label is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    prompt = get_prompt("T1-2shot").render(" ".join((*TINY_WORDS, *EMOTIONS)))
    words = sorted({word for word, _ in split.pre_tokenize_str(prompt)})
    names = {name: index for index, name in enumerate(("<pad>", "<s>", "<unk>", *words))}
    tokenizer = Tokenizer(models.WordLevel(vocab=names, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="<s>", unk_token="<unk>"
    )


def mixed(model: Any) -> Any:
    """The same weights as a model in mixed precision."""
    from emolib.engine.model import wrap_model
    from emolib.engine.precision import mix

    hf = type(model.hf)(model.hf.config)  # nnsight has wrapped the other one, and a model is mixed before that
    hf.load_state_dict(model.hf.state_dict())
    return wrap_model(mix(hf).to(model.device), model.tokenizer, name=model.name)


CHAT_TEMPLATE = (
    "{% for m in messages %}{{ bos_token }}[{{ m['role'] }}] {{ m['content'] | trim }} [end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TASK_WORDS = "The the My my I inferred topics first word contexts in What are is family work school animals travel"


def task_tokenizer(*, chat: bool = False) -> Any:
    """The word tokenizer of the other tests with the words of the control tasks, and a chat template if asked for."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    content = json.loads(word_tokenizer().backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for word in (*TASK_WORDS.split(), *get_prompt("first_word").labels):
        vocabulary.setdefault(word, len(vocabulary))
    special = dict(pad_token="<pad>", bos_token="<s>", eos_token="<s>", unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), **special)
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    return tokenizer


def plain_logits(study: Any, row: int, edit: Any = None) -> Any:
    """Label logits of one text of a study by the oracle: one unpadded pass of plain transformers with a hook."""
    from emolib.engine.oracle import plain

    prompt = study.prompt.render(study.events["text"][row])
    return plain(study.model, prompt, edit, study.labels.ids("first_subtoken")).cpu()


def plain_answers(study: Any, rows: np.ndarray, edit: Any) -> np.ndarray:
    """The calibrated answers of some texts of a study by the same oracle."""
    return np.array([int((plain_logits(study, row, edit) - study.offsets).argmax()) for row in rows])
