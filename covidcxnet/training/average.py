"""The mean of several trainings' weights (Wortsman et al. 2022, "Model soups"), batch norm moments measured anew.

Networks that went on from one another, or from one beginning, can be averaged weight by weight; the mean often does
better than each, as an ensemble would, at the price of one. The moments that batch norm keeps do not survive that:
they belong to activations that the mean no longer has (Izmailov et al. 2018, "Averaging weights leads to wider
optima", section 3.2).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet import pretrained
from covidcxnet.models.heads import LEVELS, OUTPUT
from enhancement.errors import InputError

from . import data
from .initial_weights import named
from .run import Run
from .validation import validation_figures

if TYPE_CHECKING:
    import keras

    from covidcxnet.classifier import Classifier
    from covidcxnet.preparation import Store

_OF_ONE_TRAINING = ("epoch", "figures", "run")  # what the metadata say of a training's best epoch


def average_weights(
    run: str | os.PathLike[str],
    others: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> Path:
    """Average the weights of a run with those of others, and measure batch norm's moments on the run's training images.

    Parameters
    ----------
    run : path-like
        A run folder. Classes, input settings, training and validation images are its own; test images are not opened.
    others : sequence of str or path-like
        Run folders, weights files or released names of the same architecture. Of one with other classes the output
        layer is left out of the mean.
    target : path-like
        The new file, ending in ``.weights.h5``; written whole or not at all.
    batch_size : int
        Stacks that go through the network together, 2 or more; moments are means over batches.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        `target`; its metadata are the run's, with ``training.average`` naming all that went into the mean, and the
        mean's own validation figures (and thresholds, of several findings).

    Raises
    ------
    InputError
        If there is nothing to average, an architecture differs, the run's stacks are gone, or numbers become infinite.
    """
    from covidcxnet.classifier import Classifier
    from weights.format import SUFFIX, save_weights

    from .multilabel import THRESHOLD

    target = Path(target)
    if not others:
        raise InputError(f"{run}: nothing to average it with; name other runs or weights")
    if batch_size < 2:
        raise InputError(f"batch_size: {batch_size} given, 2 or more expected")
    if not target.name.endswith(SUFFIX) or target.exists():
        raise InputError(f"{target}: name a new file that ends in {SUFFIX}")
    first = Run(run)
    metadata = pretrained.classifier_metadata(first.best_weights)
    model = pretrained.build(metadata, first.best_weights)
    _set_mean(model, metadata, others)
    measure_moments(model, first.store, first.rows("train"), batch_size=batch_size, progress=progress)
    if not all(np.isfinite(array).all() for array in model.get_weights()):
        raise InputError(f"{target}: not written; the mean of these weights gives numbers that are not finite")
    classifier = Classifier(model, metadata, target)
    figures = _validated(classifier, first, batch_size, progress)
    told = {key: value for key, value in metadata["training"].items() if key not in _OF_ONE_TRAINING}
    told["average"] = [named(os.fspath(one)) for one in (first.path, *others)]
    told["figures"] = {name: round(value, 6) for name, value in figures.items() if name.startswith("val_")}
    changed = {"training": told}
    if classifier.multilabel:
        changed["thresholds"] = {label: round(figures[THRESHOLD + label], 7) for label in classifier.classes}
    return save_weights(model, target, metadata | changed)


def measure_moments(
    model: keras.Model, store: Store, rows: np.ndarray, *, batch_size: int = 32, seed: int = 0, progress: bool = False
) -> None:
    """Set every batch norm's moving mean and variance to their means over batches of a store's stacks.

    Stacks are shown in random order, without augmentation; a last batch that is smaller is left out. A model without
    batch norm is left as it is.

    Parameters
    ----------
    model : keras.Model
        Its trainable weights stay as they are.
    store : Store
    rows : int array [n]
        Rows of the store, `batch_size` or more; fewer are one batch.
    batch_size : int
    seed : int
        Of the order.
    progress : bool

    Raises
    ------
    InputError
        If there are fewer than two stacks.
    """
    import keras
    from tqdm import tqdm

    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    if len(rows) < 2:
        raise InputError(f"{store.path}: {len(rows)} training stacks; moments need two at least")
    order = np.random.default_rng(seed).permutation(rows)
    batches = [order[i : i + batch_size] for i in range(0, max(len(order) - batch_size, 0) + 1, batch_size)]
    kept = [(layer, layer.momentum, layer.trainable) for layer in norms]
    try:
        for done, batch in enumerate(tqdm(batches, desc="batch norm", unit="batch", disable=not progress)):
            for layer in norms:
                # A frozen one would use its moments instead of measuring. This momentum makes a mean of all batches.
                layer.trainable, layer.momentum = True, done / (done + 1)
            model(keras.ops.convert_to_tensor(store.read(np.sort(batch))), training=True)
    finally:
        for layer, momentum, trainable in kept:
            layer.momentum, layer.trainable = momentum, trainable


def _set_mean(model: keras.Model, metadata: dict[str, Any], others: Sequence[str | os.PathLike[str]]) -> None:
    """Give `model` the mean of its weights and those of the others, layer by layer."""
    outputs = {prefix + OUTPUT for prefix in ("", *LEVELS)}
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    found = {name: [[array] for array in layer.get_weights()] for name, layer in layers.items()}
    for other in others:
        path = pretrained.resolve(other)
        theirs = pretrained.classifier_metadata(path)
        source = {layer.name: layer for layer in pretrained.build(theirs, path).layers if layer.weights}
        skipped = set() if theirs["classes"] == metadata["classes"] else outputs
        if theirs["architecture"]["name"] != metadata["architecture"]["name"] or set(source) != set(layers):
            raise InputError(
                f"{other}: a {theirs['architecture']['name']} of other layers than the run's "
                f"{metadata['architecture']['name']}; only weights of one architecture can be averaged"
            )
        for name in set(layers) - skipped:
            arrays = source[name].get_weights()
            if [array.shape for array in arrays] != [own[0].shape for own in found[name]]:
                shapes = ", ".join(str(array.shape) for array in arrays)
                raise InputError(f"{other}: {name} has {shapes}, in the run it has {[o[0].shape for o in found[name]]}")
            for own, array in zip(found[name], arrays, strict=True):
                own.append(array)
    for name, layer in layers.items():
        layer.set_weights([np.mean(arrays, axis=0, dtype="float64") for arrays in found[name]])


def _validated(classifier: Classifier, run: Run, batch_size: int, progress: bool) -> dict[str, float]:
    """Figures on the run's validation images, but for the loss, which belongs to the training."""
    from .multilabel import multilabel_figures
    from .multilabel import sides as multilabel_sides

    sides, figures = (
        (multilabel_sides, multilabel_figures) if classifier.multilabel else (data.sides, validation_figures)
    )
    _, side = sides(run.recipe, run.store, run.split, classifier.classes)
    chances = classifier.predict_rows(run.store, side.rows, batch_size, progress, "validation")
    chances = chances[:, 1:] if side.targets.shape[1] == 1 else chances
    found = figures(side.targets, chances, lambda *_: np.float32(np.nan), classifier.classes)
    return {name: value for name, value in found.items() if name != "val_loss"}
