"""Damaged and crafted HDF5 files: an `InputError`, no partly loaded model, no other file read, no memory taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from keras2_files import base_layers, keras2_file

import covidcxnet
from enhancement.errors import InputError
from weights.format import load_weights, open_weights, save_weights


@pytest.fixture
def small(classifier):
    """A model of the file's architecture, its weights put back afterwards."""
    before = classifier.get_weights()
    yield classifier
    classifier.set_weights(before)


@pytest.fixture
def path(classifier_file, tmp_path):
    return Path(shutil.copy(classifier_file, tmp_path / "crafted.weights.h5"))


@pytest.fixture
def legacy(tmp_path):
    """A base CNN of weights alone, 65 x 65 x 1."""
    return keras2_file(tmp_path / "crafted.hdf5", base_layers(65, 1, filters=2))


def craft(path, array, how):
    """Damage one array of a file, or something beside it."""
    elsewhere = path.parent / "elsewhere.h5"
    with h5py.File(path, "r+") as file:
        item = file[array]
        shape, content = item.shape, item[()]
        if how.startswith("beside"):
            pass
        elif how == "group instead of array":
            del file[array]
            file.create_group(array)
        elif how == "absurd size in place":
            del file[array]
            file.create_dataset(array, (10**6, 10**6), "float32", chunks=(1000, 1000))
        else:
            del file[array]
        if how == "external link":
            with h5py.File(elsewhere, "w") as other:
                other["x"] = content
            file[array] = h5py.ExternalLink("elsewhere.h5", "x")
        if how == "soft link":
            file["moved"] = content
            file[array] = h5py.SoftLink("/moved")
        if how == "virtual":
            with h5py.File(elsewhere, "w") as other:
                other["x"] = content
            layout = h5py.VirtualLayout(shape, "float32")
            layout[...] = h5py.VirtualSource("elsewhere.h5", "x", shape)
            file.create_virtual_dataset(array, layout)
        if how == "external storage":
            (path.parent / "raw.bin").write_bytes(content.tobytes())
            raw = [(str(path.parent / "raw.bin"), 0, content.nbytes)]
            file.create_dataset(array, shape, "float32", external=raw)
        if how == "words":
            file[array] = "words"
        if how == "objects":
            file.create_dataset(array, shape, h5py.ref_dtype)
        if how == "another shape":
            file[array] = np.zeros((*shape, 1), "float32")
        if how == "bomb":
            file.create_dataset(array, (20_000, 20_000), "float32", fillvalue=0, chunks=True, compression="gzip")
        if how == "one huge chunk":  # the library unpacks all of it to read one number
            chunks, most = (750,) * len(shape[:2]) + shape[2:], (None,) * len(shape)
            file.create_dataset(array, data=content, chunks=chunks, maxshape=most, compression="gzip")
        if how == "not finite":
            file[array] = np.full(shape, np.nan, "float32")
        if how == "beside: external link":
            file["extra"] = h5py.ExternalLink("/etc/hostname", "/")
        if how == "beside: strange link":
            file["a strange link"] = h5py.ExternalLink("elsewhere.h5", "x")
        if how == "beside: ring":
            file["extra/again"] = file["/"]
        if how == "beside: words":
            file["extra"] = "words"
        if how == "beside: deep":
            file["/".join("a" * 60)] = np.zeros(1, "float32")
        if how == "beside: many attributes":  # the time to read them grows with their square
            for number in range(101):
                file[array].attrs[f"a{number}"] = 1
        if how.startswith("beside: attribute"):
            at = {"file": file["/"], "group": file[array].parent, "array": file[array]}[how.rpartition(" ")[2]]
            lists = np.empty(1, object)
            lists[0] = np.arange(3, dtype="int32")
            at.attrs.create("lists", lists, dtype=h5py.vlen_dtype("int32"))
    if how == "beside: strange link":  # of a kind that no library knows
        crafted = bytearray(path.read_bytes())
        at = crafted.index(b"a strange link")
        crafted[crafted.rindex(h5py.h5l.TYPE_EXTERNAL, at - 8, at)] += 1
        path.write_bytes(crafted)


WAYS = """missing; group instead of array; absurd size in place; external link; soft link; virtual; external storage
words; objects; another shape; bomb; one huge chunk; not finite; beside: external link; beside: ring; beside: words
beside: strange link; beside: deep; beside: many attributes; beside: attribute of file; beside: attribute of group
beside: attribute of array""".replace("\n", "; ").split("; ")


@pytest.mark.parametrize("how", WAYS)
def test_a_crafted_file_of_ours_is_refused_and_the_model_keeps_its_weights(path, small, how):
    craft(path, "layers/conv2d_1/vars/0", how)
    before = small.get_weights()
    for load in (lambda path: load_weights(small, path), covidcxnet.load_model):
        with pytest.raises(InputError, match="crafted") as error:
            load(path)
        assert "\n" not in str(error.value)
    assert all((a == b).all() for a, b in zip(before, small.get_weights(), strict=True))


