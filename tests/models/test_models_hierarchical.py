"""The hierarchical model is two whole COVID-CXNets whose probabilities multiply; logistic regression is one sum."""

import numpy as np
import pytest

from covidcxnet.explain.cam import GradCAM
from covidcxnet.models import MODELS, create, feature_layer, freeze
from covidcxnet.models.counts import flops
from covidcxnet.models.hierarchical import level_model
from covidcxnet.models.transfer import transfer
from enhancement.errors import InputError

NAME = "covid-cxnet-hierarchical"
TINY = {"size": 32, "blocks": (1, 1), "growth": 4}


@pytest.fixture(scope="module")
def tiny():
    return create(NAME, **TINY)


@pytest.fixture(scope="module")
def stacks():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_it_has_twice_the_parameters_and_operations_of_covid_cxnet():
    model, spec, one = create(NAME), MODELS[NAME], MODELS["covid-cxnet"]
    assert model.count_params() == spec.parameters == 14_095_530 == 2 * one.parameters
    assert flops(model) == spec.flops == 2 * one.flops
    assert len([layer for layer in model.layers if layer.name.startswith("level1_")]) == 430


def test_its_three_probabilities_are_products_of_both_levels(tiny, stacks):
    a, b = (np.asarray(level_model(tiny, level)(stacks))[:, 0] for level in (1, 2))
    np.testing.assert_allclose(np.asarray(tiny(stacks)), np.stack([1 - a, a * (1 - b), a * b], 1), atol=1e-6)


def test_a_level_runs_half_of_the_model_and_shares_its_weights(tiny):
    first = level_model(tiny, 1)
    assert not any(layer.name.startswith("level2_") for layer in first.layers)
    assert 2 * first.count_params() == tiny.count_params()
    assert {id(w) for w in first.weights} < {id(w) for w in tiny.weights}


def test_grad_cam_sees_both_networks(tiny, stacks):
    assert feature_layer(tiny) == "features"
    found = GradCAM(tiny).explain(stacks, 2)
    assert found.maps.shape[0] == 3 and np.isfinite(found.maps).all()
    np.testing.assert_allclose(found.probabilities, np.asarray(tiny(stacks)), atol=1e-6)


def test_both_levels_begin_as_a_covid_cxnet_but_for_the_output(tiny, stacks):
    source, model = create("covid-cxnet", **TINY), create(NAME, **TINY)
    loaded = transfer(source, model, "a file")
    assert {"level1_conv1_conv", "level2_fc"} <= set(loaded)
    assert not {"level1_pred", "level2_pred"} & set(loaded)
    for prefix in ("level1_", "level2_"):
        for ours, theirs in (("bn", "bn"), ("fc", "fc")):
            one = model.get_layer(prefix + ours).get_weights()[0]
            np.testing.assert_array_equal(one, source.get_layer(theirs).get_weights()[0])


@pytest.mark.parametrize(("depth", "names"), [("head", {"fc", "pred"}), ("conv3", {"fc", "pred"})])
def test_a_depth_goes_for_each_level(depth, names):
    trained = freeze(create(NAME, **TINY), depth)
    for prefix in ("level1_", "level2_"):
        own = {name.removeprefix(prefix) for name in trained if name.startswith(prefix)}
        assert names <= own and (depth == "head") == (own == names)
        assert all(name in names or name.startswith("conv3") for name in own)


@pytest.mark.parametrize("classes", [("normal", "covid19"), ("a", "b", "c", "d")])
def test_other_than_three_classes_are_refused(classes):
    with pytest.raises(InputError, match="three classes"):
        create(NAME, classes=classes, **TINY)


def test_logistic_regression_has_one_weight_a_pixel_and_an_intercept():
    model = create("logistic-regression")
    assert model.count_params() == MODELS["logistic-regression"].parameters == 64 * 64 + 1
    assert flops(model) == MODELS["logistic-regression"].flops


def test_the_map_of_logistic_regression_is_what_each_pixel_adds_to_the_score(stacks):
    model = create("logistic-regression", size=32, channels=3, classes=("a", "b", "c"))
    kernel = np.random.default_rng(1).normal(size=(32, 32, 3, 3)).astype("float32") / 100
    model.get_layer("evidence").set_weights([kernel, np.zeros(3, "float32")])
    pixels = (stacks.astype("float32") - 127.5) / 127.5
    scores = np.einsum("nhwc,hwck->nk", pixels, kernel)
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(model(stacks)), expected, rtol=1e-4)
    evidence = np.maximum(np.einsum("nhwc,hwck->nhwk", pixels, kernel)[..., 1], 0)
    found = GradCAM(model)(stacks, 1)
    np.testing.assert_allclose(found, evidence / evidence.max(axis=(1, 2), keepdims=True), atol=1e-4)


@pytest.mark.parametrize("options", [{"C": 0}, {"C": "x"}, {"max_iter": 0}, {"hidden": (3,)}])
def test_options_that_logistic_regression_cannot_have_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        create("logistic-regression", **options)


def test_findings_have_a_sigmoid_each_were_there_only_two():
    model = create("small-cnn", size=32, filters=(4, 4), classes=("mass", "effusion"), multilabel=True)
    assert model.output_shape == (None, 2) and model.layers[-1].activation.__name__ == "sigmoid"
    with pytest.raises(InputError, match="multilabel"):
        create(NAME, multilabel=True, **TINY)
