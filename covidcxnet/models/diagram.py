"""Draw a network as a chain of blocks, read from the model itself. Equal blocks in a row are drawn once, as "× 3"."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from covidcxnet.reporting import plots
from segmentation.backend import keras

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MERGES = {"Add": "add", "Concatenate": "concatenate", "Multiply": "multiply", "Average": "average"}
_SHORT = {
    "Conv2D": "Conv",
    "DepthwiseConv2D": "DepthwiseConv",
    "SeparableConv2D": "SeparableConv",
    "Conv2DTranspose": "TransposedConv",
    "MaxPooling2D": "MaxPool",
    "AveragePooling2D": "AveragePool",
    "GlobalAveragePooling2D": "global average pool",
    "GlobalMaxPooling2D": "global max pool",
    "UpSampling2D": "upsampling",
    "BatchNormalization": "BN",
    "EinsumDense": "a weight for each pixel",
    **_MERGES,
}
_ACTIVATIONS = {"relu": "ReLU", "relu6": "ReLU6", "silu": "SiLU", "hard_swish": "hard swish", "hard_silu": "hard swish"}
# Layers that belong to the block before them, and operations that belong to the block after them.
_AFTER = ("BatchNormalization", "Activation", "ReLU", "Dropout", "MaxPooling2D", "AveragePooling2D")
_AHEAD = (
    "ZeroPadding2D",
    "Divide",
    "TrueDivide",
    "Subtract",
    "Multiply",
    "Flip",
    "Repeat",
    "Rescaling",
    "Normalization",
)
_SCALING = "scaling"
_UPSAMPLING = ("Conv2DTranspose", "UpSampling2D")
# The part of a layer's name that names its block: conv2_block1_0_bn, block2a_expand_conv, expanded_conv_1_add.
_STEM = re.compile(r"(?:.+_)?block\d+[a-z]?(?=_)|expanded_conv(?:_\d+)?(?=_)")
_LARGE = 60  # operations; longer runs are cut where two maps pass, since a cell of NASNet takes those of two before it
_MOST_WORDS = 10  # layers in a box; norms and activations of longer blocks are left out
_COUNTED = 16  # layers in a box; those of longer blocks are counted by kind instead of listed in order
_COLOURS = {
    "input": "#eef1f4",
    "convolution": "#cfe3f2",
    "pooling": "#e3e6ea",
    "flatten": "#e3e6ea",
    "dense": "#f6dccb",
    "residual block": "#cdebdf",
    "dense layer": "#cdebdf",
    "parallel branches": "#cdebdf",
    "block": "#cdebdf",
}


@dataclass(frozen=True)
class Block:
    """A box of the drawing: a group of layers, or `times` equal groups in a row."""

    kind: str  # convolution, pooling, dense, residual block, dense layer, parallel branches, block
    names: tuple[str, str]  # of the first and the last layer, or of the block that they are named after
    lines: tuple[tuple[str, ...], ...]  # its layers in short, a line for each parallel path
    shape: tuple[int | None, ...]  # of the output, without the batch
    parameters: int  # of all repeats together
    times: int = 1
    sources: tuple[int, ...] = ()  # positions of earlier blocks that skip connections come from (U-Nets)


def blocks(model: keras.Model) -> list[Block]:
    """Blocks of a functional model from input to output.

    The graph is cut wherever everything that follows depends on a single feature map. Residual blocks, dense layers of
    DenseNet and parallel branches therefore stay whole. Layers named after the same block stay together. A U-Net has no
    such cuts, because of its skip connections; it is cut where the side of the feature map changes.
    """
    operations = [operation for operation in model.operations if _kind(operation) != "InputLayer"]
    if any(_kind(operation) in _UPSAMPLING for operation in operations):
        return _by_side(operations)
    drawn: list[Block] = []
    for group in _grouped(_cut(operations)):
        block = _block(group)
        last = drawn[-1] if drawn else None
        if last and (last.lines, last.kind) == (block.lines, block.kind):
            parameters, names = last.parameters + block.parameters, (last.names[0], block.names[1])
            block = replace(block, names=names, parameters=parameters, times=last.times + 1)
            drawn.pop()
        drawn.append(block)
    return drawn


def _kind(operation) -> str:
    return type(operation).__name__


def _tensors(operation, side: str) -> list:
    tensors = getattr(operation, side)
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]


def _cut(operations: Sequence[Any], most: int = 1) -> list[list[Any]]:
    """Runs of operations, cut wherever what follows needs at most `most` of the feature maps so far."""
    makers = {id(tensor): k for k, operation in enumerate(operations) for tensor in _tensors(operation, "output")}
    last_use: dict[int, int] = {}
    for position, operation in enumerate(operations):
        for tensor in _tensors(operation, "input"):
            if id(tensor) in makers:
                last_use[makers[id(tensor)]] = position
    runs: list[list[Any]] = []
    start, needed = 0, set[int]()
    for position, operation in enumerate(operations):
        needed = {k for k in needed if last_use.get(k, -1) > position} | {position}
        if len(needed) > most or (most > 1 and _kind(operation) != "Concatenate" and position < len(operations) - 1):
            continue
        run = list(operations[start : position + 1])
        runs += _cut(run, 2) if len(run) > _LARGE and most == 1 else [run]
        start = position + 1
    return runs + ([list(operations[start:])] if start < len(operations) else [])


def _grouped(runs: Sequence[list[Any]]) -> list[list[Any]]:
    """Join runs of one block, by their names; and norms, activations and pooling with the convolution before them."""
    groups: list[list[Any]] = []
    waiting: list[Any] = []
    for run in runs:
        kind, stem = _kind(run[0]) if len(run) == 1 else "", _stem(run)
        last = groups[-1] if groups else None
        of_last = last is not None and bool(stem) and stem == _stem(last)
        # After a merge only an activation belongs to the block. A norm there starts the next block, as in DenseNet.
        branched = last is not None and any(map(_merges, last))
        follows = kind in _AFTER and last is not None and all(_kind(w) == "ZeroPadding2D" for w in waiting)
        closing = bool(groups) and kind not in _AHEAD and not isinstance(run[-1], keras.layers.Layer)
        if of_last or closing or (follows and (not branched or kind in ("Activation", "ReLU"))):
            assert last is not None
            last += [*waiting, *run]
            waiting = []
        elif kind in (*_AFTER, *_AHEAD):
            waiting += run
        else:
            groups.append([*waiting, *run])
            waiting = []
    return [*groups, waiting] if waiting else groups


def _merges(operation) -> bool:
    """Whether several maps become one. The same operation with a map and a number only scales the map."""
    return _kind(operation) in _MERGES and len(_tensors(operation, "input")) > 1


def _stem(group: Sequence[Any]) -> str:
    names = Counter(match[0] for operation in group if (match := _STEM.match(operation.name)))
    return names.most_common(1)[0][0] if names else ""


def _by_side(operations: Sequence[Any]) -> list[Block]:
    drawn: list[Block] = []
    makers: dict[int, int] = {}  # id of a tensor -> position of the block that computes it
    for _, members in groupby(operations, key=lambda operation: operation.output.shape[1]):
        group = list(members)
        taken = {makers[id(t)] for operation in group for t in _tensors(operation, "input") if id(t) in makers}
        makers |= {id(tensor): len(drawn) for operation in group for tensor in _tensors(operation, "output")}
        drawn.append(replace(_block(group), kind="convolution", sources=tuple(sorted(taken - {len(drawn) - 1}))))
    return drawn


def _block(group: Sequence[Any]) -> Block:
    merges = [operation for operation in group if _merges(operation)]
    kinds = {_kind(operation) for operation in group}
    entries = {id(t) for t in _tensors(group[0], "input")}
    if not merges:
        present = (word for word in ("Conv", "Dense", "Pool", "Flatten") if any(word in kind for kind in kinds))
        names_of_kinds = {"Conv": "convolution", "Dense": "dense", "Pool": "pooling", "Flatten": "flatten"}
        kind = names_of_kinds.get(next(present, ""), "block")
    elif _kind(merges[-1]) == "Add":
        kind = "residual block"
    elif _kind(merges[-1]) == "Concatenate":
        joins_input = entries & {id(t) for t in _tensors(merges[-1], "input")}
        kind = "dense layer" if joins_input else "parallel branches"
    else:
        kind = "block"  # with squeeze and excitation
    weights = [weight for operation in group for weight in getattr(operation, "weights", ())]
    stem = _stem(group)
    named = [operation.name for operation in group if isinstance(operation, keras.layers.Layer)] or [group[0].name]
    whole = bool(merges) and not any(_kind(operation) in _UPSAMPLING for operation in group)
    names = (stem, stem) if stem else (named[-1], named[-1]) if whole else (named[0], named[-1])
    parameters = sum(math.prod(weight.shape) for weight in weights)
    return Block(kind, names, _lines(group, kind, merges), tuple(group[-1].output.shape[1:]), parameters)


def _lines(group: Sequence[Any], kind: str, merges: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    ways = _ways(group, merges[-1]) if kind in ("residual block", "parallel branches") else []
    # A path without layers is the input itself, which the drawing shows by a bracket beside the box.
    ways = [way for way in ways if way]
    if len(ways) < 2:
        return (_words(group),)
    bare = max(len([operation for operation in way if _word(operation)]) for way in ways) > _MOST_WORDS
    rest = group[group.index(merges[-1]) :]
    if kind == "residual block":
        ways.sort(key=len, reverse=True)
        shortcut = " \N{MIDDLE DOT} ".join(_words(ways[1], bare))
        return ((*_words(ways[0], bare), *_words(rest, bare)), (f"shortcut: {shortcut}",))
    return (*(_words(way, bare) for way in ways), _words(rest))


def _words(group: Sequence[Any], bare: bool | None = None) -> tuple[str, ...]:
    """Layers in short, in order; without norms and activations if `bare` or if they are many; very many are counted."""
    pairs = [(operation, word) for operation in group if (word := _word(operation))]
    first = next((k for k, (_, word) in enumerate(pairs) if word != _SCALING), 0)
    pairs = [pair for k, pair in enumerate(pairs) if pair[1] != _SCALING or k < first]  # later: of an activation
    if len(pairs) > _MOST_WORDS if bare is None else bare:
        pairs = [(op, word) for op, word in pairs if _kind(op) not in ("BatchNormalization", "Activation", "ReLU")]
    if len(pairs) > _COUNTED:
        counted = list(Counter(word for _, word in pairs).items())
    else:
        counted = [(word, len(list(same))) for word, same in groupby(word for _, word in pairs)]
    return tuple(
        f"{number} \N{MULTIPLICATION SIGN} {word}" if number > 1 and word != _SCALING else word
        for word, number in counted
    )


def _ways(group: Sequence[Any], merge: Any) -> list[list[Any]]:
    """Operations on the path to each input of a merge, in order; empty if the paths share too many operations."""
    makers = {id(tensor): k for k, operation in enumerate(group) for tensor in _tensors(operation, "output")}
    ways: list[set[int]] = []
    for tensor in _tensors(merge, "input"):
        way, open_ends = set[int](), [makers[id(tensor)]] if id(tensor) in makers else []
        while open_ends:
            k = open_ends.pop()
            if k not in way:
                way.add(k)
                open_ends += [makers[id(t)] for t in _tensors(group[k], "input") if id(t) in makers]
        ways.append(way)
    shared = sum(map(len, ways)) - len(set().union(*ways))
    return [] if shared > len(group) // 4 else [[group[k] for k in sorted(way)] for way in ways]


def _word(operation) -> str:
    kind = _kind(operation)
    if kind in ("ZeroPadding2D", "Reshape", "Cropping2D"):
        return ""
    if kind in (*_AHEAD, *_MERGES) and not _merges(operation):
        return _SCALING
    config = operation.get_config() if isinstance(operation, keras.layers.Layer) else {}
    word = _SHORT.get(kind, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind))
    if kind in ("Activation", "ReLU"):
        return _activation(config.get("activation", "relu"))
    if kind == "Dropout":
        # Its rate rises from block to block and would make equal blocks differ.
        return "stochastic depth" if config.get("noise_shape") else f"dropout {config['rate']:g}"
    if side := config.get("kernel_size") or config.get("pool_size"):
        word += " {}\N{MULTIPLICATION SIGN}{}".format(*side)
    if width := config.get("filters") or config.get("units"):
        word += f" {width:,}" if kind == "Dense" else f", {width:,}"
    if "Conv" in kind and max(config.get("strides", (1, 1))) > 1:
        word += f", stride {max(config['strides'])}"
    activation = _activation(config.get("activation", "linear"))
    return word + (f", {activation}" if activation else "")


def _activation(value: Any) -> str:
    name = value if isinstance(value, str) else str((value or {}).get("config", value))
    return "" if name in ("linear", "None") else _ACTIVATIONS.get(name, name.replace("_", " "))


_WIDE, _LINE, _PAD, _GAP = 4.6, 0.17, 0.13, 0.24  # inches: width of a box, line of text, margin in a box, arrow


def draw(model: keras.Model, title: str = "") -> Figure:
    """Draw the model's blocks from top to bottom with output shapes and parameters; a U-Net goes down and up again."""
    drawn, shape = blocks(model), tuple(model.input_shape[1:])
    lines = [[part for line in block.lines for part in _wrapped(line)] for block in drawn]
    heights = [2 * _PAD + _LINE * (len(text) + 0.9) for text in lines]
    returns = any(block.sources for block in drawn)
    return (_down_and_up if returns else _column)(
        drawn, lines, heights, shape, title or model.name, model.count_params()
    )


