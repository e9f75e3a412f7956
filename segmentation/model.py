"""The lung U-Net: what it sees of a radiograph, its two architectures, and loading either from a weights file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import enhancement
from enhancement.errors import InputError, shortened
from segmentation.backend import keras, layers
from weights.bounded import bounded_by
from weights.format import WeightsFile, check_widths, load_weights, naming
from weights.legacy_h5 import LegacyLayer, set_by_position

from .regions import Frame, frame_for

CONVENTIONS = ("lung_field", "lung_incl_retrocardiac")
# Plain arithmetic on the graph, not layers: layer counts and positions stay those of the published files.
SCALINGS: dict[str, Callable[[Any], Any]] = {
    "unit": lambda x: x / 255.0,
    "symmetric": lambda x: x / 127.5 - 1.0,
    "centred": lambda x: (x - 127.0) / 127.0,  # as the network published with COVID-CXNet was trained
    "uniform": lambda x: (x / 255.0 - 0.5) * 12**0.5,  # equalised images to mean 0 and deviation 1
    "none": lambda x: x,
}
ENHANCEMENTS = ("clahe", "equalize", "adaptive_equalize", "beasf", "none")
FITS = ("pad", "stretch")


@dataclass(frozen=True)
class SegmenterInput:
    """From a radiograph to what a lung U-Net sees; these settings travel in its weights file."""

    size: int = 256  # side of the network's square, divisible by 16
    enhancement: str = "clahe"  # of the square, one of `ENHANCEMENTS`
    clahe_clip_limit: float = 2.0  # this and the next as in `enhancement.clahe`
    clahe_tile_grid: tuple[int, int] = (8, 8)
    fit: str = "pad"  # keep the aspect ratio with black borders, or "stretch" to the square

    def __post_init__(self):
        # Metadata of untrusted files end here, so nothing is taken to have the right type.
        grid, limit = self.clahe_tile_grid, self.clahe_clip_limit
        if isinstance(grid, list | tuple):
            object.__setattr__(self, "clahe_tile_grid", tuple(grid))
        if not _whole(self.size):
            raise InputError(f"size: {self.size!r:.80} given, a whole number expected")
        if not 16 <= self.size <= 4096 or self.size % 16:
            raise InputError(
                f"size: {self.size} given, a multiple of 16 up to 4096 expected (the U-Net halves it four times)"
            )
        if self.enhancement not in ENHANCEMENTS:
            raise InputError(f"enhancement: {self.enhancement!r} given, one of {', '.join(ENHANCEMENTS)} expected")
        if self.fit not in FITS:
            raise InputError(f"fit: {self.fit!r} given, one of {', '.join(FITS)} expected")
        limited = isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit < math.inf
        paired = isinstance(grid, list | tuple) and len(grid) == 2
        if not limited or not paired or not all(_whole(tiles) and 1 <= tiles <= 64 for tiles in grid):
            raise InputError("clahe_clip_limit must be a number above 0 and clahe_tile_grid two whole numbers in 1..64")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "clahe_tile_grid": list(self.clahe_tile_grid)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SegmenterInput:
        """Inverse of `to_dict`; unknown keys are refused."""
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise InputError(
                f"segmenter input: unknown key {unknown[0]!r}; a newer version wrote the file, or it is damaged"
            )
        return cls(**values)

    def frame(self, shape: tuple[int, ...]) -> Frame:
        """How a radiograph of this shape sits in the network's square."""
        return frame_for(shape, None, self.size, stretch=self.fit == "stretch")

    def enhance(self, square: np.ndarray) -> np.ndarray:
        """The enhancement of a square, ``uint8 [S, S]`` in and out."""
        if self.enhancement == "clahe":
            return enhancement.clahe(square, clip_limit=self.clahe_clip_limit, tile_grid=self.clahe_tile_grid)
        return square if self.enhancement == "none" else getattr(enhancement, self.enhancement)(square)

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, Frame]:
        """Of a radiograph ``uint8 [H, W]``: the network's square ``uint8 [S, S]``, and the frame that leads back."""
        frame = self.frame(image.shape)
        return self.enhance(frame.place(frame.cut(image))), frame


