"""How long a recipe takes: ``python benchmarks/recipes.py [NAME ...] [--images 1000]``; all of them without names.

Seconds an image of whole training steps after the first one's tracing, of the network with its augmentation in the
recipe's number format, times images and epochs. Validation and preparation are not in it, and a run that stops early
takes less. Heads that train on features computed once cost one forward pass an image. The stacks are random.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BATCH, STEPS = 8, 2


def main() -> None:
    """Print a row of a Markdown table for each recipe, as it is measured."""
    from covidcxnet.recipes import names
    from covidcxnet.training import load_recipe

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=names())
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    print(f"| recipe | epochs | images a second | hours for {given.images:,} training images |")
    print("| --- | ---: | ---: | ---: |")
    for name in given.names:
        recipe = load_recipe(name)
        seconds = seconds_an_image(recipe)
        epochs = 1 if recipe.trainable == "head" and recipe.cache_features else recipe.epochs
        hours = seconds * given.images * epochs / 3600
        print(f"| `{name}` | {recipe.epochs} | {1 / seconds:.1f} | {hours:.1f} |", flush=True)


def seconds_an_image(recipe) -> float:
    """Of the fastest of some steps: a busy machine slows the others."""
    import keras
    import numpy as np

    from covidcxnet import backend
    from covidcxnet.models import create, freeze
    from covidcxnet.models.scaling import TRAINING
    from covidcxnet.training.augmentation import augmenter
    from covidcxnet.training.initial_weights import model_options
    from segmentation.backend import fuse_batch_norm

    keras.backend.clear_session()
    options = model_options(recipe, {})
    if options["normalization"] == TRAINING:
        options["normalization"] = {"mean": [0.5] * options["channels"], "std": [0.25] * options["channels"]}
    with backend.precision(recipe.precision):
        core = create(recipe.model, classes=recipe.classes or ("normal", "covid19"), **options)
        freeze(core, str(recipe.trainable))
        shape = core.input_shape[1:]
        layers = augmenter(recipe.augment, 0)
        model = keras.Sequential([keras.Input(shape), *layers, core])
    fuse_batch_norm(core)
    stacks = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), dtype=np.uint8)
    if recipe.trainable == "head" and recipe.cache_features:
        step = lambda: core.predict_on_batch(stacks)  # noqa: E731
    else:
        model.compile("adam", "mse", jit_compile=backend.jit_compile())
        targets = np.zeros((BATCH, *core.output_shape[1:]), "float32")
        step = lambda: model.train_on_batch(stacks, targets)  # noqa: E731
    step()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times) / BATCH


if __name__ == "__main__":
    main()
