"""`LungSegmenter`: radiographs in; lung masks, boxes and verdicts out, in batches, one result for each input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from enhancement.errors import InputError, RadiographError

from .bounded import bounded_by
from .inputs import SegmenterInput
from .legacy import is_legacy, read_legacy, set_by_position
from .legacy_unet import legacy_metadata
from .postprocessing import clean_map
from .regions import Box, Frame, box_of, dilate
from .unet import CONVENTIONS
from .verdict import Limits, Verdict, judge
from .weight_files import check_widths, file_sha256, load_weights, read_metadata

RELEASED = "lung-unet"


@dataclass(frozen=True, eq=False)
class LungMask:
    """The lungs of one radiograph.

    Full-size arrays are made from the network's small maps when first asked for, so that results of many large
    radiographs can be kept.

    Attributes
    ----------
    path : str or None
        The file; None for an array.
    error : str or None
        Why there is no result (the file cannot be read); then masks, maps, box and verdict are None.
    verdict : Verdict or None
    frame : Frame or None
        How the radiograph sat in the network's square.
    """

    path: str | None = None
    error: str | None = None
    verdict: Verdict | None = None
    frame: Frame | None = None
    threshold: float = 0.5
    dilation: float = 0.0
    convention: str = CONVENTIONS[0]
    _cleaned: np.ndarray | None = field(default=None, repr=False)
    _maps: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def mask(self) -> np.ndarray | None:
        """Lungs after post-processing (and dilation, if set), ``bool [H, W]`` of the radiograph's own size."""
        if self.frame is None or self._cleaned is None:
            return None
        mask = self.frame.to_radiograph(self._cleaned) >= self.threshold
        return dilate(mask, self.dilation) if self.dilation else mask

    @property
    def probability(self) -> np.ndarray | None:
        """The network's soft map before post-processing, ``float32 [H, W]`` in 0..1."""
        return None if self.frame is None else self.frame.to_radiograph(self._maps[self.convention])

    def probability_of(self, convention: str) -> np.ndarray | None:
        """The soft map of a given mask convention, if the network has learnt it."""
        if self.frame is None:
            return None
        if convention not in self._maps:
            raise InputError(f"convention: {convention!r} given; this network knows {', '.join(self._maps)}")
        return self.frame.to_radiograph(self._maps[convention])

    @cached_property
    def box(self) -> Box | None:
        """Bounding box of the mask: top, left, bottom, right (half-open); None if the mask is empty."""
        return None if self.mask is None else box_of(self.mask)


