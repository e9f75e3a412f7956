"""Resuming equals never having stopped, whatever way a run was interrupted."""

import dataclasses
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from run_helpers import assert_same_weights, stop_after, weights

from covidcxnet.cli.train import main
from covidcxnet.training import Run, save_recipe, train
from enhancement.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_curves")


@pytest.mark.parametrize(
    "settings",
    [
        {"trainable": 0.5, "learning_rate": 1.0, "ema": 0.6, "sampling": "undersample"},
        {"trainable": "head", "learning_rate": 0.5, "sampling": "oversample"},
        {"trainable": "head", "learning_rate": 0.5, "cache_features": False},
    ],
    ids=["steps of the backbone, averaged", "head alone", "head alone, images varied"],
)
def test_a_resumed_run_equals_one_that_was_never_stopped(tiny, trained, monkeypatch, settings):
    # from weights: those that a seed draws would be the same again
    settings |= {"epochs": 4, "lr_patience": 1, "patience": 0, "init": str(trained.best_weights)}
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
        "import tensorflow\n"
        "from covidcxnet.training import load_recipe, loop, train\n"
        "tensorflow.config.run_functions_eagerly(True)\n"  # as the run that it is held against
        "write = loop.TrainingLoop._derived\n"
        # between the state of epoch 2 and the files that follow from it: the worst moment there is
        "def _derived(self):\n"
        "    if self.epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(self)\n"
        "loop.TrainingLoop._derived = _derived\n"
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


def test_a_run_stopped_before_its_first_epoch_starts_over_from_its_initial_weights(tiny, trained, monkeypatch):
    settings = {"epochs": 1, "init": str(trained.best_weights)}
    whole = train(tiny("whole", **settings))
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            train(tiny("cut", **settings))
    assert_same_weights(whole.last_weights, train(resume=whole.path.with_name("cut")).last_weights)


def test_ctrl_c_right_after_the_line_of_an_epoch_loses_no_epoch(tiny, monkeypatch):
    class Stream(io.StringIO):
        def write(self, text):
            if text.startswith("epoch 2/3  loss"):  # the line after it, and no bar of it
                raise KeyboardInterrupt
            return super().write(text)

    recipe = tiny("run", epochs=3, patience=0)
    monkeypatch.setattr("sys.stderr", Stream())
    with pytest.raises(KeyboardInterrupt, match="stopped after epoch 2, of 3"):
        train(recipe)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_ends_the_command_with_130_and_says_how_to_resume(tiny, tmp_path, monkeypatch, capsys):
    recipe = tiny("run", epochs=3, patience=0)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    stop_after(monkeypatch, 1, stop=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert main(["--recipe", str(tmp_path / "recipe.yaml")]) == 130
    errors = capsys.readouterr().err
    assert f"--resume {recipe.out}" in errors and "Traceback" not in errors
    run = Run(recipe.out)
    assert run.status["status"] == "interrupted" and (run.path / "curves.png").is_file() and len(run.log) == 1


def test_a_folder_in_which_a_training_is_at_work_is_refused_and_its_files_are_left_alone(tiny, monkeypatch):
    recipe, messages = tiny("run", epochs=2), []

    def disturb():
        Path(recipe.out, ".1-abc.partial.state.h5").touch()  # as the first writes it
        for call in (lambda: train(recipe), lambda: train(resume=recipe.out)):
            with pytest.raises(InputError) as error:
                call()
            messages.append(str(error.value))
        assert Path(recipe.out, ".1-abc.partial.state.h5").exists()

    with monkeypatch.context() as patch:
        stop_after(patch, 1, stop=disturb)
        run = train(recipe)
    assert messages == [f"{recipe.out}: process {os.getpid()} trains in this folder; wait for it or stop it"] * 2
    assert run.status["status"] == "finished" and len(run.log) == 2 and not (run.path / ".lock").exists()


FULL = """
import resource, signal, sys
import tensorflow
from covidcxnet.cli.train import main
from covidcxnet.training import loop

tensorflow.config.run_functions_eagerly(True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
save = loop.TrainingLoop._save_best

def on_a_full_disk(self, epoch, logs):
    if epoch == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
    save(self, epoch, logs)

loop.TrainingLoop._save_best = on_a_full_disk
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
def test_a_full_disk_ends_a_training_in_one_line_and_the_run_says_so_and_goes_on(tiny, trained, tmp_path):
    recipe = tiny("full", epochs=3)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    command = [sys.executable, "-c", FULL, "--recipe", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    run = Run(recipe.out)
    line = f"{run.path / 'best.weights.h5'}: cannot be written (File too large)"
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(f"error: {line}"), done.stderr
    assert (run.status["status"], run.status["reason"]) == ("failed", line) and run.progress == "stopped after epoch 1"
    assert_same_weights(trained.best_weights, train(resume=run.path).best_weights)


def test_more_epochs_under_a_cosine_are_refused_as_its_rate_has_fallen_to_zero(tiny, capsys):
    run = train(tiny("cosine", epochs=1, schedule="cosine"))
    with pytest.raises(InputError, match=r"cosine of this run ends after 1.*--init"):
        train(resume=run.path, epochs=2)
    (run.path / "test_opened.json").write_text("[]")  # as an evaluation leaves it
    assert run.recipe.epochs == 1 and len(train(resume=run.path, epochs=1).log) == 1
    printed = capsys.readouterr().err
    assert "nothing is left to train" in printed and "; opened before" in printed


def test_training_stops_early_where_nothing_improves_and_stays_stopped(tiny, trained):
    init = str(trained.best_weights)
    run = train(tiny(epochs=30, patience=2, learning_rate=1e-12, trainable="head", init=init))
    assert len(run.log) < 30 and run.status["best_epoch"] == len(run.log) - 2
    before = weights(run.last_weights)
    again = train(resume=run.path)
    assert len(again.log) == len(run.log) and again.status["status"] == "finished"
    after = weights(again.last_weights)
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)


def test_a_run_is_found_again_from_another_folder(copied, phantoms, tmp_path, monkeypatch):
    # As if trained with a relative path, from a folder that is not the present one.
    save_recipe(dataclasses.replace(copied.recipe, data="phantoms/phantom.csv"), copied.path / "recipe.yaml")
    copied.update(data=os.path.relpath(phantoms, copied.path))
    monkeypatch.chdir(tmp_path)
    run = Run("copied")
    assert len(run.dataset) == 36 and len(run.store) == 36 and run.best_weights.is_file()
