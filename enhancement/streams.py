"""What a decoder would do, told from the compressed bytes themselves before anything is decoded.

Headers may contradict each other, so sizes are taken from where the decoder takes them, and what unpacks is counted.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enhancement.errors import Refusal

MIN_SIDE = 16  # fewer pixels are an icon, a patch or test values, and no network takes them
MAX_SIDE = 65_535  # JPEG and DICOM end here; Pillow keeps a pointer for every row, so thin images are dear
_PIECE = 1 << 20

# PNG, section 11.2.2: channels of a colour type; section 8.2: first column and row of a pass, and their steps.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

# JPEG and JPEG-LS: inside a scan 0xFF is followed by 0x00, by a bit 0 or by a restart marker D0 to D7.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
_FRAMES = {*range(0xC0, 0xD0), 0xDE, 0xF7} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xCA)
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_QUANTISERS, _RESTARTS = 0xDB, 0xDD
_SCAN_END, _SCAN_END_OR_RESTART = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])"), re.compile(rb"\xff+([^\x00\xff])")
_AFTER_SCAN = {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0), _END}
_NOISE = bytes((37 * i * i + 11 * i + 91) % 251 for i in range(256))
# Pillow walks the segments and fill bytes before the first scan in Python; libjpeg runs over all pixels in each scan.
_MOST_FILL, _MOST_SEGMENTS, _MOST_SCANS = 64, 10_000, 200


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image with too few pixels for a radiograph or with too many."""
    if min(width, height) < MIN_SIDE:
        raise Refusal(f"{width} x {height} pixels are too few; {MIN_SIDE} x {MIN_SIDE} or more expected")
    if width * height > max_pixels:
        raise Refusal(
            f"holds {width} x {height} = {width * height:,} pixels, more than the limit of {max_pixels:,} (max_pixels)"
        )
    if max(width, height) > MAX_SIDE:
        raise Refusal(f"holds {width} x {height} pixels; sides of at most {MAX_SIDE:,} expected")


def unpacked_size(packed: Iterable[bytes | memoryview], limit: int, wbits: int = zlib.MAX_WBITS) -> int:
    """How many bytes a zlib stream unpacks to, at most about `limit`, without keeping them; `zlib.error` if damaged."""
    inflater, size = zlib.decompressobj(wbits), 0
    for piece in packed:
        rest = bytes(piece)
        while size < limit and not inflater.eof:
            unpacked = inflater.decompress(rest, _PIECE)
            size, rest = size + len(unpacked), inflater.unconsumed_tail
            if not rest and len(unpacked) < _PIECE:
                break
    return size


def check_png(data: bytes) -> None:
    """Refuse a PNG file with two headers, a wrong checksum, without its end, or with fewer rows than it declares."""
    view = memoryview(data)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    pixels: list[memoryview] = []
    start, previous = 8, b""
    while start + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            break
        # A capital letter marks what the picture needs; damage to a comment does not matter.
        needed = name[:1].isupper()
        if needed and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise Refusal(f"damaged PNG file (wrong checksum of its {_shown(name)} chunk)")
        if name == b"IHDR" and start > 8:
            raise Refusal("damaged PNG file (it has two headers)")
        if name == b"IDAT":
            if pixels and previous != b"IDAT":
                raise Refusal("damaged PNG file (its pixels are not in one run of chunks)")
            pixels.append(view[start + 8 : end - 4])
        if name == b"IEND":
            break
        start, previous = end, name
    else:
        name = b""
    if name != b"IEND" or start + 12 > len(data):
        raise Refusal("truncated PNG file (no end chunk)")
    expected = _png_bytes(width, height, depth * _CHANNELS.get(colour, 0), bool(interlaced))
    try:
        size = unpacked_size(pixels, expected)
    except zlib.error:
        raise Refusal("damaged PNG file (its pixels do not unpack)") from None
    if size < expected:
        raise Refusal(f"truncated PNG file ({100 * size // expected}% of its pixels are there)")


def _shown(name: bytes) -> str:
    return name.decode("ascii") if name.isalpha() else "unknown"


