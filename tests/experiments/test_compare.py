"""Several runs in one table: figures of their reports, paired differences, warnings, curves, published rows."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from covidcxnet.cli.compare import main
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions, truth_of
from covidcxnet.evaluation.ranking import rank
from covidcxnet.experiments import compare_page
from covidcxnet.experiments.compare import auroc_difference, compare
from covidcxnet.experiments.compare_page import draw_learning, draw_roc, roc_classes, save, tables, to_csv
from covidcxnet.experiments.compared_runs import STUDIES, Row, citation, load_run, published_rows, read_report
from covidcxnet.reporting import plots
from covidcxnet.training import Recipe, Run
from enhancement.errors import InputError

pytestmark = pytest.mark.usefixtures("blank")
CLASSES = ("normal", "pneumonia", "covid19")
TWO = ("normal", "covid19")


def predictions_of(classes=CLASSES, images=120) -> Predictions:
    """Predictions of 120 images of 70 patients."""
    rng = np.random.default_rng(0)
    targets = np.r_[np.arange(len(classes)), rng.integers(0, len(classes), images - len(classes))]
    scores = rng.normal(size=(images, len(classes)))
    scores[np.arange(images), targets] += 1.5
    table = pd.DataFrame({"path": [f"images/{i:04}.png" for i in range(images)]})
    table["label"] = np.array(classes)[targets]
    table["patient"] = [f"p{i}" for i in rng.integers(0, 70, images)]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Predictions(table, truth_of(table, classes), probabilities, classes, np.full(len(classes), 0.5))


def worse(p: Predictions) -> Predictions:
    """The same images with noise mixed into the probabilities."""
    noise = np.random.default_rng(5).dirichlet(np.ones(len(p.classes)), len(p))
    return replace(p, probabilities=0.4 * p.probabilities + 0.6 * noise)


def spoil(path: Path, part: str = "data", **values) -> None:
    """Change a part of `metrics.json`."""
    report = json.loads(path.read_text())
    report[part] |= values
    path.write_text(json.dumps(report))


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Function that makes a finished run with the report of a table of predictions."""
    # The weights are plain bytes: there is no network whose operations could be counted.
    monkeypatch.setattr("covidcxnet.experiments.compared_runs._flops", lambda run, known: 2_000_000)

    def make(name: str, p: Predictions, **recipe) -> Path:
        folder = tmp_path / name
        (folder / "report").mkdir(parents=True)
        values = Recipe(data="table.csv", classes=p.classes, **recipe).to_dict()
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        (folder / "run.json").write_text(json.dumps({"status": "finished", "best_epoch": 2, "epoch": 3, "store": "no"}))
        p.table[["path"]].assign(split="test").to_csv(folder / "split.csv", index=False)
        (folder / "log.csv").write_text(
            "epoch,loss,f1,val_loss,val_f1,val_auroc,seconds\n1,1,0.3,1,0.2,0.5,9\n2,0.8,0.5,0.9,0.4,0.8,3\n"
            "3,0.6,0.7,1.1,0.3,0.7,3\n"
        )
        (folder / "best.weights.h5").write_bytes(name.encode())
        (folder / "report" / "predictions.csv").write_text(p.to_csv())
        (folder / "report" / "metrics.json").write_text(json.dumps(_report(p, name)))
        return folder

    return make


def _report(p: Predictions, name: str) -> dict:
    """The keys of `metrics.json` that a comparison reads."""
    metrics, exclusive = measure(p, Bootstrap(p.table["patient"], len(p), resamples=20)), p.task == "exclusive"
    digest = hashlib.sha256(name.encode()).hexdigest()
    report = {
        "classes": p.classes,
        "model": {"name": "small-cnn", "sha256": digest, "parameters": 558_849},
        "data": {"name": "made-up", "split": "test", "images": len(p), "phantom": False},
        "overall": _plain(metrics.overall),
        "by_class": {label: _plain(row.figures) for label, row in metrics.by_class.items()},
        "bootstrap": {"resamples": 20},
        "warnings": [],
    }
    if not exclusive:
        return report | {"multilabel": True}
    called_normal = [{"class": m.name, "missed": m.missed, "images": m.images} for m in metrics.missed]
    return report | {"confusion_matrix": metrics.confusion.tolist(), "called_normal": called_normal}


def _plain(figures: dict) -> dict:
    return {name: figure.to_dict() for name, figure in figures.items()}


def runs_of(*runs: Path) -> list:
    """Runs as the comparison loads them, by the names of their folders."""
    return [load_run(Run(run), run.name, {}) for run in runs]


