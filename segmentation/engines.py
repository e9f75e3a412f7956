"""Inference engines: a network converted once, kept in the cache under its content's hash, and run without Keras."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from enhancement.errors import InputError, one_line
from enhancement.lock import locked
from enhancement.parallel import sha256 as sha256_of
from enhancement.progress import announce, announced
from weights import manifest
from weights.format import WeightsFile
from weights.lookup import HOME, cache_folder

from . import topology
from .backend import keras, quiet_backend
from .topology import Topology, Unsupported

Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]

VARIABLE = "COVIDCXNET_ENGINE"
"""Environment variable: the engine that ``auto`` stands for."""

EXACT = 1e-5
"""Largest difference to Keras, of outputs up to 1, at which an engine is taken without being named."""

WRONG = 1e-2
"""Difference above which an engine is refused even if it was named: rounding of f32 stays far below."""

PRECISIONS = ("f32", "bf16", "int8")
_TOGETHER = 2  # images in a request of an engine: more of them are no faster, and need more memory
_LAYOUT = 3  # of the cached folders; another number makes all of them anew
_ABOUT = "network.json"


@dataclass(frozen=True)
class Network:
    """A converted network: called with ``uint8 [n, S, S, C]``, it gives a tuple of its outputs.

    Where `maps` names a layer, the last output is class activation maps of it, see `segmentation.topology.build`.
    `facts` are those that the caller of `network_of` wanted to be kept.
    """

    run: Run
    input_shape: tuple[int, ...]  # S, S, C
    output_shapes: tuple[tuple[int, ...], ...]  # without the batch
    parameters: int
    maps: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

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
    """The network of an OpenVINO file as a function.

    It is compiled at each start, 0.03 to 0.2 s: OpenVINO's cache of compiled networks would be taken unchecked, and a
    damaged one gives wrong probabilities or ends the process.
    """
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise InputError("precision: this processor has no bfloat16, where it is slower than f32; give f32")
    network = core.read_model(str(path))
    # OpenVINO builds a table at the first of these conversions; two threads that both come first would wait for ever.
    openvino.Type.u8.to_dtype()
    # A processor with bfloat16 would compute in it unless told otherwise.
    settings = {"INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision}  # of what is not quantised
    alone = core.compile_model(network, "CPU", settings | {"PERFORMANCE_HINT": "LATENCY"})
    many: list[Any] = []  # the network compiled for many images, once there are some
    compiling = threading.Lock()

    def run(stacks: np.ndarray) -> tuple[np.ndarray, ...]:
        stacks = np.ascontiguousarray(stacks)  # shared with the requests until they are done
        # One image is computed by all cores together. Of several, each core computes its own: no core waits for
        # another after every layer, and threads that prepare the next images do not hold up all of them.
        if len(stacks) == 1:
            compiled, parts = alone, [stacks]
        else:
            with compiling:
                if not many:
                    many.append(core.compile_model(network, "CPU", settings | {"PERFORMANCE_HINT": "THROUGHPUT"}))
            compiled, parts = many[0], [stacks[k : k + _TOGETHER] for k in range(0, len(stacks), _TOGETHER)]
        requests = [compiled.create_infer_request() for _ in parts]
        for request, part in zip(requests, parts, strict=True):
            request.start_async({0: part}, share_inputs=True)
        outputs: tuple[np.ndarray, ...] = ()
        done = 0
        for request, part in zip(requests, parts, strict=True):
            request.wait()
            values = [tensor.data for tensor in request.output_tensors]
            outputs = outputs or tuple(np.empty((len(stacks), *v.shape[1:]), v.dtype) for v in values)
            for output, value in zip(outputs, values, strict=True):
                output[done : done + len(part)] = value
            done += len(part)
        return outputs

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
    """The engine that is meant, and whether it was named, be it by a precision that only it has.

    `InputError` if there is none such or it is not installed.
    """
    chosen = engine or os.environ.get(VARIABLE) or "auto"
    known = ("auto", "keras", *ENGINES)
    if chosen not in known:
        raise InputError(
            f"{'engine' if engine else VARIABLE}: {chosen!r:.80} given, one of {', '.join(known)} expected"
        )
    if precision not in PRECISIONS:
        raise InputError(f"precision: {precision!r:.80} given, one of {', '.join(PRECISIONS)} expected")
    named = chosen != "auto" or precision != "f32"  # of which Keras would compute in f32
    if chosen == "auto":
        chosen = "openvino" if ENGINES["openvino"].installed else "keras"
    if precision == "int8" and chosen == "onnxruntime":
        raise InputError("precision: int8 needs openvino, onnxruntime given")
    if chosen == "keras" and precision != "f32":
        raise InputError(f"precision: keras computes in f32 here, {precision} given; name another engine")
    if chosen != "keras" and not ENGINES[chosen].installed:
        extra = ENGINES[chosen].extra
        how = f"pip install '.[{extra}]'" if extra else f"pip install {ENGINES[chosen].package}"
        raise InputError(f"engine: {chosen} is not installed here; {how}")
    return chosen, named


def running(network: Network | None, engine: str | None, precision: str) -> dict[str, str]:
    """Options that name the engine which runs a network, for a process that must not choose another one."""
    if network is None:
        return {"engine": "keras", "precision": "f32"}
    return {"engine": choose(engine, precision)[0], "precision": precision}


def network_of(
    model: Callable[[], keras.Model],
    file: WeightsFile,
    kind: str,
    *,
    engine: str | None = None,
    precision: str = "f32",
    facts: Callable[[keras.Model], dict[str, Any]] = lambda model: {},
) -> Network | None:
    """A weights file's network on an engine; None where Keras is to run it.

    Parameters
    ----------
    model : callable
        Builds the Keras network of ``[n, S, S, C]`` in 0..255; it is called where nothing is in the cache, unless the
        file is a released one, whose topology is known here.
    file : WeightsFile
        Of this project's format.
    kind : str
        Tells networks that are made of one file from each other.
    engine : {"auto", "keras", "openvino", "onnxruntime"}, optional
        ``auto`` is OpenVINO where it is installed, the file is released or was converted before, and outputs differ
        from Keras' by `EXACT` at most, and Keras otherwise; the environment variable `VARIABLE` may say what it stands
        for.
    precision : {"f32", "bf16", "int8"}
        Number format; bf16 is taken only where it is named and the processor has it, int8 where `quantize` was called
        before.
    facts : callable
        What is to be known of the Keras network without building it: plain values, kept as `Network.facts`.

    Raises
    ------
    InputError
        If an engine or precision is unknown or cannot be had here, or an engine that was named cannot run the network.
    """
    chosen, named = choose(engine, precision)
    if chosen == "keras":
        return None
    if precision == "int8":
        return _quantized(file, kind)
    folder = _folder(file.sha256, kind, chosen)
    about = _about(folder)
    if about and not (named or about["difference"] <= EXACT):
        return None
    network = _open(folder, about, chosen, precision)
    known = {} if network or chosen != "openvino" else known_network(file.sha256, kind)
    if network is None and (named or known):
        with announced(f"{file.path.name}: converting the network for {chosen}, once", after=2 if known else 0):
            about = _convert(model, file, known, facts, folder, chosen, named)
        if about and (named or about["difference"] <= EXACT):
            network = _open(folder, about, chosen, precision)
    if network is None and named:
        raise InputError(f"engine: {chosen} cannot read the network that was converted into {folder}")
    if network is not None and not about["difference"] <= WRONG:
        raise InputError(f"engine: {chosen} differs from Keras by {about['difference']:.2g}; take another engine")
    return network


def quantize(file: WeightsFile, kind: str, stacks: np.ndarray) -> Path:
    """Quantise a network that `network_of` converted for OpenVINO to INT8, by NNCF; its new files are named.

    `stacks` uint8 [n, S, S, C], some hundred that look like those to come, say what range each layer's values have.
    `network_of` takes the result where `precision` int8 is named. `InputError` if NNCF is not installed.
    """
    if not find_spec("nncf"):
        raise InputError("precision: int8 needs nncf, not installed here; pip install '.[int8]'")
    import nncf
    import openvino

    source, folder = _folder(file.sha256, kind, "openvino"), _folder(file.sha256, f"{kind}, int8", "openvino")
    about = _about(source)
    with _whole_folder(folder) as partial:
        network = openvino.Core().read_model(str(source / "network.xml"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantized = nncf.quantize(
                network,
                nncf.Dataset([stack[None] for stack in stacks]),
                preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations: more exact, as fast
                subset_size=len(stacks),
            )
        openvino.save_model(quantized, str(partial / "network.xml"), compress_to_fp16=False)
        about |= {"folder": folder.name, "files": _digests(partial), "calibration_stacks": len(stacks)}
        text = json.dumps({**about, "sha256": _digest_of(about)})
        (partial / _ABOUT).write_text(text, encoding="utf-8")
    return folder / "network.xml"


def _quantized(file: WeightsFile, kind: str) -> Network:
    folder = _folder(file.sha256, f"{kind}, int8", "openvino")
    network = _open(folder, _about(folder), "openvino", "int8")
    if network is None:
        raise InputError(
            f"{file.path}: no INT8 network was made of it on this machine; covidcxnet export --precision int8 does that"
        )
    return network


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
    outputs = tuple(map(tuple, about["outputs"]))
    return Network(run, tuple(about["input"]), outputs, about["parameters"], about["maps"], about["facts"])


def _about(folder: Path) -> dict[str, Any]:
    """What was written about a converted network; empty where there is none, or it or its files are not as written."""
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        # OpenVINO computes with damaged weights, and one folder may have been copied over another.
        intact = about["folder"] == folder.name and about["files"] == _digests(folder)
        return about if intact and about.pop("sha256") == _digest_of(about) else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.glob("network.*")) if path.name != _ABOUT}


def _digest_of(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _convert(
    model: Callable[[], keras.Model],
    file: WeightsFile,
    known: dict[str, Any],
    facts: Callable[[keras.Model], dict[str, Any]],
    folder: Path,
    chosen: str,
    named: bool,
) -> dict[str, Any]:
    """Convert a network into the cache; nothing is there, or returned, where an engine that nobody named cannot."""
    network = None
    if not known:
        network = model()  # before anything is caught: a damaged weights file has its own message
        known = describe(network, facts(network))
        backend = keras.backend.backend()
        if backend != "tensorflow" and (known["topology"] is None or chosen != "openvino"):
            if named:
                what = f"this network is converted by Keras' TensorFlow backend, {backend} is in use"
                raise InputError(f"engine: {what}; set KERAS_BACKEND=tensorflow")
            return {}
    path = "network" + ENGINES[chosen].suffix
    try:
        with _whole_folder(folder) as partial:
            if about := _about(folder):  # another process was faster
                return about
            _try_size(partial / path, 4 * known["parameters"])
            _write_known(known, network, file, partial / path, chosen)
            outputs = ENGINES[chosen].open(partial / path, "f32")(_probes(known["input"]))
            about = {
                "folder": folder.name,
                "difference": _difference(known["answers"], outputs),
                **{name: known[name] for name in ("input", "outputs", "parameters", "maps", "facts")},
                "files": _digests(partial),
            }
            text = json.dumps({**about, "sha256": _digest_of(about)})
            (partial / _ABOUT).write_text(text, encoding="utf-8")
    except Exception as error:  # converters and runtimes may raise anything
        if isinstance(error, OSError):
            reason = f"{error.strerror or one_line(error)}; {HOME} names another folder"
            lost = f"{folder}: cannot keep a network converted for {chosen} ({reason})"
            if named:
                raise InputError(lost) from error
            announce(f"{lost}; Keras predicts, slower")
        if not named:
            return {}
        if isinstance(error, InputError):
            raise
        name = file.path.name if network is None else network.name
        raise InputError(f"engine: {chosen} cannot run {name} ({type(error).__name__})") from error
    return about


def _try_size(path: Path, size: int) -> None:
    """`OSError` where so many bytes cannot be written: OpenVINO's own error does not say that the disk is full."""
    path.write_bytes(bytes(size))
    path.unlink()


