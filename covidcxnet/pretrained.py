"""Weights by name or path: `load_model` builds the classifier that a weights file describes, and loads it whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import weights
from covidcxnet.classifier import PROBABILITIES, Classifier
from covidcxnet.explain.cam import facts_of
from covidcxnet.legacy import load_legacy
from covidcxnet.models import HEADS, MODELS, create
from covidcxnet.torch_weights import load_torch
from enhancement.errors import InputError, has_controls
from enhancement.files import check_output
from enhancement.parallel import sha256 as weights_sha256
from enhancement.progress import PATIENCE, announced
from segmentation.backend import quiet_backend
from segmentation.engines import choose, network_of
from weights.bounded import bounded_by
from weights.format import WeightsFile, check_suffix, check_widths, load_weights, naming, open_weights, save_weights

if TYPE_CHECKING:
    import keras

BEST_WEIGHTS = "best.weights.h5"
"""File of a run folder that the folder stands for."""


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    engine: str | None = None,
    precision: str = "f32",
) -> Classifier:
    """A trained classifier, ready for radiographs.

    `keras.models.load_model` cannot read these files, which hold weights and a description but no Keras model; with
    this function, ``.model`` is the `keras.Model`.

    Parameters
    ----------
    name_or_path : str or path-like
        The name of released weights (``covidcxnet weights list``), a ``.weights.h5`` file of this project, a run folder
        (its best weights), an old HDF5 file that `load_legacy` recognises by itself, or a PyTorch or safetensors file
        of a public network.
    engine : {"auto", "keras", "openvino", "onnxruntime"}, optional
        What runs this network and the lung segmenter. ``auto``, the default, takes OpenVINO for released weights, and
        for others that were converted before, where its answers agree with Keras' to 1e-5; it then loads without
        Keras. Naming an engine converts any weights of this project, once. The environment variable
        ``COVIDCXNET_ENGINE`` changes the default.
    precision : {"f32", "bf16", "int8"}
        Number format of OpenVINO; bf16 needs a processor that computes in it, int8 a network that ``covidcxnet export
        --precision int8`` made on this machine. Both change probabilities.

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
    choose(engine, precision)  # refused before any file is opened
    file = source(name_or_path)
    classifier = _load(name_or_path, file, engine, precision)
    # A released name stays one: an old file of that name is known by it.
    name = name_or_path if weights.is_name(name_or_path) else file.path.absolute()
    classifier.origin = partial(_load_same, name, file.sha256)
    return classifier


def _load_same(name_or_path: str | os.PathLike[str], sha256: str, **how: str) -> Classifier:
    classifier = load_model(name_or_path, **how)
    assert classifier.path is not None
    if (digest := weights_sha256(classifier.path)) != sha256:
        raise InputError(f"{classifier.path}: SHA-256 {digest[:12]} found, {sha256[:12]} expected; another file")
    return classifier