@pytest.mark.parametrize("layer", ["conv2d_1", "dense"])
def test_arrays_of_the_right_shapes_under_another_name_leave_the_model_as_it_was(path, small, layer):
    with h5py.File(path, "r+") as file:
        file.move(f"layers/{layer}", "layers/elsewhere")
    before = small.get_weights()
    with pytest.raises(InputError, match="crafted"):
        load_weights(small, path)
    assert all((a == b).all() for a, b in zip(before, small.get_weights(), strict=True))


@pytest.mark.parametrize("how", WAYS)
def test_a_crafted_legacy_file_is_refused(legacy, how):
    craft(legacy, "conv_layer2/conv_layer2/kernel:0", how)
    with pytest.raises(InputError, match="crafted"):
        covidcxnet.load_legacy(legacy, size=65)


@pytest.mark.parametrize("share", [0, 10, 100, 500, 900, 999])
def test_a_truncated_file_is_refused(path, legacy, share):
    for file, load in ((path, covidcxnet.load_model), (legacy, lambda p: covidcxnet.load_legacy(p, size=65))):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * share // 1000])
        with pytest.raises(InputError, match="crafted"):
            load(file)


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_overwritten_bytes_loads_or_is_refused_but_nothing_else(path, legacy, seed):
    generator = np.random.default_rng(seed)
    for file, load in ((path, covidcxnet.load_model), (legacy, open_weights)):
        content = bytearray(file.read_bytes())
        for at in generator.integers(0, min(len(content), 6000), 8):
            content[at] = generator.integers(0, 256)
        file.write_bytes(content)
        try:
            load(file)
        except InputError as error:
            assert "crafted" in str(error)


def test_a_whole_model_that_names_code_is_loaded_as_numbers_alone(legacy):
    config = {"class_name": "Lambda", "config": {"layers": [{"class_name": "os.system", "config": {"name": "true"}}]}}
    with h5py.File(legacy, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    assert covidcxnet.load_legacy(legacy, size=65).classes == ("normal", "covid19")


@pytest.mark.parametrize("attribute", ["layer_names", "weight_names"])
@pytest.mark.parametrize(
    "names", [["none"], ["../fc_layer1"], ["/fc_layer1"], [""], [b"\xff"], 7, "fc_layer1", [["fc_layer1"]]]
)
def test_strange_lists_of_names_are_refused(legacy, attribute, names):
    with h5py.File(legacy, "r+") as file:
        (file if attribute == "layer_names" else file["conv_layer2"]).attrs[attribute] = names
    with pytest.raises(InputError, match="crafted"):
        covidcxnet.load_legacy(legacy, size=65)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model_weights", h5py.ExternalLink("elsewhere.h5", "/"), r"another file \(elsewhere\.h5\)"),
        ("conv_layer1/conv_layer1/kernel:0", np.zeros((5, 5, 3, 0), "float32"), r"crafted\.hdf5: .*holds nothing"),
        (
            "layer_names",
            np.array([b"fc_layer1"] * 5_000),
            "names arrays more than once",
        ),  # takes no memory
    ],
)
def test_a_legacy_file_with_a_linked_group_arrays_of_nothing_or_endless_names_is_refused(
    legacy, name, content, message
):
    with h5py.File(legacy, "r+") as file:
        if name == "layer_names":
            file.attrs[name] = content
        else:
            file.pop(name, None)
            file[name] = content
    with pytest.raises(InputError, match=message):
        open_weights(legacy)


@pytest.mark.parametrize("name", ["copy.h5", "copy.hdf5", "copy", "copy.weights (1).h5", "copy.keras"])
def test_a_weights_file_is_read_for_what_it_is_whatever_it_is_called(classifier_file, classifier, tmp_path, name):
    loaded = covidcxnet.load_model(str(shutil.copy(classifier_file, tmp_path / name))).model.get_weights()
    assert all((a == b).all() for a, b in zip(classifier.get_weights(), loaded, strict=True))


def test_what_was_checked_is_what_is_loaded_though_the_file_is_a_zip_too(classifier_file, small, metadata, tmp_path):
    """Keras opens a .keras as a ZIP: one that is appended must not be read in place of the arrays that were checked."""
    import zipfile

    small.set_weights([np.full(w.shape, 0.5) for w in small.get_weights()])
    hidden = save_weights(small, tmp_path / "hidden.weights.h5", metadata)
    both = Path(shutil.copy(classifier_file, tmp_path / "both.keras"))
    with zipfile.ZipFile(both, "a") as archive:
        archive.write(hidden, "model.weights.h5")
    expected, loaded = (covidcxnet.load_model(str(path)).model.get_weights() for path in (classifier_file, both))
    assert all((a == b).all() for a, b in zip(expected, loaded, strict=True))
