"""Several runs in one table: figures of their reports, paired differences, warnings, curves, published rows."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from covidcxnet.cli.compare import main
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.ranking import rank
from covidcxnet.experiments import compare_page
from covidcxnet.experiments.compare import auroc_difference, compare
from covidcxnet.experiments.compare_page import draw_learning, draw_roc, roc_classes, save, tables, to_csv
from covidcxnet.experiments.compared_runs import (
    STUDIES,
    ComparedRun,
    Row,
    citation,
    load_run,
    published_rows,
    read_report,
)
from covidcxnet.reporting import plots
from covidcxnet.training import Recipe, Run
from enhancement.errors import InputError

CLASSES = ("normal", "pneumonia", "covid19")
TWO = ("normal", "covid19")


def predictions_of(classes=CLASSES, images=120) -> pd.DataFrame:
    """A `predictions.csv` of 120 images of 70 patients as a table."""
    rng = np.random.default_rng(0)
    targets = np.r_[np.arange(len(classes)), rng.integers(0, len(classes), images - len(classes))]
    scores = rng.normal(size=(images, len(classes)))
    scores[np.arange(images), targets] += 1.5
    table = pd.DataFrame({"path": [f"images/{i:04}.png" for i in range(images)]})
    table["label"] = np.array(classes)[targets]
    table["patient"] = [f"p{i}" for i in rng.integers(0, 70, images)]
    return with_probabilities(table, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), classes)


def classes_of(table: pd.DataFrame) -> list[str]:
    return [name.removeprefix("p_") for name in table if name.startswith("p_")]


def with_probabilities(table: pd.DataFrame, probabilities: np.ndarray, classes=None) -> pd.DataFrame:
    """The same images with other probabilities."""
    classes = classes_of(table) if classes is None else list(classes)
    columns = {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    return table.assign(predicted=np.array(classes)[probabilities.argmax(axis=1)], **columns)


def worse(table: pd.DataFrame) -> pd.DataFrame:
    """The same images with noise mixed into the probabilities."""
    classes = classes_of(table)
    noise = np.random.default_rng(5).dirichlet(np.ones(len(classes)), len(table))
    return with_probabilities(table, 0.4 * table[[f"p_{name}" for name in classes]].to_numpy() + 0.6 * noise)


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Function that makes a finished run with the report of a table of predictions."""
    # The weights are plain bytes: there is no network whose operations could be counted.
    monkeypatch.setattr("covidcxnet.experiments.compared_runs._flops", lambda run, known: 2_000_000)
    # Plots have tests of their own; those of the files are as small as can be.
    for name in ("draw_roc", "draw_learning"):
        monkeypatch.setattr(compare_page, name, lambda runs: plots.figure(0.2, 0.2)[0])

    def make(name: str, table: pd.DataFrame, **recipe) -> Path:
        folder = tmp_path / name
        (folder / "report").mkdir(parents=True)
        values = Recipe(data="table.csv", classes=tuple(classes_of(table)), **recipe).to_dict()
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        (folder / "run.json").write_text(json.dumps({"status": "finished", "best_epoch": 2, "epoch": 3, "store": "no"}))
        pd.DataFrame({"path": table["path"], "split": "test"}).to_csv(folder / "split.csv", index=False)
        (folder / "log.csv").write_text(
            "epoch,loss,f1,val_loss,val_f1,val_auroc,seconds\n1,1,0.3,1,0.2,0.5,9\n2,0.8,0.5,0.9,0.4,0.8,3\n"
            "3,0.6,0.7,1.1,0.3,0.7,3\n"
        )
        (folder / "best.weights.h5").write_bytes(name.encode())
        table.to_csv(folder / "report" / "predictions.csv", index=False)
        (folder / "report" / "metrics.json").write_text(json.dumps(_report(table, name)))
        return folder

    return make


