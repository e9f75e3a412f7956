"""Augmentation layers: identity outside training, one draw for all channels, geometry that means what it says."""

import cv2
import keras
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from covidcxnet.training.augmentation import (
    RandomAffine,
    RandomAutocontrast,
    RandomBlur,
    RandomErase,
    RandomJpeg,
    RandomNoise,
    RandomSharpness,
    RandomTone,
    augmenter,
)
from covidcxnet.training.recipe import AugmentSettings

EVERYTHING = AugmentSettings(
    rotation=170,
    flip_horizontal=True,
    flip_vertical=True,
    zoom=(0.67, 1.25),
    shift=0.2,
    brightness=(0.5, 1.3),
    contrast=(0.8, 1.2),
    gamma=(0.8, 1.2),
    autocontrast=True,
    blur=1.5,
    sharpness=2,
    noise=5,
    jpeg=20,
    erase=0.2,
)


def stacks(n=6, size=30, channels=3):  # no multiple of JPEG's eight
    plane = np.random.default_rng(0).integers(0, 256, (n, size, size, 1), dtype=np.uint8)
    return np.repeat(plane, channels, axis=-1)


def blob(size=33, row=8, column=16):
    image = np.zeros((1, size, size, 1), "float32")
    image[0, row - 2 : row + 3, column - 2 : column + 3] = 255
    return image


def centre(image):
    weights = np.asarray(image)[0, :, :, 0]
    rows, columns = np.indices(weights.shape)
    return (rows * weights).sum() / weights.sum(), (columns * weights).sum() / weights.sum()


def test_outside_training_every_layer_is_the_identity_and_in_it_values_stay_in_range():
    assert augmenter(AugmentSettings.none()) == [] and len(augmenter(EVERYTHING)) == 8
    images = out = stacks()
    for layer in augmenter(EVERYTHING):
        np.testing.assert_array_equal(np.asarray(layer(images)), images)
        before, out = out, np.asarray(layer(out, training=True))
        assert (out != before).any(), layer.name
    assert out.shape == (6, 30, 30, 3) and out.dtype == np.float32 and out.min() >= 0 and out.max() <= 255.01
    # one draw for all channels of an image
    np.testing.assert_allclose(out, out[..., :1].repeat(3, -1), atol=1e-3)
    np.testing.assert_allclose(np.asarray(RandomAffine()(images, training=True)), images, atol=1e-3)


def test_every_second_image_is_sharpened_and_stretched_as_pillow_does_it():
    planes = np.random.default_rng(1).integers(60, 180, (40, 20, 20, 1), dtype=np.uint8)
    flat = np.full((40, 20, 20, 1), 90, np.uint8)
    wanted = {
        RandomSharpness(2.0, seed=1): lambda image: ImageEnhance.Sharpness(image).enhance(2.0),
        RandomSharpness(0.5, seed=1): lambda image: ImageEnhance.Sharpness(image).enhance(0.5),
        RandomAutocontrast(seed=1): ImageOps.autocontrast,
    }
    for layer, reference in wanted.items():
        out = np.asarray(layer(planes, training=True))
        changed = np.abs(out - planes).max(axis=(1, 2, 3)) > 0
        assert 10 < changed.sum() < 30
        for image, result in zip(planes[changed, ..., 0], out[changed, ..., 0], strict=True):
            np.testing.assert_allclose(result, np.asarray(reference(Image.fromarray(image))), atol=1.5)
        np.testing.assert_allclose(np.asarray(layer(flat, training=True)), flat, atol=1e-3)


@pytest.mark.parametrize(("flips", "axis"), [({"flip_horizontal": True}, 2), ({"flip_vertical": True}, 1)])
def test_flips_mirror_about_half_of_the_images_exactly(flips, axis):
    images = stacks(64)
    out = np.asarray(RandomAffine(**flips, seed=1)(images, training=True))
    same = np.abs(out - images).max(axis=(1, 2, 3)) < 1e-2
    mirrored = np.abs(out - np.flip(images, axis)).max(axis=(1, 2, 3)) < 1e-2
    assert (same ^ mirrored).all() and 16 < mirrored.sum() < 48


def test_zoom_of_two_shows_the_content_twice_as_large():
    out = np.asarray(RandomAffine(zoom=(2, 2))(blob(row=12), training=True))
    assert out.sum() == pytest.approx(4 * blob().sum(), rel=0.02)
    assert centre(out) == (pytest.approx(16 + 2 * (12 - 16), abs=0.1), pytest.approx(16, abs=0.1))


