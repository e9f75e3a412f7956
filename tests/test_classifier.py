"""Classifier: one result each, in order, whatever is given; probabilities that fit the model; explanations in place."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from covidcxnet.classifier import Classifier
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.verdict import Verdict

keras = pytest.importorskip("keras")
cv2 = pytest.importorskip("cv2")

SIZE = 32
SETTINGS = InputSettings(size=SIZE)


def _tiny(outputs=1, size=SIZE, channels=3, seed=0):
    stack = keras.Input((size, size, channels))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="maps")(keras.ops.divide(stack, 255.0))
    x = keras.layers.GlobalAveragePooling2D()(x)
    output = keras.layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax")(x)
    model = keras.Model(stack, output, name="tiny")
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 1, w.shape) for w in model.get_weights()])
    return model


def _classifier(outputs=1, settings=SETTINGS, segmenter=None, classes=None, **metadata):
    classes = classes or (["normal", "covid19"] if outputs == 1 else ["normal", "pneumonia", "covid19"])
    metadata = {"classes": classes, "input": settings.to_dict(), **metadata}
    return Classifier(_tiny(outputs), metadata, segmenter=segmenter)


@pytest.fixture(autouse=True)
def _no_released_segmenter(monkeypatch):
    """Results must not depend on which weights this installation carries."""
    import weights

    def released(name):
        raise LookupError(f"no released weights are named {name!r}")

    monkeypatch.setattr(weights, "released", released)


def _image(seed, height=50, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype("uint8")


def _files(folder, count=5):
    paths = [folder / f"{n}.png" for n in range(count)]
    for n, path in enumerate(paths):
        cv2.imwrite(str(path), _image(n, 40 + n))
    return paths


class _Segmenter:
    """Lungs that are two boxes; trusted unless the radiograph is dark."""

    name, sha256 = "boxes", "0" * 64

    def predict(self, images):
        return [self._one(image) for image in images]

    def _one(self, image):
        mask = np.zeros(image.shape, bool)
        mask[10:30, 5:15] = mask[10:30, 22:34] = True
        trusted = bool(image.mean() > 20)
        verdict = Verdict(trusted, () if trusted else ("too dark",))
        return SimpleNamespace(mask=mask, box=(10, 5, 30, 34), verdict=verdict, error=None)


def test_predict_gives_one_result_each_in_the_order_given(tmp_path):
    paths = _files(tmp_path)
    classifier = _classifier()
    forward, backward = classifier.predict(paths), classifier.predict(paths[::-1], batch_size=2)
    assert [one.path for one in forward] == paths
    for one, other in zip(forward, backward[::-1], strict=True):
        assert one.path == other.path
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.label == max(one.probabilities, key=one.probabilities.get)
        assert one.probability == one.probabilities[one.label]
        assert one.error is None and one.lungs is None


def test_predictions_are_those_of_the_prepared_stacks(tmp_path):
    from covidcxnet.preparation.pipeline import prepare_image

    (path, *_) = _files(tmp_path, 1)
    classifier = _classifier()
    stack = prepare_image(_image(0, 40), None, None, SETTINGS).stack
    expected = classifier.model.predict(stack[None].astype("float32"), verbose=0)[0, 0]
    assert classifier.predict(path)[0].probabilities["covid19"] == pytest.approx(expected, abs=1e-5)


def test_files_and_arrays_and_folders_are_one(tmp_path):
    paths = _files(tmp_path, 2)
    classifier = _classifier()
    by_file, by_array = classifier.predict(paths), classifier.predict([_image(0, 40), _image(1, 41)])
    assert [one.probabilities for one in by_file] == [one.probabilities for one in by_array]
    assert [one.path for one in by_array] == [None, None]
    assert [one.path for one in classifier.predict(tmp_path)] == paths
    assert len(classifier.predict(_image(0))) == len(classifier.predict(str(paths[0]))) == 1
    assert classifier.predict([]) == []


def test_a_file_that_cannot_be_read_has_an_error_and_the_others_do_not(tmp_path):
    paths = _files(tmp_path, 4)
    whole = _classifier().predict(paths)
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    given = [paths[0], paths[1], tmp_path / "missing.png", *paths[2:], _image(0).astype("float32")]
    results = _classifier().predict(given, batch_size=2)
    assert [one.error is None for one in results] == [True, False, False, True, True, False]
    assert results[1].label is None and results[1].probabilities == {} and results[1].probability is None
    assert [results[n].probabilities for n in (0, 3, 4)] == [whole[n].probabilities for n in (0, 2, 3)]


def test_many_unreadable_files_do_not_pile_up(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    sizes = [len(items) for items, _ in _classifier().batches([bad] * 30, batch_size=2)]
    assert sum(sizes) == 30 and max(sizes) <= 8
    assert all(one.error for one in _classifier().predict([bad] * 9, batch_size=2))


def test_only_as_much_is_read_as_is_asked_for(tmp_path, monkeypatch):
    import enhancement

    reads = []
    original = enhancement.read_radiograph
    monkeypatch.setattr(enhancement, "read_radiograph", lambda path, **kw: reads.append(path) or original(path, **kw))
    results = _classifier().iter_predict(_files(tmp_path, 12), batch_size=2)
    next(results)
    assert 1 <= len(reads) <= 4


@pytest.mark.parametrize("outputs", [1, 3])
def test_predict_stacks_has_one_column_a_class_and_does_not_depend_on_the_batch(outputs):
    classifier = _classifier(outputs)
    stacks = np.random.default_rng(1).integers(0, 256, (7, SIZE, SIZE, 3)).astype("uint8")
    rows = classifier.predict_stacks(stacks, 3)
    assert rows.shape == (7, max(2, outputs)) and rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(rows, classifier.predict_stacks(stacks, 7), atol=1e-6)
    expected = classifier.model.predict(stacks.astype("float32"), verbose=0)
    np.testing.assert_allclose(rows[:, -outputs:], expected, atol=1e-6)
    assert classifier.predict_stacks(stacks[:0]).shape == (0, max(2, outputs))


def test_the_forward_pass_is_traced_once():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("counts TensorFlow traces")
    classifier = _classifier()
    original, traces = classifier.model, []

    class Counting:
        input_shape, output_shape = original.input_shape, original.output_shape

        def __call__(self, stacks, training):
            traces.append(stacks.shape)
            return original(stacks, training=training)

    classifier.model = Counting()
    for count in (1, 5, 8, 3):
        classifier.predict_stacks(np.zeros((count, SIZE, SIZE, 3), "uint8"), 4)
    assert len(traces) == 1


def test_an_hdf5_data_set_of_stacks_is_read_in_batches(tmp_path):
    h5py = pytest.importorskip("h5py")
    stacks = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3)).astype("uint8")
    with h5py.File(tmp_path / "stacks.h5", "w") as file:
        data = file.create_dataset("stacks", data=stacks)
        rows = _classifier().predict_stacks(data, 2)
    np.testing.assert_allclose(rows, _classifier().predict_stacks(stacks, 2))


@pytest.mark.parametrize(
    "stacks",
    [
        np.zeros((2, SIZE, SIZE, 3), "float32"),
        np.zeros((2, SIZE, SIZE, 1), "uint8"),
        np.zeros((2, SIZE + 2, SIZE, 3), "uint8"),
        np.zeros((SIZE, SIZE, 3), "uint8"),
        [[1, 2], [3, 4]],
    ],
)
def test_stacks_that_do_not_fit_are_refused(stacks):
    with pytest.raises(InputError, match=r"uint8 \[n, 32, 32, 3\] expected"):
        _classifier().predict_stacks(stacks)


def test_a_damaged_model_is_refused_and_gives_no_nan(tmp_path):
    classifier = _classifier()
    classifier.model.set_weights([np.full(w.shape, np.nan) for w in classifier.model.get_weights()])
    for call in (classifier.predict, classifier.explain):
        with pytest.raises(InputError, match="not finite"):
            call(_image(0))


@pytest.mark.parametrize(
    ("model", "metadata", "message"),
    [
        (_tiny(1), {"classes": ["a", "b", "c"]}, "3 classes|do not fit a model of 1"),
        (_tiny(3), {"classes": ["a", "b"]}, "do not fit a model of 3"),
        (_tiny(1), {"classes": ["a", "a"]}, "do not fit"),
        (_tiny(1), {}, "do not fit"),
        (_tiny(1), {"classes": ["a", "b"], "input": {"size": 64}}, "model takes"),
        (_tiny(1), {"classes": ["a", "b"], "input": {"size": 32, "channels": ["raw"]}}, "model takes"),
        (_tiny(1), {"classes": ["a", "b"], "input": {"size": 32, "sise": 1}}, "sise"),
    ],
)
def test_metadata_that_do_not_fit_the_model_are_refused(model, metadata, message):
    with pytest.raises(InputError, match=message):
        Classifier(model, metadata)


@pytest.mark.parametrize("files", [np.zeros((2, 8, 8), "uint8"), [1, 2], 7])
def test_what_is_no_radiograph_is_refused(files):
    with pytest.raises(InputError, match="given"):
        _classifier().predict(files)


def test_lungs_carry_the_verdict_where_a_segmenter_is_at_hand():
    classifier = _classifier(segmenter=_Segmenter())
    light, dark = classifier.predict([_image(0), np.full((50, 40), 5, "uint8")])
    assert light.lungs.trusted and not dark.lungs.trusted
    assert light.to_dict()["lungs"]["trusted"] is True
    assert dark.label is not None


def test_a_region_without_its_segmenter_is_refused_with_its_name():
    settings = InputSettings(size=SIZE, region="crop", segmenter="lung-unet")
    with pytest.raises(InputError, match="lung-unet"):
        _classifier(settings=settings).predict(_image(0))


def test_a_region_with_another_segmenter_than_the_trainings_is_refused(monkeypatch):
    import segmentation.segmenter

    monkeypatch.setattr(segmentation.segmenter, "LungSegmenter", lambda name: _Segmenter())
    settings = InputSettings(size=SIZE, region="crop")
    good = _classifier(settings=settings, segmenter=None)
    assert good.predict(_image(0))[0].lungs.trusted
    for recorded, fits in (("0" * 64, True), ("1" * 64, False)):
        metadata = {"classes": ["a", "b"], "input": settings.to_dict(), "segmenter": {"sha256": recorded}}
        classifier = Classifier(_tiny(), metadata)
        if fits:
            assert classifier.predict(_image(0))[0].error is None
        else:
            with pytest.raises(InputError, match="SHA-256"):
                classifier.predict(_image(0))
            given = Classifier(_tiny(), metadata, segmenter=_Segmenter())
            assert given.predict(_image(0))[0].error is None


def test_gradcam_comes_back_on_the_radiograph_in_order(tmp_path):
    paths = _files(tmp_path, 3)
    paths[1].write_bytes(b"no image")
    classifier = _classifier(segmenter=_Segmenter())
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


def test_maps_are_those_of_gradcam_for_the_target_asked_for():
    from covidcxnet.preparation.pipeline import prepare_image

    classifier = _classifier(3)
    stack = prepare_image(_image(0), None, None, SETTINGS).stack
    for index, label in enumerate(classifier.classes):
        (result,) = classifier.explain(_image(0), target=label)
        assert result.target == label
        np.testing.assert_allclose(result.map, classifier.gradcam(stack[None], index)[0], atol=1e-6)


def test_cam_is_gradcam_where_the_head_is_one_dense_layer_behind_the_average():
    """The ReLU and the division by the maximum take away what theory lets differ: a factor of the map's places."""
    from covidcxnet.preparation.pipeline import prepare_image

    classifier = _classifier(3)
    stack = prepare_image(_image(0), None, None, SETTINGS).stack
    for label in classifier.classes:
        (cam,) = classifier.explain(_image(0), "cam", target=label)
        (gradcam,) = classifier.explain(_image(0), "gradcam", target=label)
        np.testing.assert_allclose(cam.map, gradcam.map, atol=1e-5)
        np.testing.assert_allclose(cam.heatmap, gradcam.heatmap, atol=1e-4)
        assert cam.method == "cam" and cam.caption[1].startswith(f"CAM for {label}")
        assert cam.prediction.probabilities == pytest.approx(gradcam.prediction.probabilities, abs=1e-6)
        index = classifier.classes.index(label)
        signed = classifier.cam.signed(stack[None], index)[0]
        scale = max(float(signed.max()), 1e-30)
        np.testing.assert_allclose(np.maximum(signed, 0) / scale, gradcam.map, atol=1e-5)
    assert cam.overlay().shape == (50, 40, 3) and cam.panel().axes[1].get_title() == "CAM"


