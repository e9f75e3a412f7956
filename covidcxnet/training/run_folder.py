"""The run folder: everything that happened in one training, written whole, read back as plain objects."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.backend import devices
from covidcxnet.datasets import Dataset
from covidcxnet.datasets.load import folder_of, readdressed
from covidcxnet.datasets.splits import unknown_patients
from covidcxnet.datasets.tables import read_text, save_table
from covidcxnet.preparation import Store
from covidcxnet.reporting import pages, plots
from covidcxnet.reporting.table import Html, Table, count
from enhancement.errors import InputError
from enhancement.files import check_output, whole_file
from enhancement.lock import locked
from enhancement.notebook import NotebookDisplay
from enhancement.parallel import sha256

from . import data
from .arguments import load_recipe
from .recipe import NEW_SPLIT, TRAINING_IMAGES, Recipe, save_recipe
from .sampling import rows_of

LOCK = ".lock"
SOFT_LABELS = "soft_labels.csv"
PACKAGES = (
    *("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "opencv-python", "scikit-image"),
    *("scikit-learn", "h5py", "pandas", "pydicom", "matplotlib", "lime", "jsonargparse"),
)
FIGURES = {
    "val_auroc": "AUROC",
    "val_average_precision": "average precision",
    "val_accuracy": "accuracy",
    "val_f1": "macro F1",
    "val_loss": "loss",
}


class Run(NotebookDisplay):
    """A run folder; a notebook shows its state and its curves.

    ===================== ==========================================================================================
    ``recipe.yaml``       the resolved recipe
    ``split.csv``         path, split, grouped_by; copy_of: file of a later split of which this is a copy, not used
    ``soft_labels.csv``   with a teacher: path and its probabilities for the training images; a NaN where it has none
    ``rejected.csv``      path and reason of files that could not be used, where there are any
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
        try:
            return f"Run({str(self.path)!r}, {self.progress})"
        except InputError:  # the folder may be gone
            return f"Run({str(self.path)!r})"

    def _html(self) -> str:
        recipe, status = self.recipe, self.status
        rows = [
            ("state", self.progress),
            ("model", f"{recipe.model}, {recipe.input.size} pixels, {', '.join(recipe.input.channels)}"),
            ("data", recipe.data),
            ("classes", ", ".join(recipe.classes)),
            ("best epoch", str(status.get("best_epoch") or "none")),
        ]
        if (self.path / "log.csv").is_file():
            last = self.log.iloc[-1]
            rows += [(title, f"{last[name]:.3f}") for name, title in FIGURES.items() if name in last]
        html = Table(("Run", str(self.path)), rows, note="Validation figures are those of the last epoch.").html()
        curves = self.path / "curves.png"
        if curves.is_file():
            html += Html('<img alt="learning curves" style="max-width: 100%" src="{}">').format(
                plots.data_uri(curves.read_bytes())
            )
        return str(html)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the training, with its classes resolved."""
        return load_recipe(self.path / "recipe.yaml")

    @property
    def status(self) -> dict[str, Any]:
        """`run.json`: status (preparing, running, interrupted, failed or finished), epoch, best epoch, counts."""
        return self._json("run.json")

    @property
    def progress(self) -> str:
        """How far the training got, in words; a killed process leaves "running" in `status`, which is then wrong."""
        status = self.status
        if status.get("status") == "finished":
            return "finished"
        epoch = status.get("epoch", 0)
        return f"stopped after epoch {epoch}" if epoch else "no epoch was finished"

    @property
    def environment(self) -> dict[str, Any]:
        """`environment.json`: versions, seed, device."""
        return self._json("environment.json")

    @cached_property
    def split(self) -> pd.DataFrame:
        """Columns path, split and grouped_by, or copy_of too; also of images that could not be read."""
        return read_text(self._file("split.csv"), "a split")

    @property
    def taught(self) -> bool:
        """Whether this training has its teacher's answers; `InputError` if they were changed since."""
        # A file without a record was left by another training in this folder.
        known = "teacher" in self.status and (self.path / SOFT_LABELS).is_file()
        return known and len(self.soft_labels) > 0

    @cached_property
    def soft_labels(self) -> pd.DataFrame:
        """What the teacher says of the training images, see `distillation.soft_labels`; `InputError` if changed."""
        path = self._file(SOFT_LABELS)
        if sha256(path) != self.status.get("teacher", {}).get("soft_labels_sha256"):
            raise InputError(
                f"{path}: damaged or edited; these are not the answers that the teacher gave. Delete the file, and "
                f"covidcxnet train --resume {self.path} asks the teacher again"
            )
        table = read_text(path, "soft labels")
        return table.assign(**table.drop(columns="path").apply(pd.to_numeric, errors="coerce"))

    def keep_soft_labels(self, table: pd.DataFrame, teacher: str) -> None:
        """Write `soft_labels.csv`, and record in `run.json` whose answers they are."""
        path = save_table(table, self.path / SOFT_LABELS)
        self.update(teacher={"name": teacher, "soft_labels_sha256": sha256(path)})

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
            raise InputError(
                f"{self.path}: its store {path} is gone; covidcxnet train --resume {self.path} prepares it again"
            )
        return Store(path)

    def rows(self, split: str) -> np.ndarray:
        """Rows of the store that belong to train, validation or test, int64 [n]."""
        return rows_of(self.store, self.split, split)

    def enter(self, lock: ExitStack) -> None:
        """Keep other trainings out until `lock` is closed; `InputError` names the process that trains here."""
        lock.enter_context(_locked(self.path))
        # Half-written files of a killed process: whole ones replace them; they only take space.
        for left in self.path.glob(".*.partial.*"):
            left.unlink()

    def update(self, **values: Any) -> None:
        """Change `run.json`, whole."""
        # Read anew each time: callers change different keys.
        old = self.status if (self.path / "run.json").is_file() else {}
        write_json(self.path / "run.json", old | values)

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise InputError(f"{path}: missing; {self.progress}")
        return path

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: missing or damaged; no run is whole without it") from error