def _png_bytes(width: int, height: int, bits: int, interlaced: bool) -> int:
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for x, y, dx, dy in _ADAM7:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers of a JPEG or JPEG-LS stream and where each begins, those of later scans too, to the end marker."""
    at, scans = 2, 0
    for _ in range(_MOST_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None:
            return
        start, marker = match.start(), match[1][0]
        if not scans and start - at > _MOST_FILL:
            raise Refusal("damaged JPEG file (filled up between its segments)")
        yield marker, start
        if marker == _END and scans:
            return
        scans += marker == _SCAN
        if scans > _MOST_SCANS:
            raise Refusal(f"damaged JPEG file (more than {_MOST_SCANS} scans)")
        body = 0 if marker in (_START, _END) else int.from_bytes(data[start + 2 : start + 4], "big")
        at = start + 2 + body
    raise Refusal(f"damaged JPEG file (more than {_MOST_SEGMENTS:,} segments)")


def jpeg_size(data: bytes) -> tuple[int, int, bool]:
    """Width and height of a JPEG or JPEG-LS stream, and whether its end marker and scans are there.

    `Refusal` if it has two headers.
    """
    sizes, ended, scanned = [], False, False
    missing: dict[int, set[int]] = {}  # of a progressive stream: coefficients whose lowest bit no scan has brought
    for marker, start in _jpeg_segments(data):
        if marker in _FRAMES and start + 10 <= len(data):
            height, width, channels = struct.unpack_from(">HHB", data, start + 5)
            if channels > 4:
                raise Refusal("damaged JPEG stream (more than four channels)")
            sizes.append((width, height))
            if marker in _PROGRESSIVE:
                missing = {data[at]: set(range(64)) for at in range(start + 10, start + 10 + 3 * channels, 3)}
        if marker == _SCAN and missing:
            head = data[start + 4 : start + 15]
            first, last, bits = head[1 + 2 * head[0] :][:3]
            for component in head[1 : 1 + 2 * head[0] : 2] if bits & 15 == 0 else ():
                missing.get(component, set()).difference_update(range(first, last + 1))
        scanned |= marker == _SCAN
        # The end counts only after the start of a scan: a thumbnail in the header has one of its own.
        ended = scanned and marker == _END and not any(missing.values())
    if not sizes:
        raise Refusal("truncated or damaged JPEG stream (no picture in it)")
    if len(sizes) > 1:
        raise Refusal("damaged JPEG stream (it has two headers)")
    return (*sizes[0], ended)


def check_scans(data: bytes, pixels: NDArray[Any], decode: Callable[[bytes], NDArray[Any]]) -> None:
    """Refuse a JPEG stream whose `pixels` end in one gray level because its scans do not hold them.

    libjpeg fills up a scan that ends early with the last gray level and only warns, which Pillow passes over. It reads
    no further than the last block, so noise after a whole scan changes nothing. And damaged scans drift out of range,
    to black or white: no encoder writes a block that is darker than black on average.
    """
    corner = pixels[-8:, -8:]
    if not (corner == corner[-1, -1]).all():
        return
    if not np.array_equal(decode(_lengthen_scans(data)), pixels):
        raise Refusal("truncated or damaged JPEG data (its last rows are missing)")
    height, width = (side // 8 * 8 for side in pixels.shape[:2])
    if pixels.ndim == 2 and corner[-1, -1] in (0, 255) and height and width:
        dimmed, share = _halve_means(data)
        blocks = decode(dimmed)[:height, :width].reshape(height // 8, 8, width // 8, 8).mean((1, 3))
        # quantising rounds by half a step, an eighth of which is seen
        if np.abs(blocks - 128).max() > 128 * share + 10:
            raise Refusal("damaged JPEG data (its blocks drift out of range)")


def _halve_means(data: bytes) -> tuple[bytes, float]:
    """The stream with half the quantiser of every block's mean, and the largest ratio of new to old quantisers."""
    changed, share = bytearray(data), 0.0
    for marker, start in _jpeg_segments(data):
        at = start + 4
        while marker == _QUANTISERS and at < start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"):
            wide = 2 if data[at] >> 4 else 1
            old = max(1, int.from_bytes(data[at + 1 : at + 1 + wide], "big"))
            new = max(1, old // 2)
            changed[at + 1 : at + 1 + wide] = new.to_bytes(wide, "big")
            share, at = max(share, new / old), at + 1 + 64 * wide
    return bytes(changed), share


def _lengthen_scans(data: bytes) -> bytes:
    """The stream with noise after every scan; `Refusal` if a scan ends at a marker that cannot stand there."""
    segments = list(_jpeg_segments(data))
    restarts = any(marker == _RESTARTS for marker, _ in segments)
    parts, at = [], 0
    for marker, start in segments:
        if marker == _SCAN:
            body = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
            end = (_SCAN_END if restarts else _SCAN_END_OR_RESTART).search(data, body)
            if end is None or end[1][0] not in _AFTER_SCAN:
                raise Refusal("damaged JPEG file (a scan is broken off)")
            parts += [data[at : end.start()], _NOISE]
            at = end.start()
    return b"".join([*parts, data[at:]])


def jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG 2000 codestream, bare or in the boxes of a JP2 file (ISO 15444-1, A.5.1 and I.4)."""
    start = 0
    for _ in range(100):
        if data[start : start + 4] == b"\xff\x4f\xff\x51" and start + 42 <= len(data):
            right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
            if int.from_bytes(data[start + 40 : start + 42], "big") > 4:
                raise Refusal("damaged JPEG 2000 stream (more than four channels)")
            return right - left, bottom - top
        length, name = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        head = 16 if length == 1 else 8
        length = int.from_bytes(data[start + 8 : start + 16], "big") if length == 1 else length
        if name != b"jp2c" and length < head:
            break
        start += head if name == b"jp2c" else length
    raise Refusal("truncated or damaged JPEG 2000 stream (no picture in it)")
