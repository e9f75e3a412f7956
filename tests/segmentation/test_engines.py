"""Engines: the same answers as Keras, converted once, and none of Keras' seconds afterwards."""

import errno
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import openvino
import pytest

import weights
from covidcxnet import load_model
from covidcxnet.classifier import PROBABILITIES
from covidcxnet.cli import export as export_command
from covidcxnet.cli import prepare as prepare_command
from covidcxnet.datasets import load
from covidcxnet.datasets.phantom import phantom
from covidcxnet.explain.cam import CAM, GradCAM, facts_of
from covidcxnet.models import create
from covidcxnet.preparation import Store, prepare
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation import LungSegmenter, engines
from segmentation.__main__ import main as segment_command
from segmentation.model import unet
from segmentation.topology import Topology, Unsupported, build, maps_layer, topology_of
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
        ("auto", "f16", "precision: 'f16' given, one of f32, bf16, int8 expected"),
        ("keras", "bf16", "precision: keras computes in f32 here"),
        ("onnxruntime", "int8", "precision: int8 needs openvino, onnxruntime given"),
    ],
)
def test_an_engine_that_is_none_is_refused_before_any_file_is_opened(engine, precision, message):
    with pytest.raises(InputError, match=message):
        load_model("no-such-file", engine=engine, precision=precision)


def test_a_precision_that_only_an_engine_has_is_never_computed_in_another(weights_file, tmp_path, monkeypatch):
    opened = []

    def spy(path, precision):
        opened.append(precision)
        return engines.run_openvino(path)

    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    monkeypatch.setitem(engines.ENGINES, "openvino", replace(engines.ENGINES["openvino"], open=spy))
    load_model(weights_file, precision="bf16")  # no engine named, and none has converted the file
    assert opened == ["f32", "bf16"]  # to compare with Keras, then to predict


def test_an_engine_gives_what_keras_gives_and_later_loads_without_keras(weights_file, home):
    stacks = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 1)).astype(np.uint8)
    expected = load_model(weights_file, engine="keras").predict_stacks(stacks)
    # auto does not convert what was not released
    assert load_model(weights_file).predict_stacks(stacks) == pytest.approx(expected, abs=1e-6)
    assert not (home / "engines").exists()
    classifier = load_model(weights_file, engine="openvino")
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


def test_released_weights_are_converted_at_once_and_explained_without_keras(home, tmp_path):
    """Their topology lies beside them; what it says of them is held against Keras below."""
    image = np.random.default_rng(5).integers(0, 256, (120, 100)).astype(np.uint8)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, numpy as np; from covidcxnet import load_model\n"
        "explained = load_model('covid-cxnet-lite').explain(np.load(sys.argv[1]))[0]\n"
        "np.save(sys.argv[1], [explained.prediction.probabilities['covid19'], *explained.map.ravel()])\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "image.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    probability, *heat = np.load(tmp_path / "image.npy")
    expected = load_model("covid-cxnet-lite", engine="keras").explain(image)[0]
    assert probability == pytest.approx(expected.prediction.probabilities["covid19"], abs=1e-4)
    assert heat == pytest.approx(expected.map.ravel(), abs=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "base-cnn",
        "lung-unet",
        "covid-cxnet-lite",
        pytest.param("lung-unet-lite", marks=pytest.mark.slow),
        pytest.param("covid-cxnet-lite-multiclass", marks=pytest.mark.slow),
        pytest.param("covid-cxnet", marks=pytest.mark.slow),
        pytest.param("covid-cxnet-multiclass", marks=pytest.mark.slow),
    ],
)
def test_the_topology_beside_released_weights_is_that_of_keras(name):
    if weights.manifest.read()[name].kind == "segmenter":
        segmenter = LungSegmenter(name, engine="keras")
        kind, network, facts = segmenter.network_kind, segmenter.with_features(), {}
    else:
        network = load_model(name, engine="keras").model
        kind, facts = PROBABILITIES, facts_of(network)
    known = engines.known_network(weights.open_weights(name).sha256, kind)
    expected = json.loads(json.dumps(engines.describe(network, facts)))
    for answers, computed in zip(known.pop("answers"), expected.pop("answers"), strict=True):
        assert answers == pytest.approx(computed, abs=1e-4)
    # Keras counts its operations' names through a process
    for topology in (known["topology"], expected["topology"]):
        names = {layer["name"]: f"{k} {layer['kind']}" for k, layer in enumerate(topology["layers"])}
        for layer in topology["layers"]:
            layer["name"], layer["inputs"] = names[layer["name"]], [names[name] for name in layer["inputs"]]
        topology["outputs"] = [names[name] for name in topology["outputs"]]
    assert known == expected


def test_every_file_of_ours_that_is_released_has_its_topology():
    ours = {name for name, entry in weights.manifest.read().items() if entry.layout == "keras-3" and not entry.url}
    assert ours and all(engines.topology_path(name).is_file() for name in ours)


