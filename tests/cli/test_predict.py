"""The commands predict and explain: exit codes, tables, JSON, CSV, pictures."""

import csv
import json
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet import pretrained
from covidcxnet.cli._output import overlay_path, panel_paths, print_json
from covidcxnet.cli.evaluate import build_parser as evaluate_parser
from covidcxnet.cli.figures import build_parser as figures_parser
from covidcxnet.cli.predict import build_parser as explain_parser
from covidcxnet.cli.predict import explain
from covidcxnet.cli.predict import main as predict
from covidcxnet.datasets.phantom import phantom
from covidcxnet.evaluation.provenance import EvaluationSettings
from covidcxnet.models import create
from covidcxnet.prediction import Prediction, draw
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.segmenter import LungSegmenter
from segmentation.verdict import Verdict
from weights import save_weights

pytestmark = pytest.mark.usefixtures("eager", "blank")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a small CNN at 94 x 94, written as training writes them."""
    options = {"size": 94, "channels": 3, "filters": [4, 4, 4, 4, 4], "hidden": [4]}
    metadata = {"kind": "classifier", "architecture": {"name": "small-cnn", "options": options}, "segmenter": {}}
    metadata |= {"classes": ["normal", "covid19"], "input": InputSettings(size=94).to_dict()}
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    return str(save_weights(create("small-cnn", **options), path, metadata))


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Each network is loaded once for all tests, and not once a command; lungs are all that is not of one gray."""

    def lungs(image):
        varied = bool(image.std())
        verdict = Verdict(varied, () if varied else ("no lungs found",))
        return SimpleNamespace(mask=np.full(image.shape, varied), box=None, error=None, verdict=verdict)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LungSegmenter, "predict", lambda self, images: [lungs(image) for image in images])
        patch.setattr(pretrained, "load_model", lru_cache(pretrained.load_model))
        yield


@pytest.fixture
def folder(tmp_path):
    """Three radiographs in a tree, and a file that cannot be read."""
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    for n, name in enumerate(("a.png", "b.jpg", "deep/a.png")):
        cv2.imwrite(str(images / name), np.random.default_rng(n).integers(0, 256, (60, 50 + n)).astype("uint8"))
    (images / "bad.png").write_bytes(b"not an image")
    return images


def test_a_table_has_a_line_a_file_and_damaged_ones_are_reported(folder, weights, capsys):
    (folder / "new\nline.png").write_bytes((folder / "a.png").read_bytes())
    assert predict([str(folder), "--weights", weights, "--batch_size", "2"]) == 1
    head, *lines, doubt, total, notice = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "label", "probability", "lungs"]
    names = ["a.png", "b.jpg", "bad.png", "deep/a.png", "new\\nline.png"]
    assert [line.split("  ")[0].removeprefix(f"{folder}/").strip() for line in lines] == names
    assert [("not read" in line, line.split()[1] in ("normal", "covid19")) for line in lines] == [
        (name == "bad.png", name != "bad.png") for name in names
    ]
    assert "5 radiographs, 1 could not be read" in total and "Research only" in notice
    assert doubt.startswith("(!)") and "4 of 5" in doubt  # too small


def test_json_is_one_object_a_line_and_nothing_else(folder, weights, capsys):
    assert predict([str(folder), "--weights", weights, "--json"]) == 1
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert len(rows) == 4 and "Research only" in captured.err
    (bad,) = (row for row in rows if row["error"])
    assert bad["file"].endswith("bad.png") and bad["label"] is None and bad["probability"] is None
    for row in rows:
        assert {"file", "label", "probability", "probabilities", "lungs", "error"} <= set(row)
        assert row is bad or sum(row["probabilities"].values()) == pytest.approx(1)
    # numbers that are none are null
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": ("x", None, True)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": ["x", None, True]}


