"""An exploration as files: one HTML page that needs no other file, its pictures as PNG, the counts as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, product
from itertools import count as count_up
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.experiments.explore import UNKNOWN, Moments, Survey
from covidcxnet.reporting import pages, plots
from covidcxnet.reporting.table import Table, count, frame_csv
from enhancement import read_radiograph
from enhancement.errors import InputError
from enhancement.files import write_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_CLASSES = 24  # with samples on the page: a hundred classes would make a page that no one can open
_MOST_PAIRED = 4  # with more classes, each is compared with all the others and not with every other
_LEAST_WITHIN = 20  # images of a class in a source: the mean of fewer is not worth subtracting
_MOST_SIZES = 4000  # marks on a chart: the commonest sizes stand for all
_MOST_TOGETHER = 15  # pairs of findings in the table: fourteen findings have 91
_TILE = 192
_LEGEND: dict[str, Any] = {"fontsize": 7.5, "frameon": False}
_GRAY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}
_COLUMN = {"class": "label", "source": "source"}  # column of `Survey.sizes`
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "++++")  # distinguish neighbours without colours, too


def save(survey: Survey, folder: str | Path) -> Path:
    """Write ``explore.html``, its pictures and ``explore.json`` into a folder, all or none; the path of the page.

    Files that could not be read are counted on the page and listed, by name, in ``unreadable.csv`` alone.
    """
    folder = Path(folder)
    pictures = [(kind, title, plots.png(figure)) for kind, title, figure in _pictures(survey)]
    files: dict[str, bytes] = {}
    for kind, title, content in pictures:
        files[_file_name(title.removeprefix("Samples of "), files) if kind == "samples" else f"{kind}.png"] = content
    files["explore.json"] = (json.dumps(survey.to_dict(), indent=1, ensure_ascii=False) + "\n").encode()
    if len(survey.unreadable):
        files["unreadable.csv"] = frame_csv(survey.unreadable).encode()
    reasons = survey.unreadable["reason"].value_counts().head(5).items()
    page = pages.render(
        "experiments/explore.html",
        title=f"A look at {survey.name}",
        survey=survey,
        unreadable=len(survey.unreadable),
        reasons="; ".join(f"{reason} ({number:,})" for reason, number in reasons),
        pictures=[(kind, title, plots.data_uri(content)) for kind, title, content in pictures],
        tables={
            "distribution": _count_tables(survey),
            "findings-together": _together_tables(survey),
            "sizes": _size_tables(survey),
        },
    )
    write_all(folder, files | {"explore.html": page.encode()})
    if not len(survey.unreadable):
        (folder / "unreadable.csv").unlink(missing_ok=True)
    return folder / "explore.html"


def _count_tables(survey: Survey) -> list[Table]:
    tables = []
    for name, counts in survey.counts.items():
        if name == "class":
            continue
        header, rows = ["class", *counts.columns], [[label, *map(int, row)] for label, *row in counts.itertuples()]
        if counts.shape[1] > 1:
            rows = [[*row, sum(row[1:])] for row in rows]
            rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
            header.append("all")
        tables.append(Table(header, rows, f"Images by {name}"))
    if survey.findings is not None:
        rows = [[name, *map(int, row)] for name, *row in survey.findings.itertuples()]
        tables.append(Table(["finding", *survey.findings.columns], rows, "Images by finding"))
    return tables


def _together_tables(survey: Survey) -> list[Table]:
    """The commonest pairs of findings; all of them are in the picture and in explore.json."""
    if survey.together is None:
        return []
    counts, names = survey.together.to_numpy(), list(survey.together)
    pairs = [(int(counts[i, j]), i, j) for i, j in combinations(range(len(names)), 2) if counts[i, j]]
    rows = []
    for both, i, j in sorted(pairs, key=lambda pair: -pair[0])[:_MOST_TOGETHER]:
        rows.append([f"{names[i]} and {names[j]}", both, *(f"{both / counts[k, k]:.0%}" for k in (i, j))])
    header = ["findings", "images with both", "of the first", "of the second"]
    return [Table(header, rows, "Findings that occur together most often")] if rows else []


def _groups(survey: Survey) -> dict[str, dict[str, Moments]]:
    groups = {"class": {name: survey.of_class(name) for name in survey.classes}}
    return groups | {"source": {name: survey.of_source(name) for name in survey.sources}}


def _size_tables(survey: Survey) -> list[Table]:
    """Median and commonest size, and mean grey level, of each class and each source."""
    columns = ["images", "median width", "median height", "commonest size", "its share", "mean grey level"]
    tables = []
    for kind, group in _groups(survey).items():
        rows = []
        for name, moments in group.items():
            sizes, middle = survey.sizes[survey.sizes[_COLUMN[kind]] == name], (moments.images - 1) // 2
            medians = [int(np.sort(np.repeat(sizes[side], sizes["images"]))[middle]) for side in ("width", "height")]
            by_size = sizes.groupby(["width", "height"])["images"].sum()
            width, height = by_size.index[int(np.argmax(by_size.to_numpy()))]
            share, grey = by_size.max() / moments.images, float((moments.histogram * np.arange(256)).sum())
            rows.append([name, moments.images, *medians, f"{width} x {height}", f"{share:.0%}", f"{grey:.1f}"])
        tables += [Table([kind, *columns], rows, f"Sizes and grey levels by {kind}")] if rows else []
    return tables


def _pictures(survey: Survey) -> Iterator[tuple[str, str, Figure]]:
    """Kind, title and figure of all pictures in the order of the page; captions are in the template."""
    yield "distribution", "Images by class", distribution(survey)
    if survey.together is not None and len(survey.together) > 1:
        yield "findings-together", "Findings that occur together", findings_together(survey.together)
    for label in survey.classes[:_MOST_CLASSES]:
        if len(survey.samples[label]):
            yield "samples", f"Samples of {label}", sample_grid(survey, label)
    means = _groups(survey)["class"]
    yield "mean", "Mean image of each class", _moments(means, "mean", "mean grey level", **_GRAY)
    if pairs := differences(means):
        yield "difference", "Difference of means", draw_differences(pairs)
    if pairs := differences_within(survey):
        yield "difference-within-source", "Difference of means within a source", draw_differences(pairs)
    top = max(float(m.deviation.max()) for m in means.values()) or 1.0
    figure = _moments(means, "deviation", "standard deviation of grey levels", cmap="magma", vmin=0, vmax=top)
    yield "deviation", "Standard deviation of each class", figure
    if len(survey.classes) <= _MOST_CLASSES and len(survey.sources) > 1:
        yield "mean-by-source", "Mean image of each class in each source", means_by_source(survey)
    yield "grey-levels", "Grey levels by class and source", grey_levels(survey)
    yield "sizes", "Width and height by class and source", image_sizes(survey)


def _file_name(label: str, taken: Collection[str]) -> str:
    """A name that every file system accepts, once, also where case does not count."""
    base = f"samples-{re.sub(r'[^A-Za-z0-9._-]+', '-', label).strip('-.')[:60] or 'class'}"
    used = {name.lower() for name in taken}
    names = (f"{base}{f'-{k}' if k > 1 else ''}.png" for k in count_up(1))
    return next(name for name in names if name.lower() not in used)


def differences(means: dict[str, Moments]) -> list[tuple[str, np.ndarray]]:
    """Titles and differences of mean images: of each pair of a few classes, of each from the mean of all others."""
    images = {label: moments.mean for label, moments in means.items()}
    if len(images) <= _MOST_PAIRED:
        return [(f"{b} \N{MINUS SIGN} {a}", images[b] - images[a]) for a, b in combinations(images, 2)]
    total, others = np.sum(list(images.values()), axis=0), len(images) - 1
    title = "\N{MINUS SIGN} mean of the others"
    return [(f"{label} {title}", image - (total - image) / others) for label, image in images.items()]


def differences_within(survey: Survey) -> list[tuple[str, np.ndarray]]:
    """The same of each pair within each source that has enough images of both classes."""
    means, pairs = {key: m.mean for key, m in survey.moments.items() if m.images >= _LEAST_WITHIN}, []
    for source, (a, b) in product(survey.sources, combinations(survey.classes, 2)):
        if (a, source) in means and (b, source) in means:
            pairs.append((f"{b} \N{MINUS SIGN} {a}\nwithin {source}", means[b, source] - means[a, source]))
    return pairs[:12]


def draw_differences(pairs: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Differences on one scale, the same on both sides of 0: white means no difference everywhere."""
    top = max(float(np.abs(difference).max()) for _, difference in pairs) or 1.0
    return _maps(pairs, "difference of mean grey levels", cmap="RdBu_r", vmin=-top, vmax=top)


