"""Tensors from files of PyTorch: every layout gives them, and nothing in a hostile file is run or fills the memory."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest
import torch_files as files

from enhancement.errors import InputError
from weights.torch_file import is_torch_file, read_tensors

TENSORS = {
    "conv.weight": np.arange(24, dtype="float32").reshape(2, 3, 2, 2),
    "bn.running_var": np.linspace(0.5, 1, 3),
    "bn.num_batches_tracked": np.array(7, "int64"),
    "half": np.array([1.5, -2.0], "float16"),
}


def same(given, expected=TENSORS):
    assert list(given) == list(expected)
    for name, array in expected.items():
        assert given[name].shape == array.shape and given[name].dtype == array.dtype
        np.testing.assert_array_equal(given[name], array)


@pytest.mark.parametrize("layout", ["zip", "legacy", "safetensors"])
def test_a_state_dictionary_comes_back_as_it_was_written(tmp_path, layout):
    path = files.save(tmp_path / "m.any", TENSORS, layout)
    assert is_torch_file(path)
    same(read_tensors(path))


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_a_checkpoint_gives_the_state_dictionary_in_it(tmp_path, layout):
    def checkpoint(value):
        rest = files.text("epoch") + files.number(3) + files.text("optimizer") + b"}J\x01\x00\x00\x00]s"
        return b"}(" + rest + files.text("state_dict") + value + b"u"

    same(read_tensors(files.save(tmp_path / "m.pth.tar", TENSORS, layout, checkpoint)))


def test_a_pickled_module_gives_its_tensors_and_views_are_read_as_they_are(tmp_path):
    """The module's class is never looked for."""
    array = np.arange(12, dtype="float32")
    weight = files.name_of("torch._utils", "_rebuild_parameter") + b"(" + files.tensor("0", array, False) + b"\x89NtR"
    turned = files.tensor("0", array, False, strides=(1, 3), shape=(3, 2), offset=6)
    value = files.module({}, {"features": files.module({"weight": weight, "turned": turned}, {}, "Conv2d")})
    expected = {"features.weight": array, "features.turned": array[6:].reshape(2, 3).T}
    same(read_tensors(files.write_zip(tmp_path / "m.pt", value, {"0": array})), expected)


def test_bfloat16_becomes_float32(tmp_path):
    header = {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    path = tmp_path / "m.safetensors"
    start = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(start)) + start + struct.pack("<2H", 0x3FC0, 0xC000))
    same(read_tensors(path), {"x": np.array([1.5, -2.0], "float32")})


class Attack:
    def __reduce__(self):
        import os

        return (os.system, ("touch pwned",))


def test_a_pickle_that_runs_a_command_is_read_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = pickle.dumps(Attack(), 2)[2:-1]
    array = np.ones(2, "float32")
    value = b"}(" + files.text("a") + command + files.text("w") + files.tensor("0", array, False) + b"u"
    same(read_tensors(files.write_zip(tmp_path / "m.pt", value, {"0": array})), {"w": array})
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(InputError, match="no tensors"):
        read_tensors(files.write_zip(tmp_path / "m.pt", command, {}))
    assert not (tmp_path / "pwned").exists()


ONE = np.ones(4, "float32")
DAG = b"]" + b"".join(b"q%c(h%ch%cl" % (i, i, i) for i in range(60))  # a list of 2 ** 60 lists, if it is written out
HOSTILE = {
    "unknown instruction": b"I1\n.",
    "stack that is empty": b"u",
    "more than the storage": files.mapping({"w": files.tensor("0", ONE, False, shape=(5,), strides=(1,))}),
    "strides of 0": files.mapping({"w": files.tensor("0", ONE, False, shape=(1 << 20, 1 << 20), strides=(0, 0))}),
    "negative strides": files.mapping({"w": files.tensor("0", ONE, False, shape=(2,), strides=(-1,))}),
    "negative offset": files.mapping({"w": files.tensor("0", ONE, False, offset=-1)}),
    "another count": files.mapping({"w": files.tensor("0", np.ones(5, "float32"), False)}),
    "no such storage": files.mapping({"w": files.tensor("7", ONE, False)}),
    "storage of objects": files.mapping({"w": files.tensor("0", ONE, False).replace(b"Float", b"Object")}),
    "shape of lists": files.name_of("torch._utils", "_rebuild_tensor_v2")
    + b"("
    + files.storage("0", ONE, False)
    + DAG
    + b"))tR",
    "reference that is no storage": files.text("x") + b"Q",
    "text beyond its end": b"X\xff\xff\xff\x7fabc",
    "memory of four billion": b"Nr\xff\xff\xff\xff",
    "class without a name": b"K\x01K\x02\x93",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_a_hostile_pickle_is_one_error_that_names_the_file(tmp_path, name, layout):
    write = files.write_zip if layout == "zip" else files.write_legacy
    with pytest.raises(InputError, match=r"m\.pt: "):
        read_tensors(write(tmp_path / "m.pt", HOSTILE[name], {"0": ONE}))


def test_a_module_within_itself_twice_is_walked_to_an_end(tmp_path):
    head, state = files.name_of("somewhere", "M") + b")\x81q\x01", b"}(" + files.text("_modules")
    value = head + state + b"}(" + files.text("a") + b"h\x01" + files.text("b") + b"h\x01" + b"uub"
    with pytest.raises(InputError, match="within themselves"):
        read_tensors(files.write_zip(tmp_path / "m.pt", value, {}))


def test_storages_must_be_there_whole_unpacked_and_in_this_byte_order(tmp_path):
    value = files.mapping({"w": files.tensor("0", ONE, False)})
    with pytest.raises(InputError, match="compressed"):
        read_tensors(files.write_zip(tmp_path / "m.pt", value, {"0": ONE}, packed=True))
    path = files.write_zip(tmp_path / "m.pt", value, {"0": ONE})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"m\.pt"):
        read_tensors(path)
    value = files.mapping({"w": files.tensor("0", ONE, True)})
    path = files.write_legacy(tmp_path / "m.pth", value, {"0": ONE})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="ends beyond the file"):
        read_tensors(path)
    with pytest.raises(InputError, match="little-endian"):
        read_tensors(files.write_legacy(path, value, {"0": ONE}, little=False))
    with pytest.raises(InputError, match="belongs to no tensor"):
        read_tensors(files.write_legacy(path, value, {"1": ONE}))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F128"},
        {"shape": [5]},
        {"shape": [-4]},
        {"shape": [[4]]},
        {"data_offsets": [4, 20]},
        {"data_offsets": [0, 1 << 60]},
        {"data_offsets": [0]},
        {"data_offsets": "ab"},
    ],
)
def test_safetensors_whose_header_does_not_fit_are_refused(tmp_path, change):
    header = {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **change}}
    with pytest.raises(InputError, match=r"m\.safetensors"):
        read_tensors(files.write_safetensors(tmp_path / "m.safetensors", {"w": ONE}, header))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89HDF\r\n\x1a\n", b"\x80\x02}.", struct.pack("<Q", 1 << 62) + b"{}", struct.pack("<Q", 2) + b"{]"],
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.pth"):
        read_tensors(tmp_path / "m.pth")
    with pytest.raises(InputError, match="no such"):
        read_tensors(tmp_path / "missing.pth")
