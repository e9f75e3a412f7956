"""`covidcxnet benchmark`: each engine that is here, measured beside Keras; those that cannot run are named."""

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import cv2
import pytest

from covidcxnet.cli import benchmark
from covidcxnet.datasets.phantom import phantom
from covidcxnet.models import create
from enhancement.errors import InputError
from segmentation.model import unet
from weights import save_weights

OPTIONS = {"filters": [4, 8], "hidden": [8]}


@contextmanager
def in_this_process(workers, context):
    def submit(function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except InputError as error:
            future.set_exception(error)
        return future

    yield type("Pool", (), {"submit": staticmethod(submit)})


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Weights of a small classifier that names a small lung network, and four radiographs."""
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COVIDCXNET_ENGINE", raising=False)
    lungs = {"kind": "segmenter", "conventions": ["lung_field"], "input": {"size": 32}}
    lungs["architecture"] = {"name": "unet", "options": {"width": 2, "scaling": "unit"}}
    segmenter = save_weights(unet(2, size=32, scaling="unit"), tmp_path / "lungs.weights.h5", lungs)
    settings = {"size": 96, "channels": ["raw"], "segmenter": str(segmenter)}
    metadata = {"kind": "classifier", "classes": ["normal", "covid19"], "input": settings}
    metadata["architecture"] = {"name": "small-cnn", "options": {"size": 96, "channels": 1, **OPTIONS}}
    model = create("small-cnn", size=96, channels=1, classes=["normal", "covid19"], **OPTIONS)
    for k, label in enumerate(("normal", "covid19") * 2):
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / label / f"{k}.png"), phantom(label, k, size=96).image)
    return save_weights(model, tmp_path / "tiny.weights.h5", metadata)


@pytest.mark.usefixtures("eager")
def test_engines_are_set_against_keras_on_stacks_and_files_and_one_that_cannot_run_is_named(
    tiny, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", in_this_process)
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    out, images = tmp_path / "figures.json", str(tmp_path / "images")
    command = [str(tiny), "--batch", "2", "--rounds", "1", "--images", images, "--most", "2", "--json", str(out)]
    assert benchmark.main(command) == 0
    printed = capsys.readouterr()
    assert "openvino, int8: left out; " in printed.err and "no INT8 network was made of it" in printed.err
    facts = json.loads(out.read_text())
    rows = {row["engine"]: row for row in facts["rows"] if row["precision"] == "f32"}
    assert rows["keras"]["largest_difference"] == 0 <= rows["openvino"]["largest_difference"] < 1e-5
    for row in rows.values():
        assert set(row["images_per_second"]) == {"1", "2"} and row["load_seconds"] > 0 and "auroc" not in row
        way = row["whole_way"]
        assert way["images"] == 2 and way["images_per_second"] > 0 and way["networks_alone_images_per_second"] > 0
        assert f"{way['share_of_networks_alone']:.0%}" in printed.out
    # what was converted for the measurement is taken from then on
    assert facts["default"] == {"engine": "openvino", "precision": "f32"}
    assert "From 2 files to probabilities:" in printed.out
    keras, default = (rows[facts[name]["engine"]]["images_per_second"]["2"] for name in ("reference", "default"))
    assert "openvino (default)  openvino / keras" in printed.out
    (line,) = [line.split() for line in printed.out.splitlines() if line.startswith("images/s, batch 2")]
    assert line[-3:] == [f"{keras:.1f}", f"{default:.1f}", f"{default / keras:.2f}"]
    assert benchmark.main([str(tiny), "--batch", "1", "--rounds", "1", "--data", images, "--json", str(out)]) == 0
    assert "AUROC" in capsys.readouterr().out and "AUROC" not in printed.out
    for row in json.loads(out.read_text())["rows"]:
        assert 0 <= row["auroc"] <= 1 and row["auroc_change"] == 0 and row["whole_way"]["images"] == 4
    assert benchmark.main(["no-such-weights"]) == 2


@pytest.mark.usefixtures("eager")
def test_data_of_a_single_class_have_no_auroc_and_say_so(tiny, tmp_path):
    table = tmp_path / "one.csv"
    table.write_text("path,label\nimages/normal/0.png,normal\nimages/normal/2.png,normal\n")
    data = {"data": str(table), "root": None, "where": {}, "store": tmp_path / "stacks.h5"}
    with pytest.raises(InputError, match=r"--data: .*one\.csv has no images both with and without a class"):
        benchmark.auroc(str(tiny), "keras", "f32", str(tmp_path), data)


@pytest.mark.usefixtures("eager")
def test_an_engine_whose_process_is_killed_is_left_out_and_named(tiny, capsys, monkeypatch):
    @contextmanager
    def pool(workers, context):
        with in_this_process(workers, context) as process:

            def submit(function, *arguments):
                if function is benchmark.measure and arguments[1] == "openvino":
                    future = Future()
                    future.set_exception(BrokenProcessPool("terminated abruptly"))
                    return future
                return process.submit(function, *arguments)

            yield type("Pool", (), {"submit": staticmethod(submit)})

    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    assert benchmark.main([str(tiny), "--batch", "2", "--rounds", "1"]) == 0
    assert "openvino, f32: left out; " in (printed := capsys.readouterr()).err and "for want of memory" in printed.err
    assert "keras" in printed.out
