"""Many trainings of one recipe: `sweep` over values and repeats, `train_groups` over three ways to treat the data.

All trainings of a folder share one split. What is finished is not trained again, so the same call goes on after a stop.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from covidcxnet.datasets.splits import save_split
from covidcxnet.experiments import compare_page, sweep_page
from covidcxnet.experiments.compare import Comparison, compare
from covidcxnet.experiments.sweep_plan import Trial, data_key, plan
from covidcxnet.experiments.sweep_table import Sweep, figures_of, row_of
from covidcxnet.reporting import plots
from covidcxnet.reporting.table import Table, count
from covidcxnet.training.data import dataset_of, split_of
from covidcxnet.training.initial_weights import check_model
from covidcxnet.training.recipe import NEW_SPLIT, AugmentSettings, Recipe
from covidcxnet.training.run_folder import Run, write_json
from covidcxnet.training.trainer import train
from enhancement.command_line import one_line
from enhancement.errors import InputError
from enhancement.files import check_output

FORMAT = 1
GROUP_NAMES = {"raw": "raw", "augmented": "augmented", "balanced": "balanced and augmented"}
# Table 1 of the pediatric pneumonia study: rotation range 10 degrees, zoom range 0.1, width and height shift 0.1.
STUDY_AUGMENT = replace(AugmentSettings.none(), rotation=10.0, zoom=(0.9, 1.1), shift=0.1)


def sweep(
    recipe: Recipe,
    over: Mapping[str, Sequence[Any]] | None = None,
    *,
    repeats: int = 1,
    out: str | Path,
    test: bool = True,
    bootstrap: int = 2000,
    progress: bool = True,
    engine: str | None = None,
) -> Sweep:
    """Train every combination of values, each with several seeds, and write one table and one plot.

    `over` maps recipe keys, nested with dots, to their values. The recipe's seed makes the split and is that of the
    first repeat. Where `out` holds this sweep already, finished runs are reused and unfinished ones resumed; values and
    repeats may have grown. Without `test` the test split stays closed, and validation figures are all there is.
    `engine` runs the lung network, as in `train`, and is no part of the sweep.
    `InputError` if the sweep cannot begin. What fails later is one training, whose row says why while the others go on.
    """
    over, folder = dict(over or {}), Path(out)
    trials = plan(recipe, over, repeats, folder)
    _check_models(trials)
    # the recipe has its place in the file and is filled in below
    content = {"format": FORMAT, "recipe": {}, "over": {k: list(v) for k, v in over.items()}, "repeats": repeats}
    _claim(folder / "sweep.json", "a sweep", {"recipe": recipe}, content, swept=set(over))
    trials = _with_splits(trials, folder)
    options = {"bootstrap": bootstrap, "progress": progress} if test else None
    lines: list[dict[str, Any]] = []

    def result() -> Sweep:
        done, now = tuple(trials[: len(lines)]), datetime.now().strftime("%Y-%m-%d %H:%M")
        return Sweep(folder, tuple(over), done, pd.DataFrame(lines), repeats, test, recipe, now)

    try:
        for number, trial in enumerate(trials, start=1):
            print(f"[{number}/{len(trials)}] {trial.name}: {status(trial)}", file=sys.stderr, flush=True)
            try:
                figures = figures_of(_train(trial, engine), options)
            except Exception as error:
                # A value that makes one training fail (no memory, a loss that is not finite) must not end the others.
                name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
                figures = {"zero_f1_classes": "", "failed": f"{name}{one_line(error)}"}
                print(f"  failed: {figures['failed']}", file=sys.stderr, flush=True)
            lines.append(row_of(trial, folder) | figures)
            _free_memory()
    except KeyboardInterrupt:
        if lines:
            sweep_page.save(result())
        done = f"{len(lines)} of {len(trials)} trainings"
        raise KeyboardInterrupt(f"stopped after {done}; the same command goes on") from None
    sweep_page.save(result())
    return result()


@dataclass(frozen=True)
class Groups:
    """The comparison of the three groups, its page, and a plot of F1, accuracy and AUROC with their intervals."""

    comparison: Comparison
    path: Path
    picture: Path


def group_recipes(
    recipe: Recipe, *, sampling: Literal["oversample", "undersample"] = "oversample"
) -> dict[str, Recipe]:
    """The recipes of the pediatric pneumonia study's three data groups; only augmentation and sampling differ."""
    if sampling not in ("oversample", "undersample"):
        raise InputError(f"sampling: {sampling!r} given, oversample or undersample expected")
    # Section 4 A of the study: "raw" is neither augmented nor oversampled, "augmented" has rotations, zooms and shifts,
    # and "balanced" is oversampled (or undersampled) as well, until the classes have equally many images.
    none = AugmentSettings.none()
    augment = STUDY_AUGMENT if replace(recipe.augment, fill=none.fill) == none else recipe.augment
    # a class weight balances too, and "raw" would not be raw
    plain = replace(recipe, class_weights="none", sampling="none", augment=augment)
    balanced = replace(plain, sampling=sampling)
    return {"raw": replace(plain, augment=none), "augmented": plain, "balanced": balanced}


