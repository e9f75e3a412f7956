"""Figures of several models on the same radiographs: CAM, Grad-CAM and LIME, feature maps, t-SNE, concealed text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.experiments.embedding import FEWEST, embed, table
from covidcxnet.experiments.embedding import draw as draw_embeddings
from covidcxnet.experiments.figure_inputs import NamedModel, Radiograph, choose, stacks_of
from covidcxnet.explain.cam import linear_head
from covidcxnet.explain.explanation import Explanation
from covidcxnet.explain.grid import remark
from covidcxnet.explain.layers import chosen_layers, convolutions, require_cut
from covidcxnet.explain.overlay import ORANGE, heat_colours, outline
from covidcxnet.reporting import plots
from covidcxnet.reporting.pages import NOTICE
from covidcxnet.reporting.table import count, frame_csv
from enhancement import find_text, read_radiograph
from enhancement.command_line import one_line
from enhancement.errors import InputError
from enhancement.files import whole_file
from enhancement.progress import ProgressBar
from enhancement.text import inpaint
from segmentation.backend import keras

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("tsne", "features", "maps")
"""Kinds of figures; "text" is one more, for radiographs that have some."""
METHODS = {"cam": "CAM", "gradcam": "Grad-CAM", "lime": "LIME"}  # in the order of the columns
MOST = 32  # feature maps that are drawn of a layer
_ACROSS = 8  # of them in a row
_MOST_FEATURES = 3  # radiographs whose feature maps are drawn
# Fewer pixels than the picture has on the page, so that none of the outlines, one pixel wide, is lost in resampling.
_SIDE, _DPI, _INCHES = 328, 180, 2.1
_GRAY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}
_BESIDE: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}


def draw_all(
    models: Sequence[NamedModel],
    radiographs: Sequence[Radiograph],
    folder: Path,
    *,
    kinds: Collection[str] = KINDS,
    methods: Sequence[str] = ("cam", "gradcam"),
    layers: Sequence[str | None] = (),
    feature_layers: Sequence[str] = (),
    target: str | None = None,
    samples: int | str = 1000,
    rows: int = 6,
    most: int = 1000,
    perplexity: float = 30.0,
    seed: int = 0,
    batch_size: int = 16,
    jobs: int = 1,
    progress: bool = True,
    report: Callable[[object], None] = print,
) -> int:
    """Draw the figures of `kinds` into a folder; the number of models and files that had to be left out.

    `layers` are the feature layers of each model's maps (None, or nothing at all: the last one), `rows` and `most` the
    radiographs with maps and in t-SNE. With `feature_layers`, see `explain.layers.chosen_layers`, one picture for all
    models has the first map of each of those layers, in place of all maps of two. `report` takes each file that is
    written, and a line for what is left out.
    """
    shown, problems = choose(radiographs, rows, seed), 0
    text = f"{count(len(models), 'model')}, {count(len(radiographs), 'radiograph')}"
    report(text if set(kinds) <= {"tsne", "text"} else f"{text}; {len(shown)} of them with maps")
    options: dict[str, Any] = {"seed": seed, "jobs": jobs, "progress": progress}

    @contextmanager
    def step(what: str = "") -> Iterator[None]:
        """One step; where the input does not allow it, it is left out, and those after it are taken."""
        nonlocal problems
        try:
            yield
        except InputError as error:
            report(f"left out: {what}{one_line(error)}")
            problems += 1

    if "maps" in kinds:
        maps: dict[str, Any] = {"methods": methods, "target": target, "samples": samples, **options}
        columns: list[Column] = []
        for model, layer in zip(models, layers or [None] * len(models), strict=True):
            with step(f"maps of {model.name}: "):
                columns += activation_maps(model, shown, layer=layer, **maps)
        # What one model cannot read no other can: each file is reported once.
        unread = {k: c.cells[k].error for c in reversed(columns) for k in range(len(shown)) if c.cells[k].error}
        for k in sorted(unread):
            report(f"not read: {shown[k].path}: {unread[k]}")
        problems += len(unread)
        with step():
            report(plots.save(draw(shown, columns), folder / "activation-maps.png"))
    if "text" in kinds:
        with step("text: "):
            looked_at = choose(radiographs, most, seed)
            pairs: dict[str, Any] = {"layers": layers, "target": target, "rows": rows, "progress": progress}
            marked, pictures, columns = conceal(models, looked_at, **pairs)
            report(plots.save(draw(marked, columns, pictures), folder / "text-concealed.png"))
            with whole_file(folder / "text-concealed.csv") as partial_file:
                effects = frame_csv(effects_of_text(marked, columns, pictures))
                partial_file.write_text(effects, encoding="utf-8", newline="")
            report(folder / "text-concealed.csv")
    if "features" in kinds:
        # The first of each class, the first few where classes are not known.
        first = {r.label if r.label is not None else k: k for k, r in reversed(list(enumerate(shown)))}
        few = [shown[k] for k in sorted(first.values())][:_MOST_FEATURES]
        firsts: dict[int, list[tuple[str, dict[str, np.ndarray]]]] = {}  # by row of `few`, of each model
        for model in models:
            with step():
                network = model.classifier.model
                wanted = chosen_layers(network, feature_layers) if feature_layers else None
                read = [pair for rows, stacks in stacks_of(model, few) for pair in zip(rows, stacks, strict=True)]
                for number, (row, stack) in enumerate(read, start=1):
                    layer_maps = feature_maps(network, stack, wanted)
                    if wanted:
                        firsts.setdefault(row, []).append((model.name, layer_maps))
                        continue
                    picture = draw_features(model, stack, layer_maps, few[row].caption)
                    report(plots.save(picture, folder / f"feature-maps-{model.file_name}-{number}.png"))
                problems += not read
        for number, row in enumerate(sorted(firsts), start=1):
            report(plots.save(draw_first_maps(firsts[row], few[row].caption), folder / f"feature-layers-{number}.png"))
    if "tsne" in kinds:
        chosen, embeddings = choose(radiographs, most, seed), []
        for model in models if len(chosen) >= FEWEST else ():
            with step():
                embeddings.append(embed(model, chosen, perplexity=perplexity, batch_size=batch_size, **options))
                problems += embeddings[-1].unreadable
        if embeddings:
            with step():
                report(plots.save(draw_embeddings(embeddings), folder / "tsne.png"))
                with whole_file(folder / "tsne.csv") as partial_file:
                    partial_file.write_text(frame_csv(table(embeddings)), encoding="utf-8", newline="")
                report(folder / "tsne.csv")
        if len(chosen) < FEWEST:
            report(f"left out: t-SNE: {len(chosen)} radiographs given, {FEWEST} or more expected")
            # no problem for whoever draws everything there is of a few files
            problems += set(kinds) != set(KINDS)
    return problems


@dataclass(frozen=True)
class Column:
    """One model under one method, an explanation a radiograph; `error` of those that could not be read is set."""

    model: str
    method: str
    layer: str  # whose maps are weighed, or what was done to the radiographs; empty for LIME
    cells: tuple[Explanation, ...]


def activation_maps(
    model: NamedModel,
    radiographs: Sequence[Radiograph],
    *,
    layer: str | None = None,
    methods: Sequence[str] = ("cam", "gradcam"),
    target: str | None = None,
    samples: int | str = 1000,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
) -> list[Column]:
    """One model's maps of some radiographs, all of which are held in memory.

    `layer` is that of Grad-CAM, by default the last one; CAM is left out where the head has no closed form. `target` is
    the class to explain, by default the predicted one; `samples` and `seed` are LIME's. `InputError` if a method, the
    class or the layer is unknown; the message lists what there is.
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
        # With another head CAM is a picture of Grad-CAM's.
        head = linear_head(classifier.model) if method == "cam" else None
        if method not in methods or (method == "cam" and not (head and head.closed)):
            continue
        options: dict[str, Any] = {"samples": samples, "seed": seed} if method == "lime" else {}
        weighed = "" if method == "lime" else classifier.cam.layer if method == "cam" else classifier.gradcam.layer
        if method == "gradcam" and layer is not None:
            options, weighed = {"layer": layer}, layer
        explain = classifier.explainer(method, target, **options)
        items: Any = ProgressBar(paths, desc=f"{METHODS[method]} of {model.name}", unit="image", disable=not progress)
        columns.append(Column(model.name, method, weighed, tuple(explain(items, outcomes))))
    return columns


