"""Explore a data set: counts, sums by class and source, sizes, samples to look at, and reasons to be wary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.splits import SPLITS
from covidcxnet.experiments.explore_measure import measure_all
from covidcxnet.experiments.explore_sums import Moments
from covidcxnet.experiments.explore_warnings import find_warnings
from enhancement.errors import InputError

MOST_SOURCES = 10
"""Sources that are kept apart; the smaller ones are `OTHER` together."""

OTHER, UNKNOWN = "other sources", "unknown"
SIZES = (32, 512)
_EVERY = ("source", "view", "sex", "population")


@dataclass(frozen=True)
class Survey:
    """What `explore` found. It holds sums and a few samples, no matter how many images there are.

    Attributes
    ----------
    name : str
        The data set.
    classes, sources : tuple of str
        In the order in which they are drawn. Sources are empty where the table has none.
    size : int
        Side of the mean images.
    listed, rejected : int
        Images in the table, and those of them that it marks as not to be used.
    unreadable : DataFrame
        ``path``, ``label``, ``reason``; for a file of its own, never for the page: names may name patients.
    counts : dict of str to DataFrame
        Readable images by class (rows) and source, split, view, sex or population (columns), where known.
    moments : dict of (class, source) to Moments
        Sums; ``source`` is "" where the table has none.
    sizes : DataFrame
        ``label``, ``source``, ``width``, ``height``, ``images``: how often each size is met.
    samples : dict of str to int array
        Class to rows of the table, picked at random, in turn from each source.
    findings : DataFrame or None
        Present, absent and unknown by finding, where the table has findings.
    patients : int or None
        Patients with a readable image; None where they are not known.
    warnings : tuple of str
    dataset : Dataset
        What was explored.
    """

    name: str
    classes: tuple[str, ...]
    sources: tuple[str, ...]
    size: int
    listed: int
    rejected: int
    unreadable: pd.DataFrame
    counts: dict[str, pd.DataFrame]
    moments: dict[tuple[str, str], Moments]
    sizes: pd.DataFrame
    samples: dict[str, np.ndarray]
    findings: pd.DataFrame | None
    patients: int | None
    warnings: tuple[str, ...]
    dataset: Dataset = field(repr=False)

    @property
    def images(self) -> int:
        """Images that were read."""
        return sum(one.images for one in self.moments.values())

    def of_class(self, label: str) -> Moments:
        """Sums of one class."""
        return reduce(add, (m for (c, _), m in self.moments.items() if c == label), Moments(self.size))

    def of_source(self, source: str) -> Moments:
        """Sums of one source."""
        return reduce(add, (m for (_, s), m in self.moments.items() if s == source), Moments(self.size))

    def to_dict(self) -> dict[str, Any]:
        """Counts and warnings as plain values, ready for JSON; no file name is among them."""
        return {
            "name": self.name,
            "listed": self.listed,
            "images": self.images,
            "rejected": self.rejected,
            "unreadable": len(self.unreadable),
            "patients": self.patients,
            "size": self.size,
            "counts": {name: {k: _plain(v) for k, v in t.T.to_dict().items()} for name, t in self.counts.items()},
            "warnings": list(self.warnings),
        }


def explore(
    dataset: Dataset,
    *,
    size: int = 128,
    split: pd.DataFrame | None = None,
    samples: int = 16,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> Survey:
    """Read every image of a data set once and say what it looks like.

    Parameters
    ----------
    dataset : Dataset
        What to explore; one class will do. Images that it rejects are counted and left out.
    size : int
        Side of mean and deviation images in pixels, 32 to 512.
    split : DataFrame, optional
        Columns ``path`` and ``split``, row-aligned with the table (`covidcxnet.datasets.splits.read_split`).
    samples : int
        Images of each class to show, 0 to 100.
    seed : int
        Of the choice of samples.
    jobs : int, optional
        Worker processes; None: one a core, none for a few files.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        If a number is out of its range, or no image can be read.
    """
    _within("size", size, *SIZES)
    _within("samples", samples, 0, 100)
    if jobs is not None:
        _within("jobs", jobs, 1, 1024)
    table = dataset.table
    groups, sources = _sources(table)
    used = np.flatnonzero([reason is None for reason in dataset.rejected])
    if not len(used):
        raise InputError(f"{dataset.name}: every image is rejected; there is nothing to explore")
    labels = table["label"].to_numpy(object)
    moments: dict[tuple[str, str], Moments] = {}
    sizes: Counter[tuple[str, str, int, int]] = Counter()
    readable, reasons = np.zeros(len(table), bool), {}
    paths = dataset.paths
    for one in measure_all([paths[i] for i in used], used.tolist(), size, jobs=jobs, progress=progress):
        if one.small is None or one.shares is None:
            reasons[one.row] = one.error or "cannot be read"
            continue
        readable[one.row] = True
        key = (str(labels[one.row]), str(groups[one.row]))
        moments.setdefault(key, Moments(size)).add(one.small, one.shares)
        sizes[(*key, one.width, one.height)] += 1
    if not readable.any():
        first = next(iter(reasons.values()))
        raise InputError(f"{dataset.name}: none of {len(used)} images can be read, the first: {first}")
    read = table[readable].assign(source=groups[readable]) if sources else table[readable]
    counts = _counts(read, dataset.classes, None if split is None else split["split"].to_numpy()[readable])
    drawn = pd.DataFrame(
        [(*key, n) for key, n in sizes.items()], columns=["label", "source", "width", "height", "images"]
    )
    classes = tuple(c for c in dataset.classes if (labels[readable] == c).any())
    absent = tuple(c for c in dataset.classes if c not in classes)
    return Survey(
        name=dataset.name,
        classes=classes,
        sources=tuple(s for s in sources if (groups[readable] == s).any()),
        size=size,
        listed=len(dataset),
        rejected=len(dataset) - len(used),
        unreadable=pd.DataFrame(
            {"path": table["path"].iloc[list(reasons)], "label": table["label"].iloc[list(reasons)],
             "reason": list(reasons.values())}
        ),
        counts=counts,
        moments=moments,
        sizes=drawn,
        samples=_samples(labels, groups, readable, classes, samples, seed),
        findings=_findings(dataset, readable),
        patients=None if dataset.group is None else int(dataset.group[readable].nunique()),
        warnings=tuple(find_warnings(counts, drawn, absent, _straddling(dataset, split))),
        dataset=dataset,
    )  # fmt: skip


def read_explored_split(path: str | Path, dataset: Dataset) -> pd.DataFrame:
    """A split file (or the one in a run folder) to explore; one with a patient on two sides is read and warned of."""
    from covidcxnet.datasets.splits import read_split

    path = Path(path)
    return read_split(path / "split.csv" if path.is_dir() else path, dataset, by="image")


def _sources(table: pd.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    """Source of each row, the smaller ones of many put together, and their names, the largest first."""
    if "source" not in table or table["source"].isna().all():
        return np.full(len(table), "", object), ()
    values = _text(table["source"])
    names = list(values.value_counts().index)
    if len(names) > MOST_SOURCES:
        values = values.where(values.isin(names[:MOST_SOURCES]), OTHER)
        names = [*names[:MOST_SOURCES], OTHER]
    return values.to_numpy(object), tuple(names)


def _text(column: pd.Series) -> pd.Series:
    known = column.notna() & (column.astype(str).str.strip() != "")
    return column.astype(object).where(known, UNKNOWN).astype(str)


def _counts(read: pd.DataFrame, classes, split) -> dict[str, pd.DataFrame]:
    columns = {name: _text(read[name]) for name in _EVERY if name in read and read[name].notna().any()}
    if "published_split" in read and read["published_split"].notna().any():
        columns["published split"] = _text(read["published_split"])
    if split is not None:
        columns["split"] = pd.Series(split, read.index)
    made = {}
    for name, values in columns.items():
        counts = pd.crosstab(read["label"], values).reindex(classes, fill_value=0)
        by_size = [str(c) for c in counts.sum().sort_values(ascending=False, kind="stable").index]
        made[name] = counts[[s for s in SPLITS if s in by_size] if name == "split" else by_size]
    return {"class": read["label"].value_counts().reindex(classes, fill_value=0).to_frame("images"), **made}


def _samples(labels, groups, readable, classes, most: int, seed: int) -> dict[str, np.ndarray]:
    """Rows to show: at random, in turn from each source, so that a small source is seen too."""
    random = np.random.default_rng(seed)
    chosen = {}
    for label in classes:
        rows = random.permutation(np.flatnonzero(readable & (labels == label)))
        turn = pd.Series(groups[rows]).groupby(groups[rows]).cumcount().to_numpy()
        picked = rows[np.argsort(turn, kind="stable")][:most]
        chosen[label] = picked[np.argsort(groups[picked].astype(str), kind="stable")]
    return chosen


def _findings(dataset: Dataset, readable: np.ndarray) -> pd.DataFrame | None:
    findings = dataset.findings
    if findings is None:
        return None
    known = findings[readable]
    counts = {"present": known.eq(1).sum(), "absent": known.eq(0).sum(), "unknown": known.isna().sum()}
    return pd.DataFrame(counts).astype(int)


def _straddling(dataset: Dataset, split: pd.DataFrame | None) -> int:
    """Patients with images on two sides of the split."""
    if split is None or dataset.group is None:
        return 0
    return int((split["split"].groupby(dataset.group.to_numpy()).nunique() > 1).sum())


def _within(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name}: {value!r} given, {low} to {high} expected")


def _plain(values: Mapping[Any, Any]) -> dict[str, int]:
    return {str(key): int(value) for key, value in values.items()}
