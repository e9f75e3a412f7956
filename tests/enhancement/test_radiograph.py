"""Reading image files: every format and depth to the same gray; every bad file is refused by name and reason."""

import os
import struct
import traceback
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from dicom_files import dicom
from encoded_pictures import COLOUR, GRAY, HEIGHT, LOSSLESS, LOSSY, OPAQUE, RGB, WIDTH, chunk, encode
from PIL import Image, ImageOps

from enhancement import InputError, RadiographError, find_images, read_radiograph

FILES = {**LOSSLESS, **LOSSY}


@pytest.mark.parametrize("name", FILES)
def test_files_of_one_picture_read_the_same_lossy_ones_come_close_and_the_pixel_limit_holds(read, name):
    result = read(FILES[name], window="full", max_pixels=HEIGHT * WIDTH)
    assert result.dtype == np.uint8 and result.flags.c_contiguous and result.flags.writeable
    assert result.shape == GRAY.shape
    # WebP keeps luma in 16..235.
    assert np.abs(result.astype(int) - GRAY).max() <= (8 if name in LOSSY else 0)
    with pytest.raises(RadiographError, match=r"53 x 37 = 1,961 pixels.*1,960"):
        read(FILES[name], max_pixels=HEIGHT * WIDTH - 1)


SMOOTH = cv2.GaussianBlur(COLOUR, (15, 15), 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "JPEG"])
def test_colour_goes_to_gray_by_luma(read, kind):
    picture = SMOOTH if kind == "JPEG" else COLOUR  # whose own luma is taken
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}.get(kind, {})
    result = read(encode(picture, kind, **options))
    assert np.abs(result - picture @ [0.299, 0.587, 0.114]).max() <= (4 if kind == "JPEG" else 0.51)


def test_transparent_pixels_and_palette_entries_are_blended_over_black(read):
    alpha = OPAQUE.copy()
    alpha[:10], alpha[10:20] = 0, 128
    result = read(encode(np.dstack([RGB, alpha]), "PNG"))
    assert (result[:10] == 0).all() and (result[20:] == GRAY[20:]).all()
    assert np.abs(result[10:20] - GRAY[10:20] * (128 / 255)).max() <= 0.51
    image = Image.fromarray((GRAY > 100).astype(np.uint8), "P")
    image.putpalette([200, 200, 200, 90, 90, 90])
    assert (read(encode(image, "PNG", transparency=0)) == np.where(GRAY > 100, 90, 0)).all()


def png(header: bytes, body: bytes) -> bytes:
    parts = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, part) for name, part in parts)


def test_shallow_png_is_spread_to_eight_bits(read):
    for bits, packed, levels in ((1, 0b10111011, [255, 0, 255, 255]), (2, 0b00011011, [0, 85, 170, 255])):
        row = bytes([0, *[packed] * (2 * bits)])
        data = png(struct.pack(">IIBBBBB", 16, 16, bits, 0, 0, 0, 0), zlib.compress(row * 16))
        assert read(data).tolist() == [levels * 4] * 16


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_file_of_fewer_pixels_than_an_array_may_have_is_refused_by_name_and_size(tmp_path, kind):
    path = tmp_path / "icon"
    for small, size in ((GRAY[:20, :15], "15 x 20"), (GRAY[:15, :20], "20 x 15")):
        path.write_bytes(encode(small, kind))
        with pytest.raises(RadiographError, match=f"icon: {size} pixels are too few; 16 x 16 or more expected"):
            read_radiograph(path)
    path.write_bytes(encode(GRAY[:16, :16], kind))
    assert read_radiograph(path).shape == (16, 16)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_honoured_and_a_damaged_block_does_not_hide_the_picture(read, kind):
    assert read(encode(GRAY, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).shape == GRAY.shape
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 97}}.get(kind, {})
    for orientation in range(1, 9):
        exif, image = Image.Exif(), Image.fromarray(GRAY)
        exif[274] = image.getexif()[274] = orientation
        upright = np.asarray(ImageOps.exif_transpose(image))
        result = read(encode(RGB, kind, exif=exif, **options))
        assert result.shape == upright.shape
        assert np.abs(result.astype(int) - upright).max() <= (6 if kind == "JPEG" else 0)


