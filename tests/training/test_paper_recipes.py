"""Each recipe of a paper is what the paper says: read from the papers into a table here, and seen in a training."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from covidcxnet import recipes
from covidcxnet.models import MODELS
from covidcxnet.training import load_recipe

STACK = ("clahe", "beasf", "raw")
RAW = ("raw", "raw", "raw")
QUEUE = ("equalize_blur",) * 3
FOUR = ("normal", "covid19", "lung_opacity", "viral_pneumonia")
SEVEN = ("normal", "infiltration", "effusion", "atelectasis", "nodule", "mass", "pneumothorax")


@dataclass(frozen=True)
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


def _covid_cxnet():
    two, three = ("normal", "covid19"), ("normal", "pneumonia", "covid19")
    plain, ten, linear = ("flatten", (10, 10), 0.0), ("average", (10,), 0.2), ("average", (), 0.0)
    one = Row("covid-cxnet", two, 320, STACK, 10, 16, 1e-3, ten, "covid-cxnet-chexnet", weights="balanced")
    lungs = dataclasses.replace(one, region="crop", smoothing=0.1)
    multi = dataclasses.replace(lungs, classes=three, epochs=30, rate=2e-4)
    imagenet = Row("covid-cxnet", two, 224, STACK, 20, 32, 1e-4, linear, "imagenet", "head", normalization="imagenet")
    yield "base-v1", Row("base-cnn", two, 400, ("raw",), 100, 32, 1e-4, plain)
    yield "base-v2", Row("base-cnn", two, 400, STACK, 120, 32, 1e-4, plain, weights="balanced")
    yield "densenet121-imagenet", imagenet
    yield "resnet50-imagenet", dataclasses.replace(imagenet, model="resnet50", normalization="caffe")
    yield "v1", one
    yield "v2", lungs
    yield "multiclass", multi
    yield "hierarchical", dataclasses.replace(multi, model="covid-cxnet-hierarchical", rate=1e-4)


def _pneumonia():
    small = Row(
        "small-cnn", ("normal", "pneumonia"), 128, RAW, 15, 32, 1e-3, ("flatten", (128,), 0.0), schedule="plateau"
    )
    transfer = dataclasses.replace(small, init="imagenet", head=("max", (128,), 0.0))
    names = {"densenet121": "covid-cxnet"}
    for name in ("small-cnn", "resnet50", "densenet121", "vgg16", "inception-v3", "xception"):
        row = small if name == "small-cnn" else dataclasses.replace(transfer, model=names.get(name, name))
        for group in ("raw", "augmented", "balanced"):
            sampling = "oversample" if group == "balanced" else "none"
            yield f"{name}-{group}", dataclasses.replace(row, sampling=sampling)


def _radiography():
    base = Row("alexnet", FOUR, 224, RAW, 40, 32, 1e-4, ("flatten", (4096, 4096), (0.5, 0.5, 0.0)))
    deep = dataclasses.replace(base, epochs=25, batch=64)
    rows = {
        "alexnet": base,
        "vgg19-bn": dataclasses.replace(deep, model="vgg19-bn", head=("flatten", (4096, 4096), (0.0, 0.5, 0.5))),
        "resnet50": dataclasses.replace(
            deep, model="resnet50", head=("average", (), 0.0), init="imagenet", trainable="conv4,conv5"
        ),
        # solved by scikit-learn: epochs, batches and rate are the defaults and mean nothing
        "logistic-regression": dataclasses.replace(
            base, model="logistic-regression", size=32, head=(), epochs=16, batch=8
        ),
    }
    for name, row in rows.items():
        for norm in ("radiograph", "imagenet"):
            yield f"{name}-norm-{norm}", dataclasses.replace(row, normalization=norm)


def _group_q():
    base = Row(
        "resnet34", (), 0, QUEUE, 100, 32, 0.01, ("average", (), 0.0), schedule="cosine", normalization="training"
    )
    efficient = dataclasses.replace(base, model="efficientnet-b1", head=("average", (), 0.2))
    models = {
        "resnet34": base,
        "mobilenet-v3-large": dataclasses.replace(base, model="mobilenet-v3-large", head=("average", (1280,), 0.2)),
        "efficientnet-b1": efficient,
        "efficientnet-b1-imagenet": dataclasses.replace(efficient, init="imagenet"),
    }
    sets = {
        "covid": {"classes": ("normal", "covid19", "viral_pneumonia"), "size": 299, "sampling": "undersample"},
        "pneumonia": {"classes": ("normal", "bacterial_pneumonia", "viral_pneumonia"), "size": 224},
        "chest8": {"classes": SEVEN, "size": 384, "multilabel": True, "weights": "balanced"},
    }
    for data, changes in sets.items():
        for name, row in models.items():
            yield f"{data}-{name}", dataclasses.replace(row, **changes)


PAPERS = {"covid-cxnet": _covid_cxnet, "pneumonia": _pneumonia, "radiography": _radiography, "group-q": _group_q}
ROWS = {f"{paper}-{name}": row for paper, rows in PAPERS.items() for name, row in rows()}
OURS = {"phantom", "base-cnn", "covid-cxnet", "covid-cxnet-scratch"}


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
    from covidcxnet.evaluation.published import published_rows

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
}
# One step of each study and each kind of training; the others take minutes together.
QUICK = {
    "covid-cxnet-base-v1",
    "covid-cxnet-densenet121-imagenet",
    "covid-cxnet-v2",
    "pneumonia-small-cnn-balanced",
    "radiography-alexnet-norm-radiograph",
    "radiography-logistic-regression-norm-radiograph",
    "group-q-chest8-resnet34",
}


@pytest.fixture
def data_for(phantoms):
    """``data_for(recipe)``: CSV that gives the phantoms the recipe's labels, more of the first than of the others."""

    def write(recipe):
        first, *others = recipe.classes
        table = pd.read_csv(phantoms)[["path"]]
        rare = (others[i % len(others)] for i in range(len(table)))
        table["label"] = [first if i % 3 == 0 else next(rare) for i in range(len(table))]
        if len(others) == 1:
            table["label"] = [first if i % 3 else others[0] for i in range(len(table))]
        if recipe.multilabel:
            drawn = np.random.default_rng(0)
            for row, name in enumerate(recipe.classes):
                said = [float(label == name or drawn.random() < 0.3) for label in table["label"]]
                table[f"finding_{name}"] = said
                table.loc[row, f"finding_{name}"] = np.nan
        path = phantoms.with_name(f"{'-'.join(recipe.classes)}.csv")
        table.to_csv(path, index=False)
        return str(path)

    return write


