"""The examples run, offline, and write what they say; each is short enough to be read."""

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidcxnet import load_model
from covidcxnet.datasets import make_phantoms
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.model import unet
from weights.format import save_weights

pytestmark = pytest.mark.usefixtures("eager", "coarse")
ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OPTIONS = {"size": 32, "channels": 2, "filters": [4, 4], "hidden": [4]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    # Without a segmenter of that name there are no lungs to look for.
    settings = InputSettings(size=32, channels=("raw", "clahe"), segmenter="none-here")
    architecture = {"name": "small-cnn", "options": OPTIONS}
    metadata = {"kind": "classifier", "architecture": architecture, "classes": ["normal", "covid19"]}
    path = tmp_path_factory.mktemp("w") / "tiny.weights.h5"
    return save_weights(create("small-cnn", **OPTIONS), path, metadata | {"input": settings.to_dict()})


@pytest.fixture(scope="module")
def lungs(tmp_path_factory):
    facts = {"kind": "segmenter", "conventions": ["lung_field"], "input": {"size": 32}}
    facts["architecture"] = {"name": "unet", "options": {"width": 2, "scaling": "unit"}}
    return save_weights(unet(2, size=32, scaling="unit"), tmp_path_factory.mktemp("w") / "lungs.weights.h5", facts)


@pytest.fixture
def images(tmp_path):
    """Two radiographs of one name in two folders, and a file that is none."""
    folder = tmp_path / "images"
    for number in range(2):
        (folder / str(number)).mkdir(parents=True)
        image = np.random.default_rng(number).integers(0, 256, (40, 48)).astype("uint8")
        cv2.imwrite(str(folder / str(number) / "a.png"), image)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def _run(name, *arguments):
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]([str(argument) for argument in arguments])


def _rows(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_first_prediction_draws_a_picture_and_refuses_what_is_no_radiograph(weights, images, tmp_path, capsys):
    out = tmp_path / "first.png"
    with pytest.raises(SystemExit, match=r"broken\.png"):
        _run("first_prediction", images / "broken.png", "--weights", weights, "--out", out)
    assert not out.exists()
    _run("first_prediction", images / "0" / "a.png", "--weights", weights, "--out", out)
    assert cv2.imread(str(out)).std() > 1
    text = capsys.readouterr().out
    assert "normal " in text and "covid19 " in text and "Grad-CAM for" in text


def test_probabilities_have_a_row_for_each_file(weights, images, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert _run("export_probabilities", images, "--weights", weights, "--out", out) == 1
    rows = _rows(out)
    assert [Path(row["file"]).name for row in rows] == ["a.png", "a.png", "broken.png"]
    (expected,) = load_model(weights).predict(images / "1" / "a.png")
    assert rows[1]["label"] == expected.label
    assert float(rows[1]["probability_covid19"]) == pytest.approx(expected.probabilities["covid19"], abs=1e-5)
    assert rows[2]["error"] and not rows[2]["label"]
    assert "1 could not be read" in capsys.readouterr().out


def test_lungs_are_written_as_masks_outlines_and_areas_never_over_each_other(lungs, images, tmp_path):
    out = tmp_path / "lungs"
    with pytest.raises(InputError, match="would share one mask"):
        _run("segment_lungs", images / "0", images / "1", "--weights", lungs, "--out", out)
    assert not out.exists()
    assert _run("segment_lungs", images, "--weights", lungs, "--out", out) == 1
    rows = _rows(out / "lungs.csv")
    assert len(rows) == 3 and rows[2]["error"]
    for row, name in zip(rows[:2], ("0/a.png.png", "1/a.png.png"), strict=True):
        mask = cv2.imread(str(out / "masks" / name), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (40, 48) and set(np.unique(mask)) <= {0, 255}
        assert int(row["lung_pixels"]) == (mask == 255).sum()
        assert float(row["lung_fraction"]) == pytest.approx((mask == 255).mean(), abs=1e-4)
        assert row["trusted"] in ("True", "False")
        assert cv2.imread(str(out / "outlines" / name)).shape == (40, 48, 3)


def test_fine_tuning_starts_from_the_weights_with_their_input_settings(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_phantoms(tmp_path / "data", 24, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    data, out = tmp_path / "data" / "phantom.csv", tmp_path / "run"
    _run("fine_tuning", "--data", data, "--weights", weights, "--trainable", "all", "--epochs", 1, "--out", out)
    tuned, origin = load_model(out), load_model(weights)
    assert tuned.input == origin.input and tuned.classes == origin.classes
    pairs = list(zip(tuned.model.get_weights(), origin.model.get_weights(), strict=True))
    assert any((a != b).any() for a, b in pairs)
    # a step of 1e-4 in a few batches: these are the old weights, moved a little
    assert all(np.abs(a - b).max() < 0.05 for a, b in pairs if a.ndim > 1)
    assert "evaluate.py" in capsys.readouterr().out
    table = data.read_text().replace("patient", "ward", 1)
    data.write_text(table)
    with pytest.raises(InputError, match="split_by"):  # patients are unknown
        _run("fine_tuning", "--data", data, "--weights", weights, "--epochs", 1, "--out", out / "b")


def test_a_fresh_process_shows_none_of_the_notices_of_tensorflow(weights, images, tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "first_prediction.py"), str(images / "0" / "a.png")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    command += ["--weights", str(weights), "--out", str(tmp_path / "first.png")]
    done = subprocess.run(command, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "first.png").is_file()


def test_an_example_runs_as_a_script_gives_one_line_for_unknown_weights_and_is_in_the_readme(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "first_prediction.py"), "--weights", "no-such-weights"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "no-such-weights" in done.stderr and "Traceback" not in done.stderr
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert EXAMPLES and all(path.name in readme for path in EXAMPLES)
