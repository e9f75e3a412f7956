"""What a recipe's model and kind of training rule out, said before any work and without a model being built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancement.errors import InputError

if TYPE_CHECKING:
    from .recipe import Recipe


def check_kind(recipe: Recipe) -> None:
    """`InputError` naming the first key whose value does not go with the model or with multi-label findings."""
    from covidcxnet.models import MODELS, hierarchical, logistic

    if "multilabel" in recipe.options:
        _refuse("options.multilabel", recipe.options["multilabel"], "the recipe's own key multilabel")
    if recipe.multilabel:
        if MODELS[recipe.model].add_head:
            _refuse("multilabel", True, f"{recipe.model} has classes that exclude each other; another model, or false,")
        if recipe.options.get("activation") not in (None, "sigmoid"):
            hint = "findings do not exclude each other as a softmax needs it; sigmoid, or nothing,"
            _refuse("options.activation", recipe.options["activation"], f"multilabel {hint}")
        if recipe.class_weights.startswith("source"):
            _refuse("class_weights", recipe.class_weights, "multilabel: balanced or none")
        if recipe.sampling != "none":
            _refuse("sampling", recipe.sampling, "multilabel: none, as an image has several findings;")
    if recipe.model == hierarchical.NAME:
        check_levels(recipe.classes)
    if recipe.model == logistic.NAME:
        for key, only in (("init", "random"), ("trainable", "all"), ("sampling", "none"), ("ema", 0)):
            if getattr(recipe, key) != only:
                _refuse(key, getattr(recipe, key), f"{logistic.NAME} is solved from nothing on all images: {only}")


def check_model_keys(recipe: Recipe) -> None:
    """`InputError` if the model has no such option, cannot take so many planes, or has no ImageNet weights."""
    from covidcxnet.models import MODELS, hierarchical

    spec, planes, given = MODELS[recipe.model], len(recipe.input.channels), ",".join(recipe.input.channels)
    unknown = sorted(set(recipe.options) - {*spec.options, "normalization", "multilabel", "size", "channels"})
    if unknown:
        takes = ", ".join(("normalization", *spec.options))
        raise InputError(f"options: {spec.name} has no option {unknown[0]!r}; it takes {takes}")
    if recipe.init == "imagenet":
        check_imagenet(spec.name, planes, recipe.options)
    if spec.planes and planes not in (1, spec.planes):
        _refuse("input.channels", given, f"{spec.planes} planes for {spec.name}, as in raw,raw,raw, or 1 plane,")
    if planes == 3 or (spec.planes and planes == 1):
        return
    normalization = recipe.options.get("normalization", spec.normalization)
    if normalization in ("imagenet", "caffe"):
        _refuse("options.normalization", normalization, "unit, or input.channels of 3 planes, as in raw,raw,raw,")
    named = recipe.init in ("chexnet", "covid-cxnet-chexnet") and not Path(recipe.init).exists()
    if named and recipe.model in ("covid-cxnet", hierarchical.NAME):
        _refuse("input.channels", given, f"3 planes for init {recipe.init}, as in raw,raw,raw, or init random,")


def check_imagenet(model: str, planes: int, options: Mapping[str, Any]) -> None:
    """`InputError` if there are no ImageNet weights for a network: they fit the published ones alone.

    Parameters
    ----------
    model : str
        Name of the model.
    planes : int
        Of its stacks.
    options : mapping
        Of the model, those that differ from the defaults; a DenseNet's ``blocks`` and ``growth`` are looked at.
    """
    from covidcxnet.models import MODELS, hierarchical

    if not MODELS[model].application:
        having = ", ".join(sorted(name for name, spec in MODELS.items() if spec.application))
        _refuse("init", "imagenet", f"{model} has no ImageNet weights, only {having}; random, or a file,")
    if model not in ("covid-cxnet", hierarchical.NAME):
        return
    if planes != 3:
        _refuse("input.channels", planes, "3 planes for init imagenet, as in raw,raw,raw, or init random,")
    for key in ("blocks", "growth"):
        published = MODELS[model].options[key]
        value = options.get(key, published)
        if (tuple(value) if isinstance(value, list) else value) != published:
            _refuse(f"options.{key}", value, f"{published} for init imagenet, as {model} is published, or init random,")


def check_levels(classes: tuple[str, ...]) -> None:
    """`InputError` if labels, where there are any, are no hierarchy: normal first, then two kinds of pneumonia."""
    if classes and (len(classes) != 3 or classes[0].lower() != "normal"):
        expected = "covid-cxnet-hierarchical: normal and two kinds of pneumonia, as in normal,pneumonia,covid19,"
        _refuse("classes", ",".join(classes), expected)


def _refuse(key: str, value, expected: str) -> None:
    raise InputError(f"{key}: {value!r} given, {expected} expected")