def check_files(recipe: Recipe) -> None:
    """`InputError` if a file that the recipe names is not there, before images are read or made."""
    named = {"split": recipe.split, "verdicts": recipe.verdicts, "match_to": recipe.match_to}
    words = {("split", NEW_SPLIT), ("match_to", TRAINING_IMAGES)}
    for key, path in named.items():
        if path and (key, path) not in words and not Path(path).is_file():
            raise InputError(f"{key}: {path}: no such file; give another, or leave {key} out")


def check_paths(recipe: Recipe) -> None:
    """`check_files`, and `InputError` if the run folder cannot be written, holds something else, or is in use."""
    check_files(recipe)
    folder = Path(recipe.out)
    if not recipe.out:
        return
    if not folder.exists():
        check_output(folder, folder=True)
    elif not folder.is_dir():
        raise InputError(f"out: {folder} is a file; give the name of a new folder")
    else:
        with _locked(folder) if (folder / LOCK).exists() else nullcontext():
            _check_empty(folder)


def _check_empty(folder: Path) -> None:
    if (folder / "state.h5").exists():
        # A run that never got to an epoch is written over.
        raise InputError(f"out: {folder} holds a run; resume it with --resume {folder}, or name another folder")
    if {*folder.iterdir()} - {folder / LOCK} and not (folder / "run.json").exists():
        raise InputError(f"out: {folder} is not empty and no run; name a new folder")


def _locked(folder: Path) -> AbstractContextManager[None]:
    return locked(folder / LOCK, "trains in this folder")


def stopped_run(path: str | Path, epochs: int | None) -> Run:
    """The run to go on with; `InputError` if it cannot end after so many epochs."""
    run = Run(path)
    if run.recipe.schedule == "cosine" and epochs not in (None, run.recipe.epochs):
        raise InputError(
            f"epochs: the cosine of this run ends after {run.recipe.epochs}, and another end would set the "
            f"learning rate back; train on with --init {run.path} into another folder"
        )
    return run