def describe(model: keras.Model, facts: dict[str, Any]) -> dict[str, Any]:
    """All that a Keras network's conversion needs but its arrays, as plain values ready for JSON.

    With it are some of its answers to fixed stacks, by which a conversion is checked where Keras is not loaded.
    """
    answers = model(_probes(model.input_shape[1:]).astype("float32"), training=False)
    answers = answers if isinstance(answers, Sequence) else (answers,)
    try:
        layers: Topology | None = topology.topology_of(model)
    except Unsupported:
        layers = None
    return {
        "input": list(model.input_shape[1:]),
        "outputs": [list(output.shape[1:]) for output in model.outputs],
        "parameters": int(model.count_params()),
        "maps": topology.maps_layer(layers) if layers else None,
        "facts": facts,
        "topology": layers.to_dict() if layers else None,
        "answers": [_sample(keras.ops.convert_to_numpy(answer)).tolist() for answer in answers],
    }


def known_network(sha256: str, kind: str) -> dict[str, Any]:
    """What `describe` gave of a released file's network, from the file beside it; empty where there is none."""
    for entry in manifest.read().values():
        path = topology_path(entry.name)
        if entry.sha256 == sha256 and path.is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
            return known["network"] if (known["sha256"], known["kind"]) == (sha256, kind) else {}
    return {}


