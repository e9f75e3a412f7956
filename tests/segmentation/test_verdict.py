"""A plausible pair of lungs is trusted; each implausibility has its reason."""

import json

import cv2
import numpy as np
import pytest

from segmentation.verdict import Limits, judge


def pair_of_lungs(shift=(0, 0), scale=1.0, second=1.0):
    mask = np.zeros((128, 128), np.uint8)
    for column, size in ((38, 1.0), (90, second)):
        centre = (int(column + shift[1]), int(64 + shift[0]))
        cv2.ellipse(mask, centre, (int(19 * scale * size), int(40 * scale * size)), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def sure(mask):
    return np.where(mask, 0.99, 0.01).astype(np.float32)


def test_a_plausible_pair_of_lungs_is_trusted():
    mask = pair_of_lungs()
    verdict = judge(mask, sure(mask), sure(mask))
    assert verdict.trusted and verdict.reasons == ()
    assert verdict.area_fraction == pytest.approx(mask.mean()) and verdict.components == 2
    assert verdict.balance > 0.95 and verdict.compactness > 0.95 and verdict.certainty > 0.95
    assert verdict.position == pytest.approx((0.5, 0.5), abs=0.02) and verdict.agreement == 1.0


def test_an_empty_mask_is_not_trusted_and_does_not_raise():
    empty = np.zeros((64, 64), bool)
    verdict = judge(empty, sure(empty), sure(empty))
    assert not verdict.trusted and verdict.reasons == ("no lungs found",)


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (pair_of_lungs(scale=0.3), "cover"),
        (np.ones((128, 128), bool), "cover"),
        (pair_of_lungs(second=0.3), "half"),
        (pair_of_lungs(shift=(0, -36)), "centre"),
        (np.pad(np.ones((20, 110), bool), ((54, 54), (9, 9))), "wide"),
        (np.pad(np.ones((70, 60), bool), ((29, 29), (34, 34))), "one piece"),
    ],
)
def test_each_implausible_mask_has_its_reason(mask, word):
    verdict = judge(mask, sure(mask))
    assert not verdict.trusted and any(word in reason for reason in verdict.reasons)


def test_an_uncertain_map_is_not_trusted():
    mask = pair_of_lungs()
    assert any("uncertain" in r for r in judge(mask, np.where(mask, 0.6, 0.4)).reasons)


def test_a_ragged_mask_is_not_trusted():
    mask = pair_of_lungs()
    mask[:, ::3] = False
    assert any("ragged" in r for r in judge(mask, sure(mask)).reasons)


def test_many_pieces_before_cleaning_are_not_trusted():
    mask, found = pair_of_lungs(), pair_of_lungs()
    for corner in ((0, 0), (0, 112), (112, 0), (112, 112)):
        found[corner[0] : corner[0] + 16, corner[1] : corner[1] + 16] = True
    assert any("pieces" in r for r in judge(mask, sure(found)).reasons)


def test_conventions_that_disagree_are_not_trusted():
    mask = pair_of_lungs()
    verdict = judge(mask, sure(mask), sure(np.zeros_like(mask)))
    assert any("agree" in r for r in verdict.reasons) and verdict.agreement == 0


def test_lungs_joined_behind_the_heart_are_balanced_by_halves():
    mask = pair_of_lungs()
    mask[60:80, 38:90] = True
    verdict = judge(mask, sure(mask))
    assert verdict.components == 1 and verdict.balance > 0.9 and 0 < verdict.joined < 0.5


def test_limits_can_be_set():
    mask = pair_of_lungs()
    assert not judge(mask, sure(mask), limits=Limits(area_fraction=(0.5, 0.9))).trusted


def test_a_verdict_is_plain_json():
    mask = pair_of_lungs()
    values = json.loads(json.dumps(judge(mask, sure(mask)).to_dict()))
    assert values["trusted"] is True and values["reasons"] == [] and len(values["position"]) == 2


def test_a_one_pixel_image_is_judged():
    assert not judge(np.ones((1, 1), bool), np.ones((1, 1), np.float32)).trusted
