"""Runs: what a folder holds, what its weights carry, and what a training reads and changes."""

import json
import os
import shutil
from importlib.util import find_spec

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from run_helpers import eagerly, weights

from covidcxnet import backend
from covidcxnet.cli import main
from covidcxnet.preparation import Store
from covidcxnet.pretrained import load_model
from covidcxnet.training import AugmentSettings, train
from covidcxnet.training.arguments import parse_recipe
from covidcxnet.training.data import dataset_of, split_of
from covidcxnet.training.sampling import targets_for
from covidcxnet.training.validation import loss_for
from enhancement.errors import InputError
from weights.format import read_metadata

pytestmark = pytest.mark.usefixtures("quick_curves")


def test_a_run_folder_holds_everything_its_weights_all_to_use_them_and_no_patient_is_in_two_splits(trained):
    run = trained
    names = {path.name for path in run.path.iterdir()}
    expected = "recipe.yaml split.csv environment.json run.json log.csv curves.png best.weights.h5 last.weights.h5"
    assert names == {*expected.split(), "state.h5"}
    assert run.status["status"] == "finished" and run.status["epoch"] == 3
    assert list(run.log["epoch"]) == [1, 2, 3]
    assert {"loss", "val_loss", "val_auroc", "val_accuracy", "learning_rate", "seconds"} <= set(run.log)
    assert run.recipe.classes == ("normal", "covid19") and run.recipe.model == "small-cnn"
    html = run._repr_html_()
    assert "<td>finished</td>" in html and "data:image/png" in html and repr(run).endswith("finished)")
    assert run.environment["seed"] == 3 and run.environment["packages"]["keras"]
    assert run.log["val_auroc"].max() == pytest.approx(run.status["best"]["val_auroc"], abs=1e-6)
    assert run.log["val_auroc"].idxmax() + 1 <= run.status["best_epoch"]
    assert len(run.store) == 36 and len(run.dataset) == 36
    rows = [set(run.rows(name)) for name in ("train", "validation", "test")]
    assert set.union(*rows) == set(range(36)) and sum(map(len, rows)) == 36
    assert sum(run.status["counts"]["train"].values()) == len(rows[0])
    first, second, third = (set(run.store.table["patient"][sorted(side)]) for side in rows)
    assert not (first & second or first & third or second & third)
    assert json.loads((run.path / "run.json").read_text())["store"] == run.status["store"]
    assert run.status["store"].endswith("tiny.h5") and not os.path.isabs(run.status["store"])
    metadata = read_metadata(run.best_weights)
    assert metadata["kind"] == "classifier" and metadata["classes"] == ["normal", "covid19"]
    assert metadata["architecture"]["name"] == "small-cnn"
    assert metadata["architecture"]["options"]["normalization"] == "unit"
    assert metadata["input"] == run.recipe.input.to_dict()
    assert metadata["training"]["epoch"] == run.status["best_epoch"] and "val_auroc" in metadata["training"]["figures"]


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(tiny, trained):
    first = trained.log.drop(columns="seconds").iloc[0]
    assert train(tiny(epochs=1)).log.drop(columns="seconds").iloc[0].equals(first)
    assert train(tiny("other", epochs=1, seed=4)).log["loss"][0] != first["loss"]


@pytest.mark.usefixtures("compiled")
def test_compiled_steps_train_as_those_without_a_graph(tiny):
    # By SGD: the first step of Adam has the size of the rate, and rounding decides its direction where a gradient is 0.
    settings = {"epochs": 1, "optimizer": "sgd"}
    run = train(tiny(**settings))
    with eagerly():
        eager = train(tiny("eager", **settings))
    for name in ("loss", "val_loss", "val_auroc"):
        assert run.log[name][0] == pytest.approx(eager.log[name][0], rel=1e-3)


