"""Training a hierarchical model in two stages, one level each, in one run.

The first stage sees all images and learns normal against any pneumonia, the second only those that are not normal: in
the published code the normals stay among the other pneumonias there, which its second network then has to tell apart
again. Each stage trains one level alone, with the recipe's epochs, patience and schedule, and keeps its best epoch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from covidcxnet.models.hierarchical import level_model, level_split
from covidcxnet.preparation import Batches
from weights.format import load_weights

from . import data
from .curves import draw_curves
from .fitting import Fitting
from .recipe import Recipe
from .run import rows_of
from .sampling import sampler_for
from .state import load_values
from .validation import loss_for, targets_for, validation_figures

if TYPE_CHECKING:
    from .run import Run

STAGES = (1, 2)
FIRST = "level1.weights.h5"
"""The whole model with its first level at its best and the second not yet trained: not a classifier to use."""


class StagedFitting:
    """Both stages of a hierarchical model, with the face of a `Fitting`.

    Parameters
    ----------
    run, recipe, core, options
        As in `Fitting`; `core` is the whole model.
    """

    def __init__(self, run: Run, recipe: Recipe, core: keras.Model, options: dict[str, Any]):
        self.parts = (run, recipe, core, options)
        state = run.path / "state.h5"
        values = load_values(state) if state.is_file() else {}
        self.stage = StageFitting(*self.parts, level=values.get("stage", 1), earlier=values.get("earlier", []))

    def restore(self) -> None:
        """Take up the stage that the run had come to."""
        self.stage.restore()

    def fit(self) -> None:
        """Train the stages that are not done."""
        self.stage.fit()
        if self.stage.level == 1:
            run, _, core, _ = self.parts
            best = self.stage.monitor.best_epoch
            told = ", ".join(f"{name} {self.stage.history[best - 1][f'val_{name}']:.4f}" for name in ("auroc", "f1"))
            print(f"stage 1: best epoch {best} of {len(self.stage.history)}: validation {told}", file=sys.stderr)
            load_weights(core, run.path / FIRST)  # the first level stays as it was at its best
            self.stage = StageFitting(*self.parts, level=2, earlier=self.stage.log)
            self.stage.fit()

    def draw(self) -> None:
        """Draw the learning curves so far."""
        self.stage.draw()

    def finish(self) -> None:
        """Close the run; figures of the whole model on validation go into `run.json`."""
        self.stage.finish()
        run, recipe, core, _ = self.parts
        load_weights(core, run.best_weights)
        _, validation = data.sides(recipe, run.store, run.split, recipe.classes)
        batches = Batches(run.store, validation.rows, validation.targets, batch_size=recipe.batch_size)
        probabilities = core.predict(batches, verbose=0)
        loss = loss_for(len(recipe.classes), recipe.label_smoothing)
        figures = validation_figures(validation.targets, probabilities, loss, recipe.classes)
        run.update(whole_model=figures)
        told = ", ".join(f"{name} {figures[f'val_{name}']:.4f}" for name in ("auroc", "accuracy", "f1"))
        print(f"both levels together: validation {told}", file=sys.stderr)


class StageFitting(Fitting):
    """One stage: the level's own images, targets and loss; the whole model is saved.

    Parameters
    ----------
    run, recipe, core, options
        As in `Fitting`.
    level : {1, 2}
    earlier : list of dict
        Log of the stage before; the epochs of the run count on from it.
    """

    def __init__(self, run, recipe, core, options, *, level: int, earlier: list[dict[str, float]]):
        self.level, self.earlier = level, earlier
        self.own = level_model(core, level)
        self.names = (recipe.classes[0], "pneumonia") if level == 1 else recipe.classes[1:]
        super().__init__(run, recipe, core, options)
        text = " or ".join(self.names) + (f"; no {recipe.classes[0]} images" if level == 2 else "")
        count = len(self.train.rows)
        print(f"stage {level} of {len(STAGES)}: {text}; {count} training images", file=sys.stderr, flush=True)

    @property
    def trained(self) -> keras.Model:
        """The level alone."""
        return self.own

    @property
    def best_name(self) -> str:
        """File of the stage's best epoch in the run folder."""
        return FIRST if self.level == 1 else super().best_name

    @property
    def log(self) -> list[dict[str, float]]:
        """Rows of the run so far, stage and all."""
        now = [row | {"epoch": len(self.earlier) + row["epoch"], "stage": self.level} for row in self.history]
        return [*self.earlier, *now]

    def draw(self) -> None:
        """Draw the learning curves of both stages so far."""
        if self.history:
            best = len(self.earlier) + self.monitor.best_epoch
            draw_curves(self.log, self.run.path / "curves.png", best_epoch=best, monitor=self.recipe.monitor)

    def _sides(self) -> tuple[data.Side, data.Side]:
        recipe, store, made = self.recipe, self.run.store, []
        labels = np.array([self.classes.index(label) for label in store.table["label"]], np.int64)
        # Said of all three classes, before the first stage has been trained for nothing.
        data.sides(recipe, store, self.run.split, self.classes)
        for name in ("train", "validation"):
            rows = rows_of(store, self.run.split, name)
            rows = rows if self.level == 1 else rows[labels[rows] != 0]
            second = (labels[rows] != 0 if self.level == 1 else labels[rows] == 2).astype(np.int64)
            weights, sampler = None, None
            if name == "train":
                weights = data.weights_of(recipe, store, rows, second, 2)
                sampler = sampler_for(recipe.sampling, second, recipe.seed)
            made.append(data.Side(rows, targets_for(second, 2), weights, sampler))
        return made[0], made[1]

    def _loss(self):
        return loss_for(2, self.recipe.label_smoothing)

    def _figures(self, probabilities: np.ndarray) -> dict[str, float]:
        return validation_figures(self.validation.targets, probabilities, self.loss, self.names)

    def _split(self) -> tuple[keras.Model, keras.Model]:
        return level_split(self.core, self.level)

    def _log(self) -> list[dict[str, float]]:
        return self.log

    def _state(self) -> dict[str, Any]:
        return {"stage": self.level, "earlier": self.earlier}

    def _derived(self) -> None:
        super()._derived()
        before = len(self.earlier)
        self.run.update(stage=self.level, epoch=before + self.epoch, best_epoch=before + self.monitor.best_epoch)

    def _metadata(self, epoch: int, figures: dict[str, float]) -> dict[str, Any]:
        made = super()._metadata(len(self.earlier) + epoch, figures)
        made["training"] |= {"stage": self.level, "stages": len(STAGES)}
        return made
