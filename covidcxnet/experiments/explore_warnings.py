"""Reasons to be wary of a data set that its counts alone show: places and sizes that go with the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

FEW = 50
"""Images below which a class is called small."""

_NEARLY_ALL, _HALF = 0.95, 0.5
_UNEVEN = 10


def find_warnings(
    counts: Mapping[str, pd.DataFrame], sizes: pd.DataFrame, absent: tuple[str, ...] = (), straddling: int = 0
) -> Iterator[str]:
    """Sentences, the gravest first.

    Parameters
    ----------
    counts : mapping
        As `covidcxnet.experiments.explore.Survey.counts`.
    sizes : DataFrame
        As `Survey.sizes`.
    absent : tuple of str
        Classes without a readable image.
    straddling : int
        Patients on two sides of the split.
    """
    if straddling:
        yield f"{_number(straddling, 'patient')} have images on two sides of the split: figures would flatter"
    for label in absent:
        yield f"{label}: no image can be read"
    present = counts["class"]["images"][counts["class"]["images"] > 0]
    if "source" in counts and len(present) > 1:
        yield from _places(counts["source"].loc[present.index])
    for name in ("split", "published split"):
        if name in counts:
            yield from _missing(counts[name].loc[present.index], name)
    yield from _one_size(sizes)
    yield from _small(present)


def _places(table: pd.DataFrame) -> Iterator[str]:
    known = table.drop(columns="unknown", errors="ignore")
    counts = known.to_numpy()
    for label, row in zip(known.index, counts, strict=True):
        if len(row) < 2 or not row.sum() or row.max() < _NEARLY_ALL * row.sum():
            continue
        largest, others = int(row.argmax()), counts.sum(axis=0) - row
        if others[largest] < _HALF * others.sum():
            yield (
                f"{label} lives in one source: {row[largest]:,} of its {row.sum():,} images come from "
                f"{known.columns[largest]}; a model can learn the place instead of the disease"
            )
    apart = [
        f"{a} and {b}"
        for i, a in enumerate(known.index)
        for b in known.index[i + 1 :]
        if not ((known.loc[a] > 0) & (known.loc[b] > 0)).any()
    ]
    if apart:
        more = f" (and {len(apart) - 5} more pairs)" if len(apart) > 5 else ""
        yield f"No source holds both {'; both '.join(apart[:5])}{more}: nothing can tell these apart but with the place"
    alone = [column for column in known.columns if (known[column] > 0).sum() == 1]
    if alone and len(known.columns) > 1:
        said = "; ".join(
            f"{', '.join(map(str, own))} ({label})"
            for label in known.index
            if (own := [column for column in alone if known.loc[label, column]])
        )
        yield (
            f"Sources with a single class: {said}: {int(known[alone].to_numpy().sum()):,} of {int(counts.sum()):,} "
            "images, whose place gives the label away"
        )
    total = int(table.to_numpy().sum())
    by_source, by_class = table.max().sum() / total, table.sum(axis=1).max() / total
    if by_source >= by_class + _HALF * (1 - by_class) and len(table.columns) > 1:
        yield (
            f"Knowing nothing but the source, {by_source:.0%} of labels could be guessed; the commonest class alone "
            f"gives {by_class:.0%}"
        )


def _missing(table: pd.DataFrame, name: str) -> Iterator[str]:
    for side in table.columns:
        gone = [str(label) for label in table.index[table[side] == 0]]
        if gone:
            yield f"{name} {side} has no image of {', '.join(gone)}"


def _one_size(sizes: pd.DataFrame) -> Iterator[str]:
    """A class whose images have one size that the others rarely have."""
    by_class = sizes.groupby(["label", "width", "height"])["images"].sum()
    labels = by_class.index.get_level_values("label").unique()
    for label in labels if len(labels) > 1 else ():
        own, others = by_class.loc[label], by_class.drop(label, level="label")
        common = own.idxmax()
        alike = others.xs(common, level=("width", "height")).sum() if common in others.droplevel("label").index else 0
        if own.max() >= _NEARLY_ALL * own.sum() and alike < _HALF * others.sum():
            width, height = common
            yield f"{label}: {own.max():,} of {own.sum():,} images are {width} x {height} pixels, unlike other classes"


def _small(present: pd.Series) -> Iterator[str]:
    few = [f"{label} {n}" for label, n in present.items() if n < FEW]
    if few:
        yield f"Fewer than {FEW} images: {', '.join(few)}"
    if len(present) > 1 and present.max() >= _UNEVEN * present.min():
        ratio = int(np.floor(present.max() / present.min()))
        yield f"Classes are uneven: {present.idxmax()} has {ratio} times the images of {present.idxmin()}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
