"""Validation of both tasks: F1 as scikit-learn has it, a loss that passes over the unknown, thresholds, collapse."""

import matplotlib.image
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from covidcxnet.training import Recipe, train
from covidcxnet.training.callbacks import Seeds
from covidcxnet.training.run_folder import draw_curves
from covidcxnet.training.sampling import targets_for
from covidcxnet.training.validation import (
    KnownBinaryCrossentropy,
    MacroF1,
    all_equal,
    best_thresholds,
    collapse_message,
    collapsed,
    equal_message,
    f1_by_class,
    finding_weights,
    loss_for,
    validation_figures,
)

NAN = np.nan


@pytest.mark.parametrize("outputs", [1, 3, 5])
def test_f1_is_that_of_scikit_learn_over_batches_and_at_once(outputs):
    generator = np.random.default_rng(outputs)
    labels = generator.integers(0, max(2, outputs), 90)
    targets = targets_for(labels, max(2, outputs))
    probabilities = generator.uniform(0, 1, (90, outputs)).astype("float32")
    decided = probabilities[:, 0] >= 0.5 if outputs == 1 else probabilities.argmax(axis=1)
    expected = f1_score(labels, decided, average=None)
    np.testing.assert_allclose(f1_by_class(targets, probabilities), expected, atol=1e-6)
    metric = MacroF1(outputs)
    for _ in range(2):  # the second time after a reset, as in a second epoch
        metric.reset_state()
        for start in range(0, 90, 8):
            part = slice(start, start + 8)
            metric.update_state(targets[part], probabilities[part], sample_weight=np.full(len(targets[part]), 3.0))
        assert float(metric.result()) == pytest.approx(expected.mean(), abs=1e-6)


def test_f1_of_independent_findings_leaves_out_what_is_unknown():
    targets = np.array([[1, NAN], [0, 1], [1, 0], [-1, 1]], "float32")
    probabilities = np.array([[0.9, 0.9], [0.2, 0.1], [0.1, 0.6], [0.9, 0.8]], "float32")
    scores = f1_by_class(targets, probabilities, independent=True)
    for column, score in enumerate(scores):
        known = targets[:, column] >= 0
        assert score == pytest.approx(f1_score(targets[known, column], probabilities[known, column] >= 0.5))
    assert f1_by_class(targets[:, :1], probabilities[:, :1], independent=True).tolist() == pytest.approx([scores[0]])


def test_figures_of_two_classes_are_those_of_scikit_learn_over_all_rows():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 301)
    p = np.clip(0.3 * labels + generator.uniform(0, 0.7, 301), 0, 1)[:, None].astype("float32")
    figures = validation_figures(targets_for(labels, 2), p, loss_for(Recipe(), np.ones((2, 1))))
    assert figures["val_auroc"] == pytest.approx(roc_auc_score(labels, p[:, 0]), abs=1e-12)
    assert figures["val_average_precision"] == pytest.approx(average_precision_score(labels, p[:, 0]), abs=1e-12)
    assert figures["val_accuracy"] == pytest.approx(((p[:, 0] >= 0.5) == labels).mean())
    expected = -np.mean(np.where(labels == 1, np.log(p[:, 0] + 1e-7), np.log(1 - p[:, 0] + 1e-7)))
    assert figures["val_loss"] == pytest.approx(expected, rel=1e-3)
    figures = validation_figures(np.ones((2, 1)), np.array([[NAN], [1.0]]), loss_for(Recipe(), np.ones((2, 1))))
    assert all(np.isnan(value) for value in figures.values()), "predictions that are no numbers"


def test_figures_of_three_classes_are_macro_averages_and_name_the_class_never_found():
    targets = targets_for(np.array([0, 1, 2, 0, 1, 2]), 3)
    perfect, smooth = targets * 0.8 + 0.2 / 3, 0.9 * targets + 0.1 / 3
    figures = validation_figures(targets, perfect, loss_for(Recipe(label_smoothing=0.1), targets))
    assert (figures["val_auroc"], figures["val_accuracy"], figures["val_average_precision"]) == (1, 1, 1)
    assert figures["val_loss"] == pytest.approx(-(smooth * np.log(perfect)).sum(axis=1).mean(), rel=1e-4)
    targets = targets_for(np.array([0, 0, 1, 2]), 3)
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]], "float32")
    figures = validation_figures(targets, probabilities, loss_for(Recipe(), targets), ("normal", "cap", "covid19"))
    assert figures["val_f1_normal"] == pytest.approx(0.8) and figures["val_f1"] == pytest.approx((0.8 + 0 + 1) / 3)
    assert collapsed(figures) == ["cap"] and figures["val_f1_cap"] == 0
    assert collapsed({"val_f1": 0.0, "val_f1_normal": 0.2, "val_auroc": 0.0}) == []


