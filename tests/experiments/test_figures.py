"""Figures of trained models: what is drawn of which radiograph, t-SNE's bounds, and layers that do not exist."""

from functools import cache
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.classifier import Classifier
from covidcxnet.cli import main
from covidcxnet.datasets import Dataset
from covidcxnet.experiments import figure_inputs
from covidcxnet.experiments.embedding import alike, embed, feature_tensor, reduce, table
from covidcxnet.experiments.figure_inputs import NamedModel, Radiograph, choose, from_dataset, from_files, load_models
from covidcxnet.experiments.figures import activation_maps, draw, draw_all, draw_first_maps, feature_maps
from covidcxnet.explain.cam import GradCAM
from covidcxnet.explain.layers import chosen_layers
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from enhancement import conceal_text
from enhancement.errors import InputError
from weights import save_weights

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.usefixtures("eager", "coarse")

SIZE, CLASSES = 32, ("normal", "pneumonia", "covid19")


@cache
def classifier(head: str | None = "linear") -> Classifier:
    keras.utils.set_random_seed(0)
    options = {"size": SIZE, "channels": 1, "filters": [4, 4], "head": head}
    # Without a segmenter of that name there are no lungs to outline, and nothing to wait for.
    settings = InputSettings(size=SIZE, channels=("raw",), segmenter="none-here")
    metadata = {"format": 1, "kind": "classifier", "architecture": {"name": "small-cnn", "options": options}}
    metadata |= {"classes": list(CLASSES), "input": settings.to_dict()}
    return Classifier(create("small-cnn", classes=CLASSES, **options), metadata)


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
    folder = tmp_path_factory.mktemp("weights")
    paths = {"linear": folder / "linear.weights.h5", None: folder / "hidden.weights.h5"}
    for head, path in paths.items():
        save_weights(classifier(head).model, path, classifier(head).metadata)
    return [str(path) for path in paths.values()]


def test_each_class_and_source_is_among_the_chosen_and_the_seed_says_which(dataset):
    everything = from_dataset(dataset)
    chosen = choose(everything, 6)
    assert len({(one.label, one.source) for one in chosen}) == 6
    assert chosen == choose(everything, 6) != choose(everything, 6, seed=1)
    assert choose(everything, 100) == everything
    named = from_files([dataset.paths[k] for k in (5, 1, 2)])
    assert choose(named, 2) == named[:2], "whoever names files wants the first of them first"
    # captions of a data set say class and source and never the file
    assert everything[0].caption == "normal\nnorth"
    assert from_files([dataset.paths[0]])[0].caption == "patient-0.png"
    rejected = Dataset(dataset.table.assign(rejected=["bad"] + [None] * 23), dataset.root, CLASSES)
    assert len(from_dataset(rejected)) == 23


def test_cam_is_drawn_only_where_the_head_has_its_closed_form_and_a_damaged_file_leaves_the_others(dataset):
    shown = from_dataset(dataset)[2:5]
    columns = []
    for name, head in (("one", "linear"), ("two", None)):
        columns += activation_maps(NamedModel(name, classifier(head)), shown, progress=False)
    assert [(c.model, c.method) for c in columns] == [("one", "cam"), ("one", "gradcam"), ("two", "gradcam")]
    assert columns[0].layer == "pool2" and columns[1].layer == "last_relu"
    assert [cell.error is None for cell in columns[0].cells] == [True, False, True]
    titles = [axes.get_title() for axes in draw(shown, columns).axes if axes.get_title()]
    cell = columns[1].cells[0]
    assert len(titles) == 6 and f"{cell.target} {cell.prediction.probability:.2f}" in titles
    bad = activation_maps(NamedModel("one", classifier()), shown[1:2], progress=False)
    with pytest.raises(InputError, match="none of the radiographs could be read"):
        draw(shown[1:2], bad)


def test_grad_cam_at_a_chosen_layer_is_that_layers_and_lime_says_how_well_it_fits(dataset):
    model, shown = NamedModel("one", classifier()), choose(from_dataset(dataset), 2)
    (column,) = activation_maps(model, shown, layer="relu1", methods=["gradcam"], target="covid19", progress=False)
    assert column.layer == "relu1" and {cell.target for cell in column.cells} == {"covid19"}
    stack = next(model.classifier.batches([shown[0].path]))[1][0].prepared.stack
    expected = GradCAM(model.classifier.model, "relu1")(stack[None], 2)[0]
    np.testing.assert_allclose(column.cells[0].map, expected, atol=1e-6)
    figure = draw(shown[:1], [column])
    figure.canvas.draw()
    heads = [text for axes in figure.axes for text in axes.texts if "Grad-CAM" in text.get_text()]
    assert heads and all(head.get_window_extent().y1 <= figure.bbox.y1 for head in heads), (
        "a head of three lines is cut"
    )
    columns = activation_maps(model, shown[:1], methods=["lime"], samples=20, progress=False)
    assert [c.method for c in columns] == ["lime"] and columns[0].cells[0].fit is not None
    assert any("R\N{SUPERSCRIPT TWO}" in axes.get_title() for axes in draw(shown[:1], columns).axes)


