"""From file to stack: the one way that training and prediction share.

Read, find the lungs, cut the region, resize, match grey levels, enhance, place in the square; resized after enhancement
with ``enhance_at: radiograph``. Everything is `uint8`; floats would wrap or blur what the enhancements see.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from covidcxnet.settings import InputSettings
from enhancement import match_histogram, read_radiograph, stack
from enhancement.errors import InputError, RadiographError
from enhancement.parallel import DIED, cores, in_background, map_files, map_groups
from enhancement.progress import ProgressBar
from enhancement.radiograph import as_gray
from segmentation.pairs import read_mask
from segmentation.regions import Frame, box_of, bring_down, dilate, frame_for, keep_inside

_LUNGS = "lungs"  # first word of a note on the lung mask
VERSION = 1  # of what the pixels of a stack are: raise it when any step changes, and every store is made anew

BATCH = 16  # radiographs in a task of a worker process, and about so many results wait to be taken
_GROUP = 4  # radiographs that a thread takes at once, for one call of the segmenter
MARK = " (!)"  # stands behind a label that has notes

Item = str | os.PathLike | np.ndarray


class Segmenter(Protocol):
    """What preparation needs of a lung segmenter; `segmentation.LungSegmenter` is one."""

    name: str
    sha256: str

    def predict(self, images: Sequence[np.ndarray], /) -> Sequence[Any]:
        """One result an image, with ``mask`` (bool [H, W]), ``box``, ``verdict`` and ``error``.

        Several threads call it at once.
        """
        ...


@dataclass(frozen=True)
class Prepared:
    """One radiograph as a model sees it.

    `stack` is uint8 [S, S, C], the planes named by ``settings.channels``; `lungs` the mask bool [S, S] in its frame,
    None where lungs were not looked for; `frame` tells where the stack lies on the radiograph, in its own pixels.
    """

    stack: np.ndarray
    lungs: np.ndarray | None
    frame: Frame


@dataclass(frozen=True)
class Outcome:
    """What became of item `index` of `prepare_files`.

    `prepared` is None where it could not be read, and `error` says why. `trusted` is whether the lungs were used: False
    where the whole image was taken instead, for these `reasons`; None where lungs were not looked for. `verdict` is the
    segmenter's of its mask, and `notes` say why this does not look like an upright frontal chest radiograph, and why
    its lungs are not trusted.
    """

    index: int
    prepared: Prepared | None = None
    error: str | None = None
    verdict: Any = None
    trusted: bool | None = None
    reasons: tuple[str, ...] = ()
    radiograph_shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


def prepare_image(
    image: np.ndarray,
    lungs: np.ndarray | None,
    box: tuple[int, int, int, int] | None,
    settings: InputSettings,
    *,
    trusted: bool = True,
) -> Prepared:
    """Make the stack of one radiograph.

    Parameters
    ----------
    image : uint8 [H, W]
        The radiograph as read, or what `enhancement.radiograph.as_gray` makes one of.
    lungs : bool [H, W] or None
        Its lung mask.
    box : (top, left, bottom, right) or None
        Box of the lungs, half-open; None: taken from `lungs`.
    settings : InputSettings
        Everything else.
    trusted : bool
        False: `lungs` are carried along for display, but the whole image is used.
    """
    image = as_gray(image, "radiograph")
    if lungs is not None and lungs.shape != image.shape:
        raise InputError(f"lung mask of shape {lungs.shape} given for a radiograph of shape {image.shape}")
    if lungs is not None and box is None:
        box = box_of(lungs)
    use = settings.region if trusted and lungs is not None and box is not None else "none"
    crop = box if "crop" in use else None
    frame = frame_for(image.shape, crop, settings.size, settings.margin, settings.stretch)

    planes = _planes(*_at_resolution(image, frame, settings.resolution), settings)
    if "mask" in use and lungs is not None:
        planes = keep_inside(planes, frame.cut(dilate(lungs)))
    outline = None if lungs is None else frame.place(frame.cut(lungs))
    return Prepared(frame.place(planes), outline, frame)


def prepare_files(
    items: Sequence[Item],
    settings: InputSettings,
    *,
    segmenter: Segmenter | None = None,
    jobs: int = 1,
    batch: int = BATCH,
    progress: bool = False,
    known_masks: Sequence[Item | tuple[Path, ...] | None] | None = None,
    look: bool = False,
) -> Iterator[Outcome]:
    """Make stacks of many radiographs, in order; memory holds a few batches whatever their number.

    A thread per core takes a few radiographs from the file to the stack; what the caller does with the stacks overlaps.

    Parameters
    ----------
    items : sequence of path or uint8 [H, W]
        Files, or radiographs already read.
    settings : InputSettings
        How.
    segmenter : LungSegmenter, optional
        Finds the lungs; runs in this process only. With ``region="none"`` its masks are for display.
    jobs : int
        Worker processes; 1 does everything here.
    batch : int
        Radiographs in a task of a worker process; as many results wait to be taken.
    progress : bool
        Show a progress bar with images per second.
    known_masks : sequence of path, tuple of path, bool [H, W] or None, optional
        Lung masks that are known already, one an item; the union of several files. Used where there is no segmenter.
    look : bool
        Note in each outcome why it does not look like an upright frontal chest radiograph, or its lungs are in doubt.

    Yields
    ------
    Outcome
        One an item, in input order. A file that cannot be read is an outcome with ``error``, never an exception.
    """
    if settings.region != "none" and segmenter is None and known_masks is None:
        raise InputError(f"input.region: {settings.region!r} needs lungs; give a lung segmenter, or region none")
    if known_masks is not None and len(known_masks) != len(items):
        raise InputError(f"known_masks: {len(known_masks)} given for {len(items)} radiographs")
    if jobs < 1 or batch < 1:
        raise InputError(f"jobs {jobs} and batch {batch} given, 1 or more expected")
    masks = known_masks if segmenter is None and known_masks is not None else [None] * len(items)
    # Here and not in a thread: Keras builds one network at a time.
    if load := getattr(segmenter, "load", None):
        load()
    work = partial(_read, settings=settings, raw=segmenter is not None, look=look)
    entries: Any = list(zip(range(len(items)), items, masks, strict=True))
    outcomes: Iterator[Outcome]
    if segmenter is None:
        read = map_files(work, entries, lost=_lost, jobs=jobs, batch=batch, ahead=batch // 2 + 1)  # large, so few wait
        outcomes = (outcome for _, outcome in read)
    else:
        if jobs > 1:  # only reading: a network in every worker would not fit the memory of a graphics card
            entries = map_files(work, entries, lost=_lost, jobs=jobs, batch=batch)
        outcomes = _segmented(
            entries, work if jobs == 1 else None, settings, segmenter, look, ahead=batch // _GROUP + cores()
        )
    return in_background(_counted(outcomes, len(items), progress), ahead=batch)


def _read(entry, settings: InputSettings, raw: bool, look: bool) -> tuple[np.ndarray | None, Outcome]:
    """A worker's share: read, and prepare too, unless a segmenter needs the image (`raw`) before that."""
    index, item, mask = entry
    try:
        image = as_gray(item) if isinstance(item, np.ndarray) else read_radiograph(Path(item))
        outcome = Outcome(index, radiograph_shape=image.shape, notes=_notes(image, item) if look else ())
        return (image, outcome) if raw else (None, _with_mask(outcome, image, mask, settings))
    except Exception as error:  # one bad file among thousands must not end the run, whatever it broke
        return None, Outcome(index, error=_reason(error))