def train_groups(
    recipe: Recipe,
    out: str | Path,
    *,
    sampling: Literal["oversample", "undersample"] = "oversample",
    published: bool = False,
    bootstrap: int = 2000,
    progress: bool = True,
    engine: str | None = None,
) -> Groups:
    """Train the three groups of `group_recipes` on one split, evaluate them, and write the comparison.

    `out` is the folder of all three runs, resumed as in `sweep`; `published` shows the study's own rows beside.
    `engine` runs the lung network, as in `train`.
    """
    folder, recipes = Path(out), group_recipes(recipe, sampling=sampling)
    _claim(folder / "groups.json", "groups", recipes, {})
    trials = [Trial({"group": name}, group.seed, group, folder / name) for name, group in recipes.items()]
    try:
        for number, trial in enumerate(_with_splits(trials, folder), start=1):
            print(f"[{number}/{len(trials)}] {trial.folder.name}: {status(trial)}", file=sys.stderr, flush=True)
            _train(trial, engine)
            _free_memory()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; the same command goes on in {folder}") from None
    runs, names = [trial.folder for trial in trials], [GROUP_NAMES[name] for name in recipes]
    study = ("pneumonia",) if published else ()
    comparison = compare(runs, names=names, published=study, bootstrap=bootstrap, progress=progress)
    title = f"{recipe.model}: three data groups, one split"
    picture = plots.save(sweep_page.draw_groups(comparison.rows[: len(runs)], title), folder / "groups.png")
    return Groups(comparison, compare_page.save(comparison, folder), picture)


