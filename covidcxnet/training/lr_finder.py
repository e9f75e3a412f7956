"""Learning-rate range test (Smith 2017): the rate grows exponentially, and the loss tells where to train.

COVID-CXNet chose its rate so (figure 10): where the loss falls most steeply.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.backend import precision
from covidcxnet.models import MODELS
from covidcxnet.models.scaling import TRAINING
from covidcxnet.reporting import plots
from enhancement.errors import InputError
from enhancement.files import whole_file
from enhancement.progress import ProgressBar
from segmentation.backend import keras

from . import data
from .callbacks import Seeds
from .distillation import soft_labels, teacher_of
from .initial_weights import build_model, model_options
from .loop import HierarchicalLoop, TrainingLoop, loop_for
from .recipe import Recipe
from .run_folder import check_files
from .sampling import rows_of
from .statistics import channel_statistics, with_histogram

DIVERGED = 4.0  # times the best running loss
MEMORY = 0.9  # of the running loss that stops the test
CLEAR = 3.5  # times what chance would make of it
LEAST_FALL = 0.02  # of the first loss; less is no descent to choose a rate from


@dataclass(frozen=True)
class RangeTest:
    """Learning rate of each step, the loss of its batch and that loss averaged over neighbouring steps, float [n].

    `suggested` is where the averaged loss falls most steeply, None where it does not fall; `diverged` whether the loss
    grew so much that the test stopped before the highest rate.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggested: float | None
    diverged: bool


def range_test(
    recipe: Recipe,
    *,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 200,
    progress: bool = True,
    engine: str | None = None,
) -> RangeTest:
    """Train a recipe for some steps (batches) at a rate that grows from `lowest` to `highest`, and look at the loss.

    Model, initial weights, images, augmentation, sampling, weights and loss are the recipe's; its schedule is left out.
    Nothing of the model is saved. `engine` runs the lung network, as in `train`. `InputError` if range, recipe or data
    cannot be used, or the loss is not finite at the lowest rates.
    """
    if not 0 < lowest < highest <= 100:
        raise InputError(f"lowest, highest: {lowest:g} to {highest:g} given, above 0, growing, at most 100 expected")
    if not 20 <= steps <= 100_000:
        raise InputError(f"steps: {steps} given, 20 to 100000 expected")
    if MODELS[recipe.model].solve:
        raise InputError(f"model: {recipe.model} has no learning rate; it is solved")
    rates = np.geomspace(lowest, highest, steps)
    with precision(recipe.precision):
        # A schedule or an average of the weights would blur what one step at one rate does.
        loop = _loop(replace(recipe, schedule="constant", min_learning_rate=0.0, warmup=0.0, ema=0.0), engine)
        growth = _Growth(rates, loop.batches, recipe.seed, progress)
        epochs = math.ceil(steps / len(loop.batches))
        loop.model.fit(loop.batches, epochs=epochs, verbose=0, callbacks=[growth], shuffle=False)
    losses, diverged = np.array(growth.losses), growth.diverged
    # An epoch that is broken off leaves its iterator open, and TensorFlow complains of it when the program ends.
    del loop, growth
    gc.collect()
    if len(losses) < 10:
        raise InputError(f"lowest: the loss is not finite after {len(losses)} steps from {lowest:g}; begin lower")
    rates = rates[: len(losses)]
    smoothed = smooth(losses)
    return RangeTest(rates, losses, smoothed, suggest(rates, losses, smoothed), diverged)


