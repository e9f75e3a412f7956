"""Each recipe of a paper holds what the paper says."""

import dataclasses

import pytest
from paper_rows import PAPERS, ROWS

from covidcxnet import recipes
from covidcxnet.models import MODELS
from covidcxnet.training import load_recipe

OURS = {"phantom", "transfer", "base-cnn", "covid-cxnet", "covid-cxnet-scratch"}


def test_every_system_of_the_papers_is_a_recipe():
    assert len(ROWS) == 8 + 18 + 8 + 12
    assert set(recipes.names()) >= set(ROWS) | OURS


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_holds_what_its_paper_names(name):
    row, recipe = ROWS[name], load_recipe(name)
    said = (recipe.model, recipe.classes, recipe.input.size, recipe.input.channels, recipe.epochs, recipe.batch_size)
    assert said == (row.model, row.classes, row.size, row.channels, row.epochs, row.batch)
    said = (recipe.optimizer, recipe.learning_rate, recipe.schedule, recipe.label_smoothing, recipe.input.region)
    assert said == ("adam", row.rate, row.schedule, row.smoothing, row.region)
    said = (recipe.init, recipe.trainable, recipe.sampling, recipe.class_weights, recipe.multilabel)
    assert said == (row.init, row.trainable, row.sampling, row.weights, row.multilabel)
    normalization = recipe.options.get("normalization", MODELS[recipe.model].normalization)
    assert normalization == row.normalization and recipe.patience == 0


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_says_where_it_stands_and_what_it_cannot_repeat(name):
    about = recipes.read(name).about
    assert name.startswith(about.study) and about.place and about.reproduced and about.not_reproduced
    assert all(0 < value <= 1 for key, value in about.published.items() if key.split("_")[0] in ("accuracy", "f1"))


@pytest.mark.parametrize("study", PAPERS)
def test_published_figures_are_those_that_compare_shows(study):
    from covidcxnet.experiments.compared_runs import published_rows

    shown = published_rows([study])
    for figure in ("accuracy", "auroc"):
        known = {round(getattr(row, figure).value, 6) for row in shown if getattr(row, figure) is not None}
        said = {recipes.read(name).about.published.get(figure) for name in ROWS if name.startswith(study)} - {None}
        assert said <= known and (said or study == "group-q" or figure == "auroc")


def test_the_best_figure_of_each_paper_is_the_printed_one():
    printed = {
        "covid-cxnet-v1": ("accuracy", 0.9904),
        "pneumonia-xception-balanced": ("accuracy", 0.9519),
        "radiography-resnet50-norm-radiograph": ("accuracy", 0.9546),
        "group-q-covid-efficientnet-b1": ("f1", 0.979),
    }
    for name, (figure, value) in printed.items():
        assert recipes.read(name).about.published[figure] == value


def test_the_pneumonia_groups_differ_in_augmentation_and_sampling_alone():
    assert "auroc" not in recipes.read("pneumonia-vgg16-balanced").about.published, "its AUC is one of decisions"
    raw, augmented, balanced = (load_recipe(f"pneumonia-vgg16-{group}") for group in ("raw", "augmented", "balanced"))
    assert not raw.augment.moves and not raw.augment.tones
    assert (augmented.augment.rotation, augmented.augment.zoom, augmented.augment.shift) == (10, (0.9, 1.1), 0.1)
    assert dataclasses.replace(raw, augment=augmented.augment) == augmented
    assert dataclasses.replace(augmented, sampling="oversample") == balanced
