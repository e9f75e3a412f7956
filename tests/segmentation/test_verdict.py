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


LUNGS = pair_of_lungs()
RAGGED, JOINED, PIECES = LUNGS.copy(), LUNGS.copy(), LUNGS.copy()
RAGGED[:, ::3] = False
JOINED[60:80, 38:90] = True
for top, left in ((0, 0), (0, 112), (112, 0), (112, 112)):
    PIECES[top : top + 16, left : left + 16] = True


def test_a_plausible_pair_of_lungs_is_trusted_and_its_verdict_is_plain_json():
    verdict = judge(LUNGS, sure(LUNGS), sure(LUNGS))
    assert verdict.trusted and verdict.reasons == ()
    assert verdict.area_fraction == pytest.approx(LUNGS.mean()) and verdict.components == 2
    assert verdict.balance > 0.95 and verdict.compactness > 0.95 and verdict.certainty > 0.95
    assert verdict.position == pytest.approx((0.5, 0.5), abs=0.02) and verdict.agreement == 1.0
    values = json.loads(json.dumps(verdict.to_dict()))
    assert values["trusted"] is True and values["reasons"] == [] and len(values["position"]) == 2


@pytest.mark.parametrize(
    ("mask", "maps", "word"),
    [
        (pair_of_lungs(scale=0.3), None, "cover"),
        (np.ones((128, 128), bool), None, "cover"),
        (pair_of_lungs(second=0.3), None, "half"),
        (pair_of_lungs(shift=(0, -36)), None, "centre"),
        (np.pad(np.ones((20, 110), bool), ((54, 54), (9, 9))), None, "wide"),
        (np.pad(np.ones((70, 60), bool), ((29, 29), (34, 34))), None, "one piece"),
        (RAGGED, None, "ragged"),
        (LUNGS, [np.where(LUNGS, 0.6, 0.4)], "uncertain"),
        (LUNGS, [sure(PIECES)], "pieces"),  # before cleaning
        (LUNGS, [sure(LUNGS), sure(np.zeros_like(LUNGS))], "agree"),  # the two conventions
    ],
)
def test_each_implausible_mask_has_its_reason(mask, maps, word):
    verdict = judge(mask, *(maps or [sure(mask)]))
    assert not verdict.trusted and any(word in reason for reason in verdict.reasons)
    assert verdict.agreement == (0 if word == "agree" else verdict.agreement)


def test_empty_and_tiny_masks_are_judged_and_limits_can_be_set():
    empty = np.zeros((64, 64), bool)
    verdict = judge(empty, sure(empty), sure(empty))
    assert not verdict.trusted and verdict.reasons == ("no lungs found",)
    assert not judge(np.ones((1, 1), bool), np.ones((1, 1), np.float32)).trusted
    assert not judge(LUNGS, sure(LUNGS), limits=Limits(area_fraction=(0.5, 0.9))).trusted


def test_lungs_joined_behind_the_heart_are_balanced_by_halves():
    verdict = judge(JOINED, sure(JOINED))
    assert verdict.components == 1 and verdict.balance > 0.9 and 0 < verdict.joined < 0.5
