"""Old U-Net files load exactly: compared with the same networks written in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from keras2_files import Random, keras2_file, unet_layers
from numpy_networks import unet_in_numpy

import covidcxnet
from enhancement.errors import InputError
from segmentation.model import imlab_unet, unet
from segmentation.segmenter import LungSegmenter


@pytest.mark.parametrize("imlab", [False, True])
def test_an_old_unet_predicts_what_numpy_does(tmp_path, imlab):
    layers = unet_layers(imlab=imlab)
    segmenter = covidcxnet.load_legacy(keras2_file(tmp_path / "old.hdf5", layers, whole=imlab), size=32)
    assert isinstance(segmenter, LungSegmenter)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    scaled = (x / 255 - 0.5) * np.sqrt(12) if imlab else (x - 127.0) / 127.0
    expected = unet_in_numpy(scaled, layers, imlab=imlab)
    np.testing.assert_allclose(np.asarray(segmenter.model(x)), expected, atol=1e-5)
    assert segmenter.predict(x[0, ..., 0])[0].mask.shape == (32, 32)


def test_unets_have_the_published_sizes():
    assert unet().count_params() == 7_759_521 and len([layer for layer in unet().layers if layer.weights]) == 23
    assert len([layer for layer in imlab_unet().layers if layer.weights]) == 22


def test_a_segmenter_takes_an_old_file_by_itself(tmp_path):
    path = keras2_file(tmp_path / "old.hdf5", unet_layers())
    segmenter = LungSegmenter(path)
    assert segmenter.input.size == 512 and segmenter.conventions == ("lung_field",)
    assert len(segmenter.model.get_weights()) == 46


@pytest.mark.parametrize("change", ["a layer less", "another width", "a forged width"])
def test_an_old_unet_that_does_not_fit_is_refused(tmp_path, change):
    layers = unet_layers()
    if change == "a layer less":
        layers = layers[:-1]
    r = Random()
    if change == "another width":
        layers[5] = r.convolution(layers[5][0], 3, 4, 5)
    if change == "a forged width":
        layers[1] = r.convolution("conv2d_1", 3, 1, 40_000)
    with pytest.raises(InputError, match=r"old\.h5"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers))


def test_what_is_wrong_with_an_argument_is_not_said_of_the_file(tmp_path):
    path = keras2_file(tmp_path / "old.h5", unet_layers())
    for given in ({"size": 100}, {"size": "32"}, {"input": {"colour": 1}}):
        with pytest.raises(InputError, match=r"size|colour") as error:
            covidcxnet.load_legacy(path, **given)
        assert str(error.value).count("old.h5") == 1 and "wrong type" not in str(error.value)
    with pytest.raises(InputError, match="'chexnet' given; its arrays are those of a lung U-Net"):
        covidcxnet.load_legacy(path, "chexnet")


def test_an_old_unet_for_colour_is_refused(tmp_path):
    layers = unet_layers()
    layers[1] = Random().convolution(layers[1][0], 3, 3, 2)
    with pytest.raises(InputError, match="3 channels"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers))
