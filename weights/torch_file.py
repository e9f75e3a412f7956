"""Tensors of PyTorch's files (`.pt`, `.pth`) and of `.safetensors`: read without PyTorch, and nothing in them is run.

Python's `pickle` is not used; `torch_pickle` reads what a pickle says of its tensors. So a whole pickled module can be
read as well, and its class is not needed.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from enhancement.errors import InputError

from .torch_pickle import Record, Storage, Tensor, interpret, whole_numbers

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # pickle of 0x1950a86a20f9469cfc6c, PyTorch's magic number
_PROTOCOL = 1001

_MOST_TENSORS = 20_000
_MOST_STORAGES = 100_000  # those of an optimizer among them
_MOST_DIMENSIONS = 8
_LONGEST_HEADER = 16 << 20
_LONGEST_NAME = 1000

_SAFETENSORS = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": "bfloat16"}
_SAFETENSORS |= {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}

_PARTS = ("_parameters", "_buffers", "_modules")  # of the state of a torch.nn.Module
# Where training scripts put the weights among epoch, optimizer and losses.
_HOLDERS = ("state_dict", "model_state_dict", "model", "net")
_DAMAGE = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError),
    *(EOFError, struct.error, zipfile.BadZipFile, NotImplementedError, MemoryError),
)


def is_torch_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as PyTorch's or safetensors' do, whatever its name."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return start.startswith((_ZIP, _LEGACY[:4])) or (len(start) > 9 and start[8:9] == b"{")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a state dictionary, a checkpoint or a pickled module, by name.

    Parameters
    ----------
    path : str or path-like
        A file of ``torch.save``, in the ZIP layout of PyTorch 1.6 or that before it, or a `.safetensors` file.

    Returns
    -------
    dict of str to ndarray
        In the file's order, as stored; bfloat16 becomes float32. Arrays may be read-only views of the file.

    Raises
    ------
    InputError
        If it is none of these, is damaged, declares more than it holds, or needs an instruction that tensors do not.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            file.seek(0)
            if start.startswith(_ZIP):
                tensors = _tensors_by_name(_read_zip(file, path))
            elif start.startswith(_LEGACY[:4]):
                tensors = _tensors_by_name(_read_legacy(file, path))
            elif start[8:9] == b"{":
                tensors = _read_safetensors(file, path)
            else:
                raise InputError("neither a file of torch.save (1.6 or older layout) nor of safetensors")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{path}: a damaged weights file") from error
    # A pickled optimizer or a list is sound, but no weights file.
    if not tensors:
        raise InputError(f"{path}: no tensors in it")
    return tensors


Load = Callable[[Storage], np.ndarray]


def _read_zip(file: BinaryIO, path: Path) -> tuple[Any, Load]:
    """Object and loader of storages of the layout since 1.6: `NAME/data.pkl`, and a stored entry for each storage."""
    length = path.stat().st_size
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        # PyTorch stores; whatever is packed, encrypted or overlaps would unpack to more than the file's length.
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in entries.values()):
            raise InputError("compressed or encrypted entries, which PyTorch does not write")
        if len(archive.infolist()) > len(entries) or sum(info.file_size for info in entries.values()) > length:
            raise InputError("entries that overlap or occur twice; damaged or hostile")
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InputError("a ZIP archive without PyTorch's data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in entries:
            raise InputError("a TorchScript archive; save the state dictionary of the module instead")
        if archive.read(f"{folder}byteorder") != b"little" if f"{folder}byteorder" in entries else False:
            raise InputError("written on a big-endian machine, which is not supported")
        value = interpret(io.BytesIO(archive.read(pickles[0])))

    def load(storage: Storage) -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            return np.frombuffer(archive.read(f"{folder}data/{storage.key}"), _dtype(storage.kind))

    return value, load


def _read_legacy(file: BinaryIO, path: Path) -> tuple[Any, Load]:
    """Object and loader of storages of the layout before 1.6: five pickles, then the storages one after the other."""
    if file.read(len(_LEGACY)) != _LEGACY:
        raise InputError("a pickle that torch.save did not write")
    protocol, machine = interpret(file), interpret(file)
    if protocol != _PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise InputError(f"protocol {_PROTOCOL} of a little-endian machine expected")
    value, keys = interpret(file), interpret(file)
    kinds = {storage.key: storage.kind for storage in _storages(value)}
    strings = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not strings or len(set(keys)) != len(keys) or len(keys) > _MOST_STORAGES:
        raise InputError("its list of storages is damaged")
    content = np.memmap(path, np.uint8, mode="r")
    places: dict[str, np.ndarray] = {}
    position = file.tell()
    for key in keys:
        (count,) = struct.unpack("<q", content[position : position + 8].tobytes())
        # A storage that no tensor uses still has a length; its type is unknown, so that nothing can follow it.
        if key not in kinds:
            raise InputError(f"storage {key:.40} belongs to no tensor")
        dtype = np.dtype(_dtype(kinds[key]))
        position += 8
        if not 0 <= count <= (len(content) - position) // dtype.itemsize:
            raise InputError(f"storage {key:.40} of {count:,} numbers ends beyond the file; cut short or damaged")
        places[key] = np.frombuffer(content, dtype, count, position)
        position += count * dtype.itemsize
    return value, lambda storage: places[storage.key]


def _read_safetensors(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    """The layout of github.com/huggingface/safetensors: length of a JSON header, the header, the numbers."""
    (length,) = struct.unpack("<Q", file.read(8))
    rest = path.stat().st_size - 8 - length
    if length > _LONGEST_HEADER or rest < 0:
        raise InputError(f"a header of {length:,} bytes; {_LONGEST_HEADER:,} and the file's length at most")
    header = json.loads(file.read(length))
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS:
        raise InputError(f"its header is not a table of {_MOST_TENSORS:,} tensors at most")
    header.pop("__metadata__", None)
    # The format has neither gaps nor overlaps.
    end = 0
    for name, facts in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = facts["data_offsets"]
        if begin != end or not isinstance(stop, int) or stop < begin or stop > rest:
            raise InputError(f"{name:.80}: bytes {begin!s:.20} to {stop!s:.20} of {rest:,} leave a gap, overlap or end")
        end = stop
    content = np.memmap(path, np.uint8, mode="r")
    tensors = {}
    for name, facts in header.items():
        kind, shape = _SAFETENSORS.get(facts["dtype"]), whole_numbers(facts["shape"])
        if kind is None:
            raise InputError(f"{name:.80}: numbers of type {facts['dtype']!s:.20}, one of {', '.join(_SAFETENSORS)}")
        begin, stop = facts["data_offsets"]
        count = math.prod(shape)
        if count * np.dtype(_dtype(kind)).itemsize != stop - begin:
            raise InputError(f"{name:.80}: {stop - begin:,} bytes for shape {shape}")
        flat = np.frombuffer(content, _dtype(kind), count, 8 + length + begin) if count else np.zeros(0, _dtype(kind))
        tensors[name] = _numbers(flat.reshape(shape), kind)
    return tensors


def _tensors_by_name(content: tuple[Any, Load]) -> dict[str, np.ndarray]:
    value, load = content
    tensors = dict(_named(value))
    if len(tensors) > _MOST_TENSORS:
        raise InputError(f"more than {_MOST_TENSORS:,} tensors; damaged or hostile")
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        # Tied weights share a storage, which is read once.
        if storage.key not in storages:
            storages[storage.key] = load(storage)
        numbers = storages[storage.key]
        if len(numbers) != storage.count or numbers.dtype != _dtype(storage.kind):
            raise InputError(f"{name:.80}: {len(numbers):,} numbers, {storage.count:,} expected; damaged or hostile")
        arrays[name] = _numbers(_strided(numbers, tensor, name), storage.kind)
    return arrays


def _named(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a state dictionary, of one within a checkpoint, or of a pickled module."""
    for _ in range(4):
        if isinstance(value, dict) and not any(isinstance(entry, Tensor) for entry in value.values()):
            held = next((value[key] for key in _HOLDERS if isinstance(value.get(key), dict | Record)), None)
            if held is not None:
                value = held
    if isinstance(value, Record):
        yield from _of_module(value)
    elif isinstance(value, dict):
        yield from ((name, t) for name, t in value.items() if isinstance(t, Tensor) and isinstance(name, str))


