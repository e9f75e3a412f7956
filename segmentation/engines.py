"""Inference engines: a network converted once, kept in the cache under its content's hash, and run without Keras."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from enhancement.errors import InputError
from enhancement.progress import announced
from weights.lookup import cache_folder

from .backend import keras, quiet_backend

Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]

VARIABLE = "COVIDCXNET_ENGINE"
"""Environment variable: the engine that ``auto`` stands for."""

EXACT = 1e-5
"""Largest difference to Keras, of outputs up to 1, at which an engine is taken without being named."""

PRECISIONS = ("f32", "bf16")
_LAYOUT = 1  # of the cached folders; another number makes all of them anew
_ABOUT = "network.json"


@dataclass(frozen=True)
class Network:
    """A converted network: called with ``uint8 [n, S, S, C]``, it gives a tuple of its outputs."""

    run: Run
    input_shape: tuple[int, ...]  # S, S, C
    output_shapes: tuple[tuple[int, ...], ...]  # without the batch
    parameters: int

    def __call__(self, stacks: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.run(stacks)


@dataclass(frozen=True)
class Engine:
    """A runtime that may be installed."""

    package: str
    suffix: str
    open: Callable[[Path, str], Run]  # a converted file, in a precision
    extra: str = ""  # of ours, that installs it

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


def run_openvino(path: Path, precision: str = "f32") -> Run:
    """The network of an OpenVINO file as a function; what the processor needs is compiled once and kept beside it."""
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise InputError("precision: this processor has no bfloat16, where it is slower than f32; give f32")
    # A processor with bfloat16 would compute in it unless told otherwise.
    settings = {"INFERENCE_PRECISION_HINT": precision, "CACHE_DIR": str(path.parent / "compiled")}
    network = core.compile_model(str(path), "CPU", settings)

    def run(stacks: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = network(stacks)
        return tuple(np.array(outputs[i]) for i in range(len(network.outputs)))

    return run


def run_onnx(path: Path, precision: str = "f32") -> Run:
    """The network of an ONNX file as a function."""
    import onnxruntime

    if precision != "f32":
        raise InputError(f"precision: onnxruntime computes in f32, {precision} given")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda stacks: tuple(np.asarray(output) for output in session.run(None, {name: stacks}))


ENGINES = {
    "openvino": Engine("openvino", ".xml", run_openvino),
    "onnxruntime": Engine("onnxruntime", ".onnx", run_onnx, "export"),
}


def choose(engine: str | None, precision: str) -> tuple[str, bool]:
    """The engine that is meant, and whether it was named; `InputError` if there is none such or it is not installed."""
    chosen = engine or os.environ.get(VARIABLE) or "auto"
    known = ("auto", "keras", *ENGINES)
    if chosen not in known:
        raise InputError(f"engine: {chosen!r} given, one of {', '.join(known)} expected")
    if precision not in PRECISIONS:
        raise InputError(f"precision: {precision!r} given, one of {', '.join(PRECISIONS)} expected")
    named = chosen != "auto"
    if not named:
        chosen = "openvino" if ENGINES["openvino"].installed else "keras"
    if chosen == "keras" and precision != "f32":
        raise InputError(f"precision: keras computes in f32 here, {precision} given; name another engine")
    if chosen != "keras" and not ENGINES[chosen].installed:
        extra = ENGINES[chosen].extra
        how = f"pip install '.[{extra}]'" if extra else f"pip install {ENGINES[chosen].package}"
        raise InputError(f"engine: {chosen} is not installed here; {how}")
    return chosen, named


def network_of(
    model: Callable[[], keras.Model],
    sha256: str,
    kind: str,
    *,
    engine: str | None = None,
    precision: str = "f32",
    convert: bool = False,
    name: str = "",
) -> Network | None:
    """A weights file's network on an engine; None where Keras is to run it.

    Parameters
    ----------
    model : callable
        Builds the Keras network of ``[n, S, S, C]`` in 0..255; it is called where nothing is in the cache.
    sha256 : str
        Of the weights file.
    kind : str
        Tells networks that are made of one file from each other.
    engine : {"auto", "keras", "openvino", "onnxruntime"}, optional
        ``auto`` is OpenVINO where it is installed, computes the network and differs from Keras by `EXACT` at most, and
        Keras otherwise; the environment variable `VARIABLE` may say what it stands for.
    precision : {"f32", "bf16"}
        Number format; bf16 is taken only where it is named and the processor has it.
    convert : bool
        Convert what is not in the cache although no engine is named; it takes as long as some hundred predictions.
    name : str
        For messages.

    Raises
    ------
    InputError
        If an engine or precision is unknown or cannot be had here, or an engine that was named cannot run the network.
    """
    chosen, named = choose(engine, precision)
    if chosen == "keras":
        return None
    folder = _folder(sha256, kind, chosen)
    about = _about(folder)
    if about and not (named or about["difference"] <= EXACT):
        return None
    if (network := _open(folder, about, chosen, precision)) is not None:
        return network
    if not (named or convert):
        return None
    with announced(f"{name}: converting the network for {chosen}, once", after=0):
        about = _convert(model(), folder, chosen, named)
    usable = about and (named or about["difference"] <= EXACT)
    return _open(folder, about, chosen, precision) if usable else None


def _open(folder: Path, about: dict[str, Any], chosen: str, precision: str) -> Network | None:
    """The converted network of a folder; None where there is none, or the engine cannot read it."""
    if not about:
        return None
    try:
        run = ENGINES[chosen].open(folder / ("network" + ENGINES[chosen].suffix), precision)
    except InputError:
        raise
    except Exception:  # a damaged file: engines may raise anything
        return None
    return Network(run, tuple(about["input"]), tuple(map(tuple, about["outputs"])), about["parameters"])


def _about(folder: Path) -> dict[str, Any]:
    """What was written about a converted network; empty where there is none, or it is damaged."""
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        return about if {"difference", "input", "outputs", "parameters"} <= set(about) else {}
    except (OSError, ValueError):
        return {}


def _convert(model: keras.Model, folder: Path, chosen: str, named: bool) -> dict[str, Any]:
    """Convert a network into the cache; nothing is there, or returned, where an engine that nobody named cannot."""
    if keras.backend.backend() != "tensorflow":
        if named:
            raise InputError(
                f"engine: networks are converted by Keras' TensorFlow backend, {keras.backend.backend()} is in use; "
                "set KERAS_BACKEND=tensorflow"
            )
        return {}
    path = "network" + ENGINES[chosen].suffix
    try:
        with _whole_folder(folder) as partial:
            write(with_input_type(model, "uint8"), partial / path, chosen)
            about = {
                "difference": largest_difference(model, ENGINES[chosen].open(partial / path, "f32")),
                "input": model.input_shape[1:],
                "outputs": [output.shape[1:] for output in model.outputs],
                "parameters": model.count_params(),
            }
            (partial / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    except Exception as error:  # converters and runtimes may raise anything
        if not named:
            return {}
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200] if isinstance(error, OSError) else type(error).__name__
        raise InputError(f"engine: {chosen} cannot run {model.name} ({reason})") from error
    return about


def write(model: keras.Model, path: Path, engine: str) -> None:
    """Write a network as a file of an engine, by Keras' own exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # tf2onnx looks for a name that NumPy 2 has given up
        model.export(str(path), format={"onnxruntime": "onnx"}.get(engine, engine), verbose=False)


