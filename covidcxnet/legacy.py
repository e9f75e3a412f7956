"""`load_legacy`: weights that others published, in the HDF5 files of Keras 1 and 2, loaded exactly or not at all.

The arrays tell which network a file is of, its depth and its widths; the number of layers and every shape are compared
before anything is set. What arrays cannot tell (is there a ReLU before the pooling? how was the input scaled?) comes
from the file's own description, from its known content, or from the caller; it is never guessed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import weights
from covidcxnet.classifier import Classifier
from covidcxnet.models import MODELS, create, outputs_for, split_head
from covidcxnet.models.finetuning import head_layers, transfer
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.backend import keras, layers, quiet_backend
from segmentation.model import legacy_metadata
from segmentation.model import recognise as recognise_unet
from segmentation.segmenter import LungSegmenter
from weights import manifest
from weights.bounded import bounded_by
from weights.format import WeightsFile, naming, open_weights
from weights.legacy_h5 import LegacyLayer, read_config, set_by_position

CHEXNET_LABELS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
LABELS = {1: ("normal", "covid19"), 3: ("normal", "pneumonia", "covid19"), 14: CHEXNET_LABELS}
"""Labels of published heads, by their number of outputs."""

UNETS = {"unet": "unet", "covid-cxnet-unet": "unet", "imlab-unet": "imlab-unet"}
"""Names of lung U-Nets, and the network in `segmentation` that each means."""

# Sides of the published base CNNs, by the side of the last feature map; 31 other sides lead to the same.
_BASE_SIZES = {11: 400, 8: 300}

Config = dict[str, dict[str, Any]]  # what a file says of its layers, from `weights.legacy_h5.read_config`


@dataclass(frozen=True)
class Legacy:
    """How a published network was built and fed: what its arrays do not say."""

    model: str  # in `covidcxnet.models.MODELS`
    normalization: str
    input: InputSettings  # with the channels of the published three-channel form
    options: dict[str, Any] = field(default_factory=dict)  # of `covidcxnet.models.create`


def _raw(size: int) -> InputSettings:
    return InputSettings(size=size, channels=("raw", "raw", "raw"), stretch=True)


LEGACY = {
    # As trained: no ReLU after the last batch norm, 14 sigmoids.
    "chexnet": Legacy("covid-cxnet", "imagenet", _raw(224), {"final_relu": False, "activation": "sigmoid"}),
    # As COVID-CXNet saved and used it: with the ReLU, x/255, a softmax over 14.
    "covid-cxnet-chexnet": Legacy("covid-cxnet", "unit", _raw(320), {"final_relu": True, "activation": None}),
    # Fine-tuned: Dense 10, then one sigmoid or a softmax; channels as in its notebooks.
    "covid-cxnet": Legacy(
        "covid-cxnet",
        "unit",
        InputSettings(size=320, channels=("beasf", "clahe", "raw"), region="crop", margin=0.0, stretch=True),
        {"final_relu": True, "activation": None},
    ),
    # DenseNet121 of keras.applications without its top: a backbone.
    "imagenet": Legacy("covid-cxnet", "imagenet", _raw(224), {"final_relu": True, "activation": None}),
    # Five convolutions, Dense 10, 10, one sigmoid; channels as in its script.
    "base-cnn": Legacy("base-cnn", "unit", InputSettings(size=400, channels=("raw", "beasf", "clahe"), stretch=True)),
}
"""Networks that `load_legacy` knows, by the name that its argument `architecture` takes; `UNETS` beside them."""


def load_legacy(
    path: str | os.PathLike[str] | WeightsFile,
    architecture: str | None = None,
    *,
    size: int | None = None,
    classes: Sequence[str] | None = None,
    input: InputSettings | dict[str, Any] | None = None,
) -> Classifier | LungSegmenter:
    """Load an HDF5 weights file of Keras 1 or 2, weights alone or a whole model.

    Parameters
    ----------
    path : str, path-like or WeightsFile
        The file, or the name of a legacy entry of the manifest ("chexnet", "covid-cxnet-chexnet", "covid-cxnet-unet");
        or what `weights.format.open_weights` gave.
    architecture : str, optional
        One of `LEGACY` or `UNETS`. Needed where the file is not a published one and its arrays fit several:
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
    if isinstance(path, WeightsFile):
        opened, name = path, architecture
    else:
        opened, name = open_weights(path), architecture or (os.fspath(path) if weights.is_name(path) else None)
    file = opened.path
    if opened.layout != "keras-2":
        raise InputError(f"{file}: not an HDF5 weights file of Keras 1 or 2; covidcxnet.load_model loads ours")
    # Errors below begin with the file's path.
    with naming(file):
        layers, config = opened.layers, read_config(file)
        of_unet = recognise_unet(layers)
        if name in UNETS or (not name and of_unet):
            return _segmenter(opened, name, size, classes, input)
        if of_unet:
            raise InputError(f"architecture {name!r} given; its arrays are those of a lung U-Net")
        structure = recognise(layers)
        labels = tuple(classes) if classes is not None else LABELS.get(structure.outputs)
        # One dense layer of three outputs may be anybody's; only the heads of COVID-CXNet have layers before it.
        if labels is None or (classes is None and structure.outputs == 3 and not structure.hidden):
            raise InputError(f"{structure.outputs} outputs in its head and no labels known for them; give classes")
        if structure.outputs == 2:
            structure, layers = _one_sigmoid(structure, layers, config)
        name = name or _name(structure, file)
        if name not in LEGACY or LEGACY[name].model != structure.model:
            fitting = [known for known, legacy in LEGACY.items() if legacy.model == structure.model]
            raise InputError(f"architecture {name!r} given; its arrays allow {', '.join(fitting)}")
        settings = _input(LEGACY[name], structure, config, size, input)
        options = structure.model_options(settings.size) | {"normalization": LEGACY[name].normalization}
        options |= LEGACY[name].options
        # A name that was given outweighs the file's description of its output.
        if not architecture and structure.outputs > 1 and (dense := _dense(config)):
            activation = dense[-1].get("activation")
            if activation in ("sigmoid", "softmax"):
                options["activation"] = "sigmoid" if activation == "sigmoid" else None
        model = _network(structure, layers, options, file)
        _check_described(config, model)
        head = "of the file"
        if outputs_for(labels) != structure.outputs:
            options |= {key: value for key, value in MODELS[structure.model].head.items() if key != "pool"}
            source, head = model, "replaced, random"
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


