"""Image and mask move together; shadows never change the mask."""

from dataclasses import replace

import numpy as np
import pytest

from segmentation.augmentation import MaskAugmentation, augment
from segmentation.regions import frame_for

MOVING = MaskAugmentation(exposure=0, opacity=0, objects=0, quality=0)
STILL = replace(MOVING, rotation=0, shift=0, scale=(1, 1), aspect=0, flip=0)
WORST = MaskAugmentation(exposure=1, opacity=1, objects=1, quality=1)
ROWS, COLUMNS = np.mgrid[:60, :80]
MASK = (ROWS - 25) ** 2 + (COLUMNS - 45) ** 2 < 15**2
IMAGE = np.where(MASK, 220, 30).astype(np.uint8)


def augmented(seed, settings, size=64):
    return augment(IMAGE, MASK, frame_for(IMAGE.shape, None, size), np.random.default_rng(seed), settings)


def test_without_any_range_it_is_the_plain_placement():
    frame = frame_for(IMAGE.shape, None, 80)
    square, target = augmented(0, STILL, 80)
    np.testing.assert_array_equal(target, frame.place(frame.cut(MASK)))
    np.testing.assert_array_equal(square[target], frame.place(frame.cut(IMAGE))[target])


@pytest.mark.parametrize("seed", range(20))
def test_image_and_mask_move_together_and_degradation_leaves_the_mask_alone(seed):
    square, target = augmented(seed, MOVING)
    inside = (square > 125) & (square < 225) & (square != square[0, 0])
    assert (inside & target).sum() / (inside | target).sum() > 0.85
    worse = augmented(seed, WORST)
    np.testing.assert_array_equal(target, worse[1])
    assert (square != worse[0]).any() and worse[0].dtype == np.uint8


def test_the_generator_alone_decides():
    first, second, other = (augmented(seed, MaskAugmentation())[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("level", [0, 255])
def test_flat_images_and_empty_masks_are_augmented_without_complaint(level):
    frame = frame_for((40, 40), None, 32)
    for seed in range(10):
        generator = np.random.default_rng(seed)
        for mask in (np.zeros((40, 40), bool), np.ones((40, 40), bool)):
            square, _ = augment(np.full((40, 40), level, np.uint8), mask, frame, generator, WORST)
            assert square.shape == (32, 32)
