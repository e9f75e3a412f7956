"""`erase_shortcuts`: what simple statistics show in features is out of the head's reach, in training and afterwards."""

import keras
import numpy as np
import pytest

from covidcxnet import load_model
from covidcxnet.models import create, split_head
from covidcxnet.preparation.stack_statistics import stack_statistics
from covidcxnet.training import train
from covidcxnet.training.erasure import erase, erasing_projection
from covidcxnet.training.fitting import Fitting
from enhancement.errors import InputError

rng = np.random.default_rng(0)
GROUPS = np.repeat(["a", "b"], 200)
DISEASE, PLACE = rng.normal(size=400), rng.normal(size=(400, 2))
MIXING = rng.normal(size=(2, 12))
FEATURES = PLACE @ MIXING + np.outer(DISEASE, rng.normal(size=12)) + 0.3 * rng.normal(size=(400, 12))
FEATURES[:200] += 5.0  # a whole group lies elsewhere
STATISTICS = PLACE @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(400, 4))


def told(features, values):
    """Share of the variance of values that features tell linearly within groups."""
    x, y = (array - np.where((GROUPS == "a")[:, None], array[:200].mean(0), array[200:].mean(0))
            for array in (features, np.asarray(values).reshape(400, -1)))  # fmt: skip
    return 1 - (y - x @ np.linalg.lstsq(x, y, rcond=1e-4)[0]).var() / y.var()


def test_what_statistics_tell_is_gone_and_the_rest_stays():
    projection = erasing_projection(FEATURES, STATISTICS, GROUPS, 2)
    left = FEATURES @ projection.T
    assert told(FEATURES, STATISTICS) > 0.9 and told(left, STATISTICS) < 0.1
    assert told(left, DISEASE) > 0.9
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-4)
    assert np.linalg.matrix_rank(projection, tol=1e-3) == 10


def test_more_directions_than_there_are_take_out_no_more():
    at_most = erasing_projection(FEATURES, STATISTICS, GROUPS, 4)
    np.testing.assert_array_equal(erasing_projection(FEATURES, STATISTICS, GROUPS, 40), at_most)
    np.testing.assert_array_equal(erasing_projection(FEATURES, STATISTICS, GROUPS, 0), np.eye(12, dtype="float32"))


def test_constant_features_and_statistics_do_no_harm():
    features, statistics = FEATURES.copy(), STATISTICS.copy()
    features[:, 3], statistics[:, 1] = 7.0, 0.0
    assert np.isfinite(erasing_projection(features, statistics, GROUPS, 2)).all()


def test_a_head_sees_projected_features_only():
    _, head = split_head(create("covid-cxnet", classes=("normal", "covid19"), size=32, blocks=(1, 1), growth=4))
    features = rng.normal(size=(50, head.input_shape[-1])).astype("float32")
    projection = erasing_projection(features, features[:, :2] + 0.1, np.zeros(50), 2)
    before = head.predict_on_batch(features @ projection.T)
    erase(head, projection)
    np.testing.assert_allclose(head.predict_on_batch(features), before, atol=1e-5)
    np.testing.assert_allclose(head.predict_on_batch(features @ projection.T), before, atol=1e-5)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_trained_head_still_sees_projected_features_only(tiny, monkeypatch, ema):
    kept = []

    def remembering(self, features):
        kept.append(projection(self, features))
        return kept[0]

    projection = Fitting._projection
    monkeypatch.setattr(Fitting, "_projection", remembering)
    options = {"blocks": (1, 1), "growth": 4, "hidden": [4]}
    run = train(tiny(model="covid-cxnet", options=options, trainable="head", erase_shortcuts=3, ema=ema, epochs=2))
    model = load_model(run.best_weights).model
    kernel = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense)).get_weights()[0]
    assert np.linalg.matrix_rank(kept[0], tol=1e-3) == len(kernel) - 3
    np.testing.assert_allclose(kept[0].T @ kernel, kernel, atol=1e-4)
    assert not np.allclose(kernel, 0)
    assert load_model(run.best_weights).metadata["training"]["erase_shortcuts"] == 3


def test_statistics_of_stacks_are_those_of_the_radiographs_plane(trained):
    from covidcxnet.datasets.shortcuts import shortcuts

    rows = trained.rows("train")
    stacks = trained.store.read(rows)  # raw, clahe
    found = stack_statistics(trained.store, rows)
    np.testing.assert_array_equal(found, [shortcuts(np.ascontiguousarray(stack[..., 0])) for stack in stacks])


@pytest.mark.parametrize("values", [{"erase_shortcuts": 3}, {"erase_shortcuts": -1, "trainable": "head"}])
def test_it_needs_a_head_on_features(tiny, values):
    with pytest.raises(InputError, match=r"erase_shortcuts: .*with trainable head"):
        tiny(**values)
