"""`load_legacy`: weights that others published, in the HDF5 files of Keras 1 and 2, loaded exactly or not at all.

Which network a file is of, its depth and its widths are told by its arrays; the number of layers and every shape are
compared before anything is set. What arrays cannot tell (is there a ReLU before the pooling? how was the input scaled?)
comes from the file's own description, from its known content, or from the caller; it is never guessed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidcxnet.legacy_description import check_described, described_size, ends_with_relu, one_sigmoid
from covidcxnet.legacy_networks import CHEXNET_LABELS, LABELS, LEGACY, UNETS, Legacy
from covidcxnet.legacy_structure import BASE_SIZES, Structure, recognise
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from weights.format import naming
from weights.hdf5 import open_plain
from weights.legacy_h5 import LegacyLayer, is_legacy, read_config, read_legacy, set_by_position

if TYPE_CHECKING:
    import keras

    from covidcxnet.classifier import Classifier
    from segmentation.segmenter import LungSegmenter

__all__ = [
    "CHEXNET_LABELS",
    "LABELS",
    "LEGACY",
    "UNETS",
    "Legacy",
    "load_legacy",
    "load_structure",
    "structure_options",
]


def load_legacy(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    *,
    size: int | None = None,
    classes: Sequence[str] | None = None,
    input: InputSettings | dict[str, Any] | None = None,
) -> Classifier | LungSegmenter:
    """Load an HDF5 weights file of Keras 1 or 2: weights alone or a whole model, told by content.

    Parameters
    ----------
    path : str or path-like
        The file, or the name of a legacy entry of the manifest ("chexnet", "covid-cxnet-chexnet", "covid-cxnet-unet").
    architecture : str, optional
        One of `LEGACY` or `UNETS`. Needed only where neither the arrays nor the file's description say it:
        for a 14-class DenseNet121, "chexnet" or "covid-cxnet-chexnet".
    size : int, optional
        Side of the stack; the one in the file's description, or the published one, when not given.
    classes : sequence of str, optional
        Labels. Where their number is not that of the file's head, that head is loaded, then replaced by COVID-CXNet's
        with random weights: the classifier is then one to train, not to use.
    input : InputSettings or dict, optional
        How a radiograph becomes a stack; the published way when not given.

    Returns
    -------
    Classifier or LungSegmenter
        A lung U-Net gives the latter; both have the network as `.model` and everything known as `.metadata`, ready for
        `weights.save_weights`.

    Raises
    ------
    InputError
        If it is not such a file, is damaged, fits no network known here, or leaves something open that must be given.

    Examples
    --------
    >>> covidcxnet.load_legacy("CheXNet_v0.3.0.h5", "chexnet").classes[6]       # doctest: +SKIP
    'Pneumonia'
    """
    file, name = _file(path)
    name = architecture or name
    if not is_legacy(file):
        with open_plain(file):  # says what is missing or damaged
            raise InputError(f"{file}: not an HDF5 weights file of Keras 1 or 2; covidcxnet.load_model loads ours")
    with naming(file):
        return _load(file, name, size, classes, input, described=not architecture)


def _load(
    file: Path,
    name: str | None,
    size: int | None,
    classes: Sequence[str] | None,
    input: InputSettings | dict[str, Any] | None,
    described: bool,
) -> Classifier | LungSegmenter:
    """`described`: whether the file's own description of its layers counts, and not only its arrays."""
    from covidcxnet.classifier import Classifier
    from covidcxnet.models import create, outputs_for
    from covidcxnet.models.heads import head_layers
    from covidcxnet.models.transfer import transfer
    from segmentation.model import recognise as recognise_unet

    layers, config = read_legacy(file), read_config(file)
    of_unet = recognise_unet(layers)
    if name in UNETS or (not name and of_unet):
        return _segmenter(file, name, size, classes, input)
    if of_unet:
        raise InputError(f"{file}: architecture {name!r} given; its arrays are those of a lung U-Net")
    structure = recognise(layers, file)
    labels = _labels(structure, classes, file)
    if structure.outputs == 2:
        structure, layers = one_sigmoid(structure, layers, config, file)
    name = name or _name(structure, config, file)
    if name not in LEGACY or LEGACY[name].model != structure.model:
        fitting = [known for known, legacy in LEGACY.items() if legacy.model == structure.model]
        raise InputError(f"{file}: architecture {name!r} given; its arrays allow {', '.join(fitting)}")
    settings = _input(LEGACY[name], structure, config, size, input, file)
    options = _options(LEGACY[name], structure, config if described else {}, settings)
    model = load_structure(structure, layers, options, file)
    check_described(config, model, file)
    head = "of the file"
    if outputs_for(labels) != structure.outputs:
        options, source, head = options | _new_head(structure), model, "replaced, random"
        model = create(structure.model, classes=labels, **options)
        transfer(source, model, file, skip=head_layers(model))
    metadata = {
        "format": 1,
        "kind": "classifier",
        "architecture": {"name": structure.model, "options": options},
        "classes": list(labels),
        "input": settings.to_dict(),
        "legacy": {"file": file.name, "architecture": name, "head": head},
    }
    return Classifier(model, metadata, path=file)


