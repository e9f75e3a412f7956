"""From a trained run, or its weights and other data, to a report on disk."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import openvino
import pandas as pd
import pytest

from covidcxnet import evaluate, load_model
from covidcxnet.cli.evaluate import main
from covidcxnet.cli.export import main as export_main
from covidcxnet.cli.weights import main as weights_main
from covidcxnet.datasets import load, make_phantoms
from covidcxnet.evaluation import evaluator
from covidcxnet.evaluation.calibration import temperature
from covidcxnet.evaluation.images import newest_run
from covidcxnet.evaluation.page import summary
from covidcxnet.evaluation.thresholds import youden_threshold
from covidcxnet.preparation import Store
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe, Run, save_recipe, train
from enhancement.errors import InputError
from segmentation.segmenter import LungSegmenter
from segmentation.verdict import Verdict
from weights import save_weights

pytestmark = pytest.mark.usefixtures("eager", "blank")
QUICK = {"explain": False, "bootstrap": 0, "jobs": 1, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def looked_at():
    """Radiographs in each call of the lung segmenter, which answers at once here; its first answer is not trusted."""
    calls: list[int] = []

    def predict(self, images):
        calls.append(len(images))
        verdict = Verdict(len(calls) > 1, ())
        return [
            SimpleNamespace(mask=np.indices(i.shape[:2]).sum(axis=0) % 90 < 60, box=None, error=None, verdict=verdict)
            for i in images
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LungSegmenter, "predict", predict)
        yield calls


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch on a few small phantoms."""
    folder = tmp_path_factory.mktemp("runs")
    data = {"root": str(folder / "phantom"), "phantom_images": 24, "classes": ("normal", "covid19")}
    data |= {"fractions": (0.4, 0.3, 0.3), "store": str(folder / "store.h5"), "jobs": 1}
    model = {"model": "small-cnn", "options": {"filters": [4, 8], "hidden": [8]}, "input": InputSettings(size=32)}
    return train(Recipe(**data, **model, epochs=1, out=str(folder / "run")))


@pytest.fixture(scope="module")
def report(run):
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


def test_report_of_a_run_counts_its_test_split_predicts_its_files_and_shows_cases(run, report):
    rows, table = run.rows("test"), run.store.table
    data = json.loads(report.metrics_path.read_text())["data"]
    assert report.path == run.path / "report" / "report.html"
    assert (data["split"], data["images"], data["split_by"], data["phantom"]) == ("test", len(rows), "patient", True)
    parts = {name: len(run.rows(name)) for name in ("train", "validation", "test")}
    assert {name: part["images"] for name, part in data["parts"].items()} == parts
    predictions = pd.read_csv(report.predictions_path)
    assert predictions["path"].tolist() == table["path"].iloc[rows].tolist()
    shown = predictions.iloc[:3]
    predicted = evaluator.load_model(run.best_weights).predict([run.store.root / path for path in shown["path"]])
    np.testing.assert_allclose([p.probabilities["covid19"] for p in predicted], shown["p_covid19"], atol=1e-5)
    # cases have heatmaps, and one of them LIME
    cases = report.cases
    assert cases and all(c.radiograph.startswith("data:image/jpeg") and c.gradcam for c in cases)
    assert sum(bool(c.lime) for c in cases) == 1
    html = report.path.read_text()
    assert "Phantom run" in html and "Grad-CAM for" in html and "LIME for" in html and "Learning curves" in html


def test_stacks_are_read_once_for_predictions_and_the_intensity_probe_together(run, tmp_path, monkeypatch):
    rows, read = [], Store.read
    monkeypatch.setattr(Store, "read", lambda self, indices: rows.extend(indices) or read(self, indices))
    monkeypatch.setattr(evaluator, "by_source", lambda *_, statistics, **__: rows.append(len(statistics)))
    evaluate(run, **QUICK, out=tmp_path / "report")
    assert rows == [*run.rows("test"), len(run.rows("test"))]