def unet(
    width: int = 32,
    batch_norm: bool = False,
    channels: int = 1,
    outputs: int = 1,
    size: int | None = None,
    scaling: str = "none",
    stride: int = 1,
):
    """The lung U-Net of COVID-CXNet.

    Four levels of two 3 x 3 ReLU convolutions at `width` times 1, 2, 4, 8, a bottleneck at 16, and four transposed
    convolutions, each concatenated as [up, skip]; with `batch_norm`, between each convolution (then without bias) and
    its ReLU. With the defaults: 7,759,521 parameters in 23 weighted layers, in the order of the file published with
    COVID-CXNet. With `stride` 2, a convolution of stride 2 comes first and a transposed one makes the maps, so that all
    levels work at half the resolution, in about a third of the time. A `keras.Model` of ``[N, S, S, channels]`` to
    probabilities ``float32 [N, S, S, outputs]``, a map for each mask convention; `size` is S, divisible by 16 times
    `stride`, None for any; `scaling` of the 0..255 input as in `SCALINGS`.

    Ronneberger et al. 2015, "U-Net"; Haghanifar et al. 2020, "COVID-CXNet".
    """
    check_network(width, channels, outputs, size, scaling, stride)

    def two_convolutions(x, filters: int, name: str):
        for step in "ab":
            if not batch_norm:
                x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}_{step}")(x)
                continue
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_{step}")(x)
            x = layers.BatchNormalization(name=f"{name}_{step}_bn")(x)
            x = layers.Activation("relu", name=f"{name}_{step}_relu")(x)
        return x

    inputs = keras.Input((size, size, channels), name="radiograph")
    x, skips = SCALINGS[scaling](inputs), []
    if stride > 1:
        x = layers.Conv2D(width, stride, strides=stride, padding="same", name="stem")(x)
    for level in range(4):
        x = two_convolutions(x, width * 2**level, f"down{level + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"pool{level + 1}")(x)
    x = two_convolutions(x, width * 16, "bottleneck")
    for level in reversed(range(4)):
        up = layers.Conv2DTranspose(width * 2**level, 2, strides=2, padding="same", name=f"up{level + 1}")(x)
        x = layers.Concatenate(name=f"join{level + 1}")([up, skips[level]])
        x = two_convolutions(x, width * 2**level, f"joined{level + 1}")
    # float32 also under a mixed-precision policy: a bfloat16 sigmoid has two digits.
    last = layers.Conv2D if stride == 1 else layers.Conv2DTranspose
    masks = last(outputs, stride, strides=stride, activation="sigmoid", dtype="float32", name="masks")(x)
    return keras.Model(inputs, masks, name="unet")


def imlab_unet(width: int = 32, channels: int = 1, outputs: int = 1, size: int | None = None, scaling: str = "uniform"):
    """The lung U-Net of imlab-uiip ("lung-segmentation-2d"), for its weights and those of projects that took it over.

    Its decoder upsamples by repetition and convolves twice before it joins [skip, up], once after. 22 weighted layers,
    all 3 x 3, same-padded, with ReLU; the last one a sigmoid. Parameters and result as in `unet`; the published
    network saw equalised images brought to mean 0 and deviation 1.
    """
    check_network(width, channels, outputs, size, scaling)

    def convolve(x, times: int, name: str):
        return layers.Conv2D(times * width, 3, padding="same", activation="relu", name=name)(x)

    inputs = keras.Input((size, size, channels), name="radiograph")
    x, skips = SCALINGS[scaling](inputs), []
    for level, (first, second) in enumerate(((1, 1), (2, 2), (2, 2), (4, 4)), start=1):
        x = convolve(convolve(x, first, f"down{level}_a"), second, f"down{level}_b")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"pool{level}")(x)
    x = convolve(x, 8, "bottleneck")
    for level, times in ((4, 8), (3, 8), (2, 4), (1, 2)):
        x = layers.UpSampling2D(name=f"up{level}")(x)
        x = convolve(convolve(x, times, f"up{level}_a"), times, f"up{level}_b")
        x = layers.Concatenate(name=f"join{level}")([skips[level - 1], x])
        x = convolve(x, times, f"joined{level}")
    masks = layers.Conv2D(outputs, 3, padding="same", activation="sigmoid", dtype="float32", name="masks")(x)
    return keras.Model(inputs, masks, name="imlab-unet")


ARCHITECTURES: dict[str, Callable[..., Any]] = {"unet": unet, "imlab-unet": imlab_unet}


def recognise(layers: Sequence[LegacyLayer]) -> tuple[str, dict[str, int]] | None:
    """Name and options of the U-Net that an old file's layers belong to, by its first and widest ones; else None."""
    # Neither file names its architecture; the count of weighted layers differs.
    name = {23: "unet", 22: "imlab-unet"}.get(len(layers))
    if name is None or any(len(layer.arrays) != 2 or layer.arrays[0].ndim != 4 for layer in layers):
        return None
    kernels = [layer.shapes[0] for layer in layers]
    width, channels, outputs = kernels[0][3], kernels[0][2], kernels[-1][3]
    # The widest layer too: a forged first one must not make us build a network of any size.
    widest = (16 if name == "unet" else 8) * width
    if kernels[9] != (3, 3, widest, widest) or kernels[0][:2] != (3, 3):
        return None
    return name, {"width": width, "channels": channels, "outputs": outputs}


