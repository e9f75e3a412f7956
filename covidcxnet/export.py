"""`export`: a trained network for other runtimes, described beside it, and kept only if it computes the same."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidcxnet import __version__, export_check, export_formats
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from segmentation.segmenter import LungSegmenter

TOLERANCE = 1e-4
INPUT_TYPES = ("float32", "uint8")
RESEARCH_ONLY = "Research only. Not a medical device; nothing that it computes is a diagnosis."


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Parameters
    ----------
    path, description : Path
        The network (a folder for a SavedModel), and the JSON file beside it.
    comparison : Comparison
        Largest difference between its outputs (probabilities) and those of the Keras model, and on what.
    source : str
        What the stacks compared were made of.
    """

    path: Path
    description: Path
    comparison: export_check.Comparison
    source: str


def export(
    weights: str | os.PathLike[str],
    path: str | os.PathLike[str],
    format: str,
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    tolerance: float = TOLERANCE,
    input_type: str = "float32",
    overwrite: bool = False,
) -> Exported:
    """Write a classifier or lung segmenter for another runtime.

    The network takes stacks ``[N, S, S, C]`` in 0..255, any N; scaling is inside it. Everything before the stack
    (crop, enhancement, order of the planes) stands in the JSON file beside it, whose name is that of the file plus
    ``.json``. Both appear whole or not at all, and only after the format's own runtime gave what Keras gives.

    Parameters
    ----------
    weights : str or path-like
        A weights file, a run folder or a released name; of a classifier or of a lung segmenter.
    path : path-like
        File to write, ending as the format asks: ``.onnx``, ``.xml`` (with ``.bin`` beside it), ``.tflite``; a folder
        for a SavedModel.
    format : {"onnx", "openvino", "tflite", "savedmodel"}
    images : sequence of path-like
        Radiographs or folders of them to compare on; by default phantoms and noise.
    tolerance : float
        Largest absolute difference of a probability that is accepted.
    input_type : {"float32", "uint8"}
        Number type of the input; the values are 0..255 in both.
    overwrite : bool
        Replace what stands at `path`.

    Returns
    -------
    Exported

    Raises
    ------
    InputError
        If a package is missing, the weights or images cannot be used, `path` exists, or the exported network differs
        by more than `tolerance`; nothing is left at `path` then.

    Examples
    --------
    >>> export("covid-cxnet", "covid-cxnet.onnx", "onnx").comparison.difference < 1e-5   # doctest: +SKIP
    True
    """
    target = Path(path)
    _check(target, format, tolerance, input_type, overwrite)
    from enhancement.files import find_images
    from segmentation.backend import quiet_backend

    files = find_images(list(images)) if images else []
    quiet_backend()
    export_formats.check_packages(format)
    subject = _load(weights)
    facts = _facts(subject, weights, input_type)
    source = "the images given" if files else "phantoms and noise"
    with _folder_beside(target) as folder:
        made = folder / target.name
        chosen = export_formats.FORMATS[format]
        try:
            chosen.write(export_formats.typed(subject.model, input_type), made)
            run = chosen.runner(made)
            found = export_check.compare(subject, run, files, input_type)
        except (InputError, KeyboardInterrupt):
            raise
        except Exception as error:  # converters and runtimes raise whatever they like
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{weights}: cannot be written as {format}: {type(error).__name__}: {reason}; --debug shows where"
            ) from error
        if not found.difference <= tolerance:
            raise InputError(
                f"{target}: differs from the Keras model by up to {found.difference:.2g} on {found.stacks} stacks of "
                f"{source}, "
                f"at most {tolerance:g} expected; it was not kept"
            )
        facts |= {
            "file": target.name,
            "format": format,
            "note": chosen.note,
            "versions": {name: import_module(name).__version__ for name in ("keras", "tensorflow", chosen.runtime)},
            "check": {
                "largest_difference": found.difference,
                "tolerance": tolerance,
                "stacks": found.stacks,
                "source": source,
                "outputs_from_to": [found.lowest, found.highest],
            },
        }
        description = _description(target)
        (folder / description.name).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        _move(folder, target, chosen.suffix)
    return Exported(target, description, found, source)


def default_path(weights: str | os.PathLike[str], format: str) -> Path:
    """Name in the working directory for an export: ``covid-cxnet.onnx``, ``covid-cxnet-savedmodel``."""
    name = Path(weights).absolute().name
    for ending in (".weights.h5", ".h5", ".hdf5"):
        name = name.removesuffix(ending)
    return Path(name + (export_formats.FORMATS[format].suffix or "-savedmodel"))


