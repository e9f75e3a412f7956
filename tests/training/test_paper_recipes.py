"""Each recipe of a paper holds what the paper says, and trains with its head, loss and weights."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from covidcxnet import recipes
from covidcxnet.experiments.compared_runs import published_rows
from covidcxnet.models import MODELS
from covidcxnet.training import load_recipe, train
from covidcxnet.training.loop import TrainingLoop
from covidcxnet.training.recipe import AugmentSettings

# The systems of the four papers as they name them, read from the papers.
STACK = ("clahe", "beasf", "raw")
RAW = ("raw", "raw", "raw")
QUEUE = ("equalize_blur",) * 3
FOUR = ("normal", "covid19", "lung_opacity", "viral_pneumonia")
SEVEN = ("normal", "infiltration", "effusion", "atelectasis", "nodule", "mass", "pneumothorax")


@dataclasses.dataclass(frozen=True)
class Row:
    """One system of a paper. `head` is pool, hidden, dropout."""

    model: str
    classes: tuple
    size: int
    channels: tuple
    epochs: int
    batch: int
    rate: float
    head: tuple
    init: str = "random"
    trainable: str = "all"
    schedule: str = "constant"
    sampling: str = "none"
    weights: str = "none"
    smoothing: float = 0.0
    normalization: str = "unit"
    region: str = "none"
    multilabel: bool = False
    floor: float = 0.0  # of the rate


def _covid_cxnet():
    two, three = ("normal", "covid19"), ("normal", "pneumonia", "covid19")
    plain, ten, linear = ("flatten", (10, 10), 0.0), ("average", (10,), 0.2), ("average", (), 0.0)
    first = Row("covid-cxnet", two, 320, STACK, 10, 16, 1e-3, ten, "covid-cxnet-chexnet", weights="balanced")
    lungs = dataclasses.replace(first, region="crop", smoothing=0.1)
    multi = dataclasses.replace(lungs, classes=three, epochs=30, rate=2e-4)
    imagenet = Row("covid-cxnet", two, 224, STACK, 20, 32, 1e-4, linear, "imagenet", "head", normalization="imagenet")
    yield "base-v1", Row("base-cnn", two, 400, ("raw",), 100, 32, 1e-4, plain)
    yield "base-v2", Row("base-cnn", two, 400, STACK, 120, 32, 1e-4, plain, weights="balanced")
    yield "densenet121-imagenet", imagenet
    yield "resnet50-imagenet", dataclasses.replace(imagenet, model="resnet50", normalization="caffe")
    yield "v1", first
    yield "v2", lungs
    yield "multiclass", multi
    yield "hierarchical", dataclasses.replace(multi, model="covid-cxnet-hierarchical", rate=1e-4)


def _pneumonia():
    small = Row(
        "small-cnn", ("normal", "pneumonia"), 128, RAW, 15, 32, 1e-3, ("flatten", (128,), 0.0), schedule="plateau"
    )
    small = dataclasses.replace(small, floor=1e-6)
    transfer = dataclasses.replace(small, init="imagenet", head=("max", (128,), 0.0))
    names = {"densenet121": "covid-cxnet"}
    for name in ("small-cnn", "resnet50", "densenet121", "vgg16", "inception-v3", "xception"):
        row = small if name == "small-cnn" else dataclasses.replace(transfer, model=names.get(name, name))
        for group in ("raw", "augmented", "balanced"):
            sampling = "oversample" if group == "balanced" else "none"
            yield f"{name}-{group}", dataclasses.replace(row, sampling=sampling)


def _radiography():
    dense = ("flatten", (4096, 4096), (0.5, 0.5, 0.0))
    base = Row("alexnet", FOUR, 224, RAW, 40, 32, 1e-4, dense, "imagenet", "conv5")
    deep = dataclasses.replace(base, epochs=25, batch=64, trainable="block5_conv2,block5_conv3,block5_conv4")
    rows = {
        "alexnet": base,
        "vgg19-bn": dataclasses.replace(deep, model="vgg19-bn", head=("flatten", (4096, 4096), (0.0, 0.5, 0.5))),
        "resnet50": dataclasses.replace(
            deep, model="resnet50-torchvision", head=("average", (), 0.0), trainable="layer3,layer4"
        ),
        # solved by scikit-learn: epochs, batches and rate are the defaults and mean nothing
        "logistic-regression": dataclasses.replace(
            base, model="logistic-regression", init="random", trainable="all", size=32, head=(), epochs=16, batch=8
        ),
    }
    for name, row in rows.items():
        for norm in ("radiograph", "imagenet"):
            yield f"{name}-norm-{norm}", dataclasses.replace(row, normalization=norm)


def _group_q():
    base = Row(
        "resnet34", (), 0, QUEUE, 100, 32, 0.01, ("average", (), 0.0), schedule="cosine", normalization="training"
    )
    base = dataclasses.replace(base, floor=0.001)
    efficient = dataclasses.replace(base, model="efficientnet-b1", head=("average", (), 0.2))
    models = {
        "resnet34": base,
        "mobilenet-v3-large": dataclasses.replace(base, model="mobilenet-v3-large", head=("average", (1280,), 0.2)),
        "efficientnet-b1": efficient,
        "efficientnet-b1-imagenet": dataclasses.replace(
            efficient, model="efficientnet-b1-torchvision", init="torchvision-efficientnet-b1-v2"
        ),
    }
    sets = {
        "covid": {"classes": ("normal", "covid19", "viral_pneumonia"), "size": 299},
        "pneumonia": {"classes": ("normal", "bacterial_pneumonia", "viral_pneumonia"), "size": 224},
        "chest8": {"classes": SEVEN, "size": 384, "multilabel": True, "weights": "balanced"},
    }
    for data, changes in sets.items():
        for name, row in models.items():
            yield f"{data}-{name}", dataclasses.replace(row, **changes)


PAPERS = {"covid-cxnet": _covid_cxnet, "pneumonia": _pneumonia, "radiography": _radiography, "group-q": _group_q}
ROWS = {f"{paper}-{name}": row for paper, rows in PAPERS.items() for name, row in rows()}

OURS = {"phantom", "transfer", "base-cnn", "covid-cxnet", "covid-cxnet-scratch"}


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_holds_what_its_paper_names_and_says_what_it_cannot_repeat(name):
    row, recipe, about = ROWS[name], load_recipe(name), recipes.read(name).about
    values = (recipe.model, recipe.classes, recipe.input.size, recipe.input.channels, recipe.epochs, recipe.batch_size)
    assert values == (row.model, row.classes, row.size, row.channels, row.epochs, row.batch)
    values = (recipe.optimizer, recipe.learning_rate, recipe.schedule, recipe.label_smoothing, recipe.input.region)
    assert values == ("adam", row.rate, row.schedule, row.smoothing, row.region)
    assert recipe.min_learning_rate == row.floor
    values = (recipe.init, recipe.trainable, recipe.sampling, recipe.class_weights, recipe.multilabel)
    assert values == (row.init, row.trainable, row.sampling, row.weights, row.multilabel)
    normalization = recipe.options.get("normalization", MODELS[recipe.model].normalization)
    assert normalization == row.normalization and recipe.patience == 0
    assert name.startswith(about.study) and about.place and about.reproduced and about.not_reproduced
    assert all(0 < value <= 1 for key, value in about.published.items() if key.split("_")[0] in ("accuracy", "f1"))


def test_every_system_of_the_papers_is_a_recipe_with_the_published_figures_that_compare_shows():
    assert len(ROWS) == 8 + 18 + 8 + 12 and set(recipes.names()) >= set(ROWS) | OURS
    for study in PAPERS:
        shown = published_rows([study])
        for figure in ("accuracy", "auroc"):
            known = {round(getattr(row, figure).value, 6) for row in shown if getattr(row, figure) is not None}
            published = {recipes.read(name).about.published.get(figure) for name in ROWS if name.startswith(study)}
            assert published - {None} <= known
    printed = {
        "covid-cxnet-v1": ("accuracy", 0.9904),
        "pneumonia-xception-balanced": ("accuracy", 0.9519),
        "radiography-resnet50-norm-radiograph": ("accuracy", 0.9546),
        "group-q-covid-efficientnet-b1": ("f1", 0.979),
    }
    assert all(recipes.read(name).about.published[figure] == value for name, (figure, value) in printed.items())


def test_group_q_varies_flips_sharpness_and_contrast_alone_and_undersamples_the_normals_once():
    recipe, about = (read("group-q-covid-mobilenet-v3-large") for read in (load_recipe, recipes.read))
    flips = dataclasses.replace(AugmentSettings.none(), flip_horizontal=True, sharpness=2, autocontrast=True)
    assert recipe.augment == flips and recipe.options["hidden_activation"] == "hard_swish"
    assert about.about.data == "radiography,blocks=20,normals=3600:FOLDER"


def test_the_pneumonia_groups_differ_in_augmentation_and_sampling_alone():
    assert "auroc" not in recipes.read("pneumonia-vgg16-balanced").about.published, "its AUC is one of decisions"
    raw, augmented, balanced = (load_recipe(f"pneumonia-vgg16-{group}") for group in ("raw", "augmented", "balanced"))
    assert not raw.augment.moves and not raw.augment.tones
    assert (augmented.augment.rotation, augmented.augment.zoom, augmented.augment.shift) == (10, (0.9, 1.1), 0.1)
    assert dataclasses.replace(raw, augment=augmented.augment) == augmented
    assert dataclasses.replace(augmented, sampling="oversample") == balanced


# Smallest stack that each network takes, and what keeps a step short without changing what the paper names.
LEAST = {"base-cnn": 65, "small-cnn": 96, "alexnet": 63, "xception": 71, "inception-v3": 75}
NARROW = {
    "covid-cxnet": {"blocks": [1, 1, 1, 1]},
    "covid-cxnet-hierarchical": {"blocks": [1, 1, 1, 1]},
    "alexnet": {"hidden": [8, 8]},
    "vgg19-bn": {"hidden": [8, 8]},
    "logistic-regression": {"max_iter": 20},
}
# Of each kind of training; the others take minutes together.
QUICK = {
    "covid-cxnet-densenet121-imagenet",
    "covid-cxnet-v2",
    "pneumonia-small-cnn-balanced",
    "radiography-alexnet-norm-radiograph",
}


def data_for(recipe, phantoms):
    """CSV that gives the phantoms the recipe's labels, as many of each but twice as many of the first."""
    first, *others = recipe.classes
    table = pd.read_csv(phantoms)[["path"]]
    table["label"] = [(first, first, others[i // 3 % len(others)])[i % 3] for i in range(len(table))]
    for row, name in enumerate(recipe.classes if recipe.multilabel else ()):
        table[f"finding_{name}"] = (table["label"] == name).astype(float)
        table.loc[row, f"finding_{name}"] = np.nan
    path = phantoms.with_name(f"{'-'.join(recipe.classes)}.csv")
    table.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ROWS])
def test_a_recipe_trains_as_its_paper_says(name, phantoms, monkeypatch, tmp_path):
    loops, recipe, row = [], load_recipe(name), ROWS[name]
    changes = {"split_by": "image", "fractions": (0.6, 0.2, 0.2), "init": "random", "epochs": 1, "batch_size": 8}
    changes["input"] = dataclasses.replace(recipe.input, size=LEAST.get(recipe.model, 32), region="none")
    changes["options"] = recipe.options | NARROW.get(recipe.model, {})
    changes |= {"data": data_for(recipe, phantoms), "jobs": 1, "store": str(tmp_path / "s.h5")}
    if row.trainable == "head":  # a frozen random backbone is refused: weights by name, and nothing is loaded
        changes["init"] = "narrow.weights.h5"
        monkeypatch.setattr("covidcxnet.training.initial_weights.brought_options", lambda *_: {})
        monkeypatch.setattr("covidcxnet.training.initial_weights.initialise", lambda *_: "none")

    def fit(self):
        loops.append(self)
        self.losses = self.model.fit(self.batches, steps_per_epoch=1, epochs=1, verbose=0).history["loss"]

    if recipe.model not in ("covid-cxnet-hierarchical", "logistic-regression"):  # not trained by one fit
        monkeypatch.setattr(TrainingLoop, "fit", fit)
        monkeypatch.setattr(TrainingLoop, "finish", lambda self: None)
    run = train(dataclasses.replace(recipe, **changes, out=str(tmp_path / "run")))
    if not loops:
        assert run.status["status"] == "finished" and run.best_weights.is_file()
    for loop in loops:
        assert np.isfinite(loop.losses).all()
        assert (loop.train.sampler is None) == (row.sampling == "none")
        if row.multilabel:
            assert type(loop.loss).__name__ == "KnownBinaryCrossentropy" and len(np.unique(loop.loss.weights)) > 1
        else:
            kind = "BinaryCrossentropy" if len(row.classes) == 2 else "CategoricalCrossentropy"
            assert type(loop.loss).__name__ == kind and loop.loss.label_smoothing == row.smoothing
            assert (loop.train.weights is not None) == (row.weights == "balanced")
        check_head(loop.core, row)


def check_head(core, row):
    pool, hidden, dropout = row.head
    at = next(i for i, layer in enumerate(core.layers) if layer.name in ("pooling_layer", "flatten"))
    kinds = {"average": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D", "flatten": "Flatten"}
    assert type(core.layers[at]).__name__ == kinds[pool]
    behind = core.layers[at + 1 :]
    outputs = 1 if len(row.classes) == 2 else len(row.classes)
    hidden = NARROW.get(row.model, {}).get("hidden") or hidden
    assert [layer.units for layer in behind if hasattr(layer, "units")] == [*hidden, outputs]
    rates = [layer.rate for layer in behind if type(layer).__name__ == "Dropout"]
    assert rates == [rate for rate in (dropout if isinstance(dropout, tuple) else (dropout,)) if rate]
    activation = "sigmoid" if outputs == 1 or row.multilabel else "softmax"
    assert core.layers[-1].name == "pred" and core.layers[-1].activation.__name__ == activation
    weighted = {layer.name for layer in core.layers if layer.weights}
    trained = {layer.name for layer in core.layers if layer.weights and layer.trainable}
    head = tuple(layer.name for layer in behind)
    first = {"all": "", "head": head}.get(row.trainable, (*row.trainable.split(","), *head))
    assert trained == {name for name in weighted if name.startswith(first)}
