"""The lines that differ between Keras' backends: compile a function, take the gradient of scores by feature maps.

Everything else in the package is written once, with `keras.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Signature = Sequence[tuple[tuple[int, ...], str]]


def scores_and_gradient(score: Callable[[Any], tuple[Any, Any]], features: Any) -> tuple[Any, Any, Any]:
    """Gradient of each score by its own feature maps.

    Parameters
    ----------
    score : callable
        Feature maps ``[n, ...]`` to a pair of scores ``[n]`` and anything else worth keeping. Score i may depend on
        feature maps i only, which holds for every network in inference mode.
    features : tensor [n, ...]
        Where the gradient is taken.

    Returns
    -------
    tuple
        Scores ``[n]``, the second value of `score`, and the gradient, of the shape of `features`.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            scores, kept = score(features)
        return scores, kept, tape.gradient(scores, features, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if backend == "jax":
        import jax

        def total(maps):
            scores, kept = score(maps)
            return scores.sum(), (scores, kept)

        gradient, (scores, kept) = jax.grad(total, has_aux=True)(features)
        return scores, kept, gradient
    if backend == "torch":
        import torch

        with torch.enable_grad():
            leaf = features.detach().requires_grad_(True)
            scores, kept = score(leaf)
            (gradient,) = torch.autograd.grad(scores.sum(), leaf)
        return scores, kept, gradient
    raise RuntimeError(f"Keras backend {backend!r} has no gradients here; use tensorflow, jax or torch")


def compiled(function: Callable[..., tuple], model: Any, signature: Signature) -> Callable[..., tuple[np.ndarray, ...]]:
    """Compile a function of batches, so that no size of batch is ever traced again.

    Parameters
    ----------
    function : callable
        Tensors with a leading batch axis to a tuple of tensors with the same leading axis.
    model : keras.Model
        The model whose variables `function` reads; later changes to them are seen.
    signature : sequence of (shape, dtype)
        Of each argument, without the batch axis.

    Returns
    -------
    callable
        Takes NumPy arrays, gives a tuple of NumPy arrays.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _compiled_tensorflow(function, signature)
    if backend == "jax":
        return _compiled_jax(function, model, signature)

    def run(*arrays):
        # PyTorch runs as it is: there is nothing to trace. Gradients are switched on where one is taken.
        import torch

        with torch.no_grad():
            tensors = (keras.ops.convert_to_tensor(a, dtype) for a, (_, dtype) in zip(arrays, signature, strict=True))
            return tuple(keras.ops.convert_to_numpy(output) for output in function(*tensors))

    return run


def _compiled_tensorflow(function, signature):
    import tensorflow as tf

    # An open batch axis: one trace serves every size, and a small last batch costs no more than its images.
    specs = [tf.TensorSpec((None, *shape), dtype) for shape, dtype in signature]
    traced = tf.function(function, input_signature=specs)
    return lambda *arrays: tuple(output.numpy() for output in traced(*(tf.constant(a) for a in arrays)))


def _compiled_jax(function, model, signature):
    import jax
    import keras

    @jax.jit
    def stateless(values, *arrays):
        # The weights are arguments: closed over, they would be frozen into the compiled program.
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            return function(*arrays)

    def run(*arrays):
        count = len(arrays[0])
        # JAX compiles for each shape: padding to powers of two keeps their number small and the waste on the last
        # batch below one half.
        room = (1 << max(count - 1, 0).bit_length()) - count
        padded = [
            np.pad(np.asarray(a, dtype), [(0, room)] + [(0, 0)] * len(shape), mode="edge")
            for a, (shape, dtype) in zip(arrays, signature, strict=True)
        ]
        outputs = stateless([variable.value for variable in model.variables], *padded)
        return tuple(np.asarray(output)[:count] for output in outputs)

    return run
