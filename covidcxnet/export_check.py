"""The check of an export: the exported network and the Keras model on the same stacks, real ones or phantoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.export_formats import Runner
    from segmentation.segmenter import LungSegmenter

_BATCH = 8


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Parameters
    ----------
    stacks : int
        Number of stacks compared.
    difference : float
        Largest absolute difference of an output; NaN if an output is.
    lowest, highest : float
        Range of the Keras model's outputs; a comparison of constants says little.
    unreadable : tuple of str
        Files that could not be read, with the reason.
    """

    stacks: int
    difference: float
    lowest: float
    highest: float
    unreadable: tuple[str, ...] = ()


def compare(subject: Classifier | LungSegmenter, run: Runner, files: Sequence[Path], input_type: str) -> Comparison:
    """Run the exported network and the Keras model on the same stacks.

    Parameters
    ----------
    subject : Classifier or LungSegmenter
        With the Keras model and its input settings.
    run : callable
        The exported network: a batch of stacks to outputs.
    files : sequence of Path
        Radiographs to make stacks of; none for phantoms and noise.
    input_type : str
        Number type that `run` takes.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If no file could be read, or the shapes of the outputs differ.
    """
    import keras

    compared, difference, lowest, highest = 0, 0.0, np.inf, -np.inf
    unreadable: list[str] = []
    for stacks in _stacks(subject, files, unreadable):
        # One alone first: the batch dimension must be open.
        for part in (stacks[:1], stacks[1:]) if not compared else (stacks,):
            if not len(part):
                continue
            expected = keras.ops.convert_to_numpy(subject.model(part.astype("float32"), training=False))
            found = run(part.astype(input_type))
            if found.shape != expected.shape:
                raise InputError(f"the exported network gives {found.shape}, {expected.shape} expected")
            difference = float(np.maximum(difference, np.abs(found - expected).max()))
            lowest, highest = min(lowest, float(expected.min())), max(highest, float(expected.max()))
            compared += len(part)
    if not compared:
        raise InputError(f"images: none of them could be read: {'; '.join(unreadable[:3])}")
    return Comparison(compared, difference, lowest, highest, tuple(unreadable))


def _stacks(subject: Classifier | LungSegmenter, files: Sequence[Path], unreadable: list[str]) -> Iterator[np.ndarray]:
    """Stacks ``uint8 [n, S, S, C]`` of the images, or of phantoms with their own lungs and of noise."""
    from covidcxnet.classifier import Classifier

    if not files:
        yield _made_stacks(subject)
        return
    if isinstance(subject, Classifier):
        for items, outcomes in subject.batches(files, _BATCH):
            unreadable += [f"{item}: {o.error}" for item, o in zip(items, outcomes, strict=True) if o.prepared is None]
            made = [outcome.prepared.stack for outcome in outcomes if outcome.prepared is not None]
            if made:
                yield np.stack(made)
        return
    from enhancement import read_radiograph

    for file in files:
        try:
            yield subject.input.prepare(read_radiograph(file))[0][None, ..., None]
        except InputError as error:
            unreadable.append(str(error))


def _made_stacks(subject: Classifier | LungSegmenter) -> np.ndarray:
    from covidcxnet.classifier import Classifier
    from covidcxnet.datasets.phantom import PHANTOM_CLASSES, phantom
    from covidcxnet.preparation.pipeline import prepare_image

    phantoms = [phantom(label, seed) for seed, label in enumerate(PHANTOM_CLASSES)]
    if isinstance(subject, Classifier):
        made = [prepare_image(one.image, one.lungs, None, subject.input).stack for one in phantoms]
    else:
        made = [subject.input.prepare(one.image)[0][..., None] for one in phantoms]
    noise = np.random.default_rng(0).integers(0, 256, made[0].shape).astype("uint8")
    return np.stack([*made, noise])
