"""The lines that differ between Keras' backends: compiled functions, gradients, determinism, number formats.

Everything else in the package is written once, with `keras.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.settings import Precision
from enhancement.errors import InputError
from segmentation.backend import keras, quiet_backend

CPUINFO = Path("/proc/cpuinfo")
Signature = Sequence[tuple[tuple[int, ...], str]]


def scores_and_gradient(score: Callable[[Any], tuple[Any, Any]], features: Any) -> tuple[Any, Any, Any]:
    """Scores ``[n]`` and the second value of ``score(features)``, and the gradient of each score by its features."""
    # The gradient of the sum serves: in inference mode score i depends on feature maps i only.
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            scores, extra = score(features)
        return scores, extra, tape.gradient(scores, features, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if backend == "jax":
        import jax

        def total(maps):
            scores, extra = score(maps)
            return scores.sum(), (scores, extra)

        gradient, (scores, extra) = jax.grad(total, has_aux=True)(features)
        return scores, extra, gradient
    if backend == "torch":
        import torch

        with torch.enable_grad():
            leaf = features.detach().requires_grad_(True)
            scores, extra = score(leaf)
            (gradient,) = torch.autograd.grad(scores.sum(), leaf)
        return scores, extra, gradient
    raise RuntimeError(f"Keras backend {backend!r} has no gradients here; use tensorflow, jax or torch")


def compiled(function: Callable[..., tuple], model: Any, signature: Signature) -> Callable[..., tuple[np.ndarray, ...]]:
    """Compile a function of batches, NumPy arrays in and out, so that a new batch size is not traced again.

    `function` reads the variables of `model` and sees their later changes; `signature` has the shape, without the batch
    axis, and the dtype of each argument.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _compiled_tensorflow(function, signature)
    if backend == "jax":
        return _compiled_jax(function, model, signature)

    def run(*arrays):
        # PyTorch runs eagerly. Gradients are switched on where one is taken.
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

    def run(*arrays):
        count = len(arrays[0])
        if count == 1:  # with oneDNN it takes ten times as long as two: 0.7 s for EfficientNet-Lite0
            arrays = tuple(np.repeat(array, 2, axis=0) for array in arrays)
        return tuple(output[:count].numpy() for output in traced(*(tf.constant(a) for a in arrays)))

    return run


def _compiled_jax(function, model, signature):
    import jax

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


def check_precision(name: str) -> None:
    """`InputError` for ``mixed_float16`` without a GPU, where it runs at a fifth of float32's speed."""
    if name != "mixed_float16":
        return
    quiet_backend()
    if not has_accelerator():
        raise InputError(
            "precision: mixed_float16 needs a GPU and there is none here; use float32, or mixed_bfloat16, "
            "which is faster on CPUs that have it"
        )


def chosen_precision(name: Precision) -> Precision:
    """The number format that "auto" means here: bfloat16 where the processor or a GPU computes in it, else float32."""
    if name != "auto":
        return name
    return "mixed_bfloat16" if _computes_bfloat16() or has_accelerator() else "float32"


def precision_advice(name: str) -> str:
    """Warning about a number format before a training; empty where there is none."""
    # DenseNet121, 320 pixels squared, batch 16, AMD EPYC with AVX2: a step took 90 seconds, and 8 with float32.
    if name != "mixed_bfloat16" or _computes_bfloat16() or has_accelerator():
        return ""
    return (
        "precision: this processor has no bfloat16 arithmetic, mixed_bfloat16 is many times slower on it than float32; "
        "auto takes the faster one"
    )


def _computes_bfloat16() -> bool:
    """False only if the system says that the processor does not, which Linux alone does."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), None)
    return flags is None or bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


@contextmanager
def precision(name: Precision) -> Iterator[None]:
    """Build models under a Keras dtype policy, then restore the old one; `InputError` as in `check_precision`."""
    name = chosen_precision(name)
    check_precision(name)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def has_accelerator() -> bool:
    """Whether the backend sees a GPU or TPU."""
    return any(not device.lower().startswith("cpu") for device in devices())


def devices() -> list[str]:
    """Devices that Keras would use, such as ``["cpu:0"]``."""
    if keras.backend.backend() == "torch":  # its device list asks for a process group
        import torch

        return [f"gpu:{i}" for i in range(torch.cuda.device_count())] or ["cpu:0"]
    return [str(device) for device in keras.distribution.list_devices()]


def make_deterministic(seed: int, operations: bool) -> None:
    """Seed Python, NumPy and the backend; with `operations`, also ask TensorFlow for bitwise repeatable ones."""
    keras.utils.set_random_seed(seed)
    if operations and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def jit_compile() -> bool | str:
    """What to pass as ``jit_compile``."""
    # XLA makes TensorFlow's CPU training a third slower, and has no kernel for the resampling of the augmentation.
    return False if keras.backend.backend() == "tensorflow" else "auto"
