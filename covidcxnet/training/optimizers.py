"""The optimizer of a recipe, with its learning rate over the steps."""

from __future__ import annotations

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
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
