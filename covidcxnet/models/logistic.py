"""Logistic regression on pixels: the floor that a network has to rise above.

Written as a network of two steps, the evidence of each pixel and its sum, so that it is saved, evaluated and explained
like the others. The weights come from scikit-learn, see `covidcxnet.training.logistic`.
"""

from __future__ import annotations

from enhancement.errors import InputError

from .heads import OUTPUT
from .registry import register

NAME = "logistic-regression"
EVIDENCE = "evidence"


def add_sum(evidence, outputs: int):
    """Probabilities from the pixels ``[N, S, S, C]``: a weight for each pixel and class, summed over the stack.

    The map ``evidence`` ``[N, S, S, outputs]`` between is what Grad-CAM shows. As the score is its plain sum, that map
    is not an approximation here: it is where the score comes from, pixel by pixel, against mid-gray. Each pixel carries
    an equal share of the intercept.
    """
    from keras import layers, ops

    side, channels = evidence.shape[1], evidence.shape[-1]
    weighing = layers.EinsumDense(
        "nhwc,hwck->nhwk", (side, side, outputs), bias_axes="k", kernel_initializer="zeros", name=EVIDENCE,
        dtype="float32",
    )  # fmt: skip
    if side * side * channels * outputs > 50_000_000:
        raise InputError(
            f"model {NAME}: a stack of {side} x {side} x {channels} given, fewer pixels expected, as in 64"
        )
    scores = ops.sum(weighing(evidence), axis=(1, 2))
    return layers.Activation("sigmoid" if outputs == 1 else "softmax", name=OUTPUT, dtype="float32")(scores)


@register(
    NAME,
    size=64,
    channels=1,
    normalization="symmetric",
    feature_layer=EVIDENCE,
    add_head=add_sum,
    summary="logistic regression on the pixels of the stack, solved by scikit-learn; 4,097 parameters at 64 x 64 x 1",
    parameters=4_097,
    flops=8_192,
)
def logistic_regression(stack, C: float = 1.0, max_iter: int = 1000):
    """The pixels themselves; `C` and `max_iter` are for the solver.

    Parameters
    ----------
    stack : Keras tensor [N, S, S, C]
        Symmetric scaling makes mid-gray 0.
    C : float
        Inverse strength of the L2 penalty, as in scikit-learn: the smaller, the stronger.
    max_iter : int
        Steps of the solver at most.
    """
    if not isinstance(C, int | float) or not C > 0:
        raise InputError(f"options.C: {C!r} given, a number above 0 expected (smaller: stronger regularisation)")
    if not isinstance(max_iter, int) or max_iter < 1:
        raise InputError(f"options.max_iter: {max_iter!r} given, a whole number above 0 expected")
    return stack