def test_page_card_and_json_say_which_engine_computed_and_in_which_precision(run, report, other, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COVIDCXNET_ENGINE", "auto")
    make_phantoms(tmp_path / "more", 6, seed=9, size=64, progress=False)
    images = ["--images", str(tmp_path / "more"), "--data", str(other)]
    given = ["--weights", str(run.best_weights), "--format", "openvino", "--precision", "int8", *images]
    assert export_main([*given, "--out", str(tmp_path / "made.xml")]) == 0
    rounded = evaluate(run, precision="int8", out=tmp_path / "report", **QUICK)
    for of, engine, precision in ((rounded, "OpenVINO", "int8"), (report, "Keras", "f32")):
        numbers, said = json.loads(of.metrics_path.read_text()), f"{engine} in {precision}"
        assert (numbers["model"]["engine"], numbers["model"]["precision"]) == (engine.lower(), precision)
        assert numbers["environment"]["precision"] == precision
        assert said in of.path.read_text() and said in of.card_path.read_text()
        assert (said in summary(of)) == ("--precision int8" in of.commands[-1]) == (precision == "int8")


def test_bf16_is_refused_by_a_processor_without_it(run, tmp_path, monkeypatch):
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has bfloat16")
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COVIDCXNET_ENGINE", "auto")
    with pytest.raises(InputError, match="precision: this processor has no bfloat16"):
        evaluate(run, precision="bf16", out=tmp_path / "report", **QUICK)


def test_training_images_that_a_run_left_unused_are_on_no_side(run, tmp_path):
    copy = Path(shutil.copytree(run.path, tmp_path / "run"))
    Run(copy).update(store=str(run.store.path))
    split = run.split
    left = split.index[split["split"] == "train"][0]
    split.assign(split=split["split"].where(split.index != left, "unused")).to_csv(copy / "split.csv", index=False)
    parts = json.loads(evaluate(copy, **QUICK).metrics_path.read_text())["data"]["parts"]
    assert parts["train"]["images"] == len(run.rows("train")) - 1 and parts["test"]["images"] == len(run.rows("test"))
    assert "unused" not in parts


def test_test_images_that_the_initial_weights_were_trained_on_are_a_reason_for_doubt(run, tmp_path):
    copy = Path(shutil.copytree(run.path, tmp_path / "run"))
    Run(copy).update(store=str(run.store.path))
    table = run.store.table.iloc[run.rows("test")].reset_index(drop=True)
    first = tmp_path / "first.weights.h5"
    sums = [hashlib.sha256((run.store.root / path).read_bytes()).hexdigest() for path in table["path"][:2]]
    (tmp_path / "first.csv").write_text(f"sha256,split\n{sums[0]},train\n{sums[1]},test\n")
    for init, expected in ((first, 1), ("random", 0)):
        save_recipe(replace(run.recipe, init=str(init)), copy / "recipe.yaml")
        report = evaluate(copy, **QUICK)
        told = {caution["key"] for caution in json.loads(report.metrics_path.read_text())["warnings"]}
        assert report.data.seen_by_initial == expected and ("initial_overlap" in told) == bool(expected)
    # a run that trained on the other side of the split: as initial weights or as teacher, and through a third run
    earlier, between = (Path(shutil.copytree(run.path, tmp_path / name)) for name in ("earlier", "between"))
    for folder in (earlier, between):
        Run(folder).update(store=str(run.store.path))
    swapped = run.split["split"].replace({"train": "test", "test": "train"})
    run.split.assign(split=swapped).to_csv(earlier / "split.csv", index=False)
    save_recipe(replace(run.recipe, init=str(earlier), teacher=str(copy)), between / "recipe.yaml")
    for key, given, expected in (
        ("initial", {"init": str(earlier)}, len(table)),
        ("teacher", {"teacher": str(earlier / "best.weights.h5")}, len(table)),
        ("teacher", {"teacher": str(between)}, len(table)),
        ("initial", {"init": str(tmp_path / "gone")}, 0),
    ):
        save_recipe(replace(run.recipe, **given), copy / "recipe.yaml")
        report = evaluate(copy, **QUICK)
        assert getattr(report.data, f"seen_by_{key}") == expected
        assert (f"{key}_overlap" in {caution.key for caution in report.cautions}) == bool(expected)


def test_a_run_is_calibrated_on_its_validation_images_and_calls_the_same_classes(run, tmp_path, capsys):
    copy, table = Path(shutil.copytree(run.path, tmp_path / "run")), run.store.table
    Run(copy).update(store=str(run.store.path))
    # an over-confident network that is right about all validation images but one of each class, of which it is sure
    classifier, rows = load_model(run.best_weights), np.arange(len(table))
    layer = classifier.model.get_layer("pred")
    kernel, bias = layer.get_weights()
    logit = np.log(classifier.predict_rows(run.store, rows) + 1e-9) @ [-1, 1]
    scale = 6 / logit.std()
    layer.set_weights([scale * kernel, scale * (bias - np.median(logit))])
    save_weights(classifier.model, copy / "best.weights.h5", classifier.metadata)
    called = np.where(logit > np.median(logit), "covid19", "normal")
    right = (called == table["label"]).to_numpy()
    validation = right.copy()
    for label in ("normal", "covid19"):
        wrong = np.flatnonzero(~right & (table["label"] == label))
        validation[wrong[np.abs(logit - np.median(logit))[wrong].argmax()]] = True
    sides = pd.Series(np.where(validation, "validation", "train"), table["path"])
    split = run.split
    split.assign(split=split["path"].map(sides).to_numpy()).to_csv(copy / "split.csv", index=False)

    before = load_model(copy).predict_rows(run.store, rows)
    assert weights_main(["calibrate", str(copy)]) == 0
    printed = capsys.readouterr().out
    assert weights_main(["calibrate", str(copy)]) == 2 and "--overwrite" in capsys.readouterr().err
    after = load_model(copy / "calibrated.weights.h5")
    facts = after.metadata["calibration"]
    assert facts["temperature"] > 1.5 and facts["images"] == validation.sum()
    assert facts["cross_entropy"][1] < facts["cross_entropy"][0] - 0.05
    assert f"{facts['cross_entropy'][1]:.4f} after" in printed and "calibrated.weights.h5" in printed
    p = after.predict_rows(run.store, rows)
    np.testing.assert_allclose(
        np.log(p) @ [-1, 1], np.log(before) @ [-1, 1] / facts["temperature"], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("task", ["exclusive", "independent"])
def test_the_temperature_is_the_factor_by_which_logits_are_too_large(task):
    random = np.random.default_rng(0)
    logits = random.normal(size=(6000, 3)) * 2
    truth = np.eye(3)[(logits + random.gumbel(size=logits.shape)).argmax(axis=1)]  # drawn from softmax(logits)
    scores = np.exp(4 * logits) / np.exp(4 * logits).sum(axis=1, keepdims=True)
    if task == "independent":
        scores, truth = 1 / (1 + np.exp(-4 * logits)), (random.random(logits.shape) < 1 / (1 + np.exp(-logits))) * 1.0
        truth[::5, 1] = np.nan
    assert temperature(scores, truth, task) == pytest.approx(4, rel=0.05)


def test_each_opening_of_the_test_set_is_written_down_and_an_automatic_threshold_needs_none(run, report, tmp_path):
    log = run.path / "test_opened.json"
    before = json.loads(log.read_text())
    validation = evaluate(run, out=tmp_path / "v", split="validation", **QUICK)
    assert validation.openings == () and json.loads(log.read_text()) == before
    test = evaluate(run, out=tmp_path / "t", threshold="auto", **QUICK)
    after = json.loads(log.read_text())
    assert len(test.openings) == len(after) == len(before) + 1 and after[: len(before)] == before
    assert after[-1]["images"] == len(run.rows("test"))
    p = validation.predictions
    assert test.predictions.threshold == pytest.approx(youden_threshold(p.probabilities[:, 1], p.targets == 1))
    assert "validation" in test.threshold_from


def test_lungs_are_looked_for_in_shown_cases_alone_where_the_model_sees_whole_radiographs(
    run, other, tmp_path, looked_at
):
    """Other data are prepared, and images that training or validation saw are counted."""
    looked_at.clear()
    assert run.recipe.input.region == "none"
    options = {"data": other, "jobs": 1, "progress": False}
    report = evaluate(run.best_weights, out=tmp_path / "a", explain=False, bootstrap=20, **options)
    assert looked_at == [] and report.data.lungs_sought == 0
    assert "the model sees the whole image" in report.path.read_text()
    rejected = report.data.rejected
    assert (len(report.predictions), rejected["path"].tolist(), report.data.overlap) == (7, ["normal/broken.png"], 4)
    reason = rejected["reason"].iloc[0]
    assert f"1 file could not be used, the first normal/broken.png ({reason})" in summary(report)
    keys = {w["key"] for w in json.loads(report.metrics_path.read_text())["warnings"]}
    assert {"overlap", "patients_unknown", "small_test", "rejected"} <= keys
    assert report.openings == ()
    shown = evaluate(run.best_weights, out=tmp_path / "b", bootstrap=0, lime=0, **options).cases
    assert looked_at == [1] * len(shown) and 0 < len(looked_at) < 7
    assert [case.outlined for case in shown] == [False, *[True] * (len(shown) - 1)]


def test_other_images_of_a_trained_patient_count_as_known_and_a_label_unknown_to_the_model_is_refused(run, tmp_path):
    table = run.store.table[["path", "label", "patient"]]
    rows = table.iloc[run.rows("test")].copy()
    rows["patient"] = ["x", table["patient"].iloc[run.rows("train")[0]], *rows["patient"].iloc[2:]]
    rows.to_csv(tmp_path / "labels.csv", index=False)
    options = {"data": tmp_path / "labels.csv", "out": tmp_path / "r", "root": run.store.root}
    assert evaluate(run, **options, **QUICK).data.overlap == 1
    rows.assign(label=["tb"] + ["normal"] * (len(rows) - 1)).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match=r"'tb' found, this model knows normal, covid19; leave.*--where label=normal"):
        evaluate(run, **options, **QUICK)


def test_weights_alone_need_data_which_may_be_a_public_set_by_name(run, other, tmp_path, capsys, monkeypatch):
    """Whether training saw its images is unknown, there is no validation split, and the last line is the page."""

    def cohen(name, folder, **options):
        return replace(load(folder, for_training=False), name=f"{name} {options}")

    weights = tmp_path / "alone.weights.h5"
    weights.write_bytes(run.best_weights.read_bytes())
    with pytest.raises(InputError, match="weights need images to evaluate; give --data"):
        evaluate(weights)
    with pytest.raises(InputError, match="threshold: auto is chosen on a run's validation split"):
        evaluate(weights, data=other, out=tmp_path / "r", threshold="auto", jobs=1, progress=False)
    monkeypatch.setitem(load.__globals__, "load_named", cohen)
    monkeypatch.chdir(tmp_path)
    arguments = ["--no-explain", "--bootstrap", "5", "--jobs", "1", "--no-progress"]
    assert main([str(weights), "--data", f"cohen,view=PA:{other}", *arguments]) == 0
    printed = capsys.readouterr().out
    page = Path(printed.splitlines()[-1])
    assert page == Path("reports/alone-cohen/report.html") and "covid19 called normal" in printed
    data = json.loads((page.parent / "metrics.json").read_text())["data"]
    assert (data["name"], data["images"], data["images_also_trained_on"]) == ("cohen {'view': 'PA'}", 7, None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["no/such/run"], "no/such/run: no such weights file or run folder"),
        (["{run}", "--data", "cohen:nowhere"], "cohen:nowhere: no such folder"),
        (["{run}", "--data", "phantom", "--split", "test"], "split: 'test' given, but splits belong to a run"),
        (["{run}", "--where", "source=nih"], "where: belongs to --data"),
        (["{run}", "--seen", "a.csv"], "seen: belongs to --data"),
        (["{run}", "--count", "a=b"], "count: belongs to --data"),
        (["{run}", "--store", "s.h5"], "store: belongs to --data"),
        (["{run}", "--data", "phantom", "--where", "source"], "COLUMN=VALUE"),
        (["{run}", "--threshold", "1.5"], "threshold: 1.5 given, auto or a number between 0 and 1"),
        (["{run}", "--threshold", "high"], "auto or a number expected"),
        (["{run}", "--lime-samples", "few"], "'few' given, auto or a whole number from 10 to 100000 expected"),
        (["{run}", "--bootstrap", "-1"], "bootstrap: '-1' given, a whole number from 0"),
    ],
)
def test_input_that_cannot_be_used_ends_in_one_line_and_code_2(run, capsys, arguments, message):
    assert main([a.format(run=run.path) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1


def test_newest_run_is_the_one_with_the_latest_weights(tmp_path):
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
