"""`sweep`: train a recipe over values and repeats, on one split; what is finished is not trained again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from covidcxnet.experiments.grid import Trial, data_key, plan
from covidcxnet.experiments.memory import free_memory
from covidcxnet.experiments.outcome import Outcome, outcome_of
from covidcxnet.training.recipe import Recipe
from enhancement.command_line import one_line
from enhancement.errors import InputError
from enhancement.files import check_output

FORMAT = 1


@dataclass(frozen=True)
class Sweep:
    """What came out of a sweep.

    Parameters
    ----------
    folder : Path
        Holds `sweep.html`, `sweep.csv`, `sweep.md`, `runs.csv`, `sweep.png`, the split and a folder for each cell.
    keys : tuple of str
        What was swept.
    outcomes : tuple of Outcome
        One for each training, failed ones too.
    repeats : int
        Trainings of each cell.
    tested : bool
        Whether the test set was opened.
    recipe : Recipe
        What was not swept.
    created : str
        Local date and time.
    """

    folder: Path
    keys: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    repeats: int
    tested: bool
    recipe: Recipe
    created: str = ""

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "sweep.html"

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Trainings without figures."""
        return tuple(outcome for outcome in self.outcomes if outcome.reason)


def sweep(
    recipe: Recipe,
    over: Mapping[str, Sequence[Any]] | None = None,
    *,
    repeats: int = 1,
    out: str | Path,
    test: bool = True,
    bootstrap: int = 2000,
    progress: bool = True,
) -> Sweep:
    """Train every combination of values, each with several seeds, and write one table and one plot.

    Parameters
    ----------
    recipe : Recipe
        What is not swept; its seed makes the split and is that of the first repeat.
    over : mapping, optional
        Recipe key, nested with dots, to its values; none for repeats alone.
    repeats : int
        Trainings of each combination. Data and split stay, so that repeats differ by the training alone.
    out : path-like
        Folder of the sweep. Where it holds this sweep already, finished runs are kept and unfinished ones resumed; the
        values and the number of repeats may have grown.
    test : bool
        Evaluate each run on the test split. Without it, validation figures are all there is.
    bootstrap, progress
        Resamples and bars of those evaluations.

    Returns
    -------
    Sweep

    Raises
    ------
    InputError
        If the sweep cannot begin: a key or value is refused, or `out` holds another sweep. What fails later is one
        training, which is reported in the table while the others go on.
    KeyboardInterrupt
        After Ctrl-C; the message says how to go on.
    """
    over = dict(over or {})
    folder = Path(out)
    trials = plan(recipe, over, repeats, folder)
    classes = _classes(trials)
    _check_models(trials, classes)
    _claim(folder, recipe, over, repeats)
    trials = _with_splits(trials, folder)
    outcomes: list[Outcome] = []

    def found() -> Sweep:
        now = datetime.now().strftime("%Y-%m-%d %H:%M")
        return Sweep(folder, tuple(over), tuple(outcomes), repeats, test, recipe, now)

    evaluate_options = {"bootstrap": bootstrap, "progress": progress} if test else None
    try:
        for number, trial in enumerate(trials, start=1):
            _say(f"[{number}/{len(trials)}] {trial.name}: {status(trial)}")
            outcomes.append(_run(trial, evaluate_options))
            free_memory()
    except KeyboardInterrupt:
        if outcomes:
            _write(found())
        message = f"stopped after {len(outcomes)} of {len(trials)} trainings; the same command goes on"
        raise KeyboardInterrupt(message) from None
    return _write(found())


