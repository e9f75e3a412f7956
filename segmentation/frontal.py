"""Whether an image is an upright frontal chest radiograph, by the features with which the U-Net finds the lungs.

The features cost nothing, as they are computed for every mask. `tools/frontal.py` fits the rule to one weights file.
"""

from __future__ import annotations

from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np

from enhancement.errors import InputError
from weights.manifest import FOLDER

from .regions import Frame

SUFFIX = ".frontal.npz"


@dataclass(frozen=True, eq=False)
class FrontalRule:
    """A linear rule on pooled features of one layer."""

    layer: str
    mean: np.ndarray  # float32 [D], of the pooled features of the images that the rule was fitted to
    scale: np.ndarray  # float32 [D], their standard deviation
    weights: np.ndarray  # float32 [D]
    bias: float

    def score(self, features: np.ndarray, frame: Frame) -> float:
        """Above 0 for an upright frontal radiograph; `features` are those of its square, ``float32 [s, s, F]``."""
        standardized = (pooled(features, frame) - self.mean) / self.scale
        return float(standardized @ self.weights + self.bias)


def pooled(features: np.ndarray, frame: Frame) -> np.ndarray:
    """Mean and maximum of each feature over the radiograph's part of the square, ``float32 [2 F]``."""
    rows, columns = frame.inner
    step = frame.size // features.shape[0]
    inside = features[rows.start // step : -(-rows.stop // step), columns.start // step : -(-columns.stop // step)]
    return np.concatenate([inside.mean(axis=(0, 1)), inside.max(axis=(0, 1))]).astype(np.float32)


def rule_of(name: str, sha256: str) -> FrontalRule | None:
    """The rule of a released segmenter, None where there is none for just this file.

    Features of another network mean something else, so that the SHA-256 decides and not the name.
    """
    path = FOLDER / f"{name}{SUFFIX}"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["sha256"]) != sha256:
                return None
            mean, scale, weights = (file[key].astype(np.float32) for key in ("mean", "scale", "weights"))
            return FrontalRule(str(file["layer"]), mean, scale, weights, float(file["bias"]))
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{path}: not a rule for frontal radiographs, or damaged") from error
