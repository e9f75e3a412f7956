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

from covidcxnet.classifier_parts import check_fit, check_stacks, independent, thresholds_of, trained_segmenter
from covidcxnet.items import Item, items_of, prepared_batches
from covidcxnet.prediction import Prediction, prediction_of
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.explain.cam import CAM
    from covidcxnet.explain.explanation import Explanation
    from covidcxnet.explain.gradcam import GradCAM
    from segmentation.segmenter import LungSegmenter

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
        from segmentation.backend import fuse_batch_norm

        self.model = model
        self.metadata = metadata
        self.path = None if path is None else Path(path)
        self.name = self.path.name if self.path else model.name
        self.classes = tuple(str(label) for label in metadata.get("classes", ()))
        self.input = InputSettings.from_dict(metadata.get("input", {}))
        self._given_segmenter = segmenter
        self.multilabel = independent(metadata, model.output_shape[-1])
        check_fit(self.name, model, self.classes, self.input, self.multilabel)
        fuse_batch_norm(model)
        self.thresholds = thresholds_of(self.name, metadata, self.classes)

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
        return trained_segmenter(self.name, self.metadata, self.input)

    @cached_property
    def gradcam(self) -> GradCAM:
        """Grad-CAM of the model at its last feature maps."""
        from covidcxnet.explain.gradcam import GradCAM

        return GradCAM(self.model)

    @cached_property
    def cam(self) -> CAM:
        """Class activation maps; an `InputError` where the head is not global average pooling and one dense layer."""
        from covidcxnet.explain.cam import CAM

        return CAM(self.model)

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
        check_stacks(self.name, stacks, self.input)
        if batch_size < 1:
            raise InputError(f"batch_size: {batch_size} given, 1 or more expected")
        parts = [self._forward(np.asarray(stacks[i : i + batch_size]))[0] for i in range(0, len(stacks), batch_size)]
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
        method : {"gradcam", "cam", "lime"}
            Grad-CAM costs hardly more than the prediction; LIME about 1000 predictions an image. CAM, the closed form
            of Grad-CAM, is there for networks that end in global average pooling and one dense layer.
        target : str, optional
            The class to explain; by default the one predicted.
        **options
            `batch_size`, `jobs` and `progress` as in `predict`; for LIME also `samples`, `segments`, `fill` and `seed`,
            see `covidcxnet.explain.lime.explain_lime`.

        Returns
        -------
        list of Explanation
            One each, in the order given, with `.heatmap` in the radiograph's frame, `.prediction` and ways to draw it.

        Raises
        ------
        InputError
            If method, target or an option is unknown, or the network has no class activation maps; before any work.
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
        from covidcxnet.backend import compiled

        shape = tuple(self.model.input_shape[1:])
        return compiled(lambda stacks: (self.model(stacks, training=False),), self.model, [(shape, "uint8")])

    def batches(
        self, files: Item | Iterable[Item], batch_size: int = 16, jobs: int = 1, progress: bool = False
    ) -> Iterator[tuple[list[Path | np.ndarray], list[Any]]]:
        """Files or arrays with their outcomes of preparation, in order, in groups of up to `batch_size` stacks."""
        if batch_size < 1 or jobs < 1:
            raise InputError(f"batch_size: {batch_size}, jobs: {jobs} given, 1 or more expected")
        yield from prepared_batches(items_of(files), self.input, self.segmenter, batch_size, jobs, progress)

    def prediction(self, item: Path | np.ndarray, outcome: Any, row: np.ndarray | None) -> Prediction:
        """The prediction of one item from its outcome and its row of probabilities, None where it could not be read."""
        path = None if isinstance(item, np.ndarray) else item
        return prediction_of(path, outcome, row, self.classes, self.thresholds if self.multilabel else None)