def test_deep_pixels_are_windowed_as_asked(read):
    values = np.linspace(1000, 3000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    values[0, 0] = 65535
    data = cv2.imencode(".png", values)[1].tobytes()
    robust, full, given = (read(data, window=window) for window in (None, "full", (1000, 2000)))
    assert np.median(robust) == pytest.approx(128, abs=2)
    assert np.median(full) < 10
    assert (given[values >= 2000] == 255).all()
    assert (read(data, window="robust") == robust).all()


def test_only_shallow_pixels_are_not_windowed_and_the_name_does_not_decide_on_the_format(read, tmp_path):
    narrow = (GRAY // 8 + 100).astype(np.uint8)
    assert (read(encode(narrow, "PNG"), window="robust") == narrow).all()
    assert (read(encode(GRAY.astype(np.float32) / 7, "TIFF"), window="full") == GRAY).all()
    upside = Image.fromarray((255 - GRAY).astype(np.uint16) * 100)  # and white is 0
    result = read(encode(upside, "TIFF", tiffinfo={262: 0, 274: 6}), window="full")
    assert (result == np.rot90(GRAY, -1)).all()
    (tmp_path / "radiograph.jpg").write_bytes(LOSSLESS["png gray"])
    assert (read_radiograph(str(tmp_path / "radiograph.jpg")) == GRAY).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", FILES)
def test_truncated_files_are_refused_unless_every_pixel_is_there(read, name):
    data = FILES[name]
    whole = read(data)
    cuts = {*range(0, len(data), max(1, len(data) // 40)), len(data) - 1, len(data) - 4, len(data) - 30}
    for cut in cuts:
        try:
            result = read(data[:cut])
        except RadiographError as error:
            assert error.path.endswith("radiograph") and error.reason
        else:  # BMP rows end in padding that holds no pixels
            assert name.startswith("bmp") and (result == whole).all(), cut


@pytest.mark.parametrize("name", ["png gray", "png 16 rgb", "jpeg gray", "jpeg rgb"])
def test_a_download_that_stopped_and_was_padded_with_zeros_is_refused(read, name):
    data = FILES[name]
    half = len(data) // 2
    with pytest.raises(RadiographError, match=r"truncated|damaged"):
        read(data[:half] + bytes(len(data) - half))
    flipped = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    if name.startswith("png"):
        with pytest.raises(RadiographError, match="checksum"):
            read(flipped)


def test_a_thumbnails_end_saves_no_jpeg_and_bytes_after_the_end_do_no_harm(read):
    body = b"Exif\0\0" + encode(GRAY, "JPEG")
    data = FILES["jpeg gray"]
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    with pytest.raises(RadiographError, match="truncated"):
        read(data[:-2])
    for whole in (data, *(FILES[name] for name in ("png gray", "jpeg gray", "webp rgb"))):
        assert read(whole + b"\0" * 100).shape == GRAY.shape
    assert read(data).shape == GRAY.shape


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"path,label\n1.png,normal\n" * 20, "not an image"),
        (b"<html>404</html>", "not an image"),
        (bytes(500), "not an image"),
        (encode(GRAY, "GIF"), "GIF"),
        (b"%PDF-1.7 and more", "is a PDF file"),
        (b'<svg width="9"/>', "is an SVG file"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"BM" + b"x" * 60, "BMP"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "truncated"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(read, data, reason):
    with pytest.raises(RadiographError, match=reason):
        read(data)


@pytest.mark.parametrize(
    ("head", "size", "reason"),
    [
        (dicom(NumberOfFrames=2324), 900, "2324 frames"),
        (dicom(), 600, "DICOM file of 600 MB; at most 512 MB"),
        (LOSSLESS["png gray"], 300, "PNG file of 300 MB; at most 256 MB"),
    ],
    ids=["frames", "DICOM", "PNG"],
)
def test_files_longer_than_any_radiograph_are_refused_unread(tmp_path, monkeypatch, head, size, reason):
    monkeypatch.setattr("enhancement.dicom.decode_dicom", lambda *_: pytest.fail("read"))
    with open(tmp_path / "long", "wb") as file:
        file.write(head)
        file.truncate(size << 20)  # a file with a hole, which takes no room
    with pytest.raises(RadiographError, match=reason):
        read_radiograph(tmp_path / "long")


def test_what_libraries_have_to_say_of_a_file_that_is_read_stays_with_them(tmp_path, capfd, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GRAY.size - 1)
    (tmp_path / "large.tif").write_bytes(LOSSLESS["tiff gray"])
    _, data = cv2.imencode(".tif", COLOUR.astype(np.uint16) * 257)
    entry = bytes.fromhex("53010300")  # the sample format's, whose number becomes one that nobody knows
    (tmp_path / "deep.tif").write_bytes(data.tobytes().replace(entry, bytes.fromhex("e9fd0300")))
    for name in ("large.tif", "deep.tif"):
        assert read_radiograph(tmp_path / name).shape == GRAY.shape
    assert not recwarn.list and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "MPO", "GIF"])
def test_files_of_several_frames_are_refused(read, kind):
    second = Image.fromarray(255 - GRAY).convert("RGB")
    with pytest.raises(RadiographError, match="GIF" if kind == "GIF" else r"frames|page"):
        read(encode(GRAY, kind, "RGB", save_all=True, append_images=[second]))


def header(width: int, height: int, interlaced: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)


def many_strips(count: int) -> bytes:
    entries = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (277, 1), (278, 1))
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    tags += struct.pack("<HHII", 273, 4, count, 200) + struct.pack("<HHII", 279, 4, count, 200)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 9) + tags + bytes(4 + 100 + 4 * count)


JPEG = LOSSY["jpeg gray"]
PNG = LOSSLESS["png gray"]
MORE_THAN_THEY_SAY = {
    "3.6 GB of nothing": (png(header(60000, 60000), bytes(64)), "3,600,000,000 pixels, more than the limit of 100,000"),
    "a second PNG header": (PNG[:33] + chunk(b"IHDR", header(60000, 60000)) + PNG[33:], "two headers"),
    "a second JPEG header": (
        JPEG.replace(b"\xff\xda", b"\xff\xc0\0\x0b\x08\xf0\0\xf0\0\1\1\x11\0\xff\xda", 1),
        "two headers",
    ),
    "JPEG fill bytes": (JPEG[:2] + b"\xff" * 100_000 + JPEG[2:], "filled up"),
    "JPEG segments": (JPEG[:2] + b"\xff\xfe\0\2" * 20_000 + JPEG[2:], "segments"),
    "JPEG scans": (JPEG[:-2] + JPEG[JPEG.index(b"\xff\xda") : -2] * 300 + JPEG[-2:], "scans"),
    "TIFF strips": (many_strips(300_000), "more strips"),
    "a thin picture": (png(header(16, 200_000), zlib.compress(bytes(400_000))), "sides of at most"),
    "a tenth of the rows": (png(header(80, 800), zlib.compress(bytes(80 * 81))), "10% of its pixels"),
    "no rows": (png(header(80, 800), b""), "0% of its pixels"),
    "rows after another chunk": (
        PNG[:-12] + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", b"") + PNG[-12:],
        "one run of chunks",
    ),
}


@pytest.mark.parametrize("name", MORE_THAN_THEY_SAY)
def test_what_a_decoder_would_do_is_counted_before_it_starts(read, monkeypatch, name):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    data, reason = MORE_THAN_THEY_SAY[name]
    with pytest.raises(RadiographError, match=reason):
        read(data)


def test_interlaced_png_is_read_whole_and_refused_without_its_last_pass(read):
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for x, y, dx, dy in steps for row in GRAY[y::dy, x::dx]]
    assert (read(png(header(WIDTH, HEIGHT, 1), zlib.compress(b"".join(rows)))) == GRAY).all()
    with pytest.raises(RadiographError, match="% of its pixels"):
        read(png(header(WIDTH, HEIGHT, 1), zlib.compress(b"".join(rows[:-1]))))


