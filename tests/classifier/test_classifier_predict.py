"""Classifier: one result each, in order, whatever is given; probabilities that fit the model."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tiny_classifier import SETTINGS, SIZE, Boxes, noise, noise_files, small_classifier, tiny_model

from covidcxnet.classifier import Classifier
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError


def test_predict_gives_one_result_each_in_the_order_given(tmp_path):
    paths = noise_files(tmp_path)
    classifier = small_classifier()
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

    (path, *_) = noise_files(tmp_path, 1)
    classifier = small_classifier()
    stack = prepare_image(noise(0, 40), None, None, SETTINGS).stack
    expected = classifier.model.predict(stack[None].astype("float32"), verbose=0)[0, 0]
    assert classifier.predict(path)[0].probabilities["covid19"] == pytest.approx(expected, abs=1e-5)


def test_files_and_arrays_and_folders_are_one(tmp_path):
    paths = noise_files(tmp_path, 2)
    classifier = small_classifier()
    by_file, by_array = classifier.predict(paths), classifier.predict([noise(0, 40), noise(1, 41)])
    assert [one.probabilities for one in by_file] == [one.probabilities for one in by_array]
    assert [one.path for one in by_array] == [None, None]
    assert [one.path for one in classifier.predict(tmp_path)] == paths
    assert len(classifier.predict(noise(0))) == len(classifier.predict(str(paths[0]))) == 1
    assert classifier.predict([]) == []


def test_a_file_that_cannot_be_read_has_an_error_and_the_others_do_not(tmp_path):
    paths = noise_files(tmp_path, 4)
    whole = small_classifier().predict(paths)
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    given = [paths[0], paths[1], tmp_path / "missing.png", *paths[2:], noise(0).astype("float32")]
    results = small_classifier().predict(given, batch_size=2)
    assert [one.error is None for one in results] == [True, False, False, True, True, False]
    assert results[1].label is None and results[1].probabilities == {} and results[1].probability is None
    assert [results[n].probabilities for n in (0, 3, 4)] == [whole[n].probabilities for n in (0, 2, 3)]


def test_many_unreadable_files_do_not_pile_up(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    sizes = [len(items) for items, _ in small_classifier().batches([bad] * 30, batch_size=2)]
    assert sum(sizes) == 30 and max(sizes) <= 8
    assert all(one.error for one in small_classifier().predict([bad] * 9, batch_size=2))


def test_only_as_much_is_read_as_is_asked_for(tmp_path, monkeypatch):
    import enhancement

    reads = []
    original = enhancement.read_radiograph
    monkeypatch.setattr(enhancement, "read_radiograph", lambda path, **kw: reads.append(path) or original(path, **kw))
    results = small_classifier().iter_predict(noise_files(tmp_path, 12), batch_size=2)
    next(results)
    assert 1 <= len(reads) <= 4


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


def test_rows_of_a_store_are_read_in_parts_and_in_order():
    classifier, sizes = small_classifier(), []
    stacks = np.random.default_rng(0).integers(0, 256, (600, SIZE, SIZE, 3)).astype("uint8")
    store = SimpleNamespace(read=lambda rows: sizes.append(len(rows)) or stacks[rows])
    chances = classifier.predict_rows(store, np.arange(600)[::-1], 64)
    np.testing.assert_allclose(chances[::-1], classifier.predict_stacks(stacks, 64), atol=1e-6)
    assert max(sizes) <= 256 and classifier.predict_rows(store, []).shape == (0, 2)


def test_an_hdf5_data_set_of_stacks_is_read_in_batches(tmp_path):
    h5py = pytest.importorskip("h5py")
    stacks = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3)).astype("uint8")
    with h5py.File(tmp_path / "stacks.h5", "w") as file:
        data = file.create_dataset("stacks", data=stacks)
        rows = small_classifier().predict_stacks(data, 2)
    np.testing.assert_allclose(rows, small_classifier().predict_stacks(stacks, 2))


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
        small_classifier().predict_stacks(stacks)


def test_a_damaged_model_is_refused_and_gives_no_nan(tmp_path):
    classifier = small_classifier()
    classifier.model.set_weights([np.full(w.shape, np.nan) for w in classifier.model.get_weights()])
    for call in (classifier.predict, classifier.explain):
        with pytest.raises(InputError, match="not finite"):
            call(noise(0))


@pytest.mark.parametrize(
    ("model", "metadata", "message"),
    [
        (tiny_model(1), {"classes": ["a", "b", "c"]}, "3 classes|do not fit a model of 1"),
        (tiny_model(3), {"classes": ["a", "b"]}, "do not fit a model of 3"),
        (tiny_model(1), {"classes": ["a", "a"]}, "do not fit"),
        (tiny_model(1), {}, "do not fit"),
        (tiny_model(1), {"classes": ["a", "b"], "input": {"size": 64}}, "model takes"),
        (tiny_model(1), {"classes": ["a", "b"], "input": {"size": 32, "channels": ["raw"]}}, "model takes"),
        (tiny_model(1), {"classes": ["a", "b"], "input": {"size": 32, "sise": 1}}, "sise"),
    ],
)
def test_metadata_that_do_not_fit_the_model_are_refused(model, metadata, message):
    with pytest.raises(InputError, match=message):
        Classifier(model, metadata)


@pytest.mark.parametrize("files", [np.zeros((2, 8, 8), "uint8"), [1, 2], 7])
def test_what_is_no_radiograph_is_refused(files):
    with pytest.raises(InputError, match="given"):
        small_classifier().predict(files)


def test_lungs_carry_the_verdict_where_a_segmenter_is_at_hand():
    classifier = small_classifier(segmenter=Boxes())
    light, dark = classifier.predict([noise(0), np.full((50, 40), 5, "uint8")])
    assert light.lungs.trusted and not dark.lungs.trusted
    assert light.to_dict()["lungs"]["trusted"] is True
    assert dark.label is not None


def test_a_region_without_its_segmenter_is_refused_with_its_name():
    settings = InputSettings(size=SIZE, region="crop", segmenter="lung-unet")
    with pytest.raises(InputError, match="lung-unet"):
        small_classifier(settings=settings).predict(noise(0))


def test_a_region_with_another_segmenter_than_the_trainings_is_refused(monkeypatch):
    monkeypatch.setattr("covidcxnet.classifier.LungSegmenter", lambda name: Boxes())
    settings = InputSettings(size=SIZE, region="crop")
    good = small_classifier(settings=settings, segmenter=None)
    assert good.predict(noise(0))[0].lungs.trusted
    for recorded, fits in (("0" * 64, True), ("1" * 64, False)):
        metadata = {"classes": ["a", "b"], "input": settings.to_dict(), "segmenter": {"sha256": recorded}}
        classifier = Classifier(tiny_model(), metadata)
        if fits:
            assert classifier.predict(noise(0))[0].error is None
        else:
            with pytest.raises(InputError, match="SHA-256"):
                classifier.predict(noise(0))
            given = Classifier(tiny_model(), metadata, segmenter=Boxes())
            assert given.predict(noise(0))[0].error is None
