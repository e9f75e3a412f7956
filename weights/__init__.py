"""Released weights by name, and the weights-file format.

`manifest.json` lists files of this package and public files that are downloaded once and verified; each of our own
files has a card beside it (`NAME.md`). Names load on first use: ``import weights`` needs neither Keras nor h5py.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "FOLDER": "manifest",
    "WeightsError": "manifest",
    "is_name": "registry",
    "load_weights": "format",
    "locate": "registry",
    "names": "registry",
    "read_metadata": "format",
    "released": "registry",
    "save_weights": "format",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
