"""Logistic regression on pixels: the floor that a network has to rise above.

Written as a network of two steps, the evidence of each pixel and its sum, so that it is saved, evaluated and explained
like the others. Its weights come from scikit-learn at once, without epochs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from enhancement.errors import InputError
from segmentation.backend import keras, layers, ops

from .heads import OUTPUT
from .registry import register

NAME = "logistic-regression"
EVIDENCE = "evidence"
MOST_BYTES = 8 << 30  # of pixels as the solver holds them


def add_sum(evidence, outputs: int):
    """Probabilities from the pixels ``[N, S, S, C]``: a weight for each pixel and class, summed over the stack.

    The map ``evidence`` ``[N, S, S, outputs]`` between is what Grad-CAM shows. As the score is its plain sum, that map
    is not an approximation here: it is where the score comes from, pixel by pixel, against mid-gray. Each pixel carries
    an equal share of the intercept.
    """
    side, channels = evidence.shape[1], evidence.shape[-1]
    if side * side * channels * outputs > 50_000_000:
        raise InputError(
            f"model {NAME}: a stack of {side} x {side} x {channels} given, fewer pixels expected, as in 64"
        )
    shape = (side, side, outputs)
    options = {"bias_axes": "k", "kernel_initializer": "zeros", "dtype": "float32"}
    scores = ops.sum(layers.EinsumDense("nhwc,hwck->nhwk", shape, name=EVIDENCE, **options)(evidence), axis=(1, 2))
    return layers.Activation("sigmoid" if outputs == 1 else "softmax", name=OUTPUT, dtype="float32")(scores)


def solve(
    model: keras.Model,
    stacks: Iterable[np.ndarray],
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    C: float = 1.0,
    max_iter: int = 1000,
) -> tuple[int, str]:
    """Set a logistic regression's weights to the minimum of the penalised loss: steps taken, and a warning or "".

    `stacks` are the training images in batches ``uint8 [B, S, S, C]``, in the order of `targets` (``[N, 1]``, or
    ``[N, K]`` with one 1 a row) and of `weights`, those of the images in the loss; `C` and `max_iter` are as in
    `logistic_regression`. `InputError` if the pixels of all images together do not fit the solver's memory.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    images, side, numbers = len(targets), model.input_shape[1], int(np.prod(model.input_shape[1:]))
    if images * numbers * 8 > MOST_BYTES:
        raise InputError(
            f"input.size: {side} given, {images} images of {numbers} numbers each are "
            "too many to be solved at once; 64 or less, and one channel, expected"
        )
    layer = model.get_layer(EVIDENCE)
    scaled = keras.Model(model.input, layer.input)
    pixels = np.concatenate([keras.ops.convert_to_numpy(scaled(batch)) for batch in stacks])
    pixels = pixels.reshape(len(pixels), -1).astype(np.float64)  # with float32 the solver stops early
    labels = targets[:, 0].astype(int) if targets.shape[1] == 1 else targets.argmax(axis=1)
    solver = LogisticRegression(C=C, max_iter=int(max_iter))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solver.fit(pixels, labels, sample_weight=weights)
    shape = tuple(layer.kernel.shape)
    # The scores are a sum over all pixels, so that each carries its share of the intercept.
    share = solver.intercept_ / (shape[0] * shape[1])
    layer.set_weights([solver.coef_.T.reshape(shape).astype("float32"), share.astype("float32")])
    steps = int(np.max(solver.n_iter_))
    if not any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        return steps, ""
    return steps, (
        f"the solver stopped after {steps} steps without converging; options.max_iter above {int(max_iter)}, or "
        f"options.C below {C:g} (stronger regularisation), helps"
    )


@register(
    NAME,
    size=64,
    channels=1,
    normalization="symmetric",
    feature_layer=EVIDENCE,
    add_head=add_sum,
    solve=solve,
    only={"init": "random", "trainable": "all", "sampling": "none", "ema": 0},
    only_why="is solved from nothing on all images",
    summary="logistic regression on the pixels of the stack, solved by scikit-learn; 4,097 parameters at 64 x 64 x 1",
    parameters=4_097,
    layers=(863, 244),
    flops=8_192,
)
def logistic_regression(stack, C: float = 1.0, max_iter: int = 1000):
    """The pixels themselves, mid-gray as 0; the options are for the solver.

    `C` is the inverse strength of the L2 penalty, as in scikit-learn: the smaller, the stronger; `max_iter` is the most
    steps that the solver takes.
    """
    if not isinstance(C, int | float) or not C > 0:
        raise InputError(f"options.C: {C!r} given, a number above 0 expected (smaller: stronger regularisation)")
    if not isinstance(max_iter, int) or max_iter < 1:
        raise InputError(f"options.max_iter: {max_iter!r} given, a whole number above 0 expected")
    return stack
