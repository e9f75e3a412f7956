"""Reading image files: every bad file and setting is refused by name and reason."""

from __future__ import annotations

import struct

import pytest
from encoded_pictures import GRAY, HEIGHT, LOSSLESS, LOSSY, WIDTH, chunk, encode
from PIL import Image

from enhancement import InputError, RadiographError, read_radiograph


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_truncated_files_are_refused_unless_every_pixel_is_there(read, name):
    data = {**LOSSLESS, **LOSSY}[name]
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
    data = {**LOSSLESS, **LOSSY}[name]
    half = len(data) // 2
    with pytest.raises(RadiographError, match=r"truncated|damaged"):
        read(data[:half] + bytes(len(data) - half))


def test_a_jpeg_with_a_thumbnail_is_not_saved_by_the_thumbnails_end(read):
    thumbnail = encode(GRAY, "JPEG")
    body = b"Exif\0\0" + thumbnail
    data = encode(GRAY, "JPEG", quality=97)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert read(data).shape == GRAY.shape
    with pytest.raises(RadiographError, match="truncated"):
        read(data[:-2])


def test_a_flipped_bit_in_a_png_is_noticed(read):
    data = bytearray(LOSSLESS["png gray"])
    data[len(data) // 2] ^= 1
    with pytest.raises(RadiographError, match="checksum"):
        read(bytes(data))


def test_bytes_after_the_end_do_no_harm(read):
    for name in ("png gray", "jpeg gray", "webp rgb"):
        assert read({**LOSSLESS, **LOSSY}[name] + b"\0" * 100).shape == GRAY.shape


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"path,label\n1.png,normal\n" * 20, "not an image"),
        (b"<html>404</html>", "not an image"),
        (bytes(500), "not an image"),
        (encode(GRAY, "GIF"), "GIF"),
        (b"%PDF-1.7 and more", "PDF"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"BM" + b"x" * 60, "BMP"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "truncated"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(read, data, reason):
    with pytest.raises(RadiographError, match=reason):
        read(data)


def frames(kind: str, **options) -> bytes:
    return encode(
        GRAY, kind, "RGB", save_all=True, append_images=[Image.fromarray(255 - GRAY).convert("RGB")], **options
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "MPO"])
def test_files_of_several_frames_are_refused(read, kind):
    with pytest.raises(RadiographError, match=r"frames|page"):
        read(frames(kind))


def test_an_animated_gif_is_refused(read):
    with pytest.raises(RadiographError, match="GIF"):
        read(frames("GIF"))


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_the_pixel_limit_holds_and_is_told(read, name):
    data = {**LOSSLESS, **LOSSY}[name]
    assert read(data, max_pixels=HEIGHT * WIDTH).shape == GRAY.shape
    with pytest.raises(RadiographError, match=r"53 x 37 = 1,961 pixels.*1,960"):
        read(data, max_pixels=HEIGHT * WIDTH - 1)


def test_a_bomb_is_refused_from_its_header(read):
    # 60,000 x 60,000 pixels of nothing: were it decoded, 3.6 GB of memory would go.
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    data += chunk(b"IDAT", bytes(64)) + chunk(b"IEND", b"")
    with pytest.raises(RadiographError, match="3,600,000,000 pixels, more than the limit of 100,000,000"):
        read(data)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(RadiographError, match=r"nowhere\.png: no such file"):
        read_radiograph(tmp_path / "nowhere.png")
    with pytest.raises(RadiographError, match="folder"):
        read_radiograph(tmp_path)


@pytest.mark.parametrize("settings", [{"window": "wide"}, {"window": (5, 1)}, {"max_pixels": 0}, {"max_pixels": 1.5}])
def test_settings_out_of_range_are_refused_by_name(tmp_path, settings):
    with pytest.raises(InputError, match=next(iter(settings))) as caught:
        read_radiograph(tmp_path / "nowhere.png", **settings)
    assert not isinstance(caught.value, RadiographError)
