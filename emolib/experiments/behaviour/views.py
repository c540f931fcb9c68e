"""What the chapter on behaviour shows of its table: rows selected and named for figures and sentences."""

from __future__ import annotations

from html import escape

import pandas as pd

from emolib.engine.registry import known_parameters
from emolib.figures.display import extremes, in_table, spoken
from emolib.tables import paper
from emolib.tables.results import select

AS = {"none": "as scored", "batch": "calibrated"}
OTHERS = {"zscore": "standardised", "equal_shares": "equal shares"}  # calibrations beside those of a run
READERS = {"single": "one reader", "majority_of_5": "five readers, majority"}
SHARES = ["this run", f"paper, {paper.DETAILED.name}"]  # the columns of `free_words`
THEIRS = dict(prompt="T1-2shot", model=paper.DETAILED.id)


def accuracies(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """Accuracy by scoring and calibration, the calibration in words in `answers`."""
    rows = select(table[(table["scoring"] != "") & table["calibration"].isin(list(AS))], metric="accuracy", **keys)
    return rows.assign(answers=rows["calibration"].map(AS))


def calibrated_otherwise(table: pd.DataFrame) -> pd.DataFrame:
    """Each other calibration in words, with the accuracy, the share of the run's answers that it gives as well, and of
    the events that are right either way those that are right both ways: numbers with their intervals, in words."""
    rows = table[table["calibration"].isin(list(OTHERS))]
    words = {"accuracy": "accuracy", "same_answer": "same answer", "agreed_overlap": "right both ways"}
    rows = rows[rows["metric"].isin(list(words))].replace({"calibration": OTHERS})
    return in_table(rows, "calibration", "metric", words, ".1%")


def accuracy_points(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """A point for each calibration of each run (`accuracies`, column `run`) and for the corpus's readers, as `who`."""
    readers = table[(table["metric"] == "accuracy") & (table["reader"] != "")]
    points = runs.assign(who=runs["run"] + ", " + runs["answers"])
    return pd.concat([points, readers.assign(who=readers["reader"].map(READERS))])


def humans(table: pd.DataFrame) -> str:
    """The accuracy of human readers in a sentence, with a blank before it; "" where the corpus has none."""
    rows = table[(table["metric"] == "accuracy") & (table["reader"] != "")]
    told = [f"**{spoken(row, '.1%')}** ({READERS[row['reader']]})" for _, row in rows.iterrows()]
    return f" Human readers name it for {' and '.join(told)} of the events that they read." if told else ""


def paper_accuracies() -> pd.DataFrame:
    """The accuracies of the paper's ten models, the smallest first, named `who`."""
    models = [model.name for model in paper.PAPER_MODELS]
    rows = paper.values("behaviour", metric="accuracy", prompt="T1-2shot", model=models)
    return rows.sort_values("model", key=lambda models: models.map(known_parameters)).assign(
        who=lambda found: found["model"].map(paper.model_name)
    )


def spreads(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """How often each label is answered: by the run under both calibrations, by readers, and by the paper's model."""
    counts = table[table["metric"] == "predicted_count"]
    bars = {name: counts[counts["calibration"] == calibration] for calibration, name in AS.items()}
    bars["human readers"] = counts[counts["reader"] != ""]
    bars[f"paper, {paper.DETAILED.name}"] = paper.values("behaviour", metric="predicted_count", **THEIRS)
    return {name: rows for name, rows in bars.items() if len(rows)}


def free_words(table: pd.DataFrame, n: int = 8) -> pd.DataFrame:
    """The `n` most frequent words of the free answer and the paper's, a row a word with its share in each, NaN where a
    word is not among those that were counted by themselves.

    Words come out of a model's vocabulary and go into a page: they are as HTML shows them.
    """
    both = dict(zip(SHARES, [select(table, metric="word_count"), paper.values("open_vocabulary")], strict=True))
    shares = {name: rows.set_index("label")["value"] / rows["n"].iloc[0] for name, rows in both.items()}
    found = pd.DataFrame(shares).drop(index="others").sort_values(SHARES, ascending=False)
    among = (found.rank(ascending=False, method="first") <= n).any(axis=1)
    return found[among].rename(index=escape).rename_axis("word").reset_index()


def most_mistaken(confusions: pd.DataFrame) -> pd.Series:
    """The most frequent mistake: `label` (the writer's), `answer`, and `value`, the share of the label's events."""
    shares = confusions.assign(value=confusions["value"] / confusions.groupby("label")["value"].transform("sum"))
    wrong = shares[shares["label"] != shares["answer"]]
    return wrong.loc[wrong["value"].idxmax()]


def of_each_rule(rules: pd.DataFrame) -> str:
    """The best accuracy of each rule of scoring in words, once where all are equal as they are rounded."""
    best = rules.groupby("scoring", sort=False)["value"].max().map("{:.0%}".format)
    if best.nunique() > 1:
        return f"Best accuracy of each rule of scoring: {extremes(rules, 'scoring', '.0%')}"
    return f"All {len(best)} rules of scoring reach the same accuracy at best, {best.iloc[0]}"
