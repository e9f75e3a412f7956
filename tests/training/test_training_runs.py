"""Runs: what a folder holds, resuming equals never having stopped, and every way of being interrupted."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from covidcxnet.pretrained import load_model
from covidcxnet.settings import InputSettings
from covidcxnet.training import Run, callbacks, save_recipe, train
from covidcxnet.training.cli import main
from covidcxnet.training.data import split_of
from covidcxnet.training.run import dataset_of
from enhancement.errors import InputError
from segmentation.weight_files import read_metadata


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch):
    """Drawing costs as much as training here; `test_training_curves` draws."""
    monkeypatch.setattr("covidcxnet.training.fitting.draw_curves", lambda history, path, **_: path.write_bytes(b""))


def weights(path):
    """All arrays of a weights file."""
    arrays = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys() and one
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def stop_after(monkeypatch, epoch, error=KeyboardInterrupt):
    """Make the training stop in the middle of the epoch after `epoch`."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.current == epoch and batch == 1:
            raise error

    def on_epoch_begin(self, number, logs=None):
        self.current = number
        original(self, number, logs)

    original = callbacks.Seeds.on_epoch_begin
    monkeypatch.setattr(callbacks.Seeds, "on_epoch_begin", on_epoch_begin)
    monkeypatch.setattr(callbacks.Seeds, "on_train_batch_begin", on_train_batch_begin)


def test_a_run_folder_holds_everything(trained):
    run = trained
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "recipe.yaml", "split.csv", "environment.json", "run.json", "log.csv", "curves.png", "best.weights.h5",
        "last.weights.h5", "state.h5",
    }  # fmt: skip
    assert run.status["status"] == "finished" and run.status["epoch"] == 3
    assert list(run.log["epoch"]) == [1, 2, 3]
    assert {"loss", "val_loss", "val_auroc", "val_accuracy", "learning_rate", "seconds"} <= set(run.log)
    assert run.recipe.classes == ("normal", "covid19") and run.recipe.model == "small-cnn"
    assert run.environment["seed"] == 3 and run.environment["packages"]["keras"]
    assert run.log["val_auroc"].max() == pytest.approx(run.status["best"]["val_auroc"], abs=1e-6)
    assert run.log["val_auroc"].idxmax() + 1 <= run.status["best_epoch"]
    assert len(run.store) == 36 and len(run.dataset) == 36
    rows = [set(run.rows(name)) for name in ("train", "validation", "test")]
    assert set.union(*rows) == set(range(36)) and sum(map(len, rows)) == 36
    counts = run.status["counts"]
    assert sum(counts["train"].values()) == len(rows[0])


def test_no_patient_stands_on_two_sides(trained):
    patients = trained.store.table["patient"]
    sides = [set(patients[trained.rows(name)]) for name in ("train", "validation", "test")]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_test_rows_are_never_read_in_training(tiny, monkeypatch):
    from covidcxnet.preparation import Store

    seen = set()
    read = Store.read

    def recorded(self, indices):
        seen.update(np.arange(len(self))[indices].tolist())
        return read(self, indices)

    monkeypatch.setattr(Store, "read", recorded)
    run = train(tiny(epochs=1))
    assert seen == set(run.rows("train")) | set(run.rows("validation"))


def test_weights_carry_all_that_is_needed_to_use_them(trained):
    run = trained
    metadata = read_metadata(run.best_weights)
    assert metadata["kind"] == "classifier" and metadata["classes"] == ["normal", "covid19"]
    assert metadata["architecture"]["name"] == "small-cnn"
    assert metadata["architecture"]["options"]["normalization"] == "unit"
    assert metadata["input"] == run.recipe.input.to_dict()
    assert metadata["training"]["epoch"] == run.status["best_epoch"] and "val_auroc" in metadata["training"]["figures"]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny, trained):
    same = train(tiny(epochs=3))
    assert_same_weights(trained.last_weights, same.last_weights)
    assert list(trained.log["val_loss"]) == list(same.log["val_loss"])
    other = train(tiny("other", epochs=1, seed=4))
    assert trained.log["loss"][0] != other.log["loss"][0]


@pytest.mark.parametrize(("trainable", "learning_rate"), [("all", 0.05), ("head", 0.5)])
def test_a_resumed_run_equals_one_that_was_never_stopped(tiny, monkeypatch, trainable, learning_rate):
    settings = {"trainable": trainable, "learning_rate": learning_rate, "epochs": 4, "lr_patience": 1, "patience": 0}
    whole = train(tiny("whole", **settings))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            train(tiny("cut", **settings))
    cut = Run(whole.path.with_name("cut"))
    assert cut.status["status"] == "interrupted" and len(cut.log) == 2
    resumed = train(resume=cut.path)
    assert_same_weights(whole.last_weights, resumed.last_weights)
    assert_same_weights(whole.best_weights, resumed.best_weights)
    columns = [name for name in whole.log if name != "seconds"]
    assert whole.log[columns].equals(resumed.log[columns])
    assert whole.log["learning_rate"].nunique() > 1, "the schedule was not put to the test"
    with h5py.File(whole.path / "state.h5") as one, h5py.File(resumed.path / "state.h5") as other:
        for name in one["optimizer"]:
            np.testing.assert_array_equal(one["optimizer"][name][()], other["optimizer"][name][()])


