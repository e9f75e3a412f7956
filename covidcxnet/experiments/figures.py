"""Figures of several models on the same radiographs: CAM, Grad-CAM and LIME side by side, feature maps, t-SNE."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from covidcxnet.experiments.embedding import FEWEST, embed, table
from covidcxnet.experiments.embedding import draw as draw_embeddings
from covidcxnet.experiments.feature_maps import draw as draw_features
from covidcxnet.experiments.feature_maps import feature_maps
from covidcxnet.experiments.figure_inputs import NamedModel, Radiograph, choose, stacks_of
from covidcxnet.explain.cam import linear_head
from covidcxnet.explain.explanation import Explanation
from covidcxnet.explain.grid import remark
from covidcxnet.explain.layers import require_cut
from covidcxnet.reporting.pages import NOTICE
from covidcxnet.reporting.plots import save
from enhancement.command_line import one_line
from enhancement.errors import InputError
from enhancement.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("tsne", "features", "maps")
METHODS = {"cam": "CAM", "gradcam": "Grad-CAM", "lime": "LIME"}
"""Methods and how they are written, in the order of the columns."""

_MOST_FEATURES = 3  # radiographs whose feature maps are drawn
# As many pixels as a picture has on the page: outlines are drawn one pixel wide, and no pixel is resampled.
_SIDE, _DPI = 328, 150


def draw_all(
    models: Sequence[NamedModel],
    radiographs: Sequence[Radiograph],
    folder: Path,
    *,
    kinds: Collection[str] = KINDS,
    methods: Sequence[str] = ("cam", "gradcam"),
    layers: Sequence[str | None] = (),
    target: str | None = None,
    samples: int = 1000,
    rows: int = 6,
    most: int = 1000,
    perplexity: float = 30.0,
    seed: int = 0,
    batch_size: int = 16,
    jobs: int = 1,
    progress: bool = True,
    report: Callable[[object], None] = print,
) -> int:
    """Draw the figures of `kinds` into a folder; what cannot be drawn is reported, and the others are drawn.

    Parameters
    ----------
    kinds : collection of str
        Of `KINDS`: ``tsne``, ``features`` (feature maps), ``maps`` (class activation maps).
    layers : sequence of str or None
        Feature layer of each model's maps; None, or nothing at all, takes the last one.
    rows, most : int
        Radiographs with maps, and in t-SNE.
    report : callable
        Takes each file that is written, and a line for what is left out.

    Returns
    -------
    int
        How many models and files had to be left out.
    """
    shown, problems = choose(radiographs, rows, seed), 0
    report(f"{len(models)} models, {len(radiographs)} radiographs; {len(shown)} of them with maps")
    options: dict[str, Any] = {"seed": seed, "jobs": jobs, "progress": progress}

    def left_out(what: str, error: InputError) -> int:
        report(f"left out: {what}{one_line(error)}")
        return 1

    if "maps" in kinds:
        columns: list[Column] = []
        maps: dict[str, Any] = {"methods": methods, "target": target, "samples": samples, **options}
        for model, layer in zip(models, layers or [None] * len(models), strict=True):
            try:
                columns += activation_maps(model, shown, layer=layer, **maps)
            except InputError as error:
                problems += left_out(f"maps of {model.name}: ", error)
        for k, radiograph in enumerate(shown):
            if reasons := [column.cells[k].error for column in columns if column.cells[k].error]:
                report(f"not read: {radiograph.path}: {reasons[0]}")
                problems += 1
        try:
            report(save(draw(shown, columns), folder / "activation-maps.png"))
        except InputError as error:
            problems += left_out("", error)
    if "features" in kinds:
        # The first of each class, the first few where classes are not known.
        first = {r.label if r.label is not None else k: k for k, r in reversed(list(enumerate(shown)))}
        chosen = [shown[k] for k in sorted(first.values())][:_MOST_FEATURES]
        for model in models:
            try:
                problems += _save_feature_maps(model, chosen, folder, report)
            except InputError as error:
                problems += left_out("", error)
    if "tsne" in kinds:
        chosen, embeddings = choose(radiographs, most, seed), []
        if len(chosen) < FEWEST:
            report(f"left out: t-SNE: {len(chosen)} radiographs given, {FEWEST} or more expected")
            return problems + (1 if set(kinds) != set(KINDS) else 0)
        for model in models:
            try:
                embeddings.append(embed(model, chosen, perplexity=perplexity, batch_size=batch_size, **options))
                problems += embeddings[-1].unreadable
            except InputError as error:
                problems += left_out("", error)
        if embeddings:
            report(save(draw_embeddings(embeddings), folder / "tsne.png"))
            with whole_file(folder / "tsne.csv") as partial:
                table(embeddings).to_csv(partial, index=False)
            report(folder / "tsne.csv")
    return problems


def _save_feature_maps(
    model: NamedModel, chosen: Sequence[Radiograph], folder: Path, report: Callable[[object], None]
) -> int:
    """A picture for each radiograph that can be read; 1 where there is none."""
    number = 0
    for rows, stacks in stacks_of(model, chosen):
        for row, stack in zip(rows, stacks, strict=True):
            number += 1
            picture = draw_features(model, stack, feature_maps(model.classifier.model, stack), chosen[row].caption)
            report(save(picture, folder / f"feature-maps-{model.file_name}-{number}.png"))
    return 0 if number else 1


@dataclass(frozen=True)
class Column:
    """One model under one method, an explanation a radiograph; `error` of those that could not be read is set."""

    model: str
    method: str
    layer: str  # whose maps are weighed; empty for LIME
    cells: tuple[Explanation, ...]


def activation_maps(
    model: NamedModel,
    radiographs: Sequence[Radiograph],
    *,
    layer: str | None = None,
    methods: Sequence[str] = ("cam", "gradcam"),
    target: str | None = None,
    samples: int = 1000,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
) -> list[Column]:
    """One model's maps of some radiographs.

    Parameters
    ----------
    model : NamedModel
    radiographs : sequence of Radiograph
        All are held in memory: a figure's worth.
    layer : str, optional
        Feature layer of Grad-CAM; by default the model's last one.
    methods : sequence of str
        Of `METHODS`. CAM is left out where the model's head has no closed form.
    target : str, optional
        Class to explain; by default, for each radiograph, the one that the model predicts.
    samples, seed : int
        Of LIME.
    jobs, progress
        Processes that read; progress bars.

    Raises
    ------
    InputError
        If a method, the class or the layer is unknown; the message lists what there is.
    """
    classifier = model.classifier
    if unknown := [method for method in methods if method not in METHODS]:
        raise InputError(f"methods: {unknown[0]!r} given, one of {', '.join(METHODS)} expected")
    if target is not None and target not in classifier.classes:
        raise InputError(f"target: {target!r} given, {model.name} knows {', '.join(classifier.classes)}")
    if layer is not None:
        require_cut(classifier.model, layer)
    paths = [radiograph.path for radiograph in radiographs]
    outcomes = [o for _, batch in classifier.batches(paths, jobs=jobs, progress=progress) for o in batch]
    columns = []
    for method in METHODS:
        if method not in methods or (method == "cam" and linear_head(classifier.model) is None):
            continue
        options: dict[str, Any] = {"samples": samples, "seed": seed} if method == "lime" else {}
        weighed = "" if method == "lime" else classifier.cam.layer if method == "cam" else classifier.gradcam.layer
        if method == "gradcam" and layer is not None:
            options, weighed = {"layer": layer}, layer
        explain = classifier.explainer(method, target, **options)
        items: Any = tqdm(paths, desc=f"{METHODS[method]} of {model.name}", unit="image", disable=not progress)
        columns.append(Column(model.name, method, weighed, tuple(explain(items, outcomes))))
    return columns


def draw(radiographs: Sequence[Radiograph], columns: Sequence[Column]) -> Figure:
    """Rows are radiographs, columns are models and methods; class and its probability over each map.

    Raises
    ------
    InputError
        If none of the radiographs could be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [k for k in range(len(radiographs)) if any(column.cells[k].error is None for column in columns)]
    if not rows or not columns:
        raise InputError("activation maps: none of the radiographs could be read, or no method fits the models")
    images = [_resized(next(c.cells[k] for c in columns if c.cells[k].error is None).radiograph) for k in rows]
    heads = ["Radiograph", *(_head(column) for column in columns)]
    # Placed by hand, in inches: a layout engine would resample the pictures.
    side, gap, left, title, bottom = _SIDE / _DPI, 0.06, 0.38, 0.24, 0.36
    top = 0.16 + 0.15 * max(head.count("\n") + 1 for head in heads)
    heights = [image.shape[0] / _DPI for image in images]
    wide, high = left + (side + gap) * len(heads) + 0.6, top + sum(heights) + title * len(rows) + bottom
    figure = Figure(figsize=(wide, high), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for number, head in enumerate(heads):
        x = (left + number * (side + gap) + side / 2) / wide
        figure.text(x, 1 - 0.1 / high, head, ha="center", va="top", fontsize=9, fontweight="bold", parse_math=False)
    for row, (k, image) in enumerate(zip(rows, images, strict=True)):
        y = high - top - sum(heights[: row + 1]) - title * (row + 1)
        style: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "multialignment": "center"}
        middle = (y + heights[row] / 2) / high
        figure.text((left - 0.06) / wide, middle, radiographs[k].caption, fontsize=7.5, parse_math=False, **style)
        for number in range(len(heads)):
            cell = columns[number - 1].cells[k] if number else None
            if cell is not None and cell.error is not None:
                continue
            place = ((left + number * (side + gap)) / wide, y / high, side / wide, heights[row] / high)
            axes = figure.add_axes(place)
            axes.imshow(image if cell is None else cell.draw(image), cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
            axes.set_title("" if cell is None else _title(cell), fontsize=8, pad=3).set_parse_math(False)
    notes = "Each map on its own scale; blue line: lungs."
    if any(column.method == "lime" for column in columns):
        notes += " LIME: blue + supports the class, orange \N{MINUS SIGN} speaks against it, white line: lungs."
    if any(column.method != "lime" for column in columns):
        length = min(1.9, sum(heights))
        _scale(figure.add_axes(((wide - 0.5) / wide, 1 - (top + title + length) / high, 0.11 / wide, length / high)))
    figure.text(left / wide, 0.16 / high, f"{notes} {NOTICE}.", fontsize=7.5, va="center")
    return figure


def _resized(image: np.ndarray) -> np.ndarray:
    scale = _SIDE / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _head(column: Column) -> str:
    return "\n".join(filter(None, (_cut(column.model, 24), METHODS[column.method], column.layer)))


def _title(cell: Explanation) -> str:
    target, label = cell.target or "", cell.prediction.label or ""
    text = f"{_cut(target, 18)} {cell.prediction.probabilities[target]:.2f}"
    if target != label:
        text += f" (called {_cut(label, 12)})"
    if cell.fit is not None:
        text += f", R\N{SUPERSCRIPT TWO} {cell.fit:.2f}"
    if cell.map is not None and not np.any(cell.map > 0):
        text += ", nothing for it"
    elif cell.map is not None and remark(cell.map):
        text += f", {cell.map.shape[0]} x {cell.map.shape[1]} cells"
    return text


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _scale(axes) -> None:
    from matplotlib import colormaps

    # the same part of the colour map as on the radiographs
    axes.imshow(colormaps["inferno"](np.linspace(0.3, 0.95, 128))[:, None], aspect="auto", origin="lower")
    axes.set_xticks([])
    axes.set_yticks([0, 127], ["low", "high"], fontsize=7.5)
    axes.yaxis.tick_right()
    axes.tick_params(length=0)
