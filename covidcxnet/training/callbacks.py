"""Callbacks of a training run: seeds of an epoch, first statistics of batch norms, the monitor, the progress line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from enhancement.errors import InputError
from enhancement.progress import ProgressBar
from segmentation.backend import keras

from .recipe import Recipe


class Seeds(keras.callbacks.Callback):
    """Make order, augmentation and dropout a function of (seed, epoch), so that a resumed run needs no random state."""

    def __init__(self, seed: int, batches):
        super().__init__()
        self.seed, self.batches = seed, batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.set_epoch(epoch)
        generators = [v for v in self.model.variables if v.name == "seed_generator_state"]
        # A stream for each generator of its own: with one for all, layers would draw the same numbers.
        for number, state in enumerate(generators):
            drawn = np.random.SeedSequence([self.seed, epoch, number]).generate_state(1)[0] % 2**31
            state.assign(np.array([drawn, 0], dtype=str(state.dtype)))


class FirstStatistics(keras.callbacks.Callback):
    """After the first epoch, take out of new batch norms the mean 0 and variance 1 that they began with.

    A moving average of momentum m holds m^steps of its first value. After a short epoch that is most of it, and in a
    deep network the trained layers would predict nothing but chance with it. Norms that came with statistics of a
    training keep them.
    """

    def __init__(self, model):
        super().__init__()
        self.norms = [norm for norm in _batch_norms(model) if norm.trainable and _is_new(norm)]
        self.steps = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        if epoch:
            return
        for norm in self.norms:
            rest = norm.momentum**self.steps
            mean, variance = (keras.ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance))
            norm.moving_mean.assign(mean / (1 - rest))
            norm.moving_variance.assign(np.maximum(variance - rest, 0) / (1 - rest))


def _batch_norms(model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _batch_norms(layer)


def _is_new(norm: keras.layers.BatchNormalization) -> bool:
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance))
    return bool((mean == 0).all() and (variance == 1).all())


class Monitor(keras.callbacks.Callback):
    """Validate after each epoch; keep the best weights, lower the rate on a plateau, stop when nothing improves.

    ``validate()`` gives validation figures; ``save_best(epoch, logs)`` is called after each improvement, epochs from 1.
    """

    def __init__(
        self, recipe: Recipe, validate: Callable[[], dict[str, float]], save_best: Callable[[int, dict], None]
    ):
        super().__init__()
        self.recipe, self.validate, self.save_best = recipe, validate, save_best
        self.best: list[float] | None = None
        self.best_epoch = 0
        self.wait = 0
        self.lr_wait = 0
        self.stopped = False

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.validate())
        optimizer = self.model.optimizer
        # Read before it falls: the log shows the rate that the epoch was trained with.
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        logs["learning_rate"] = rate
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            raise InputError(
                f"learning_rate: the loss is not a finite number after epoch {epoch + 1} at {rate:g}; use a lower rate"
            )
        sign = -1 if self.recipe.monitor == "val_loss" else 1
        # AUROC reaches 1 on small sets: the loss decides between such epochs.
        score = [sign * logs[self.recipe.monitor], -logs["val_loss"]]
        if self.best is None or score > self.best:
            self.best, self.best_epoch, self.wait, self.lr_wait = score, epoch + 1, 0, 0
            self.save_best(epoch + 1, logs)
            return
        self.wait += 1
        self.lr_wait += 1
        falls = self.recipe.schedule == "plateau" and self.recipe.lr_patience
        if falls and self.lr_wait >= self.recipe.lr_patience:
            optimizer.learning_rate = max(rate * self.recipe.lr_factor, self.recipe.min_learning_rate)
            self.lr_wait = 0
        if self.recipe.patience and self.wait >= self.recipe.patience:
            self.stopped = self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        """Plain values that `set_state` takes back."""
        return {name: getattr(self, name) for name in ("best", "best_epoch", "wait", "lr_wait", "stopped")}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state`; a run that had stopped early and is given more epochs waits anew."""
        for name in ("best", "best_epoch", "wait", "lr_wait"):
            setattr(self, name, state[name])
        if state["stopped"]:
            self.wait = 0


class Progress(keras.callbacks.Callback):
    """A bar within an epoch, or a line now and then where there is no terminal, and one line after it, on stderr.

    ``save(epoch, logs)``, epochs from 0, comes before that line: whoever reads it may press Ctrl-C at once. What it
    returns, a warning or nothing, is printed after it.
    """

    def __init__(self, monitor: Monitor, save: Callable[[int, dict], str], images: int, epochs: int, batch_size: int):
        super().__init__()
        self.monitor, self.save, self.compiled = monitor, save, False
        self.images, self.epochs, self.batch_size = images, epochs, batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.started = self.timed = time.monotonic()
        self.untimed: float = 0  # images of the step that compiled
        how: dict[str, Any] = {"leave": False, "disable": sys.stderr is None, "compiles": not self.compiled}
        self.bar = ProgressBar(total=self.images, desc=f"epoch {epoch + 1}/{self.epochs}", unit="image", **how)
        self.later = self.epochs - epoch - 1

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(min(self.batch_size, self.images - self.bar.n))
        if not self.compiled:
            self.compiled, self.timed, self.untimed = True, time.monotonic(), self.bar.n
        elif not self.bar.disable and logs:
            image = (time.monotonic() - self.timed) / (self.bar.n - self.untimed)
            # Early stopping may end it sooner, and validation is not counted.
            left = image * (self.images - self.bar.n + self.later * self.images)
            time_left = f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min"
            text = f"{image * self.batch_size:.2g} s a step, at most {time_left} in all"
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.3f}, {text}", refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.close()
        seconds = time.monotonic() - self.started
        logs["seconds"] = round(seconds, 2)
        warning = self.save(epoch, logs)
        names = ("loss", "val_loss", "val_accuracy", "val_auroc", "val_f1")
        figures = "  ".join(f"{name} {logs[name]:.4f}" for name in names if name in logs)
        best = "  best so far" if self.monitor.best_epoch == epoch + 1 else ""
        rate = f"learning rate {logs['learning_rate']:.2g}"
        print(f"epoch {epoch + 1}/{self.epochs}  {figures}  {rate}  {seconds:.0f} s{best}", file=sys.stderr, flush=True)
        if warning:
            print(warning, file=sys.stderr, flush=True)

    def on_train_end(self, logs=None):
        if hasattr(self, "bar"):
            self.bar.close()


def tensorboard(folder: str | Path) -> keras.callbacks.Callback:
    """Keras' own callback, its log under `folder`; `InputError` where a package is missing."""
    # Under every backend Keras writes the log by TensorFlow.
    for package in ("tensorboard", "tensorflow"):
        if find_spec(package) is None:
            raise InputError(f"tensorboard: {package} is missing; pip install {package}, or leave tensorboard off")
    return keras.callbacks.TensorBoard(log_dir=str(folder), write_graph=False)
