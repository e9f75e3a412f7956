"""CAM (Zhou et al. 2016): the maps of the last layer, weighted as the output layer weighs their averages.

It needs a head of global average pooling and one dense layer, where the score is the average of the map: what CAM shows
is exact, not an estimate. Any other head takes Grad-CAM, which is the same there up to a factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.backend import compiled
from covidcxnet.explain.batches import Heatmaps, checked_stacks, checked_targets, in_batches
from covidcxnet.explain.grid import grid_of
from enhancement.errors import InputError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class LinearHead:
    """A head of global average pooling and one dense layer.

    Attributes
    ----------
    features : Keras tensor [N, h, w, F]
        What is averaged.
    layer : str
        Name of the layer or operation that makes it.
    kernel : float32 [F, classes]
        One column a class; a single sigmoid's column is given for its second class and, negative, for its first.
    bias : float32 [classes]
        Likewise.
    """

    features: Any
    layer: str
    kernel: np.ndarray
    bias: np.ndarray


def linear_head(model: keras.Model) -> LinearHead | None:
    """The head that CAM needs, or None where the model has another.

    Dropout between pooling and dense layer does nothing when predicting and may stand there; so may an activation,
    sigmoid or softmax, after the dense layer.
    """
    from keras import layers

    made = {id(one.output): one for one in model.operations if not isinstance(one.output, list | tuple)}

    def before(operation):
        return made.get(id(operation.input))

    last = model.operations[-1]
    if len(model.inputs) != 1 or len(model.outputs) != 1 or last.output is not model.outputs[0]:
        return None
    while isinstance(last, layers.Activation | layers.Softmax):
        last = before(last)
    dense = last
    if not isinstance(dense, layers.Dense):
        return None
    pool = before(dense)
    while isinstance(pool, layers.Dropout):
        pool = before(pool)
    if not isinstance(pool, layers.GlobalAveragePooling2D) or pool.data_format != "channels_last":
        return None
    kernel = np.asarray(dense.kernel, "float32")
    bias = np.zeros(kernel.shape[1], "float32") if dense.bias is None else np.asarray(dense.bias, "float32")
    if kernel.shape[1] == 1:
        kernel, bias = np.hstack([-kernel, kernel]), np.concatenate([-bias, bias])
    return LinearHead(pool.input, before(pool).name, kernel, bias)


class CAM:
    """Class activation maps of a functional model, batched and compiled.

    The map of class c is ``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (equation 2 of the paper): its average over x and y plus
    the bias is the score of c before sigmoid or softmax. With a single sigmoid the map of class 0 is ``-M_1``.

    Parameters
    ----------
    model : keras.Model
        A functional model with one input ``[n, H, W, C]``, global average pooling and one dense layer. Its head's
        weights are taken as they are now.

    Attributes
    ----------
    grid : Grid
        Where in the stack the cells of the maps look.

    Raises
    ------
    InputError
        If the head is another; see `linear_head`.

    References
    ----------
    B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba: Learning deep features for discriminative localization.
    CVPR 2016.
    """

    def __init__(self, model: keras.Model):
        import keras

        head = linear_head(model)
        if head is None:
            raise InputError(
                f"CAM: the head of {model.name!r} is not global average pooling and one dense layer; use Grad-CAM "
                "(gradcam), or train with options.head: linear"
            )
        self.model, self.head, self.layer = model, head, head.layer
        self.classes = head.kernel.shape[1]
        self.grid = grid_of(model, head.layer)
        self._both = keras.Model(model.inputs[0], [head.features, model.outputs[0]], name="cam")
        shape = tuple(model.input_shape[1:])
        self._run = compiled(self._maps, model, [(shape, "float32"), ((), "int32")])

    def __call__(self, stacks: np.ndarray, class_index: Any = None, *, batch_size: int = 16) -> np.ndarray:
        """Maps alone, ``float32 [n, h, w]`` in 0..1; see `explain`."""
        return self.explain(stacks, class_index, batch_size=batch_size).maps

    def explain(self, stacks: np.ndarray, class_index: Any = None, *, batch_size: int = 16) -> Heatmaps:
        """Maps of what speaks for a class, and probabilities from the same pass.

        Parameters
        ----------
        stacks : uint8 or float32 [n, H, W, C]
            As the model takes them, 0..255.
        class_index : int or int [n], optional
            Class to explain, one for all or one each; by default the class that the model predicts.
        batch_size : int
            Stacks that go through the model together.

        Returns
        -------
        Heatmaps
            As Grad-CAM's: negative places are cut off, and each map is divided by its maximum.

        Raises
        ------
        InputError
            If the stacks' shape or a class does not fit the model.
        """
        maps, probabilities, targets = self._explain(stacks, class_index, batch_size)
        maps = np.maximum(maps, 0)
        peak = maps.max(axis=(1, 2), keepdims=True) if len(maps) else np.ones((0, 1, 1), "float32")
        # An all-negative map has no peak: it stays all zero instead of becoming 0 / 0.
        return Heatmaps(maps / np.maximum(peak, np.finfo("float32").tiny), probabilities, targets, self.grid)

    def signed(self, stacks: np.ndarray, class_index: Any = None, *, batch_size: int = 16) -> np.ndarray:
        """The maps as they are, ``float32 [n, h, w]`` in units of the score: what speaks against is negative."""
        return self._explain(stacks, class_index, batch_size)[0]

    def _explain(self, stacks, class_index, batch_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        stacks = checked_stacks(stacks, self.model, "CAM")
        targets = checked_targets(class_index, len(stacks), self.classes, "CAM")

        def run(batch, chosen):
            return self._run(batch.astype("float32"), chosen)

        return in_batches(run, stacks, targets, batch_size, self.head.features.shape[1:3], self.classes)

    def _maps(self, stacks, targets):
        from keras import ops

        features, outputs = self._both(stacks, training=False)
        features, probabilities = ops.cast(features, "float32"), ops.cast(outputs, "float32")
        if probabilities.shape[-1] == 1:
            probabilities = ops.concatenate([1.0 - probabilities, probabilities], axis=-1)
        predicted = ops.cast(ops.argmax(probabilities, axis=-1), "int32")
        chosen = ops.where(targets < 0, predicted, targets)
        weights = ops.take(ops.transpose(ops.convert_to_tensor(self.head.kernel)), chosen, axis=0)
        return ops.sum(features * weights[:, None, None, :], axis=-1), probabilities, chosen