def test_feature_maps_are_the_outputs_of_the_first_and_the_last_convolution():
    model, stack = classifier().model, np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 1)).astype("uint8")
    maps = feature_maps(model, stack)
    assert {name: values.shape for name, values in maps.items()} == {"conv1": (30, 30, 4), "conv2": (13, 13, 4)}
    kernel, bias = (np.asarray(w) for w in model.get_layer("conv1").get_weights())
    expected = (stack[:3, :3, 0, None] / 255.0 * kernel[:, :, 0]).sum(axis=(0, 1)) + bias
    np.testing.assert_allclose(maps["conv1"][0, 0], expected, atol=1e-5)


def test_layers_are_counted_or_named_and_the_first_map_of_each_is_drawn_for_all_models_together(dataset, tmp_path):
    model = classifier().model
    names = ["conv1", "bn1", "relu1", "pool1", "dropout1", "conv2", "bn2", "last_relu", "pool2"]
    assert chosen_layers(model, ["last:1", "conv2", "first:2"]) == ["conv1", "bn1", "conv2", "pool2"]
    assert chosen_layers(model, ["first:99"]) == names
    with pytest.raises(InputError, match=r"conv3.*such as conv"):
        chosen_layers(model, ["conv3"])
    models = [NamedModel("one", classifier()), NamedModel("two", classifier(None))]
    lines: list[str] = []
    options = {"kinds": ["features"], "feature_layers": ["first:2", "last:1"], "report": lambda x: lines.append(str(x))}
    assert draw_all(models, from_dataset(dataset)[:3], tmp_path, progress=False, **options) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"feature-layers-{k}.png" for k in (1, 2, 3)]
    stack = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 1)).astype("uint8")
    maps = feature_maps(model, stack, chosen_layers(model, ["first:2"]))
    panels = draw_first_maps([("one", maps), ("two", maps)], "x").axes
    assert [axes.get_title() for axes in panels] == ["conv1\n30 x 30", "bn1\n30 x 30"] * 2


def test_perplexity_is_bounded_by_the_number_of_radiographs_and_the_seed_decides(dataset):
    model, radiographs = NamedModel("one", classifier()), from_dataset(dataset)
    first = embed(model, radiographs, seed=3, progress=False)
    assert first.perplexity == pytest.approx(22 / 3) and first.unreadable == 1
    assert first.points.shape == (23, 2) and np.isfinite(first.points).all()
    np.testing.assert_array_equal(embed(model, radiographs, seed=3, batch_size=5, progress=False).points, first.points)
    assert set(first.neighbours) == {"class", "source"} and first.layer == "pooling_layer"
    assert embed(model, radiographs, perplexity=4, progress=False).perplexity == 4
    assert table([first])["label"].tolist() == [r.label for r in first.radiographs]
    with pytest.raises(InputError, match="8 or more expected"):
        embed(model, radiographs[:8], progress=False)


def test_features_are_reduced_never_constant_and_neighbours_tell_groups_from_chance(dataset):
    random = np.random.default_rng(0)
    assert reduce(np.full((9, 4), 7.0)).shape == (9, 0)
    assert reduce(random.normal(size=(70, 200))).shape == (70, 50)
    constant = classifier.__wrapped__()
    constant.model.set_weights([np.zeros_like(w) for w in constant.model.get_weights()])
    with pytest.raises(InputError, match="same for all radiographs"):
        embed(NamedModel("one", constant), from_dataset(dataset), progress=False)
    # wide flattened features are averaged over the map
    narrow, wide = (create("small-cnn", size=size, channels=1, filters=[4, 4]) for size in (32, 160))
    assert feature_tensor(narrow)[1] == "flatten"
    tensor, name = feature_tensor(wide)
    assert tensor.shape[1:] == (4,) and name == "last_relu, averaged"
    groups = np.repeat(["a", "b", "c"], 40)
    apart = random.normal(size=(120, 5)) + 50 * np.repeat(np.eye(3, 5), 40, axis=0)
    share, chance = alike(apart, groups)
    assert share == 1 and chance == pytest.approx(39 / 119)
    assert abs(alike(random.normal(size=(120, 5)), groups)[0] - chance) < 0.15
    assert alike(apart, ["a"] * 120) is None and alike(apart[:3], [None, "a", "a"]) is None


