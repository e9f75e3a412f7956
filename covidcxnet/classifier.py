"""A trained classifier with everything needed to use it: from radiograph files to labels, probabilities and heatmaps.

Files become stacks by the function that training used, with the settings that travel inside the weights file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.backend import compiled
from covidcxnet.cluster import IMAGES, Cluster
from covidcxnet.explain.cam import CAM, ActivationMaps, ConvertedMaps, GradCAM
from covidcxnet.explain.explanation import METHODS, Explanation
from covidcxnet.explain.lime import AUTO, SAMPLES, check_samples, explain_lime
from covidcxnet.prediction import Predicted, Prediction
from covidcxnet.preparation.pipeline import Outcome, prepare_files
from covidcxnet.preparation.store import Store
from covidcxnet.reporting.table import Table
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError, printable
from enhancement.inputs import Images, radiographs
from enhancement.notebook import NotebookDisplay
from enhancement.progress import announce, announced, interactive
from segmentation.backend import fuse_batch_norm, keras
from segmentation.engines import Network, running
from segmentation.segmenter import LungSegmenter

__all__ = ["Classifier", "Prediction"]

_OPTIONS = {"gradcam": ("layer",), "cam": (), "lime": ("samples", "segments", "fill", "seed")}
PROBABILITIES = "probabilities"  # what the network of a weights file is called in the cache of engines
_CHUNK = 256  # stacks of a store read at once: 75 MB at 320 x 320 x 3

Explainer = Callable[[Sequence[Path | np.ndarray], Sequence[Outcome]], Iterator[Explanation]]


class Classifier(NotebookDisplay):
    """A model, its labels and its input settings; a notebook shows them as a table.

    Parameters
    ----------
    model : keras.Model or callable
        Takes stacks ``[n, S, S, C]`` in 0..255; gives one sigmoid (the probability of the second of two classes) or one
        column a class. With a `network`, a function without arguments that builds it when it is needed.
    metadata : dict
        Of the weights file: ``classes`` and ``input`` are used, ``thresholds`` for independent findings, and
        ``segmenter`` where the lungs matter.
    path : str or Path, optional
        The weights file, for messages.
    segmenter : LungSegmenter, optional
        Used instead of the one that the metadata name, whatever its weights.
    network : segmentation.engines.Network, optional
        Gives the model's outputs faster, and its class activation maps where pooling and dense layers end it.
    engine, precision : str, optional
        What runs the lung segmenter, see `segmentation.engines.network_of`.

    Attributes
    ----------
    classes : tuple of str
    input : InputSettings
    task : {"exclusive", "independent"}
        Whether classes exclude each other, or are findings of which an image may have several, as in CheXNet.
    thresholds : float64 [C]
        Probability from which each class is called; 0.5 unless the training chose others.
    origin : callable or None
        Loads the same classifier from its file in another process, with `engine` and `precision`; None where there is
        no file.

    Raises
    ------
    InputError
        If model, classes and input settings do not fit each other.

    Examples
    --------
    >>> classifier = covidcxnet.load_model("best.weights.h5")          # doctest: +SKIP
    >>> classifier.predict("chest.png")[0].label                        # doctest: +SKIP
    'normal'
    """

    def __init__(
        self,
        model: Any,
        metadata: dict[str, Any],
        path: str | os.PathLike | None = None,
        *,
        segmenter: LungSegmenter | None = None,
        network: Network | None = None,
        engine: str | None = None,
        precision: str = "f32",
    ):
        self.origin: Callable[..., Classifier] | None = None
        self._network = network
        self._running = running(network, engine, precision)
        # INT8 is this network's alone: the lungs stay those of the training.
        self._engine: dict[str, Any] = {"engine": engine, "precision": "f32" if precision == "int8" else precision}
        self._build = model
        if network is None:
            self.__dict__["model"] = model
        self.metadata = metadata
        self.path = None if path is None else Path(path)
        self.name = self.path.name if self.path else model.name
        self.classes = tuple(str(label) for label in metadata.get("classes", ()))
        self.input = InputSettings.from_dict(metadata.get("input", {}))
        # CheXNet's 14 sigmoids are independent findings though its options do not say multilabel.
        options = (metadata.get("architecture") or {}).get("options") or {}
        sigmoids = options.get("multilabel") or options.get("activation") == "sigmoid"
        self._outputs = int((network.output_shapes[0] if network else model.output_shape)[-1])
        self.task = "independent" if self._outputs > 1 and sigmoids else "exclusive"
        self._given_segmenter = segmenter
        self._check_fit()
        self.thresholds = self._thresholds()
        if network is None:
            fuse_batch_norm(model)  # last: a model that is refused stays as it was given

    def __repr__(self) -> str:
        # Every run's best weights have the same name: the run's folder says which.
        name = self.path.absolute().parent.name if self.path and self.path.name == "best.weights.h5" else self.name
        return f"Classifier({name!r}, classes={self.classes}, size={self.input.size})"

    def __copy__(self):
        # By `__reduce__` a copy would load its network again.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce__(self):
        if self.origin is None:
            raise InputError(f"{self.name}: was not loaded from a file, from which another process could load it")
        # Not `auto`: a converted network may lie here and not there.
        return _load, (partial(self.origin, **self._running), self.segmenter)

    @cached_property
    def model(self) -> keras.Model:
        """The network, a `keras.Model`; built when first needed where another engine predicts."""
        model = self._build()
        fuse_batch_norm(model)
        return model

    @property
    def architecture(self) -> str:
        """Name of the network in the registry; of the Keras model where the metadata name none."""
        return str((self.metadata.get("architecture") or {}).get("name") or self.model.name)

    @property
    def engine(self) -> str:
        """What predicts: keras, openvino or onnxruntime."""
        return self._running["engine"]

    @property
    def precision(self) -> str:
        """Number format that the network is computed in: f32, bf16 or int8."""
        return self._running["precision"]

    @property
    def parameters(self) -> int:
        """Number of weights of the network."""
        return int(self._network.parameters if self._network else self.model.count_params())

    @cached_property
    def segmenter(self) -> LungSegmenter | None:
        """The lung segmenter that the model was trained with.

        None where the model sees whole radiographs and no segmenter is at hand; lungs are then not looked for.

        Raises
        ------
        InputError
            If the model's region of interest needs a segmenter that is missing or is not the one of the training.
        """
        if self._given_segmenter is not None:
            return self._given_segmenter
        name, region = self.input.segmenter, self.input.region
        recorded = self.metadata.get("segmenter") or {}
        if not isinstance(recorded, dict) or not isinstance(recorded.get("sha256", ""), str):
            raise InputError(
                f"{self.name}: segmenter {recorded!r:.200} in its metadata, a name and a SHA-256 expected; damaged"
            )
        try:
            segmenter = LungSegmenter(name, **self._engine)
        except InputError as error:
            if region == "none":
                return None
            raise InputError(
                f"{self.name}: its input is the lungs' {region} and needs the segmenter {name!r}: {error}"
            ) from error
        trained = recorded.get("sha256")
        if region != "none" and trained and segmenter.sha256 != trained:
            raise InputError(
                f"{self.name}: was trained with a segmenter {name!r} of SHA-256 {trained[:12]}, this one has "
                f"{str(segmenter.sha256)[:12]}; give the right file as segmenter, or this one if that is what you want"
            )
        return segmenter

    def with_segmenter(self, segmenter: LungSegmenter) -> Classifier:
        """The same classifier with another lung segmenter, whatever its weights."""
        other = copy(self)
        other._given_segmenter = segmenter
        other.__dict__.pop("segmenter", None)
        return other

    @cached_property
    def gradcam(self) -> ActivationMaps:
        """Grad-CAM of the model at its last feature maps."""
        return self._maps("gradcam") or GradCAM(self.model)

    @cached_property
    def cam(self) -> ActivationMaps:
        """Class activation maps; an `InputError` where the head is not global pooling and dense layers."""
        return self._maps("cam") or CAM(self.model)

    def _maps(self, method: str) -> ConvertedMaps | None:
        network = self._network
        return ConvertedMaps(network, method) if network and ConvertedMaps.explains(network, method) else None

    def predict(
        self,
        files: Images,
        *,
        batch_size: int = 16,
        jobs: int = 1,
        progress: bool = False,
        cluster: Cluster | None = None,
    ) -> Predicted:
        """Predict radiographs.

        Parameters
        ----------
        files : path-like, PIL image, numpy.ndarray, or several
            A radiograph, a glob pattern, a folder, a batch ``[N, H, W]`` or a list of radiographs; shapes, types and
            ranges as in `enhancement.inputs.radiographs`.
        batch_size : int
            Stacks that go through the model together.
        jobs : int
            Processes that read and enhance.
        progress : bool
            Show a progress bar.
        cluster : covidcxnet.cluster.Cluster, optional
            Its workers read and predict, in tasks of about 100 images, in place of this process. Each loads the weights
            file once. Results are those of one process.

        Returns
        -------
        Predicted
            A list of `Prediction`, one each, in the order given, with `.to_frame()` and `.probabilities`; a single
            radiograph gives one too. A file that could not be read has `error` set; the others are unaffected.

        Raises
        ------
        InputError
            Before any work: for an array or PIL image that is no radiograph, a folder or pattern without any, a path
            that does not exist where it is all that is given, or a segmenter that is missing.
        """
        options: dict[str, Any] = {"batch_size": batch_size, "jobs": jobs, "progress": progress, "cluster": cluster}
        with nullcontext() if cluster else self._first_use(progress):
            return Predicted(self.iter_predict(files, **options), self.classes)

    def predict_proba(self, files: Images, **options: Any) -> np.ndarray:
        """Probabilities of radiographs, as of a classifier of scikit-learn.

        Parameters
        ----------
        files, **options
            As in `predict`.

        Returns
        -------
        numpy.ndarray
            ``float64 [N, classes]`` in 0..1, columns in the order of `classes`; a row of NaN for a file that could not
            be read.
        """
        return self.predict(files, **options).probabilities

    def iter_predict(
        self,
        files: Images,
        *,
        batch_size: int = 16,
        jobs: int = 1,
        progress: bool = False,
        cluster: Cluster | None = None,
    ) -> Iterator[Prediction]:
        """Like `predict`, one after the other: memory stays flat however many files there are."""
        if cluster is not None:
            items = list(radiographs(files))
            # Whole batches, the very batches of one process: the last bits of a network depend on them.
            size = -(-IMAGES // batch_size) * batch_size
            work = partial(_predict_part, self, batch_size=batch_size)
            parts = [_absolute(items[i : i + size]) for i in range(0, len(items), size)]
            results = cluster.map(
                work, parts, files=_paths, needs=_paths([self.path]), desc="preparing", progress=progress
            )
            predictions = (prediction for part in results for prediction in part)
            for item, prediction in zip(items, predictions, strict=True):
                yield replace(prediction, path=None if isinstance(item, np.ndarray) else item)
            return
        for items, outcomes in self.batches(files, batch_size, jobs, progress):
            stacks = [outcome.prepared.stack for outcome in outcomes if outcome.prepared is not None]
            rows = iter(self.predict_stacks(np.stack(stacks), batch_size) if stacks else ())
            for item, outcome in zip(items, outcomes, strict=True):
                yield self.prediction(item, outcome, None if outcome.prepared is None else next(rows))

    def predict_stacks(self, stacks: np.ndarray, batch_size: int = 16) -> np.ndarray:
        """Probabilities of prepared stacks.

        Parameters
        ----------
        stacks : uint8 [n, S, S, C]
            Of this model's size and channels; an HDF5 data set is read batch by batch.
        batch_size : int
            Stacks that go through the model together.

        Returns
        -------
        float32 [n, classes]
            One column a class, each row adding up to 1 (those of independent findings do not).

        Raises
        ------
        InputError
            If the stacks' size, channels or type do not fit, or the model gives values that are not finite.
        """
        shape = (self.input.size, self.input.size, len(self.input.channels))
        given, kind = tuple(getattr(stacks, "shape", ())), getattr(stacks, "dtype", type(stacks).__name__)
        if len(given) != 4 or given[1:] != shape or kind != np.uint8:
            expected = ", ".join(map(str, shape))
            raise InputError(f"{self.name}: stacks of {kind} {given} given, uint8 [n, {expected}] expected")
        if batch_size < 1:
            raise InputError(f"batch_size: {batch_size} given, 1 or more expected")
        parts = [self._forward(np.asarray(stacks[i : i + batch_size]))[0] for i in range(0, len(stacks), batch_size)]
        # An empty store has a shape too, so that callers need no case for it.
        outputs = np.concatenate(parts) if parts else np.zeros((0, self._outputs), "float32")
        self.check_finite(outputs)
        return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs

    def predict_rows(
        self,
        store: Store,
        rows: Sequence[int] | np.ndarray,
        batch_size: int = 16,
        progress: bool = False,
        name: str = "",
        look: Callable[[np.ndarray], Any] | None = None,
    ) -> np.ndarray:
        """Probabilities float32 [n, classes] of rows of a store; memory stays flat, `name` stands beside the bar.

        Stacks are read once, some hundred at a time: `look` gets them too, for what else is measured on them.
        """
        from enhancement.progress import ProgressBar

        parts = [np.empty((0, len(self.classes)), np.float32)]
        with ProgressBar(total=len(rows), desc=f"predicting {name}", unit="image", disable=not progress) as bar:
            for start in range(0, len(rows), _CHUNK):
                stacks = store.read(rows[start : start + _CHUNK])
                parts.append(self.predict_stacks(stacks, batch_size=batch_size))
                if look is not None:
                    look(stacks)
                bar.update(len(stacks))
        return np.concatenate(parts)

    def explain(self, files: Images, method: str = "gradcam", target: str | None = None, **options: Any) -> Predicted:
        """Predict radiographs and say where the evidence lies.

        Parameters
        ----------
        files : path-like, PIL image, numpy.ndarray, or several
            As in `predict`.
        method : {"gradcam", "cam", "lime"}
            Grad-CAM costs hardly more than the prediction; LIME about 1000 predictions an image, fewer with
            ``samples="auto"``. CAM, the closed form of Grad-CAM, is there for networks that end in global pooling and
            dense layers, see `explain.cam.CAM`.
        target : str, optional
            The class to explain; by default the one predicted.
        **options
            `batch_size`, `jobs` and `progress` as in `predict`; for Grad-CAM also `layer`, the name of its feature
            layer; for LIME also `samples`, `segments`, `fill` and `seed`, see `covidcxnet.explain.lime.explain_lime`.

        Returns
        -------
        Predicted
            A list of `Explanation`, one each, in the order given, with `.heatmap` in the radiograph's frame,
            `.prediction` and ways to draw it.

        Raises
        ------
        InputError
            Before any work: if method, target or an option is unknown, the network has no class activation maps, or
            for the reasons of `predict`.
        """
        with self._first_use(options.get("progress", False)):
            return Predicted(self.iter_explain(files, method, target, **options), self.classes)

    def iter_explain(
        self,
        files: Images,
        method: str = "gradcam",
        target: str | None = None,
        *,
        batch_size: int = 16,
        jobs: int = 1,
        progress: bool = False,
        **options: Any,
    ) -> Iterator[Explanation]:
        """Like `explain`, one after the other: memory stays flat however many files there are."""
        # No generator itself: a wrong option is refused at the call, not at the first radiograph.
        explain = self.explainer(method, target, batch_size=batch_size, progress=progress, **options)
        if method == "lime":
            samples = options.get("samples", SAMPLES)
            predictions = f"{'up to ' if samples == AUTO else ''}{check_samples(samples):,} predictions"
            announce(f"LIME: {predictions} for each radiograph (fewer with --samples)", progress)
        batches = self.batches(files, batch_size, jobs, progress)
        return (explanation for items, outcomes in batches for explanation in explain(items, outcomes))

    def explainer(
        self,
        method: str = "gradcam",
        target: str | None = None,
        *,
        batch_size: int = 16,
        progress: bool = False,
        **options: Any,
    ) -> Explainer:
        """A function from radiographs and their outcomes, as `batches` gives them, to explanations; see `explain`."""
        if method not in METHODS:
            raise InputError(f"method: {method!r} given, one of {', '.join(METHODS)} expected")
        if target is not None and target not in self.classes:
            raise InputError(f"target: {target!r} given, one of {', '.join(self.classes)} expected")
        # Before any work: LIME takes minutes.
        if unknown := sorted(set(options) - set(_OPTIONS[method])):
            allowed = ", ".join(_OPTIONS[method]) or "none"
            raise InputError(f"options: {METHODS[method]} takes no {unknown[0]!r}; it takes {allowed}")
        if method == "lime":
            # Minutes of silence for whoever waits: the bar needs no request there.
            options["progress"] = progress or interactive()
            check_samples(options.get("samples", SAMPLES))
        index = None if target is None else self.classes.index(target)
        maps_of = self._lime_maps if method == "lime" else self._activation_maps
        mapper: Any = self.cam if method == "cam" else self.gradcam if method == "gradcam" else None
        if options.get("layer"):
            mapper = GradCAM(self.model, options["layer"])

        def explain(items: Sequence[Path | np.ndarray], outcomes: Sequence[Outcome]) -> Iterator[Explanation]:
            stacks = [outcome.prepared.stack for outcome in outcomes if outcome.prepared is not None]
            maps = maps_of(stacks, index, mapper, batch_size, options)
            for item, outcome in zip(items, outcomes, strict=True):
                if outcome.prepared is None:
                    yield Explanation(item, self.prediction(item, outcome, None), method)
                    continue
                row, chosen, map_and_fit = next(maps)
                yield Explanation(
                    item,
                    self.prediction(item, outcome, row),
                    method,
                    target=self.classes[chosen],
                    frame=outcome.prepared.frame,
                    lungs=outcome.prepared.lungs if outcome.trusted else None,
                    **map_and_fit,
                )

        return explain

    def check_finite(self, probabilities: np.ndarray) -> None:
        """Refuse what a damaged model gives: an `InputError` if a value is not finite."""
        if not np.isfinite(probabilities).all():
            raise InputError(f"{self.name}: the model gives probabilities that are not finite; its weights are damaged")

    def batches(
        self, files: Images, batch_size: int = 16, jobs: int = 1, progress: bool = False
    ) -> Iterator[tuple[list[Path | np.ndarray], list[Outcome]]]:
        """Files or arrays with their outcomes of preparation, in order, in groups of `batch_size` files."""
        if batch_size < 1 or jobs < 1:
            raise InputError(f"batch_size: {batch_size}, jobs: {jobs} given, 1 or more expected")
        items = list(radiographs(files))
        prepared = prepare_files(
            items, self.input, segmenter=self.segmenter, jobs=jobs, batch=batch_size, progress=progress, look=True
        )
        # Unreadable files count: so a file is in the same batch in one process and in the task of a cluster.
        for first in range(0, len(items), batch_size):
            group = items[first : first + batch_size]
            yield group, list(islice(prepared, len(group)))

    def prediction(self, item: Path | np.ndarray, outcome: Outcome, row: np.ndarray | None) -> Prediction:
        """The prediction of one item from its outcome and its row of probabilities, None where it could not be read."""
        path = None if isinstance(item, np.ndarray) else item
        if row is None:
            return Prediction(path, lungs=outcome.verdict, error=outcome.error)
        thresholds = self.thresholds if self.task == "independent" else None
        return Prediction.from_row(row, self.classes, thresholds, path=path, lungs=outcome.verdict, notes=outcome.notes)

    def _html(self) -> str:
        settings = self.input
        rows = [
            ("classes", ", ".join(self.classes) + (" (independent)" if self.task == "independent" else "")),
            ("input", f"{settings.size} x {settings.size}, {', '.join(settings.channels)}; region {settings.region}"),
            ("network", f"{self.architecture}, {self.parameters:,} parameters"),
            ("file", "none" if self.path is None else printable(self.path)),
        ]
        return str(Table(("Classifier", printable(self.name)), rows).html())

    def _first_use(self, progress: bool) -> AbstractContextManager[None]:
        """Says what takes seconds before the first result: networks are built and compiled when first needed."""
        if self._network is not None or "_forward" in self.__dict__:
            return nullcontext()
        return announced(f"{self.name}: building and compiling networks for the first prediction", progress)

    @cached_property
    def _forward(self) -> Callable:
        if self._network is not None:
            return self._network
        # Compiled once for every batch size: a small last batch costs only its images.
        shape = tuple(self.model.input_shape[1:])
        return compiled(lambda stacks: (self.model(stacks, training=False),), self.model, [(shape, "uint8")])

    def _activation_maps(self, stacks, index, mapper, batch_size, options) -> Iterator[tuple[np.ndarray, int, dict]]:
        """Probabilities, class explained and fields of `Explanation`, one after the other."""
        if not stacks:
            return
        result = mapper.explain(np.stack(stacks), index, batch_size=batch_size)
        self.check_finite(result.probabilities)
        for values, row, chosen in zip(result.maps, result.probabilities, result.targets, strict=True):
            yield row, int(chosen), {"map": values, "grid": result.grid, "note": getattr(mapper, "note", "")}

    def _lime_maps(self, stacks, index, mapper, batch_size, options) -> Iterator[tuple[np.ndarray, int, dict]]:
        channels = self.input.channels
        # Superpixels follow anatomy on the raw plane, enhanced noise on the others.
        plane = channels.index("raw") if "raw" in channels else -1
        for stack in stacks:
            result = explain_lime(self, stack, index, plane=plane, batch_size=batch_size, **options)
            fields = {"map": result.weights, "fit": result.score, "samples": result.samples}
            yield result.probabilities, result.target, fields

    def _check_fit(self) -> None:
        outputs, count = self._outputs, len(set(self.classes))
        # Two classes are one sigmoid here; files of others have a softmax of two.
        fitting = (1, 2) if count == 2 and self.task == "exclusive" else (count,)
        if count < 2 or count != len(self.classes) or outputs not in fitting:
            raise InputError(f"{self.name}: classes {list(self.classes)} do not fit a model of {outputs} outputs")
        wanted = (self.input.size, self.input.size, len(self.input.channels))
        taken = self._network.input_shape if self._network else tuple(self.model.input_shape[1:])
        if len(taken) != 3 or any(t not in (None, w) for t, w in zip(taken, wanted, strict=True)):
            raise InputError(f"{self.name}: input settings give stacks of {wanted}, but the model takes {taken}")

    def _thresholds(self) -> np.ndarray:
        chosen = self.metadata.get("thresholds") or {}
        values = [chosen.get(label, 0.5) for label in self.classes] if isinstance(chosen, dict) else [None]
        # JSON of an untrusted file: true is a number to Python.
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not 0 <= v <= 1 for v in values):
            raise InputError(f"{self.name}: thresholds {chosen!r} in its metadata, numbers in 0..1 expected; damaged")
        return np.array(values, float)


def _load(origin: Callable[[], Classifier], segmenter: LungSegmenter | None) -> Classifier:
    classifier = origin()
    return classifier if segmenter is None else classifier.with_segmenter(segmenter)


def _predict_part(
    classifier: Classifier, items: Sequence[Path | np.ndarray], jobs: int, *, batch_size: int
) -> list[Prediction]:
    """The share of a worker of a cluster."""
    return list(classifier.iter_predict(items, batch_size=batch_size, jobs=jobs))


def _absolute(items: Sequence[Path | np.ndarray]) -> list[Path | np.ndarray]:
    # A worker has another working directory.
    return [item if isinstance(item, np.ndarray) else item.absolute() for item in items]


def _paths(items: Sequence[Path | np.ndarray | None]) -> list[Path]:
    return [item for item in items if isinstance(item, Path)]
