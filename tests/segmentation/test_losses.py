"""Losses count what is known and nothing else."""

import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.losses import LOSSES, loss_named

numbers = np.random.default_rng(0)


def masks(*shape):
    return (numbers.random(shape) > 0.5).astype(np.float32)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_maps_change_nothing_and_nothing_known_costs_nothing(name):
    loss = loss_named(name)
    target, soft = masks(3, 8, 8, 1), numbers.random((3, 8, 8, 1)).astype(np.float32)
    unknown = np.concatenate([target, np.full_like(target, -1)], -1)
    both = np.concatenate([soft, numbers.random(soft.shape).astype(np.float32)], -1)
    np.testing.assert_allclose(loss(unknown, both), loss(target, soft), rtol=1e-6)
    np.testing.assert_array_equal(loss(np.full((2, 8, 8, 2), -1.0), masks(2, 8, 8, 2)), [0, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_map_costs_nothing_and_a_wrong_one_the_most(name):
    target = masks(2, 8, 8, 2)
    half = np.full_like(target, 0.5)
    right, middling, wrong = (np.asarray(loss_named(name)(target, p)) for p in (target, half, 1 - target))
    assert (right < 1e-5).all() and (right < middling).all() and (middling < wrong).all()


def test_losses_equal_their_formulas_and_an_unknown_one_is_refused():
    target, soft = masks(1, 8, 8, 1), numbers.random((1, 8, 8, 1)).astype(np.float32)
    dice = 1 - (2 * (target * soft).sum() + 1) / (target.sum() + soft.sum() + 1)
    entropy = -np.log(np.where(target > 0, soft, 1 - soft)).mean()
    values = [loss_named(name)(target, soft)[0] for name in ("dice", "bce", "combined")]
    np.testing.assert_allclose(values, [dice, entropy, dice + entropy], rtol=1e-5)
    with pytest.raises(InputError, match="combined"):
        loss_named("focal")


def test_no_gradient_reaches_an_unknown_map():
    import tensorflow as tf

    soft = tf.Variable(numbers.random((1, 4, 4, 2)).astype(np.float32))
    target = masks(1, 4, 4, 2)
    target[..., 1] = -1
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss_named("combined")(target, soft))
    gradient = tape.gradient(value, soft).numpy()
    assert (gradient[..., 1] == 0).all() and (gradient[..., 0] != 0).all()
