"""Tensors of PyTorch's files (`.pt`, `.pth`) and of `.safetensors`: read without PyTorch, and nothing in them is run.

A `.pth` file is a pickle, a program that builds its objects by calling whatever it names. Python's `pickle` is not used
here: the few instructions of which tensors, dictionaries and modules are made are carried out on inert records, all
others are refused, and no name in the file is ever imported or called. So a whole pickled module can be read as well.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from enhancement.errors import InputError

SUFFIXES = (".pt", ".pth", ".tar", ".safetensors")  # `.pth.tar` is what training scripts of 2017 wrote; it is no tar

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # pickle of 0x1950a86a20f9469cfc6c, PyTorch's magic number
_PROTOCOL = 1001

# A module of 120 layers takes some 60,000 instructions, and a checkpoint with its optimizer three times as many.
_MOST_INSTRUCTIONS = 2_000_000
_MOST_TENSORS = 20_000
_MOST_STORAGES = 100_000  # those of an optimizer among them
_MOST_DIMENSIONS = 8
_LONGEST_HEADER = 16 << 20
_LONGEST_NAME = 1000

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SAFETENSORS = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": "bfloat16"}
_SAFETENSORS |= {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}

# Where training scripts put the weights among epoch, optimizer and losses.
_PARTS = ("_parameters", "_buffers", "_modules")  # of the state of a torch.nn.Module
_HOLDERS = ("state_dict", "model_state_dict", "model", "net")
_PLAIN = (str, int, float, bool, bytes, type(None))
_DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)
_DAMAGE += (EOFError, struct.error, zipfile.BadZipFile, NotImplementedError, MemoryError)


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
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: a damaged weights file ({reason})") from error
    if not tensors:
        raise InputError(f"{path}: no tensors in it")
    return tensors


@dataclass(frozen=True)
class _Global:
    """A name of a class or function, never looked up."""

    name: str


class _Record:
    """Stands for an object of whatever class: its class's name and the state it would have been given."""

    def __init__(self, name: str):
        self.name = name
        self.state: Any = None


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


Load = Callable[[_Storage], np.ndarray]


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
        value = _interpret(io.BytesIO(archive.read(pickles[0])))

    def load(storage: _Storage) -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            return np.frombuffer(archive.read(f"{folder}data/{storage.key}"), _dtype(storage.kind))

    return value, load


def _read_legacy(file: BinaryIO, path: Path) -> tuple[Any, Load]:
    """Object and loader of storages of the layout before 1.6: five pickles, then the storages one after the other."""
    if file.read(len(_LEGACY)) != _LEGACY:
        raise InputError("a pickle that torch.save did not write")
    protocol, machine = _interpret(file), _interpret(file)
    if protocol != _PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise InputError(f"protocol {_PROTOCOL} of a little-endian machine expected")
    value, keys = _interpret(file), _interpret(file)
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
        kind, shape = _SAFETENSORS.get(facts["dtype"]), _whole(facts["shape"])
        if kind is None:
            raise InputError(f"{name:.80}: numbers of type {facts['dtype']!s:.20}, one of {', '.join(_SAFETENSORS)}")
        begin, stop = facts["data_offsets"]
        count = math.prod(shape)
        if count * np.dtype(_dtype(kind)).itemsize != stop - begin:
            raise InputError(f"{name:.80}: {stop - begin:,} bytes for shape {shape}")
        flat = np.frombuffer(content, _dtype(kind), count, 8 + length + begin) if count else np.zeros(0, _dtype(kind))
        tensors[name] = _numbers(flat.reshape(shape), kind)
    return tensors


def _interpret(stream: BinaryIO) -> Any:
    """The value of one pickle in a stream, made of plain values, tensors, and records for everything else."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}  # not a list, which an index of four billion would make long

    def to_mark() -> list[Any]:
        position = marks.pop()
        values = stack[position:]
        del stack[position:]
        return values

    for number, (instruction, value, _) in enumerate(pickletools.genops(stream)):
        if number > _MOST_INSTRUCTIONS:
            raise InputError(f"more than {_MOST_INSTRUCTIONS:,} instructions in its pickle; damaged or hostile")
        if marks and marks[-1] > len(stack):
            raise InputError("its pickle takes more from the stack than there is; damaged or hostile")
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "BININT" | "BININT1" | "BININT2" | "INT" | "LONG" | "LONG1" | "BINFLOAT" | "FLOAT":
                stack.append(value)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "UNICODE" | "BINSTRING" | "SHORT_BINSTRING" | "STRING":
                stack.append(value)
            case "BINBYTES" | "SHORT_BINBYTES":
                stack.append(value)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "MARK":
                marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                to_mark()
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(instruction.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST":
                stack.append(to_mark())
            case "APPEND":
                last = stack.pop()
                _fill(stack[-1], [last])
            case "APPENDS" | "ADDITEMS":
                values = to_mark()
                _fill(stack[-1], values)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(_pairs(to_mark()))
            case "SETITEM":
                pair = stack[-2:]
                del stack[-2:]
                _update(stack[-1], pair)
            case "SETITEMS":
                values = to_mark()
                _update(stack[-1], values)
            case "GLOBAL":
                stack.append(_Global(value.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                if not isinstance(module, str) or not isinstance(name, str):
                    raise InputError("a class without a name in its pickle; damaged or hostile")
                stack.append(_Global(f"{module}.{name}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_result(function, arguments))
            case "BUILD":
                state = stack.pop()
                # The state of a dictionary is the versions of its modules (`_metadata`).
                if isinstance(stack[-1], _Record):
                    stack[-1].state = state
            case "BINPERSID":
                stack.append(_persistent(stack.pop()))
            case other:
                raise InputError(f"its pickle has the instruction {other}, which no tensors need; not a weights file")
    raise InputError("its pickle has no end")


def _fill(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)


def _update(target: Any, values: list[Any]) -> None:
    if isinstance(target, dict):
        target.update(_pairs(values))


def _pairs(values: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn as a dictionary.

    Only plain keys: hashing tuples of tuples of the same tuples takes for ever.
    """
    return {key: value for key, value in zip(values[::2], values[1::2], strict=True) if isinstance(key, _PLAIN)}