def network(file: WeightsFile) -> tuple[keras.Model, tuple[str, ...]]:
    """The network of an old classifier's file with the file's own head, and its labels (none where not known).

    It is one to take weights from: whatever arrays cannot tell is left at its default.
    """
    with naming(file.path):
        structure = recognise(file.layers)
        size = structure.sizes[0] if structure.sizes else LEGACY["covid-cxnet"].input.size
        options = structure.model_options(size) | {"normalization": "unit"}
        model = _network(structure, file.layers, options, file.path)
    return model, LABELS.get(structure.outputs, ())


@dataclass(frozen=True)
class Structure:
    """What shapes say of a classifier."""

    model: str  # in `covidcxnet.models.MODELS`
    options: dict[str, Any]  # of its backbone
    channels: int
    hidden: tuple[int, ...] = ()  # units of the head's layers before the last
    outputs: int = 0  # units of the last layer; 0 where the file has no head
    side: int = 0  # of the last feature map where the head flattens it, else 0

    @property
    def sizes(self) -> range:
        """Sides of the stack that lead to this head; empty where any does."""
        least = 2 * (16 * self.side + 15) + 3  # one 5 x 5 and four 3 x 3 convolutions of stride 2, backwards
        return range(least, least + 32) if self.side else range(0)

    def model_options(self, size: int) -> dict[str, Any]:
        """Options of `covidcxnet.models.create`."""
        dropout = 0.2 if self.model == "covid-cxnet" and self.hidden else 0.0
        head = {"hidden": list(self.hidden), "dropout": dropout}
        return {"size": size, "channels": self.channels, **self.options, **head}


def recognise(layers: Sequence[LegacyLayer]) -> Structure:
    """The structure of a classifier from its layers in order; an `InputError` names the layer that breaks it."""
    first = layers[0].shapes[0] if layers and layers[0].shapes else ()
    if len(first) == 4 and first[:2] == (7, 7):
        return _densenet(_Walk(layers))
    if len(first) == 4 and first[:2] == (5, 5):
        return _base_cnn(_Walk(layers))
    raise InputError(
        f"{len(layers)} layers with weights, the first of shape {first}: neither a DenseNet, nor the base CNN of "
        "COVID-CXNet, nor a lung U-Net known here"
    )