def test_no_two_models_have_the_same_name_and_missing_parts_are_refused(dataset, files):
    assert [model.name for model in load_models([files[0], files[1], files[0]])] == ["linear", "hidden", "linear-2"]
    with pytest.raises(InputError, match="no such weights file"):
        load_models(["nowhere/best.weights.h5"])
    with pytest.raises(InputError, match="one of cam, gradcam, lime expected"):
        activation_maps(NamedModel("one", classifier()), from_dataset(dataset)[:1], methods=["shap"])


def test_the_command_draws_all_figures_of_two_models_or_says_why_t_sne_is_left_out(
    dataset, files, blank, tmp_path, capsys
):
    dataset.table.to_csv(tmp_path / "set.csv", index=False)
    arguments = ["--data", str(tmp_path / "set.csv"), "--root", str(dataset.root), "--rows", "2", "--no-progress"]
    assert main(["figures", *files, *arguments, "--out", str(tmp_path / "out")]) == 1, "one file is damaged"
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"activation-maps.png", "tsne.png", "tsne.csv", "feature-maps-linear-1.png"} <= written
    assert "2 models, 24 radiographs; 2 of them with maps" in capsys.readouterr().out
    arguments = ["--images", str(dataset.paths[0]), str(dataset.paths[1]), "--out", str(tmp_path / "few")]
    assert main(["figures", files[0], *arguments, "--no-progress"]) == 0
    assert "left out: t-SNE: 2 radiographs given, 8 or more expected" in capsys.readouterr().out
    assert (tmp_path / "few").is_dir() and not (tmp_path / "few" / "tsne.png").exists()


def test_no_more_phantoms_are_rendered_than_are_drawn(files, tmp_path, capsys, monkeypatch):
    arguments = ["figures", files[0], "--data", "phantom", "--root", str(tmp_path), "--no-progress"]
    monkeypatch.setattr("covidcxnet.cli.figures._PHANTOMS", 9)  # 200 take half a minute
    tsne = ["--only", "tsne"]
    for more, number in ((["--only", "maps", "--rows", "4"], 4), ([*tsne, "--most", "10"], 10), (tsne, 9)):
        assert main([*arguments, "--out", str(tmp_path / "out"), *more]) == 0
        assert f"1 model, {number} radiographs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (None, "--images or --data: one of them is needed"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(dataset, files, tmp_path, capsys, arguments, message):
    images = [] if arguments is None else ["--images", str(dataset.paths[0]), *arguments]
    assert main(["figures", files[0], "--out", str(tmp_path / "out"), *images]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "out").exists()


def test_radiographs_that_a_model_was_trained_on_are_counted(monkeypatch, tmp_path):
    """Of two runs the second may have been trained on what the first was validated on."""
    split = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "split": ["train", "validation", "train"]})
    run = SimpleNamespace(split=split, dataset=SimpleNamespace(root=tmp_path))
    monkeypatch.setattr(figure_inputs, "find_run", lambda target: run if target == "run" else None)
    shown = [Radiograph(tmp_path / name) for name in ("a.png", "b.png", "d.png")]
    assert [
        figure_inputs.trained_on("run", shown),
        figure_inputs.trained_on("weights", shown),
        figure_inputs.trained_on("run", shown[1:]),
    ] == [1, 0, 0]


def test_text_is_concealed_and_both_predictions_stand_side_by_side(tmp_path):
    plain = np.full((200, 240), 60, np.uint8) + np.arange(240, dtype=np.uint8) // 4
    marked = cv2.putText(plain.copy(), "R", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2, cv2.LINE_AA)
    for name, image in (("plain", plain), ("marked", marked)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    radiographs = from_files([tmp_path / "plain.png", tmp_path / "none.png", tmp_path / "marked.png"])
    models, lines = [NamedModel("a", classifier()), NamedModel("b", classifier(None))], []
    options = {"kinds": ["text"], "progress": False, "report": lines.append}
    assert draw_all(models, radiographs, tmp_path / "out", **options) == 0
    assert cv2.imread(str(tmp_path / "out" / "text-concealed.png")).size
    table = pd.read_csv(tmp_path / "out" / "text-concealed.csv")
    assert list(table["model"]) == ["a", "b"] and set(table["path"]) == {str(tmp_path / "marked.png")}
    for named, row in zip(models, table.itertuples(), strict=True):
        before, after = named.classifier.predict([marked, conceal_text(marked)])
        assert row.probability == pytest.approx(before.probabilities[row.explained], abs=1e-6)
        assert row.probability_concealed == pytest.approx(after.probabilities[row.explained], abs=1e-6)
        assert row.probability != row.probability_concealed and 0 < row.text_share < 0.05
    assert draw_all(models, radiographs[:1], tmp_path / "none", **options) == 1
    assert "left out: text: no text was found in 1 radiograph" in lines
