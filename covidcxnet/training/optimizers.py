"""The optimizer of a recipe: its learning rate over the steps, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from .recipe import Recipe


def optimizer_for(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """Optimizer with the recipe's schedule; `steps` are those of one epoch.

    The cosine is a function of the step alone and reaches zero at the end of ``recipe.epochs`` (Loshchilov and Hutter
    2017, without restarts), so that a resumed run goes on where it was.
    """
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == "cosine":
        warm = round(recipe.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100 if warm else recipe.learning_rate,
            max(1, recipe.epochs * steps - warm),
            warmup_target=recipe.learning_rate if warm else None,
            warmup_steps=warm,
        )
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **average)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **average)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **average)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Within it `model` has the moving average of its weights, where its optimizer keeps one."""
    # Always: under mixed_float16 Keras wraps the optimizer, and the wrapper's own `use_ema` is false.
    kept = [keras.ops.copy(v) for v in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for variable in model.trainable_variables:  # the average is taken before constraints are applied
        if variable.constraint is not None:
            variable.assign(variable.constraint(variable))
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, kept, strict=True):
            variable.assign(value)
