"""Class activation maps: feature maps, weighted. One loop over batches; CAM and Grad-CAM differ in their weights only.

The model is split at its feature layer. The backbone runs once, and where a gradient is needed it goes through the head
only; both are compiled together for whole batches, so a map costs hardly more than the prediction that comes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from covidcxnet.backend import compiled, scores_and_gradient
from covidcxnet.explain.grid import Grid, grid_of
from covidcxnet.models import feature_layer
from enhancement.errors import InputError
from segmentation.backend import keras, layers, ops
from segmentation.engines import Network

_PREDICTED = -1  # stands for the class that the model predicts
_TINY = float(np.finfo("float32").tiny)


@dataclass(frozen=True)
class Heatmaps:
    """Class activation maps of some stacks, at the resolution of the feature maps.

    Each map's largest value is 1, or all are 0 where nothing speaks for the class.
    """

    maps: np.ndarray  # float32 [n, h, w], 0..1
    probabilities: np.ndarray  # float32 [n, classes], of the same forward pass
    targets: np.ndarray  # int64 [n], the class that each map explains
    grid: Grid  # where in the stack the cells of the maps look, for `grid.enlarge`


class ActivationMaps:
    """Feature maps of a functional model, summed with the weights that a subclass gives them; batched and compiled."""

    name = "activation maps"

    def __init__(self, model: keras.Model, layer: str, features: Any):
        self.model, self.layer = model, layer
        # A single sigmoid counts as two classes.
        self.classes = max(2, int(model.output_shape[-1]))
        self._backbone, self._head, self._output = _split(model, layer, features, self.name)
        self.grid = grid_of(model, layer)
        self._shape, self._cells = tuple(model.input_shape[1:]), tuple(self._backbone.output_shape[1:3])
        self._compiled: dict[str, Callable] = {}

    def weights(self, features: Any, targets: Any) -> tuple[Any, Any, Any]:
        """Weights float32 [n, F] of the feature maps [n, h, w, F], probabilities [n, classes], classes explained."""
        raise NotImplementedError

    def __call__(self, stacks: np.ndarray, class_index: Any = None, *, batch_size: int = 16) -> np.ndarray:
        """Maps alone, ``float32 [n, h, w]`` in 0..1; see `explain`."""
        return self.explain(stacks, class_index, batch_size=batch_size).maps

    def explain(self, stacks: np.ndarray, class_index: Any = None, *, batch_size: int = 16) -> Heatmaps:
        """Maps of what speaks for a class, and probabilities from the same pass.

        `stacks` are uint8 or float32 [n, H, W, C] in 0..255; `class_index` is one class for all or int [n], by default
        the class that the model predicts. `InputError` if the stacks' shape or a class does not fit the model.
        """
        maps, probabilities, targets = self._run(stacks, class_index, batch_size)
        with np.errstate(invalid="ignore"):
            maps = np.maximum(maps, 0)
            # An all-negative map has no peak: it stays all zero instead of becoming 0 / 0.
            maps = maps / np.maximum(maps.max(axis=(1, 2), keepdims=True, initial=0), _TINY)
        return Heatmaps(np.where(np.isfinite(maps), maps, np.float32(0)), probabilities, targets, self.grid)

    def _run(self, stacks: np.ndarray, class_index: Any, batch_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signed maps, probabilities and classes explained, batch by batch."""
        stacks = np.asarray(stacks)
        pairs = zip(self._shape, stacks.shape[1:], strict=True) if stacks.ndim == 4 else ()
        if stacks.ndim != 4 or any(want not in (None, has) for want, has in pairs):
            expected = ", ".join(map(str, self._shape))
            raise InputError(f"{self.name}: stacks of shape {stacks.shape} given, [n, {expected}] expected")
        targets = self._targets(class_index, len(stacks))
        if not len(stacks):
            height, width = (side or 0 for side in self._cells)
            empty = np.zeros((0, self.classes), "float32")
            return np.zeros((0, height, width), "float32"), empty, targets.astype("int64")
        # Bytes go to the device as they are: a quarter of the traffic of floats.
        kind = "uint8" if stacks.dtype == np.uint8 else "float32"
        run, starts = self._runner(kind), range(0, len(stacks), batch_size)
        parts = [run(stacks[i : i + batch_size].astype(kind, copy=False), targets[i : i + batch_size]) for i in starts]
        maps, probabilities, explained = (np.concatenate(column) for column in zip(*parts, strict=True))
        return maps, probabilities, explained.astype("int64")

    def _runner(self, kind: str) -> Callable:
        """From a batch of stacks of this type and its targets to signed maps, probabilities and classes explained."""
        if kind not in self._compiled:
            self._compiled[kind] = compiled(self._batch, self.model, [(self._shape, kind), ((), "int32")])
        return self._compiled[kind]

    def _targets(self, class_index: Any, count: int) -> np.ndarray:
        if class_index is None:
            return np.full(count, _PREDICTED, "int32")
        targets = np.asarray(class_index)
        if targets.shape not in ((), (count,)) or targets.dtype.kind not in "iu":
            raise InputError(f"{self.name}: class_index {class_index!r} given, one int or {count} of them expected")
        if targets.size and not (targets.min() >= 0 and targets.max() < self.classes):
            raise InputError(f"{self.name}: class_index {class_index!r} given, 0 to {self.classes - 1} expected")
        return np.broadcast_to(targets, (count,)).astype("int32")

    def _batch(self, stacks: Any, targets: Any) -> tuple[Any, Any, Any]:
        features = self._backbone(stacks, training=False)
        weights, probabilities, chosen = self.weights(features, targets)
        return ops.sum(weights[:, None, None, :] * ops.cast(features, "float32"), axis=-1), probabilities, chosen

    def _scores(self, features: Any, targets: Any) -> tuple[Any, Any, Any]:
        """Scores and probabilities [n, classes] of feature maps, and the classes to explain [n]."""
        scores, probabilities = self._output(self._head(features, training=False))
        predicted = ops.cast(ops.argmax(probabilities, axis=-1), "int32")
        return scores, probabilities, ops.where(targets < 0, predicted, targets)

    def _gradient(self, features: Any, targets: Any) -> tuple[Any, Any, Any]:
        """Gradient [n, h, w, F] of the score of the class to explain, probabilities and that class."""

        def score(maps):
            scores, probabilities, chosen = self._scores(maps, targets)
            return ops.take_along_axis(scores, chosen[:, None], axis=-1)[:, 0], (probabilities, chosen)

        _, (probabilities, chosen), gradient = scores_and_gradient(score, features)
        return ops.cast(gradient, "float32"), probabilities, chosen


