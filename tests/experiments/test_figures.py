"""Figures of trained models: what is drawn of which radiograph, t-SNE's bounds, and layers that do not exist."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.classifier import Classifier
from covidcxnet.cli import main
from covidcxnet.datasets import Dataset
from covidcxnet.experiments.embedding import alike, embed, feature_tensor, reduce, table
from covidcxnet.experiments.feature_maps import feature_maps
from covidcxnet.experiments.figure_inputs import (
    NamedModel,
    Radiograph,
    choose,
    from_dataset,
    from_files,
    load_models,
    trained_on,
)
from covidcxnet.experiments.figures import activation_maps, draw
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError

keras = pytest.importorskip("keras")

SIZE, CLASSES = 32, ("normal", "pneumonia", "covid19")


def _metadata(head):
    options = {"size": SIZE, "channels": 1, "filters": [4, 4], "head": head}
    # Without a segmenter of that name there are no lungs to outline, and nothing to wait for.
    settings = InputSettings(size=SIZE, channels=("raw",), segmenter="none-here")
    return {
        "format": 1,
        "kind": "classifier",
        "architecture": {"name": "small-cnn", "options": options},
        "classes": list(CLASSES),
        "input": settings.to_dict(),
    }


def _classifier(head="linear"):
    from covidcxnet.models import create

    keras.utils.set_random_seed(0)
    metadata = _metadata(head)
    return Classifier(create("small-cnn", classes=CLASSES, **metadata["architecture"]["options"]), metadata)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Bright and dark noise; the fourth file is damaged."""
    root = tmp_path_factory.mktemp("figures")
    random = np.random.default_rng(0)
    rows = []
    for i in range(24):
        path = f"patient-{i}.png"
        image = random.integers(0, 80 + 80 * (i % 3), (40, 48)).astype(np.uint8)
        cv2.imwrite(str(root / path), image)
        rows.append((path, CLASSES[i % 3], ("north", "south")[i // 12]))
    (root / rows[3][0]).write_bytes(b"no image")
    return Dataset(pd.DataFrame(rows, columns=["path", "label", "source"]), root, CLASSES)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of a linear head, where CAM has its closed form, and of another."""
    from weights import save_weights

    folder = tmp_path_factory.mktemp("weights")
    for name, head in (("linear", "linear"), ("hidden", None)):
        classifier = _classifier(head)
        save_weights(classifier.model, folder / f"{name}.weights.h5", classifier.metadata)
    return [str(folder / f"{name}.weights.h5") for name in ("linear", "hidden")]


def test_each_class_and_source_is_among_the_chosen_and_the_seed_says_which(dataset):
    everything = from_dataset(dataset)
    chosen = choose(everything, 6)
    assert len({(one.label, one.source) for one in chosen}) == 6
    assert chosen == choose(everything, 6) != choose(everything, 6, seed=1)
    assert choose(everything, 100) == everything
    named = from_files([dataset.paths[k] for k in (5, 1, 2)])
    assert choose(named, 2) == named[:2], "whoever names files wants the first of them first"


def test_captions_of_a_data_set_say_class_and_source_and_never_the_file(dataset):
    assert from_dataset(dataset)[0].caption == "normal\nnorth"
    assert from_files([dataset.paths[0]])[0].caption == "patient-0.png"
    rejected = Dataset(dataset.table.assign(rejected=["bad"] + [None] * 23), dataset.root, CLASSES)
    assert len(from_dataset(rejected)) == 23


def test_cam_is_drawn_only_where_the_head_has_its_closed_form(dataset):
    shown = choose(from_dataset(dataset), 3)
    columns = []
    for name, head in (("one", "linear"), ("two", None)):
        columns += activation_maps(NamedModel(name, _classifier(head)), shown, progress=False)
    assert [(c.model, c.method) for c in columns] == [("one", "cam"), ("one", "gradcam"), ("two", "gradcam")]
    assert columns[0].layer == "pool2" and columns[1].layer == "last_relu"
    titles = [axes.get_title() for axes in draw(shown, columns).axes if axes.get_title()]
    assert len(titles) == 9
    cell = columns[1].cells[0]
    assert f"{cell.target} {cell.prediction.probability:.2f}" in titles


def test_grad_cam_at_a_chosen_layer_is_that_layers(dataset):
    from covidcxnet.explain.cam import GradCAM

    model, shown = NamedModel("one", _classifier()), choose(from_dataset(dataset), 2)
    (column,) = activation_maps(model, shown, layer="relu1", methods=["gradcam"], target="covid19", progress=False)
    assert column.layer == "relu1" and {cell.target for cell in column.cells} == {"covid19"}
    stack = next(model.classifier.batches([shown[0].path]))[1][0].prepared.stack
    expected = GradCAM(model.classifier.model, "relu1")(stack[None], 2)[0]
    np.testing.assert_allclose(column.cells[0].map, expected, atol=1e-6)


def test_lime_is_drawn_where_asked_and_says_how_well_it_fits(dataset):
    shown = from_dataset(dataset)[:1]
    columns = activation_maps(NamedModel("one", _classifier()), shown, methods=["lime"], samples=20, progress=False)
    assert [c.method for c in columns] == ["lime"] and columns[0].cells[0].fit is not None
    assert any("R\N{SUPERSCRIPT TWO}" in axes.get_title() for axes in draw(shown, columns).axes)


def test_unknown_layer_class_and_method_are_refused_with_what_there_is(dataset):
    model, shown = NamedModel("one", _classifier()), from_dataset(dataset)[:1]
    with pytest.raises(
        InputError, match=r"'conv9' is no layer of small-cnn; layers to choose from: .*conv1.*last_relu"
    ):
        activation_maps(model, shown, layer="conv9")
    with pytest.raises(InputError, match="target: 'flu' given, one knows normal, pneumonia, covid19"):
        activation_maps(model, shown, target="flu")
    with pytest.raises(InputError, match="one of cam, gradcam, lime expected"):
        activation_maps(model, shown, methods=["shap"])


def test_a_damaged_file_leaves_the_others_in_the_figure(dataset):
    everything = from_dataset(dataset)
    columns = activation_maps(NamedModel("one", _classifier()), everything[2:5], progress=False)
    assert [cell.error is None for cell in columns[0].cells] == [True, False, True]
    assert len([axes for axes in draw(everything[2:5], columns).axes if axes.get_title()]) == 4
    bad = activation_maps(NamedModel("one", _classifier()), everything[3:4], progress=False)
    with pytest.raises(InputError, match="none of the radiographs could be read"):
        draw(everything[3:4], bad)


def test_feature_maps_are_the_outputs_of_the_first_and_the_last_convolution():
    model = _classifier().model
    stack = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 1)).astype("uint8")
    found = feature_maps(model, stack)
    assert [one.layer for one in found] == ["conv1", "conv2"]
    assert [one.maps.shape for one in found] == [(30, 30, 4), (13, 13, 4)]
    kernel, bias = (np.asarray(w) for w in model.get_layer("conv1").get_weights())
    first = (stack[:3, :3, 0, None] / 255.0 * kernel[:, :, 0]).sum(axis=(0, 1)) + bias
    np.testing.assert_allclose(found[0].maps[0, 0], first, atol=1e-5)


def test_perplexity_is_bounded_by_the_number_of_radiographs_and_the_seed_decides(dataset):
    model, radiographs = NamedModel("one", _classifier()), from_dataset(dataset)
    first = embed(model, radiographs, seed=3, progress=False)
    assert first.perplexity == pytest.approx(22 / 3) and first.unreadable == 1
    assert first.points.shape == (23, 2) and np.isfinite(first.points).all()
    np.testing.assert_array_equal(embed(model, radiographs, seed=3, batch_size=5, progress=False).points, first.points)
    assert set(first.neighbours) == {"class", "source"} and first.layer == "pooling_layer"
    assert embed(model, radiographs, perplexity=4, progress=False).perplexity == 4
    lines = table([first])
    assert len(lines) == 23 and lines["label"].tolist() == [r.label for r in first.radiographs]
    with pytest.raises(InputError, match="8 or more expected"):
        embed(model, radiographs[:8], progress=False)


def test_nearest_neighbours_tell_groups_from_chance():
    random = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], 40)
    apart = random.normal(size=(120, 5)) + 50 * np.repeat(np.eye(3, 5), 40, axis=0)
    share, chance = alike(apart, groups)
    assert share == 1 and chance == pytest.approx(39 / 119)
    assert abs(alike(random.normal(size=(120, 5)), groups)[0] - chance) < 0.15
    assert alike(apart, ["a"] * 120) is None and alike(apart[:3], [None, "a", "a"]) is None


def test_features_that_never_vary_are_refused_and_those_that_do_are_reduced(dataset):
    assert reduce(np.full((9, 4), 7.0)).shape == (9, 0)
    assert reduce(np.random.default_rng(0).normal(size=(70, 200))).shape == (70, 50)
    classifier = _classifier()
    classifier.model.set_weights([np.zeros_like(w) for w in classifier.model.get_weights()])
    with pytest.raises(InputError, match="same for all radiographs"):
        embed(NamedModel("one", classifier), from_dataset(dataset), progress=False)


def test_wide_flattened_features_are_averaged_over_the_map():
    from covidcxnet.models import create

    narrow = create("small-cnn", size=32, channels=1, filters=[4, 4])
    assert feature_tensor(narrow)[1] == "flatten"
    wide = create("small-cnn", size=160, channels=1, filters=[4, 4])
    tensor, name = feature_tensor(wide)
    assert tensor.shape[1:] == (4,) and name == "last_relu, averaged"


def test_models_get_names_of_their_own(files):
    names = [model.name for model in load_models([files[0], files[1], files[0]])]
    assert names == ["linear", "hidden", "linear-2"]
    with pytest.raises(InputError, match="no such weights file"):
        load_models(["nowhere/best.weights.h5"])


def test_the_command_draws_all_figures_of_two_models(dataset, files, tmp_path, capsys):
    table = tmp_path / "set.csv"
    dataset.table.to_csv(table, index=False)
    out = tmp_path / "out"
    arguments = ["--data", str(table), "--root", str(dataset.root), "--rows", "3", "--no-progress"]
    assert main(["figures", *files, *arguments, "--out", str(out)]) == 1, "one file is damaged"
    written = {file.name for file in out.iterdir()}
    assert {"activation-maps.png", "tsne.png", "tsne.csv", "feature-maps-linear-1.png"} <= written
    assert "2 models, 24 radiographs; 3 of them with maps" in capsys.readouterr().out


def test_the_command_draws_named_files_and_says_why_t_sne_is_left_out(dataset, files, tmp_path, capsys):
    arguments = ["--images", str(dataset.paths[0]), str(dataset.paths[1]), "--out", str(tmp_path), "--no-progress"]
    assert main(["figures", files[0], *arguments]) == 0
    assert "left out: t-SNE: 2 radiographs given, 8 or more expected" in capsys.readouterr().out
    assert not (tmp_path / "tsne.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layer", "conv9"], "--layer for linear: 'conv9' is no layer of small-cnn; layers to choose from:"),
        (["--layer", "relu1", "--layer", "relu1", "--layer", "relu1"], "--layer: 3 given for 1 models"),
        (["--target", "flu"], "linear knows normal, pneumonia, covid19"),
        (["--rows", "0"], "--rows: '0' given, a whole number from 1 to 24 expected"),
        (["--perplexity", "0"], "--perplexity: 0 given"),
        (["--where", "source=north"], "--where: belongs to --data"),
        (["--data", "set.csv"], "--images: cannot be combined with --data"),
        (["--lime", "--only", "tsne"], "--lime"),
        (["--images", "nowhere.png"], "nowhere.png"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(dataset, files, tmp_path, capsys, arguments, said):
    given = ["figures", files[0], "--images", str(dataset.paths[0]), "--out", str(tmp_path / "out"), *arguments]
    assert main(given) == 2
    assert said in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "out").exists()


def test_without_a_run_radiographs_must_be_named(files, tmp_path, capsys):
    assert main(["figures", files[0], "--out", str(tmp_path)]) == 2
    assert "--images or --data: one of them is needed" in capsys.readouterr().err


def test_radiographs_that_a_model_was_trained_on_are_counted(monkeypatch, tmp_path):
    """Of two runs the second may have been trained on what the first was validated on."""
    split = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "split": ["train", "validation", "train"]})
    run = SimpleNamespace(split=split, dataset=SimpleNamespace(root=tmp_path))
    monkeypatch.setattr(
        "covidcxnet.experiments.figure_inputs.find_run", lambda target: run if target == "run" else None
    )
    shown = [Radiograph(tmp_path / name) for name in ("a.png", "b.png", "d.png")]
    assert [trained_on("run", shown), trained_on("weights", shown), trained_on("run", shown[1:])] == [1, 0, 0]