def load_structure(
    structure: Structure, layers: list[LegacyLayer], options: dict[str, Any], path: str | os.PathLike[str]
) -> keras.Model:
    """The model of a structure with the file's own head, if it has one, and every weight set from its layers.

    Parameters
    ----------
    structure : Structure
    layers : list of LegacyLayer
    options : dict
        Of `covidcxnet.models.create`, size and channels among them.
    path : path-like
        For messages.

    Raises
    ------
    InputError
        If number of layers or any shape differs; nothing is set then.
    """
    from covidcxnet.models import create, split_head
    from segmentation.backend import quiet_backend
    from weights.bounded import bounded_by

    quiet_backend()
    count = max(2, structure.outputs)
    with bounded_by(path):
        model = create(structure.model, classes=[str(n) for n in range(count)], **options)
    # A file without a head sets the backbone alone, which shares its layers with the model.
    set_by_position(model if structure.outputs else split_head(model)[0], layers, Path(path))
    return model


def structure_options(structure: Structure, size: int) -> dict[str, Any]:
    """Options of `covidcxnet.models.create` for the model that a structure describes."""
    head = {"hidden": list(structure.hidden), "dropout": 0.2 if structure.model == "covid-cxnet" else 0.0}
    if not structure.hidden:
        head["dropout"] = 0.0
    return {"size": size, "channels": structure.channels, **structure.options, **head}


def _file(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The file, and the name of its entry if it was given by name."""
    import weights

    text = os.fspath(path)
    if os.sep in text:
        return Path(text), None
    return weights.locate(path), text if weights.is_name(path) else None


def _name(structure: Structure, config: dict[str, dict[str, Any]], path: Path) -> str:
    """Which published network a recognised structure is, from the file's description or its known content."""
    if structure.model != "covid-cxnet":
        return structure.model
    if structure.outputs and structure.hidden:
        return "covid-cxnet"
    if structure.outputs == len(CHEXNET_LABELS) and config:
        return "covid-cxnet-chexnet" if ends_with_relu(config) else "chexnet"
    from weights.manifest import git_blob_id, read

    blob = git_blob_id(path)
    for entry in read().values():
        if entry.git_blob == blob and entry.name in LEGACY:
            return entry.name
    raise InputError(
        f"{path}: its arrays do not say whether a ReLU precedes the pooling and how the input is scaled; give "
        "architecture: chexnet, covid-cxnet-chexnet or imagenet"
    )


def _input(
    known: Legacy,
    structure: Structure,
    config: dict[str, dict[str, Any]],
    size: int | None,
    given: InputSettings | dict[str, Any] | None,
    path: Path,
) -> InputSettings:
    if isinstance(given, InputSettings):
        return given if size is None else dataclasses.replace(given, size=size)
    given = dict(given or {})
    channels = {1: ("raw",), len(known.input.channels): known.input.channels}.get(structure.channels)
    if channels is None and "channels" not in given:
        raise InputError(f"{path}: its stacks have {structure.channels} channels; say which: input with channels")
    side = size or given.get("size") or described_size(config, structure)
    if side is None and structure.sizes:
        side = BASE_SIZES.get(structure.side)
        if side is None:
            least, most = structure.sizes[0], structure.sizes[-1]
            raise InputError(f"{path}: made for stacks of {least} to {most} pixels, and its arrays fit all; give size")
    elif side is not None and structure.sizes and side not in structure.sizes:
        least, most = structure.sizes[0], structure.sizes[-1]
        raise InputError(f"{path}: size {side} for a file whose arrays are made for stacks of {least} to {most} pixels")
    values = {**known.input.to_dict(), "channels": channels, **given, "size": side or known.input.size}
    return InputSettings.from_dict(values)


def _options(
    known: Legacy,
    structure: Structure,
    config: dict[str, dict[str, Any]],
    settings: InputSettings,
) -> dict[str, Any]:
    options = {**structure_options(structure, settings.size), "normalization": known.normalization, **known.options}
    dense = [layer for layer in config.values() if layer["class"] == "Dense"]
    if dense and structure.outputs > 1 and dense[-1].get("activation") in ("sigmoid", "softmax"):
        options["activation"] = "sigmoid" if dense[-1]["activation"] == "sigmoid" else None
    return options


def _labels(structure: Structure, classes: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    if classes is not None:
        return tuple(classes)
    if structure.outputs not in LABELS:
        raise InputError(f"{path}: {structure.outputs} outputs in its head and no labels known for them; give classes")
    return LABELS[structure.outputs]


def _new_head(structure: Structure) -> dict[str, Any]:
    from covidcxnet.models import MODELS

    return {key: value for key, value in MODELS[structure.model].head.items() if key != "pool"}


def _segmenter(
    path: Path,
    name: str | None,
    size: int | None,
    conventions: Sequence[str] | None,
    given: InputSettings | dict[str, Any] | None,
) -> LungSegmenter:
    from segmentation.model import legacy_metadata
    from segmentation.segmenter import LungSegmenter

    if isinstance(given, InputSettings):
        raise InputError(f"{path}: a lung U-Net; its input is given as a dict of size, enhancement and fit")
    metadata = legacy_metadata(path)
    found = metadata["architecture"]["name"]
    if name and UNETS[name] != found:
        raise InputError(f"{path}: architecture {name!r} given; its arrays are those of {found}")
    metadata["input"] |= {**(given or {}), **({"size": size} if size else {})}
    if conventions is not None:
        if len(conventions) != len(metadata["conventions"]):
            raise InputError(f"{path}: {len(conventions)} classes given, the network has one map for each of "
                             f"{len(metadata['conventions'])}")  # fmt: skip
        metadata["conventions"] = list(conventions)
    segmenter = LungSegmenter(path, metadata=metadata)
    _ = segmenter.model  # exactly or not at all: now, not at the first radiograph
    return segmenter
