"""The loop of one training: what it fits, what is written after each epoch, and how it is taken up again.

Three kinds: over epochs, solved at once (logistic regression), and in stages, one level of the model after the other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.backend import jit_compile
from covidcxnet.models import MODELS, split_head
from covidcxnet.preparation import Batches
from enhancement.files import whole_file
from enhancement.progress import ProgressBar
from segmentation.backend import fuse_batch_norm, keras
from weights.format import load_weights, save_weights

from . import callbacks
from .augmentation import augmenter
from .checkpoint import State, save_state, weights_metadata
from .distillation import with_soft_labels
from .distributed import Devices, processes
from .recipe import Recipe
from .run_folder import Run, draw_curves
from .sampling import FeatureBatches, Side, labels_of, rows_of, side_of, sides
from .validation import (
    THRESHOLD,
    MacroF1,
    all_equal,
    collapse_message,
    collapsed,
    equal_message,
    loss_for,
    validation_figures,
)


def loop_for(
    run: Run,
    recipe: Recipe,
    core: keras.Model,
    options: dict[str, Any],
    state: State | None = None,
    devices: Devices | None = None,
) -> TrainingLoop | HierarchicalLoop:
    """The loop that a recipe's model is trained by, taken up where `state` was saved; `core` has its weights.

    To be made and used within the scope of `devices`, one if not given.
    """
    devices = Devices() if devices is None else devices
    spec = MODELS[recipe.model]
    if spec.stages:
        return HierarchicalLoop(run, recipe, core, options, state, devices)
    loop = (SolverLoop if spec.solve else TrainingLoop)(run, recipe, core, options, devices)
    if state is not None:
        loop.restore(state)
    return loop


class TrainingLoop:
    """Training over epochs.

    Only `core`, the classifier, is saved; augmentation stands before it in training. A stage trains and validates a
    part of it, `trained`, on classes with other `labels`.
    """

    best_name = "best.weights.h5"

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        core: keras.Model,
        options: dict[str, Any],
        devices: Devices,
        trained: keras.Model | None = None,
        labels: tuple[str, ...] = (),
    ):
        self.run, self.recipe, self.core, self.options = run, recipe, core, options
        self.devices, self.processes = devices, processes()
        self.trained, self.labels = core if trained is None else trained, labels or recipe.classes
        self.train, self.validation = self._sides()
        self.loss = loss_for(recipe, self.train.targets)
        if not devices.several:
            # A step of DenseNet121 on a CPU then takes 0.73 of the time. Copies of a model need Keras' own.
            fuse_batch_norm(core)
        self.batches: Batches | FeatureBatches
        self.validation_input: Batches | FeatureBatches | np.ndarray
        order: dict[str, Any] = {"batch_size": recipe.batch_size, "seed": recipe.seed, "sampler": self.train.sampler}
        if recipe.trainable == "head" and recipe.cache_features:
            # Once and by batch in inference mode: batch norms of a frozen backbone keep to their moving averages.
            backbone, predicted = self._split()
            features, known = (
                self._features(backbone, side, name)
                for name, side in (("train", self.train), ("validation", self.validation))
            )
            self.batches = FeatureBatches(features, self.train.targets, self.train.weights, **order)
            self.model, self.validation_input = predicted, known
            if devices.several:
                in_order = order | {"sampler": lambda epoch: np.arange(len(known))}
                self.validation_input = FeatureBatches(known, self.validation.targets, **in_order)
                self.model = devices.training([keras.Input(predicted.input_shape[1:]), predicted], self.batches)
        else:
            # Augmentation is not part of the classifier: what is saved must not vary images.
            layers, predicted = augmenter(recipe.augment, recipe.seed), self.trained
            rows, targets, weights = self.train.rows, self.train.targets, self.train.weights
            self.batches = Batches(run.store, rows, targets, weights=weights, shuffle=True, **order)
            self.model = devices.training([keras.Input(core.input_shape[1:]), *layers, predicted], self.batches)
            self.validation_input = self._plain(self.validation)
        self.predictor = devices.predictor(predicted, self.validation_input)
        for batches in (self.batches, self.validation_input):
            devices.divide(batches)
        independent = recipe.task == "independent"
        f1 = MacroF1(self.trained.output_shape[-1], independent=independent)
        labelled = not (independent or recipe.teacher)  # Keras' accuracy takes no soft labels
        self.model.compile(
            optimizer=optimizer_for(recipe, steps=len(self.batches)),
            loss=self.loss,
            metrics=["accuracy", f1] if labelled else [f1],
            jit_compile=jit_compile(),
        )
        # Built now, or a state could not be loaded into variables that do not exist yet.
        self.model.optimizer.build(self.model.trainable_variables)
        self.monitor = callbacks.Monitor(recipe, self._validate, self._save_best)
        self.history: list[dict[str, float]] = []
        self.equal = False
        self.equal_epochs: list[int] = []  # in which all validation images got the same prediction
        self.epoch = 0
        self.over = False

    def restore(self, state: State) -> None:
        """Take up a state whose weights the core has already."""
        values = state.values
        state.assign("optimizer", self.model.optimizer.variables)
        self.epoch, self.history = values["epoch"], values["history"]
        self.monitor.set_state(values["monitor"])
        self.equal_epochs = values.get("equal_epochs", [])
        stopped_early = values["monitor"]["stopped"] and self.recipe.epochs <= values["epochs"]
        # A solved model has one epoch, whatever the recipe says.
        self.over = stopped_early or self.epoch >= (1 if MODELS[self.recipe.model].solve else self.recipe.epochs)
        note = "; nothing is left to train" if self.over else ""
        print(f"resumed after epoch {self.epoch}{note}", file=sys.stderr, flush=True)

    def fit(self) -> None:
        """Train until the recipe's epochs are done or nothing improves."""
        if self.over:
            return
        recipe = self.recipe
        after = [
            callbacks.Seeds(recipe.seed, self.batches),
            callbacks.FirstStatistics(self.trained),  # before the monitor, which validates with them
            self.monitor,
            # Last, so that the row of the log holds what the others measured.
            callbacks.Progress(self.monitor, self._after_epoch, self.train.shown, recipe.epochs, recipe.batch_size),
        ]
        if recipe.tensorboard and self.processes.leads:
            after.append(callbacks.tensorboard(self.run.path / "tensorboard"))
        self.model.fit(
            self.batches, epochs=recipe.epochs, initial_epoch=self.epoch, verbose=0, callbacks=after, shuffle=False
        )

    def finish(self) -> None:
        """Write what follows from the state, should a kill have come between, and close the run."""
        self._derived()
        self.draw()
        self.run.update(status="finished")
        best = self.history[self.monitor.best_epoch - 1]
        shown = [name for name in ("val_auroc", "val_accuracy", "val_f1") if name in best]
        figures = ", ".join(f"{name.removeprefix('val_')} {best[name]:.4f}" for name in shown)
        print(f"best epoch {self.monitor.best_epoch} of {len(self.history)}: validation {figures}", file=sys.stderr)
        if self.monitor.best_epoch in self.equal_epochs:
            print(f"warning: at the best epoch {equal_message(self.recipe)}", file=sys.stderr)
        elif labels := collapsed(best):
            norms = any(isinstance(layer, keras.layers.BatchNormalization) for layer in self.core.layers)
            message = collapse_message(labels, self.recipe, self.train.targets, norms)
            print(f"warning: at the best epoch {message}", file=sys.stderr)

    def draw(self) -> None:
        """Draw the learning curves of the epochs so far."""
        if (log := self.log) and self.processes.leads:
            best = len(log) - len(self.history) + self.monitor.best_epoch
            draw_curves(log, self.run.path / "curves.png", best_epoch=best, monitor=self.recipe.monitor)

    @property
    def log(self) -> list[dict[str, float]]:
        """Rows of the run so far."""
        return self.history

    def _sides(self) -> tuple[Side, Side]:
        train, validation = sides(self.recipe, self.run.store, self.run.split)
        if self.recipe.teacher:
            paths = self.run.store.table["path"].to_numpy()[train.rows]
            train = with_soft_labels(train, paths, self.run.soft_labels)
        return train, validation

    def _split(self) -> tuple[keras.Model, keras.Model]:
        return split_head(self.core)

    def _state(self) -> dict[str, Any]:
        return {}

    def _plain(self, side: Side) -> Batches:
        return Batches(self.run.store, side.rows, side.targets, batch_size=self.recipe.batch_size)

    def _features(self, backbone: keras.Model, side: Side, name: str) -> np.ndarray:
        """Pooled features of all images of a side, float32 [n, F]."""
        plain = self._plain(side)
        if self.devices.several:
            divided = self.devices.predictor(backbone, plain)
            return np.asarray(divided.predict(self.devices.divide(plain), verbose=0), "float32")
        numbers = ProgressBar(range(len(plain)), desc=f"features of {name}", unit="batch", leave=False)
        return np.concatenate([np.asarray(backbone.predict_on_batch(plain[k][0]), "float32") for k in numbers])

    def _validate(self) -> dict[str, float]:
        with averaged(self.model):
            probabilities = self.predictor.predict(self.validation_input, verbose=0)
        self.equal = all_equal(probabilities)
        independent = self.recipe.task == "independent"
        targets = self.validation.targets
        loss = self.devices.whole(self.loss)
        figures = validation_figures(targets, probabilities, loss, self.labels, independent=independent)
        # What process 0 decides by them, all decide: its machine may round otherwise.
        return self.processes.share(figures)

    def _after_epoch(self, epoch: int, logs: dict[str, float]) -> str:
        """Save everything; what there is to warn of, for after the epoch's line."""
        self.history.append({"epoch": epoch + 1} | {name: float(value) for name, value in logs.items()})
        died = self.equal and epoch not in self.equal_epochs  # said once, not after each epoch that it lasts
        self._write(epoch + 1, self.history)
        return f"warning: after epoch {epoch + 1} {equal_message(self.recipe)}" if died else ""

    def _write(self, epoch: int, history: list[dict[str, float]]) -> None:
        self.epoch = epoch
        if self.equal:
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
        if self.processes.leads:
            save_state(self.run.path / "state.h5", self.core, self.model.optimizer, values)
        self._derived()

    def _derived(self) -> None:
        if self.processes.leads:
            with whole_file(self.run.path / "log.csv") as partial:
                pd.DataFrame(self.log).to_csv(partial, index=False, float_format="%.7g")
        self._save("last.weights.h5", self.epoch, self.history[-1])
        best = self.history[self.monitor.best_epoch - 1]
        figures = {name: value for name, value in best.items() if name.startswith("val_")}
        self.run.update(epoch=self.epoch, best_epoch=self.monitor.best_epoch, best=figures)

    def _save_best(self, epoch: int, logs: dict[str, float]) -> None:
        self._save(self.best_name, epoch, logs)

    def _save(self, name: str, epoch: int, figures: dict[str, float]) -> None:
        # All processes average: under JAX that is one program of all of them.
        with averaged(self.model):
            if self.processes.leads:
                save_weights(self.core, self.run.path / name, self._metadata(epoch, figures))

    def _metadata(self, epoch: int, figures: dict[str, float]) -> dict[str, Any]:
        metadata = weights_metadata(self.run, self.recipe, self.options, epoch, figures)
        if self.recipe.task == "independent":
            thresholds = {name: round(float(figures[THRESHOLD + name]), 7) for name in self.labels}
            metadata |= {"multilabel": True, "thresholds": thresholds}
        return metadata


