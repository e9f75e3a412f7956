"""Training on several devices equals training on one, and goes on after a process was killed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from covidcxnet.settings import InputSettings
from covidcxnet.training import AugmentSettings, Recipe, save_recipe, train
from enhancement.errors import InputError

REPOSITORY = Path(__file__).parents[1]
WITHOUT_JAX = pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="jax is not installed")
LOSSES = ["loss", "val_loss"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """File of a recipe of 19 training images in batches of 7, 7 and 5: none divides by two."""
    from covidcxnet.datasets import make_phantoms

    folder = tmp_path_factory.mktemp("devices")
    make_phantoms(folder / "data", 38, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    tiny = Recipe(
        data=str(folder / "data" / "phantom.csv"),
        classes=("normal", "covid19"),
        fractions=(0.5, 0.25, 0.25),
        options={"filters": [4, 4], "hidden": [4], "dropout": 0.2},
        input=InputSettings(size=32, channels=("raw",)),
        # Draws for each image and each pixel.
        augment=AugmentSettings(rotation=0, zoom=(1, 1), shift=0, noise=8),
        epochs=3,
        batch_size=7,
        # Adam divides by the size of a gradient: rounding in one that should be 0 would become a whole step.
        optimizer="sgd",
        learning_rate=0.05,
        patience=0,
        store=str(folder / "tiny.h5"),
        jobs=1,
        seed=3,
    )
    return save_recipe(tiny, folder / "recipe.yaml")


def started(*arguments, **variables):
    """A covidcxnet command that has begun, under JAX on CPUs."""
    environment = {"PYTHONPATH": str(REPOSITORY), "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **variables}
    command = [sys.executable, "-m", "covidcxnet", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, **pipes)


def finished(*arguments, code=0, **variables):
    """What a command printed on both streams."""
    process = started(*arguments, **variables)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, out + err
    return out, err


def log(folder):
    return pd.read_csv(folder / "log.csv")


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def alone(recipe):
    """The run of one process on one device."""
    folder = recipe.with_name("alone")
    finished("train", "--recipe", recipe, "--out", folder)
    return folder


def assert_equal_runs(folder, other):
    for name in LOSSES:
        np.testing.assert_allclose(log(folder)[name], log(other)[name], rtol=0, atol=1e-5, err_msg=name)
    assert log(folder)["loss"].nunique() == len(log(folder)), "nothing was learned"
    with h5py.File(folder / "state.h5") as one, h5py.File(other / "state.h5") as two:
        for group in ("model", "optimizer"):
            assert one[group].keys() == two[group].keys()
            for name in one[group]:
                np.testing.assert_allclose(one[group][name], two[group][name], atol=1e-5, err_msg=f"{group} {name}")


@WITHOUT_JAX
def test_two_devices_of_one_process_give_the_losses_of_one(recipe, alone):
    folder = recipe.with_name("local")
    flags = "--xla_force_host_platform_device_count=2"
    finished("train", "--recipe", recipe, "--devices", 2, "--out", folder, XLA_FLAGS=flags)
    assert_equal_runs(folder, alone)


@WITHOUT_JAX
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_two_processes_give_the_losses_of_one_also_after_one_of_them_was_killed(recipe, alone):
    folder = recipe.with_name("two")
    launch = started("launch", "-n", 2, "train", "--recipe", recipe, "--epochs", 5000, "--out", folder)
    while launch.poll() is None and not (folder / "log.csv").exists():
        time.sleep(0.05)
    assert launch.poll() is None, launch.communicate()
    os.kill(children(launch)[1], signal.SIGKILL)
    _, err = launch.communicate(timeout=120)
    assert launch.returncode == 137
    last = [line for line in err.splitlines() if "ended" in line]
    assert len(last) == 2 and "resume with" in last[0] and "process 1 ended with exit code 137" in last[1], err
    assert "Traceback" not in err
    done = len(log(folder))
    out, err = finished("launch", "-n", 2, "train", "--resume", folder, "--epochs", done + 2)
    assert out.count("Run: ") == 1 and err.count(f"resumed after epoch {done}") == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in alone.iterdir())
    whole = recipe.with_name("whole")
    finished("train", "--recipe", recipe, "--epochs", done + 2, "--out", whole)
    assert_equal_runs(folder, whole)


@WITHOUT_JAX
def test_errors_of_several_processes_are_a_line(recipe):
    out = recipe.with_name("refused")
    _, err = finished("train", "--recipe", recipe, "--devices", 3, "--out", out, code=2)
    assert "devices: 3 given, jax finds 1 on this machine (cpu:0)" in err and not out.exists()
    _, err = finished("launch", "-n", 2, "train", "--recipe", recipe, "--data", "nowhere.csv", code=2)
    assert err.count("error:") == 1 and "nowhere.csv" in err and "Traceback" not in err


def test_processes_that_have_not_joined_do_not_all_train_into_one_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(InputError, match="join"):
        train(Recipe(out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


MIRRORED = """
import sys
import tensorflow as tf
tf.config.run_functions_eagerly(True)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from covidcxnet.cli.train import main
recipe, one, two = sys.argv[1:]
flags = ["--recipe", recipe, "--model", "base-cnn", "--options", "{}", "--input.size", "72", "--batch-size", "6"]
flags += ["--augment.noise", "0", "--augment.brightness", "1,1", "--train-images", "18", "--store", recipe + "-72.h5"]
codes = [main([*flags, "--epochs", "2", "--out", one]), main([*flags, "--epochs", "1", "--devices", "2", "--out", two])]
sys.exit(max(*codes, main(["--resume", two, "--epochs", "2"])))
"""


@pytest.mark.skipif(not importlib.util.find_spec("tensorflow"), reason="tensorflow is not installed")
def test_two_devices_under_tensorflow_give_the_losses_of_one_where_no_batch_norm_divides_the_batch(recipe):
    one, two = recipe.with_name("tf-one"), recipe.with_name("tf-two")
    command = [sys.executable, "-c", MIRRORED, str(recipe), str(one), str(two)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "resumed after epoch 1" in done.stderr
    assert_equal_runs(two, one)


def test_wrong_variables_of_several_processes_are_refused_by_name(recipe):
    good = {"KERAS_DISTRIBUTION_NUM_PROCESSES": "2", "KERAS_DISTRIBUTION_JOB_ADDRESSES": "127.0.0.1:1"}
    for wrong, words in (
        ({"KERAS_DISTRIBUTION_NUM_PROCESSES": "two"}, "NUM_PROCESSES: 'two' given, a whole number expected"),
        ({"KERAS_DISTRIBUTION_PROCESS_ID": "2"}, "PROCESS_ID: 2 given, 0 to 1 expected"),
        ({"KERAS_DISTRIBUTION_JOB_ADDRESSES": "host"}, "JOB_ADDRESSES: 'host' given, HOST:PORT of process 0 expected"),
        ({"KERAS_BACKEND": "tensorflow"}, "set KERAS_BACKEND=jax"),
    ):
        _, err = finished("train", "--recipe", recipe, code=2, **(good | wrong))
        assert words in err and err.count("\n") == 1