def test_a_csv_has_a_probability_column_a_class_and_is_not_overwritten_unasked(folder, weights, tmp_path, capsys):
    target = tmp_path / "out" / "table.csv"
    (folder / "lunge_\udcfc.png").write_bytes((folder / "a.png").read_bytes())
    arguments = [str(folder), "--weights", weights, "--csv", str(target)]
    assert predict(arguments) == 1
    rows = pd.read_csv(target, keep_default_na=False).to_dict("records")
    assert [row["file"] for row in rows][-1] == rf"{folder}/lunge_\udcfc.png"
    good = [row for row in rows if not row["error"]]
    assert len(rows) == 5 and len(good) == 4
    assert all(float(r["probability_normal"]) + float(r["probability_covid19"]) == pytest.approx(1) for r in good)
    assert predict(arguments) == 2 and "exists" in capsys.readouterr().err
    assert predict([*arguments, "--overwrite"]) == 1


def test_explain_writes_a_panel_for_each_file_in_its_tree_and_none_over_another(folder, weights, tmp_path, capsys):
    out = tmp_path / "panels"
    assert explain([str(folder), "--weights", weights, "--out", str(out), "--full_size"]) == 1
    panels = ["a.gradcam", "b.gradcam", "deep/a.gradcam"]
    written = {str(path.relative_to(out)) for path in out.rglob("*.*")}
    assert written == {f"{name}{end}" for name in panels for end in (".png", ".overlay.png")}
    assert cv2.imread(str(out / "b.gradcam.overlay.png")).shape == (60, 51, 3)
    assert str(out / "b.gradcam.png") in capsys.readouterr().out
    files = [str(folder / "a.png"), str(folder / "deep" / "a.png")]
    assert explain([*files, "--weights", weights, "--out", str(tmp_path / "flat")]) == 0
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["a-2.gradcam.png", "a.gradcam.png"]
    long = [(Path("x" * 254 + end), Path("x" * 254 + end)) for end in "12"]  # names of full length
    drawn = {path: overlay_path(path).name for path in panel_paths(long, out, "gradcam").values()}
    assert len(drawn) == len(set(drawn.values())) == 2 and max(map(len, drawn.values())) == 255