def test_the_folders_train_val_and_test_are_the_split_unless_another_is_requested(tmp_path, capsys):
    for side, count in (("train", 6), ("valid", 2), ("Test", 3)):
        for path in (tmp_path / side / label / f"{k}.png" for label in ("normal", "flu") for k in range(count)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def sides(*flags):
        recipe = parse_recipe(["--data", str(tmp_path), *flags])
        table = split_of(recipe, dataset_of(recipe))
        return pd.crosstab(table["path"].str.split("/").str[0], table["split"])

    given = sides("--recipe", "covid-cxnet-v1", "--classes", "normal,flu")
    assert given.to_dict() == {
        "train": {"Test": 0, "train": 12, "valid": 0},
        "validation": {"Test": 0, "train": 0, "valid": 4},
        "test": {"Test": 6, "train": 0, "valid": 0},
    }
    assert "split: the folders train, valid, Test are used as they are" in capsys.readouterr().err
    for flags in (["--fractions", "0.7,0.15,0.15"], ["--split", "new"]):
        assert sides("--split-by", "image", *flags).loc["Test", "train"] > 0
    shutil.rmtree(tmp_path / "valid")
    drawn = sides("--split-by", "image")
    assert drawn.loc["Test", "test"] == 6 and drawn.loc["train", "validation"] == 2
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match="no folder train beside Test"):
        sides()


def test_files_that_could_not_be_used_are_listed_in_the_run_folder_and_the_first_five_on_screen(
    tiny, phantoms, tmp_path, capsys
):
    shutil.copytree(phantoms.parent, tmp_path / "data")
    damaged = list(pd.read_csv(phantoms)["path"][:6])
    for path in damaged:
        (tmp_path / "data" / path).write_bytes(b"GIF89a")
    data, store = str(tmp_path / "data" / "phantom.csv"), str(tmp_path / "store.h5")
    run = train(tiny(data=data, store=store, epochs=1))
    rejected = pd.read_csv(run.path / "rejected.csv")
    assert list(rejected["path"]) == damaged and rejected["reason"].str.contains("is a GIF file").all()
    lines = capsys.readouterr().err.splitlines()
    start = next(k for k, line in enumerate(lines) if "files could not be used" in line and "rejected.csv" in line)
    assert lines[start].strip().startswith("6 of ")
    assert [line.split(":")[0].strip() for line in lines[start + 1 : start + 6]] == damaged[:5]
    assert not any(line.strip().startswith(damaged[5]) for line in lines)
    # without the training
    command = ["prepare", "--data", data, "--classes", "normal,covid19", "--store", str(tmp_path / "p.h5")]
    assert main([*command, "--input.size", "32", "--input.channels", "raw", "--jobs", "1"]) == 1
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "p.h5") and damaged[0] in err
    with Store(tmp_path / "p.h5") as prepared:
        assert prepared.stacks.shape == (30, 32, 32, 1) and list(prepared.rejected["path"]) == damaged


@pytest.mark.parametrize(("epoch", "progress"), [(0, "no epoch was finished"), (3, "stopped after epoch 3")])
def test_a_killed_run_says_how_far_it_got(copied, epoch, progress):
    copied.update(status="running", epoch=epoch)
    copied.best_weights.unlink()
    with pytest.raises(InputError, match=f"best.weights.h5: missing; {progress}"):
        _ = copied.best_weights
    assert progress in repr(copied) and "running" not in repr(copied)


def test_a_saved_split_is_used_again_and_a_held_out_group_is_the_test_set(tiny, trained):
    recipe = tiny(split=str(trained.path / "split.csv"), seed=9)
    assert split_of(recipe, dataset_of(recipe)).equals(trained.split)
    patient = str(trained.store.table["patient"][0])
    recipe = tiny(holdout={"patient": patient}, fractions=(0.7, 0.3, 0.0))
    dataset = dataset_of(recipe)
    test = (split_of(recipe, dataset)["split"] == "test").to_numpy()
    assert set(dataset.table["patient"][test]) == {patient}


