"""The mean of several trainings' weights: what is averaged, how batch norm is measured anew, and what is refused."""

import json

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from covidcxnet import load_model
from covidcxnet.cli.average import main
from covidcxnet.models import create
from covidcxnet.training import Run
from covidcxnet.training.average import average_weights, measure_moments
from enhancement.errors import InputError
from segmentation.weight_files import read_metadata, save_weights


class Stacks:
    """A store of noise that remembers what was read."""

    path = "noise.h5"

    def __init__(self, count):
        self.stacks = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 2)).astype("uint8")
        self.asked = []

    def read(self, rows):
        self.asked.append(list(rows))
        return self.stacks[rows]


def other(trained, folder, name="other", **changes):
    """A file of the run's architecture with random weights, or of another."""
    facts = read_metadata(trained.best_weights) | changes
    model = create(facts["architecture"]["name"], classes=facts["classes"], **facts["architecture"]["options"])
    return save_weights(model, folder / f"{name}.weights.h5", facts)


def layers(path):
    """Arrays of all layers but batch norm, by name; and the output's names."""
    model = load_model(path).model
    return {
        f"{layer.name} {place}": array
        for layer in model.layers
        if not isinstance(layer, keras.layers.BatchNormalization)
        for place, array in enumerate(layer.get_weights())
    }


def test_kernels_are_the_mean_and_the_file_says_of_what(trained, tmp_path):
    second = other(trained, tmp_path)
    made = layers(average_weights(trained.path, [second, trained.path], tmp_path / "mean.weights.h5"))
    one, two = layers(trained.path), layers(second)
    assert made.keys() == one.keys()
    for name in one:
        np.testing.assert_allclose(made[name], (2 * one[name] + two[name]) / 3, atol=1e-6, err_msg=name)
    told = read_metadata(tmp_path / "mean.weights.h5")
    assert [name.split(",")[0] for name in told["training"]["average"]] == ["trained", second.name, "trained"]
    assert "epoch" not in told["training"] and "run" not in told["training"]
    assert str(tmp_path) not in json.dumps(told)


def test_validation_figures_are_those_of_the_mean(trained, tmp_path):
    path = average_weights(trained.path, [other(trained, tmp_path)], tmp_path / "mean.weights.h5", batch_size=4)
    rows = trained.rows("validation")
    chance = load_model(path).predict_stacks(trained.store.read(rows))[:, 1]
    truth = trained.store.table["label"].to_numpy()[rows] == "covid19"
    figures = read_metadata(path)["training"]["figures"]
    assert figures["val_auroc"] == pytest.approx(roc_auc_score(truth, chance), abs=1e-5)
    assert "val_loss" not in figures


def test_the_output_of_other_classes_is_left_out(trained, tmp_path):
    second = other(trained, tmp_path, classes=["normal", "tuberculosis"])
    path = average_weights(trained.path, [second], tmp_path / "mean.weights.h5")
    made, one, two = layers(path), layers(trained.path), layers(second)
    assert {"pred 0", "pred 1"} < made.keys()
    for name in one:
        expected = one[name] if name.startswith("pred ") else (one[name] + two[name]) / 2
        np.testing.assert_allclose(made[name], expected, atol=1e-6, err_msg=name)
    assert read_metadata(path)["classes"] == ["normal", "covid19"]


@pytest.mark.parametrize("trainable", [True, False])
def test_moments_are_the_means_over_all_batches(trainable):
    store, rows = Stacks(20), np.arange(3, 17)
    norm = keras.layers.BatchNormalization(momentum=0.9)
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Rescaling(1 / 255), norm])
    norm.trainable = trainable
    gamma = norm.gamma.numpy() if hasattr(norm.gamma, "numpy") else np.asarray(norm.gamma)
    measure_moments(model, store, rows, batch_size=5)
    assert [len(batch) for batch in store.asked] == [5, 5]  # the last four would count more than others
    assert len({row for batch in store.asked for row in batch} & set(rows.tolist())) == 10
    batches = [store.stacks[batch] / 255.0 for batch in store.asked]
    mean = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    variance = np.mean([batch.var(axis=(0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm.moving_mean), mean, rtol=1e-4)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm.moving_variance), variance, rtol=1e-4)
    assert norm.momentum == 0.9 and norm.trainable is trainable
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(norm.gamma), gamma)


def test_few_stacks_are_one_batch_and_one_is_refused():
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.BatchNormalization()])
    store = Stacks(5)
    measure_moments(model, store, np.arange(3), batch_size=32)
    assert [sorted(batch) for batch in store.asked] == [[0, 1, 2]]
    with pytest.raises(InputError, match=r"noise.h5: 1 training stacks"):
        measure_moments(model, store, np.arange(1))


def test_batch_norm_of_a_mean_is_measured_on_training_images(tmp_path, tiny):
    from covidcxnet.training import train

    options = {"blocks": (1, 1), "growth": 4, "hidden": [4]}
    run = train(tiny(model="covid-cxnet", options=options, epochs=1))
    path = average_weights(run.path, [other(run, tmp_path)], tmp_path / "mean.weights.h5")
    kept = load_model(path)
    norms = [layer for layer in kept.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    first = keras.Model(kept.model.inputs[0], norms[0].input)
    seen = keras.ops.convert_to_numpy(first(run.store.read(np.sort(run.rows("train"))).astype("float32")))
    measured = keras.ops.convert_to_numpy(norms[0].moving_mean)
    np.testing.assert_allclose(measured, seen.mean(axis=(0, 1, 2)), atol=1e-4)


def test_what_cannot_be_averaged_is_refused_and_nothing_is_written(trained, tmp_path):
    target = tmp_path / "mean.weights.h5"
    architecture = read_metadata(trained.best_weights)["architecture"]
    wide = {**architecture, "options": {**architecture["options"], "filters": [4, 8]}}
    deep = {**architecture, "options": {**architecture["options"], "filters": [4, 4, 4]}}
    with pytest.raises(InputError, match="nothing to average"):
        average_weights(trained.path, [], target)
    with pytest.raises(InputError, match=r"wide\.weights.h5: .*in the run"):
        average_weights(trained.path, [other(trained, tmp_path, "wide", architecture=wide)], target)
    with pytest.raises(InputError, match=r"deep\.weights.h5: .*one architecture"):
        average_weights(trained.path, [other(trained, tmp_path, "deep", architecture=deep)], target)
    with pytest.raises(InputError, match="batch_size: 1"):
        average_weights(trained.path, [trained.path], target, batch_size=1)
    with pytest.raises(InputError, match="new file"):
        average_weights(trained.path, [trained.path], tmp_path / "mean.h5")
    with pytest.raises(InputError, match="no such run folder"):
        average_weights(tmp_path / "none", [trained.path], target)
    assert not target.exists()


def test_the_command_says_whether_it_helped(trained, tmp_path, capsys):
    target = tmp_path / "mean.weights.h5"
    assert main([str(trained.path), str(other(trained, tmp_path)), "--out", str(target)]) == 0
    said = capsys.readouterr().out
    alone = read_metadata(Run(trained.path).best_weights)["training"]["figures"]["val_auroc"]
    assert f"of {trained.path} alone {alone:.4f}" in said and f"Weights: {target}" in said
    assert main([str(trained.path), str(trained.path), "--out", str(target)]) == 2
    assert "name a new file" in capsys.readouterr().err
