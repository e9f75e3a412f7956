"""PNG, JPEG, WebP, TIFF, BMP and raw JSRT files: bytes to gray pixels, with what decoders pass over checked.

Pillow decodes, because it stops at missing data where OpenCV fills the rest with gray; OpenCV decodes 16-bit colour,
which Pillow cuts to 8 bits.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from enhancement.checks import Gray
from enhancement.errors import Refusal
from enhancement.silence import silent_decoders
from enhancement.streams import MAX_SIDE, check_png, check_scans, check_size, jpeg_size

ORIENTATION = 274
_TIFF_LISTS = (
    *(TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS),
    *(TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS),
)
RAW_SIDE, RAW_DEEPEST = 2048, 4095


@dataclass(frozen=True)
class Raster:
    """Decoded pixels, not yet windowed, blended or turned upright."""

    gray: NDArray[Any]  # [H, W]; uint8, or a deeper type that is still to be windowed
    alpha: Gray | None = None  # uint8 [H, W], 255 where opaque
    inverted: bool = False  # whether 0 means white
    orientation: int = 1  # EXIF orientation, 1 (upright) to 8


def decode_raster(kind: str, data: bytes, max_pixels: int) -> Raster:
    """Decode a file held in memory of `kind` "PNG", "JPEG", "WebP", "TIFF" or "BMP".

    Raises `Refusal` if it is truncated or holds more than one frame or `max_pixels`, before anything is decoded; and
    whatever Pillow and OpenCV raise on damaged files.
    """
    # Pillow warns of pictures from 90 million pixels, which `max_pixels` allows.
    with silent_decoders():
        return _DECODERS[kind](data, max_pixels)


def check_frames(frames: int) -> None:
    """Refuse animated and multi-page files."""
    if frames > 1:
        raise Refusal(f"holds {frames} frames (animated or multi-page); one image per file expected")


def luma(rgb: NDArray[Any]) -> NDArray[Any]:
    """Gray of ``[H, W, 3]`` RGB: 0.299 R + 0.587 G + 0.114 B, rounded; equal channels come back exactly."""
    return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)


def decode_raw(data: bytes, max_pixels: int) -> NDArray[np.uint16]:
    """Pixels of a raw JSRT file, bone bright: ``uint16 [2048, 2048]`` of 12 bits, not yet windowed."""
    check_size(RAW_SIDE, RAW_SIDE, max_pixels)
    stored = np.frombuffer(data, ">u2").reshape(RAW_SIDE, RAW_SIDE)
    if stored.max() > RAW_DEEPEST:
        raise Refusal(f"holds values up to {stored.max()}, where a raw JSRT file has 12 bits; not one of them")
    return RAW_DEEPEST - stored.astype(np.uint16)


def _decode_png(data: bytes, max_pixels: int) -> Raster:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise Refusal("truncated or damaged PNG file (no header)")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    check_size(width, height, max_pixels)
    check_png(data)
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    check_frames(getattr(image, "n_frames", 1))
    if depth == 16 and colour != 0:
        return _decode_deep_colour(data, _orientation(image))
    return from_pillow(image)


def _decode_jpeg(data: bytes, max_pixels: int) -> Raster:
    width, height, ended = jpeg_size(data)
    check_size(width, height, max_pixels)
    # Pillow's own opener for JPEG: it also tells multi-picture files.
    image = JpegImagePlugin.jpeg_factory(io.BytesIO(data))
    check_size(*image.size, max_pixels)
    check_frames(getattr(image, "n_frames", 1))
    if not ended:
        raise Refusal("truncated JPEG file (its end marker or a scan is missing)")
    raster = _luma_of_jpeg(image)
    if image.mode == "L":
        check_scans(
            data, raster.gray, lambda other: _luma_of_jpeg(JpegImagePlugin.JpegImageFile(io.BytesIO(other))).gray
        )
    return raster


def _luma_of_jpeg(image: ImageFile.ImageFile) -> Raster:
    image.draft("L", None)  # colour: take the file's own luma and leave the rest undecoded
    return from_pillow(image)


def _decode_webp(data: bytes, max_pixels: int) -> Raster:
    if len(data) < 30 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise Refusal("truncated WebP file")
    check_size(*_webp_size(data), max_pixels)
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    check_size(*image.size, max_pixels)
    check_frames(getattr(image, "n_frames", 1))
    return from_pillow(image)


def _webp_size(data: bytes) -> tuple[int, int]:
    # Pillow's decoder allots the canvas when it opens a file, so the size is taken from the header first.
    chunk = data[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise Refusal("damaged WebP file (no image in it)")


def _decode_bmp(data: bytes, max_pixels: int) -> Raster:
    image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    check_size(*image.size, max_pixels)
    if image.mode == "P" and np.asarray(image).max() >= len(image.getpalette() or ()) // 3:
        raise Refusal("damaged BMP file (pixels of colours that its palette lacks)")  # Pillow makes them black
    return from_pillow(image)


def _decode_tiff(data: bytes, max_pixels: int) -> Raster:
    tags = _tiff_tags(data)
    check_size(int(tags.get(TiffImagePlugin.IMAGEWIDTH, 0)), int(tags.get(TiffImagePlugin.IMAGELENGTH, 0)), max_pixels)
    if tags.next:
        raise Refusal("holds more than one page (multi-page TIFF); one image per file expected")
    _check_tiff_extent(tags, len(data), max_pixels)
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    # 1 unsigned, 2 signed, 3 floating point
    (sample_format,) = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
    if max(bits) == 16 and len(bits) >= 3:
        if sample_format != 1:
            raise Refusal("is a colour TIFF file of signed or floating-point pixels; save it as gray")
        if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2:
            return _decode_planes(data, tags, len(bits))
        return _decode_deep_colour(data, int(tags.get(ORIENTATION, 1)))
    # Pillow swaps the bytes of these twice.
    if sample_format != 1 and max(bits) > 8 and data[:2] == b"MM" and tags.get(TiffImagePlugin.COMPRESSION, 1) != 1:
        raise Refusal("is a compressed big-endian TIFF file of signed or floating-point pixels; save it uncompressed")
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    raster = from_pillow(image)
    # Pillow has no type for these and takes the bytes for those of uint8 and int32.
    for depth, kind, taken, real in ((8, 2, np.uint8, np.int8), (32, 1, np.int32, np.uint32)):
        if bits == (depth,) and sample_format == kind and raster.gray.dtype == taken:
            raster = replace(raster, gray=raster.gray.view(real))
    # Of the type that it really has, as in `from_pillow`.
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return replace(raster, inverted=white_is_zero and raster.gray.dtype != np.uint8)


def _tiff_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    file = io.BytesIO(data)
    header = file.read(8)
    if header[2] == 43 or header[3] == 43:  # BigTIFF
        header += file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    # Pillow only warns where a directory is cut, so its extent is checked first.
    big = len(header) == 16
    order = "<" if header[:2] == b"II" else ">"
    count_size, entry_size = (8, 20) if big else (2, 12)
    if tags.next + count_size > len(data):
        raise Refusal("truncated TIFF file (its directory is missing)")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, tags.next)
    if tags.next + count_size + count * entry_size + (8 if big else 4) > len(data):
        raise Refusal("truncated TIFF file (its directory is cut)")
    entries = struct.iter_unpack(
        order + ("HHQ8x" if big else "HHI4x"),
        data[tags.next + count_size : tags.next + count_size + count * entry_size],
    )
    # Lists of strips and tiles become Python objects; a strip holds at least one row of a channel.
    if any(tag in _TIFF_LISTS and length > 4 * MAX_SIDE for tag, _, length in entries):
        raise Refusal("damaged TIFF file (more strips or tiles than rows)")
    file.seek(tags.next)
    tags.load(file)
    return tags


def _check_tiff_extent(tags: TiffImagePlugin.ImageFileDirectory_v2, size: int, max_pixels: int) -> None:
    for offsets, counts in (
        (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS),
        (TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS),
    ):
        ends = [start + length for start, length in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)]
        if ends and max(ends) > size:
            raise Refusal("truncated TIFF file (pixels reach beyond its end)")
    wide, high = (int(tags.get(tag, 0)) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
    columns, rows = (int(tags.get(tag, 0)) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    planes = len(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    planes = planes if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 else 1
    for offsets, across, down in (
        (TiffImagePlugin.STRIPOFFSETS, wide, int(tags.get(TiffImagePlugin.ROWSPERSTRIP, 0)) or high),
        (TiffImagePlugin.TILEOFFSETS, columns, rows),
    ):
        # Pillow leaves what no strip holds black, and says nothing.
        if offsets in tags and across and down:
            expected, there = -(-wide // across) * -(-high // down) * planes, len(tags[offsets])
            if there < expected:
                raise Refusal(f"truncated TIFF file ({there} of {expected} strips or tiles)")
    tile = columns * rows
    if tile > max(max_pixels, 1 << 20):
        raise Refusal(f"has tiles of {tile:,} pixels, more than the limit of {max_pixels:,} (max_pixels)")


def _decode_planes(data: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2, samples: int) -> Raster:
    """16-bit colour whose planes lie apart, which OpenCV reads wrongly: each plane as a gray file of its own."""
    if data[2:4] not in (b"*\0", b"\0*"):
        raise Refusal("is a BigTIFF file of 16-bit colour in separate planes; save it as gray")
    order = "<" if data[:2] == b"II" else ">"
    common = (
        *(TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH, TiffImagePlugin.COMPRESSION),
        *(
            TiffImagePlugin.ROWSPERSTRIP,
            TiffImagePlugin.TILEWIDTH,
            TiffImagePlugin.TILELENGTH,
            TiffImagePlugin.PREDICTOR,
        ),
    )
    start, planes = len(data) + len(data) % 2, []
    for number in range(min(samples, 4)):
        entries = {tag: (int(tags[tag]),) for tag in common if tag in tags}
        entries |= {TiffImagePlugin.BITSPERSAMPLE: (16,), TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: (1,)}
        entries[TiffImagePlugin.SAMPLESPERPIXEL] = (1,)
        for tag in (
            *(TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS),
            *(TiffImagePlugin.TILEOFFSETS, TiffImagePlugin.TILEBYTECOUNTS),
        ):
            if tag in tags:
                pieces = len(tags[tag]) // samples
                entries[tag] = tags[tag][number * pieces : (number + 1) * pieces]
        directory, lists = struct.pack(order + "H", len(entries)), b""
        after = start + 2 + 12 * len(entries) + 4
        for tag, numbers in sorted(entries.items()):
            packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
            # One number stands in the entry itself, several where it points to.
            value = packed if len(numbers) == 1 else struct.pack(order + "I", after + len(lists))
            directory += struct.pack(order + "HHI", tag, 4, len(numbers)) + value
            lists += packed if len(numbers) > 1 else b""
        file = data[:4] + struct.pack(order + "I", start) + data[8:].ljust(start - 8, b"\0")
        plane = TiffImagePlugin.TiffImageFile(io.BytesIO(file + directory + bytes(4) + lists))
        planes.append(np.asarray(plane).astype(np.uint16))
    return _deep_colour(np.dstack(planes), int(tags.get(ORIENTATION, 1)))


def _decode_deep_colour(data: bytes, orientation: int) -> Raster:
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise Refusal("damaged or unsupported 16-bit colour file")
    if pixels.ndim == 2:
        return Raster(pixels, orientation=orientation)
    return _deep_colour(np.dstack([pixels[..., 2::-1], pixels[..., 3:]]), orientation)


def _deep_colour(pixels: NDArray[np.uint16], orientation: int) -> Raster:
    alpha = None
    if pixels.shape[2] == 4:
        alpha = _useful(np.rint(pixels[..., 3] / (65535 / 255)).astype(np.uint8))
    return Raster(luma(pixels[..., :3]), alpha, orientation=orientation)


def from_pillow(image: Image.Image) -> Raster:
    """Pixels of an image that Pillow has opened or made, of any of its modes."""
    image.load()
    orientation = _orientation(image)  # after loading: Pillow turns TIFF upright by itself and then says so
    pixels = image
    if pixels.mode in ("P", "PA"):
        pixels = pixels.convert("RGBA" if pixels.mode == "PA" or "transparency" in pixels.info else "RGB")
    elif pixels.mode in ("1", "La"):
        pixels = pixels.convert("L" if pixels.mode == "1" else "LA")
    elif pixels.mode not in ("L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        pixels = pixels.convert("RGB")
    array = np.asarray(pixels)
    if array.ndim == 2:
        white_is_zero = getattr(image, "tag_v2", {}).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        # Pillow turns 8-bit "0 is white" pixels round, deeper ones not.
        return Raster(array, inverted=white_is_zero and array.dtype != np.uint8, orientation=orientation)
    alpha = _useful(array[..., -1]) if array.shape[2] in (2, 4) else None
    return Raster(array[..., 0] if array.shape[2] == 2 else luma(array[..., :3]), alpha, orientation=orientation)


def _useful(alpha: NDArray[Any]) -> Gray | None:
    return None if (alpha == 255).all() else np.ascontiguousarray(alpha)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1
    return value if value in range(1, 9) else 1


_DECODERS = {
    "PNG": _decode_png,
    "JPEG": _decode_jpeg,
    "WebP": _decode_webp,
    "TIFF": _decode_tiff,
    "BMP": _decode_bmp,
}
