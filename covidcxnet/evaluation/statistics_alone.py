"""What border, grey levels, sharpness and corners of the network's own input tell of a label, without any network.

A linear probe of these statistics, learnt on the evaluated images themselves and cross-validated over their patients,
says how well they rank the label. Disease can show in them too; but a network that ranks no better than they do has not
shown that it looks at more.
"""

from __future__ import annotations

import numpy as np

from covidcxnet.datasets.bias import FEWEST, FOLDS, tell_apart


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
