"""The model registry: `MODELS` says which classifiers there are, `create` builds one from its name.

A backbone is a function from the scaled stack to the last feature map, under a `register` decorator; `create` puts
scaling before it and a head behind it. Nothing here imports Keras before a model is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancement.errors import InputError

from . import heads

if TYPE_CHECKING:
    import keras

NORMALIZATIONS = ("unit", "symmetric", "imagenet", "caffe", "none")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model before it is built.

    Parameters
    ----------
    name : str
        Name in `MODELS` and of the built `keras.Model`.
    backbone : callable
        ``backbone(stack, **options) -> feature map [N, h, w, F]`` on Keras tensors; the stack is already scaled.
    size, channels : int
        Side and planes of the stack in the published model.
    normalization : str
        Scaling of the 0..255 stack, from `NORMALIZATIONS`.
    feature_layer : str
        Layer whose output is the last convolutional feature map: where Grad-CAM looks.
    head : dict
        Defaults of `heads.add_head`: pool, hidden, dropout.
    summary : str
        One line for lists and help.
    planes : int, optional
        Planes that the network itself takes, where it is bound to a number; a stack of one plane is repeated.
    scalings : tuple of str
        Normalizations that can be chosen; one alone where the network scales by layers of its own.
    application : str
        Class in `keras.applications` with ImageNet weights of the backbone; empty where there is none.
    parameters, flops : int
        Of the model as `create` builds it without options. `flops` are those of one stack, see `counts.flops`.
    origin, licence : str
        Where pretrained weights come from, and their terms.
    """

    name: str
    backbone: Callable[..., Any]
    size: int
    channels: int
    normalization: str
    feature_layer: str
    head: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    planes: int | None = None
    scalings: tuple[str, ...] = NORMALIZATIONS
    application: str = ""
    parameters: int = 0
    flops: int = 0
    origin: str = "no pretrained weights; random"
    licence: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Every option that `create` takes for this model, with its default."""
        parameters = list(inspect.signature(self.backbone).parameters.values())[1:]
        return {p.name: p.default for p in parameters} | {"head": None} | self.head_options

    @property
    def head_options(self) -> dict[str, Any]:
        """What `heads.add_head` is given where nothing is chosen."""
        return {"activation": None} | self.head


MODELS: dict[str, ModelSpec] = {}


def register(name: str, **facts) -> Callable:
    """Decorator that enters a backbone function in `MODELS`; `facts` are the fields of `ModelSpec`."""

    def enter(backbone: Callable) -> Callable:
        MODELS[name] = ModelSpec(name=name, backbone=backbone, **facts)
        return backbone

    return enter


def create(
    name: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    classes: Sequence[str] = ("normal", "covid19"),
    normalization: str | None = None,
    **options,
) -> keras.Model:
    """Build a classifier with random weights.

    The model takes the stack as it is stored, 0..255, `uint8` or float, ``[N, size, size, channels]``. Scaling is part
    of the graph as plain operations, not a layer: it cannot be forgotten, and ``model.layers`` is the published list.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    size, channels : int, optional
        Of the stack; the published model's when not given.
    classes : sequence of str
        Labels in order. Two make one sigmoid output, the probability of ``classes[1]``; more make a softmax.
    normalization : {"unit", "symmetric", "imagenet", "caffe", "none"}, optional
        x/255; (x - 127.5)/127.5; x/255 minus the ImageNet mean over its deviation; planes in the order blue, green, red
        minus their ImageNet means; x as it is.
    **options
        The model's own, see ``MODELS[name].options``. For all of them ``head``, a name of `heads.HEADS`, and over it
        ``pool``, ``hidden``, ``dropout`` and ``activation``, where "sigmoid" makes classes independent findings.

    Returns
    -------
    keras.Model
        Flat functional model; output ``float32 [N, 1]`` or ``[N, n]``.

    Raises
    ------
    InputError
        Unknown name or option, or a size too small for the network.

    Examples
    --------
    >>> from covidcxnet.models import create
    >>> create("covid-cxnet").count_params()
    7047765
    """
    spec = _spec(name)
    size = spec.size if size is None else size
    channels = spec.channels if channels is None else channels
    unknown = sorted(set(options) - set(spec.options))
    if unknown:
        raise InputError(f"options: {name} has no option {unknown[0]!r}; it takes {', '.join(spec.options)}")
    if not (isinstance(size, int) and isinstance(channels, int) and size >= 1 and channels >= 1):
        raise InputError(f"model {name}: size {size!r} and channels {channels!r} given, whole numbers above 0 expected")
    import keras

    stack = keras.Input((size, size, channels), name="stack")
    scaled = scale(_planes(stack, spec), _normalization(spec, normalization))
    settings = {key: options.get(key, default) for key, default in spec.options.items()}
    preset = _preset(settings.pop("head"))
    head = {key: options.get(key, preset.get(key, default)) for key, default in spec.head_options.items()}
    settings = {key: value for key, value in settings.items() if key not in head}
    features = spec.backbone(scaled, **settings)
    model = keras.Model(stack, heads.add_head(features, outputs_for(classes), **head), name=name)
    if keras.backend.backend() == "tensorflow":
        # "auto" means XLA, which predicts no faster here and compiles anew for every batch size.
        model.jit_compile = False
    return model


def outputs_for(classes: Sequence[str]) -> int:
    """Number of output units: 1 sigmoid for two classes, n softmax units for n > 2."""
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise InputError(f"classes: {list(classes)} given, two or more different labels expected")
    return 1 if len(classes) == 2 else len(classes)


def scale(stack, normalization: str):
    """Bring a 0..255 Keras tensor ``[N, S, S, C]`` to the range that a network expects, as graph operations."""
    from keras import ops

    if normalization == "unit":
        return ops.divide(stack, 255.0)
    if normalization == "symmetric":
        return ops.divide(ops.subtract(stack, 127.5), 127.5)
    if normalization == "none":
        # Something must stand between input and network, so that a model's layers do not depend on this setting.
        return ops.multiply(stack, 1.0)
    if normalization == "imagenet":
        if stack.shape[-1] != 3:
            raise InputError(f"normalization: imagenet needs 3 channels, the stack has {stack.shape[-1]}; use unit")
        mean, deviation = (np.asarray(values, "float32") for values in (IMAGENET_MEAN, IMAGENET_STD))
        return ops.divide(ops.subtract(ops.divide(stack, 255.0), mean), deviation)
    if normalization == "caffe":
        if stack.shape[-1] != 3:
            raise InputError(f"normalization: caffe needs 3 channels, the stack has {stack.shape[-1]}; use unit")
        return ops.subtract(ops.flip(stack, axis=-1), np.asarray(CAFFE_MEAN, "float32"))
    raise InputError(f"normalization: {normalization!r} given, one of {', '.join(NORMALIZATIONS)} expected")


def feature_layer(model: keras.Model) -> str:
    """Name of the layer with a built model's last feature map, for Grad-CAM.

    Models of this registry say it themselves; in any other Keras model it is the last layer with a 4-D output.
    """
    spec = MODELS.get(model.name)
    if spec and any(layer.name == spec.feature_layer for layer in model.layers):
        return spec.feature_layer
    for layer in reversed(model.layers):
        if len(getattr(layer.output, "shape", ())) == 4:
            return layer.name
    raise InputError(f"model {model.name}: no layer with a feature map [N, h, w, F] to explain; name one")


def _planes(stack, spec: ModelSpec):
    """A stack of as many planes as the network is bound to; one plane is repeated, as for a grey photograph."""
    from keras import ops

    given = stack.shape[-1]
    if spec.planes in (None, given):
        return stack
    if given != 1:
        raise InputError(f"model {spec.name}: a stack of {given} channels given, 1 or {spec.planes} expected")
    return ops.repeat(stack, spec.planes, axis=-1)


def _normalization(spec: ModelSpec, normalization: str | None) -> str:
    chosen = spec.normalization if normalization is None else normalization
    if chosen in NORMALIZATIONS and chosen not in spec.scalings:
        allowed = ", ".join(spec.scalings)
        raise InputError(f"normalization: {chosen} given; {spec.name} scales inside, only {allowed} is possible")
    return chosen


def _preset(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in heads.HEADS:
        raise InputError(f"options.head: {name!r} given, one of {', '.join(heads.HEADS)} expected")
    return heads.HEADS[name]


def _spec(name: str) -> ModelSpec:
    if name not in MODELS:
        raise InputError(f"model: {name!r} is unknown; there are {', '.join(sorted(MODELS))}")
    return MODELS[name]
