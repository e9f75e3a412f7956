"""A trained classifier with everything needed to use it: from radiograph files to labels, probabilities and heatmaps.

Files become stacks by the function that training used, with the settings that travel inside the weights file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.prediction import Prediction
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.explain.explanation import Explanation
    from covidcxnet.explain.gradcam import GradCAM
    from segmentation.segmenter import LungSegmenter

Item = str | os.PathLike | np.ndarray

NONE = "none"
"""Label where a model of independent findings calls none of them."""

__all__ = ["Classifier", "Prediction"]


class Classifier:
    """A model, its labels and its input settings.

    Parameters
    ----------
    model : keras.Model
        Takes stacks ``[n, S, S, C]`` in 0..255; gives one sigmoid (the probability of the second of two classes) or one
        softmax column a class.
    metadata : dict
        Of the weights file: ``classes`` and ``input`` are used, and ``segmenter`` where the lungs matter.
    path : str or Path, optional
        The weights file, for messages.
    segmenter : LungSegmenter, optional
        Used instead of the one that the metadata name, whatever its weights.

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
    ):
        self.model = model
        self.metadata = metadata
        self.path = None if path is None else Path(path)
        self.name = self.path.name if self.path else model.name
        self.classes = tuple(str(label) for label in metadata.get("classes", ()))
        self.input = InputSettings.from_dict(metadata.get("input", {}))
        self._given_segmenter = segmenter
        self.multilabel = _independent(metadata, model.output_shape[-1])
        self._check()
        self.thresholds = self._thresholds()

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
        from segmentation.segmenter import LungSegmenter

        recorded = self.metadata.get("segmenter") or {}
        name = self.input.segmenter
        try:
            found = LungSegmenter(name)
        except (InputError, LookupError) as error:
            if self.input.region == "none":
                return None
            raise InputError(
                f"{self.name}: its input is the lungs' {self.input.region} and needs the segmenter {name!r}: {error}"
            ) from error
        trained = recorded.get("sha256")
        if self.input.region != "none" and trained and found.sha256 != trained:
            raise InputError(
                f"{self.name}: was trained with a segmenter {name!r} of SHA-256 {trained[:12]}, this one has "
                f"{str(found.sha256)[:12]}; give the right file as segmenter, or this one if that is what you want"
            )
        return found

    @cached_property
    def gradcam(self) -> GradCAM:
        """Grad-CAM of the model at its last feature maps."""
        from covidcxnet.explain.gradcam import GradCAM

        return GradCAM(self.model)

    def predict(
        self, files: Item | Iterable[Item], *, batch_size: int = 16, jobs: int = 1, progress: bool = False
    ) -> list[Prediction]:
        """Predict radiographs.

        Parameters
        ----------
        files : path, uint8 array [H, W], or any number of them
            A folder stands for the radiographs in it.
        batch_size : int
            Stacks that go through the model together.
        jobs : int
            Processes that read and enhance.
        progress : bool
            Show a progress bar.

        Returns
        -------
        list of Prediction
            One each, in the order given. A file that could not be read has `error` set; the others are unaffected.

        Raises
        ------
        InputError
            If a folder holds no radiograph, or the segmenter is missing that the model's input needs.
        """
        return list(self.iter_predict(files, batch_size=batch_size, jobs=jobs, progress=progress))

    def iter_predict(
        self, files: Item | Iterable[Item], *, batch_size: int = 16, jobs: int = 1, progress: bool = False
    ) -> Iterator[Prediction]:
        """Like `predict`, one after the other: memory stays flat however many files there are."""
        for items, outcomes in self.batches(files, batch_size, jobs, progress):
            stacks = [outcome.prepared.stack for outcome in outcomes if outcome.prepared is not None]
            rows = iter(self.predict_stacks(np.stack(stacks), batch_size) if stacks else ())
            for item, outcome in zip(items, outcomes, strict=True):
                yield self.prediction(item, outcome, None if outcome.prepared is None else next(rows))

    def predict_stacks(self, stacks: np.ndarray, batch_size: int = 16) -> np.ndarray:
        """Probabilities of prepared stacks.

        The forward pass is compiled once for every batch size, so a small last batch costs only its images.

        Parameters
        ----------
        stacks : uint8 [n, S, S, C]
            Of this model's size and channels; an HDF5 data set is read batch by batch.
        batch_size : int
            Stacks that go through the model together.

        Returns
        -------
        float32 [n, classes]
            One column a class, each row adding up to 1 (the sigmoids of CheXNet do not: each is a finding of its own).

        Raises
        ------
        InputError
            If the stacks' size, channels or type do not fit, or the model gives values that are not finite.
        """
        shape = (self.input.size, self.input.size, len(self.input.channels))
        given = tuple(getattr(stacks, "shape", ()))
        if len(given) != 4 or given[1:] != shape or stacks.dtype != np.uint8:
            kind = f"{getattr(stacks, 'dtype', type(stacks).__name__)} {given}"
            expected = f"uint8 [n, {shape[0]}, {shape[1]}, {shape[2]}]"
            raise InputError(f"{self.name}: stacks of {kind} given, {expected} expected")
        if batch_size < 1:
            raise InputError(f"batch_size: {batch_size} given, 1 or more expected")
        parts = [self._forward(np.asarray(stacks[i : i + batch_size]))[0] for i in range(0, given[0], batch_size)]
        outputs = np.concatenate(parts) if parts else np.zeros((0, self.model.output_shape[-1]), "float32")
        self.check_finite(outputs)
        return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs

    def explain(
        self, files: Item | Iterable[Item], method: str = "gradcam", target: str | None = None, **options: Any
    ) -> list[Explanation]:
        """Predict radiographs and say where the evidence lies.

        Parameters
        ----------
        files : path, uint8 array [H, W], or any number of them
        method : {"gradcam", "lime"}
            Grad-CAM costs hardly more than the prediction; LIME about 1000 predictions an image.
        target : str, optional
            The class to explain; by default the one predicted.
        **options
            `batch_size`, `jobs` and `progress` as in `predict`; for LIME also `samples`, `segments`, `fill` and `seed`,
            see `covidcxnet.explain.lime.explain_lime`.

        Returns
        -------
        list of Explanation
            One each, in the order given, with `.heatmap` in the radiograph's frame, `.prediction` and ways to draw it.
        """
        return list(self.iter_explain(files, method, target, **options))

    def iter_explain(
        self,
        files: Item | Iterable[Item],
        method: str = "gradcam",
        target: str | None = None,
        *,
        batch_size: int = 16,
        jobs: int = 1,
        progress: bool = False,
        **options: Any,
    ) -> Iterator[Explanation]:
        """Like `explain`, one after the other: memory stays flat however many files there are."""
        from covidcxnet.explain.explanation import explain_each

        batches = self.batches(files, batch_size, jobs, progress)
        return explain_each(self, batches, method, target, batch_size, **options)

    def check_finite(self, probabilities: np.ndarray) -> None:
        """Refuse what a damaged model gives: an `InputError` if a value is not finite."""
        if not np.isfinite(probabilities).all():
            raise InputError(f"{self.name}: the model gives probabilities that are not finite; its weights are damaged")

    @cached_property
    def _forward(self):
        from covidcxnet.explain.gradients import compiled

        shape = tuple(self.model.input_shape[1:])
        return compiled(lambda stacks: (self.model(stacks, training=False),), self.model, [(shape, "uint8")])

    def batches(
        self, files: Item | Iterable[Item], batch_size: int = 16, jobs: int = 1, progress: bool = False
    ) -> Iterator[tuple[list[Path | np.ndarray], list[Any]]]:
        """Files or arrays with their outcomes of preparation, in order, in groups of up to `batch_size` stacks."""
        from covidcxnet.preparation.pipeline import prepare_files

        if batch_size < 1 or jobs < 1:
            raise InputError(f"batch_size: {batch_size}, jobs: {jobs} given, 1 or more expected")
        every = _items(files)
        prepared = prepare_files(
            every, self.input, segmenter=self.segmenter, jobs=jobs, batch=batch_size, progress=progress, look=True
        )
        items: list[Any] = []
        outcomes: list[Any] = []
        ready = 0
        for item, outcome in zip(every, prepared, strict=True):
            items.append(item)
            outcomes.append(outcome)
            ready += outcome.prepared is not None
            # Unreadable files wait too: a long row of them must not pile up.
            if ready == batch_size or len(items) == 4 * batch_size:
                yield items, outcomes
                items, outcomes, ready = [], [], 0
        if items:
            yield items, outcomes

    def prediction(self, item: Path | np.ndarray, outcome: Any, row: np.ndarray | None) -> Prediction:
        """The prediction of one item from its outcome and its row of probabilities, None where it could not be read."""
        path = None if isinstance(item, np.ndarray) else item
        if row is None:
            return Prediction(path, lungs=outcome.verdict, error=outcome.error)
        probabilities = {label: float(value) for label, value in zip(self.classes, row, strict=True)}
        findings = None
        label = self.classes[int(np.argmax(row))]
        if self.multilabel:
            called = np.flatnonzero(np.asarray(row) >= self.thresholds)
            findings = tuple(self.classes[i] for i in called[np.argsort(-np.asarray(row)[called], kind="stable")])
            label = "|".join(findings) or NONE
        return Prediction(path, label, probabilities, outcome.verdict, notes=outcome.notes, findings=findings)

    def _thresholds(self) -> np.ndarray:
        """Probability from which each class is called, float64 [C]; of findings those that the training chose."""
        chosen = self.metadata.get("thresholds") or {}
        values = [chosen.get(label, 0.5) for label in self.classes] if isinstance(chosen, dict) else [None]
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not 0 <= v <= 1 for v in values):
            raise InputError(f"{self.name}: thresholds {chosen!r} in its metadata, numbers in 0..1 expected; damaged")
        return np.array(values, float)

    def _check(self) -> None:
        outputs = self.model.output_shape[-1]
        count = len(set(self.classes))
        fitting = (1, 2) if count == 2 and not self.multilabel else (count,)
        if count < 2 or count != len(self.classes) or outputs not in fitting:
            raise InputError(f"{self.name}: classes {list(self.classes)} do not fit a model of {outputs} outputs")
        wanted = (self.input.size, self.input.size, len(self.input.channels))
        taken = tuple(self.model.input_shape[1:])
        if len(taken) != 3 or any(t not in (None, w) for t, w in zip(taken, wanted, strict=True)):
            raise InputError(f"{self.name}: input settings give stacks of {wanted}, but the model takes {taken}")


