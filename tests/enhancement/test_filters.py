"""Filters, their stack, and the windowing of deep pixels: what they promise on any image."""

import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enhancement import CHANNELS, adaptive_equalize, beasf, clahe, equalize, gaussian_blur, match_histogram, stack
from enhancement.errors import InputError, Refusal
from enhancement.windowing import apply_window, check_window

FILTERS = {
    "clahe": clahe,
    "equalize": equalize,
    "blur": gaussian_blur,
    "adaptive": lambda image: adaptive_equalize(image, 3),
    "match": lambda image: match_histogram(image, image),
}

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))
flat = st.tuples(st.integers(0, 255), st.integers(1, 12), st.integers(1, 12))
images = arrays(np.uint8, shapes) | flat.map(lambda t: np.full(t[1:], t[0], np.uint8))


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=40, deadline=None)
@given(image=images)
def test_every_image_keeps_its_shape_and_is_left_alone(name, image):
    before = image.copy()
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = FILTERS[name](image)
    assert result.dtype == np.uint8 and result.shape == image.shape
    assert (image == before).all()
    assert not np.shares_memory(result, image)


BAD_SETTINGS = [
    (clahe, "clip_limit", [(0,), (float("nan"),)]),
    (clahe, "tile_grid", [(2.0, (8,)), (2.0, (0, 8)), (2.0, 8)]),
    (gaussian_blur, "kernel", [(4,), (2.5,)]),
    (adaptive_equalize, "radius", [(0,)]),
    (match_histogram, "template", [(np.zeros((4, 4)),), ([1, 2, 3],), (np.zeros(256),), (np.full(256, -1),)]),
    (match_histogram, "template", [(np.full(256, np.nan),), ("counts",), (None,)]),
    (stack, "channels", [((),), ("raw",), (["raw", "gamma"],), (["CLAHE"],)]),
]


@pytest.mark.parametrize(("function", "name", "given"), BAD_SETTINGS)
def test_settings_out_of_range_are_refused_by_name(function, name, given):
    for values in given:
        with pytest.raises(InputError, match=name):
            function(np.zeros((8, 8), np.uint8), *values)


@pytest.mark.parametrize("name", FILTERS)
def test_what_is_no_gray_image_is_refused(name):
    for image in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(InputError, match="image: "):
            FILTERS[name](image)


NOISE = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)


def test_each_filter_is_what_it_says():
    assert (clahe(NOISE, 3.5, (3, 5)) == cv2.createCLAHE(3.5, (3, 5)).apply(NOISE)).all()  # columns before rows
    assert (clahe(NOISE, 3.5, (3, 5)) != clahe(NOISE, 3.5, (5, 3))).any()
    y, x = np.mgrid[-4:5, -4:5]
    disk = NOISE[:9, :9][x**2 + y**2 <= 9]
    assert adaptive_equalize(NOISE[:9, :9].copy(), 3)[4, 4] == int(255 * (disk <= NOISE[4, 4]).sum() / disk.size)
    assert (gaussian_blur(NOISE, 1) == NOISE).all()
    assert (equalize(np.full((5, 5), 77, np.uint8)) == 77).all()


@settings(max_examples=60, deadline=None)
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


def test_full_takes_the_smallest_to_the_largest_pixel_and_numbers_cut_off():
    assert apply_window(np.array([[100, 150, 300]], np.uint16), "full").tolist() == [[0, 64, 255]]
    values = np.array([[-500, -100, 0, 100, 4000]], np.int16)
    assert apply_window(values, (-100, 100)).tolist() == [[0, 0, 128, 255, 255]]
    void = np.array([[0, 1000, 1500, 2000]], np.uint16)
    assert apply_window(void, "full", void > 0).tolist() == [[0, 0, 128, 255]]


def test_robust_leaves_out_half_a_percent_at_each_end():
    values = np.arange(1000, 3000, dtype=np.uint16).reshape(40, 50)
    values[0, 0], values[-1, -1] = 0, 65535
    result = apply_window(values, "robust")
    assert (result == 0).sum() in range(8, 20) and (result == 255).sum() in range(8, 20)
    assert abs(int(result[20, 0]) - 128) <= 1
    values = np.full((100, 100), 500, np.uint16)
    values[0, 0] = 1000
    assert apply_window(values).max() == 255  # the full range where nearly all pixels are one level


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("window", ["robust", "full"])
def test_a_constant_image_becomes_black(dtype, window):
    assert (apply_window(np.full((3, 3), 1234, dtype), window) == 0).all()


@settings(max_examples=40, deadline=None)
@given(arrays(np.int16, shapes), st.sampled_from(["robust", "full", (-50, 90)]))
def test_integers_and_floats_give_the_same_picture_never_reverse_pixels_and_stay_as_they_are(values, window):
    before = values.copy()
    by_table, by_arithmetic = apply_window(values, window), apply_window(values.astype(np.float64), window)
    assert (np.diff(by_table.ravel()[np.argsort(values, axis=None)].astype(int)) >= 0).all()
    assert (values == before).all()
    if window == "robust":  # percentiles lie on pixels there, between pixels here
        assert by_table.shape == by_arithmetic.shape
    else:
        assert (by_table == by_arithmetic).all()


BAD = ["wide", (1, 1), (2, 1), (0, float("inf")), (1, 2, 3), 0, -1, True, 1.5, "named:", "named: ", ("a", "b")]


def test_other_windows_and_pixels_that_are_no_numbers_are_refused():
    for window in BAD:
        with pytest.raises(InputError, match="window"):
            check_window(window)
    with pytest.raises(Refusal, match="finite"):
        apply_window(np.array([[1.0, np.nan]]))
