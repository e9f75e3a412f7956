"""Engines: the same answers as Keras, converted once, and none of Keras' seconds afterwards."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from covidcxnet import load_model
from covidcxnet.models import create
from enhancement.errors import InputError
from segmentation import LungSegmenter, engines
from segmentation.model import unet
from weights import save_weights

INPUT = {"size": 96, "channels": ["raw"], "region": "none"}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVIDCXNET_HOME", str(folder))
        patch.delenv(engines.VARIABLE, raising=False)
        yield folder


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    options = {"filters": [4, 8], "hidden": [8]}
    model = create("small-cnn", size=96, channels=1, classes=["normal", "covid19"], **options)
    architecture = {"name": "small-cnn", "options": {"size": 96, "channels": 1, **options}}
    metadata = {"kind": "classifier", "architecture": architecture, "classes": ["normal", "covid19"], "input": INPUT}
    return save_weights(model, tmp_path_factory.mktemp("weights") / "tiny.weights.h5", metadata)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onxx", "f32", "engine: 'onxx' given, one of auto, keras, openvino, onnxruntime expected"),
        ("auto", "f16", "precision: 'f16' given, one of f32, bf16 expected"),
        ("keras", "bf16", "precision: keras computes in f32 here"),
    ],
)
def test_an_engine_that_is_none_is_refused_before_any_file_is_opened(engine, precision, message):
    with pytest.raises(InputError, match=message):
        load_model("no-such-file", engine=engine, precision=precision)


def test_an_engine_gives_what_keras_gives_and_later_loads_without_keras(weights_file, home, monkeypatch):
    stacks = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 1)).astype(np.uint8)
    expected = load_model(weights_file, engine="keras").predict_stacks(stacks)
    # auto does not convert what was not released
    assert load_model(weights_file).predict_stacks(stacks) == pytest.approx(expected, abs=1e-6)
    assert not (home / "engines").exists()
    # released weights are converted when they are asked to be, with their lung segmenter
    lungs = []
    classifier = load_model(weights_file).with_segmenter(SimpleNamespace(convert_once=lambda: lungs.append(1)))
    monkeypatch.setattr("covidcxnet.classifier.is_released", lambda digest: True)
    classifier.convert_once()
    assert lungs == [1] and len(list((home / "engines").iterdir())) == 1
    classifier = load_model(weights_file)
    assert classifier.predict_stacks(stacks) == pytest.approx(expected, abs=engines.EXACT)
    assert classifier.parameters == classifier.model.count_params()
    (folder,) = (home / "engines").iterdir()
    assert json.loads((folder / "network.json").read_text())["difference"] <= engines.EXACT
    # what was converted once is taken by auto, in a process that never loads Keras
    np.save(home / "stacks.npy", stacks)
    code = (
        "import sys, numpy as np; from covidcxnet import load_model\n"
        "classifier = load_model(sys.argv[1])\n"
        "print(classifier.predict_stacks(np.load(sys.argv[2]))[:, 1].tolist(), classifier._repr_html_()[:1])\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(weights_file), str(home / "stacks.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.split("]")[0] + "]") == pytest.approx(expected[:, 1].tolist(), abs=engines.EXACT)


def test_an_engine_that_differs_is_taken_only_where_it_is_named_and_a_damaged_cache_is_made_again(
    weights_file, home, monkeypatch
):
    stacks = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 1)).astype(np.uint8)
    expected = load_model(weights_file, engine="keras").predict_stacks(stacks)
    load_model(weights_file, engine="openvino")
    (folder,) = (home / "engines").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(engines, "EXACT", -1.0)
        patch.setattr(engines.Network, "__call__", lambda self, stacks: pytest.fail("not exact, and not named"))
        assert load_model(weights_file).predict_stacks(stacks) == pytest.approx(expected, abs=1e-6)
        patch.setattr(engines, "WRONG", -1.0)
        with pytest.raises(InputError, match="engine: openvino differs from Keras by"):
            load_model(weights_file, engine="openvino")

    # OpenVINO itself reads weights that were changed and computes with them
    binary = (folder / "network.bin").read_bytes()
    for name, content in {"network.xml": b"<net", "network.bin": bytes(len(binary)), "network.json": b"5"}.items():
        shutil.rmtree(folder / "compiled", ignore_errors=True)
        (folder / name).unlink()  # the networks above have the file in memory
        (folder / name).write_bytes(content)
        (home / "engines" / f".partial-{folder.name}").mkdir()  # as a killed process leaves it
        assert load_model(weights_file, engine="openvino").predict_stacks(stacks) == pytest.approx(expected, abs=1e-5)
        assert [path.name for path in (home / "engines").iterdir()] == [folder.name]  # and no half of one beside it


def test_a_cache_that_cannot_be_written_is_named_and_keras_predicts_where_no_engine_is(
    weights_file, tmp_path, monkeypatch
):
    (tmp_path / "engines").write_text("a file")
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"engines/openvino.*cannot keep .* COVIDCXNET_HOME names another folder"):
        load_model(weights_file, engine="openvino")
    assert load_model(weights_file).predict_stacks(np.zeros((1, 96, 96, 1), np.uint8)).shape == (1, 2)
    monkeypatch.setenv(engines.VARIABLE, "tpu")
    with pytest.raises(InputError, match="COVIDCXNET_ENGINE: 'tpu' given"):
        load_model(weights_file)


def test_threads_share_a_network(weights_file):
    classifier = load_model(weights_file, engine="openvino")
    stacks = np.random.default_rng(4).integers(0, 256, (8, 96, 96, 1)).astype(np.uint8)
    expected = classifier.predict_stacks(stacks)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(classifier.predict_stacks, [stacks] * 40):
            np.testing.assert_array_equal(found, expected)


def test_explanations_build_the_keras_network_of_the_same_weights(weights_file):
    stacks = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 1)).astype(np.uint8)
    expected, explained = (load_model(weights_file, engine=e).gradcam.explain(stacks) for e in ("keras", "openvino"))
    assert explained.maps == pytest.approx(expected.maps, abs=1e-6)


def test_a_lung_segmenter_on_an_engine_finds_the_same_lungs(tmp_path, home):
    metadata = {"kind": "segmenter", "conventions": ["lung_field"], "input": {"size": 32}}
    metadata["architecture"] = {"name": "unet", "options": {"width": 2, "scaling": "unit"}}
    path = save_weights(unet(2, size=32, scaling="unit"), tmp_path / "lungs.weights.h5", metadata)
    before = len(list(home.rglob("network.xml")))
    image = np.random.default_rng(2).integers(0, 256, (60, 50)).astype(np.uint8)
    (expected,), (found,) = (LungSegmenter(path, engine=e).predict(image) for e in ("keras", "openvino"))
    assert found.probability == pytest.approx(expected.probability, abs=engines.EXACT)
    assert len(list(home.rglob("network.xml"))) == before + 1
