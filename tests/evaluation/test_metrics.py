"""Figures, intervals, ranks and calibration are those of scikit-learn and of theory, or NaN where undefined."""

import io
import math
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio
from covidcxnet.evaluation.by_source import by_source
from covidcxnet.evaluation.calibration import calibration_slope, error_by_chance, expected_error, reliability
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions, truth_of
from covidcxnet.evaluation.ranking import GRID, concordance, rank
from covidcxnet.evaluation.thresholds import youden_threshold
from enhancement.errors import InputError

BOOTSTRAP = "covidcxnet.evaluation.bootstrap."
TWO, THREE = ("normal", "covid19"), ("normal", "pneumonia", "covid19")


def _measured(predictions, resamples=50):
    return measure(predictions, Bootstrap(predictions.column("patient"), len(predictions), resamples=resamples))


def _exclusive(targets, probabilities, classes=THREE):
    table = pd.DataFrame({"path": "a.png", "label": np.array(classes)[targets]})
    truth, scores = truth_of(table, classes), np.asarray(probabilities, float)
    return Predictions(table, truth, scores, classes, np.full(len(classes), 0.5))


def _independent(truth, probabilities, classes=("mass", "effusion", "hernia")):
    table, cut = pd.DataFrame({"path": ["a.png"] * len(truth), "label": "unknown"}), np.full(len(classes), 0.5)
    return Predictions(table, np.asarray(truth, float), probabilities, classes, cut, "independent")


def test_figures_of_three_classes_agree_with_scikit_learn_and_lie_in_their_intervals(make_predictions):
    p = make_predictions()
    m, targets, called, scores = _measured(p, 300), p.targets, p.predicted, p.probabilities
    expected = {
        "accuracy": sk.accuracy_score(targets, called),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, called),
        "macro_f1": sk.f1_score(targets, called, average="macro"),
        "auroc": sk.roc_auc_score(targets, scores, multi_class="ovr"),
        "average_precision": sk.average_precision_score(p.truth, scores),
        "brier": ((scores - p.truth) ** 2).sum(axis=1).mean(),
        "loss": sk.log_loss(targets, scores),
    }
    assert {name: m.overall[name].value for name in expected} == pytest.approx(expected)
    np.testing.assert_array_equal(m.confusion, sk.confusion_matrix(targets, called))
    named = {**m.overall, **{f"{c}.{k}": e for c, row in m.by_class.items() for k, e in row.figures.items()}}
    for name, e in named.items():
        assert e.low < e.high, name
        # A calibration error is biased upwards by resampling: its interval may lie above it.
        assert e.low <= e.value <= e.high or "calibration" in name, name


@pytest.mark.parametrize("task", ["exclusive", "independent"])
def test_figures_of_each_class_are_those_of_scikit_learn_over_the_images_where_it_is_known(
    make_predictions, findings, task
):
    p = make_predictions() if task == "exclusive" else findings
    m = _measured(p, 200)
    for k, (name, row) in enumerate(m.by_class.items()):
        known = ~np.isnan(p.truth[:, k])
        truth, score, called = p.truth[known, k], p.probabilities[known, k], p.called[known, k]
        expected = {
            "auroc": sk.roc_auc_score(truth, score),
            "average_precision": sk.average_precision_score(truth, score),
            "f1": sk.f1_score(truth, called, zero_division=0),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(truth, called, pos_label=0),
            "precision": sk.precision_score(truth, called, zero_division=np.nan),
            "npv": sk.precision_score(truth, called, pos_label=0),
        }
        for figure, value in expected.items():
            estimate = row.figures[figure]
            assert estimate.value == pytest.approx(value, nan_ok=True), (name, figure)
            # F1 of a finding that is never found is 0 in every resample
            bare = math.isnan(value) or (figure == "f1" and value == 0)
            assert math.isnan(estimate.low) if bare else estimate.low <= value <= estimate.high
        sides = (truth == 1).sum(), (truth == 0).sum()
        assert (row.tp + row.fn, row.fp + row.tn) == (row.present, row.absent) == sides


