"""Multi-label training: a loss and figures that pass over the unknown, thresholds that travel with the weights."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from run_helpers import assert_same_weights

import covidcxnet
from covidcxnet.datasets.vocabulary import check_labels
from covidcxnet.evaluation import evaluate
from covidcxnet.training import train
from enhancement.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_curves")


@pytest.fixture(scope="module")
def made(base, phantoms, tmp_path_factory):
    """A run on phantoms whose label became two findings, some of them unknown."""
    folder = tmp_path_factory.mktemp("findings")
    table = pd.read_csv(phantoms)
    ill = (table["label"] != "normal").astype(float)
    table = table.drop(columns="label").assign(effusion=ill, mass=np.where(np.arange(len(ill)) % 3, 1 - ill, -1))
    path = folder / "findings.csv"
    table.to_csv(path, index=False)
    changes = {"data": str(path), "root": str(phantoms.parent), "multilabel": True, "classes": ("effusion", "mass")}
    recipe = dataclasses.replace(base, **changes, store=str(folder / "store.h5"), out=str(folder / "run"))
    return train(recipe), recipe, folder


def test_a_run_stores_thresholds_from_validation_with_its_weights(made):
    run = made[0]
    classifier = covidcxnet.load_model(run.best_weights)
    assert classifier.task == "independent" and classifier.classes == ("effusion", "mass")
    row = run.log.set_index("epoch").loc[run.status["best_epoch"]]
    expected = [row["threshold_effusion"], row["threshold_mass"]]
    np.testing.assert_allclose(classifier.thresholds, expected, rtol=1e-5)
    assert set(run.status["counts"]["train"]) == {"effusion", "mass"}


def test_a_finished_run_that_is_given_more_epochs_ends_with_the_same_weights(made):
    run, recipe, folder = made
    half = train(dataclasses.replace(recipe, epochs=1, out=str(folder / "half")))
    assert half.status["status"] == "finished" and len(half.log) == 1
    longer = train(resume=half.path, epochs=recipe.epochs)
    assert longer.recipe.epochs == recipe.epochs == len(longer.log)
    assert_same_weights(run.last_weights, longer.last_weights)


def test_evaluation_writes_a_page_of_findings_on_the_run_and_on_other_data(made):
    run, recipe, folder = made
    report = evaluate(run, bootstrap=20, explain=False, progress=False)
    assert report.metrics.classes == ("effusion", "mass") and "By finding" in report.path.read_text()
    other = evaluate(
        run.best_weights, data=recipe.data, root=recipe.root, bootstrap=5, progress=False, out=folder / "other"
    )
    assert other.metrics.images == 36 and len(other.cases) >= 2
    assert other.data.overlap >= len(run.rows("train"))


def test_a_finding_without_a_column_or_that_a_side_never_has_is_refused(made, phantoms, tmp_path):
    with pytest.raises(InputError, match=r"hernia is present in no image of train.*classes mass"):
        check_labels(np.array([[1, 0], [0, 0]]), ("mass", "hernia"), "independent", "train")
    with pytest.raises(InputError, match="no finding 'effusion'"):
        train(dataclasses.replace(made[1], out=str(tmp_path / "none"), data=str(phantoms)))
    assert not (tmp_path / "none").exists()
