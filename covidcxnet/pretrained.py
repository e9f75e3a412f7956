"""Weights by name or path: `load_model` builds the classifier that a weights file describes, and loads it whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancement.errors import InputError

if TYPE_CHECKING:
    import keras

    from covidcxnet.classifier import Classifier

# Files of other people's public repositories, known by their git blob ids. The second is the first saved anew by
# COVID-CXNet, with the final ReLU that its fine-tuned models need; the arrays fit today's DenseNet121 alike.
CHEXNET = {
    "CheXNet_v0.3.0.h5": "4b43966d072ba751da5ba3921dd728ab4964a7bb",
    "CheXNet_model.hdf5": "cfc9e40d46ebc3ac1a56e2d5ab006d3a7798892d",
}
CHEXNET_SOURCE = "https://github.com/armiro/COVID-CXNet (folder checkpoints/CheXNet)"


def load_model(name_or_path: str | os.PathLike[str]) -> Classifier:
    """A trained classifier, ready for radiographs.

    Parameters
    ----------
    name_or_path : str or path-like
        A ``.weights.h5`` file of this project, a run folder (its best weights), or the name of released weights.

    Returns
    -------
    Classifier
        With `predict` and `explain`; labels and input settings come from the file.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, or it is not a classifier's. Nothing in a file is executed.

    Examples
    --------
    >>> load_model("runs/phantom-small-cnn").predict("chest.png")[0].label   # doctest: +SKIP
    'normal'
    """
    from covidcxnet.classifier import Classifier

    path = resolve(name_or_path)
    metadata = classifier_metadata(path)
    return Classifier(build(metadata, path), metadata, path=path)


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The weights file that a path, a run folder or a released name means.

    Raises
    ------
    InputError
        If there is none; the message says where it was looked for.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.is_dir():
        from covidcxnet.training.run import Run

        return Run(path).best_weights
    import weights

    text = str(name_or_path)
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"{path}: no such weights file")
    try:
        return weights.released(text)
    except LookupError as error:
        reason = str(error.args[0]) if error.args else ""
        raise InputError(f"{text}: neither a weights file nor released weights. {reason}".strip()) from error


def classifier_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Metadata of a classifier's weights file; `InputError` if it is another kind of file."""
    from segmentation.weight_files import read_metadata

    metadata = read_metadata(Path(path))
    kind = metadata.get("kind")
    if kind != "classifier":
        raise InputError(f"{path}: weights of a {kind}, those of a classifier expected")
    return metadata


def build(metadata: dict[str, Any], path: str | os.PathLike[str]) -> keras.Model:
    """The model that metadata describe, with the weights of the file; `InputError` if they do not fit."""
    from covidcxnet.models import create
    from segmentation.backend import quiet_backend
    from segmentation.weight_files import load_weights

    quiet_backend()
    try:
        architecture = metadata["architecture"]
        model = create(architecture["name"], classes=metadata["classes"], **architecture["options"])
    except (KeyError, TypeError, ValueError) as error:
        reason = error if isinstance(error, InputError) else f"its metadata do not describe a model ({error!r})"
        raise InputError(f"{path}: {reason}") from error
    load_weights(model, Path(path))
    return model


def home() -> Path:
    """Folder for weights that are not ours: ``COVIDCXNET_HOME``, or the user's cache folder."""
    if os.environ.get("COVIDCXNET_HOME"):
        return Path(os.environ["COVIDCXNET_HOME"]) / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("covidcxnet") / "weights"


def chexnet() -> Path:
    """The CheXNet file, put there by hand and verified.

    Raises
    ------
    InputError
        If there is none, or its content is not the published one.
    """
    folder = home()
    for name, blob in CHEXNET.items():
        path = folder / name
        if path.is_file():
            found = git_blob_id(path)
            if found != blob:
                raise InputError(f"{path}: its git blob id is {found}, {blob} expected; damaged or another file")
            return path
    first = next(iter(CHEXNET))
    raise InputError(f"init: no CheXNet weights on this machine; fetch {first} from {CHEXNET_SOURCE} and put it at "
                     f"{folder / first}")  # fmt: skip


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """Id under which git stores a file's content: SHA-1 of ``blob <size>\\0`` and the content."""
    import hashlib

    digest = hashlib.sha1(f"blob {os.path.getsize(path)}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
