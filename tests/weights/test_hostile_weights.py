"""Damaged and crafted HDF5 files: an `InputError`, no partly loaded model, no other file read, no memory taken."""

from __future__ import annotations

import json
import shutil
import zipfile
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


def load_legacy(path):
    return covidcxnet.load_legacy(path, size=65)


def same(one, other):
    return all((a == b).all() for a, b in zip(one, other, strict=True))


def virtual(shape):
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource("elsewhere.h5", "x", shape)
    return layout


def external_storage(file, name, old):
    raw = Path(file.filename).with_name("raw.bin")
    raw.write_bytes(old.tobytes())
    file.create_dataset(name, old.shape, "float32", external=[(str(raw), 0, old.nbytes)])


def soft_link(file, name, old):
    file["moved"] = old
    file[name] = h5py.SoftLink("/moved")


def huge_chunk(file, name, old):
    """The library unpacks all of a chunk to read one number."""
    chunks, most = (750,) * len(old.shape[:2]) + old.shape[2:], (None,) * old.ndim
    file.create_dataset(name, data=old, chunks=chunks, maxshape=most, compression="gzip")


def lists(item):
    content = np.empty(1, object)
    content[0] = np.arange(3, dtype="int32")
    item.attrs.create("lists", content, dtype=h5py.vlen_dtype("int32"))


PACKED = {"fillvalue": 0, "chunks": True, "compression": "gzip"}
# In place of an array that held `old`; elsewhere.h5 holds it too.
INSTEAD = {
    "missing": lambda file, name, old: None,
    "group": lambda file, name, old: file.create_group(name),
    "absurd size": lambda file, name, old: file.create_dataset(name, (10**6, 10**6), "f4", chunks=(1000, 1000)),
    "external link": lambda file, name, old: file.update({name: h5py.ExternalLink("elsewhere.h5", "x")}),
    "soft link": soft_link,
    "virtual": lambda file, name, old: file.create_virtual_dataset(name, virtual(old.shape)),
    "external storage": external_storage,
    "words": lambda file, name, old: file.update({name: "words"}),
    "objects": lambda file, name, old: file.create_dataset(name, old.shape, h5py.ref_dtype),
    "another shape": lambda file, name, old: file.update({name: old[..., None]}),
    "bomb": lambda file, name, old: file.create_dataset(name, (20_000, 20_000), "float32", **PACKED),
    "one huge chunk": huge_chunk,
    "not finite": lambda file, name, old: file.update({name: np.full_like(old, np.nan)}),
}
BESIDE = {
    "link beside": lambda file, name: file.update({"extra": h5py.ExternalLink("/etc/hostname", "/")}),
    "strange link": lambda file, name: file.update({"a strange link": h5py.ExternalLink("elsewhere.h5", "x")}),
    "ring": lambda file, name: file.update({"extra/again": file["/"]}),
    "words beside": lambda file, name: file.update({"extra": "words"}),
    "deep": lambda file, name: file.update({"/".join("a" * 60): np.zeros(1, "float32")}),
    # the time to read them grows with their square
    "many attributes": lambda file, name: file[name].attrs.update({f"a{number}": 1 for number in range(101)}),
    "attribute of file": lambda file, name: lists(file["/"]),
    "attribute of group": lambda file, name: lists(file[name].parent),
    "attribute of array": lambda file, name: lists(file[name]),
}


def craft(path, name, how):
    """Damage one array of a file, or something beside it."""
    with h5py.File(path, "r+") as file, h5py.File(path.with_name("elsewhere.h5"), "w") as other:
        other["x"] = old = file[name][()]
        if how in BESIDE:
            BESIDE[how](file, name)
        else:
            del file[name]
            INSTEAD[how](file, name, old)
    if how == "strange link":  # of a kind that no library knows
        crafted = bytearray(path.read_bytes())
        at = crafted.index(b"a strange link")
        crafted[crafted.rindex(h5py.h5l.TYPE_EXTERNAL, at - 8, at)] += 1
        path.write_bytes(crafted)