def test_a_run_killed_without_warning_resumes_to_the_same_end(tiny, trained, tmp_path):
    recipe = tiny("killed", epochs=3)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    code = (
        "import os, signal\n"
        "from covidcxnet.training import fitting, load_recipe, train\n"
        "write = fitting.Fitting._derived\n"
        # between the state of epoch 2 and the files that follow from it: the worst moment there is
        "def _derived(self):\n"
        "    if self.epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(self)\n"
        "fitting.Fitting._derived = _derived\n"
        f"train(load_recipe({str(tmp_path / 'recipe.yaml')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = Run(recipe.out)
    (killed.path / ".1-abc.partial.state.h5").write_bytes(b"half of a file")
    assert killed.status["status"] == "running" and len(killed.log) == 1
    resumed = train(resume=killed.path)
    assert_same_weights(trained.last_weights, resumed.last_weights)
    assert_same_weights(trained.best_weights, resumed.best_weights)
    assert len(resumed.log) == 3 and resumed.status["status"] == "finished"
    assert not [path for path in resumed.path.iterdir() if "partial" in path.name]


def test_a_run_stopped_before_its_first_epoch_starts_over(tiny, trained, monkeypatch):
    recipe = tiny("cut", epochs=3)
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)
    resumed = train(resume=recipe.out)
    assert_same_weights(trained.last_weights, resumed.last_weights)