def legacy_metadata(file: WeightsFile) -> dict[str, Any]:
    """The metadata that an old U-Net file would carry; `InputError` if its layers are not those of a U-Net known
    here.
    """
    network = recognise(file.layers)
    if network is None or network[1]["outputs"] > len(CONVENTIONS):
        raise InputError(
            f"{file.path}: {len(file.layers)} layers with weights that are not those of a lung U-Net known here"
        )
    name, options = network
    size, enhancement, scaling = (512, "none", "centred") if name == "unet" else (256, "equalize", "uniform")
    return {
        "format": 1,
        "kind": "segmenter",
        "architecture": {"name": name, "options": {**options, "scaling": scaling}},
        "conventions": list(CONVENTIONS[: options["outputs"]]),
        "input": {"size": size, "enhancement": enhancement, "fit": "stretch"},
    }


def describe(
    file: WeightsFile, metadata: dict[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...], SegmenterInput, dict[str, Any]]:
    """Metadata of a segmenter's file, and of these the mask conventions, input settings and network options.

    An old file has no metadata inside: they are those given, or follow from its arrays. `InputError` if they are not a
    segmenter's or not of this version.
    """
    path = file.path
    metadata = (metadata or legacy_metadata(file)) if file.layout == "keras-2" else file.metadata
    if metadata.get("kind") != "segmenter":
        raise InputError(
            f"{path}: holds weights of kind {metadata.get('kind', file.layout)!r:.80}, a segmenter's expected"
        )
    try:
        name, options = metadata["architecture"]["name"], dict(metadata["architecture"]["options"])
        conventions = tuple(metadata["conventions"])
        settings = SegmenterInput.from_dict(metadata["input"])
    except KeyError as error:
        raise InputError(f"{path}: metadata without {error}; the file is damaged") from None
    except InputError as error:
        raise InputError(f"{path}: {shortened(str(error))}") from error
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"{path}: metadata with a value of a wrong type; the file is damaged") from None
    if not all(isinstance(mask, str) for mask in conventions) or len(set(conventions)) < len(conventions):
        raise InputError(f"{path}: masks {conventions!r:.200} in its metadata, different names expected; damaged")
    if name not in tuple(ARCHITECTURES) or not conventions or options.get("outputs", 1) != len(conventions):
        raise InputError(
            f"{path}: architecture {name!r:.80} with masks {conventions!r:.200} is not known to this version"
        )
    if not set(options) <= {"width", "batch_norm", "channels", "outputs", "scaling", "stride"}:
        raise InputError(f"{path}: unknown options in {sorted(options)!s:.200}; a newer version wrote the file")
    # The squares have one plane: with more the first pass would fail, far from the file.
    if options.get("channels", 1) != 1:
        raise InputError(f"{path}: a U-Net for {options['channels']!r:.80} channels; a radiograph has one")
    return metadata, conventions, settings, options


def load_network(file: WeightsFile, metadata: dict[str, Any], options: dict[str, Any], size: int):
    """Build the network that metadata describe, with `options` of `describe`, and load its weights;
    `InputError` if metadata and file do not describe the same U-Net.
    """
    path, legacy = file.path, file.layout == "keras-2"
    if not legacy:
        check_widths(path, {**options, "size": size})
    try:
        with naming(path), bounded_by(path):
            model = ARCHITECTURES[metadata["architecture"]["name"]](**options, size=size)
    except InputError:
        raise
    except Exception as error:  # options of an untrusted file: Keras and TensorFlow raise whatever they like
        raise InputError(f"{path}: its metadata do not describe a U-Net ({error!r:.300})") from error
    if legacy:
        set_by_position(model, file.layers, path)
    else:
        load_weights(model, path)
    return model


def check_network(width: int, channels: int, outputs: int, size: int | None, scaling: str, stride: int = 1) -> None:
    """Refuse what `unet` cannot be built with."""
    if stride not in (1, 2):
        raise InputError(f"stride: {stride} given, 1 or 2 expected")
    if size is not None and (size < 16 * stride or size % (16 * stride)):
        times = "four" if stride == 1 else "five"
        raise InputError(
            f"size: {size} given, a multiple of {16 * stride} expected: "
            f"with stride {stride} the U-Net halves its input {times} times"
        )
    if scaling not in SCALINGS:
        raise InputError(f"scaling: {scaling!r} given, one of {', '.join(SCALINGS)} expected")
    if min(width, channels, outputs) < 1:
        raise InputError(f"width {width}, channels {channels}, outputs {outputs}: each must be at least 1")


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
