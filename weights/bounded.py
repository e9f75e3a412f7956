"""Networks that untrusted metadata describe: built only as far as the arrays in their file can fill them."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enhancement.errors import InputError

from .hdf5 import open_plain, shapes

MOST_VARIABLES = 10_000
"""Variables of one network; the deepest here has some 1,500."""

# A network may make variables that it does not keep (a trunk that it copies), but not many times as many.
_SLACK = 3
_SPARE_VARIABLES = 100
_SPARE_NUMBERS = 100_000

# `add_weight` is replaced for all threads at once, so that one network is built at a time.
_building = threading.RLock()


@contextmanager
def bounded_by(path: str | os.PathLike[str], sizes: list[int] | None = None) -> Iterator[None]:
    """Refuse variables, before memory is taken for them, that the weights file at `path` cannot fill.

    `sizes` are the numbers of its arrays; they are read from HDF5 where they are not given.

    The network is built inside the block, in this thread. Whatever the option is called that makes it too wide or too
    deep, it shows in the shapes that its layers request; these are counted against what the file really holds, and
    `InputError` ends the block at the first variable too many.
    """
    import keras

    if sizes is None:
        with open_plain(Path(path)) as file:
            sizes = [math.prod(shape) for shape in shapes(file["/"])]
    most_numbers = _SLACK * sum(sizes) + _SPARE_NUMBERS
    most_variables = min(_SLACK * len(sizes) + _SPARE_VARIABLES, MOST_VARIABLES)
    count = [0, 0]
    thread = threading.get_ident()

    def bounded(layer, shape=None, *args, **options):
        if threading.get_ident() == thread:
            count[0] += 1
            count[1] += math.prod(shape or ())
            if count[0] > most_variables or count[1] > most_numbers:
                raise InputError(
                    f"{path}: it describes {count[0]:,} variables of {count[1]:,} numbers and more, "
                    f"it holds {len(sizes):,} and {sum(sizes):,}; damaged or hostile"
                )
        return add_weight(layer, shape, *args, **options)

    with _building:
        add_weight = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = bounded
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = add_weight
