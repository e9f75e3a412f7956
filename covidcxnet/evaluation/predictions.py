"""Predictions: what the model said about each image, row by row, and the table they are saved as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from enhancement.errors import InputError
from enhancement.files import whole_file

PREFIX = "p_"


@dataclass(frozen=True)
class Predictions:
    """One row an image.

    Parameters
    ----------
    table : pd.DataFrame
        Columns `path` and `label`; `patient`, `source` and `lungs_trusted` where known; `labelled`, what the data
        say, where a label is counted as another class. N rows.
    probabilities : np.ndarray
        float [N, C], each row summing to 1.
    classes : tuple of str
        Names of the columns of `probabilities`.
    threshold : float
        Two classes: `classes[1]` is called from this probability on. More classes: the most probable one is called.

    Raises
    ------
    InputError
        No image, a label that is not among the classes, or probabilities that are not finite.
    """

    table: pd.DataFrame
    probabilities: np.ndarray
    classes: tuple[str, ...]
    threshold: float = 0.5

    def __post_init__(self):
        if not len(self.table):
            raise InputError("evaluation: 0 images to evaluate, at least 1 expected; look at the split and its names")
        if self.probabilities.shape != (len(self.table), len(self.classes)):
            raise ValueError(
                f"probabilities {self.probabilities.shape}, expected {(len(self.table), len(self.classes))}"
            )
        unknown = sorted(set(self.table["label"]) - set(self.classes))
        if unknown:
            raise InputError(f"label {unknown[0]!r}: this model knows {', '.join(self.classes)}; leave the others out")
        broken = ~np.isfinite(self.probabilities).all(axis=1)
        if broken.any():
            path = self.table["path"].iloc[int(np.flatnonzero(broken)[0])]
            raise InputError(
                f"{path}: the model's output is not a number (so for {int(broken.sum())} images); "
                "the weights are damaged or the training diverged"
            )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def targets(self) -> np.ndarray:
        """True classes, int64 [N]."""
        return pd.Index(self.classes).get_indexer(pd.Index(self.table["label"])).astype(np.int64)

    @property
    def predicted(self) -> np.ndarray:
        """Called classes, int64 [N]."""
        if len(self.classes) == 2:
            return (self.probabilities[:, 1] >= self.threshold).astype(np.int64)
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @property
    def labelled(self) -> pd.Series:
        """Labels as the data have them."""
        return self.table["labelled" if "labelled" in self.table else "label"]

    @property
    def apart(self) -> np.ndarray:
        """Images of a label that is counted as a class which has images of its own: bool [N]."""
        own = self.labelled.to_numpy(dtype=object) == self.table["label"].to_numpy(dtype=object)
        return ~own & self.table["label"].isin(set(self.table["label"][own])).to_numpy()

    def only(self, rows: np.ndarray) -> Predictions:
        """Of the given rows, int or bool."""
        table = self.table[rows] if rows.dtype == bool else self.table.iloc[rows]
        return Predictions(table.reset_index(drop=True), self.probabilities[rows], self.classes, self.threshold)

    def column(self, name: str) -> pd.Series | None:
        """A column of the table, or None where it is absent or wholly empty."""
        if name not in self.table or self.table[name].replace("", None).isna().all():
            return None
        return self.table[name]

    def to_frame(self) -> pd.DataFrame:
        """Columns path, patient, source, label, predicted, `p_` and class name for each class, lungs_trusted.

        Where labels are counted as another class, `labelled` tells what the data say.
        """
        frame = pd.DataFrame({"path": self.table["path"].to_numpy()})
        for name in ("patient", "source", "label"):
            frame[name] = self.table[name].to_numpy() if name in self.table else None
        if "labelled" in self.table:
            frame["labelled"] = self.table["labelled"].to_numpy()
        frame["predicted"] = np.array(self.classes, dtype=object)[self.predicted]
        for c, name in enumerate(self.classes):
            frame[PREFIX + name] = self.probabilities[:, c]
        frame["lungs_trusted"] = self.table["lungs_trusted"].to_numpy() if "lungs_trusted" in self.table else None
        return frame

    def save(self, path: str | Path) -> Path:
        """Write `to_frame` as CSV, whole or not at all; nine digits give every float32 back, ranks with it."""
        with whole_file(path) as partial:
            self.to_frame().to_csv(partial, index=False, float_format="%.9g")
        return Path(path)


def youden_threshold(probability: np.ndarray, positive: np.ndarray) -> float:
    """Probability at which sensitivity + specificity is highest (Youden 1950); the middle of the gap it lies in.

    Parameters
    ----------
    probability : np.ndarray
        float [N], P(positive), of images that the report does not count (the validation split).
    positive : np.ndarray
        bool [N].

    Raises
    ------
    InputError
        If one of the two classes is absent.
    """
    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        raise InputError("threshold: auto needs both classes in the validation split; give a number such as 0.5")
    order = np.argsort(-np.asarray(probability, np.float64), kind="stable")
    descending = np.asarray(probability, np.float64)[order]
    last = np.flatnonzero(np.r_[np.diff(descending) != 0, True])
    hits = np.cumsum(positive[order])[last] / positive.sum()
    alarms = np.cumsum(~positive[order])[last] / (~positive).sum()
    best = int(np.argmax(hits - alarms))
    lower = descending[last[best + 1]] if best + 1 < len(last) else 0.0
    return float((descending[last[best]] + lower) / 2)
