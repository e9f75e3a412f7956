"""Can source or label be predicted from a radiograph's border, grey levels, sharpness and size alone?

A linear probe says how well, in balanced accuracy cross-validated by patient; chance is 1 over the number of values.
What such a probe can predict, a network can learn instead of disease. `confounding` asks the same of the table alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.splits import numbered
from covidcxnet.reporting.pages import render
from covidcxnet.reporting.table import Table
from enhancement import read_radiograph
from enhancement.errors import InputError
from enhancement.files import whole_file
from enhancement.parallel import map_files

_SIDE, _BORDER, _CORNER, _LEVELS = 256, 8, 40, 16

FEATURES: dict[str, tuple[str, ...]] = {
    "size": ("width", "height"),
    "aspect": ("aspect ratio",),
    "grey levels": (*(f"share of level {i}" for i in range(_LEVELS)), "mean", "spread", "levels used"),
    "border": tuple(f"{side} {what}" for side in ("top", "bottom", "left", "right") for what in ("mean", "spread")),
    "corners": tuple(
        f"{place} {what}" for place in ("tl", "tr", "bl", "br") for what in ("mean", "brightest", "edges")
    ),
    "sharpness": ("fine", "medium", "coarse", "blocks"),
}
"""Kind of feature to its names, in the order of `shortcuts`."""

COUNT = sum(map(len, FEATURES.values()))

FEWEST = 20  # images of each value that a probe needs
FOLDS = 5  # of its cross-validation, and so the patients of each value that it needs
MANY = 5000  # patients above which folds are drawn in a simpler, faster way
# a label is confounded with a value that this share of its images has and less than that share of all others
NEARLY_ALL, HALF = 0.95, 0.5


@dataclass(frozen=True)
class Probe:
    """How well image statistics predict one thing."""

    target: str  # source, label, label within one source, or children or adults
    images: int  # of the values probed
    values: tuple[str, ...]  # classes of the probe
    left_out: tuple[str, ...]  # values with fewer than `FEWEST` images, or too few patients for the folds
    accuracy: float  # balanced accuracy over the folds, 0..1
    chance: float  # what guessing gives
    alone: dict[str, float]  # balanced accuracy by each kind of feature alone


@dataclass(frozen=True)
class Bias:
    """Result of `find_bias`."""

    name: str  # of the data set
    images: int
    unreadable: int
    probes: tuple[Probe, ...]
    # images by label and source, view, sex, population or age band
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        tables = {name: {str(k): v for k, v in t.T.to_dict().items()} for name, t in self.tables.items()}
        return {**asdict(self), "tables": tables}


@dataclass(frozen=True)
class Confounding:
    """How far one column of a table goes with the label."""

    single: tuple[tuple[str, str, int, int], ...]
    unshared: tuple[tuple[str, str], ...]
    lonely: tuple[str, ...]
    guessed: float
    commonest: float


def find_bias(dataset: Dataset, *, seed: int = 0, jobs: int | None = None, progress: bool = True) -> Bias:
    """Probe a data set for shortcuts by columns source, view, sex, population, age and patient; `seed` of the folds."""
    rows = list(map_files(_measure, dataset.paths, lost=lambda _: None, jobs=jobs, desc="measuring", progress=progress))
    readable = np.array([row is not None for row in rows])
    if not readable.any():
        raise InputError(f"{dataset.name}: no file can be read")
    table = dataset.table.loc[readable].reset_index(drop=True)
    features = np.array([row for row in rows if row is not None], np.float32)
    groups = numbered(table["patient"]) if "patient" in table else np.arange(len(table))
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
    done = tuple(probe for probe in probes if probe is not None)
    return Bias(dataset.name, len(table), int((~readable).sum()), done, tables, tuple(_warnings(tables, done)))


def confounding(counts: pd.DataFrame) -> Confounding:
    """Measure confounding in a table of images by label (rows) and value (columns); unknown values do not count."""
    known = counts.drop(columns="unknown", errors="ignore")
    single = []
    for label, row in known.iterrows() if known.shape[1] > 1 else ():
        others = known.drop(index=label).sum()
        if row.sum() and row.max() >= NEARLY_ALL * row.sum():
            value: Any = row.idxmax()
            if others.sum() and others[value] < HALF * others.sum():
                single.append((str(label), str(value), int(row.max()), int(row.sum())))
    present = known > 0
    pairs = combinations(known.index, 2)
    unshared = tuple((str(a), str(b)) for a, b in pairs if not (present.loc[a] & present.loc[b]).any())
    lonely = tuple(str(value) for value in known if present[value].sum() == 1)
    total = max(1, int(counts.to_numpy().sum()))
    guessed, commonest = float(counts.max().sum() / total), float(counts.sum(axis=1).max() / total)
    return Confounding(tuple(single), unshared, lonely, guessed, commonest)


def save_bias(bias: Bias, path: str | Path) -> Path:
    """Write the page, self-contained HTML, and beside it the same as ``.json``."""
    path = Path(path)
    text = json.dumps(bias.to_dict(), indent=1)
    for target, content in ((path, bias_page(bias)), (path.with_suffix(".json"), text)):
        with whole_file(target) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return path


def bias_page(bias: Bias) -> str:
    """The page, self-contained HTML."""
    rows = [
        [
            f"{p.target}: {', '.join(p.values)}",
            *(f"{figure:.2f}" for figure in (p.accuracy, p.chance)),
            p.images,
            *(f"{p.alone[kind]:.2f}" for kind in FEATURES),
        ]
        for p in bias.probes
    ]
    header = ["predicted", "accuracy", "chance", "images", *(f"{kind} alone" for kind in FEATURES)]
    tables = [
        (name, Table(["label", *counts.columns], [[label, *map(int, row)] for label, *row in counts.itertuples()]))
        for name, counts in bias.tables.items()
    ]
    without = "; ".join(f"{p.target} without {', '.join(p.left_out)}" for p in bias.probes if p.left_out)
    return render(
        "datasets/bias.html",
        title=f"Shortcuts in {bias.name}",
        bias=bias,
        probes=Table(header, rows) if rows else None,
        left_out=without and f"Left out, with fewer than {FEWEST} images or too few patients: {without}.",
        tables=tables,
    )


def shortcuts(image: np.ndarray) -> np.ndarray:
    """Features of an image ``uint8 [H, W]``, float32 [COUNT]; sizes as logarithms, grey levels of 255."""
    height, width = image.shape
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    levels = np.bincount(image.ravel() >> 4, minlength=_LEVELS) / image.size
    used = np.count_nonzero(np.bincount(image.ravel(), minlength=256))
    values = [np.log(width), np.log(height), np.log(width / height), *levels, image.mean(), image.std(), used]
    for strip in (small[:_BORDER], small[-_BORDER:], small[:, :_BORDER], small[:, -_BORDER:]):
        values += [strip.mean(), strip.std()]
    edges = cv2.Laplacian(small.astype(np.float32), cv2.CV_32F)
    for rows in (slice(0, _CORNER), slice(-_CORNER, None)):
        for columns in (slice(0, _CORNER), slice(-_CORNER, None)):
            corner = small[rows, columns]
            values += [corner.mean(), np.percentile(corner, 99), np.log1p(np.abs(edges[rows, columns]).mean())]
    at: np.ndarray = small.astype(np.float32)
    for _ in range(3):
        values.append(np.log1p(cv2.Laplacian(at, cv2.CV_32F).std()))
        at = cv2.pyrDown(at)
    values.append(_blocks(image))
    return np.array(values, np.float32)


def tell_apart(
    features: np.ndarray, values: np.ndarray, patients: np.ndarray, *, seed: int = 0, method: str = "predict"
) -> np.ndarray:
    """What a linear probe predicts for each image, [N], with its patient (int [N]) left out of the fit.

    `features` are float [N, F]; `method` "decision_function": how far on the side of the second value an image lies.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # ridge: features outnumber the patients of small sets, and its fit has no iterations to fail
    model = make_pipeline(StandardScaler(), RidgeClassifier(1.0, class_weight="balanced"))
    return cross_val_predict(model, features, values, cv=_folds(values, patients, seed), method=method)


