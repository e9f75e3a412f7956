"""What the backbones from `keras.applications` share: built into our graph, under names that are always the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from enhancement.errors import InputError

if TYPE_CHECKING:
    import keras


# Of the moving mean and variance that prediction uses. MobileNetV3 comes with 0.999 and NASNet with 0.9997, meant for
# millions of images: after the hundreds of steps of a small set they have hardly moved, and a network that has learnt
# its training images predicts noise. PyTorch's MobileNetV3, which Group-Q trained, has 0.99 too.
MOMENTUM = 0.99


def backbone(name: str, application: str, stack, least: int, **options: Any):
    """Feature map of a network of `keras.applications` without its top, as layers of the stack's own graph.

    Parameters
    ----------
    name : str
        Of our model, for messages.
    application : str
        Function in `keras.applications`.
    stack : Keras tensor [N, S, S, 3]
        Scaled as the network expects.
    least : int
        Smallest side of a stack.
    **options
        Of the function.

    Returns
    -------
    Keras tensor [N, h, w, F]
    """
    return network(name, application, stack, least, **options).output


def network(name: str, application: str, stack, least: int, **options: Any) -> keras.Model:
    """The same as a model, whose layers can still be prepared."""
    if stack.shape[1] < least:
        raise InputError(f"model {name}: a stack of {stack.shape[1]} pixels given, {least} or more expected")
    return build(application, weights=None, input_tensor=stack, input_shape=tuple(stack.shape[1:]), **options)


def build(application: str, **options: Any) -> keras.Model:
    """A network of `keras.applications` without its top, every layer under a name of its own."""
    import keras

    built = getattr(keras.applications, application)(include_top=False, **options)
    _rename(built)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, MOMENTUM)
    return built


def _rename(model: keras.Model) -> None:
    """Number the layers that Keras names by a counter of the process: `conv2d_94` becomes what it is in a first model.

    Weights go from model to model by name, and blocks to train are chosen by name.
    """
    import keras

    counted: dict[str, list[tuple[int, Any]]] = {}
    for layer in model.layers:
        found = re.fullmatch(r"([a-z_]+(?:\dd)?(?:_[a-z]+)*)(?:_(\d+))?", layer.name)
        if (
            isinstance(layer, keras.layers.InputLayer)
            or not found
            or found[1].replace("_", "") != type(layer).__name__.lower()
        ):
            continue
        counted.setdefault(found[1], []).append((int(found[2] or 0), layer))
    for base, layers in counted.items():
        for number, (_, layer) in enumerate(sorted(layers, key=lambda pair: pair[0])):
            layer.name = f"{base}_{number}" if number else base