def _check(target: Path, format: str, tolerance: float, input_type: str, overwrite: bool) -> None:
    formats = export_formats.FORMATS
    if format not in formats:
        raise InputError(f"format: {format!r} given, one of {', '.join(formats)} expected")
    if input_type not in INPUT_TYPES:
        raise InputError(f"input_type: {input_type!r} given, one of {', '.join(INPUT_TYPES)} expected")
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance: {tolerance} given, 0 to below 1 expected")
    suffix = formats[format].suffix
    if suffix and target.suffix != suffix:
        raise InputError(f"{target}: a file of format {format} ends in {suffix}")
    if not suffix and target.suffix in {one.suffix for one in formats.values()} - {""}:
        raise InputError(f"{target}: ends as another format's file; a SavedModel is a folder")
    for path in _written(target, suffix):
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists; give another path, or say overwrite")
        # Only what an earlier export wrote is taken away: a folder of anything else may be somebody's work.
        folder = path == target and not suffix
        if path.exists() and (path.is_dir() != folder or (folder and not (path / "saved_model.pb").is_file())):
            raise InputError(f"{path}: exists and is no earlier export; give another path")


def _description(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _written(target: Path, suffix: str) -> list[Path]:
    """Files that an export makes; the one that is opened by users comes last."""
    return [*([target.with_suffix(".bin")] if suffix == ".xml" else []), _description(target), target]


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A hidden folder on the target's own disk, so that moving out of it is a rename; gone afterwards."""
    folder = target.parent / f".{os.getpid()}-{secrets.token_hex(4)}.partial"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror} ({error.filename})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, target: Path, suffix: str) -> None:
    for path in _written(target, suffix):
        if path.is_dir():
            os.replace(path, folder / "replaced")
        os.replace(folder / path.name, path)


def _load(weights: str | os.PathLike[str]) -> Classifier | LungSegmenter:
    from covidcxnet import pretrained
    from segmentation.segmenter import LungSegmenter
    from weights.format import read_metadata
    from weights.legacy_h5 import is_legacy

    path = pretrained.resolve(weights)
    if is_legacy(path):
        from covidcxnet.legacy import load_legacy

        entry = _entry(weights, "")
        return load_legacy(path, entry.name if entry else None)
    if read_metadata(path).get("kind") == "segmenter":
        return LungSegmenter(path)
    return pretrained.load_model(weights)


def _entry(weights: str | os.PathLike[str], sha256: str) -> Any:
    """The manifest's entry of a name, or of a file's content."""
    from weights import manifest

    entries = manifest.read()
    same = [entry for entry in entries.values() if sha256 and entry.sha256 == sha256]
    return entries.get(os.fspath(weights)) or next(iter(same), None)


def _facts(subject: Classifier | LungSegmenter, weights: str | os.PathLike[str], input_type: str) -> dict[str, Any]:
    """The description: what the weights file says, and what goes in and comes out."""
    from enhancement import parallel

    if subject.path is None:
        raise InputError(f"{weights}: no file")
    sha256 = parallel.sha256(subject.path)
    entry = _entry(weights, sha256)
    model, metadata = subject.model, subject.metadata
    kept: dict[str, Any] = {
        key: metadata[key] for key in ("classes", "conventions", "architecture", "training") if key in metadata
    }
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")
    return {
        "format_version": 1,
        "research_only": RESEARCH_ONLY,
        "program": f"covidcxnet {__version__}",
        "kind": metadata.get("kind"),
        "origin": {"name": subject.name, "file": subject.path.name, "sha256": sha256},
        "licence": entry.licence if entry else metadata.get("licence", "not known; it follows from the training data"),
        **kept,
        "input_settings": subject.input.to_dict(),
        "segmenter": metadata.get("segmenter") or {},
        "stack": {
            "shape": list(model.input_shape),
            "layout": "NHWC",
            "type": input_type,
            "range": [0, 255],
            "planes": list(getattr(subject.input, "channels", ("radiograph",))),
        },
        "output": {
            "shape": list(model.output_shape),
            "activation": activation,
            "meaning": _meaning(metadata, model.output_shape[-1], activation),
        },
    }


def _meaning(metadata: dict[str, Any], outputs: int, activation: str) -> str:
    if metadata.get("kind") == "segmenter":
        return "probability of lung at each pixel, one map for each of the conventions"
    classes = [str(label) for label in metadata["classes"]]
    if outputs == 1:
        return f"probability of {classes[1]}; that of {classes[0]} is one minus it"
    if activation == "sigmoid":
        return "probability of each of the classes, independent findings that do not add up to 1"
    return "probability of each of the classes; they add up to 1"
