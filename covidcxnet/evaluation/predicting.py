"""Probabilities of what is evaluated, and of the validation images that thresholds are chosen on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.evaluation.settings import EvaluationSettings
    from covidcxnet.evaluation.subject import Subject
    from covidcxnet.preparation import Store


def predict_subject(subject: Subject, settings: EvaluationSettings) -> np.ndarray:
    """Probabilities float32 [N, C] of what is evaluated."""
    how = (settings.batch_size, settings.progress, subject.data.split)
    return subject.classifier.predict_rows(subject.store, subject.rows, *how)


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
    return store, rows, subject.classifier.predict_rows(store, rows, *how)
