"""What a corpus must have for an experiment to be possible, whatever the model answers: asked before a model loads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emolib.study.run import Run
from emolib.texts.corpus import Corpus, writer_groups


@dataclass(frozen=True, kw_only=True)
class Needs:
    """At least so many texts and writers, `emotions` of `each` texts, `writers_each` of every emotion; ratings or not.

    Writers count as one where they share a text, as wherever writers are resampled or held out.
    """

    texts: int = 2
    writers: int = 2
    emotions: int = 1
    each: int = 1
    writers_each: int = 1
    rated: bool = False

    def unmet(self, corpus: Corpus) -> list[str]:
        """What the corpus lacks, in words: "50 texts (here 1)"; empty where it has all."""
        events = corpus.events.assign(group=writer_groups(corpus.events))
        counts = events["emotion"].value_counts()
        fewest = events.groupby("emotion")["group"].nunique().sort_values(kind="stable")
        asked = {
            "texts": (self.texts, len(events)),
            "writers": (self.writers, events["group"].nunique()),
            f"emotions of {self.each} or more texts": (self.emotions, int((counts >= self.each).sum())),
            f"writers of {fewest.index[0]}": (self.writers_each, int(fewest.iloc[0])),
        }
        lacking = [f"{needed} {what} (here {found})" for what, (needed, found) in asked.items() if found < needed]
        return [*lacking, *(["the 21 appraisal ratings"] if self.rated and not corpus.rated else [])]


PROBES = Needs(texts=50, writers=5, emotions=2, each=25)  # judged in five folds, two labels of five texts in each
STEERING = Needs(texts=20, writers=4, emotions=2)  # fitted on ten texts by some writers, judged on ten by others
NEEDS = {
    "ablation": Needs(),
    "appraisals": replace(PROBES, rated=True),
    "attention": Needs(),
    "behaviour": Needs(writers_each=2),
    "geometry": Needs(texts=50, writers=3, emotions=2, each=10, rated=True),
    "modulation": replace(STEERING, texts=31, rated=True),  # as many directions are fitted as there are appraisals
    "patching": Needs(texts=4, emotions=2),
    "probing": PROBES,
    "promotion": STEERING,
    "robustness": Needs(each=2),
    "wording": PROBES,
}


def advice(run: Run) -> str:
    """What may help where a model answers too few texts right, in the variables of make that the run leaves open."""
    more = ["CORPUS=crowd-envent, which has 6,600 texts"] if run.corpus != "crowd-envent" else []
    centred = ["CALIBRATION=batch"] if run.calibration == "none" else []
    ways = [*more, *centred, "another PROMPT", "a larger MODEL"]
    return f"try {', '.join(ways[:-1])} or {ways[-1]}"


def impossible(experiment: str, corpus: Corpus) -> str | None:
    """Why an experiment, by its name, cannot be done on a corpus, in a sentence; None where it can."""
    lacking = NEEDS.get(experiment, Needs()).unmet(corpus)
    return f"{experiment} needs {' and '.join(lacking)}" if lacking else None
