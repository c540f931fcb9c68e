"""What the page Ask shows is what the engine answers: to the step that is stored, and every answer exactly."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from emolib import cli
from emolib.book import answers, pages
from emolib.book.render import ANSWERS
from emolib.engine.edits import Patch
from emolib.engine.engine import Engine
from emolib.engine.model import Model
from emolib.interventions.steering import SHARES
from emolib.stats.sampling import halves
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.texts.appraisals import EMOTIONS
from emolib.texts.corpus import load_corpus
from helpers import ROOT, plain_logits

EMBEDDED = ROOT / ANSWERS / "smollm2-135m.js"


class Stored(NamedTuple):
    """A file, read in another way than ask.js does: its header, and calibrated logits and steps by edit."""

    header: dict[str, Any]
    clean: np.ndarray  # [text, label]
    logits: np.ndarray  # [edit, label, text]
    steps: np.ndarray  # [edit]


def read(script: str) -> Stored:
    header = json.loads(script.partition("] = ")[2].removesuffix(";\n"))
    labels = len(header["labels"])
    clean = np.array(header["clean"]).reshape(-1, labels) * 0.001
    content = np.frombuffer(gzip.decompress(base64.b64decode(header["packed"])), np.int8).reshape(
        -1, labels, len(clean)
    )
    lengths = [len(layers) for *_, layers in header["series"]]
    series = np.split(content.astype(int), np.cumsum(lengths)[:-1])
    numbers = np.concatenate([(np.cumsum(part, 0) + 128) % 256 - 128 for part in series])
    steps = np.array(header["steps"])
    return Stored(header, clean, clean.T + numbers * steps[:, None, None], steps)


def expected(study: Study, logits: torch.Tensor) -> np.ndarray:
    """Calibrated logits [..., C] less their mean, of logits as they come."""
    found = (logits - study.offsets).double().numpy()
    return found - found.mean(-1, keepdims=True)


@pytest.fixture(scope="module")
def tiny_file(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return answers.write(tiny_study, tmp_path_factory.mktemp("checkout"))


def test_cells_of_a_tiny_model_are_those_of_plain_passes(tiny_study: Study, tiny_file: Path) -> None:
    stored, half = read(tiny_file.read_text()), halves(tiny_study.groups, seed=0)
    np.testing.assert_allclose(stored.clean, expected(tiny_study, tiny_study.clean.logits), atol=0.0006)
    rng, n = np.random.default_rng(0), len(half)
    swept = {side: answers.edits(tiny_study, np.flatnonzero(half == side)) for side in (False, True)}
    moved = []
    for edit, row in zip(rng.permutation(len(swept[True]))[:60], rng.integers(0, n, 60), strict=True):
        one = swept[half[row]][edit]
        if isinstance(one.operation, Patch):  # a plain pass is of one text, which is then the first
            own = replace(one.operation, donors=one.operation.donors[row].expand(n))
            one = replace(one, operation=own)
        wanted = expected(tiny_study, plain_logits(tiny_study, int(row), one))
        assert np.abs(stored.logits[edit, :, row] - wanted).max() <= stored.steps[edit] + 1e-4
        moved.append(np.abs(wanted - stored.clean[row]).max() > stored.steps[edit])
    assert np.mean(moved) > 0.5  # most of them do something


def test_pushes_have_not_seen_the_texts_that_they_push(tiny_study: Study) -> None:
    rows = np.flatnonzero(halves(tiny_study.groups, seed=0))
    others = np.setdiff1d(np.arange(len(tiny_study.truth)), rows)
    stream = tiny_study.stacked("resid_post")[:, others].double()
    joy = stream[:, tiny_study.truth[others] == EMOTIONS.index("joy")].mean(1) - stream.mean(1)
    high = tiny_study.events["pleasantness"].to_numpy()[others]
    pleasant = stream[:, high > high.mean()].mean(1) - stream[:, high <= high.mean()].mean(1)
    swept = answers.edits(tiny_study, rows)
    for what, direction in {"joy": joy, "pleasantness": pleasant}.items():
        at = swept.frame.index[(swept.frame["kind"] == "push") & (swept.frame["what"] == what)]
        for number in at:
            dose = swept.frame["dose"][number]
            for layer in swept[number].layers:
                wanted = dose * stream[layer].norm(dim=-1).mean() * direction[layer] / direction[layer].norm()
                operation: Any = swept[number].operation
                np.testing.assert_allclose(
                    operation.coefficient * operation.vectors[layer], wanted, rtol=1e-4, atol=1e-5
                )
    assert {abs(dose) for dose in swept.frame["dose"]} == {0.0, *(dose.size for dose in SHARES[:2])}


def test_rounding_keeps_every_answer_and_is_right_to_a_step() -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(size=(13, 50))
    wanted = clean + rng.normal(size=(40, 13, 50)) * np.geomspace(0.01, 40, 40)[:, None, None]
    wanted[3, 5] = wanted[3].max(0) + 1e-6  # as good as a tie
    numbers, steps = answers.rounded(wanted, clean, 0.1)
    found = clean + numbers * np.array(steps)[:, None, None]
    assert (np.abs(found - wanted).max((1, 2)) <= steps).all() and numbers.dtype == np.int8
    assert (found.argmax(1) == wanted.argmax(1)).all()
    assert steps[0] == 0.1 and steps[-1] > 0.1
    nearest = clean + np.rint((wanted - clean) / 0.1) * 0.1
    assert (nearest[:20].argmax(1) != wanted[:20].argmax(1)).any()  # which rounding alone would have changed


def test_what_does_not_fit_is_refused(tiny_study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(answers, "MOST", 10_000)
    with pytest.raises(ValueError, match="10000 are allowed: leave out edits"):
        answers.write(tiny_study, tmp_path)


def test_every_file_is_small_and_of_the_events_and_edits_of_today() -> None:
    files = sorted((ROOT / ANSWERS).glob("*.js"))
    assert EMBEDDED in files
    corpus = load_corpus("situations")
    assert [one["id"] for one in pages.questions(ROOT)["events"]] == corpus.events["text_id"].tolist()
    for file in files:
        assert file.stat().st_size < answers.MOST
        stored = read(file.read_text())
        about = stored.header["about"]
        assert about["corpus_sha256"] == corpus.sha256 and about["protocol"] == answers.PROTOCOL
        assert stored.clean.shape == (len(corpus.events), len(EMOTIONS)) and tuple(stored.header["labels"]) == EMOTIONS
        kinds = [kind for kind, *_ in stored.header["series"]]
        assert [kinds.count(kind) for kind in ("zero", "resample", "patch", "push")] == [3, 3, 39, 46]
        assert all(layers == [*range(1, stored.header["n_layers"] - 1, 3)] for *_, layers in stored.header["series"])


def test_two_hundred_cells_of_the_embedded_model_are_those_of_the_engine(
    embedded_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = read(EMBEDDED.read_text())
    # Half of the time to read all events goes into what nobody asks for here.
    monkeypatch.setattr(Engine, "greedy", lambda _, encoding, n: torch.zeros(len(encoding.rows), n, dtype=torch.long))
    monkeypatch.setattr(
        Engine, "continuations", lambda _, encoding, tokens: torch.zeros(len(encoding.rows), len(tokens))
    )
    study = Study(Run(device="cpu"), model=embedded_model, folder=tmp_path)
    assert stored.header["about"]["model_revision"] == embedded_model.revision
    np.testing.assert_allclose(stored.clean, expected(study, study.clean.logits), atol=0.002)
    assert stored.header["surest"] == answers.surest(study)
    half, rng = halves(study.groups, seed=study.run.seed), np.random.default_rng()
    swept = {side: answers.edits(study, np.flatnonzero(half == side)) for side in (False, True)}
    for row in rng.permutation(len(half))[:20].tolist():
        chosen = rng.permutation(len(stored.steps))[:10]
        logits = study.engine.replay(study.engine.encode([row]), [swept[half[row]][edit] for edit in chosen])[0]
        wanted, found = expected(study, logits), stored.logits[chosen, :, row]
        assert (np.abs(found - wanted).max(-1) <= stored.steps[chosen] + 0.002).all()
        # Of labels as good as tied the other may come out on another machine.
        clear = np.diff(np.sort(wanted)[:, -2:])[:, 0] > 0.002
        assert (found.argmax(-1) == wanted.argmax(-1))[clear].all()


def test_a_model_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["answers", "--model", "smolm2-135m"]) == 2
    assert "smollm2-135m" in capsys.readouterr().err


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ask</title><link rel="stylesheet" href="emolib.css"><div id="emolib-ask" class="emolib-ask"></div>
<script src="emolib.js"></script><script src="ask-data.js"></script><script src="ask.js"></script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as files: of the embedded model, of one whose file is to other events, and of one whose file is lost."""
    found = tmp_path_factory.mktemp("page")
    for name in ("emolib.css", "emolib.js", "ask.js"):
        shutil.copy(ROOT / "book" / "_static" / name, found)
    (found / "answers").mkdir()
    shutil.copy(EMBEDDED, found / "answers")
    script, sha256 = EMBEDDED.read_text(), load_corpus("situations").sha256
    other = (
        script.replace(sha256, "0" * 64)
        .replace('["smollm2-135m"]', '["other"]')
        .replace('"model":"smollm2-135m"', '"model":"other"', 1)
    )
    (found / "answers" / "other.js").write_text(other)
    asked = pages.questions(ROOT)
    asked["models"] = [{"file": name, "title": name, "megabytes": "2.8"} for name in ("smollm2-135m", "other", "lost")]
    (found / "ask-data.js").write_text(f"window.emolibQuestions = {json.dumps(asked)};")
    (found / "page.html").write_text(PAGE)
    return found