def smooth(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """Losses averaged with Gaussian weights over neighbouring steps on both sides, float [n].

    A running mean would lag behind and put every fall at too high a rate. A loss is counted as no more than
    `DIVERGED` times the first ones, so that the end does not reach into the fall before it.
    """
    from scipy.ndimage import gaussian_filter1d

    losses = np.asarray(losses, np.float64)
    width = _width(losses)
    both = np.stack([_limited(losses), np.ones_like(losses)])
    sums, counts = gaussian_filter1d(both, width, mode="constant", truncate=6)  # beyond it a weight is below 2e-8
    return sums / counts


def suggest(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The rate at which the smoothed loss falls most steeply per factor of the rate, on its way to its lowest point.

    The descent begins where the loss is for the last time within a tenth of the whole fall from the first losses. None
    where the fall is less than `LEAST_FALL` of them, or no more than batches scatter: small batches differ more from
    each other than a rate changes them.
    """
    start = float(_limited(losses)[: _head(losses)].mean())
    lowest = int(np.argmin(smoothed))
    # The end may have run away: its lowest point and not its last counts.
    fall = start - float(smoothed[lowest])
    scatter = 1.4826 * np.median(np.abs(_limited(losses) - smoothed))
    # What is left of it in the mean of the first losses and in a smoothed one, which counts about 3.5 widths.
    noise = scatter * math.sqrt(1 / _head(losses) + 1 / (3.5 * _width(losses)))
    if lowest < 2 or fall < max(LEAST_FALL * abs(start), CLEAR * noise):
        return None
    begin = int(np.flatnonzero(smoothed[:lowest] > start - 0.1 * fall)[-1:].sum())
    slopes = np.gradient(smoothed, np.log(rates))[begin : lowest + 1]
    return float(f"{rates[begin + int(np.argmin(slopes))]:.2g}")


def _head(losses) -> int:
    """How many steps count as the beginning, where the rate is too low to change anything."""
    return max(5, len(losses) // 10)


def _width(losses) -> float:
    return max(2.0, len(losses) / 25)


def _limited(losses: np.ndarray) -> np.ndarray:
    return np.minimum(losses, DIVERGED * np.median(losses[: _head(losses)]))


def _loop(recipe: Recipe, engine: str | None) -> TrainingLoop:
    """What `train` would fit, without a run folder; of a model with stages the first."""
    check_files(recipe)
    segmenter, options = data.segmenter_of(recipe, engine), model_options(recipe)
    dataset = data.dataset_of(recipe)
    recipe = replace(recipe, classes=dataset.classes)
    split = data.split_of(recipe, dataset)
    # As in `train`, before hours of preparation: a stack that is too small, or a wrong option, is refused at once.
    core = None if options["normalization"] == TRAINING else build_model(recipe, options, recipe.init)[0]
    recipe = with_histogram(recipe, dataset, split, segmenter)
    store = data.store_of(recipe, dataset, segmenter)
    if core is None:
        options["normalization"] = channel_statistics(store, rows_of(store, split, "train"))
        core, _ = build_model(recipe, options, recipe.init)
    soft = None
    if teacher := teacher_of(recipe, engine):
        soft = soft_labels(teacher, recipe, dataset, store, rows_of(store, split, "train"))
    bench: Any = SimpleNamespace(store=store, split=split, path=Path("no-run"), soft_labels=soft)
    loop = loop_for(bench, recipe, core, options)
    return loop.stage if isinstance(loop, HierarchicalLoop) else loop


class _Growth(keras.callbacks.Callback):
    """Sets the rate of each step, notes its loss, and stops training after the last one or when the loss runs away."""

    def __init__(self, rates: np.ndarray, batches, seed: int, progress: bool):
        super().__init__()
        self.rates, self.diverged = rates, False
        self.losses: list[float] = []
        self.seeds = Seeds(seed, batches)
        self.bar = ProgressBar(total=len(rates), desc="range test", unit="step", leave=False, disable=not progress)
        self.running = 0.0
        self.best = math.inf

    def on_epoch_begin(self, epoch, logs=None):
        self.seeds.set_model(self.model)
        self.seeds.on_epoch_begin(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = float(self.rates[len(self.losses)])
        self.model.reset_metrics()  # Keras tells the mean of an epoch so far; here the step alone counts

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        self.bar.update()
        finite = math.isfinite(loss)
        if finite:
            self.losses.append(loss)
            self.running = MEMORY * self.running + (1 - MEMORY) * loss
            corrected = self.running / (1 - MEMORY ** len(self.losses))
            self.best = min(self.best, corrected)
            self.diverged = len(self.losses) > 10 and corrected > DIVERGED * self.best
        else:
            self.diverged = True
        if self.diverged or len(self.losses) == len(self.rates):
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.bar.close()


def draw_range_test(result: RangeTest, path: str | Path, *, title: str = "") -> Path:
    """Draw the loss over the learning rate, as a PNG; the suggested rate is marked."""
    figure, (axes,) = plots.figure(7.5, 4.2, dpi=110)
    axes.plot(result.rates, result.losses, ".", color=plots.FAINT, markersize=4, label="loss of a batch")
    axes.plot(result.rates, result.smoothed, color=plots.colour(0), linewidth=1.8, label="smoothed")
    if result.suggested is not None:
        label = f"steepest fall: {result.suggested:.2g}"
        axes.axvline(result.suggested, color=plots.colour(1), linestyle="--", label=label)
    # A loss that runs away at the end would press everything before it flat.
    first = float(np.median(result.losses[:10]))
    low = min(float(result.losses.min()), float(result.smoothed.min()))
    axes.set_ylim(low - 0.08 * (first - low + 0.1), min(float(result.losses.max()), 2 * first) + 0.05 * first)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    plots.grid(axes)
    axes.legend(fontsize=8)
    return plots.save(figure, path)


def save_range_test(result: RangeTest, path: str | Path) -> Path:
    """Write step, learning_rate, loss and smoothed as CSV."""
    columns = {"learning_rate": result.rates, "loss": result.losses, "smoothed": result.smoothed}
    with whole_file(path) as partial:
        pd.DataFrame(columns).rename_axis("step").to_csv(partial, float_format="%.7g")
    return Path(path)
