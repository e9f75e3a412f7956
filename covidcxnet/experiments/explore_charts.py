"""The charts of an exploration: images by class, source and split; grey levels; sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.plots import COLOURS, FAINT, INK, MARKERS, STYLES
from covidcxnet.experiments.explore import Survey
from covidcxnet.experiments.explore_pictures import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More different sizes than these are not told apart on a page: the commonest stand for all.
_MOST_SIZES = 4000


def distribution(survey: Survey) -> Figure:
    """Images by class, and each class by source and by split."""
    names = [name for name in ("class", "source", "split", "published split") if name in survey.counts]
    if len(survey.sources) < 2 and "source" in names:
        names.remove("source")
    labels = list(survey.classes)
    height = max(1.9, 0.36 * len(labels) + 1.25)
    figure, panels = _figure(len(names), 4.1 * len(names) + 0.4, height)
    for axes, name in zip(panels, names, strict=True):
        counts = survey.counts[name].loc[labels]
        if name == "source":
            counts = counts[[s for s in survey.sources if s in counts]]
        _bars(axes, counts, None if name == "class" else name)
        _titled(axes, "all" if name == "class" else f"by {name}")
    return figure


def grey_levels(survey: Survey) -> Figure:
    """Mean share of pixels at each grey level, by class and by source."""
    by_class = {label: survey.of_class(label).histogram for label in survey.classes}
    by_source = {source: survey.of_source(source).histogram for source in survey.sources}
    groups = [("class", by_class)] + ([("source", by_source)] if len(by_source) > 1 else [])
    figure, panels = _figure(len(groups), 5.2 * len(groups) + 0.4, 3.5)
    for axes, (name, curves) in zip(panels, groups, strict=True):
        # Pure black and white (borders, letters) may hold a tenth of all pixels; they must not flatten all the rest.
        top = 1.15 * max(100 * float(h[1:255].max()) for h in curves.values())
        for k, (label, histogram) in enumerate(curves.items()):
            axes.plot(100 * histogram, label=label, linewidth=1.4, **_look(k))
        _titled(axes, f"by {name}")
        axes.set(xlabel="grey level", ylabel="% of pixels", xlim=(0, 255), ylim=(0, top or 1))
        _legend(axes, len(curves))
    return figure


def image_sizes(survey: Survey) -> Figure:
    """Width and height of the images, by class and by source; the larger a mark, the more images."""
    groups = [("label", survey.classes)] + ([("source", survey.sources)] if len(survey.sources) > 1 else [])
    figure, panels = _figure(len(groups), 5.2 * len(groups) + 0.4, 4.3)
    for axes, (column, names) in zip(panels, groups, strict=True):
        counted = survey.sizes.groupby([column, "width", "height"])["images"].sum().reset_index()
        counted = counted.sort_values("images", ascending=False, kind="stable").head(_MOST_SIZES)
        for k, name in enumerate(names):
            own = counted[counted[column] == name]
            area = 14 + 26 * np.log10(own["images"].clip(lower=1))
            mark = MARKERS[(k + k // len(COLOURS)) % len(MARKERS)]
            axes.scatter(own["width"], own["height"], s=area, marker=mark, linewidths=0.8, facecolors="none",
                         edgecolors=COLOURS[k % len(COLOURS)], alpha=0.75, label=name)  # fmt: skip
        longest = 1.06 * float(max(survey.sizes["width"].max(), survey.sizes["height"].max()))
        axes.plot([0, longest], [0, longest], color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        _titled(axes, f"by {'class' if column == 'label' else column}")
        axes.set(xlabel="width, pixels", ylabel="height, pixels", xlim=(0, longest), ylim=(0, longest))
        axes.set_aspect("equal")
        _legend(axes, len(names), outside=True)
    return figure


def described(survey: Survey) -> dict[str, pd.DataFrame]:
    """Tables of size and grey level, by class and by source.

    Returns
    -------
    dict of str to DataFrame
        Columns: images, median width and height, the commonest size and its share, mean grey level.
    """
    made = {}
    for name, column, names in (("class", "label", survey.classes), ("source", "source", survey.sources)):
        rows = {label: _described(survey, column, label) for label in names}
        if rows:
            made[name] = pd.DataFrame.from_dict(rows, orient="index")
    return made


def _described(survey: Survey, column: str, label: str) -> dict[str, Any]:
    own = survey.sizes[survey.sizes[column] == label]
    by_size = own.groupby(["width", "height"])["images"].sum()
    width, height = by_size.index[int(np.argmax(by_size.to_numpy()))]
    moments = survey.of_class(label) if column == "label" else survey.of_source(label)
    return {
        "images": moments.images,
        "median width": _median(own["width"], own["images"]),
        "median height": _median(own["height"], own["images"]),
        "commonest size": f"{width} x {height}",
        "its share": f"{by_size.max() / by_size.sum():.0%}",
        "mean grey level": round(float((moments.histogram * np.arange(256)).sum()), 1),
    }


def _median(values: pd.Series, times: pd.Series) -> int:
    order = np.argsort(values.to_numpy(), kind="stable")
    passed = np.cumsum(times.to_numpy()[order])
    return int(values.to_numpy()[order][np.searchsorted(passed, passed[-1] / 2)])


def _bars(axes, counts: pd.DataFrame, legend: str | None) -> None:
    places, left = np.arange(len(counts))[::-1], np.zeros(len(counts))
    for k, name in enumerate(counts.columns):
        # Hatching tells neighbours apart without colours, too.
        hatch = ("", "////", "....", "\\\\\\\\", "xxxx", "++++")[(k // len(COLOURS) + k) % 6] if legend else ""
        axes.barh(places, counts[name], 0.68, left=left, color=COLOURS[k % len(COLOURS)], label=str(name),
                  edgecolor="white", linewidth=0.6, hatch=hatch)  # fmt: skip
        left += counts[name].to_numpy()
    for place, total in zip(places, left, strict=True):
        axes.text(total, place, f" {int(total):,}", va="center", fontsize=8, color=INK)
    axes.set_yticks(places, [str(label)[:24] for label in counts.index])
    axes.set(xlabel="images", xlim=(0, 1.18 * max(1, left.max())), ylim=(-0.6, len(counts) - 0.4))
    if legend:
        axes.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.42 * 1.9 /
                    axes.figure.get_figheight()), ncols=min(4, counts.shape[1]), handlelength=1.6)  # fmt: skip


def _titled(axes, text: str) -> None:
    axes.set_title(text, fontsize=10, color=INK)


def _look(k: int) -> dict[str, Any]:
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": STYLES[(k + k // len(COLOURS)) % len(STYLES)]}


def _legend(axes, entries: int, outside: bool = False) -> None:
    if not entries:
        return
    place: dict[str, Any] = {"loc": "best"}
    if outside:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    made = axes.legend(
        fontsize=7.5, frameon=False, ncols=2 if entries > 8 and not outside else 1, handlelength=3, **place
    )
    for handle in made.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([30])


def _figure(panels: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels, squeeze=False).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(colors=INK, labelsize=8, color=FAINT)
        axis.xaxis.label.set(color=INK, fontsize=9)
        axis.yaxis.label.set(color=INK, fontsize=9)
    return figure, axes