def _wrapped(words: Sequence[str]) -> list[str]:
    """Lines of a box, broken between layers only."""
    unbroken = (word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)
    # The dot ends a line and never begins one.
    return textwrap.wrap("\N{NO-BREAK SPACE}\N{MIDDLE DOT} ".join(unbroken), 74, break_long_words=False)


def _column(drawn: Sequence[Block], lines, heights, shape, title: str, parameters: int) -> Figure:
    left, right = 1.55, 1.15
    width, height = left + _WIDE + right, sum(heights) + _GAP * (len(drawn) + 1) + 1.35
    figure, axes = _canvas(width, height, f"{title}: {parameters:,} parameters")
    y = height - 0.95
    for x, text in ((left - 0.15, "output"), (left + _WIDE + 0.15, "parameters")):
        axes.text(x, height - 0.62, text, fontsize=8, color=plots.FAINT, ha="right" if x < left else "left")
    _box(axes, left, y, _WIDE, 0.3, _COLOURS["input"])
    axes.text(left + _WIDE / 2, y + 0.15, f"stack {_shape(shape)}", fontsize=8.5, ha="center", va="center")
    for block, text, tall in zip(drawn, lines, heights, strict=True):
        _arrow(axes, (left + _WIDE / 2, y), (left + _WIDE / 2, y - _GAP))
        y -= _GAP + tall
        _draw_block(axes, block, text, left, y, tall)
        middle: dict[str, Any] = {"va": "center", "fontsize": 8, "color": plots.INK}
        axes.text(left - 0.15, y + tall / 2, _shape(block.shape), ha="right", **middle)
        if block.parameters:
            axes.text(left + _WIDE + 0.15, y + tall / 2, f"{block.parameters:,}", ha="left", **middle)
    _note(axes)
    return figure