def status(trial: Trial) -> str:
    """What there is of a training: "to train", "finished", or "to go on after N epochs"."""
    try:
        known = json.loads((trial.folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "to train"
    if known.get("status") == "finished":
        return "finished"
    return f"to go on after epoch {known.get('epoch', 0)}" if (trial.folder / "state.h5").is_file() else "to train"


def _run(trial: Trial, evaluate_options: dict[str, Any] | None) -> Outcome:
    """Train what is left of one training and read its figures; whatever goes wrong ends in its own row."""
    from covidcxnet.training import Run, train

    try:
        now = status(trial)
        if now == "finished":
            run = Run(trial.folder)
        elif now == "to train":
            run = train(replace(trial.recipe, out=str(trial.folder)))
        else:
            run = train(resume=trial.folder)
        return outcome_of(trial, run, evaluate_options)
    except Exception as error:
        # A value that makes one training fail (no memory, a loss that is not finite) must not end the night's others.
        reason = one_line(error) if isinstance(error, InputError) else f"{type(error).__name__}: {one_line(error)}"
        _say(f"  failed: {reason}")
        return Outcome(trial, reason=reason or type(error).__name__)


def _claim(folder: Path, recipe: Recipe, over: Mapping[str, Sequence[Any]], repeats: int) -> None:
    """Make the folder this sweep's, or make sure that it is."""
    from covidcxnet.training.run import write_json

    check_output(folder, folder=True)
    plan_file = folder / "sweep.json"
    base = _base(recipe.to_dict())
    if plan_file.is_file():
        try:
            before = Recipe.from_dict(json.loads(plan_file.read_text(encoding="utf-8"))["recipe"]).to_dict()
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{plan_file}: damaged ({one_line(error)}); name another folder") from error
        known = json.loads(json.dumps(_base(before), default=str))
        differs = _difference(known, json.loads(json.dumps(base, default=str)), set(over))
        if differs:
            raise InputError(f"out: {folder} holds a sweep with {differs}; name another folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"out: {folder} is not empty and no sweep; name a new folder")
    write_json(
        plan_file, {"format": FORMAT, "recipe": base, "over": {k: list(v) for k, v in over.items()}, "repeats": repeats}
    )


def _base(values: dict[str, Any]) -> dict[str, Any]:
    """What makes two sweeps the same: not where they lie, nor how many processes prepare."""
    return {key: value for key, value in values.items() if key not in ("out", "jobs")}


def _difference(before: dict[str, Any], now: dict[str, Any], swept: set[str], prefix: str = "") -> str:
    """``learning_rate 0.1, not 0.01`` for the first key that differs and is not swept; empty for none."""
    for key in dict.fromkeys([*before, *now]):
        name, old, new = f"{prefix}{key}", before.get(key), now.get(key)
        if name in swept or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            inner = _difference(old, new, swept, f"{name}.")
            if inner:
                return inner
            continue
        return f"{name} {old}, not {new}"
    return ""


def _classes(trials: Sequence[Trial]) -> dict[str, tuple[str, ...]]:
    """Classes of each set of images; `InputError` if one cannot be had."""
    from covidcxnet.training.run import dataset_of

    recipes = {data_key(trial.recipe): trial.recipe for trial in trials}
    return {key: tuple(dataset_of(recipe).classes) for key, recipe in recipes.items()}


def _check_models(trials: Sequence[Trial], classes: Mapping[str, tuple[str, ...]]) -> None:
    """Build each network once: a size or option that it refuses is said now and not in the morning."""
    from covidcxnet.training.building import check_model

    seen = set()
    for trial in trials:
        recipe = trial.recipe
        shape = (recipe.model, recipe.options, recipe.input.size, recipe.input.channels, recipe.trainable)
        key = json.dumps([*shape, recipe.precision, data_key(recipe)], default=str, sort_keys=True)
        if key in seen or status(trial) == "finished":
            continue
        seen.add(key)
        try:
            check_model(recipe, classes[data_key(recipe)])
        except InputError as error:
            raise InputError(f"{error} (in the sweep's {trial.cell})") from error
        free_memory()


def _with_splits(trials: Sequence[Trial], folder: Path) -> list[Trial]:
    """Trials with their split written down: one for all, or one for each set of images where the data are swept."""
    from covidcxnet.datasets import save_split
    from covidcxnet.training.data import split_of
    from covidcxnet.training.run import dataset_of

    first = {data_key(trial.recipe): trial.recipe for trial in reversed(trials)}
    paths: dict[str, str] = {}
    for trial in trials:
        key = data_key(trial.recipe)
        if key in paths:
            continue
        if trial.recipe.split:
            paths[key] = trial.recipe.split
            continue
        # Named by the data, so that a longer sweep finds the split of its earlier runs again.
        name = "split.csv" if len(first) == 1 else f"split-{_digest(key)}.csv"
        if not (folder / name).is_file():
            made = split_of(first[key], dataset_of(first[key]))
            save_split(made, folder / name)
        paths[key] = str(folder / name)
    return [replace(t, recipe=replace(t.recipe, split=paths[data_key(t.recipe)])) for t in trials]


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _write(found: Sweep) -> Sweep:
    from covidcxnet.experiments.sweep_page import write

    write(found)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