def _load(name_or_path: str | os.PathLike[str], file: WeightsFile, engine: str | None, precision: str) -> Classifier:
    chosen, named = choose(engine, precision)
    how: dict[str, Any] = {"engine": engine, "precision": precision}
    network, keras_model = None, cache(lambda: build(file.metadata, file.path))
    if file.layout == "keras-3":
        with naming(file.path):
            network = network_of(keras_model, file, PROBABILITIES, facts=facts_of, **how)
            if network is not None:
                return Classifier(keras_model, file.metadata, file.path, network=network, **how)
    elif named and chosen != "keras":
        raise InputError(
            f"{file.path}: engine {chosen} takes files of this project; covidcxnet weights convert makes one"
        )
    # The backend takes seconds to import; where it is there, small networks need no line.
    wait = PATIENCE if "keras" in sys.modules else 0
    with announced(f"{file.path.name}: loading {'' if wait else 'Keras and '}the network", after=wait):
        if file.layout == "torch":
            return load_torch(file.path)
        if file.layout == "keras-2":
            classifier = load_legacy(file, os.fspath(name_or_path) if weights.is_name(name_or_path) else None)
            if not isinstance(classifier, Classifier):
                raise InputError(f"{name_or_path}: weights of a segmenter, those of a classifier expected")
            return classifier
        with naming(file.path):
            return Classifier(keras_model(), file.metadata, file.path, **how)


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The weights file that a released name, a path or a run folder means; `InputError` if there is none."""
    # A name of the manifest comes first, whatever lies in the working directory; ./NAME is a path, as is every `Path`.
    if not os.path.isdir(name_or_path) or weights.is_name(name_or_path):
        return weights.locate(name_or_path)
    run = Path(name_or_path)
    if not (run / "recipe.yaml").is_file() or not (run / "run.json").is_file():
        raise InputError(f"{run}: not a run folder; it has no recipe.yaml and run.json")
    if not (run / BEST_WEIGHTS).is_file():
        raise InputError(f"{run / BEST_WEIGHTS}: missing; no weights are saved yet, or the file was renamed")
    return run / BEST_WEIGHTS


def source(name_or_path: str | os.PathLike[str]) -> WeightsFile:
    """The opened file of a classifier's weights; `InputError` if our metadata in it are not a classifier's."""
    path = resolve(name_or_path)
    file = open_weights(path)
    kind = file.metadata.get("kind")
    # Only our own files say their kind; of the others the arrays decide, when they are loaded.
    if file.layout == "keras-3" and kind != "classifier":
        raise InputError(f"{file.path}: weights of a {kind!s:.80}, those of a classifier expected")
    return file


def build(metadata: dict[str, Any], path: str | os.PathLike[str]) -> keras.Model:
    """The model that metadata describe, with the weights of the file; `InputError` if they do not fit."""
    quiet_backend()
    try:
        architecture, classes = metadata["architecture"], metadata["classes"]
        if not isinstance(classes, list) or any(not isinstance(c, str) or has_controls(c) for c in classes):
            raise InputError(f"its metadata do not describe a model: classes {classes!r:.80}, a list of names expected")
        options = architecture["options"]
        spec = MODELS.get(architecture["name"])
        # The model's own options too: a wide head may go without saying.
        implied = {} if spec is None else spec.options | HEADS.get(options.get("head"), {})
        widths = {**implied, **options}
        check_widths(Path(path), {key: list(v) if isinstance(v, tuple) else v for key, v in widths.items()})
        with bounded_by(path):
            model = create(architecture["name"], classes=classes, **options)
    except Exception as error:  # the options of an untrusted file: Keras and TensorFlow may raise anything
        needed = "its metadata do not describe a model; classes and an architecture's name and options expected"
        reason = str(error) if isinstance(error, InputError) else needed
        reason = reason.removeprefix(f"{path}: ")
        raise InputError(f"{path}: {reason:.500}") from error
    load_weights(model, Path(path))
    return model


def average(
    names_or_paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    shares: Sequence[float] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the average of several networks' weights, as one network.

    Between a network whose head was trained on pretrained features and the same network fine-tuned further, an average
    may do better on other kinds of images than either (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR
    2022). Networks that do not begin at the same weights do not average to anything useful.

    Parameters
    ----------
    names_or_paths : sequence of str or path-like
        At least two, as in `load_model`: weights of this project, of the same architecture, classes and input settings.
    out : str or path-like
        Weights file to write, which must end in ``.weights.h5``. Its metadata are those of the last, without thresholds
        and temperature, which belong to one network's probabilities.
    shares : sequence of float, optional
        Share of each, at least 0; they are scaled to a sum of 1. By default all are equal.
    overwrite : bool
        Whether an existing `out` is replaced.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the networks differ in more than their weights, a share is missing or negative, or `out` exists. Nothing is
        written then.
    """
    check_suffix(check_output(out, overwrite=overwrite))
    count = len(names_or_paths)
    given = np.ones(count) if shares is None else np.asarray(shares, np.float64)
    if count < 2:
        raise InputError(f"{count} weights file given to average, 2 or more expected")
    if given.shape != (count,):
        raise InputError(f"shares: {given.size} given for {count} weights files, one for each expected")
    if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
        raise InputError(f"shares: {', '.join(f'{x:g}' for x in given)} given; none below 0 and not all 0 expected")
    files = [source(name) for name in names_or_paths]
    for file in files:
        if file.layout != "keras-3":
            raise InputError(f"{file.path}: not a weights file of this project; covidcxnet weights convert makes one")
        for key in ("architecture", "classes", "input"):
            if file.metadata.get(key) != files[-1].metadata.get(key):
                raise InputError(f"{file.path}: other {key} than {files[-1].path}; only the weights may differ")
    given = given / given.sum()
    sums: list[np.ndarray] = []
    for file, share in zip(files, given, strict=True):
        model = build(file.metadata, file.path)
        # float64, so that equal networks average to themselves.
        arrays = [share * array.astype(np.float64) for array in model.get_weights()]
        sums = [a + b for a, b in zip(sums, arrays, strict=True)] if sums else arrays
    model.set_weights([total.astype(np.float32) for total in sums])
    about = [{"sha256": file.sha256, "share": float(share)} for file, share in zip(files, given, strict=True)]
    metadata = {key: value for key, value in files[-1].metadata.items() if key not in ("thresholds", "calibration")}
    return save_weights(model, Path(out), metadata | {"average": about})
