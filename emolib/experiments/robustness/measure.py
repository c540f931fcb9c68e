"""Does any of it depend on the prompt, the task, the mask, the split or the token (paper C.3-C.6; Figs 18-27, Table 3)?

Every variant of the question is a task with its own clean answers, calibration and agreed set, measured by `profile` on
the same texts as the default, so that differences are paired. What the paper leaves out stands beside what it has: no
demonstrations, a chat, a balanced control task, unmasked texts, demonstrations left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emolib.engine.labels import label_tokens
from emolib.experiments.robustness import checks
from emolib.experiments.robustness.profile import Profile, Row, Scale, contrasts, measure, rows
from emolib.stats.sampling import balanced_rows
from emolib.study.run import TextColumn
from emolib.study.study import Study
from emolib.texts import control_tasks
from emolib.texts.control_tasks import Task
from emolib.texts.corpus import demonstration_rows
from emolib.texts.prompts import PAPER_PROMPTS, Prompt, get_prompt

SCALES = {
    "full": Scale(texts=520, controls=520, patched=120, rounds=2, folds=5, step=2, tokens=26),
    "quick": Scale(texts=78, controls=70, patched=26, rounds=1, folds=2, step=6, tokens=6),
}
DEFAULT = PAPER_PROMPTS[0]
PROMPTS = {"full": PAPER_PROMPTS, "quick": (DEFAULT, "T1-6shot")}
OTHER_TEXT: dict[TextColumn, TextColumn] = {"masked": "original", "original": "masked"}
CONTROLS = {"topic": control_tasks.topic_task, "first_word": control_tasks.first_word_task}


def run(study: Study) -> pd.DataFrame:
    """The rows of nine checks, told apart by `check` and by `prompt`.

    prompts: profiles (`profile.rows`) of eleven prompts (`quick`: four), and contrasts with the default. text: the same
    for the other column of the corpus, and what the mask alone tells. first_word, topic: control tasks, with the
    emotion of the same `texts` under matched, and contrasts, control minus emotion. demonstrations, positions, splits,
    misclassified: see `leaked`, `by_token`, `over_splits` and `missed` in `checks`. What has too few texts leaves no
    rows.
    """
    scale = SCALES[study.run.profile]
    shown = shown_rows(study.events)
    kept_out = np.unique(np.concatenate(list(shown.values())))
    others = np.setdiff1d(np.arange(len(study.truth)), kept_out)
    sample = balanced_rows(study.truth, others, scale.texts, seed=study.run.seed)
    # Shares of the sample become shares of the corpus: each text stands for so many of its class.
    worth = np.bincount(study.truth[others]) / np.maximum(np.bincount(study.truth[sample]), 1)
    options = dict(scale=scale, weights=worth[study.truth[sample]])
    profiles = {
        prompt.name: measure(study.variant(rows=sample, prompt=prompt), key=_key(prompt, "prompts"), **options)
        for prompt in emotion_prompts(study.model.tokenizer, PROMPTS[study.run.profile])
    }
    default = profiles[DEFAULT]
    found = [row for profile in profiles.values() for row in rows(profile)]
    found += [row for profile in profiles.values() if profile is not default for row in contrasts(profile, default)]
    found += [
        *checks.leaked(study, profiles, {name: shown[name] for name in profiles if name in shown}, sample),
        *_columns(study, default, sample, options),
    ]
    for check, make in CONTROLS.items():
        # None is a demonstration of the paper's prompts, since the emotion is asked of the same texts.
        task = make(study.events["text"], scale.controls, seed=study.run.seed, shown=kept_out.tolist())
        if task is not None and askable(study, task.prompt):
            found += _control(study, scale, task, check)
    layers = study.layers(1 if study.run.profile == "full" else scale.step)
    found += [*checks.missed(study, layers), *checks.by_token(study, layers, scale.tokens)]
    return pd.DataFrame([*found, *checks.over_splits(study, layers)])


def emotion_prompts(tokenizer: Any, names: Sequence[str]) -> list[Prompt]:
    """The prompts named, zero-shot, and the default as a chat if the tokenizer has a template."""
    plain = [get_prompt(name) for name in (*names, "T1-0shot")]
    return [*plain, *([get_prompt(DEFAULT).in_template(tokenizer)] if tokenizer.chat_template else [])]


def shown_rows(events: pd.DataFrame) -> dict[str, np.ndarray]:
    """For each of the paper's prompts the rows of the events that are among its demonstrations."""
    row = pd.Series(np.arange(len(events)), index=events["text_id"])
    return {name: row.loc[demonstration_rows(events, get_prompt(name))].to_numpy(dtype=int) for name in PAPER_PROMPTS}


def askable(study: Study, prompt: Prompt) -> bool:
    """Whether this tokenizer can tell the prompt's answers apart."""
    try:
        label_tokens(study.model.tokenizer, prompt.labels).ids(study.run.scoring)
    except ValueError:
        return False
    return True


def _key(prompt: Prompt, check: str, **keys: str) -> Row:
    return dict(prompt=prompt.name, check=check, **keys)


def _columns(study: Study, default: Profile, sample: np.ndarray, options: dict[str, Any]) -> Iterator[Row]:
    """Masked against original texts, where the corpus has both, and the mask alone."""
    if study.run.text == "masked":
        yield from checks.mask_baseline(study, n_folds=options["scale"].folds)
    name, prompt = OTHER_TEXT[study.run.text], default.study.prompt
    variant = study.variant(rows=sample, prompt=prompt, text=name)
    if variant.events["text"].equals(default.study.events["text"]):
        return
    other = measure(variant, key=_key(prompt, "text", text=name), **options)
    yield from [*rows(other), *contrasts(other, default)]
    yield from checks.masked_apart(*((default, other) if name == "original" else (other, default)))


def _control(study: Study, scale: Scale, task: Task, check: str) -> list[Row]:
    """A control task, the emotion task on the same texts, and the first minus the second."""
    prompt = get_prompt(DEFAULT)
    asked = study.variant(rows=task.rows, prompt=task.prompt, truth=task.truth)
    control = measure(asked, key=_key(task.prompt, check), scale=scale, stream=True)
    felt = study.variant(rows=task.rows, prompt=prompt)
    emotion = measure(felt, key=_key(prompt, "matched", texts=check), scale=scale, stream=True)
    return [*rows(control), *rows(emotion), *contrasts(control, emotion)]
