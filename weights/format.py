"""Weights files: found, verified and identified by `open_weights`, whatever their layout; and our own format.

Ours is Keras' `.weights.h5` with JSON metadata in one HDF5 attribute.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from enhancement.errors import InputError, shortened
from enhancement.files import whole_file
from enhancement.parallel import sha256

from .hdf5 import open_plain, shapes, trust
from .legacy_h5 import LegacyLayer, legacy_layers
from .lookup import locate
from .torch_file import is_torch_file

ATTRIBUTE = "covidcxnet"
SUFFIX = ".weights.h5"
FORMAT = 1
# HDF5 keeps an attribute in the object header, which holds 64 KiB.
_LONGEST = 60_000
# Options of our architectures that decide how large the network is.
_WIDTHS = ("filters", "hidden", "growth", "width", "blocks", "channels", "outputs")
# Sides of a stack in pixels; detectors have some 4,000, and activations grow with the square.
_LARGEST_SIZE = 4096


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """A weights file that was found, verified and identified by its content.

    Attributes
    ----------
    path : Path
    layout : {"keras-3", "keras-2", "torch"}
        As in the manifest: our format, an HDF5 file of Keras 1 or 2, or a file of PyTorch or safetensors.
    metadata : dict
        What `save_weights` wrote; empty for the other layouts, which have none.
    layers : sequence of LegacyLayer
        Names and arrays of a "keras-2" file; empty for the others, whose arrays are read straight into a model.
    """

    path: Path
    layout: str
    metadata: dict[str, Any] = field(default_factory=dict)
    layers: Sequence[LegacyLayer] = ()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file's content, as hexadecimal digits."""
        return sha256(self.path)


def open_weights(name_or_path: str | os.PathLike[str]) -> WeightsFile:
    """Find a weights file, verify it, and read what it is; Keras is not needed and no weights are loaded.

    Parameters
    ----------
    name_or_path : str or path-like
        A released name (`weights.names`) or a path.

    Returns
    -------
    WeightsFile

    Raises
    ------
    InputError
        If there is no such file, it is not the released one, it is damaged or hostile, or no layout known here.
    """
    path = locate(name_or_path)  # a released file also passes its hash here
    # By content: files are renamed, and Keras itself would choose the reader by the ending.
    if is_torch_file(path):
        return WeightsFile(path, "torch")
    with open_plain(path) as file:
        layers = legacy_layers(file, path)
        text = file.attrs.get(ATTRIBUTE)
    if layers is not None:
        return WeightsFile(path, "keras-2", layers=layers)
    if text is None:
        raise InputError(f"{path}: HDF5 without our metadata (attribute {ATTRIBUTE!r}): a legacy or foreign file")
    try:
        metadata = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: the attribute {ATTRIBUTE!r} is not a JSON object; the file is damaged")
    if metadata.get("format") != FORMAT:
        raise InputError(shortened(f"{path}: format {metadata.get('format')!r} found, {FORMAT} expected"))
    return WeightsFile(path, "keras-3", metadata)


def save_weights(model, path: str | Path, metadata: dict[str, Any]) -> Path:
    """Write a model's weights, whole or not at all, with everything needed to use them.

    Plain Keras reads the file too: ``model.load_weights(path)``. The optimizer's state is left out.

    Parameters
    ----------
    model : keras.Model
        A functional model.
    path : str or path-like
        Must end in ``.weights.h5``, which Keras insists on.
    metadata : dict
        Plain values (JSON): kind, architecture, input settings, training summary. ``"format"`` is added.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the ending is another one or the metadata is too long for an HDF5 attribute.
    """
    import h5py
    import keras

    path = Path(path)
    check_suffix(path)
    text = json.dumps({"format": FORMAT, **metadata}, sort_keys=True)
    if len(text.encode()) > _LONGEST:
        raise InputError(f"{path}: metadata of {len(text.encode())} bytes; at most {_LONGEST} fit in an HDF5 attribute")
    # A compiled model would save its optimizer too; a view on the same layers saves the weights alone.
    bare = keras.Model(model.inputs, model.outputs)
    memory = _Memory()
    bare.save_weights(memory)
    with h5py.File(memory, "r+") as file:
        file.attrs[ATTRIBUTE] = text
        reader = "segmentation.LungSegmenter" if metadata.get("kind") == "segmenter" else "covidcxnet.load_model"
        # `keras.models.load_model` refuses a class that it does not know, by its name.
        file.attrs["model_config"] = json.dumps({"class_name": f"load this file with {reader}", "config": {}})
    with whole_file(path) as partial:
        partial.write_bytes(memory.getbuffer())
    trust(path)
    return path