def topology_path(name: str) -> Path:
    """File of a released network's topology, beside its weights."""
    return manifest.FOLDER / f"{name}.topology.json"


def _write_known(known: dict[str, Any], model: keras.Model | None, file: WeightsFile, path: Path, engine: str) -> None:
    """The file of an engine: built from the topology where the engine and all layers allow it, else by Keras."""
    if engine != "openvino" or known["topology"] is None:
        assert model is not None
        known["maps"] = None
        return write(with_input_type(model, "uint8"), path, engine)
    import openvino

    layers = Topology.from_dict(known["topology"])
    if model is None:
        arrays: topology.Arrays = topology.arrays_of(layers, file.path)
    else:
        arrays = {layer.name: layer.get_weights() for layer in model.layers}
    openvino.save_model(topology.build(layers, arrays), str(path), compress_to_fp16=False)


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


def _probes(shape: Sequence[int]) -> np.ndarray:
    """Three stacks ``uint8 [3, S, S, C]`` of noise, by pixels and by areas."""
    random, shape = np.random.default_rng(0), tuple(shape)
    smooth = np.kron(random.integers(0, 256, (16, 16)), np.ones((-(-shape[0] // 16), -(-shape[1] // 16))))
    smooth = np.repeat(smooth[: shape[0], : shape[1], None], shape[2], axis=2)
    return np.stack([random.integers(0, 256, shape), smooth, smooth // 2 + 64]).astype(np.uint8)


def _sample(output: np.ndarray) -> np.ndarray:
    """Some hundred values of an output, all of a small one."""
    return output.reshape(-1)[:: max(1, output.size // 300)]


def _difference(answers: Sequence[Sequence[float]], outputs: Sequence[np.ndarray]) -> float:
    """Largest difference of outputs to the answers of `describe`, relative to values above 1."""
    pairs = [(np.array(a), _sample(output)) for a, output in zip(answers, outputs, strict=False)]  # maps have none
    return float(max(np.abs(a - b).max() / max(1.0, float(np.abs(a).max())) for a, b in pairs))


def _folder(sha256: str, kind: str, engine: str) -> Path:
    made_by = f"{sha256} {kind} {engine} {version(ENGINES[engine].package)} {_LAYOUT}"
    return cache_folder().parent / "engines" / f"{engine}-{hashlib.sha256(made_by.encode()).hexdigest()[:20]}"


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Any:
    """A new folder that appears under its name at the end of the block if `_ABOUT` is in it, or not at all.

    One process at a time makes it; another waits.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"{folder.name}: another process converts the network; waiting for it"
    with locked(folder.with_name(f".{folder.name}.lock"), "", lambda: announce(waiting)):
        partial = folder.with_name(f".partial-{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            yield partial
            if (partial / _ABOUT).exists():
                if folder.is_symlink() or folder.is_file():
                    folder.unlink()
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
