"""Shares of heat inside a mask, and the pointing game."""

from __future__ import annotations

import numpy as np
import pytest

from covidcxnet.explain.score import fraction_inside, pointing_game
from enhancement.errors import InputError

MASK = np.zeros((40, 60), bool)
MASK[10:20, 10:20] = True


@pytest.mark.parametrize(("heat", "share"), [(MASK, 1), (~MASK, 0), (np.ones(MASK.shape), MASK.mean())])
def test_the_share_of_heat_inside_is_the_area_for_heat_that_knows_nothing(heat, share):
    assert fraction_inside(heat.astype("float32"), MASK) == pytest.approx(share)


def test_negative_and_broken_heat_counts_as_none():
    assert fraction_inside(np.array([[-5.0, 1.0, np.nan, np.inf]]), np.array([[True, True, False, False]])) == 1
    assert fraction_inside(np.zeros(MASK.shape), MASK) is pointing_game(np.zeros(MASK.shape), MASK) is None


@pytest.mark.parametrize(("column", "hit"), [(15, True), (20, True), (25, False)])
def test_the_pointing_game_is_won_on_the_mask_and_just_beside_it(column, hit):
    heat = np.zeros(MASK.shape)
    heat[12, column] = 1
    assert pointing_game(heat, MASK, tolerance=0.02) is hit
    assert pointing_game(heat, MASK, tolerance=0.2) is True
    assert pointing_game(heat, np.zeros(MASK.shape, bool)) is None


def test_a_plateau_points_at_its_centre():
    assert pointing_game(MASK.astype(float), MASK) is True
    assert pointing_game(np.ones(MASK.shape), MASK, tolerance=0) is False


def test_another_shape_is_refused():
    with pytest.raises(InputError, match="shape"):
        fraction_inside(np.zeros((4, 4)), np.zeros((4, 5), bool))
