"""`explore`: what a data set looks like before training; every image is read once and only sums are kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from covidcxnet.datasets.bias import HALF, confounding
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.splits import SPLITS, read_split
from covidcxnet.datasets.vocabulary import PREFIX, findings_of, with_findings
from covidcxnet.reporting.table import count
from enhancement import read_radiograph
from enhancement.errors import InputError, RadiographError
from enhancement.parallel import DIED, map_files

MOST_SOURCES = 10  # that are shown; the smaller ones are `OTHER` together
OTHER, UNKNOWN = "other sources", "unknown"
FEW = 50  # images below which a class is called small
_COLUMNS = ("source", "view", "sex", "population")
_UNEVEN = 10


@dataclass
class Moments:
    """Sums over ``uint8 [S, S]`` images and their grey-level histograms; exact, whatever the order."""

    size: int
    images: int = 0

    def __post_init__(self):
        # Whole numbers: 255 squared times 10^14 images fits, and no digit is ever lost.
        self.total, self.squares = np.zeros((2, self.size, self.size), np.int64)
        self.shares = np.zeros(256)

    def add(self, image: np.ndarray, shares: np.ndarray) -> None:
        """One image, ``uint8 [S, S]``, and its share of pixels at each grey level, ``[256]``."""
        wide = image.astype(np.int64)
        self.images += 1
        self.total += wide
        self.squares += wide * wide
        self.shares += shares

    def __add__(self, other: Moments) -> Moments:
        both, names = Moments(self.size, self.images + other.images), ("total", "squares", "shares")
        both.total, both.squares, both.shares = (getattr(self, name) + getattr(other, name) for name in names)
        return both

    @property
    def mean(self) -> np.ndarray:
        """Mean image, float64 [S, S], 0..255; NaN without images."""
        return self.total / (self.images or np.nan)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation at each pixel (divisor n), float64 [S, S]; NaN without images."""
        return np.sqrt(np.maximum(self.squares / (self.images or np.nan) - self.mean**2, 0))

    @property
    def histogram(self) -> np.ndarray:
        """Mean share of pixels at each grey level, float64 [256]: every image counts alike, large or small."""
        return self.shares / (self.images or np.nan)


def measure(path: str | Path, size: int) -> tuple[np.ndarray, np.ndarray, int, int] | str:
    """A square copy ``uint8 [size, size]``, shares of grey levels ``float32 [256]``, width, height; or why not."""
    try:
        image = read_radiograph(path)
    except RadiographError as error:
        return error.reason
    except Exception as error:  # one bad file among thousands must not end the work, whatever it broke
        return "cannot be read" if isinstance(error, InputError) else type(error).__name__
    height, width = image.shape
    # stretched to a square, so that the lungs of tall and wide radiographs lie on each other
    how = cv2.INTER_AREA if min(height, width) >= size else cv2.INTER_LINEAR
    shares = np.bincount(image.ravel(), minlength=256) / image.size
    return cv2.resize(image, (size, size), interpolation=how), shares.astype("float32"), width, height