def test_figures_of_findings_are_means_over_findings_and_hold_thresholds():
    truth = np.array([[1, 1], [1, 0], [0, 0], [0, NAN]])
    chance = np.array([[0.9, 0.3], [0.8, 0.2], [0.1, 0.1], [0.2, 0.9]])
    loss = KnownBinaryCrossentropy(np.ones((2, 2)), 2.0)
    figures = validation_figures(truth, chance, loss, ("mass", "hernia"), independent=True)
    assert (figures["val_f1_mass"], figures["val_f1_hernia"], figures["val_f1"]) == (1, 0, 0.5)
    assert figures["val_auroc"] == 1 and figures["val_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["threshold_hernia"] == pytest.approx(0.25)


def test_the_loss_of_findings_is_chexnets_and_gives_an_unknown_one_no_gradient():
    import tensorflow as tf

    truth = np.array([[1, 0, NAN], [0, NAN, NAN]], "float32")
    chance = np.array([[0.9, 0.2, 0.5], [0.3, 0.7, 0.1]], "float32")
    parts = [-0.8 * np.log(0.9) - 0.4 * np.log(0.8), -0.2 * np.log(0.7)]
    loss = KnownBinaryCrossentropy(np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]]), known=1.5)
    assert float(loss(truth, chance)) == pytest.approx(np.mean(parts) / 1.5, rel=1e-5)
    chance = tf.Variable(chance)
    with tf.GradientTape() as tape:
        value = loss(tf.constant(truth), chance)
    gradient = np.asarray(tape.gradient(value, chance))
    assert np.isfinite(value) and ((gradient == 0) == np.isnan(truth)).all()
    targets = np.array([[1, NAN], [0, 1], [0, 1], [0, 0]])
    np.testing.assert_allclose(finding_weights(targets), [[0.75, 0.25], [1 / 3, 2 / 3]], rtol=1e-6)


def test_thresholds_have_the_highest_f1_of_all():
    random = np.random.default_rng(0)
    truth = (random.random((80, 2)) < 0.3).astype(float)
    chance = np.clip(0.3 * truth + 0.7 * random.random((80, 2)), 0, 1)
    truth[:5, 1] = NAN
    for k, threshold in enumerate(best_thresholds(truth, chance)):
        known = ~np.isnan(truth[:, k])
        targets, chances = truth[known, k], chance[known, k]
        best = max(f1_score(targets, chances >= cut) for cut in chances)
        assert f1_score(targets, chances >= threshold) == pytest.approx(best)
    assert best_thresholds(np.zeros((3, 1)), np.ones((3, 1))) == 0.5


TUNED = {"model": "resnet50", "init": "imagenet", "learning_rate": 5e-3}


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({}, ["find-lr", "sampling oversample", "monitor val_f1"], ["class_weights", "thresholds of their own"]),
        ({"class_weights": "none", "sampling": "undersample"}, ["class_weights balanced"], ["sampling"]),
        ({"multilabel": True, "class_weights": "none"}, ["balanced", "thresholds of their own"], ["sampling"]),
        ({"monitor": "val_f1", "sampling": "oversample"}, ["learning_rate"], ["sampling", "val_f1", " or "]),
        ({"model": "logistic-regression"}, ["more images"], ["learning_rate", "sampling", "monitor"]),
        ({"classes": ("normal", "cap")}, ["threshold of 0.5"], ["thresholds of their own"]),
        ({"classes": ("normal", "cap", "covid19")}, ["F1 0)"], ["threshold"]),
        (TUNED, ["a lower learning_rate such as 0.0002, frozen_norms true, sampling", "monitor val_f1"], ["find-lr"]),
        (TUNED | {"frozen_norms": True, "learning_rate": 1e-4}, ["find-lr"], ["such as", "frozen_norms"]),
        (TUNED | {"trainable": "head"}, ["another learning_rate"], ["such as", "frozen_norms"]),
    ],
)
def test_a_collapse_comes_with_what_the_recipe_can_still_do(changes, present, absent):
    message = collapse_message(["cap"], Recipe(**changes), np.array([[1], [0], [0]]), norms=True)
    assert "validation image of cap" in message and "\n" not in message
    assert all(word in message for word in present) and not any(word in message for word in absent), message


