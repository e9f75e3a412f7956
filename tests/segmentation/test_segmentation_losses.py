"""Losses and metrics count what is known and nothing else."""

import keras
import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.losses import DiceScore, IoU, bce_loss, combined_loss, dice_loss, loss_named

numbers = np.random.default_rng(0)


def masks(*shape):
    return (numbers.random(shape) > 0.5).astype(np.float32)


@pytest.mark.parametrize("loss", [dice_loss, bce_loss, combined_loss])
def test_unknown_maps_change_nothing(loss):
    target, soft = masks(3, 8, 8, 1), numbers.random((3, 8, 8, 1)).astype(np.float32)
    unknown = np.concatenate([target, np.full_like(target, -1)], -1)
    both = np.concatenate([soft, numbers.random(soft.shape).astype(np.float32)], -1)
    np.testing.assert_allclose(loss(unknown, both), loss(target, soft), rtol=1e-6)


@pytest.mark.parametrize("loss", [dice_loss, bce_loss, combined_loss])
def test_nothing_known_costs_nothing(loss):
    np.testing.assert_array_equal(loss(np.full((2, 8, 8, 2), -1.0), masks(2, 8, 8, 2)), [0, 0])


@pytest.mark.parametrize("loss", [dice_loss, bce_loss, combined_loss])
def test_a_perfect_map_costs_nothing_and_a_wrong_one_the_most(loss):
    target = masks(2, 8, 8, 2)
    half = np.full_like(target, 0.5)
    right, middling, wrong = (np.asarray(loss(target, p)) for p in (target, half, 1 - target))
    assert (right < 1e-5).all() and (right < middling).all() and (middling < wrong).all()


def test_dice_loss_equals_its_formula():
    target, soft = masks(1, 8, 8, 1), numbers.random((1, 8, 8, 1)).astype(np.float32)
    expected = 1 - (2 * (target * soft).sum() + 1) / (target.sum() + soft.sum() + 1)
    np.testing.assert_allclose(dice_loss(target, soft), [expected], rtol=1e-5)


def test_no_gradient_reaches_an_unknown_map():
    import tensorflow as tf

    soft = tf.Variable(numbers.random((1, 4, 4, 2)).astype(np.float32))
    target = masks(1, 4, 4, 2)
    target[..., 1] = -1
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(combined_loss(target, soft))
    gradient = tape.gradient(value, soft).numpy()
    assert (gradient[..., 1] == 0).all() and (gradient[..., 0] != 0).all()


def test_metrics_equal_their_formulas_over_batches():
    dice, iou = DiceScore(), IoU()
    expected = []
    for _ in range(3):
        target, soft = masks(2, 8, 8, 2), numbers.random((2, 8, 8, 2)).astype(np.float32)
        target[0, ..., 1] = -1
        dice.update_state(target, soft)
        iou.update_state(target, soft)
        for n, k in ((0, 0), (1, 0), (1, 1)):
            a, b = target[n, ..., k] > 0.5, soft[n, ..., k] >= 0.5
            expected.append((2 * (a & b).sum() / (a.sum() + b.sum()), (a & b).sum() / (a | b).sum()))
    np.testing.assert_allclose([float(dice.result()), float(iou.result())], np.mean(expected, 0), rtol=1e-5)


def test_a_metric_can_look_at_one_output():
    target, soft = masks(1, 4, 4, 2), masks(1, 4, 4, 2)
    target[..., 0] = soft[..., 0]
    first = DiceScore(output=0)
    first.update_state(target, soft)
    assert float(first.result()) == 1.0
    assert DiceScore.from_config(first.get_config()).output == 0


def test_two_empty_masks_agree():
    metric = IoU()
    metric.update_state(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1)))
    assert float(metric.result()) == 1.0


def test_losses_and_metrics_work_in_compile():
    from segmentation.unet import unet

    model = unet(2, outputs=2, size=16)
    model.compile("adam", loss=loss_named("combined"), metrics=[DiceScore(), IoU()])
    history = model.fit(np.zeros((4, 16, 16, 1)), masks(4, 16, 16, 2), verbose=0)
    assert {"loss", "dicescore", "iou"} <= set(history.history)
    assert keras.backend.is_float_dtype(model.outputs[0].dtype)


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="combined"):
        loss_named("focal")
