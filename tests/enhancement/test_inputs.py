"""What is given to an enhancement, a classifier or a segmenter: one reader, equal results for equal pixels."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from enhancement import (
    adaptive_equalize,
    beasf,
    clahe,
    equalize,
    gaussian_blur,
    match_histogram,
    read_radiograph,
    stack,
)
from enhancement.errors import InputError, RadiographError
from enhancement.inputs import radiographs

NOISE = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)
NOISE[0, :2] = 0, 255
DEEP = NOISE.astype(np.uint16) * 200
COLOUR = np.dstack([NOISE, NOISE, 255 - NOISE])


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"chest{number}.png"), np.roll(NOISE, number))
    return tmp_path


SAME = {
    "[H, W, 1]": NOISE[..., None],
    "[H, W, 3]": np.dstack([NOISE] * 3),
    "float32 in 0..1": (NOISE / 255).astype(np.float32),
    "float16 in 0..1": (NOISE / 255).astype(np.float16),
    "float64 in 0..255": NOISE.astype(np.float64),
    "float [H, W, 3]": np.dstack([NOISE / 255] * 3),
    "int64 in 0..255": NOISE.astype(np.int64),
    "[H, W, 4] with opaque alpha": np.dstack([NOISE] * 3 + [np.full_like(NOISE, 255)]),
    "view": NOISE[::-1][::-1],
    "PIL L": Image.fromarray(NOISE),
    "PIL RGB": Image.fromarray(NOISE).convert("RGB"),
    "PIL palette": Image.fromarray(NOISE).convert("P"),
}


@pytest.mark.parametrize("kind", SAME)
def test_equal_pixels_are_one_radiograph_however_they_are_given(kind):
    before = np.array(SAME[kind])
    assert (read_radiograph(SAME[kind]) == NOISE).all() and (beasf(SAME[kind]) == beasf(NOISE)).all()
    assert (np.array(SAME[kind]) == before).all()


def test_deep_arrays_and_pil_images_are_what_their_files_are(tmp_path):
    turned = Image.fromarray(NOISE)
    turned.getexif()[274] = 6
    files = {"deep.png": Image.fromarray(DEEP), "turned.png": turned, "clear.png": Image.fromarray(NOISE).convert("LA")}
    files["clear.png"].putalpha(Image.fromarray(255 - NOISE))
    for name, picture in files.items():
        picture.save(tmp_path / name, exif=picture.getexif())
        with Image.open(tmp_path / name) as opened:
            assert (read_radiograph(opened) == read_radiograph(tmp_path / name)).all(), name
    assert (read_radiograph(DEEP) == read_radiograph(tmp_path / "deep.png")).all()
    assert (equalize(np.dstack([DEEP] * 3)) == equalize(DEEP)).all()
    assert (read_radiograph(DEEP.astype(np.int64)) == read_radiograph(DEEP)).all()
    assert (read_radiograph(DEEP.astype(">u2"), window="full") == NOISE).all()


FUNCTIONS = [clahe, equalize, gaussian_blur, beasf, stack]
FUNCTIONS += [lambda image: adaptive_equalize(image, 3), lambda image: match_histogram(image, NOISE.T)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_takes_files_patterns_lists_and_batches(function, folder):
    files = sorted(folder.iterdir())
    expected = [function(read_radiograph(file)) for file in files]
    assert (function(str(files[0])) == expected[0]).all() and (function(Image.open(files[0])) == expected[0]).all()
    for many in (folder, str(folder / "*.png"), files, np.array(files), (read_radiograph(file) for file in files)):
        results = function(many)
        assert isinstance(results, list) and all(map(np.array_equal, results, expected))
    batch = function(np.stack([read_radiograph(file) for file in files]))
    assert isinstance(batch, np.ndarray) and (batch == np.stack(expected)).all()


def test_shapes_decide_between_colours_and_a_batch_whose_floats_have_one_range(folder):
    assert [image.shape for image in radiographs(np.zeros((5, 40, 30), np.uint8))] == [(40, 30)] * 5
    assert [image.shape for image in radiographs(np.zeros((3, 40, 30), np.uint8))] == [(40, 30)] * 3
    assert [image.shape for image in radiographs(np.zeros((40, 30, 3), np.uint8))] == [(40, 30)]
    assert [image.shape for image in radiographs(np.zeros((5, 40, 30, 1), np.uint8))] == [(40, 30)] * 5
    with pytest.raises(InputError, match="image 1: 7 x 40 pixels are too few; 16 x 16 or more expected"):
        list(radiographs([np.zeros((40, 7), np.uint8)]))
    dark, light = radiographs(np.stack([np.ones_like(NOISE), NOISE]).astype(float))
    assert (dark == 1).all() and (light == NOISE).all()
    assert (match_histogram(NOISE, str(folder / "chest1.png")) == match_histogram(NOISE, np.roll(NOISE, 1))).all()
    # A path in a list is given on: what reads it records that it is missing. A pattern has to match.
    assert next(radiographs([folder / "none.png", NOISE])) == folder / "none.png"
    (folder / "chest[1].png").write_bytes((folder / "chest1.png").read_bytes())
    assert list(radiographs(str(folder / "chest[1].png"))) == [folder / "chest[1].png"]
    assert isinstance(beasf(str(folder / "chest[1].png")), np.ndarray)


WRONG = {
    "colour": (COLOUR, "is in colour"),
    "colour of Pillow": (Image.fromarray(COLOUR), "is in colour"),
    "floats of colour": (COLOUR / 255, "is in colour"),
    "NaN": (np.full((4, 4), np.nan), "not finite"),
    "infinite": ([np.full((4, 4), np.inf)], "image 1: .*not finite"),
    "negative": (NOISE - 128.0, "floats from -128 to 127 given"),
    "twelve bits": (NOISE * 16.0, "floats from 0 to 4080 given"),
    "no clear range": (NOISE / 200, "floats from 0 to 1.275 given"),
    "bool": (NOISE > 3, "dtype bool given"),
    "int64": (NOISE.astype(int) - 1, "int64 from -1 to 254 given"),
    "complex": (NOISE * 1j, "dtype complex128 given"),
    "empty": (NOISE[:0], "at least one pixel"),
    "empty batch": (np.zeros((0, 8, 8)), "at least one pixel"),
    "one axis": (NOISE[0], r"shape \(90,\) given"),
    "four axes": (np.zeros((2, 8, 8, 3), np.uint8), r"shape \(2, 8, 8, 3\) given"),
    "transparency": (np.zeros((8, 8, 4), np.uint8), r"not opaque alpha \(255 everywhere\)"),
    "batch in a list": ([np.zeros((2, 8, 8), np.uint8)], r"image 1: shape \(2, 8, 8\)"),
    "number": (7, "int given"),
    "masked": (np.ma.masked_equal(NOISE, 0), "a masked array given"),
    "huge": (np.broadcast_to(NOISE[:1, :1], (10_001, 10_000)), "100,010,000 pixels, more than the limit"),
    "huge in a batch": (np.broadcast_to(NOISE[:1, :1], (2, 10_001, 10_000)), "100,010,000 pixels, more than the limit"),
    "numbers": ([[1, 2], [3, 4]], "image 1: list given"),
    "bytes": (b"chest.png", "bytes given"),
    "none": (None, "NoneType given"),
    "mapping": ({"a": 1}, "dict given"),
    "empty path": ("", "an empty path"),
    "missing": ("no-such-chest.png", "no-such-chest.png: no such file"),
    "pattern": ("no-such-*.png", "matches 0 names and no radiograph"),
    "pattern in a list": (["no-such-*.png"], "matches 0 names and no radiograph"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_used_is_refused_in_one_line(kind):
    given, message = WRONG[kind]
    for function in (equalize, lambda images: list(radiographs(images))):
        with pytest.raises(InputError, match=message) as refusal:
            function(given)
        assert "\n" not in str(refusal.value)


def test_no_radiographs_are_refused_and_iterated_over():
    for nothing in ([], (), np.array([], str)):
        with pytest.raises(InputError, match="no radiographs given"):
            equalize(nothing)
        assert list(radiographs(nothing)) == []


def test_files_that_cannot_be_read_are_named_by_every_function(folder):
    (folder / "chest1.png").write_bytes(b"no image")
    with pytest.raises(RadiographError, match=r"chest1\.png"):
        clahe(folder)
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "png")
    with pytest.raises(InputError, match="image: cannot be decoded"):
        clahe(Image.open(io.BytesIO(buffer.getvalue()[:900])))
    with Image.open(folder / "chest0.png") as closed:
        pass
    with pytest.raises(InputError, match="image: cannot be decoded"):
        clahe(closed)
    with pytest.raises(InputError, match="window: 2 requested"):
        read_radiograph(NOISE, window=2)