@dataclass(frozen=True)
class Survey:
    """What `explore` found. It holds sums and a few samples, no matter how many images there are."""

    name: str
    classes: tuple[str, ...]
    sources: tuple[str, ...]  # the largest first; empty where the table has none
    size: int  # side of the mean images
    listed: int  # images in the table
    rejected: int  # images that the table marks as not to be used
    unreadable: pd.DataFrame  # path, label, reason; never for the page, as file names may name patients
    counts: dict[str, pd.DataFrame]  # readable images by class (rows) and source, split, view, sex or population
    moments: dict[tuple[str, str], Moments]  # by class and source, which is "" where the table has none
    sizes: pd.DataFrame  # label, source, width, height, images
    samples: dict[str, np.ndarray]  # class to rows of the table
    findings: pd.DataFrame | None  # present, absent and unknown by finding, where the table has findings
    together: pd.DataFrame | None  # images in which both findings of row and column are present; diagonal: the finding
    patients: int | None  # with a readable image, where they are known
    warnings: tuple[str, ...]
    dataset: Dataset = field(repr=False)

    @property
    def images(self) -> int:
        """Images that were read."""
        return sum(moments.images for moments in self.moments.values())

    def of_class(self, label: str) -> Moments:
        """Sums of one class."""
        return sum((m for (name, _), m in self.moments.items() if name == label), Moments(self.size))

    def of_source(self, source: str) -> Moments:
        """Sums of one source."""
        return sum((m for (_, name), m in self.moments.items() if name == source), Moments(self.size))

    def to_dict(self) -> dict[str, Any]:
        """Counts and warnings as plain values, ready for JSON; no file name is among them."""
        counts = {name: json.loads(table.to_json(orient="index")) for name, table in self.counts.items()}
        plain = {name: getattr(self, name) for name in ("name", "listed", "images", "rejected")}
        plain |= {"unreadable": len(self.unreadable), "patients": self.patients, "size": self.size}
        if self.together is not None:
            plain["findings_together"] = json.loads(self.together.to_json(orient="index"))
        return plain | {"counts": counts, "warnings": list(self.warnings)}


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
    """Read every image of a data set once and describe it; `covidcxnet.experiments.explore_page.save` writes it.

    One class will do; images that the data set rejects are counted and left out. `size` is the side of mean images,
    and `split` has columns ``path`` and ``split``, row-aligned with the table. `InputError` if a number is out of its
    range, or no image can be read.
    """
    workers = 1 if jobs is None else jobs
    for name, value, low, high in (("size", size, 32, 512), ("samples", samples, 0, 100), ("jobs", workers, 1, 1024)):
        if not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name}: {value!r} given, {low} to {high} expected")
    table, columns = dataset.table, ["label", "source", "width", "height", "images"]
    groups, sources = _sources(table)
    used = np.flatnonzero([reason is None for reason in dataset.rejected])
    if not len(used):
        raise InputError(f"{dataset.name}: every image is rejected; there is nothing to explore")
    labels = table["label"].to_numpy(object)
    moments: dict[tuple[str, str], Moments] = {}
    sizes: Counter[tuple[str, str, int, int]] = Counter()
    readable, reasons = np.zeros(len(table), bool), {}
    work, paths = partial(measure, size=size), [dataset.paths[row] for row in used]
    results = map_files(work, paths, lost=lambda path: DIED, jobs=jobs, desc="measuring", progress=progress)
    for row, result in zip(used, results, strict=True):
        if isinstance(result, str):
            reasons[int(row)] = result
            continue
        small, shares, width, height = result
        readable[row] = True
        key = (str(labels[row]), str(groups[row]))
        moments.setdefault(key, Moments(size)).add(small, shares)
        sizes[(*key, width, height)] += 1
    if not readable.any():
        raise InputError(f"{dataset.name}: none of {len(used)} images can be read, the first: {reasons[int(used[0])]}")
    read = table[readable].assign(source=groups[readable]) if sources else table[readable]
    counts = _counts(read, dataset.classes, None if split is None else split["split"].to_numpy()[readable])
    by_size = pd.DataFrame([(*key, n) for key, n in sizes.items()], columns=columns)
    classes = tuple(c for c in dataset.classes if (labels[readable] == c).any())
    absent = tuple(c for c in dataset.classes if c not in classes)
    straddling, patients = 0, dataset.group
    if split is not None and patients is not None:
        straddling = int((split["split"].groupby(patients.to_numpy()).nunique() > 1).sum())
    findings = together = None
    if (known := _findings(dataset)) is not None:
        known = known[readable]
        states = {"present": known.eq(1).sum(), "absent": known.eq(0).sum(), "unknown": known.isna().sum()}
        findings = pd.DataFrame(states).astype(int)
        present = known.drop(columns="normal", errors="ignore").eq(1).astype(int)
        together = present.T @ present
    unreadable = table.iloc[list(reasons)][["path", "label"]].reset_index(drop=True)
    return Survey(
        name=dataset.name,
        classes=classes,
        sources=tuple(s for s in sources if (groups[readable] == s).any()),
        size=size,
        listed=len(dataset),
        rejected=len(dataset) - len(used),
        unreadable=unreadable.assign(reason=list(reasons.values())),
        counts=counts,
        moments=moments,
        sizes=by_size,
        samples=_samples(labels, groups, readable, classes, samples, seed),
        findings=findings,
        together=together,
        patients=None if patients is None else int(patients[readable].nunique()),
        warnings=tuple(find_warnings(counts, by_size, absent, straddling)),
        dataset=dataset,
    )


def read_explored_split(path: str | Path, dataset: Dataset) -> pd.DataFrame:
    """A split file (or the one in a run folder) to explore; one with a patient on two sides is read and warned of."""
    path = Path(path)
    return read_split(path / "split.csv" if path.is_dir() else path, dataset, by="image")


