"""The stack."""

from __future__ import annotations

import numpy as np
import pytest

from enhancement import CHANNELS, InputError, beasf, clahe, equalize, gaussian_blur, stack


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(110, 40, (50, 40)).clip(0, 255).astype(np.uint8)


def test_the_default_is_clahe_beasf_raw(image):
    planes = stack(image)
    assert planes.shape == (50, 40, 3) and planes.dtype == np.uint8
    for index, plane in enumerate((clahe(image), beasf(image), image)):
        assert (planes[..., index] == plane).all()


def test_channels_come_in_the_order_named_and_may_repeat(image):
    planes = stack(image, ["raw", "clahe", "raw"])
    assert (planes[..., 0] == image).all() and (planes[..., 2] == image).all()
    assert (planes[..., 1] == clahe(image)).all()


def test_equalize_blur_equalises_first(image):
    both = stack(image, ["equalize_blur"])[..., 0]
    assert (both == gaussian_blur(equalize(image))).all() and (both != equalize(gaussian_blur(image))).any()


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_can_stand_alone(image, name):
    assert stack(image, [name]).shape == (50, 40, 1)


def test_settings_reach_their_channels(image):
    planes = stack(
        image,
        ("clahe", "beasf"),
        clahe_clip_limit=5.0,
        clahe_tile_grid=(2, 3),
        beasf_gamma=3.0,
        beasf_histogram="range",
    )
    assert (planes[..., 0] == clahe(image, 5.0, (2, 3))).all()
    assert (planes[..., 1] == beasf(image, 3.0, "range")).all()


@pytest.mark.parametrize("channels", [(), "raw", ["raw", "gamma"], ["CLAHE"]])
def test_unknown_channels_are_refused(image, channels):
    with pytest.raises(InputError, match="channels"):
        stack(image, channels)


def test_the_stack_does_not_share_memory_with_the_image(image):
    assert not np.shares_memory(stack(image, ["raw"]), image)
