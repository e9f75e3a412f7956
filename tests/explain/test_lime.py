"""LIME: seeded, suited to gray radiographs, and equal to the plain package where they do the same."""

from functools import partial

import cv2
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import spearmanr

from covidcxnet.explain.lime import content_of, explain_lime, lung_gray, superpixels
from enhancement.errors import InputError

SIZE = 48


def _stack():
    """A smooth random stack with a padded border left and right."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(30, 226, (8, 8, 3)).astype("uint8"), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    image = np.maximum(image, 1)
    image[:, :6] = image[:, -6:] = 0
    return image


def _upper_left(stacks):
    """Two columns whose second rises with how much of the upper left still looks as it did."""
    part = stacks[:, 4:20, 8:24].astype("float32")
    same = (part == _stack()[4:20, 8:24]).all(-1).mean((1, 2))
    return np.stack([1 - same, same], axis=1)


def _explain(predict=_upper_left, stack=None, **options):
    stack = _stack() if stack is None else stack
    return explain_lime(predict, stack, **{"samples": 200, "segments": 20, **options})


def test_superpixels_that_carry_the_probability_get_the_weight_and_none_where_it_never_changes():
    explained = _explain()  # the predicted class, by default, and its seed
    same = _explain(target=1, seed=0)
    np.testing.assert_array_equal(explained.weights, same.weights)
    assert explained.target == 1 and explained.score == same.score
    np.testing.assert_allclose(explained.probabilities, [0, 1])
    np.testing.assert_allclose(_explain(target=0).weights, -same.weights, atol=1e-6)
    assert np.abs(explained.weights - _explain(seed=4).weights).max() > 0
    inside = np.zeros((SIZE, SIZE), bool)
    inside[4:20, 8:24] = True
    assert inside[explained.weights == explained.weights.max()].mean() > 0.5
    assert explained.weights[inside].mean() > 5 * np.abs(explained.weights[30:, 8:40]).mean()
    assert explained.score > 0.9
    constant = _explain(lambda stacks: np.full((len(stacks), 2), 0.5))
    assert (constant.weights == 0).all() and np.isfinite(constant.score)
    rng = np.random.default_rng(0)
    rounding = _explain(lambda stacks: 0.5 + rng.normal(0, 1e-6, (len(stacks), 2)))
    assert (rounding.weights == 0).all() and rounding.score == 0, "noise is no heat"


def test_weights_are_those_of_the_plain_package():
    from lime.lime_image import LimeImageExplainer

    stack = _stack()[:, 6:-6]
    ours = explain_lime(_rows, stack, 1, samples=120, segments=16, fill=100, seed=5, batch_size=16)
    explainer = LimeImageExplainer(feature_selection="none", random_state=5)
    settings = {"labels": (1,), "top_labels": None, "hide_color": 100, "num_samples": 120, "random_seed": 5}
    plain = explainer.explain_instance(stack, _rows, segmentation_fn=lambda image: ours.segments, **settings)
    expected = np.zeros_like(ours.weights)
    for number, weight in plain.local_exp[1]:
        expected[ours.segments == number] = weight
    np.testing.assert_allclose(ours.weights, expected, atol=1e-6)
    assert ours.score == pytest.approx(plain.score)


def _rows(stacks):
    """A smooth two-column function of the whole stack."""
    value = 1 / (1 + np.exp(-(np.asarray(stacks)[:, :20].mean((1, 2, 3)) - 110) / 10))
    return np.stack([1 - value, value], axis=1)


def test_padding_is_never_touched_hiding_is_one_gray_a_plane_and_batches_are_full():
    batches = []
    predict = lambda stacks: batches.append(stacks) or _upper_left(stacks)  # noqa: E731
    result = _explain(predict, samples=100, batch_size=16, fill=(10, 20, 30))
    assert [len(stacks) for stacks in batches] == [16] * 6 + [4]
    every = np.concatenate(batches)
    assert every.dtype == np.uint8
    assert (every[:, :, :6] == 0).all() and (every[:, :, -6:] == 0).all()
    np.testing.assert_array_equal(every[0], _stack())
    changed = (every != _stack()).any(-1)
    assert changed.any() and (every[changed] == [10, 20, 30]).all()
    assert (result.weights[:, :6] == 0).all() and (result.segments[:, :6] == -1).all()


def test_superpixels_are_as_many_as_wished_for_connected_and_follow_content_of_any_shape():
    content = content_of(_stack())
    numbers = superpixels(_stack()[..., 0], 24, content)
    assert 16 <= numbers.max() + 1 <= 32
    assert ((numbers == -1) == ~content).all()
    assert set(np.unique(numbers)) == set(range(-1, numbers.max() + 1))
    assert all(ndimage.label(numbers == n)[1] == 1 for n in range(numbers.max() + 1))
    content = np.zeros((SIZE, SIZE), bool)
    content[5:40, 10:20] = content[8:40, 28:40] = True
    numbers = superpixels(_stack()[..., 0], 12, content)
    assert ((numbers >= 0) == content).all() and numbers.max() >= 5
    # a constant image is divided too
    assert 4 <= superpixels(np.full((40, 40), 128, "uint8"), 9).max() + 1 <= 16


def test_the_gray_that_hides_is_that_of_aerated_lung():
    stack = np.full((100, 100, 2), (200, 180), "uint8")
    stack[30:70, 25:45] = stack[30:70, 55:75] = (60, 40)
    stack[:12] = 0
    np.testing.assert_array_equal(lung_gray(stack, np.ones((100, 100), bool)), [60, 40])
    np.testing.assert_array_equal(lung_gray(np.zeros((8, 8, 3), "uint8")), [0, 0, 0])
    np.testing.assert_array_equal(lung_gray(np.full((1, 1, 1), 7, "uint8")), [7])
    assert content_of(np.zeros((8, 8, 3), "uint8")).all()


def test_auto_stops_where_the_ranking_is_stable_with_a_map_like_that_of_all_samples():
    def noisy(stacks, noise):
        """Part of each third of the rows that is as it was, the lower the less it counts; noise from the pixels."""
        same = (stacks == _stack()).all(-1).reshape(len(stacks), 6, -1).mean(2) @ np.linspace(0.3, 0.03, 6)
        return np.stack([1 - same, same + noise * np.sin(1e3 * same)], axis=1)

    used = []
    for noise in (0.01, 0.2):
        predict = partial(noisy, noise=noise)
        auto, full = (_explain(predict, target=1, samples=n) for n in ("auto", 1000))
        weights = [[e.weights[e.segments == k][0] for k in range(full.segments.max() + 1)] for e in (auto, full)]
        assert spearmanr(*weights).statistic >= 0.95 and full.samples == 1000
        used.append(auto.samples)
    assert used[0] < used[1] <= 1000, used


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("target", 2, "target 2"),
        ("target", -1, "target -1"),
        ("samples", 3, "samples=3"),
        ("samples", "all", "samples=all given, auto or 10"),
        ("segments", 1, "segments=1"),
        ("batch_size", 0, "batch_size=0"),
        ("fill", 300, "fill=300"),
        ("fill", float("nan"), "fill=nan"),
        ("segments", 5000, "pixels of content can't hold 5000"),
        ("predict", lambda stacks: np.zeros((len(stacks), 1)), r"\[n, classes\]"),
        ("stack", _stack().astype("float32"), "uint8"),
    ],
)
def test_what_is_out_of_range_or_of_another_shape_is_refused(option, value, message):
    with pytest.raises(InputError, match=message):
        _explain(**{option: value})