def check_suffix(path: str | Path) -> None:
    """Refuse a name that `save_weights` would refuse, before hours of work for it."""
    if not Path(path).name.endswith(SUFFIX):
        raise InputError(f"{path}: a weights file must end in {SUFFIX}")


class _Memory(io.BytesIO):
    """A file in memory, as in `new_hdf5`, under a name that Keras takes for one of weights."""

    def __str__(self) -> str:
        return f"memory{SUFFIX}"


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that `save_weights` wrote; Keras is not needed.

    Raises
    ------
    InputError
        If there is no such file, it is not HDF5, or it carries no readable metadata of a known format.
    """
    file = open_weights(path)
    if file.layout != "keras-3":
        raise InputError(f"{path}: without our metadata (attribute {ATTRIBUTE!r}): a legacy or foreign file")
    return file.metadata


def load_weights(model, path: str | Path) -> None:
    """Load what `save_weights` wrote into a model of the same architecture.

    The whole file is looked at and the shapes of all variables are compared before any is set; should Keras still
    refuse it half-way, the model gets its old weights back.

    Raises
    ------
    InputError
        If the file does not fit the model, is damaged, or holds links to other files or absurd sizes.
    """
    with open_plain(path) as file:
        if "layers" not in file:
            raise InputError(f"{path}: no group 'layers' in it; not a weights file of Keras 3")
        actual = shapes(file["layers"])
    expected = sorted(tuple(v.shape) for v in model.weights)
    if expected != actual:
        raise InputError(
            f"{path}: {len(actual)} variables that do not fit the architecture, which has {len(expected)}"
            + (" of other shapes" if len(actual) == len(expected) else "")
        )
    before = model.get_weights()
    try:
        with _known_to_keras(Path(path)) as file:
            model.load_weights(str(file))
        if not all(np.isfinite(array).all() for array in model.get_weights()):
            raise InputError(f"{path}: holds values that are not finite; the file is damaged")
    except InputError:
        model.set_weights(before)
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        model.set_weights(before)
        raise InputError(f"{path}: the weights do not fit the architecture, or the file is damaged") from error


@contextmanager
def _known_to_keras(path: Path) -> Iterator[Path]:
    """The file under a name by which Keras takes it for what it is: by another it would read ZIP or old HDF5."""
    if path.name.endswith(SUFFIX):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, f"model{SUFFIX}")
        try:
            link.symlink_to(path.absolute())
        except OSError:  # not every system lets everybody make links
            shutil.copyfile(path, link)
        yield link


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of the input that are raised inside begin with the file's path; a value quoted from it may be long."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(f"{path}: ") and shortened(str(error)) == str(error):
            raise
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{Path(path).name}: ")
        raise InputError(f"{path}: {shortened(reason)}") from error


def check_widths(path: str | Path, options: dict[str, Any]) -> None:
    """Refuse metadata whose network is far larger than the file's arrays, before any memory is taken for it.

    Of the architecture's `options`, those that are widths and depths of our networks are checked; the message names it.
    """
    with open_plain(path) as file:
        counts = [math.prod(shape) for shape in shapes(file["/"])]
    largest = max(counts, default=0)
    for key in _WIDTHS:
        value = options.get(key, 1)
        numbers = [width for width in (value if isinstance(value, list) else [value]) if isinstance(width, int)]
        # Neighbouring layers of these widths are joined by an array of at least their product.
        needed = max([*numbers, *(a * b for a, b in itertools.pairwise(numbers))], default=0)
        if key in ("growth", "filters", "width") and isinstance(value, int):
            needed **= 2
        if needed > largest if key != "blocks" else sum(numbers) > len(counts):
            raise InputError(f"{path}: {key} {value!s:.80} in its metadata does not fit its arrays; damaged or hostile")
    size = options.get("size") or 0
    if isinstance(size, int) and size > _LARGEST_SIZE:
        raise InputError(f"{path}: size {size} in its metadata, at most {_LARGEST_SIZE} expected; damaged or hostile")