def test_rotation_keeps_the_distance_from_the_centre_and_stays_within_its_range():
    layer = RandomAffine(rotation=30, seed=3)
    angles = []
    for _ in range(20):
        row, column = centre(layer(blob(), training=True))
        assert np.hypot(row - 16, column - 16) == pytest.approx(8, abs=0.2)
        angles.append(np.degrees(np.arctan2(column - 16, 16 - row)))
    assert max(np.abs(angles)) < 31 and np.ptp(angles) > 20


def test_shift_stays_within_its_range_and_fills_with_the_constant():
    layer = RandomAffine(shift=0.2, fill=77)
    images = np.full((20, 20, 20, 1), 10.0, "float32")
    out = np.asarray(layer(images, training=True))
    outside = np.abs(out - 77) < 0.5
    assert outside.any() and (np.abs(out - 10) < 0.5)[:, 4:16, 4:16].all()


def test_tone_multiplies_as_the_settings_say():
    images = np.full((32, 4, 4, 1), 100.0, "float32")
    out = np.asarray(RandomTone(brightness=(0.5, 1.3))(images, training=True))
    assert 50 <= out.min() < 70 and 110 < out.max() <= 130
    gamma = np.asarray(RandomTone(gamma=(2, 2))(images, training=True))
    np.testing.assert_allclose(gamma, 255 * (100 / 255) ** 2, rtol=1e-4)
    flat = np.asarray(RandomTone(contrast=(0.01, 0.01))(stacks(), training=True))
    assert flat.std(axis=(1, 2, 3)).max() < 2


def test_blur_keeps_constants_and_smooths_noise_to_different_strengths():
    images = np.full((2, 16, 16, 2), 90.0, "float32")
    np.testing.assert_allclose(np.asarray(RandomBlur(2.0)(images, training=True)), images, atol=1e-3)
    repeated = np.repeat(stacks(1), 8, axis=0)
    deviations = np.asarray(RandomBlur(2.0)(repeated, training=True)).std(axis=(1, 2, 3))
    assert deviations.max() < repeated.std() and np.ptp(deviations) > 3


def test_noise_is_no_stronger_than_its_limit_and_erasing_sets_one_square_to_the_constant():
    images = np.full((16, 20, 20, 2), 128.0, "float32")
    noise = np.asarray(RandomNoise(10.0)(images, training=True))
    deviations = noise.std(axis=(1, 2, 3))
    assert deviations.max() < 12 and deviations.min() < 4 and abs(noise.mean() - 128) < 1
    out = np.asarray(RandomErase(0.25, fill=3.0)(images, training=True))
    erased = (out == 3).all(axis=-1).sum(axis=(1, 2))
    assert set(np.unique(out)) == {3.0, 128.0} and erased.max() == 25 and (erased > 0).all()


def test_resetting_the_seed_states_repeats_the_draws():
    layers = augmenter(EVERYTHING, seed=5)
    model = keras.Sequential([keras.Input((30, 30, 3)), *layers])
    states = [v for v in model.variables if v.name == "seed_generator_state"]
    assert len(states) == 8
    first = [np.array(keras.ops.convert_to_numpy(v)) for v in states]
    once = np.asarray(model(stacks(), training=True))
    other = np.asarray(model(stacks(), training=True))
    for variable, value in zip(states, first, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(np.asarray(model(stacks(), training=True)), once)
    assert (once != other).any()


def test_jpeg_augmentation_loses_what_opencv_s_jpeg_loses():
    y, x = np.mgrid[0:60, 0:52]
    image = np.clip(128 + 60 * np.sin(x / 3) * np.cos(y / 5) + np.random.default_rng(0).normal(0, 12, x.shape), 0, 255)
    image = np.pad(image.astype("uint8"), ((0, 4), (0, 4)), mode="reflect")
    layer = RandomJpeg(30)
    layer.draw = lambda images, low, high: keras.ops.full((1, 1, 1, 1), low)
    ours = keras.ops.convert_to_numpy(layer(image[None, :, :, None].astype("float32"), training=True))[0, :, :, 0]
    theirs = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)
    lost = np.abs(theirs.astype(float) - image).mean()
    assert lost > 3
    assert np.abs(ours - theirs).mean() < 0.1 * lost
