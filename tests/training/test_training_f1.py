"""F1 per epoch: the same figure by batches and at once, and a class that is never found is told aloud."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from covidcxnet.training import Recipe
from covidcxnet.training.data import targets_for
from covidcxnet.training.validation import (
    MacroF1,
    all_equal,
    collapse_message,
    collapsed,
    equal_message,
    f1_by_class,
    loss_for,
    validation_figures,
)


def cases(outputs):
    generator = np.random.default_rng(outputs)
    labels = generator.integers(0, max(2, outputs), 90)
    probabilities = generator.uniform(0, 1, (90, outputs)).astype("float32")
    return labels, targets_for(labels, max(2, outputs)), probabilities


@pytest.mark.parametrize("outputs", [1, 3, 5])
def test_f1_of_each_class_is_that_of_scikit_learn(outputs):
    labels, targets, probabilities = cases(outputs)
    said = probabilities[:, 0] >= 0.5 if outputs == 1 else probabilities.argmax(axis=1)
    np.testing.assert_allclose(f1_by_class(targets, probabilities), f1_score(labels, said, average=None), atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_metric_over_batches_is_the_mean_over_classes_of_the_whole(outputs):
    _, targets, probabilities = cases(outputs)
    metric = MacroF1(outputs)
    for _ in range(2):  # the second time after a reset, as in a second epoch
        metric.reset_state()
        for start in range(0, 90, 8):
            part = slice(start, start + 8)
            metric.update_state(targets[part], probabilities[part], sample_weight=np.full(len(targets[part]), 3.0))
        assert float(metric.result()) == pytest.approx(f1_by_class(targets, probabilities).mean(), abs=1e-6)


def test_independent_findings_leave_out_what_is_unknown():
    targets = np.array([[1, -1], [0, 1], [1, 0], [-1, 1]], "float32")
    probabilities = np.array([[0.9, 0.9], [0.2, 0.1], [0.1, 0.6], [0.9, 0.8]], "float32")
    found = f1_by_class(targets, probabilities, independent=True)
    for column in (0, 1):
        known = targets[:, column] >= 0
        expected = f1_score(targets[known, column], probabilities[known, column] >= 0.5)
        assert found[column] == pytest.approx(expected)
    one = f1_by_class(targets[:, :1], probabilities[:, :1], independent=True)
    assert one.shape == (1,) and one[0] == pytest.approx(found[0])


def test_validation_figures_tell_macro_f1_and_that_of_each_class():
    targets = targets_for(np.array([0, 0, 1, 2]), 3)
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]], "float32")
    figures = validation_figures(targets, probabilities, loss_for(Recipe(), targets), ("normal", "cap", "covid19"))
    assert figures["val_f1_normal"] == pytest.approx(0.8) and figures["val_f1_cap"] == 0
    assert figures["val_f1"] == pytest.approx((0.8 + 0 + 1) / 3)
    assert collapsed(figures) == ["cap"]


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        ({}, ["find-lr", "sampling oversample", "monitor val_f1"], ["class_weights", "thresholds of their own"]),
        ({"class_weights": "none", "sampling": "undersample"}, ["class_weights balanced"], ["sampling"]),
        ({"multilabel": True, "class_weights": "none"}, ["balanced", "thresholds of their own"], ["sampling"]),
        ({"monitor": "val_f1", "sampling": "oversample"}, ["learning_rate"], ["sampling", "val_f1", " or "]),
        ({"model": "logistic-regression"}, ["more images"], ["learning_rate", "sampling", "monitor"]),
    ],
)
def test_a_collapse_is_told_with_what_the_recipe_can_still_do(changes, said, unsaid):
    message = collapse_message(["cap"], Recipe(**changes))
    assert "validation image of cap" in message and "\n" not in message
    assert all(word in message for word in said) and not any(word in message for word in unsaid), message


def test_equal_predictions_are_told_from_others():
    same = np.full((4, 3), 0.3, "float32")
    assert all_equal(same) and all_equal(np.array([[0.1, 0.9]] * 3))
    same[3, 2] += 1e-6
    assert not all_equal(same)
    assert "longer warmup" in equal_message(Recipe(schedule="cosine", warmup=1.0))
    assert "schedule cosine" in equal_message(Recipe()) and "lower learning_rate" in equal_message(Recipe())
    assert "learning_rate" not in equal_message(Recipe(model="logistic-regression"))


def test_a_head_whose_units_die_is_told_when_it_happens_and_at_the_end(tiny, capsys, monkeypatch):
    from covidcxnet.training import train
    from covidcxnet.training.callbacks import Seeds

    begin = Seeds.on_epoch_begin

    def kill(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 1:
            layer = self.model.get_layer("small-cnn").get_layer("fc")
            layer.set_weights([np.zeros_like(layer.kernel), np.full(layer.bias.shape, -1e6)])

    monkeypatch.setattr("covidcxnet.training.fitting.draw_curves", lambda history, path, **_: path.write_bytes(b""))
    monkeypatch.setattr(Seeds, "on_epoch_begin", kill)
    run = train(tiny(epochs=3, monitor="val_loss"))
    lines = capsys.readouterr().err.splitlines()
    warned = [number for number, line in enumerate(lines) if "all predictions are equal" in line]
    assert run.log["val_auroc"][1] == run.log["val_auroc"][2] == 0.5
    assert lines[warned[0]].startswith("warning: after epoch 2 all predictions are equal: the head's units died; lower")
    assert lines[warned[0] - 1].startswith("epoch 2/3"), "the warning stands after its epoch"
    at_the_end = run.status["best_epoch"] > 1
    assert len(warned) == 1 + at_the_end, "said once, however long it lasts"
    assert at_the_end == lines[-1].startswith("warning: at the best epoch all predictions are equal")


def test_no_collapse_is_seen_where_there_is_none():
    assert collapsed({"val_f1": 0.0, "val_f1_normal": 0.2, "val_auroc": 0.0}) == []


def test_macro_f1_can_pick_the_best_epoch_and_another_name_is_refused():
    assert Recipe(monitor="val_f1").monitor == "val_f1"
    with pytest.raises(Exception, match=r"monitor: .*val_f1"):
        Recipe(monitor="val_f2")


def test_a_run_logs_f1_and_tells_a_collapse_aloud(tiny, capsys, monkeypatch):
    from covidcxnet.training import train

    monkeypatch.setattr("covidcxnet.training.fitting.draw_curves", lambda history, path, **_: path.write_bytes(b""))
    # a rate so small that nothing is learned, and an output that begins far on one side
    monkeypatch.setattr(
        "covidcxnet.training.fitting.Fitting._validate",
        lambda self: validation_figures(
            self.validation.targets, np.full(self.validation.targets.shape, 0.1), self.loss, self.labels
        ),
    )
    run = train(tiny(epochs=1, monitor="val_f1"))
    assert {"f1", "val_f1", "val_f1_normal", "val_f1_covid19"} <= set(run.log)
    assert 0 <= run.log["f1"][0] <= 1 and run.log["val_f1_covid19"][0] == 0
    said = capsys.readouterr().err
    assert "warning: at the best epoch no validation image of covid19 is found" in said
    assert run.status["best"]["val_f1"] == pytest.approx(run.log["val_f1"][0], abs=1e-6)
