"""The model of a recipe with its initial weights: random, ImageNet, CheXNet or a file; and a line that says which."""

from __future__ import annotations

import io
import os
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet import pretrained, torch_weights
from covidcxnet.backend import check_precision, make_deterministic
from covidcxnet.legacy import LEGACY, network
from covidcxnet.models import MODELS, applications, create, freeze
from covidcxnet.models.applications import set_statistics
from covidcxnet.models.finetuning import networks, transfer
from covidcxnet.models.heads import OUTPUT
from covidcxnet.models.scaling import IMAGENET_STD, TRAINING
from enhancement.errors import InputError
from segmentation.backend import quiet_backend
from weights.lookup import offline, released

from .recipe import Recipe

if TYPE_CHECKING:
    import keras

LEAST = 75  # side in pixels that every network of keras.applications accepts


def model_options(recipe: Recipe, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `models.create` needs for the model of a recipe, besides its name and classes.

    `known` are those of a resumed run, whose initial weights may be gone. ``normalization`` is "training" where the
    statistics of the training images are still to be measured. `InputError` if there are no such initial weights.
    """
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
    return options


def build_model(recipe: Recipe, options: dict[str, Any], init: str) -> tuple[keras.Model, str]:
    """The model of a recipe, frozen to its depth, with initial weights; and what was loaded, for people.

    `init` is as in a recipe, or empty for a resumed run, whose state holds its weights. `InputError` if the model
    cannot be built or trained to the recipe's depth, or its initial weights cannot be had.
    """
    quiet_backend()
    # Right before the weights are drawn: whatever was built earlier, such as a segmenter, has drawn numbers too.
    make_deterministic(recipe.seed, recipe.deterministic)
    model = create(recipe.model, classes=recipe.classes, **options)
    # Before the weights: a wrong depth is refused before a download.
    freeze(model, str(recipe.trainable), recipe.frozen_norms)
    return model, initialise(model, init, recipe.classes) if init else "weights of the run"


def check_model(recipe: Recipe, classes: tuple[str, ...]) -> None:
    """`InputError` if a recipe's model cannot be built or trained to its depth here; weights are not looked for."""
    check_precision(recipe.precision)
    quiet_backend()
    options = model_options(recipe, {})
    if options["normalization"] == TRAINING:
        options["normalization"] = {"mean": [0.5] * options["channels"], "std": [0.25] * options["channels"]}
    freeze(create(recipe.model, classes=classes, **options), str(recipe.trainable), recipe.frozen_norms)


def brought_options(init: str, model: str) -> dict[str, Any]:
    """Options that initial weights bring with them, so that they see what they were trained on.

    ``normalization`` and, for a DenseNet, ``final_relu`` and ``epsilon``; empty where the weights do not say.
    """
    # A recipe's options win over these.
    if init == "random":
        return {}
    fitting = (model, MODELS[model].level)
    legacy = LEGACY.get(init)
    if legacy and init not in MODELS and not Path(init).exists():
        options = {"normalization": legacy.normalization, "final_relu": legacy.options["final_relu"]}
        return options if legacy.model in fitting else {}
    file = pretrained.source(init)
    torch = file.layout == "torch"
    architecture = torch_weights.architecture(file.path) if torch else file.metadata.get("architecture", {})
    options = architecture.get("options", {}) if architecture.get("name") in fitting else {}
    return {key: options[key] for key in ("normalization", "final_relu", "epsilon") if key in options}


def initialise(model: keras.Model, init: str, classes: tuple[str, ...]) -> str:
    """Load initial weights into a new model from `models.create`; what was loaded, for people.

    The output layer is taken over only from weights with the same labels. `InputError` if the weights cannot be had or
    do not fit; the model is then not to be used.
    """
    if init == "random":
        return "random initial weights"
    if init == "imagenet":
        origin, loaded = "ImageNet", _from_imagenet(model)
    else:
        file = pretrained.source(init)
        path = file.path
        if file.layout == "torch":
            source, labels = torch_weights.network(path)
        elif file.layout == "keras-2":
            source, labels = network(file)
        else:
            source, labels = pretrained.build(file.metadata, path), tuple(file.metadata["classes"])
        # The units of the output layer mean labels.
        loaded = transfer(source, model, path, set() if labels == tuple(classes) else {OUTPUT})
        origin = str(path)
    weighted = [layer.name for layer in model.layers if layer.weights]
    known = set(loaded)
    fresh = [name for name in weighted if name not in known]
    text = f"initial weights from {origin}: {len(loaded)} of {len(weighted)} layers"
    return text + (f"; random: {', '.join(fresh)}" if fresh else "")


@contextmanager
def _downloads() -> Iterator[None]:
    """Keras downloads by itself: refused where downloads are forbidden; what lies in its cache is still read."""
    if not offline():
        yield
        return

    class Refusing(urllib.request.OpenerDirector):
        def open(self, *args, **kwargs):
            raise urllib.error.URLError("COVIDCXNET_OFFLINE is set")

    urllib.request.install_opener(Refusing())
    try:
        # Keras says "Downloading" before it opens the address.
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        urllib.request.install_opener(urllib.request.build_opener())


def _from_imagenet(model: keras.Model) -> list[str]:
    """Set the backbone to ImageNet's weights; names of the layers that were set."""
    spec, prefixes = MODELS[model.name], networks(model)
    if model.input_shape[-1] != 3 and spec.three_plane_weights:
        planes = model.input_shape[-1]
        raise InputError(f"input.channels: {planes} planes given, 3 planes for init imagenet, or init random, expected")
    # A DenseNet's depth shows in its layers' names alone, those of the first of several networks.
    block = re.compile(rf"{re.escape(prefixes[0])}conv(\d+)_block\d+_concat")
    blocks = Counter(match[1] for layer in model.layers if (match := block.fullmatch(layer.name)))
    spec.check_imagenet({"blocks": list(blocks.values())} if "blocks" in spec.options else {})
    if spec.imagenet:
        path = released(spec.imagenet)
        return transfer(torch_weights.network(path)[0], model, path, {OUTPUT})
    try:
        with _downloads():
            source = applications.build(spec.application, weights="imagenet", input_shape=(LEAST, LEAST, 3))
    except Exception as error:  # Keras raises a bare Exception where a download fails
        url = re.search(r"https?://\S+?\.h5", str(error))
        if not url:
            raise
        folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
        why = "are not on this machine and COVIDCXNET_OFFLINE is set" if offline() else "cannot be downloaded"
        target = folder / url[0].rsplit("/", 1)[1]
        raise InputError(
            f"init: the ImageNet weights {why}; fetch {url[0]} elsewhere and put it at {target}"
        ) from error
    layers = [layer for layer in source.layers if layer.weights]
    loaded = [(layer, prefix + layer.name) for layer in layers for prefix in prefixes]
    for layer, name in loaded:
        target = model.get_layer(name)
        if type(layer).__name__ == "Normalization":
            # Keras puts a second scaling behind it, by one over the root of the deviation; here both are one layer.
            mean, variance, *_ = layer.get_weights()
            set_statistics(target, np.ravel(mean), np.ravel(variance) * np.asarray(IMAGENET_STD, "float32"))
        else:
            target.set_weights(layer.get_weights())
    return [name for _, name in loaded]
