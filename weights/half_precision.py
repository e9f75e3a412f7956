"""A weights file at half its size: kernels kept in float16, everything else as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from enhancement.errors import InputError
from enhancement.files import whole_file

from .hdf5 import open_plain

# What float16 can lose of a number: half a step of its 11 bits, or half of its smallest step near zero.
_RELATIVE, _ABSOLUTE = 2.0**-11, 2.0**-25


def halve(source: str | Path, target: str | Path) -> Path:
    """Copy a weights file with its kernels (arrays of two and more axes) in float16, whole or not at all.

    Keras casts them back to float32 on loading. Biases and batch norms, few and sensitive, keep float32.

    Raises
    ------
    InputError
        If the source is no weights file, or a kernel holds numbers beyond float16.
    """
    import h5py

    with open_plain(source) as given, whole_file(target) as partial, h5py.File(partial, "w") as made:
        made.attrs.update(given.attrs)

        def copy(name: str, item) -> None:
            if isinstance(item, h5py.Group):
                made.require_group(name).attrs.update(item.attrs)
                return
            values = item[()]
            kernel = getattr(values, "ndim", 0) > 1 and values.dtype == np.float32
            made.create_dataset(name, data=_halved(values, f"{source}: {name}") if kernel else values)
            made[name].attrs.update(item.attrs)

        given.visititems(copy)
    return Path(target)


def _halved(values: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        halved = values.astype(np.float16)
    lost = np.abs(halved.astype(np.float32) - values)
    if not (lost <= _RELATIVE * np.abs(values) + _ABSOLUTE).all():
        raise InputError(
            f"{name} holds numbers beyond float16 (largest {np.abs(values).max():g}); keep the file as it is"
        )
    return halved