_AS_IS, _CONCEALED = "as it is", "text concealed"


def conceal(
    models: Sequence[NamedModel],
    radiographs: Sequence[Radiograph],
    *,
    layers: Sequence[str | None] = (),
    target: str | None = None,
    rows: int = 6,
    progress: bool = True,
) -> tuple[list[Radiograph], dict[str, list[np.ndarray]], list[Column]]:
    """The first `rows` radiographs that have text, pictures of them, and Grad-CAM of each model before and after.

    Pictures are the radiograph with its text outlined and the one in which it is concealed; see `enhancement.find_text`
    for what counts as text. Both maps explain `target`, or the class that the model calls the radiograph as it is.
    `InputError` if no radiograph has any.
    """
    marked: list[Radiograph] = []
    outlined: list[np.ndarray] = []
    concealed: list[np.ndarray] = []
    cells: list[list[Explanation]] = [[] for _ in range(2 * len(models))]
    for radiograph in ProgressBar(radiographs, desc="text", unit="image", disable=not progress):
        try:
            image = read_radiograph(radiograph.path)
        except InputError:  # other figures name the files that cannot be read
            continue
        if not find_text(image).any():
            continue
        before: list[Explanation] = []
        text = None
        for model, layer in zip(models, layers or [None] * len(models), strict=True):
            options = {} if layer is None else {"layer": layer}
            before += model.classifier.explain([image], "gradcam", target, **options)
            lungs, frame = before[-1].lungs, before[-1].frame
            if text is None and lungs is not None and frame is not None:
                text = find_text(image, frame.to_radiograph(lungs.astype("float32")) >= 0.5)
        text = find_text(image) if text is None else text
        if not text.any():
            continue
        marked.append(radiograph)
        concealed.append(inpaint(image, text))
        # Resized first, or the line would be lost.
        small, mask = (plots.resized(pixels, _SIDE) for pixels in (image, text.astype("uint8")))
        outlined.append(outline(np.repeat(small[..., None], 3, axis=2), mask > 0, ORANGE))
        for k, (model, layer) in enumerate(zip(models, layers or [None] * len(models), strict=True)):
            options = {} if layer is None else {"layer": layer}
            after = model.classifier.explain([concealed[-1]], "gradcam", before[k].target, **options)
            cells[2 * k].append(before[k])
            cells[2 * k + 1] += after
        if len(marked) == rows:
            break
    if not marked:
        raise InputError(f"no text was found in {count(len(radiographs), 'radiograph')}")
    notes = itertools.cycle((_AS_IS, _CONCEALED))
    names = [model.name for model in models for _ in range(2)]
    columns = [Column(name, "gradcam", note, tuple(row)) for name, note, row in zip(names, notes, cells, strict=False)]
    return marked, {"Text outlined": outlined, "Text concealed": concealed}, columns