def test_the_table_holds_the_figures_of_the_runs_own_reports_and_names_a_class_never_found(make_run, tmp_path, capsys):
    p = predictions_of()
    lost = replace(p, probabilities=p.probabilities * [1, 1e-6, 1])
    runs = [make_run("a", p), make_run("b", lost)]
    # a run in two stages says the validation figures of both levels together in run.json
    status = json.loads((runs[0] / "run.json").read_text()) | {"whole_model": {"val_auroc": 0.8}}
    (runs[0] / "run.json").write_text(json.dumps(status))
    for run in runs:
        spoil(run / "report" / "metrics.json", "model", training={"figures": {"val_auroc": 0.99}})
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--bootstrap", "20"]) == 0
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("name")
    assert table["validation_auroc"].tolist() == [0.8, 0.99]
    for run in runs:
        report = json.loads((run / "report" / "metrics.json").read_text())
        row = table.loc[run.name]
        assert row["auroc"] == pytest.approx(report["overall"]["auroc"]["value"], rel=1e-5)
        assert row["f1_high"] == pytest.approx(report["overall"]["macro_f1"]["high"], rel=1e-5)
        assert row["f1_covid19"] == pytest.approx(report["by_class"]["covid19"]["f1"]["value"], rel=1e-5)
        missed = {m["class"]: m["missed"] for m in report["called_normal"]}
        assert row["pneumonia_called_normal"] == missed["pneumonia"]
        assert (row["parameters"], row["flops"], row["seconds_per_epoch"]) == (558_849, 2_000_000, 3)
        assert (row["best_epoch"], row["epochs"], row["kind"]) == (2, 3, "measured")
    printed = capsys.readouterr().out
    assert "A class is never found. b recognises no image of pneumonia" in printed
    assert "F1 0: pneumonia" in printed and "All figures are of test images." in printed
    assert table.loc["b", "zero_f1_classes"] == "pneumonia" and pd.isna(table.loc["a", "zero_f1_classes"])
    assert "never recognised" in (tmp_path / "out" / "comparison.html").read_text()


def test_a_report_that_fits_is_read_and_one_that_does_not_is_made_anew(make_run):
    # classes that look like numbers or nothing are read back as such
    for number, classes in enumerate([("0", "1"), ("00", "01"), ("normal", "None"), CLASSES]):
        run = make_run(f"fits-{number}", predictions_of(classes))
        assert read_report(Run(run))[2] == ""
        assert runs_of(run)[0].truth.sum(axis=0).min() > 10
    report, table = run / "report" / "metrics.json", run / "report" / "predictions.csv"
    metrics = report.read_text()
    for change, why in (
        (lambda: spoil(report, split="validation"), "is of validation"),
        (lambda: report.write_text("{"), "is damaged"),
        (lambda: report.unlink(), "no report yet"),
        (lambda: table.write_text(worse(predictions_of()).to_csv()), "do not belong together"),
        (lambda: (run / "best.weights.h5").write_bytes(b"new"), "of other weights"),
    ):
        report.write_text(metrics)
        change()
        assert why in read_report(Run(run))[2]


