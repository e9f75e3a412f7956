"""Optimizers and schedules of a recipe."""

import keras
import numpy as np
import pytest

from covidcxnet.training.loop import averaged, optimizer_for
from covidcxnet.training.recipe import Recipe


def rate_at(optimizer, step: int) -> float:
    optimizer.build([keras.Variable(np.zeros(2, "float32"))])
    optimizer.iterations.assign(step)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def test_a_cosine_rises_from_a_hundredth_and_ends_at_zero():
    recipe = Recipe(schedule="cosine", learning_rate=1e-2, epochs=4, warmup=1)
    rates = [rate_at(optimizer_for(recipe, steps=10), step) for step in (0, 10, 25, 40)]
    np.testing.assert_allclose(rates, [1e-4, 1e-2, 5e-3, 0], atol=1e-8)


def test_a_plateau_schedule_leaves_the_rate_to_the_monitor():
    assert rate_at(optimizer_for(Recipe(learning_rate=3e-4), steps=10), 39) == pytest.approx(3e-4)


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_the_optimizer_is_the_one_named(name, kind):
    assert type(optimizer_for(Recipe(optimizer=name), steps=1)).__name__ == kind


def test_adamw_decays_kernels_and_not_biases_or_batch_norms():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.get_layer(index=0).bias.assign([1.0, 1.0])
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    optimizer = optimizer_for(Recipe(optimizer="adamw", weight_decay=0.5, learning_rate=0.1), steps=1)
    optimizer.build(model.trainable_variables)
    optimizer.apply_gradients([(keras.ops.zeros_like(v), v) for v in model.trainable_variables])
    pairs = zip(model.trainable_variables, before, strict=True)
    assert {v.name for v, old in pairs if not np.allclose(keras.ops.convert_to_numpy(v), old)} == {"kernel"}


@pytest.mark.parametrize(("name", "ema"), [("adam", 0.5), ("adamw", 0.5), ("sgd", 0.5), ("adam", 0.0)])
def test_the_moving_average_is_there_within_the_block_and_the_weights_are_back_after_it(name, ema):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    (kernel,) = model.trainable_variables
    model.compile(optimizer_for(Recipe(optimizer=name, ema=ema, learning_rate=0.1), steps=1), loss="mse")
    average, seen = None, []
    for _ in range(4):
        model.train_on_batch(np.ones((1, 1)), np.full((1, 1), 5.0))
        seen.append(float(keras.ops.convert_to_numpy(kernel)[0, 0]))
        average = seen[-1] if average is None else ema * average + (1 - ema) * seen[-1]
    with averaged(model):
        assert float(keras.ops.convert_to_numpy(kernel)[0, 0]) == pytest.approx(average, abs=1e-5)
    assert float(keras.ops.convert_to_numpy(kernel)[0, 0]) == seen[-1]
    assert (seen[-1] == pytest.approx(average, abs=1e-3)) == (ema == 0)
