"""A teacher's probabilities in place of labels: what is learned from, what is refused, and that a run can go on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_helpers import assert_same_weights, interrupt, stop_after

from covidcxnet import load_model
from covidcxnet.classifier import Classifier
from covidcxnet.datasets import make_phantoms
from covidcxnet.settings import InputSettings
from covidcxnet.training import AugmentSettings, Recipe, Run, train
from covidcxnet.training.lr_finder import range_test
from enhancement.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_curves")


def test_the_loss_is_that_against_the_teachers_probabilities(tiny, trained):
    still = {"augment": AugmentSettings.none(), "class_weights": "none", "learning_rate": 1e-9, "epochs": 1}
    recipe = tiny("taught", init=str(trained.path), teacher=str(trained.path), **still)
    run = train(recipe)
    soft = pd.read_csv(run.path / "soft_labels.csv").set_index("path")
    rows = run.store.table["path"].iloc[run.rows("train")]
    assert list(soft.index) == list(rows)
    paths = dict(zip(run.dataset.table["path"], run.dataset.paths, strict=True))
    expected = load_model(trained.path).predict_proba([paths[path] for path in rows])
    np.testing.assert_allclose(soft[["p_normal", "p_covid19"]].to_numpy(), expected, atol=1e-6)
    # The student is the teacher and hardly moves: what is left is the entropy of the teacher, were it not for dropout.
    entropy = -(expected * np.log(expected)).sum(axis=1).mean()
    assert run.log["loss"][0] == pytest.approx(entropy, abs=0.05)
    assert {"f1", "val_accuracy", "val_auroc"} <= set(run.log) and "accuracy" not in run.log


def test_a_teacher_computes_in_float32_whatever_its_student_does(tiny, trained):
    whole, half = (
        train(tiny(name, teacher=str(trained.path), epochs=1, precision=name)).soft_labels
        for name in ("float32", "mixed_bfloat16")
    )
    pd.testing.assert_frame_equal(whole, half, atol=1e-6, rtol=0)


def test_a_teacher_of_more_classes_teaches_the_shares_of_those_asked_for(tiny, tmp_path):
    three = {"data": "phantom", "phantom_images": 36, "epochs": 1, "classes": ("normal", "pneumonia", "covid19")}
    three["store"] = str(tmp_path / "three.h5")
    teacher = train(tiny("three", **three))
    # of another input than its teacher, which then reads the files
    other = InputSettings(size=40, channels=("raw",))
    soft = train(
        tiny("two", teacher=str(teacher.path), epochs=1, input=other, store=str(tmp_path / "two.h5"))
    ).soft_labels
    assert list(soft) == ["path", "p_normal", "p_covid19"] and len(soft) == 18
    np.testing.assert_allclose(soft["p_normal"] + soft["p_covid19"], 1, atol=1e-6)
    # of three classes each has its column
    student = train(tiny("student", teacher=str(teacher.path), **three))
    assert student.soft_labels.shape[1] == 4 and np.isfinite(student.log["loss"]).all()


def test_a_taught_run_resumes_without_its_teacher(tiny, trained, monkeypatch):
    whole = train(tiny("whole", teacher=str(trained.path), epochs=2))
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("cut", teacher=str(trained.path), epochs=2))
    cut = whole.path.with_name("cut")
    monkeypatch.setattr("covidcxnet.training.distillation.pretrained.load_model", None)
    assert_same_weights(whole.last_weights, train(resume=cut).last_weights)
    (cut / "soft_labels.csv").unlink()
    with pytest.raises(InputError, match=r"soft_labels\.csv: missing"):
        len(Run(cut).soft_labels)


def test_soft_labels_are_those_of_the_runs_own_teacher(tiny, trained, monkeypatch):
    """A training that stopped while images were prepared does not go on with what another teacher had said."""
    other = train(tiny("other", epochs=1, seed=5))
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("taught", teacher=str(other.path)))
        patch.setattr("covidcxnet.training.data.store_of", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("taught", teacher=str(trained.path)))
    taught = train(resume=other.path.with_name("taught"))
    right = train(tiny("right", teacher=str(trained.path)))
    pd.testing.assert_frame_equal(taught.soft_labels, right.soft_labels)
    assert_same_weights(taught.last_weights, right.last_weights)
    # and the weights say whose they are
    name = load_model(taught.best_weights).metadata["training"]["teacher"]
    assert name.startswith("trained, SHA-256 ") and str(trained.path) not in name


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "".join(text.splitlines(keepends=True)[:-3]),
        lambda text: text.replace(text.splitlines()[1].split(",")[1], "7"),
        lambda text: text.replace(text.splitlines()[1].split(",")[1], "abc"),
        lambda text: text.replace("p_normal", "p_other"),
    ],
)
def test_damaged_soft_labels_are_refused_and_made_anew_once_deleted(tiny, trained, monkeypatch, damage):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("cut", teacher=str(trained.path)))
    cut = Run(Path(tiny("cut").out))
    before, file = cut.soft_labels, cut.path / "soft_labels.csv"
    file.write_text(damage(file.read_text()))
    with pytest.raises(InputError, match=r"soft_labels\.csv: damaged or edited"):
        train(resume=cut.path)
    file.unlink()
    pd.testing.assert_frame_equal(train(resume=cut.path).soft_labels, before)


def test_images_that_the_teacher_has_no_answer_for_are_counted(tiny, trained, monkeypatch, capsys):
    answers = Classifier.predict_rows

    def some(self, store, rows, *others, **options):
        values = answers(self, store, rows, *others, **options)
        values[: len(values) - answered] = 0
        return values

    monkeypatch.setattr(Classifier, "predict_rows", some)
    answered = 15
    assert train(tiny("some", teacher=str(trained.path), epochs=1)).soft_labels["p_normal"].isna().sum() == 3
    assert "teacher: an answer for 15 of 18 training images; the other 3" in capsys.readouterr().err
    answered = 0
    with pytest.raises(InputError, match="no answer for any of 18 training images"):
        train(tiny("none", teacher=str(trained.path), epochs=1))


def test_a_class_may_be_called_as_a_column_is(tiny, tmp_path):
    folder = tmp_path / "images"
    make_phantoms(folder, 24, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    table = pd.read_csv(folder / "phantom.csv")
    table.replace({"label": {"normal": "path"}}).to_csv(folder / "phantom.csv", index=False)
    named = {"data": str(folder / "phantom.csv"), "classes": ("path", "covid19"), "store": str(tmp_path / "named.h5")}
    teacher = train(tiny("teacher", **named, epochs=1))
    assert list(train(tiny("named", **named, teacher=str(teacher.path), epochs=1)).soft_labels) == [
        *("path", "p_path", "p_covid19")
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multilabel": True, "class_weights": "none"}, "teacher: .*independent findings given"),
        ({"model": "logistic-regression"}, "teacher: .*logistic-regression given"),
        ({"model": "covid-cxnet-hierarchical"}, "teacher: .*covid-cxnet-hierarchical given"),
    ],
)
def test_what_cannot_be_taught_is_refused_by_the_recipe_alone(changes, message):
    with pytest.raises(InputError, match=message):
        Recipe(teacher="covid-cxnet-lite", **changes)


def test_a_teacher_that_is_missing_or_lacks_a_class_is_refused_before_images_are_prepared(tiny, trained, monkeypatch):
    monkeypatch.setattr("covidcxnet.training.data.store_of", None)
    with pytest.raises(InputError, match="nobody"):
        train(tiny("none", teacher="nobody.weights.h5"))
    with pytest.raises(InputError, match=r"teacher: .* knows normal, covid19 and lacks pneumonia; name"):
        train(
            tiny("lacks", teacher=str(trained.path), classes=("normal", "pneumonia"), data="phantom", phantom_images=30)
        )


def test_a_learning_rate_is_looked_for_on_what_is_trained(tiny, trained):
    labels = range_test(tiny("r1"), steps=20, progress=False)
    taught = range_test(tiny("r2", teacher=str(trained.path)), steps=20, progress=False)
    assert abs(labels.losses[:5] - taught.losses[:5]).min() > 1e-4