class SolverLoop(TrainingLoop):
    """A `TrainingLoop` without epochs; of the settings of training only class weights and the model's options count."""

    def fit(self) -> None:
        """Solve, unless that is done; `InputError` if the pixels of all training images together are too many."""
        if self.over:
            return
        began, side, spec = time.monotonic(), self.train, MODELS[self.recipe.model]
        settings = {name: self.options.get(name, default) for name, default in spec.options.items()}
        stacks = (batch[0] for batch in self._plain(side))
        assert spec.solve is not None  # or `loop_for` would have chosen another loop
        steps, warning = spec.solve(self.core, stacks, side.targets, side.weights, **settings)
        probabilities = self.core.predict(self._plain(side), verbose=0)
        loss = float(keras.ops.convert_to_numpy(self.loss(side.targets, probabilities)))
        logs = {"loss": loss, **self._validate(), "learning_rate": float("nan")}
        logs |= {"solver_steps": float(steps), "seconds": round(time.monotonic() - began, 2)}
        # One epoch stands for the whole solution, so that logs and reports need no special case.
        self.monitor.best, self.monitor.best_epoch = [float(logs[self.recipe.monitor])], 1
        self.epoch, self.history = 1, [{"epoch": 1} | logs]
        self._save_best(1, logs)
        if warning:
            self.run.update(convergence=warning)
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        self._write(1, self.history)