def status(trial: Trial) -> str:
    """What there is of a training: "to train", "finished", or "to go on after epoch N"."""
    try:
        known = json.loads((trial.folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "to train"
    if known.get("status") == "finished":
        return "finished"
    return f"to go on after epoch {known.get('epoch', 0)}" if (trial.folder / "state.h5").is_file() else "to train"


def overview(trials: Sequence[Trial], keys: Sequence[str]) -> str:
    """A plan as lines of text: name, folder, status."""
    rows = [(trial.name, str(trial.folder), status(trial)) for trial in trials]
    left = sum(state != "finished" for *_, state in rows)
    note = f"{count(len(rows), 'training')}, {left} left to do; swept: {', '.join(keys) or 'seed'}"
    return Table(["Training", "Folder", "Status"], rows, note=note).text()


def _train(trial: Trial, engine: str | None) -> Run:
    """Train what is left of one training."""
    now = status(trial)
    if now == "finished":
        return Run(trial.folder)
    if now == "to train":
        return train(replace(trial.recipe, out=str(trial.folder)), engine=engine)
    return train(resume=trial.folder, engine=engine)


def _claim(
    file: Path, kind: str, recipes: Mapping[str, Recipe], content: Mapping[str, Any], swept: Collection[str] = ()
) -> None:
    """Reserve the folder of `file` for these recipes, or make sure that it is theirs."""

    def compared(recipe: Recipe) -> dict[str, Any]:
        # Where a training is written, and how many processes and devices it has, make it no other training.
        machine = ("out", "jobs", "devices", "tensorboard")
        values = {key: value for key, value in recipe.to_dict().items() if key not in machine}
        return json.loads(json.dumps(values, default=str))

    folder = file.parent
    check_output(folder, folder=True)
    now = {name: compared(recipe) for name, recipe in recipes.items()}
    begun = any(True for depth in ("*", "*/*") for _ in folder.glob(f"{depth}/run.json"))
    if file.is_file() and not begun:
        # refused before its first training: nothing depends on that split
        (folder / "split.csv").unlink(missing_ok=True)
    elif file.is_file():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            before = {name: compared(Recipe.from_dict(known[name])) for name in recipes}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: damaged; name another folder") from error
        for name in now:
            if differs := _difference(before[name], now[name], swept):
                raise InputError(f"out: {folder} holds {kind} with {differs}; name another folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"out: {folder} is not empty and does not hold {kind}; name a new folder")
    write_json(file, {**content, **now})


def _difference(before: dict[str, Any], now: dict[str, Any], swept: Collection[str], prefix: str = "") -> str:
    """``learning_rate 0.1, not 0.01`` for the first key that differs and is not swept; empty for none."""
    for key in dict.fromkeys([*before, *now]):
        name, old, new = f"{prefix}{key}", before.get(key), now.get(key)
        text = f"{name} {old}, not {new}"
        if isinstance(old, dict) and isinstance(new, dict):
            text = _difference(old, new, swept, f"{name}.")
        if text and name not in swept and old != new:
            return text
    return ""


def _check_models(trials: Sequence[Trial]) -> None:
    """Build each network once, so that a refused size or option ends the sweep now and not in the morning."""
    classes: dict[str, tuple[str, ...]] = {}
    checked = set()
    for trial in trials:
        recipe, data = trial.recipe, data_key(trial.recipe)
        if data not in classes:
            classes[data] = tuple(dataset_of(recipe).classes)
        shape = (recipe.model, recipe.options, recipe.input.size, recipe.input.channels, recipe.trainable)
        key = json.dumps([*shape, recipe.precision, data], default=str, sort_keys=True)
        if key in checked or status(trial) == "finished":
            continue
        checked.add(key)
        try:
            check_model(recipe, classes[data])
        except InputError as error:
            raise InputError(f"{error} (in the sweep's {trial.cell})") from error
        _free_memory()


def _with_splits(trials: Sequence[Trial], folder: Path) -> list[Trial]:
    """Trials with their split written down: one for all, or one for each set of images where the data are swept."""
    # Backwards, so that the first recipe of each set of images makes its split.
    recipes = {data_key(trial.recipe): trial.recipe for trial in reversed(trials)}
    paths: dict[str, str] = {}
    for key, recipe in recipes.items():
        # named by the data, so that a longer sweep finds the split of its earlier runs again
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        path = folder / ("split.csv" if len(recipes) == 1 else f"split-{digest}.csv")
        given = recipe.split not in ("", NEW_SPLIT)
        if not given and not path.is_file():
            # whole: how much of its training side a run uses may be what is swept
            save_split(split_of(replace(recipe, train_images=0), dataset_of(recipe)), path)
        paths[key] = recipe.split if given else str(path)
    return [replace(t, recipe=replace(t.recipe, split=paths[data_key(t.recipe)])) for t in trials]


def _free_memory() -> None:
    """Give the memory of the last network back before the next is built."""
    if "keras" in sys.modules:  # not imported where nothing was trained
        sys.modules["keras"].utils.clear_session()
    gc.collect()