def effects_of_text(
    radiographs: Sequence[Radiograph], columns: Sequence[Column], pictures: Mapping[str, Sequence[np.ndarray]]
) -> pd.DataFrame:
    """What `conceal` gives as a table: each radiograph and model with the class called and its probability."""
    rows = []
    for before, after in zip(columns[::2], columns[1::2], strict=True):
        for k, radiograph in enumerate(radiographs):
            first, other = before.cells[k].prediction, after.cells[k].prediction
            changed = (pictures["Text concealed"][k] != before.cells[k].radiograph).mean()
            row: dict[str, Any] = {"path": str(radiograph.path), "label": radiograph.label, "model": before.model}
            row |= {"text_share": float(changed), "called": first.label, "called_concealed": other.label}
            name = before.cells[k].target or ""
            row |= {"explained": name, "probability": first.probabilities[name]}
            rows.append(row | {"probability_concealed": other.probabilities[name]})
    return pd.DataFrame(rows)


def draw(
    radiographs: Sequence[Radiograph],
    columns: Sequence[Column],
    pictures: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> Figure:
    """Rows are radiographs, columns models and methods, with class and probability; `InputError` if none was read.

    `pictures` are the first columns, by title, in place of the radiograph alone.
    """
    rows = [k for k in range(len(radiographs)) if any(column.cells[k].error is None for column in columns)]
    if not rows or not columns:
        raise InputError("activation maps: none of the radiographs could be read, or no method fits the models")
    cells = [next(column.cells[k] for column in columns if column.cells[k].error is None) for k in rows]
    images = [plots.resized(cell.radiograph, _SIDE) for cell in cells]
    first = {"Radiograph": images} if pictures is None else {}
    for title, row in (pictures or {}).items():
        first[title] = [plots.resized(row[k], _SIDE) for k in rows]
    ratios = [image.shape[0] / _SIDE for image in images]
    wide, high = _INCHES * (len(columns) + len(first)) + 0.9, _INCHES * sum(ratios) + 0.24 * len(rows) + 0.9
    figure, panels = plots.figure(wide, high, len(rows), len(columns) + len(first), ratios=ratios, dpi=_DPI)
    grid = np.reshape(np.array(panels, object), (len(rows), -1))
    for axes in panels:  # room for the heads is measured from the top of the panels, not from that of the pictures
        axes.set_anchor("N")
    heads = ["\n".join(filter(None, (plots.shortened(c.model, 24), METHODS[c.method], c.layer))) for c in columns]
    for axes, head in zip(grid[0], [*first, *heads], strict=True):
        axes.annotate(head, (0.5, 1), (0, 15), ha="center", va="bottom", fontsize=9, fontweight="bold", **_BESIDE)
    for line, k, image in zip(grid, rows, images, strict=True):
        style: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "multialignment": "center"}
        line[0].annotate(radiographs[k].caption, (0, 0.5), (-4, 0), fontsize=7.5, **style, **_BESIDE)
        for axes, row in zip(line, first.values(), strict=False):
            plots.image(axes, row[rows.index(k)], **_GRAY)
        for axes, column in zip(line[len(first) :], columns, strict=True):
            cell = column.cells[k]
            if cell.error is not None:
                axes.set_axis_off()
                continue
            # One that was given as pixels is another than that of the first column: its text may be concealed.
            shown = plots.resized(cell.source, _SIDE) if isinstance(cell.source, np.ndarray) else image
            plots.image(axes, cell.draw(shown), _title(cell), size=8, **_GRAY)
    notes = "Each map on its own scale; blue line: lungs."
    if any(cell.frame is not None and not cell.frame.whole for column in columns for cell in column.cells):
        notes = f"{notes[:-1]}; corners: what the network sees."
    if any(column.method == "lime" for column in columns):
        notes += " LIME: blue + supports the class, orange \N{MINUS SIGN} speaks against it, white line: lungs."
    if any(column.method != "lime" for column in columns):
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap

        colours = ScalarMappable(cmap=ListedColormap(heat_colours()))
        bar = figure.colorbar(colours, ax=grid, fraction=0.03, pad=0.01, shrink=0.6, aspect=18, panchor=False)
        bar.set_ticks([0, 1], labels=["low", "high"], fontsize=7.5)
        bar.ax.tick_params(length=0)
    figure.supxlabel(f"{notes} {NOTICE}.", x=0.01, ha="left", fontsize=7.5)
    return figure


