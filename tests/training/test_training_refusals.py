"""What a training refuses: by the recipe alone, before images or a folder are made, number formats, damaged runs."""

import dataclasses
import re
from contextlib import nullcontext

import pytest

from covidcxnet import backend
from covidcxnet.cli.prepare import main as prepare
from covidcxnet.cli.train import main
from covidcxnet.datasets import load
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe, Run, data, initial_weights, save_recipe, train
from enhancement.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_curves")

ONE, TWO = InputSettings(size=64, channels=("raw",)), InputSettings(size=64, channels=("raw", "clahe"))
HIERARCHICAL = "covid-cxnet-hierarchical"


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        # with None it can
        ("vgg16", {"input": ONE, "init": "imagenet"}, None),
        ("covid-cxnet", {"init": "imagenet", "options": {"blocks": [6, 12, 24, 16], "growth": 32}}, None),
        ("small-cnn", {"input": ONE, "options": {"normalization": "training", "dropout": 0.1}}, None),
        ("vgg16", {"input": TWO}, r"input\.channels: 'raw,clahe' given, 3 planes for vgg16, .* or 1 plane"),
        ("small-cnn", {"input": ONE, "options": {"normalization": "imagenet"}}, r"normalization: .*raw,raw,raw"),
        ("small-cnn", {"input": ONE, "options": {"normalization": "caffe"}}, "unit, or"),
        ("covid-cxnet", {"input": ONE, "init": "imagenet"}, r"channels: .*3 planes for init imagenet, .*init random"),
        ("covid-cxnet", {"input": TWO, "init": "chexnet"}, r"channels: .*3 planes for init chexnet, as in raw,raw"),
        ("covid-cxnet", {"init": "imagenet", "options": {"blocks": [6, 12]}}, "6, 12. given, .6, 12, 24, 16"),
        ("covid-cxnet", {"options": {"normalization": "zscore"}}, r"options\.normalization: 'zscore'.*training"),
        ("small-cnn", {"options": {"normalization": {"mean": [0.5], "std": [0.2]}}}, "1 numbers given"),
        ("logistic-regression", {"init": "imagenet"}, "init: .*solved from nothing on all images: random"),
        ("logistic-regression", {"trainable": "head"}, "trainable: .*solved from nothing on all images: all"),
        ("logistic-regression", {"sampling": "oversample"}, "sampling"),
        ("small-cnn", {"init": "imagenet"}, "init: .*small-cnn has no ImageNet weights, only .*covid-cxnet.*resnet50"),
        ("small-cnn", {"options": {"droput": 0.3}}, "no option 'droput'; it takes normalization, .*dropout"),
        ("small-cnn", {"options": {"activation": "softmax"}, "multilabel": True}, "softmax.*sigmoid, or nothing"),
        ("small-cnn", {"options": {"multilabel": True}}, "the recipe's own key"),
        ("small-cnn", {"frozen_norms": True}, "frozen_norms: works with pretrained .*random given"),
        ("small-cnn", {"trainable": "head"}, "trainable: head with init random .*use --trainable all"),
        ("small-cnn", {"trainable": "head", "init": "some.weights.h5"}, None),
        (HIERARCHICAL, {"init": "imagenet", "options": {"growth": 16}}, r"growth: 16 given, 32 for init imagenet"),
        (HIERARCHICAL, {"classes": ("cap", "normal", "covid19")}, "classes.*normal and two kinds of pneumonia"),
        (HIERARCHICAL, {"multilabel": True}, "multilabel.*exclude each other"),
    ],
)
def test_a_model_that_cannot_take_it_is_refused_by_the_recipe_alone(model, changes, message):
    with pytest.raises(InputError, match=message) if message else nullcontext():
        Recipe(model=model, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "nowhere.csv"}, r"split: nowhere\.csv: no such file"),
        ({"verdicts": "nowhere.csv"}, r"verdicts: nowhere\.csv: no such file"),
        ({"match_to": "nowhere.png"}, r"match_to: nowhere\.png: no such file"),
        ({"input": InputSettings(size=64, region="crop", segmenter="nowhere")}, r"input\.region"),
        ({"precision": "mixed_float16"}, r"precision: mixed_float16 needs a GPU.*mixed_bfloat16"),
    ],
)
def test_it_is_refused_before_a_phantom_is_made(changes, message, tmp_path, monkeypatch):
    monkeypatch.setattr("covidcxnet.backend.has_accelerator", lambda: False)
    monkeypatch.setattr("covidcxnet.training.data.dataset_of", lambda _: pytest.fail("images were made"))
    with pytest.raises(InputError, match=message):
        train(Recipe(out=str(tmp_path / "run"), **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_run_reads_its_data_and_builds_its_network_once(tiny, monkeypatch):
    calls = []

    def counted(module, name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **options: (calls.append(name), original(*args, **options))[1])

    counted(data, "load")
    counted(data, "prepare")
    counted(initial_weights, "create")
    options = {"filters": [4, 4], "hidden": [4], "normalization": "training"}
    assert train(tiny(options=options, epochs=1)).status["status"] == "finished"
    assert sorted(calls) == ["create", "load", "prepare"]


def test_a_class_without_images_is_refused_before_anything_is_prepared(phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--data", str(phantoms), "--classes", "normal,tuberculosis"]) == 2
    assert "no image is labelled 'tuberculosis'; labels are " in capsys.readouterr().err
    assert main(["--classes", "normal,tuberculosis"]) == 2
    assert "classes from normal, pneumonia, covid19" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_table_most_of_whose_files_are_missing_is_refused(tiny, phantoms, tmp_path, capsys):
    table = load(phantoms).table[["path", "label"]]
    table.to_csv(tmp_path / "t.csv", index=False)
    missing = rf"t\.csv: {len(table)} of {len(table)} files missing, the first .*--root"
    with pytest.raises(InputError, match=missing):
        train(tiny(data=str(tmp_path / "t.csv")))
    assert prepare(["--data", str(tmp_path / "t.csv"), "--input.region", "none"]) == 2
    assert re.search(missing, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


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
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(tiny, changes, word, tmp_path):
    with pytest.raises(InputError, match=word):
        train(tiny(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_written_over(tiny, copied, tmp_path):
    with pytest.raises(InputError, match="--resume"):
        train(tiny("copied", epochs=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        train(tiny("full"))


def test_folders_that_are_no_runs_or_damaged_ones_are_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="no such run"):
        Run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        Run(tmp_path)
    (tmp_path / "recipe.yaml").write_text("seed: 3\n")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json"):
        Run(tmp_path).status["status"]
    assert main(["--resume", str(tmp_path / "nowhere")]) == 2
    assert "no such run" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other model"])
def test_a_damaged_state_is_refused_and_nothing_is_overwritten(copied, damage):
    run = copied
    state = run.path / "state.h5"
    if damage == "other model":
        other = dataclasses.replace(run.recipe, options=run.recipe.options | {"filters": [8, 4]})
        save_recipe(other, run.path / "recipe.yaml")
    else:
        content = state.read_bytes()
        state.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"words"}[damage])
    before = run.last_weights.read_bytes()
    with pytest.raises(InputError, match=r"state\.h5"):
        train(resume=run.path, epochs=4)
    assert run.last_weights.read_bytes() == before


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(backend, "has_accelerator", lambda: False)


def test_a_float16_run_of_another_machine_is_not_resumed_without_a_gpu(without_gpu, monkeypatch, tmp_path):
    save_recipe(Recipe(precision="mixed_float16"), tmp_path / "recipe.yaml")
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(Run, "dataset", property(lambda _: pytest.fail("images were made")))
    with pytest.raises(InputError, match="precision"):
        train(resume=tmp_path)


def test_other_formats_need_no_gpu_and_float16_is_allowed_where_there_is_one(without_gpu, monkeypatch):
    backend.check_precision("float32")
    backend.check_precision("mixed_bfloat16")
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    backend.check_precision("mixed_float16")


@pytest.mark.parametrize(
    ("flags", "name", "said"),
    [
        ("flags\t\t: fpu avx512f avx512_vnni\n", "mixed_bfloat16", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", "mixed_bfloat16", False),
        ("Features\t: fp asimd bf16\n", "mixed_bfloat16", False),
        ("Features\t: fp asimd\n", "mixed_bfloat16", True),
        ("processor\t: 0\n", "mixed_bfloat16", False),
        ("flags\t\t: fpu avx512f\n", "float32", False),
    ],
)
def test_bfloat16_is_advised_against_where_the_processor_lacks_it(
    without_gpu, monkeypatch, tmp_path, flags, name, said
):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(backend, "CPUINFO", tmp_path / "cpuinfo")
    assert bool(backend.precision_advice(name)) == said
    for change in ({"CPUINFO": tmp_path / "none"}, {"has_accelerator": lambda: True}):
        with monkeypatch.context() as patch:
            for attribute, value in change.items():
                patch.setattr(backend, attribute, value)
            assert backend.precision_advice(name) == "", "an unknown system or a GPU"
