"""One small gray picture, encoded in every format and depth that is read."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 37, 53


def gray_picture() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = (y * 4 + x * 2 + 10 * np.sin(x / 3)).clip(0, 255).astype(np.uint8)
    picture[0, 0], picture[-1, -1] = 0, 255
    return picture


GRAY = gray_picture()
RGB = np.dstack([GRAY] * 3)
OPAQUE = np.full_like(GRAY, 255)
COLOUR = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encode(array, kind: str, mode: str | None = None, **options) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def deep(suffix: str, channels: int) -> bytes:
    values = GRAY.astype(np.uint16) * 16
    planes = [values] * min(channels, 3) + [np.full_like(values, 65535)] * (channels == 4)
    return cv2.imencode(suffix, np.dstack(planes) if channels > 1 else values)[1].tobytes()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


LOSSLESS = {
    "png gray": encode(GRAY, "PNG"),
    "png rgb": encode(RGB, "PNG"),
    "png rgba": encode(np.dstack([RGB, OPAQUE]), "PNG"),
    "png gray alpha": encode(np.dstack([RGB, OPAQUE]), "PNG", "LA"),
    "png palette": encode(GRAY, "PNG", "P"),
    "webp rgb": encode(RGB, "WEBP", lossless=True),
    "webp rgba": encode(np.dstack([RGB, OPAQUE]), "WEBP", lossless=True),
    "tiff gray": encode(GRAY, "TIFF"),
    "tiff rgb": encode(RGB, "TIFF"),
    "tiff rgba": encode(np.dstack([RGB, OPAQUE]), "TIFF"),
    "tiff palette": encode(GRAY, "TIFF", "P"),
    "tiff lzw": encode(GRAY, "TIFF", compression="tiff_lzw"),
    "tiff deflate": encode(RGB, "TIFF", compression="tiff_adobe_deflate"),
    "tiff white is zero": encode(GRAY, "TIFF", tiffinfo={262: 0}),  # Pillow inverts what it writes
    "bmp gray": encode(GRAY, "BMP"),
    "bmp rgb": encode(RGB, "BMP"),
    "bmp palette": encode(GRAY, "BMP", "P"),
    "png 16 gray": deep(".png", 1),
    "png 16 rgb": deep(".png", 3),
    "png 16 rgba": deep(".png", 4),
    "tiff 16 gray": deep(".tif", 1),
    "tiff 16 rgb": deep(".tif", 3),
}
LOSSY = {
    "jpeg gray": encode(GRAY, "JPEG", quality=97),
    "jpeg rgb": encode(RGB, "JPEG", quality=97),
    "jpeg progressive": encode(GRAY, "JPEG", quality=97, progressive=True),
    "jpeg cmyk": encode(RGB, "JPEG", "CMYK", quality=97),
    "webp lossy": encode(RGB, "WEBP", quality=97),
}
