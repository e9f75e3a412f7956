"""Weights at half precision: half the size, nearly the same numbers, everything told of them still told."""

import keras
import numpy as np
import pytest

from enhancement.errors import InputError
from weights.half_precision import halve
from segmentation.unet import unet
from weights.format import load_weights, read_metadata, save_weights


def test_a_halved_file_is_smaller_and_predicts_nearly_the_same(tmp_path):
    model = unet(width=4, batch_norm=True, size=32)
    whole = save_weights(model, tmp_path / "whole.weights.h5", {"kind": "segmenter", "conventions": ["lung_field"]})
    half = halve(whole, tmp_path / "half.weights.h5")
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    assert read_metadata(half) == read_metadata(whole)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype("float32")
    expected = model.predict_on_batch(images)
    keras.utils.set_random_seed(1)
    again = unet(width=4, batch_norm=True, size=32)
    load_weights(again, half)
    difference = np.abs(again.predict_on_batch(images) - expected).max()
    assert 0 < difference < 1e-2


def test_numbers_beyond_half_precision_are_refused_and_nothing_is_left(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.get_layer(index=0).kernel.assign([[1e6, 0.0], [0.0, 1.0]])
    whole = save_weights(model, tmp_path / "whole.weights.h5", {"kind": "classifier"})
    with pytest.raises(InputError, match="beyond float16"):
        halve(whole, tmp_path / "half.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.weights.h5"]
