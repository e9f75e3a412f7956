"""From a trained run, or its weights and other data, to a report on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli.evaluate import main
from covidcxnet.evaluation.subject import newest_run
from enhancement.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch on a few small phantoms."""
    from covidcxnet.settings import InputSettings
    from covidcxnet.training import Recipe, train

    folder = tmp_path_factory.mktemp("runs")
    recipe = Recipe(
        root=str(folder / "phantom"), phantom_images=30, classes=("normal", "covid19"), fractions=(0.4, 0.3, 0.3),
        model="small-cnn", input=InputSettings(size=96), epochs=1, jobs=1, store=str(folder / "store.h5"),
        out=str(folder / "run"),
    )  # fmt: skip
    return train(recipe)


@pytest.fixture(scope="module")
def report(run):
    from covidcxnet import evaluate

    return evaluate(run, lime=1, lime_samples=20, bootstrap=100, progress=False)


@pytest.fixture(scope="module")
def other(run, tmp_path_factory):
    """A folder per class: an image of each side of the run's split, one new image, one that is no image."""
    folder = tmp_path_factory.mktemp("other")
    for label in ("normal", "covid19"):
        (folder / label).mkdir()
        for side in ("train", "validation", "test"):
            table = run.store.table.iloc[run.rows(side)]
            path = table.loc[table["label"] == label, "path"].iloc[0]
            (folder / label / Path(path).name).write_bytes((run.store.root / path).read_bytes())
    noise = np.random.default_rng(0).integers(0, 255, (70, 60), dtype=np.uint8)
    cv2.imwrite(str(folder / "normal" / "new.png"), cv2.GaussianBlur(noise, (0, 0), 2))
    (folder / "normal" / "broken.png").write_bytes(b"no image")
    return folder


def test_report_of_a_run_counts_its_test_split(run, report):
    rows = run.rows("test")
    found = json.loads(report.metrics_path.read_text())
    assert report.path == run.path / "report" / "report.html"
    assert found["data"]["split"] == "test" and found["data"]["images"] == len(rows)
    assert found["data"]["phantom"] and found["data"]["split_by"] == "patient"
    assert {name: part["images"] for name, part in found["data"]["parts"].items()} == {
        name: len(run.rows(name)) for name in ("train", "validation", "test")
    }
    predictions = pd.read_csv(report.predictions_path)
    assert predictions["path"].tolist() == run.store.table["path"].iloc[rows].tolist()


def test_predictions_of_a_run_are_those_of_its_files(run, report):
    from covidcxnet import load_model

    shown = pd.read_csv(report.predictions_path).iloc[:3]
    found = load_model(run.path).predict([run.store.root / path for path in shown["path"]])
    np.testing.assert_allclose([f.probabilities["covid19"] for f in found], shown["p_covid19"], atol=1e-5)


def test_page_shows_cases_with_heatmaps_and_one_with_lime(report):
    cases = report.cases
    assert cases and all(c.radiograph.startswith("data:image/jpeg") and c.gradcam for c in cases)
    assert sum(bool(c.lime) for c in cases) == 1
    html = report.path.read_text()
    assert "Phantom run" in html and "Grad-CAM for" in html and "LIME for" in html and "Learning curves" in html


def test_opening_the_test_set_is_written_down_each_time(run, report):
    from covidcxnet import evaluate

    before = json.loads((run.path / "test_opened.json").read_text())
    assert evaluate(run, split="validation", explain=False, bootstrap=0, progress=False).openings == ()
    assert json.loads((run.path / "test_opened.json").read_text()) == before
    again = evaluate(run, explain=False, bootstrap=0, progress=False)
    after = json.loads((run.path / "test_opened.json").read_text())
    assert len(after) == len(before) + 1 and after[: len(before)] == before
    assert len(again.openings) == len(after)
    assert after[-1]["images"] == len(run.rows("test"))