def new_folder(recipe: Recipe, dataset: Dataset, split: pd.DataFrame, options: dict[str, Any], lock: ExitStack) -> Path:
    """A new run folder, locked, with all that is known before images are prepared."""
    path, number = Path(recipe.out or f"runs/{dataset.name}-{recipe.model}"), 1
    while not recipe.out and path.exists():
        number += 1
        path = path.with_name(f"{dataset.name}-{recipe.model}-{number}")
    path.mkdir(parents=True, exist_ok=bool(recipe.out))
    lock.enter_context(_locked(path))
    _check_empty(path)  # again: another training may have been here since the first check
    unknown = unknown_patients(dataset)
    if unknown:
        print(
            f"No patient IDs ({unknown} of {count(len(dataset), 'image')}): images of one patient can end up in both "
            "training and test sets, which inflates the scores",
            file=sys.stderr,
            flush=True,
        )
    folder = "" if recipe.data == "phantom" else relative(folder_of(recipe.data), path)
    save_table(split, path / "split.csv")
    write_json(path / "environment.json", environment(recipe.seed, recipe.precision))
    status = {"status": "preparing", "name": path.name, "data": folder, "epoch": 0, "options": options}
    write_json(path / "run.json", status | {"split_by": recipe.split_by, "unknown_patients": unknown})
    save_recipe(dataclasses.replace(recipe, out=""), path / "recipe.yaml")  # the folder may be moved
    return path


def relative(path: Path, start: Path) -> str:
    """`path` as seen from a folder, with slashes; absolute where they are on different drives."""
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:
        return str(path.absolute())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON that people can read, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def environment(seed: int, precision: str) -> dict[str, Any]:
    """Versions of what is installed, the machine and the devices that Keras uses."""
    import keras

    versions = {}
    for name in PACKAGES:  # as installed: importing all of them would take seconds
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            processor = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        processor = platform.processor()  # empty on most Linux systems
    return {
        "covidcxnet": pages.generator(),
        "python": platform.python_version(),
        "packages": versions,
        "backend": keras.backend.backend(),
        "devices": devices(),
        "precision": precision,
        "seed": seed,
        "system": platform.platform(),
        "processor": processor,
        "cores": os.cpu_count(),
    }


def draw_curves(history: list[dict[str, float]], path: str | Path, *, best_epoch: int = 0, monitor: str = "") -> Path:
    """Draw loss and F1 of training and validation, validation figures and learning rate over epochs, as a PNG.

    A line marks the best epoch, if there is one, and the legend names the figure that picked it.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure, panels = plots.figure(14, 3.6, 1, 4, dpi=110)
    shown = [name for name in ("val_auroc", "val_average_precision", "val_accuracy") if any(name in r for r in history)]
    contents = (
        ("loss", {"loss": "training", "val_loss": "validation"}),
        ("macro F1", {"f1": "training", "val_f1": "validation"}),
        ("validation figures", {name: FIGURES[name] for name in shown}),
        ("learning rate", {"learning_rate": "learning rate"}),
    )
    for axes, (title, names) in zip(panels, contents, strict=True):
        for k, (name, label) in enumerate(names.items()):
            axes.plot(
                epochs, [row.get(name, float("nan")) for row in history], label=label, **plots.line(k, marker=True)
            )
        if best_epoch:
            axes.axvline(best_epoch, **plots.REFERENCE)
            if title == "validation figures":
                label = f"epoch {best_epoch}: best {FIGURES.get(monitor, monitor)}"
                axes.plot([], [], **plots.REFERENCE, label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        plots.grid(axes)
        if title == "learning rate" and any(row.get("learning_rate", 0) > 0 for row in history):
            axes.set_yscale("log")
        if axes.get_legend_handles_labels()[0] and title != "learning rate":
            axes.legend(fontsize=8)
    return plots.save(figure, path)