NETWORKS = {
    "covid-cxnet": {"blocks": [1, 2], "growth": 4, "channels": 3},
    "small-cnn": {"filters": [4, 6], "channels": 1},
}
HEADS = {
    "average": {"head": "linear"},
    "hidden": {"pool": "average", "hidden": [16, 8], "hidden_activation": "relu"},
    "maximum": {"pool": "max", "hidden": []},
    "both": {"pool": "average+max", "hidden": [4]},
    "flat": {"pool": "flatten", "hidden": [4]},
}


@pytest.mark.parametrize(
    ("name", "head", "classes"),
    [
        ("covid-cxnet", "both", 2),
        ("covid-cxnet", "average", 3),
        ("small-cnn", "hidden", 3),
        ("small-cnn", "maximum", 2),
        ("small-cnn", "flat", 2),
    ],
)
def test_networks_and_their_maps_are_built_for_openvino_as_keras_has_them(name, head, classes):
    keras.utils.set_random_seed(3)
    model = create(name, size=32, classes=[str(k) for k in range(classes)], **NETWORKS[name], **HEADS[head])
    for layer in model.layers:  # batch norms that do something
        if isinstance(layer, keras.layers.BatchNormalization):
            random = np.random.default_rng(1)
            layer.set_weights([random.uniform(0.5, 1.5, values.shape) for values in layer.get_weights()])
    stacks = np.random.default_rng(2).integers(0, 256, (3, *model.input_shape[1:])).astype(np.uint8)
    topology = Topology.from_dict(json.loads(json.dumps(topology_of(model).to_dict())))
    network = openvino.compile_model(build(topology, {layer.name: layer.get_weights() for layer in model.layers}))
    outputs = [np.array(output) for output in network(stacks).values()]
    assert outputs[0] == pytest.approx(np.asarray(model(stacks.astype("float32"), training=False)), abs=1e-5)
    assert len(outputs) == (1 if head == "flat" else 2)
    for target in () if head == "flat" else (0, classes - 1):
        heat = np.maximum(outputs[1][..., target], 0)
        heat /= np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-30)
        layer = maps_layer(topology)
        assert heat == pytest.approx(GradCAM(model, layer).explain(stacks, target).maps, abs=1e-4)
        if head != "both":
            assert heat == pytest.approx(CAM(model).explain(stacks, target).maps, abs=1e-4)


def test_a_topology_that_is_not_known_is_refused_and_keras_writes_the_network_instead(tmp_path, home):
    inputs = keras.Input((8, 8, 1))
    for layer in (keras.layers.Cropping2D(1), keras.layers.Conv2D(2, 3, activation="tanh")):
        with pytest.raises(Unsupported):
            topology_of(keras.Model(inputs, layer(inputs)))
    with pytest.raises(Unsupported):
        topology_of(keras.Model(inputs, keras.ops.add(inputs, np.ones((1, 8, 8, 1), "float32"))))


def test_an_engine_that_differs_is_taken_only_where_it_is_named_and_a_damaged_cache_is_made_again(
    weights_file, tmp_path, monkeypatch
):
    home = tmp_path
    monkeypatch.setenv("COVIDCXNET_HOME", str(home))
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
        (folder / name).unlink()  # the networks above have the file in memory
        (folder / name).write_bytes(content)
        (home / "engines" / f".partial-{folder.name}").mkdir()  # as a killed process leaves it
        assert load_model(weights_file, engine="openvino").predict_stacks(stacks) == pytest.approx(expected, abs=1e-5)
        assert [path.name for path in (home / "engines").iterdir()] == [folder.name]  # and no half of one beside it
    # OpenVINO would take its own cache of compiled networks unchecked
    assert {path.name for path in folder.iterdir()} == {"network.xml", "network.bin", "network.json"}


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


