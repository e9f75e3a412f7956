"""Scores of heatmaps: shares of heat and the pointing game."""

from __future__ import annotations

import numpy as np
import pytest

from covidcxnet.explain.score import fraction_inside, pointing_game, score_heatmap, summarize
from enhancement.errors import InputError


def _square(shape=(40, 60), top=10, left=10, side=10):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_heat_on_the_mask_alone_scores_one():
    mask = _square()
    assert fraction_inside(mask.astype("float32"), mask) == 1
    assert fraction_inside((~mask).astype("float32"), mask) == 0


def test_heat_that_knows_nothing_scores_the_area():
    mask = _square()
    score = score_heatmap(np.ones(mask.shape), lungs=mask, lesion=_square(side=5))
    assert score.heat_in_lungs == pytest.approx(score.lungs_area)
    assert score.heat_in_lesion == pytest.approx(score.lesion_area)


def test_negative_and_broken_heat_counts_as_none():
    heat = np.array([[-5.0, 1.0, np.nan, np.inf]])
    assert fraction_inside(heat, np.array([[True, True, False, False]])) == 1


def test_no_heat_can_not_be_scored():
    mask = _square()
    score = score_heatmap(np.zeros(mask.shape), mask, mask)
    assert score.heat_in_lungs is score.heat_in_lesion is score.hit is None


def test_the_pointing_game_is_won_on_the_mask_and_just_beside_it():
    mask = _square()
    for column, hit in ((15, True), (20, True), (25, False)):
        heat = np.zeros(mask.shape)
        heat[12, column] = 1
        assert pointing_game(heat, mask, tolerance=0.02) is hit
        assert pointing_game(heat, mask, tolerance=0.2) is True


def test_a_plateau_points_at_its_centre():
    mask = _square()
    assert pointing_game(mask.astype(float), mask) is True
    everywhere = np.ones(mask.shape)
    assert pointing_game(everywhere, mask, tolerance=0) is False


def test_an_empty_lesion_is_no_lesion():
    mask = _square()
    score = score_heatmap(np.ones(mask.shape), mask, np.zeros(mask.shape, bool))
    assert score.heat_in_lesion is score.lesion_area is score.hit is None


def test_means_are_over_the_heatmaps_that_can_be_scored():
    mask = _square()
    scores = [score_heatmap(mask.astype(float), mask, mask), score_heatmap(np.zeros(mask.shape), mask, mask)]
    summary = summarize(scores)
    assert summary["count"] == 2
    assert summary["heat_in_lungs"] == summary["hit"] == 1
    assert summarize([])["hit"] is None


def test_another_shape_is_refused():
    with pytest.raises(InputError, match="shape"):
        fraction_inside(np.zeros((4, 4)), np.zeros((4, 5), bool))