def _moments(means: dict[str, Moments], what: str, label: str, **how: Any) -> Figure:
    maps = [(f"{name}\n{count(m.images, 'image')}", getattr(m, what)) for name, m in means.items()]
    return _maps(maps, label, **how)


def _images(
    images: Sequence[tuple[str, np.ndarray]], across: int, inches: tuple[float, float], margin: float = 0, **how: Any
) -> tuple[Figure, list[Axes]]:
    """Titled images side by side, at most `across` a row, each on so many inches."""
    figure, panels = plots.panels(len(images), across, inches, (margin, 0))
    for axes, (title, values) in zip(panels, images, strict=True):
        plots.image(axes, values, plots.shortened(title, 30), **how)
    return figure, panels


def _maps(maps: Sequence[tuple[str, np.ndarray]], label: str, **how: Any) -> Figure:
    """Images on one scale, under one colour bar."""
    figure, panels = _images(maps, 4, (2.5, 2.85), margin=1.1, **how)
    bar = figure.colorbar(panels[0].images[0], ax=panels, fraction=0.05, pad=0.02, shrink=0.9, aspect=24)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def sample_grid(survey: Survey, label: str) -> Figure:
    """Samples of one class in their own proportions, each with its source if known; at most eight a row."""
    table = survey.dataset.table
    titles = table["source"].fillna(UNKNOWN).astype(str) if survey.sources else pd.Series("", table.index)
    tiles = [(titles.iloc[row], _tile(survey.dataset.paths[row])) for row in survey.samples[label]]
    return _images(tiles, 8, (1.45, 1.67), size=7.5, **_GRAY)[0]


