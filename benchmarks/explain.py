"""Grad-CAM beside the forward pass: ratios from one run, on one machine, in turns.

    python benchmarks/explain.py [--model covid-cxnet] [--size 320] [--batch-size 8] [--repeats 5]

Rows: the compiled forward pass of Keras, Grad-CAM as `covidcxnet.explain.cam` does it, the same as an output of
OpenVINO's network, and the usual way, an eager tape over the whole model, one image at a time. A busy machine slows all
alike: trust the ratios. Random weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

TARGET = 1.2


def main() -> int:
    """Print a table of milliseconds an image; exit code 1 where Grad-CAM costs more than the stated ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="covid-cxnet")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()

    from covidcxnet.classifier import Classifier
    from covidcxnet.models import MODELS, create
    from covidcxnet.settings import InputSettings

    channels = ("clahe", "beasf", "raw")[-MODELS[given.model].channels :]
    model = create(given.model, size=given.size, channels=len(channels))
    settings = InputSettings(size=given.size, channels=channels).to_dict()
    classifier = Classifier(model, {"classes": ["normal", "covid19"], "input": settings})
    rng = np.random.default_rng(0)
    stacks = rng.integers(0, 256, (given.batch_size, given.size, given.size, len(channels))).astype("uint8")

    converted = _converted(model)
    ways: dict[str, Callable[[], object]] = {
        "forward pass, compiled": lambda: classifier.predict_stacks(stacks, given.batch_size),
        "Grad-CAM": lambda: classifier.gradcam.explain(stacks, 1, batch_size=given.batch_size),
        "Grad-CAM by OpenVINO": lambda: converted.explain(stacks, 1, batch_size=given.batch_size),
        "eager tape, one by one": lambda: [_eager(model, classifier.gradcam.layer, stack) for stack in stacks[:2]],
    }
    times = _in_turns(ways, given.repeats)
    images = dict.fromkeys(ways, given.batch_size) | {"eager tape, one by one": 2}
    base = times["forward pass, compiled"] / given.batch_size
    print(
        f"{given.model}, {given.size} x {given.size} x {len(channels)}, batch {given.batch_size}, "
        f"best of {given.repeats} in turns"
    )
    for name, seconds in times.items():
        each = seconds / images[name]
        print(f"{name:<24} {1000 * each:8.1f} ms an image  {each / base:6.2f} forward passes")
    ratio = times["Grad-CAM"] / given.batch_size / base
    print(f"Grad-CAM costs {ratio:.2f} forward passes; {TARGET} wanted: {'yes' if ratio <= TARGET else 'NO'}")
    return 0 if ratio <= TARGET else 1


def _in_turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best seconds of each; taken in turns, so that what else runs on the machine falls on all."""
    for call in ways.values():
        call()  # tracing is no part of it
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def _eager(model, layer: str, stack: np.ndarray) -> np.ndarray:
    """Grad-CAM as most examples write it."""
    import keras
    import tensorflow as tf

    both = _eager.__dict__.setdefault(layer, keras.Model(model.input, [model.get_layer(layer).output, model.output]))
    with tf.GradientTape() as tape:
        features, output = both(stack[None].astype("float32"), training=False)
        score = output[:, -1]
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1)).numpy()


def _converted(model):
    """Grad-CAM as an output of the network that OpenVINO runs."""
    import openvino

    from covidcxnet.explain.cam import ConvertedMaps, facts_of
    from segmentation.engines import Network
    from segmentation.topology import build, maps_layer, topology_of

    topology = topology_of(model)
    network = build(topology, {layer.name: layer.get_weights() for layer in model.layers})
    # A processor with bfloat16 would compute in it unless told otherwise.
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(stacks):
        outputs = compiled(stacks)
        return tuple(np.array(outputs[k]) for k in range(2))

    shapes = (tuple(model.output_shape[1:]),)
    about = {"parameters": model.count_params(), "maps": maps_layer(topology), "facts": facts_of(model)}
    return ConvertedMaps(Network(run, tuple(model.input_shape[1:]), shapes, **about), "gradcam")


if __name__ == "__main__":
    sys.exit(main())
