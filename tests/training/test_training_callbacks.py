"""The monitor alone: what counts as better, when the rate falls, when training stops, and its state."""

from types import SimpleNamespace

import pytest

from covidcxnet.training import Recipe
from covidcxnet.training.callbacks import Monitor
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


def test_the_best_epoch_is_saved_and_ties_go_to_the_lower_loss():
    bench = Bench()
    for auroc, loss in ((0.7, 1.0), (0.9, 0.9), (0.8, 0.1), (0.9, 0.95), (0.9, 0.5)):
        bench.after(auroc, loss)
    assert bench.saved == [1, 2, 5] and bench.monitor.best_epoch == 5


def test_a_monitored_loss_is_better_when_lower():
    bench = Bench(monitor="val_loss")
    for loss in (1.0, 0.5, 0.7):
        bench.after(0.5, loss)
    assert bench.saved == [1, 2]


def test_the_rate_is_halved_on_a_plateau_and_logged_as_it_was():
    bench = Bench(lr_patience=2, patience=0)
    logged = [bench.after(0.5, 1.0 + i)["learning_rate"] for i in range(6)]
    assert logged == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]
    assert bench.rate == 0.025 and not bench.stopped


def test_training_stops_after_patience_epochs_and_not_before():
    bench = Bench(patience=3, lr_patience=0)
    bench.after(0.9)
    for expected in (False, False, True):
        bench.after(0.5)
        assert bench.stopped is expected
    assert bench.rate == 0.1


def test_a_restored_monitor_goes_on_where_it_was():
    one = Bench(patience=3)
    for auroc in (0.9, 0.5, 0.5):
        one.after(auroc)
    other = Bench(patience=3)
    other.monitor.set_state(one.monitor.get_state())
    other.epoch = 3
    other.after(0.5)
    assert other.stopped and other.monitor.best_epoch == 1 and other.saved == []


@pytest.mark.parametrize(("training", "validation"), [(float("nan"), 1.0), (1.0, float("nan")), (float("inf"), 1.0)])
def test_a_loss_that_is_no_number_is_an_error_that_names_the_learning_rate(training, validation):
    bench = Bench()
    with pytest.raises(InputError, match="learning_rate"):
        bench.after(0.5, validation, training)
    assert bench.saved == []
