"""Optimizers and schedules of a recipe, and the monitor: what is better, when the rate falls or training stops."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from covidcxnet.training import Recipe
from covidcxnet.training.callbacks import Monitor, Progress
from covidcxnet.training.loop import averaged, optimizer_for
from enhancement.errors import InputError


class Bench:
    """A monitor that is fed validation figures by hand."""

    def __init__(self, **settings):
        self.saved, self.figures = [], {}
        recipe = Recipe(**settings)
        self.monitor = Monitor(recipe, lambda: dict(self.figures), lambda epoch, logs: self.saved.append(epoch))
        self.monitor.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1), stop_training=False))
        self.epoch = 0

    def after(self, auroc, loss=1.0, training=1.0):
        self.figures = {"val_auroc": auroc, "val_loss": loss}
        logs = {"loss": training}
        self.monitor.on_epoch_end(self.epoch, logs)
        self.epoch += 1
        return logs

    @property
    def rate(self):
        return self.monitor.model.optimizer.learning_rate

    @property
    def stopped(self):
        return self.monitor.model.stop_training


def test_the_best_epoch_is_saved_ties_go_to_the_lower_loss_and_a_monitored_loss_is_better_when_lower():
    bench = Bench()
    for auroc, loss in ((0.7, 1.0), (0.9, 0.9), (0.8, 0.1), (0.9, 0.95), (0.9, 0.5)):
        bench.after(auroc, loss)
    assert bench.saved == [1, 2, 5] and bench.monitor.best_epoch == 5
    bench = Bench(monitor="val_loss")
    for loss in (1.0, 0.5, 0.7):
        bench.after(0.5, loss)
    assert bench.saved == [1, 2]


def test_training_stops_after_patience_epochs_and_not_before_also_from_a_restored_state():
    whole, other = Bench(patience=3, lr_patience=0), Bench(patience=3, lr_patience=0)
    whole.after(0.9)
    for expected in (False, False, True):
        assert whole.stopped is False
        if expected:
            other.monitor.set_state(whole.monitor.get_state())
            other.epoch = whole.epoch
        for bench in (whole, other) if expected else (whole,):
            bench.after(0.5)
            assert bench.stopped is expected and bench.rate == 0.1
    assert other.monitor.best_epoch == 1 and other.saved == []


def test_the_rate_is_halved_on_a_plateau_and_logged_as_it_was():
    bench = Bench(lr_patience=2, patience=0)
    logged = [bench.after(0.5, 1.0 + i)["learning_rate"] for i in range(6)]
    assert logged == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]
    assert bench.rate == 0.025 and not bench.stopped


@pytest.mark.parametrize(("training", "validation"), [(float("nan"), 1.0), (1.0, float("nan")), (float("inf"), 1.0)])
def test_a_loss_that_is_no_number_is_an_error_that_names_the_learning_rate(training, validation):
    bench = Bench()
    with pytest.raises(InputError, match="learning_rate"):
        bench.after(0.5, validation, training)
    assert bench.saved == []


def rate_at(optimizer, step: int) -> float:
    optimizer.build([keras.Variable(np.zeros(2, "float32"))])
    optimizer.iterations.assign(step)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


@pytest.mark.parametrize(
    ("step", "left"), [(5, ["25 s", "20 s"]), (29, ["2 min", "116 s"]), (600, ["50 min", "40 min"])]
)
def test_the_time_left_is_in_seconds_below_two_minutes_and_else_in_minutes(step, left, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("covidcxnet.training.callbacks.time", SimpleNamespace(monotonic=lambda: now[0]))
    for name in ("FIRST", "EVERY"):
        monkeypatch.setattr(f"enhancement.progress.{name}", 0.0)
    progress = Progress(None, None, images=84, epochs=1, batch_size=12)
    progress.on_epoch_begin(0)
    for batch in range(4):
        now[0] += step
        progress.on_train_batch_end(batch, {"loss": 0.5})
    progress.on_train_end()
    # Of seven steps the second and third; the first compiles.
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert [line.partition("at most ")[2] for line in lines] == [f"{text} in all" for text in left]


def test_a_cosine_rises_from_a_hundredth_and_ends_at_zero():
    recipe = Recipe(schedule="cosine", learning_rate=1e-2, epochs=4, warmup=1)
    rates = [rate_at(optimizer_for(recipe, steps=10), step) for step in (0, 10, 25, 40)]
    np.testing.assert_allclose(rates, [1e-4, 1e-2, 5e-3, 0], atol=1e-8)


def test_neither_a_cosine_nor_a_plateau_takes_the_rate_below_its_floor():
    cosine = Recipe(schedule="cosine", learning_rate=1e-2, min_learning_rate=1e-3, epochs=4)
    rates = [rate_at(optimizer_for(cosine, steps=10), step) for step in (0, 20, 40)]
    np.testing.assert_allclose(rates, [1e-2, 5.5e-3, 1e-3], rtol=1e-5)
    bench = Bench(lr_patience=1, patience=0, learning_rate=0.1, min_learning_rate=0.03)
    assert [bench.after(0.5, 1.0 + i)["learning_rate"] for i in range(5)] == pytest.approx([0.1, 0.1, 0.05, 0.03, 0.03])


def test_a_plateau_schedule_leaves_the_rate_to_the_monitor():
    assert rate_at(optimizer_for(Recipe(learning_rate=3e-4), steps=10), 39) == pytest.approx(3e-4)


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_the_optimizer_is_the_one_named(name, kind):
    assert type(optimizer_for(Recipe(optimizer=name), steps=1)).__name__ == kind


def test_adamw_decays_kernels_and_not_biases_or_batch_norms():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.get_layer(index=0).bias.assign([1.0, 1.0])
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    optimizer = optimizer_for(Recipe(optimizer="adamw", weight_decay=0.5, learning_rate=0.1), steps=1)
    optimizer.build(model.trainable_variables)
    optimizer.apply_gradients([(keras.ops.zeros_like(v), v) for v in model.trainable_variables])
    pairs = zip(model.trainable_variables, before, strict=True)
    assert {v.name for v, old in pairs if not np.allclose(keras.ops.convert_to_numpy(v), old)} == {"kernel"}


@pytest.mark.parametrize(("name", "ema"), [("adam", 0.5), ("adamw", 0.5), ("sgd", 0.5), ("adam", 0.0)])
def test_the_moving_average_is_there_within_the_block_and_the_weights_are_back_after_it(name, ema):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    (kernel,) = model.trainable_variables
    model.compile(optimizer_for(Recipe(optimizer=name, ema=ema, learning_rate=0.1), steps=1), loss="mse")
    average, seen = None, []
    for _ in range(4):
        model.train_on_batch(np.ones((1, 1)), np.full((1, 1), 5.0))
        seen.append(float(keras.ops.convert_to_numpy(kernel)[0, 0]))
        average = seen[-1] if average is None else ema * average + (1 - ema) * seen[-1]
    with averaged(model):
        assert float(keras.ops.convert_to_numpy(kernel)[0, 0]) == pytest.approx(average, abs=1e-5)
    assert float(keras.ops.convert_to_numpy(kernel)[0, 0]) == seen[-1]
    assert (seen[-1] == pytest.approx(average, abs=1e-3)) == (ema == 0)
