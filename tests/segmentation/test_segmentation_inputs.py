"""What the network sees of a radiograph."""

import cv2
import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.inputs import SegmenterInput


def test_the_square_is_the_padded_radiograph_after_clahe():
    image = np.random.default_rng(0).integers(0, 256, (64, 32)).astype(np.uint8)
    square, frame = SegmenterInput(size=64).prepare(image)
    padded = np.zeros((64, 64), np.uint8)
    padded[:, 16:48] = image
    np.testing.assert_array_equal(square, cv2.createCLAHE(2.0, (8, 8)).apply(padded))
    assert frame.inner_left == 16


def test_stretch_leaves_no_border():
    square, _ = SegmenterInput(size=32, fit="stretch", enhancement="none").prepare(np.full((64, 20), 9, np.uint8))
    assert (square == 9).all()


@pytest.mark.parametrize("name", ["clahe", "equalize", "adaptive_equalize", "beasf", "none"])
def test_every_enhancement_gives_a_square(name):
    image = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    square, _ = SegmenterInput(size=32, enhancement=name).prepare(image)
    assert square.shape == (32, 32) and square.dtype == np.uint8


def test_settings_come_back_from_a_dict():
    settings = SegmenterInput(size=64, clahe_tile_grid=(4, 4), fit="stretch")
    assert SegmenterInput.from_dict(settings.to_dict()) == settings
    with pytest.raises(InputError, match="colour"):
        SegmenterInput.from_dict({"colour": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 100},
        {"size": 32.0},
        {"size": "32"},
        {"size": True},
        {"enhancement": "sharpen"},
        {"fit": "crop"},
        {"clahe_clip_limit": 0},
        {"clahe_clip_limit": "2"},
        {"clahe_clip_limit": float("nan")},
        {"clahe_tile_grid": 8},
        {"clahe_tile_grid": (8.5, 8)},
    ],
)
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        SegmenterInput(**wrong)
