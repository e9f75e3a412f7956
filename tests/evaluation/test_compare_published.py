"""Published rows are those of the papers, say where they stand, and are never taken for runs."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from covidcxnet.evaluation.compare import compare
from covidcxnet.evaluation.published import STUDIES, citation, published_rows


def test_published_rows_are_marked_in_every_file_and_not_counted_as_runs(make_run, make_predictions, tmp_path):
    found = compare([make_run("a", make_predictions())], out=tmp_path, published=["covid-cxnet"], bootstrap=0)
    table = pd.read_csv(tmp_path / "comparison.csv").set_index("name")
    row = table.loc["COVID-CXNet v1 (no lungs)"]
    assert row["kind"] == "published, not measured here" and row["source"] == "tables 3 and 5"
    assert (row["accuracy"], row["f1_covid19"], row["covid19_called_normal"]) == (0.9904, 0.96, 3)
    html, text = (tmp_path / "comparison.html").read_text(), (tmp_path / "comparison.md").read_text()
    assert "Comparison of 1 run and 6 published rows" in html and "not measured here" in html
    assert "COVID-CXNet v1 (no lungs) [published: covid-cxnet, tables 3 and 5]" in text
    assert "99.0% (range 96.4 to 99.5%)" in text and "Haghanifar" in text and "by image" in text
    assert not found.rows[-1].collapsed


@pytest.mark.parametrize("name", STUDIES)
def test_every_published_row_says_where_it_stands_and_how_its_images_were_split(name):
    rows = published_rows([name])
    assert rows and re.search(r"\d{4}", citation(name))
    for row in rows:
        assert row.published == name and row.split and re.search(r"(table|figure|section)s? \w", row.source)
        figures = [e for e in (row.f1, row.accuracy, row.auroc, *row.f1_by_class.values()) if e is not None]
        assert figures and all(0 <= e.value <= 1 for e in figures)
        assert all(images is None or missed <= images for missed, images in row.called_normal.values())


def test_published_figures_are_those_of_the_papers():
    rows = {(row.published, row.name): row for row in published_rows(STUDIES)}
    assert rows["pneumonia", "Xception, balanced and augmented"].accuracy.value == 0.9519
    assert rows["pneumonia", "Small CNN, balanced and augmented"].auroc.value == 0.91
    assert rows["radiography", "ResNet50"].called_normal["covid19"] == (3, None)
    assert rows["radiography", "Logistic regression"].collapsed == ("viral_pneumonia",)
    scores = [rows["group-q", f"EfficientNet B1, {group}"].f1.value for group in ("COVID", "pneumonia", "seven labels")]
    assert scores == [0.979, 0.768, 0.445]