def _report(table: pd.DataFrame, name: str) -> dict:
    """The keys of `metrics.json` that a comparison reads."""
    classes = classes_of(table)
    truth, called = table["label"].to_numpy(str), table["predicted"].to_numpy(str)
    f1 = dict(zip(classes, f1_score(truth, called, labels=classes, average=None, zero_division=0), strict=True))
    auroc = {label: roc_auc_score(truth == label, table[f"p_{label}"]) for label in classes}
    overall = auroc[classes[1]] if len(classes) == 2 else np.mean(list(auroc.values()))
    missed = []
    for label in classes if "normal" in classes else ():
        if label != "normal":
            passed = int(((truth == label) & (called == "normal")).sum())
            missed.append({"class": label, "missed": passed, "images": int((truth == label).sum())})
    return {
        "classes": classes,
        "model": {"name": "small-cnn", "sha256": hashlib.sha256(name.encode()).hexdigest(), "parameters": 558_849},
        "data": {"name": "made-up", "split": "test", "images": len(table), "phantom": False},
        "overall": {
            "macro_f1": _figure(np.mean(list(f1.values()))),
            "accuracy": _figure(accuracy_score(truth, called)),
            "auroc": _figure(overall),
        },
        "by_class": {label: {"f1": _figure(f1[label]), "auroc": _figure(auroc[label])} for label in classes},
        "confusion_matrix": confusion_matrix(truth, called, labels=classes).tolist(),
        "called_normal": missed,
        "bootstrap": {"resamples": 20},
        "warnings": [],
    }


def _figure(value: float) -> dict:
    return {"value": float(value), "low": 0.9 * value, "high": min(1.0, 1.05 * value), "undefined_resamples": 0}


def runs_of(*runs: Path) -> list[ComparedRun]:
    """Runs as the comparison loads them, by the names of their folders."""
    return [load_run(Run(run), run.name, {}) for run in runs]


def test_the_table_holds_the_figures_of_the_runs_own_reports(make_run, tmp_path):
    runs = [make_run("a", predictions_of()), make_run("b", worse(predictions_of()))]
    # a run in two stages says the validation figures of both levels together in run.json
    status = json.loads((runs[0] / "run.json").read_text()) | {"whole_model": {"val_auroc": 0.8}}
    (runs[0] / "run.json").write_text(json.dumps(status))
    for run in runs:
        _change(run / "report" / "metrics.json", "model", training={"figures": {"val_auroc": 0.99}})
    save(compare(runs, bootstrap=20), tmp_path / "out")
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


def _change(path: Path, part: str, **values) -> None:
    report = json.loads(path.read_text())
    report[part] |= values
    path.write_text(json.dumps(report))


def test_a_class_that_is_never_found_is_named(make_run, tmp_path, capsys):
    lost = predictions_of()[["p_normal", "p_pneumonia", "p_covid19"]].to_numpy() * [1, 1e-6, 1]
    runs = [make_run("a", predictions_of()), make_run("b", with_probabilities(predictions_of(), lost))]
    assert main([*map(str, runs), "--out", str(tmp_path / "out"), "--bootstrap", "20"]) == 0
    printed = capsys.readouterr().out
    assert "A class is never found. b recognises no image of pneumonia" in printed
    assert "F1 0: pneumonia" in printed
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("name")
    assert table.loc["b", "zero_f1_classes"] == "pneumonia" and pd.isna(table.loc["a", "zero_f1_classes"])
    assert "never recognised" in (tmp_path / "out" / "comparison.html").read_text()


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda run: (run / "best.weights.h5").write_bytes(b"new"), "of other weights"),
        (lambda run: (run / "report" / "metrics.json").unlink(), "no report yet"),
        (lambda run: (run / "report" / "metrics.json").write_text("{"), "is damaged"),
        (lambda run: _swap_label(run / "report" / "predictions.csv"), "do not belong together"),
        (lambda run: _change(run / "report" / "metrics.json", "data", split="validation"), "is of validation"),
    ],
)
def test_a_report_that_does_not_fit_is_made_anew_and_one_that_fits_is_not(make_run, spoil, why):
    run = make_run("a", predictions_of())
    assert read_report(Run(run))[2] == ""
    spoil(run)
    assert why in read_report(Run(run))[2]


def _swap_label(path: Path) -> None:
    table = pd.read_csv(path)
    table.loc[0, "predicted"] = "covid19" if table["predicted"][0] != "covid19" else "normal"
    table.to_csv(path, index=False)


