"""Each recipe of a paper trains as the paper says: optimizer, loss, sampling and head, seen in a fit of one step."""

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
                table[f"finding_{name}"] = [float(label == name or drawn.random() < 0.3) for label in table["label"]]
                table.loc[row, f"finding_{name}"] = np.nan
        path = phantoms.with_name(f"{'-'.join(recipe.classes)}.csv")
        table.to_csv(path, index=False)
        return str(path)

    return write


@pytest.fixture
def loops(monkeypatch):
    """Every fit of a test, stopped after one step; nothing of it is saved."""
    from covidcxnet.training.loop import TrainingLoop

    seen = []

    def fit(self):
        seen.append(self)
        self.losses = self.model.fit(self.batches, steps_per_epoch=1, epochs=1, verbose=0).history["loss"]

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
        assert isinstance(rate, keras.optimizers.schedules.CosineDecay)
        rate = rate.initial_learning_rate
    assert float(rate) == pytest.approx(row.rate)


def check_loss(loop, row):
    if row.multilabel:
        assert type(loop.loss).__name__ == "KnownBinaryCrossentropy" and len(np.unique(loop.loss.weights)) > 1
    else:
        kind = "BinaryCrossentropy" if len(row.classes) == 2 else "CategoricalCrossentropy"
        assert type(loop.loss).__name__ == kind and loop.loss.label_smoothing == row.smoothing
        assert (loop.train.weights is not None) == (row.weights == "balanced")


def check_sampling(loop, row):
    sampler, targets = loop.train.sampler, loop.train.targets
    if row.sampling == "none":
        assert sampler is None
    else:
        labels = (targets.argmax(1) if targets.shape[1] > 1 else targets[:, 0]).astype(int)
        counts, shown = np.bincount(labels), np.bincount(labels[sampler(0)])
        assert set(shown) == {counts.max() if row.sampling == "oversample" else counts.min()}


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
    first = {"all": "", "head": tuple(layer.name for layer in behind)}.get(row.trainable, ("conv4", "conv5", "pred"))
    assert trained == {name for name in weighted if name.startswith(first)}
