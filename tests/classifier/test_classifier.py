"""Classifier: one result each, in order, whatever is given; probabilities that fit the model; heatmaps in place."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import h5py
import keras
import numpy as np
import pytest
from PIL import Image

import weights
from covidcxnet.classifier import Classifier
from covidcxnet.preparation import pipeline
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.verdict import Verdict

SIZE = 32
SETTINGS = InputSettings(size=SIZE)


def tiny_model(outputs=1, size=SIZE, channels=3, seed=0):
    stack = keras.Input((size, size, channels))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="maps")(keras.ops.divide(stack, 255.0))
    x = keras.layers.GlobalAveragePooling2D()(x)
    output = keras.layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax")(x)
    model = keras.Model(stack, output, name="tiny")
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 1, w.shape) for w in model.get_weights()])
    return model


def small_classifier(outputs=1, settings=SETTINGS, segmenter=None, **metadata):
    """`segmenter` is one, or what the metadata say of it."""
    classes = ["normal", "covid19"] if outputs == 1 else ["normal", "pneumonia", "covid19"]
    metadata = {"classes": classes, "input": settings.to_dict(), **metadata}
    if isinstance(segmenter, dict):
        metadata["segmenter"], segmenter = segmenter, None
    return Classifier(tiny_model(outputs), metadata, segmenter=segmenter)


def noise(seed, height=50, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype("uint8")


def noise_files(folder, count=5):
    paths = [folder / f"{n}.png" for n in range(count)]
    for n, path in enumerate(paths):
        cv2.imwrite(str(path), noise(n, 40 + n))
    return paths


class Boxes:
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


@pytest.fixture(autouse=True)
def no_released_segmenter(monkeypatch):
    """Results must not depend on which weights this installation carries."""

    def released(name):
        raise weights.WeightsError(f"no released weights are named {name!r}")

    monkeypatch.setattr("weights.lookup.released", released)


@pytest.fixture(scope="module")
def classifier():
    return small_classifier()


def test_predict_gives_one_result_each_in_the_order_given_whether_files_arrays_or_a_folder(tmp_path, classifier):
    paths = noise_files(tmp_path)
    forward, backward = classifier.predict(paths), classifier.predict(paths[::-1], batch_size=2)
    assert [prediction.path for prediction in forward] == paths
    for prediction, other in zip(forward, backward[::-1], strict=True):
        assert prediction.path == other.path
        assert prediction.probabilities == pytest.approx(other.probabilities, abs=1e-6)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.get)
        assert prediction.probability == prediction.probabilities[prediction.label]
        assert prediction.error is None and prediction.lungs is None
    stack = pipeline.prepare_image(noise(0, 40), None, None, SETTINGS).stack
    expected = classifier.model.predict(stack[None].astype("float32"), verbose=0)[0, 0]
    assert forward[0].probabilities["covid19"] == pytest.approx(expected, abs=1e-5)
    by_array = classifier.predict([noise(n, 40 + n) for n in range(5)])
    assert [p.probabilities for p in forward] == [p.probabilities for p in by_array]
    assert [p.path for p in by_array] == [None] * 5 and [p.path for p in classifier.predict(tmp_path)] == paths
    assert len(classifier.predict(noise(0))) == len(classifier.predict(str(paths[0]))) == 1
    assert classifier.predict([]) == []
    same = (Image.open(paths[0]), noise(0, 40) / 255, noise(0, 40)[..., None], str(tmp_path / "0*.png"))
    assert [classifier.predict(given)[0].probabilities for given in same] == [forward[0].probabilities] * len(same)
    batch = classifier.predict(np.stack([noise(n) for n in range(5)]), batch_size=2)
    assert batch.probabilities.shape == (5, 2) and batch[1:].classes == classifier.classes
    np.testing.assert_allclose(batch.probabilities, classifier.predict_proba([noise(n) for n in range(5)]), atol=1e-6)


def test_results_are_a_table_and_show_themselves_whatever_they_lack(tmp_path, classifier):
    (path,) = noise_files(tmp_path, 1)
    bad = tmp_path / "<b>bad.png"
    bad.write_bytes(b"no image")
    results = classifier.predict([bad, path])
    table = results.to_frame()
    assert [c for c in table if c.startswith("probability_")] == ["probability_normal", "probability_covid19"]
    empty = table[["notes", "lungs_reasons", "error"]].loc[1]
    assert all(value is None or value for value in empty), "a missing text is None, never empty"
    assert table["error"].notna().tolist() == [True, False] and table.loc[1, "file"] == str(path)
    assert np.isnan(results.probabilities[0]).all() and results.probabilities[1].sum() == pytest.approx(1)
    assert classifier.predict([]).to_frame().columns.tolist() == table.columns.tolist()
    assert repr(results[1]).startswith("Prediction('0.png', '") and "error=" in repr(results)
    doubted = replace(results[1], notes=("image: in colour",))
    assert repr(doubted) == f"{repr(replace(doubted, notes=()))[:-1]} (!))", "marked as in tables"
    best = type(classifier)(classifier.model, classifier.metadata, tmp_path / "first-run" / "best.weights.h5")
    assert repr(best).startswith("Classifier('first-run', ")
    for shown in (classifier, results, *results):
        assert "<table" in shown._repr_html_() and "<b>bad" not in shown._repr_html_() and len(repr(shown)) < 200
    broken = object.__new__(type(classifier))
    assert broken._repr_html_() is None and broken._repr_png_() is None


def test_a_file_that_cannot_be_read_has_an_error_and_the_others_do_not(tmp_path, classifier):
    paths = noise_files(tmp_path, 4)
    whole = classifier.predict(paths)
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    given = [paths[0], paths[1], tmp_path / "missing.png", *paths[2:]]
    results = classifier.predict(given, batch_size=2)
    assert [p.error is None for p in results] == [True, False, False, True, True]
    assert results[1].label is None and results[1].probabilities == {} and results[1].probability is None
    assert [results[n].probabilities for n in (0, 3, 4)] == [whole[n].probabilities for n in (0, 2, 3)]
    # many of them do not pile up
    sizes = [len(items) for items, _ in classifier.batches([paths[1]] * 30, batch_size=2)]
    assert sum(sizes) == 30 and max(sizes) <= 8


def test_only_as_much_is_read_as_is_wanted(tmp_path, monkeypatch, classifier):
    reads, read = [], pipeline.read_radiograph
    monkeypatch.setattr(
        pipeline, "read_radiograph", lambda path, **options: reads.append(path) or read(path, **options)
    )
    # what is read ahead, in threads, does not grow with the number of files
    next(classifier.iter_predict(noise_files(tmp_path, 40), batch_size=2))
    assert 1 <= len(reads) <= 10


@pytest.mark.parametrize("outputs", [1, 3])
def test_predict_stacks_has_one_column_a_class_and_does_not_depend_on_the_batch(outputs):
    classifier = small_classifier(outputs)
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
    classifier = small_classifier()
    model, traces = classifier.model, []

    class Counting:
        input_shape, output_shape = model.input_shape, model.output_shape

        def __call__(self, stacks, training):
            traces.append(stacks.shape)
            return model(stacks, training=training)

    classifier.model = Counting()
    for count in (1, 5, 8, 3):
        classifier.predict_stacks(np.zeros((count, SIZE, SIZE, 3), "uint8"), 4)
    assert len(traces) == 1


def test_stores_and_hdf5_data_sets_are_read_in_parts_and_in_order(tmp_path, classifier):
    stacks, sizes = np.random.default_rng(1).integers(0, 256, (600, SIZE, SIZE, 3)).astype("uint8"), []
    expected = classifier.predict_stacks(stacks, 64)
    store = SimpleNamespace(read=lambda rows: sizes.append(len(rows)) or stacks[rows])
    chances = classifier.predict_rows(store, np.arange(600)[::-1], 64)
    np.testing.assert_allclose(chances[::-1], expected, atol=1e-6)
    assert max(sizes) <= 256 and classifier.predict_rows(store, []).shape == (0, 2)
    with h5py.File(tmp_path / "stacks.h5", "w") as file:
        rows = classifier.predict_stacks(file.create_dataset("stacks", data=stacks[:5]), 2)
    np.testing.assert_allclose(rows, expected[:5], atol=1e-6)


def test_what_is_no_stack_and_no_radiograph_is_refused(classifier):
    stacks = np.zeros((2, SIZE, SIZE, 3), "uint8")
    for wrong in (stacks.astype("float32"), stacks[:, 2:], stacks[0], [[1, 2], [3, 4]]):
        with pytest.raises(InputError, match=r"uint8 \[n, 32, 32, 3\] expected"):
            classifier.predict_stacks(wrong)
    for wrong in (np.zeros((2, 8, 8, 3), "uint8"), [noise(0), noise(0) > 3], 7):
        for call in (classifier.predict, classifier.explain, classifier.predict_proba):
            with pytest.raises(InputError, match="given"):
                call(wrong)


def test_a_damaged_model_is_refused_and_gives_no_nan():
    classifier = small_classifier()  # not the shared one
    classifier.model.set_weights([np.full(w.shape, np.nan) for w in classifier.model.get_weights()])
    for call in (classifier.predict, classifier.explain):
        with pytest.raises(InputError, match="not finite"):
            call(noise(0))


@pytest.mark.parametrize(
    ("outputs", "metadata", "message"),
    [
        (1, {"classes": ["a", "b", "c"]}, "do not fit a model of 1"),
        (3, {"classes": ["a", "b"]}, "do not fit a model of 3"),
        (1, {"classes": ["a", "a"]}, "do not fit"),
        (1, {}, "do not fit"),
        (1, {"classes": ["a", "b"], "input": {"size": 64}}, "model takes"),
        (1, {"classes": ["a", "b"], "input": {"size": 32, "channels": ["raw"]}}, "model takes"),
        (1, {"classes": ["a", "b"], "input": {"size": 32, "sise": 1}}, "sise"),
    ],
)
def test_metadata_that_do_not_fit_the_model_are_refused(outputs, metadata, message):
    with pytest.raises(InputError, match=message):
        Classifier(tiny_model(outputs), metadata)


def test_findings_are_called_from_their_thresholds_on():
    options = {"architecture": {"options": {"multilabel": True}}, "thresholds": {"normal": 0.0, "covid19": 1.0}}
    classifier = small_classifier(3, **options)
    assert classifier.task == "independent" and classifier.thresholds.tolist() == [0.0, 0.5, 1.0]
    (prediction,) = classifier.predict(noise(0))
    called = {n for n, cut in zip(classifier.classes, (0, 0.5, 1), strict=True) if prediction.probabilities[n] >= cut}
    assert set(prediction.findings) == called and prediction.label.split("|")[0] == prediction.findings[0]
    assert prediction.probability == max(prediction.probabilities[name] for name in called)


def test_a_region_needs_the_segmenter_of_the_training(monkeypatch):
    settings = InputSettings(size=SIZE, region="crop", segmenter="lung-unet")
    with pytest.raises(InputError, match="lung-unet"):
        small_classifier(settings=settings).predict(noise(0))
    monkeypatch.setattr("covidcxnet.classifier.LungSegmenter", lambda name, **how: Boxes())
    assert small_classifier(settings=settings).predict(noise(0))[0].lungs.trusted
    assert small_classifier(settings=settings, segmenter={"sha256": "0" * 64}).predict(noise(0))[0].error is None
    metadata = {"classes": ["a", "b"], "input": settings.to_dict(), "segmenter": {"sha256": "1" * 64}}
    with pytest.raises(InputError, match="SHA-256"):
        Classifier(tiny_model(), metadata).predict(noise(0))
    assert Classifier(tiny_model(), metadata, segmenter=Boxes()).predict(noise(0))[0].error is None


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


def test_a_crop_is_explained_where_it_was_cut_and_lungs_that_are_not_trusted_are_not_drawn():
    classifier = small_classifier(settings=InputSettings(size=SIZE, region="crop", margin=0.0), segmenter=Boxes())
    light, dark = classifier.explain([noise(0), np.full((50, 40), 5, "uint8")])
    heat = light.heatmap
    assert (heat[:10] == 0).all() and (heat[30:] == 0).all() and (heat[:, 34:] == 0).all()
    assert light.prediction.lungs.trusted and light.prediction.to_dict()["lungs"]["trusted"] is True
    assert dark.lungs is None and not dark.prediction.lungs.trusted and dark.prediction.label is not None
    assert any("too dark" in line for line in dark.caption)


def test_cam_and_gradcam_explain_the_target_and_are_alike_where_the_head_is_linear():
    """The ReLU and the division by the maximum take away what theory lets differ: a factor of the map's places."""
    classifier = small_classifier(3)
    stack = pipeline.prepare_image(noise(0), None, None, SETTINGS).stack
    for index, label in ((0, "normal"), (2, "covid19")):
        cam, gradcam = (classifier.explain(noise(0), method, target=label)[0] for method in ("cam", "gradcam"))
        assert gradcam.target == label and cam.method == "cam" and cam.caption[1].startswith(f"CAM for {label}")
        np.testing.assert_allclose(gradcam.map, classifier.gradcam(stack[None], index)[0], atol=1e-6)
        np.testing.assert_allclose(cam.map, gradcam.map, atol=1e-5)
        np.testing.assert_allclose(cam.heatmap, gradcam.heatmap, atol=1e-4)
        assert cam.prediction.probabilities == pytest.approx(gradcam.prediction.probabilities, abs=1e-6)
    assert cam.overlay().shape == (50, 40, 3) and cam.panel().axes[1].get_title() == "CAM"