def with_input_type(model: keras.Model, input_type: str) -> keras.Model:
    """The model, or the model behind a cast from ``uint8``; called once, as Keras wants it before an export."""
    quiet_backend()
    if input_type == "float32":
        model(np.zeros((1, *model.input_shape[1:]), "float32"))
        return model
    stack = keras.Input(tuple(model.input_shape[1:]), dtype=input_type, name=model.inputs[0].name)
    cast = keras.Model(stack, model(keras.ops.cast(stack, "float32")), name=model.name)
    cast(np.zeros((1, *model.input_shape[1:]), input_type))
    return cast


def largest_difference(model: keras.Model, run: Run) -> float:
    """Largest difference of an engine's outputs to Keras' on noise of three kinds, relative to values above 1."""
    random, shape = np.random.default_rng(0), tuple(model.input_shape[1:])
    smooth = np.kron(random.integers(0, 256, (16, 16)), np.ones((-(-shape[0] // 16), -(-shape[1] // 16))))
    smooth = np.repeat(smooth[: shape[0], : shape[1], None], shape[2], axis=2)
    stacks = np.stack([random.integers(0, 256, shape), smooth, smooth // 2 + 64]).astype(np.uint8)
    expected = model(stacks.astype("float32"), training=False)
    expected = expected if isinstance(expected, Sequence) else (expected,)
    pairs = zip(map(keras.ops.convert_to_numpy, expected), run(stacks), strict=True)
    return float(max(np.abs(a - b).max() / max(1.0, float(np.abs(a).max())) for a, b in pairs))


def _folder(sha256: str, kind: str, engine: str) -> Path:
    made_by = f"{sha256} {kind} {engine} {version(ENGINES[engine].package)} {_LAYOUT}"
    return cache_folder().parent / "engines" / f"{engine}-{hashlib.sha256(made_by.encode()).hexdigest()[:20]}"


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Any:
    """A new folder that appears under its name at the end of the block, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
