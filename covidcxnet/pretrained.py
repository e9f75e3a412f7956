"""Weights by name or path: `load_model` builds the classifier that a weights file describes, and loads it whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancement.errors import InputError

if TYPE_CHECKING:
    import keras

    from covidcxnet.classifier import Classifier


def load_model(name_or_path: str | os.PathLike[str]) -> Classifier:
    """A trained classifier, ready for radiographs.

    Parameters
    ----------
    name_or_path : str or path-like
        The name of released weights (``covidcxnet weights list``), a ``.weights.h5`` file of this project, a run folder
        (its best weights), or an old HDF5 file that `load_legacy` recognises by itself.

    Returns
    -------
    Classifier
        With `predict` and `explain`; labels and input settings come from the file.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or it is not a classifier's. Nothing in a file is executed.

    Examples
    --------
    >>> load_model("runs/phantom-small-cnn").predict("chest.png")[0].label   # doctest: +SKIP
    'normal'
    """
    import weights
    from covidcxnet.classifier import Classifier
    from weights.format import naming
    from weights.legacy_h5 import is_legacy

    path = resolve(name_or_path)
    if is_legacy(path):
        from covidcxnet.legacy import load_legacy

        loaded = load_legacy(path, os.fspath(name_or_path) if weights.is_name(name_or_path) else None)
        if not isinstance(loaded, Classifier):
            raise InputError(f"{name_or_path}: weights of a segmenter, those of a classifier expected")
        return loaded
    metadata = classifier_metadata(path)
    with naming(path):
        return Classifier(build(metadata, path), metadata, path=path)


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The weights file that a released name, a path or a run folder means.

    A name of the manifest comes first, whatever lies in the working directory (``./NAME`` is a path, and so is every
    `Path`): the package's own file, then the cache, then a download into the cache; each verified.

    Raises
    ------
    InputError
        If there is none; the message says where it was looked for and, for a file that cannot be downloaded, where to
        put it by hand.
    """
    import weights

    if os.path.isdir(name_or_path) and not weights.is_name(name_or_path):
        from covidcxnet.training.run import Run

        return Run(name_or_path).best_weights
    return weights.locate(name_or_path)


def classifier_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Metadata of a classifier's weights file; `InputError` if it is another kind of file."""
    from weights.format import read_metadata

    metadata = read_metadata(Path(path))
    kind = metadata.get("kind")
    if kind != "classifier":
        raise InputError(f"{path}: weights of a {kind}, those of a classifier expected")
    return metadata


def build(metadata: dict[str, Any], path: str | os.PathLike[str]) -> keras.Model:
    """The model that metadata describe, with the weights of the file; `InputError` if they do not fit."""
    from covidcxnet.models import create
    from segmentation.backend import quiet_backend
    from weights.bounded import bounded_by
    from weights.format import check_widths, load_weights

    quiet_backend()
    try:
        architecture, classes = metadata["architecture"], metadata["classes"]
        if not isinstance(classes, list):
            raise InputError(f"its metadata do not describe a model: classes {classes!r:.80}, a list expected")
        check_widths(Path(path), _all_options(architecture))
        with bounded_by(path):
            model = create(architecture["name"], classes=classes, **architecture["options"])
    except Exception as error:  # options of a stranger: Keras and TensorFlow raise whatever they like
        reason = str(error) if isinstance(error, InputError) else f"its metadata do not describe a model ({error!r})"
        reason = reason.removeprefix(f"{path}: ")
        raise InputError(f"{path}: {reason:.500}") from error
    load_weights(model, Path(path))
    return model


def _all_options(architecture: dict[str, Any]) -> dict[str, Any]:
    """Options that metadata name, over the model's own: a wide head may go without saying."""
    from covidcxnet.models import HEADS, MODELS

    spec, options = MODELS.get(architecture["name"]), architecture["options"]
    own = {} if spec is None else spec.options | HEADS.get(options.get("head"), {})
    return {key: list(value) if isinstance(value, tuple) else value for key, value in {**own, **options}.items()}


def home() -> Path:
    """Folder for weights that are not ours: ``COVIDCXNET_HOME``, or the user's cache folder."""
    from weights.registry import cache_folder

    return cache_folder()
