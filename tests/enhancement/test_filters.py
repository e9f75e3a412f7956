"""Filters and their stack, windowing, and BEASF, which equals the published one where that has an answer."""

import hashlib
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enhancement import CHANNELS, adaptive_equalize, beasf, clahe, equalize, gaussian_blur, match_histogram, stack
from enhancement.checks import count_levels
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
    (match_histogram, "template", [(np.zeros((4, 4), bool),), ([1, 2, 3],), (np.zeros(256),), (np.full(256, -1),)]),
    (match_histogram, "template", [(np.full(256, np.nan),), (["counts"],), (None,)]),
    (beasf, "gamma", [(0,), (-1.5,), (float("nan"),), (float("inf"),), ("1.5",), (None,), (True,)]),
    (beasf, "histogram: 'bins' given", [(1.5, "bins")]),
    (stack, "channels", [((),), ("raw",), (["raw", "gamma"],), (["CLAHE"],)]),
]


@pytest.mark.parametrize(("function", "name", "given"), BAD_SETTINGS)
def test_settings_out_of_range_are_refused_by_name(function, name, given):
    for values in given:
        with pytest.raises(InputError, match=name):
            function(np.zeros((8, 8), np.uint8), *values)


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


def test_full_takes_the_smallest_to_the_largest_pixel_numbers_cut_off_and_a_constant_image_becomes_black():
    for window in ("robust", "full"):
        for dtype in (np.uint16, np.int16, np.int32, np.float32):
            assert (apply_window(np.full((3, 3), 1234, dtype), window) == 0).all()
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


GAMMAS = (0.5, 1.5, 4.0)


def pattern(low: int, high: int, power: int) -> np.ndarray:
    """A picture made of whole numbers only, the same on every machine; the power bends its histogram to one side."""
    y, x = np.indices((61, 47))
    wave = (x * x * 3 + y * y * 5 + x * y * 7 + y) % 1009
    wave = wave if power > 0 else 1008 - wave
    bent = wave
    for _ in range(abs(power) - 1):
        bent = bent * wave // 1008
    bent = bent if power > 0 else 1008 - bent
    return (low + (high - low) * bent // 1008).astype(np.uint8)


# SHA-256 of what the implementation published with COVID-CXNet makes of these pictures, for each of GAMMAS.
PUBLISHED = {
    (0, 255, 1): "29b7bfe50c804d7434954593 ce300276eff2ce466ae87556 c5722a6029ba413c5fab3bb8",
    (3, 120, 3): "30ce41ba18ef5fa593de686d 3d0b42756f2e543609a61a49 fabc82d25c7dac936072a39c",
    (90, 251, -3): "fe475c465ff7ef1dfdc7b9f5 f95c1c5a5c76a6ed74a8f0e4 c7b52a75b99147269ee277d6",
    (100, 131, 1): "dde55b32f5aa9fd231ae4474 113d1e1548ab60f1a16c8386 a6c78bcecbff5f0b70a966dc",
    (0, 255, 6): "c10005349b2942dac85f8d1d 27e9a6e88256a662b9887f61 aa6c142bd0ba701da8268769",  # a low mean
    (0, 255, -6): "fb9fec4030bc5880d772a0af bd9bc4a9dbbe9f9c68026f9c 2fc1579aa8204c12d5ad1334",  # a high one
}


def restated(image: np.ndarray, gamma: float, span: tuple[int, int] | None) -> dict[int, int] | None:
    """The published arithmetic in plain steps, level by level; None where it divides by zero.

    ``span`` is the range over which 256 bins are laid, None for the image's own.
    """
    mean = int(image.sum(dtype=object)) // image.size
    shares = np.histogram(image, 256, span)[0] / image.size
    if mean in (0, 255):
        return None

    def median(first, last):
        half = shares[first : last + 1]
        whole = np.add.accumulate(half)[-1]
        return first + int(np.count_nonzero(np.add.accumulate(half / whole) <= 0.5)) if whole else None

    center, upper = median(0, mean), median(mean, 255)
    if center is None or upper is None:
        return None
    upper = max(upper - 1, mean)
    x = np.arange(256)
    dark = np.floor(mean * (1 / (1 + np.exp(-gamma * (5.0 * (x[: mean + 1] - center) / mean)))))
    bright = 1 / (1 + np.exp(-gamma * (5.0 * (x[mean:255] - upper) / (255 - mean))))
    bright = np.floor(mean + (255 - mean) * bright)
    if dark[0] == dark[-1] or bright[0] == bright[-1]:
        return None
    dark = np.floor(mean / (dark[-1] - dark[0]) * (dark - dark[0]))
    bright = np.floor((255 - mean) * (bright - bright[0]) / (bright[-1] - bright[0]) + mean)
    return dict(enumerate([*dark.astype(int).tolist(), *bright.astype(int).tolist()]))


def levels_of(image: np.ndarray, result: np.ndarray) -> dict[int, int]:
    """The mapping that took one to the other; fails where a level went to two."""
    pairs = np.unique(np.stack([image.ravel(), result.ravel()]), axis=1)
    mapping = {int(a): int(b) for a, b in pairs.T}
    assert len(mapping) == pairs.shape[1]
    return mapping


random_images = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))
few_levels = st.lists(st.integers(0, 255), min_size=1, max_size=3).flatmap(
    lambda levels: arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from(levels))
)
one_odd_pixel = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(2, 30)).map(
    lambda t: np.array([[t[0]] + [t[1]] * t[2]], np.uint8)
)
pictures = random_images | few_levels | one_odd_pixel
gammas = st.sampled_from([0.001, 0.3, 1.0, 1.5, 3.0, 20.0, 1e3, 1e300]) | st.floats(1e-12, 50)
histograms = st.sampled_from(["levels", "range"])


