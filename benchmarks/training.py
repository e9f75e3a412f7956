"""Speed of training: ``python benchmarks/training.py [--model covid-cxnet] [--size 320] [--batch 8]``.

Milliseconds an image of each augmentation layer alone, then images per second of whole training steps after the first
one's tracing, taken in turns so that all meet the same machine: with the batch norm of Keras, with the fused one that
`train.py` uses, with augmentation, under mixed precision. The stacks are random: only time is measured.

With `--input-share`, for networks at 224 pixels: CPU milliseconds a step of the input alone (reading a shuffled batch
from a store, the default augmentation), of the step alone on a fixed batch, and of both together.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

Setting = tuple[str, str, Any, bool]  # title, number format, augmentation or None, whether the batch norms are fused

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Print one line a setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="covid-cxnet")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--input-share", nargs="*", metavar="MODEL", help="covid-cxnet and efficientnet-lite0")
    given = parser.parse_args()
    if given.input_share is not None:
        for name in given.input_share or ["covid-cxnet", "efficientnet-lite0"]:
            given.model, given.size = name, 224
            input_share(given)
        return
    from covidcxnet.training import load_recipe

    everything = load_recipe("covid-cxnet").augment
    for layer, duration in layer_times(given):
        print(f"{layer:<42} {1000 * duration:7.2f} ms an image", flush=True)
    settings = [
        ("float32, batch norm of Keras", "float32", None, False),
        ("float32", "float32", None, True),
        ("float32, the paper's augmentation", "float32", everything, True),
        ("mixed_bfloat16, the paper's augmentation", "mixed_bfloat16", everything, True),
    ]
    rates = measure(given, settings)
    for (title, *_), rate in zip(settings, rates, strict=True):
        print(f"{title:<42} {rate:7.2f} images/s  {rate / rates[0]:5.2f} of the first")


def layer_times(given) -> list[tuple[str, float]]:
    """Name and seconds an image of every augmentation layer, compiled alone, the fastest of some calls."""
    import numpy as np
    import tensorflow as tf

    from covidcxnet.training import AugmentSettings
    from covidcxnet.training.augmentation import augmenter

    settings = AugmentSettings(contrast=(0.7, 1.3), gamma=(0.7, 1.4), blur=1.6, noise=8, jpeg=30, erase=0.2)
    shape = (given.batch, given.size, given.size, 3)
    stacks = tf.constant(np.random.default_rng(0).integers(0, 256, shape), "float32")
    made = []
    for layer in augmenter(settings):
        call = tf.function(functools.partial(layer, training=True))
        call(stacks)
        made.append((type(layer).__name__, fastest(functools.partial(call, stacks), given.steps) / given.batch))
    return made


def input_share(given) -> None:
    """Print the CPU time of a step's parts, each the least of some calls."""
    import cv2
    import keras
    import numpy as np
    import pandas as pd

    from covidcxnet.datasets import Dataset
    from covidcxnet.preparation import Batches, prepare
    from covidcxnet.settings import InputSettings
    from covidcxnet.training import AugmentSettings
    from covidcxnet.training.augmentation import augmenter

    random, count = np.random.default_rng(0), 4 * given.batch
    with tempfile.TemporaryDirectory() as folder:
        for k in range(count):
            pixels = random.integers(0, 256, (given.size, given.size), dtype=np.uint8)
            cv2.imwrite(f"{folder}/{k}.png", pixels)
        table = pd.DataFrame({"path": [f"{k}.png" for k in range(count)], "label": ["normal", "other"] * (count // 2)})
        settings = InputSettings(size=given.size)
        store = prepare(Dataset(table, Path(folder)), settings, f"{folder}/store.h5", jobs=1, progress=False)
        batches = Batches(store, range(count), store.targets[:, None], batch_size=given.batch, shuffle=True)
        vary = keras.Sequential([keras.Input((given.size, given.size, 3)), *augmenter(AugmentSettings())])
        vary.compile(jit_compile=False)
        varied = backend_function(vary)
        plain, whole = (trained(given, "float32", augment, True) for augment in (None, AugmentSettings()))
        fixed = batches[0]
        # Another batch at each call, as in an epoch.
        numbers = itertools.cycle(range(len(batches)))
        parts = {
            "reading": lambda: batches[next(numbers)],
            "augmentation": lambda: varied(fixed[0]),
            "step, fixed batch": lambda: plain.train_on_batch(*fixed),
            "all together": lambda: whole.train_on_batch(*batches[next(numbers)]),
        }
        for call in parts.values():
            call()
        times = {name: min(cpu_seconds(call) for _ in range(given.steps)) for name, call in parts.items()}
        store.close()
    share = (times["reading"] + times["augmentation"]) / times["all together"]
    for name, value in times.items():
        print(f"{given.model:<20} batch {given.batch:<3} {name:<20} {1000 * value:8.1f} ms of CPU")
    print(f"{given.model:<20} batch {given.batch:<3} {'share of the input':<20} {100 * share:8.1f} %", flush=True)


def backend_function(model):
    """A model of layers as one compiled function, in training mode."""
    import tensorflow as tf

    return tf.function(lambda stacks: model(stacks, training=True))


def cpu_seconds(call) -> float:
    """CPU time of one call, all threads: other work on the machine hardly changes it."""
    start = time.process_time()
    call()
    return time.process_time() - start


def fastest(call, steps: int) -> float:
    """Seconds of the fastest of some calls: a busy machine slows the others."""
    return min(seconds(call) for _ in range(steps))


def seconds(call) -> float:
    """How long one call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(given, settings: list[Setting]) -> list[float]:
    """Images per second of the fastest of some steps under each setting, a step of each in turns."""
    import numpy as np

    random = np.random.default_rng(0)
    stacks = random.integers(0, 256, (given.batch, given.size, given.size, 3), dtype=np.uint8)
    targets = random.integers(0, 2, (given.batch, 1)).astype("float32")
    calls = [functools.partial(trained(given, *setting[1:]).train_on_batch, stacks, targets) for setting in settings]
    for call in calls:
        call()
    rounds = [[seconds(call) for call in calls] for _ in range(given.steps)]
    return [given.batch / min(times) for times in zip(*rounds, strict=True)]


def trained(given, precision: str, augment, fused: bool):
    """The model as `train.py` puts it together."""
    import keras

    from covidcxnet import backend
    from covidcxnet.models import create
    from covidcxnet.training.augmentation import augmenter
    from segmentation.backend import fuse_batch_norm

    with backend.precision(precision):
        core = create(given.model, size=given.size, channels=3)
        layers = augmenter(augment) if augment else []
        model = keras.Sequential([keras.Input(core.input_shape[1:]), *layers, core])
    if fused:
        fuse_batch_norm(model)
    model.compile("adam", "binary_crossentropy", jit_compile=backend.jit_compile())
    return model


if __name__ == "__main__":
    main()
