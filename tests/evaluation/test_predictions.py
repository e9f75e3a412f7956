"""Predictions hold together, are saved whole, and a threshold is chosen where it belongs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from covidcxnet.evaluation.predictions import Predictions, truth_of, youden_threshold
from enhancement.errors import InputError

TWO = ("normal", "covid19")


def _two(probability, labels):
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(labels))], "label": labels})
    scores = np.stack([1 - np.asarray(probability), probability], axis=1)
    return Predictions(table, truth_of(table, TWO), scores, TWO, np.full(2, 0.5))


def test_saved_table_has_a_row_an_image_and_a_column_a_class(make_predictions, tmp_path):
    p = make_predictions(lungs_trusted=True)
    read = pd.read_csv(p.save(tmp_path / "predictions.csv"))
    columns = "path patient source label predicted p_normal p_pneumonia p_covid19 lungs_trusted"
    assert read.columns.tolist() == columns.split()
    assert len(read) == len(p)
    np.testing.assert_allclose(read["p_covid19"], p.probabilities[:, 2], atol=1e-6)
    assert read["lungs_trusted"].all()
    assert [f.name for f in tmp_path.iterdir()] == ["predictions.csv"]


def test_saved_table_of_findings_has_truth_decision_and_probability_of_each(findings, tmp_path):
    read = pd.read_csv(findings.save(tmp_path / "predictions.csv"))
    assert read.columns.tolist()[:6] == ["path", "patient", "source", "mass", "called_mass", "p_mass"]
    np.testing.assert_array_equal(read["mass"].isna(), np.isnan(findings.truth[:, 0]))
    np.testing.assert_array_equal(read["called_mass"], findings.called[:, 0])


def test_unknown_columns_stay_empty_in_the_table():
    frame = _two([0.2, 0.9], ["normal", "covid19"]).to_frame()
    assert frame["patient"].isna().all() and frame["lungs_trusted"].isna().all()


@pytest.mark.parametrize("labels, message", [([], "0 images"), (["normal", "tb"], "label 'tb'.*normal, covid19")])
def test_no_image_or_an_unknown_label_is_refused(labels, message):
    with pytest.raises(InputError, match=message):
        _two([0.5] * len(labels), labels)


def test_a_probability_that_is_no_number_names_the_image():
    with pytest.raises(InputError, match=r"1\.png: the model's output is not a number"):
        _two([0.5, float("nan")], ["normal", "covid19"])


def test_youden_threshold_separates_separable_classes():
    assert youden_threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(0.4)


def test_youden_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.3
    probability = np.clip(rng.normal(0.3 + 0.2 * positive, 0.15), 0, 1)

    def youden(cut):
        called = probability >= cut
        return called[positive].mean() - called[~positive].mean()

    assert youden(youden_threshold(probability, positive)) == pytest.approx(max(youden(c) for c in probability))


def test_youden_threshold_needs_both_classes():
    with pytest.raises(InputError, match="both classes"):
        youden_threshold(np.array([0.1, 0.9]), np.array([True, True]))
