"""BEASF: equal to the published implementation where that one has an answer, sound everywhere."""

import hashlib
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enhancement import InputError, beasf
from enhancement.checks import count_levels

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
images = random_images | few_levels | one_odd_pixel
gammas = st.sampled_from([0.001, 0.3, 1.0, 1.5, 3.0, 20.0, 1e3, 1e300]) | st.floats(1e-12, 50)
histograms = st.sampled_from(["levels", "range"])


@pytest.mark.parametrize("picture", PUBLISHED, ids=str)
def test_range_histogram_equals_the_published_implementation_bit_for_bit(picture):
    for gamma, expected in zip(GAMMAS, PUBLISHED[picture].split(), strict=True):
        result = beasf(pattern(*picture), gamma, histogram="range")
        assert hashlib.sha256(result.tobytes()).hexdigest()[:24] == expected


@settings(max_examples=120, deadline=None)
@given(images, st.sampled_from(GAMMAS) | st.floats(0.05, 20), histograms)
def test_both_histograms_equal_the_arithmetic_restated(image, gamma, histogram):
    expected = restated(image, gamma, None if histogram == "range" else (0, 256))
    if expected is None or image.min() == image.max():
        return
    mapping = levels_of(image, beasf(image, gamma, histogram))
    assert mapping == {level: expected[level] for level in mapping}


@settings(max_examples=120, deadline=None)
@given(images, gammas, histograms)
def test_every_image_has_a_monotone_answer_without_warnings_and_is_left_alone(image, gamma, histogram):
    before = image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = beasf(image, gamma, histogram)
    mapping, mean = levels_of(image, result), int(image.mean())
    assert (image == before).all()
    assert result.dtype == np.uint8 and result.shape == image.shape
    assert list(mapping.values()) == sorted(mapping.values())
    assert all((new <= mean) == (old <= mean) or new == mean for old, new in mapping.items()), "each half stays itself"


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


def test_views_and_read_only_arrays_are_taken_and_other_inputs_and_settings_refused_by_name():
    image = pattern(20, 230, 2)
    view = image[::-2, ::3]
    view.flags.writeable = False
    assert (beasf(view) == beasf(view.copy())).all()
    for dtype in (np.float64, np.uint16, bool):
        with pytest.raises(InputError, match=np.dtype(dtype).name):
            beasf(image.astype(dtype))
    others = {r"\(4, 4, 3\)": np.zeros((4, 4, 3), np.uint8), "at least one pixel": image[:0], "list": [[1, 2]]}
    for message, other in others.items():
        with pytest.raises(InputError, match=message):
            beasf(other)
    for gamma in (0, -1.5, float("nan"), float("inf"), "1.5", None, True):
        with pytest.raises(InputError, match="gamma"):
            beasf(image, gamma)
    with pytest.raises(InputError, match="histogram: 'bins' given"):
        beasf(image, 1.5, "bins")
