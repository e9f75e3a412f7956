"""Released weights by name: files of this package, or public files that are downloaded once and verified.

`manifest.json` says what there is; each of our own files has a card beside it (`NAME.md`).
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from enhancement.errors import InputError

if TYPE_CHECKING:
    from .format import load_weights, read_metadata, save_weights

FOLDER = Path(__file__).parent


# Reading and writing weights files needs h5py: loaded on first use.
_HOMES = {"load_weights": "format", "read_metadata": "format", "save_weights": "format"}

__all__ = [
    "FOLDER",
    "WeightsError",
    "is_name",
    "load_weights",
    "locate",
    "names",
    "read_metadata",
    "released",
    "save_weights",
]


class WeightsError(InputError):
    """No such weights, or none that can be trusted: one line with what was found and what to do."""


def names() -> list[str]:
    """Names that `released` knows: those of the manifest and of the files that lie here."""
    from .manifest import read

    return sorted({*read(), *(path.name.removesuffix(".weights.h5") for path in FOLDER.glob("*.weights.h5"))})


def released(name: str, *, progress: bool = True) -> Path:
    """File of released weights: of this package, of the cache, or downloaded into it; verified each time.

    Parameters
    ----------
    name : str
        One of `names()`.
    progress : bool
        Show a bar while downloading.

    Raises
    ------
    WeightsError
        No weights of that name, a file that is not the released one, or no way to fetch it; the
        message says where to get it and where to put it by hand.
    """
    from .registry import resolve

    return resolve(name, progress=progress)


def is_name(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether released weights are meant: a name of the manifest, whatever lies in the working directory.

    ``./NAME`` is a path, and so is every `Path`, which forgets the ``./``.
    """
    from .manifest import read

    return isinstance(name_or_path, str) and name_or_path in read()


def locate(name_or_path: str | os.PathLike[str]) -> Path:
    """File of released weights if `is_name`, else the file of that path; raises as `released` if there is neither."""
    path = Path(name_or_path)
    if os.path.isfile(path) and not is_name(name_or_path):
        return path
    if not isinstance(name_or_path, str):
        raise WeightsError(f"{path}: no such weights file")
    return released(name_or_path)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
