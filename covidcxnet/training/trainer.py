"""Train a recipe to a run folder: check, data, model, store, fit, record, each step once and in this order."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from covidcxnet.backend import chosen_precision, precision, precision_advice
from covidcxnet.datasets import SPLITS
from covidcxnet.datasets.tables import save_table
from covidcxnet.models.scaling import TRAINING
from enhancement.errors import InputError

from . import data
from .checkpoint import State, published_name, read_state
from .distillation import soft_labels, teacher_of
from .distributed import Devices, Processes, devices_of, lost, processes
from .initial_weights import build_model, model_options
from .loop import loop_for
from .recipe import Recipe, save_recipe
from .run_folder import Run, check_paths, new_folder, relative, stopped_run
from .sampling import summary
from .statistics import channel_statistics, with_histogram

if TYPE_CHECKING:
    import keras


def train(
    recipe: Recipe | None = None,
    *,
    resume: str | Path | None = None,
    epochs: int | None = None,
    devices: int | None = None,
    engine: str | None = None,
) -> Run:
    """Train a classifier.

    Parameters
    ----------
    recipe : Recipe, optional
        What to do; the defaults train on the phantom.
    resume : path-like, optional
        A run folder to go on with after its last whole epoch, under its own recipe. The result equals that of a run
        that was never stopped.
    epochs : int, optional
        With `resume`: another number of epochs in all; refused under a cosine, which ends with them.
    devices : int, optional
        With `resume`: another number of devices.
    engine : {"auto", "keras", "openvino", "onnxruntime"}, optional
        What runs the lung network while images are prepared, see `covidcxnet.load_model`. It is not recorded.

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
    if resume is not None and recipe is not None:
        raise InputError("resume: a resumed run keeps its own recipe; give only epochs or devices")
    if not processes().leads:
        return _follow(processes())
    run = None if resume is None else stopped_run(resume, epochs)
    recipe = (recipe or Recipe()) if run is None else run.recipe
    changes: dict[str, Any] = {
        name: value for name, value in (("epochs", epochs), ("devices", devices)) if value is not None
    }
    recipe = dataclasses.replace(recipe, **changes)
    recipe = dataclasses.replace(recipe, precision=chosen_precision(recipe.precision))
    with precision(recipe.precision), ExitStack() as lock:
        # check: what the recipe alone rules out is refused before any image is read
        shared = devices_of(recipe)
        if advice := precision_advice(recipe.precision):
            _print(advice)
        if run is None:
            check_paths(recipe)
        else:
            run.enter(lock)
        segmenter = data.segmenter_of(recipe, engine)

        # data
        dataset = data.dataset_of(recipe) if run is None else run.dataset
        recipe = dataclasses.replace(recipe, classes=dataset.classes)
        split = data.split_of(recipe, dataset) if run is None else run.split
        teacher = None if run is not None and run.taught else teacher_of(recipe, engine)

        # model: before hours of preparation, so that a wrong option or depth is refused at once. Only a model that
        # scales by statistics of its training images has to wait for them.
        options = model_options(recipe, None if run is None else run.status.get("options", {}))
        state = None if run is None else read_state(run.path / "state.h5")
        init = recipe.init if state is None else ""
        model, loaded = (None, "") if options["normalization"] == TRAINING else build_model(recipe, options, init)

        # folder
        if run is None:
            recipe = with_histogram(recipe, dataset, split, segmenter)
            run = Run(new_folder(recipe, dataset, split, options, lock))
        elif changes:
            save_recipe(dataclasses.replace(recipe, out=""), run.path / "recipe.yaml")
        try:
            # store
            run.store = data.store_of(recipe, dataset, segmenter, run.store_path)
            if model is None:
                options |= {"normalization": channel_statistics(run.store, run.rows("train"))}
                model, loaded = build_model(recipe, options, init)
            _record_images(run, recipe, split, loaded, options)
            if teacher is not None:
                answers = soft_labels(teacher, recipe, dataset, run.store, run.rows("train"))
                run.keep_soft_labels(answers, published_name(recipe.teacher))
            processes().share(str(run.path.absolute()))  # the others begin

            # fit and record
            with shared.scope():
                _fit(run, recipe, options, init, state, shared, None if shared.several else model)
        except KeyboardInterrupt:
            run.update(status="interrupted")
            message = f"{run.progress}, of {recipe.epochs}; resume with: covidcxnet train --resume {run.path}"
            raise KeyboardInterrupt(message) from None
        except Exception as error:
            if lost(error):
                run.update(status="interrupted")
                message = f"another process of this training ended or cannot be reached; {run.progress}, of "
                message += f"{recipe.epochs}; resume with train --resume {run.path} in as many or fewer processes"
                raise InputError(message) from error
            with suppress(OSError, InputError):  # on a full disk the cause counts, not what follows from it
                run.update(status="failed", reason=str(error))
            raise
    return Run(run.path)


def _fit(
    run: Run,
    recipe: Recipe,
    options: dict[str, Any],
    init: str,
    state: State | None,
    devices: Devices,
    model: keras.Model | None = None,
) -> None:
    """Fit a model and record what came of it; it is built here where its variables lie on several devices."""
    if model is None:
        model, _ = build_model(recipe, options, init)
    if state is not None:
        state.assign("model", model.weights)  # before the loop, which may compute features once
    loop = loop_for(run, recipe, model, options, state, devices)
    try:
        loop.fit()
    except KeyboardInterrupt:
        loop.draw()
        raise
    loop.finish()


class _FollowedRun(Run):
    """A run that process 0 writes."""

    def update(self, **values: Any) -> None:
        pass


def _follow(group: Processes) -> Run:
    """Train in step with process 0, in the run folder that it has begun."""
    with group.follow():
        run = _FollowedRun(group.share())
        recipe = run.recipe
        with precision(recipe.precision):
            devices, state = devices_of(recipe), read_state(run.path / "state.h5")
            with devices.scope():
                _fit(run, recipe, run.status["options"], recipe.init if state is None else "", state, devices)
    return run


def _record_images(run: Run, recipe: Recipe, split: pd.DataFrame, loaded: str, options: dict[str, Any]) -> None:
    """Record and print what the run works on."""
    store, rejected = relative(run.store.path, run.path), len(run.store.rejected)
    images = summary(recipe, run.store, split)
    counts = images.classes
    run.update(status="running", store=store, counts=counts, rejected=rejected, init=loaded, options=options)
    _print(f"run {run.path}: {recipe.model}, {loaded}")
    # A run that is resumed may have been evaluated, which leaves this file.
    opened = "opened before" if (run.path / "test_opened.json").exists() else "not opened before the evaluation"
    for name in SPLITS:
        note = f"; {opened}" if name == "test" else ""
        text = ", ".join(f"{count} {label}" for label, count in counts[name].items())
        _print(f"  {name}: {images.sizes[name]} images ({text}){note}")
    if images.copies:
        save_table(split.assign(copy_of=split["path"].map(images.copies)), run.path / "split.csv")
        what = "exact copies of them are on another side of the split"
        _print(f"  {len(images.copies)} files are left out: {what} (copy_of in split.csv)")
    if rejected:
        table = run.store.rejected[["path", "reason"]]
        save_table(table, run.path / "rejected.csv")
        _print(f"  {rejected} of {len(split)} files could not be used; {run.path / 'rejected.csv'} says why:")
        for path, reason in table.head(5).itertuples(index=False):
            _print(f"    {path}: {reason}")


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
