"""`--init`: random weights, ImageNet, CheXNet, or a file; and a line that says what was loaded and what was not."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidcxnet import pretrained
from covidcxnet.legacy import LEGACY, network
from covidcxnet.models import MODELS, hierarchical
from covidcxnet.models.heads import OUTPUT, networks
from covidcxnet.models.transfer import transfer
from enhancement.errors import InputError
from weights.legacy_h5 import is_legacy
from weights.registry import offline

from .checks import check_imagenet

if TYPE_CHECKING:
    import keras


# What each level of a model is, where it has several.
_ONE_LEVEL = {hierarchical.NAME: "covid-cxnet"}


def brought_options(init: str, model: str) -> dict[str, Any]:
    """Options of the model that initial weights bring with them, so that they see what they were trained on.

    Parameters
    ----------
    init : str
        As in `initialise`.
    model : str
        Name of the recipe's model.

    Returns
    -------
    dict
        ``normalization`` and, for a DenseNet, ``final_relu``; empty where the weights do not say. A recipe's own
        options come before them.
    """
    if init == "random":
        return {}
    known = LEGACY.get(init)
    if known and init not in MODELS and not Path(init).exists():
        fits = known.model in (model, _ONE_LEVEL.get(model))
        return {"normalization": known.normalization, "final_relu": known.options["final_relu"]} if fits else {}
    path = pretrained.resolve(init)
    if is_legacy(path):
        return {}
    architecture = pretrained.classifier_metadata(path).get("architecture", {})
    fits = architecture.get("name") in (model, _ONE_LEVEL.get(model))
    options = architecture.get("options", {}) if fits else {}
    return {key: options[key] for key in ("normalization", "final_relu") if key in options}


def initialise(model: keras.Model, init: str, classes: tuple[str, ...]) -> str:
    """Load initial weights into a new model.

    Parameters
    ----------
    model : keras.Model
        From `models.create`.
    init : str
        "random", "imagenet", a name of the manifest ("chexnet", "covid-cxnet-chexnet", "covid-cxnet"), a weights file
        of this project or of Keras 2, or a run folder.
    classes : tuple of str
        Labels of the model; the output layer is taken over only from weights with the same ones.

    Returns
    -------
    str
        What was loaded, for people.

    Raises
    ------
    InputError
        If the weights cannot be had or do not fit; the model is then not to be used.
    """
    if init == "random":
        return "random initial weights"
    if init == "imagenet":
        return _imagenet(model)
    path = pretrained.resolve(init)
    source, skip = _legacy(path, classes) if is_legacy(path) else _ours(path, classes)
    return _said(model, path, transfer(source, model, path, skip))


def named(init: str) -> str:
    """Initial weights as a weights file may tell them: a name, or a file's name and content; never a machine's path."""
    from enhancement.parallel import sha256

    path = Path(init)
    if not path.exists():
        return path.name
    file = pretrained.resolve(init)
    return f"{path.name}, SHA-256 {sha256(file)}"


def _legacy(path: Path, classes: tuple[str, ...]) -> tuple[keras.Model, set[str]]:
    """The model of an old file with its own head, and the layers not to take over."""
    model, labels = network(path)
    return model, set() if labels == tuple(classes) else {OUTPUT}


def _ours(path: Path, classes: tuple[str, ...]) -> tuple[keras.Model, set[str]]:
    metadata = pretrained.classifier_metadata(path)
    source = pretrained.build(metadata, path)
    # The units of the output layer mean labels.
    return source, set() if tuple(metadata["classes"]) == tuple(classes) else {OUTPUT}


@contextmanager
def _downloads() -> Iterator[None]:
    """What Keras fetches by itself; refused where downloads are forbidden, what lies in its cache is not."""
    if not offline():
        yield
        return

    class Refusing(urllib.request.OpenerDirector):
        def open(self, *args, **kwargs):
            raise urllib.error.URLError("COVIDCXNET_OFFLINE is set")

    urllib.request.install_opener(Refusing())
    try:
        yield
    finally:
        urllib.request.install_opener(urllib.request.build_opener())


def _imagenet(model: keras.Model) -> str:
    import numpy as np

    from covidcxnet.models import applications
    from covidcxnet.models.applications import set_statistics
    from covidcxnet.models.scaling import IMAGENET_STD

    check_imagenet(model.name, model.input_shape[-1], {"blocks": _blocks(model)})
    least = 75  # pixels that every one of them accepts
    try:
        with _downloads():
            source = applications.build(
                MODELS[model.name].application, weights="imagenet", input_shape=(least, least, 3)
            )
    except Exception as error:  # Keras raises a bare Exception where a download fails
        found = re.search(r"https?://\S+?\.h5", str(error))
        if not found:
            raise
        url = found.group()
        folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
        why = "are not on this machine and COVIDCXNET_OFFLINE is set" if offline() else "cannot be downloaded"
        raise InputError(
            f"init: the ImageNet weights {why}; fetch {url} elsewhere and put it at {folder / url.rsplit('/', 1)[1]}"
        ) from error
    layers = [layer for layer in source.layers if layer.weights]
    loaded = [(layer, prefix + layer.name) for layer in layers for prefix in networks(model)]
    for layer, name in loaded:
        ours = model.get_layer(name)
        if type(layer).__name__ == "Normalization":
            # A second scaling stands behind it there, by one over the root of the deviation; here it is one with it.
            mean, variance, *_ = layer.get_weights()
            set_statistics(ours, np.ravel(mean), np.ravel(variance) * np.asarray(IMAGENET_STD, "float32"))
        else:
            ours.set_weights(layer.get_weights())
    return _said(model, "ImageNet", [name for _, name in loaded])


def _blocks(model: keras.Model) -> list[int]:
    """Layers in each dense block of a DenseNet, or of the first of several; of another network nothing."""
    begin = re.escape(networks(model)[0])
    found = [re.fullmatch(rf"{begin}conv(\d+)_block\d+_concat", layer.name) for layer in model.layers]
    return list(Counter(one[1] for one in found if one).values())


def _said(model: keras.Model, origin: str | Path, loaded: list[str]) -> str:
    weighted = [layer.name for layer in model.layers if layer.weights]
    fresh = [name for name in weighted if name not in set(loaded)]
    text = f"initial weights from {origin}: {len(loaded)} of {len(weighted)} layers"
    return text + (f"; random: {', '.join(fresh)}" if fresh else "")
