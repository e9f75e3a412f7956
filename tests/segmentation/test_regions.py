"""Frames lead exactly into the square and back; in augmentation image and mask move together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enhancement.errors import InputError
from segmentation.augmentation import MaskAugmentation, augment
from segmentation.regions import Frame, box_of, dilate, frame_for, keep_inside

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
