"""What a classifier is made of: model, metadata and segmenter, checked against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.settings import InputSettings
    from segmentation.segmenter import LungSegmenter


def check_fit(name: str, model: Any, classes: tuple[str, ...], settings: InputSettings, multilabel: bool) -> None:
    """`InputError` that begins with `name` if model, classes and input settings do not fit each other."""
    outputs = model.output_shape[-1]
    count = len(set(classes))
    fitting = (1, 2) if count == 2 and not multilabel else (count,)
    if count < 2 or count != len(classes) or outputs not in fitting:
        raise InputError(f"{name}: classes {list(classes)} do not fit a model of {outputs} outputs")
    wanted = (settings.size, settings.size, len(settings.channels))
    taken = tuple(model.input_shape[1:])
    if len(taken) != 3 or any(t not in (None, w) for t, w in zip(taken, wanted, strict=True)):
        raise InputError(f"{name}: input settings give stacks of {wanted}, but the model takes {taken}")


def check_stacks(name: str, stacks: Any, settings: InputSettings) -> None:
    """`InputError` that begins with `name` unless stacks are ``uint8 [n, S, S, C]`` as the settings make them."""
    shape = (settings.size, settings.size, len(settings.channels))
    given = tuple(getattr(stacks, "shape", ()))
    if len(given) != 4 or given[1:] != shape or stacks.dtype != np.uint8:
        kind = f"{getattr(stacks, 'dtype', type(stacks).__name__)} {given}"
        expected = f"uint8 [n, {shape[0]}, {shape[1]}, {shape[2]}]"
        raise InputError(f"{name}: stacks of {kind} given, {expected} expected")


def independent(metadata: dict[str, Any], outputs: int) -> bool:
    """Whether the outputs are findings that do not exclude each other, as in CheXNet."""
    options = (metadata.get("architecture") or {}).get("options") or {}
    return outputs > 1 and bool(options.get("multilabel") or options.get("activation") == "sigmoid")


def thresholds_of(name: str, metadata: dict[str, Any], classes: tuple[str, ...]) -> np.ndarray:
    """Probability from which each class is called, float64 [C]; of findings those that the training chose."""
    chosen = metadata.get("thresholds") or {}
    values = [chosen.get(label, 0.5) for label in classes] if isinstance(chosen, dict) else [None]
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not 0 <= v <= 1 for v in values):
        raise InputError(f"{name}: thresholds {chosen!r} in its metadata, numbers in 0..1 expected; damaged")
    return np.array(values, float)


def trained_segmenter(name: str, metadata: dict[str, Any], settings: InputSettings) -> LungSegmenter | None:
    """The lung segmenter that a model was trained with.

    Parameters
    ----------
    name : str
        The model's, for messages.
    metadata : dict
        Of the weights file; the SHA-256 of its ``segmenter``, where it has one, must be that of the one found.
    settings : InputSettings
        Name the segmenter, and say whether the model needs it.

    Returns
    -------
    LungSegmenter or None
        None where the model sees whole radiographs and no segmenter is at hand.

    Raises
    ------
    InputError
        If the region of interest needs a segmenter that is missing or is not the one of the training.
    """
    from segmentation.segmenter import LungSegmenter

    recorded = metadata.get("segmenter") or {}
    if not isinstance(recorded, dict) or not isinstance(recorded.get("sha256", ""), str):
        raise InputError(f"{name}: segmenter {recorded!r:.200} in its metadata, a name and a SHA-256 expected; damaged")
    try:
        found = LungSegmenter(settings.segmenter)
    except InputError as error:
        if settings.region == "none":
            return None
        raise InputError(
            f"{name}: its input is the lungs' {settings.region} and needs the segmenter {settings.segmenter!r}: {error}"
        ) from error
    trained = recorded.get("sha256")
    if settings.region != "none" and trained and found.sha256 != trained:
        raise InputError(
            f"{name}: was trained with a segmenter {settings.segmenter!r} of SHA-256 {trained[:12]}, this one has "
            f"{str(found.sha256)[:12]}; give the right file as segmenter, or this one if that is what you want"
        )
    return found
