"""Findings within single sources: scikit-learn's AUROC of their images, beside what the source's name gives away."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.description import Data, Model
from covidcxnet.evaluation.multilabel import MultilabelFindings
from covidcxnet.evaluation.multilabel_cautions import finding_cautions
from covidcxnet.evaluation.multilabel_metrics import FindingPredictions, measure_findings
from covidcxnet.evaluation.multilabel_page import write_findings_report
from covidcxnet.evaluation.multilabel_places import finding_places

NAMES = ("mass", "effusion", "hernia")


@pytest.fixture
def predictions():
    """Mass everywhere, no effusion in `b`, hernia in all of `b` and in none elsewhere; every eighth unknown."""
    random = np.random.default_rng(4)
    sources = np.array(["a"] * 90 + ["b"] * 60 + ["c"] * 50, dtype=object)
    targets = (random.random((200, 3)) < np.where(sources == "a", 0.3, 0.6)[:, None]).astype(float)
    targets[sources == "b", 1], targets[:, 2] = 0, sources == "b"
    chances = np.clip(0.3 * targets + 0.7 * random.random(targets.shape), 0, 1)
    targets[::8] = np.nan
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(200)],
            "label": "unknown",
            "patient": [f"p{i}" for i in random.integers(0, 120, 200)],
            "source": sources,
        }
    )
    return FindingPredictions(table, targets, chances, NAMES, np.full(3, 0.5))


def _changed(predictions, rows=None, probabilities=None, **columns):
    rows = np.arange(len(predictions)) if rows is None else np.flatnonzero(rows)
    table = predictions.table.assign(**columns).iloc[rows].reset_index(drop=True)
    chances = predictions.probabilities if probabilities is None else probabilities
    return FindingPredictions(table, predictions.targets[rows], chances[rows], NAMES, predictions.thresholds)


def _places(predictions, resamples=100, **options):
    draws = Bootstrap(predictions.table["patient"], len(predictions), resamples=resamples)
    return finding_places(predictions, draws, **options)


def _report(predictions, folder, places):
    draws = Bootstrap(predictions.table["patient"], len(predictions), resamples=20)
    rejected = pd.DataFrame({"path": [], "reason": []})
    data = Data("made-up", "other", "", False, predictions.table.assign(part="other"), rejected)
    parts = pd.DataFrame([{"part": "other", "finding": n, "images": 9, "patients": 8} for n in (*NAMES, "all")])
    findings = MultilabelFindings(
        Model("small-cnn", "w.weights.h5"), data, predictions, measure_findings(predictions, draws), parts,
        resamples=20, seed=0, unknown_patients=0, places=places,
    )  # fmt: skip
    return write_findings_report(findings, folder)


def _known(predictions, k, source):
    own = (predictions.table["source"] == source).to_numpy() & ~np.isnan(predictions.targets[:, k])
    return predictions.targets[own, k] == 1, predictions.probabilities[own, k]


def test_each_figure_of_a_source_is_that_of_scikit_learn_over_its_known_images(predictions):
    found = _places(predictions, seen_sources={"a"})
    assert [(row.sources, row.seen, row.images) for row in found.rows] == [
        (("a",), True, 90), (("b",), False, 60), (("c",), False, 50),
    ]  # fmt: skip
    for row in found.rows:
        for c in row.comparisons:
            truth, chance = _known(predictions, NAMES.index(c.positive), row.sources[0])
            assert c.auroc.value == pytest.approx(roc_auc_score(truth, chance))
            assert c.auroc.low < c.auroc.value < c.auroc.high
            assert (c.positives, c.negatives) == (truth.sum(), (~truth).sum())
        assert row.macro.value == pytest.approx(np.mean([c.auroc.value for c in row.comparisons]))
        own = predictions.table["source"] == row.sources[0]
        assert row.patients == predictions.table["patient"][own].nunique()


def test_within_sources_only_pairs_of_one_source_are_compared(predictions):
    mass = _places(predictions).findings[0]
    right, pairs = 0.0, 0
    for source in "abc":
        truth, chance = _known(predictions, 0, source)
        for high, low in product(chance[truth], chance[~truth]):
            right, pairs = right + (high > low) + 0.5 * (high == low), pairs + 1
    assert mass.within.value == pytest.approx(right / pairs)
    known = ~np.isnan(predictions.targets[:, 0])
    truth = predictions.targets[known, 0]
    assert mass.all_pairs.value == pytest.approx(roc_auc_score(truth, predictions.probabilities[known, 0]))
    share = pd.Series(truth).groupby(predictions.table["source"].to_numpy()[known]).transform("mean")
    assert mass.source_alone == pytest.approx(roc_auc_score(truth, share))


def test_a_network_that_only_recognises_the_place_is_worth_nothing_within_it(predictions):
    place = predictions.table["source"].map({"a": 0.3, "b": 0.6, "c": 0.61}).to_numpy()
    found = _places(_changed(predictions, probabilities=np.stack([place] * 3, axis=1)))
    assert all(own.within.value == 0.5 for own in found.findings) and found.mean.within.value == 0.5
    assert found.mean.all_pairs.value > 0.6 and found.mean.source_alone > 0.6


def test_a_finding_of_one_value_is_in_words_and_not_a_row_without_figures(predictions, tmp_path):
    found = _places(predictions)
    a, b = found.rows[:2]
    assert (a.one_sided, b.one_sided) == ({"hernia": "absent"}, {"effusion": "absent", "hernia": "present"})
    assert [own.name for own in found.findings] == ["mass", "effusion"]
    assert [own.positive for own in b.comparisons] == ["mass"]
    assert found.mean.within.value == pytest.approx(np.mean([own.within.value for own in found.findings]))
    report = _report(predictions, tmp_path, found)
    for text in (report.path.read_text(), report.card_path.read_text()):
        assert "no source has images both with and without hernia" in text and "nan" not in text.lower().split()
    assert "none with it" in report.path.read_text()
    mean = found.mean.within.value
    assert f"Within sources the mean AUROC over 2 findings is {mean:.3f}" in report.findings.summary()


def test_page_numbers_and_card_have_the_figures_within_each_source(predictions, tmp_path):
    found = _places(predictions, seen_sources={"a"})
    report = _report(predictions, tmp_path, found)
    page, card = report.path.read_text(), report.card_path.read_text()
    mean = found.mean
    said = f"Knowing nothing but the source would score a mean AUROC of {mean.source_alone:.3f} over 2 findings"
    assert said in page and said in card and said in report.findings.summary()
    assert page.index("Within single sources") < page.index("By finding") and "AUROC within sources, mean" in page
    assert "| Within a, seen in training | mean | 90 images |" in card and "Within b, never seen" in card
    read = json.loads(report.metrics_path.read_text())["places"]
    assert read["rows"][0]["macro"]["value"] == pytest.approx(found.rows[0].macro.value)
    assert read["rows"][1]["comparisons"][0]["auroc"]["low"] == pytest.approx(found.rows[1].comparisons[0].auroc.low)
    assert read["by_class"]["mass"]["auroc_of_source_alone"] == pytest.approx(found.findings[0].source_alone)
    assert read["mean"]["auroc_within_sources"]["value"] == pytest.approx(mean.within.value)


def test_images_that_were_trained_on_are_in_no_figure(predictions):
    trained = np.arange(200) % 3 == 0
    found, rest = _places(predictions, 0, trained_on=trained), _places(_changed(predictions, ~trained), 0)
    assert (found.skipped, rest.skipped) == (trained.sum(), 0)
    for key in ("rows", "by_class", "mean"):
        assert found.to_dict()[key] == rest.to_dict()[key]
    assert _places(predictions, 0, trained_on=np.ones(200, bool)) is None


def test_without_sources_the_section_is_left_out_and_with_one_it_is_a_sentence(predictions, tmp_path):
    assert _places(_changed(predictions, source=None), 0) is None
    page = _report(predictions, tmp_path / "none", None).path.read_text()
    assert "Within single sources" not in page and "within sources, mean" not in page
    one = _changed(predictions, predictions.table["source"] == "a")
    report = _report(one, tmp_path / "one", _places(one, 20))
    page, card = report.path.read_text(), report.card_path.read_text()
    assert "All images come from one source, a" in page and "All images come from one source, a" in card
    assert "Knowing nothing but the source" not in page


def test_sources_that_hold_no_finding_both_ways_are_named_and_nothing_is_compared(predictions, tmp_path):
    apart = np.isin(predictions.table["source"], ["a", "b"])
    b = (predictions.table["source"] == "b").to_numpy()
    targets = np.where(np.isnan(predictions.targets), np.nan, np.stack([b, ~b, b], axis=1).astype(float))
    changed = FindingPredictions(predictions.table, targets, predictions.probabilities, NAMES, predictions.thresholds)
    changed = _changed(changed, apart)
    found = _places(changed, 20)
    assert found.mean is None and not any(row.comparisons for row in found.rows)
    text = _report(changed, tmp_path, found).path.read_text()
    assert "no source has images both with and without mass, effusion or hernia" in text
    assert "No source has images both with and without a finding" in text  # the warning


def test_simple_statistics_stand_beside_each_finding_of_a_source(predictions, tmp_path):
    """Mass shows in a statistic of source `a`; a finding with few images there has none."""
    statistics = np.random.default_rng(0).normal(size=(200, 6))
    own = (predictions.table["source"] == "a").to_numpy()
    statistics[own, 2] += 5 * (predictions.targets[own, 0] == 1)
    found = _places(predictions, seen_sources={"a"}, statistics=statistics)
    a, b = found.rows[:2]
    mass, effusion = a.comparisons
    assert mass.statistics.value > 0.95 and mass.statistics.low > 0.9 and effusion.statistics.value < 0.75
    assert a.statistics.value == pytest.approx((mass.statistics.value + effusion.statistics.value) / 2)
    assert b.comparisons[0].statistics.value < 0.75 and mass.auroc == _places(predictions).rows[0].comparisons[0].auroc
    report = _report(predictions, tmp_path, found)
    page, card = report.path.read_text(), report.card_path.read_text()
    assert f"statistics {mass.statistics.value:.3f}" in page and "a linear probe" in page and "linear probe" in card
    assert f"({mass.statistics.low:.3f} to {mass.statistics.high:.3f}) |" in card
    assert f"simple statistics alone {a.statistics.value:.3f}" in report.findings.summary()
    (caution,) = [c for c in finding_cautions(report.findings) if c.key == "statistics_tell"]
    assert f"of mass within a: {mass.statistics.value:.3f}, the model {mass.auroc.value:.3f}" in caution.text
    assert "effusion" not in caution.text and "within b" not in caution.text
    read = json.loads(report.metrics_path.read_text())["places"]["rows"][0]
    assert read["statistics"]["value"] == pytest.approx(a.statistics.value)
    assert read["comparisons"][0]["statistics"]["value"] == pytest.approx(mass.statistics.value)
    alone = _changed(predictions, own)
    found = _places(alone, statistics=statistics[own])
    assert (
        f"alone have a mean AUROC of {found.rows[0].statistics.value:.3f}"
        in _report(alone, tmp_path / "one", found).path.read_text()
    )
    few = _places(_changed(predictions, own & (np.arange(200) < 30)), statistics=statistics[:30])
    assert few.rows[0].statistics is None
