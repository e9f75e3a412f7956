"""Windowing of deep pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enhancement.errors import InputError, Refusal
from enhancement.windowing import apply_window, check_window


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


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int16, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.sampled_from(["robust", "full", (-50, 90)])
)
def test_integers_and_floats_give_the_same_picture(values, window):
    by_table, by_arithmetic = apply_window(values, window), apply_window(values.astype(np.float64), window)
    if window == "robust":  # percentiles lie on pixels there, between pixels here
        assert by_table.shape == by_arithmetic.shape
    else:
        assert (by_table == by_arithmetic).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint16, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_windowing_never_reverses_pixels_and_leaves_its_input(values):
    before = values.copy()
    result = apply_window(values)
    assert (np.diff(result.ravel()[np.argsort(values, axis=None)].astype(int)) >= 0).all()
    assert (values == before).all()


@pytest.mark.parametrize(
    "window",
    ["wide", (1, 1), (2, 1), (0, float("inf")), (1, 2, 3), 0, -1, True, 1.5, "named:", "named: ", ("a", "b")],
)
def test_other_windows_and_pixels_that_are_no_numbers_are_refused(window):
    with pytest.raises(InputError, match="window"):
        check_window(window)
    with pytest.raises(Refusal, match="finite"):
        apply_window(np.array([[1.0, np.nan]]))
