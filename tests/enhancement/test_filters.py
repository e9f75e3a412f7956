"""CLAHE, equalization, rank equalization, blur, matching and their stack: what they promise on any image."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enhancement import (
    CHANNELS,
    InputError,
    adaptive_equalize,
    beasf,
    clahe,
    equalize,
    gaussian_blur,
    match_histogram,
    stack,
)

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


def test_adaptive_equalize_gives_the_rank_within_the_disk():
    image = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    y, x = np.mgrid[-4:5, -4:5]
    disk = image[x**2 + y**2 <= 9]
    expected = int(255 * (disk <= image[4, 4]).sum() / disk.size)
    assert adaptive_equalize(image, 3)[4, 4] == expected


def test_blur_with_one_pixel_and_equalizing_a_constant_image_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    assert (gaussian_blur(image, 1) == image).all()
    assert (equalize(np.full((5, 5), 77, np.uint8)) == 77).all()


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


@settings(max_examples=100, deadline=None)
@given(images)
def test_an_image_matched_to_itself_is_unchanged(image):
    assert (match_histogram(image, image) == image).all()


@settings(max_examples=100, deadline=None)
@given(images, images)
def test_the_mapping_is_monotone_and_within_the_template(image, template):
    result = match_histogram(image, template)
    order = np.argsort(image, axis=None)
    assert (np.diff(result.ravel()[order].astype(int)) >= 0).all()
    assert template.min() <= result.min() and result.max() == template.max()


def test_the_histogram_becomes_the_templates():
    random = np.random.default_rng(0)
    image = random.normal(90, 20, (200, 200)).clip(0, 255).astype(np.uint8)
    template = random.normal(160, 35, (150, 250)).clip(0, 255).astype(np.uint8)
    result = match_histogram(image, template)
    for share in (10, 50, 90):
        assert abs(np.percentile(result, share) - np.percentile(template, share)) <= 2


def test_counts_serve_as_well_as_the_image_they_come_from():
    random = np.random.default_rng(1)
    image, template = random.integers(0, 256, (2, 30, 30), dtype=np.uint8)
    counts = np.bincount(template.ravel(), minlength=256)
    expected = match_histogram(image, template)
    assert (match_histogram(image, counts) == expected).all()
    assert (match_histogram(image, counts.tolist()) == expected).all()


@pytest.mark.parametrize(
    "template",
    [np.zeros((4, 4), np.float64), [1, 2, 3], np.zeros(256), np.full(256, -1), np.full(256, np.nan), "counts", None],
)
def test_other_templates_are_refused(template):
    with pytest.raises(InputError, match="template"):
        match_histogram(np.zeros((4, 4), np.uint8), template)


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(110, 40, (50, 40)).clip(0, 255).astype(np.uint8)


def test_the_default_is_clahe_beasf_raw(image):
    planes = stack(image)
    assert planes.shape == (50, 40, 3) and planes.dtype == np.uint8
    for index, plane in enumerate((clahe(image), beasf(image), image)):
        assert (planes[..., index] == plane).all()


def test_channels_come_in_the_order_named_and_may_repeat(image):
    planes = stack(image, ["raw", "clahe", "raw"])
    assert (planes[..., 0] == image).all() and (planes[..., 2] == image).all()
    assert (planes[..., 1] == clahe(image)).all()


def test_equalize_blur_equalises_first(image):
    both = stack(image, ["equalize_blur"])[..., 0]
    assert (both == gaussian_blur(equalize(image))).all() and (both != equalize(gaussian_blur(image))).any()


def test_settings_reach_their_channels(image):
    options = {"clahe_clip_limit": 5.0, "clahe_tile_grid": (2, 3), "beasf_gamma": 3.0, "beasf_histogram": "range"}
    planes = stack(image, ("clahe", "beasf"), **options)
    assert (planes[..., 0] == clahe(image, 5.0, (2, 3))).all()
    assert (planes[..., 1] == beasf(image, 3.0, "range")).all()


@pytest.mark.parametrize("channels", [(), "raw", ["raw", "gamma"], ["CLAHE"]])
def test_unknown_channels_are_refused(image, channels):
    with pytest.raises(InputError, match="channels"):
        stack(image, channels)


def test_every_channel_can_stand_alone_and_shares_no_memory_with_the_image(image):
    for name in CHANNELS:
        assert stack(image, [name]).shape == (50, 40, 1)
    assert not np.shares_memory(stack(image, ["raw"]), image)