@pytest.mark.parametrize("picture", PUBLISHED, ids=str)
def test_range_histogram_equals_the_published_implementation_bit_for_bit(picture):
    for gamma, expected in zip(GAMMAS, PUBLISHED[picture].split(), strict=True):
        result = beasf(pattern(*picture), gamma, histogram="range")
        assert hashlib.sha256(result.tobytes()).hexdigest()[:24] == expected


@settings(max_examples=200, deadline=None)
@given(pictures, gammas, histograms)
def test_every_image_has_the_restated_and_a_monotone_answer_without_warnings_and_is_left_alone(image, gamma, histogram):
    before = image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = beasf(image, gamma, histogram)
    mapping, mean = levels_of(image, result), int(image.mean())
    assert (image == before).all()
    assert result.dtype == np.uint8 and result.shape == image.shape
    assert list(mapping.values()) == sorted(mapping.values())
    assert all((new <= mean) == (old <= mean) or new == mean for old, new in mapping.items()), "each half stays itself"
    if 0.05 <= gamma <= 20 and image.min() < image.max():
        expected = restated(image, gamma, None if histogram == "range" else (0, 256))
        assert expected is None or mapping == {level: expected[level] for level in mapping}


@pytest.mark.parametrize("histogram", ["levels", "range"])
def test_a_constant_image_and_a_white_one_with_one_black_pixel_stay_so(histogram):
    for level in range(256):
        assert (beasf(np.full((3, 4), level, np.uint8), 1.5, histogram) == level).all()
    image = np.full((20, 20), 255, np.uint8)
    image[3, 5] = 0
    assert (beasf(image, 1.5, histogram) == image).all()


def test_a_half_too_narrow_is_stretched_without_rounding_and_the_histograms_agree_from_black_to_white_only():
    # The mean is 1, so that the lower half is the levels 0 and 1, whose rounded sigmoid is flat.
    image = np.array([[0, 0, 0, 0, 1, 1, 1, 9]], np.uint8)
    assert restated(image, 1.5, None) is None
    assert beasf(image, 1.5).tolist()[0][:7] == [0, 0, 0, 0, 1, 1, 1]
    wide, narrow = pattern(0, 255, 3), pattern(100, 131, 1)
    wide[0, :2] = 0, 255
    assert (beasf(wide, 1.5, "levels") == beasf(wide, 1.5, "range")).all()
    assert (beasf(narrow, 1.5, "levels") != beasf(narrow, 1.5, "range")).any()


def test_neither_sums_nor_counts_of_large_images_overflow():
    # 9 million pixels of mean 250 and more sum to over 2 ** 31, which the published code wraps round.
    small = np.full((30, 30), 250, np.uint8)
    small[::3] = 255
    small[0, 0] = 10
    large = np.tile(small, (100, 100))
    assert (beasf(large, 1.5, "range") == np.tile(beasf(small, 1.5, "range"), (100, 100))).all()
    large = np.zeros((4100, 4100), np.uint8)  # more than float32 counts
    large[0, 0], large[-1, -1] = 255, 255
    counts = count_levels(large)
    assert counts[0] == large.size - 2 and counts[255] == 2