class HierarchicalLoop:
    """All stages of a model, with the methods of a `TrainingLoop`; `core` is the whole model.

    Each stage trains one level alone on the classes that it tells apart, with the recipe's epochs, patience and
    schedule, and keeps its best epoch.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        core: keras.Model,
        options: dict[str, Any],
        state: State | None,
        devices: Devices,
    ):
        self.run, self.recipe, self.core, self.options = run, recipe, core, options
        self.devices, self.processes = devices, processes()
        values = {} if state is None else state.values
        self.stage = self._stage(values.get("stage", 1), values.get("earlier", []))
        if state is not None:
            self.stage.restore(state)

    def fit(self) -> None:
        """Train the stages that are not done."""
        self.stage.fit()
        while not self.stage.last:
            stage = self.stage
            best = stage.history[stage.monitor.best_epoch - 1]
            print(
                f"stage {stage.level}: best epoch {stage.monitor.best_epoch} of {len(stage.history)}: validation "
                f"auroc {best['val_auroc']:.4f}, f1 {best['val_f1']:.4f}",
                file=sys.stderr,
            )
            self.processes.share()  # process 0 has written them
            load_weights(self.core, self.run.path / stage.best_name)  # this level stays as it was at its best
            self.stage = self._stage(stage.level + 1, stage.log)
            self.stage.fit()

    def draw(self) -> None:
        """Draw the learning curves so far."""
        self.stage.draw()

    def finish(self) -> None:
        """Close the run; figures of the whole model on validation go into `run.json`."""
        self.stage.finish()
        run, recipe = self.run, self.recipe
        self.processes.share()
        load_weights(self.core, run.best_weights)
        _, side = sides(recipe, run.store, run.split)
        plain = Batches(run.store, side.rows, side.targets, batch_size=recipe.batch_size)
        probabilities = self.devices.predictor(self.core, plain).predict(self.devices.divide(plain), verbose=0)
        loss = self.devices.whole(loss_for(recipe, side.targets))
        figures = validation_figures(side.targets, probabilities, loss, recipe.classes)
        run.update(whole_model=figures)
        text = ", ".join(f"{name} {figures[f'val_{name}']:.4f}" for name in ("auroc", "accuracy", "f1"))
        print(f"all levels together: validation {text}", file=sys.stderr)

    def _stage(self, level: int, earlier: list[dict[str, float]]) -> StageLoop:
        whole = self.run, self.recipe, self.core, self.options, self.devices
        return StageLoop(*whole, level=level, earlier=earlier)


class StageLoop(TrainingLoop):
    """One stage: the level's images, targets and loss; the whole model is saved.

    `level` counts from 1; `earlier` is the log of the stages before, on which the epochs of the run count on.
    """

    def __init__(self, run, recipe, core, options, devices, *, level: int, earlier: list[dict[str, float]]):
        stages = MODELS[recipe.model].stages
        self.level, self.stages, self.stage, self.earlier = level, len(stages), stages[level - 1], earlier
        if not self.last:
            # The whole model with this level at its best and the next not yet trained: not a classifier to use.
            self.best_name = f"level{level}.weights.h5"
        trained, labels = self.stage.model(core), self.stage.names(recipe.classes)
        super().__init__(run, recipe, core, options, devices, trained, labels)
        others = set(recipe.classes) - {recipe.classes[k] for k in (*self.stage.negative, *self.stage.positive)}
        text = " or ".join(self.labels) + "".join(f"; no {label} images" for label in sorted(others))
        print(
            f"stage {level} of {self.stages}: {text}; {len(self.train.rows)} training images",
            file=sys.stderr,
            flush=True,
        )

    @property
    def last(self) -> bool:
        """Whether no stage follows."""
        return self.level == self.stages

    @property
    def log(self) -> list[dict[str, float]]:
        """Rows of the run so far, of all stages."""
        now = [row | {"epoch": len(self.earlier) + row["epoch"], "stage": self.level} for row in self.history]
        return [*self.earlier, *now]

    def _sides(self) -> tuple[Side, Side]:
        recipe, store = self.recipe, self.run.store
        # A class that is missing is an error of the first stage already, before it is trained for nothing.
        sides(recipe, store, self.run.split)
        targets, chosen = self.stage.targets(labels_of(recipe, store)), []
        for name in ("train", "validation"):
            rows = rows_of(store, self.run.split, name)
            rows = rows[targets[rows] >= 0]
            chosen.append(side_of(recipe, store, rows, targets[rows], 2, weighted=name == "train"))
        return chosen[0], chosen[1]

    def _split(self) -> tuple[keras.Model, keras.Model]:
        return self.stage.split(self.core)

    def _state(self) -> dict[str, Any]:
        return {"stage": self.level, "earlier": self.earlier}

    def _derived(self) -> None:
        super()._derived()
        before = len(self.earlier)
        self.run.update(stage=self.level, epoch=before + self.epoch, best_epoch=before + self.monitor.best_epoch)

    def _metadata(self, epoch: int, figures: dict[str, float]) -> dict[str, Any]:
        metadata = super()._metadata(len(self.earlier) + epoch, figures)
        metadata["training"] |= {"stage": self.level, "stages": self.stages}
        return metadata


def optimizer_for(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """Optimizer with the recipe's schedule; `steps` are those of one epoch.

    The cosine is a function of the step alone and reaches its floor at the end of ``recipe.epochs`` (Loshchilov and
    Hutter 2017, without restarts), so that a resumed run goes on where it was.
    """
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == "cosine":
        warm = round(recipe.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100 if warm else recipe.learning_rate,
            max(1, recipe.epochs * steps - warm),
            alpha=recipe.min_learning_rate / recipe.learning_rate,
            warmup_target=recipe.learning_rate if warm else None,
            warmup_steps=warm,
        )
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **average)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **average)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **average)
    # Biases and batch norms set no complexity; decaying them only shifts the output.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Within it `model` has the moving average of its weights, where its optimizer keeps one."""
    # Always: under mixed_float16 Keras wraps the optimizer, and the wrapper's `use_ema` is false.
    stepped = [keras.ops.copy(v) for v in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for variable in model.trainable_variables:
        # A copy, as JAX assigns by reference: whatever uses up the variable would take the average with it.
        average = keras.ops.copy(variable)
        # The average is taken before constraints are applied.
        variable.assign(average if variable.constraint is None else variable.constraint(average))
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, stepped, strict=True):
            variable.assign(value)
