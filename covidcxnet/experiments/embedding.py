"""t-SNE (van der Maaten and Hinton 2008) of the features before the head: do radiographs of a class lie together?

Often it is radiographs of a source that do: classes are shown by colour, sources by mark.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.backend import compiled
from covidcxnet.experiments.figure_inputs import NamedModel, Radiograph, stacks_of
from covidcxnet.models import feature_layer
from covidcxnet.models.heads import POOLS
from covidcxnet.reporting import plots
from enhancement.errors import InputError
from segmentation.backend import keras, ops

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 8  # radiographs that t-SNE needs to say anything
_COMPONENTS = 50
_WIDEST = 4096  # features; wider ones are flattened maps


@dataclass(frozen=True)
class Embedding:
    """One model's N radiographs on a plane."""

    model: str
    layer: str  # whose output the features are
    radiographs: tuple[Radiograph, ...]  # those that could be read
    predicted: tuple[str, ...]
    points: np.ndarray  # float32 [N, 2]; the axes have no unit, only neighbourhood means anything
    perplexity: float
    seed: int
    # "class" and "source", where known and several: share of radiographs whose nearest neighbour among all features has
    # the same, and the share that chance would give
    neighbours: dict[str, tuple[float, float]]
    unreadable: int


def embed(
    model: NamedModel,
    radiographs: Sequence[Radiograph],
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    batch_size: int = 16,
    jobs: int = 1,
    progress: bool = True,
) -> Embedding:
    """Features of `FEWEST` or more radiographs, brought to a plane by t-SNE; the same seed gives the same picture.

    `InputError` if fewer can be read, or the features are the same for all.
    """
    from sklearn.manifold import TSNE

    if not perplexity > 0:
        raise InputError(f"perplexity: {perplexity} given, a number above 0 expected")
    features, predicted, rows, layer = _features(model, radiographs, batch_size, jobs, progress)
    read = tuple(radiographs[i] for i in rows)
    if len(read) < FEWEST:
        raise InputError(f"t-SNE of {model.name}: {len(read)} radiographs could be read, {FEWEST} or more expected")
    reduced = reduce(features)
    if not reduced.shape[1]:
        raise InputError(f"t-SNE of {model.name}: its features are the same for all radiographs; it has learnt nothing")
    used = min(float(perplexity), (len(read) - 1) / 3)
    # Principal components as the start keep far groups far, and make the picture depend less on the seed.
    start: Any = "pca" if reduced.shape[1] >= 2 else "random"
    points = TSNE(2, perplexity=used, init=start, learning_rate="auto", random_state=seed).fit_transform(reduced)
    known = {"class": [r.label for r in read], "source": [r.source for r in read]}
    neighbours = {name: alike(reduced, values) for name, values in known.items()}
    return Embedding(
        model=model.name,
        layer=layer,
        radiographs=read,
        predicted=predicted,
        points=np.asarray(points, "float32"),
        perplexity=used,
        seed=seed,
        neighbours={name: shares for name, shares in neighbours.items() if shares is not None},
        unreadable=len(radiographs) - len(read),
    )


def reduce(features: np.ndarray) -> np.ndarray:
    """Standardised features ``[N, F]`` as at most 50 principal components, as t-SNE's authors do; none if all alike."""
    from sklearn.decomposition import PCA

    deviation = features.std(axis=0, dtype="float64")
    varies = deviation > 1e-6 * max(1e-6, float(np.abs(features).max()))
    if not varies.any():
        return np.zeros((len(features), 0))
    standard = (features[:, varies] - features[:, varies].mean(axis=0)) / deviation[varies]
    return PCA(min(_COMPONENTS, *standard.shape), svd_solver="full").fit_transform(standard)


def alike(features: np.ndarray, values: Sequence[str | None]) -> tuple[float, float] | None:
    """Share of rows whose nearest other row has the same value, and that by chance; None for fewer than 2 values."""
    from sklearn.neighbors import NearestNeighbors

    known = np.array([value is not None for value in values])
    names = np.array([str(value) for value in values])[known]
    if len(set(names)) < 2:
        return None
    nearest = NearestNeighbors(n_neighbors=1).fit(features[known]).kneighbors(return_distance=False)[:, 0]
    _, counts = np.unique(names, return_counts=True)
    chance = float((counts * (counts - 1)).sum() / (len(names) * (len(names) - 1)))
    return float((names == names[nearest]).mean()), chance


def table(embeddings: Sequence[Embedding]) -> pd.DataFrame:
    """Every point: model, file, class, source, predicted class, x and y."""
    lines = [
        (e.model, str(r.path), r.label, r.source, predicted, float(x), float(y))
        for e in embeddings
        for r, predicted, (x, y) in zip(e.radiographs, e.predicted, e.points, strict=True)
    ]
    return pd.DataFrame(lines, columns=["model", "file", "label", "source", "predicted", "x", "y"])


