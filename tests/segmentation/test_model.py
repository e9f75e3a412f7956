"""The U-Net is the published one to the parameter, and sees what its settings say."""

import cv2
import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.model import SegmenterInput, unet


def test_width_32_has_the_published_parameters_in_23_weighted_layers():
    model = unet()
    assert model.count_params() == 7_759_521
    assert sum(bool(layer.weights) for layer in model.layers) == 23
    assert 1_940_000 < unet(16, batch_norm=True).count_params() < 1_955_000
    assert model.input_shape == (None, None, None, 1) and model.output_shape == (None, None, None, 1)


def test_weights_stand_in_the_published_order_and_the_upsampled_map_comes_before_the_skip():
    model = unet(4, size=16)
    weighted = [layer for layer in model.layers if layer.weights]
    assert [type(layer).__name__ for layer in weighted] == [
        *["Conv2D"] * 10,
        *["Conv2DTranspose", "Conv2D", "Conv2D"] * 4,
        "Conv2D",
    ]
    filters = [4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8, 4, 4, 4, 1]
    assert [layer.filters for layer in weighted] == filters
    joins = [layer for layer in model.layers if type(layer).__name__ == "Concatenate"]
    assert [tensor._keras_history.operation.name for tensor in joins[-1].input] == ["up1", "down1_b"]


def test_any_size_divisible_by_16_gives_a_map_of_its_size_in_0_to_1():
    maps = np.asarray(unet(2, outputs=2)(np.random.default_rng(0).random((2, 32, 48, 1), np.float32)))
    assert maps.shape == (2, 32, 48, 2) and maps.min() >= 0 and maps.max() <= 1


@pytest.mark.parametrize(("scaling", "same"), [("unit", 1 / 255), ("symmetric", 1 / 127.5)])
def test_scaling_happens_inside_and_adds_no_layer(scaling, same):
    plain, scaled = unet(2, size=16), unet(2, size=16, scaling=scaling)
    assert len(plain.layers) == len(scaled.layers)
    scaled.set_weights(plain.get_weights())
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1)).astype(np.uint8)
    by_hand = image.astype(np.float32) * same - (scaling == "symmetric")
    np.testing.assert_allclose(np.asarray(scaled(image)), np.asarray(plain(by_hand)), atol=1e-6)


@pytest.mark.parametrize("options", [{"size": 40}, {"size": 0}, {"scaling": "imagenet"}, {"width": 0}, {"outputs": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        unet(**options)


def test_the_square_is_the_padded_radiograph_after_clahe():
    image = np.random.default_rng(0).integers(0, 256, (64, 32)).astype(np.uint8)
    square, frame = SegmenterInput(size=64).prepare(image)
    padded = np.zeros((64, 64), np.uint8)
    padded[:, 16:48] = image
    np.testing.assert_array_equal(square, cv2.createCLAHE(2.0, (8, 8)).apply(padded))
    assert frame.inner_left == 16


@pytest.mark.parametrize("name", ["clahe", "equalize", "adaptive_equalize", "beasf", "none"])
def test_every_enhancement_gives_a_square_and_stretching_leaves_no_border(name):
    image = np.random.default_rng(0).integers(1, 256, (20, 30)).astype(np.uint8)
    settings = SegmenterInput(size=32, enhancement=name, fit="stretch", clahe_tile_grid=(4, 4))
    square, frame = settings.prepare(image)
    assert square.shape == (32, 32) and square.dtype == np.uint8
    assert (frame.inner_height, frame.inner_width) == (32, 32) and (name != "none" or square.min() > 0)
    assert SegmenterInput.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 100},
        {"size": 32.0},
        {"size": "32"},
        {"size": True},
        {"enhancement": "sharpen"},
        {"fit": "crop"},
        {"clahe_clip_limit": 0},
        {"clahe_clip_limit": "2"},
        {"clahe_clip_limit": float("nan")},
        {"clahe_tile_grid": 8},
        {"clahe_tile_grid": (8.5, 8)},
    ],
)
def test_values_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        SegmenterInput(**wrong)
    with pytest.raises(InputError, match="colour"):
        SegmenterInput.from_dict({"colour": 1})