def _title(cell: Explanation) -> str:
    target, label = cell.target or "", cell.prediction.label or ""
    text = f"{plots.shortened(target, 18)} {cell.prediction.probabilities[target]:.2f}"
    if target != label:
        text += f" (called {plots.shortened(label, 12)})"
    if cell.fit is not None:
        text += f", R\N{SUPERSCRIPT TWO} {cell.fit:.2f}"
    if cell.map is not None and not np.any(cell.map > 0):
        text += ", nothing for it"
    elif cell.map is not None and remark(cell.map):
        text += f", {cell.map.shape[0]} x {cell.map.shape[1]} cells"
    return text


def feature_maps(model: keras.Model, stack: np.ndarray, layers: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Layers and their outputs float32 [h, w, F], by default the first and last convolution, for a stack [H, W, C]."""
    if layers is None:
        names = convolutions(model)
        layers = list(dict.fromkeys([names[0], names[-1]]))
    outputs_of = keras.Model(model.inputs[0], [model.get_layer(name).output for name in layers], name="maps")
    outputs = outputs_of(stack[None].astype("float32"), training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    maps = [np.asarray(keras.ops.convert_to_numpy(output), "float32")[0] for output in outputs]
    return dict(zip(layers, maps, strict=True))


def draw_features(model: NamedModel, stack: np.ndarray, layers: Mapping[str, np.ndarray], caption: str) -> Figure:
    """The stack's planes, and below them a grid of maps for each layer, under the layer's name."""
    grids = [_montage(stack.astype("float32") / 255)]
    # Each map has a range of its own: the figure shows where a map is strong, not how strong.
    for maps in layers.values():
        low, high = np.percentile(maps[..., :MOST], (1, 99), axis=(0, 1))
        grids.append(_montage(((maps[..., :MOST] - low) / np.where(high > low, high - low, 1)).clip(0, 1)))
    titles = [f"stack: {', '.join(model.classifier.input.channels)}"]
    for k, (name, maps) in enumerate(layers.items()):
        height, wide, count = maps.shape
        place = ("first convolution, ", "last convolution, ")[k] if len(layers) == 2 else ""
        rest = "" if count <= MOST else f", the first {MOST} shown"
        titles.append(f"{place}{name}: {count} maps of {wide} x {height}{rest}")
    width = 9.0
    heights = [width / _ACROSS * 1.25 + 0.3, *(width * grid.shape[0] / grid.shape[1] + 0.32 for grid in grids[1:])]
    figure, panels = plots.figure(width + 0.2, sum(heights) + 0.7, len(heights), 1, ratios=heights)
    for axes, grid, title in zip(panels, grids, titles, strict=True):
        axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9.5, loc="left").set_parse_math(False)
        axes.set_axis_off()
    text = ", ".join(caption.split("\n"))
    figure.suptitle(f"{model.name}: feature maps of one radiograph ({text})", fontsize=11, parse_math=False)
    return figure


def draw_first_maps(rows: Sequence[tuple[str, Mapping[str, np.ndarray]]], caption: str) -> Figure:
    """The first feature map of each layer: a row for each model, its layers from left to right."""
    columns = max(len(maps) for _, maps in rows)
    figure, panels = plots.figure(1.32 * columns + 0.3, 1.75 * len(rows) + 0.45, len(rows), columns)
    for (name, maps), line in zip(rows, np.reshape(np.array(panels, object), (len(rows), columns)), strict=True):
        for axes in line[len(maps) :]:
            axes.set_axis_off()
        for axes, (layer, values) in zip(line, maps.items(), strict=False):
            first, (height, width) = values[..., 0], values.shape[:2]
            low, high = np.percentile(first, (1, 99))
            pixels = ((first - low) / (high - low if high > low else 1)).clip(0, 1)
            title = f"{plots.shortened(layer, 20)}\n{width} x {height}"
            plots.image(axes, pixels, title, size=6.5, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        line[0].annotate(name, (0, 0.5), (-4, 0), rotation=90, ha="right", va="center", fontsize=8, **_BESIDE)
    text = ", ".join(caption.split("\n"))
    title = f"First feature map of each layer, each on its own scale ({text})"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    return figure


def _montage(maps: np.ndarray) -> np.ndarray:
    """Maps ``[h, w, F]`` in 0..1 side by side with white between them; small ones enlarged."""
    times = max(1, 48 // max(maps.shape[:2]))
    maps = maps.repeat(times, axis=0).repeat(times, axis=1)
    gap = max(1, round(0.05 * max(maps.shape[:2])))
    rows = -(-maps.shape[2] // _ACROSS)
    tiles = np.pad(maps, ((0, gap), (0, gap), (0, rows * _ACROSS - maps.shape[2])), constant_values=1)
    h, w = tiles.shape[:2]
    return tiles.reshape(h, w, rows, _ACROSS).transpose(2, 0, 3, 1).reshape(rows * h, _ACROSS * w)
