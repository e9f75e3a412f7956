"""The U-Net is the published one to the parameter."""

import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.unet import unet


def test_width_32_has_the_published_parameters_in_23_weighted_layers():
    model = unet()
    assert model.count_params() == 7_759_521
    assert sum(bool(layer.weights) for layer in model.layers) == 23
    assert model.input_shape == (None, None, None, 1) and model.output_shape == (None, None, None, 1)


def test_weights_stand_in_the_published_order():
    kinds = [type(layer).__name__ for layer in unet(4).layers if layer.weights]
    assert kinds == ["Conv2D"] * 10 + ["Conv2DTranspose", "Conv2D", "Conv2D"] * 4 + ["Conv2D"]
    filters = [layer.filters for layer in unet(4).layers if layer.weights]
    assert filters == [4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8, 4, 4, 4, 1]


def test_the_upsampled_map_comes_before_the_skip():
    model = unet(4, size=16)
    joins = [layer for layer in model.layers if type(layer).__name__ == "Concatenate"]
    assert [tensor._keras_history.operation.name for tensor in joins[-1].input] == ["up1", "down1_b"]


def test_width_16_with_batch_norm_has_1_95_million_parameters():
    assert 1_940_000 < unet(16, batch_norm=True).count_params() < 1_955_000


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
