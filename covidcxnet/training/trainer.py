"""Train a recipe to a run folder: check, data, model, store, fit, record, each step once and in this order."""

from __future__ import annotations

import dataclasses
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from covidcxnet.backend import precision, precision_advice
from covidcxnet.datasets import SPLITS, Dataset, save_split
from covidcxnet.datasets.dataset import save_table
from covidcxnet.datasets.load import folder_of
from covidcxnet.datasets.splits import unknown_patients
from covidcxnet.models.scaling import TRAINING
from enhancement.errors import InputError

from . import data
from .initial_weights import build_model, model_options
from .loop import loop_for
from .recipe import Recipe, save_recipe
from .run_folder import Run, environment, write_json
from .sampling import summary
from .statistics import channel_statistics, with_histogram


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
        If data, recipe or initial weights cannot be used, or another process trains in the folder.
    KeyboardInterrupt
        After Ctrl-C; the run is left whole and the message says how to resume.
    """
    run = None if resume is None else _stopped_run(resume, recipe, epochs)
    recipe = (recipe or Recipe()) if run is None else run.recipe
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs)
    with precision(recipe.precision), ExitStack() as lock:
        if run is not None:
            lock.enter_context(data.locked_folder(run.path))
            # Half-written files of a killed process: whole ones replace them; they only take space.
            for left in run.path.glob(".*.partial.*"):
                left.unlink()
        # check: what the recipe alone rules out is refused before any image is read
        if advice := precision_advice(recipe.precision):
            _print(advice)
        if run is None:
            data.check_files(recipe)
            data.check_folder(recipe)
        segmenter = data.segmenter_of(recipe)

        # data
        dataset = data.dataset_of(recipe) if run is None else run.dataset
        recipe = dataclasses.replace(recipe, classes=dataset.classes)
        split = data.split_of(recipe, dataset) if run is None else run.split

        # model: before hours of preparation, so that a wrong option or depth is refused at once. Only a model that
        # scales by statistics of its training images has to wait for them.
        options = model_options(recipe, None if run is None else run.status.get("options", {}))
        init = recipe.init if run is None or not (run.path / "state.h5").exists() else ""
        model, loaded = (None, "") if options["normalization"] == TRAINING else build_model(recipe, options, init)

        # folder
        if run is None:
            recipe = with_histogram(recipe, dataset, split, segmenter)
            path = _new_folder(recipe, dataset, split, options, lock)
        else:
            path = run.path
        if resume is None or epochs is not None:
            save_recipe(dataclasses.replace(recipe, out=""), path / "recipe.yaml")
        run = Run(path)
        try:
            # store
            run.store = data.store_of(recipe, dataset, segmenter, run.store_path)
            if model is None:
                options |= {"normalization": channel_statistics(run.store, run.rows("train"))}
                model, loaded = build_model(recipe, options, init)
            _record_images(run, recipe, split, loaded, options)

            # fit
            loop = loop_for(run, recipe, model, options)
            try:
                loop.restore()
                loop.fit()
            except KeyboardInterrupt:
                loop.draw()
                raise

            # record
            loop.finish()
        except KeyboardInterrupt:
            run.update(status="interrupted")
            message = f"{run.progress}, of {recipe.epochs}; go on with: covidcxnet train --resume {run.path}"
            raise KeyboardInterrupt(message) from None
        except Exception as error:
            with suppress(OSError, InputError):  # on a full disk the cause counts, not what follows from it
                run.update(status="failed", reason=str(error))
            raise
    return Run(run.path)


def _stopped_run(resume: str | Path, recipe: Recipe | None, epochs: int | None) -> Run:
    """The run to go on with."""
    if recipe is not None:
        raise InputError("resume: a resumed run keeps its own recipe; give only epochs")
    run = Run(resume)
    if run.recipe.schedule == "cosine" and epochs not in (None, run.recipe.epochs):
        raise InputError(
            f"epochs: the cosine of this run ends after {run.recipe.epochs}, and another end would set the "
            f"learning rate back; train on with --init {run.path} into another folder"
        )
    return run


def _new_folder(
    recipe: Recipe, dataset: Dataset, split: pd.DataFrame, options: dict[str, Any], lock: ExitStack
) -> Path:
    """A new run folder, locked, with all that is known before images are prepared, but for the recipe."""
    path, number = Path(recipe.out or f"runs/{dataset.name}-{recipe.model}"), 1
    while not recipe.out and path.exists():
        number += 1
        path = path.with_name(f"{dataset.name}-{recipe.model}-{number}")
    path.mkdir(parents=True, exist_ok=bool(recipe.out))
    lock.enter_context(data.locked_folder(path))
    data.check_folder(recipe, entered=True)  # again: another training may have been here since the first check
    folder = "" if recipe.data == "phantom" else _relative(folder_of(recipe.data), path)
    unknown = unknown_patients(dataset)
    if unknown:
        _print(
            f"the patient of {unknown} of {len(dataset)} images is unknown: images of one patient may stand on two "
            "sides of the split, and figures are then too high"
        )
    save_split(split, path / "split.csv")
    write_json(path / "environment.json", environment(recipe.seed, recipe.precision))
    status = {"status": "preparing", "name": path.name, "data": folder, "epoch": 0, "options": options}
    write_json(path / "run.json", status | {"split_by": recipe.split_by, "unknown_patients": unknown})
    return path


def _record_images(run: Run, recipe: Recipe, split: pd.DataFrame, loaded: str, options: dict[str, Any]) -> None:
    """Record and print what the run works on."""
    store, rejected = _relative(run.store.path, run.path), len(run.store.rejected)
    images = summary(recipe, run.store, split)
    counts = images.classes
    run.update(status="running", store=store, counts=counts, rejected=rejected, init=loaded, options=options)
    _print(f"run {run.path}: {recipe.model}, {loaded}")
    for name in SPLITS:
        note = "; not opened before the evaluation" if name == "test" else ""
        text = ", ".join(f"{count} {label}" for label, count in counts[name].items())
        _print(f"  {name}: {images.sizes[name]} images ({text}){note}")
    if images.copies:
        _print(f"  {images.copies} files are left out: exact copies of them stand on another side of the split")
    if rejected:
        table = run.store.rejected[["path", "reason"]]
        save_table(table, run.path / "rejected.csv")
        _print(f"  {rejected} files could not be used; {run.path / 'rejected.csv'} says why:")
        for path, reason in table.head(5).itertuples(index=False):
            _print(f"    {path}: {reason}")


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return str(path.absolute())


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
