"""Image and mask move together; shadows never change the mask."""

import numpy as np
import pytest

from segmentation.augmentation import MaskAugmentation, augment
from segmentation.regions import frame_for

STILL = MaskAugmentation(
    rotation=0, shift=0, scale=(1, 1), aspect=0, flip=0, exposure=0, opacity=0, objects=0, quality=0
)


def disk(height=60, width=80):
    rows, columns = np.mgrid[:height, :width]
    mask = (rows - 25) ** 2 + (columns - 45) ** 2 < 15**2
    return np.where(mask, 220, 30).astype(np.uint8), mask


def test_without_any_range_it_is_the_plain_placement():
    image, mask = disk()
    frame = frame_for(image.shape, None, 80)
    square, target = augment(image, mask, frame, np.random.default_rng(0), STILL)
    np.testing.assert_array_equal(target, frame.place(frame.cut(mask)))
    np.testing.assert_array_equal(square[target], frame.place(frame.cut(image))[target])


def test_image_and_mask_move_together():
    image, mask = disk()
    frame = frame_for(image.shape, None, 64)
    moving = MaskAugmentation(exposure=0, opacity=0, objects=0, quality=0)
    for seed in range(20):
        square, target = augment(image, mask, frame, np.random.default_rng(seed), moving)
        inside = (square > 125) & (square < 225) & (square != square[0, 0])
        assert (inside & target).sum() / (inside | target).sum() > 0.85


def test_shadows_and_degradation_leave_the_mask_alone():
    image, mask = disk()
    frame = frame_for(image.shape, None, 64)
    moved = MaskAugmentation(exposure=0, opacity=0, objects=0, quality=0)
    degraded = MaskAugmentation(exposure=1, opacity=1, objects=1, quality=1)
    for seed in range(10):
        plain = augment(image, mask, frame, np.random.default_rng(seed), moved)
        worse = augment(image, mask, frame, np.random.default_rng(seed), degraded)
        np.testing.assert_array_equal(plain[1], worse[1])
        assert (plain[0] != worse[0]).any() and worse[0].dtype == np.uint8


def test_the_generator_alone_decides():
    image, mask = disk()
    frame = frame_for(image.shape, None, 64)
    one, two = (augment(image, mask, frame, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    other = augment(image, mask, frame, np.random.default_rng(8))
    assert (one[0] != other[0]).any()


@pytest.mark.parametrize("level", [0, 255])
def test_flat_images_and_empty_masks_are_augmented_without_complaint(level):
    frame = frame_for((40, 40), None, 32)
    everything = MaskAugmentation(exposure=1, opacity=1, objects=1, quality=1)
    for seed in range(10):
        generator = np.random.default_rng(seed)
        for mask in (np.zeros((40, 40), bool), np.ones((40, 40), bool)):
            square, _ = augment(np.full((40, 40), level, np.uint8), mask, frame, generator, everything)
            assert square.shape == (32, 32)