@pytest.fixture(scope="module")
def stored() -> Stored:
    return read(EMBEDDED.read_text())


class Cell(NamedTuple):
    """One edit of one event: its place in the file and its address on the page."""

    edit: int
    row: int
    address: str


def cell(stored: Stored, edit: int, row: int) -> Cell:
    sites = [(*key, layer) for *key, layers in stored.header["series"] for layer in layers]
    kind, what, dose, component, layer = sites[edit]
    event = pages.questions(ROOT)["events"][row]["id"]
    asked = dict(model="smollm2-135m", event=event, edit=kind, component=component, layer=layer + 1)
    asked |= {"what": f"-{what}" if dose < 0 else what, "dose": abs(dose)} if what else {}
    return Cell(edit, row, "#" + "&".join(f"{name}={value}" for name, value in asked.items()))


def start(page: Any) -> None:
    """Ask for the answers, of which nothing was loaded yet."""
    assert page.evaluate("window.emolibAnswers") is None
    page.click("text=Ask smollm2-135m (loads 2.8 MB)")


def shown(page: Any) -> dict[str, list[str]]:
    page.wait_for_selector("[data-shown]")
    return {
        label: shares
        for label, _, *shares in page.eval_on_selector_all(
            ".emolib-bars tbody tr", "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
    }


def shares(logits: np.ndarray) -> list[str]:
    weights = np.exp(logits - logits.max())
    return [f"{np.floor(100 * share + 0.5):.0f}\N{NO-BREAK SPACE}%" for share in weights / weights.sum()]


@pytest.mark.browser
def test_an_address_shows_what_is_stored(opened: Any, folder: Path, stored: Stored) -> None:
    rng = np.random.default_rng(3)
    page = opened.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    kinds = np.repeat([key[0] for key in stored.header["series"]], [len(key[-1]) for key in stored.header["series"]])
    for kind in ("zero", "resample", "patch", "push"):
        for _ in range(3):
            one = cell(stored, int(rng.choice(np.flatnonzero(kinds == kind))), int(rng.integers(len(stored.clean))))
            page.goto("about:blank")
            page.goto((folder / "page.html").as_uri() + one.address)
            after = stored.logits[one.edit, :, one.row]
            assert shown(page) == {
                label: [clean, edited]
                for label, clean, edited in zip(EMOTIONS, shares(stored.clean[one.row]), shares(after), strict=True)
            }
            said = page.inner_text(".emolib-said")
            assert said.startswith(f"Left alone, the model answers {EMOTIONS[stored.clean[one.row].argmax()]} (")
            assert f"answers {EMOTIONS[after.argmax()]} ({shares(after)[after.argmax()]})." in said
            answered = page.locator(".emolib-bars tbody tr:has(td:last-child.emolib-answer) th").all_inner_texts()
            assert answered == [EMOTIONS[after.argmax()]]
    assert not failed
    page.close()


@pytest.mark.browser
def test_the_keyboard_changes_the_view_and_the_address_restores_it(opened: Any, folder: Path) -> None:
    page = opened.new_page()
    page.goto((folder / "page.html").as_uri())
    start(page)
    first = shown(page)
    reached = [page.evaluate("document.activeElement.name")]
    for _ in range(11):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.tagName.toLowerCase()"))
    assert reached[:8] == ["model", "written", "button", "event", "edit", "what", "component", "layer"]
    page.focus("[name=layer]")
    page.keyboard.press("Home")
    assert "layers 1 to 3 of 30" in page.inner_text(".emolib-layers") and "layer=2" in page.url
    page.keyboard.press("ArrowRight")
    assert "layer=5" in page.url
    page.focus("[name=edit]")
    page.keyboard.press("p")  # from patch to push
    page.focus("[name=what]")
    page.keyboard.press("b")
    assert page.evaluate("document.activeElement.name") == "what" and "what=boredom" in page.url
    page.focus("[name=layer]")
    page.keyboard.press("End")
    seen, said, address = shown(page), page.inner_text(".emolib-said"), page.url
    assert seen != first and "Pushed towards boredom in layers 28 to 30" in said
    other = opened.new_page()
    other.goto(address)
    assert shown(other) == seen and other.inner_text(".emolib-said") == said
    page.evaluate("location.hash = 'event=s001&edit=zero&component=mlp_out&layer=5'")
    page.wait_for_selector("[data-shown*='event=s001']")
    assert "With the feed-forward output of layers 4 to 6 silenced" in page.inner_text(".emolib-said")
    page.close()
    other.close()


@pytest.mark.browser
def test_what_is_not_there_is_said_and_nothing_scrolls_sideways_on_a_phone(opened: Any, folder: Path) -> None:
    page = opened.new_page(viewport={"width": 360, "height": 740}, has_touch=True)
    page.goto((folder / "page.html").as_uri())
    start(page)
    shown(page)
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    columns = page.locator(".emolib-stacks > div")
    columns.nth(2).tap()
    assert "layers 4 to 6 of 30" in page.inner_text(".emolib-layers") and columns.count() == 11
    assert page.locator(".emolib-rows tbody tr").count() == 10
    page.select_option("[name=model]", "other")
    page.wait_for_function("document.querySelector('.emolib-said').textContent.includes('to other events')")
    assert "emolib answers --model other" in page.inner_text(".emolib-said")
    page.select_option("[name=model]", "lost")
    page.wait_for_function("document.querySelector('.emolib-said').textContent.includes('could not be loaded')")
    page.select_option("[name=model]", "smollm2-135m")
    assert shown(page)
    page.close()