@pytest.mark.parametrize(("trainable", "expected"), [("conv2", {"conv2", "fc", "pred"}), ("head", {"fc", "pred"})])
def test_layers_below_the_cut_keep_their_initial_weights_and_those_above_train(tiny, trained, trainable, expected):
    init = str(trained.best_weights)
    run = train(tiny("cut", trainable=trainable, init=init, epochs=2, learning_rate=0.01))
    before, after = load_model(trained.best_weights).model, load_model(run.last_weights).model
    pairs = {
        layer.name: zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True)
        for layer in before.layers
        if layer.weights
    }
    assert {name for name, arrays in pairs.items() if any((a != b).any() for a, b in arrays)} == expected


def test_test_rows_are_not_read_unknown_patients_are_counted_and_slow_bfloat16_leaves_weights_float32(
    tiny, phantoms, tmp_path, capsys, monkeypatch
):
    rows, read = set(), Store.read

    def recorded(self, indices):
        rows.update(np.arange(len(self))[indices].tolist())
        return read(self, indices)

    monkeypatch.setattr(Store, "read", recorded)
    monkeypatch.setattr(backend, "has_accelerator", lambda: False)
    monkeypatch.setattr(backend, "CPUINFO", tmp_path / "cpuinfo")
    backend.CPUINFO.write_text("flags : fpu\n")
    table = pd.read_csv(phantoms)
    table.drop(columns=["patient", "mask", "lesion"], errors="ignore").to_csv(tmp_path / "alone.csv", index=False)
    changes = {"data": str(tmp_path / "alone.csv"), "root": str(phantoms.parent), "store": str(tmp_path / "alone.h5")}
    changes |= {"split_by": "image", "epochs": 1, "precision": "mixed_bfloat16"}
    changes |= {"tensorboard": find_spec("tensorboard") is not None}
    run = train(tiny("alone", **changes))
    assert rows == set(run.rows("train")) | set(run.rows("validation"))
    assert run.status["unknown_patients"] == 36 and run.status["split_by"] == "image"
    printed = "".join(capsys.readouterr())
    assert "No patient IDs (36 of 36 images)" in printed and "no bfloat16 arithmetic" in printed
    assert set(run.split["grouped_by"]) == {"image, patient unknown"}
    assert {a.dtype for a in weights(run.best_weights).values() if a.dtype.kind == "f"} == {np.dtype("float32")}
    assert np.isfinite(run.log["loss"]).all()
    assert bool(list((run.path / "tensorboard").rglob("events*"))) == changes["tensorboard"]


def test_with_a_moving_average_it_is_the_average_that_is_validated_and_saved(tiny):
    run = train(tiny(learning_rate=0.05, ema=0.8))
    with h5py.File(run.path / "state.h5") as state:
        stepped = [item[()] for item in state["model"].values()]
    saved = load_model(run.path / "last.weights.h5").model.get_weights()
    assert max(np.abs(one - other).max() for one, other in zip(saved, stepped, strict=True)) > 1e-3
    best = load_model(run.best_weights).model
    rows = run.rows("validation")
    targets = targets_for((run.store.table["label"][rows] == "covid19").to_numpy().astype(int), 2)
    loss = loss_for(run.recipe, targets)(targets, best.predict(run.store.read(rows), verbose=0))
    assert float(loss) == pytest.approx(run.status["best"]["val_loss"], abs=1e-5)


def test_new_batch_norms_have_the_statistics_of_the_images_after_a_single_step(tiny):
    """And not a tenth of them, beside nine of the zeros and ones that they began with."""
    still = {"augment": AugmentSettings.none(), "learning_rate": 1e-9, "epochs": 1, "batch_size": 64}
    run = train(
        tiny("first", model="small-cnn", options={"filters": (4, 4), "hidden": (4,), "block_dropout": 0.0}, **still)
    )
    model = load_model(run.path / "last.weights.h5").model
    stacks = run.store.read(run.rows("train"))
    for name in ("bn1", "bn2"):
        norm = model.get_layer(name)
        # Training normalises by the batch, which is here all images: what it saw are the outputs of inference too.
        seen = keras.Model(model.input, norm.input).predict(stacks, verbose=0)
        np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
