"""Augmentation as Keras layers: on the device, active in training only, one draw for all channels of an image.

All geometry happens in one resampling; layers whose settings change nothing are left out.
"""

from __future__ import annotations

import math

import numpy as np

from segmentation.backend import keras, ops

from .recipe import AugmentSettings

# Luminance quantisation at quality 50, rows by vertical frequency (ITU-T T.81, table K.1).
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype="float32",
)


def augmenter(settings: AugmentSettings, seed: int = 0) -> list[keras.layers.Layer]:
    """Layers that vary a batch ``[N, S, S, C]`` of 0..255, in order: tone, autocontrast, blur, sharpness, geometry,
    noise, JPEG, erasing.

    Each holds a `keras.random.SeedGenerator`; `callbacks.Seeds` sets them anew at each epoch's start.
    """
    layers: list[keras.layers.Layer] = []
    if settings.tones:
        layers.append(RandomTone(settings.brightness, settings.contrast, settings.gamma, seed=seed))
    if settings.autocontrast:
        layers.append(RandomAutocontrast(seed=seed + 7))
    if settings.blur:
        layers.append(RandomBlur(settings.blur, seed=seed + 1))
    if settings.sharpness != 1:
        layers.append(RandomSharpness(settings.sharpness, seed=seed + 6))
    if settings.moves:
        layers.append(RandomAffine.from_settings(settings, seed=seed + 2))
    if settings.noise:
        layers.append(RandomNoise(settings.noise, seed=seed + 3))
    if settings.jpeg:
        layers.append(RandomJpeg(settings.jpeg, seed=seed + 5))
    if settings.erase:
        layers.append(RandomErase(settings.erase, settings.fill, seed=seed + 4))
    return layers


class _Random(keras.layers.Layer):
    """A layer that does nothing outside training, computes in float32 and draws one value an image."""

    def __init__(self, seed: int):
        # Half-precision coordinates would be off by pixels.
        super().__init__(dtype="float32")
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        images = ops.cast(images, "float32")
        return self.vary(images) if training else images

    def compute_output_shape(self, input_shape):
        return input_shape

    def vary(self, images):
        raise NotImplementedError

    def draw(self, images, low: float, high: float):
        """Uniform values ``[N, 1, 1, 1]``."""
        return keras.random.uniform((ops.shape(images)[0], 1, 1, 1), low, high, seed=self.seed_generator)


class RandomTone(_Random):
    """Grey levels: x/255 to the power gamma, times brightness, contrast about the image's mean, clipped to 0..255."""

    def __init__(self, brightness=(1.0, 1.0), contrast=(1.0, 1.0), gamma=(1.0, 1.0), *, seed: int = 0):
        super().__init__(seed)
        self.brightness, self.contrast, self.gamma = brightness, contrast, gamma

    def vary(self, images):
        if self.gamma != (1, 1):
            images = 255.0 * ops.power(ops.maximum(images, 0.0) / 255.0, self.draw(images, *self.gamma))
        if self.brightness != (1, 1):
            images = images * self.draw(images, *self.brightness)
        if self.contrast != (1, 1):
            mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
            images = mean + (images - mean) * self.draw(images, *self.contrast)
        return ops.clip(images, 0.0, 255.0)


