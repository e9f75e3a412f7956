"""A tiny data set of phantoms, prepared once, and a recipe that trains on it in a second."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest

from covidcxnet.settings import InputSettings
from covidcxnet.training import AugmentSettings, Recipe, Run

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "legacy")]  # run_helpers, keras2_files

from run_helpers import eagerly


@pytest.fixture(scope="module", autouse=True)
def eager():
    """Steps without a graph: to compile one costs seconds, and most runs here are of two to six steps."""
    with eagerly():
        yield


@pytest.fixture
def compiled(eager):
    """Steps compiled, as users' are."""
    with eagerly(False):
        yield


@pytest.fixture
def quick_curves(monkeypatch):
    """Drawing costs as much as training here; `test_training_validation` draws."""
    monkeypatch.setattr("covidcxnet.training.loop.draw_curves", lambda history, path, **_: path.write_bytes(b""))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """CSV of 36 phantoms of 32 pixels in two classes."""
    from covidcxnet.datasets import make_phantoms

    folder = tmp_path_factory.mktemp("phantoms") / "data"
    make_phantoms(folder, 36, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    return folder / "phantom.csv"


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory):
    """Where all runs of these tests keep their stacks, prepared by the first."""
    return tmp_path_factory.mktemp("prepared") / "tiny.h5"


@pytest.fixture(scope="session")
def base(phantoms, shared_store):
    """The recipe that the others are changes of: 18 images to train on, in two batches."""
    return Recipe(
        data=str(phantoms),
        classes=("normal", "covid19"),
        fractions=(0.5, 0.25, 0.25),
        options={"filters": [4, 4], "hidden": [4], "dropout": 0.2},
        input=InputSettings(size=32, channels=("raw", "clahe")),
        augment=AugmentSettings(rotation=20, noise=4, flip_horizontal=True),
        epochs=2,
        batch_size=9,
        learning_rate=3e-3,
        store=str(shared_store),
        jobs=1,
        seed=3,
    )


@pytest.fixture
def tiny(base, tmp_path):
    """``tiny(**changes)`` gives a recipe; its run folder is ``tmp_path / out``."""

    def recipe(out="run", **changes):
        return dataclasses.replace(base, out=str(tmp_path / out), **changes)

    return recipe


@pytest.fixture(scope="session")
def trained(base, tmp_path_factory):
    """A finished run of three epochs, to look at and not to change."""
    from covidcxnet.training import train

    with eagerly():
        return train(dataclasses.replace(base, epochs=3, out=str(tmp_path_factory.mktemp("runs") / "trained")))


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the finished run, to change; its store is the one that all share."""
    shutil.copytree(trained.path, tmp_path / "copied")
    run = Run(tmp_path / "copied")
    run.update(store=os.path.relpath(trained.path / trained.status["store"], run.path))
    return run