class LungSegmenter:
    """Finds the lungs on frontal chest radiographs.

    Parameters
    ----------
    weights : str, path-like or None
        A weights file of this package or a released name; None takes the released "lung-unet".
    convention : {"lung_field", "lung_incl_retrocardiac"}, optional
        Which masks to give: air-filled lung without the heart, or with the lung behind the heart. By default the
        first that the network has learnt ("lung_field"). The other soft map is there too: `LungMask.probability_of`.
    batch_size : int
        Radiographs in one pass of the network.
    threshold : float
        Probability from which a pixel is lung.
    components : int
        Largest components to keep.
    fill_holes : bool
    dilation : float
        Growth of `.mask` (and its box) as a fraction of the radiograph's longer side; 0 for none.
    limits : Limits, optional
        What the verdict trusts.
    metadata : dict, optional
        For an old weights file, which has none inside: architecture, conventions and input settings. By default those
        of the published network that its arrays belong to.

    Attributes
    ----------
    name : str
        Name of the weights.
    sha256 : str
        Of the weights file.
    metadata : dict

    Raises
    ------
    InputError
        If there are no such weights, or they are not a segmenter's.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        convention: str | None = None,
        batch_size: int = 16,
        threshold: float = 0.5,
        components: int = 2,
        fill_holes: bool = True,
        dilation: float = 0.0,
        limits: Limits | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        self.path = find_weights(weights)
        self.name = self.path.name.removesuffix(".weights.h5")
        self.legacy = is_legacy(self.path)
        if self.legacy:
            self.metadata = metadata or legacy_metadata(self.path)
        else:
            self.metadata = read_metadata(self.path)
        self.sha256 = file_sha256(self.path)
        if not 0 < threshold < 1 or batch_size < 1 or components < 1 or not 0 <= dilation < 0.5:
            raise InputError(
                f"threshold {threshold} (0 to 1), batch_size {batch_size} and components {components} (1 and more), "
                f"dilation {dilation} (0 to 0.5): one is out of its range"
            )
        self.conventions, self.input, self._options = _read_architecture(self.path, self.metadata)
        self.convention = self.conventions[0] if convention is None else convention
        if self.convention not in self.conventions:
            raise InputError(f"convention: {convention!r} given; {self.path} knows {', '.join(self.conventions)}")
        self.batch_size, self.threshold, self.components = batch_size, threshold, components
        self.fill_holes, self.dilation, self.limits = fill_holes, dilation, limits or Limits()

    @cached_property
    def model(self):
        """The network, a `keras.Model`; built and loaded when first needed."""
        from .backend import quiet_backend
        from .imlab_unet import imlab_unet
        from .unet import unet

        quiet_backend()
        if not self.legacy:
            check_widths(self.path, {**self._options, "size": self.input.size})
        build: Callable[..., Any] = imlab_unet if self.metadata["architecture"]["name"] == "imlab-unet" else unet
        try:
            with bounded_by(self.path):
                model = build(**self._options, size=self.input.size)
        except InputError:
            raise
        except Exception as error:  # options of a stranger: Keras and TensorFlow raise whatever they like
            raise InputError(f"{self.path}: its metadata do not describe a U-Net ({error!r:.300})") from error
        if self.legacy:
            set_by_position(model, read_legacy(self.path), self.path)
        else:
            load_weights(model, self.path)
        return model

    def following(self, convention: str) -> LungSegmenter:
        """The same segmenter, giving the masks of another convention; the network is shared."""
        if convention not in self.conventions:
            raise InputError(f"convention: {convention!r} given; {self.path} knows {', '.join(self.conventions)}")
        _ = self.model  # built once, before the copy
        other = copy(self)
        other.convention = convention
        return other

    def predict(self, items: Any, *, progress: bool = False) -> list[LungMask]:
        """Find the lungs.

        Parameters
        ----------
        items : path, ndarray ``uint8 [H, W]``, or sequence of these
            A file that cannot be read gives a result with `.error`; the others are not affected.
        progress : bool
            Show a bar.

        Returns
        -------
        list of LungMask
            One for each input, in order.
        """
        single = isinstance(items, str | Path) or (isinstance(items, np.ndarray) and items.ndim == 2)
        return list(self.stream([items] if single else items, progress=progress))

    def stream(self, items: Iterable[Any], *, progress: bool = False) -> Iterator[LungMask]:
        """Like `predict`, one result after another, for more radiographs than fit in memory."""
        from tqdm import tqdm

        total = len(items) if isinstance(items, Sequence | np.ndarray) else None
        waiting = iter(items)
        with (
            ThreadPoolExecutor(2) as pool,
            tqdm(total=total, desc="lungs", unit="image", disable=not progress) as bar,
        ):
            # The next batch is read and enhanced while the network works on this one.
            ahead = [pool.submit(self._read, item) for item in islice(waiting, self.batch_size)]
            while ahead:
                batch = [future.result() for future in ahead]
                ahead = [pool.submit(self._read, item) for item in islice(waiting, self.batch_size)]
                for result in self._results(batch):
                    bar.update()
                    yield result

    def _read(self, item) -> tuple[str | None, np.ndarray | None, Frame | None, str | None]:
        from enhancement import read_radiograph

        path = None if isinstance(item, np.ndarray) else str(item)
        try:
            image = item if isinstance(item, np.ndarray) else read_radiograph(item)
            if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
                raise InputError(f"array of {image.dtype} {list(image.shape)} given, uint8 [H, W] expected")
            return path, *self.input.prepare(image), None
        except RadiographError as error:
            return path, None, None, error.reason
        except InputError as error:
            return path, None, None, str(error)

    def _results(self, batch) -> Iterator[LungMask]:
        squares = [square for _, square, _, _ in batch if square is not None]
        maps = iter(self._maps(squares) if squares else ())
        for path, square, frame, error in batch:
            if square is None or frame is None:
                yield LungMask(path=path, error=error)
            else:
                yield self._result(path, next(maps), frame)

    def _maps(self, squares: list[np.ndarray]) -> np.ndarray:
        """Soft maps ``float32 [N, S, S, K]``; few batch shapes, so that the network is traced a few times only."""
        size = next(n for n in (1, 4, self.batch_size) if n >= min(len(squares), self.batch_size))
        size = min(size, self.batch_size)
        batch = np.zeros((size, *squares[0].shape, 1), np.uint8)
        batch[: len(squares), ..., 0] = squares
        return np.asarray(self.model.predict_on_batch(batch), np.float32)[: len(squares)]

    def _result(self, path: str | None, maps: np.ndarray, frame: Frame) -> LungMask:
        inside = np.s_[
            frame.inner_top : frame.inner_top + frame.inner_height,
            frame.inner_left : frame.inner_left + frame.inner_width,
        ]
        # Nothing in the padding is lung.
        framed = np.zeros_like(maps)
        framed[inside] = maps[inside]
        by_name = {name: np.ascontiguousarray(framed[..., k]) for k, name in enumerate(self.conventions)}
        chosen = by_name[self.convention]
        others = [m[inside] for name, m in by_name.items() if name != self.convention]
        cleaned = clean_map(chosen, self.threshold, self.components, self.fill_holes)
        verdict = judge(
            cleaned[inside] >= self.threshold,
            chosen[inside],
            others[0] if others else None,
            threshold=self.threshold,
            limits=self.limits,
        )
        return LungMask(path, None, verdict, frame, self.threshold, self.dilation, self.convention, cleaned, by_name)


def find_weights(weights: str | Path | None) -> Path:
    """The file of a released name or a path; None stands for the released segmenter.

    Raises
    ------
    InputError
        If there is neither such a file nor such a name.
    """
    if weights is not None and Path(weights).is_file():
        return Path(weights)
    from weights import released

    name = RELEASED if weights is None else str(weights)
    try:
        return released(name)
    except LookupError as error:
        raise InputError(f"weights {name}: no such file, and {error}") from None


def _read_architecture(path: Path, metadata: dict[str, Any]) -> tuple[tuple[str, ...], SegmenterInput, dict[str, Any]]:
    if metadata.get("kind") != "segmenter":
        raise InputError(f"{path}: holds weights of kind {metadata.get('kind')!r}, a segmenter's expected")
    try:
        name, options = metadata["architecture"]["name"], dict(metadata["architecture"]["options"])
        conventions, settings = tuple(metadata["conventions"]), SegmenterInput.from_dict(metadata["input"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: metadata without {error}; the file is damaged") from None
    if name not in ("unet", "imlab-unet") or not conventions or options.get("outputs", 1) != len(conventions):
        raise InputError(f"{path}: architecture {name!r} with masks {conventions} is not known to this version")
    if not set(options) <= {"width", "batch_norm", "channels", "outputs", "scaling"}:
        raise InputError(f"{path}: unknown options in {sorted(options)}; a newer version wrote the file")
    return conventions, settings, options