class _Walk:
    """Layers one after the other, each compared with what must stand there."""

    def __init__(self, layers: Sequence[LegacyLayer]):
        self.layers, self.at = layers, 0

    def sees(self, *shapes: tuple[int, ...], ahead: int = 0) -> bool:
        at = self.at + ahead
        return at < len(self.layers) and self.layers[at].shapes == list(shapes)

    def take(self, *shapes: tuple[int, ...]) -> None:
        if not self.sees(*shapes):
            has = f"it ends after {len(self.layers)} layers"
            if self.at < len(self.layers):
                has = f"layer {self.layers[self.at].name} has shapes {self.layers[self.at].shapes}"
            raise InputError(f"{has} where {list(shapes)} belongs; damaged, or another architecture")
        self.at += 1

    def normalisation(self, width: int) -> None:
        self.take(*[(width,)] * 4)

    def head(self, width: int) -> tuple[tuple[int, ...], int]:
        """Dense layers up to the end: units of the hidden ones, and of the last."""
        units: list[int] = []
        while self.at < len(self.layers):
            shapes = self.layers[self.at].shapes
            out = shapes[0][1] if shapes and len(shapes[0]) == 2 else 0
            self.take((width, out), (out,))
            units.append(out)
            width = out
        return tuple(units[:-1]), units[-1] if units else 0


