"""Public sets by name: the folder as published and unpacked becomes a `Dataset`. One module a set.

``NAME:FOLDER`` addresses a set wherever data is asked for, ``NAME,option=value:FOLDER`` with options.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from enhancement.errors import InputError

NAMES = (
    "covidcxnet",
    "cohen",
    "hannover",
    "figure1",
    "actualmed",
    "radiography",
    "kermany",
    "nih",
    "rsna",
    "chexpert",
    "shenzhen",
    "montgomery",
    "jsrt",
)
"""The sets there are; each is the module of its name."""

# one letter is a Windows drive
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9_-]+)((?:,[^:,]*)*):(.+)", re.S)


def facts_of(name: str) -> Facts:
    """Facts about a set; `InputError` with the list of sets for an unknown name."""
    return _module(name).FACTS


def load_named(name: str, folder: str | Path, **options: str) -> Dataset:
    """Read a published set from its folder.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    folder : path-like
        As published and unpacked; a folder around it will do.
    **options
        As the set's facts list them.

    Raises
    ------
    InputError
        For an unknown name, option or value, or a folder that does not hold the set.
    """
    module = _module(name)
    for key, value in options.items():
        allowed = module.FACTS.options.get(key)
        if allowed is None:
            there = ", ".join(module.FACTS.options) or "none"
            raise InputError(f"{name}: no option {key!r}; there are: {there}")
        if value not in allowed:
            raise InputError(f"{name}: {key}={value!r} given, one of {', '.join(allowed)} expected")
    return module.load(folder, **options)


def address_of(data: str | Path) -> tuple[str, dict[str, str], str] | None:
    """Name, options and folder of ``NAME,option=value:FOLDER``; None for anything else, such as a path that exists.

    Raises
    ------
    InputError
        If it looks like an address and names no set, or an option is not written ``option=value``.
    """
    match = _ADDRESS.fullmatch(str(data))
    if match is None or match[3].startswith("//") or Path(data).exists():
        return None
    options = {}
    _module(match[1])
    for part in match[2].split(",")[1:]:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{data}: {part!r} is not option=value")
        options[key.strip()] = value.strip()
    return match[1], options, match[3]


def load_address(data: str | Path) -> Dataset | None:
    """The set that an address names; None where `data` is none."""
    found = address_of(data)
    if found is None:
        return None
    name, options, folder = found
    return load_named(name, Path(folder).expanduser(), **options)


def folder_of(data: str | Path) -> Path:
    """The folder or file on disk that `data` is about, address or path."""
    found = address_of(data)
    return Path(data if found is None else found[2])


def readdressed(data: str | Path, folder: str | Path) -> str | Path:
    """The same data in another place: an address keeps its name and options, a path is replaced."""
    found = address_of(data)
    if found is None:
        return folder
    name, options, _ = found
    return f"{','.join([name, *(f'{k}={v}' for k, v in options.items())])}:{folder}"


def _module(name: str):
    if name not in NAMES:
        raise InputError(f"{name!r} is not a set known by name; there are: {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}")