def test_ctrl_c_ends_the_command_with_130_and_says_how_to_resume(tiny, tmp_path):
    recipe = tiny("run", epochs=10_000, patience=0)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    command = [sys.executable, "-m", "covidcxnet.training.cli", "--recipe", str(tmp_path / "recipe.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = tmp_path / "run" / "log.csv"
    started = time.monotonic()
    while not log.exists() and process.poll() is None and time.monotonic() - started < 120:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert f"--resume {recipe.out}" in errors and "Traceback" not in errors
    run = Run(recipe.out)
    assert run.status["status"] == "interrupted" and (run.path / "curves.png").is_file()


def test_a_finished_run_resumes_to_itself(copied, trained):
    again = train(resume=copied.path)
    assert len(again.log) == 3 and again.status["status"] == "finished"
    assert_same_weights(trained.last_weights, again.last_weights)


def test_a_finished_run_can_be_given_more_epochs(tiny, trained):
    run = train(tiny("short", epochs=2))
    longer = train(resume=run.path, epochs=3)
    assert longer.recipe.epochs == 3
    assert_same_weights(trained.last_weights, longer.last_weights)


def test_training_stops_early_where_nothing_improves_and_stays_stopped(tiny):
    run = train(tiny(epochs=30, patience=2, learning_rate=1e-12, trainable="head"))
    assert len(run.log) < 30 and run.status["best_epoch"] == len(run.log) - 2
    assert len(train(resume=run.path).log) == len(run.log)


def test_a_frozen_backbone_keeps_its_weights_and_the_head_learns(tiny, trained):
    run = train(tiny("head", trainable="head", init=str(trained.best_weights), epochs=3))
    before, after = weights(trained.best_weights), weights(run.last_weights)
    same = {name for name in before if (before[name] == after[name]).all()}
    changed = set(before) - same
    assert all("dense" in name for name in changed) and changed
    assert any("conv" in name for name in same)


def test_mixed_bfloat16_trains_and_its_weights_stay_float32(tiny):
    run = train(tiny(precision="mixed_bfloat16", epochs=1))
    assert {a.dtype for a in weights(run.best_weights).values() if a.dtype.kind == "f"} == {np.dtype("float32")}
    assert np.isfinite(run.log["loss"]).all()


def test_tensorboard_logs_where_asked_for(tiny):
    pytest.importorskip("tensorboard")
    run = train(tiny(epochs=1, tensorboard=True))
    assert list((run.path / "tensorboard").rglob("events*"))


def test_a_saved_split_is_used_again(tiny, trained):
    recipe = tiny(split=str(trained.path / "split.csv"), seed=9)
    assert split_of(recipe, dataset_of(recipe)).equals(trained.split)


def test_a_held_out_group_is_the_test_set(tiny, trained):
    patient = str(trained.store.table["patient"][0])
    recipe = tiny(holdout={"patient": patient}, fractions=(0.7, 0.3, 0.0))
    dataset = dataset_of(recipe)
    test = (split_of(recipe, dataset)["split"] == "test").to_numpy()
    assert set(dataset.table["patient"][test]) == {patient}


def test_float16_on_a_cpu_is_refused_before_anything_is_written(tiny):
    from covidcxnet.training.precision import has_accelerator

    if has_accelerator():
        pytest.skip("this machine has an accelerator")
    recipe = tiny(precision="mixed_float16")
    with pytest.raises(InputError, match="precision"):
        train(recipe)
    assert not os.path.exists(recipe.out)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data": "nowhere"}, "nowhere"),
        ({"classes": ("normal", "influenza")}, "influenza"),
        ({"init": "nowhere.weights.h5"}, "nowhere"),
        ({"options": {"depth": 3}}, "depth"),
        ({"model": "base-cnn", "options": {}}, "65"),
        ({"where": {"hospital": "x"}}, "hospital"),
        ({"split": "nowhere.csv"}, "nowhere.csv"),
        ({"input": InputSettings(size=32, region="crop", segmenter="nowhere")}, "input.region"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(tiny, changes, word, tmp_path):
    with pytest.raises(InputError, match=word):
        train(tiny(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_class_missing_in_validation_is_an_error_that_says_so(tiny, trained, tmp_path):
    split = trained.split.merge(trained.store.table[["path", "label"]])
    split.loc[(split["split"] == "validation") & (split["label"] == "covid19"), "split"] = "train"
    split[["path", "split"]].to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(InputError, match="covid19 image in validation"):
        train(tiny("second", split=str(tmp_path / "split.csv"), split_by="image"))
    assert not (tmp_path / "second").exists()


def test_a_run_is_never_written_over(tiny, copied, tmp_path):
    with pytest.raises(InputError, match="--resume"):
        train(tiny("copied", epochs=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        train(tiny("full"))


def test_folders_that_are_no_runs_are_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="no such run"):
        Run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        Run(tmp_path)
    assert main(["--resume", str(tmp_path / "nowhere")]) == 2
    assert "no such run" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other model"])
def test_a_damaged_state_is_refused_and_nothing_is_overwritten(tiny, copied, damage):
    run = copied
    state = run.path / "state.h5"
    if damage == "other model":
        other = train(tiny("other", epochs=1, options={"filters": [8, 4], "hidden": [4]}))
        state.write_bytes((other.path / "state.h5").read_bytes())
    else:
        content = state.read_bytes()
        state.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"words"}[damage])
    before = run.last_weights.read_bytes()
    with pytest.raises(InputError, match=r"state\.h5"):
        train(resume=run.path, epochs=4)
    assert run.last_weights.read_bytes() == before


def test_a_damaged_run_json_is_an_error_that_names_it(copied):
    (copied.path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json"):
        Run(copied.path).status["status"]


def test_a_run_is_found_again_from_another_folder(copied, phantoms, tmp_path, monkeypatch):
    # As if trained with a relative path, from a folder that is not the present one.
    save_recipe(dataclasses.replace(copied.recipe, data="phantoms/phantom.csv"), copied.path / "recipe.yaml")
    copied.update(data=os.path.relpath(phantoms, copied.path))
    monkeypatch.chdir(tmp_path)
    run = Run("copied")
    assert len(run.dataset) == 36 and len(run.store) == 36 and run.best_weights.is_file()


def test_run_json_holds_plain_values_and_a_relative_store(trained):
    assert json.loads((trained.path / "run.json").read_text())["store"].endswith("tiny.h5")
    assert not os.path.isabs(trained.status["store"])


def test_layers_below_the_cut_keep_their_initial_weights_and_those_above_train(tiny, trained):
    run = train(tiny("cut", trainable="conv2", init=str(trained.best_weights), epochs=1, learning_rate=0.01))
    before, after = load_model(trained.best_weights).model, load_model(run.last_weights).model
    pairs = {
        layer.name: zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True)
        for layer in before.layers
        if layer.weights
    }
    changed = {name for name, arrays in pairs.items() if any((a != b).any() for a, b in arrays)}
    assert changed == {"conv2", "fc", "pred"}


def test_a_run_with_a_cut_resumes_to_the_same_weights(tiny, monkeypatch):
    whole = train(tiny("whole", trainable=0.5, epochs=2))
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("half", trainable=0.5, epochs=2))
    resumed = train(resume=whole.path.with_name("half"))
    assert resumed.recipe.trainable == "0.5"
    assert_same_weights(whole.last_weights, resumed.last_weights)


@pytest.mark.parametrize(("trainable", "word"), [("conv7", "conv7"), ("0.05", "none")])
def test_a_cut_that_the_model_has_not_is_refused_before_a_folder_is_made(tiny, trainable, word):
    recipe = tiny("none", trainable=trainable)
    with pytest.raises(InputError, match=word):
        train(recipe)
    assert not Path(recipe.out).exists()


def test_the_run_says_whose_patient_is_unknown(tiny, trained, phantoms, tmp_path, capsys):
    import pandas as pd

    assert trained.status["unknown_patients"] == 0 and trained.status["split_by"] == "patient"
    table = pd.read_csv(phantoms)
    table.drop(columns=["patient", "mask", "lesion"], errors="ignore").to_csv(tmp_path / "alone.csv", index=False)
    data = {"data": str(tmp_path / "alone.csv"), "root": str(phantoms.parent), "store": str(tmp_path / "alone.h5")}
    run = train(tiny("alone", split_by="image", epochs=1, **data))
    assert run.status["unknown_patients"] == 36 and run.status["split_by"] == "image"
    assert "the patient of 36 of 36 images is unknown" in capsys.readouterr().err
    assert set(run.split["grouped_by"]) == {"image, patient unknown"}
