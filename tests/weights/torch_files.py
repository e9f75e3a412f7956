"""Files in PyTorch's layouts and in safetensors', written byte by byte: no PyTorch, and no pickling of objects."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np

KINDS = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}
NAMES = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64"}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def name_of(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def numbers(values) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str, array: np.ndarray, view: bool) -> bytes:
    """A persistent id: ("storage", type, key, place, count), and a view that is none in the old layout."""
    kind = name_of("torch", KINDS[array.dtype.str[1:]])
    return (
        b"(" + text("storage") + kind + text(key) + text("cpu") + number(array.size) + (b"N" if view else b"") + b"tQ"
    )


def tensor(key: str, array: np.ndarray, view: bool, strides=None, shape=None, offset: int = 0) -> bytes:
    shape = array.shape if shape is None else shape
    strides = [s // array.itemsize for s in np.zeros(shape, array.dtype).strides] if strides is None else strides
    arguments = storage(key, array, view) + number(offset) + numbers(shape) + numbers(strides)
    hooks = name_of("collections", "OrderedDict") + b")R"
    return name_of("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"\x89" + hooks + b"tR"


def mapping(pairs: dict[str, bytes]) -> bytes:
    """An OrderedDict of values that are pickled already, with a state, as state dictionaries have one."""
    items = b"".join(text(name) + value for name, value in pairs.items())
    return name_of("collections", "OrderedDict") + b")R(" + items + b"u}" + text("_metadata") + b"}sb"


def module(parameters: dict[str, bytes], inner: dict[str, bytes], kind: str = "DenseNet") -> bytes:
    """A pickled torch.nn.Module: an object of a class that nobody has, with its state."""
    parts = {"_parameters": mapping(parameters), "_buffers": mapping({}), "_modules": mapping(inner)}
    state = b"}(" + b"".join(text(name) + value for name, value in parts.items()) + b"u"
    return name_of("somewhere.models", kind) + b")\x81" + state + b"b"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def write_zip(
    path: Path, value: bytes, arrays: dict[str, np.ndarray], *, packed: bool = False, folder="archive"
) -> Path:
    """The layout since PyTorch 1.6."""
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled(value))
        archive.writestr(f"{folder}/byteorder", "little")
        for key, array in arrays.items():
            archive.writestr(f"{folder}/data/{key}", array.tobytes())
        archive.writestr(f"{folder}/version", "3\n")
    return path


def write_legacy(path: Path, value: bytes, arrays: dict[str, np.ndarray], *, little: bool = True) -> Path:
    """The layout before: magic number, protocol, machine, object, keys, storages."""
    magic = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
    machine = b"}(" + text("protocol_version") + b"M\xe9\x03" + text("little_endian") + (b"\x88" if little else b"\x89")
    keys = b"](" + b"".join(map(text, arrays)) + b"e"
    content = b"".join(map(pickled, (magic, b"M\xe9\x03", machine + b"u", value, keys)))
    content += b"".join(struct.pack("<q", array.size) + array.tobytes() for array in arrays.values())
    path.write_bytes(content)
    return path


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], header: dict | None = None) -> Path:
    facts, end = {"__metadata__": {"format": "pt"}}, 0
    for name, array in tensors.items():
        kind = NAMES[array.dtype.str[1:]]
        facts[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    start = json.dumps(facts if header is None else header).encode()
    path.write_bytes(struct.pack("<Q", len(start)) + start + b"".join(a.tobytes() for a in tensors.values()))
    return path


def save(path: Path, tensors: dict[str, np.ndarray], layout: str = "zip", wrap=lambda value: value) -> Path:
    """A state dictionary in one of the layouts zip, legacy and safetensors; `wrap` puts its pickle into another."""
    arrays = {name: np.array(array, order="C") for name, array in tensors.items()}
    if layout == "safetensors":
        return write_safetensors(path, arrays)
    keyed = {str(i): array for i, array in enumerate(arrays.values())}
    view = layout == "legacy"
    value = mapping({name: tensor(key, keyed[key], view) for name, key in zip(arrays, keyed, strict=True)})
    return (write_legacy if view else write_zip)(path, wrap(value), keyed)
