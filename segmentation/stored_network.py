"""From a weights file to its network: where the file is, what its metadata describe, and the network itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from enhancement.errors import InputError
from weights.bounded import bounded_by
from weights.format import check_widths, load_weights, naming
from weights.legacy_h5 import is_legacy, read_legacy, set_by_position

from .inputs import SegmenterInput

RELEASED = "lung-unet"


def read_architecture(path: Path, metadata: dict[str, Any]) -> tuple[tuple[str, ...], SegmenterInput, dict[str, Any]]:
    """The mask conventions, input settings and network options that metadata tell.

    Raises
    ------
    InputError
        If they are not a segmenter's, or not of this version.
    """
    if metadata.get("kind") != "segmenter":
        raise InputError(f"{path}: holds weights of kind {metadata.get('kind')!r}, a segmenter's expected")
    try:
        name, options = metadata["architecture"]["name"], dict(metadata["architecture"]["options"])
        conventions = tuple(metadata["conventions"])
        with naming(path):
            settings = SegmenterInput.from_dict(metadata["input"])
    except KeyError as error:
        raise InputError(f"{path}: metadata without {error}; the file is damaged") from None
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: metadata with a value of a wrong type ({error}); the file is damaged") from None
    if not all(isinstance(one, str) for one in conventions) or len(set(conventions)) < len(conventions):
        raise InputError(f"{path}: masks {conventions!r:.200} in its metadata, different names expected; damaged")
    if name not in ("unet", "imlab-unet") or not conventions or options.get("outputs", 1) != len(conventions):
        raise InputError(f"{path}: architecture {name!r} with masks {conventions} is not known to this version")
    if not set(options) <= {"width", "batch_norm", "channels", "outputs", "scaling"}:
        raise InputError(f"{path}: unknown options in {sorted(options)}; a newer version wrote the file")
    if options.get("channels", 1) != 1:
        raise InputError(f"{path}: a U-Net for {options['channels']!r:.80} channels; a radiograph has one, gray")
    return conventions, settings, options


def load_network(path: Path, metadata: dict[str, Any], options: dict[str, Any], size: int):
    """Build the network that metadata describe and load its weights.

    Parameters
    ----------
    path : Path
        The weights file, of this package or an old one.
    metadata : dict
    options : dict
        Of the network, from `read_architecture`.
    size : int
        Side of the network's square.

    Returns
    -------
    keras.Model

    Raises
    ------
    InputError
        If metadata and file do not describe the same U-Net.
    """
    from .imlab_unet import imlab_unet
    from .unet import unet

    legacy = is_legacy(path)
    if not legacy:
        check_widths(path, {**options, "size": size})
    build: Callable[..., Any] = imlab_unet if metadata["architecture"]["name"] == "imlab-unet" else unet
    try:
        with naming(path), bounded_by(path):
            model = build(**options, size=size)
    except InputError:
        raise
    except Exception as error:  # options of a stranger: Keras and TensorFlow raise whatever they like
        raise InputError(f"{path}: its metadata do not describe a U-Net ({error!r:.300})") from error
    if legacy:
        set_by_position(model, read_legacy(path), path)
    else:
        load_weights(model, path)
    return model
