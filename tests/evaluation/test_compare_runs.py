"""Several runs in one table: paired differences, warnings, published rows, files that are whole or not there."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from covidcxnet.evaluation import compare_entry, compare_page
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.compare import compare
from covidcxnet.evaluation.compare_checks import auroc_difference
from covidcxnet.evaluation.compare_cli import main
from covidcxnet.evaluation.compare_plots import draw_learning, draw_roc, roc_classes
from covidcxnet.evaluation.compare_rows import Row
from covidcxnet.evaluation.compare_tables import to_markdown
from covidcxnet.evaluation.description import Model
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.evaluation.published import STUDIES, citation, published_rows
from covidcxnet.training import Recipe, Run
from enhancement.errors import InputError

ROOT = Path(__file__).parents[2]
TWO = ("normal", "covid19")


@pytest.fixture(autouse=True)
def no_networks(monkeypatch):
    """Weights here are plain bytes: no network is built to count its operations."""
    monkeypatch.setattr(compare_entry, "_flops", lambda run, known: 2_000_000)


@pytest.fixture
def make_run(tmp_path, make_findings):
    """Function that makes a finished run with a report of `predictions`."""

    def make(name: str, predictions: Predictions, **recipe) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        values = Recipe(data="table.csv", classes=predictions.classes, **recipe).to_dict()
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        (folder / "run.json").write_text(json.dumps({"status": "finished", "best_epoch": 2, "epoch": 3, "store": "no"}))
        paths = predictions.table["path"]
        pd.DataFrame({"path": paths, "split": "test"}).to_csv(folder / "split.csv", index=False)
        (folder / "log.csv").write_text(
            "epoch,loss,f1,val_loss,val_f1,val_auroc,seconds\n1,1,0.3,1,0.2,0.5,9\n2,0.8,0.5,0.9,0.4,0.8,3\n"
            "3,0.6,0.7,1.1,0.3,0.7,3\n"
        )
        (folder / "best.weights.h5").write_bytes(name.encode())
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        findings = make_findings(predictions, resamples=20, model=Model("small-cnn", "w", sha256, 558_849))
        predictions.save(folder / "report" / "predictions.csv")
        (folder / "report" / "metrics.json").write_text(json.dumps(findings.to_json()))
        return folder

    return make


def _changed(predictions: Predictions, probabilities=None, table=None) -> Predictions:
    given = predictions.probabilities if probabilities is None else probabilities
    return Predictions(predictions.table if table is None else table, given, predictions.classes)


def _worse(predictions: Predictions) -> Predictions:
    rng = np.random.default_rng(5)
    mixed = 0.4 * predictions.probabilities + 0.6 * rng.dirichlet(np.ones(len(predictions.classes)), len(predictions))
    return _changed(predictions, mixed)


def _entries(*runs):
    return [compare_entry.load_entry(Run(run), Path(run).name, {}) for run in runs]


def test_a_difference_is_that_of_the_two_aurocs_and_holds_zero_for_a_run_and_itself(make_run, make_predictions):
    predictions = make_predictions(classes=TWO)
    first, same, other = _entries(
        make_run("first", predictions), make_run("same", predictions), make_run("other", _worse(predictions))
    )
    none = auroc_difference(first, same, resamples=50)
    assert (none.value, none.low, none.high) == (0, 0, 0)
    found = auroc_difference(first, other, resamples=200)
    truth = predictions.targets == 1
    expected = roc_auc_score(truth, _worse(predictions).probabilities[:, 1]) - roc_auc_score(
        truth, predictions.probabilities[:, 1]
    )
    assert found.value == pytest.approx(expected, abs=1e-6) and found.low < found.value < found.high < 0
    assert auroc_difference(other, first, resamples=200).value == pytest.approx(-expected, abs=1e-6)


def test_a_paired_interval_is_narrower_than_those_of_the_two_figures(make_run, make_predictions):
    predictions = make_predictions(classes=TWO)
    moved = np.clip(predictions.probabilities[:, 1] + np.random.default_rng(2).normal(0, 0.03, 120), 0.001, 0.999)
    nearly = _changed(predictions, np.stack([1 - moved, moved], axis=1))
    first, other = _entries(make_run("first", predictions), make_run("other", nearly))
    found = auroc_difference(first, other, resamples=300)
    bootstrap = Bootstrap(predictions.column("patient"), len(predictions), resamples=300)
    alone = measure(predictions.targets, predictions.probabilities, TWO, bootstrap).overall["auroc"]
    assert 0 < found.high - found.low < 0.5 * (alone.high - alone.low)


def test_validation_of_a_run_in_two_stages_is_that_of_both_levels_together(make_run, make_predictions, tmp_path):
    folder = make_run("two", make_predictions(classes=TWO))
    report = json.loads((folder / "report" / "metrics.json").read_text())
    report["model"]["training"] = {"figures": {"val_auroc": 0.99}}
    (folder / "report" / "metrics.json").write_text(json.dumps(report))
    plain = make_run("plain", make_predictions(classes=TWO))
    assert [e.validation_auroc for e in _entries(folder, plain)] == [0.99, None]
    status = json.loads((folder / "run.json").read_text()) | {"whole_model": {"val_auroc": 0.8}}
    (folder / "run.json").write_text(json.dumps(status))
    compare([folder, plain], out=tmp_path / "out", bootstrap=5)
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["validation_auroc"].tolist()[:1] == [0.8]


def test_the_order_of_the_rows_does_not_matter(make_run, make_predictions):
    predictions = make_predictions()
    order = np.random.default_rng(1).permutation(len(predictions))
    worse = _worse(predictions)
    shuffled = _changed(worse, worse.probabilities[order], worse.table.iloc[order].reset_index(drop=True))
    first, plain, mixed = _entries(
        make_run("first", predictions), make_run("plain", worse), make_run("mixed", shuffled)
    )
    found = auroc_difference(first, plain, resamples=60)
    assert auroc_difference(first, mixed, resamples=60).to_dict() == pytest.approx(found.to_dict())
    assert len(found.to_dict()) == 4 and found.value < 0


def test_runs_of_other_test_images_are_compared_under_a_warning_and_without_a_difference(
    make_run, make_predictions, tmp_path
):
    predictions = make_predictions()
    part = _changed(predictions, predictions.probabilities[:80], predictions.table.iloc[:80])
    found = compare([make_run("all", predictions), make_run("part", part)], out=tmp_path / "out", bootstrap=20)
    assert found.cautions[0].key == "test_sets"
    assert "all: 120 images; part: 80 images; 80 images in all of them" in found.cautions[0].text
    assert found.rows[1].difference is None
    for name in ("comparison.html", "comparison.md"):
        text = (tmp_path / "out" / name).read_text()
        assert text.index("not tested on the same images") < text.index("F1, mean over classes")


def test_other_labels_of_the_same_images_are_another_test_set(make_run, make_predictions):
    predictions = make_predictions(classes=TWO)
    table = predictions.table.copy()
    table.loc[0, "label"] = "covid19" if table["label"][0] == "normal" else "normal"
    first, other = _entries(make_run("a", predictions), make_run("b", _changed(predictions, table=table)))
    assert auroc_difference(first, other, resamples=10) is None


def test_the_table_holds_the_figures_of_the_runs_own_reports(make_run, make_predictions, tmp_path):
    runs = [make_run("a", make_predictions()), make_run("b", _worse(make_predictions()))]
    compare(runs, out=tmp_path / "out", bootstrap=20)
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("name")
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


def test_a_class_that_is_never_found_is_named(make_run, make_predictions, tmp_path, capsys):
    predictions = make_predictions()
    lost = predictions.probabilities.copy()
    lost[:, 1] = 1e-6
    runs = [make_run("a", predictions), make_run("b", _changed(predictions, lost))]
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--bootstrap", "20"]) == 0
    printed = capsys.readouterr().out
    assert "A class is never found. b called no image of pneumonia rightly" in printed
    assert "F1 0: pneumonia" in printed
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("name")
    assert table.loc["b", "zero_f1_classes"] == "pneumonia" and pd.isna(table.loc["a", "zero_f1_classes"])
    assert "never called rightly" in (tmp_path / "out" / "comparison.html").read_text()


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda run: (run / "best.weights.h5").write_bytes(b"new"), "of other weights"),
        (lambda run: (run / "report" / "metrics.json").unlink(), "no report yet"),
        (lambda run: (run / "report" / "metrics.json").write_text("{"), "is damaged"),
        (lambda run: _swap_label(run / "report" / "predictions.csv"), "do not belong together"),
        (lambda run: _say_split(run / "report" / "metrics.json"), "is of validation"),
    ],
)
def test_a_report_that_does_not_fit_is_made_anew_and_one_that_fits_is_not(make_run, make_predictions, spoil, why):
    run = make_run("a", make_predictions())
    assert compare_entry.read_report(Run(run))[2] == ""
    spoil(run)
    assert why in compare_entry.read_report(Run(run))[2]


def _swap_label(path: Path) -> None:
    table = pd.read_csv(path)
    table.loc[0, "predicted"] = "covid19" if table["predicted"][0] != "covid19" else "normal"
    table.to_csv(path, index=False)


def _say_split(path: Path) -> None:
    report = json.loads(path.read_text())
    report["data"]["split"] = "validation"
    path.write_text(json.dumps(report))


def test_files_are_all_written_or_none(make_run, make_predictions, tmp_path, monkeypatch):
    runs = [make_run("a", make_predictions()), make_run("b", make_predictions())]
    compare(runs, out=tmp_path / "out", bootstrap=0)
    names = {"comparison.html", "comparison.csv", "comparison.md", "roc.png", "learning.png"}
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == names

    def fails(found):
        raise RuntimeError("disk full")

    monkeypatch.setattr(compare_page, "markdown", fails)
    with pytest.raises(RuntimeError):
        compare(runs[::-1], out=tmp_path / "out", bootstrap=0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(RuntimeError):
        compare(runs, out=tmp_path / "new", bootstrap=0)
    assert not list((tmp_path / "new").glob("*")) if (tmp_path / "new").exists() else True


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


def test_roc_curves_of_all_runs_share_one_axis_a_class(make_run, make_predictions):
    two = make_predictions(classes=TWO)
    pair = _entries(make_run("a", two), make_run("b", _worse(two)))
    assert roc_classes(pair) == ["covid19"]
    (axes,) = draw_roc(pair).axes
    labels = axes.get_legend_handles_labels()[1]
    assert [label.split()[0] for label in labels] == ["chance", "a", "b"]
    three = _entries(make_run("c", make_predictions()))
    assert set(roc_classes([*pair, *three])) == {"normal", "pneumonia", "covid19"}


def test_learning_curves_show_training_and_validation_of_every_run(make_run, make_predictions):
    entries = _entries(make_run("a", make_predictions()), make_run("b", make_predictions()))
    panels = draw_learning(entries).axes
    assert [axes.get_title() for axes in panels] == ["loss", "F1 (mean over classes)", "AUROC, validation only"]
    drawn = [tuple(line.get_ydata()) for line in panels[1].lines]
    assert drawn.count((0.3, 0.5, 0.7)) == 2 and drawn.count((0.2, 0.4, 0.3)) == 2


def test_independent_findings_are_compared_where_they_are_known(make_run, make_predictions):
    predictions = make_predictions(classes=TWO)
    runs = [make_run("a", predictions), make_run("b", _worse(predictions))]
    for run in runs:
        _say_findings(run / "report")
    first, other = _entries(*runs)
    found = auroc_difference(first, other, resamples=30)
    expected = []
    for name in TWO:
        known = first.predictions[name].notna().to_numpy()
        truth = first.predictions[name][known] == 1
        pair = [roc_auc_score(truth, e.predictions[f"p_{name}"][known]) for e in (first, other)]
        expected.append(pair[1] - pair[0])
    assert found.value == pytest.approx(np.mean(expected)) and first.row().accuracy is None
    assert roc_classes([first, other]) == list(TWO)


def _say_findings(report: Path) -> None:
    """The report as that of findings that do not exclude each other, every ninth unknown."""
    table = pd.read_csv(report / "predictions.csv")
    for k, name in enumerate(TWO):
        table[name] = (table["label"] == name).astype(float).mask(np.arange(len(table)) % 9 == k)
    table.drop(columns=["label", "predicted"]).to_csv(report / "predictions.csv", index=False)
    found = json.loads((report / "metrics.json").read_text())
    del found["confusion_matrix"], found["overall"]["accuracy"], found["called_normal"]
    (report / "metrics.json").write_text(json.dumps(found | {"multilabel": True}))


def test_runs_are_called_by_as_much_of_their_path_as_tells_them_apart(make_run, make_predictions, tmp_path):
    runs = [make_run("x/seed-0", make_predictions()), make_run("y/seed-0", make_predictions())]
    found = compare(runs, out=tmp_path / "out", bootstrap=0)
    assert [row.name for row in found.rows] == ["x/seed-0", "y/seed-0"]
    named = compare(runs, out=tmp_path / "out", names=("first", "second"), bootstrap=0)
    assert [row.name for row in named.rows] == ["first", "second"]
    with pytest.raises(InputError, match="names: 1 different ones given, one for each of 2 runs"):
        compare(runs, out=tmp_path / "out", names=("first",), bootstrap=0)


def test_a_figure_that_nobody_knows_is_a_dash_and_never_a_zero():
    text = to_markdown([Row("a", "m")])
    assert "nan" not in text and "0.0" not in text and text.count("–") >= 8
    flat = Row("a", "m").flat(("normal",))
    assert flat["auroc"] is None and not any(isinstance(v, float) and math.isnan(v) for v in flat.values())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{run}"], "runs: 1 given, two or more expected"),
        (["{run}", "{run}"], "given twice"),
        (["{run}", "no/such"], "no/such: no such run folder"),
        (["{run}", "--published", "nobody"], "--published: 'nobody' given, one of covid-cxnet"),
        (["{run}", "--published", "group-q", "--bootstrap", "-1"], "bootstrap: -1 given"),
        (["{run}", "--published", "group-q", "--out", "{run}/run.json"], "run.json is a file"),
    ],
)
def test_what_cannot_be_compared_ends_in_one_line(make_run, make_predictions, capsys, arguments, message):
    run = make_run("a", make_predictions())
    assert main([text.format(run=run) for text in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1


def test_help_of_compare_and_sweep_loads_nothing_heavy():
    code = (
        "import sys; from covidcxnet.evaluation.compare_cli import build_parser as one;"
        "from covidcxnet.experiments.cli import build_parser as two;"
        "one('x').format_help(); two('y').format_help();"
        "print(*[m for m in ('keras', 'tensorflow', 'matplotlib', 'sklearn', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
