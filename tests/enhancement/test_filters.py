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

NAMES = ["clahe", "equalize", "blur", "adaptive", "match"]
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


@pytest.mark.parametrize("function", FILTERS, ids=NAMES)
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


@pytest.mark.parametrize(
    "template",
    [np.zeros((4, 4), np.float64), [1, 2, 3], np.zeros(256), np.full(256, -1), np.full(256, np.nan), "counts", None],
)
def test_other_templates_are_refused(template):
    with pytest.raises(InputError, match="template"):
        match_histogram(np.zeros((4, 4), np.uint8), template)


@pytest.mark.parametrize("function", FILTERS, ids=NAMES)
@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_what_is_no_gray_image_is_refused(function, image):
    with pytest.raises(InputError, match="image: "):
        function(image)


NOISE = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)


def test_each_filter_is_what_it_says():
    assert (clahe(NOISE, 3.5, (3, 5)) == cv2.createCLAHE(3.5, (3, 5)).apply(NOISE)).all()  # columns before rows
    assert (clahe(NOISE, 3.5, (3, 5)) != clahe(NOISE, 3.5, (5, 3))).any()
    y, x = np.mgrid[-4:5, -4:5]
    disk = NOISE[:9, :9][x**2 + y**2 <= 9]
    assert adaptive_equalize(NOISE[:9, :9].copy(), 3)[4, 4] == int(255 * (disk <= NOISE[4, 4]).sum() / disk.size)
    assert (gaussian_blur(NOISE, 1) == NOISE).all()
    assert (equalize(np.full((5, 5), 77, np.uint8)) == 77).all()


@settings(max_examples=100, deadline=None)
@given(images, images)
def test_the_mapping_is_monotone_and_within_the_template_and_to_itself_changes_nothing(image, template):
    result = match_histogram(image, template)
    order = np.argsort(image, axis=None)
    assert (np.diff(result.ravel()[order].astype(int)) >= 0).all()
    assert template.min() <= result.min() and result.max() == template.max()
    assert (match_histogram(image, image) == image).all()


def test_the_histogram_becomes_the_templates_and_counts_serve_as_well():
    random = np.random.default_rng(0)
    image = random.normal(90, 20, (200, 200)).clip(0, 255).astype(np.uint8)
    template = random.normal(160, 35, (150, 250)).clip(0, 255).astype(np.uint8)
    result = match_histogram(image, template)
    for share in (10, 50, 90):
        assert abs(np.percentile(result, share) - np.percentile(template, share)) <= 2
    counts = np.bincount(template.ravel(), minlength=256)
    assert (match_histogram(image, counts) == result).all()
    assert (match_histogram(image, counts.tolist()) == result).all()


OPTIONS = {"clahe_clip_limit": 5.0, "clahe_tile_grid": (2, 3), "beasf_gamma": 3.0, "beasf_histogram": "range"}


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ([], {}, (clahe(NOISE), beasf(NOISE), NOISE)),  # the default
        ([["raw", "clahe", "raw"]], {}, (NOISE, clahe(NOISE), NOISE)),
        ([["equalize_blur"]], {}, [gaussian_blur(equalize(NOISE))]),  # in this order
        ([["clahe", "beasf"]], OPTIONS, (clahe(NOISE, 5.0, (2, 3)), beasf(NOISE, 3.0, "range"))),
        *(([[name]], {}, [None]) for name in CHANNELS),
    ],
)
def test_a_stack_holds_its_channels_in_the_order_named(given, options, expected):
    planes = stack(NOISE, *given, **options)
    assert planes.shape == (60, 90, len(expected)) and planes.dtype == np.uint8
    assert not np.shares_memory(planes, NOISE)
    for index, plane in enumerate(expected):
        assert plane is None or (planes[..., index] == plane).all()


@pytest.mark.parametrize("channels", [(), "raw", ["raw", "gamma"], ["CLAHE"]])
def test_unknown_channels_are_refused(channels):
    with pytest.raises(InputError, match="channels"):
        stack(NOISE, channels)
