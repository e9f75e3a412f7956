"""What a run needs to go on after a kill: one HDF5 file, written whole after each epoch.

Weights, optimizer, learning rate, monitor and log lie in the same file, so that no kill can leave halves of two epochs.
No random state is kept: order, augmentation and dropout are functions of (seed, epoch).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enhancement.errors import InputError
from enhancement.files import whole_file

FORMAT = 1


def save_state(path: str | Path, model, optimizer, values: dict[str, Any]) -> None:
    """Write weights of `model`, variables of `optimizer` and plain `values`, whole or not at all."""
    import h5py
    import keras

    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file.attrs["format"] = FORMAT
        # A dataset and not an attribute: the log of a long run outgrows the 64 KiB of an attribute.
        file["values"] = json.dumps(values)
        for group, variables in (("model", model.weights), ("optimizer", optimizer.variables)):
            for number, variable in enumerate(variables):
                file[f"{group}/{number:05d}"] = keras.ops.convert_to_numpy(variable)


def load_state(path: str | Path, model, optimizer) -> dict[str, Any]:
    """Set weights and optimizer from a state file, all or nothing, and return its plain values.

    `InputError` if the file is damaged or belongs to another model.
    """
    with _opened(path) as file:
        arrays = []
        for group, variables in (("model", model.weights), ("optimizer", optimizer.variables)):
            stored = file[group]
            if len(stored) != len(variables):
                raise InputError(f"{path}: {len(stored)} {group} arrays found, {len(variables)} expected by the recipe")
            for number, variable in enumerate(variables):
                data = stored[f"{number:05d}"]
                if data.shape != tuple(variable.shape):
                    expected = tuple(variable.shape)
                    raise InputError(f"{path}: {group} array {number} is {data.shape}, {expected} expected")
                arrays.append((variable, data[()]))
        values = json.loads(file["values"][()])
    # Only now, when all of the file was read: a damaged one leaves the model as it was.
    for variable, array in arrays:
        variable.assign(array)
    return values


def load_values(path: str | Path) -> dict[str, Any]:
    """The plain values of a state file alone, to learn what its arrays belong to; raises as `load_state`."""
    with _opened(path) as file:
        return json.loads(file["values"][()])


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """An HDF5 state file, whose every defect is an `InputError`."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise InputError(f"{path}: not a training state of this version")
            yield file
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        hint = "start a new run with --init and the run's last.weights.h5"
        raise InputError(f"{path}: damaged ({error}); {hint}") from error
