"""Networks in files of PyTorch and safetensors: recognised by their tensors, and loaded exactly or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.classifier import Classifier
from covidcxnet.legacy import CHEXNET_LABELS
from covidcxnet.models import create
from covidcxnet.models.torch_names import Family, fill, is_head, recognise, structure, without_wrappers
from enhancement.errors import InputError
from segmentation.backend import keras, quiet_backend
from weights import manifest
from weights.bounded import bounded_by
from weights.format import naming
from weights.torch_file import read_tensors

# Order of torchxrayvision's outputs, `datasets.default_pathologies`; networks of one data set leave some untrained.
XRAYVISION_LABELS = (
    *("Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion"),
    *("Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Lung Lesion", "Fracture"),
    *("Lung Opacity", "Enlarged Cardiomediastinum"),
)
# Its stacks are -1024..1024, written the way of `scaling.scale`: exact, as all of it are powers of two.
XRAYVISION_SCALING = {"mean": [0.5], "std": [0.5 / 1024]}
IMAGENET_LABELS = tuple(f"imagenet {number}" for number in range(1000))


@dataclass(frozen=True)
class Published:
    """What shapes do not say of the public networks: labels, scaling, size, and whether classes exclude each other."""

    labels: tuple[str, ...]
    normalization: str | dict[str, list[float]]
    size: int
    multilabel: bool


# By model, planes and outputs.
PUBLISHED = {
    ("covid-cxnet", 3, 14): Published(CHEXNET_LABELS, "imagenet", 224, True),
    ("covid-cxnet", 1, 18): Published(XRAYVISION_LABELS, XRAYVISION_SCALING, 224, True),
    ("resnet50-torchvision", 1, 18): Published(XRAYVISION_LABELS, XRAYVISION_SCALING, 512, True),
}


@dataclass(frozen=True)
class TorchFile:
    """The tensors of a file and the network that they are of."""

    path: Path
    tensors: dict[str, np.ndarray]
    family: Family
    outputs: int
    options: dict[str, Any]
    published: Published | None


def read(path: str | os.PathLike[str]) -> TorchFile:
    """A file and what its tensors say; no network is built. `InputError` if it is damaged or not known here."""
    tensors = read_tensors(path)  # its errors name the file
    with naming(Path(path)):
        tensors = without_wrappers(tensors)
        family = recognise(tensors)
        outputs, options = structure(family, tensors)
    published = PUBLISHED.get((family.model, options["channels"], outputs))
    if published is None and outputs == len(IMAGENET_LABELS) and options["channels"] == 3:
        published = Published(IMAGENET_LABELS, family.normalization, family.size, False)
    return TorchFile(Path(path), tensors, family, outputs, options, published)


def architecture(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Model and options of a file, as in the metadata of ours; without ``normalization`` where it is not known."""
    file = read(path)
    known = {"normalization": file.published.normalization} if file.published else {}
    return {"name": file.family.model, "options": file.options | known}


def network(path: str | os.PathLike[str]) -> tuple[keras.Model, tuple[str, ...]]:
    """The whole network of a file, its own head included, and its labels (none where they are not known)."""
    file = read(path)
    options = file.options | {"size": file.family.size, "normalization": "none"}
    # Whatever the outputs mean, here they are a layer of that many units.
    labels = [str(number) for number in range(max(2, file.outputs))]
    with naming(Path(path)):
        model = _build(file, options | ({"multilabel": True} if file.outputs == 2 else {}), labels)
    return model, file.published.labels if file.published else ()


def load_torch(
    path: str | os.PathLike[str], classes: Sequence[str] | None = None, *, multilabel: bool = False
) -> Classifier:
    """Load a network of a PyTorch or safetensors file as a classifier.

    Parameters
    ----------
    path : str or path-like
        A state dictionary, a checkpoint with one, or a pickled module; see `weights.torch_file.read_tensors`.
    classes : sequence of str, optional
        Labels in order; needed where the file is not of a network with known labels.
    multilabel : bool
        With `classes`: they are findings that do not exclude each other, each with a sigmoid.

    Returns
    -------
    Classifier
        Its `metadata` are ready for `weights.save_weights`. Radiographs are stretched to the published size; the public
        networks were trained on crops from the centre.

    Raises
    ------
    InputError
        If the file is damaged, is of a network that is not known here or differs from it, or labels are missing.
    """
    file = read(path)
    entry = next((e for e in manifest.read().values() if e.layout == "torch" and e.file == file.path.name), None)
    with naming(Path(path)):
        published = file.published
        if classes is not None:
            scaling, size = (published.normalization, published.size) if published else (None, file.family.size)
            published = Published(tuple(classes), scaling or file.family.normalization, size, multilabel)
        if published is None:
            raise InputError(
                f"a {file.family.model} of {file.outputs} outputs whose labels are not known; give classes"
            )
        options = file.options | {"size": published.size, "normalization": published.normalization}
        if published.multilabel:
            options["multilabel"] = True
        model = _build(file, options, published.labels)
        channels = ["raw"] * file.options["channels"]
        metadata = {
            "format": 1,
            "kind": "classifier",
            "architecture": {"name": file.family.model, "options": options},
            "classes": list(published.labels),
            "input": {"size": published.size, "channels": channels, "stretch": True},
            "origin": {"file": file.path.name},
        }
        # Published operating points: its authors do not call a finding at 0.5.
        if entry and entry.thresholds:
            metadata["thresholds"] = dict(entry.thresholds)
        return Classifier(model, metadata, path=file.path)


def _build(file: TorchFile, options: dict[str, Any], labels: Sequence[str]) -> keras.Model:
    """The network with all weights of the file; no more memory is taken for it than the file's tensors can fill."""
    quiet_backend()
    with bounded_by(file.path, [tensor.size for tensor in file.tensors.values()]):
        model = create(file.family.model, classes=labels, **options)
    outputs, tensors = model.output_shape[-1], file.tensors
    if (file.outputs, outputs) == (2, 1):
        # The softmax of two scores is the sigmoid of their difference, exactly.
        last = {name: tensor for name, tensor in tensors.items() if is_head(file.family, name)}
        tensors = tensors | {name: tensor[1:] - tensor[:1] for name, tensor in last.items()}
    elif file.outputs != outputs:
        raise InputError(f"{len(labels)} classes given for {file.outputs} outputs")
    fill(model, file.family, tensors)
    return model
