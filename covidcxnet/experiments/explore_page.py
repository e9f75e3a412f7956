"""An exploration as files: one HTML page that needs no other file, the same pictures as PNG, the counts as JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from covidcxnet import __version__
from covidcxnet.evaluation.markup import Html, count, figure, table, tag
from covidcxnet.evaluation.page import page
from covidcxnet.experiments import explore_charts as charts
from covidcxnet.experiments import explore_pictures as pictures
from covidcxnet.experiments.explore import Survey
from enhancement.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTICE = "Research only: not a medical device"
# Classes with pictures of samples on the page; a hundred labels would make a page that no one can open.
_MOST_CLASSES = 24
# Columns of a table that fit beside another table.
_HALF_PAGE = 5


@dataclass(frozen=True)
class _Picture:
    name: str
    title: str
    drawn: Figure
    alt: str
    caption: str


def save(survey: Survey, folder: str | Path) -> Path:
    """Write ``explore.html``, its pictures as ``*.png`` and ``explore.json`` into a folder, each whole or not at all.

    Files that could not be read are counted on the page and listed, by name, in ``unreadable.csv`` alone.

    Returns
    -------
    Path
        The page.
    """
    folder = Path(folder)
    made: list[tuple[_Picture, bytes]] = []
    for picture in _pictures(survey):
        content = _png(picture.drawn)
        _write(folder / f"{picture.name}.png", content)
        made.append((picture, content))
    _write(folder / "explore.json", (json.dumps(survey.to_dict(), indent=1, ensure_ascii=False) + "\n").encode())
    unreadable = folder / "unreadable.csv"
    if len(survey.unreadable):
        with whole_file(unreadable) as partial:
            survey.unreadable.to_csv(partial, index=False)
    else:
        unreadable.unlink(missing_ok=True)
    whole = folder / "explore.html"
    _write(whole, _render(survey, made).encode())
    return whole


def _pictures(survey: Survey) -> Iterator[_Picture]:
    """All pictures in the order of the page, drawn one by one."""
    classes = ", ".join(survey.classes)
    yield _Picture(
        "distribution", "Images by class", charts.distribution(survey), f"Bar charts of images by class: {classes}", ""
    )
    taken: set[str] = set()
    for label in survey.classes[:_MOST_CLASSES]:
        if len(survey.samples[label]):
            name, caption = _file_name("samples", label, taken), "Picked at random, in turn from each source."
            title = f"Samples of {label}"
            yield _Picture(name, title, pictures.sample_grid(survey, label), f"Radiographs of {label}", caption)
    text = (
        f"Every radiograph stretched to {survey.size} x {survey.size} pixels, grey levels as they are in the file. A "
        "sharp letter or border in a mean is on many images at one place."
    )
    yield _Picture("mean", "Mean image of each class", pictures.mean_images(survey), f"Mean images of {classes}", text)
    drawn = pictures.differences(survey)
    if drawn:
        text = (
            "Red: brighter in the first class; blue: darker; white: alike. What stands out at the border or the corners"
            " cannot be disease."
        )
        yield _Picture("difference", "Difference of means", drawn, "Differences between mean images of classes", text)
    drawn = pictures.differences_within(survey)
    if drawn:
        text = (
            "The same, within each source that holds both classes: the place cannot make these differences, unless the "
            "source is itself a collection from several places."
        )
        alt = "Differences between mean images of classes within sources"
        yield _Picture("difference-within-source", "Difference of means within a source", drawn, alt, text)
    text = "Where images of a class differ from each other: at edges, borders and letters; by exposure."
    alt = f"Standard deviation images of {classes}"
    yield _Picture("deviation", "Standard deviation of each class", pictures.deviation_images(survey), alt, text)
    if len(survey.classes) <= _MOST_CLASSES:
        drawn = pictures.means_by_source(survey)
        if drawn:
            text = "Number of images under each. Differences along a row are the place's, not the disease's."
            alt = "Mean images by class and source"
            yield _Picture("mean-by-source", "Mean image of each class in each source", drawn, alt, text)
    text = (
        "Each image counts alike, whatever its size. Shares of pure black and white may run out of the picture: "
        "borders, letters and clipping."
    )
    yield _Picture(
        "grey-levels", "Grey levels", charts.grey_levels(survey), "Histograms of grey levels by class and source", text
    )
    text = "The larger a mark, the more images of that size; dotted: square."
    yield _Picture("sizes", "Sizes", charts.image_sizes(survey), "Width and height of images by class and source", text)


def _render(survey: Survey, made: list[tuple[_Picture, bytes]]) -> str:
    from covidcxnet.evaluation.plots import data_uri

    title = f"A look at {survey.name}"
    sections = []
    for picture, content in made:
        shown = figure(data_uri(content, "image/png"), picture.alt, picture.caption or None)
        sections.append(tag("section", tag("h2", picture.title), shown, _tables(survey, picture.name)))
    seen = f"{count(survey.images, 'image')} read of {survey.listed:,} listed"
    if survey.patients is not None:
        seen += f", {count(survey.patients, 'known patient')}"
    body = tag(
        "main",
        tag("header", tag("h1", title), tag("p", NOTICE, class_="research")),
        tag("p", f"{seen}.", class_="when"),
        _warned(survey),
        _unread(survey),
        sections,
        tag("p", "Samples show what is burned into the images: look for names before you pass this page on.",
            class_="note"),
        tag("footer", f"{NOTICE}. Made by covidcxnet {__version__}."),
    )  # fmt: skip
    return page(title, body)


def _warned(survey: Survey) -> Html | None:
    if not survey.warnings:
        return None
    found = [tag("li", warning) for warning in survey.warnings]
    return tag("section", tag("h2", "Be wary"), tag("ul", found), class_="cautions")


def _unread(survey: Survey) -> Html | None:
    lines = []
    if survey.rejected:
        lines.append(f"{count(survey.rejected, 'image')} left out: the table marks them as not to be used.")
    if len(survey.unreadable):
        reasons = survey.unreadable["reason"].value_counts()
        said = "; ".join(f"{reason} ({number:,})" for reason, number in reasons.head(5).items())
        lines.append(
            f"{count(len(survey.unreadable), 'image')} could not be read and left out: {said}. unreadable.csv lists "
            "them."
        )
    return Html("".join(tag("p", line) for line in lines)) if lines else None


def _tables(survey: Survey, picture: str) -> Html | None:
    if picture == "distribution":
        tables = {name: counts for name, counts in survey.counts.items() if name != "class"}
        if survey.findings is not None:
            tables["finding"] = survey.findings
        made = [(_counted(name, counts), counts.shape[1]) for name, counts in tables.items()]
        wide = [part for part, columns in made if columns > _HALF_PAGE]
        narrow = [part for part, columns in made if columns <= _HALF_PAGE]
        return Html("".join(wide) + tag("div", narrow, class_="first"))
    if picture == "sizes":
        return Html("".join(_plain(f"by {name}", name, rows) for name, rows in charts.described(survey).items()))
    return None


def _counted(name: str, counts: pd.DataFrame) -> Html:
    rows = [[label, *(f"{n:,}" for n in row)] for label, row in zip(counts.index, counts.to_numpy(), strict=True)]
    first = "finding" if name == "finding" else "class"
    if name != "finding" and counts.shape[1] > 1:
        rows = [[*row, f"{n:,}"] for row, n in zip(rows, counts.sum(axis=1), strict=True)]
        total = counts.sum()
        rows.append(["all", *(f"{n:,}" for n in total), f"{total.sum():,}"])
        return table([first, *counts.columns, "all"], rows, f"Images by {name}")
    return table([first, *counts.columns], rows, f"Images by {name}")


def _plain(caption: str, first: str, rows: pd.DataFrame) -> Html:
    cells = [[label, *(f"{v:,}" if isinstance(v, int) else v for v in row)] for label, *row in rows.itertuples()]
    return table([first, *rows.columns], cells, f"Sizes and grey levels {caption}")


def _png(drawn: Figure) -> bytes:
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)


def _file_name(kind: str, label: str, taken: set[str]) -> str:
    """A name that every file system takes, once."""
    base = f"{kind}-{re.sub(r'[^A-Za-z0-9._-]+', '-', label).strip('-.')[:60] or 'class'}"
    name, number = base, 1
    while name.lower() in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name.lower())
    return name
