"""Damaged and crafted HDF5 files: an `InputError`, no partly loaded model, no other file read, no memory taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import covidcxnet
from enhancement.errors import InputError
from weights.format import load_weights, save_weights
from weights.hdf5 import open_plain
from weights.legacy_h5 import is_legacy, read_legacy


@pytest.fixture(scope="module")
def good(classifier_file):
    return classifier_file


@pytest.fixture
def small(classifier):
    """A model of the file's architecture, its weights put back afterwards."""
    before = classifier.get_weights()
    yield classifier
    classifier.set_weights(before)


@pytest.fixture
def path(good, tmp_path):
    return Path(shutil.copy(good, tmp_path / "crafted.weights.h5"))


@pytest.fixture
def legacy(tmp_path):
    """A base CNN of weights alone, 65 x 65 x 1."""
    generator = np.random.default_rng(0)
    shapes = [(5, 5, 1, 2)] + [(3, 3, 2, 2)] * 4 + [(2, 3), (3, 1)]
    path = tmp_path / "crafted.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [f"layer{i}".encode() for i in range(len(shapes))]
        for i, shape in enumerate(shapes):
            group = file.create_group(f"layer{i}")
            names = [f"layer{i}/kernel:0", f"layer{i}/bias:0"]
            group.attrs["weight_names"] = [name.encode() for name in names]
            group[names[0]] = generator.normal(size=shape).astype("float32")
            group[names[1]] = np.zeros(shape[-1], "float32")
    return path


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


@pytest.fixture(scope="module")
def first_kernel(good):
    """Place of the first convolution's kernel in the file, and a model to load into."""
    names = []
    with h5py.File(good) as file:
        file.visititems(lambda name, item: names.append(name) if getattr(item, "shape", None) == (3, 3, 4, 4) else None)
    assert len(names) == 1
    return names[0]


@pytest.mark.parametrize("how", WAYS)
def test_a_crafted_file_of_ours_is_refused_and_the_model_keeps_its_weights(path, small, first_kernel, how):
    craft(path, first_kernel, how)
    before = small.get_weights()
    with pytest.raises(InputError, match="crafted") as error:
        load_weights(small, path)
    assert "\n" not in str(error.value)
    assert all((a == b).all() for a, b in zip(before, small.get_weights(), strict=True))


@pytest.mark.parametrize("how", ["missing", "external link", "bomb", "beside: ring"])
def test_a_crafted_file_becomes_no_classifier(path, first_kernel, how):
    craft(path, first_kernel, how)
    with pytest.raises(InputError, match="crafted"):
        covidcxnet.load_model(path)


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
    craft(legacy, "layer2/layer2/kernel:0", how)
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
    for file, load in ((path, covidcxnet.load_model), (legacy, read_legacy)):
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
@pytest.mark.parametrize("names", [["none"], ["../layer1"], ["/layer1"], [""], [b"\xff"], 7, "layer1", [["layer1"]]])
def test_strange_lists_of_names_are_refused(legacy, attribute, names):
    with h5py.File(legacy, "r+") as file:
        (file if attribute == "layer_names" else file["layer1"]).attrs[attribute] = names
    with pytest.raises(InputError, match="crafted"):
        covidcxnet.load_legacy(legacy, size=65)


def test_a_linked_group_of_weights_is_refused(legacy):
    with h5py.File(legacy, "r+") as file:
        file["model_weights"] = h5py.ExternalLink("elsewhere.h5", "/")
    assert is_legacy(legacy)
    with pytest.raises(InputError, match=r"another file \(elsewhere\.h5\)"):
        read_legacy(legacy)


def test_only_good_files_are_opened(path, tmp_path):
    with open_plain(path) as file:
        assert "layers" in file
    with pytest.raises(InputError, match="no such"), open_plain(tmp_path / "none.h5"):
        pass
    with pytest.raises(InputError, match="no such"), open_plain(tmp_path):
        pass


def test_arrays_that_are_named_again_and_again_take_no_memory(legacy):
    with h5py.File(legacy, "r+") as file:
        file.attrs["layer_names"] = np.array([b"layer0"] * 5_000)
    with pytest.raises(InputError, match="names arrays more than once"):
        read_legacy(legacy)


def test_arrays_of_nothing_are_refused(legacy):
    with h5py.File(legacy, "r+") as file:
        del file["layer0/layer0/kernel:0"]
        file["layer0/layer0/kernel:0"] = np.zeros((5, 5, 3, 0), "float32")
    with pytest.raises(InputError, match=r"crafted\.hdf5: .*holds nothing"):
        covidcxnet.load_legacy(legacy)


@pytest.mark.parametrize("name", ["copy.h5", "copy.hdf5", "copy", "copy.weights (1).h5", "copy.keras"])
def test_a_weights_file_is_read_for_what_it_is_whatever_it_is_called(good, classifier, tmp_path, name):
    loaded = covidcxnet.load_model(str(shutil.copy(good, tmp_path / name))).model.get_weights()
    assert all((a == b).all() for a, b in zip(classifier.get_weights(), loaded, strict=True))


def test_what_was_checked_is_what_is_loaded_though_the_file_is_a_zip_too(good, small, metadata, tmp_path):
    """Keras opens a .keras as a ZIP: one that is appended must not be read in place of the arrays that were checked."""
    import zipfile

    small.set_weights([np.full(w.shape, 0.5) for w in small.get_weights()])
    hidden = save_weights(small, tmp_path / "hidden.weights.h5", metadata)
    both = Path(shutil.copy(good, tmp_path / "both.keras"))
    with zipfile.ZipFile(both, "a") as archive:
        archive.write(hidden, "model.weights.h5")
    expected, loaded = (covidcxnet.load_model(str(path)).model.get_weights() for path in (good, both))
    assert all((a == b).all() for a, b in zip(expected, loaded, strict=True))