class RandomAffine(_Random):
    """Rotation, zoom, flips and shift in one bilinear resampling about the image's centre, with a constant outside."""

    def __init__(
        self,
        rotation: float = 0.0,
        zoom: tuple[float, float] = (1.0, 1.0),
        shift: float = 0.0,
        flip_horizontal: bool = False,
        flip_vertical: bool = False,
        fill: float = 0.0,
        *,
        seed: int = 0,
    ):
        super().__init__(seed)
        self.rotation, self.zoom, self.shift, self.fill = rotation, zoom, shift, fill
        self.flip_horizontal, self.flip_vertical = flip_horizontal, flip_vertical

    @classmethod
    def from_settings(cls, settings: AugmentSettings, *, seed: int = 0) -> RandomAffine:
        """Layer with the geometry of `settings`."""
        names = ("rotation", "zoom", "shift", "flip_horizontal", "flip_vertical", "fill")
        return cls(**{name: getattr(settings, name) for name in names}, seed=seed)

    def vary(self, images):
        transform = self.transform(ops.shape(images)[0], *images.shape[1:3])
        return ops.image.affine_transform(
            images, transform, "bilinear", "constant", self.fill, data_format="channels_last"
        )

    def transform(self, count, height: int, width: int):
        """Coefficients ``[count, 8]`` from output to input pixels, as `keras.ops.image.affine_transform` wants them."""
        angle = self._uniform(count, -self.rotation, self.rotation) * (math.pi / 180)
        low, high = self.zoom
        # Uniform in the logarithm: a third smaller is as likely as a third larger.
        scale = ops.exp(-self._uniform(count, math.log(low), math.log(high)))
        mirror_x = self._sign(count) if self.flip_horizontal else 1.0
        mirror_y = self._sign(count) if self.flip_vertical else 1.0
        a, b = ops.cos(angle) * scale * mirror_x, -ops.sin(angle) * scale * mirror_y
        c, d = ops.sin(angle) * scale * mirror_x, ops.cos(angle) * scale * mirror_y
        x, y = (width - 1) / 2, (height - 1) / 2
        right = x + self._uniform(count, -self.shift, self.shift) * width
        down = y + self._uniform(count, -self.shift, self.shift) * height
        zero = ops.zeros_like(angle)
        return ops.stack([a, b, x - a * right - b * down, c, d, y - c * right - d * down, zero, zero], axis=1)

    def _uniform(self, count, low: float, high: float):
        return keras.random.uniform((count,), low, high, seed=self.seed_generator)

    def _sign(self, count):
        return ops.where(self._uniform(count, 0.0, 1.0) < 0.5, -1.0, 1.0)


class RandomBlur(_Random):
    """Gaussian blur of random strength, as a random mixture of the image and its strongest blur."""

    def __init__(self, sigma: float, *, seed: int = 0):
        super().__init__(seed)
        radius = max(1, math.ceil(2.5 * sigma))
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        self.window = (weights / weights.sum()).astype("float32")

    def vary(self, images):
        planes, size = images.shape[-1], len(self.window)
        window = ops.convert_to_tensor(np.tile(self.window[:, None], (1, planes)))
        pad = size // 2
        # Reflected, so that blur does not darken the borders.
        edges = ops.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        strong = ops.depthwise_conv(edges, ops.reshape(window, (size, 1, planes, 1)), padding="valid")
        strong = ops.depthwise_conv(strong, ops.reshape(window, (1, size, planes, 1)), padding="valid")
        return images + (strong - images) * self.draw(images, 0.0, 1.0)


class RandomSharpness(_Random):
    """Every second image with its difference from a 3 x 3 smoothing times `factor`, as torchvision's class of 0.5."""

    def __init__(self, factor: float, *, seed: int = 0):
        super().__init__(seed)
        self.factor = factor
        # Pillow's SMOOTH, which torchvision took over; the border of one pixel stays as it is.
        self.window = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], "float32") / 13

    def vary(self, images):
        window = ops.convert_to_tensor(np.repeat(self.window[:, :, None, None], images.shape[-1], axis=2))
        smooth = ops.depthwise_conv(images, window, padding="valid")
        detail = ops.pad(images[:, 1:-1, 1:-1] - smooth, ((0, 0), (1, 1), (1, 1), (0, 0)))
        sharper = ops.clip(images + (self.factor - 1.0) * detail, 0.0, 255.0)
        return ops.where(self.draw(images, 0.0, 1.0) < 0.5, sharper, images)