def _lost(entry) -> tuple[None, Outcome]:
    return None, Outcome(entry[0], error=DIED)


def _segmented(
    entries: Iterable[Any],
    read: Callable | None,
    settings: InputSettings,
    segmenter: Segmenter,
    look: bool,
    *,
    ahead: int,
) -> Iterator[Outcome]:
    """Outcomes in order; one thread takes a group of entries from the file to the stacks."""

    def whole(group: list[Any]) -> list[Outcome]:
        group = group if read is None else [read(entry) for entry in group]
        images = [image for image, _ in group if image is not None]
        results = segmenter.predict(images) if images else ()
        if len(results) != len(images):
            raise InputError(f"{segmenter.name}: {len(results)} lung masks given for {len(images)} radiographs")
        lungs = iter(results)
        return [
            outcome if image is None else _with_lungs(outcome, image, next(lungs), settings, look)
            for image, outcome in group
        ]

    return map_groups(whole, entries, size=_GROUP, ahead=ahead)


def _counted(outcomes: Iterator[Outcome], total: int, progress: bool) -> Iterator[Outcome]:
    with ProgressBar(total=total, desc="preparing", unit="image", disable=not progress) as bar:
        for outcome in outcomes:
            bar.update()
            yield outcome


def _with_lungs(outcome: Outcome, image: np.ndarray, lungs: Any, settings: InputSettings, look: bool) -> Outcome:
    """The outcome of a radiograph whose lungs the segmenter looked for."""
    try:
        verdict = lungs.verdict
        trusted = bool(lungs.error is None and verdict is not None and verdict.trusted)
        reasons = (lungs.error,) if lungs.error else () if verdict is None else tuple(verdict.reasons)
        prepared = prepare_image(image, lungs.mask, lungs.box if trusted else None, settings, trusted=trusted)
        notes = _with_lung_notes(outcome.notes, getattr(verdict, "frontal", None), trusted, reasons) if look else ()
        return replace(outcome, prepared=prepared, verdict=verdict, trusted=trusted, reasons=reasons, notes=notes)
    except Exception as error:
        return Outcome(outcome.index, error=_reason(error))