def test_an_absent_class_leaves_its_figures_undefined_and_others_defined(make_predictions):
    p = make_predictions()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m = _measured(p.only(np.flatnonzero(p.targets != 1)), 20)
    absent = m.by_class["pneumonia"].figures
    assert math.isnan(absent["sensitivity"].value) and math.isnan(absent["auroc"].value)
    assert math.isnan(m.overall["auroc"].value) and math.isnan(m.overall["balanced_accuracy"].value)
    assert 0 < m.overall["accuracy"].value < 1
    assert m.by_class["covid19"].figures["auroc"].value > 0.5


@pytest.mark.parametrize("task, of_never, of_absent", [("exclusive", 1.8 / 3, math.nan), ("independent", 1.8 / 3, 0.9)])
def test_f1_of_a_class_never_predicted_is_0_and_of_a_class_without_images_undefined(task, of_never, of_absent):
    """Alike for both, but an undefined F1 makes the mean of exclusive classes undefined; findings leave it out."""
    scores = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    findings = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]])
    exclusive = task == "exclusive"
    never = _measured(_exclusive(np.array([0, 0, 2, 1]), scores) if exclusive else _independent(findings, scores))
    figures = never.by_class[never.classes[2]].figures
    assert (figures["f1"].value, figures["sensitivity"].value) == (0, 0) and math.isnan(figures["precision"].value)
    assert never.overall["macro_f1"].value == pytest.approx(of_never) and never.never_found == never.classes[2:]
    absent = _exclusive(np.array([0, 0, 0, 1]), scores) if exclusive else _independent(findings * [1, 1, 0], scores)
    absent = _measured(absent)
    assert math.isnan(absent.by_class[absent.classes[2]].figures["f1"].value)
    assert absent.overall["macro_f1"].value == pytest.approx(of_absent, nan_ok=True)


def test_a_finding_without_images_or_that_nobody_knows_of_is_undefined_and_in_no_mean(findings):
    truth = findings.truth.copy()
    truth[:, 1], truth[:, 2] = np.where(np.isnan(truth[:, 1]), np.nan, 0), np.nan
    m = _measured(replace(findings, truth=truth), 20)
    mass, effusion, hernia = m.by_class.values()
    assert m.untested == ("effusion", "hernia") and math.isnan(effusion.figures["f1"].value)
    assert all(math.isnan(e.value) for e in hernia.figures.values()) and (hernia.present, hernia.absent) == (0, 0)
    assert m.overall["auroc"].value == pytest.approx(mass.figures["auroc"].value)


def test_exclusive_classes_are_called_by_the_highest_probability_or_one_threshold_and_findings_by_their_own():
    scores = np.array([[0.40, 0.35, 0.25], [0.2, 0.2, 0.6]])
    assert _exclusive(np.array([0, 2]), scores).predicted.tolist() == [0, 2]
    two = _exclusive(np.array([0, 1]), [[0.65, 0.35], [0.75, 0.25]], TWO)
    assert two.predicted.tolist() == [0, 0]
    assert replace(two, thresholds=np.full(2, 0.3)).predicted.tolist() == [1, 0]
    called = replace(_independent(np.zeros((2, 3)), scores), thresholds=np.array([0.4, 0.3, 0.9])).called
    assert called.tolist() == [[True, True, False], [False, False, False]]


def test_figures_of_two_exclusive_classes_are_those_of_the_second_and_of_two_findings_the_mean():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 60)
    second = np.clip(0.3 * targets + 0.7 * rng.random(60), 0, 1)
    scores = np.stack([1 - second, second], axis=1)
    m = _measured(_exclusive(targets, scores, TWO))
    assert m.overall["auroc"].value == pytest.approx(sk.roc_auc_score(targets, second))
    assert m.overall["average_precision"].value == pytest.approx(sk.average_precision_score(targets, second))
    assert m.overall["brier"].value == pytest.approx(sk.brier_score_loss(targets, second))
    assert m.overall["loss"].value == pytest.approx(sk.log_loss(targets, second))
    assert m.by_class["normal"].figures["sensitivity"] == m.by_class["covid19"].figures["specificity"]
    truth = np.stack([targets, rng.integers(0, 2, 60)], axis=1)
    auroc = _measured(_independent(truth, scores, ("mass", "hernia"))).overall["auroc"].value
    assert auroc == pytest.approx(np.mean([sk.roc_auc_score(truth[:, k], scores[:, k]) for k in range(2)]))


