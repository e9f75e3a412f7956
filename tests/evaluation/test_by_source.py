"""Figures by source see through a model that recognises the source, and stand beside those of an intensity probe."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.by_source import FEWEST, HELD_OUT, INTERNAL, WITHIN, by_source, probe_scores
from covidcxnet.evaluation.predictions import Predictions, truth_of

TWO, THREE = ("normal", "covid19"), ("normal", "pneumonia", "covid19")


def _data(classes, images=400) -> Predictions:
    """Sources nih and cohen, where classes are easily told apart, and new, where they are not."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, len(classes), images)
    scores = rng.normal(size=(images, len(classes)))
    sources = rng.choice(["nih", "cohen", "new"], images)
    scores[np.arange(images), targets] += np.where(sources == "new", 0.3, 1.5)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return _predictions(targets, p, classes, source=sources, patient=rng.integers(0, 150, images))


def _predictions(targets, probabilities, classes=TWO, **columns) -> Predictions:
    table = pd.DataFrame({"path": "a.png", "label": np.array(classes, object)[targets], **columns})
    return Predictions(table, truth_of(table, classes), probabilities, classes, np.full(len(classes), 0.5))


def _measured(p: Predictions, resamples=100, **options):
    return by_source(p, Bootstrap(p.column("patient"), len(p), resamples=resamples), **options)


def _members(p: Predictions, *sources):
    return p.table["source"].isin(sources).to_numpy()


def _auroc(p: Predictions, members) -> float:
    return pytest.approx(roc_auc_score(p.targets[members], p.probabilities[members, 1]))


def test_each_figure_is_the_auroc_of_its_own_images_and_the_gap_is_their_difference():
    p = _data(TWO)
    result = _measured(p, trained_sources={"nih", "cohen"})
    auroc = {}
    for site in result.sites:
        members = _members(p, *site.sources)
        (c,) = site.comparisons
        assert c.auroc.value == _auroc(p, members)
        assert c.auroc.low < c.auroc.value < c.auroc.high
        assert (c.positive, c.negative, c.score) == ("covid19", "normal", "P(covid19)")
        assert (c.positives, c.negatives) == ((p.targets[members] == 1).sum(), (p.targets[members] == 0).sum())
        assert site.patients == p.table["patient"][members].nunique()
        auroc.setdefault(site.kind, c.auroc.value)
    assert [site.kind for site in result.sites] == [INTERNAL, HELD_OUT, WITHIN, WITHIN, WITHIN]
    trained = {site.sources[0]: site.trained for site in result.sites if site.kind == WITHIN}
    assert trained == {"nih": True, "cohen": True, "new": False}
    gap = result.gap
    assert gap.auroc.value == pytest.approx(auroc[INTERNAL] - auroc[HELD_OUT])
    assert 0 < gap.auroc.low < gap.auroc.value < gap.auroc.high
    assert (gap.positive, gap.negative, gap.score) == ("covid19", "normal", "P(covid19)")
    # figures of a source
    for row in result.sources:
        members = _members(p, row.name)
        assert row.auroc.value == _auroc(p, members)
        assert row.accuracy.value == pytest.approx((p.predicted == p.targets)[members].mean())
        assert row.images == members.sum() and row.patients == p.table["patient"][members].nunique()
        assert row.trained == trained[row.name]
    assert sum(row.images for row in result.sources) == len(p)


def test_the_gap_is_between_the_diseases_that_both_have():
    """COVID-19 that is easily told, and inside only, must not widen the gap of pneumonia."""
    p = _data(THREE)
    p = p.only(np.flatnonzero(~_members(p, "new") | (p.targets != 2)))
    inside = ~_members(p, "new")
    p.probabilities[inside & (p.targets == 2)] = [0.001, 0.001, 0.998]
    found = _measured(p, trained_sources={"nih", "cohen"})
    assert found.sites[0].comparisons[0].positive == "covid19 or pneumonia"
    assert (found.gap.positive, found.gap.negative, found.gap.score) == ("pneumonia", "normal", "1 - P(normal)")
    sides = (side & (p.targets != 2) for side in (inside, ~inside))
    internal, held_out = (roc_auc_score(p.targets[side], 1 - p.probabilities[side, 0]) for side in sides)
    assert found.gap.auroc.value == pytest.approx(internal - held_out)
    assert found.sites[0].comparisons[0].auroc.value > internal


def test_counted_images_stand_within_their_source_only():
    p = _data(TWO)
    p.table["labelled"] = p.table["label"].mask(_members(p, "nih") & (p.targets == 1), "pneumonia")
    internal, *sites = _measured(p, trained_sources={"nih", "cohen"}).sites
    members = ~_members(p, "new") & (p.table["labelled"] != "pneumonia").to_numpy()
    assert internal.images == members.sum() and "pneumonia" not in internal.by_label
    assert internal.comparisons[0].auroc.value == _auroc(p, members)
    nih = next(site for site in sites if site.kind == WITHIN and site.sources == ("nih",))
    assert nih.comparisons[0].positive == "pneumonia"
    assert nih.comparisons[0].auroc.value == _auroc(p, _members(p, "nih"))


