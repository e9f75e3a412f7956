"""Can source or label be told from a radiograph's border, grey levels, sharpness and size alone? A probe says how well.

Balanced accuracy of a linear classifier, cross-validated so that images of one patient stay on one side; chance is 1
over the number of values. What such a probe can tell, a network can learn instead of disease.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.shortcuts import COUNT, FEATURES, FEWEST, FOLDS, shortcuts, tell_apart
from enhancement.errors import InputError

_BATCH = 32  # files a task


@dataclass(frozen=True)
class Probe:
    """How well one thing can be told.

    Parameters
    ----------
    target : str
        What is told: source, label, label within one source, children or adults.
    images : int
        Of the values probed.
    values : tuple of str
        That are told apart.
    left_out : tuple of str
        Those with fewer than `FEWEST` images, or too few patients for the folds.
    accuracy : float
        Balanced accuracy over the folds, 0..1.
    chance : float
        What guessing gives.
    alone : dict
        Balanced accuracy by each kind of feature alone.
    """

    target: str
    images: int
    values: tuple[str, ...]
    left_out: tuple[str, ...]
    accuracy: float
    chance: float
    alone: dict[str, float]


@dataclass(frozen=True)
class Bias:
    """What `find_bias` found.

    Parameters
    ----------
    name : str
    images, unreadable : int
    probes : tuple of Probe
    tables : dict of str to DataFrame
        Images by label (rows) and source, view, sex, population or age band (columns), where known.
    warnings : tuple of str
    """

    name: str
    images: int
    unreadable: int
    probes: tuple[Probe, ...]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        tables = {name: {str(k): v for k, v in t.T.to_dict().items()} for name, t in self.tables.items()}
        return {**asdict(self), "tables": tables}


def find_bias(dataset: Dataset, *, seed: int = 0, jobs: int | None = None, progress: bool = True) -> Bias:
    """Probe a data set for shortcuts.

    Parameters
    ----------
    dataset : Dataset
        Its columns source, view, sex, population, age and patient are used where they are there.
    seed : int
        Of the folds.
    jobs : int, optional
        Processes that read files; None: one a core, one for a few files.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        If no file can be read.
    """
    features, readable = _features(dataset, jobs, progress)
    if not readable.any():
        raise InputError(f"{dataset.name}: no file can be read")
    table = dataset.table.loc[readable].reset_index(drop=True)
    features = features[readable]
    groups = _patients(table)
    columns = _described(table)
    probes = [_probe("source", features, columns["source"], groups, seed)] if "source" in columns else []
    probes.append(_probe("label", features, table["label"], groups, seed))
    for source in sorted(columns["source"].dropna().unique()) if "source" in columns else ():
        inside = (columns["source"] == source).to_numpy()
        probes.append(_probe(f"label within {source}", features, table["label"].where(inside), groups, seed))
    if "population" in columns:
        probes.append(_probe("children or adults", features, columns["population"], groups, seed))
    tables = {
        name: pd.crosstab(table["label"], values.where(values.notna(), "unknown").astype(str))
        for name, values in columns.items()
    }
    kept = tuple(p for p in probes if p is not None)
    return Bias(dataset.name, len(table), int((~readable).sum()), kept, tables, tuple(_warnings(tables, kept)))


def _features(dataset: Dataset, jobs: int | None, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features ``float32 [N, COUNT]``, and for which images there are any."""
    from tqdm import tqdm

    from enhancement.parallel import in_order

    paths = dataset.paths
    features, readable = np.zeros((len(paths), COUNT), np.float32), np.zeros(len(paths), bool)
    tasks = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = jobs or min(cores, max(1, len(paths) // 200))
    with tqdm(total=len(paths), desc="measuring", unit="file", disable=not progress) as bar:
        done = (one for task in in_order(_measure, tasks, min(jobs, max(1, len(tasks))), _lost) for one in task)
        for i, found in enumerate(done):
            bar.update()
            if found is not None and np.isfinite(found).all():
                features[i], readable[i] = found, True
    return features, readable


def _measure(task) -> list[np.ndarray | None]:
    from enhancement import read_radiograph

    found: list[np.ndarray | None] = []
    for path in task:
        try:
            found.append(shortcuts(read_radiograph(path)))
        except Exception:  # one bad file among thousands must not end the search, whatever it broke
            found.append(None)
    return found


def _lost(path) -> None:
    return None


def _patients(table: pd.DataFrame) -> np.ndarray:
    if "patient" not in table:
        return np.arange(len(table))
    groups = pd.factorize(table["patient"])[0]
    unknown = groups < 0
    groups[unknown] = groups.max() + 1 + np.arange(unknown.sum())
    return groups


def _described(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns to compare labels with, as text or None; children from ages where no population is given."""
    found = {name: table[name].astype(object) for name in ("source", "view", "sex", "population") if name in table}
    if "age" in table:
        ages = pd.to_numeric(table["age"], errors="coerce")
        bands = pd.cut(ages, [-1, 17.99, 40, 60, 80, 200], labels=["0-17", "18-40", "41-60", "61-80", "over 80"])
        found["age band"] = bands.astype(object)
        by_age = pd.Series(np.where(ages < 18, "paediatric", "adult"), table.index, dtype=object).where(ages.notna())
        known = found.get("population", pd.Series(None, table.index, dtype=object))
        found["population"] = known.where(known.notna(), by_age)
    return {name: values for name, values in found.items() if values.notna().any()}


def _probe(target: str, features, values: pd.Series, groups, seed: int) -> Probe | None:
    values = values.reset_index(drop=True)
    counts = values.value_counts()
    people = pd.Series(groups).groupby(values).nunique()
    names = [v for v in counts.index if counts[v] >= FEWEST and people[v] >= FOLDS]
    rows = values.isin(names).to_numpy()
    if len(names) < 2:
        return None
    x, y, own = features[rows], values[rows].astype(str).to_numpy(), groups[rows]
    alone, start = {}, 0
    for kind, members in FEATURES.items():
        alone[kind] = _accuracy(x[:, start : start + len(members)], y, own, seed)
        start += len(members)
    told, rest = (tuple(sorted(map(str, part))) for part in (names, set(counts.index) - set(names)))
    return Probe(target, len(y), told, rest, _accuracy(x, y, own, seed), 1 / len(names), alone)


def _accuracy(x, y, groups, seed: int) -> float:
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(y, tell_apart(x, y, groups, seed=seed)))


def _warnings(tables: dict[str, pd.DataFrame], probes: tuple[Probe, ...]) -> Iterator[str]:
    for name, counts in tables.items():
        for label, row in counts.iterrows():
            known = row.drop("unknown", errors="ignore")
            others = counts.drop(index=label).drop(columns="unknown", errors="ignore").sum()
            if counts.shape[1] > 1 and known.sum() and known.max() >= 0.95 * known.sum():
                value = str(known.idxmax())
                if others.sum() and others[value] < 0.5 * others.sum():
                    yield f"{label}: {known.max()} of {known.sum()} images have {name} {value}, unlike the other labels"
    for probe in probes:
        if probe.accuracy >= probe.chance + 0.5 * (1 - probe.chance):
            yield (
                f"{probe.target} can be told from simple image statistics: balanced accuracy {probe.accuracy:.2f}, "
                f"chance {probe.chance:.2f}"
            )
