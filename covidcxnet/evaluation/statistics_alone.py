"""What border, grey levels, sharpness and corners of the network's own input tell of a label, without any network.

A linear probe of these statistics, learnt on the evaluated images themselves and cross-validated over their patients,
says how well they rank the label. Disease can show in them too; but a network that ranks no better than they do has not
shown that it looks at more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from covidcxnet.datasets.shortcuts import COUNT, FEWEST, FOLDS, shortcuts, tell_apart

if TYPE_CHECKING:
    from covidcxnet.evaluation.subject import Subject

_CHUNK = 256  # stacks read at once


def input_statistics(subject: Subject, progress: bool = False) -> np.ndarray:
    """Statistics of the evaluated stacks as the network gets them, after crop, resizing and matched grey levels.

    Of the plane of the radiograph itself ("raw"), or else the first: float32 [N, COUNT], as `shortcuts.FEATURES` names
    them.
    """
    from tqdm import tqdm

    store, rows, channels = subject.store, subject.rows, subject.classifier.input.channels
    plane = channels.index("raw") if "raw" in channels else 0
    found = np.zeros((len(rows), COUNT), np.float32)
    with tqdm(total=len(rows), desc="measuring inputs", unit="image", disable=not progress) as bar:
        for start in range(0, len(rows), _CHUNK):
            for at, stack in enumerate(store.read(rows[start : start + _CHUNK]), start):
                found[at] = shortcuts(np.ascontiguousarray(stack[..., plane]))
                bar.update()
    return found


def scores_of_statistics(statistics: np.ndarray, positive: np.ndarray, patients: np.ndarray) -> np.ndarray | None:
    """How much each image looks like a positive by its statistics, told by a probe that never saw its patient.

    Parameters
    ----------
    statistics : np.ndarray
        float [n, F].
    positive : np.ndarray
        bool [n].
    patients : np.ndarray
        int [n].

    Returns
    -------
    np.ndarray or None
        float64 [n]; None with fewer than `FEWEST` images or `FOLDS` patients of either kind.
    """
    sides = [patients[positive], patients[~positive]]
    if any(len(side) < FEWEST or len(set(side)) < FOLDS for side in sides):
        return None
    return tell_apart(statistics, positive, patients, method="decision_function")
