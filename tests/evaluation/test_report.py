"""The page stands alone, says what must be said first, escapes what it is given, and agrees with its JSON."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from covidcxnet.evaluation import closing, plots
from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.markup import cell, footnotes
from covidcxnet.evaluation.report import render, write_report

PIXEL = "data:image/png;base64,iVBORw0KGgo="


class _Page(HTMLParser):
    """What a page holds: text, tags and their attributes; complains where tags don't close in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "br", "meta", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def test_page_is_whole_and_needs_nothing_else(make_findings):
    html = render(make_findings())
    page = _Page(html)
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert "url(" not in html and "@import" not in html
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_every_picture_has_a_text_and_every_table_header_a_scope(make_findings):
    page = _Page(render(make_findings()))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) >= 3 and all(len(attributes["alt"]) > 20 for attributes in pictures)
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_what_a_reader_must_know_stands_before_the_curves(make_findings, make_predictions):
    rejected = pd.DataFrame({"path": ["broken.png"], "reason": ["truncated"]})
    p = make_predictions(lungs_trusted=[False] * 7 + [True] * 113, lungs_reasons="one lung only")
    f = make_findings(p, data={"rejected": rejected, "lungs_sought": 120, "region": "crop"})
    text = _Page(render(f)).text
    first = text[: text.index("Each class against the rest")]
    assert "Research only: not a medical device" in first
    assert "made-up" in first and "small-cnn" in first and "best.weights.h5" in first
    assert "1 file could not be used" in first
    assert "7 of 120 not trusted; the whole image was used there" in first
    for missed in f.metrics.missed:
        assert str(missed) in first
    assert "source nih" in first and "120 images of" in first
    assert "truncated" in text[len(first) :] and "one lung only" in text[len(first) :]


def test_a_lung_mask_that_failed_is_listed_under_the_label_of_the_data(make_findings, make_predictions, monkeypatch):
    p = make_predictions(lungs_trusted=[False] * 7 + [True] * 113, lungs_reasons="one lung only")
    p.table["labelled"] = p.table["label"].replace("pneumonia", "tuberculosis")
    f = make_findings(p, data={"lungs_sought": 120, "region": "crop", "counted": {"tuberculosis": "pneumonia"}})
    text = _Page(render(f)).text
    listed = text[text.index("whose lung mask was not trusted.") :]
    label = p.table["labelled"][1]
    assert label == "tuberculosis" and f"images/0001.png{label}one lung only" in listed
    monkeypatch.setattr(closing, "_MOST_ROWS", 5)
    assert "2 more stand in predictions.csv." in _Page(render(f)).text


def test_a_phantom_run_is_called_phantom(make_findings):
    said = "the images are computed and show no patient"
    assert said in render(make_findings(data={"phantom": True}))
    assert said not in render(make_findings())


def test_names_are_escaped(make_findings, make_predictions):
    p = make_predictions(classes=("normal", "<b>tb</b>"), sources=('"><img src=x onerror=alert(1)>', "b"))
    case = Case("<i>.png", "normal", "<b>tb</b>", "why", {"normal": 0.2, "<b>tb</b>": 0.8}, False, radiograph=PIXEL)
    html = render(make_findings(p, data={"name": "<script>alert(1)</script>"}, cases=(case,)))
    _Page(html)
    assert "<script" not in html and "<b>" not in html and "<i>" not in html and "<img src=x" not in html
    assert "&lt;b&gt;tb&lt;/b&gt;" in html


def test_cases_show_what_was_called_and_how_it_was_explained(make_findings):
    right = Case(
        "a.png", "normal", "normal", "typical right call", {"normal": 0.9}, True, radiograph=PIXEL, gradcam=PIXEL
    )
    wrong = Case("b.png", "covid19", "normal", "confident wrong call", {"normal": 0.8}, False, radiograph=PIXEL,
                 gradcam=PIXEL, lime=PIXEL, fit="Local fit R² 0.80.", heat="no place speaks for it")  # fmt: skip
    text = _Page(render(make_findings(cases=(right, wrong)))).text
    assert "Right: called normal" in text and "Wrong: called normal" in text
    assert "LIME for normal" in text and "Local fit R² 0.80." in text and "no place speaks for it" in text


@pytest.mark.parametrize("classes", [("normal", "covid19"), ("normal", "pneumonia", "covid19", "tb")])
def test_page_is_made_for_any_number_of_classes(make_findings, make_predictions, classes):
    page = _Page(render(make_findings(make_predictions(classes=classes))))
    assert all(f"called {name}" in page.text for name in classes)