def test_the_loss_of_findings_is_the_mean_over_what_is_known_and_a_sure_wrong_probability_stays_finite():
    scores = np.array([[0.9, 0.2, 0.6], [0.3, 1.0, 0.5]])
    truth = np.array([[1, 0, np.nan], [np.nan, 0, np.nan]])
    m = _measured(_independent(truth, scores, ("mass", "hernia", "effusion")))
    assert m.overall["loss"].value == pytest.approx(-np.mean(np.log([0.9, 0.8, 1e-7])))
    alone = _measured(_independent(truth[:1], scores[:1], ("mass", "hernia", "effusion")))
    assert alone.overall["loss"].value == pytest.approx(-np.log([0.9, 0.8]).mean())


def test_diseases_called_normal_are_counted_by_name_where_there_is_such_a_class(make_predictions):
    m = _measured(_exclusive(np.array([0, 1, 1, 1, 2, 2]), np.eye(3)[[0, 0, 1, 2, 0, 0]]), 10)
    assert [str(x) for x in m.missed] == ["pneumonia called normal: 1 of 3", "covid19 called normal: 2 of 2"]
    assert m.missed[0].rate.value == pytest.approx(1 / 3)
    assert _measured(make_predictions(classes=("pneumonia", "covid19"))).missed == ()


def test_calibration_error_is_small_for_honest_probabilities_and_bins_hold_every_image_once():
    rng = np.random.default_rng(0)
    honest = rng.random(20_000)
    outcome = rng.random(20_000) < honest
    bootstrap = Bootstrap(None, 20_000, resamples=0)
    assert reliability(honest, outcome, bootstrap).error[0] < 0.02
    sure = np.where(honest > 0.5, 0.99, 0.01)
    assert reliability(sure, outcome, bootstrap).error[0] == pytest.approx(0.24, abs=0.02)
    probability = np.array([0.0, 0.05, 0.1, 0.999, 1.0])
    bins = reliability(probability, np.array([0, 0, 1, 1, 1], bool), Bootstrap(None, 5, resamples=5))
    assert bins.images.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert math.isnan(bins.observed[5]) and bins.observed[9] == 1


def test_the_calibration_error_by_chance_is_that_of_honest_probabilities_and_larger_for_few_images_or_patients():
    rng = np.random.default_rng(0)
    chances = []
    for patient in (np.arange(18), np.arange(2000), np.arange(2000) // 20):
        p = _two(rng.uniform(0.2, 0.8, len(patient)))
        chances.append(error_by_chance(p, patient))
        draws = rng.random((400, len(patient)))[:, patient]  # one number a patient
        nothing = Bootstrap(None, len(patient), resamples=0)
        errors = [expected_error(p, (u < p[:, 1]).astype(int), nothing)[0] for u in draws]
        assert 0.02 < (np.array(errors) > chances[-1]).mean() < 0.09, "one in twenty"
    assert chances[0] > 0.25 and chances[1] < 0.05 < chances[2]
    assert error_by_chance(p, patient) == chances[-1], "the same each time"


def _two_classes(probability, labels):
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(labels))], "label": labels})
    scores = np.stack([1 - np.asarray(probability), probability], axis=1)
    return Predictions(table, truth_of(table, TWO), scores, TWO, np.full(2, 0.5))


