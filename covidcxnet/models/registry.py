"""The model registry: `MODELS` lists the classifiers, `create` builds one by name.

A backbone is a function from the scaled stack to the last feature map, under a `register` decorator; `create` puts
scaling before it and a head behind it. Nothing here imports Keras before a model is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.backend import jit_compile
from enhancement.command_line import did_you_mean
from enhancement.errors import InputError, shortened
from segmentation.backend import keras, ops

from . import heads
from .scaling import NORMALIZATIONS, Normalization, check_normalization, scale, scale_ahead


@dataclass(frozen=True)
class Stage:
    """One training of a model whose levels are trained one after the other.

    `negative` and `positive` are the indices of the classes that the level tells apart; it sees no images of others.
    ``model(whole)`` is the level alone, stack to ``[N, 1]``, sharing its layers with the whole model; ``split(whole)``
    cuts it into backbone and head, as `heads.split_head` does with a whole model.
    """

    negative: tuple[int, ...]
    positive: tuple[int, ...]
    model: Callable[[keras.Model], keras.Model]
    split: Callable[[keras.Model], tuple[keras.Model, keras.Model]]

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """``int64 [N]`` for class indices ``int [N]``: 0, 1, and -1 for images that the level does not see."""
        return np.where(np.isin(labels, self.positive), 1, np.where(np.isin(labels, self.negative), 0, -1))

    def names(self, classes: Sequence[str]) -> tuple[str, str]:
        """Labels of the level's two sides; several classes together are "pneumonia"."""
        sides = (self.negative, self.positive)
        return tuple(classes[side[0]] if len(side) == 1 else "pneumonia" for side in sides)  # type: ignore[return-value]


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model before it is built, and how its training differs from that of others.

    A training needs three things of it: `check` refuses settings that do not go with the model; `solve`, if set, takes
    the place of gradient descent; `stages`, if any, are trained one after the other.

    Parameters
    ----------
    name : str
        In `MODELS` and of the built `keras.Model`.
    backbone : callable
        ``backbone(stack, **options) -> feature map [N, h, w, F]`` on Keras tensors; the stack is already scaled.
    size, channels : int
        Side and planes of the stack in the published model.
    region : str
        What of a radiograph the published model sees, one of `covidcxnet.settings.REGIONS`.
    normalization : str
        Scaling of the 0..255 stack, from `NORMALIZATIONS`.
    feature_layer : str
        Layer with the last convolutional feature map: where Grad-CAM looks.
    head : dict
        Defaults of `heads.add_head`: pool, hidden, dropout.
    summary : str
        One line for lists and help.
    planes : int, optional
        Planes that the network is bound to; a stack of one plane is repeated.
    scalings : tuple of str
        Normalizations that can be chosen; statistics of one's own where "radiograph" is among them.
    scales : bool
        The network scales by ImageNet's statistics itself, in layers of its own; other statistics are put ahead of it.
    application : str
        Class in `keras.applications` with ImageNet weights of the backbone; empty where there is none.
    imagenet : str
        Name in the manifest of a PyTorch file with ImageNet weights, where they are not those of an application.
    published_options : tuple of str
        Options that must keep their defaults for ImageNet weights to fit.
    three_plane_weights : tuple of str
        Named initial weights that fit a stack of three planes only, where `planes` does not say so.
    level : str
        Model of the registry that each level of this one is, so that its weights fit; empty for a single network.
    parameters, flops : int
        Of the model as `create` builds it without options. `flops` are those of one stack, see `counts.flops`.
    layers : tuple of int
        Layers of that model, and those of them that convolve or are dense; see `counts.layers`.
    accuracy : tuple, optional
        Accuracy on ImageNet of the pretrained weights in percent: the first guess right, one of the first five right or
        None where it is not published, and who publishes it.
    origin, licence : str
        Of pretrained weights: what Keras documents under "License" (keras.io/applications, Keras 2.2), or else that of
        the repository they come from.
    add_head : callable, optional
        ``add_head(features, outputs, **head) -> probabilities`` in place of `heads.add_head`; classes are exclusive.
    classes : tuple of str
        Labels where none are given.
    check_classes : callable, optional
        ``check_classes(classes)`` raises `InputError` for labels that the model cannot have.
    only, only_why : dict, str
        Settings of a recipe to the only value that the model can be trained with, and the reason for the message.
    solve : callable, optional
        ``solve(model, stacks, targets, weights, **options) -> (steps, warning)``, see `logistic.solve`.
    stages : tuple of Stage
        Trainings to run one after the other; empty: the whole model at once.
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
    scales: bool = False
    application: str = ""
    imagenet: str = ""
    published_options: tuple[str, ...] = ()
    three_plane_weights: tuple[str, ...] = ()
    level: str = ""
    region: str = "none"
    parameters: int = 0
    flops: int = 0
    layers: tuple[int, int] = (0, 0)
    accuracy: tuple[float, float | None, str] | None = None
    origin: str = "no pretrained weights; random"
    licence: str = ""
    add_head: Callable[..., Any] | None = None
    classes: tuple[str, ...] = ("normal", "covid19")
    check_classes: Callable[[Sequence[str]], None] | None = None
    only: Mapping[str, Any] = field(default_factory=dict)
    only_why: str = ""
    solve: Callable[..., tuple[int, str]] | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Every option that `create` takes for this model, with its default."""
        parameters = list(inspect.signature(self.backbone).parameters.values())[1:]
        preset = {} if self.add_head else {"head": None}
        return {p.name: p.default for p in parameters} | preset | self.head_options

    @property
    def input(self) -> dict[str, Any]:
        """Settings of the published input that differ between models; of three planes the default ones."""
        planes = {"channels": ["raw"]} if self.channels == 1 else {}
        return {"size": self.size, "region": self.region} | planes

    @property
    def head_options(self) -> dict[str, Any]:
        """Defaults of the head's options."""
        return self.head if self.add_head else {"activation": None, "hidden_activation": "relu"} | self.head

    def check(self, settings: Mapping[str, Any], task: str = "exclusive") -> None:
        """Refuse settings of a training that do not go with this model, by an `InputError` that names the key.

        `settings` is a recipe as plain values: ``init``, ``options``, ``classes``, ``input`` with ``channels``, and the
        keys of `only`; what is missing is not checked. With `task` "independent" an image may have several findings.
        """
        options, init = settings.get("options", {}), settings.get("init", "random")
        channels = settings.get("input", {}).get("channels", ("raw",) * self.channels)
        if "normalization" in options:
            check_normalization(options["normalization"], len(channels))
        if "multilabel" in options:
            raise _refusal("options.multilabel", options["multilabel"], "the recipe's own key multilabel")
        if task == "independent":
            if self.add_head:
                hint = f"{self.name} has classes that exclude each other; another model, or false,"
                raise _refusal("multilabel", True, hint)
            if options.get("activation") not in (None, "sigmoid"):
                raise _refusal("options.activation", options["activation"], _NO_SOFTMAX)
        # Labels are often known from the data only: those are checked when the model is built.
        if self.check_classes and settings.get("classes"):
            self.check_classes(settings["classes"])
        for key, value in self.only.items():
            if settings.get(key, value) != value:
                raise _refusal(key, settings[key], f"{self.name} {self.only_why}: {value}")
        unknown = sorted(set(options) - {*self.options, "normalization", "size", "channels"})
        if unknown:
            takes = ", ".join(("normalization", *self.options))
            raise InputError(f"options: {self.name} has no option {unknown[0]!r}; it takes {takes}")
        if init == "imagenet":
            self.check_imagenet(options)
        if self.planes and len(channels) not in (1, self.planes):
            hint = f"{self.planes} planes for {self.name}, as in raw,raw,raw, or 1 plane,"
            raise _refusal("input.channels", ",".join(channels), hint)
        # Three planes, or one that is repeated three times, fit all pretrained weights and every scaling.
        if len(channels) == 3 or self.planes:
            return
        normalization = options.get("normalization", self.normalization)
        if normalization in ("imagenet", "caffe"):
            hint = "unit, or input.channels of 3 planes, as in raw,raw,raw,"
            raise _refusal("options.normalization", normalization, hint)
        # A file or run folder of that name comes before the released weights, and may have any number of planes.
        if init in self.three_plane_weights and not Path(init).exists():
            hint = f"3 planes for init {init}, as in raw,raw,raw, or init random,"
            raise _refusal("input.channels", ",".join(channels), hint)

    def check_imagenet(self, options: Mapping[str, Any]) -> None:
        """`InputError` if there are no ImageNet weights for this network, or none with these options."""
        if not (self.application or self.imagenet):
            known = ", ".join(sorted(name for name, spec in MODELS.items() if spec.application or spec.imagenet))
            hint = f"{self.name} has no ImageNet weights, only {known}; random, or a file,"
            raise _refusal("init", "imagenet", hint)
        for key in self.published_options:
            published = self.options[key]
            value = options.get(key, published)
            if (tuple(value) if isinstance(value, list) else value) != published:
                hint = f"{published} for init imagenet, as {self.name} is published, or init random,"
                raise _refusal(f"options.{key}", value, hint)