def _tile(path: Path) -> np.ndarray:
    """A radiograph within a white square of `_TILE` pixels, in its own proportions."""
    try:
        image = plots.resized(read_radiograph(path), _TILE)
    except InputError:  # gone since it was measured
        image = np.zeros((0, 0), np.uint8)
    high, wide = (_TILE - side for side in image.shape)
    return np.pad(image, ((high // 2, high - high // 2), (wide // 2, wide - wide // 2)), constant_values=255)


def means_by_source(survey: Survey) -> Figure:
    """Mean image of each class in each source: rows classes, columns sources."""
    cells, columns = [survey.moments.get(key) for key in product(survey.classes, survey.sources)], len(survey.sources)
    blank = ("none", np.full((survey.size, survey.size), 245.0))
    images = [(f"{moments.images:,}", moments.mean) if moments else blank for moments in cells]
    figure, panels = _images(images, columns, (1.35, 1.6), margin=0.2, size=7.5, **_GRAY)
    beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8}
    for axes, source in zip(panels, survey.sources, strict=False):
        axes.annotate(
            plots.shortened(source, 22), (0.5, 1), (0, 13), ha="center", va="bottom", parse_math=False, **beside
        )
    for axes, label in zip(panels[::columns], survey.classes, strict=True):
        text = plots.shortened(label, 18)
        axes.annotate(text, (0, 0.5), (-4, 0), ha="right", va="center", rotation=90, parse_math=False, **beside)
    return figure


def distribution(survey: Survey) -> Figure:
    """Images by class, and each class by source and by split."""
    names = [name for name in ("class", "source", "split", "published split") if name in survey.counts]
    if len(survey.sources) < 2 and "source" in names:
        names.remove("source")
    rows_of_legend = max((-(-survey.counts[name].shape[1] // 4) for name in names if name != "class"), default=0)
    labels, height = list(survey.classes), max(1.9, 0.36 * len(survey.classes) + 1.15) + 0.2 * rows_of_legend
    figure, panels = plots.figure(4.1 * len(names) + 0.4, height, 1, len(names))
    for axes, name in zip(panels, names, strict=True):
        counts = survey.counts[name].loc[labels]
        if name == "source":
            counts = counts[[s for s in survey.sources if s in counts]]
        places, left = np.arange(len(counts))[::-1], np.zeros(len(counts))
        for k, column in enumerate(counts.columns):
            hatch = "" if name == "class" else _HATCHES[(k // len(plots.COLOURS) + k) % len(_HATCHES)]
            style: dict[str, Any] = {"color": plots.colour(k), "hatch": hatch, "label": str(column)}
            axes.barh(places, counts[column], 0.68, left=left, edgecolor="white", linewidth=0.6, **style)
            left += counts[column].to_numpy()
        for place, total in zip(places, left, strict=True):
            axes.text(total, place, f" {int(total):,}", va="center", fontsize=8, color=plots.INK)
        axes.set_yticks(places, [str(label)[:24] for label in labels])
        axes.set(xlabel="images", xlim=(0, 1.18 * max(1, left.max())), ylim=(-0.6, len(counts) - 0.4))
        axes.set_title("all" if name == "class" else f"by {name}", fontsize=10)
        if name != "class":
            # The pad is in font sizes, so that the legend stays below the axis label whatever the height of the axes.
            below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.5}
            axes.legend(ncols=min(4, counts.shape[1]), handlelength=1.6, **below, **_LEGEND)
    return figure


def findings_together(together: pd.DataFrame) -> Figure:
    """Matrix of findings: colour and figure are the share of the row's images that show the column's too."""
    counts, names = together.to_numpy(), [plots.shortened(str(name), 22) for name in together]
    totals = np.diag(counts)
    shares = counts / np.maximum(totals, 1)[:, None]
    side = max(0.5 * len(names), 2.4)
    figure, (axes,) = plots.figure(side * 1.12 + 3.1, side + 1.5)
    off_diagonal = np.where(np.eye(len(names), dtype=bool), np.nan, 100 * shares)
    top = max(1.0, float(np.nanmax(off_diagonal)))
    picture = axes.imshow(off_diagonal, cmap="Blues", vmin=0, vmax=top)
    for i, j in product(range(len(names)), repeat=2):
        dark = i != j and off_diagonal[i, j] > 0.55 * top
        text = f"{totals[i]:,}" if i == j else f"{counts[i, j]:,}\n{shares[i, j]:.0%}" if counts[i, j] else "0"
        style: dict[str, Any] = {"fontweight": "bold"} if i == j else {}
        axes.text(j, i, text, ha="center", va="center", fontsize=6.5, color="white" if dark else plots.INK, **style)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, fraction=0.045, pad=0.02)
    bar.set_label("% of the images with the finding of the row", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def grey_levels(survey: Survey) -> Figure:
    """Mean share of pixels at each grey level, by class and by source."""
    figure, panels = _by_group(survey, 3.5)
    for axes, (_, group) in panels.items():
        curves = {name: 100 * moments.histogram for name, moments in group.items()}
        # Pure black and white (borders, letters) may be a tenth of all pixels; they must not flatten the rest.
        top = 1.15 * max(float(curve[1:255].max()) for curve in curves.values())
        for k, (name, curve) in enumerate(curves.items()):
            axes.plot(curve, label=name, **plots.line(k))
        axes.set(xlabel="grey level", ylabel="% of pixels", xlim=(0, 255), ylim=(0, top or 1))
        axes.legend(ncols=2 if len(curves) > 8 else 1, handlelength=3, **_LEGEND)
    return figure


def image_sizes(survey: Survey) -> Figure:
    """Width and height of the images, by class and by source; the larger a mark, the more images."""
    figure, panels = _by_group(survey, 4.3)
    longest = 1.06 * float(survey.sizes[["width", "height"]].to_numpy().max())
    for axes, (kind, group) in panels.items():
        counted = survey.sizes.groupby([_COLUMN[kind], "width", "height"])["images"].sum().reset_index()
        counted = counted.sort_values("images", ascending=False, kind="stable").head(_MOST_SIZES)
        for k, name in enumerate(group):
            part = counted[counted[_COLUMN[kind]] == name]
            style = {"marker": plots.line(k, marker=True)["marker"], "linewidths": 0.8, "facecolors": "none"}
            area = 14 + 26 * np.log10(part["images"].clip(lower=1))
            axes.scatter(part["width"], part["height"], s=area, edgecolors=plots.colour(k), label=name, **style)
        axes.plot([0, longest], [0, longest], **plots.REFERENCE, zorder=0)
        axes.set(xlabel="width, pixels", ylabel="height, pixels", xlim=(0, longest), ylim=(0, longest), aspect="equal")
        legend = axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), **_LEGEND)
        for handle in filter(None, legend.legend_handles):
            handle.set(sizes=[30])  # in the plot, the size is the number of images
    return figure


def _by_group(survey: Survey, height: float) -> tuple[Figure, dict[Axes, tuple[str, dict[str, Moments]]]]:
    """A panel by class and, where there are several, by source: axes to what is grouped and its groups."""
    groups = [(kind, group) for kind, group in _groups(survey).items() if kind == "class" or len(group) > 1]
    figure, panels = plots.figure(5.2 * len(groups) + 0.4, height, 1, len(groups))
    for axes, (kind, _) in zip(panels, groups, strict=True):
        axes.set_title(f"by {kind}", fontsize=10)
    return figure, dict(zip(panels, groups, strict=True))