def test_automatic_threshold_comes_from_the_validation_split(run, tmp_path):
    from covidcxnet import evaluate
    from covidcxnet.evaluation.predictions import youden_threshold

    on_validation = evaluate(run, split="validation", out=tmp_path / "v", explain=False, bootstrap=0, progress=False)
    p = on_validation.predictions
    found = evaluate(run, threshold="auto", out=tmp_path / "t", explain=False, bootstrap=0, progress=False)
    assert found.predictions.threshold == pytest.approx(youden_threshold(p.probabilities[:, 1], p.targets == 1))
    assert "validation" in found.threshold_from


def test_other_data_are_prepared_and_images_that_training_or_validation_saw_are_counted(run, other, tmp_path):
    from covidcxnet import evaluate
    from covidcxnet.evaluation.page import summary

    found = evaluate(run.best_weights, data=other, out=tmp_path, explain=False, bootstrap=20, jobs=1, progress=False)
    data = found.data
    assert len(found.predictions) == 7
    assert data.rejected["path"].tolist() == ["normal/broken.png"]
    assert data.overlap == 4
    reason = data.rejected["reason"].iloc[0]
    assert f"1 file could not be used, the first normal/broken.png ({reason})" in summary(found)
    keys = {w["key"] for w in json.loads(found.metrics_path.read_text())["warnings"]}
    assert {"overlap", "patients_unknown", "small_test", "rejected"} <= keys
    assert found.openings == ()


def test_other_images_of_a_trained_patient_count_as_known_in_the_same_data(run, tmp_path):
    from covidcxnet import evaluate

    table = run.store.table[["path", "label", "patient"]]
    rows = table.iloc[run.rows("test")].copy()
    rows["patient"] = ["x", table["patient"].iloc[run.rows("train")[0]], *rows["patient"].iloc[2:]]
    rows.to_csv(tmp_path / "labels.csv", index=False)
    options = {"root": run.store.root, "explain": False, "bootstrap": 0, "jobs": 1, "progress": False}
    found = evaluate(run, data=tmp_path / "labels.csv", out=tmp_path / "r", **options)
    assert found.data.overlap == 1


def test_weights_without_their_run_say_that_overlap_is_unknown(run, other, tmp_path):
    from covidcxnet import evaluate

    alone = tmp_path / "alone.weights.h5"
    alone.write_bytes(run.best_weights.read_bytes())
    found = evaluate(alone, data=other, out=tmp_path / "r", explain=False, bootstrap=0, jobs=1, progress=False)
    assert found.data.overlap is None
    with pytest.raises(InputError, match="alone say nothing about images; give --data"):
        evaluate(alone)
    with pytest.raises(InputError, match="threshold: auto is chosen on a run's validation split"):
        evaluate(alone, data=other, out=tmp_path / "r", threshold="auto", jobs=1, progress=False)


def test_a_label_that_the_model_does_not_know_is_refused(run, other, tmp_path):
    from covidcxnet import evaluate

    table = pd.DataFrame({"path": [str(p) for p in sorted(other.rglob("p*.png"))]})
    table["label"] = ["tb"] + ["normal"] * (len(table) - 1)
    table.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match=r"'tb' found, this model knows normal, covid19; leave.*--where label=normal"):
        evaluate(run, data=tmp_path / "labels.csv", root=other, out=tmp_path, progress=False)


@pytest.fixture
def looked_at(monkeypatch):
    """Number of radiographs in each call of the lung segmenter."""
    from segmentation.segmenter import LungSegmenter

    calls = []
    real = LungSegmenter.predict
    monkeypatch.setattr(LungSegmenter, "predict", lambda self, files: calls.append(len(files)) or real(self, files))
    return calls