def test_files_are_all_written_or_none(make_run, tmp_path, monkeypatch):
    runs = [make_run("a", predictions_of()), make_run("b", predictions_of())]
    save(compare(runs, bootstrap=0), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == {"comparison.html", "comparison.csv", "comparison.md", "roc.png", "learning.png"}
    monkeypatch.setattr(compare_page, "to_csv", lambda rows: 1 / 0)
    for folder in ("out", "new"):
        with pytest.raises(ZeroDivisionError):
            save(compare(runs[::-1], bootstrap=0), tmp_path / folder)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert not list((tmp_path / "new").glob("*"))


def test_roc_curves_of_all_runs_share_an_axis_a_class_and_learning_curves_show_training_and_validation(make_run):
    pair = runs_of(make_run("a", predictions_of(TWO)), make_run("b", worse(predictions_of(TWO))))
    assert roc_classes(pair) == ["covid19"]
    (axes,) = (figure := draw_roc(pair)).axes
    assert "</svg>" in plots.svg(figure)
    labels = axes.get_legend_handles_labels()[1]
    assert [label.split()[0] for label in labels] == ["chance", "a", "b"]
    three = runs_of(make_run("c", predictions_of()))
    assert set(roc_classes([*pair, *three])) == {"normal", "pneumonia", "covid19"}
    panels = draw_learning(pair).axes
    assert [axes.get_title() for axes in panels] == ["loss", "F1 (mean over classes)", "AUROC, validation only"]
    drawn = [tuple(line.get_ydata()) for line in panels[1].lines]
    assert drawn.count((0.3, 0.5, 0.7)) == 2 and drawn.count((0.2, 0.4, 0.3)) == 2


def test_runs_are_called_by_as_much_of_their_path_as_distinguishes_them(make_run):
    runs = [make_run("x/seed-0", predictions_of()), make_run("y/seed-0", predictions_of())]
    assert [row.name for row in compare(runs, bootstrap=0).rows] == ["x/seed-0", "y/seed-0"]
    assert [row.name for row in compare(runs, names=("first", "second"), bootstrap=0).rows] == ["first", "second"]
    with pytest.raises(InputError, match="names: 1 different ones given, one for each of 2 runs"):
        compare(runs, names=("first",), bootstrap=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{run}"], "runs: 1 given, two or more expected"),
        (["{run}", "{run}"], "given twice"),
        (["{run}", "no/such"], "no/such: no such run folder"),
        (["{run}", "--published", "nobody"], "published: 'nobody' given, one of covid-cxnet"),
        (["{run}", "--published", "group-q", "--bootstrap", "-1"], "bootstrap: '-1' given"),
        (["{run}", "--published", "group-q", "--out", "{run}/run.json"], "run.json is a file"),
    ],
)
def test_what_cannot_be_compared_ends_in_one_line(make_run, capsys, arguments, message):
    run = make_run("a", predictions_of())
    assert main([text.format(run=run) for text in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1


def test_a_difference_is_that_of_the_aurocs_of_the_same_images_and_its_interval_is_paired(make_run):
    p, changed = predictions_of(TWO), worse(predictions_of(TWO))
    moved = np.clip(p.probabilities[:, 1] + np.random.default_rng(2).normal(0, 0.03, 120), 0.001, 0.999)
    tables = {"first": p, "same": p, "other": changed, "mixed": changed.only(np.random.default_rng(1).permutation(120))}
    tables["nearly"] = replace(p, probabilities=np.stack([1 - moved, moved], axis=1))
    first, same, other, mixed, nearly = runs_of(*(make_run(name, rows) for name, rows in tables.items()))
    none = auroc_difference(first, same, resamples=50)
    assert none.value == 0 and np.isnan(none.low)  # no resample tells them apart
    difference = auroc_difference(first, other, resamples=200)
    expected = np.diff([roc_auc_score(p.targets, q.probabilities[:, 1]) for q in (p, changed)])[0]
    assert difference.value == pytest.approx(expected, abs=1e-6)
    assert difference.low < difference.value < difference.high < 0
    assert auroc_difference(other, first, resamples=200).value == pytest.approx(-expected, abs=1e-6)
    # the order of the rows does not matter
    assert auroc_difference(first, mixed, resamples=200).to_dict() == pytest.approx(difference.to_dict())
    # narrower than the interval of either figure
    paired, bootstrap = (
        auroc_difference(first, nearly, resamples=300),
        Bootstrap(p.table["patient"], 120, resamples=300),
    )
    alone = bootstrap.estimate(rank(p.probabilities[:, 1], p.targets == 1, bootstrap).auroc)
    assert 0 < paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_within_each_source_runs_are_ranked_and_paired_apart_from_the_others(make_run, tmp_path):
    p = predictions_of(TWO)
    # b's images are all covid19: nothing to rank there
    source = np.where(np.arange(120) % 3 == 0, "a", np.where(p.targets == 1, "b", "c"))
    source[:40:4] = "c"
    p = replace(p, table=p.table.assign(source=source))
    runs = [make_run(name, q) for name, q in (("first", p), ("other", worse(p)))]
    comparison = compare(runs, bootstrap=50)
    assert [(part.source, part.images) for part in comparison.within] == [
        (name, int((source == name).sum())) for name in ("a", "c")
    ]
    for part in comparison.within:
        rows = source == part.source
        expected = [roc_auc_score(p.targets[rows], q.probabilities[rows, 1]) for q in (p, worse(p))]
        assert [estimate.value for estimate in part.aurocs.values()] == pytest.approx(expected, abs=1e-4)
        (difference,) = part.differences.values()
        assert difference.value == pytest.approx(expected[1] - expected[0], abs=1e-4)
        assert difference.low <= difference.value <= difference.high
    save(comparison, tmp_path / "page")
    text = (tmp_path / "page" / "comparison.md").read_text()
    assert f"| AUROC within one source | a ({(source == 'a').sum()} images) | a − first run's |" in text


def test_runs_of_other_test_images_are_compared_under_a_warning_and_without_a_difference(make_run, tmp_path):
    p = predictions_of()
    table = p.table.assign(label=["covid19", *p.table["label"][1:]])  # the first is normal
    relabelled = replace(p, table=table, truth=truth_of(table, CLASSES))
    runs = [make_run("all", p), make_run("part", p.only(np.arange(80))), make_run("other", relabelled)]
    comparison = compare(runs, bootstrap=20)
    save(comparison, tmp_path / "out")
    assert comparison.cautions[0].key == "test_sets"
    text = "all: 120 images; part: 80 images; other: 120 images; 80 images in all of them"
    assert text in comparison.cautions[0].text
    assert [row.difference for row in comparison.rows] == [None] * 3
    for name in ("comparison.html", "comparison.md"):
        text = (tmp_path / "out" / name).read_text()
        assert text.index("not tested on the same images") < text.index("F1, mean over classes")


def test_independent_findings_are_compared_where_they_are_known(make_run):
    """Every ninth label is unknown."""
    p = predictions_of(TWO)
    truth = np.where((np.arange(len(p))[:, None] - [0, 1]) % 9 == 0, np.nan, p.truth)
    both = [replace(q, truth=truth, task="independent") for q in (p, worse(p))]
    pair = runs_of(make_run("a", both[0]), make_run("b", both[1]))
    differences = []
    for k, known in enumerate(~np.isnan(truth).T):
        first, other = (roc_auc_score(truth[known, k], q.probabilities[known, k]) for q in both)
        differences.append(other - first)
    assert auroc_difference(*pair, resamples=30).value == pytest.approx(np.mean(differences))
    assert pair[0].row().accuracy is None and roc_classes(pair) == list(TWO)


def test_published_rows_are_marked_in_every_file_and_not_counted_as_runs(make_run, tmp_path):
    comparison = compare([make_run("a", predictions_of())], published=["covid-cxnet"], bootstrap=0)
    save(comparison, tmp_path)
    row = pd.read_csv(tmp_path / "comparison.csv").set_index("name").loc["COVID-CXNet v1 (no lungs)"]
    assert row["kind"] == "published, not measured here" and row["source"] == "tables 3 and 5"
    assert (row["accuracy"], row["f1_covid19"], row["covid19_called_normal"]) == (0.9904, 0.96, 3)
    html, text = ((tmp_path / f"comparison.{kind}").read_text() for kind in ("html", "md"))
    assert "Comparison of 1 run and 6 published rows" in html and "not measured here" in html
    assert "COVID-CXNet v1 (no lungs); published: covid-cxnet, tables 3 and 5" in text
    assert "99.0% (range 96.4 to 99.5%)" in text and "Haghanifar" in text and "by image" in text
    assert not comparison.rows[-1].never_found
    # a figure that nobody knows is a dash and never a zero
    text = tables([Row("a", "m")])[0].markdown()
    assert "nan" not in text and "0.0" not in text and text.count("–") >= 8
    header, line = to_csv([Row("a", "m")]).splitlines()
    assert line.replace("measured", "") == f"a,,,m{',' * (header.count(',') - 3)}"


def test_every_published_row_says_where_it_stands_and_has_the_figures_of_the_paper():
    for row in published_rows(STUDIES):
        assert re.search(r"\d{4}", citation(row.published))
        assert row.split and re.search(r"(table|figure|section)s? \w", row.source)
        figures = [e for e in (row.f1, row.accuracy, row.auroc, *row.f1_by_class.values()) if e is not None]
        assert figures and all(0 <= e.value <= 1 for e in figures)
        assert all(images is None or missed <= images for missed, images in row.called_normal.values())
    rows = {(row.published, row.name): row for row in published_rows(STUDIES)}
    assert {name for name, _ in rows} == set(STUDIES)
    assert rows["pneumonia", "Xception, balanced and augmented"].accuracy.value == 0.9519
    assert rows["pneumonia", "Small CNN, balanced and augmented"].auroc.value == 0.91
    assert rows["pneumonia", "VGG16, raw"].loss.value == 2.7321 and rows["radiography", "ResNet50"].loss is None
    assert rows["radiography", "ResNet50"].called_normal["covid19"] == (3, None)
    assert rows["radiography", "Logistic regression"].never_found == ("viral_pneumonia",)
    scores = [rows["group-q", f"EfficientNet B1, {group}"].f1.value for group in ("COVID", "pneumonia", "seven labels")]
    assert scores == [0.979, 0.768, 0.445]
