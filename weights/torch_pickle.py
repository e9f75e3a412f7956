"""What pickles of PyTorch's tensors say, read as data: no object is built, and no name in them is imported or called.

A pickle is a program that builds its objects by calling whatever it names. The few instructions of which tensors,
dictionaries and modules are made are carried out here on inert records; all others are refused.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any, BinaryIO

from enhancement.errors import InputError

# A module of 120 layers takes some 60,000 instructions, and a checkpoint with its optimizer three times as many.
_MOST_INSTRUCTIONS = 2_000_000
_PLAIN = (str, int, float, bool, bytes, type(None))

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


@dataclass(frozen=True)
class _Global:
    """A name of a class or function, never looked up."""

    name: str


class Record:
    """Stands for an object of whatever class: its class's name and the state it would have been given."""

    def __init__(self, name: str):
        self.name = name
        self.state: Any = None


@dataclass(frozen=True)
class Storage:
    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def interpret(stream: BinaryIO) -> Any:
    """The value of one pickle in a stream, made of plain values, tensors, and records for everything else."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}  # not a list, which an index of four billion would make long

    def to_mark() -> list[Any]:
        position = marks.pop()
        values = stack[position:]
        del stack[position:]
        return values

    value: Any  # what an instruction says besides its name
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
                if isinstance(stack[-1], Record):
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
        if not isinstance(storage, Storage):
            raise InputError("a tensor without a storage; damaged or hostile")
        return Tensor(storage, whole_numbers([offset])[0], whole_numbers(shape), whole_numbers(strides))
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return arguments[0]
    return Record(name)


def _persistent(value: Any) -> Any:
    """What PyTorch keeps outside of its pickle: a storage, or the class of a module with its source text."""
    match value:
        case ("module", _Global() as kind, *_):
            return kind
        case ("storage", _Global(name=name), str(key), _, count, *views):
            module, _, numbers = name.rpartition(".")
            if module not in ("torch", "torch.cuda") or numbers not in _STORAGES:
                raise InputError(f"numbers of type {name:.80}, one of {', '.join(_STORAGES)} expected")
            if any(view is not None for view in views):
                raise InputError("a storage that is a part of another, as no PyTorch since 0.4 writes it")
            return Storage(_STORAGES[numbers], key, whole_numbers([count])[0])
    raise InputError("a reference outside of the pickle that is not to a storage; damaged or hostile")


def whole_numbers(values: Any) -> tuple[int, ...]:
    """Whole numbers from 0 as a tuple; an error for anything else."""
    values = tuple(values)
    if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 48 for v in values):
        # Unprinted: a list of lists of the same lists would fill the memory.
        raise InputError("a shape or a length that is not made of whole numbers from 0; damaged or hostile")
    return values
