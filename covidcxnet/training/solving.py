"""Fitting of a model that is solved at once instead of trained over epochs, such as logistic regression."""

from __future__ import annotations

import sys
import time

import keras

from covidcxnet.models import MODELS

from .fitting import Fitting
from .state import load_state


class SolvedFitting(Fitting):
    """A `Fitting` without epochs; of the settings of training only class weights and the model's options count."""

    def restore(self) -> None:
        """Take up the weights if they were solved already."""
        path = self.run.path / "state.h5"
        if path.is_file():
            values = load_state(path, self.core, self.model.optimizer)
            self.epoch, self.history, self.over = 1, values["history"], True
            self.monitor.set_state(values["monitor"])

    def fit(self) -> None:
        """Solve, unless that is done; `InputError` if the pixels of all training images together are too many."""
        if self.over:
            return
        began, side, spec = time.monotonic(), self.train, MODELS[self.recipe.model]
        settings = {name: self.options.get(name, default) for name, default in spec.options.items()}
        stacks = (batch[0] for batch in self._plain(side))
        assert spec.solve is not None  # or the trainer would have chosen another fitting
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
