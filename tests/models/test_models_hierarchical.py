"""The hierarchical model is two whole COVID-CXNets whose probabilities multiply; logistic regression is one sum."""

import numpy as np
import pytest

from covidcxnet.explain.cam import GradCAM
from covidcxnet.models import MODELS, create, feature_layer, freeze
from covidcxnet.models.counts import flops
from covidcxnet.models.finetuning import transfer
from covidcxnet.models.hierarchical import level_model
from enhancement.errors import InputError

NAME = "covid-cxnet-hierarchical"
CLASSES = ("normal", "cap", "covid19")
TINY = {"size": 32, "blocks": (1, 1), "growth": 4}


@pytest.fixture(scope="module")
def tiny():
    return create(NAME, **TINY)


@pytest.fixture(scope="module")
def stacks():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def single():
    return create("covid-cxnet", **TINY)


def test_it_has_twice_the_layers_parameters_and_operations_of_covid_cxnet(tiny, single):
    spec, published = MODELS[NAME], MODELS["covid-cxnet"]
    assert (spec.parameters, spec.flops) == (14_095_530, 23_127_695_400)
    assert (spec.parameters, spec.flops) == (2 * published.parameters, 2 * published.flops)
    assert (tiny.count_params(), flops(tiny)) == (2 * single.count_params(), 2 * flops(single))
    level = [layer for layer in tiny.layers if layer.name.startswith("level1_")]
    assert len(level) == len([layer for layer in single.layers if layer.name != "stack"])


def test_its_three_probabilities_are_products_of_both_levels_which_grad_cam_explains(tiny, stacks):
    first, second = (level_model(tiny, level) for level in (1, 2))
    assert 2 * first.count_params() == tiny.count_params()
    assert {id(w) for w in first.weights} < {id(w) for w in tiny.weights}
    a, b = (np.asarray(level(stacks))[:, 0] for level in (first, second))
    explained = GradCAM(tiny).explain(stacks, 2)
    for probabilities in (np.asarray(tiny(stacks)), explained.probabilities):
        np.testing.assert_allclose(probabilities, np.stack([1 - a, a * (1 - b), a * b], 1), atol=1e-6)
    assert feature_layer(tiny) == "features" and len(explained.maps) == 3 and np.isfinite(explained.maps).all()


def test_both_levels_begin_as_a_covid_cxnet_but_for_the_output(tiny, single):
    loaded = transfer(single, tiny, "a file")
    assert {"level1_conv1_conv", "level2_fc"} <= set(loaded)
    assert not {"level1_pred", "level2_pred"} & set(loaded)
    for name in ("level1_bn", "level1_fc", "level2_bn", "level2_fc"):
        expected = single.get_layer(name.partition("_")[2]).get_weights()[0]
        np.testing.assert_array_equal(tiny.get_layer(name).get_weights()[0], expected)


@pytest.mark.parametrize("depth", ["head", "conv3"])
def test_a_depth_applies_to_each_level(tiny, depth):
    trained, head = freeze(tiny, depth), {"fc", "pred"}
    freeze(tiny, "all")
    for prefix in ("level1_", "level2_"):
        names = {name.removeprefix(prefix) for name in trained if name.startswith(prefix)}
        assert head <= names and (depth == "head") == (names == head)
        assert all(name in head or name.startswith("conv3") for name in names)


def test_stages_tell_normal_from_pneumonia_then_the_two_pneumonias_apart(tiny, single, stacks):
    first, second = MODELS[NAME].stages
    labels = np.array([0, 1, 2, 0])
    assert first.targets(labels).tolist() == [0, 1, 1, 0] and second.targets(labels).tolist() == [-1, 0, 1, -1]
    assert first.names(CLASSES) == ("normal", "pneumonia") and second.names(CLASSES) == ("cap", "covid19")
    for stage in (first, second):
        backbone, head = stage.split(tiny)
        np.testing.assert_allclose(head(backbone(stacks)), stage.model(tiny)(stacks), atol=1e-6)
    assert not MODELS["covid-cxnet"].stages


def test_logistic_regression_is_solved_to_what_scikit_learn_finds():
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    targets, weights = (images[:, 2, 2] > 120).astype("float32"), random.uniform(0.5, 2, 30)
    model, spec = create("logistic-regression", size=8), MODELS["logistic-regression"]
    steps, warning = spec.solve(model, [images[:20], images[20:]], targets, weights, C=0.1)
    pixels = (images.reshape(30, -1) - 127.5) / 127.5
    expected = LogisticRegression(C=0.1, max_iter=1000).fit(pixels, targets[:, 0], sample_weight=weights)
    assert steps > 1 and not warning
    np.testing.assert_allclose(model(images)[:, 0], expected.predict_proba(pixels)[:, 1], atol=1e-4)
    assert "max_iter above 1" in spec.solve(model, [images], targets, C=100.0, max_iter=1)[1]
    with pytest.raises(InputError, match="too many to be solved at once"):
        spec.solve(model, [], np.zeros((20_000_000, 1)))


def test_the_map_of_logistic_regression_is_what_each_pixel_adds_to_the_score(stacks):
    whole, spec = create("logistic-regression"), MODELS["logistic-regression"]
    assert (whole.count_params(), flops(whole)) == (spec.parameters, spec.flops) and spec.parameters == 64 * 64 + 1
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
