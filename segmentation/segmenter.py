"""`LungSegmenter`: radiographs in; lung masks, boxes and verdicts out, in batches, one `LungMask` for each input."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from enhancement.errors import InputError, RadiographError, printable
from enhancement.inputs import Images, radiographs
from enhancement.notebook import NotebookDisplay, Results
from enhancement.parallel import cores, map_groups
from enhancement.progress import ProgressBar
from enhancement.radiograph import read_radiograph
from weights.format import SUFFIX, open_weights

from . import engines
from .backend import quiet_backend
from .frontal import FrontalRule, rule_of
from .model import CONVENTIONS, describe, load_network
from .overlay import contact_sheet, draw_outline
from .postprocessing import clean_map
from .regions import Box, Frame, box_of, dilate
from .verdict import Limits, Verdict, judge

RELEASED = "lung-unet"
_SIDE = 384  # pixels of a mask's picture in a notebook


@dataclass(frozen=True, eq=False)
class LungMask(NotebookDisplay):
    """The lungs of one radiograph; a notebook shows their outline.

    Full-size arrays are made from the network's small maps on first use, so that memory holds the results of many large
    radiographs. Where there is an error, masks, maps, box and verdict are None.
    """

    path: str | None = None  # None for an array
    error: str | None = None  # why the file could not be read
    verdict: Verdict | None = None
    frame: Frame | None = None  # how the radiograph sat in the network's square
    threshold: float = 0.5
    dilation: float = 0.0
    convention: str = CONVENTIONS[0]
    _cleaned: np.ndarray | None = field(default=None, repr=False)
    _maps: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    _preview: np.ndarray | None = field(default=None, repr=False)  # the radiograph, as large as the network's square

    def __repr__(self) -> str:
        lungs = f"error={self.error!r}" if self.error else self._finding()
        return f"LungMask({'array' if self.path is None else repr(Path(self.path).name)}, {lungs})"

    # The mask is kept, as box and crops ask for it; soft maps of full size, four bytes a pixel, are made each time.
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

    def to_row(self) -> dict[str, Any]:
        """Columns of a table: file, whether the mask is trusted and why not, the lungs' share of the radiograph."""
        verdict = self.verdict
        return {
            "file": self.path,
            "trusted": None if verdict is None else verdict.trusted,
            "reasons": "" if verdict is None else "; ".join(verdict.reasons),
            "area_fraction": None if verdict is None else verdict.area_fraction,
            "error": self.error,
        }

    def _finding(self) -> str:
        verdict = self.verdict
        if verdict is None:
            return "not judged"
        area = f"trusted, {verdict.area_fraction:.0%} of the radiograph"
        return area if verdict.trusted else f"not trusted: {verdict.reasons[0]}"

    def _picture(self) -> np.ndarray | None:
        if self._preview is None or self._cleaned is None or self.frame is None:
            return None
        mask = self._cleaned[self.frame.inner] >= self.threshold
        drawn = draw_outline(self._preview, dilate(mask, self.dilation) if self.dilation else mask)
        name = "" if self.path is None else printable(Path(self.path).name)
        return contact_sheet([drawn], [f"{self._finding()}\n{name}".rstrip()], columns=1, side=_SIDE)


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
        Radiographs in one pass of the network; a thread per core takes so many at once.
    threshold : float
        Probability from which a pixel is lung.
    components : int
        Largest components to keep.
    fill_holes : bool
    dilation : float
        Growth of `.mask` (and its box) as a fraction of the radiograph's longer side; 0 for none.
    limits : Limits, optional
        What the verdict trusts.
    engine, precision : str, optional
        What runs the network, see `segmentation.engines.network_of`.
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
        batch_size: int = 4,
        threshold: float = 0.5,
        components: int = 2,
        fill_holes: bool = True,
        dilation: float = 0.0,
        limits: Limits | None = None,
        engine: str | None = None,
        precision: str = "f32",
        metadata: dict[str, Any] | None = None,
    ):
        if not 0 < threshold < 1 or batch_size < 1 or components < 1 or not 0 <= dilation < 0.5:
            raise InputError(
                f"threshold {threshold} (0 to 1), batch_size {batch_size} and components {components} (1 and more), "
                f"dilation {dilation} (0 to 0.5): one is out of its range"
            )
        engines.choose(engine, precision)
        self.engine, self.precision = engine, precision
        self._file = open_weights(RELEASED if weights is None else weights)
        self.path = self._file.path
        self.name, self.sha256 = self.path.name.removesuffix(SUFFIX), self._file.sha256
        self.metadata, self.conventions, self.input, self._options = describe(self._file, metadata)
        self.convention = self._known(self.conventions[0] if convention is None else convention)
        self.batch_size, self.threshold, self.components = batch_size, threshold, components
        self.fill_holes, self.dilation, self.limits = fill_holes, dilation, limits or Limits()

    def __repr__(self) -> str:
        return f"LungSegmenter({self.path.name!r}, size={self.input.size}, convention={self.convention!r})"

    def __copy__(self):
        # By `__reduce__` a copy would load its network again.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce__(self):
        """Another process gets the settings, loads the file itself, and runs the network on the same engine."""
        names = ("convention", "batch_size", "threshold", "components", "fill_holes", "dilation", "limits")
        options = {name: getattr(self, name) for name in names} | {"metadata": self.metadata}
        options |= engines.running(self._converted(), self.engine, self.precision)
        return _load_segmenter, (self.path.absolute(), self.sha256, options)

    @cached_property
    def rule(self) -> FrontalRule | None:
        """What tells upright frontal radiographs by the network's features; None where none was fitted to it."""
        return rule_of(self.name, self.sha256)

    @cached_property
    def model(self):
        """The network, a `keras.Model`; built and loaded when first needed."""
        quiet_backend()
        network = load_network(self._file, self.metadata, self._options, self.input.size)
        self._file = replace(self._file, layers=())  # the network holds them now
        return network

    def load(self) -> LungSegmenter:
        """The same segmenter, its network built or opened now instead of at the first radiograph."""
        _ = self._network
        return self

    def following(self, convention: str) -> LungSegmenter:
        """The same segmenter, giving the masks of another convention; the network is shared."""
        other = copy(self.load())  # with the network, which `cached_property` keeps in the instance
        other.convention = self._known(convention)
        return other

    def in_f32(self) -> LungSegmenter:
        """The same segmenter in f32, in which all engines draw the same lungs: stacks that are kept are made by it."""
        if self.precision == "f32":
            return self
        other = copy(self)
        other.precision = "f32"
        other.__dict__.pop("_network", None)
        return other

    def predict(self, items: Images, *, progress: bool = False) -> Results[LungMask]:
        """Find the lungs.

        Parameters
        ----------
        items : path-like, PIL image, numpy.ndarray, or several
            A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list, see
            `enhancement.inputs.radiographs`. A file that cannot be read gives a result with `.error`; the others are
            not affected.
        progress : bool
            Show a bar.

        Returns
        -------
        Results
            A list of `LungMask`, one for each radiograph, in order; a single radiograph gives one too.

        Raises
        ------
        InputError
            Before any work: for arrays and PIL images that are no radiograph, patterns and folders without any, and a
            path that does not exist where it is all that is given.
        """
        waiting = list(radiographs(items))
        if not waiting:
            raise InputError("no radiographs given; a path, an image or a list of them expected")
        return Results(self.stream(waiting, progress=progress))

    def stream(self, items: Images, *, progress: bool = False) -> Iterator[LungMask]:
        """Like `predict`, one result after another, for more radiographs than fit in memory."""
        total = len(items) if isinstance(items, Sequence | np.ndarray) else None
        waiting = radiographs(items)
        self.load()  # not in a thread: Keras builds one network at a time
        first = list(islice(waiting, self.batch_size + 1))
        results: Iterable[LungMask]
        if len(first) <= self.batch_size:  # no threads for what is one group
            results = self._lungs(first)
        else:
            results = map_groups(self._lungs, chain(first, waiting), size=self.batch_size, ahead=2 * cores())
        with ProgressBar(total=total, desc="lungs", unit="image", disable=not progress) as bar:
            for result in results:
                bar.update()
                yield result

    def _lungs(self, group: Sequence[Path | np.ndarray]) -> list[LungMask]:
        read = [self._read(item) for item in group]
        squares = [square for _, square in read if square is not None]
        outputs = iter(self.outputs_of(squares) if squares else ())
        return [result if square is None else self._result(result, *next(outputs)) for result, square in read]

    def _known(self, convention: str) -> str:
        if convention not in self.conventions:
            raise InputError(f"convention: {convention!r} given; {self.path} knows {', '.join(self.conventions)}")
        return convention

    def _read(self, item: Path | np.ndarray) -> tuple[LungMask, np.ndarray | None]:
        """A result that lacks its maps, and the square for the network; None where it could not be read."""
        path = None if isinstance(item, np.ndarray) else str(item)
        try:
            image = item if isinstance(item, np.ndarray) else read_radiograph(item)
        except RadiographError as error:
            return LungMask(path, error.reason), None
        frame = self.input.frame(image.shape)  # the steps of `input.prepare`, as the preview is one of them
        preview = frame.cut(image)
        return LungMask(path, frame=frame, _preview=preview), self.input.enhance(frame.place(preview))

    @cached_property
    def _network(self) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
        """From squares to soft maps, and the features that the rule for frontal views looks at, if there is one."""
        network = self._converted()
        if network is not None:
            return network
        model = self.with_features()
        one_at_a_time = threading.Lock()

        def run(squares: np.ndarray) -> tuple[np.ndarray, ...]:
            # Few batch shapes (1, 4, all), so that Keras traces few, and one radiograph costs one.
            size = next((n for n in (1, 4, self.batch_size) if n >= len(squares)), len(squares))
            batch = np.zeros((size, *squares.shape[1:]), np.uint8)
            batch[: len(squares)] = squares
            with one_at_a_time:
                outputs = model.predict_on_batch(batch)
            return tuple(np.asarray(o)[: len(squares)] for o in (outputs if isinstance(outputs, list) else [outputs]))

        return run

    def _converted(self) -> engines.Network | None:
        if self._file.layout != "keras-3":
            return None
        how: dict[str, Any] = {"engine": self.engine, "precision": self.precision}
        return engines.network_of(self.with_features, self._file, self.network_kind, **how)

    @property
    def network_kind(self) -> str:
        """What `with_features` gives, in words, to tell it from other networks made of the same file."""
        return "maps" if self.rule is None else f"maps, {self.rule.layer}"

    def with_features(self):
        """The network with the features that the rule for frontal views looks at as a second output, if any."""
        model = self.model  # first, as it loads Keras quietly
        if self.rule is None:
            return model
        import keras

        return keras.Model(model.input, [model.output, model.get_layer(self.rule.layer).output])

    def outputs_of(self, squares: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """The network alone, on squares ``uint8 [S, S]`` as ``input.prepare`` makes them, all in one pass.

        Soft maps ``float32 [S, S, K]`` of each square, and features ``[s, s, F]`` where a rule asks for them.
        """
        maps, *others = self._network(np.stack(squares)[..., None])
        features: Any = others[0] if others else [None] * len(squares)
        return list(zip(maps, features, strict=True))

    def _result(self, result: LungMask, maps: np.ndarray, features: np.ndarray | None) -> LungMask:
        assert result.frame is not None
        inside = result.frame.inner
        # Nothing in the padding is lung.
        framed = np.zeros((len(self.conventions), *maps.shape[:2]), np.float32)
        framed[:, *inside] = np.moveaxis(maps[inside], -1, 0)
        by_name = dict(zip(self.conventions, framed, strict=True))
        chosen = by_name[self.convention]
        other = next((by_name[name][inside] for name in self.conventions if name != self.convention), None)
        cleaned = clean_map(chosen, self.threshold, self.components, self.fill_holes)
        mask = cleaned[inside] >= self.threshold
        verdict = judge(mask, chosen[inside], other, threshold=self.threshold, limits=self.limits)
        if self.rule is not None and features is not None:
            verdict = replace(verdict, frontal=self.rule.score(features, result.frame))
        settings: dict[str, Any] = {
            "threshold": self.threshold,
            "dilation": self.dilation,
            "convention": self.convention,
        }
        return replace(result, verdict=verdict, **settings, _cleaned=cleaned, _maps=by_name)


def _load_segmenter(path: Path, sha256: str, options: dict[str, Any]) -> LungSegmenter:
    segmenter = LungSegmenter(path, **options)
    if segmenter.sha256 != sha256:
        raise InputError(f"{path}: SHA-256 {segmenter.sha256[:12]} found, {sha256[:12]} expected; another file")
    return segmenter
