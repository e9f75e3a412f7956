"""The lung U-Net of imlab-uiip ("lung-segmentation-2d"), for its weights and those of the projects that took it."""

from __future__ import annotations

from enhancement.errors import InputError

# Filters of the encoder's convolutions before each pooling and at the bottom, and of the decoder's levels, over 32.
_DOWN = ((1, 1), (2, 2), (2, 2), (4, 4))
_BOTTOM = 8
_UP = (8, 8, 4, 2)


def imlab_unet(width: int = 32, channels: int = 1, outputs: int = 1, size: int | None = None, scaling: str = "uniform"):
    """A U-Net whose decoder upsamples by repetition and convolves twice before it joins [skip, up], once after.

    22 weighted layers, all 3 x 3, same-padded, with ReLU; the last one a sigmoid.

    Parameters
    ----------
    width : int
        Filters at the first level.
    channels, outputs, size, scaling
        As in `segmentation.unet.unet`. The published network saw equalised images brought to mean 0 and deviation 1.

    Returns
    -------
    keras.Model
        [N, S, S, channels] -> probabilities ``float32 [N, S, S, outputs]``.
    """
    from .unet import SCALINGS, scaled

    if size is not None and (size < 16 or size % 16):
        raise InputError(f"size: {size} given, a multiple of 16 expected: the U-Net halves its input four times")
    if scaling not in SCALINGS:
        raise InputError(f"scaling: {scaling!r} given, one of {', '.join(SCALINGS)} expected")
    if min(width, channels, outputs) < 1:
        raise InputError(f"width {width}, channels {channels}, outputs {outputs}: each must be at least 1")

    import keras
    from keras import layers

    def convolve(x, times: int, name: str):
        return layers.Conv2D(times * width, 3, padding="same", activation="relu", name=name)(x)

    inputs = keras.Input((size, size, channels), name="radiograph")
    x, skips = scaled(inputs, scaling), []
    for level, (first, second) in enumerate(_DOWN, start=1):
        x = convolve(convolve(x, first, f"down{level}_a"), second, f"down{level}_b")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"pool{level}")(x)
    x = convolve(x, _BOTTOM, "bottleneck")
    for level, times in zip((4, 3, 2, 1), _UP, strict=True):
        x = layers.UpSampling2D(name=f"up{level}")(x)
        x = convolve(convolve(x, times, f"up{level}_a"), times, f"up{level}_b")
        x = layers.Concatenate(name=f"join{level}")([skips[level - 1], x])
        x = convolve(x, times, f"joined{level}")
    masks = layers.Conv2D(outputs, 3, padding="same", activation="sigmoid", dtype="float32", name="masks")(x)
    return keras.Model(inputs, masks, name="imlab-unet")