def _densenet(walk: _Walk) -> Structure:
    channels, width = walk.layers[0].shapes[0][2:]
    growth = width // 2
    walk.take((7, 7, channels, 2 * growth))
    walk.normalisation(width)
    blocks = [0]
    while True:
        walk.normalisation(width)
        # Behind a batch norm stands a dense layer of the block, a transition to the next block, or the end.
        if walk.sees((3, 3, 4 * growth, growth), ahead=2):
            walk.take((1, 1, width, 4 * growth))
            walk.normalisation(4 * growth)
            walk.take((3, 3, 4 * growth, growth))
            width += growth
            blocks[-1] += 1
        elif walk.sees((1, 1, width, width // 2)):
            walk.take((1, 1, width, width // 2))
            width //= 2
            blocks.append(0)
        else:
            break
    if not all(blocks):
        walk.take((3, 3, 4 * growth, growth))
    hidden, outputs = walk.head(width)
    return Structure("covid-cxnet", {"blocks": blocks, "growth": growth}, channels, hidden, outputs)


def _base_cnn(walk: _Walk) -> Structure:
    channels, filters = walk.layers[0].shapes[0][2:]
    walk.take((5, 5, channels, filters), (filters,))
    for _ in range(4):
        walk.take((3, 3, filters, filters), (filters,))
    shapes = walk.layers[walk.at].shapes if walk.at < len(walk.layers) else []
    flat = shapes[0][0] if shapes and len(shapes[0]) == 2 else 0
    side = math.isqrt(flat // filters)
    if side * side * filters != flat or not flat:
        raise InputError(f"{flat} features reach the first dense layer: no square of {filters} maps")
    hidden, outputs = walk.head(flat)
    return Structure("base-cnn", {"filters": filters}, channels, hidden, outputs, side)


def _network(
    structure: Structure, layers: Sequence[LegacyLayer], options: dict[str, Any], path: str | os.PathLike[str]
) -> keras.Model:
    """The model of a structure with every weight set from its layers; nothing is set if a shape differs."""
    quiet_backend()
    with bounded_by(path):
        model = create(structure.model, classes=[str(n) for n in range(max(2, structure.outputs))], **options)
    # A file without a head sets the backbone alone, which shares its layers with the model.
    set_by_position(model if structure.outputs else split_head(model)[0], layers, Path(path))
    return model


def _one_sigmoid(
    structure: Structure, layers: Sequence[LegacyLayer], config: Config
) -> tuple[Structure, Sequence[LegacyLayer]]:
    """A head of two outputs as one: the softmax of two scores is the sigmoid of their difference, exactly."""
    if not (dense := _dense(config)) or dense[-1].get("activation") != "softmax":
        raise InputError("two outputs in its head, and nothing in the file says that they are a softmax")
    kernel, bias = layers[-1].arrays
    single = LegacyLayer(layers[-1].name, (kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]))
    return replace(structure, outputs=1), [*layers[:-1], single]


def _name(structure: Structure, path: Path) -> str:
    """Which published network a recognised structure is, from a head that no other has or its known content."""
    if structure.model != "covid-cxnet":
        return structure.model
    if structure.outputs and structure.hidden:
        return "covid-cxnet"
    blob = manifest.git_blob_id(path)
    for entry in manifest.read().values():
        if entry.git_blob == blob and entry.name in LEGACY:
            return entry.name
    raise InputError(
        "nothing in it says which classes its outputs are and how its input is scaled; call covidcxnet.load_legacy "
        "with architecture (chexnet, covid-cxnet-chexnet or imagenet) and, unless they are NIH's, classes"
    )


def _input(
    known: Legacy,
    structure: Structure,
    config: Config,
    size: int | None,
    given: InputSettings | dict[str, Any] | None,
) -> InputSettings:
    if isinstance(given, InputSettings):
        return given if size is None else replace(given, size=size)
    given, sizes = dict(given or {}), structure.sizes
    channels = {1: ("raw",), len(known.input.channels): known.input.channels}.get(structure.channels)
    if channels is None and "channels" not in given:
        raise InputError(f"its stacks have {structure.channels} channels; say which: input with channels")
    side = size or given.get("size") or _described_size(config, structure.channels)
    if side is None and sizes:
        side = _BASE_SIZES.get(structure.side)
        if side is None:
            raise InputError(f"made for stacks of {sizes[0]} to {sizes[-1]} pixels, and its arrays fit all; give size")
    elif side is not None and sizes and side not in sizes:
        raise InputError(f"size {side} for a file whose arrays are made for stacks of {sizes[0]} to {sizes[-1]} pixels")
    values = {**known.input.to_dict(), "channels": channels, **given, "size": side or known.input.size}
    return InputSettings.from_dict(values)


def _segmenter(
    file: WeightsFile,
    name: str | None,
    size: int | None,
    conventions: Sequence[str] | None,
    given: InputSettings | dict[str, Any] | None,
) -> LungSegmenter:
    if isinstance(given, InputSettings):
        raise InputError("a lung U-Net; its input is given as a dict of size, enhancement and fit")
    metadata = legacy_metadata(file)
    recognised = metadata["architecture"]["name"]
    if name and UNETS[name] != recognised:
        raise InputError(f"architecture {name!r} given; its arrays are those of {recognised}")
    metadata["input"] |= {**(given or {}), **({"size": size} if size else {})}
    if conventions is not None:
        maps = len(metadata["conventions"])
        if len(conventions) != maps:
            raise InputError(f"{len(conventions)} classes given, the network has one map for each of {maps}")
        metadata["conventions"] = list(conventions)
    segmenter = LungSegmenter(file.path, metadata=metadata)
    _ = segmenter.model  # exactly or not at all: now, not at the first radiograph
    return segmenter


def _dense(config: Config) -> list[dict[str, Any]]:
    return [layer for layer in config.values() if layer["class"] == "Dense"]


def _described_size(config: Config, channels: int) -> int | None:
    """Side of the stack that the description gives; None where it gives none."""
    for layer in config.values():
        shape = layer.get("batch_input_shape") or layer.get("batch_shape")
        if isinstance(shape, list) and len(shape) == 4:
            square = shape[1] == shape[2] and isinstance(shape[1], int) and shape[3] == channels
            return shape[1] if square and 8 <= shape[1] <= 4096 else None
    return None


def _check_described(config: Config, model: keras.Model) -> None:
    """Refuse a file that describes its layers as other than those its arrays were set in."""
    kinds = {
        "Conv2D": (layers.Conv2D, ("activation", "strides", "dilation_rate")),
        "BatchNormalization": (layers.BatchNormalization, ("epsilon",)),
    }
    for kind, (ours, keys) in kinds.items():
        stated = [layer for layer in config.values() if layer["class"] == kind]
        built = [layer.get_config() for layer in model.layers if type(layer) is ours]
        # A description of another number of layers says nothing of ours.
        if len(stated) != len(built):
            continue
        for described, known in zip(stated, built, strict=True):
            for key in keys:
                if key in described and not _same(described[key], known[key]):
                    wrong = f"its layer {described['name']} has {key} {described[key]!r:.80}"
                    raise InputError(f"{wrong}; only {known[key]!r} is known here")
    dense = _dense(config)
    for number, layer in enumerate(dense, start=1):
        known = ("sigmoid", "softmax") if number == len(dense) else ("relu",)
        if (activation := layer.get("activation")) not in known:
            wrong = f"its layer {layer['name']} has activation {activation!r}"
            raise InputError(f"{wrong}; only {' or '.join(known)} is known here")


def _same(described: Any, known: Any) -> bool:
    if isinstance(known, float):
        # The file's number may be any integer, 10 ** 400 too, of which no float can be made.
        return isinstance(described, int | float) and -1e6 < described < 1e6 and abs(described - known) < 1e-8
    if isinstance(known, list | tuple) and isinstance(described, list):
        return described == list(known)
    return described == known
