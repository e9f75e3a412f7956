"""The commands predict and explain: exit codes, tables, JSON, CSV, pictures."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from covidcxnet.cli.explain import main as main_explain
from covidcxnet.cli.predict import main as main_predict

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a small CNN at 94 x 94, written as training writes them."""
    from covidcxnet.models import create
    from covidcxnet.settings import InputSettings
    from weights.format import save_weights

    options = {"size": 94, "channels": 3, "filters": [4, 4, 4, 4, 4], "hidden": [4]}
    model = create("small-cnn", **options)
    metadata = {
        "kind": "classifier",
        "architecture": {"name": "small-cnn", "options": options},
        "classes": ["normal", "covid19"],
        "input": InputSettings(size=94).to_dict(),
        "segmenter": {},
    }
    return save_weights(model, tmp_path_factory.mktemp("weights") / "tiny.weights.h5", metadata)


@pytest.fixture
def folder(tmp_path):
    """Three radiographs and one that can't be read, in a tree."""
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    for n, name in enumerate(("a.png", "b.jpg", "deep/a.png")):
        cv2.imwrite(str(images / name), np.random.default_rng(n).integers(0, 256, (60, 50 + n)).astype("uint8"))
    return images


def _spoil(folder):
    (folder / "bad.png").write_bytes(b"not an image")
    return folder


def test_a_table_has_a_line_a_file_and_says_research_only(folder, weights, capsys):
    assert main_predict([str(folder), "--weights", str(weights)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "label", "probability", "lungs"]
    assert [line.split()[0] for line in lines[1:4]] == sorted(str(path) for path in folder.rglob("*.*g"))
    assert all(line.split()[1] in ("normal", "covid19") for line in lines[1:4])
    assert "3 radiographs, 0 could not be read" in lines[4]
    assert "Research only" in lines[5]


def test_an_unreadable_file_is_reported_and_the_rest_is_done(folder, weights, capsys):
    assert main_predict([str(_spoil(folder)), "--weights", str(weights), "--batch_size", "2"]) == 1
    out = capsys.readouterr().out
    (bad,) = (line for line in out.splitlines() if "bad.png" in line)
    assert "not read" in bad
    assert "4 radiographs, 1 could not be read" in out


def test_json_is_one_object_a_line_and_nothing_else(folder, weights, capsys):
    assert main_predict([str(_spoil(folder)), "--weights", str(weights), "--json"]) == 1
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert len(rows) == 4 and "Research only" in captured.err
    for row in rows:
        assert {"file", "label", "probability", "probabilities", "lungs", "error"} <= set(row)
    good = [row for row in rows if row["error"] is None]
    assert len(good) == 3
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in good)
    (bad,) = (row for row in rows if row["error"])
    assert bad["file"].endswith("bad.png") and bad["label"] is None and bad["probability"] is None


def test_numbers_that_are_none_become_null():
    from covidcxnet.cli._output import _finite

    value = _finite({"a": float("nan"), "b": [float("inf"), 1.5], "c": ("x", None, True)})
    assert value == {"a": None, "b": [None, 1.5], "c": ["x", None, True]}


