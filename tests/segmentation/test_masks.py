"""Masks are cleaned, judged and drawn; frames lead into the square and back; augmentation moves image and mask."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enhancement.errors import InputError
from segmentation.augmentation import MaskAugmentation, augment
from segmentation.overlay import FOUND, draw_outline
from segmentation.postprocessing import clean_map, clean_mask, component_areas
from segmentation.regions import Frame, box_of, dilate, frame_for, keep_inside
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


numbers = np.random.default_rng(0)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 64), st.booleans(), st.floats(0, 0.5), st.data())
@settings(max_examples=80, deadline=None)
def test_every_frame_lies_inside_the_radiograph_and_the_square(height, width, size, stretch, margin, data):
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    frame = frame_for((height, width), (top, left, bottom, right), size, margin, stretch)
    assert 0 <= frame.top <= top and bottom <= frame.bottom <= height
    assert 0 <= frame.left <= left and right <= frame.right <= width
    assert frame.inner_top >= 0 and frame.inner_top + frame.inner_height <= size
    assert frame.inner_left >= 0 and frame.inner_left + frame.inner_width <= size
    assert max(frame.inner_height, frame.inner_width) == size
    image = np.zeros((height, width), np.uint8)
    square = frame.place(frame.cut(image))
    assert square.shape == (size, size) and frame.to_radiograph(square).shape == (height, width)
    assert Frame.from_array(frame.to_array()) == frame


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("shape", [(120, 90), (60, 133)])
def test_a_smooth_map_and_a_mask_survive_the_way_there_and_back(shape, stretch):
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    image = 100 + 50 * np.sin(rows / 20) + 40 * np.cos(columns / 17)
    box = (10, 15, 55, 85)
    frame = frame_for(shape, box, 64, 0.0, stretch)
    back = frame.to_radiograph(frame.place(frame.cut(image)), fill=-1)
    np.testing.assert_allclose(back[10:55, 15:85], image[10:55, 15:85], atol=1.5)
    outside = np.ones(shape, bool)
    outside[10:55, 15:85] = False
    assert (back[outside] == -1).all()
    whole, mask = frame_for(shape, None, 70, stretch=stretch), rows > 20
    back = whole.to_radiograph(whole.place(whole.cut(mask)))
    assert back.dtype == bool and (back != mask).mean() < 0.01
    image, same = numbers.integers(0, 256, (32, 20)).astype(np.uint8), frame_for((32, 20), None, 32)
    np.testing.assert_array_equal(same.to_radiograph(same.place(same.cut(image))), image)


@pytest.mark.parametrize("cells", [8, 10, 64])
def test_a_coarse_heatmap_lands_where_its_cell_looks(cells):
    frame = frame_for((200, 100), (40, 20, 160, 80), 64)  # inner: 64 x 32 at column 16
    heat, (row, column) = np.zeros((cells, cells), np.float32), (cells // 4, cells // 2 - 1)
    heat[row, column] = 1
    back = frame.to_radiograph(heat)
    peak = np.unravel_index(back.argmax(), back.shape)
    row, column = (row + 0.5) * 64 / cells, (column + 0.5) * 64 / cells
    assert np.abs(np.add(peak, 0.5) - (40 + row / 64 * 120, 20 + (column - 16) / 32 * 60)).max() <= 1


def test_an_empty_or_outside_box_and_an_image_of_another_size_are_refused():
    for box in ((0, 0, 0, 5), (5, 5, 5, 9), (0, 0, 11, 5), (-1, 0, 5, 5)):
        with pytest.raises(InputError, match="box"):
            frame_for((10, 10), box)
    with pytest.raises(ValueError, match="10 x 10"):
        frame_for((10, 10)).cut(np.zeros((11, 10), np.uint8))


def test_padding_keeps_the_aspect_ratio_stretching_does_not_and_a_margin_stops_at_the_edge():
    padded, stretched = frame_for((100, 50), None, 40), frame_for((100, 50), None, 40, stretch=True)
    assert (padded.inner_height, padded.inner_width, padded.inner_left) == (40, 20, 10)
    assert (stretched.inner_height, stretched.inner_width, stretched.inner_left) == (40, 40, 0)
    assert frame_for((100, 100), (50, 2, 90, 42), 32, 0.1).box == (46, 0, 94, 46)  # of the longer side
    frame = frame_for((64, 32), None, 64)
    heat = np.zeros((8, 8), np.float32)
    heat[:, 2:6] = 1  # exactly the cells over the radiograph: padding does not bleed into them
    np.testing.assert_allclose(frame.to_radiograph(heat), 1)


def test_boxes_are_half_open_stacks_keep_their_channels_and_dilation_grows_by_its_radius_on_every_side():
    mask = np.zeros((100, 60), bool)
    assert box_of(mask) is None and not dilate(mask, 0.1).any()
    mask[50, 30] = True
    assert box_of(mask) == (50, 30, 51, 31) and box_of(dilate(mask, 0.05)) == (45, 25, 56, 36)
    np.testing.assert_array_equal(dilate(mask, 0), mask)
    frame = frame_for((30, 50), None, 16)
    assert frame.place(frame.cut(np.ones((30, 50, 3), np.uint8))).shape == (16, 16, 3)
    image, mask = np.ones((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
    assert keep_inside(image, mask).sum() == 12 and image.sum() == 48


MOVING = MaskAugmentation(exposure=0, opacity=0, objects=0, quality=0)
STILL = replace(MOVING, rotation=0, shift=0, scale=(1, 1), aspect=0, flip=0)
WORST = MaskAugmentation(exposure=1, opacity=1, objects=1, quality=1)
ROWS, COLUMNS = np.mgrid[:60, :80]
MASK = (ROWS - 25) ** 2 + (COLUMNS - 45) ** 2 < 15**2
IMAGE = np.where(MASK, 220, 30).astype(np.uint8)


def augmented(seed, settings, size=64):
    return augment(IMAGE, MASK, frame_for(IMAGE.shape, None, size), np.random.default_rng(seed), settings)


def test_without_any_range_it_is_the_plain_placement_and_the_generator_alone_decides():
    frame = frame_for(IMAGE.shape, None, 80)
    square, target = augmented(0, STILL, 80)
    np.testing.assert_array_equal(target, frame.place(frame.cut(MASK)))
    np.testing.assert_array_equal(square[target], frame.place(frame.cut(IMAGE))[target])
    first, second, other = (augmented(seed, MaskAugmentation())[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("seed", range(10))
def test_image_and_mask_move_together_and_degradation_leaves_the_mask_alone(seed):
    square, target = augmented(seed, MOVING)
    inside = (square > 125) & (square < 225) & (square != square[0, 0])
    assert (inside & target).sum() / (inside | target).sum() > 0.85
    worse = augmented(seed, WORST)
    np.testing.assert_array_equal(target, worse[1])
    assert (square != worse[0]).any() and worse[0].dtype == np.uint8


def test_flat_images_and_empty_masks_are_augmented_without_complaint():
    frame = frame_for((40, 40), None, 32)
    for seed in range(10):
        for level in (0, 255):
            image, mask = np.full((40, 40), level, np.uint8), np.full((40, 40), seed % 2, bool)
            assert augment(image, mask, frame, np.random.default_rng(seed), WORST)[0].shape == (32, 32)
