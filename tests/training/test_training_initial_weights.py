"""`--init`: what is taken over from which file, what is said about it, and what is refused."""

import dataclasses

import numpy as np
import pytest
from keras2_files import densenet_layers, keras2_file

from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe
from covidcxnet.training.checkpoint import published_name
from covidcxnet.training.initial_weights import brought_options, build_model, initialise, model_options
from enhancement.errors import InputError
from enhancement.parallel import sha256
from weights import manifest
from weights.format import save_weights

CLASSES = ("normal", "covid19")
DENSE = {"blocks": (1, 1), "growth": 4}


def metadata(name, classes=CLASSES, **options):
    return {
        "kind": "classifier",
        "architecture": {"name": name, "options": options},
        "classes": list(classes),
        "input": {},
    }


def small(classes=CLASSES, size=32, channels=3, **options):
    options = {"filters": [4, 4], **options}
    model = create("small-cnn", size=size, channels=channels, classes=classes, **options)
    return model, metadata("small-cnn", classes, size=size, channels=channels, **options)


def saved(folder, *arguments, **options):
    model, facts = small(*arguments, **options)
    return model, str(save_weights(model, folder / "source.weights.h5", facts))


def same(one, other, layer):
    pairs = zip(one.get_layer(layer).get_weights(), other.get_layer(layer).get_weights(), strict=True)
    return all(a.shape == b.shape and (a == b).all() for a, b in pairs)


@pytest.mark.parametrize(
    ("changes", "taken", "text", "fresh"),
    [
        ({}, ("conv1", "conv2", "fc", "pred"), "6 of 6 layers", ""),
        ({"classes": ("normal", "pneumonia")}, ("conv1", "conv2", "fc"), "random: pred", "pred"),
        ({"size": 40}, ("conv1", "conv2", "pred"), "random: fc", "fc"),
    ],
)
def test_our_own_file_is_taken_over_as_far_as_labels_and_size_are_the_same(tmp_path, changes, taken, text, fresh):
    source, path = saved(tmp_path)
    model = small(**changes)[0]
    before = model.get_layer(fresh).get_weights() if fresh else []
    assert "random" in initialise(model, "random", CLASSES)
    said = initialise(model, path, changes.get("classes", CLASSES))
    assert text in said and ("random" in said) == bool(fresh)
    assert all(same(source, model, layer) for layer in taken)
    assert all((a == b).all() for a, b in zip(before, model.get_layer(fresh).get_weights())) if fresh else True


def test_a_file_of_another_backbone_is_refused_and_nothing_is_set(tmp_path):
    layers = dict(densenet_layers(**DENSE, heads=()))
    del layers["bn"]
    old, ours = str(keras2_file(tmp_path / "old.h5", layers.items())), saved(tmp_path)[1]
    dense = create("covid-cxnet", size=32, **DENSE)
    for path, model, word in (
        (ours, small(channels=1)[0], "conv1"),
        (ours, dense, "small-cnn"),
        (old, dense, "old.h5"),
    ):
        before = model.get_weights()
        with pytest.raises(InputError, match=word):
            initialise(model, path, CLASSES)
        assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_legacy_densenet_loads_by_position_without_its_14_class_head(tmp_path):
    model, layers = create("covid-cxnet", size=32, **DENSE), densenet_layers(**DENSE)
    text = initialise(model, str(keras2_file(tmp_path / "old.hdf5", layers, split=True)), CLASSES)
    weighted = [layer for layer in model.layers if layer.weights and layer.name not in ("fc", "pred")]
    for layer, arrays in zip(weighted, [arrays for _, arrays in layers if arrays], strict=False):
        for loaded, (_, expected) in zip(layer.get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(loaded, expected)
    assert "random: fc, pred" in text


def test_chexnet_is_verified_and_where_it_is_missing_one_line_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    monkeypatch.setenv("COVIDCXNET_OFFLINE", "1")
    model = create("covid-cxnet", size=32, **DENSE)
    with pytest.raises(InputError, match=r"CheXNet_v0\.3\.0\.h5.*put it at") as error:
        initialise(model, "chexnet", CLASSES)
    assert str(tmp_path / "weights") in str(error.value) and "https://" in str(error.value)
    (tmp_path / "weights").mkdir()
    path = keras2_file(tmp_path / "weights" / "CheXNet_v0.3.0.h5", densenet_layers(**DENSE))
    with pytest.raises(InputError, match="git blob id"):
        initialise(model, "chexnet", CLASSES)
    entries = manifest.read()
    entries["chexnet"] = dataclasses.replace(entries["chexnet"], git_blob=manifest.git_blob_id(path))
    monkeypatch.setattr(manifest, "PATH", manifest.write(entries, tmp_path / "manifest.json"))
    assert "random: fc, pred" in initialise(model, "chexnet", CLASSES)


def test_a_run_remembers_the_scaling_that_its_initial_weights_were_trained_with(tmp_path):
    assert brought_options("random", "covid-cxnet") == brought_options("imagenet", "base-cnn") == {}
    assert brought_options("chexnet", "covid-cxnet") == {"normalization": "imagenet", "final_relu": False}
    assert brought_options("covid-cxnet-chexnet", "covid-cxnet") == {"normalization": "unit", "final_relu": True}
    assert brought_options("imagenet", "covid-cxnet") == {"normalization": "imagenet", "final_relu": True}
    path = saved(tmp_path, normalization="symmetric")[1]
    recipe = Recipe(
        model="small-cnn", init=path, input=InputSettings(size=32), options={"filters": [4, 4]}, classes=CLASSES
    )
    options = model_options(recipe)
    _, text = build_model(recipe, options, path)
    assert options["normalization"] == "symmetric" and "6 of 6 layers" in text
    (tmp_path / "source.weights.h5").unlink()
    assert model_options(recipe, options) == options
    assert build_model(recipe, options, "")[1] == "weights of the run"
    with pytest.raises(InputError, match="no such weights file"):
        model_options(recipe)


def test_weights_tell_where_they_began_by_content_and_not_by_a_path_of_the_machine(tmp_path):
    path = tmp_path / "start.weights.h5"
    save_weights(small()[0], path, {"kind": "classifier"})
    assert published_name(str(path)) == f"start.weights.h5, SHA-256 {sha256(path)}"
    path.unlink()
    assert published_name(str(path)) == "start.weights.h5"
    assert published_name("chexnet") == "chexnet"
