"""The three data groups of the pediatric pneumonia study, trained on one split and set against each other.

Section 4 A of the study: "raw" is neither augmented nor oversampled, "augmented" has turns, zooms and shifts (table 1),
and "balanced" is oversampled as well, until the smaller class (1,359 normal) has as many images as the larger (3,933
pneumonia). Only training images are augmented or repeated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from covidcxnet.experiments.memory import free_memory
from covidcxnet.training.augment_settings import AugmentSettings
from covidcxnet.training.recipe import Recipe
from enhancement.command_line import one_line
from enhancement.errors import InputError
from enhancement.files import check_output

if TYPE_CHECKING:
    from covidcxnet.experiments.compare import Comparison

CALLED = ("raw", "augmented", "balanced and augmented")
# Table 1 of the study: rotation range 10 degrees, zoom range 0.1, width and height shift 0.1.
STUDY_AUGMENT = replace(AugmentSettings.none(), rotation=10.0, zoom=(0.9, 1.1), shift=0.1)


@dataclass(frozen=True)
class Groups:
    """What came out: the folder with a run for each group, and their comparison."""

    folder: Path
    comparison: Comparison

    @property
    def picture(self) -> Path:
        """F1, accuracy and AUROC of the groups with their intervals."""
        return self.folder / "groups.png"


def group_recipes(
    recipe: Recipe, *, sampling: Literal["oversample", "undersample"] = "oversample"
) -> dict[str, Recipe]:
    """The recipe of each group; everything but augmentation and sampling is the same.

    Augmentation is the recipe's own, or the study's where the recipe has none. Classes are not weighted in any group:
    a weight balances too, and "raw" would not be raw.

    Parameters
    ----------
    recipe : Recipe
        What the groups share.
    sampling : {"oversample", "undersample"}
        How "balanced" is balanced; the study oversamples.
    """
    if sampling not in ("oversample", "undersample"):
        raise InputError(f"sampling: {sampling!r} given, oversample or undersample expected")
    none = AugmentSettings.none()
    augment = STUDY_AUGMENT if replace(recipe.augment, fill=none.fill) == none else recipe.augment
    plain = replace(recipe, class_weights="none", sampling="none", augment=augment)
    return {
        "raw": replace(plain, augment=none),
        "augmented": plain,
        "balanced": replace(plain, sampling=sampling),
    }


def train_groups(
    recipe: Recipe,
    out: str | Path,
    *,
    sampling: Literal["oversample", "undersample"] = "oversample",
    published: bool = False,
    bootstrap: int = 2000,
    progress: bool = True,
) -> Groups:
    """Train the three groups on one split, evaluate them on its test images, and write the comparison.

    Parameters
    ----------
    recipe : Recipe
        As in `group_recipes`.
    out : path-like
        Folder of all three runs. Where it holds these groups already, finished runs are kept and unfinished ones
        resumed.
    sampling : {"oversample", "undersample"}
        Of the balanced group.
    published : bool
        Show the study's own rows beside, marked as published.
    bootstrap, progress
        Of the evaluations.

    Raises
    ------
    InputError
        If a run cannot begin, or `out` holds groups of another recipe.
    KeyboardInterrupt
        After Ctrl-C; the same call goes on.
    """
    folder = Path(out)
    recipes = group_recipes(recipe, sampling=sampling)
    _claim(folder, recipes)
    split = _split(recipe, folder)
    try:
        for number, (name, one) in enumerate(recipes.items(), start=1):
            print(f"[{number}/{len(recipes)}] {name}", file=sys.stderr, flush=True)
            _train(replace(one, split=split, out=str(folder / name)))
            free_memory()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; the same command goes on in {folder}") from None
    from covidcxnet.experiments.compare import compare
    from covidcxnet.experiments.groups_plot import draw_groups

    found = compare(
        [folder / name for name in recipes],
        out=folder,
        names=CALLED,
        published=("pneumonia",) if published else (),
        bootstrap=bootstrap,
        progress=progress,
    )
    groups = Groups(folder, found)
    draw_groups(found.rows[: len(recipes)], groups.picture, title=f"{recipe.model}: three data groups, one split")
    return groups


def _train(recipe: Recipe) -> None:
    """Train what is left of one group."""
    from covidcxnet.training import train

    folder = Path(recipe.out)
    try:
        done = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("status") == "finished"
    except (OSError, ValueError):
        done = False
    if done:
        print(f"  {folder}: finished before", file=sys.stderr, flush=True)
    elif (folder / "state.h5").is_file():
        train(resume=folder)
    else:
        train(recipe)


def _split(recipe: Recipe, folder: Path) -> str:
    """The one split of all groups, written down before the first is trained."""
    if recipe.split:
        return recipe.split
    path = folder / "split.csv"
    if not path.is_file():
        from covidcxnet.datasets import save_split
        from covidcxnet.training.data import split_of
        from covidcxnet.training.run import dataset_of

        save_split(split_of(recipe, dataset_of(recipe)), path)
    return str(path)


def _claim(folder: Path, recipes: Mapping[str, Recipe]) -> None:
    """Make the folder these groups', or make sure that it is."""
    from covidcxnet.training.run import write_json

    check_output(folder, folder=True)
    now = json.loads(json.dumps({name: _compared(one) for name, one in recipes.items()}, default=str))
    path = folder / "groups.json"
    begun = any((folder / name / "run.json").is_file() for name in recipes)
    if path.is_file() and not begun:  # refused before its first training; nothing hangs on it
        (folder / "split.csv").unlink(missing_ok=True)
    elif path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            before = {name: _compared(Recipe.from_dict(known[name])) for name in recipes}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged ({one_line(error)}); name another folder") from error
        before = json.loads(json.dumps(before, default=str))
        for name, values in now.items():
            for key, value in values.items():
                if before[name][key] != value:
                    raise InputError(
                        f"out: {folder} holds groups with {key} {before[name][key]}, not {value}; name another folder"
                    )
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"out: {folder} is not empty and holds no groups; name a new folder")
    write_json(path, now)


def _compared(recipe: Recipe) -> dict[str, Any]:
    """What makes two trainings the same: not where they lie, nor how many processes prepare."""
    return {key: value for key, value in recipe.to_dict().items() if key not in ("out", "jobs", "tensorboard")}