@pytest.mark.parametrize("how", [*INSTEAD, *BESIDE])
def test_a_crafted_file_of_ours_or_of_keras_2_is_refused_and_a_model_keeps_its_weights(path, legacy, small, how):
    craft(path, "layers/conv2d_1/vars/0", how)
    craft(legacy, "conv_layer2/conv_layer2/kernel:0", how)
    before = small.get_weights()
    loads = (path, lambda path: load_weights(small, path)), (path, covidcxnet.load_model), (legacy, load_legacy)
    for file, load in loads:
        with pytest.raises(InputError, match="crafted") as error:
            load(file)
        assert "\n" not in str(error.value)
    assert same(before, small.get_weights())


@pytest.mark.parametrize("layer", ["conv2d_1", "dense"])
def test_arrays_of_the_right_shapes_under_another_name_leave_the_model_as_it_was(path, small, layer):
    with h5py.File(path, "r+") as file:
        file.move(f"layers/{layer}", "layers/elsewhere")
    before = small.get_weights()
    with pytest.raises(InputError, match="crafted"):
        load_weights(small, path)
    assert same(before, small.get_weights())


def test_a_truncated_file_is_refused(path, legacy):
    for file, load in ((path, covidcxnet.load_model), (legacy, load_legacy)):
        content = file.read_bytes()
        for share in (0, 10, 100, 500, 900, 999):
            file.write_bytes(content[: len(content) * share // 1000])
            with pytest.raises(InputError, match="crafted"):
                load(file)


def test_a_file_on_which_the_library_never_ends_is_refused(path, monkeypatch):
    monkeypatch.setattr("weights.hdf5._seconds", lambda path: 1)
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL") + 24  # the first object of its heap of texts: of a size that leads back to itself
    content[at : at + 8] = (-16).to_bytes(8, "little", signed=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"crafted\.weights\.h5: a damaged HDF5 file; .* does not come to an end"):
        open_weights(path)


@pytest.mark.parametrize("seed", range(12))
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
    assert load_legacy(legacy).classes == ("normal", "covid19")


STRANGE = [["none"], ["../fc_layer1"], ["/fc_layer1"], [""], [b"\xff"], 7, "fc_layer1", [["fc_layer1"]]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *(("layer_names", names, "crafted") for names in STRANGE),
        *(("weight_names", names, "crafted") for names in STRANGE),
        ("layer_names", np.array([b"fc_layer1"] * 5_000), "names arrays more than once"),  # takes no memory
        ("model_weights", h5py.ExternalLink("elsewhere.h5", "/"), r"another file \(elsewhere\.h5\)"),
        ("conv_layer1/conv_layer1/kernel:0", np.zeros((5, 5, 3, 0), "float32"), r"crafted\.hdf5: .*holds nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_strange_names_linked_groups_and_arrays_of_nothing_in_a_legacy_file_are_refused(legacy, name, content, message):
    with h5py.File(legacy, "r+") as file:
        if name.endswith("_names"):
            (file if name == "layer_names" else file["conv_layer2"]).attrs[name] = content
        else:
            file.pop(name, None)
            file[name] = content
    with pytest.raises(InputError, match=message):
        load_legacy(legacy)


@pytest.mark.parametrize("name", ["copy.h5", "copy", "copy.weights (1).h5"])
def test_a_weights_file_is_read_for_what_it_is_whatever_it_is_called(classifier_file, classifier, tmp_path, name):
    loaded = covidcxnet.load_model(str(shutil.copy(classifier_file, tmp_path / name))).model.get_weights()
    assert same(classifier.get_weights(), loaded)


def test_what_was_checked_is_what_is_loaded_though_the_file_is_a_zip_too(classifier_file, small, metadata, tmp_path):
    """Keras opens a .keras as a ZIP: one that is appended must not be read in place of the arrays that were checked."""
    expected = small.get_weights()
    small.set_weights([np.full(w.shape, 0.5) for w in expected])
    hidden = save_weights(small, tmp_path / "hidden.weights.h5", metadata)
    both = Path(shutil.copy(classifier_file, tmp_path / "both.keras"))
    with zipfile.ZipFile(both, "a") as archive:
        archive.write(hidden, "model.weights.h5")
    assert same(expected, covidcxnet.load_model(str(both)).model.get_weights())
