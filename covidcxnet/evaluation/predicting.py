"""Probabilities of rows of a store, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.evaluation.settings import EvaluationSettings
    from covidcxnet.evaluation.subject import Subject
    from covidcxnet.preparation import Store

_CHUNK = 256  # stacks read at once: 75 MB at 320 x 320 x 3


def predict(store: Store, rows, classifier: Classifier, batch_size: int, progress: bool, name: str) -> np.ndarray:
    """Probabilities float32 [n, C] of rows of a store; memory stays flat."""
    from tqdm import tqdm

    parts = []
    with tqdm(total=len(rows), desc=f"predicting {name}", unit="image", disable=not progress) as bar:
        for start in range(0, len(rows), _CHUNK):
            stacks = store.read(rows[start : start + _CHUNK])
            parts.append(classifier.predict_stacks(stacks, batch_size=batch_size))
            bar.update(len(stacks))
    return np.concatenate(parts) if parts else np.empty((0, len(classifier.classes)), np.float32)


def predict_subject(subject: Subject, settings: EvaluationSettings) -> np.ndarray:
    """Probabilities float32 [N, C] of what is evaluated."""
    how = (settings.batch_size, settings.progress, subject.data.split)
    return predict(subject.store, subject.rows, subject.classifier, *how)


def predict_validation(subject: Subject, settings: EvaluationSettings) -> tuple[Store, np.ndarray, np.ndarray]:
    """The run's store, its validation rows int64 [n] and their probabilities float32 [n, C], to choose thresholds on.

    Raises
    ------
    InputError
        If the weights come without their run.
    """
    run = subject.run
    if run is None:
        raise InputError("threshold: auto is chosen on a run's validation split; these weights come without their run")
    rows, store = run.rows("validation"), run.store
    how = (settings.batch_size, settings.progress, "validation")
    return store, rows, predict(store, rows, subject.classifier, *how)