def test_saved_table_has_a_row_an_image_and_columns_a_class_or_finding(make_predictions, findings, tmp_path):
    p = make_predictions(lungs_trusted=True)
    read = pd.read_csv(io.StringIO(p.to_csv()))
    columns = "path patient source label predicted p_normal p_pneumonia p_covid19 lungs_trusted"
    assert read.columns.tolist() == columns.split()
    assert len(read) == len(p)
    np.testing.assert_allclose(read["p_covid19"], p.probabilities[:, 2], atol=1e-6)
    assert read["lungs_trusted"].all()
    assert p.to_csv(tmp_path / "p.csv") == "" and (tmp_path / "p.csv").read_bytes() == p.to_csv().encode()
    read = pd.read_csv(io.StringIO(findings.to_csv()))
    assert read.columns.tolist()[:6] == ["path", "patient", "source", "mass", "called_mass", "p_mass"]
    np.testing.assert_array_equal(read["mass"].isna(), np.isnan(findings.truth[:, 0]))
    np.testing.assert_array_equal(read["called_mass"], findings.called[:, 0])
    # unknown columns stay empty
    frame = _two_classes([0.2, 0.9], ["normal", "covid19"]).to_frame()
    assert frame["patient"].isna().all() and frame["lungs_trusted"].isna().all()


@pytest.mark.parametrize(
    "probability, labels, message",
    [
        ([], [], "0 images"),
        ([0.5, 0.5], ["normal", "tb"], "label 'tb'.*normal, covid19"),
        ([0.5, math.nan], ["normal", "covid19"], r"1\.png: the model's output is not a number"),
    ],
)
def test_no_image_an_unknown_label_and_a_probability_that_is_no_number_are_refused(probability, labels, message):
    with pytest.raises(InputError, match=message):
        _two_classes(probability, labels)


def test_youden_threshold_is_the_best_of_all_and_needs_both_classes():
    assert youden_threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(0.4)
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.3
    probability = np.clip(rng.normal(0.3 + 0.2 * positive, 0.15), 0, 1)

    def youden(cut):
        called = probability >= cut
        return called[positive].mean() - called[~positive].mean()

    assert youden(youden_threshold(probability, positive)) == pytest.approx(max(youden(c) for c in probability))
    with pytest.raises(InputError, match="both classes"):
        youden_threshold(np.array([0.1, 0.9]), np.array([True, True]))


def _proportion(hits, groups=None, resamples=4000) -> Estimate:
    bootstrap = Bootstrap(groups, len(hits), resamples=resamples, seed=1)
    sums = bootstrap.sums(np.stack([hits, np.ones(len(hits))], axis=1))
    return bootstrap.estimate(ratio(sums[:, 0], sums[:, 1]))


def test_interval_of_a_proportion_is_the_binomial_one_however_many_equal_images_a_patient_has():
    low, high = binom.ppf([0.025, 0.975], 60, 0.8) / 60
    for images in (1, 5):
        hits = np.repeat(np.arange(60) < 48, images)
        by_patient, by_image = _proportion(hits, np.repeat(np.arange(60), images)), _proportion(hits)
        assert by_patient.value == 0.8
        assert (by_patient.low, by_patient.high) == pytest.approx((low, high), abs=1 / 60)
        assert images == 1 or by_image.high - by_image.low < 0.6 * (by_patient.high - by_patient.low)