def _folds(values: np.ndarray, patients: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images to fit and to predict, of each fold: whole patients, and each value's images spread evenly."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    settings: dict[str, Any] = {"n_splits": FOLDS, "shuffle": True, "random_state": seed}
    names, of = np.unique(patients, return_inverse=True)
    if len(names) <= MANY:
        return list(StratifiedGroupKFold(**settings).split(values, values, patients))
    # That weighs one patient after another, half a millisecond each; so many spread evenly by their rarest value too.
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    rarity = np.argsort(np.argsort(-counts, kind="stable"))  # 0 is the commonest
    rarest = np.zeros(len(names), int)
    np.maximum.at(rarest, of, rarity[codes])
    sides = (np.isin(of, left_out) for _, left_out in StratifiedKFold(**settings).split(names, rarest))
    return [(np.flatnonzero(~inside), np.flatnonzero(inside)) for inside in sides]


def _measure(path: Path) -> np.ndarray | None:
    try:
        return shortcuts(read_radiograph(path))
    except Exception:  # one bad file among thousands must not end the search, whatever it broke
        return None


def _described(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns to compare labels with, as text or None; children from ages where no population is given."""
    columns = {name: table[name].astype(object) for name in ("source", "view", "sex", "population") if name in table}
    if "age" in table:
        ages = pd.to_numeric(table["age"], errors="coerce")
        bands = pd.cut(ages, [-1, 17.99, 40, 60, 80, 200], labels=["0-17", "18-40", "41-60", "61-80", "over 80"])
        columns["age band"] = bands.astype(object)
        by_age = pd.Series(np.where(ages < 18, "paediatric", "adult"), table.index, dtype=object).where(ages.notna())
        known = columns.get("population", pd.Series(None, table.index, dtype=object))
        columns["population"] = known.where(known.notna(), by_age)
    return {name: values for name, values in columns.items() if values.notna().any()}


def _probe(target: str, features, values: pd.Series, groups, seed: int) -> Probe | None:
    values = values.reset_index(drop=True)
    counts = values.value_counts()
    people = pd.Series(groups).groupby(values).nunique()
    names = [v for v in counts.index if counts[v] >= FEWEST and people[v] >= FOLDS]
    rows = values.isin(names).to_numpy()
    if len(names) < 2:
        return None
    x, y, patients = features[rows], values[rows].astype(str).to_numpy(), groups[rows]
    alone, start = {}, 0
    for kind, members in FEATURES.items():
        alone[kind] = _accuracy(x[:, start : start + len(members)], y, patients, seed)
        start += len(members)
    probed, rest = (tuple(sorted(map(str, part))) for part in (names, set(counts.index) - set(names)))
    return Probe(target, len(y), probed, rest, _accuracy(x, y, patients, seed), 1 / len(names), alone)


def _accuracy(x, y, groups, seed: int) -> float:
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(y, tell_apart(x, y, groups, seed=seed)))


def _warnings(tables: dict[str, pd.DataFrame], probes: tuple[Probe, ...]) -> Iterator[str]:
    for name, counts in tables.items():
        for label, value, images, known in confounding(counts).single:
            yield f"{label}: {images} of {known} images have {name} {value}, unlike the other labels"
    for probe in probes:
        if probe.accuracy >= probe.chance + HALF * (1 - probe.chance):
            yield (
                f"{probe.target} can be predicted from simple image statistics: balanced accuracy "
                f"{probe.accuracy:.2f}, chance {probe.chance:.2f}"
            )


def _blocks(image: np.ndarray) -> float:
    """Steps at multiples of 8 pixels over those elsewhere, as a logarithm: what JPEG leaves."""
    steps = np.abs(np.diff(image.astype(np.int16), axis=1)).mean(axis=0)
    at = np.arange(1, image.shape[1]) % 8 == 0
    return float(np.log((steps[at].mean() + 0.5) / (steps[~at].mean() + 0.5))) if at.any() and (~at).any() else 0.0