MODELS: dict[str, ModelSpec] = {}
_NO_SOFTMAX = "multilabel findings do not exclude each other as a softmax needs it; sigmoid, or nothing,"


def register(name: str, **facts) -> Callable:
    """Decorator that enters a backbone function in `MODELS`; `facts` are the fields of `ModelSpec`."""

    def enter(backbone: Callable) -> Callable:
        MODELS[name] = ModelSpec(name=name, backbone=backbone, **facts)
        return backbone

    return enter


def similar_models(name: str) -> str:
    """What a message about an unknown model adds: the names that resemble it, if any."""
    if "densenet" in name.lower():  # the one backbone that goes by the name of its paper
        return "; covid-cxnet is DenseNet121"
    return did_you_mean(name, MODELS)


def create(
    name: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    classes: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    multilabel: bool = False,
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
    classes : sequence of str, optional
        Labels in order; ``MODELS[name].classes`` when not given, normal and covid19 for all but one. Two make one
        sigmoid output, the probability of ``classes[1]``; more make a softmax.
    normalization : {"unit", "symmetric", "imagenet", "radiograph", "caffe", "lite", "none"} or mapping, optional
        x/255; (x - 127.5)/127.5; x/255 minus the ImageNet mean over its deviation; the same with the mean and deviation
        of radiographs; planes in the order blue, green, red minus their ImageNet means; (x - 127)/128; x as it is. A
        mapping ``{"mean": [...], "std": [...]}`` has statistics of x/255 for each plane.
    multilabel : bool
        Classes are findings that do not exclude each other: one sigmoid each, even if there are only two.
    **options
        The model's own, see ``MODELS[name].options``. For all of them ``head``, a name of `heads.HEADS`, and over it
        ``pool`` ("average", "max", "average+max" side by side, or "flatten"), ``hidden``, ``hidden_activation`` ("relu"
        or "hard_swish"), ``dropout`` and ``activation``, where "sigmoid" makes classes independent findings.

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
    if name not in MODELS:
        raise InputError(f"model: {name!r} is unknown{similar_models(str(name))} (covidcxnet models list shows all)")
    spec = MODELS[name]
    size = spec.size if size is None else size
    channels = spec.channels if channels is None else channels
    classes = spec.classes if classes is None else classes
    normalization = spec.normalization if normalization is None else normalization
    unknown = sorted(set(options) - set(spec.options))
    if unknown:
        raise InputError(f"options: {name} has no option {unknown[0]!r}; it takes {', '.join(spec.options)}")
    if not (isinstance(size, int) and isinstance(channels, int) and size >= 1 and channels >= 1):
        raise InputError(f"model {name}: size {size!r} and channels {channels!r} given, whole numbers above 0 expected")
    # Given statistics are allowed where those of radiographs are: both go ahead of a network that scales itself.
    kind = normalization if isinstance(normalization, str) else "radiograph"
    if kind in NORMALIZATIONS and kind not in spec.scalings:
        allowed = ", ".join(spec.scalings)
        raise InputError(f"normalization: {normalization} given; {name} scales inside, only {allowed} is possible")
    stack = keras.Input((size, size, channels), name="stack")
    scaled = (scale_ahead if spec.scales else scale)(_planes(stack, spec), normalization)
    settings = {key: options.get(key, default) for key, default in spec.options.items()}
    # A named head gives defaults; options of the head that are given come before it.
    preset = settings.pop("head", None)
    if preset is not None and preset not in heads.HEADS:
        raise InputError(f"options.head: {preset!r} given, one of {', '.join(heads.HEADS)} expected")
    preset = heads.HEADS.get(preset, {})
    head = {key: options.get(key, preset.get(key, default)) for key, default in spec.head_options.items()}
    settings = {key: value for key, value in settings.items() if key not in head}
    outputs = outputs_for(classes)
    if multilabel:
        if spec.add_head:
            raise InputError(f"multilabel: {name} gives one probability of classes that exclude each other; not that")
        if head["activation"] not in (None, "sigmoid"):
            raise _refusal("options.activation", head["activation"], _NO_SOFTMAX)
        outputs, head = len(classes), head | {"activation": "sigmoid"}
    try:
        features = spec.backbone(scaled, **settings)
        model = keras.Model(stack, (spec.add_head or heads.add_head)(features, outputs, **head), name=name)
    except InputError:
        raise
    except Exception as error:  # of Keras or the backend, in words about their insides; memory among them
        given = ", ".join(f"{key} {value!r}" for key, value in options.items()) or f"size {size}"
        raise InputError(shortened(f"options: {name} cannot be built with {given}")) from error
    if jit_compile() is False:  # XLA predicts no faster on TensorFlow and compiles anew for every batch size
        model.jit_compile = False
    return model


def outputs_for(classes: Sequence[str]) -> int:
    """Number of output units: 1 sigmoid for two classes, n softmax units for n > 2."""
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise InputError(f"classes: {list(classes)} given, two or more different labels expected")
    return 1 if len(classes) == 2 else len(classes)


def feature_layer(model: keras.Model) -> str:
    """Name of the layer with a built model's last feature map, for Grad-CAM.

    Models of this registry name it themselves; in any other Keras model it is the last layer with a 4-D output.
    """
    spec = MODELS.get(model.name)
    if spec and any(layer.name == spec.feature_layer for layer in model.layers):
        return spec.feature_layer
    # The deepest map: coarser than those before it, but nearest to the decision.
    for layer in reversed(model.layers):
        if len(getattr(layer.output, "shape", ())) == 4:
            return layer.name
    raise InputError(f"model {model.name}: no layer with a feature map [N, h, w, F] to explain; name one")


def check_side(name: str, stack, least: int) -> None:
    """`InputError` where a stack is too small for a network to leave at least one pixel of it."""
    if stack.shape[1] < least:
        raise InputError(f"model {name}: a stack of {stack.shape[1]} pixels given, {least} or more expected")


def _planes(stack, spec: ModelSpec):
    """A stack of as many planes as the network is bound to; one plane is repeated, as for a grey photograph."""
    planes = stack.shape[-1]
    if spec.planes in (None, planes):
        return stack
    if planes != 1:
        raise InputError(f"model {spec.name}: a stack of {planes} channels given, 1 or {spec.planes} expected")
    return ops.repeat(stack, spec.planes, axis=-1)


def _refusal(key: str, value, expected: str) -> InputError:
    return InputError(f"{key}: {value!r} given, {expected} expected")
