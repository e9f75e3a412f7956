"""What is saved after an epoch: the state that a resumed run needs, and what a weights file says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from covidcxnet import pretrained
from enhancement.errors import InputError
from enhancement.parallel import sha256
from weights.hdf5 import new_hdf5

from .recipe import Recipe
from .run_folder import Run

STATE_FORMAT = 1
AS_GIVEN = (
    *("trainable", "batch_size", "optimizer", "learning_rate", "schedule", "label_smoothing", "class_weights"),
    *("sampling", "precision"),
)
"""Recipe keys that weights files hold as they are."""


def save_state(path: str | Path, model, optimizer, values: dict[str, Any]) -> None:
    """Write what a run needs to go on after a kill: weights, variables of the optimizer and plain `values`.

    All in one HDF5 file, whole or not at all, so that no kill can leave halves of two epochs. No random state is kept:
    order, augmentation and dropout are functions of (seed, epoch).
    """
    import keras

    with new_hdf5(path) as file:
        file.attrs["format"] = STATE_FORMAT
        # A dataset and not an attribute: the log of a long run outgrows the 64 KiB of an attribute.
        file["values"] = json.dumps(values)
        for group, variables in (("model", model.weights), ("optimizer", optimizer.variables)):
            for number, variable in enumerate(variables):
                file[f"{group}/{number:05d}"] = keras.ops.convert_to_numpy(variable)


def load_state(path: str | Path, model, optimizer=None) -> dict[str, Any]:
    """Set weights and optimizer (if there is one yet) from a state file, all or nothing, and return its plain values.

    `InputError` if the file is damaged or belongs to another model.
    """
    groups = [("model", model.weights), *([] if optimizer is None else [("optimizer", optimizer.variables)])]
    with _opened(path) as file:
        arrays = []
        for group, variables in groups:
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
            if file.attrs.get("format") != STATE_FORMAT:
                raise InputError(f"{path}: not a training state of this version")
            yield file
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        hint = "start a new run with --init and the run's last.weights.h5"
        raise InputError(f"{path}: damaged, or no training state; {hint}") from error


def weights_metadata(
    run: Run, recipe: Recipe, options: dict[str, Any], epoch: int, figures: dict[str, float]
) -> dict[str, Any]:
    """Metadata of the weights after an epoch, from 1: everything needed to use them, and how they came about."""
    plain, status = recipe.to_dict(), run.status
    return {
        "kind": "classifier",
        "architecture": {"name": recipe.model, "options": options},
        "classes": list(recipe.classes),
        "input": run.store.settings.to_dict(),
        "segmenter": dict(run.store.segmenter or {}),
        "training": {
            "run": run.path.name,
            "data": run.store.name,
            "images": {name: status["counts"][name] for name in ("train", "validation")},
            "epoch": int(epoch),
            "monitor": recipe.monitor,
            # Six digits are enough to compare runs and hide the last bit, which differs between machines.
            "figures": {name: round(float(v), 6) for name, v in figures.items() if name.startswith("val_")},
            "seed": recipe.seed,
            "augment": plain["augment"],
            "init": published_name(recipe.init),
            **{name: plain[name] for name in AS_GIVEN},
        },
    }


def published_name(init: str) -> str:
    """Initial weights as a weights file may name them: a name, or a file's name and content, never a machine's path."""
    # A path would reveal the machine to other people and mean nothing to them.
    path = Path(init)
    return f"{path.name}, SHA-256 {sha256(pretrained.resolve(init))}" if path.exists() else path.name
