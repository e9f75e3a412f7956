"""`quantize`: a classifier in INT8 for OpenVINO, with what that costs of its AUROC measured on other radiographs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from covidcxnet.classifier import PROBABILITIES, Classifier
from covidcxnet.evaluation import evaluate
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.ranking import paired_auroc
from covidcxnet.export_formats import RESEARCH_ONLY
from covidcxnet.preparation.store import Store
from covidcxnet.pretrained import load_model, resolve
from covidcxnet.reporting.pages import generator
from covidcxnet.reporting.table import Estimate
from enhancement import find_images
from enhancement.errors import InputError
from enhancement.files import check_output, write_all
from enhancement.parallel import sha256
from segmentation import engines
from weights.format import WeightsFile, open_weights

CALIBRATION_IMAGES = 300
"""Radiographs, at most, that say what range the values of each layer have."""


@dataclass(frozen=True)
class Quantized:
    """What `quantize` wrote and measured."""

    path: Path  # of the network, with its .bin and its .json beside it
    calibration_images: int
    images: int  # on which both were evaluated
    patients: int | None
    auroc_f32: Estimate
    auroc_int8: Estimate
    difference: Estimate | None  # of the AUROCs, INT8 minus f32, paired over patients
    largest_difference: float  # of a probability


def quantize(
    weights: str | Path,
    path: str | Path,
    *,
    images: Sequence[str | Path],
    data: str | Path,
    root: str | Path | None = None,
    where: Mapping[str, Any] | None = None,
    bootstrap: int = 1000,
    progress: bool = True,
    overwrite: bool = False,
) -> Quantized:
    """Quantise a classifier to INT8 and measure what changes.

    Parameters
    ----------
    weights : str or Path
        Weights file of this project, run folder or released name.
    path : str or Path
        The network, ``.xml``; ``.bin`` and ``.xml.json``, which describes it, are written beside it. It is kept in the
        cache too, so that ``load_model(weights, precision="int8")`` finds it.
    images : sequence of path-like
        Radiographs, folders or patterns to calibrate with, best training images of several sources; up to
        `CALIBRATION_IMAGES` are taken, evenly spread.
    data, root, where
        Labelled radiographs that are not among `images`, as in `evaluation.evaluate`.
    bootstrap : int
        Resamples of patients for the intervals.
    progress : bool
        Show bars.
    overwrite : bool
        Replace what an earlier call wrote.

    Raises
    ------
    InputError
        If NNCF or OpenVINO is missing, the weights are no classifier of this project, radiographs of `data` are among
        `images`, or none can be read.
    """
    target = Path(path)
    if target.suffix != ".xml":
        raise InputError(f"{target}: an INT8 network is written for OpenVINO, as a file that ends in .xml")
    for written in (target, target.with_suffix(".bin"), target.with_name(f"{target.name}.json")):
        check_output(written, overwrite=overwrite)
    files = find_images(list(images))
    files = [files[k] for k in np.unique(np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).astype(int))]
    classifier = load_model(weights, engine="openvino")
    file = open_weights(resolve(weights))
    with TemporaryDirectory() as folder:
        how: dict[str, Any] = {"explain": False, "bootstrap": bootstrap, "progress": progress, "engine": "openvino"}
        given: dict[str, Any] = {"data": data, "root": root, "where": where, "store": Path(folder) / "stacks.h5"}
        exact = evaluate(weights, **given, out=Path(folder) / "f32", **how)
        with Store(given["store"]) as store:
            _check_apart(files, store)
        stacks = _stacks(classifier, files, progress)
        network = engines.quantize(file, PROBABILITIES, stacks)
        rounded = evaluate(weights, **given, out=Path(folder) / "int8", precision="int8", **how)
    before, after = exact.predictions, rounded.predictions
    patients = before.column("patient")
    draws = Bootstrap(patients, len(before), resamples=bootstrap)
    done = Quantized(
        path=target,
        calibration_images=len(stacks),
        images=len(before),
        patients=None if patients is None else int(patients.nunique()),
        auroc_f32=exact.metrics.overall["auroc"],
        auroc_int8=rounded.metrics.overall["auroc"],
        difference=paired_auroc(before.truth, before.probabilities, after.probabilities, draws, before.task),
        largest_difference=float(np.abs(after.probabilities - before.probabilities).max()),
    )
    _write(done, classifier, file, network)
    return done


def _check_apart(files: Sequence[Path], store: Store) -> None:
    known = {sha256(path): path for path in files}
    for path, content in zip(store.table["path"], store.table["sha256"], strict=True):
        if content in known:
            raise InputError(
                f"{path}: is the same file as {known[content]} of the images to calibrate with; measure on others"
            )


def _stacks(classifier: Classifier, files: Sequence[Path], progress: bool) -> np.ndarray:
    groups = classifier.batches(files, progress=progress)
    outcomes = list(chain.from_iterable(outcomes for _, outcomes in groups))
    stacks = [outcome.prepared.stack for outcome in outcomes if outcome.prepared is not None]
    if not stacks:
        raise InputError(f"images: none of {len(files)} could be read; the first, {files[0]}: {outcomes[0].error}")
    return np.stack(stacks)


def _write(done: Quantized, classifier: Classifier, file: WeightsFile, network: Path) -> None:
    """The network's two files and the description beside them, all or none."""
    shape = [None, classifier.input.size, classifier.input.size, len(classifier.input.channels)]
    facts = {
        "format_version": 1,
        "research_only": RESEARCH_ONLY,
        "program": f"covidcxnet {generator()}",
        "origin": {"name": classifier.name, "file": file.path.name, "sha256": file.sha256},
        "precision": "int8",
        "classes": list(classifier.classes),
        "input_settings": classifier.input.to_dict(),
        "stack": {"shape": shape, "layout": "NHWC", "type": "uint8", "range": [0, 255]},
        "check": {
            "calibration_images": done.calibration_images,
            "images": done.images,
            "patients": done.patients,
            "auroc_f32": done.auroc_f32.to_dict(),
            "auroc_int8": done.auroc_int8.to_dict(),
            "auroc_difference": None if done.difference is None else done.difference.to_dict(),
            "largest_difference": done.largest_difference,
        },
    }
    binary = network.with_suffix(".bin")
    files = {done.path.name: network.read_bytes(), done.path.with_suffix(".bin").name: binary.read_bytes()}
    files[f"{done.path.name}.json"] = (json.dumps(facts, indent=2) + "\n").encode()
    write_all(done.path.parent, files)
