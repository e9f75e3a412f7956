"""Classifier: explanations in place, in order, for the class that was asked for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny_classifier import SETTINGS, SIZE, Boxes, noise, noise_files, small_classifier

from covidcxnet.classifier import Classifier
from covidcxnet.preparation.pipeline import prepare_image
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError


def test_gradcam_comes_back_on_the_radiograph_in_order(tmp_path):
    paths = noise_files(tmp_path, 3)
    paths[1].write_bytes(b"no image")
    classifier = small_classifier(segmenter=Boxes())
    results = classifier.explain(paths, batch_size=2)
    assert [one.path for one in results] == paths
    assert results[1].error and results[1].map is None
    predictions = classifier.predict(paths)
    for n in (0, 2):
        heat = results[n].heatmap
        assert heat.shape == (40 + n, 40) and heat.dtype == np.float32
        assert heat.min() >= 0 and heat.max() <= 1
        assert results[n].target == results[n].prediction.label == predictions[n].label
        assert results[n].prediction.probabilities == pytest.approx(predictions[n].probabilities, abs=1e-6)
        assert results[n].lungs.shape == (SIZE, SIZE)
        assert results[n].overlay().shape == (40 + n, 40, 3)
        assert results[n]._repr_png_().startswith(b"\x89PNG") and "gradcam of" in repr(results[n])
    assert results[1]._repr_png_() is None and "error=" in repr(results[1])
    assert results.to_frame()["target"].isna().tolist() == [False, True, False]


def test_cam_and_gradcam_explain_the_target_and_are_alike_where_the_head_is_linear():
    """The ReLU and the division by the maximum take away what theory lets differ: a factor of the map's places."""
    classifier = small_classifier(3)
    stack = prepare_image(noise(0), None, None, SETTINGS).stack
    for index, label in enumerate(classifier.classes):
        cam, gradcam = (classifier.explain(noise(0), method, target=label)[0] for method in ("cam", "gradcam"))
        assert gradcam.target == label and cam.method == "cam" and cam.caption[1].startswith(f"CAM for {label}")
        np.testing.assert_allclose(gradcam.map, classifier.gradcam(stack[None], index)[0], atol=1e-6)
        np.testing.assert_allclose(cam.map, gradcam.map, atol=1e-5)
        np.testing.assert_allclose(cam.heatmap, gradcam.heatmap, atol=1e-4)
        assert cam.prediction.probabilities == pytest.approx(gradcam.prediction.probabilities, abs=1e-6)
    assert cam.overlay().shape == (50, 40, 3) and cam.panel().axes[1].get_title() == "CAM"


def test_cam_of_another_head_is_refused_before_a_file_is_read(tmp_path):
    stack = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="maps")(stack))
    output = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Dense(4, activation="relu")(x))
    metadata = {"classes": ["normal", "covid19"], "input": SETTINGS.to_dict()}
    classifier = Classifier(keras.Model(stack, output, name="hidden"), metadata)
    with pytest.raises(InputError, match=r"not global average pooling and one dense layer; use Grad-CAM \(gradcam\)"):
        classifier.iter_explain(tmp_path / "missing.png", "cam")
    assert classifier.explain(noise(0), "gradcam")[0].error is None


def test_a_crop_is_explained_where_it_was_cut_and_lungs_that_are_not_trusted_are_not_drawn():
    classifier = small_classifier(settings=InputSettings(size=SIZE, region="crop", margin=0.0), segmenter=Boxes())
    for target in classifier.classes:
        heat = classifier.explain(noise(0), target=target)[0].heatmap
        assert (heat[:10] == 0).all() and (heat[30:] == 0).all() and (heat[:, 34:] == 0).all()
    (result,) = small_classifier(segmenter=Boxes()).explain(np.full((50, 40), 5, "uint8"))
    assert result.lungs is None and any("too dark" in line for line in result.caption)


def test_lime_explains_two_columns_of_a_single_sigmoid():
    classifier = small_classifier()
    first, other = (
        classifier.explain(noise(0), "lime", target=label, samples=40, segments=8, seed=1)[0]
        for label in classifier.classes
    )
    np.testing.assert_allclose(first.map, -other.map, atol=1e-5)
    assert first.map.shape == (SIZE, SIZE) and first.fit == pytest.approx(other.fit, abs=1e-4)
    assert first.heatmap.max() <= 1 and first.heatmap.min() >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "saliency"}, "gradcam, cam, lime"),
        ({"method": "cam", "samples": 10}, "CAM takes no 'samples'"),
        ({"target": "flu"}, "normal, covid19"),
        ({"samples": 10}, "takes no 'samples'"),
        ({"method": "lime", "colour": 1}, "takes no 'colour'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_explanations_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        small_classifier().explain(noise(0), **arguments)


@pytest.mark.real
def test_real_radiographs_are_predicted_and_explained(real_data):
    import pandas as pd

    rows = pd.read_csv(real_data / "classification" / "metadata.csv").groupby("source").head(1)
    paths = [real_data / path for path in rows.path]
    paths = [path if path.exists() else real_data / "classification" / name for path, name in zip(paths, rows.path)]
    results = small_classifier().explain(paths)
    assert [result.error for result in results] == [None] * len(paths)
    assert [result.heatmap.shape for result in results] == [result.radiograph.shape for result in results]
