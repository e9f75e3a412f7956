"""The grid of a feature layer: maps lie where their cells look, with padding and without."""

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from covidcxnet.classifier import Classifier
from covidcxnet.explain.grid import Grid, enlarge, grid_of, remark
from covidcxnet.models import create
from covidcxnet.settings import InputSettings

pytestmark = pytest.mark.usefixtures("eager")
SIZE = 48
NETS = {
    "valid": [layers.Conv2D(1, 5), layers.AveragePooling2D(2), layers.Conv2D(1, 3, strides=2)],
    "same": [layers.Conv2D(1, 3, strides=2, padding="same"), layers.Conv2D(1, 4, padding="same")],
    "dilated": [layers.Conv2D(1, 3, dilation_rate=2), layers.AveragePooling2D(3, strides=2)],
    "padded": [
        layers.ZeroPadding2D(((3, 2), (1, 0))),
        layers.Conv2D(1, 7, strides=2),
        layers.Cropping2D(((2, 1), (1, 3))),
    ],
    "oblong": [layers.DepthwiseConv2D((5, 1), strides=(2, 2)), layers.Activation("relu")],
}


def _linear(net) -> keras.Model:
    """Windows that weigh all their pixels alike."""
    x = stack = keras.Input((SIZE, SIZE, 1))
    for layer in net:
        x = layer(x)
    model = keras.Model(stack, x)
    model.set_weights([np.zeros(w.shape) if w.ndim == 1 else np.ones(w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("name", NETS)
def test_a_cell_looks_at_the_mean_place_of_the_pixels_it_weighs(name):
    model = _linear(NETS[name])
    row, column = np.mgrid[:SIZE, :SIZE].astype("float32")
    flat, rows, columns = (
        model.predict(x[None, :, :, None], verbose=0)[0, :, :, 0] for x in (np.ones_like(row), row, column)
    )
    grid = grid_of(model, model.layers[-1].name)
    whole = flat == flat.max()  # at the edge a padded window sees only part of its pixels
    assert whole.sum() > 20
    i, j = np.nonzero(whole)
    np.testing.assert_allclose(rows[whole] / flat[whole], grid.top + i * grid.down, atol=1e-3)
    np.testing.assert_allclose(columns[whole] / flat[whole], grid.left + j * grid.right, atol=1e-3)


def test_branches_that_meet_look_at_the_mean_place_and_a_gate_at_none():
    stack = keras.Input((SIZE, SIZE, 1))
    one = layers.Conv2D(1, 3, strides=2, padding="same")(stack)
    other = layers.AveragePooling2D(2)(stack)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(one)
    x = layers.Multiply(name="gated")([layers.Add(name="met")([one, other]), gate])
    model = keras.Model(stack, x)
    assert grid_of(model, "met") == grid_of(model, "gated") == Grid(0.75, 0.75, 2.0, 2.0)
    with pytest.raises(ValueError, match="no layer 'nothing'"):
        grid_of(model, "nothing")


def test_without_a_grid_a_map_tiles_the_stack():
    random = np.random.default_rng(0)
    for shape in ((7, 7), (4, 9), (1, 1), (30, 2)):
        heat = random.random(shape, "float32")
        expected = cv2.resize(heat, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        np.testing.assert_allclose(enlarge(heat, SIZE), expected, atol=1e-5)
        np.testing.assert_allclose(enlarge(heat, SIZE, Grid.even((SIZE, SIZE), shape)), expected, atol=1e-5)
    assert enlarge(whole := random.random((SIZE, SIZE), "float32"), SIZE) is whole


def test_heat_ends_where_no_cell_looks_and_a_map_that_shows_no_place_says_so():
    """Two cells at 16 and 24 of 48 pixels: full from 12 to 28, gone before 4 and after 36."""
    row = enlarge(np.ones((2, 2), "float32"), SIZE, Grid(16, 16, 8, 8))[20]
    assert row[12:29] == pytest.approx(1) and row[:5] == pytest.approx(0) and row[36:] == pytest.approx(0)
    assert row[8] == pytest.approx(0.5) and row[32] == pytest.approx(0.5)
    assert remark(np.zeros((7, 7))) == "no part of the image supports the class" and remark(np.eye(4)) == ""
    assert remark(np.ones((2, 7))) == "2 x 7 cells are too few to locate anything"
    lungs = np.zeros((56, 56), bool)
    lungs[:, 20:36] = True
    for column, outside in ((3, False), (2, False), (1, True), (6, True)):  # cells of 8 pixels, half a cell is allowed
        heat = np.zeros((7, 7))
        heat[3, column] = 1
        assert remark(heat, lungs) == ("the warmest point lies outside the lungs" if outside else "")


def test_heat_lies_on_the_bright_spot_though_no_convolution_is_padded():
    size = 256
    model = create("base-cnn", size=size, classes=("normal", "covid19"), filters=4)
    model.set_weights([np.zeros(w.shape) if w.ndim == 1 else np.abs(w) for w in model.get_weights()])
    settings = InputSettings(size=size, channels=("raw",) * model.input_shape[-1])
    classifier = Classifier(model, {"classes": ["normal", "covid19"], "input": settings.to_dict()})
    spots = [(round(down * size), round(right * size)) for down, right in ((0.3, 0.55), (0.7, 0.35))]
    images = np.zeros((2, size, size), np.uint8)
    for image, (row, column) in zip(images, spots, strict=True):
        image[row - 4 : row + 4, column - 4 : column + 4] = 255
    for explanation, (row, column) in zip(classifier.explain(list(images), target="covid19"), spots, strict=True):
        i, j = np.unravel_index(explanation.map.argmax(), explanation.map.shape)
        grid = explanation.grid
        assert (grid.top, grid.down) == (32.0, 32.0)
        assert abs(grid.top + i * grid.down - row) <= grid.down
        assert abs(grid.left + j * grid.right - column) <= grid.right
        assert explanation.heatmap[row, column] > 0.7