def test_csv_has_a_probability_column_a_class(folder, weights, tmp_path, capsys):
    target = tmp_path / "out" / "table.csv"
    assert main_predict([str(_spoil(folder)), "--weights", str(weights), "--csv", str(target)]) == 1
    with open(target, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    good = [row for row in rows if not row["error"]]
    assert all(float(r["probability_normal"]) + float(r["probability_covid19"]) == pytest.approx(1) for r in good)
    assert main_predict([str(folder), "--weights", str(weights), "--csv", str(target)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main_predict([str(folder), "--weights", str(weights), "--csv", str(target), "--overwrite"]) == 1


def test_explain_writes_a_panel_for_each_file_in_its_tree(folder, weights, tmp_path, capsys):
    out = tmp_path / "panels"
    assert main_explain([str(_spoil(folder)), "--weights", str(weights), "--out", str(out), "--full_size"]) == 1
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    panels = ["a.gradcam", "b.gradcam", "deep/a.gradcam"]
    assert written == sorted(f"{name}{end}" for name in panels for end in (".png", ".overlay.png"))
    assert cv2.imread(str(out / "b.gradcam.overlay.png")).shape == (60, 51, 3)
    assert str(out / "b.gradcam.png") in capsys.readouterr().out


def test_predict_can_explain_with_lime(folder, weights, tmp_path, capsys):
    out = tmp_path / "panels"
    arguments = [str(folder / "a.png"), "--weights", str(weights), "--explain", "lime", "--out", str(out)]
    assert main_predict([*arguments, "--samples", "30", "--segments", "8", "--target", "normal", "--json"]) == 0
    (row,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert row["explanation"]["method"] == "lime" and row["explanation"]["target"] == "normal"
    assert row["explanation"]["panel"] == str(out / "a.lime.png")
    assert (out / "a.lime.png").exists()


def test_files_of_one_name_do_not_overwrite_each_other(folder, weights, tmp_path):
    out = tmp_path / "panels"
    files = [str(folder / "a.png"), str(folder / "deep" / "a.png")]
    assert main_explain([*files, "--weights", str(weights), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a-2.gradcam.png", "a.gradcam.png"]


def test_existing_pictures_are_kept_unless_told(folder, weights, tmp_path, capsys):
    out = tmp_path / "panels"
    out.mkdir()
    (out / "a.gradcam.png").write_bytes(b"mine")
    arguments = [str(folder / "a.png"), "--weights", str(weights), "--out", str(out)]
    assert main_explain(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "a.gradcam.png").read_bytes() == b"mine"
    assert main_explain([*arguments, "--overwrite"]) == 0
    assert (out / "a.gradcam.png").read_bytes() != b"mine"


def test_a_radiograph_is_never_overwritten_by_a_panel(folder, weights, capsys):
    (folder / "a.gradcam.png").write_bytes((folder / "a.png").read_bytes())
    before = (folder / "a.gradcam.png").read_bytes()
    assert main_explain([str(folder), "--weights", str(weights), "--out", str(folder), "--overwrite"]) == 2
    assert "one of the radiographs" in capsys.readouterr().err
    assert (folder / "a.gradcam.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png", "--weights", "W", "--explain", "gradcam"], "nothing.png"),
        (["IMAGES", "--weights", "missing.weights.h5", "--explain", "gradcam"], "missing.weights.h5"),
        (["IMAGES", "--weights", "IMAGES/a.png", "--explain", "gradcam"], "a.png"),
        (["IMAGES", "--weights", "W", "--explain", "gradcam", "--samples", "20"], "--samples"),
        (["IMAGES", "--weights", "W"], "--out: is for pictures; add --explain"),
        (["IMAGES", "--weights", "W", "--explain", "gradcam", "--target", "flu"], "normal, covid19"),
        (["IMAGES", "--weights", "W", "--explain", "cam", "--segmenter", "missing.weights.h5"], "missing.weights.h5"),
        (["IMAGES", "--weights", "W", "--explain", "cam", "--csv", "IMAGES/a.png/t.csv"], "is a file and not a folder"),
    ],
)
def test_input_that_cannot_be_used_is_one_line_and_code_two(arguments, message, folder, weights, tmp_path, capsys):
    arguments = [a.replace("IMAGES", str(folder)) if a != "W" else str(weights) for a in arguments]
    assert main_predict([*arguments, "--out", str(tmp_path / "panels")]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.png"], ["a.png", "--weights", "W", "--batch_size", "0"], ["a.png", "--weights", "W", "--explain", "x"]],
)
def test_wrong_arguments_end_with_code_two(arguments, capsys):
    assert main_predict(arguments) == 2
    error = capsys.readouterr().err
    assert "--help" in error and len(error.strip().splitlines()) == 1


def test_file_names_that_no_terminal_can_show_do_not_end_the_run(folder, weights, capsys):
    strange = folder / "new\nline.png"
    strange.write_bytes((folder / "a.png").read_bytes())
    assert main_predict([str(folder), "--weights", str(weights)]) == 0
    assert "new\\nline.png" in capsys.readouterr().out


def test_what_is_no_upright_frontal_radiograph_is_said_in_table_csv_and_picture(weights, tmp_path, capsys):
    from covidcxnet.datasets.phantom import phantom

    chest = phantom("normal", 3, 128).image
    images = tmp_path / "views"
    images.mkdir()
    for name, pixels in {"a": chest, "b": 255 - chest, "c": np.full((90, 90), 7, np.uint8)}.items():
        cv2.imwrite(str(images / f"{name}.png"), pixels)
    target = tmp_path / "table.csv"
    assert main_predict([str(images), "--weights", str(weights), "--csv", str(target)]) == 0
    out = capsys.readouterr().out.splitlines()
    said = "not like an upright frontal chest radiograph: "
    assert said not in out[1] and f"{said}inverted: " in out[2] and f"{said}blank: " in out[3]
    assert "3 radiographs, 0 could not be read; 2 do not look like" in out[4]
    with open(target, newline="") as file:
        notes = [row["notes"] for row in csv.DictReader(file)]
    assert notes[0] == "" and notes[1].startswith("inverted: ") and notes[2].startswith("blank: ")
    classifier = _classifier(weights)
    (turned,) = classifier.explain(np.ascontiguousarray(np.rot90(chest)))
    assert turned.prediction.notes[0].startswith("turned: ")
    assert "Not like an upright frontal chest radiograph: turned" in turned.caption
    (upright,) = classifier.explain(chest)
    assert upright.prediction.notes == () and not any("Not like" in line for line in upright.caption)


def _classifier(weights):
    from covidcxnet import load_model

    return load_model(str(weights))


@pytest.mark.real
def test_real_lateral_views_are_noted_and_frontal_ones_are_not(weights, real_data):
    classifier = _classifier(weights)
    lateral = classifier.predict(real_data / "reject" / "lateral")
    assert sum(bool(one.notes) for one in lateral) >= 0.8 * len(lateral)
    files = sorted((real_data / "segmentation" / "montgomery" / "images").iterdir())[:60]
    assert sum(bool(one.notes) for one in classifier.predict(files)) <= 2
