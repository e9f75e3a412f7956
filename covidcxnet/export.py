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
from typing import Any

import numpy as np

from covidcxnet import pretrained
from covidcxnet.classifier import Classifier
from covidcxnet.datasets.phantom import PHANTOM_CLASSES, phantom
from covidcxnet.export_formats import (
    FORMATS,
    INPUT_TYPES,
    RESEARCH_ONLY,
    TOLERANCE,
    Runner,
    check_packages,
)
from covidcxnet.legacy import load_legacy
from covidcxnet.preparation.pipeline import prepare_image
from covidcxnet.reporting.pages import generator
from enhancement import find_images, read_radiograph
from enhancement.errors import InputError
from enhancement.parallel import sha256
from segmentation.backend import ops, quiet_backend
from segmentation.engines import with_input_type
from segmentation.segmenter import LungSegmenter
from weights import manifest, open_weights

_BATCH = 8


@dataclass(frozen=True)
class Comparison:
    """How an exported network and the Keras model compare on the same stacks."""

    stacks: int
    difference: float  # largest absolute one of an output; NaN if an output is
    lowest: float  # outputs of the Keras model: a comparison of constants says little
    highest: float
    unreadable: tuple[str, ...] = ()  # files, with the reason


@dataclass(frozen=True)
class Exported:
    """What `export` wrote."""

    path: Path  # the network; a folder for a SavedModel
    description: Path  # the JSON file beside it
    comparison: Comparison
    source: str  # what the compared stacks were made of


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

    `weights` is a weights file, a run folder or a released name; `path` ends as the format asks, with ``.onnx``,
    ``.xml`` (``.bin`` is written beside it) or ``.tflite``, and is a folder for a SavedModel. The comparison runs on
    `images`, by default on phantoms and noise. `InputError` if a package is missing, weights or images cannot be used,
    `path` exists, or a probability differs by more than `tolerance`; nothing is left at `path` then.
    """
    target = Path(path)
    _check(target, format, tolerance, input_type, overwrite)
    files = find_images(list(images)) if images else []
    quiet_backend()
    check_packages(format)
    network = _load(weights)
    facts = _facts(network, weights, input_type)
    source = "the images given" if files else "phantoms and noise"
    chosen, description = FORMATS[format], _description(target)
    with _folder_beside(target) as folder:
        try:
            chosen.write(with_input_type(network.model, input_type), folder / target.name)
            comparison = compare(network, chosen.runner(folder / target.name), files, input_type)
        except (InputError, KeyboardInterrupt):
            raise
        except Exception as error:  # converters and runtimes may raise anything
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{weights}: cannot be written as {format}: {type(error).__name__}: {reason}; --debug shows where"
            ) from error
        # Not "greater than": NaN must fail too.
        if not comparison.difference <= tolerance:
            raise InputError(
                f"{target}: differs from the Keras model by up to {comparison.difference:.2g} on {comparison.stacks} "
                f"stacks of {source}, at most {tolerance:g} expected; it was not kept"
            )
        facts |= {
            "file": target.name,
            "format": format,
            "note": chosen.note,
            "versions": {name: import_module(name).__version__ for name in ("keras", "tensorflow", chosen.runtime)},
            "check": {
                "largest_difference": comparison.difference,
                "tolerance": tolerance,
                "stacks": comparison.stacks,
                "source": source,
                "outputs_from_to": [comparison.lowest, comparison.highest],
            },
        }
        (folder / description.name).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        for written in _written(target, chosen.suffix):
            if written.is_dir():
                os.replace(written, folder / "replaced")
            os.replace(folder / written.name, written)
    return Exported(target, description, comparison, source)


def compare(network: Classifier | LungSegmenter, run: Runner, files: Sequence[Path], input_type: str) -> Comparison:
    """Run the exported network and the Keras model on the same stacks: of the files, or of phantoms and noise."""
    compared, difference, lowest, highest = 0, 0.0, np.inf, -np.inf
    unreadable: list[str] = []
    for stacks in _stacks(network, files, unreadable):
        # One alone first: the batch dimension must be open.
        for part in (stacks[:1], stacks[1:]) if not compared else (stacks,):
            if not len(part):
                continue
            expected = ops.convert_to_numpy(network.model(part.astype("float32"), training=False))
            outputs = run(part.astype(input_type))
            if outputs.shape != expected.shape:
                raise InputError(f"the exported network gives {outputs.shape}, {expected.shape} expected")
            # np.maximum and not max: it passes NaN on.
            difference = float(np.maximum(difference, np.abs(outputs - expected).max()))
            lowest, highest = min(lowest, float(expected.min())), max(highest, float(expected.max()))
            compared += len(part)
    if not compared:
        raise InputError(f"images: none of them could be read: {'; '.join(unreadable[:3])}")
    return Comparison(compared, difference, lowest, highest, tuple(unreadable))


def _stacks(network: Classifier | LungSegmenter, files: Sequence[Path], unreadable: list[str]) -> Iterator[np.ndarray]:
    """Stacks ``uint8 [n, S, S, C]`` of the images, or of phantoms with their own lungs and of noise."""
    if not files:
        phantoms = [phantom(label, seed) for seed, label in enumerate(PHANTOM_CLASSES)]
        if isinstance(network, Classifier):
            stacks = [prepare_image(p.image, p.lungs, None, network.input).stack for p in phantoms]
        else:
            stacks = [network.input.prepare(p.image)[0][..., None] for p in phantoms]
        yield np.stack([*stacks, np.random.default_rng(0).integers(0, 256, stacks[0].shape).astype("uint8")])
    elif isinstance(network, Classifier):
        for items, outcomes in network.batches(files, _BATCH):
            unreadable += [f"{item}: {o.error}" for item, o in zip(items, outcomes, strict=True) if o.prepared is None]
            stacks = [outcome.prepared.stack for outcome in outcomes if outcome.prepared is not None]
            if stacks:
                yield np.stack(stacks)
    else:
        for file in files:
            try:
                yield network.input.prepare(read_radiograph(file))[0][None, ..., None]
            except InputError as error:
                unreadable.append(str(error))


def _check(target: Path, format: str, tolerance: float, input_type: str, overwrite: bool) -> None:
    if format not in FORMATS:
        raise InputError(f"format: {format!r} given, one of {', '.join(FORMATS)} expected")
    if input_type not in INPUT_TYPES:
        raise InputError(f"input_type: {input_type!r} given, one of {', '.join(INPUT_TYPES)} expected")
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance: {tolerance} given, 0 to below 1 expected")
    suffix = FORMATS[format].suffix
    if suffix and target.suffix != suffix:
        raise InputError(f"{target}: a file of format {format} ends in {suffix}")
    if not suffix and target.suffix in {other.suffix for other in FORMATS.values()} - {""}:
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


def _load(weights: str | os.PathLike[str]) -> Classifier | LungSegmenter:
    file = open_weights(pretrained.resolve(weights))
    if file.layout == "keras-2":
        entry = _entry(weights, "")
        return load_legacy(file, entry.name if entry else None)
    return LungSegmenter(file.path) if file.metadata.get("kind") == "segmenter" else pretrained.load_model(weights)


def _entry(weights: str | os.PathLike[str], content: str) -> manifest.Entry | None:
    """The manifest's entry of a name, or of a file's content."""
    entries = manifest.read()
    same = [entry for entry in entries.values() if content and entry.sha256 == content]
    return entries.get(os.fspath(weights)) or next(iter(same), None)


def _facts(network: Classifier | LungSegmenter, weights: str | os.PathLike[str], input_type: str) -> dict[str, Any]:
    """The description: what the weights file says, and what goes in and comes out."""
    if network.path is None:
        raise InputError(f"{weights}: no file")
    content = sha256(network.path)
    entry = _entry(weights, content)
    model, metadata, outputs = network.model, network.metadata, network.model.output_shape[-1]
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")
    classes = [str(label) for label in metadata.get("classes", ())]
    if metadata.get("kind") == "segmenter":
        meaning = "probability of lung at each pixel, one map for each of the conventions"
    elif outputs == 1:
        meaning = f"probability of {classes[1]}; that of {classes[0]} is one minus it"
    elif activation == "sigmoid":
        meaning = "probability of each of the classes, independent findings that do not add up to 1"
    else:
        meaning = "probability of each of the classes; they add up to 1"
    return {
        "format_version": 1,
        "research_only": RESEARCH_ONLY,
        "program": f"covidcxnet {generator()}",
        "kind": metadata.get("kind"),
        "origin": {"name": network.name, "file": network.path.name, "sha256": content},
        "licence": entry.licence if entry else metadata.get("licence", "not known; it follows from the training data"),
        **{key: metadata[key] for key in ("classes", "conventions", "architecture", "training") if key in metadata},
        "input_settings": network.input.to_dict(),
        "segmenter": metadata.get("segmenter") or {},
        "stack": {
            "shape": list(model.input_shape),
            "layout": "NHWC",
            "type": input_type,
            "range": [0, 255],
            "planes": list(getattr(network.input, "channels", ("radiograph",))),
        },
        "output": {"shape": list(model.output_shape), "activation": activation, "meaning": meaning},
    }
