"""Public sets by name: the folder as published and unpacked becomes a `Dataset`. One module a publisher.

``NAME:FOLDER`` addresses a set wherever data is asked for, ``NAME,option=value:FOLDER`` with options.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import (
    chexpert,
    cohen,
    covidcxnet,
    covidx,
    hannover,
    jsrt,
    kermany,
    nih,
    nlm,
    radiography,
    rsna,
)
from covidcxnet.datasets.named.facts import facts_of
from enhancement.errors import InputError

_READERS: dict[str, Callable[..., Dataset]] = {
    "covidcxnet": covidcxnet.read,
    "cohen": cohen.read,
    "hannover": hannover.read,
    "figure1": covidx.read_figure1,
    "actualmed": covidx.read_actualmed,
    "radiography": radiography.read,
    "kermany": kermany.read,
    "nih": nih.read,
    "rsna": rsna.read,
    "chexpert": chexpert.read,
    "shenzhen": nlm.read_shenzhen,
    "montgomery": nlm.read_montgomery,
    "jsrt": jsrt.read,
}
NAMES = tuple(_READERS)
"""The sets there are."""

# one letter is a Windows drive
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9_-]+)((?:,[^:,]*)*):(.+)", re.S)


def load_named(name: str, folder: str | Path, **options: str) -> Dataset:
    """Read a published set, one of `NAMES`, from its folder as published and unpacked; a folder around it will do.

    Options are those that its facts list. `InputError` for an unknown name, option or value, or a folder that does not
    hold the set.
    """
    facts = facts_of(name)
    for key, value in options.items():
        if key not in facts.options:
            raise InputError(f"{name}: no option {key!r}; there are: {', '.join(facts.options) or 'none'}")
        if value not in facts.options[key]:
            raise InputError(f"{name}: {key}={value!r} given, one of {', '.join(facts.options[key])} expected")
    defaults = {key: allowed[0] for key, allowed in facts.options.items()}
    return _READERS[name](folder, facts, **defaults | options)


def address_of(data: str | Path) -> tuple[str, dict[str, str], str] | None:
    """Name, options and folder of ``NAME,option=value:FOLDER``; None for anything else, such as a path that exists.

    `InputError` if it looks like an address and names no set, or an option is not written ``option=value``.
    """
    match = _ADDRESS.fullmatch(str(data))
    if match is None or match[3].startswith("//") or Path(data).exists():
        return None
    options = {}
    facts_of(match[1])
    for part in match[2].split(",")[1:]:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{data}: {part!r} is not option=value")
        options[key.strip()] = value.strip()
    return match[1], options, match[3]


def load_address(data: str | Path) -> Dataset | None:
    """The set that an address names; None where `data` is not an address."""
    address = address_of(data)
    if address is None:
        return None
    name, options, folder = address
    return load_named(name, Path(folder).expanduser(), **options)


def folder_of(data: str | Path) -> Path:
    """The folder or file on disk that `data` is about, address or path."""
    address = address_of(data)
    return Path(data if address is None else address[2])


def readdressed(data: str | Path, folder: str | Path) -> str | Path:
    """The same data in another folder: an address keeps its name and options, a path is replaced."""
    address = address_of(data)
    if address is None:
        return folder
    name, options, _ = address
    return f"{','.join([name, *(f'{k}={v}' for k, v in options.items())])}:{folder}"
