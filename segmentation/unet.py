"""The lung U-Net of COVID-CXNet, with width, batch norm and the number of masks as options."""

from __future__ import annotations

CONVENTIONS = ("lung_field", "lung_incl_retrocardiac")
SCALINGS = ("unit", "symmetric", "centred", "uniform", "none")


def unet(
    width: int = 32,
    batch_norm: bool = False,
    channels: int = 1,
    outputs: int = 1,
    size: int | None = None,
    scaling: str = "none",
):
    """A U-Net for lung masks.

    Four levels of two 3 x 3 ReLU convolutions at `width` times 1, 2, 4, 8, a bottleneck at 16, and four transposed
    convolutions, each concatenated as [up, skip]. With the defaults: 7,759,521 parameters in 23 weighted layers, in
    the order of the file published with COVID-CXNet.

    Parameters
    ----------
    width : int
        Filters at the first level.
    batch_norm : bool
        Batch normalisation between each convolution (then without bias) and its ReLU.
    channels : int
        Planes of the input.
    outputs : int
        Sigmoid maps, one for each mask convention.
    size : int or None
        Side of the square input, divisible by 16; None takes any size divisible by 16.
    scaling : {"none", "unit", "symmetric", "centred", "uniform"}
        What the model does to its 0..255 input first: nothing; x/255; x/127.5 - 1; (x - 127)/127, as the published
        network was trained; or x/255 to mean 0 and deviation 1 for equalised images, whose grey levels are uniform.

    Returns
    -------
    keras.Model
        [N, S, S, channels] -> probabilities ``float32 [N, S, S, outputs]``.

    References
    ----------
    Ronneberger et al. 2015, "U-Net"; Haghanifar et al. 2020, "COVID-CXNet".
    """
    from enhancement.errors import InputError

    if size is not None and (size < 16 or size % 16):
        raise InputError(f"size: {size} given, a multiple of 16 expected: the U-Net halves its input four times")
    if scaling not in SCALINGS:
        raise InputError(f"scaling: {scaling!r} given, one of {', '.join(SCALINGS)} expected")
    if min(width, channels, outputs) < 1:
        raise InputError(f"width {width}, channels {channels}, outputs {outputs}: each must be at least 1")

    import keras
    from keras import layers

    inputs = keras.Input((size, size, channels), name="radiograph")
    # Plain arithmetic on the graph, not layers: layer counts and positions stay those of the published file.
    x = scaled(inputs, scaling)
    skips = []
    for level in range(4):
        x = _two_convolutions(x, width * 2**level, batch_norm, f"down{level + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"pool{level + 1}")(x)
    x = _two_convolutions(x, width * 16, batch_norm, "bottleneck")
    for level in reversed(range(4)):
        up = layers.Conv2DTranspose(width * 2**level, 2, strides=2, padding="same", name=f"up{level + 1}")(x)
        x = layers.Concatenate(name=f"join{level + 1}")([up, skips[level]])
        x = _two_convolutions(x, width * 2**level, batch_norm, f"joined{level + 1}")
    # float32 also under a mixed-precision policy: a bfloat16 sigmoid has two digits.
    masks = layers.Conv2D(outputs, 1, activation="sigmoid", dtype="float32", name="masks")(x)
    return keras.Model(inputs, masks, name="unet")


def scaled(inputs, scaling: str):
    """The input of a network after its own scaling, one of `SCALINGS`."""
    if scaling == "unit":
        return inputs / 255.0
    if scaling == "symmetric":
        return inputs / 127.5 - 1.0
    if scaling == "centred":
        return (inputs - 127.0) / 127.0
    if scaling == "uniform":
        return (inputs / 255.0 - 0.5) * 12**0.5
    return inputs


def _two_convolutions(x, filters: int, batch_norm: bool, name: str):
    from keras import layers

    for step in "ab":
        if not batch_norm:
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}_{step}")(x)
            continue
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_{step}")(x)
        x = layers.BatchNormalization(name=f"{name}_{step}_bn")(x)
        x = layers.Activation("relu", name=f"{name}_{step}_relu")(x)
    return x
