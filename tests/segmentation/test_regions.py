"""Frames lead exactly into the square and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enhancement.errors import InputError
from segmentation.regions import Frame, box_of, dilate, frame_for, keep_inside

numbers = np.random.default_rng(0)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 64), st.booleans(), st.floats(0, 0.5), st.data())
@settings(max_examples=150, deadline=None)
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


def test_a_frame_of_the_same_size_returns_the_image_unchanged():
    image = numbers.integers(0, 256, (32, 20)).astype(np.uint8)
    frame = frame_for(image.shape, None, 32)
    np.testing.assert_array_equal(frame.to_radiograph(frame.place(frame.cut(image))), image)
    np.testing.assert_array_equal(frame.cut(image), image)


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("shape", [(120, 90), (60, 133)])
def test_a_smooth_map_survives_the_way_there_and_back(shape, stretch):
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    image = 100 + 50 * np.sin(rows / 20) + 40 * np.cos(columns / 17)
    box = (10, 15, 55, 85)
    frame = frame_for(shape, box, 64, 0.0, stretch)
    back = frame.to_radiograph(frame.place(frame.cut(image)), fill=-1)
    np.testing.assert_allclose(back[10:55, 15:85], image[10:55, 15:85], atol=1.5)
    outside = np.ones(shape, bool)
    outside[10:55, 15:85] = False
    assert (back[outside] == -1).all()


def test_a_mask_survives_the_way_there_and_back():
    mask = np.zeros((100, 140), bool)
    mask[20:70, 30:100] = True
    frame = frame_for(mask.shape, None, 70)
    back = frame.to_radiograph(frame.place(frame.cut(mask)))
    assert back.dtype == bool
    assert (back != mask).sum() < 0.01 * mask.sum()


@pytest.mark.parametrize("cells", [8, 10, 64])
def test_a_coarse_heatmap_lands_where_its_cell_looks(cells):
    frame = frame_for((200, 100), (40, 20, 160, 80), 64)  # inner: 64 x 32 at column 16
    heat = np.zeros((cells, cells), np.float32)
    row, column = cells // 4, cells // 2 - 1
    heat[row, column] = 1
    back = frame.to_radiograph(heat)
    peak = np.unravel_index(back.argmax(), back.shape)
    expected_row = 40 + (row + 0.5) * 64 / cells / 64 * 120
    expected_column = 20 + ((column + 0.5) * 64 / cells - 16) / 32 * 60
    assert abs(peak[0] + 0.5 - expected_row) <= 1 and abs(peak[1] + 0.5 - expected_column) <= 1


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 5, 5, 9), (0, 0, 11, 5), (-1, 0, 5, 5)])
def test_an_empty_or_outside_box_and_an_image_of_another_size_are_refused(box):
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


def test_boxes_are_half_open_and_stacks_keep_their_channels():
    mask = np.zeros((9, 9), bool)
    assert box_of(mask) is None
    mask[2:5, 3:8] = True
    assert box_of(mask) == (2, 3, 5, 8)
    frame = frame_for((30, 50), None, 16)
    assert frame.place(frame.cut(np.ones((30, 50, 3), np.uint8))).shape == (16, 16, 3)
    image, mask = np.ones((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
    assert keep_inside(image, mask).sum() == 12 and image.sum() == 48


def test_dilation_grows_by_its_radius_on_every_side():
    mask = np.zeros((100, 60), bool)
    mask[50, 30] = True
    assert box_of(dilate(mask, 0.05)) == (45, 25, 56, 36)
    np.testing.assert_array_equal(dilate(mask, 0), mask)
    assert not dilate(np.zeros((50, 50), bool), 0.1).any()