@pytest.fixture
def fittings(monkeypatch):
    """Every fit of a test, stopped after two steps; nothing of it is saved."""
    from covidcxnet.training.fitting import Fitting

    seen = []

    def fit(self):
        seen.append(self)
        self.model.run_eagerly = True  # two steps are not worth a graph
        self.losses = self.model.fit(self.batches, steps_per_epoch=2, epochs=1, verbose=0).history["loss"]

    monkeypatch.setattr(Fitting, "fit", fit)
    monkeypatch.setattr(Fitting, "finish", lambda self: None)
    return seen


def tiny(recipe, data, out, lungs):
    """The recipe at the smallest size: what the paper names about model, loss and training stays."""
    size, region = LEAST.get(recipe.model, 32), recipe.input.region if lungs else "none"
    return dataclasses.replace(
        recipe,
        data=data,
        split_by="image",
        fractions=(0.6, 0.2, 0.2),
        input=dataclasses.replace(recipe.input, size=size, region=region),
        options=recipe.options | NARROW.get(recipe.model, {}),
        init="random",
        epochs=1,
        batch_size=8,
        jobs=1,
        store=str(out / "store.h5"),
        out=str(out / "run"),
    )


OTHER = {"covid-cxnet-hierarchical", "logistic-regression"}  # models that are not trained by one fit