def test_three_classes_are_compared_by_not_normal_and_pair_by_pair():
    p = _data(THREE)
    p = p.only(np.flatnonzero((_members(p, "nih") & (p.targets != 2)) | _members(p, "cohen")))
    sites = {site.sources[0]: site for site in _measured(p).sites}
    nih, cohen = sites["nih"], sites["cohen"]
    assert [(c.positive, c.negative, c.score) for c in nih.comparisons] == [
        ("pneumonia", "normal", "1 - P(normal)"),
        ("pneumonia", "normal", "P(pneumonia)"),
    ]
    members = _members(p, "nih")
    truth, scores = p.targets[members] > 0, p.probabilities[members]
    assert nih.comparisons[0].auroc.value == pytest.approx(roc_auc_score(truth, 1 - scores[:, 0]))
    assert nih.comparisons[1].auroc.value == pytest.approx(roc_auc_score(truth, scores[:, 1]))
    assert [c.score for c in cohen.comparisons] == ["1 - P(normal)", "P(pneumonia)", "P(covid19)", "P(covid19)"]
    last, members = cohen.comparisons[-1], _members(p, "cohen") & (p.targets > 0)
    assert (last.positive, last.negative) == ("covid19", "pneumonia")
    assert last.auroc.value == pytest.approx(roc_auc_score(p.targets[members] == 2, p.probabilities[members, 2]))
    assert {site.trained for site in sites.values()} == {None}


def test_images_that_were_trained_on_are_in_no_figure_of_a_site(findings):
    for p in (_data(TWO), findings):
        trained = np.arange(len(p)) < 100
        found = _measured(p, trained_sources={"nih"}, trained_on=trained)
        rest = _measured(p.only(np.arange(100, len(p))), trained_sources={"nih"})
        values = [[c.auroc.value for site in f.sites for c in site.comparisons] for f in (found, rest)]
        assert found.skipped == 100 and values[0] == pytest.approx(values[1])
        assert _measured(p, trained_on=np.ones(len(p), bool)).sites == ()


def test_unknown_sources_and_sites_of_one_class_are_in_no_comparison():
    p = _data(TWO)
    p.table.loc[p.table["source"] == "new", "source"] = None
    sites = _measured(p, trained_sources={"nih"}).sites
    assert {site.kind: site.sources for site in sites[:2]} == {INTERNAL: ("nih",), HELD_OUT: ("cohen",)}
    assert next(site for site in sites if site.sources == ("unknown",)).trained is None
    p = _data(TWO)
    result = _measured(p.only(np.flatnonzero(~_members(p, "new") | (p.targets == 0))), trained_sources={"nih", "cohen"})
    held_out = result.sites[1]
    assert held_out.kind == HELD_OUT and held_out.comparisons == () and result.gap is None
    assert "calibration_error" in held_out.calibration
    p.table["source"] = np.where(p.targets == 1, "cohen", "nih")
    assert _measured(p).sites == ()
    p.table["source"] = [None, ""] * 200
    assert _measured(p) is None


def test_a_model_that_knows_only_the_source_scores_half_within_it(findings):
    rng = np.random.default_rng(0)
    source = rng.integers(0, 2, 400)
    targets = (rng.random(400) < np.where(source == 1, 0.9, 0.1)).astype(int)
    scores = 0.3 + 0.4 * source + 0.01 * rng.random(400)
    names = np.where(source == 1, "cohen", "nih")
    found = _measured(_predictions(targets, np.stack([1 - scores, scores], axis=1), source=names))
    assert roc_auc_score(targets, scores) > 0.85
    assert found.mean.source_alone == pytest.approx(roc_auc_score(targets, source), abs=0.001)
    assert found.mean.within.low < 0.5 < found.mean.within.high
    assert found.unshared == () and found.alone == ()
    score = findings.table["source"].map({"a": 0.3, "b": 0.6, "c": 0.61}).to_numpy()
    found = _measured(replace(findings, probabilities=np.stack([score] * 3, axis=1)))
    assert all(row.within.value == 0.5 for row in found.pooled) and found.mean.within.value == 0.5
    assert found.mean.all_pairs.value > 0.6 and found.mean.source_alone > 0.6


