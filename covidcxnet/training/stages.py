"""Training a model of several levels in stages, one level each, in one run.

Each stage trains one level alone on the classes that it tells apart, with the recipe's epochs, patience and schedule,
and keeps its best epoch.
"""

from __future__ import annotations

import sys
from typing import Any

import keras

from covidcxnet.models import MODELS
from covidcxnet.preparation import Batches
from weights.format import load_weights

from . import data
from .fitting import Fitting
from .recipe import Recipe
from .run import Run
from .state import load_values
from .validation import loss_for, validation_figures


class StagedFitting:
    """All stages of a model, with the methods of a `Fitting`; `core` is the whole model."""

    def __init__(self, run: Run, recipe: Recipe, core: keras.Model, options: dict[str, Any]):
        self.run, self.recipe, self.core, self.options = run, recipe, core, options
        # Values first: which variables the arrays belong to depends on the stage.
        state = run.path / "state.h5"
        values = load_values(state) if state.is_file() else {}
        self.stage = self._stage(values.get("stage", 1), values.get("earlier", []))

    def restore(self) -> None:
        """Take up the stage that the run had come to."""
        self.stage.restore()

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
        load_weights(self.core, run.best_weights)
        _, side = data.sides(recipe, run.store, run.split)
        batches = Batches(run.store, side.rows, side.targets, batch_size=recipe.batch_size)
        probabilities = self.core.predict(batches, verbose=0)
        figures = validation_figures(side.targets, probabilities, loss_for(recipe, side.targets), recipe.classes)
        run.update(whole_model=figures)
        text = ", ".join(f"{name} {figures[f'val_{name}']:.4f}" for name in ("auroc", "accuracy", "f1"))
        print(f"all levels together: validation {text}", file=sys.stderr)

    def _stage(self, level: int, earlier: list[dict[str, float]]) -> StageFitting:
        return StageFitting(self.run, self.recipe, self.core, self.options, level=level, earlier=earlier)


class StageFitting(Fitting):
    """One stage: the level's images, targets and loss; the whole model is saved.

    `level` counts from 1; `earlier` is the log of the stages before, on which the epochs of the run count on.
    """

    def __init__(self, run, recipe, core, options, *, level: int, earlier: list[dict[str, float]]):
        stages = MODELS[recipe.model].stages
        self.level, self.stages, self.stage, self.earlier = level, len(stages), stages[level - 1], earlier
        if not self.last:
            # The whole model with this level at its best and the next not yet trained: not a classifier to use.
            self.best_name = f"level{level}.weights.h5"
        trained, labels = self.stage.model(core), self.stage.names(recipe.classes)
        super().__init__(run, recipe, core, options, trained, labels)
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

    def _sides(self) -> tuple[data.Side, data.Side]:
        recipe, store = self.recipe, self.run.store
        # A class that is missing is an error of the first stage already, before it is trained for nothing.
        data.sides(recipe, store, self.run.split)
        targets, chosen = self.stage.targets(data.labels_of(recipe, store)), []
        for name in ("train", "validation"):
            rows = data.rows_of(store, self.run.split, name)
            rows = rows[targets[rows] >= 0]
            chosen.append(data.side_of(recipe, store, rows, targets[rows], 2, weighted=name == "train"))
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
