"""What simple statistics of the network's input tell of the label stands beside each figure of a place."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets.bias import COUNT, FEWEST
from covidcxnet.evaluation import evaluate
from covidcxnet.evaluation.cautions import cautions
from covidcxnet.evaluation.statistics_alone import scores_of_statistics
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from weights.format import save_weights


def _auroc(scores, positive):
    return (scores[positive][:, None] > scores[~positive][None]).mean()


def test_a_statistic_that_goes_with_the_label_ranks_it_and_noise_does_not():
    rng = np.random.default_rng(0)
    positive, noise = np.arange(200) % 2 > 0, rng.normal(size=(200, COUNT))
    told = noise.copy()
    told[:, 7] += 4 * positive
    patients = np.arange(200)
    assert _auroc(scores_of_statistics(told, positive, patients), positive) > 0.95
    assert 0.35 < _auroc(scores_of_statistics(noise, positive, patients), positive) < 0.65


def test_what_tells_patients_apart_does_not_count_as_telling_the_label():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 10)
    positive = patients % 2 > 0
    own = rng.normal(size=(30, 25))[patients] + 0.01 * rng.normal(size=(300, 25))
    assert _auroc(scores_of_statistics(own, positive, patients), positive) < 0.8  # 1 if patients stood on both sides


@pytest.mark.parametrize(("images", "patients"), [(FEWEST - 1, 40), (FEWEST, 4)])
def test_too_few_images_or_patients_of_one_kind_are_not_probed(images, patients):
    positive = np.arange(60) < images
    groups = np.where(positive, np.arange(60) % patients, 100 + np.arange(60))
    assert scores_of_statistics(np.zeros((60, 3)), positive, groups) is None


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """An untrained network on two sources: in one of them all images of COVID-19 have a white border."""
    root = tmp_path_factory.mktemp("statistics")
    rng = np.random.default_rng(0)
    rows = []
    for source in ("framed", "plain"):
        for k in range(2 * FEWEST):
            label = ("normal", "covid19")[k % 2]
            image = cv2.GaussianBlur(rng.integers(0, 255, (60, 60), dtype=np.uint8), (0, 0), 2)
            if source == "framed" and label == "covid19":
                image[:6], image[-6:] = 255, 255
            cv2.imwrite(str(root / f"{source}-{k}.png"), image)
            rows.append((f"{source}-{k}.png", label, source, f"{source}{k}"))
    pd.DataFrame(rows, columns=["path", "label", "source", "patient"]).to_csv(root / "t.csv", index=False)
    settings = InputSettings(
        size=32, channels=("clahe", "raw"), region="none", segmenter="none", clahe_tile_grid=(2, 2)
    )
    options = {"size": 32, "channels": 2, "normalization": "unit", "filters": [4, 4]}
    facts = {"kind": "classifier", "classes": ["normal", "covid19"], "segmenter": {}, "input": settings.to_dict()}
    facts |= {"architecture": {"name": "small-cnn", "options": options}, "training": {"epoch": 3, "seed": 0}}
    weights = save_weights(create("small-cnn", classes=("normal", "covid19"), **options), root / "n.weights.h5", facts)
    quick = {"explain": False, "bootstrap": 40, "jobs": 1, "progress": False}
    return evaluate(weights, data=root / "t.csv", out=root / "report", **quick)


def test_they_stand_beside_the_figure_of_the_network_wherever_that_is_shown(report):
    found = {row.sources[0]: row.comparisons[0] for row in report.findings.places.rows}
    framed, plain = found["framed"].statistics, found["plain"].statistics
    assert framed.value > 0.95 and framed.low > 0.9 and plain.value < 0.75
    rows = json.loads(report.metrics_path.read_text())["places"]["rows"]
    assert rows[0]["comparisons"][0]["statistics"].keys() == framed.to_dict().keys()
    page = re.sub("<[^>]+>", "|", report.path.read_text())
    assert "|Simple statistics alone|" in page and f"|{framed.value:.3f}|" in page
    card = report.card_path.read_text()
    assert f"| {framed.value:.3f} ({framed.low:.3f} to {framed.high:.3f}) |" in card and "linear probe" in card
    assert f"simple statistics alone {framed.value:.3f}" in report.findings.summary()


def test_a_warning_names_the_source_in_which_they_tell_the_label(report):
    (caution,) = [c for c in cautions(report.findings) if c.key == "statistics_tell"]
    assert f"framed: {report.findings.places.rows[0].comparisons[0].statistics.value:.3f}, the model" in caution.text
    assert "plain" not in caution.text
