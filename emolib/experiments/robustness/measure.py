"""Does any of it depend on the prompt, the task, the mask, the split or the token (paper C.3-C.6; Figs 18-27, Table 3)?

Every variant of the question is a task with its own clean answers, calibration and agreed set, measured by
`task_profile` on the same texts as the default, so that differences are paired. What the paper leaves out stands
beside what it has: no demonstrations, a chat, a balanced control task, unmasked texts, demonstrations left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from emolib.engine.labels import label_tokens
from emolib.experiments.robustness import misclassified, spot_checks, task_profile, task_rows
from emolib.experiments.robustness.task_profile import Row, Scale, TaskProfile, every
from emolib.interventions import interchange
from emolib.stats.sampling import balanced_rows
from emolib.study.study import Study
from emolib.texts import control_tasks
from emolib.texts.control_tasks import Task
from emolib.texts.corpus import demonstration_rows
from emolib.texts.prompts import PAPER_PROMPTS, Prompt, get_prompt

SCALES = {
    "full": Scale(texts=520, controls=520, patched=120, rounds=2, folds=5, step=2, tokens=26),
    "quick": Scale(texts=130, controls=98, patched=26, rounds=1, folds=2, step=6, tokens=10),
}
DEFAULT = PAPER_PROMPTS[0]
OTHER_TEXT = {"masked": "original", "original": "masked"}


def run(study: Study) -> pd.DataFrame:
    """The rows of seven checks, told apart by `condition` check:<name> and by `prompt`.

    prompts: profiles (`task_rows.rows`) of eleven prompts, and contrasts with the default. text: the same for the
    other column of the corpus, and what the mask alone tells. first_word, topic: control tasks, with the emotion of the
    same texts under matched, and contrasts, control minus emotion. demonstrations, positions, splits: see
    `spot_checks`. misclassified: see there. What has too few texts leaves no rows.
    """
    scale = SCALES[study.run.profile]
    shown = shown_rows(study.events)
    kept_out = np.unique(np.concatenate(list(shown.values())))
    others = np.setdiff1d(np.arange(len(study.truth)), kept_out)
    sample = balanced_rows(study.truth, others, scale.texts, seed=study.run.seed)
    # Shares of the sample become shares of the corpus: each text stands for so many of its class.
    worth = np.bincount(study.truth[others]) / np.maximum(np.bincount(study.truth[sample]), 1)
    weights = worth[study.truth[sample]]
    profiles = {
        prompt.name: _profile(study, scale, prompt, "check:prompts", sample, weights)
        for prompt in emotion_prompts(study.model.tokenizer)
    }
    rows = [row for profile in profiles.values() for row in task_rows.rows(profile)]
    for profile in list(profiles.values())[1:]:
        rows += task_rows.contrasts(profile, profiles[DEFAULT])
    rows += [*spot_checks.leaked(study, profiles, shown, sample), *_columns(study, scale, profiles[DEFAULT], sample)]
    for task, check in _controls(study, scale, kept_out):
        rows += _control(study, scale, task, check)
    layers = every(study.model.n_layers, 1 if study.run.profile == "full" else scale.step)
    rows += [*misclassified.rows(study, layers), *spot_checks.by_token(study, layers, scale.tokens)]
    return pd.DataFrame([*rows, *spot_checks.over_splits(study, layers)])


def emotion_prompts(tokenizer: Any) -> list[Prompt]:
    """The paper's nine prompts, the default first; zero-shot; the default as a chat if the tokenizer has a template."""
    chat = control_tasks.chat_prompt(get_prompt(DEFAULT), tokenizer)
    plain = [get_prompt(name) for name in (*PAPER_PROMPTS, "T1-0shot")]
    return [*plain, *([] if chat is None else [chat])]


def shown_rows(events: pd.DataFrame) -> dict[str, np.ndarray]:
    """For each of the paper's prompts the rows of the events that are among its demonstrations."""
    row = pd.Series(np.arange(len(events)), index=events["text_id"])
    return {name: row.loc[demonstration_rows(events, get_prompt(name))].to_numpy(dtype=int) for name in PAPER_PROMPTS}


def _profile(
    study: Study,
    scale: Scale,
    prompt: Prompt,
    condition: str,
    rows: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    truth: np.ndarray | None = None,
    stream: bool = False,
    text: Any = None,
) -> TaskProfile:
    """The profile of a prompt on some rows; attention is patched in threes (Fig 27), the `stream` by layer."""
    n_layers = study.model.n_layers
    sites = [site for site in interchange.sites(n_layers, (3,)) if site.component == "attn_out"]
    sites += [site for site in interchange.sites(n_layers, (1,)) if stream and site.component == "resid_post"]
    variant = study.variant(rows=rows, prompt=prompt, truth=truth, text=text)
    key = dict(prompt=prompt.name, condition=condition)
    return task_profile.measure(variant, key=key, scale=scale, sites=sites, weights=weights)


def _columns(study: Study, scale: Scale, default: TaskProfile, sample: np.ndarray) -> Iterator[Row]:
    """Masked against original texts, where the corpus has both, and the mask alone."""
    if study.run.text == "masked":
        yield from spot_checks.mask_baseline(study, n_folds=scale.folds)
    name = OTHER_TEXT[study.run.text]
    if study.variant(rows=sample, text=name).events["text"].equals(default.study.events["text"]):
        return
    condition = f"check:text;text:{name}"
    other = _profile(study, scale, default.study.prompt, condition, sample, default.weights, text=name)
    yield from task_rows.rows(other)
    yield from task_rows.contrasts(other, default)
    yield from spot_checks.masked_apart(*((default, other) if name == "original" else (other, default)))


def _controls(study: Study, scale: Scale, kept_out: np.ndarray) -> Iterator[tuple[Task, str]]:
    """The control tasks that this corpus has texts for, and whose answers this tokenizer can tell apart.

    None of them is a demonstration of the paper's prompts, since the emotion is asked of the same texts.
    """
    texts, seed = study.events["text"], study.run.seed
    for check, make in {"topic": control_tasks.topic_task, "first_word": control_tasks.first_word_task}.items():
        task = make(texts, scale.controls, seed=seed, shown=kept_out)
        if task is not None and _askable(study, task.prompt):
            yield task, check


def _askable(study: Study, prompt: Prompt) -> bool:
    try:
        label_tokens(study.model.tokenizer, prompt.labels).ids(study.run.scoring)
    except ValueError:
        return False
    return True


def _control(study: Study, scale: Scale, task: Task, check: str) -> Iterator[Row]:
    """A control task, the emotion task on the same texts, and the first minus the second."""
    condition = f"check:matched;texts:{check}"
    emotion = _profile(study, scale, get_prompt(DEFAULT), condition, task.rows, stream=True)
    control = _profile(study, scale, task.prompt, f"check:{check}", task.rows, truth=task.truth, stream=True)
    yield from task_rows.rows(control)
    yield from task_rows.rows(emotion)
    yield from task_rows.contrasts(control, emotion)