def test_lungs_are_looked_for_in_shown_cases_alone_where_the_model_sees_whole_radiographs(
    run, other, tmp_path, looked_at
):
    from covidcxnet import evaluate

    assert run.recipe.input.region == "none"
    options = {"data": other, "bootstrap": 0, "lime": 0, "jobs": 1, "progress": False}
    found = evaluate(run.best_weights, out=tmp_path / "a", explain=False, **options)
    assert looked_at == [] and found.data.lungs_sought == 0
    assert "the model sees the whole image" in found.path.read_text()
    found = evaluate(run.best_weights, out=tmp_path / "b", **options)
    assert looked_at == [1] * len(found.cases) and 0 < len(looked_at) < 7


def test_a_public_set_is_evaluated_by_name(run, other, tmp_path, capsys, monkeypatch):
    from covidcxnet.datasets import load, named

    def cohen(name, folder, **options):
        return replace(load(folder, for_training=False), name=f"{name} {options}")

    monkeypatch.setattr(named, "load_named", cohen)
    alone = tmp_path / "alone.weights.h5"
    alone.write_bytes(run.best_weights.read_bytes())
    monkeypatch.chdir(tmp_path)
    arguments = ["--no-explain", "--bootstrap", "5", "--jobs", "1", "--no-progress"]
    assert main([str(alone), "--data", f"cohen,view=PA:{other}", *arguments]) == 0
    page = Path(capsys.readouterr().out.splitlines()[-1])
    assert page == Path("reports/alone-cohen/report.html")
    data = json.loads((page.parent / "metrics.json").read_text())["data"]
    assert data["name"] == "cohen {'view': 'PA'}" and data["images"] == 7
    assert main([str(alone), "--data", "cohen:nowhere"]) == 2
    assert "cohen:nowhere: no such folder" in capsys.readouterr().err
    assert main([str(alone), "--data", f"cohn:{other}"]) == 2
    assert "'cohn' is not a set known by name; there are: covidcxnet" in capsys.readouterr().err


def test_the_last_line_of_the_command_is_the_page(run, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["--no-explain", "--bootstrap", "20", "--out", str(out), "--no-progress"]
    assert main([str(run.path), *arguments]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(out / "report.html")
    assert "covid19 called normal" in "\n".join(printed)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["no/such/run"], "no/such/run: no such run folder or weights file"),
        (["{run}", "--data", "nowhere"], "nowhere: no such folder or CSV"),
        (["{run}", "--data", "phantom", "--split", "test"], "split: 'test' given, but splits belong to a run"),
        (["{run}", "--where", "source=nih"], "where: belongs to --data"),
        (["{run}", "--data", "phantom", "--where", "source"], "COLUMN=VALUE"),
        (["{run}", "--threshold", "1.5"], "threshold: 1.5 given, auto or a number between 0 and 1"),
        (["{run}", "--threshold", "high"], "auto or a number expected"),
        (["{run}", "--bootstrap", "-1"], "bootstrap: '-1' given, a whole number from 0"),
        (["{run}", "--nonsense"], "unknown flag --nonsense"),
    ],
)
def test_input_that_cannot_be_used_ends_in_one_line_and_code_2(run, capsys, arguments, message):
    assert main([a.format(run=run.path) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1


def test_newest_run_is_the_one_with_the_latest_weights(tmp_path):
    import os

    with pytest.raises(InputError, match="no run with weights"):
        newest_run(tmp_path)
    for name, age in (("a", 100), ("b", 300), ("c", 200), ("unet", 400)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.weights.h5").touch()
        os.utime(tmp_path / name / "best.weights.h5", (age, age))
    for name in "abcd":
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "recipe.yaml").touch()
    assert newest_run(tmp_path) == tmp_path / "b"


def test_help_is_quick_and_loads_no_keras():
    code = (
        "import sys; from covidcxnet.cli.evaluate import build_parser; build_parser('evaluate.py').format_help();"
        "import covidcxnet.evaluation;"
        "print(*[m for m in ('keras', 'tensorflow', 'matplotlib', 'sklearn', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_evaluate_py_prints_its_help():
    found = subprocess.run(
        [sys.executable, "evaluate.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("usage: evaluate.py") and "--bootstrap" in found.stdout
