"""Warnings appear where they are due, and only there; the shown cases follow their rule."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from covidcxnet.evaluation.cases import choose, lime_order
from covidcxnet.evaluation.tables import all_tables

LOOK = {"weights_sha256": "a", "threshold": 0.5}


@pytest.fixture
def good(make_report, make_predictions):
    """Reports that give no reason for a warning."""

    def make(data=None, columns=None, **changes):
        p = make_predictions(images=400, patients=400)
        right = 0.9 * np.eye(3)[p.targets] + 0.1 / 3
        return make_report(
            replace(p, table=p.table.assign(**(columns or {})), probabilities=right), data=data, **changes
        )

    return make


@pytest.mark.parametrize(
    "data, columns, changes, keys",
    [
        ({}, {}, {}, set()),
        ({"split": "other", "overlap": 0}, {}, {}, set()),
        ({"split_by": "image"}, {}, {}, {"image_split"}),
        ({"split_by": "patient_where_known"}, {}, {}, {"image_split"}),
        ({"split": "train"}, {}, {}, {"training_images"}),
        ({"split": "all"}, {}, {}, {"training_images"}),
        ({"split": "validation"}, {}, {}, {"validation_images"}),
        ({"split": "other", "overlap": None}, {}, {}, {"overlap_unknown"}),
        ({"split": "other", "overlap": 3}, {}, {}, {"overlap"}),
        ({"rejected": pd.DataFrame({"path": ["a"] * 20, "reason": ["b"] * 20})}, {}, {}, {"rejected"}),
        ({}, {"patient": None, "source": None}, {}, {"patients_unknown", "sources_unknown"}),
        ({"phantom": True}, {"source": None}, {}, set()),  # no source to recognise
        ({}, {"patient": ["a", None] * 200}, {}, {"patients_unknown"}),
        ({"lungs_sought": 400, "region": "mask"}, {"lungs_trusted": np.arange(400) >= 60}, {}, {"lungs"}),
        ({"lungs_sought": 0}, {"lungs_trusted": np.arange(400) >= 60}, {}, set()),
        # a test set opened for several models, or for one only
        ({}, {}, {"openings": (LOOK, LOOK | {"weights_sha256": "b"})}, {"test_reopened"}),
        ({}, {}, {"openings": (LOOK, LOOK)}, set()),
    ],
)
def test_what_the_data_give_reason_for(good, data, columns, changes, keys):
    assert {c.key for c in good(data, columns, **changes).cautions} == keys


def test_sources_that_follow_the_label_few_patients_an_absent_class_and_poor_calibration(
    good, make_report, make_predictions
):
    p = make_predictions(images=400, patients=400)
    (caution,) = good(columns={"source": np.where(p.table["label"] == "covid19", "cohen", "nih")}).cautions
    assert caution.key == "confounded_source"
    assert "No source holds both normal and covid19; pneumonia and covid19" in caution.text
    assert "leaves out covid19" in caution.text
    sure = make_report(replace(p, probabilities=np.eye(3)[p.predicted]))
    assert "calibration" in {c.key for c in sure.cautions}
    p = make_predictions(images=60, patients=20)
    titles = {c.key: c.title + c.text for c in make_report(p.only(np.flatnonzero(p.targets != 2))).cautions}
    assert "No image of covid19" in titles["class_absent"]
    assert "Fewer than 30 patients" in titles["small_test"]


def test_a_network_with_one_answer_is_called_collapsed_and_a_slope_of_174_is_not_printed(make_report, make_predictions):
    p = make_predictions(images=400, patients=400)
    nearly = np.full_like(p.probabilities, 1 / 3) + 1e-4 * (p.probabilities - 1 / 3)
    most = np.where(np.arange(400)[:, None] < 250, [[0.2, 0.3, 0.5]], p.probabilities)
    for probabilities, title in (
        (nearly, "The network gives every image the same probabilities"),
        (most, "250 of 400 images have exactly the same probabilities"),
        (p.probabilities, None),
    ):
        report = make_report(replace(p, probabilities=probabilities))
        assert [c.title for c in report.cautions if c.key == "collapsed"] == ([title] if title else [])
    report = make_report(replace(p, probabilities=nearly))
    assert report.metrics.overall["calibration_slope"].value > 100
    assert "no meaning" in all_tables(report)["calibration"].text()


def test_no_sentence_rests_on_a_handful_of_images_of_a_class(make_report, make_predictions):
    """Three images of COVID-19 in the only source that holds others too: shown in gray with their counts."""
    p = make_predictions(images=400, patients=400)
    covid = np.flatnonzero(p.targets == 2)
    source = np.where(p.targets == 2, "cohen", "nih").astype(object)
    for images, few in ((3, True), (12, False)):
        source[covid[:images]] = "nih"
        report = make_report(replace(p, table=p.table.assign(source=source)))
        text = next(c.text for c in report.cautions if c.key == "confounded_source")
        assert ("too few to judge" in text) == few and ("the AUROC is 0." in text) == (not few)
        shown = all_tables(report)["sites"]
        assert any(f"{images} covid19" in line and ("[" in line) == few for line in shown.text().splitlines())
        assert ("faint" in shown.html()) == few


def test_a_split_by_image_says_how_many_patients_are_unknown(good):
    parts = pd.DataFrame({"part": "test", "label": "normal", "patient": ["a", None, None, "b"]})

    def title(parts, split_by="image"):
        (caution,) = (c for c in good({"split_by": split_by, "parts": parts}).cautions if c.key == "image_split")
        return caution.title

    assert title(parts).endswith("the patient of 2 images is unknown")
    assert title(parts, "patient_where_known") == "The patient of 2 of 4 images is unknown"
    assert title(parts.drop(columns="patient")).endswith("no patient is known")
    assert title(parts.dropna()) == "Split by image, not by patient"


def test_each_class_shows_its_most_confident_correct_and_wrong_predictions_and_no_patient_twice(make_predictions):
    p = make_predictions(images=300, patients=10_000)
    confidence = p.probabilities.max(axis=1)
    for c in range(3):
        picks = [pick for pick in choose(p) if p.targets[pick.row] == c]
        assert [pick.correct for pick in picks] == [True, True, False, False]
        for pick in picks:
            assert (p.predicted[pick.row] == c) == pick.correct
        right, wrong = (p.targets == c) & (p.predicted == c), (p.targets == c) & (p.predicted != c)
        assert confidence[picks[0].row] == confidence[right].max()
        assert confidence[picks[2].row] == confidence[wrong].max()
        assert abs((confidence[right] >= confidence[picks[1].row]).mean() - 0.5) < 0.05
    few = make_predictions(images=200, patients=6)
    for c in range(3):
        shown = [few.table["patient"].iloc[pick.row] for pick in choose(few, wrong=3) if few.targets[pick.row] == c]
        assert len(shown) == len(set(shown))
    # a class without mistakes shows none
    picks = choose(replace(p, probabilities=p.truth).only(np.arange(3)))
    assert all(pick.correct for pick in picks) and sorted(pick.row for pick in picks) == [0, 1, 2]


def test_cases_are_tp_fp_and_fn_of_each_finding_and_lime_goes_to_the_mistakes_of_the_last_class_first(
    make_predictions, findings
):
    p = make_predictions(images=300)
    picks = choose(p)
    chosen = [picks[k] for k in lime_order(picks, p)[:4]]
    assert [p.classes[p.targets[pick.row]] for pick in chosen] == ["covid19", "pneumonia", "normal", "covid19"]
    assert [pick.correct for pick in chosen] == [False, False, False, True]
    picks = choose(findings)
    for k in range(3):
        shown = [p for p in picks if p.target == k]
        kinds = {(findings.truth[p.row, k] == 1, bool(findings.called[p.row, k])) for p in shown}
        assert kinds <= {(True, True), (False, True), (True, False)} and len(kinds) == len(shown) > 0
        assert all(p.correct == (findings.truth[p.row, k] == 1 and findings.called[p.row, k]) for p in shown)
    assert lime_order(picks, findings) == []