def test_a_full_disk_is_named_and_said_where_keras_predicts_instead(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    monkeypatch.setattr(Path, "write_bytes", full)
    said = []
    monkeypatch.setattr(engines, "announce", said.append)
    with pytest.raises(InputError, match=r"engines/openvino.*cannot keep .*No space left on device"):
        load_model("covid-cxnet-lite", engine="openvino")
    assert not said
    load_model("covid-cxnet-lite")
    assert "No space left on device" in said[0] and said[0].endswith("Keras predicts, slower")


def test_threads_share_a_network(weights_file):
    classifier = load_model(weights_file, engine="openvino")
    stacks = np.random.default_rng(4).integers(0, 256, (8, 96, 96, 1)).astype(np.uint8)
    expected = classifier.predict_stacks(stacks)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(classifier.predict_stacks, [stacks] * 40):
            np.testing.assert_array_equal(found, expected)


def test_threads_that_are_the_first_to_use_a_network_do_not_wait_for_each_other_for_ever(weights_file, home):
    load_model(weights_file, engine="openvino")  # converted from here on, so that no thread has used it before
    code = (
        "import sys, threading, numpy as np; from covidcxnet import load_model\n"
        "sys.setswitchinterval(1e-6)\n"  # threads take turns as often as they can
        "classifier, start = load_model(sys.argv[1], engine='openvino'), threading.Barrier(2)\n"
        "stacks = np.zeros((1, 96, 96, 1), np.uint8)\n"
        "work = lambda: (start.wait(), classifier.predict_stacks(stacks))\n"
        "threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "[t.start() for t in threads], [t.join() for t in threads]"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code, str(weights_file)], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_explanations_are_those_of_keras(weights_file):
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


def test_commands_take_the_engine_of_the_lung_network_and_a_store_is_the_same_by_all(tmp_path, home, capsys):
    _phantoms(tmp_path / "data", 6)
    flags = ["--data", str(tmp_path / "data"), "--input.region", "crop", "--input.size", "64", "--jobs", "1"]
    stores = {}
    for engine in ("keras", "openvino"):
        store = tmp_path / f"{engine}.h5"
        assert prepare_command.main([*flags, "--store", str(store), "--engine", engine]) == 0
        with Store(store) as opened:
            assert opened.table["lungs_trusted"].all()
            stores[engine] = opened.read(slice(None)), dict(opened.about)
    (expected, about), (stacks, others) = stores.values()
    np.testing.assert_array_equal(stacks, expected)
    assert about == others
    rounded = LungSegmenter(engine="openvino", precision="bf16")
    dataset, settings = load(tmp_path / "data"), InputSettings(size=64, region="crop")
    with pytest.raises(InputError, match="precision: bf16 of the lung segmenter given, f32 expected for a store"):
        prepare(dataset, settings, tmp_path / "b.h5", segmenter=rounded)
    prepare(dataset, settings, tmp_path / "b.h5", segmenter=rounded.in_f32(), progress=False).close()
    files = [str(tmp_path / "data" / "normal"), "--out", str(tmp_path / "masks"), "--quiet"]
    folders = len(list(home.rglob("network.onnx")))
    if engines.ENGINES["onnxruntime"].installed:
        assert segment_command(["predict", *files, "--engine", "onnxruntime"]) == 0
        assert len(list(home.rglob("network.onnx"))) == folders + 1
    capsys.readouterr()
    assert segment_command(["predict", *files, "--engine", "keras", "--precision", "bf16"]) == 2
    assert "precision: keras computes in f32 here" in capsys.readouterr().err


def _phantoms(folder, count, start=0):
    for k in range(count):
        label = ("normal", "covid19")[k % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / label / f"{k}.png"), phantom(label, start + k, size=96).image)


def test_a_classifier_is_quantised_measured_on_other_radiographs_and_used_by_its_precision(
    weights_file, tmp_path, capsys
):
    pytest.importorskip("nncf")
    with pytest.raises(InputError, match="no INT8 network was made of it"):
        load_model(weights_file, engine="openvino", precision="int8")
    data, more, out = tmp_path / "data", tmp_path / "more", tmp_path / "small.xml"
    _phantoms(data, 24)
    _phantoms(more, 8, start=100)
    given = ["--weights", str(weights_file), "--format", "openvino", "--precision", "int8"]
    twice = str(data / "normal" / "0.png")
    for flags, message in (
        ([], "--precision: int8 needs --images"),
        (["--images", str(more)], "--precision: int8 needs --data"),
        (["--images", str(more), "--data", str(data), "--out", str(tmp_path / "a.onnx")], "ends in .xml"),
        (["--images", twice, "--data", str(data), "--out", str(tmp_path / "a.xml")], "is the same file as"),
    ):
        assert export_command.main([*given, *flags]) == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.glob("a.*"))
    assert export_command.main([*given, "--images", str(more), "--data", str(data), "--out", str(out)]) == 0
    check = json.loads((tmp_path / "small.xml.json").read_text())["check"]
    assert (check["calibration_images"], check["images"]) == (8, 24) and out.with_suffix(".bin").is_file()
    before, after, change = (check[key]["value"] for key in ("auroc_f32", "auroc_int8", "auroc_difference"))
    assert change == pytest.approx(after - before)
    printed = capsys.readouterr().out
    assert "change of the AUROC" in printed and "not a medical device" in printed
    stacks = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 1)).astype(np.uint8)
    how = [{"engine": "openvino", "precision": precision} for precision in ("f32", "int8")]
    exact, rounded = (load_model(weights_file, **engine).predict_stacks(stacks) for engine in how)
    assert 0 < np.abs(exact - rounded).max() < 0.2
    # another process runs the same network
    sent = pickle.loads(pickle.dumps(load_model(weights_file, **how[1])))
    np.testing.assert_array_equal(sent.predict_stacks(stacks), rounded)
