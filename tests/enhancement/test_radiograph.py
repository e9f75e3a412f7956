"""Reading image files: every format and depth to the same gray."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from encoded_pictures import COLOUR, GRAY, HEIGHT, LOSSLESS, LOSSY, OPAQUE, RGB, WIDTH, chunk, encode
from PIL import Image, ImageOps

from enhancement import read_radiograph


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_of_one_picture_read_the_same(read, name):
    result = read(LOSSLESS[name], window="full")
    assert result.dtype == np.uint8 and result.flags.c_contiguous and result.flags.writeable
    assert (result == GRAY).all()


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_files_come_close(read, name):
    # WebP keeps luma in 16..235.
    result = read(LOSSY[name])
    assert result.shape == GRAY.shape
    assert np.abs(result.astype(int) - GRAY).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_colour_goes_to_gray_by_luma(read, kind):
    result = read(encode(COLOUR, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.abs(result - COLOUR @ [0.299, 0.587, 0.114]).max() <= 0.51


def test_colour_jpeg_gives_its_own_luma(read):
    smooth = cv2.GaussianBlur(COLOUR, (15, 15), 0)
    result = read(encode(smooth, "JPEG", quality=98, subsampling=0))
    assert np.abs(result - smooth @ [0.299, 0.587, 0.114]).max() <= 4


def test_transparent_pixels_are_blended_over_black(read):
    alpha = OPAQUE.copy()
    alpha[:10], alpha[10:20] = 0, 128
    result = read(encode(np.dstack([RGB, alpha]), "PNG"))
    assert (result[:10] == 0).all() and (result[20:] == GRAY[20:]).all()
    assert np.abs(result[10:20] - GRAY[10:20] * (128 / 255)).max() <= 0.51


def test_transparent_palette_entries_are_blended_over_black(read):
    image = Image.fromarray((GRAY > 100).astype(np.uint8), "P")
    image.putpalette([200, 200, 200, 90, 90, 90])
    result = read(encode(image, "PNG", transparency=0))
    assert (result == np.where(GRAY > 100, 90, 0)).all()


@pytest.mark.parametrize(
    ("bits", "packed", "levels"), [(1, 0b10110000, [255, 0, 255, 255]), (2, 0b00011011, [0, 85, 170, 255])]
)
def test_shallow_png_is_spread_to_eight_bits(read, bits, packed, levels):
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(bytes([0, packed]))) + chunk(b"IEND", b"")
    assert read(data).tolist() == [levels]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(read, kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(RGB, kind, exif=exif, **{"WEBP": {"lossless": True}, "JPEG": {"quality": 97}}.get(kind, {}))
    image = Image.fromarray(GRAY)
    image.getexif()[274] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    result = read(data)
    assert result.shape == upright.shape
    assert np.abs(result.astype(int) - upright).max() <= (6 if kind == "JPEG" else 0)


def test_deep_tiff_is_turned_upright_and_its_polarity_honoured(read):
    values = Image.fromarray((255 - GRAY).astype(np.uint16) * 100)
    result = read(encode(values, "TIFF", tiffinfo={262: 0, 274: 6}), window="full")
    assert (result == np.rot90(GRAY, -1)).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_exif_block_does_not_hide_the_picture(read):
    assert read(encode(GRAY, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).shape == GRAY.shape


def test_deep_pixels_are_windowed_as_asked(read):
    values = np.linspace(1000, 3000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    values[0, 0] = 65535
    data = cv2.imencode(".png", values)[1].tobytes()
    robust, full, given = (read(data, window=window) for window in (None, "full", (1000, 2000)))
    assert np.median(robust) == pytest.approx(128, abs=2)
    assert np.median(full) < 10
    assert (given[values >= 2000] == 255).all()
    assert (read(data, window="robust") == robust).all()


def test_shallow_pixels_are_not_windowed(read):
    narrow = (GRAY // 8 + 100).astype(np.uint8)
    assert (read(encode(narrow, "PNG"), window="robust") == narrow).all()


def test_float_tiff_is_windowed(read):
    assert (read(encode(GRAY.astype(np.float32) / 7, "TIFF"), window="full") == GRAY).all()


def test_the_name_does_not_decide_on_the_format(tmp_path):
    path = tmp_path / "radiograph.jpg"
    path.write_bytes(LOSSLESS["png gray"])
    assert (read_radiograph(str(path)) == GRAY).all()


@pytest.mark.real
def test_real_radiographs_read_as_opencv_reads_them(real_data):
    from enhancement import find_images

    for path in find_images(real_data / "classification")[::400]:
        assert (read_radiograph(path) == cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)).all(), path
