"""What a model predicts for each image and what is true, for exclusive classes and independent findings alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.vocabulary import independent_targets
from covidcxnet.reporting.table import frame_csv
from enhancement.errors import InputError

PREFIX = "p_"
UNKNOWN = "unknown"  # the source of an image that has none: neither seen in training nor never seen


@dataclass(frozen=True)
class Predictions:
    """One row an image, one column a class.

    An independent finding is predicted from its threshold on. Of two exclusive classes the second one is, else the
    first; with more, the most probable class is, and thresholds play no part. No image, or probabilities that are not
    finite, are an `InputError`.
    """

    table: pd.DataFrame  # `path`; `label`; `patient`, `source`, `lungs_trusted`; `labelled` where that is counted
    truth: np.ndarray  # float [N, K]: 1 present, 0 absent, NaN unknown; one exclusive class an image
    probabilities: np.ndarray  # float [N, K]; rows of exclusive classes sum to 1
    classes: tuple[str, ...]
    thresholds: np.ndarray  # float [K]
    task: str = "exclusive"  # or "independent", where one class does not rule out the others

    def __post_init__(self):
        if not len(self.table):
            raise InputError("evaluation: 0 images to evaluate, at least 1 expected; look at the split and its names")
        shape = (len(self.table), len(self.classes))
        if self.probabilities.shape != shape or self.truth.shape != shape:
            raise ValueError(f"probabilities {self.probabilities.shape}, truth {self.truth.shape}, expected {shape}")
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
        """True exclusive classes, int64 [N]."""
        return self.truth.argmax(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """Predicted exclusive classes, int64 [N]."""
        if len(self.classes) == 2:
            # A Python float: against float32 probabilities NumPy would compare an array element in float64.
            return (self.probabilities[:, 1] >= float(self.thresholds[1])).astype(np.int64)
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @property
    def called(self) -> np.ndarray:
        """Decisions, bool [N, K]."""
        if self.task == "independent":
            return self.probabilities >= self.thresholds
        return np.eye(len(self.classes), dtype=bool)[self.predicted]

    @property
    def threshold(self) -> float | None:
        """The threshold, where one serves all classes: that of the second of two exclusive ones."""
        return float(self.thresholds[1]) if self.task == "exclusive" and len(self.classes) == 2 else None

    @property
    def labelled(self) -> pd.Series:
        """Labels as the data have them; of independent findings those present, "none" where nothing is."""
        if self.task == "independent":
            names = np.array(self.classes, dtype=object)
            texts = [", ".join(names[row == 1]) or "none" for row in self.truth]
            return pd.Series(texts, self.table.index, dtype=object)
        return self.table["labelled" if "labelled" in self.table else "label"]

    @property
    def counted(self) -> np.ndarray:
        """Images of a label that the model does not know and that is counted as one of its classes: bool [N]."""
        if "labelled" not in self.table:
            return np.zeros(len(self), bool)
        return self.table["labelled"].to_numpy(dtype=object) != self.table["label"].to_numpy(dtype=object)

    @property
    def ungraded(self) -> np.ndarray:
        """Counted images of a class that has images of its own, whose figures they must not dilute: bool [N]."""
        counted = self.counted
        if not counted.any():
            return counted
        return counted & self.table["label"].isin(set(self.table["label"][~counted])).to_numpy()

    @property
    def graded(self) -> Predictions:
        """All but the ungraded images."""
        ungraded = self.ungraded
        return self.only(np.flatnonzero(~ungraded)) if ungraded.any() else self

    @property
    def sources(self) -> np.ndarray | None:
        """Source of each image, object [N], "unknown" where it has none; None where no source is known."""
        column = self.column("source")
        if column is None:
            return None
        return column.astype(object).replace("", None).fillna(UNKNOWN).astype(str).to_numpy(dtype=object)

    def only(self, rows: np.ndarray) -> Predictions:
        """The given rows, int."""
        table = self.table.iloc[rows].reset_index(drop=True)
        return replace(self, table=table, truth=self.truth[rows], probabilities=self.probabilities[rows])

    def column(self, name: str) -> pd.Series | None:
        """A column of the table, or None where it is absent or wholly empty."""
        return self.table[name] if filled(self.table, name) else None

    def to_frame(self) -> pd.DataFrame:
        """The table of `predictions.csv`: what identifies an image, its truth, its decision, its probabilities.

        Exclusive classes have columns `label`, `labelled` where labels are counted as another class, `predicted`, and
        `p_` and the name of each class. Each independent finding has its truth, `called_` and `p_` in its columns.
        """
        columns: dict[str, Any] = {"path": self.table["path"].to_numpy()}
        exclusive = self.task == "exclusive"
        for name in ("patient", "source", *(("label",) if exclusive else ())):
            columns[name] = self.table[name].to_numpy() if name in self.table else None
        if exclusive and "labelled" in self.table:
            columns["labelled"] = self.table["labelled"].to_numpy()
        if exclusive:
            columns["predicted"] = np.array(self.classes, dtype=object)[self.predicted]
        for k, name in enumerate(self.classes):
            if not exclusive:
                columns[name] = self.truth[:, k]
                columns[f"called_{name}"] = self.called[:, k].astype(int)
            columns[PREFIX + name] = self.probabilities[:, k]
        columns["lungs_trusted"] = self.table["lungs_trusted"].to_numpy() if "lungs_trusted" in self.table else None
        return pd.DataFrame(columns)

    def to_csv(self, path: Path | None = None) -> str:
        """`to_frame` as CSV; with a `path` it is written there and the text is empty."""
        # Nine digits give every float32 back, ranks with it; tables of findings are published with seven.
        return frame_csv(self.to_frame(), path, float_format="%.9g" if self.task == "exclusive" else "%.7g")


def filled(table: pd.DataFrame, column: str) -> bool:
    """Whether a table has the column, and something in it."""
    return column in table and not table[column].replace("", None).isna().all()


def truth_of(table: pd.DataFrame, classes: tuple[str, ...], task: str = "exclusive") -> np.ndarray:
    """Truth of each image, float [N, K], from the columns of a data set's or a store's table."""
    if task == "independent":
        return independent_targets(table, classes)
    unknown = sorted(set(table["label"]) - set(classes))
    if unknown:
        raise InputError(f"label {unknown[0]!r}: this model knows {', '.join(classes)}; leave the others out")
    return np.eye(len(classes))[pd.Index(classes).get_indexer(pd.Index(table["label"]))]
