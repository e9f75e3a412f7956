"""Several runs in one table: the figures of their reports, warnings, curves, files whole or not there."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from covidcxnet.cli.compare import main
from covidcxnet.evaluation import compare_entry, compare_page
from covidcxnet.evaluation.compare import compare
from covidcxnet.evaluation.compare_plots import draw_learning, draw_roc, roc_classes
from covidcxnet.evaluation.compare_rows import Row
from covidcxnet.evaluation.compare_tables import to_markdown
from covidcxnet.training import Run
from enhancement.errors import InputError

ROOT = Path(__file__).parents[2]
TWO = ("normal", "covid19")


def test_the_table_holds_the_figures_of_the_runs_own_reports(make_run, make_predictions, tmp_path, worse):
    runs = [make_run("a", make_predictions()), make_run("b", worse(make_predictions()))]
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


def test_validation_of_a_run_in_two_stages_is_that_of_both_levels_together(
    make_run, make_predictions, tmp_path, load_entries
):
    folder = make_run("two", make_predictions(classes=TWO))
    report = json.loads((folder / "report" / "metrics.json").read_text())
    report["model"]["training"] = {"figures": {"val_auroc": 0.99}}
    (folder / "report" / "metrics.json").write_text(json.dumps(report))
    plain = make_run("plain", make_predictions(classes=TWO))
    assert [e.validation_auroc for e in load_entries(folder, plain)] == [0.99, None]
    status = json.loads((folder / "run.json").read_text()) | {"whole_model": {"val_auroc": 0.8}}
    (folder / "run.json").write_text(json.dumps(status))
    compare([folder, plain], out=tmp_path / "out", bootstrap=5)
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["validation_auroc"].tolist()[:1] == [0.8]


def test_a_class_that_is_never_found_is_named(make_run, make_predictions, tmp_path, capsys, with_changes):
    predictions = make_predictions()
    lost = predictions.probabilities.copy()
    lost[:, 1] = 1e-6
    runs = [make_run("a", predictions), make_run("b", with_changes(predictions, lost))]
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


@pytest.mark.parametrize("classes", [("0", "1"), ("00", "01"), ("normal", "None")])
def test_classes_that_look_like_numbers_or_nothing_are_read_back_as_such(
    make_run, make_predictions, classes, load_entries
):
    run = make_run("a", make_predictions(classes=classes))
    assert compare_entry.read_report(Run(run))[2] == ""
    (entry,) = load_entries(run)
    assert entry.truth.sum(axis=0).min() > 10


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


def test_roc_curves_of_all_runs_share_one_axis_a_class(make_run, make_predictions, worse, load_entries):
    two = make_predictions(classes=TWO)
    pair = load_entries(make_run("a", two), make_run("b", worse(two)))
    assert roc_classes(pair) == ["covid19"]
    (axes,) = draw_roc(pair).axes
    labels = axes.get_legend_handles_labels()[1]
    assert [label.split()[0] for label in labels] == ["chance", "a", "b"]
    three = load_entries(make_run("c", make_predictions()))
    assert set(roc_classes([*pair, *three])) == {"normal", "pneumonia", "covid19"}


def test_learning_curves_show_training_and_validation_of_every_run(make_run, make_predictions, load_entries):
    entries = load_entries(make_run("a", make_predictions()), make_run("b", make_predictions()))
    panels = draw_learning(entries).axes
    assert [axes.get_title() for axes in panels] == ["loss", "F1 (mean over classes)", "AUROC, validation only"]
    drawn = [tuple(line.get_ydata()) for line in panels[1].lines]
    assert drawn.count((0.3, 0.5, 0.7)) == 2 and drawn.count((0.2, 0.4, 0.3)) == 2


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
        "import sys; from covidcxnet.cli.compare import build_parser as one;"
        "from covidcxnet.cli.sweep import build_parser as two;"
        "one('x').format_help(); two('y').format_help();"
        "print(*[m for m in ('keras', 'tensorflow', 'matplotlib', 'sklearn', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
