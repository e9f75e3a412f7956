"""The U-Net is the published one to the parameter, sees what its settings say, and learns from what is known."""

import cv2
import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.losses import LOSSES, loss_named
from segmentation.model import SegmenterInput, unet

numbers = np.random.default_rng(0)


def test_width_32_has_the_published_parameters_in_23_weighted_layers():
    model = unet()
    assert model.count_params() == 7_759_521
    assert sum(bool(layer.weights) for layer in model.layers) == 23
    assert 1_940_000 < unet(16, batch_norm=True).count_params() < 1_955_000
    assert model.input_shape == (None, None, None, 1) and model.output_shape == (None, None, None, 1)


def test_weights_stand_in_the_published_order_and_the_upsampled_map_comes_before_the_skip():
    model = unet(4, size=16)
    weighted = [layer for layer in model.layers if layer.weights]
    convolutions = [*["Conv2D"] * 10, *["Conv2DTranspose", "Conv2D", "Conv2D"] * 4, "Conv2D"]
    assert [type(layer).__name__ for layer in weighted] == convolutions
    filters = [4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8, 4, 4, 4, 1]
    assert [layer.filters for layer in weighted] == filters
    joins = [layer for layer in model.layers if type(layer).__name__ == "Concatenate"]
    assert [tensor._keras_history.operation.name for tensor in joins[-1].input] == ["up1", "down1_b"]


def test_any_size_divisible_by_16_gives_a_map_of_its_size_in_0_to_1():
    maps = np.asarray(unet(2, outputs=2)(numbers.random((2, 32, 48, 1), np.float32)))
    assert maps.shape == (2, 32, 48, 2) and maps.min() >= 0 and maps.max() <= 1


def test_stride_2_works_at_half_the_resolution_and_gives_a_map_of_the_whole():
    model = unet(2, outputs=2, stride=2, batch_norm=True)
    maps = np.asarray(model(numbers.random((1, 32, 64, 1), np.float32)))
    assert maps.shape == (1, 32, 64, 2) and maps.min() >= 0 and maps.max() <= 1
    assert unet(4, size=64, stride=2).get_layer("down1_b").output.shape[1:] == (32, 32, 4)


@pytest.mark.parametrize(("scaling", "same"), [("unit", 1 / 255), ("symmetric", 1 / 127.5)])
def test_scaling_happens_inside_and_adds_no_layer(scaling, same):
    plain, scaled = unet(2, size=16), unet(2, size=16, scaling=scaling)
    assert len(plain.layers) == len(scaled.layers)
    scaled.set_weights(plain.get_weights())
    image = numbers.integers(0, 256, (1, 16, 16, 1)).astype(np.uint8)
    by_hand = image.astype(np.float32) * same - (scaling == "symmetric")
    np.testing.assert_allclose(np.asarray(scaled(image)), np.asarray(plain(by_hand)), atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"size": 40}, {"size": 0}, {"scaling": "imagenet"}, {"width": 0}, {"outputs": 0}, {"stride": 3}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        unet(**options)


def test_the_square_is_the_padded_radiograph_after_clahe():
    image = numbers.integers(0, 256, (64, 32)).astype(np.uint8)
    square, frame = SegmenterInput(size=64).prepare(image)
    padded = np.zeros((64, 64), np.uint8)
    padded[:, 16:48] = image
    np.testing.assert_array_equal(square, cv2.createCLAHE(2.0, (8, 8)).apply(padded))
    assert frame.inner_left == 16


@pytest.mark.parametrize("name", ["clahe", "equalize", "adaptive_equalize", "beasf", "none"])
def test_every_enhancement_gives_a_square_and_stretching_leaves_no_border(name):
    image = numbers.integers(1, 256, (20, 30)).astype(np.uint8)
    settings = SegmenterInput(size=32, enhancement=name, fit="stretch", clahe_tile_grid=(4, 4))
    square, frame = settings.prepare(image)
    assert square.shape == (32, 32) and square.dtype == np.uint8
    assert (frame.inner_height, frame.inner_width) == (32, 32) and (name != "none" or square.min() > 0)
    assert SegmenterInput.from_dict(settings.to_dict()) == settings


WRONG = {
    "size": (100, 32.0, "32", True),
    "enhancement": ("sharpen",),
    "fit": ("crop",),
    "clahe_clip_limit": (0, "2", float("nan")),
    "clahe_tile_grid": (8, (8.5, 8)),
}


@pytest.mark.parametrize("name", WRONG)
def test_values_outside_their_range_are_refused(name):
    for value in WRONG[name]:
        with pytest.raises(InputError, match=name):
            SegmenterInput(**{name: value})
    with pytest.raises(InputError, match="colour"):
        SegmenterInput.from_dict({"colour": 1})


def masks(*shape):
    return (numbers.random(shape) > 0.5).astype(np.float32)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_maps_change_nothing_and_nothing_known_costs_nothing(name):
    loss = loss_named(name)
    target, soft = masks(3, 8, 8, 1), numbers.random((3, 8, 8, 1)).astype(np.float32)
    unknown = np.concatenate([target, np.full_like(target, -1)], -1)
    both = np.concatenate([soft, numbers.random(soft.shape).astype(np.float32)], -1)
    np.testing.assert_allclose(loss(unknown, both), loss(target, soft), rtol=1e-6)
    np.testing.assert_array_equal(loss(np.full((2, 8, 8, 2), -1.0), masks(2, 8, 8, 2)), [0, 0])


def test_losses_equal_their_formulas_and_an_unknown_one_is_refused():
    target, soft = masks(1, 8, 8, 1), numbers.random((1, 8, 8, 1)).astype(np.float32)
    dice = 1 - (2 * (target * soft).sum() + 1) / (target.sum() + soft.sum() + 1)
    entropy = -np.log(np.where(target > 0, soft, 1 - soft)).mean()
    for name, value in {"dice": dice, "bce": entropy, "combined": dice + entropy}.items():
        np.testing.assert_allclose(loss_named(name)(target, soft)[0], value, rtol=1e-5)
    with pytest.raises(InputError, match="combined"):
        loss_named("focal")
