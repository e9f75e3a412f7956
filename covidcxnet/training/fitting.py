"""The fit of one run: model and data put together, what is written after each epoch, and how it is taken up again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd

from covidcxnet.backend import jit_compile
from covidcxnet.models import split_head
from covidcxnet.preparation import Batches
from enhancement.files import whole_file
from segmentation.backend import fuse_batch_norm
from weights.format import save_weights

from . import callbacks, data
from .augmentation import augmenter
from .collapse import all_equal, collapse_message, collapsed, equal_message
from .curves import draw_curves
from .f1 import MacroF1
from .features import FeatureBatches, compute_features
from .metadata import weights_metadata
from .optimizers import averaged, optimizer_for
from .recipe import Recipe
from .state import load_state, save_state
from .validation import loss_for, validation_figures

if TYPE_CHECKING:
    from .run import Run


class Fitting:
    """Everything that lives as long as `fit` does.

    Parameters
    ----------
    run : Run
        Prepared; its files are written here.
    recipe : Recipe
    core : keras.Model
        The classifier. Only this is saved; augmentation stands before it in training.
    options : dict
        What `models.create` needs to build it again.
    """

    def __init__(self, run: Run, recipe: Recipe, core: keras.Model, options: dict[str, Any]):
        self.run, self.recipe, self.core, self.options = run, recipe, core, options
        self.classes = recipe.classes
        self.train, self.validation = self._sides()
        self.loss = self._loss()
        fuse_batch_norm(core)
        self.batches: Batches | FeatureBatches
        self.validation_input: Batches | np.ndarray
        if recipe.trainable == "head":
            self._head_on_features()
        else:
            self._whole_on_stacks()
        self.model.compile(
            optimizer=optimizer_for(recipe, steps=len(self.batches)),
            loss=self.loss,
            metrics=self._metrics(),
            jit_compile=jit_compile(),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.monitor = callbacks.Monitor(recipe, self._validate, self._save_best)
        self.history: list[dict[str, float]] = []
        self.equal = False
        self.equal_epochs: list[int] = []  # in which all validation images got the same prediction
        self.epoch = 0
        self.over = False

    def restore(self) -> None:
        """Take up the run's state, if it has one."""
        path = self.run.path / "state.h5"
        if not path.is_file():
            return
        values = load_state(path, self.core, self.model.optimizer)
        self.epoch, self.history = values["epoch"], values["history"]
        self.monitor.set_state(values["monitor"])
        self.equal_epochs = values.get("equal_epochs", [])
        stopped_early = values["monitor"]["stopped"] and self.recipe.epochs <= values["epochs"]
        self.over = stopped_early or self.epoch >= self.recipe.epochs
        print(f"resumed after epoch {self.epoch}", file=sys.stderr, flush=True)

    def fit(self) -> None:
        """Train until the recipe's epochs are done or nothing improves."""
        if self.over:
            return
        after = [
            callbacks.Seeds(self.recipe.seed, self.batches),
            self.monitor,
            callbacks.Progress(self.monitor, self.train.shown, self.recipe.epochs, self.recipe.batch_size),
            callbacks.AfterEpoch(self._write, self.history),
        ]
        if self.recipe.tensorboard:
            after.append(callbacks.tensorboard(self.run.path / "tensorboard"))
        self.model.fit(
            self.batches, epochs=self.recipe.epochs, initial_epoch=self.epoch, verbose=0, callbacks=after, shuffle=False
        )

    def finish(self) -> None:
        """Write what follows from the state, should a kill have come between, and close the run."""
        self._derived()
        self.draw()
        self.run.update(status="finished")
        best = self.history[self.monitor.best_epoch - 1]
        told = [name for name in ("val_auroc", "val_accuracy", "val_f1") if name in best]
        figures = ", ".join(f"{name.removeprefix('val_')} {best[name]:.4f}" for name in told)
        print(f"best epoch {self.monitor.best_epoch} of {len(self.history)}: validation {figures}", file=sys.stderr)
        if self.monitor.best_epoch in self.equal_epochs:
            print(f"warning: at the best epoch {equal_message(self.recipe)}", file=sys.stderr)
        elif lost := collapsed(best):
            print(f"warning: at the best epoch {collapse_message(lost, self.recipe)}", file=sys.stderr)

    def draw(self) -> None:
        """Draw the learning curves of the epochs so far."""
        if self.history:
            path = self.run.path / "curves.png"
            draw_curves(self.history, path, best_epoch=self.monitor.best_epoch, monitor=self.recipe.monitor)

    def _sides(self) -> tuple[data.Side, data.Side]:
        return data.sides(self.recipe, self.run.store, self.run.split, self.classes)

    def _loss(self):
        return loss_for(len(self.classes), self.recipe.label_smoothing)

    def _metrics(self) -> list:
        return ["accuracy", MacroF1(self.trained.output_shape[-1])]

    @property
    def trained(self) -> keras.Model:
        """What is trained: the whole model."""
        return self.core

    @property
    def best_name(self) -> str:
        """File of the best epoch in the run folder."""
        return "best.weights.h5"

    def _log(self) -> list[dict[str, float]]:
        return self.history

    def _state(self) -> dict[str, Any]:
        return {}

    def _split(self) -> tuple[keras.Model, keras.Model]:
        return split_head(self.core)

    def _whole_on_stacks(self) -> None:
        recipe, store = self.recipe, self.run.store
        layers = augmenter(recipe.augment, recipe.seed)
        self.model = keras.Sequential([keras.Input(self.core.input_shape[1:]), *layers, self.trained])
        self.batches = Batches(
            store,
            self.train.rows,
            self.train.targets,
            batch_size=recipe.batch_size,
            shuffle=True,
            seed=recipe.seed,
            weights=self.train.weights,
            sampler=self.train.sampler,
        )
        self.predictor = self.trained
        self.validation_input = self._plain(self.validation)

    def _head_on_features(self) -> None:
        backbone, head = self._split()
        train, validation = (
            compute_features(backbone, self._plain(side), name)
            for side, name in ((self.train, "train"), (self.validation, "validation"))
        )
        self.model = self.predictor = head
        self.batches = FeatureBatches(
            train,
            self.train.targets,
            self.train.weights,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            sampler=self.train.sampler,
        )
        self.validation_input = validation

    def _plain(self, side: data.Side) -> Batches:
        return Batches(self.run.store, side.rows, side.targets, batch_size=self.recipe.batch_size)

    def _validate(self) -> dict[str, float]:
        with averaged(self.model):
            probabilities = self.predictor.predict(self.validation_input, verbose=0)
        self.equal = all_equal(probabilities)
        return self._figures(probabilities)

    def _figures(self, probabilities: np.ndarray) -> dict[str, float]:
        return validation_figures(self.validation.targets, probabilities, self.loss, self.classes)

    def _write(self, epoch: int, history: list[dict[str, float]]) -> None:
        self.epoch = epoch
        if self.equal:
            if epoch - 1 not in self.equal_epochs:  # said once, not after each epoch that it lasts
                print(f"warning: after epoch {epoch} {equal_message(self.recipe)}", file=sys.stderr, flush=True)
            self.equal_epochs.append(epoch)
        values = {
            "epoch": epoch,
            "epochs": self.recipe.epochs,
            "history": history,
            "monitor": self.monitor.get_state(),
            "equal_epochs": self.equal_epochs,
            **self._state(),
        }
        # First the state, in one file; a kill after it loses nothing, as all else follows from it.
        save_state(self.run.path / "state.h5", self.core, self.model.optimizer, values)
        self._derived()

    def _derived(self) -> None:
        with whole_file(self.run.path / "log.csv") as partial:
            pd.DataFrame(self._log()).to_csv(partial, index=False, float_format="%.7g")
        with averaged(self.model):
            save_weights(self.core, self.run.path / "last.weights.h5", self._metadata(self.epoch, self.history[-1]))
        best = self.history[self.monitor.best_epoch - 1]
        figures = {name: value for name, value in best.items() if name.startswith("val_")}
        self.run.update(epoch=self.epoch, best_epoch=self.monitor.best_epoch, best=figures)

    def _save_best(self, epoch: int, logs: dict[str, float]) -> None:
        with averaged(self.model):
            save_weights(self.core, self.run.path / self.best_name, self._metadata(epoch, logs))

    def _metadata(self, epoch: int, figures: dict[str, float]) -> dict[str, Any]:
        return weights_metadata(self.run, self.recipe, self.options, epoch, figures)