BORDERED = np.pad(GRAY, ((0, 60), (0, 40)))  # a black corner is no missing row


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("end", [b"", b"\xff\xdc", b"\xff\x8f", b"\xff\xd5"])
def test_a_jpeg_scan_that_ends_early_is_refused_and_a_black_border_is_not(read, options, end):
    data = encode(np.dstack([BORDERED] * 3), "JPEG", quality=90, **options)
    assert read(data).shape == BORDERED.shape
    start = data.index(b"\xff\xda") + 14
    with pytest.raises(RadiographError, match="JPEG"):
        read(data[: start + (len(data) - start) // 3] + end + b"\xff\xd9")


def test_a_jpeg_file_that_drifts_to_black_is_refused_and_black_and_white_pictures_are_not(read):
    for value in (0, 255):
        for quality in (5, 50, 90, 100):
            flat = np.where(np.arange(64)[:, None] < 8, SMOOTH[:1, :40, 0].repeat(64, 0)[:, :40], value).astype(
                np.uint8
            )
            assert np.abs(read(encode(flat, "JPEG", quality=quality))[32:].astype(int) - value).max() <= 10
    dark = encode(np.zeros((64, 64), np.uint8), "JPEG", quality=50)
    at = dark.index(b"\xff\xdb") + 5
    assert dark[at] == 16, "the mean of a block counts twice as much as its author meant"
    with pytest.raises(RadiographError, match="out of range"):
        read(dark[:at] + b"\x20" + dark[at + 1 :])


@pytest.mark.parametrize("settings", [{"window": "wide"}, {"window": (5, 1)}, {"max_pixels": 0}, {"max_pixels": 1.5}])
def test_missing_files_folders_and_settings_out_of_range_are_named(tmp_path, settings):
    with pytest.raises(RadiographError, match=r"nowhere\.png: no such file"):
        read_radiograph(tmp_path / "nowhere.png")
    with pytest.raises(RadiographError, match="folder"):
        read_radiograph(tmp_path)
    with pytest.raises(InputError, match=next(iter(settings))) as caught:
        read_radiograph(tmp_path / "nowhere.png", **settings)
    assert not isinstance(caught.value, RadiographError)


def test_a_pipe_and_a_nul_in_a_name_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "IM0001")  # a folder search looks into files without an ending
    (tmp_path / "a.png").write_bytes(LOSSLESS["png gray"])
    assert find_images(tmp_path) == [tmp_path / "a.png"]
    for name, reason in (("pipe.png", "no regular file"), ("a\0.png", r"a\?\.png: no such file")):
        with pytest.raises(RadiographError, match=reason):
            read_radiograph(tmp_path / name)


class PanicException(BaseException):  # as pyo3 raises it where Rust code panics
    pass


@pytest.mark.parametrize(
    ("error", "raised", "reason"),
    [
        (PanicException("FEATHERSTON^ANNE"), RadiographError, "damaged or unsupported PNG file"),
        (ValueError("FEATHERSTON^ANNE"), RadiographError, "damaged or unsupported PNG file"),
        (MemoryError("FEATHERSTON^ANNE"), RadiographError, "more memory than is free"),
        (KeyboardInterrupt("by hand"), KeyboardInterrupt, "by hand"),
        (SystemExit(3), SystemExit, "3"),
    ],
)
def test_whatever_a_decoder_raises_is_a_refusal_in_fixed_words_and_ctrl_c_is_none(
    read, monkeypatch, error, raised, reason
):
    def fail(*_):
        raise error

    monkeypatch.setattr("enhancement.raster.decode_raster", fail)
    with pytest.raises(raised, match=reason) as caught:
        read(LOSSLESS["png gray"])
    assert "FEATHERSTON" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.real
def test_real_radiographs_read_as_opencv_reads_them(real_data):
    for path in find_images(real_data / "classification")[::400]:
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for given in (path, Image.open(path), pixels, pixels / 255, np.dstack([pixels] * 3)):
            assert (read_radiograph(given) == pixels).all(), path


def test_a_bmp_whose_palette_lacks_colours_of_its_pixels_is_no_black_picture(read):
    data = bytearray(encode(GRAY, "BMP"))
    assert (read(bytes(data)) == GRAY).all()
    data[46:50] = struct.pack("<I", 14)  # colours in the palette, the second of them no gray
    data[58] = 90
    with pytest.raises(InputError, match="palette"):
        read(bytes(data))


@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_a_tiff_that_lists_fewer_strips_or_tiles_than_its_size_needs_is_no_black_picture(read, tmp_path, layout):
    options = {"rowsperstrip": 16} if layout == "strips" else {"tile": (16, 16)}
    tifffile.imwrite(tmp_path / "a.tif", GRAY, **options)
    data = (tmp_path / "a.tif").read_bytes()
    assert (read(data) == GRAY).all()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tag = file.pages[0].tags["StripOffsets" if layout == "strips" else "TileOffsets"]
    # the count in the directory's entry, behind its number and type
    fewer = data[: tag.offset + 4] + struct.pack("<I", tag.count - 1) + data[tag.offset + 8 :]
    with pytest.raises(InputError, match=rf"{tag.count - 1} of {tag.count} strips or tiles"):
        read(fewer)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "kind", ["int8", "int16", "uint32", "int32", "float32", "uint16 planes", "uint16 planes alpha"]
)
def test_tiff_of_any_sample_format_and_layout_is_read_right_or_refused(read, tmp_path, kind, compression, order):
    dtype, *planes = kind.split()
    top = np.iinfo(dtype).max if dtype != "float32" else 1.0
    low = 0 if dtype.startswith("u") else -top // 2
    values = (GRAY / 255.0 * (top - low) + low).astype(dtype)
    options: dict = {"compression": compression, "byteorder": order}
    if planes:
        alpha = [np.full_like(values, top)] * ("alpha" in planes)
        values = np.stack([values] * 3 + alpha)
        options |= {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unassalpha"] if alpha else None}
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    data = (tmp_path / "a.tif").read_bytes()
    refused = order == ">" and (dtype == "uint32" or (compression and dtype in ("int16", "int32", "float32")))
    if refused:
        with pytest.raises(RadiographError, match="TIFF"):
            read(data, window="full")
    else:
        assert np.abs(read(data, window="full").astype(int) - GRAY).max() <= 1