def test_a_proportion_without_spread_has_wilsons_interval_over_patients_and_other_figures_none():
    normal = np.arange(20) < 6
    truth = np.stack([normal, ~normal], axis=1).astype(float)
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(20)], "label": np.where(normal, *TWO)})
    table["source"] = np.where(normal, "a", "b")
    # all right, but for one image: the specificity is of the 6 normal images alone
    scores = np.abs(truth - 0.1)
    scores[-1] = 0.6, 0.4
    p = Predictions(table, truth, scores, TWO, np.full(2, 0.5))
    draws = Bootstrap(None, 20, resamples=200)
    row = measure(p, draws).by_class[TWO[1]].figures
    six = binomtest(6, 6).proportion_ci(method="wilson")
    assert (row["specificity"].low, row["specificity"].high) == pytest.approx((six.low, 1)) and six.low < 0.7
    drawn = np.quantile(draws.counts[1:, -1] / draws.counts[1:, 6:].sum(axis=1), 0.975)
    assert row["sensitivity"].low == pytest.approx(1 - drawn)  # of the bootstrap, where that has a spread
    sites = {figures.name: figures for figures in by_source(p, draws).sources}
    assert sites["a"].accuracy.low == pytest.approx(six.low)
    # two images of each patient say no more than one
    twice = Bootstrap(np.repeat(np.arange(10), 2), resamples=200)
    three = binomtest(3, 3).proportion_ci(method="wilson")
    assert measure(p, twice).by_class[TWO[1]].figures["specificity"].low == pytest.approx(three.low)
    # half of a patient's images right is half a patient, and neither none nor all
    half = Bootstrap(["p", "p"], resamples=200).estimate(np.full(201, 0.5), np.ones(2, bool))
    assert half.low < 0.5 and half.low == pytest.approx(1 - half.high)
    # nor is a perfect ranking certain
    perfect = measure(replace(p, probabilities=truth), draws)
    assert perfect.overall["accuracy"].low == pytest.approx(binomtest(20, 20).proportion_ci(method="wilson").low)
    assert perfect.overall["auroc"].value == 1 and math.isnan(perfect.overall["auroc"].low)
    assert perfect.missed[0].rate.high == pytest.approx(1 - binomtest(14, 14).proportion_ci(method="wilson").low)


def test_about_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(5)
    held = 0
    for _trial in range(100):
        patients = rng.random(80) < 0.7
        interval = _proportion(np.repeat(patients, 2), np.repeat(np.arange(80), 2), resamples=200)
        held += interval.low <= 0.7 <= interval.high
    assert 0.88 <= held / 100 <= 0.99


