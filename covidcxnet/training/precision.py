"""Number formats: which this machine can use, and a policy for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enhancement.errors import InputError
from segmentation.backend import quiet_backend

CPUINFO = Path("/proc/cpuinfo")


def check(name: str) -> None:
    """Refuse a number format that this machine cannot use, before there is work to lose.

    Raises
    ------
    InputError
        For ``mixed_float16`` without a GPU: it runs there at a fifth of float32's speed.
    """
    if name != "mixed_float16":
        return
    quiet_backend()
    if not has_accelerator():
        raise InputError(
            "precision: mixed_float16 needs a GPU and there is none here; use float32, or mixed_bfloat16, "
            "which is faster on CPUs that have it"
        )


def advice(name: str) -> str:
    """What to say of a number format before a training; empty where there is nothing to say.

    ``mixed_bfloat16`` on a processor without such arithmetic runs at half of float32's speed (DenseNet121, 160 pixels
    squared, batch 16, on an Ice Lake: 5 against 9 images a second). What a processor has is known on Linux only.
    """
    if name != "mixed_bfloat16" or _computes_bfloat16() or has_accelerator():
        return ""
    return "precision: this processor has no bfloat16 arithmetic, mixed_bfloat16 is slower on it than float32"


def _computes_bfloat16() -> bool:
    """False where the system says that the processor does not; true where it does or says nothing."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), None)
    return flags is None or bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Build models under a Keras dtype policy, then put the old one back.

    Raises
    ------
    InputError
        As `check` does.
    """
    import keras

    check(name)
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
    import keras

    if keras.backend.backend() == "torch":  # its device list asks for a process group
        import torch

        return [f"gpu:{i}" for i in range(torch.cuda.device_count())] or ["cpu:0"]
    return [str(device) for device in keras.distribution.list_devices()]


def make_deterministic(seed: int, operations: bool) -> None:
    """Seed Python, NumPy and the backend; with `operations`, also ask TensorFlow for bitwise repeatable ones."""
    import keras

    keras.utils.set_random_seed(seed)
    if operations and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def compiled() -> bool | str:
    """What to pass as ``jit_compile``.

    XLA makes TensorFlow's CPU training a third slower, and has no kernel for the resampling of the augmentation.
    """
    import keras

    return False if keras.backend.backend() == "tensorflow" else "auto"
