"""Formats of exported networks: how each is written, and how its own runtime runs it.

Everything goes through Keras' TensorFlow backend, the one whose converters take every layer here and keep the batch
dimension open; a weights file is the same under all backends.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.reporting.pages import NOTICE
from enhancement.errors import InputError
from segmentation.backend import keras
from segmentation.engines import run_onnx, run_openvino, write

TOLERANCE = 1e-4
INPUT_TYPES = ("float32", "uint8")
RESEARCH_ONLY = f"{NOTICE}; nothing that it computes is a diagnosis."
EXTRA = "pip install '.[export]'"

Runner = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Format:
    """How one format is written and run."""

    write: Callable[[Any, Path], None]  # a model as a file, or files, in a folder that holds nothing else
    runner: Callable[[Path], Runner]  # the file as a function from stacks to outputs, by the format's own runtime
    suffix: str  # of the file; empty for a folder
    packages: tuple[str, ...] = ()  # needed beyond this project's own
    runtime: str = "tensorflow"  # module whose version stands in the description
    note: str = ""  # what a user of the file should know


def default_path(weights: str | os.PathLike[str], format: str) -> Path:
    """Name in the working directory for an export: ``covid-cxnet.onnx``, ``covid-cxnet-savedmodel``."""
    name = Path(weights).absolute().name
    for ending in (".weights.h5", ".h5", ".hdf5"):
        name = name.removesuffix(ending)
    return Path(name + (FORMATS[format].suffix or "-savedmodel"))


def check_packages(name: str) -> None:
    """Refuse a format, before any work, whose packages or backend are missing; the message says how to get them."""
    missing = [package for package in FORMATS[name].packages if not importlib.util.find_spec(package)]
    if missing:
        raise InputError(f"format: {name} needs {', '.join(missing)}, not installed here; {EXTRA}")
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"format: {name} is written by the TensorFlow backend, {keras.backend.backend()} is in use; "
            "set KERAS_BACKEND=tensorflow (the weights file is the same)"
        )


def _by_keras(name: str) -> Callable[[Any, Path], None]:
    return lambda model, path: write(model, path, name)


def _write_tflite(model: keras.Model, path: Path) -> None:
    """Through a SavedModel and with TFLite's own operations alone, so that the file runs without TensorFlow."""
    import tensorflow as tf

    between = path.with_suffix(".saved")
    model.export(str(between), format="tf_saved_model", verbose=False)
    try:
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(between)).convert())
    finally:
        shutil.rmtree(between)


def _first(run: Callable[[Path], Callable[[np.ndarray], tuple[np.ndarray, ...]]]) -> Callable[[Path], Runner]:
    def runner(path: Path) -> Runner:
        network = run(path)
        return lambda stacks: network(stacks)[0]

    return runner


def _run_saved_model(path: Path) -> Runner:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda stacks: loaded.serve(tf.constant(stacks)).numpy()


def _run_tflite(path: Path) -> Runner:
    interpreter = _interpreter()(model_path=str(path))
    given, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(stacks: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given, stacks.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given, stacks)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(output))

    return run


def _interpreter() -> Callable[..., Any]:
    """TFLite's interpreter: of its own package where that is installed, else of TensorFlow, which still has one."""
    if importlib.util.find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    if not hasattr(tf.lite, "Interpreter"):
        raise InputError("format: tflite is checked by ai-edge-litert, not installed here; pip install ai-edge-litert")

    def quiet(**options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it will move to a package of its own
            return tf.lite.Interpreter(**options)

    return quiet


FORMATS = {
    "onnx": Format(
        _by_keras("onnx"), _first(run_onnx), ".onnx", packages=("tf2onnx", "onnx", "onnxruntime"), runtime="onnxruntime"
    ),
    "openvino": Format(
        _by_keras("openvino"),
        _first(run_openvino),
        ".xml",
        runtime="openvino",
        note="the weights are in the .bin file beside it; on CPUs with bfloat16 OpenVINO computes in that unless "
        "INFERENCE_PRECISION_HINT is f32, and then differs in the fourth digit",
    ),
    "tflite": Format(
        _write_tflite, _run_tflite, ".tflite", note="the batch size is 1 until resize_tensor_input sets another"
    ),
    "savedmodel": Format(_by_keras("tf_saved_model"), _run_saved_model, ""),
}