def test_balancing_is_advised_only_where_classes_are_unbalanced_and_frozen_norms_where_there_are_norms():
    recipe = Recipe(**TUNED, class_weights="none")
    for classes, sizes, uneven in (
        (2, (30, 30), False),
        (2, (20, 31), True),
        (3, (9, 8, 7), False),
        (3, (5, 5, 8), True),
    ):
        targets = targets_for(np.repeat(np.arange(classes), sizes), classes)
        message = collapse_message(["normal"], recipe, targets)
        assert ("sampling oversample" in message) == ("class_weights balanced" in message) == uneven, sizes
        assert "frozen_norms" not in message and "learning_rate such as" in message


def test_equal_predictions_are_distinguished_from_others():
    same = np.full((4, 3), 0.3, "float32")
    assert all_equal(same) and all_equal(np.array([[0.1, 0.9]] * 3))
    same[3, 2] += 1e-6
    assert not all_equal(same)
    assert "longer warmup" in equal_message(Recipe(schedule="cosine", warmup=1.0))
    assert "schedule cosine" in equal_message(Recipe()) and "lower learning_rate" in equal_message(Recipe())
    assert "learning_rate" not in equal_message(Recipe(model="logistic-regression"))


@pytest.mark.usefixtures("quick_curves")
def test_a_head_whose_units_die_is_reported_when_it_happens_and_at_the_end(tiny, capsys, monkeypatch):
    begin = Seeds.on_epoch_begin

    def kill(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 1:
            layer = self.model.get_layer("small-cnn").get_layer("fc")
            layer.set_weights([np.zeros_like(layer.kernel), np.full(layer.bias.shape, -1e6)])

    monkeypatch.setattr(Seeds, "on_epoch_begin", kill)
    run = train(tiny(epochs=3, monitor="val_loss"))
    lines = capsys.readouterr().err.splitlines()
    warned = [number for number, line in enumerate(lines) if "all predictions are equal" in line]
    assert {"f1", "val_f1", "val_f1_normal", "val_f1_covid19"} <= set(run.log)
    assert run.log["val_auroc"][1] == run.log["val_auroc"][2] == 0.5 and 0 <= run.log["f1"][0] <= 1
    assert lines[warned[0]].startswith(
        "warning: after epoch 2 all predictions are equal: the units before the output died; lower"
    )
    assert lines[warned[0] - 1].startswith("epoch 2/3"), "the warning stands after its epoch"
    at_the_end = run.status["best_epoch"] > 1
    assert len(warned) == 1 + at_the_end, "once, however long it lasts"
    assert at_the_end == lines[-1].startswith("warning: at the best epoch all predictions are equal")


@pytest.mark.usefixtures("quick_curves")
def test_a_class_that_is_never_detected_at_the_best_epoch_is_reported(tiny, capsys, monkeypatch):
    def figures(self):
        targets = self.validation.targets
        return validation_figures(targets, np.full(targets.shape, 0.1), self.loss, self.labels)

    monkeypatch.setattr("covidcxnet.training.loop.TrainingLoop._validate", figures)
    run = train(tiny(epochs=1, monitor="val_f1"))
    warning = capsys.readouterr().err.partition("warning: at the best epoch ")[2]
    assert warning.startswith("no validation image of covid19 is found")
    assert "find-lr" in warning and "sampling" not in warning, "as many images of each class"
    assert run.log["val_f1_covid19"][0] == 0
    assert run.status["best"]["val_f1"] == pytest.approx(run.log["val_f1"][0], abs=1e-6)


def test_curves_are_one_wide_picture_of_loss_and_f1_of_training_and_validation(tmp_path):
    figures = {"loss": 1, "val_loss": 1.2, "val_auroc": 0.9, "learning_rate": 1e-3, "f1": 0.6, "val_f1": 0.5}
    pictures = set()
    changes = ({}, {"loss": 9.0}, {"f1": 0.1}, {"val_f1": 0.1}, {"loss": NAN})
    for change in changes:
        history = [{"epoch": epoch, **figures, **(change if epoch == 2 else {})} for epoch in (1, 2)]
        path = draw_curves(history, tmp_path / "c.png", best_epoch=1, monitor="val_auroc")
        picture = matplotlib.image.imread(path)
        assert picture.shape[1] > 2 * picture.shape[0] and picture[..., :3].std() > 0.05
        pictures.add(path.read_bytes())
    assert len(pictures) == len(changes), "a figure that changes does not show"
