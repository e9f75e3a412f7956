"""Run: a folder that says everything that happened in one training, read back as plain objects or taken up again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets import Dataset
from covidcxnet.datasets.load import folder_of, readdressed
from covidcxnet.preparation import Store
from enhancement.errors import InputError
from enhancement.files import whole_file

from . import data
from .arguments import load_recipe
from .recipe import Recipe

STATE_FORMAT = 1


class Run:
    """A run folder.

    ===================== ==========================================================================================
    ``recipe.yaml``       the resolved recipe
    ``split.csv``         path, split (train, validation, test), grouped_by (patient, image; patient unknown)
    ``environment.json``  versions, seed, device
    ``run.json``          status, store, best epoch, images by split and class
    ``log.csv``           one line an epoch: losses, figures, learning rate, seconds
    ``curves.png``        the log as a picture
    ``best.weights.h5``   weights of the best validation figure, with everything needed to use them
    ``last.weights.h5``   weights of the last whole epoch
    ``state.h5``          what ``--resume`` needs
    ``tensorboard/``      where asked for
    ``report/``           where `evaluate.py` writes
    ===================== ==========================================================================================

    Parameters
    ----------
    path : path-like
        The folder.

    Raises
    ------
    InputError
        If it is not a run folder; on access, if a part of it is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such run folder")
        if not (self.path / "recipe.yaml").is_file() or not (self.path / "run.json").is_file():
            raise InputError(f"{self.path}: not a run folder; it has no recipe.yaml and run.json")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status.get('status')})"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the training, with its classes resolved."""
        return load_recipe(self.path / "recipe.yaml")

    @property
    def status(self) -> dict[str, Any]:
        """`run.json`: status (preparing, running, interrupted, failed or finished), epoch, best epoch, counts."""
        return self._json("run.json")

    @property
    def environment(self) -> dict[str, Any]:
        """`environment.json`: versions, seed, device."""
        return self._json("environment.json")

    @cached_property
    def split(self) -> pd.DataFrame:
        """Columns path, split and grouped_by; also of images that could not be read."""
        # As text, or a path such as 007 would become a number.
        return pd.read_csv(self._file("split.csv"), dtype=str)

    @property
    def log(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.read_csv(self._file("log.csv"))

    @property
    def best_weights(self) -> Path:
        """Weights of the epoch with the best validation figure."""
        return self._file("best.weights.h5")

    @property
    def last_weights(self) -> Path:
        """Weights of the last whole epoch."""
        return self._file("last.weights.h5")

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the recipe names, found again even where the program runs in another folder."""
        recipe, folder = self.recipe, self.status.get("data")
        # A relative path in the recipe means the folder that the training began in.
        if recipe.data != "phantom" and folder and not folder_of(recipe.data).exists():
            return data.dataset_of(recipe, readdressed(recipe.data, self.path / folder))
        return data.dataset_of(recipe)

    @property
    def store_path(self) -> Path | None:
        """Where the prepared stacks lie; None before they are prepared."""
        name = self.status.get("store")
        return Path(os.path.normpath(self.path / name)) if name else None

    @cached_property
    def store(self) -> Store:
        """The prepared stacks; several runs may share one."""
        path = self.store_path
        if path is None or not path.is_file():
            raise InputError(f"{self.path}: its store {path} is gone; train.py --resume {self.path} prepares it again")
        return Store(path)

    def rows(self, split: str) -> np.ndarray:
        """Rows of the store that belong to train, validation or test, int64 [n]."""
        return data.rows_of(self.store, self.split, split)

    def update(self, **values: Any) -> None:
        """Change `run.json`, whole."""
        # Read anew each time: callers change different keys.
        old = self.status if (self.path / "run.json").is_file() else {}
        write_json(self.path / "run.json", old | values)

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise InputError(f"{path}: missing; the run is {self.status.get('status')}")
        return path

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: missing or damaged ({error})") from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON that people can read, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_state(path: str | Path, model, optimizer, values: dict[str, Any]) -> None:
    """Write what a run needs to go on after a kill: weights, variables of the optimizer and plain `values`.

    All in one HDF5 file, whole or not at all, so that no kill can leave halves of two epochs. No random state is kept:
    order, augmentation and dropout are functions of (seed, epoch).
    """
    import h5py
    import keras

    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file.attrs["format"] = STATE_FORMAT
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
            if file.attrs.get("format") != STATE_FORMAT:
                raise InputError(f"{path}: not a training state of this version")
            yield file
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        hint = "start a new run with --init and the run's last.weights.h5"
        raise InputError(f"{path}: damaged ({error}); {hint}") from error