def test_cam_of_another_head_is_refused_before_a_file_is_read(tmp_path):
    stack = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="maps")(stack))
    output = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Dense(4, activation="relu")(x))
    metadata = {"classes": ["normal", "covid19"], "input": SETTINGS.to_dict()}
    classifier = Classifier(keras.Model(stack, output, name="hidden"), metadata)
    with pytest.raises(InputError, match=r"not global average pooling and one dense layer; use Grad-CAM \(gradcam\)"):
        classifier.iter_explain(tmp_path / "missing.png", "cam")
    assert classifier.explain(_image(0), "gradcam")[0].error is None


def test_a_crop_is_explained_where_it_was_cut():
    classifier = _classifier(settings=InputSettings(size=SIZE, region="crop", margin=0.0), segmenter=_Segmenter())
    for target in classifier.classes:
        heat = classifier.explain(_image(0), target=target)[0].heatmap
        assert (heat[:10] == 0).all() and (heat[30:] == 0).all() and (heat[:, 34:] == 0).all()


def test_lungs_that_are_not_trusted_are_not_drawn():
    (result,) = _classifier(segmenter=_Segmenter()).explain(np.full((50, 40), 5, "uint8"))
    assert result.lungs is None
    assert any("too dark" in line for line in result.caption)


def test_lime_explains_two_columns_of_a_single_sigmoid():
    classifier = _classifier()
    first, other = (
        classifier.explain(_image(0), "lime", target=label, samples=40, segments=8, seed=1)[0]
        for label in classifier.classes
    )
    np.testing.assert_allclose(first.map, -other.map, atol=1e-5)
    assert first.map.shape == (SIZE, SIZE) and first.fit == pytest.approx(other.fit, abs=1e-4)
    assert first.heatmap.max() <= 1 and first.heatmap.min() >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "saliency"}, "gradcam, cam, lime"),
        ({"method": "cam", "target": "flu"}, "normal, covid19"),
        ({"method": "cam", "samples": 10}, "CAM takes no 'samples'"),
        ({"target": "flu"}, "normal, covid19"),
        ({"samples": 10}, "takes no 'samples'"),
        ({"method": "lime", "colour": 1}, "takes no 'colour'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_explanations_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        _classifier().explain(_image(0), **arguments)


@pytest.mark.real
def test_real_radiographs_are_predicted_and_explained(real_data):
    import pandas as pd

    rows = pd.read_csv(real_data / "classification" / "metadata.csv").groupby("source").head(1)
    paths = [real_data / path for path in rows.path]
    paths = [path if path.exists() else real_data / "classification" / name for path, name in zip(paths, rows.path)]
    results = _classifier().explain(paths)
    assert [one.error for one in results] == [None] * len(paths)
    for one in results:
        assert one.heatmap.shape == one.radiograph.shape
