"""CLAHE, equalization, rank equalization and blur: what they promise on any image."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enhancement import InputError, adaptive_equalize, clahe, equalize, gaussian_blur, match_histogram

FILTERS = [
    clahe,
    equalize,
    gaussian_blur,
    lambda image: adaptive_equalize(image, 3),
    lambda image: match_histogram(image, image),
]

images = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))) | st.tuples(
    st.integers(0, 255), st.integers(1, 12), st.integers(1, 12)
).map(lambda t: np.full(t[1:], t[0], np.uint8))


@pytest.mark.parametrize("function", FILTERS, ids=["clahe", "equalize", "blur", "adaptive", "match"])
@settings(max_examples=60, deadline=None)
@given(image=images)
def test_every_image_keeps_its_shape_and_is_left_alone(function, image):
    before = image.copy()
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = function(image)
    assert result.dtype == np.uint8 and result.shape == image.shape
    assert (image == before).all()
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize("function", FILTERS, ids=["clahe", "equalize", "blur", "adaptive", "match"])
@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_what_is_no_gray_image_is_refused(function, image):
    with pytest.raises(InputError, match="image: "):
        function(image)


def test_clahe_is_opencv_with_columns_before_rows():
    image = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)
    assert (clahe(image, 3.5, (3, 5)) == cv2.createCLAHE(3.5, (3, 5)).apply(image)).all()
    assert (clahe(image, 3.5, (3, 5)) != clahe(image, 3.5, (5, 3))).any()


def test_equalize_keeps_a_constant_image():
    assert (equalize(np.full((5, 5), 77, np.uint8)) == 77).all()


def test_adaptive_equalize_gives_the_rank_within_the_disk():
    image = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    y, x = np.mgrid[-4:5, -4:5]
    disk = image[x**2 + y**2 <= 9]
    expected = int(255 * (disk <= image[4, 4]).sum() / disk.size)
    assert adaptive_equalize(image, 3)[4, 4] == expected


def test_blur_with_one_pixel_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    assert (gaussian_blur(image, 1) == image).all()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda image: clahe(image, 0), "clip_limit"),
        (lambda image: clahe(image, float("nan")), "clip_limit"),
        (lambda image: clahe(image, 2.0, (8,)), "tile_grid"),
        (lambda image: clahe(image, 2.0, (0, 8)), "tile_grid"),
        (lambda image: clahe(image, 2.0, 8), "tile_grid"),
        (lambda image: gaussian_blur(image, 4), "kernel"),
        (lambda image: gaussian_blur(image, 2.5), "kernel"),
        (lambda image: adaptive_equalize(image, 0), "radius"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(call, name):
    with pytest.raises(InputError, match=name):
        call(np.zeros((8, 8), np.uint8))