class RandomAutocontrast(_Random):
    """Every second image with the least grey level of each channel at 0 and its largest at 255, as in torchvision."""

    def vary(self, images):
        low, high = (of(images, axis=(1, 2), keepdims=True) for of in (ops.min, ops.max))
        # An even channel has nothing to stretch.
        stretched = ops.where(high > low, (images - low) * (255.0 / ops.maximum(high - low, 1e-3)), images)
        return ops.where(self.draw(images, 0.0, 1.0) < 0.5, stretched, images)


class RandomNoise(_Random):
    """Gaussian noise of random strength up to `sigma` grey levels, the same in all channels."""

    def __init__(self, sigma: float, *, seed: int = 0):
        super().__init__(seed)
        self.sigma = sigma

    def vary(self, images):
        shape = (*ops.shape(images)[:3], 1)
        # The channels are views of one radiograph, whose noise they share.
        noise = keras.random.normal(shape, seed=self.seed_generator) * self.draw(images, 0.0, self.sigma)
        return ops.clip(images + noise, 0.0, 255.0)


class RandomJpeg(_Random):
    """JPEG's loss without its file: 8 x 8 cosine blocks quantised by the luminance table of ITU-T T.81, annex K.

    `quality` is the lowest, 1 to 100, on the scale of libjpeg.
    """

    def __init__(self, quality: int, *, seed: int = 0):
        super().__init__(seed)
        self.quality = quality
        k, n = np.mgrid[0:8, 0:8]
        cosines = np.cos((2 * n + 1) * k * np.pi / 16) * np.where(k == 0, math.sqrt(1 / 8), math.sqrt(2 / 8))
        self.cosines = cosines.astype("float32")

    def vary(self, images):
        height, width, planes = images.shape[1:]
        # JPEG works on whole blocks of 8 x 8; what is added is cut off again.
        pad = ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0))
        padded = ops.pad(images - 128.0, pad, mode="reflect" if min(height, width) > 8 else "constant")
        rows, columns = padded.shape[1] // 8, padded.shape[2] // 8
        blocks = ops.reshape(padded, (-1, rows, 8, columns, 8, planes))
        basis = ops.convert_to_tensor(self.cosines)
        spectrum = ops.einsum("ku,lv,brucvp->bklrcp", basis, basis, blocks)
        count = rows * columns * planes
        spectrum = ops.reshape(spectrum, (-1, 64, count))  # TensorFlow broadcasts five axes at most
        # libjpeg's scale: below 50 the table grows as 5000 / quality, above it falls linearly.
        quality = self.draw(images, float(self.quality), 100.0)
        scale = ops.where(quality < 50, 5000.0 / quality, 200.0 - 2.0 * quality) / 100.0
        table = ops.reshape(ops.convert_to_tensor(LUMINANCE), (1, 64, 1))
        # A step below 1 would invent precision that 8-bit files do not have.
        step = ops.maximum(table * ops.reshape(scale, (-1, 1, 1)), 1.0)
        spectrum = ops.reshape(ops.round(spectrum / step) * step, (-1, 8, 8, rows, columns, planes))
        blocks = ops.einsum("ku,lv,bklrcp->brucvp", basis, basis, spectrum)
        restored = ops.reshape(blocks, (-1, rows * 8, columns * 8, planes))[:, :height, :width]
        return ops.clip(restored + 128.0, 0.0, 255.0)


class RandomErase(_Random):
    """One square of constant grey at a random place (DeVries and Taylor 2017, "Cutout")."""

    def __init__(self, side: float, fill: float = 0.0, *, seed: int = 0):
        super().__init__(seed)
        self.side, self.fill = side, fill

    def vary(self, images):
        height, width = images.shape[1:3]
        rows = ops.reshape(ops.arange(height, dtype="float32"), (1, -1, 1, 1)) / height
        columns = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, -1, 1)) / width
        # Half of the square may lie outside: borders are erased as often as the middle.
        least, most = -self.side / 2, 1 - self.side / 2
        top, left = self.draw(images, least, most), self.draw(images, least, most)
        inside = (rows >= top) & (rows < top + self.side) & (columns >= left) & (columns < left + self.side)
        return ops.where(inside, self.fill, images)