class ConvertedMaps(ActivationMaps):
    """CAM and Grad-CAM of a network that an engine runs, where pooling and dense layers end it; without Keras.

    There both have the same closed form up to a factor, and the network gives it as an output of its own: what each
    cell of the pooled maps adds to the score of each class. Equal to `GradCAM` and `CAM` but for rounding. Stacks are
    ``uint8``.
    """

    def __init__(self, network: Network, method: str):
        self.name = CAM.name if method == "cam" else GradCAM.name
        self.note: str = network.facts["cam"]["note"] if method == "cam" else ""
        self.network, self.layer, self.grid = network, str(network.maps), Grid(*network.facts["grid"])
        self._shape, self._cells = network.input_shape, (0, 0)
        self.classes = max(2, network.output_shapes[0][-1])

    @staticmethod
    def explains(network: Network | None, method: str) -> bool:
        """Whether the network has these maps."""
        if network is None or not network.maps:
            return False
        layer = network.facts.get("layer") if method == "gradcam" else (network.facts.get("cam") or {}).get("layer")
        return layer == network.maps

    def _runner(self, kind: str) -> Callable:
        if kind != "uint8":
            raise InputError(f"{self.name}: stacks of {kind} given, uint8 expected; engine keras takes both")

        def run(stacks: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            probabilities, maps = self.network(stacks)
            if probabilities.shape[1] == 1:
                probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
            chosen = np.where(targets < 0, probabilities.argmax(axis=1), targets)
            return np.take_along_axis(maps, chosen[:, None, None, None], axis=-1)[..., 0], probabilities, chosen

        return run


def facts_of(model: keras.Model) -> dict[str, Any]:
    """What `ConvertedMaps` needs of a Keras network, as plain values."""
    try:
        layer = feature_layer(model)
        head = linear_head(model)
        cam = {"layer": head.layer, "note": head.note} if head else None
        return {"layer": layer, "grid": list(astuple(grid_of(model, layer))), "cam": cam}
    except (InputError, ValueError):
        return {}


class GradCAM(ActivationMaps):
    """Grad-CAM: each feature map counts as much as the score of the class rises with it.

    The map of class c is ``relu(sum_k mean_xy(dz_c / dA_k) A_k)`` divided by its maximum, where ``A_k`` are the maps of
    the feature layer and ``z_c`` is the score *before* sigmoid or softmax (the paper's y^c, section 3): a probability's
    gradient vanishes where the network is sure, and under a softmax it mixes in the other classes' scores. With a
    single sigmoid the score of class 0 is ``-z``. Where the output is no dense, activation or softmax layer, its
    logarithm stands for the score.

    The model is functional, with one input ``[n, H, W, C]`` and one output: one sigmoid, or one column a class. The
    feature layer is by default `covidcxnet.models.feature_layer`. `InputError` if there is no such layer, or the rest
    of the model needs more than its output.

    R. R. Selvaraju et al.: Grad-CAM: visual explanations from deep networks via gradient-based localization. ICCV 2017.
    """

    name = "Grad-CAM"

    def __init__(self, model: keras.Model, layer: str | None = None):
        layer = layer or feature_layer(model)
        maps = _feature_maps(model)
        if layer not in maps:
            last = ", ".join(list(maps)[-6:]) or "none"
            raise InputError(f"Grad-CAM: no feature layer {layer!r} in {model.name!r}; the last ones are {last}")
        super().__init__(model, layer, maps[layer])

    def weights(self, features: Any, targets: Any) -> tuple[Any, Any, Any]:
        """Mean gradient of the score over height and width."""
        gradient, probabilities, chosen = self._gradient(features, targets)
        return ops.mean(gradient, axis=(1, 2)), probabilities, chosen


class CAM(ActivationMaps):
    """CAM: each feature map counts as much as the head weighs its average, or its maximum.

    It needs a head of global pooling and dense layers. With average pooling and one dense layer the score of class c
    before sigmoid or softmax is the average of ``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (equation 2 of the paper) plus the
    bias: what CAM shows is exact, and Grad-CAM is the same up to a factor. With a single sigmoid the map of class 0 is
    ``-M_1``.

    Dense layers before the last are folded into ``w_k^c``: linear ones as they are, those with a ReLU at the units that
    are active in the image, where the head is linear. The weights then differ from image to image (`note` says so), and
    the sum is still exact. After maximum pooling the score is the sum of the weighted maxima of the maps in place of
    their averages (Oquab et al., "Is object localization for free?", CVPR 2015).

    The weights of a head of one layer are taken as they are now; another head is an `InputError`.

    B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba: Learning deep features for discriminative localization.
    CVPR 2016.
    """

    name = "CAM"

    def __init__(self, model: keras.Model):
        head = linear_head(model)
        if head is None:
            raise InputError(
                f"CAM: the head of {model.name!r} is not global pooling and dense layers that are linear or ReLU; use "
                "Grad-CAM (gradcam), or train with options.head: linear"
            )
        self.head, self.note = head, head.note
        super().__init__(model, head.layer, head.features)

    def weights(self, features: Any, targets: Any) -> tuple[Any, Any, Any]:
        """The column of the head's kernel."""
        if self.head.kernel is None:
            # Pooling hands each channel's weight to the cells that it took: they add up to it.
            gradient, probabilities, chosen = self._gradient(features, targets)
            return ops.sum(gradient, axis=(1, 2)), probabilities, chosen
        _, probabilities, chosen = self._scores(features, targets)
        return ops.take(ops.convert_to_tensor(self.head.kernel.T), chosen, axis=0), probabilities, chosen


@dataclass(frozen=True)
class LinearHead:
    """A head of global pooling and dense layers, each linear or, before the last, with a ReLU.

    A single sigmoid's column of weights stands for its second class and, negative, for its first.
    """

    features: Any  # Keras tensor [N, h, w, F] that is pooled
    layer: str  # layer or operation that makes it
    kernel: np.ndarray | None  # float32 [F, classes]; None where a ReLU makes it depend on the image
    averaged: bool  # or the maximum is taken

    @property
    def note(self) -> str:
        """What a reader of its maps must know."""
        folded = "dense layers folded at their active units" if self.kernel is None else ""
        return ", ".join(filter(None, (folded, "" if self.averaged else "of the maps' maxima")))

    @property
    def closed(self) -> bool:
        """Whether the score is the average of one map a class, the same weights for every image."""
        return self.averaged and self.kernel is not None


def linear_head(model: keras.Model) -> LinearHead | None:
    """The head that CAM needs, or None where the model has another."""
    makers = {id(op.output): op for op in model.operations if not isinstance(op.output, list | tuple)}

    def before(operation):
        return makers.get(id(operation.input))

    dense = model.operations[-1]
    if len(model.inputs) != 1 or len(model.outputs) != 1 or dense.output is not model.outputs[0]:
        return None
    # The map explains the score before sigmoid or softmax, wherever they stand.
    while isinstance(dense, layers.Activation | layers.Softmax):
        dense = before(dense)
    if not isinstance(dense, layers.Dense):
        return None
    kernel: np.ndarray | None = np.asarray(dense.kernel, "float32")
    pool = before(dense)
    # Dropout does nothing when predicting.
    while isinstance(pool, layers.Dropout | layers.Dense):
        if isinstance(pool, layers.Dense):
            kind = getattr(pool.activation, "__name__", "")
            if kind not in ("linear", "relu"):
                return None
            kernel = None if kernel is None or kind == "relu" else np.asarray(pool.kernel, "float32") @ kernel
        pool = before(pool)
    kinds = layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D
    if not isinstance(pool, kinds) or pool.data_format != "channels_last":
        return None
    if kernel is not None and kernel.shape[1] == 1:
        kernel = np.hstack([-kernel, kernel])
    averaged = isinstance(pool, layers.GlobalAveragePooling2D)
    return LinearHead(pool.input, before(pool).name, kernel, averaged)


def _feature_maps(model: keras.Model) -> dict[str, Any]:
    """Name to output of every layer that gives a map [N, h, w, F]."""
    outputs = {layer.name: getattr(layer, "output", None) for layer in model.layers}
    return {name: output for name, output in outputs.items() if len(getattr(output, "shape", ())) == 4}


def _split(model: keras.Model, layer: str, features: Any, name: str) -> tuple[keras.Model, keras.Model, Callable]:
    """Backbone and head that share the layers of `model`, and the function from head to scores and probabilities."""
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise InputError(f"{name}: model {model.name!r} must have one input and one output [n, classes]")
    end, output = _end_of_head(model)
    try:
        return keras.Model(model.inputs, features, name="features"), keras.Model(features, end, name="head"), output
    except ValueError as error:
        last = ", ".join(list(_feature_maps(model))[-6:])
        raise InputError(
            f"{name}: {model.name!r} can't be split at {layer!r}: later layers need more than its output; "
            f"the last feature layers are {last}"
        ) from error


def _end_of_head(model: keras.Model) -> tuple[Any, Callable]:
    """Tensor where the head ends, and a function from its values to scores and probabilities, one column a class."""
    last, output = model.operations[-1], model.outputs[0]
    single = output.shape[-1] == 1
    dense = isinstance(last, keras.layers.Dense)
    activation = last.activation if dense else last
    opaque = not isinstance(last, keras.layers.Dense | keras.layers.Activation | keras.layers.Softmax)

    def scores_and_probabilities(values):
        values = ops.cast(values, "float32")
        if opaque:
            # Nothing is known of what came before: the logarithm undoes a softmax up to a constant, a sigmoid exactly.
            inside = ops.clip(values, 1e-30, 1.0 - 1e-7)
            scores, probabilities = ops.log(inside) - (ops.log(1.0 - inside) if single else 0.0), values
        else:
            scores = ops.matmul(values, ops.cast(last.kernel, "float32")) if dense else values
            if dense and last.bias is not None:
                scores = scores + ops.cast(last.bias, "float32")
            probabilities = ops.cast(activation(scores), "float32")
        if not single:
            return scores, probabilities
        return ops.concatenate([-scores, scores], -1), ops.concatenate([1.0 - probabilities, probabilities], -1)

    return (output if opaque else last.input), scores_and_probabilities
