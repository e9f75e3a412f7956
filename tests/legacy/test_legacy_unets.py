"""Old U-Net files load exactly: compared with the same networks written in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from keras2_files import Random, keras2_file, unet_layers
from numpy_networks import unet_in_numpy

import covidcxnet
from enhancement.errors import InputError
from segmentation.model import legacy_metadata
from segmentation.segmenter import LungSegmenter
from weights import manifest, open_weights


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


def test_a_segmenter_takes_an_old_file_by_itself_as_the_manifest_describes_it(tmp_path):
    segmenter = LungSegmenter(keras2_file(tmp_path / "old.hdf5", unet_layers()))
    assert segmenter.input.size == 512 and segmenter.conventions == ("lung_field",)
    assert len(segmenter.model.get_weights()) == 46
    published = manifest.read()["covid-cxnet-unet"].metadata()
    published["architecture"]["options"]["width"] = 2
    assert legacy_metadata(open_weights(tmp_path / "old.hdf5")) == published


@pytest.mark.parametrize(
    ("at", "shape", "message"),
    [
        (None, None, r"old\.h5"),
        (5, (3, 4, 5), r"old\.h5"),
        (1, (3, 1, 40_000), r"old\.h5"),
        (1, (3, 3, 2), "3 channels"),
    ],
    ids=["a layer less", "another width", "a forged width", "for colour"],
)
def test_an_old_unet_that_does_not_fit_is_refused(tmp_path, at, shape, message):
    layers = unet_layers()
    if at is None:
        layers.pop()
    else:
        layers[at] = Random().convolution(layers[at][0], *shape)
    with pytest.raises(InputError, match=message):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers))


def test_what_is_wrong_with_an_argument_is_not_blamed_on_the_file(tmp_path):
    path = keras2_file(tmp_path / "old.h5", unet_layers())
    for given in ({"size": 100}, {"size": "32"}, {"input": {"colour": 1}}):
        with pytest.raises(InputError, match=r"size|colour") as error:
            covidcxnet.load_legacy(path, **given)
        assert str(error.value).count("old.h5") == 1 and "wrong type" not in str(error.value)
    with pytest.raises(InputError, match="'chexnet' given; its arrays are those of a lung U-Net"):
        covidcxnet.load_legacy(path, "chexnet")
