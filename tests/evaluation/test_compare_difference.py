"""Differences of AUROC are paired, of the same images, and know no order of rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.compare import compare
from covidcxnet.evaluation.compare_checks import auroc_difference
from covidcxnet.evaluation.compare_plots import roc_classes
from covidcxnet.evaluation.metrics import measure

TWO = ("normal", "covid19")


def test_a_difference_is_that_of_the_two_aurocs_and_holds_zero_for_a_run_and_itself(
    make_run, make_predictions, worse, load_entries
):
    predictions = make_predictions(classes=TWO)
    first, same, other = load_entries(
        make_run("first", predictions), make_run("same", predictions), make_run("other", worse(predictions))
    )
    none = auroc_difference(first, same, resamples=50)
    assert (none.value, none.low, none.high) == (0, 0, 0)
    found = auroc_difference(first, other, resamples=200)
    truth = predictions.targets == 1
    expected = roc_auc_score(truth, worse(predictions).probabilities[:, 1]) - roc_auc_score(
        truth, predictions.probabilities[:, 1]
    )
    assert found.value == pytest.approx(expected, abs=1e-6) and found.low < found.value < found.high < 0
    assert auroc_difference(other, first, resamples=200).value == pytest.approx(-expected, abs=1e-6)


def test_a_paired_interval_is_narrower_than_those_of_the_two_figures(
    make_run, make_predictions, load_entries, with_changes
):
    predictions = make_predictions(classes=TWO)
    moved = np.clip(predictions.probabilities[:, 1] + np.random.default_rng(2).normal(0, 0.03, 120), 0.001, 0.999)
    nearly = with_changes(predictions, np.stack([1 - moved, moved], axis=1))
    first, other = load_entries(make_run("first", predictions), make_run("other", nearly))
    found = auroc_difference(first, other, resamples=300)
    bootstrap = Bootstrap(predictions.column("patient"), len(predictions), resamples=300)
    alone = measure(predictions.targets, predictions.probabilities, TWO, bootstrap).overall["auroc"]
    assert 0 < found.high - found.low < 0.5 * (alone.high - alone.low)


def test_the_order_of_the_rows_does_not_matter(make_run, make_predictions, worse, load_entries, with_changes):
    predictions = make_predictions()
    order = np.random.default_rng(1).permutation(len(predictions))
    changed = worse(predictions)
    shuffled = with_changes(changed, changed.probabilities[order], changed.table.iloc[order].reset_index(drop=True))
    runs = make_run("first", predictions), make_run("plain", changed), make_run("mixed", shuffled)
    first, plain, mixed = load_entries(*runs)
    found = auroc_difference(first, plain, resamples=60)
    assert auroc_difference(first, mixed, resamples=60).to_dict() == pytest.approx(found.to_dict())
    assert len(found.to_dict()) == 4 and found.value < 0


def test_runs_of_other_test_images_are_compared_under_a_warning_and_without_a_difference(
    make_run, make_predictions, tmp_path, with_changes
):
    predictions = make_predictions()
    part = with_changes(predictions, predictions.probabilities[:80], predictions.table.iloc[:80])
    found = compare([make_run("all", predictions), make_run("part", part)], out=tmp_path / "out", bootstrap=20)
    assert found.cautions[0].key == "test_sets"
    assert "all: 120 images; part: 80 images; 80 images in all of them" in found.cautions[0].text
    assert found.rows[1].difference is None
    for name in ("comparison.html", "comparison.md"):
        text = (tmp_path / "out" / name).read_text()
        assert text.index("not tested on the same images") < text.index("F1, mean over classes")


def test_other_labels_of_the_same_images_are_another_test_set(make_run, make_predictions, load_entries, with_changes):
    predictions = make_predictions(classes=TWO)
    table = predictions.table.copy()
    table.loc[0, "label"] = "covid19" if table["label"][0] == "normal" else "normal"
    first, other = load_entries(make_run("a", predictions), make_run("b", with_changes(predictions, table=table)))
    assert auroc_difference(first, other, resamples=10) is None


def test_independent_findings_are_compared_where_they_are_known(make_run, make_predictions, worse, load_entries):
    predictions = make_predictions(classes=TWO)
    runs = [make_run("a", predictions), make_run("b", worse(predictions))]
    for run in runs:
        _say_findings(run / "report")
    first, other = load_entries(*runs)
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
