"""The two stages of a hierarchical run, and logistic regression: what is trained on what, and taken up again."""

import dataclasses
import os

import numpy as np
import pytest
from run_helpers import assert_same_weights

import covidcxnet
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from covidcxnet.training import Run, train
from covidcxnet.training import loop as staged
from covidcxnet.training.checkpoint import read_state

NAME = "covid-cxnet-hierarchical"

pytestmark = pytest.mark.usefixtures("quick_curves")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """CSV of 45 phantoms of 32 pixels in three classes."""
    from covidcxnet.datasets import make_phantoms

    folder = tmp_path_factory.mktemp("three") / "data"
    make_phantoms(folder, 45, seed=2, size=32, classes=("normal", "pneumonia", "covid19"), progress=False)
    return folder / "phantom.csv"


@pytest.fixture(scope="module")
def recipe(base, three):
    return dataclasses.replace(
        base,
        data=str(three),
        classes=("normal", "pneumonia", "covid19"),
        model=NAME,
        options={"blocks": [1], "growth": 2, "hidden": [3]},
        store=str(three.parent / "store.h5"),
        epochs=2,
        patience=0,
    )


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """A whole run, and what each stage was trained on."""
    shown = {}
    original = staged.StageLoop._sides

    def sides(self):
        made = original(self)
        shown[self.level] = made
        return made

    staged.StageLoop._sides = sides
    try:
        run = train(dataclasses.replace(recipe, out=str(tmp_path_factory.mktemp("runs") / "run")))
    finally:
        staged.StageLoop._sides = original
    return run, shown


def test_the_second_stage_never_sees_a_normal_image_and_the_first_sees_all(finished):
    run, shown = finished
    labels = run.store.table["label"].to_numpy()
    for side, name in enumerate(("train", "validation")):
        rows = run.rows(name)
        np.testing.assert_array_equal(shown[1][side].rows, rows)
        np.testing.assert_array_equal(shown[1][side].targets[:, 0], labels[rows] != "normal")
        second = shown[2][side]
        assert set(labels[second.rows]) == {"pneumonia", "covid19"}
        assert len(second.rows) == (labels[rows] != "normal").sum()
        np.testing.assert_array_equal(second.targets[:, 0], labels[second.rows] == "covid19")
    weights = shown[2][0].weights
    assert weights.mean() == pytest.approx(1) and len(weights) == len(shown[2][0].rows)


def test_the_second_stage_leaves_the_first_level_at_its_best_epoch(finished):
    run = finished[0]
    last = covidcxnet.load_model(run.last_weights).model
    first = create(NAME, classes=run.recipe.classes, **run.status["options"])
    first.load_weights(run.path / "level1.weights.h5")
    names = [layer.name for layer in last.layers if layer.weights and layer.name.startswith("level1_")]
    for name in (*names, "level2_pred"):
        pairs = zip(last.get_layer(name).get_weights(), first.get_layer(name).get_weights(), strict=True)
        assert all(np.array_equal(a, b) == (name != "level2_pred") for a, b in pairs)


def test_the_log_runs_through_both_stages_and_the_weights_say_how_far_they_are(finished):
    run = finished[0]
    assert list(run.log["epoch"]) == [1, 2, 3, 4] and list(run.log["stage"]) == [1, 1, 2, 2]
    assert run.status["status"] == "finished" and run.status["best_epoch"] in (3, 4)
    assert 0 <= run.status["whole_model"]["val_auroc"] <= 1
    classifier = covidcxnet.load_model(run.best_weights)
    assert classifier.metadata["training"]["stage"] == 2 and classifier.classes == run.recipe.classes
    result = classifier.explain(run.dataset.paths[0])[0]
    assert sum(result.prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_run_killed_between_and_in_the_stages_ends_with_the_same_weights(finished, recipe, tmp_path, monkeypatch):
    run, out, done = finished[0], tmp_path / "run", []
    original = staged.StageLoop._write

    def write(self, epoch, history):
        original(self, epoch, history)
        done.append(epoch)
        if len(done) in (2, 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(staged.StageLoop, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(recipe, out=str(out)))
    assert read_state(out / "state.h5").values["stage"] == 1 and not (out / "best.weights.h5").exists()
    with pytest.raises(KeyboardInterrupt):
        train(resume=out)
    assert read_state(out / "state.h5").values["stage"] == 2 and (out / "best.weights.h5").exists()
    again = train(resume=out)
    assert list(again.log["stage"]) == [1, 1, 2, 2] and len(done) == 4
    assert_same_weights(run.best_weights, again.best_weights)
    assert_same_weights(run.last_weights, again.last_weights)


def test_heads_alone_are_trained_on_features_of_each_level(recipe, finished, tmp_path):
    settings = {"trainable": "head", "init": str(finished[0].best_weights), "epochs": 1, "out": str(tmp_path / "head")}
    run = train(dataclasses.replace(recipe, **settings))
    first = covidcxnet.load_model(run.last_weights).model
    assert np.isfinite(first.get_weights()[0]).all() and list(run.log["stage"]) == [1, 2]


@pytest.fixture(scope="module")
def solved(recipe, tmp_path_factory):
    changes = {
        "model": "logistic-regression",
        "options": {"C": 0.05},
        "input": InputSettings(size=32, channels=("raw",)),
    }
    out = tmp_path_factory.mktemp("runs") / "logistic"
    return train(dataclasses.replace(recipe, **changes, store=str(out.parent / "store.h5"), out=str(out)))


def test_logistic_regression_predicts_what_scikit_learn_does(solved):
    from sklearn.linear_model import LogisticRegression

    from covidcxnet.training.sampling import balanced_weights

    store, rows = solved.store, solved.rows("train")
    pixels = ((store.read(rows).reshape(len(rows), -1) - 127.5) / 127.5).astype(float)
    labels = store.targets[rows]
    solver = LogisticRegression(C=0.05, max_iter=1000).fit(pixels, labels, balanced_weights(labels, 3))
    test = store.read(solved.rows("test"))
    expected = solver.predict_proba(((test.reshape(len(test), -1) - 127.5) / 127.5).astype(float))
    classifier = covidcxnet.load_model(solved.best_weights)
    np.testing.assert_allclose(classifier.predict_stacks(test), expected, atol=1e-4)
    assert len(solved.log) == 1 and solved.status["status"] == "finished" and "convergence" not in solved.status


def test_logistic_regression_is_explained_and_taken_up_again_like_the_others(solved):
    classifier = covidcxnet.load_model(solved.best_weights)
    assert classifier.explain(solved.dataset.paths[0])[0].map.shape == (32, 32)
    before = os.stat(solved.best_weights).st_mtime_ns
    assert train(resume=solved.path).log.equals(Run(solved.path).log)
    assert os.stat(solved.best_weights).st_mtime_ns == before


def test_a_solver_that_does_not_converge_is_told_of(recipe, tmp_path, capsys):
    changes = {"model": "logistic-regression", "options": {"C": 100.0, "max_iter": 2}}
    changes |= {"input": InputSettings(size=32, channels=("raw",)), "store": str(tmp_path / "s.h5")}
    run = train(dataclasses.replace(recipe, **changes, out=str(tmp_path / "run")))
    assert "max_iter" in run.status["convergence"] and "without converging" in capsys.readouterr().err