def test_cam_says_where_it_folds_dense_layers_and_of_another_head_is_refused_before_a_file_is_read(tmp_path):
    stack = keras.Input((SIZE, SIZE, 3))
    maps = keras.layers.Conv2D(4, 3, name="maps")(stack)
    metadata = {"classes": ["normal", "covid19"], "input": SETTINGS.to_dict()}
    models = []
    for kind in (keras.layers.GlobalMaxPooling2D, keras.layers.Flatten):
        x = keras.layers.Dense(4, activation="relu")(kind()(maps))
        models.append(keras.Model(stack, keras.layers.Dense(1, activation="sigmoid")(x), name="hidden"))
    deep, classifier = (Classifier(model, metadata) for model in models)
    line = deep.explain(noise(0), "cam")[0].caption[1]
    assert "(dense layers folded at their active units, of the maps' maxima)" in line
    with pytest.raises(InputError, match=r"not global pooling and dense layers .*; use Grad-CAM \(gradcam\)"):
        classifier.iter_explain(tmp_path / "missing.png", "cam")
    assert classifier.explain(noise(0), "gradcam")[0].error is None


def test_whoever_waits_for_lime_learns_how_long(capsys, monkeypatch, classifier):
    classifier.explain(noise(0), "lime", samples=40, segments=8)
    assert not capsys.readouterr().err, "nobody waits"
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    monkeypatch.setattr("enhancement.progress.FIRST", 0.0)
    classifier.explain(noise(0), "lime", samples=40, segments=8)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "LIME: 40 predictions for each radiograph (fewer with --samples) ..."
    assert second.startswith("LIME: 16 of 40 predictions, ") and second.endswith(" left")


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