def _without(predictions, *classes):
    keep = ~predictions.table["label"].isin(classes).to_numpy()
    return type(predictions)(predictions.table[keep], predictions.probabilities[keep], predictions.classes)


def test_without_a_class_means_are_undefined_and_the_others_come_first(make_findings, make_predictions):
    f = make_findings(_without(make_predictions(), "pneumonia"))
    text = _Page(render(f)).text
    first = text[: text.index("Each class against the rest")]
    assert "AUROC, covid19" in first and "Sensitivity, normal" in first and "mean over classes" not in first
    assert "undefined" in text and "pneumonia called normal" not in text and "nan" not in text.lower().split()
    assert f.to_json()["overall"]["auroc"]["value"] is None
    assert f.to_json()["by_class"]["pneumonia"]["f1"]["value"] is None


@pytest.mark.parametrize("classes", [("normal", "covid19"), ("normal", "pneumonia", "covid19")])
def test_images_of_one_class_alone_give_a_page_too(make_findings, make_predictions, classes):
    f = make_findings(_without(make_predictions(classes=classes), *classes[:-1]))
    text = _Page(render(f)).text
    assert "All images are of class covid19" in text and "Sensitivity, covid19" in text
    assert "nan" not in text.lower().split()


def test_a_table_without_patients_sources_and_lungs_will_do(make_findings, make_predictions):
    p = make_predictions()
    bare = type(p)(p.table[["path", "label"]], p.probabilities, p.classes)
    text = _Page(render(make_findings(bare, resamples=0))).text
    assert "patients unknown" in text and "no interval" in text and "the model sees the whole image" in text


def test_none_missed_is_not_said_to_be_certain(make_findings, make_predictions):
    p = make_predictions(classes=("normal", "covid19"))
    sure = type(p)(p.table, np.eye(2)[p.targets], p.classes)
    assert "a true rate of up to" in render(make_findings(sure))


def test_json_holds_every_figure_and_is_strict(make_findings, tmp_path):
    f = make_findings(log=pd.DataFrame({"epoch": [1], "loss": [1.0], "val_loss": [math.nan]}))
    report = write_report(f, tmp_path / "report")
    assert {p.name for p in report.folder.iterdir()} == {"report.html", "metrics.json", "predictions.csv", "card.md"}
    read = json.loads(report.metrics_path.read_text(), parse_constant=lambda name: pytest.fail(name))
    for name, estimate in f.metrics.overall.items():
        assert read["overall"][name]["value"] == pytest.approx(estimate.value)
        assert read["overall"][name]["low"] == pytest.approx(estimate.low)
    assert read["confusion_matrix"] == f.metrics.confusion.tolist()
    assert read["data"]["parts"]["test"]["images"] == 120
    assert [m["missed"] for m in read["called_normal"]] == [m.missed for m in f.metrics.missed]
    assert read["sources"]["auroc_within_sources"]["value"] == pytest.approx(f.sources.within.value)
    assert len(pd.read_csv(report.predictions_path)) == 120


def test_the_same_findings_give_the_same_page(make_findings):
    f = make_findings()
    assert render(f) == render(f)


def test_learning_curves_mark_the_epoch_and_leave_out_what_was_not_followed(make_findings):
    log = pd.DataFrame(
        {"epoch": [1, 2], "loss": [1, 0.5], "val_loss": [1, 0.7], "val_auroc": [0.6, 0.8], "seconds": [3, 3]}
    )
    assert plots.learned(log) == ["loss", "auroc"]
    assert "2 epochs; weights of epoch 2" in render(make_findings(log=log, best_epoch=2))
    assert "Learning curves" not in render(make_findings())


def test_a_plot_leaves_no_figure_behind(make_findings):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    for draw in (plots.roc, plots.precision_recall, plots.reliability):
        assert draw(make_findings().metrics).lstrip().startswith("<?xml")
    assert plt.get_fignums() == before


def test_a_footnote_stands_only_below_a_table_that_has_its_mark():
    flat, partly = Estimate(1.0, 1.0, 1.0, 0, 50), Estimate(1.0, 1.0, 1.0, 9, 50)
    for estimates in ([flat], [partly], [flat, partly]):
        marks = {mark for mark in "†‡" if any(mark in cell(e) for e in estimates)}
        assert marks and {mark for mark in "†‡" if mark in footnotes(estimates)} == marks
