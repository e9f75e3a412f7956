"""Each recipe of a paper trains as the paper says: optimizer, loss, sampling and head, seen in a fit of two steps."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from paper_rows import ROWS

from covidcxnet.training import load_recipe

# Smallest stack that each network takes, and what keeps a step short without changing what the paper names.
LEAST = {"base-cnn": 65, "small-cnn": 96, "alexnet": 63, "xception": 71, "inception-v3": 75}
NARROW = {
    "covid-cxnet": {"blocks": [1, 1, 1, 1]},
    "covid-cxnet-hierarchical": {"blocks": [1, 1, 1, 1]},
    "alexnet": {"hidden": [8, 8]},
    "vgg19-bn": {"hidden": [8, 8]},
    "logistic-regression": {"max_iter": 20},
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
def loops(monkeypatch):
    """Every fit of a test, stopped after two steps; nothing of it is saved."""
    from covidcxnet.training.loop import TrainingLoop

    seen = []

    def fit(self):
        seen.append(self)
        self.losses = self.model.fit(self.batches, steps_per_epoch=2, epochs=1, verbose=0).history["loss"]

    monkeypatch.setattr(TrainingLoop, "fit", fit)
    monkeypatch.setattr(TrainingLoop, "finish", lambda self: None)
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
def test_a_recipe_trains_as_its_paper_says(name, data_for, loops, tmp_path):
    from covidcxnet.training import train

    row, recipe = ROWS[name], load_recipe(name)
    train(tiny(recipe, data_for(recipe), tmp_path, lungs=name not in QUICK))
    (loop,) = loops
    assert np.isfinite(loop.losses).all()
    check_optimizer(loop, row)
    check_loss(loop, row)
    check_sampling(loop, row)
    check_head(loop.core, row)


@pytest.mark.slow
def test_the_hierarchical_recipe_trains_both_stages_as_the_published_code_says(data_for, monkeypatch, tmp_path):
    from covidcxnet.training import loop as stages
    from covidcxnet.training import train

    seen, fit = [], stages.StageLoop.fit
    monkeypatch.setattr(stages.StageLoop, "fit", lambda self: (seen.append(self), fit(self)))
    row, recipe = ROWS["covid-cxnet-hierarchical"], load_recipe("covid-cxnet-hierarchical")
    run = train(tiny(recipe, data_for(recipe), tmp_path, lungs=True))
    first, second = seen
    assert len(second.train.rows) < len(first.train.rows) and run.status["status"] == "finished"
    for loop in seen:
        check_optimizer(loop, row)
        assert loop.loss.label_smoothing == row.smoothing and loop.train.weights is not None
    assert first.core.output_shape == (None, 3)


@pytest.mark.parametrize("name", quick_or_slow(name for name in ROWS if "logistic" in name))
def test_the_logistic_regression_recipe_is_solved(name, data_for, tmp_path):
    from covidcxnet.training import train

    recipe = load_recipe(name)
    run = train(tiny(recipe, data_for(recipe), tmp_path, lungs=False))
    assert run.status["status"] == "finished" and run.best_weights.is_file()
    assert run.recipe.options["normalization"] == ROWS[name].normalization


def check_optimizer(loop, row):
    import keras

    assert type(loop.model.optimizer) is keras.optimizers.Adam
    rate = loop.model.optimizer._learning_rate
    if row.schedule == "cosine":
        assert isinstance(rate, keras.optimizers.schedules.CosineDecay) and rate.initial_learning_rate == row.rate
    else:
        assert float(rate) == pytest.approx(row.rate)


def check_loss(loop, row):
    import keras

    from covidcxnet.training.validation import KnownBinaryCrossentropy

    if row.multilabel:
        assert isinstance(loop.loss, KnownBinaryCrossentropy) and len(np.unique(loop.loss.weights)) > 1
    else:
        kind = keras.losses.BinaryCrossentropy if len(row.classes) == 2 else keras.losses.CategoricalCrossentropy
        assert type(loop.loss) is kind and loop.loss.label_smoothing == row.smoothing


def check_sampling(loop, row):
    labels = loop.train.targets.argmax(1) if loop.train.targets.shape[1] > 1 else loop.train.targets[:, 0]
    if row.sampling == "none":
        assert loop.train.sampler is None
    else:
        shown = np.bincount(labels[loop.train.sampler(0)].astype(int))
        assert len(set(shown)) == 1 and shown[0] == loop.train.sampler.each
        counts = np.bincount(labels.astype(int))
        assert shown[0] == (counts.max() if row.sampling == "oversample" else counts.min())
    if not row.multilabel:
        assert (loop.train.weights is not None) == (row.weights == "balanced")


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
