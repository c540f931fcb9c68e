"""Patching whose outcome is known: whole streams, planted outcomes, and plain passes with hooks."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from emolib.engine.edits import Edit, Patch, Where
from emolib.engine.sites import COMPONENTS
from emolib.engine.tiny import tiny_model
from emolib.experiments.patching import measure as patching
from emolib.experiments.patching import views
from emolib.interventions import interchange
from emolib.interventions.interchange import Outcome, Window
from emolib.stats import pairs
from emolib.study.run import Run
from emolib.study.study import Study
from emolib.tables import results
from emolib.tables.results import select
from emolib.texts.corpus import EMOTIONS
from helpers import plain_logits, word_tokenizer

LAYERS = 5  # of the tiny model
DIRECTIONS = ["denoising", "noising", "both"]
SHARES = ["transfer", "kept", "neither"]
SITE = ["component", "layer", "span", "position"]
OTHER = dict(source="other_label")


def tidy(rows: Any) -> pd.DataFrame:
    return results.tidy(rows, "patching", n_layers=LAYERS, model="tiny")


def opened(run: Run, model: Any, folder: Path, **changes: Any) -> Study:
    """A study in which every third text counts as answered right: what a random model gets right is too few."""
    every_third = np.arange(1, 150, 3)
    return Study(replace(run, **changes), model=model, folder=folder, agreed=every_third)


@pytest.fixture(scope="module")
def study(tiny_run: Run, tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return opened(tiny_run, tiny_study.model, tmp_path_factory.mktemp("patching"))


@pytest.fixture(scope="module")
def table(study: Study) -> pd.DataFrame:
    return tidy(patching.run(study))


def value(table: pd.DataFrame, metric: str, component: str, layer: int, **keys: Any) -> float:
    keys = dict(span=1, position="-1") | OTHER | keys
    return select(table, metric=metric, component=component, layer=layer, **keys)["value"].item()


def patched_by_hand(study: Study, site: Any, base: int, source: int) -> torch.Tensor:
    """Label logits of the base text with the source's activations, by two passes of the oracle."""
    taken: dict[int, torch.Tensor] = {}

    def take(activation: torch.Tensor, where: Where) -> torch.Tensor:
        taken[where.layer] = activation.clone()
        return activation

    window = tuple(range(site.layer - site.span // 2, site.layer + site.span // 2 + 1))
    edit = Edit(component=site.component, layers=window, operation=take, position=int(site.position))  # type: ignore
    plain_logits(study, source, edit)
    return plain_logits(study, base, replace(edit, operation=lambda activation, where: taken[where.layer]))


Site = namedtuple("Site", SITE)


def swapped(n: int) -> np.ndarray:
    """One round [1, n] of an even number of texts: 0 with 1, 2 with 3, ..."""
    return (np.arange(n) ^ 1)[None]


# Against plain transformers.


@pytest.mark.parametrize("family", ["llama", "gemma2", "olmo2", "qwen3_moe", "gpt_neox"])
def test_patching_equals_plain_passes_in_every_family(family: str, tiny_run: Run, tmp_path: Path) -> None:
    model = replace(tiny_model(family, tokenizer=word_tokenizer()), name=tiny_run.model)
    study = opened(tiny_run, model, tmp_path).variant(rows=[3, 70, 120, 11])
    windows = [
        Window(3),
        Window(3, ["attn_out"], -2),
        Window(1, ["mlp_out"], -4),
        Window(3, ["resid_post"], -3),
        Window(1),
    ]
    outcome = interchange.patch(study, np.arange(4), [(windows, swapped(4))])[0]
    assert outcome.base.tolist() == [0, 1, 2, 3] and outcome.source.tolist() == [1, 0, 3, 2]
    clean = study.clean.logits
    for pair, (base, source) in enumerate(zip(outcome.base, outcome.source, strict=True)):
        for column, site in enumerate(outcome.sites.itertuples()):
            plain = patched_by_hand(study, site, base, source)
            assert torch.allclose(outcome.patched[pair, column], plain, atol=2e-3), site
        # The last stream decides alone, so the source answers.
        assert torch.allclose(outcome.patched[pair, -1], clean[source], atol=2e-3)
        assert not torch.allclose(outcome.patched[pair, -1], clean[base], atol=2e-2)


def test_a_text_patched_with_itself_gives_its_clean_answer(study: Study) -> None:
    pool = np.arange(5, 45)
    itself = torch.zeros(len(study.truth), dtype=torch.long)
    itself[pool] = torch.arange(40)
    edits = [
        Edit(
            component=component,
            layers=layers,
            position=position,
            operation=Patch(interchange.activations_at(study, pool, position), itself),
        )
        for component in COMPONENTS
        for layers in ((0,), (1, 2, 3))
        for position in (-1, -3, -5)
    ]
    found = study.intervene(edits, pool, name="itself")
    assert torch.allclose(found, study.clean.logits[pool][:, None], atol=1e-3)


def test_shares_of_one_site_by_plain_passes(study: Study, table: pd.DataFrame) -> None:
    pool = np.unique(patching.balanced_rows(study.predicted, study.agreed, patching.TEXTS["quick"], seed=0))
    rounds = pairs.matchings(study.predicted[pool], study.groups[pool], 2, seed=0)
    outcomes = []
    for partner in rounds:
        for base, source in zip(pool, pool[partner], strict=True):
            if base != source:
                logits = patched_by_hand(study, Site(component="mlp_out", layer=2, span=3, position="-1"), base, source)
                answer = int((logits - study.offsets).argmax())
                outcomes.append((answer == study.predicted[source], answer == study.predicted[base]))
    transfer, kept = np.mean(outcomes, axis=0)
    assert value(table, "transfer", "mlp_out", 2, span=3) == pytest.approx(transfer)
    assert value(table, "kept", "mlp_out", 2, span=3) == pytest.approx(kept)
    assert set(select(table, metric=SHARES, position="-1", **OTHER)["n"]) == {len(outcomes)}


# What must come out.


def test_every_site_is_measured_once(table: pd.DataFrame) -> None:
    for metric in SHARES:
        found = select(table, metric=metric, **OTHER)
        assert len(found[found["position"] == "-1"]) == 3 * (5 + 3 + 1)
        assert len(found[found["position"] != "-1"]) == 3 * 5 * 4
    for span, layers in ((1, [0, 1, 2, 3, 4]), (3, [1, 2, 3]), (5, [2])):
        for component in COMPONENTS:
            rows = select(table, metric="transfer", position="-1", span=span, component=component)
            assert rows["layer"].tolist() == layers
            assert (rows["last_layer"] == rows["layer"] + span // 2).all()
    control = select(table, source="same_label")
    assert set(control["metric"]) == {"kept", "neither"} and len(control) == 2 * 3 * (5 + 3)


def test_full_runs_patch_windows_at_earlier_tokens(study: Study, tiny_run: Run, tmp_path: Path) -> None:
    full = opened(tiny_run, study.model, tmp_path, profile="full")
    found = tidy(patching.run(full))
    earlier = found[(found["metric"] == "transfer") & (found["position"] == "-4")]
    sites = {(row.component, row.layer) for row in earlier[earlier["span"] == 3].itertuples()}
    assert sites == {(component, layer) for component in ("attn_out", "mlp_out") for layer in (1, 2, 3)}
    last = found[(found["metric"] == "transfer") & (found["position"] == "-1")]
    assert set(earlier["n"]) == {50} and set(last["n"]) == {200}


def test_a_study_of_one_layer_measures_what_the_whole_one_does_there(
    tiny_run: Run, study: Study, table: pd.DataFrame, tmp_path: Path
) -> None:
    part = Study(tiny_run, model=study.model, folder=tmp_path, agreed=study.agreed, only_layers=[3])
    found = tidy(patching.run(part)).dropna(subset="layer")
    keys = [*SITE, "metric", "source", "direction"]
    both = found.merge(select(table, layer=3), on=keys, suffixes=("", "_whole"))
    assert len(both) == len(found) == len(select(table, layer=3))
    assert np.allclose(both["value"], both["value_whole"], atol=1e-6)


def test_the_last_stream_transfers_everything(table: pd.DataFrame) -> None:
    for span in (1, 3, 5):
        shares = [value(table, metric, "resid_post", LAYERS - 1 - span // 2, span=span) for metric in SHARES]
        assert shares == [1.0, 0.0, 0.0]
        for direction in DIRECTIONS:
            recovered = value(table, "recovery", "resid_post", LAYERS - 1 - span // 2, span=span, direction=direction)
            assert recovered == pytest.approx(1, abs=1e-4)
    assert value(table, "kept", "resid_post", LAYERS - 1, source="same_label") == 1.0


def test_earlier_tokens_of_the_last_layer_transfer_nothing(table: pd.DataFrame) -> None:
    for position in ("-2", "-3", "-4", "-5"):
        for component in COMPONENTS:
            shares = [value(table, metric, component, LAYERS - 1, position=position) for metric in SHARES]
            assert shares == [0.0, 1.0, 0.0]


def test_a_window_of_the_stream_is_worth_its_last_layer(table: pd.DataFrame) -> None:
    for metrics in (SHARES, ["recovery"]):
        rows = select(table, metric=metrics, component="resid_post", position="-1")
        key = ["metric", "source", "direction", "last_layer"]
        both = rows[rows["span"] > 1].merge(rows[rows["span"] == 1], on=key, suffixes=("", "_1"))
        assert len(both) >= 12
        assert np.allclose(both["value"], both["value_1"], atol=1e-5)
        assert np.allclose(both["ci_low"], both["ci_low_1"], atol=1e-5)


def test_outcomes_exclude_one_another_and_have_intervals(table: pd.DataFrame) -> None:
    shares = select(table, metric=SHARES, **OTHER)
    total = shares.groupby(["component", "layer", "span", "position"], dropna=False)["value"].sum()
    assert np.allclose(total, 1)
    assert (shares["ci_low"] < shares["ci_high"]).all()
    inside = table[table["ci_low"].notna()]
    assert inside["value"].between(inside["ci_low"] - 1e-9, inside["ci_high"] + 1e-9).all()
    assert set(table.loc[table["ci_low"].isna(), "metric"]) == {"pair_count"}
    middle = shares[(shares["metric"] == "neither") & (shares["position"] == "-1")]
    assert middle["value"].max() > 0


def test_pairs_are_counted_both_ways(study: Study, table: pd.DataFrame) -> None:
    counts = select(table, metric="pair_count").set_index(["source_label", "base_label"])["value"]
    assert counts.sum() == select(table, metric="transfer", position="-1")["n"].iloc[0]
    for (source, base), count in counts.items():
        assert counts[base, source] == count and {source, base} <= set(EMOTIONS)


def test_the_same_run_gives_the_same_table_and_another_seed_other_pairs(
    study: Study, table: pd.DataFrame, tiny_run: Run, tmp_path: Path
) -> None:
    for seed, equal in ((0, True), (1, False)):
        other = opened(tiny_run, study.model, tmp_path, seed=seed)
        assert tidy(patching.run(other)).equals(table) == equal


# Planted outcomes.


def planted(patched: torch.Tensor, clean: torch.Tensor, labels: Sequence[int], sites: Sequence[Sequence]) -> Outcome:
    """Of texts that are paired 0 with 1, 2 with 3, ...; `sites` are component, layer and span."""
    rows = np.arange(len(labels))
    return Outcome(
        sites=pd.DataFrame([(*site, "-1") for site in sites], columns=SITE),
        base=rows,
        source=rows ^ 1,
        patched=patched,
        answers=patched.argmax(-1).numpy(),
        clean=clean,
        labels=np.asarray(labels),
        writers=rows,
        rows=rows,
    )


@pytest.fixture
def clean() -> tuple[torch.Tensor, np.ndarray]:
    """Logits [60, 13] of texts that are all answered as they are labelled."""
    labels = np.arange(60) % 13
    logits = torch.randn(60, 13, generator=torch.Generator().manual_seed(0))
    logits[range(60), labels] += 6
    return logits, labels


def recovered(outcome: Outcome) -> pd.DataFrame:
    rows = pd.DataFrame(patching.recovery(outcome))
    return rows.pivot_table(index="layer", columns="direction", values="value")[DIRECTIONS]


def test_recovery_is_the_share_that_was_mixed_in(clean: tuple[torch.Tensor, np.ndarray]) -> None:
    logits, labels = clean
    shares = torch.tensor([0.0, 0.25, 0.5, 1.0])
    source = logits[np.arange(60) ^ 1]
    patched = logits[:, None] + shares[None, :, None] * (source - logits)[:, None]
    patched = patched + torch.randn(60, 4, 1)  # what all labels gain is nothing
    found = recovered(planted(patched, logits, labels, [("mlp_out", layer, 1) for layer in range(4)]))
    for direction in DIRECTIONS:
        assert np.allclose(found[direction], shares, atol=1e-5)


def test_denoising_and_noising_tell_the_two_labels_apart(clean: tuple[torch.Tensor, np.ndarray]) -> None:
    logits, labels = clean
    rows, source = np.arange(60), np.arange(60) ^ 1
    rest = torch.ones(60, 13, dtype=torch.bool)
    rest[rows, labels] = rest[rows, labels[source]] = False

    def above(table: torch.Tensor, label: np.ndarray) -> torch.Tensor:
        return table[rows, label] - (table * rest).sum(1) / 11

    risen, fallen = logits.clone(), logits.clone()
    risen[rows, labels[source]] += above(logits[source], labels[source]) - above(logits, labels[source])
    fallen[rows, labels] += above(logits[source], labels) - above(logits, labels)
    sites = [("attn_out", 0, 1), ("attn_out", 1, 1)]
    found = recovered(planted(torch.stack([risen, fallen], 1), logits, labels, sites)).to_numpy()
    assert np.allclose(found[:, :2], [[1, 0], [0, 1]], atol=1e-5)
    assert np.allclose(found[:, 2].sum(), 1, atol=1e-5) and np.allclose(found[:, 2], 0.5, atol=0.02)


def test_the_difference_read_from_the_other_side_is_the_same_number(study: Study) -> None:
    pool = study.agreed[:20]
    rounds = pairs.matchings(study.predicted[pool], study.groups[pool], 1, seed=0)
    outcome = interchange.patch(study, pool, [([Window(1)], rounds)])[0]
    logits, label = outcome.patched.double().numpy(), outcome.labels
    spoilt = clean = broken = 0.0
    for base, source in zip(outcome.base, outcome.source, strict=True):
        # The other text of the pair is the one that is spoilt, by the base: how much of its own difference goes?
        swapped = int(np.flatnonzero((outcome.base == source) & (outcome.source == base))[0])
        own, other = label[source], label[base]
        before, goal = (outcome.clean[text, own].item() - outcome.clean[text, other].item() for text in (source, base))
        spoilt += before - (logits[swapped, :, own] - logits[swapped, :, other])
        clean, broken = clean + before, broken + goal
    found = pd.DataFrame(patching.recovery(outcome))
    assert np.allclose(found.loc[found["direction"] == "both", "value"], spoilt / (clean - broken), atol=1e-6)


def curves(transfer: dict[tuple, float], clean: tuple[torch.Tensor, np.ndarray]) -> Outcome:
    """An outcome in which, at each site, the first so many of the pairs are transferred and the others kept."""
    logits, labels = clean
    patched = logits[:, None].repeat(1, len(transfer), 1)
    for column, share in enumerate(transfer.values()):
        moved = np.arange(round(60 * share))
        patched[moved, column] = logits[moved ^ 1]
    return planted(patched, logits, labels, list(transfer))


def test_onset_and_peaks_where_they_were_planted(clean: tuple[torch.Tensor, np.ndarray]) -> None:
    height = {
        "attn_out": {1: [0, 0, 0.9, 0.2, 0, 0], 3: [0.1, 0.1, 1, 0.5]},
        "mlp_out": {1: [0, 0, 0, 0.2, 0.9, 0.1], 3: [0, 0, 0.2, 1]},
        "resid_post": {1: [0, 0, 0, 1, 1, 1], 3: [0, 1, 1, 1]},
    }
    transfer = {
        (component, layer + span // 2, span): share
        for component, spans in height.items()
        for span, shares in spans.items()
        for layer, share in enumerate(shares)
    }
    outcome = curves(transfer, clean)
    found = tidy(patching.turns(outcome, 6, seed=0))
    expected = {
        ("peak", "attn_out", 1): 2,
        ("peak", "mlp_out", 1): 4,
        ("peak_difference", "", 1): 2,
        ("peak", "attn_out", 3): 3,
        ("peak", "mlp_out", 3): 4,
        ("peak_difference", "", 3): 1,
        ("onset", "resid_post", 1): 3,
    }
    assert len(found) == 2 * len(expected)
    for (metric, component, span), layer in expected.items():
        row = select(found, metric=f"{metric}_layer", component=component, span=span).iloc[0]
        assert (row["value"], row["ci_low"], row["ci_high"]) == (layer, layer, layer), (metric, component, span)
        depth = select(found, metric=f"{metric}_depth", component=component, span=span).iloc[0]
        assert depth["value"] == pytest.approx((layer + (metric != "peak_difference")) / 6)
        assert row["n"] == 60 and row["position"] == "-1"


def test_a_stream_that_never_transfers_has_its_onset_beyond_the_model(clean: tuple[torch.Tensor, np.ndarray]) -> None:
    outcome = curves({(component, layer, 1): 0.4 for component in COMPONENTS for layer in range(3)}, clean)
    found = tidy(patching.turns(outcome, 3, seed=0))
    assert select(found, metric="onset_layer")["value"].tolist() == [3]
    assert select(found, metric="onset_depth")["value"].tolist() == [pytest.approx(4 / 3)]


def test_a_peak_that_is_not_certain_has_a_wide_interval(clean: tuple[torch.Tensor, np.ndarray]) -> None:
    logits, labels = clean
    transfer = {(c, layer, 1): 0.0 for c in COMPONENTS for layer in range(3)}
    outcome = curves(transfer, clean)
    outcome.answers[0:30, 0] = labels[outcome.source[0:30]]  # attention: half at layer 0, the other half at layer 2
    outcome.answers[30:60, 2] = labels[outcome.source[30:60]]
    found = tidy(patching.turns(outcome, 3, seed=0))
    peak = select(found, metric="peak_layer", component="attn_out").iloc[0]
    assert (peak["value"], peak["ci_low"], peak["ci_high"]) == (0, 0, 2)


def test_the_gain_of_a_window_is_against_the_next_smaller_one(clean: tuple[torch.Tensor, np.ndarray]) -> None:
    sites = {("attn_out", 2, 1): 0.2, ("attn_out", 2, 3): 0.5, ("attn_out", 2, 5): 0.4}
    sites |= {("resid_post", 2, 1): 0.0, ("resid_post", 2, 3): 1.0}
    found = pd.DataFrame(patching.span_gain(curves(sites, clean)))
    assert found["span"].tolist() == [3, 5] and set(found["component"]) == {"attn_out"}
    assert np.allclose(found["value"], [0.3, -0.1])
    assert found["ci_low"][0] > 0 and (found["ci_low"] < found["value"]).all()
    assert np.allclose(found["value"] - found["ci_low"], found["ci_high"] - found["value"])


# Refusals.


UNUSED: Any = SimpleNamespace()  # a model that nothing may be asked of


@pytest.mark.parametrize("right", [0, 1, 3])
def test_too_few_right_answers_are_refused_before_any_edit(study: Study, right: int) -> None:
    few = Study(study.run, model=UNUSED, clean=study.clean, agreed=np.arange(right))
    message = f"of the {right} texts answered right find a partner of another label and writer, and patching needs 4"
    with pytest.raises(ValueError, match=message):
        patching.run(few)


def test_texts_of_one_writer_are_refused(study: Study) -> None:
    corpus = replace(study.corpus, events=study.corpus.events.assign(writer="w"))
    one = Study(study.run, model=UNUSED, corpus=corpus, clean=study.clean, agreed=study.agreed)
    with pytest.raises(ValueError, match="0 of the 50 texts answered right find a partner"):
        patching.run(one)


# What the chapter makes of the table.


def test_the_stream_is_shown_at_the_last_layer_of_its_window(table: pd.DataFrame) -> None:
    shown = views.outcomes(table, span=3).set_index(["component", "metric", "layer"])["value"]
    for metric in SHARES:
        assert shown["resid_post", metric, LAYERS - 1] == value(table, metric, "resid_post", LAYERS - 2, span=3)
        assert shown["attn_out", metric, LAYERS - 2] == value(table, metric, "attn_out", LAYERS - 2, span=3)
    windows = results.last_of_window(views.outcomes(table, component="resid_post"), "metric")
    assert len(windows) == 3 * (3 + 1) and windows["apart"].max() == 0
    theirs = views.paper_outcomes(span=3, component="resid_post", metric="transfer")
    assert theirs["layer"].max() == 15 and theirs["depth"].max() == 1


def test_places_of_the_papers_models_are_those_it_prints(table: pd.DataFrame) -> None:
    found = views.places(views.turns(table).assign(run="ours")).set_index("model")
    llama, ours = found.loc["Llama 3.2 1B"], found.loc["ours"]
    # claims C5, C6: one half first at layer 10 of 16; windows of five of attention at the same, of feed-forward later
    assert llama.tolist() == [10 / 16, 10 / 16, 13 / 16] and len(found) == 11
    keys = dict(metric="peak_depth", component="attn_out", span=5)
    assert ours["depth: attention carries most"] == select(table, **keys)["value"].item()
    best = views.best_of(table, "attn_out").iloc[0]
    alone = select(table, metric="transfer", component="attn_out", span=1, position="-1", source="other_label")
    assert best["value"] == alone["value"].max() and best["span"] == 1