def test_row_zero_is_the_data_each_resample_draws_as_many_patients_and_the_seed_decides_which():
    bootstrap = Bootstrap(["a", "b", "a", "c"], resamples=50)
    assert bootstrap.patients == 3 and bootstrap.sums(np.ones((4, 1)))[0, 0] == 4
    assert (bootstrap.counts[0] == 1).all() and (bootstrap.counts.sum(axis=1) == 3).all()
    # a patient's count is repeated for each of its images
    weights = np.concatenate(list(bootstrap.weights(np.array([0, 1, 2]))))
    np.testing.assert_array_equal(weights, bootstrap.counts[:, bootstrap.index[[0, 1, 0]]])
    first, again, other = (Bootstrap(None, 30, resamples=20, seed=s).counts for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_part_of_a_bootstrap_draws_the_same_patients_and_images_without_one_are_patients_of_their_own():
    whole = Bootstrap(["a", "b", "a", None, "c"], resamples=20)
    part = whole.part(np.array([2, 3]))
    assert part.patients == 2 and part.unknown == 1
    values = 10.0 ** np.arange(5)[:, None]
    masked = np.where(np.isin(np.arange(5), [2, 3])[:, None], values, 0)
    np.testing.assert_array_equal(part.sums(values[[2, 3]]), whole.sums(masked))
    unknown = Bootstrap(["a", None, "a", float("nan"), ""], resamples=5)
    assert (unknown.patients, unknown.unknown) == (4, 3) and Bootstrap(None, 7, resamples=5).patients == 7


def test_many_patients_are_drawn_again_for_each_statistic_and_give_the_figures_of_few(monkeypatch, make_predictions):
    p = make_predictions()
    rows = np.flatnonzero(p.targets)
    monkeypatch.setattr(BOOTSTRAP + "_BLOCK_CELLS", 2_000)

    def figures():
        draws = Bootstrap(p.column("patient"), len(p), resamples=60)
        part = draws.part(rows)
        ranked = rank(p.probabilities[rows, 1], p.targets[rows] == 1, part)
        return [*vars(ranked).values(), measure(p, draws).overall, part.part(np.arange(9)).counts]

    kept = figures()
    monkeypatch.setattr(BOOTSTRAP + "_KEPT_CELLS", 0)
    for few, many in zip(kept, figures(), strict=True):
        np.testing.assert_equal(many, few)


def test_memory_of_a_resampled_figure_hardly_grows_with_images(monkeypatch):
    monkeypatch.setattr(BOOTSTRAP + "_KEPT_CELLS", 100_000)
    monkeypatch.setattr(BOOTSTRAP + "_BLOCK_CELLS", 20_000)

    def peak(images):
        rng = np.random.default_rng(0)
        truth, scores = (rng.random((images, 3)) < 0.3).astype(float), rng.random((images, 3))
        p = _independent(truth, scores)
        tracemalloc.start()
        try:
            _measured(p, resamples=400)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(50)  # imports
    few, many = peak(1_000), peak(4_000)
    # Counts of all patients in all resamples would be 800 bytes for each image.
    assert many - few < 3_000 * 400, (few, many)


def test_undefined_resamples_are_left_out_and_counted_and_what_is_undefined_is_no_number_in_json():
    estimate = Bootstrap(None, 10, resamples=4).estimate(np.array([0.5, 0.4, math.nan, 0.6, math.nan]))
    assert estimate.undefined == 2 and 0.4 <= estimate.low <= estimate.high <= 0.6
    assert math.isnan(ratio(np.array([0.0]), np.array([0.0]))[0])
    assert Estimate(math.nan).to_dict() == {"value": None, "low": None, "high": None, "undefined_resamples": 0}


def test_one_patient_or_no_resamples_give_a_figure_without_an_interval_and_no_images_none():
    for groups, resamples in ((["a", "a"], 4000), (None, 0)):
        estimate = _proportion(np.array([True, False]), groups, resamples)
        assert estimate.value == 0.5 and math.isnan(estimate.low) and math.isnan(estimate.high)
    for arguments, message in (((None, 0), "positive number of images"), (([],), "no images")):
        with pytest.raises(ValueError, match=message):
            Bootstrap(*arguments)


def _case(ties, images=80):
    rng = np.random.default_rng(2)
    positive = np.r_[True, False, rng.random(images - 2) < 0.4]
    scores = rng.normal(size=images) + positive
    return (np.round(scores) if ties else scores), positive, rng.integers(0, 40, images)


@pytest.mark.parametrize("ties", [False, True])
def test_every_resample_and_the_curves_agree_with_scikit_learn(ties):
    scores, positive, groups = _case(ties)
    bootstrap = Bootstrap(groups, resamples=40)
    ranked = rank(scores, positive, bootstrap)
    for row, counts in enumerate(bootstrap.counts):
        weights = counts[bootstrap.index]
        assert ranked.auroc[row] == pytest.approx(sk.roc_auc_score(positive, scores, sample_weight=weights))
        expected = sk.average_precision_score(positive, scores, sample_weight=weights)
        assert ranked.average_precision[row] == pytest.approx(expected)
    rates, sensitivities, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(ranked.roc_points, np.stack([rates, sensitivities], axis=1))
    precision, recall, _ = sk.precision_recall_curve(positive, scores)
    pairs = {(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)}
    assert {(round(r, 9), round(p, 9)) for r, p in ranked.precision_recall_points} <= pairs
    # on the grid they rise from the curve of the data
    assert (np.diff(ranked.sensitivity, axis=1) >= 0).all() and (ranked.sensitivity[:, -1] == 1).all()
    assert ties or np.trapezoid(ranked.sensitivity[0], GRID) == pytest.approx(ranked.auroc[0], abs=0.02)
    assert ranked.precision.shape == (41, 101) and (ranked.precision[:, -1] > 0).all()


def test_a_perfect_order_scores_1_its_mirror_0_and_a_class_alone_or_resamples_without_one_have_no_auroc():
    scores, positive = np.arange(20.0), np.arange(20) >= 12
    bootstrap = Bootstrap(None, 20, resamples=50)
    assert np.nanmin(rank(scores, positive, bootstrap).auroc) == 1
    assert np.nanmax(rank(-scores, positive, bootstrap).auroc) == 0
    alone = rank(scores, np.ones(20, bool), bootstrap)
    assert np.isnan(alone.auroc).all() and np.isnan(alone.average_precision).all()
    assert not len(alone.roc_points)
    bootstrap = Bootstrap(None, 6, resamples=200)
    ranked, drawn = rank(np.arange(6.0), np.arange(6) == 0, bootstrap), bootstrap.counts[:, 0] > 0
    assert 0 < (~drawn).sum() < 200
    np.testing.assert_array_equal(np.isnan(ranked.auroc), ~drawn | (bootstrap.counts[:, 1:].sum(axis=1) == 0))


def test_concordance_over_strata_compares_only_within_them():
    # In each stratum the order is right; between strata it is wrong.
    scores, positive = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, False, True])
    bootstrap = Bootstrap(None, 4, resamples=0)
    parts = [concordance(scores[s], positive[s], bootstrap, s) for s in (np.array([0, 1]), np.array([2, 3]))]
    right, pairs = (sum(column) for column in zip(*parts, strict=True))
    assert right[0] / pairs[0] == 1
    assert rank(scores, positive, bootstrap).auroc[0] == 0.75


