"""Masks are cleaned, judged and drawn: two lungs stay, each implausible mask has its reason, nothing raises."""

import json

import cv2
import numpy as np
import pytest

from segmentation.overlay import FOUND, contact_sheet, draw_outline
from segmentation.postprocessing import clean_map, clean_mask, component_areas
from segmentation.verdict import Limits, judge


def area(shape, *boxes) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


LEFT, RIGHT = (10, 50, 5, 25), (10, 50, 35, 55)
SQUARES = area((60, 60), LEFT, RIGHT)


def test_only_the_two_largest_components_stay_and_a_speck_never_stands_for_the_second_lung():
    dirty = area((60, 60), LEFT, RIGHT, (55, 60, 0, 8))
    np.testing.assert_array_equal(clean_mask(dirty), SQUARES)
    assert list(component_areas(dirty)) == [800, 800, 40]
    speck = area((60, 60), LEFT, (2, 4, 50, 52))
    np.testing.assert_array_equal(clean_mask(speck), area((60, 60), LEFT))


def test_holes_are_filled_but_not_bays_nor_holes_at_the_edge_of_the_image():
    np.testing.assert_array_equal(clean_mask(SQUARES & ~area((60, 60), (20, 25, 10, 15))), SQUARES)
    bay = SQUARES & ~area((60, 60), (20, 25, 0, 15))
    assert not clean_mask(bay)[22, 10] and not clean_mask(bay, fill_holes=False)[22, 12]
    assert not clean_mask(~area((8, 8), (0, 1, 3, 4)))[0, 3]


def test_an_empty_mask_stays_empty_and_is_judged_and_limits_can_be_set():
    assert not any(clean_map(np.full((10, 10), value, np.float32)).any() for value in (0.0, 0.49))
    empty = np.zeros((64, 64), bool)
    assert not clean_mask(empty).any() and component_areas(empty).size == 0
    verdict = judge(empty, sure(empty), sure(empty))
    assert not verdict.trusted and verdict.reasons == ("no lungs found",)
    assert not judge(np.ones((1, 1), bool), np.ones((1, 1), np.float32)).trusted
    assert not judge(LUNGS, sure(LUNGS), limits=Limits(area_fraction=(0.5, 0.9))).trusted


def test_the_cleaned_map_cut_at_the_threshold_is_the_cleaned_mask_and_stays_soft_at_the_outline():
    generator = np.random.default_rng(0)
    for threshold in (0.3, 0.5, 0.8):
        soft = np.clip(0.75 * SQUARES + generator.normal(0.1, 0.15, (60, 60)), 0, 1).astype(np.float32)
        np.testing.assert_array_equal(clean_map(soft, threshold) >= threshold, clean_mask(soft >= threshold))
    soft = np.where(SQUARES, 0.9, 0.0).astype(np.float32)
    soft[10:50, 25] = 0.3
    assert clean_map(soft)[30, 25] == np.float32(0.3)


def pair_of_lungs(shift=0, scale=1.0, second=1.0):
    mask = np.zeros((128, 128), np.uint8)
    for column, size in ((38, scale), (90, scale * second)):
        cv2.ellipse(mask, (column + shift, 64), (int(19 * size), int(40 * size)), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def sure(mask):
    return np.where(mask, 0.99, 0.01).astype(np.float32)


LUNGS = pair_of_lungs()
RAGGED, FULL = LUNGS & (np.arange(128) % 3 > 0), (128, 128)
JOINED = LUNGS | area(FULL, (60, 80, 38, 90))
PIECES = LUNGS | area(FULL, *((top, top + 16, left, left + 16) for top in (0, 112) for left in (0, 112)))


def test_a_plausible_pair_of_lungs_is_trusted_and_its_verdict_is_plain_json():
    verdict = judge(LUNGS, sure(LUNGS), sure(LUNGS))
    assert verdict.trusted and verdict.reasons == ()
    assert verdict.area_fraction == pytest.approx(LUNGS.mean()) and verdict.components == 2
    assert verdict.balance > 0.95 and verdict.compactness > 0.95 and verdict.certainty > 0.95
    assert verdict.position == pytest.approx((0.5, 0.5), abs=0.02) and verdict.agreement == 1.0
    values = json.loads(json.dumps(verdict.to_dict()))
    assert values["trusted"] is True and values["reasons"] == [] and len(values["position"]) == 2
    verdict = judge(JOINED, sure(JOINED))  # behind the heart: balanced by halves
    assert verdict.components == 1 and verdict.balance > 0.9 and 0 < verdict.joined < 0.5


@pytest.mark.parametrize(
    ("mask", "maps", "word"),
    [
        (pair_of_lungs(scale=0.3), None, "cover"),
        (np.ones(FULL, bool), None, "cover"),
        (pair_of_lungs(second=0.3), None, "half"),
        (pair_of_lungs(shift=-36), None, "centre"),
        (area(FULL, (54, 74, 9, 119)), None, "wide"),
        (area(FULL, (29, 99, 34, 94)), None, "one piece"),
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


def test_the_outline_lies_on_the_edge_and_nowhere_else_and_an_empty_mask_draws_none():
    image = np.zeros((60, 60), np.uint8)
    drawn = draw_outline(image, area((60, 60), (20, 40, 20, 40)))
    assert tuple(drawn[20, 30]) == FOUND and not drawn[30, 30].any() and not drawn[5, 5].any()
    assert drawn.shape == (60, 60, 3) and not image.any()
    gray = np.full((9, 9), 7, np.uint8)
    assert (draw_outline(gray, np.zeros((9, 9), bool)) == 7).all()
    with pytest.raises(ValueError, match="shape"):
        draw_outline(gray, np.zeros((8, 9), bool))


def test_a_sheet_holds_every_picture_and_caption():
    pictures = [np.full((40, 20), 200, np.uint8), np.full((10, 30, 3), 90, np.uint8), np.zeros((5, 5), np.uint8)]
    sheet = contact_sheet(pictures, ["one", "two\nlines"], columns=2, side=32)
    explained = contact_sheet(pictures, ["one", "two\nlines"], columns=2, side=32, legend=[("found", FOUND)])
    assert (explained[-len(sheet) :] == sheet).all() and (explained[: -len(sheet)].max(axis=(0, 1)) > 24).any()
    assert sheet.shape == (2 * (32 + 28), 64, 3)
    assert (sheet[16, 16] == 200).all() and (sheet[16, 48] == 90).all()
    assert sheet[33:60, :32].max() > 200