@pytest.mark.parametrize("classes", [("0", "1"), ("00", "01"), ("normal", "None")])
def test_classes_that_look_like_numbers_or_nothing_are_read_back_as_such(make_run, classes):
    run = make_run("a", predictions_of(classes))
    assert read_report(Run(run))[2] == ""
    assert runs_of(run)[0].truth.sum(axis=0).min() > 10


def test_files_are_all_written_or_none(make_run, tmp_path, monkeypatch):
    runs = [make_run("a", predictions_of()), make_run("b", predictions_of())]
    save(compare(runs, bootstrap=0), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == {"comparison.html", "comparison.csv", "comparison.md", "roc.png", "learning.png"}

    def fails(rows):
        raise RuntimeError("disk full")

    monkeypatch.setattr(compare_page, "to_csv", fails)
    for folder in ("out", "new"):
        with pytest.raises(RuntimeError):
            save(compare(runs[::-1], bootstrap=0), tmp_path / folder)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert not list((tmp_path / "new").glob("*"))


def test_roc_curves_of_all_runs_share_one_axis_a_class(make_run):
    pair = runs_of(make_run("a", predictions_of(TWO)), make_run("b", worse(predictions_of(TWO))))
    assert roc_classes(pair) == ["covid19"]
    (axes,) = (figure := draw_roc(pair)).axes
    assert "</svg>" in plots.svg(figure)
    labels = axes.get_legend_handles_labels()[1]
    assert [label.split()[0] for label in labels] == ["chance", "a", "b"]
    three = runs_of(make_run("c", predictions_of()))
    assert set(roc_classes([*pair, *three])) == {"normal", "pneumonia", "covid19"}


def test_learning_curves_show_training_and_validation_of_every_run(make_run):
    panels = draw_learning(runs_of(make_run("a", predictions_of()), make_run("b", predictions_of()))).axes
    assert [axes.get_title() for axes in panels] == ["loss", "F1 (mean over classes)", "AUROC, validation only"]
    drawn = [tuple(line.get_ydata()) for line in panels[1].lines]
    assert drawn.count((0.3, 0.5, 0.7)) == 2 and drawn.count((0.2, 0.4, 0.3)) == 2


def test_runs_are_called_by_as_much_of_their_path_as_distinguishes_them(make_run):
    runs = [make_run("x/seed-0", predictions_of()), make_run("y/seed-0", predictions_of())]
    assert [row.name for row in compare(runs, bootstrap=0).rows] == ["x/seed-0", "y/seed-0"]
    assert [row.name for row in compare(runs, names=("first", "second"), bootstrap=0).rows] == ["first", "second"]
    with pytest.raises(InputError, match="names: 1 different ones given, one for each of 2 runs"):
        compare(runs, names=("first",), bootstrap=0)


def test_a_figure_that_nobody_knows_is_a_dash_and_never_a_zero():
    text = tables([Row("a", "m")])[0].markdown()
    assert "nan" not in text and "0.0" not in text and text.count("–") >= 8
    header, line = to_csv([Row("a", "m")]).splitlines()
    assert line.replace("measured", "") == f"a,,,m{',' * (header.count(',') - 3)}"


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


def test_a_difference_is_that_of_the_two_aurocs_and_holds_zero_for_a_run_and_itself(make_run):
    table = predictions_of(TWO)
    first, same, other = runs_of(make_run("first", table), make_run("same", table), make_run("other", worse(table)))
    none = auroc_difference(first, same, resamples=50)
    assert (none.value, none.low, none.high) == (0, 0, 0)
    difference = auroc_difference(first, other, resamples=200)
    truth = table["label"] == "covid19"
    expected = roc_auc_score(truth, worse(table)["p_covid19"]) - roc_auc_score(truth, table["p_covid19"])
    assert difference.value == pytest.approx(expected, abs=1e-6)
    assert difference.low < difference.value < difference.high < 0
    assert auroc_difference(other, first, resamples=200).value == pytest.approx(-expected, abs=1e-6)


def test_a_paired_interval_is_narrower_than_those_of_the_two_figures(make_run):
    table = predictions_of(TWO)
    moved = np.clip(table["p_covid19"] + np.random.default_rng(2).normal(0, 0.03, 120), 0.001, 0.999)
    nearly = with_probabilities(table, np.stack([1 - moved, moved], axis=1))
    paired = auroc_difference(*runs_of(make_run("first", table), make_run("other", nearly)), resamples=300)
    bootstrap = Bootstrap(table["patient"], len(table), resamples=300)
    ranked = rank(table["p_covid19"].to_numpy(), table["label"].to_numpy() == "covid19", bootstrap)
    alone = bootstrap.estimate(ranked.auroc)
    assert 0 < paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_the_order_of_the_rows_does_not_matter(make_run):
    changed = worse(predictions_of())
    runs = [make_run("first", predictions_of()), make_run("plain", changed)]
    first, plain, mixed = runs_of(*runs, make_run("mixed", changed.sample(frac=1, random_state=1)))
    difference = auroc_difference(first, plain, resamples=60)
    assert auroc_difference(first, mixed, resamples=60).to_dict() == pytest.approx(difference.to_dict())
    assert len(difference.to_dict()) == 4 and difference.value < 0


def test_runs_of_other_test_images_are_compared_under_a_warning_and_without_a_difference(make_run, tmp_path):
    relabelled = predictions_of()
    relabelled.loc[0, "label"] = "covid19" if relabelled["label"][0] == "normal" else "normal"
    runs = [make_run("all", predictions_of()), make_run("part", predictions_of()[:80]), make_run("other", relabelled)]
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
    runs = [make_run("a", predictions_of(TWO)), make_run("b", worse(predictions_of(TWO)))]
    for run in runs:
        _make_independent(run / "report")
    first, other = runs_of(*runs)
    found = auroc_difference(first, other, resamples=30)
    expected = []
    for name in TWO:
        known = first.predictions[name].notna().to_numpy()
        truth = first.predictions[name][known] == 1
        pair = [roc_auc_score(truth, e.predictions[f"p_{name}"][known]) for e in (first, other)]
        expected.append(pair[1] - pair[0])
    assert found.value == pytest.approx(np.mean(expected)) and first.row().accuracy is None
    assert roc_classes([first, other]) == list(TWO)


def _make_independent(report: Path) -> None:
    """The report as that of findings that do not exclude each other, every ninth unknown."""
    table = pd.read_csv(report / "predictions.csv")
    for k, name in enumerate(TWO):
        table[name] = (table["label"] == name).astype(float).mask(np.arange(len(table)) % 9 == k)
    table.drop(columns=["label", "predicted"]).to_csv(report / "predictions.csv", index=False)
    found = json.loads((report / "metrics.json").read_text())
    del found["confusion_matrix"], found["overall"]["accuracy"], found["called_normal"]
    (report / "metrics.json").write_text(json.dumps(found | {"multilabel": True}))


def test_published_rows_are_marked_in_every_file_and_not_counted_as_runs(make_run, tmp_path):
    found = compare([make_run("a", predictions_of())], published=["covid-cxnet"], bootstrap=0)
    save(found, tmp_path)
    row = pd.read_csv(tmp_path / "comparison.csv").set_index("name").loc["COVID-CXNet v1 (no lungs)"]
    assert row["kind"] == "published, not measured here" and row["source"] == "tables 3 and 5"
    assert (row["accuracy"], row["f1_covid19"], row["covid19_called_normal"]) == (0.9904, 0.96, 3)
    html, text = ((tmp_path / f"comparison.{kind}").read_text() for kind in ("html", "md"))
    assert "Comparison of 1 run and 6 published rows" in html and "not measured here" in html
    assert "COVID-CXNet v1 (no lungs); published: covid-cxnet, tables 3 and 5" in text
    assert "99.0% (range 96.4 to 99.5%)" in text and "Haghanifar" in text and "by image" in text
    assert not found.rows[-1].never_found


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
    assert rows["radiography", "Logistic regression"].never_found == ("viral_pneumonia",)
    scores = [rows["group-q", f"EfficientNet B1, {group}"].f1.value for group in ("COVID", "pneumonia", "seven labels")]
    assert scores == [0.979, 0.768, 0.445]