def _two(p):
    return np.stack([1 - p, p], axis=1)


def _drawn(images=600, extreme=1.0):
    """Probabilities that are `extreme` times too sure, and outcomes."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, images)
    outcome = rng.random(images) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-extreme * logit)), outcome.astype(int)


def test_slope_agrees_with_scikit_learn_in_the_data_in_a_resample_and_with_nearly_perfect_probabilities():
    p, outcome = _drawn(extreme=1.5)
    bootstrap = Bootstrap(None, len(p), resamples=3)
    slopes = calibration_slope(_two(p), outcome, bootstrap)
    logit = np.log(p / (1 - p))[:, None]
    for row, weights in enumerate(np.concatenate(list(bootstrap.weights(np.arange(len(p)))))):
        expected = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky").fit(logit, outcome, weights)
        assert slopes[row] == pytest.approx(expected.coef_[0, 0], rel=1e-4)
    # the answer here too, and not where the steps ran out
    logit = np.linspace(-0.1, 0.1, 200)
    outcome = (logit > 0).astype(int)
    outcome[[99, 100]] = outcome[[100, 99]]
    expected = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000)
    expected = expected.fit(100 * logit[:, None], outcome).coef_[0, 0] * 100
    (slope,) = calibration_slope(_two(1 / (1 + np.exp(-logit))), outcome, Bootstrap(None, 200, resamples=0))
    assert slope == pytest.approx(expected, rel=1e-3)


def test_slope_tells_extreme_from_timid_and_wrong_and_is_undefined_where_no_slope_is_the_best():
    for extreme, low, high in ((1.0, 0.85, 1.15), (2.5, 0.3, 0.5), (0.4, 2.0, 3.2), (-1, -1.2, -0.8)):
        p, outcome = _drawn(3000, extreme=extreme)
        assert low < calibration_slope(_two(p), outcome, Bootstrap(None, 3000, resamples=0))[0] < high
    for p, outcome, defined in (
        ([0.1, 0.4, 0.6, 0.9], [1, 1, 1, 1], False),  # one outcome
        ([0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1], False),  # a perfect parting
        ([0.1, 0.4, 0.6, 0.9], [1, 1, 0, 0], False),
        ([0.3, 0.3, 0.3, 0.3], [0, 1, 0, 1], False),  # one probability
        ([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], True),
        ([0.0, 1.0, 0.0, 1.0, 0.5], [0, 1, 1, 0, 1], True),  # saturated probabilities
    ):
        slope = calibration_slope(_two(np.array(p)), np.array(outcome), Bootstrap(None, len(p), resamples=0))[0]
        assert np.isfinite(slope) == defined, (p, outcome)


def test_calibration_error_is_of_the_second_class_or_of_the_called_one():
    p, outcome = _drawn()
    bootstrap = Bootstrap(None, len(p), resamples=0)
    assert expected_error(_two(p), outcome, bootstrap) == reliability(p, outcome == 1, bootstrap).error
    three = np.stack([p / 2, p / 2, 1 - p], axis=1)
    right = three.argmax(axis=1) == outcome
    expected = reliability(three.max(axis=1), right, bootstrap).error
    assert expected_error(three, outcome, bootstrap) == expected
