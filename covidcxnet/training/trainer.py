"""Train a recipe to a run: from data to best weights, or on from where a run stopped."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidcxnet import backend
from enhancement.errors import InputError
from enhancement.files import check_output

from . import data
from .base_image import with_histogram
from .building import check_before_data, fitting_of, model_for, seeded_model
from .recipe import Recipe, save_recipe
from .run import Run, copies_left_out, dataset_of, rows_of, write_json

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from covidcxnet.datasets import Dataset


def train(recipe: Recipe | None = None, *, resume: str | Path | None = None, epochs: int | None = None) -> Run:
    """Train a classifier.

    Parameters
    ----------
    recipe : Recipe, optional
        What to do; the defaults train on the phantom.
    resume : path-like, optional
        A run folder to go on with after its last whole epoch, under its own recipe. The result equals that of a run
        that was never stopped.
    epochs : int, optional
        With `resume`: another number of epochs in all; refused under a cosine, whose rate falls to 0 at their end.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If data, recipe or initial weights cannot be used.
    KeyboardInterrupt
        After Ctrl-C; the run is left whole and the message says how to resume.
    """
    if resume is None:
        recipe = recipe or Recipe()
        _refuse_used(recipe.out)
        backend.check_precision(recipe.precision)
        early = check_before_data(recipe)
        dataset = dataset_of(recipe)
        recipe = dataclasses.replace(recipe, classes=dataset.classes)
        split = data.split_of(recipe, dataset)
        if not recipe.multilabel:
            data.refuse_empty(split, dataset)
        built = model_for(recipe, dataset.classes, early)
    else:
        if recipe is not None:
            raise InputError("resume: a resumed run keeps its own recipe; give only epochs")
        run = Run(resume)
        if run.recipe.schedule == "cosine" and epochs not in (None, run.recipe.epochs):
            raise InputError(
                f"epochs: the cosine of this run ends after {run.recipe.epochs}, and another end would set the "
                f"learning rate back; train on with --init {run.path} into another folder"
            )
        for left in run.path.glob(".*.partial.*"):  # half-written files of a killed process
            left.unlink()
        recipe = run.recipe if epochs is None else dataclasses.replace(run.recipe, epochs=epochs)
        backend.check_precision(recipe.precision)
        dataset, split = run.dataset, run.split
        built = seeded_model(recipe, dataset.classes, run.status.get("options", {}))

    with backend.precision(recipe.precision):
        data.segmenter_of(recipe)  # what is missing is said before a folder is made
        if resume is None:
            recipe = with_histogram(recipe, dataset, split)
            run = _new_run(recipe, dataset, split, built.options)
        elif epochs is not None:
            save_recipe(recipe, run.path / "recipe.yaml")
        try:
            _prepare(run, recipe, dataset, split, built.loaded)
            _fit(run, recipe, built.model, built.options)
        except KeyboardInterrupt:
            run.update(status="interrupted")
            done = run.status.get("epoch", 0)
            message = f"stopped after {done} whole epochs of {recipe.epochs}; go on with: train.py --resume {run.path}"
            raise KeyboardInterrupt(message) from None
        except Exception as error:
            run.update(status="failed", reason=str(error))
            raise
    return Run(run.path)


def _new_run(recipe: Recipe, dataset: Dataset, split: pd.DataFrame, options: dict[str, Any]) -> Run:
    from covidcxnet.datasets import save_split
    from covidcxnet.datasets.named import folder_of
    from covidcxnet.datasets.splits import unknown_patients

    from .environment import environment

    path = Path(recipe.out) if recipe.out else _free_folder(f"{dataset.name}-{recipe.model}")
    path.mkdir(parents=True, exist_ok=True)
    save_recipe(dataclasses.replace(recipe, out=""), path / "recipe.yaml")
    save_split(split, path / "split.csv")
    write_json(path / "environment.json", environment(recipe.seed, recipe.precision))
    where = "" if recipe.data == "phantom" else _relative(folder_of(recipe.data), path)
    facts = {"status": "preparing", "name": path.name, "data": where, "epoch": 0, "options": options}
    unknown = unknown_patients(dataset)
    write_json(path / "run.json", facts | {"split_by": recipe.split_by, "unknown_patients": unknown})
    if unknown:
        _say(
            f"the patient of {unknown} of {len(dataset)} images is unknown: images of one patient may stand on two "
            "sides of the split, and figures are then too high"
        )
    return Run(path)


def _prepare(run: Run, recipe: Recipe, dataset: Dataset, split: pd.DataFrame, loaded: str) -> None:
    """Prepare the store and say what the run works on."""
    known = run.status.get("store")
    path = Path(os.path.normpath(run.path / known)) if known else data.store_path(recipe, dataset)
    with data.prepared(recipe, dataset, path) as store:
        counts = data.counts_of(store, split, dataset.classes, recipe.multilabel)
        images = {name: len(rows_of(store, split, name)) for name in counts}
        rejected, copies = len(store.rejected), copies_left_out(store, split)
    run.update(status="running", store=_relative(path, run.path), counts=counts, rejected=rejected, init=loaded)
    _say(f"run {run.path}: {recipe.model}, {loaded}")
    if slow := backend.precision_advice(recipe.precision):
        _say(slow)
    for name, by_class in counts.items():
        note = "; not opened before the evaluation" if name == "test" else ""
        text = ", ".join(f"{count} {label}" for label, count in by_class.items())
        _say(f"  {name}: {images[name]} images ({text}){note}")
    if copies:
        _say(f"  {copies} files are left out: exact copies of them stand on another side of the split")
    if rejected:
        _say(f"  {rejected} files could not be used; the store's table `rejected` and the report say why")


def _fit(run: Run, recipe: Recipe, core: keras.Model, options: dict[str, Any]) -> None:
    from .statistics import with_statistics

    core, options = with_statistics(core, options, recipe, run.store, run.rows("train"))
    run.update(options=options)
    fitting = fitting_of(recipe)(run, recipe, core, options)
    try:
        fitting.restore()
        fitting.fit()
    except KeyboardInterrupt:
        fitting.draw()
        raise
    fitting.finish()


def _refuse_used(out: str) -> None:
    """A folder with a run in it is not written over; one that never got to an epoch is."""
    if not out:
        return
    path = Path(out)
    if not path.exists():
        check_output(path, folder=True)
        return
    if not path.is_dir():
        raise InputError(f"out: {path} is a file; give the name of a new folder")
    if (path / "state.h5").exists():
        raise InputError(f"out: {path} holds a run; go on with it by --resume {path}, or name another folder")
    if any(path.iterdir()) and not (path / "run.json").exists():
        raise InputError(f"out: {path} is not empty and no run; name a new folder")


def _free_folder(name: str) -> Path:
    folder = Path("runs") / name
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{name}-{number}")
    return folder


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return str(path.absolute())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
