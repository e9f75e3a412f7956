"""Speed of training: ``python benchmarks/training.py [--model covid-cxnet] [--size 320] [--batch 8]``.

Milliseconds an image of each augmentation layer alone, then images per second of whole training steps without and with
augmentation, and under mixed precision, after the first step's tracing. The stacks are random: only time is measured.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Print one line a setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="covid-cxnet")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    from covidcxnet.training.recipe import load_recipe

    everything = load_recipe("covid-cxnet").augment
    for layer, seconds in layer_times(given):
        print(f"{layer:<42} {1000 * seconds:7.2f} ms an image", flush=True)
    slowest = None
    for title, precision, augment in (
        ("float32", "float32", None),
        ("float32, the paper's augmentation", "float32", everything),
        ("mixed_bfloat16, the paper's augmentation", "mixed_bfloat16", everything),
    ):
        rate = measure(given, precision, augment)
        slowest = slowest or rate
        print(f"{title:<42} {rate:7.2f} images/s  {rate / slowest:5.2f} of float32", flush=True)


def layer_times(given) -> list[tuple[str, float]]:
    """Name and seconds an image of every augmentation layer, compiled alone, the fastest of some calls."""
    import numpy as np
    import tensorflow as tf

    from covidcxnet.training import AugmentSettings
    from covidcxnet.training.augmentation import augmenter

    settings = AugmentSettings(contrast=(0.7, 1.3), gamma=(0.7, 1.4), blur=1.6, noise=8, jpeg=30, erase=0.2, spectrum=1)
    shape = (given.batch, given.size, given.size, 3)
    stacks = tf.constant(np.random.default_rng(0).integers(0, 256, shape), "float32")
    made = []
    for layer in augmenter(settings):
        call = tf.function(functools.partial(layer, training=True))
        call(stacks)
        seconds = fastest(functools.partial(call, stacks), given.steps)
        made.append((type(layer).__name__, seconds / given.batch))
    return made


def fastest(call, steps: int) -> float:
    """Seconds of the fastest of some calls: a busy machine slows the others."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(given, precision: str, augment) -> float:
    """Images per second of the fastest of some steps."""
    import keras
    import numpy as np

    from covidcxnet.models import create
    from covidcxnet.training import precision as formats
    from covidcxnet.training.augmentation import augmenter

    random = np.random.default_rng(0)
    stacks = random.integers(0, 256, (given.batch, given.size, given.size, 3), dtype=np.uint8)
    targets = random.integers(0, 2, (given.batch, 1)).astype("float32")
    with formats.precision(precision):
        core = create(given.model, size=given.size, channels=3)
        layers = augmenter(augment) if augment else []
        model = keras.Sequential([keras.Input(core.input_shape[1:]), *layers, core])
        model.compile("adam", "binary_crossentropy", jit_compile=formats.compiled())
        model.train_on_batch(stacks, targets)
        return given.batch / fastest(lambda: model.train_on_batch(stacks, targets), given.steps)


if __name__ == "__main__":
    main()
