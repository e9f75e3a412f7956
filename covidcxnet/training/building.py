"""From a recipe to its model, built and frozen to its depth, and to the class that fits it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidcxnet import backend
from enhancement.errors import InputError
from segmentation.backend import quiet_backend

from .recipe import TRAINING_IMAGES, Recipe

if TYPE_CHECKING:
    import keras

    from .fitting import Fitting
    from .stages import StagedFitting


def build_model(
    recipe: Recipe, classes: tuple[str, ...], known: dict[str, Any] | None = None
) -> tuple[keras.Model, str, dict[str, Any]]:
    """The model of a recipe with its initial weights.

    Parameters
    ----------
    recipe : Recipe
    classes : tuple of str
        Labels of the data, in order.
    known : dict, optional
        Options of a resumed run: it has its weights in its state, and the files that began it may be gone.

    Returns
    -------
    model : keras.Model
    loaded : str
        What was loaded, for people.
    options : dict
        What `models.create` needs to build it again.

    Raises
    ------
    InputError
        If it cannot be built or trained to the recipe's depth, or its initial weights cannot be had.
    """
    from covidcxnet.models import MODELS, create, freeze
    from covidcxnet.models.scaling import TRAINING

    from .initial_weights import brought_options, initialise
    from .statistics import placeholder

    options: dict[str, Any] = {
        "size": recipe.input.size,
        "channels": len(recipe.input.channels),
        "normalization": MODELS[recipe.model].normalization,
    }
    options |= brought_options(recipe.init, recipe.model) if known is None else known
    options |= recipe.options
    if recipe.multilabel:
        options["multilabel"] = True
    if known and options["normalization"] == TRAINING:
        options["normalization"] = known["normalization"]
    model = create(recipe.model, classes=classes, **placeholder(options))
    freeze(model, str(recipe.trainable))  # before the weights: a wrong depth is refused before a download
    loaded = initialise(model, recipe.init, classes) if known is None else "weights of the run"
    return model, loaded, options


@dataclass(frozen=True)
class Built:
    """What `build_model` gives, and the labels that the model was built for."""

    classes: tuple[str, ...]
    model: keras.Model
    loaded: str
    options: dict[str, Any]


def seeded_model(recipe: Recipe, classes: tuple[str, ...], known: dict[str, Any] | None = None) -> Built:
    """`build_model` from the recipe's seed, in its number format."""
    quiet_backend()
    backend.make_deterministic(recipe.seed, recipe.deterministic)
    with backend.precision(recipe.precision):
        return Built(classes, *build_model(recipe, classes, known))


def check_model(recipe: Recipe, classes: tuple[str, ...]) -> None:
    """`InputError` if a recipe's model cannot be built or trained to its depth here; weights are not looked for."""
    backend.check_precision(recipe.precision)
    quiet_backend()
    build_model(recipe, classes, {})


def check_before_data(recipe: Recipe) -> Built | None:
    """Refuse what can be refused before the data are looked at.

    Files that the recipe names are looked for. Of the phantom, whose images are made where they are asked for and whose
    classes are known, the model is built: options and depth are proved by the whole network only. A table is read at
    once, and the model is built after it.

    Returns
    -------
    Built or None
        For `model_for`.

    Raises
    ------
    InputError
    """
    from covidcxnet.datasets import PHANTOM_CLASSES

    from .data import segmenter_of

    for key in ("split", "verdicts", "match_to"):
        path = Path(getattr(recipe, key))
        named = key == "match_to" and getattr(recipe, key) == TRAINING_IMAGES
        if getattr(recipe, key) and not named and not path.is_file():
            raise InputError(f"{key}: {path}: no such file; give another, or leave {key} out")
    if recipe.data != "phantom" or recipe.multilabel:
        return None
    segmenter_of(recipe)
    return seeded_model(recipe, recipe.classes or PHANTOM_CLASSES)


def model_for(recipe: Recipe, classes: tuple[str, ...], early: Built | None) -> Built:
    """The model that was built before the data, or, where there is none for these labels, a new one."""
    return early if early is not None and early.classes == classes else seeded_model(recipe, classes)


def fitting_of(recipe: Recipe) -> type[Fitting] | type[StagedFitting]:
    """How this kind of recipe is fitted."""
    from covidcxnet.models import hierarchical, logistic

    if recipe.multilabel:
        from .multilabel import MultilabelFitting

        return MultilabelFitting
    if recipe.model == hierarchical.NAME:
        from .stages import StagedFitting

        return StagedFitting
    if recipe.model == logistic.NAME:
        from .logistic import LogisticFitting

        return LogisticFitting
    from .fitting import Fitting

    return Fitting