def test_predict_can_explain_with_lime(folder, weights, tmp_path, capsys):
    arguments = [str(folder / "a.png"), "--weights", weights, "--explain", "lime", "--out", str(tmp_path / "panels")]
    assert predict([*arguments, "--samples", "30", "--segments", "8", "--target", "normal", "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    panel = tmp_path / "panels" / "a.lime.png"
    expected = {"method": "lime", "target": "normal", "fit": 0, "samples": 30, "panel": str(panel)}
    assert row["explanation"] | {"fit": 0} == expected
    assert panel.exists()


def test_existing_pictures_are_kept_unless_overwrite_is_given_and_radiographs_always(folder, weights, capsys):
    panel = folder / "a.gradcam.png"
    panel.write_bytes(b"mine")
    arguments = [str(folder / "a.png"), "--weights", weights, "--out", str(folder)]
    assert explain(arguments) == 2 and "--overwrite" in capsys.readouterr().err
    assert panel.read_bytes() == b"mine"
    assert explain([*arguments, "--overwrite"]) == 0 and panel.read_bytes() != b"mine"
    before = panel.read_bytes()
    assert explain([str(folder), "--weights", weights, "--out", str(folder), "--overwrite"]) == 2
    assert "one of the radiographs" in capsys.readouterr().err and panel.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--help"),
        (["IMAGES"], "--weights (see"),
        (["IMAGES", "--weights", "W", "--batch_size", "0"], "'0' given, a whole number from 1 expected"),
        (["IMAGES", "--weights", "W", "--explain", "x"], "one of gradcam, cam, lime expected"),
        (["nothing.png", "--weights", "W", "--explain", "gradcam"], "nothing.png"),
        (["IMAGES/bad.png", "--weights", "missing.weights.h5", "--explain", "cam"], "bad.png: is not an image"),
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
    arguments = [a.replace("IMAGES", str(folder)) if a != "W" else weights for a in arguments]
    assert predict([*arguments, "--out", str(tmp_path / "panels")]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and len(error.strip().splitlines()) == 1


def test_every_command_that_draws_lime_takes_the_same_numbers_of_samples():
    lines = {
        "--samples": (explain_parser("explain", ""), ["a.png", "--weights", "W"]),
        "--lime-samples": (evaluate_parser("evaluate"), ["W"]),
        "--lime-samples ": (figures_parser("figures"), ["W", "--out", "O"]),
    }
    for flag, (parser, line) in lines.items():
        name = flag.strip()
        for text, value in (("auto", "auto"), ("30", 30)):
            assert vars(parser.parse_args([*line, name, text]))[name[2:].replace("-", "_")] == value
        with pytest.raises(InputError, match="'5' given, auto or a whole number from 10 to 100000 expected"):
            parser.parse_args([*line, name, "5"])
    with pytest.raises(InputError, match="LIME: samples=5 given, auto or 10 or more expected"):
        EvaluationSettings(lime_samples=5)
    assert EvaluationSettings(lime_samples="auto").lime_samples == "auto"


def test_what_is_no_upright_frontal_radiograph_is_noted_in_table_csv_and_picture(weights, tmp_path, capsys):
    chest = phantom("normal", 3, 128).image
    (tmp_path / "views").mkdir()
    for name, pixels in {"a": chest, "b": 255 - chest, "c": np.full((90, 90), 7, np.uint8)}.items():
        cv2.imwrite(str(tmp_path / "views" / f"{name}.png"), pixels)
    table = tmp_path / "table.csv"
    assert predict([str(tmp_path / "views"), "--weights", weights, "--csv", str(table)]) == 0
    out = capsys.readouterr().out.splitlines()
    note = "  image: "
    assert note not in out[1] and out[2].endswith(f"{note}inverted") and out[3].endswith(f"{note}blank")
    assert ["(!)" in line for line in out[1:5]] == [False, True, True, True] and "2 of 3" in out[4]
    assert "3 radiographs, 0 could not be read; 2 do not look like" in out[5]
    with open(table, newline="") as file:
        notes = [row["notes"] for row in csv.DictReader(file)]
    assert notes[0] == "" and notes[1].startswith("inverted: ") and notes[2].startswith("blank: ")
    assert "; lungs: not trusted, no lungs found" in notes[2]
    turned, upright = pretrained.load_model(weights).explain([np.ascontiguousarray(np.rot90(chest)), chest])
    assert turned.prediction.notes[0].startswith("turned: ") and " (!), probability" in turned.caption[0]
    assert "Image in doubt: turned" in turned.caption
    assert ["(!)" in result.prediction._repr_html_() for result in (turned, upright)] == [True, False]
    assert upright.prediction.notes == () and not any("Image in doubt" in line for line in upright.caption)


def test_a_figure_has_all_probabilities_of_each_radiograph_and_the_thresholds_of_findings(
    weights, folder, tmp_path, capsys
):
    out = tmp_path / "bars.png"
    assert predict([str(folder), "--weights", weights, "--figure", str(out)], "predict") == 1
    assert out.read_bytes().startswith(b"\x89PNG") and "3 of 4 radiographs drawn" in capsys.readouterr().out
    assert predict([str(folder), "--weights", weights, "--figure", str(out)], "predict") == 2
    assert predict([str(folder), "--weights", weights, "--figure", str(tmp_path / "x.txt")], "predict") == 2
    error = capsys.readouterr().err
    assert "bars.png: exists" in error and ".png or .svg expected" in error
    row, limits = np.array([0.9, 0.2, 0.4]), np.array([0.5, 0.5, 0.3])
    findings = Prediction.from_row(row, ("mass", "edema", "hernia"), limits, path=folder / "a.png")
    figure = draw([findings], {"mass": 0.5, "edema": 0.5, "hernia": 0.3})
    _, bars = figure.axes
    assert [bar.get_width() for bar in bars.patches] == row.tolist() and bars.get_title() == "mass|hernia"
    assert [float(line.get_xdata()[0]) for line in bars.lines] == limits.tolist()
    assert bars.patches[0].get_facecolor() == bars.patches[2].get_facecolor() != bars.patches[1].get_facecolor()