def feature_tensor(model: keras.Model) -> tuple[Any, str]:
    """What the head is given, a Keras tensor ``[N, F]``, and the name of the layer that gives it."""
    # Where the pooled features are wide (flattened maps) or there are none: averages of the last feature maps.
    pool = next((layer for layer in model.layers if layer.name in POOLS.values()), None)
    if pool is not None and len(pool.output.shape) == 2 and pool.output.shape[1] <= _WIDEST:
        return pool.output, pool.name
    name = feature_layer(model)
    return ops.mean(model.get_layer(name).output, axis=(1, 2)), f"{name}, averaged"


def _features(model: NamedModel, radiographs, batch_size: int, jobs: int, progress: bool):
    """Features ``float32 [n, F]``, predicted classes and rows of those that could be read, and the layer's name."""
    classifier, network = model.classifier, model.classifier.model
    tensor, layer = feature_tensor(network)
    both = keras.Model(network.inputs[0], [tensor, network.outputs[0]], name="features")
    shape = tuple(network.input_shape[1:])
    run = compiled(lambda stacks: tuple(both(stacks, training=False)), network, [(shape, "uint8")])
    parts, outputs, rows = [], [], []
    for read, stacks in stacks_of(model, radiographs, batch_size, jobs, progress):
        features, output = run(stacks)
        classifier.check_finite(output)
        parts.append(features.astype("float32"))
        outputs.append(output)
        rows += read
    if not rows:
        return np.zeros((0, 1), "float32"), (), [], layer
    output = np.concatenate(outputs)
    output = np.hstack([1 - output, output]) if output.shape[1] == 1 else output
    predicted = tuple(classifier.classes[k] for k in output.argmax(axis=1))
    return np.concatenate(parts), predicted, rows, layer


def draw(embeddings: Sequence[Embedding]) -> Figure:
    """A panel for each model: colour by class (the predicted one where no class is known), mark by source."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    figure, panels = plots.panels(len(embeddings), 3, (6.4 if len(embeddings) == 1 else 4.6, 5.0), (0, 0.9))
    known = any(r.label is not None for e in embeddings for r in e.radiographs)
    labels = [[r.label or "unknown" for r in e.radiographs] if known else list(e.predicted) for e in embeddings]
    classes = sorted({c for names in labels for c in names}, key=lambda c: (c != "normal", c))
    palette = itertools.chain(plots.COLOURS, itertools.cycle(map(colormaps["tab20"], range(20))))
    colours: dict[str, Any] = dict(zip(classes, palette, strict=False))
    counts = Counter(r.source for e in embeddings for r in e.radiographs if r.source)
    sources = sorted(counts, key=lambda name: (-counts[name], name))
    # the rarest sources of many share the last mark
    marks = {name: plots.MARKERS[min(k, len(plots.MARKERS) - 1)] for k, name in enumerate(sources)}
    for axes, embedding, names in zip(panels, embeddings, labels, strict=True):
        _panel(axes, embedding, names, colours, marks)
    style: dict[str, Any] = {"linestyle": "", "markersize": 7}
    handles = [Line2D([], [], marker="s", color=colour, label=name, **style) for name, colour in colours.items()]
    title = "colour: class" if known else "colour: predicted class (none is known)"
    if len(sources) > 1:
        title += "; mark: source"
        few = len(sources) <= len(plots.MARKERS)
        shown = sources if few else [*sources[: len(plots.MARKERS) - 1], "others"]
        for name, mark in zip(shown, plots.MARKERS, strict=False):
            handles.append(Line2D([], [], marker=mark, color=plots.INK, markerfacecolor="none", label=name, **style))
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(6, len(handles)), "frameon": False}
    figure.legend(handles=handles, title=title, fontsize=8.5, title_fontsize=8.5, **place)
    return figure


def _panel(axes, embedding: Embedding, labels: list[str], colours: dict[str, Any], marks: dict[str, str]) -> None:
    size = float(np.clip(5000 / len(labels), 9, 50))
    shapes = [marks.get(radiograph.source or "", plots.MARKERS[0]) for radiograph in embedding.radiographs]
    keys = list(zip(labels, shapes, strict=True))
    for label, mark in sorted(set(keys)):
        x, y = embedding.points[[key == (label, mark) for key in keys]].T
        axes.scatter(x, y, size, colours[label], marker=mark, linewidths=0.3, alpha=0.8, edgecolors="white")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=plots.FAINT, visible=True)
    axes.set_title(embedding.model, fontsize=11).set_parse_math(False)
    lines = [f"{len(labels):,} radiographs, features: {embedding.layer}"]
    lines.append(f"perplexity {embedding.perplexity:.3g}, seed {embedding.seed}")
    if embedding.neighbours:
        shares = [f"{name} {share:.2f} (chance {chance:.2f})" for name, (share, chance) in embedding.neighbours.items()]
        lines.append("nearest neighbour of the same " + ", ".join(shares))
    axes.set_xlabel("\n".join(lines), fontsize=7.5)
