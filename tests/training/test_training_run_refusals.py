"""Runs that cannot be: data that do not fit, folders in use, and folders that are no runs or damaged ones."""

import os

import pytest

from covidcxnet.cli.train import main
from covidcxnet.settings import InputSettings
from covidcxnet.training import Run, train
from enhancement.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_curves")


def test_float16_on_a_cpu_is_refused_before_anything_is_written(tiny):
    from covidcxnet.backend import has_accelerator

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
        ({"trainable": "conv9"}, "trainable: no layer of small-cnn begins with 'conv9'; there are conv1, "),
        ({"trainable": "0.05"}, "trainable: 0.05 of the .* layers of small-cnn is none; use head, or more"),
        ({"input": InputSettings(size=8)}, "a stack of 8 pixels given"),
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