def test_classes_that_share_no_source_are_named():
    targets = np.array([0, 0, 1, 1])
    result = _measured(_predictions(targets, np.eye(2)[targets], source=list("aabb")))
    assert math.isnan(result.mean.within.value) and (result.alone, list(result.unshared)) == (TWO, [TWO])
    assert result.mean.source_alone == 1 and all(math.isnan(row.auroc.value) for row in result.sources)
    # a class alone in its source is left out of the figure within
    targets = np.array([0, 1, 0, 1, 2, 2])
    result = _measured(_predictions(targets, np.eye(3)[targets], THREE, source=list("aaaabb")))
    assert result.mean.within.value == 1 and result.alone == ("covid19",)
    assert list(result.unshared) == [("normal", "covid19"), ("pneumonia", "covid19")]


def test_figures_of_findings_in_a_source_are_those_of_scikit_learn_over_its_known_images(findings):
    result = _measured(findings, trained_sources={"a"})
    shown = [(*site.sources, site.trained, site.images) for site in result.sites]
    assert shown == [("a", True, 90), ("b", False, 60), ("c", False, 50)]
    for site in result.sites:
        for c in site.comparisons:
            truth, score = _known(findings, findings.classes.index(c.positive), site.sources[0])
            assert c.auroc.value == pytest.approx(roc_auc_score(truth, score))
            assert c.auroc.low < c.auroc.value < c.auroc.high
            assert (c.positives, c.negatives) == (truth.sum(), (~truth).sum())
        assert site.mean.value == pytest.approx(np.mean([c.auroc.value for c in site.comparisons]))
    a, b = result.sites[:2]
    assert (a.one_sided, b.one_sided) == ({"hernia": "absent"}, {"effusion": "absent", "hernia": "present"})
    assert [row.name for row in result.pooled] == ["mass", "effusion"]
    assert result.mean.within.value == pytest.approx(np.mean([row.within.value for row in result.pooled]))
    # within sources only pairs of one source are compared
    mass, right, pairs = result.pooled[0], 0.0, 0
    for source in "abc":
        truth, score = _known(findings, 0, source)
        for high, low in product(score[truth], score[~truth]):
            right, pairs = right + (high > low) + 0.5 * (high == low), pairs + 1
    assert mass.within.value == pytest.approx(right / pairs)
    known = ~np.isnan(findings.truth[:, 0])
    truth = findings.truth[known, 0]
    assert mass.all_pairs.value == pytest.approx(roc_auc_score(truth, findings.probabilities[known, 0]))
    share = pd.Series(truth).groupby(findings.table["source"].to_numpy()[known]).transform("mean")
    assert mass.source_alone == pytest.approx(roc_auc_score(truth, share))


def _known(p: Predictions, k: int, source: str):
    members = _members(p, source) & ~np.isnan(p.truth[:, k])
    return p.truth[members, k] == 1, p.probabilities[members, k]


def _order(scores, positive):
    return (scores[positive][:, None] > scores[~positive][None]).mean()


@pytest.mark.parametrize("many", [5000, 10], ids=["few patients", "many"])
def test_a_statistic_that_goes_with_the_label_ranks_it_but_neither_does_noise_nor_what_tells_patients_apart(
    monkeypatch, many
):
    monkeypatch.setattr("covidcxnet.datasets.bias.MANY", many)  # which changes how folds are drawn
    rng = np.random.default_rng(0)
    positive, noise, patients = np.arange(200) % 2 > 0, rng.normal(size=(200, 30)), np.arange(200)
    telling = noise.copy()
    telling[:, 7] += 4 * positive
    assert _order(probe_scores(telling, positive, patients), positive) > 0.95
    assert 0.35 < _order(probe_scores(noise, positive, patients), positive) < 0.65
    patients = np.repeat(np.arange(30), 10)
    positive = patients % 2 > 0
    statistics = rng.normal(size=(30, 25))[patients] + 0.01 * rng.normal(size=(300, 25))
    assert _order(probe_scores(statistics, positive, patients), positive) < 0.8  # 1 if patients stood on both sides
    for images, groups in ((FEWEST - 1, 40), (FEWEST, 4)):  # too few images or patients of one kind
        positive = np.arange(60) < images
        patients = np.where(positive, np.arange(60) % groups, 100 + np.arange(60))
        assert probe_scores(np.zeros((60, 3)), positive, patients) is None


def test_the_probe_stands_beside_each_finding_of_a_source(findings):
    """Mass shows in a statistic of source `a`; a finding with few images there has none."""
    statistics = np.random.default_rng(0).normal(size=(200, 6))
    a = _members(findings, "a")
    statistics[a, 2] += 5 * (findings.truth[a, 0] == 1)
    first, second = _measured(findings, statistics=statistics).sites[:2]
    mass, effusion = first.comparisons
    assert mass.probe.value > 0.95 and mass.probe.low > 0.9 and effusion.probe.value < 0.75
    assert first.mean_probe.value == pytest.approx((mass.probe.value + effusion.probe.value) / 2)
    assert second.comparisons[0].probe.value < 0.75
    few = np.flatnonzero(a)[:30]
    assert _measured(findings.only(few), statistics=statistics[few]).sites[0].mean_probe is None
