"""Fitting of logistic regression: scikit-learn solves it at once, and its weights go into the Keras model."""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.models.logistic import EVIDENCE
from enhancement.errors import InputError

from .fitting import Fitting
from .state import load_state

if TYPE_CHECKING:
    import keras

    from .recipe import Recipe
    from .run import Run

_MOST = 8 << 30  # bytes of pixels as the solver holds them


class LogisticFitting(Fitting):
    """A `Fitting` without epochs. Of the recipe's settings of training only class weights and the options play a part.

    Parameters
    ----------
    run, recipe, core, options
        As in `Fitting`; of `options`, ``C`` and ``max_iter`` are the solver's.

    Raises
    ------
    InputError
        If the pixels of all training images together are too many.
    """

    def __init__(self, run: Run, recipe: Recipe, core: keras.Model, options: dict[str, Any]):
        super().__init__(run, recipe, core, options)
        pixels = int(np.prod(core.input_shape[1:]))
        if len(self.train.rows) * pixels * 8 > _MOST:
            raise InputError(
                f"input.size: {recipe.input.size} given, {len(self.train.rows)} images of {pixels} numbers each are "
                "too many to be solved at once; 64 or less, and one channel, expected"
            )

    def restore(self) -> None:
        """Take up the weights if they were solved already."""
        path = self.run.path / "state.h5"
        if path.is_file():
            values = load_state(path, self.core, self.model.optimizer)
            self.epoch, self.history, self.over = 1, values["history"], True
            self.monitor.set_state(values["monitor"])

    def fit(self) -> None:
        """Solve, unless that is done."""
        if self.over:
            return
        began = time.monotonic()
        steps, reason = self._solve()
        logs = {"loss": self._training_loss(), **self._validate(), "learning_rate": float("nan")}
        logs |= {"solver_steps": float(steps), "seconds": round(time.monotonic() - began, 2)}
        self.monitor.best, self.monitor.best_epoch = [float(logs[self.recipe.monitor])], 1
        self.epoch, self.history = 1, [{"epoch": 1} | logs]
        self._save_best(1, logs)
        if reason:
            self.run.update(convergence=reason)
            print(f"warning: {reason}", file=sys.stderr, flush=True)
        self._write(1, self.history)

    def _solve(self) -> tuple[int, str]:
        """Set the model's weights; how many steps it took, and what the solver complained of."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        pixels = self._pixels()
        targets = self.train.targets
        labels = targets[:, 0].astype(int) if targets.shape[1] == 1 else targets.argmax(axis=1)
        solver = LogisticRegression(C=self._option("C"), max_iter=int(self._option("max_iter")))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            solver.fit(pixels, labels, sample_weight=self.train.weights)
        unfinished = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
        layer = self.core.get_layer(EVIDENCE)
        shape = tuple(layer.kernel.shape)
        kernel = solver.coef_.T.reshape(shape).astype("float32")
        # The scores are a sum over all pixels, so that each carries its share of the intercept.
        share = (solver.intercept_ / (shape[0] * shape[1])).astype("float32")
        layer.set_weights([kernel, share])
        steps = int(np.max(solver.n_iter_))
        strength, most = self._option("C"), int(self._option("max_iter"))
        reason = f"the solver stopped after {steps} steps without converging; options.max_iter above {most}, or "
        return steps, f"{reason}options.C below {strength:g} (stronger regularisation), helps" if unfinished else ""

    def _pixels(self) -> np.ndarray:
        """Training images as the model scales them, float64 [n, S * S * C]: float32 stops the solver early."""
        import keras

        scaled = keras.Model(self.core.input, self.core.get_layer(EVIDENCE).input)
        side = self.train
        made = np.concatenate([np.asarray(scaled(batch[0])) for batch in self._plain(side)])
        return made.reshape(len(made), -1).astype(np.float64)

    def _training_loss(self) -> float:
        import keras

        probabilities = self.core.predict(self._plain(self.train), verbose=0)
        return float(keras.ops.convert_to_numpy(self.loss(self.train.targets, probabilities)))

    def _option(self, name: str) -> float:
        from covidcxnet.models import MODELS

        return self.options.get(name, MODELS[self.recipe.model].options[name])
