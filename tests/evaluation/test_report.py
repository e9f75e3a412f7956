"""The page stands alone, escapes what it is given, agrees with its JSON, and warns where warnings are due."""

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from covidcxnet.evaluation import page as pages
from covidcxnet.evaluation import plots
from covidcxnet.evaluation.card import card
from covidcxnet.evaluation.cases import choose, lime_order
from covidcxnet.evaluation.evaluator import write
from covidcxnet.evaluation.page import page, summary
from covidcxnet.evaluation.predictions import Predictions, truth_of
from covidcxnet.evaluation.report import Case
from covidcxnet.evaluation.tables import all_tables
from covidcxnet.reporting.plots import svg

PIXEL = "data:image/png;base64,iVBORw0KGgo="


class _Page(HTMLParser):
    """Tags of a page with their attributes, and its text; complains where tags don't close in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
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


@pytest.fixture(scope="module")
def usual(make_report):
    """The page of a usual report."""
    return page(make_report())


def test_page_is_whole_needs_nothing_else_and_every_picture_has_a_text_and_every_header_a_scope(usual):
    html = _Page(usual)
    assert not any(tag in ("script", "link", "iframe") for tag, _ in html.tags)
    links = [value for _, attributes in html.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert "url(" not in usual and "@import" not in usual
    ids = {attributes["id"] for _, attributes in html.tags if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    pictures = [attributes for tag, attributes in html.tags if tag == "img"]
    assert len(pictures) >= 3 and all(len(attributes["alt"]) > 20 for attributes in pictures)
    assert all("scope" in attributes for tag, attributes in html.tags if tag == "th")


def test_what_a_reader_must_know_stands_before_the_curves_and_failed_lung_masks_are_listed(
    make_report, make_predictions, monkeypatch
):
    rejected = pd.DataFrame({"path": ["broken.png"], "reason": ["truncated"]})
    p = make_predictions(lungs_trusted=[False] * 7 + [True] * 113, lungs_reasons="one lung only")
    p.table["labelled"] = p.table["label"].replace("pneumonia", "tuberculosis")
    data = {"rejected": rejected, "lungs_sought": 120, "region": "crop", "counted": {"tuberculosis": "pneumonia"}}
    report = make_report(p, data=data)
    text = _Page(page(report)).text
    first = text[: text.index("Each class against all others")]
    assert "Research only: not a medical device" in first
    assert "made-up" in first and "small-cnn" in first and "best.weights.h5" in first
    assert "1 file could not be used" in first
    assert "7 of 120 not trusted; the whole image was used there" in first
    for missed in report.metrics.missed:
        assert str(missed) in first
    assert "source nih" in first and "120 images of" in first
    assert "truncated" in text[len(first) :] and "one lung only" in text[len(first) :]
    # a mask is listed under the label of the data
    listed = text[text.index("whose lung mask was not trusted.") :]
    assert p.table["labelled"][1] == "tuberculosis" and "images/0001.pngtuberculosisone lung only" in listed
    monkeypatch.setattr(pages, "_MOST_ROWS", 5)
    assert "2 more are in predictions.csv." in _Page(page(report)).text


def test_names_are_escaped_and_cases_show_what_was_predicted_and_how_it_was_explained(make_report, make_predictions):
    p = make_predictions(classes=("normal", "<b>tb</b>"), sources=('"><img src=x onerror=alert(1)>', "b"))
    case = Case("<i>.png", "normal", "<b>tb</b>", "why", {"normal": 0.2, "<b>tb</b>": 0.8}, False, radiograph=PIXEL)
    right = replace(case, path="a.png", predicted="normal", correct=True, gradcam=PIXEL)
    heat = "no place speaks for it"
    wrong = replace(case, gradcam=PIXEL, lime=PIXEL, predicted="normal", fit="Local fit R² 0.80.", heat=heat)
    report = make_report(p, data={"name": "<script>alert(1)</script>"}, cases=(case, right, wrong))
    html = page(report)
    text = _Page(html).text
    shown = report._repr_html_()
    assert "auroc" in _Page(shown).text and "<script" not in shown and repr(report).startswith("Report(")
    assert replace(report, metrics=None)._repr_html_() is None
    assert "<script" not in html and "<b>" not in html and "<i>" not in html and "<img src=x" not in html
    assert "&lt;b&gt;tb&lt;/b&gt;" in html
    assert "Correct: predicted normal" in text and "Wrong: predicted normal" in text
    assert "LIME for normal" in text and "Local fit R² 0.80." in text and heat in text


def _without(predictions, *classes):
    return predictions.only(np.flatnonzero(~predictions.table["label"].isin(classes)))


def test_without_a_class_means_are_undefined_and_the_others_come_first(make_report, make_predictions):
    f = make_report(_without(make_predictions(), "pneumonia"))
    text = _Page(page(f)).text
    first = text[: text.index("Each class against all others")]
    assert "AUROC, covid19" in first and "Sensitivity, normal" in first and "mean over classes" not in first
    assert "undefined" in text and "pneumonia called normal" not in text and "nan" not in text.lower().split()
    assert f.to_json()["overall"]["auroc"]["value"] is None
    assert f.to_json()["by_class"]["pneumonia"]["f1"]["value"] is None


@pytest.mark.parametrize("classes", [("normal", "covid19"), ("normal", "pneumonia", "covid19", "tb")])
def test_any_number_of_classes_images_of_one_alone_and_a_bare_table_give_a_page(make_report, make_predictions, classes):
    p = make_predictions(classes=classes)
    html = _Page(page(make_report(p)))
    assert all(f"predicted {name}" in html.text for name in classes)
    text = _Page(page(make_report(_without(p, *classes[:-1])))).text
    assert f"All images are of class {classes[-1]}" in text and f"Sensitivity, {classes[-1]}" in text
    assert "nan" not in text.lower().split()
    # without patients, sources and lungs
    recipe = {"trainable": "head", "augment": {"rotate": 10}}
    text = _Page(page(make_report(replace(p, table=p.table[["path", "label"]]), resamples=0, recipe=recipe))).text
    assert "none: head-only training" in text and "augment.rotate" not in text
    varied = _Page(page(make_report(p, recipe=recipe | {"cache_features": False}))).text
    assert "none: head-only training" not in varied and "augment.rotate" in varied
    assert "patients are unknown" in text and "no interval" in text and "the model sees the whole image" in text


def test_phantoms_unseen_sources_and_uncertainty_where_none_is_missed_are_named(make_report, make_predictions, usual):
    phantom = "the images are computed and show no patient"
    assert phantom in page(make_report(data={"phantom": True})) and phantom not in usual
    assert "Learning curves" not in usual, "there is no log"
    html = page(make_report(make_predictions(), sites={"trained_sources": {"nih"}}))
    assert "Held out: sources never seen" in html and "Within cohen, never seen" in html
    assert "Within nih, seen in training" in html
    p = make_predictions(classes=("normal", "covid19"))
    report = make_report(replace(p, probabilities=p.truth))
    (missed,) = report.metrics.missed
    expected = f"(0.0%, 0.0 to {100 * missed.rate.high:.1f}%)"
    assert missed.rate.high > 0.03 and expected in page(report) and expected.replace("(0.0%, ", "(") in card(report)


def test_json_holds_every_figure_and_is_strict(make_report, tmp_path):
    """With learning curves, which mark the epoch and leave out what was not followed."""
    log = pd.DataFrame({"epoch": [1, 2], "loss": [1, 0.5], "val_loss": [1, math.nan], "val_auroc": [0.6, 0.8]})
    log["seconds"] = 3
    assert plots.learned(log) == ["loss", "auroc"]
    report = make_report(log=log, best_epoch=2, folder=tmp_path / "report")
    write(report)
    assert "2 epochs; weights of epoch 2" in report.path.read_text()
    assert {p.name for p in report.folder.iterdir()} == {"report.html", "metrics.json", "predictions.csv", "card.md"}
    read = json.loads(report.metrics_path.read_text(), parse_constant=lambda name: pytest.fail(name))
    for name, estimate in report.metrics.overall.items():
        assert read["overall"][name]["value"] == pytest.approx(estimate.value)
        assert read["overall"][name]["low"] == pytest.approx(estimate.low)
    assert read["confusion_matrix"] == report.metrics.confusion.tolist()
    assert read["data"]["parts"]["test"]["images"] == 120
    assert [m["missed"] for m in read["called_normal"]] == [m.missed for m in report.metrics.missed]
    assert read["sources"]["auroc_within_sources"]["value"] == pytest.approx(report.by_source.mean.within.value)
    assert len(pd.read_csv(report.predictions_path)) == 120


def test_what_is_never_found_stands_first_in_every_form(make_report, findings, tmp_path):
    report = make_report(findings, folder=tmp_path, threshold_from="as given")
    write(report)
    html, md = report.path.read_text(), report.card_path.read_text()
    assert html.index("1 of 3 findings never found: hernia") < html.index("AUROC, mean over findings")
    assert all(text in html for text in ("By finding", "Curves", "mass", "effusion", "card.md"))
    numbers = json.loads(report.metrics_path.read_text())
    assert numbers["f1_zero"] == ["hernia"] and numbers["warnings"][0]["key"] == "f1_zero"
    assert numbers["overall"]["macro_f1"]["value"] == report.metrics.overall["macro_f1"].value
    assert "NEVER FOUND" in summary(report)
    assert "**Never found, and in the mean with an F1 of 0: hernia.**" in md and "python evaluate.py" in md
    mass = report.metrics.by_class["mass"]
    assert f"| mass | 0.5 | {mass.tp} | {mass.fn} | {mass.fp} | {mass.tn} | 25 |" in md
    assert f"| mass | {mass.present} |" in md
    for text in (html, md):
        assert "No source has images both with and without hernia" in text and "nan" not in text.lower().split()


@pytest.mark.parametrize("classes", [("normal", "covid19"), ("normal", "pneumonia", "covid19")])
def test_a_class_of_which_no_image_is_recognised_is_the_first_caution_of_page_and_terminal(
    make_report, make_predictions, classes
):
    p = make_predictions(images=400, patients=400, classes=classes)
    scores = p.probabilities * [1e-3, *[1] * (len(classes) - 1)]
    report = make_report(replace(p, probabilities=scores / scores.sum(axis=1, keepdims=True)))
    assert report.metrics.by_class["normal"].tp == 0
    caution = report.cautions[0]
    assert caution.title == f"1 of {len(classes)} classes never found (F1 0)"
    assert f"normal in {report.metrics.by_class['normal'].present} images, never predicted." in caution.text
    (first, *_) = [line for line in summary(report).splitlines() if "Caution: " in line]
    assert caution.title in first and caution.title in page(report)
    assert "f1_zero" not in {c.key for c in make_report(p).cautions}
    # a class without images is not one that is missed
    assert "f1_zero" not in {c.key for c in make_report(_without(p, "normal")).cautions}


def test_unknown_sources_are_left_out_and_one_source_or_sources_without_both_sides_are_a_sentence(
    make_report, findings
):
    b = (findings.table["source"] == "b").to_numpy()
    truth = np.where(np.isnan(findings.truth), np.nan, np.stack([b, ~b, b], axis=1).astype(float))
    p = replace(findings, truth=truth).only(np.flatnonzero(findings.table["source"] != "c"))
    text = page(make_report(p))
    assert "No source has images both with and without mass, effusion or hernia" in text
    assert "No source has images both with and without a finding" in text  # the warning
    findings.table["source"] = None
    html = page(make_report(findings))
    assert "Within single sources" not in html and "within sources, mean" not in html
    findings.table["source"] = "a"
    report = make_report(findings)
    for text in (page(report), card(report)):
        assert "All images come from one source, a" in text and "Knowing nothing but the source" not in text


@pytest.mark.parametrize("task", ["exclusive", "independent"])
def test_the_intensity_probe_stands_wherever_the_figure_of_the_network_does(
    make_report, make_predictions, findings, task
):
    """The label shows in a statistic of one source; a warning names that source and no other."""
    p = findings if task == "independent" else make_predictions(classes=("normal", "covid19"), sources=("a", "b"))
    inside = (p.table["source"] == "a").to_numpy()
    statistics = np.random.default_rng(0).normal(size=(len(p), 6))
    statistics[inside, 2] += 5 * (p.truth[inside, 0] == 1)
    report = make_report(p, sites={"statistics": statistics})
    site = next(site for site in report.sites if site.sources == ("a",))
    probe, shown = site.comparisons[0].probe, site.mean_probe or site.comparisons[0].probe
    html, md = page(report), card(report)
    assert f"{probe.value:.3f}" in html and "a linear probe" in html and "a linear probe" in md
    assert f"| {probe.value:.3f} ({probe.low:.3f} to {probe.high:.3f}) |" in md
    assert f"intensity probe {shown.value:.3f}" in summary(report)
    (caution,) = [c for c in report.cautions if c.key == "statistics_tell"]
    assert f"within a: {probe.value:.3f}, the model" in caution.text and "within b" not in caution.text
    rows = report.to_json()["places"]["rows"]
    row = next(row for row in rows if row["sources"] == ["a"])
    assert row["comparisons"][0]["statistics"]["value"] == pytest.approx(probe.value)


def test_page_and_card_name_the_teacher_of_a_distilled_network(make_report):
    report = make_report()
    taught = replace(report, model=replace(report.model, training={"teacher": "covid-cxnet-lite"}))
    assert "teacher covid-cxnet-lite" in card(taught) and "teacher: covid-cxnet-lite" in page(taught)
    assert "teacher" not in card(report) and "teacher:" not in page(report)


def test_every_plot_renders_and_leaves_no_figure_behind(make_report, findings):
    import matplotlib.pyplot as plt

    before, exclusive, independent = plt.get_fignums(), make_report().metrics, make_report(findings).metrics
    log = pd.DataFrame({"epoch": [1, 2], "loss": [1, 0.5], "val_loss": [1, 0.7]})
    drawn = [draw(exclusive) for draw in (plots.roc, plots.precision_recall, plots.reliability)]
    drawn += [plots.finding_curves(independent), plots.finding_intervals(independent), plots.learning_curves(log, 2)]
    assert all(svg(figure).lstrip().startswith("<?xml") for figure in drawn)
    assert plt.get_fignums() == before
    for figure in drawn[:2]:  # curves may lie anywhere, and a legend among them hides those below chance
        figure.draw_without_rendering()
        (axes,), (legend,) = figure.axes, figure.legends
        assert axes.get_legend() is None and legend.get_window_extent().y1 <= axes.get_window_extent().y0
        assert axes.title.get_window_extent().y1 <= figure.bbox.y1


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
    cautions = {c.key: c.text for c in good(data, columns, **changes).cautions}
    assert set(cautions) == keys
    assert "intensity probe" in cautions.get("sources_unknown", "intensity probe")


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
    assert "Probabilities are poorly calibrated" in summary(sure)
    p = make_predictions(images=60, patients=20)
    titles = {c.key: c.title + c.text for c in make_report(p.only(np.flatnonzero(p.targets != 2))).cautions}
    assert "No image of covid19" in titles["class_absent"]
    assert "Fewer than 30 patients" in titles["small_test"]


@pytest.mark.parametrize(("images", "poor"), [(18, False), (400, True)])
def test_a_calibration_error_that_few_images_have_by_chance_is_no_poor_calibration(make_report, images, poor):
    """Each stated probability is a quarter too timid on average."""
    probability, present = np.tile([0.15, 0.35, 0.65, 0.85], images)[:images], np.arange(images) % 4 >= 2
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(images)], "label": np.where(present, "tb", "normal")})
    scores = np.stack([1 - probability, probability], axis=1)
    p = Predictions(table, truth_of(table, ("normal", "tb")), scores, ("normal", "tb"), np.full(2, 0.5))
    report = make_report(p)
    assert report.metrics.overall["calibration_error"].value > 0.2
    assert ("calibration" in {c.key for c in report.cautions}) == poor
    assert ("poorly calibrated" in page(report)) == poor


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

    for table, split_by, end in (
        (parts, "image", "the patient of 2 images is unknown"),
        (parts, "patient_where_known", "The patient of 2 of 4 images is unknown"),
        (parts.drop(columns="patient"), "image", "no patient IDs"),
        (parts.dropna(), "image", "Split by image, not by patient"),
    ):
        cautions = good({"split_by": split_by, "parts": table}).cautions
        assert [c.title.endswith(end) for c in cautions if c.key == "image_split"] == [True]


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
