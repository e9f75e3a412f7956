"""What is saved after an epoch: the state that a resumed run needs, and what a weights file says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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


@dataclass(frozen=True)
class State:
    """What a run had come to: plain values, and arrays in the order of the variables of model and optimizer."""

    path: Path
    values: dict[str, Any]
    arrays: dict[str, list[np.ndarray]]

    def assign(self, group: str, variables) -> None:
        """Set the variables of "model" or "optimizer", all or none; `InputError` if the state is of another model."""
        arrays = self.arrays[group]
        if len(arrays) != len(variables):
            text = f"{len(arrays)} {group} arrays found, {len(variables)} expected by the recipe"
            raise InputError(f"{self.path}: {text}")
        for number, (variable, array) in enumerate(zip(variables, arrays, strict=True)):
            if array.shape != tuple(variable.shape):
                text = f"{group} array {number} is {array.shape}, {tuple(variable.shape)} expected"
                raise InputError(f"{self.path}: {text}")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)


def read_state(path: str | Path) -> State | None:
    """The state in a file, None where there is no such file; `InputError` if it is damaged."""
    import h5py

    path = Path(path)
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != STATE_FORMAT:
                raise InputError(f"{path}: not a training state of this version")
            arrays = {
                group: [file[group][name][()] for name in sorted(file[group])] for group in ("model", "optimizer")
            }
            return State(path, json.loads(file["values"][()]), arrays)
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
            **({"teacher": status["teacher"]["name"]} if recipe.teacher else {}),
            **{name: plain[name] for name in AS_GIVEN},
        },
    }


def published_name(name_or_path: str) -> str:
    """Weights as a weights file may name them: a name, or a file's name and content, never a machine's path."""
    # A path would reveal the machine to other people and mean nothing to them.
    path = Path(name_or_path)
    return f"{path.name}, SHA-256 {sha256(pretrained.resolve(name_or_path))}" if path.exists() else path.name