def _down_and_up(drawn: Sequence[Block], lines, heights, shape, title: str, parameters: int) -> Figure:
    """Encoder on the left, decoder on the right, each decoder block beside the encoder block whose map it joins."""
    turn = next(k for k, block in enumerate(drawn) if block.sources) - 1
    rooms = heights[: turn + 1]
    for k in range(turn + 1, len(drawn)):
        for source in drawn[k].sources:
            rooms[source] = max(rooms[source], heights[k])
    step = _GAP + 0.34  # the shape and the parameters stand below each box
    width, height = 2 * _WIDE + 2.3, sum(rooms) + step * (turn + 2) + 1.2
    figure, axes = _canvas(width, height, f"{title}: {parameters:,} parameters")
    left, right, y = 0.3, width - _WIDE - 0.3, height - 0.95
    _box(axes, left, y, _WIDE, 0.3, _COLOURS["input"])
    axes.text(left + _WIDE / 2, y + 0.15, f"radiograph {_shape(shape)}", fontsize=8.5, ha="center", va="center")
    corners: list[tuple[float, float]] = []
    for k, (block, text, tall) in enumerate(zip(drawn, lines, heights, strict=True)):
        if k <= turn:
            above = corners[-1][1] - 0.2 if corners else y
            y -= step + rooms[k] if k else _GAP + rooms[k]
            x, bottom = (left if k < turn else (left + right) / 2), y + rooms[k] - tall
            if k < turn:
                _arrow(axes, (left + _WIDE / 2, above), (left + _WIDE / 2, bottom + tall))
            else:
                _arrow(axes, (left + _WIDE / 2, above), (x + 0.6, bottom + tall))
        else:
            source = drawn[k].sources[-1]
            x, bottom = right, corners[source][1] + heights[source] / 2 - tall / 2
            _arrow(axes, (left + _WIDE, bottom + tall / 2), (right, bottom + tall / 2), dashes=True)
            start = (right + _WIDE / 2, corners[-1][1] + heights[k - 1])
            if k == turn + 1:
                start = (corners[turn][0] + _WIDE - 0.6, corners[turn][1] + heights[turn])
            _arrow(axes, start, (right + _WIDE / 2, bottom - 0.2))
        corners.append((x, bottom))
        _draw_block(axes, block, text, x, bottom, tall)
        below = f"{_shape(block.shape)}, {block.parameters:,} parameters"
        axes.text(x + _WIDE / 2, bottom - 0.05, below, ha="center", va="top", fontsize=7.5, color=plots.INK)
    _note(axes, "Dashed: the encoder's feature map is concatenated with the decoder's.")
    return figure


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure with one panel, whose coordinates are inches."""
    figure, (axes,) = plots.figure(width, height)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    axes.text(0.3, height - 0.32, title, fontsize=11, fontweight="bold", va="center", color=plots.INK)
    return figure, axes


def _draw_block(axes: Axes, block: Block, text: Sequence[str], x: float, y: float, tall: float) -> None:
    _box(axes, x, y, _WIDE, tall, _COLOURS[block.kind])
    first, last = block.names
    name = first if first == last else f"{first} to {last}"
    heading = f"{block.kind}  \N{MULTIPLICATION SIGN} {block.times}" if block.times > 1 else block.kind
    top = y + tall - _PAD
    axes.text(x + 0.12, top, heading, fontsize=8.5, fontweight="bold", va="top", color=plots.INK)
    faint: dict[str, Any] = {"fontsize": 7, "va": "top", "color": "#5b6672"}
    axes.text(x + _WIDE - 0.12, top - 0.01, plots.shortened(name, 44), ha="right", **faint)
    for k, line in enumerate(text):
        axes.text(x + 0.12, top - _LINE * (k + 1.15), line, fontsize=7.8, va="top", color=plots.INK)
    if block.kind in ("residual block", "dense layer"):
        # A bracket: the input also goes around the layers of the block.
        points = ((x, y + tall - 0.05), (x - 0.07, y + tall - 0.05), (x - 0.07, y + 0.05), (x, y + 0.05))
        axes.plot(*zip(*points, strict=True), color=plots.INK, linewidth=1)


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=colour, edgecolor=plots.FAINT, linewidth=0.8))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], dashes: bool = False) -> None:
    how = {"arrowstyle": "-|>", "color": plots.INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    axes.annotate("", end, start, arrowprops=how | {"linestyle": (0, (3, 2)) if dashes else "-"})


def _note(axes: Axes, more: str = "") -> None:
    text = "A box with \N{MULTIPLICATION SIGN} shows the output of its last block and the parameters of all its blocks."
    axes.text(0.3, 0.2, more or text, fontsize=7, color="#5b6672", va="center")


def _shape(shape: Sequence[int | None]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join("any" if side is None else f"{side:,}" for side in shape)
