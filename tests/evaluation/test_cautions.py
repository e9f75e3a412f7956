"""Warnings appear where they are due, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest


def _keys(report) -> set[str]:
    return {c.key for c in report.cautions}


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
    "data, keys",
    [
        ({}, set()),
        ({"split": "other", "overlap": 0}, set()),
        ({"split_by": "image"}, {"image_split"}),
        ({"split_by": "patient_where_known"}, {"image_split"}),
        ({"split": "train"}, {"training_images"}),
        ({"split": "all"}, {"training_images"}),
        ({"split": "validation"}, {"validation_images"}),
        ({"split": "other", "overlap": None}, {"overlap_unknown"}),
        ({"split": "other", "overlap": 3}, {"overlap"}),
        ({"rejected": pd.DataFrame({"path": ["a"] * 20, "reason": ["b"] * 20})}, {"rejected"}),
    ],
)
def test_what_the_data_give_reason_for(good, data, keys):
    assert _keys(good(data)) == keys


def test_unknown_patients_and_sources(good):
    assert _keys(good(columns={"patient": None, "source": None})) == {"patients_unknown", "sources_unknown"}
    assert _keys(good({"phantom": True}, columns={"source": None})) == set()  # no source to recognise
    assert "patients_unknown" in _keys(good(columns={"patient": ["a", None] * 200}))


def test_sources_that_follow_the_label(good, make_predictions):
    labels = make_predictions(images=400, patients=400).table["label"]
    report = good(columns={"source": np.where(labels == "covid19", "cohen", "nih")})
    (caution,) = report.cautions
    assert caution.key == "confounded_source"
    assert "No source holds both normal and covid19; pneumonia and covid19" in caution.text
    assert "leaves out covid19" in caution.text


def test_few_patients_and_an_absent_class(make_report, make_predictions):
    p = make_predictions(images=60, patients=20)
    keep = (p.targets != 2).nonzero()[0]
    found = {c.key: c.title + c.text for c in make_report(p.only(keep)).cautions}
    assert "No image of covid19" in found["class_absent"]
    assert "Fewer than 30 patients" in found["small_test"]


def test_poor_calibration(good, make_report, make_predictions):
    p = make_predictions(images=400, patients=400)
    assert "calibration" in _keys(make_report(replace(p, probabilities=np.eye(3)[p.predicted])))


def test_many_failed_lungs(good):
    columns = {"lungs_trusted": [False] * 60 + [True] * 340}
    assert _keys(good({"lungs_sought": 400, "region": "mask"}, columns)) == {"lungs"}
    assert _keys(good({"lungs_sought": 0}, columns)) == set()


def test_a_test_set_opened_for_several_models_is_reported_but_not_for_one(good):
    looks = ({"weights_sha256": "a", "threshold": 0.5}, {"weights_sha256": "b", "threshold": 0.5})
    assert _keys(good(openings=looks)) == {"test_reopened"}
    assert _keys(good(openings=(looks[0], looks[0]))) == set()


def test_a_split_by_image_says_how_many_patients_are_unknown(good):
    parts = pd.DataFrame({"part": "test", "label": "normal", "patient": ["a", None, None, "b"]})

    def title(parts, split_by="image"):
        (caution,) = (c for c in good({"split_by": split_by, "parts": parts}).cautions if c.key == "image_split")
        return caution.title

    assert title(parts).endswith("the patient of 2 images is unknown")
    assert title(parts, "patient_where_known") == "The patient of 2 of 4 images is unknown"
    assert title(parts.drop(columns="patient")).endswith("no patient is known")
    assert title(parts.dropna()) == "Split by image, not by patient"