def _result(function: Any, arguments: Any) -> Any:
    """What a call in a pickle stands for: a dictionary, a tensor, or a record of anything else. Nothing is called."""
    name = function.name if isinstance(function, _Global) else "unnamed"
    if name == "collections.OrderedDict":
        # Python 2 gives the pairs as an argument, Python 3 sets them afterwards.
        pairs = arguments[0] if arguments else []
        return _pairs([value for pair in pairs for value in pair])
    if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, _Storage):
            raise InputError("a tensor without a storage; damaged or hostile")
        return _Tensor(storage, _whole([offset])[0], _whole(shape), _whole(strides))
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return arguments[0]
    return _Record(name)


def _persistent(value: Any) -> Any:
    """What PyTorch keeps outside of its pickle: a storage, or the class of a module with its source text."""
    match value:
        case ("module", _Global() as kind, *_):
            return kind
        case ("storage", _Global(name=name), str(key), _, count, *views):
            module, _, kind = name.rpartition(".")
            if module not in ("torch", "torch.cuda") or kind not in _STORAGES:
                raise InputError(f"numbers of type {name:.80}, one of {', '.join(_STORAGES)} expected")
            if any(view is not None for view in views):
                raise InputError("a storage that is a part of another, as no PyTorch since 0.4 writes it")
            return _Storage(_STORAGES[kind], key, _whole([count])[0])
    raise InputError("a reference outside of the pickle that is not to a storage; damaged or hostile")


def _tensors_by_name(content: tuple[Any, Load]) -> dict[str, np.ndarray]:
    value, load = content
    tensors = dict(_named(value))
    if len(tensors) > _MOST_TENSORS:
        raise InputError(f"more than {_MOST_TENSORS:,} tensors; damaged or hostile")
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in storages:
            storages[storage.key] = load(storage)
        numbers = storages[storage.key]
        if len(numbers) != storage.count or numbers.dtype != _dtype(storage.kind):
            raise InputError(f"{name:.80}: {len(numbers):,} numbers, {storage.count:,} expected; damaged or hostile")
        arrays[name] = _numbers(_strided(numbers, tensor, name), storage.kind)
    return arrays


def _named(value: Any) -> Iterator[tuple[str, _Tensor]]:
    """Names and tensors of a state dictionary, of one within a checkpoint, or of a pickled module."""
    for _ in range(4):
        if isinstance(value, dict) and not any(isinstance(entry, _Tensor) for entry in value.values()):
            held = next((value[key] for key in _HOLDERS if isinstance(value.get(key), dict | _Record)), None)
            if held is not None:
                value = held
    if isinstance(value, _Record):
        yield from _of_module(value)
    elif isinstance(value, dict):
        yield from ((name, t) for name, t in value.items() if isinstance(t, _Tensor) and isinstance(name, str))


def _of_module(module: _Record) -> Iterator[tuple[str, _Tensor]]:
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
            if isinstance(tensor, _Tensor):
                yield f"{prefix}{name}", tensor
        inner = [(f"{prefix}{name}.", other) for name, other in modules.items() if isinstance(other, _Record)]
        waiting.extend(reversed(inner))


def _storages(value: Any) -> Iterator[_Storage]:
    """Every storage below a value, each object looked at once."""
    waiting, looked = [value], set()
    while waiting:
        value = waiting.pop()
        if id(value) in looked:
            continue
        looked.add(id(value))
        if isinstance(value, _Tensor):
            yield value.storage
        elif isinstance(value, _Storage):
            yield value
        elif isinstance(value, _Record):
            waiting.append(value.state)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _strided(numbers: np.ndarray, tensor: _Tensor, name: str) -> np.ndarray:
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


def _whole(values: Any) -> tuple[int, ...]:
    """Whole numbers from 0 as a tuple; an error for anything else."""
    values = tuple(values)
    if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 48 for v in values):
        # Unprinted: a list of lists of the same lists would fill the memory.
        raise InputError("a shape or a length that is not made of whole numbers from 0; damaged or hostile")
    return values


def _dtype(kind: str) -> str:
    return "<u2" if kind == "bfloat16" else kind


def _numbers(array: np.ndarray, kind: str) -> np.ndarray:
    """bfloat16, which NumPy has not, is the upper half of a float32."""
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else array