def _findings(dataset: Dataset) -> pd.DataFrame | None:
    """Findings of the table's own columns, or of a column of lists such as Effusion|Mass; None where there are none."""
    if dataset.findings is not None:
        return dataset.findings
    try:
        table = with_findings(dataset.table, (), dataset.name)
    except InputError:
        return None
    names = findings_of(table)
    return table[[PREFIX + name for name in names]].astype(float).set_axis(names, axis=1) if names else None


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
    columns = {name: _text(read[name]) for name in _COLUMNS if name in read and read[name].notna().any()}
    if "published_split" in read and read["published_split"].notna().any():
        columns["published split"] = _text(read["published_split"])
    if split is not None:
        columns["split"] = pd.Series(split, read.index)
    tables = {"class": read["label"].value_counts().reindex(classes, fill_value=0).to_frame("images")}
    for name, values in columns.items():
        counts = pd.crosstab(read["label"], values).reindex(classes, fill_value=0)
        by_size = [str(c) for c in counts.sum().sort_values(ascending=False, kind="stable").index]
        tables[name] = counts[[s for s in SPLITS if s in by_size] if name == "split" else by_size]
    return tables


def _samples(labels, groups, readable, classes, most: int, seed: int) -> dict[str, np.ndarray]:
    """Rows to show: at random, in turn from each source, so that a small source is shown too."""
    random = np.random.default_rng(seed)
    chosen = {}
    for label in classes:
        rows = random.permutation(np.flatnonzero(readable & (labels == label)))
        turn = pd.Series(groups[rows]).groupby(groups[rows]).cumcount().to_numpy()
        picked = rows[np.argsort(turn, kind="stable")][:most]
        chosen[label] = picked[np.argsort(groups[picked].astype(str), kind="stable")]
    return chosen


def find_warnings(
    counts: Mapping[str, pd.DataFrame], sizes: pd.DataFrame, absent: tuple[str, ...] = (), straddling: int = 0
) -> Iterator[str]:
    """Reasons for caution, the gravest first; `straddling` counts patients on two sides of the split."""
    if straddling:
        yield f"{count(straddling, 'patient')} have images on two sides of the split, which inflates the figures"
    for label in absent:
        yield f"{label}: no image can be read"
    present = counts["class"]["images"][counts["class"]["images"] > 0]
    if "source" in counts and len(present) > 1:
        yield from _of_sources(counts["source"].loc[present.index])
    elif len(present) > 1:
        yield "Sources are unknown (no column source): a class from one hospital alone cannot be noticed here"
    for name in ("split", "published split"):
        for side, images in counts[name].loc[present.index].items() if name in counts else ():
            if (images == 0).any():
                yield f"{name} {side} has no image of {', '.join(map(str, images.index[images == 0]))}"
    by_size = sizes.assign(size=sizes["width"].astype(str) + " x " + sizes["height"].astype(str))
    by_size = by_size.pivot_table(index="label", columns="size", values="images", aggfunc="sum", fill_value=0)
    for label, size, number, total in confounding(by_size).single if len(by_size) > 1 else ():
        yield f"{label}: {number:,} of {total:,} images are {size} pixels, unlike other classes"
    if few := [f"{label} {n}" for label, n in present.items() if n < FEW]:
        yield f"Fewer than {FEW} images: {', '.join(few)}"
    if len(present) > 1 and present.max() >= _UNEVEN * present.min():
        ratio = int(present.max() // present.min())
        yield f"Classes are uneven: {present.idxmax()} has {ratio} times the images of {present.idxmin()}"


def _of_sources(counts: pd.DataFrame) -> Iterator[str]:
    result, known = confounding(counts), counts.drop(columns=UNKNOWN, errors="ignore")
    for label, source, images, total in result.single:
        of = f"{images:,} of its {total:,} images are from {source}"
        yield f"{label} comes from one source: {of}; a model can learn the source instead of the disease"
    if result.unshared:
        pairs = "; both ".join(f"{a} and {b}" for a, b in result.unshared[:5])
        more = f" (and {len(result.unshared) - 5} more pairs)" if len(result.unshared) > 5 else ""
        yield f"No source has both {pairs}{more}: disease and source cannot be told apart there"
    if result.lonely and known.shape[1] > 1:
        sources = {label: [s for s in result.lonely if row[s]] for label, row in known.iterrows()}
        listed = "; ".join(f"{', '.join(names)} ({label})" for label, names in sources.items() if names)
        images, total = int(known[list(result.lonely)].to_numpy().sum()), int(known.to_numpy().sum())
        yield f"Sources with a single class: {listed}: {images:,} of {total:,} images reveal their label"
    if result.guessed >= result.commonest + HALF * (1 - result.commonest) and counts.shape[1] > 1:
        usual = f"always naming the commonest class gives {result.commonest:.0%}"
        yield f"The source alone predicts {result.guessed:.0%} of the labels; {usual}"
