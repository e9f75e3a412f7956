"""Grad-CAM (Selvaraju et al. 2017): which places of the last feature maps raise the score of a class.

The model is split at its feature layer. The backbone runs once, the gradient goes through the head only, and both are
compiled together for whole batches: a map costs hardly more than the prediction that comes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from covidcxnet.backend import compiled, scores_and_gradient
from covidcxnet.explain.batches import Heatmaps, checked_stacks, checked_targets, in_batches
from covidcxnet.explain.grid import grid_of
from covidcxnet.models import feature_layer
from enhancement.errors import InputError


class GradCAM:
    """Grad-CAM of a functional model, batched and compiled.

    The map of class c is ``relu(sum_k mean_xy(dz_c / dA_k) A_k)`` divided by its maximum, where ``A_k`` are the maps of
    the feature layer and ``z_c`` is the score *before* sigmoid or softmax (the paper's y^c, section 3): a probability's
    gradient vanishes where the network is sure, and under a softmax it mixes in the other classes' scores. With a
    single sigmoid the score of class 0 is ``-z``. Where the output is no dense, activation or softmax layer, its
    logarithm stands for the score.

    Parameters
    ----------
    model : keras.Model
        A functional model with one input ``[n, H, W, C]`` and one output: one sigmoid, or one column a class.
    layer : str, optional
        Name of the feature layer; by default `covidcxnet.models.feature_layer`.

    Attributes
    ----------
    grid : Grid
        Where in the stack the cells of the maps look.

    Raises
    ------
    InputError
        If there is no such layer, if its output has no height and width, or if the rest of the model needs more than
        this layer's output.
    """

    def __init__(self, model: Any, layer: str | None = None):
        self.model = model
        self.layer = layer or feature_layer(model)
        self.classes = max(2, int(model.output_shape[-1]))
        self._backbone, self._head, self._output = _split(model, self.layer)
        self.grid = grid_of(model, self.layer)
        self._compiled: dict[str, Callable] = {}

    def __call__(self, stacks: np.ndarray, class_index: Any = None, *, batch_size: int = 16) -> np.ndarray:
        """Maps alone, ``float32 [n, h, w]`` in 0..1; see `explain`."""
        return self.explain(stacks, class_index, batch_size=batch_size).maps

    def explain(self, stacks: np.ndarray, class_index: Any = None, *, batch_size: int = 16) -> Heatmaps:
        """Maps and probabilities from one pass.

        Parameters
        ----------
        stacks : uint8 or float32 [n, H, W, C]
            As the model takes them, 0..255.
        class_index : int or int [n], optional
            Class to explain, one for all or one each; by default the class that the model predicts.
        batch_size : int
            Stacks that go through the model together.

        Raises
        ------
        InputError
            If the stacks' shape or a class does not fit the model.
        """
        stacks = checked_stacks(stacks, self.model, "Grad-CAM")
        targets = checked_targets(class_index, len(stacks), self.classes, "Grad-CAM")
        kind = "uint8" if stacks.dtype == np.uint8 else "float32"
        if kind not in self._compiled:
            shape = tuple(self.model.input_shape[1:])
            self._compiled[kind] = compiled(self._explain_batch, self.model, [(shape, kind), ((), "int32")])

        def run(batch, chosen):
            return self._compiled[kind](batch.astype(kind, copy=False), chosen)

        features = self._backbone.output_shape[1:3]
        return Heatmaps(*in_batches(run, stacks, targets, batch_size, features, self.classes), self.grid)

    def _explain_batch(self, stacks, targets):
        from keras import ops

        features = self._backbone(stacks, training=False)

        def score(maps):
            scores, probabilities = self._output(self._head(maps, training=False))
            predicted = ops.cast(ops.argmax(probabilities, axis=-1), "int32")
            chosen = ops.where(targets < 0, predicted, targets)
            return ops.take_along_axis(scores, chosen[:, None], axis=-1)[:, 0], (probabilities, chosen)

        _, (probabilities, chosen), gradient = scores_and_gradient(score, features)
        features, gradient = ops.cast(features, "float32"), ops.cast(gradient, "float32")
        weights = ops.mean(gradient, axis=(1, 2), keepdims=True)
        maps = ops.relu(ops.sum(weights * features, axis=-1))
        peak = ops.max(maps, axis=(1, 2), keepdims=True)
        # An all-negative map has no peak: it stays all zero instead of becoming 0 / 0.
        maps = maps / ops.maximum(peak, float(np.finfo("float32").tiny))
        return ops.where(ops.isfinite(maps), maps, 0.0), probabilities, chosen


def _is_spatial(layer) -> bool:
    shape = getattr(getattr(layer, "output", None), "shape", ())
    return len(shape) == 4


def _split(model, name: str):
    """Backbone and head that share the layers of `model`, and the function from head to scores and probabilities."""
    import keras

    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise InputError(f"Grad-CAM: model {model.name!r} must have one input and one output [n, classes]")
    names = [layer.name for layer in model.layers if _is_spatial(layer)]
    if name not in names:
        known = ", ".join(names[-6:]) or "none"
        raise InputError(f"Grad-CAM: no feature layer {name!r} in {model.name!r}; the last ones are {known}")
    features = model.get_layer(name).output
    end, output = _end_of_head(model)
    try:
        backbone = keras.Model(model.inputs, features, name="features")
        head = keras.Model(features, end, name="head")
    except ValueError as error:
        raise InputError(
            f"Grad-CAM: {model.name!r} can't be split at {name!r}: later layers need more than its output; "
            f"the last feature layers are {', '.join(names[-6:])}"
        ) from error
    return backbone, head, output


def _end_of_head(model):
    """Tensor where the head ends, and a function from its values to scores and probabilities, one column a class."""
    import keras
    from keras import ops

    last, output = model.operations[-1], model.outputs[0]
    single = output.shape[-1] == 1

    def columns(scores, probabilities):
        if not single:
            return scores, probabilities
        return ops.concatenate([-scores, scores], -1), ops.concatenate([1.0 - probabilities, probabilities], -1)

    def dense(values):
        scores = ops.matmul(ops.cast(values, "float32"), ops.cast(last.kernel, "float32"))
        if last.bias is not None:
            scores = scores + ops.cast(last.bias, "float32")
        return columns(scores, ops.cast(last.activation(scores), "float32"))

    def activation(values):
        scores = ops.cast(values, "float32")
        return columns(scores, ops.cast(last(scores), "float32"))

    def other(values):
        probabilities = ops.cast(values, "float32")
        inside = ops.clip(probabilities, 1e-30, 1.0 - 1e-7)
        scores = ops.log(inside) - ops.log(1.0 - inside) if single else ops.log(inside)
        return columns(scores, probabilities)

    if isinstance(last, keras.layers.Dense):
        return last.input, dense
    if isinstance(last, keras.layers.Activation | keras.layers.Softmax):
        return last.input, activation
    return output, other