def quick_or_slow(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", quick_or_slow(name for name, row in ROWS.items() if row.model not in OTHER))
def test_a_recipe_trains_as_its_paper_says(name, data_for, fittings, tmp_path):
    from covidcxnet.training import train

    row, recipe = ROWS[name], load_recipe(name)
    train(tiny(recipe, data_for(recipe), tmp_path, lungs=name not in QUICK))
    (fitting,) = fittings
    assert np.isfinite(fitting.losses).all()
    check_optimizer(fitting, row)
    check_loss(fitting, row)
    check_sampling(fitting, row)
    check_head(fitting.core, row)


@pytest.mark.slow
def test_the_hierarchical_recipe_trains_both_stages_as_the_published_code_says(data_for, monkeypatch, tmp_path):
    from covidcxnet.training import stages, train

    seen, fit = [], stages.StageFitting.fit
    monkeypatch.setattr(stages.StageFitting, "fit", lambda self: (seen.append(self), fit(self)))
    row, recipe = ROWS["covid-cxnet-hierarchical"], load_recipe("covid-cxnet-hierarchical")
    run = train(tiny(recipe, data_for(recipe), tmp_path, lungs=True))
    first, second = seen
    assert len(second.train.rows) < len(first.train.rows) and run.status["status"] == "finished"
    for fitting in seen:
        check_optimizer(fitting, row)
        assert fitting.loss.label_smoothing == row.smoothing and fitting.train.weights is not None
    assert first.core.output_shape == (None, 3)


@pytest.mark.parametrize("name", quick_or_slow(name for name in ROWS if "logistic" in name))
def test_the_logistic_regression_recipe_is_solved(name, data_for, tmp_path):
    from covidcxnet.training import train

    recipe = load_recipe(name)
    run = train(tiny(recipe, data_for(recipe), tmp_path, lungs=False))
    assert run.status["status"] == "finished" and run.best_weights.is_file()
    assert run.recipe.options["normalization"] == ROWS[name].normalization


def check_optimizer(fitting, row):
    import keras

    assert type(fitting.model.optimizer) is keras.optimizers.Adam
    rate = fitting.model.optimizer._learning_rate
    if row.schedule == "cosine":
        assert isinstance(rate, keras.optimizers.schedules.CosineDecay) and rate.initial_learning_rate == row.rate
    else:
        assert float(rate) == pytest.approx(row.rate)


def check_loss(fitting, row):
    import keras

    from covidcxnet.training.multilabel import KnownBinaryCrossentropy

    if row.multilabel:
        assert isinstance(fitting.loss, KnownBinaryCrossentropy) and len(np.unique(fitting.loss.weights)) > 1
    else:
        kind = keras.losses.BinaryCrossentropy if len(row.classes) == 2 else keras.losses.CategoricalCrossentropy
        assert type(fitting.loss) is kind and fitting.loss.label_smoothing == row.smoothing


def check_sampling(fitting, row):
    labels = fitting.train.targets.argmax(1) if fitting.train.targets.shape[1] > 1 else fitting.train.targets[:, 0]
    if row.sampling == "none":
        assert fitting.train.sampler is None
    else:
        shown = np.bincount(labels[fitting.train.sampler(0)].astype(int))
        assert len(set(shown)) == 1 and shown[0] == fitting.train.sampler.each
        counts = np.bincount(labels.astype(int))
        assert shown[0] == (counts.max() if row.sampling == "oversample" else counts.min())
    if not row.multilabel:
        assert (fitting.train.weights is not None) == (row.weights == "balanced")


def check_head(core, row):
    import keras

    pool, hidden, dropout = row.head
    kinds = {
        "average": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "flatten": keras.layers.Flatten,
    }
    names = [layer.name for layer in core.layers]
    cut = next(i for i, layer in enumerate(core.layers) if layer.name in ("pooling_layer", "flatten"))
    assert type(core.layers[cut]) is kinds[pool]
    behind = core.layers[cut + 1 :]
    units = [layer.units for layer in behind if isinstance(layer, keras.layers.Dense)]
    assert units[:-1] == (NARROW.get(row.model, {}).get("hidden") or list(hidden))
    rates = [layer.rate for layer in behind if isinstance(layer, keras.layers.Dropout)]
    assert rates == [rate for rate in (dropout if isinstance(dropout, tuple) else (dropout,)) if rate]
    outputs = 1 if len(row.classes) == 2 else len(row.classes)
    assert units[-1] == outputs and names[-1] == "pred"
    activation = "sigmoid" if outputs == 1 or row.multilabel else "softmax"
    assert core.layers[-1].activation.__name__ == activation
    trained = {layer.name for layer in core.layers if layer.weights and layer.trainable}
    if row.trainable == "head":
        assert trained == {layer.name for layer in behind if layer.weights}
    elif row.trainable == "all":
        assert trained == {layer.name for layer in core.layers if layer.weights}
    else:
        assert all(name.startswith(("conv4", "conv5", "pred")) for name in trained) and len(trained) > 30