def _independent(metadata: dict[str, Any], outputs: int) -> bool:
    """Whether the outputs are findings that do not exclude each other, as in CheXNet."""
    options = (metadata.get("architecture") or {}).get("options") or {}
    return outputs > 1 and bool(options.get("multilabel") or options.get("activation") == "sigmoid")


def _items(files: Item | Iterable[Item]) -> list[Path | np.ndarray]:
    """Files and arrays one by one; folders become the radiographs in them."""
    from enhancement import find_images

    if isinstance(files, np.ndarray) and files.ndim != 2:
        raise InputError(f"array of shape {files.shape} given, uint8 [H, W] or a list of such arrays expected")
    single = isinstance(files, str | os.PathLike | np.ndarray)
    if not single and not isinstance(files, Iterable):
        raise InputError(f"{type(files).__name__} given, a path, a uint8 array [H, W] or a list of them expected")
    items: list[Path | np.ndarray] = []
    for item in [files] if single else files:  # type: ignore[list-item, union-attr]
        if isinstance(item, np.ndarray):
            items.append(item)
        elif isinstance(item, str | os.PathLike):
            path = Path(item)
            items.extend(find_images(path) if path.is_dir() else [path])
        else:
            raise InputError(f"{type(item).__name__} given, a path or a uint8 array [H, W] expected")
    return items