def _of_module(module: Record) -> Iterator[tuple[str, Tensor]]:
    """As `torch.nn.Module.state_dict` names them, module by module."""
    waiting, visited = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop()
        visited += 1
        # Counted rather than remembered: a module may occur under two names, but not in itself for ever.
        if visited > _MOST_TENSORS or len(prefix) > _LONGEST_NAME:
            raise InputError("modules within themselves, or too many; damaged or hostile")
        parts = [module.state.get(part) for part in _PARTS] if isinstance(module.state, dict) else []
        parameters, buffers, modules = (part if isinstance(part, dict) else {} for part in parts or [None] * 3)
        for name, tensor in (*parameters.items(), *buffers.items()):
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor
        inner = [(f"{prefix}{name}.", other) for name, other in modules.items() if isinstance(other, Record)]
        waiting.extend(reversed(inner))


def _storages(value: Any) -> Iterator[Storage]:
    """Every storage below a value, each object looked at once."""
    waiting, looked = [value], set()
    while waiting:
        value = waiting.pop()
        if id(value) in looked:
            continue
        looked.add(id(value))
        if isinstance(value, Tensor):
            yield value.storage
        elif isinstance(value, Storage):
            yield value
        elif isinstance(value, Record):
            waiting.append(value.state)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _strided(numbers: np.ndarray, tensor: Tensor, name: str) -> np.ndarray:
    """A tensor as a view of its storage, all of it inside and no number of it twice."""
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise InputError(f"{name:.80}: shape {shape!s:.80} with strides {strides!s:.80}")
    if 0 in shape:
        return np.zeros(shape, numbers.dtype)
    last = tensor.offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    # Strides of 0 would make petabytes of one number.
    if last >= len(numbers) or math.prod(shape) > len(numbers):
        raise InputError(f"{name:.80}: shape {shape} does not fit a storage of {len(numbers):,} numbers; damaged")
    size = numbers.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], shape, [step * size for step in strides], writeable=False
    )


def _dtype(kind: str) -> str:
    return "<u2" if kind == "bfloat16" else kind


def _numbers(array: np.ndarray, kind: str) -> np.ndarray:
    """bfloat16, which NumPy has not, is the upper half of a float32."""
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else array
