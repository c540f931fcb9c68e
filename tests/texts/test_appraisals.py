"""Settings as keys and columns, and expectations against hand computations and the ratings that the paper prints."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from emolib.tables import paper
from emolib.texts.appraisals import (
    ACTING,
    APPRAISALS,
    EMOTIONS,
    PRINTED,
    SETTINGS,
    Setting,
    expected_shifts,
    label_means,
)
from emolib.texts.corpus import Corpus


@pytest.fixture(scope="module")
def means() -> pd.DataFrame:
    """The corpus's own mean ratings, as printed in the value table."""
    rows = paper.values("appraisal_profile", model="data")
    return rows.pivot(index="emotion", columns="appraisal", values="value").loc[list(EMOTIONS)]


def test_the_settings_are_twenty_closed_under_their_opposite_and_fourteen_are_printed() -> None:
    assert len(set(SETTINGS)) == len(SETTINGS) == 20 and len(PRINTED) == 14
    assert {Setting(**{name: -sign for name, sign in setting.items()}) for setting in SETTINGS} == set(SETTINGS)
    assert Setting(pleasantness=1, chance_control=-1) in set(SETTINGS) - set(PRINTED)


def test_a_setting_is_a_key_and_goes_through_columns_and_back() -> None:
    setting = Setting(pleasantness=1, other_responsblt=-1)
    assert setting == Setting(other_responsblt=-1, pleasantness=1) != Setting(pleasantness=1)
    assert {setting: 1}[Setting(other_responsblt=-1, pleasantness=1)] == 1
    assert (list(setting), str(setting)) == (
        ["pleasantness", "other_responsblt"],
        "more pleasant, others less responsible",
    )
    zeros = dict(predict_event=0, chance_control=0, self_responsblt=0)
    assert setting.columns() == dict(pleasantness=1, other_responsblt=-1) | zeros
    table = pd.DataFrame([one.columns() for one in SETTINGS])
    assert [Setting.from_columns(row) for row in table.to_dict("records")] == list(SETTINGS)
    assert len({str(one) for one in SETTINGS}) == 20


@pytest.mark.parametrize("signs", [{}, {"effort": 1}, {"pleasantness": 2}, {"pleasantness": 0}])
def test_what_is_no_setting_is_refused(signs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected at least one of pleasantness, other_responsblt.*, each 1 or -1"):
        Setting(**signs)


def test_expectations_add_up_over_appraisals_and_are_standardised(means: pd.DataFrame) -> None:
    single = {name: expected_shifts(means, [Setting(**{name: 1})])[0] for name in ACTING if name in means}
    assert single
    for shift in single.values():
        assert shift.mean() == pytest.approx(0, abs=1e-12)
        assert shift.std() == pytest.approx(1)
    for first, second in combinations(single, 2):
        pair = expected_shifts(means, [Setting(**{first: 1, second: -1})])[0]
        assert pair == pytest.approx(single[first] - single[second])
    with pytest.raises(ValueError, match=r"no ratings of \['height'\]: the table of means has"):
        expected_shifts(means, [{"height": 1}])


def test_means_are_taken_over_the_texts_of_each_emotion() -> None:
    ratings = pd.DataFrame({"pleasantness": [1, 2, 5, 5], "standards": [3, 3, 3, 1]})
    found = label_means(ratings, ["fear", "fear", "joy", "joy"])
    assert list(found.index) == list(EMOTIONS)
    assert found.loc["fear"].tolist() == [1.5, 3]
    assert found.loc["joy"].tolist() == [5, 2]
    assert found.drop(["fear", "joy"]).isna().all(axis=None)


def test_means_of_the_real_corpus_are_those_printed(crowd_envent: Corpus, means: pd.DataFrame) -> None:
    found = label_means(crowd_envent.ratings, crowd_envent.events["emotion"])
    assert set(found.columns) == set(APPRAISALS)
    assert np.allclose(found[means.columns], means, atol=0.0051)