def _with_mask(outcome: Outcome, image: np.ndarray, mask, settings: InputSettings) -> Outcome:
    """The outcome of a radiograph with the mask that came with the data, if any."""
    lungs: np.ndarray | None = None
    trusted: bool | None = None
    reasons: tuple[str, ...] = ()
    if mask is not None:
        try:
            lungs = _fitted(mask, image.shape)
            trusted, reasons = bool(lungs.any()), () if lungs.any() else ("the mask given is empty",)
        except InputError as error:
            trusted, reasons = False, (_reason(error),)
    elif settings.region != "none":
        trusted, reasons = False, ("no mask given",)
    prepared = prepare_image(image, lungs, None, settings, trusted=bool(trusted))
    return replace(outcome, prepared=prepared, trusted=trusted, reasons=reasons)


def _notes(image: np.ndarray, item: Item) -> tuple[str, ...]:
    # pandas comes with it: a worker that only prepares starts without.
    from covidcxnet.datasets.recognition import recognise

    problems = recognise(image, None if isinstance(item, np.ndarray) else item)
    # A tint leaves it a chest radiograph.
    return tuple(f"{problem}: {why}" for problem, why in problems.items() if problem != "colour")


def _with_lung_notes(
    notes: tuple[str, ...], frontal: float | None, trusted: bool, reasons: tuple[str, ...]
) -> tuple[str, ...]:
    """Notes on the image, with what the segmenter adds: whether it is a frontal view, and whether its lungs hold."""
    if frontal is not None:
        from covidcxnet.datasets.recognition import OTHER

        # On radiographs of new hospitals the rules of likeness err more often than the network's features do.
        notes = tuple(note for note in notes if note.partition(":")[0] != "lateral")
        if frontal < 0 and not notes:  # what is noted already says more: turned, inverted, blank
            notes = (*notes, f"{OTHER}: score {frontal:.1f}, 0 or more expected")
    return notes if trusted else (*notes, f"{_LUNGS}: not trusted, {'; '.join(reasons)}")


def about_image(notes: Sequence[str]) -> list[str]:
    """Those of the notes that say why an image is no upright frontal chest radiograph."""
    return [note for note in notes if not note.startswith(f"{_LUNGS}:")]


def _fitted(mask, shape: tuple[int, int]) -> np.ndarray:
    """A given mask, or the union of several files, at the size of its radiograph."""
    lungs = mask if isinstance(mask, np.ndarray) else read_mask(mask if isinstance(mask, tuple) else (mask,))
    if lungs.dtype != np.bool_:
        raise InputError(f"mask: dtype {lungs.dtype} given, bool expected")
    if lungs.shape != shape:
        # A mask drawn on a smaller copy fits; one of another aspect ratio belongs to another image.
        if abs(lungs.shape[0] * shape[1] / (lungs.shape[1] * shape[0]) - 1) > 0.02:
            raise InputError(f"mask of shape {lungs.shape} does not fit a radiograph of shape {shape}")
        lungs = cv2.resize(lungs.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    return lungs


def _planes(image: np.ndarray, frame: Frame, settings: InputSettings) -> np.ndarray:
    """Planes ``uint8 [h, w, C]`` of the frame's box at its inner size, enhanced after resizing or before it."""
    before = settings.enhance_at == "radiograph"
    inner = image[frame.top : frame.bottom, frame.left : frame.right] if before else frame.cut(image)
    if settings.histogram:
        inner = match_histogram(inner, np.asarray(settings.histogram))
    # Enhanced without the padding, which would count as black pixels in every histogram.
    planes = stack(
        inner,
        settings.channels,
        clahe_clip_limit=settings.clahe_clip_limit,
        clahe_tile_grid=settings.clahe_tile_grid,
        beasf_gamma=settings.beasf_gamma,
        beasf_histogram=settings.beasf_histogram,
    )
    if not before:
        return planes
    height, width = inner.shape
    box = replace(frame, height=height, width=width, top=0, left=0, bottom=height, right=width)
    # One by one: OpenCV resizes four planes at most.
    return np.stack([box.cut(np.ascontiguousarray(planes[..., k])) for k in range(planes.shape[-1])], axis=-1)


def _at_resolution(image: np.ndarray, frame: Frame, resolution: int) -> tuple[np.ndarray, Frame]:
    """The radiograph, brought down to the common resolution where it is sharper, and the frame in its pixels."""
    small = bring_down(image, resolution) if resolution else image
    if small is image:
        return image, frame
    height, width = small.shape
    down, right = height / image.shape[0], width / image.shape[1]
    top, left = min(round(frame.top * down), height - 1), min(round(frame.left * right), width - 1)
    bottom, end = max(round(frame.bottom * down), top + 1), max(round(frame.right * right), left + 1)
    return small, replace(frame, height=height, width=width, top=top, left=left, bottom=bottom, right=end)


def _reason(error: BaseException) -> str:
    if isinstance(error, RadiographError):
        return error.reason
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
